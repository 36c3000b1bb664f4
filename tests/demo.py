#!/usr/bin/env python3
"""Runs `make demo` on free ports, and where strangers have the usual ones: pastes the command that it ends with, stops it with
Ctrl-C, and looks for what it left and for whom it talked to."""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The first run builds everything.
BUILD_SECONDS = 1500
SECONDS = 30
USUAL = {"DEMO_ORIGIN": 9000, "DEMO_GATEWAY": 8080, "DEMO_ADMIN": 8081}


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


class Stranger:
    """Another program on a port, which answers nobody and counts who came."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen()
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def visitors(self):
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                found += 1
        return found


def start(variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEMO_")}
    return subprocess.Popen(
        ["make", "demo"], cwd=ROOT, env={**environment, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def walk(variables):
    """Runs the whole demonstration; returns what it showed."""
    demo = start(variables)
    lines, shown = queue.Queue(), []
    threading.Thread(target=lambda: [lines.put(line) for line in demo.stdout] + [lines.put(None)], daemon=True).start()
    by = time.monotonic() + BUILD_SECONDS
    try:
        while not any("Running until Ctrl-C" in line for line in shown) or not shown[-1].startswith("curl "):
            line = lines.get(timeout=max(0.1, by - time.monotonic()))
            if line is None:
                sys.exit("demo: it ended before it was done:\n" + "".join(shown))
            shown.append(line)
        text = "".join(shown)
        statuses = re.findall(r"^HTTP/1\.1 (\d+)", text, re.MULTILINE)
        assert statuses == ["200", "401", "401", "401", "200", "401"], f"the steps answered {statuses}:\n{text}"
        for part in (
            '{"message":"Access granted"}', "No secret provided", "Invalid secret", "api_key_missing", "gateway keys revoke key_",
            "The API key was revoked",
        ):  # fmt: skip
            assert part in text, f"{part} is not shown:\n{text}"
        pasted = subprocess.run(shown[-1], shell=True, capture_output=True, text=True, timeout=SECONDS)
        assert "Access granted" in pasted.stdout, pasted
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        ended = demo.wait(SECONDS)
    assert ended != 0, "make reports an interrupted demonstration as done"
    return text


def the_story_on_chosen_ports():
    addresses = {name: free_address() for name in USUAL}
    text = walk(addresses)
    for name, address in addresses.items():
        assert address in text, f"{name}: {address} was not used:\n{text}"
        host, port = address.split(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0, f"{name}: something still listens on {address}"


def strangers_on_the_usual_ports_are_left_alone():
    strangers = []
    for port in USUAL.values():
        # Where somebody else has it already, that is a stranger too.
        with contextlib.suppress(OSError):
            strangers.append(Stranger(port))
    text = walk({})
    for name, port in USUAL.items():
        assert f"Port {port} is taken by" in text and f"{name}=127.0.0.1:PORT chooses one" in text, text
        assert f"127.0.0.1:{port}/" not in text, text
    for stranger in strangers:
        assert f"Port {stranger.port} is taken by process {os.getpid()} (" in text, text
        assert stranger.visitors() == 0, f"the demonstration talked to whoever has port {stranger.port}"
        stranger.socket.close()


def a_chosen_port_that_is_taken_is_refused():
    for name in USUAL:
        stranger = Stranger(0)
        demo = start({**{name: free_address() for name in USUAL}, name: f"127.0.0.1:{stranger.port}"})
        text = demo.communicate(timeout=BUILD_SECONDS)[0]
        assert demo.returncode != 0, text
        assert f"{name}: port {stranger.port} is taken by process {os.getpid()} (" in text, text
        assert "HTTP/1.1" not in text and stranger.visitors() == 0, text
        stranger.socket.close()


def main():
    cases = [the_story_on_chosen_ports, strangers_on_the_usual_ports_are_left_alone, a_chosen_port_that_is_taken_is_refused]
    for case in cases:
        case()
    print(f"demo: {len(cases)} passed, 0 failed")


if __name__ == "__main__":
    main()
