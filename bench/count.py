#!/usr/bin/env python3
"""Counts what a small request costs, exactly and on any machine: `make bench-count`.

Instructions in user space are the difference of 2,300 and 300 requests over one connection, under callgrind. It counts clearing
and copying of memory by the byte and SHA-256 in software, so the figure without these is the one to compare. Allocations are
calls of the allocator's entries in the same difference. Page faults are those of a thousand connections, without callgrind.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

SECRET = "bench-9f2c51d07be84a63"
FEW, MANY = 300, 2300
# What callgrind counts otherwise than a processor does.
BY_THE_BYTE = re.compile(r"mem(set|cpy|move)|sha2::|sha256|_memset|_memcpy", re.IGNORECASE)
ALLOCATOR = re.compile(r"^_?(mi_(malloc|zalloc|calloc|realloc|rezalloc|heap_malloc|heap_realloc)\w*|malloc|calloc|realloc)$")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


def origin():
    """An origin that answers every request with the same few bytes; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def serve(connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(65536):
            connection.sendall(ANSWER)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Gateway:
    """A gateway on a store of its own with one worker, under what `wrapper` says."""

    def __init__(self, program, folder, origin_port, wrapper=()):
        self.port, admin = free_port(), free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "SHARED_SECRET": SECRET,
            "DATABASE_URL": f"sqlite://{folder}/gateway.db",
            "ORIGIN_URL": f"http://127.0.0.1:{origin_port}",
            "GATEWAY__LISTEN__ADDRESS": f"127.0.0.1:{self.port}",
            "GATEWAY__LISTEN__WORKERS": "1",
            # The origin takes its time where a thousand connections come at once on a busy machine.
            "GATEWAY__ORIGIN__CONNECT_TIMEOUT": "60s",
            "GATEWAY__ADMIN__ADDRESS": f"127.0.0.1:{admin}",
            # One key makes all requests, also where few files may be open.
            "GATEWAY__LISTEN__MAX_REQUESTS_IN_FLIGHT": "2500",
            "GATEWAY__LISTEN__MAX_REQUESTS_IN_FLIGHT_PER_KEY": "2500",
        }
        if not (folder / "gateway.db").exists():
            subprocess.run([program, "import", "--format", "jsonl", os.devnull], env=environment, check=True, stdout=subprocess.DEVNULL)
            made = subprocess.run(
                [program, "keys", "create", "--consumer", "bench", "--json"], env=environment, capture_output=True, text=True, check=True
            )
            (folder / "key").write_text(json.loads(made.stdout)["key"])
        self.key = (folder / "key").read_text()
        log = open(folder / "log", "wb")
        self.process = subprocess.Popen([*wrapper, program, "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        by = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).read()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > by:
                    sys.exit(f"the gateway does not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.1)

    def request(self):
        return f"GET /x HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.key}\r\n\r\n".encode()

    def ask(self, times):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = self.request()
        for _ in range(times):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"ok\n"):
                more = connection.recv(65536)
                if not more:
                    sys.exit(f"the gateway closed a connection after {answer[:200]}")
                answer += more
        connection.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def profile(path):
    """Instructions by function, and calls by function called."""
    names, own, calls = {}, {}, {}

    def named(text):
        number, _, name = text.partition(" ")
        if name:
            names[number] = name
        return names[number]

    function, called = "", False
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("fn="):
            function = named(line[3:])
        elif line.startswith("cfn="):
            target = named(line[4:])
        elif line.startswith("calls="):
            calls[target] = calls.get(target, 0) + int(line[6:].split()[0])
            called = True
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            # What a call costs in all follows it; it is counted where it is spent.
            if not called:
                own[function] = own.get(function, 0) + int(line.split()[1])
            called = False
    return own, calls


def count(program, folder, origin_port, times):
    out = folder / f"callgrind.{times}"
    gateway = Gateway(program, folder, origin_port, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
    gateway.ask(times)
    gateway.stop()
    return profile(out)


def page_faults(program, folder, origin_port, connections=1000, rounds=20):
    """Faults a request, of connections that are warm and ask all at once."""
    gateway = Gateway(program, folder, origin_port)
    faults = lambda: int(Path(f"/proc/{gateway.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[7])

    async def client(times, turn):
        reader, writer = turn
        for _ in range(times):
            writer.write(gateway.request())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"an answer other than 200, so the figure would mean nothing:\n{head.decode()}")
            await reader.readexactly(len(b"ok\n"))

    async def drive():
        turns = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(connections)]
        await asyncio.gather(*(client(5, turn) for turn in turns))
        before = faults()
        await asyncio.gather(*(client(rounds, turn) for turn in turns))
        return (faults() - before) / (connections * rounds)

    try:
        return asyncio.run(drive())
    finally:
        gateway.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default="target/release/gateway", help="the program to count")
    parser.add_argument("--top", type=int, default=0, help="show so many of the functions that cost most")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: apt-get install valgrind")
    # Both ends of a thousand connections are here.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    program = str(Path(arguments.gateway).resolve())
    folder = Path(tempfile.mkdtemp(prefix="count-"))
    try:
        port = origin()
        (few, few_calls), (many, many_calls) = (count(program, folder, port, times) for times in (FEW, MANY))
        requests = MANY - FEW
        cost = {name: (many[name] - few.get(name, 0)) / requests for name in many}
        total = sum(cost.values())
        compared = sum(spent for name, spent in cost.items() if not BY_THE_BYTE.search(name))
        made = sum(calls - few_calls.get(name, 0) for name, calls in many_calls.items() if ALLOCATOR.match(name)) / requests
        print(f"instructions a request: {total:,.0f}; without memset, memcpy and SHA-256: {compared:,.0f}")
        print(f"allocations a request: {made:.1f}")
        for name, spent in sorted(cost.items(), key=lambda entry: -entry[1])[: arguments.top]:
            print(f"{spent:9,.0f}  {name[:140]}")
        print(f"page faults a request at 1,000 connections: {page_faults(program, folder, port):.3f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
