"""The vectors of ../origin-guard-vectors.json, which also drive the guard of the Rust origin, against this guard.

Each configuration gets a real uvicorn, with either of its HTTP parsers, and requests come over a raw socket, because
HTTP clients refuse to send repeated headers and odd bytes.
"""

import asyncio
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from postern_guard import RequireSharedSecret

HERE = Path(__file__).parent
VECTORS = json.loads((HERE.parent / "origin-guard-vectors.json").read_bytes())
CASES = VECTORS["cases"]
CONFIGURATIONS = sorted({(case["current"], case["previous"]) for case in CASES}, key=str)
PARSERS = ["h11", "httptools"]
GOOD = "current-9f2c51d07be84a63"
PRIVILEGED = re.compile("x-shared-secret$|x-anonymous-consumer$|x-consumer-|x-credential-")
DEADLINE = 30  # seconds; far longer than anything takes, so that only a hang reaches it


def text_of(value):
    return value if isinstance(value, str) else value["repeat"] * value["times"]


def spelled(name):
    return re.sub("[^a-z0-9]", "-", name.lower())


def is_whole(answer):
    """Whether an answer with a length is there to its end: a connection that was to leave HTTP may stay open."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(end and length) and len(body) >= int(length[1])


def uvicorn(environment, *arguments, app="app:app"):
    """The command, with nothing of the tests' own environment but where programs are."""
    variables = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **environment}
    command = [sys.executable, "-m", "uvicorn", app, "--port", "0", "--no-use-colors", *arguments]
    return subprocess.Popen(
        command, cwd=HERE, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


class Server:
    """A uvicorn on a free port, up once it says where it listens."""

    def __init__(self, environment, *arguments, app="app:app"):
        self.process = uvicorn(environment, *arguments, app=app)
        self.log, lines, by = "", queue.Queue(), time.monotonic() + DEADLINE
        self.reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self.reader.start()
        while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log)):
            line = lines.get(timeout=max(0, by - time.monotonic()))
            assert line is not None, self.log
        self.port = int(found[1])

    def _read(self, lines):
        for line in self.process.stdout:
            self.log += line.decode()
            lines.put(line)
        lines.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.reader.join(DEADLINE)  # the log is then complete

    def get(self, path, headers, connection="close", upgrade=None):
        """Status, headers (name to values) and body."""
        if upgrade:
            handshake = [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]
            headers, connection = [("upgrade", upgrade), *handshake, *headers], "Upgrade"
        lines = [f"GET {path} HTTP/1.1", "host: origin.test", f"connection: {connection}"]
        lines += [f"{name}:{text_of(value)}" for name, value in headers]
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as stream:
            stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            answer = b""
            while chunk := stream.recv(65536):
                answer += chunk
                if answer.startswith(b"HTTP/1.1 101") or (upgrade and is_whole(answer)):
                    break
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        found = {}
        for name, _, value in (line.partition(":") for line in lines):
            found.setdefault(name.lower(), []).append(value.strip())
        return int(status_line.split(" ")[1]), found, body


def environment_of(current, previous):
    secrets = {"SHARED_SECRET": current, "SHARED_SECRET_PREVIOUS": previous}
    return {name: value for name, value in secrets.items() if value is not None}


@pytest.fixture(scope="module")
def servers():
    running = {}

    def start(configuration, parser):
        if (configuration, parser) not in running:
            server = Server(environment_of(*configuration), "--http", parser)
            running[configuration, parser] = server
        return running[configuration, parser]

    yield start
    for server in running.values():
        with server:
            pass


def test_there_are_vectors():
    assert len(CASES) > 50 and len(VECTORS["refused_at_start"]) > 10 and len(VECTORS["accepted_at_start"]) > 5


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_case_is_answered_as_the_vectors_say(servers, case, parser):
    path = case.get("path", "/echo")
    status, headers, body = servers((case["current"], case["previous"]), parser).get(path, case["headers"], upgrade=case.get("upgrade"))
    assert (status, headers.get("x-origin-guard")) == (case["status"], case["marker"] and [case["marker"]]), body
    if status == 101:
        return
    if case["marker"] is None:
        seen = json.loads(body).get("headers", {})
        assert sorted(name for name in seen if PRIVILEGED.match(spelled(name))) == case.get("sees", [])
        assert path != "/echo" or seen
        return
    problem = json.loads(body)
    assert problem == {
        "type": "about:blank",
        "title": {401: "Unauthorized", 500: "Internal Server Error"}[status],
        "status": status,
        "detail": case["detail"],
        "instance": path.partition("?")[0],
        "code": f"shared_secret_{case['marker']}",
    }
    assert headers["content-type"] == ["application/problem+json"]
    assert headers["cache-control"] == ["no-store"]
    assert headers.get("www-authenticate") == (['SharedSecret realm="origin"'] if status == 401 else None)


def prepared(case, folder):
    files = {name: folder / name for name in case.get("files", {})}
    for name, path in files.items():
        path.write_bytes(case["files"][name].encode("latin-1"))
    return {name: text_of(value).format(**files) if files else text_of(value) for name, value in case["environment"].items()}


@pytest.mark.parametrize("case", VECTORS["refused_at_start"], ids=lambda case: case["name"])
def test_an_unusable_secret_stops_the_start(case, tmp_path):
    environment = prepared(case, tmp_path)
    process = uvicorn(environment)
    try:
        output = process.communicate(timeout=DEADLINE)[0].decode()
    finally:
        process.kill()
    assert process.returncode != 0
    assert case["names"] in output.splitlines()[-1], output
    for name, value in environment.items():
        assert name.endswith("_FILE") or len(value.strip()) <= 8 or value not in output


