#!/usr/bin/env python3
"""Starts a gateway with an empty store and tries its admin API with schemathesis: thousands of requests made from the
OpenAPI document, good and bad ones, each answer held to the document. Arguments go to schemathesis.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOKEN = "api-test-9f2c51d07be84a63"
SECONDS = 30
# Enough to find what a change of a schema or a check breaks, in about half a minute.
EXAMPLES = "100"
# The same requests every time, so that a failure is of the change and can be repeated; `--seed N` makes others.
SEED = "2"


def started(gateway, log):
    """The address of the admin listener, once the gateway takes work."""
    by = time.monotonic() + SECONDS
    while time.monotonic() < by:
        if gateway.poll() is not None:
            sys.exit("api: the gateway ended:\n" + log.read_text())
        found = re.search(r"admin listening on (http://\S+)", log.read_text())
        if found:
            try:
                if urllib.request.urlopen(found[1] + "/readyz", timeout=SECONDS).status == 200:
                    return found[1]
            except OSError:
                pass
        time.sleep(0.05)
    sys.exit("api: the gateway did not become ready:\n" + log.read_text())


def main():
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        environment = {
            "SHARED_SECRET": "api-test-7be84a639f2c51d0",
            "ADMIN_TOKEN": TOKEN,
            "DATABASE_URL": f"sqlite://{directory}/gateway.db",
            "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0",
            "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
        }
        with log.open("wb") as file:
            gateway = subprocess.Popen([ROOT / "target/debug/gateway", "serve"], cwd=directory, env=environment, stdout=file, stderr=file)
        try:
            address = started(gateway, log)
            tried = subprocess.run(
                [Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run",
                 f"{address}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all",
                 "--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure", *sys.argv[1:]],
                cwd=directory, env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            assert urllib.request.urlopen(f"{address}/readyz", timeout=SECONDS).status == 200
        finally:
            gateway.terminate()
            gateway.wait(SECONDS)
        said = log.read_text()
        for bad in ("panicked", "ERROR postern", TOKEN):
            assert bad not in said, f"{bad} is in the gateway's log:\n{said}"
        assert not re.search(r"pstn_[0-9A-Za-z]{38}", said), "an API key is in the gateway's log"
        sys.exit(tried.returncode)


if __name__ == "__main__":
    main()
