#!/usr/bin/env python3
"""Sends random spellings of paths, hosts and methods through real gateways to real origins. Each origin says which of its
handlers took the request, the access log says which route the gateway applied, and the two have to be the same; without a
key, no handler of a protected path may be reached. The same seed makes the same requests.

    run.py [--seed N] [--count N] [--tomcat] [--origin NAME]...
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GATEWAY = ROOT / "target/debug/gateway"
SECONDS = 60
# A virtual machine that compiles its program first, on a machine that is busy.
SECONDS_TO_START = 240
# Failures of one origin that are shown.
MOST_SHOWN = 10

# Names of routes are those of handlers.
PROTECTED = {"admin", "purge", "doc", "admin-host", "closed"}
OPEN = {"open", "files", "public"}
ROUTES = """
[[routes]]
name = "open"
path = "/"
on_missing_key = "anonymous"
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "admin"
path = "/api/admin"
scopes = ["everything"]
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "purge"
path = "/v1/users:purge"
scopes = ["everything"]
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "doc"
path = "/doc"
methods = ["GET"]
scopes = ["everything"]
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "files"
path = "/files"
on_missing_key = "anonymous"
allow_ambiguous_path = true
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "admin-host"
hosts = ["admin.example.com"]
scopes = ["everything"]
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "closed"
hosts = ["closed.example.com"]
scopes = ["everything"]
preserve_host = true
upstream = "ORIGIN"