@pytest.mark.parametrize("case", VECTORS["accepted_at_start"], ids=lambda case: case["name"])
def test_a_usable_secret_is_taken_from_every_source(case, tmp_path):
    with Server(prepared(case, tmp_path)) as server:
        assert server.get("/protected", [("x-shared-secret", case["accepts"])])[0] == 200


def test_the_story_is_told_as_it_should_be(servers):
    server = servers((GOOD, None), "h11")
    status, _, body = server.get("/protected", [("x-shared-secret", GOOD)])
    assert (status, json.loads(body)) == (200, {"message": "Access granted"})
    # An answer that is Litestar's own comes only with the secret.
    assert server.get("/no-such-path", [])[0] == 401
    assert server.get("/no-such-path", [("x-shared-secret", GOOD)])[0] == 404
    assert server.get("/schema", [])[0] == 401


def test_whoami_shows_the_caller_that_the_gateway_forwarded(servers):
    server = servers((GOOD, None), "h11")
    identity = [
        ("x-consumer-id", "csmr_1"), ("x-consumer-username", "ada"), ("x-consumer-custom-id", "4711"),
        ("x-consumer-groups", "read,write"), ("x-consumer-metadata", "eyJwbGFuIjoicHJvIn0"),
        ("x-credential-identifier", "key_1"), ("x-request-id", "req-1"), ("x_consumer_id", "csmr_evil"),
    ]  # fmt: skip
    consumer = {
        "id": "csmr_1", "username": "ada", "custom_id": "4711", "scopes": ["read", "write"],
        "metadata": {"plan": "pro"}, "credential_id": "key_1",
    }  # fmt: skip
    _, _, body = server.get("/whoami", [("x-shared-secret", GOOD), *identity])
    assert json.loads(body) == {"anonymous": False, "consumer": consumer, "request_id": "req-1"}
    _, _, body = server.get("/whoami", [("x-shared-secret", GOOD)])
    assert json.loads(body) == {"anonymous": True, "consumer": None, "request_id": None}
    # As another proxy passes on what the gateway has nothing to say about.
    _, _, body = server.get("/whoami", [("x-shared-secret", GOOD), ("x-consumer-id", ""), ("x-consumer-groups", "")])
    assert json.loads(body)["consumer"] is None
    empty = [("x-consumer-id", "csmr_1"), ("x-consumer-custom-id", ""), ("x-consumer-metadata", ""), ("x-anonymous-consumer", "")]
    _, _, body = server.get("/whoami", [("x-shared-secret", GOOD), *empty])
    caller = json.loads(body)["consumer"]
    assert (caller["custom_id"], caller["metadata"], caller["scopes"]) == (None, None, [])
    _, _, body = server.get("/echo", [("x-shared-secret", GOOD), *identity])
    assert [name for name in json.loads(body)["headers"] if "_" in name] == []


def test_no_log_at_any_level_holds_the_secret():
    with Server(environment_of(GOOD, None), "--log-level", "trace") as server:
        for headers in ([("x-shared-secret", GOOD)], [("x_shared_secret", GOOD)], [("x-shared-secret", GOOD)] * 2):
            server.get("/protected", headers)
    assert "shared secret invalid" in server.log
    assert GOOD not in server.log


async def websocket_echo(scope, receive, send):
    """Accepts, so that a refusal can only be the guard's; the sub-protocol tells whether it saw the secret."""
    if scope["type"] == "websocket":
        await receive()
        seen = any(b"secret" in name for name, _ in scope["headers"])
        await send({"type": "websocket.accept", "subprotocol": "leaked" if seen else "clean"})
        await send({"type": "websocket.close", "code": 1000})


def guarded_websocket():
    return RequireSharedSecret(websocket_echo)


def test_an_upgrade_needs_the_secret():
    with Server(environment_of(GOOD, None), "--factory", app="test_guard:guarded_websocket") as server:
        for headers, marker in [([], "missing"), ([("x-shared-secret", "nope")], "invalid")]:
            status, found, body = server.get("/ws", headers, upgrade="websocket")
            assert (status, found["x-origin-guard"]) == (401, [marker])
            assert json.loads(body)["code"] == f"shared_secret_{marker}"
        status, found, _ = server.get("/ws", [("x-shared-secret", GOOD)], upgrade="websocket")
        assert (status, found["sec-websocket-protocol"]) == (101, ["clean"])


def test_an_upgrade_is_closed_where_the_server_cannot_answer_it(monkeypatch):
    monkeypatch.setenv("SHARED_SECRET", GOOD)
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": []}
    asyncio.run(guarded_websocket()(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["", "healthz", "/health%7a", "/healthz?x", "/a/../b", "/a;b"])
def test_only_plain_paths_can_be_exempt(monkeypatch, path):
    monkeypatch.setenv("SHARED_SECRET", GOOD)
    with pytest.raises(ValueError, match="cannot be exempt"):
        RequireSharedSecret(websocket_echo, exempt=[path])


def test_the_backend_of_the_readme_runs(tmp_path):
    block = re.search(r"```python\n(.*?)```", (HERE.parent.parent / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "readme_app.py").write_text(block)
    with Server({"SHARED_SECRET": GOOD, "PYTHONPATH": f"{tmp_path}"}, app="readme_app:app") as server:
        identity = [("x-shared-secret", GOOD), ("x-consumer-id", "csmr_1")]
        assert server.get("/orders", identity)[::2] == (200, b"orders of csmr_1")
        assert server.get("/orders", identity[1:])[0] == 401
        assert server.get("/no-such-path", [])[0] == 401
