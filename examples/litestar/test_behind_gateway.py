"""The story of the README with this backend: a real gateway in front of a real uvicorn.

Needs the gateway's program: `cargo build --bin gateway`, or its path in POSTERN_GATEWAY.
"""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_guard import DEADLINE, GOOD, Server

GATEWAY = Path(os.environ.get("POSTERN_GATEWAY", Path(__file__).parents[2] / "target/debug/gateway"))


class Gateway:
    """A gateway on free ports before `origin`, with a store of its own in `folder`."""

    def __init__(self, origin, folder, secret=GOOD):
        assert GATEWAY.is_file(), f"{GATEWAY} is missing: cargo build --bin gateway"
        self.environment = {
            "SHARED_SECRET": secret,
            "ORIGIN_URL": f"http://127.0.0.1:{origin.port}",
            "DATABASE_URL": f"sqlite://{folder}/gateway.db",
            "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0",
            "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
        }
        self.log = folder / "gateway.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [GATEWAY, "serve"], env=self.environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        by = time.monotonic() + DEADLINE
        while not (found := re.search(r"\] listening on (http://\S+)", self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < by, self.log.read_text()
            time.sleep(0.01)
        self.url = found[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(DEADLINE)

    def key(self):
        command = [GATEWAY, "keys", "create", "--consumer", "acme", "--json"]
        made = subprocess.run(command, env=self.environment, cwd=self.log.parent, capture_output=True, check=True)
        return json.loads(made.stdout)["key"]

    def get(self, path, key=None, **headers):
        """Status, headers and parsed body."""
        request = urllib.request.Request(self.url + path, headers=headers)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.headers, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.headers, json.load(refusal)


@pytest.fixture
def origin():
    with Server({"SHARED_SECRET": GOOD}) as server:
        yield server


def test_the_story(origin, tmp_path):
    with Gateway(origin, tmp_path) as gateway:
        key = gateway.key()
        assert gateway.get("/protected", key)[::2] == (200, {"message": "Access granted"})

        status, headers, problem = gateway.get("/protected")
        assert (status, headers["www-authenticate"], problem["code"]) == (401, 'Bearer realm="postern"', "api_key_missing")

        status, headers, body = origin.get("/protected", [])
        assert (status, json.loads(body)["detail"], headers["x-origin-guard"]) == (401, "No secret provided", ["missing"])
        status, headers, body = origin.get("/protected", [("x-shared-secret", "nope")])
        assert (status, json.loads(body)["detail"], headers["x-origin-guard"]) == (401, "Invalid secret", ["invalid"])


def test_identity_arrives_and_what_a_client_claims_does_not(origin, tmp_path):
    with Gateway(origin, tmp_path) as gateway:
        key = gateway.key()
        claims = {"X-Consumer-Username": "admin", "X_Consumer_Id": "csmr_forged", "X-Shared-Secret": "forged"}
        status, _, caller = gateway.get("/whoami", key, **claims)
        assert (status, caller["anonymous"], caller["consumer"]["username"]) == (200, False, "acme")
        assert caller["consumer"]["id"].startswith("csmr_") and caller["consumer"]["id"] != "csmr_forged"
        arrived = json.dumps(gateway.get("/echo", key, **claims)[2])
        assert key not in arrived and GOOD not in arrived and "forged" not in arrived


@pytest.mark.parametrize("environment", [{"SHARED_SECRET": "another-" + GOOD}, {}])
def test_a_backend_that_does_not_accept_the_gateway_is_not_the_clients_fault(environment, tmp_path):
    with Server(environment) as origin, Gateway(origin, tmp_path) as gateway:
        status, headers, problem = gateway.get("/protected", gateway.key())
        assert (status, problem["code"]) == (502, "origin_rejected_gateway")
        assert "x-origin-guard" not in headers