[[routes]]
name = "public"
path = "/public"
hosts = ["closed.example.com"]
on_missing_key = "anonymous"
preserve_host = true
upstream = "ORIGIN"
"""

# One plain request for every handler.
PLAIN = [
    ("GET", "/elsewhere/x", "open.example.com", "open"),
    ("GET", "/api/admin/x", "open.example.com", "admin"),
    ("GET", "/v1/users:purge/x", "open.example.com", "purge"),
    ("GET", "/doc/x", "open.example.com", "doc"),
    ("GET", "/files/x", "open.example.com", "files"),
    ("GET", "/elsewhere/x", "admin.example.com", "admin-host"),
    ("GET", "/elsewhere/x", "closed.example.com", "closed"),
    ("GET", "/public/x", "closed.example.com", "public"),
]
# Spellings that gateways were walked around by.
KNOWN = [
    ("GET", "/;/api/admin/x", "open.example.com"),
    ("GET", "/api/;/admin/x", "open.example.com"),
    ("GET", "/api;v=1/admin/x", "open.example.com"),
    ("POST", "/v1/users%3Apurge", "open.example.com"),
    ("GET", "/elsewhere", "admin.example.com."),
    ("GET", "/elsewhere", "ADMIN.example.com.:80"),
    ("HEAD", "/doc", "open.example.com"),
    ("HEAD", "/doc/x", "open.example.com"),
    ("GET", "/files/../api/admin/x", "open.example.com"),
    ("GET", "/files/%2e%2e/api/admin/x", "open.example.com"),
    ("GET", "/files/..%2fapi/admin/x", "open.example.com"),
    ("GET", "/files/..;/api/admin/x", "open.example.com"),
    ("GET", "/files/..%5capi/admin/x", "open.example.com"),
    ("GET", "/files/..\\api/admin/x", "open.example.com"),
    ("GET", "/files/%u002e%u002e/api/admin/x", "open.example.com"),
    ("GET", "/files/%e2%80%a5/api/admin/x", "open.example.com"),
    ("GET", "//api/admin/x", "open.example.com"),
    ("GET", "/api//admin/x", "open.example.com"),
    ("GET", "/%61pi/admin/x", "open.example.com"),
    ("GET", "/api/%2561dmin/x", "open.example.com"),
    ("GET", "/api/admin;x", "open.example.com"),
    ("GET", "/%70ublic/x", "closed.example.com"),
    ("GET", "/public;x/y", "closed.example.com"),
    ("GET", "//public/x", "closed.example.com"),
    ("GET", "/public", "CLOSED.Example.com."),
    ("GET", "http://admin.example.com./elsewhere", "admin.example.com."),
]

SEGMENTS = ["api", "admin", "v1", "users:purge", "doc", "files", "public", "elsewhere", "x", "a.b", "ä".encode().decode("latin-1")]
STARTS = ["/api/admin", "/v1/users:purge", "/doc", "/files", "/public", "/elsewhere", "/api", "/"]
HOSTS = ["open.example.com", "admin.example.com", "closed.example.com"]
METHODS = ["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]
# What is put between two characters.
PIECES = [
    ";", ";x", ";x=1", "/;/", "/;a/", "%3b", "%3B", "//", "/", "%2f", "%2F", "%252f", "\\", "%5c", "%5C", "/./", "/../", "/x/../",
    "/x/y/../../", "/%2e/", "/%2e%2e/", "/.%2E/", "/..;/", "/..;x/", "/..%3b/", "/..%2f", "%2f..%2f", "/..%5c", "/%252e%252e/", ".", "..",
    "%20", "+", "%00", "%09", "%0a", "%0d", "%7f", "%ff", "%e9", "%c3%a9", "%c0%af", "%c0%ae", "%e0%80%af", "%", "%zz", "%u002f", "/%u002e%u002e/", "%e2%80%a5", "%e2%88%95", "%c4%b1",
    "%3f", "%23", "?", "?/../", "#", "~", "*", "|", "/files/../", "/files/%2e%2e/", "/public/../", "/files/..%2f",
]  # fmt: skip


def escaped(random, character):
    code = format(ord(character), random.choice(["02x", "02X"]))
    return random.choice(["%", "%", "%", "%25", "%2525"]) + code


def spelling(random):
    """A method, a target and a host, as nobody writes them."""
    target = random.choice(STARTS)
    for _ in range(random.randrange(3)):
        target = target.rstrip("/") + "/" + random.choice(SEGMENTS)
    if random.random() < 0.3:
        ups = random.randrange(1, 4)
        target = "/files/" + random.choice(["../", "%2e%2e/", "..;/", "..%2f", "..\\", ".%2e/"]) * ups + target.lstrip("/")
    # Half of them are odd below the route's path only, where much is let through.
    first = len(target) if random.random() < 0.5 else 1
    for _ in range(random.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        target += random.choice(["", "", "/x", "/a.b"])
        at = random.randrange(first, len(target) + 1)
        kind = random.randrange(4)
        if kind == 0 and at < len(target):
            target = target[:at] + escaped(random, target[at]) + target[at + 1 :]
        elif kind == 1 and at < len(target):
            target = target[:at] + target[at].swapcase() + target[at + 1 :]
        else:
            # Most of it where segments meet.
            slashes = [index for index, character in enumerate(target) if character == "/" and index >= first]
            if slashes and random.random() < 0.7:
                at = random.choice(slashes) + random.randrange(2)
            target = target[:at] + random.choice(PIECES) + target[at:]
    if random.random() < 0.1:
        target = target.replace("/", random.choice(["//", "/;/", "/./", "%2f/"]), random.randrange(1, 3))
    if not target.startswith("/"):
        target = "/" + target
    host = random.choice(HOSTS)
    if random.random() < 0.3:
        host = "".join(random.choice([letter, letter.upper()]) for letter in host)
    host += random.choice(["", "", "", ".", "..", ".:80", ":80", ":443", ":8080"])
    if random.random() < 0.05:
        target = f"http://{host}{target}"
    return random.choice(METHODS), target, host


def started(name, command, directory, pattern, **more):
    """A process, and what the pattern finds in what it prints."""
    log = Path(directory, "log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=directory, stdout=file, stderr=file, **more)
    by = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < by and process.poll() is None:
        found = re.search(pattern, log.read_text(errors="replace"), re.DOTALL)
        if found:
            return process, found
        time.sleep(0.05)
    process.kill()
    sys.exit(f"readings: {name} did not start:\n{log.read_text(errors='replace')}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    by = time.monotonic() + SECONDS
    while time.monotonic() < by:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"readings: nothing listens on port {port}")


def nginx(directory, processes):
    port = free_port()
    for name in ("nginx.conf", "locations.conf"):
        text = (HERE / name).read_text().replace("DIRECTORY", str(directory)).replace("PORT", str(port))
        Path(directory, name).write_text(text)
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    processes.append(subprocess.Popen([program, "-c", f"{directory}/nginx.conf", "-p", directory], stderr=subprocess.DEVNULL))
    listens(port)
    return {"nginx": port}


def asgi(directory, processes):
    command = [sys.executable, "-m", "uvicorn", "--app-dir", HERE, "--port", "0", "--no-access-log", "asgi_origin:app"]
    process, found = started("uvicorn", command, directory, r"running on http://127.0.0.1:(\d+)")
    processes.append(process)
    return {"asgi": int(found[1])}


def actix(directory, processes):
    command = [ROOT / "target/debug/examples/readings_origin"]
    process, found = started("the actix origin", command, directory, r"listening on (\d+)")
    processes.append(process)
    return {"actix": int(found[1])}


def tomcat(directory, processes):
    command = ["java", "-cp", "/usr/share/java/tomcat10-embed-core.jar", HERE / "TomcatOrigin.java"]
    process, found = started("Tomcat", command, directory, r"listening on (\d+) (\d+)", stdin=subprocess.PIPE)
    processes.append(process)
    return {"tomcat": int(found[1]), "tomcat-lenient": int(found[2])}


ORIGINS = [nginx, asgi, actix, tomcat]


def environment(directory):
    return {
        "SHARED_SECRET": "readings-test-7be84a639f2c51d0",
        "DATABASE_URL": f"sqlite://{directory}/gateway.db",
        "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0",
        "GATEWAY__LISTEN__WORKERS": "1",
        "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
        "GATEWAY__ORIGIN__CASE_SENSITIVE_PATHS": "true",
        "RUST_LOG": "info",
    }


def made_key(directory):
    """A key that may do everything."""

    def command(*arguments):
        done = subprocess.run([GATEWAY, *arguments], cwd=directory, env=environment(directory), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("import", "--format", "jsonl", os.devnull)
    command("consumers", "create", "everyone", "--scope", "everything")
    return json.loads(command("keys", "create", "--consumer", "everyone", "--json"))["key"]


class Gateway:
    """A gateway before one origin."""

    def __init__(self, store, directory, origin, processes):
        Path(directory, "gateway.toml").write_text(ROUTES.replace("ORIGIN", f"http://127.0.0.1:{origin}"))
        process, found = started(
            "the gateway", [GATEWAY, "serve"], directory, r"admin listening on http://127.0.0.1:(\d+)",
            env=environment(store),
        )  # fmt: skip
        processes.append(process)
        self.directory, self.socket = directory, None
        log = Path(directory, "log")
        admin = int(found[1])
        self.port = int(re.search(r"(?<!admin )listening on http://127.0.0.1:(\d+)", log.read_text())[1])
        by = time.monotonic() + SECONDS
        while time.monotonic() < by:
            connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=SECONDS)
            try:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        sys.exit("readings: the gateway did not become ready:\n" + log.read_text())

    def ask(self, method, target, host, key):
        """The status, the handler that took the request, and its id."""
        lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
        if method == "POST":
            lines.append("content-length: 0")
        if key:
            lines.append(f"authorization: Bearer {key}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        for attempt in range(2):
            fresh = self.socket is None
            if fresh:
                self.socket = socket.create_connection(("127.0.0.1", self.port), SECONDS)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.socket.sendall(head)
                response = http.client.HTTPResponse(self.socket, method=method)
                response.begin()
                response.read()
            except (http.client.HTTPException, OSError):
                self.close()
                # An idle connection that had ended: once more on a fresh one.
                if fresh:
                    return None, None, None
                continue
            if response.will_close:
                self.close()
            return response.status, response.headers.get("x-handler"), response.headers.get("x-request-id")
        return None, None, None

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def routes(self):
        """The route that each request fell under, by the request's id."""
        routes = {}
        for line in Path(self.directory, "log").read_text(errors="replace").splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                routes[entry.get("request_id")] = entry.get("route")
        return routes


