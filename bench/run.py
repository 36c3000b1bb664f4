#!/usr/bin/env python3
"""Drives the gateway and its peers in one run and writes what each costs: `make bench`.

CPU per request is the figure to trust: user and system time of the proxy's own processes, from the kernel's accounting,
divided by the requests that were answered. Proxies are pinned to core 0, load and origin to core 1, and every round visits
every proxy, so that a machine whose speed drifts drifts for all of them.
"""

import argparse
import json
import os
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from chart import draw
from peers import ORIGIN_PORT, SECRET, all_peers, http2_peers, origin

TICKS = os.sysconf("SC_CLK_TCK")
# Ratios are to this one, each within its round; their median is shown.
REFERENCE = "nginx (full)"
# name: (path, body bytes, connections)
CASES = {
    f"{name}, {connections} connection{'s' if connections > 1 else ''}": (path, body, connections)
    for name, path, body in (
        ("small GET", "/x", 0),
        ("10 kB response", "/10k", 0),
        ("1 MB response", "/1m", 0),
        ("100 kB upload", "/upload", 100_000),
    )
    for connections in (1, 64, 1000)
}
# Over TLS, beside proxies that speak it. A connection of the first serves one request, without a session of an earlier one.
HANDSHAKE_CASE = "TLS handshake and a small GET, 64 connections"
HANDSHAKE_CONNECTIONS = 64
HTTP2_CASE = "small GET, HTTP/2 over TLS, 8 connections of 8 streams"
HTTP2_CONNECTIONS, HTTP2_STREAMS = 8, 8
ALL_CASES = (*CASES, HANDSHAKE_CASE, HTTP2_CASE)


def start(command, log, core, environment=None):
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **(environment or {})}
    )


def refuse_taken(ports):
    """What listens there would be measured in place of what is started here."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                sys.exit(f"port {port} is taken: what listens there is from an earlier run, or another's")


def wait_for(url, process, seconds=90):
    # The certificate is made for one run.
    trusting = ssl._create_unverified_context()
    by = time.monotonic() + seconds
    while True:
        if process.poll() is not None:
            sys.exit(f"what should answer at {url} has ended: {process.args}")
        try:
            urllib.request.urlopen(url, timeout=2, context=trusting)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > by:
                sys.exit(f"nothing answers at {url} after {seconds} s")
            time.sleep(0.05)


def family(pid):
    """The process and its children: nginx works in a child."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid, *map(int, children)]


def cpu_seconds(pids):
    """User and kernel time."""
    user = kernel = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        user += int(fields[11])
        kernel += int(fields[12])
    return user / TICKS, kernel / TICKS


def resident_mb(pids):
    return max(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) for pid in pids) / 1024


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def drive_http2(peer, pids, seconds, folder):
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    before = cpu_seconds(pids)
    out = subprocess.run(
        ["taskset", "-c", "1", "h2load", "-t1", f"-c{HTTP2_CONNECTIONS}", f"-m{HTTP2_STREAMS}", f"-D{seconds}", f"--log-file={log}",
         "-H", f"authorization: Bearer {peer.key}", peer.url("/x")],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    user, kernel = (after - earlier for after, earlier in zip(cpu_seconds(pids), before))
    if "Application protocol: h2" not in out:
        sys.exit(f"{peer.name} does not speak HTTP/2:\n{out}")
    # Start, status and time of each request, in microseconds.
    lines = [line.split() for line in log.read_text().splitlines()]
    times = sorted(int(line[2]) for line in lines)
    requests = max(len(lines), 1)
    p50, p99 = (times[min(int(requests * part), len(times) - 1)] / 1000 if times else float("nan") for part in (0.5, 0.99))
    return {
        "cpu_us": (user + kernel) / requests * 1e6, "user_us": user / requests * 1e6, "kernel_us": kernel / requests * 1e6, "rate": requests / seconds, "p50_ms": p50, "p99_ms": p99,
        "rss_mb": resident_mb(pids), "failed": sum(line[1] != "200" for line in lines), "socket_errors": "",
    }  # fmt: skip


def drive(peer, pids, case, seconds, script):
    is_handshake = case == HANDSHAKE_CASE
    path, body, connections = ("/x", 0, HANDSHAKE_CONNECTIONS) if is_handshake else CASES[case]
    before = cpu_seconds(pids)
    out = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, peer.url(path)],
        capture_output=True, text=True, env={**os.environ, "BENCH_KEY": peer.key, "BENCH_BODY": str(body), "BENCH_CLOSE": "yes" if is_handshake else ""},
    ).stdout  # fmt: skip
    user, kernel = (after - earlier for after, earlier in zip(cpu_seconds(pids), before))
    requests = int(re.search(r"(\d+) requests in", out)[1])
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors:.*", out)
    p50, p99 = (milliseconds(re.search(rf"^ +{percent}% +(\S+)", out, re.MULTILINE)[1]) for percent in ("50", "99"))
    return {
        "cpu_us": (user + kernel) / max(requests, 1) * 1e6, "user_us": user / max(requests, 1) * 1e6, "kernel_us": kernel / max(requests, 1) * 1e6, "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "p50_ms": p50, "p99_ms": p99,
        "rss_mb": resident_mb(pids), "failed": int(failed[1]) if failed else 0, "socket_errors": broken[0] if broken else "",
    }  # fmt: skip


