#!/usr/bin/env python3
"""Runs `make demo` on free ports, pastes the command that it ends with, stops it with Ctrl-C, and looks for what it left."""

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


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


def main():
    addresses = {name: free_address() for name in ("DEMO_GATEWAY", "DEMO_ADMIN", "DEMO_ORIGIN")}
    demo = subprocess.Popen(
        ["make", "demo"], cwd=ROOT, env={**os.environ, **addresses}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
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
        assert statuses == ["200", "401", "401", "401", "200"], f"the steps answered {statuses}:\n{text}"
        for part in ('{"message":"Access granted"}', "No secret provided", "Invalid secret", "api_key_missing"):
            assert part in text, f"{part} is not shown:\n{text}"
        pasted = subprocess.run(shown[-1], shell=True, capture_output=True, text=True, timeout=SECONDS)
        assert "Access granted" in pasted.stdout, pasted
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        ended = demo.wait(SECONDS)
    assert ended != 0, "make reports an interrupted demonstration as done"
    for name, address in addresses.items():
        host, port = address.split(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0, f"{name}: something still listens on {address}"
    print("demo: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