class Run:
    """The requests to one origin."""

    def __init__(self, name, gateway, key, seed, count):
        self.name, self.gateway, self.key, self.seed = name, gateway, key, seed
        source = random.Random(seed)
        # The origin's name is no part of it, so that every origin is asked the same.
        self.cases = KNOWN + [spelling(source) for _ in range(count)]
        self.failures, self.reached = [], {}

    def fail(self, why, index, case, status, handler):
        method, target, host = case
        self.failures.append(f"{self.name}: {why}: {method} {target} of host {host}: status {status}, handler {handler}; seed {self.seed}, request {index}")

    def run(self):
        try:
            self.try_all()
        except Exception as error:
            self.failures.append(f"{self.name}: the run broke off: {error!r}")

    def try_all(self):
        for method, target, host, wanted in PLAIN:
            status, handler, _ = self.gateway.ask(method, target, host, self.key)
            if handler != wanted:
                self.fail(f"a plain request did not reach {wanted}", "-", (method, target, host), status, handler)
        asked = []
        for index, case in enumerate(self.cases):
            status, handler, _ = self.gateway.ask(*case, None)
            if handler in PROTECTED:
                self.fail("a protected handler was reached without a key", index, case, status, handler)
            elif handler is not None and handler not in OPEN:
                self.fail("no handler of the table", index, case, status, handler)
            status, handler, request_id = self.gateway.ask(*case, self.key)
            if handler is not None:
                asked.append((index, case, status, handler, request_id))
                self.reached[handler] = self.reached.get(handler, 0) + 1
        self.gateway.close()
        # The last line may be on its way.
        by = time.monotonic() + SECONDS
        while (routes := self.gateway.routes()) and asked and asked[-1][4] not in routes:
            assert time.monotonic() < by, "the access log is not complete"
            time.sleep(0.05)
        for index, case, status, handler, request_id in asked:
            route = routes.get(request_id)
            if route != handler:
                self.fail(f"the route of {route} was applied", index, case, status, handler)
        if sum(self.reached.values()) < len(self.cases) // 10 or len(self.reached) < len(PLAIN):
            self.failures.append(f"{self.name}: too little reached the origin to say anything: {self.reached}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300, help="random requests to each origin, each with and without a key")
    parser.add_argument("--tomcat", action="store_true", help="also Tomcat, which needs Java")
    parser.add_argument("--origin", action="append", choices=[make.__name__ for make in ORIGINS], help="this origin alone")
    arguments = parser.parse_args()
    wanted = arguments.origin or ["nginx", "asgi", "actix", *(["tomcat"] if arguments.tomcat else [])]
    begun, processes = time.monotonic(), []
    with tempfile.TemporaryDirectory() as directory:
        try:
            ports = {}
            for make in ORIGINS:
                if make.__name__ not in wanted:
                    continue
                place = Path(directory, make.__name__)
                place.mkdir()
                ports |= make(str(place), processes)
            key = made_key(directory)
            runs = []
            for name, port in ports.items():
                place = Path(directory, f"before-{name}")
                place.mkdir()
                gateway = Gateway(directory, str(place), port, processes)
                runs.append(Run(name, gateway, key, arguments.seed, arguments.count))
            print(f"readings: ready after {time.monotonic() - begun:.0f} s", flush=True)
            threads = [threading.Thread(target=run.run) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
    failures = [failure for run in runs for failure in run.failures[:MOST_SHOWN]]
    for run in runs:
        print(f"readings: {run.name}: {len(run.cases)} spellings, seed {run.seed}, reached {dict(sorted(run.reached.items()))}, {len(run.failures)} failures")
    for failure in failures:
        print(f"readings: {failure}", file=sys.stderr)
    print(f"readings: {time.monotonic() - begun:.0f} s")
    sys.exit(1 if failures or not runs else 0)


if __name__ == "__main__":
    main()