def idle_bytes(peer, pids, connections):
    """What a kept-alive connection takes of resident memory, each after one request; kernel memory is not in it."""
    request = f"GET /x HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {peer.key}\r\n\r\n".encode()

    def connect():
        connection = socket.create_connection(("127.0.0.1", peer.port), timeout=10)
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"ok\n"):
            if not (more := connection.recv(65536)):
                sys.exit(f"{peer.name} closed a connection: {answer[:200]}")
            answer += more
        return connection

    # What the first connections bring about once is not counted.
    held = [connect() for _ in range(100)]
    before = resident_mb(pids)
    held += [connect() for _ in range(connections)]
    grown = resident_mb(pids) - before
    for connection in held:
        connection.close()
    return grown * 1024 * 1024 / connections


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default="target/release/gateway", help="the program to measure")
    parser.add_argument("--keys", type=int, default=10_000, help="keys that the peers know")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="visits of each proxy for each case; medians are shown")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--peers", default="", help="proxies whose name has one of these texts, separated by commas")
    parser.add_argument("--idle", type=int, default=10_000, help="connections of the measurement of idle ones; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=Path("target/bench"), help="where the table, the JSON and the chart go")
    arguments = parser.parse_args()
    for tool in ("wrk", "nginx", "haproxy", "taskset", "h2load", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: apt-get install wrk nginx-light haproxy util-linux nghttp2-client openssl")
    arguments.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    # nginx started by root serves files as another user.
    folder.chmod(0o755)
    running = []
    try:
        measure(arguments, folder, running)
    finally:
        # SIGTERM to the master ends nginx's workers too; after SIGKILL they would go on, and be measured by the next run.
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                print(f"does not end: {process.args}", file=sys.stderr)
        shutil.rmtree(folder)


def measure(arguments, folder, running):
    script = folder / "load.lua"
    script.write_text("""wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
if os.getenv("BENCH_CLOSE") ~= "" then wrk.headers["Connection"] = "close" end
local bytes = tonumber(os.getenv("BENCH_BODY"))
if bytes > 0 then wrk.method = "POST"; wrk.body = string.rep("x", bytes) end
""")
    log = open(folder / "log", "wb")
    refuse_taken([ORIGIN_PORT])
    running.append(start(origin(folder), log, 1))
    wait_for(f"http://127.0.0.1:{ORIGIN_PORT}/x", running[-1])
    gateway = str(Path(arguments.gateway).resolve())
    environment = {"SHARED_SECRET": SECRET, "DATABASE_URL": f"sqlite://{folder}/gateway.db"}
    # Makes the store.
    subprocess.run([gateway, "import", "--format", "jsonl", os.devnull], env=environment, check=True, stdout=subprocess.DEVNULL)
    # Keys and tokens stand for this one.
    subprocess.run([gateway, "consumers", "create", "bench", "--custom-id", "bench"], env=environment, check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(
        [gateway, "keys", "create", "--consumer", "bench", "--json"], env=environment, capture_output=True, text=True
    )
    if made.returncode != 0:
        sys.exit(made.stderr)
    known = (folder, arguments.keys, gateway, json.loads(made.stdout)["key"])
    wanted = [text for text in arguments.peers.split(",") if text]
    peers, over_tls = (
        [peer for peer in peers(*known) if not wanted or any(text in peer.name for text in wanted)] for peers in (all_peers, http2_peers)
    )
    if not any(arguments.only in case for case in (HANDSHAKE_CASE, HTTP2_CASE)):
        over_tls = []
    refuse_taken(peer.port for peer in peers + over_tls)
    processes, pids = {}, {}

    def begin(peer):
        process = processes[peer.port] = start(peer.command, open(os.devnull, "wb"), 0, peer.environment)
        running.append(process)
        wait_for(peer.url("/x"), process)
        pids[peer.port] = family(process.pid)

    for peer in peers + over_tls:
        begin(peer)
    results = {}
    for case in (case for case in ALL_CASES if arguments.only in case):
        driven = peers if case in CASES else over_tls
        rounds = {peer.name: [] for peer in driven}
        for _ in range(arguments.rounds):
            for peer in driven:
                if case == HTTP2_CASE:
                    measured = drive_http2(peer, pids[peer.port], arguments.seconds, folder)
                else:
                    measured = drive(peer, pids[peer.port], case, arguments.seconds, str(script))
                rounds[peer.name].append(measured)
        results[case] = {name: median_of(measured) for name, measured in rounds.items()}
        if (reference := rounds.get(REFERENCE)) is not None:
            for name, measured in rounds.items():
                # A short round on a busy machine may take less than the clock of the kernel shows.
                ratios = [one["cpu_us"] / other["cpu_us"] if other["cpu_us"] else float("nan") for one, other in zip(measured, reference)]
                results[case][name]["ratio"] = statistics.median(ratios)
        show(case, results[case])
    failed = [f"{name}, {case}" for case, proxies in results.items() for name, figures in proxies.items() if figures["failed"]]
    if failed:
        sys.exit("answers other than 200, so these figures mean nothing: " + "; ".join(failed))
    idle = {}
    if arguments.idle:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        print(f"\n{arguments.idle:,} idle connections")
        # HAProxy counts two files for each connection it may have, more than many systems grant for 10,000.
        for peer in (peer for peer in peers if peer.command[0] != "haproxy"):
            # Started anew: memory that earlier cases left free would be used again, and so not be seen.
            processes[peer.port].terminate()
            processes[peer.port].wait()
            begin(peer)
            idle[peer.name] = round(idle_bytes(peer, pids[peer.port], arguments.idle))
            print(f"{peer.name:16} {idle[peer.name] / 1000:9.1f} kB each", flush=True)
    notes = {peer.name: peer.note for peer in peers}
    about = {"seconds": arguments.seconds, "rounds": arguments.rounds, "keys": arguments.keys, "date": time.strftime("%Y-%m-%d")}
    (arguments.out / "bench.json").write_text(json.dumps({"about": about, "peers": notes, "cases": results, "idle_connection_bytes": idle}, indent=2) + "\n")
    (arguments.out / "bench.svg").write_text(draw(results))
    print(f"written: {arguments.out}/bench.json, {arguments.out}/bench.svg")


def median_of(measured):
    figures = {name: statistics.median(one[name] for one in measured) for name in ("cpu_us", "user_us", "kernel_us", "rate", "p50_ms", "p99_ms", "rss_mb")}
    errors = sorted({one["socket_errors"] for one in measured if one["socket_errors"]})
    return {**figures, "failed": sum(one["failed"] for one in measured), "socket_errors": "; ".join(errors)}


def show(case, results):
    print(f"\n{case}\n{'':16} {'CPU/request':>12} {'user':>9} {'kernel':>9} {'ratio':>6} {'requests/s':>11} {'p50':>9} {'p99':>9} {'resident':>9}")
    for name, figures in results.items():
        trouble = (f"  {figures['failed']} failed" if figures["failed"] else "") + (f"  {figures['socket_errors']}" if figures["socket_errors"] else "")
        print(
            f"{name:16} {figures['cpu_us']:9.1f} us {figures['user_us']:6.1f} us {figures['kernel_us']:6.1f} us {figures.get('ratio', float('nan')):6.2f} {figures['rate']:11,.0f} {figures['p50_ms']:6.2f} ms {figures['p99_ms']:6.2f} ms"
            f" {figures['rss_mb']:6.0f} MB{trouble}",
            flush=True,
        )


if __name__ == "__main__":
    main()
