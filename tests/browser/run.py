#!/usr/bin/env python3
"""Calls the gateway from a page of another origin in a real Chromium: fetch, EventSource and WebSocket, with keys from each
place that a page can send one in. Compares what the page is shown, and what reached the origin.
"""

import base64
import contextlib
import functools
import http.server
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from origin import Origin

HERE = Path(__file__).resolve().parent
GATEWAY = HERE.parent.parent / "target/debug/gateway"
SECRET = "browser-9f2c51d07be84a63"
SECONDS = 60

ROUTES = """
[cors]
origins = ["http://localhost:PAGE"]
headers = ["Content-Type"]

[[rate_limits]]
name = "once"
by = "key"
limit = 1
window = "1h"
routes = ["limited"]

[[routes]]
path = "/bearer"

[[routes]]
path = "/scoped"
scopes = ["orders"]

[[routes]]
name = "limited"
path = "/limited"

[[routes]]
path = "/away"
upstream = "http://127.0.0.1:AWAY"

[[routes]]
path = "/header"
key_sources = ["header:X-API-Key"]

[[routes]]
path = "/query"
key_sources = ["query:api_key"]

[[routes]]
path = "/cookie"
key_sources = ["cookie:api_key"]
cors = { credentials = true }

[[routes]]
path = "/subprotocol"
key_sources = ["subprotocol"]

[[routes]]
path = "/other"
cors = { origins = ["https://app.example.com"] }

[[routes]]
path = "/off"
cors = { origins = [] }

[[routes]]
path = "/any"
cors = { origins = ["*"] }
"""

OWN = ["x-request-id"]
OK = {"status": 200, "code": None, "headers": OWN}


def refused(status, code, *headers):
    return {"status": status, "code": code, "headers": [*OWN, *headers]}


WEBSOCKET = {"protocol": "postern", "echo": "ping"}
EXPECTED = {
    "simple_without_a_key": refused(401, "api_key_missing"),
    "bearer": OK,
    "bearer_that_is_wrong": refused(401, "api_key_invalid"),
    "put_of_json": OK,
    "header_that_is_not_allowed": "blocked",
    "credentials_where_none_are_allowed": "blocked",
    "scope_that_is_missing": refused(403, "insufficient_scope"),
    "limited_first": OK,
    "limited_then": refused(429, "rate_limited", "retry-after"),
    "origin_that_is_away": refused(502, "origin_unreachable"),
    "path_without_a_route": refused(404, "no_route"),
    "header": OK,
    "other_page": "blocked",
    "other_page_simple": "blocked",
    "off": "blocked",
    "any_page": OK,
    "event_without_a_key": "blocked",
    "event_by_query": True,
    "event_without_a_cookie": "blocked",
    "event_with_a_cookie_not_sent": "blocked",
    "event_by_cookie": True,
    "cookie": OK,
    "socket_by_cookie": {"protocol": "", "echo": "ping"},
    "socket_without_a_key": "blocked",
    "socket_with_a_wrong_key": "blocked",
    "socket": WEBSOCKET,
    "socket_key_first": WEBSOCKET,
    "socket_in_base64": WEBSOCKET,
    # The gateway would have to agree to the protocol with the key, and tells no key to anybody.
    "socket_that_is_told_nothing": "blocked",
    "socket_by_query": {"protocol": "", "echo": "ping"},
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def browser():
    for name in ["chromium", "chromium-browser", "google-chrome"]:
        if shutil.which(name):
            return name
    sys.exit("browser: there is no Chromium (Debian: apt-get install chromium)")


@contextlib.contextmanager
def page(results):
    """Serves the page, and takes what it found."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()
            results.put(json.loads(body))

    handler = functools.partial(Handler, directory=str(HERE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def running(command, log, **options):
    with log.open("wb") as file:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def wait_until_ready(program, admin, log):
    by = time.monotonic() + SECONDS
    while program.poll() is None and time.monotonic() < by:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5):
                return
        time.sleep(0.05)
    sys.exit(f"browser: the gateway did not start:\n{log.read_text()}")


def forms(key):
    """The key as it could stand somewhere."""
    encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return [key, key[5:], encoded, encoded[8:]]


def main():
    chromium, results = browser(), queue.Queue()
    with tempfile.TemporaryDirectory(prefix="browser-") as folder, Origin() as origin, page(results) as port:
        folder = Path(folder)
        public, admin, away = free_port(), free_port(), free_port()
        routes = ROUTES.replace("PAGE", str(port)).replace("AWAY", str(away))
        (folder / "gateway.toml").write_text(routes)
        environment = {
            "SHARED_SECRET": SECRET,
            "ORIGIN_URL": origin.url,
            "DATABASE_URL": f"sqlite://{folder}/gateway.db",
            "GATEWAY__LISTEN__ADDRESS": f"127.0.0.1:{public}",
            "GATEWAY__ADMIN__ADDRESS": f"127.0.0.1:{admin}",
            "RUST_LOG": "debug",
        }
        log = folder / "gateway.log"
        with running([GATEWAY, "serve"], log, cwd=folder, env=environment) as gateway:
            wait_until_ready(gateway, admin, log)
            create = [GATEWAY, "keys", "create", "--consumer", "page", "--json"]
            made = subprocess.run(create, cwd=folder, env=environment, check=True, capture_output=True)
            key = json.loads(made.stdout)["key"]
            wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
            address = f"http://localhost:{port}/page.html#gateway=http://localhost:{public}&key={key}&wrong={wrong}"
            options = [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", f"--user-data-dir={folder}/profile",
            ]
            own = {**os.environ, "HOME": str(folder)}
            with running([chromium, *options, address], folder / "browser.log", cwd=folder, env=own):
                try:
                    found = results.get(timeout=SECONDS)
                except queue.Empty:
                    sys.exit(f"browser: the page told nothing:\n{(folder / 'browser.log').read_text()[-4000:]}")
        written = log.read_text()

    failures = []
    for name in sorted(EXPECTED.keys() | found.keys()):
        if found.get(name) != EXPECTED.get(name):
            failures.append(f"{name}: {json.dumps(found.get(name))}, and not {json.dumps(EXPECTED.get(name))}")
    for command, target, headers in origin.arrived:
        request = f"{command} {target}\n{headers}"
        if any(form in request for form in forms(key)) or "sec-websocket-protocol" in headers.lower():
            failures.append(f"a key, or its place, reached the origin: {command} {target.partition('?')[0]}")
        # Only the gateway's answers to preflights: one that arrives asked the origin.
        if command == "OPTIONS":
            failures.append(f"a preflight reached the origin: {target}")
    if any(form in written for form in forms(key)):
        failures.append("the key is in the log of the gateway")
    if failures:
        sys.exit("browser: " + "\nbrowser: ".join(failures))
    print(f"browser: {len(EXPECTED)} calls of a page were answered as they have to be")


if __name__ == "__main__":
    main()
