#!/usr/bin/env python3
"""Checks bench/run.py itself, in a minute: `make bench-check`.

It refuses to start where a port is taken, measures every case, and leaves nothing running.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from peers import ORIGIN_PORT  # noqa: E402
from run import ALL_CASES  # noqa: E402

SCRIPT = str(Path(__file__).parent / "run.py")
PORTS = [ORIGIN_PORT, 18001, 18002, 18003, 18005, 18006, 18010, 18011, 18014, 18015, 18016, 18017, 18020, 18021, 18026]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default="target/release/gateway", help="the program to measure")
    arguments = parser.parse_args()
    seconds = os.environ.get("BENCH_SECONDS", "2")
    with tempfile.TemporaryDirectory(prefix="bench-check-") as out:
        command = [sys.executable, SCRIPT, "--gateway", arguments.gateway, "--seconds", seconds, "--rounds", "1", "--keys", "100", "--idle", "50", "--out", out]
        for port in (ORIGIN_PORT, 18010, 18026):
            with socket.create_server(("127.0.0.1", port)):
                refused = subprocess.run(command, capture_output=True, text=True)
                assert refused.returncode != 0 and f"port {port} is taken" in refused.stderr, refused.stderr
            assert_all_free(f"after it was refused port {port}")
        run = subprocess.run(command, text=True)
        assert run.returncode == 0, run.returncode
        cases = json.loads((Path(out) / "bench.json").read_text())["cases"]
        assert list(cases) == list(ALL_CASES), list(cases)
        for case, proxies in cases.items():
            assert {"postern", "nginx (full)"} <= set(proxies), (case, list(proxies))
            assert all(figures["rate"] > 0 and not figures["failed"] for figures in proxies.values()), (case, proxies)
    assert_all_free("after a run")
    print("bench/run.py refuses taken ports, measures every case and leaves nothing running")


def assert_all_free(when):
    for port in PORTS:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"something listens on port {port} {when}"


if __name__ == "__main__":
    main()
