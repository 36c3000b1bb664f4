"""The programs that the steps of docs/OPERATE.md are about, each on ports that are free here."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/OPERATE.md"
PROGRAMS = ROOT / "target/debug"
SECRET = "operate-9f2c51d07be84a63"
SECONDS = 30
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))


def fail(message):
    sys.exit(f"operate: {message}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds):
    by = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > by:
            fail(f"not within {SECONDS} s: {what}")
        time.sleep(0.02)


def environment(**variables):
    """Nothing of the tests' own environment but where programs are, ours first."""
    path = f"{PROGRAMS}:{POSTGRES}:{os.environ['PATH']}"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **variables}


def step(name, folder, **variables):
    """Runs the block of the document below the mark of this name, as it stands."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", DOCUMENT.read_text(), re.S)
    if not found:
        fail(f"docs/OPERATE.md has no step {name}")
    ran = subprocess.run(["sh", "-euc", found[1]], cwd=folder, env=environment(**variables), capture_output=True, text=True)
    if ran.returncode:
        fail(f"step {name} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def ask(url, key=None, **headers):
    """The status and the body; 0 where there is no connection."""
    request = urllib.request.Request(url, headers=headers)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (urllib.error.URLError, ConnectionError):
        return 0, b""


class Program:
    """A program that runs until it is stopped, or until the tests end."""

    running = []

    def __init__(self, command, folder, ready, **variables):
        self.log = folder / f"{Path(str(command[0])).name}-{len(Program.running)}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        Program.running.append(self)
        by = time.monotonic() + SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > by:
                fail(f"{command} did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def stop(self, by=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(by)
            self.process.wait(60)

    @classmethod
    def stop_all(cls):
        for program in cls.running:
            program.process.kill()
            program.process.wait()


class Gateway(Program):
    """A gateway on its own ports, ready."""

    def __init__(self, folder, database, origin="http://127.0.0.1:9", secret=SECRET, port=None, **variables):
        port, admin = port or free_port(), free_port()
        self.url, self.admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        self.folder, self.database = folder, database
        super().__init__(
            ["gateway", "serve"],
            folder,
            lambda: ask(f"{self.admin}/readyz")[0] == 200,
            SHARED_SECRET=secret,
            DATABASE_URL=database,
            ORIGIN_URL=origin,
            GATEWAY__LISTEN__ADDRESS=f"127.0.0.1:{port}",
            GATEWAY__ADMIN__ADDRESS=f"127.0.0.1:{admin}",
            GATEWAY__LISTEN__DRAIN_DELAY="10ms",
            **variables,
        )

    def run(self, *arguments):
        command = ["gateway", *arguments]
        ran = subprocess.run(command, cwd=self.folder, env=environment(DATABASE_URL=self.database), capture_output=True, text=True)
        if ran.returncode:
            fail(f"{command}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def key(self, consumer):
        return json.loads(self.run("keys", "create", "--consumer", consumer, "--json"))["key"]

    def takes(self, key):
        """Whether a key is let in: the origin, where there is none, is 502."""
        return ask(f"{self.url}/protected", key)[0] in (200, 502)


@contextlib.contextmanager
def postgres(folder):
    """A PostgreSQL server; gives the address of a database in it."""
    home, port = folder / "postgres", free_port()
    home.mkdir()
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(home, "postgres")
    (folder / "password").write_text("hunter2-of-the-tests")
    os.chmod(folder / "password", 0o644)
    os.chmod(folder, 0o755)
    made = subprocess.run(
        [POSTGRES / "initdb", "--username=postern", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
         f"--pwfile={folder / 'password'}", f"--pgdata={home}/data"], env=environment(), cwd=home, capture_output=True, text=True, **user
    )  # fmt: skip
    if made.returncode:
        fail(f"initdb: {made.stderr}")
    log = (folder / "postgres.log").open("wb")
    server = subprocess.Popen(
        [POSTGRES / "postgres", "-D", f"{home}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
         "-c", "unix_socket_directories="], env=environment(), cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user
    )  # fmt: skip
    address = f"postgres://postern:hunter2-of-the-tests@127.0.0.1:{port}/postgres"
    try:
        answers = ["psql", address, "-c", "select 1"]
        until("PostgreSQL answers", lambda: subprocess.run(answers, env=environment(), capture_output=True).returncode == 0)
        yield address
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(SECONDS)
