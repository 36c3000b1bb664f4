#!/usr/bin/env python3
"""Brings up the committed docker-compose.yml and walks the story through it, on free ports and under a name of its own.

Nothing but Python's standard library. Fails, and says why, when there is no Docker to try it with. The base images must be
present or pullable (base-images.sh). KEEP=1 leaves all running.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICE_UID = "10001"
SECRET_FILE = "/run/postern/shared-secret"
KEYS_DIRECTORY = "/var/lib/postern"

# A cold build compiles every dependency on what may be two cores.
BUILD_SECONDS = 3000
HEALTH_SECONDS = 90
COMMAND_SECONDS = 120


class Failure(Exception):
    """What does not hold; the walk ends there."""


def run(*command, timeout=COMMAND_SECONDS, check=True, env=None):
    """Runs a command to its end, in the repository; its output is in the failure, if it is one."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except FileNotFoundError:
        raise Failure(f"there is no command `{command[0]}`") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"`{' '.join(command)}` did not end within {timeout} s") from None
    if check and done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def compose_command():
    """`docker compose` where the plug-in is installed, else `docker-compose`."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            done = run(*command, "version", check=False)
        except Failure:
            continue
        if done.returncode == 0:
            print(f"walk: using {' '.join(command)}: {done.stdout.splitlines()[0]}", flush=True)
            return command
    raise Failure("neither `docker compose` nor `docker-compose` works on this machine")


def free_ports(count):
    """Ports of the loopback address that nobody has at this moment, each a different one."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def until(what, check, seconds):
    """Repeats `check` until it returns something true, which is returned, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        last = check()
        if last:
            return last
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Answer:
    """An HTTP answer, read to its end."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode("utf-8", "replace")

    def json(self):
        return json.loads(self.text)

    def __str__(self):
        return f"{self.status} {self.headers} {self.text}"


def ask(port, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Project:
    """One run of the compose file."""

    def __init__(self, compose):
        self.name = f"postern-walk-{secrets.token_hex(4)}"
        self.gateway_port, self.origin_port = free_ports(2)
        self.compose_command = compose
        # A file, because 1.29 refuses /dev/null.
        self.no_env = tempfile.NamedTemporaryFile(prefix="postern-no-env-")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "SHARED_SECRET"))},
            "POSTERN_PORT": str(self.gateway_port),
            "POSTERN_ORIGIN_PORT": str(self.origin_port),
        }

    def compose(self, *arguments, timeout=COMMAND_SECONDS, check=True):
        # The committed file alone: no `.env`, no `docker-compose.override.yml` of whoever runs this.
        fixed = ["--env-file", self.no_env.name, "-f", "docker-compose.yml", "-p", self.name]
        return run(*self.compose_command, *fixed, *arguments, timeout=timeout, check=check, env=self.env)

    def up(self, *services):
        self.compose("up", "-d", "--build", *services, timeout=BUILD_SECONDS)

    def container(self, service):
        # Not `compose ps -q`: version 1.29 lists no container that has ended.
        filters = [
            f"--filter=label=com.docker.compose.project={self.name}",
            f"--filter=label=com.docker.compose.service={service}",
        ]
        found = run("docker", "ps", "-aq", *filters).stdout.split()
        if len(found) != 1:
            raise Failure(f"{len(found)} containers of service {service}, not 1")
        return found[0]

    def inspect(self, service):
        return json.loads(run("docker", "inspect", self.container(service)).stdout)[0]

    def health(self, service):
        state = self.inspect(service)["State"]
        return state.get("Health", {}).get("Status", "without a health check")

    def wait_until_healthy(self):
        for service in ("origin", "gateway"):
            try:
                until(f"{service} is healthy", lambda s=service: self.health(s) == "healthy", HEALTH_SECONDS)
            except Failure as failure:
                raise Failure(f"{failure}; its state: {json.dumps(self.inspect(service)['State'], indent=1)}") from None

    def execute(self, service, *command, check=True):
        return self.compose("exec", "-T", service, *command, check=check)

    def gateway(self, *arguments):
        return self.execute("gateway", "gateway", *arguments).stdout

    def secret(self):
        return self.execute("gateway", "cat", SECRET_FILE).stdout.strip()

    def get(self, path, key=None, headers=None):
        """As a client of the gateway."""
        credential = {"Authorization": f"Bearer {key}"} if key else {}
        return ask(self.gateway_port, path, {**(headers or {}), **credential})

    def protected(self, key=None, headers=None):
        return self.get("/protected", key, headers)

    def remove(self):
        self.compose("down", "-v", "--remove-orphans", "--rmi", "local", check=False)


passed = 0


def expect(what, holds, found=""):
    """One line of the walk."""
    global passed
    if not holds:
        raise Failure(f"{what}: does not hold. Found: {found}")
    passed += 1
    print(f"  ok  {what}", flush=True)


def expect_refusal(what, answer, status, code):
    body = answer.json() if answer.headers.get("content-type", "").startswith("application/problem+json") else {}
    expect(what, answer.status == status and body.get("code") == code, answer)


def brings_itself_up(project):
    started = time.monotonic()
    project.up()
    print(f"walk: built and started in {time.monotonic() - started:.0f} s", flush=True)
    project.wait_until_healthy()
    expect("gateway and origin become healthy with no .env and no preparation", True)
    expect("the one-shot service has ended well", project.inspect("secret")["State"]["ExitCode"] == 0)


def tells_the_story(project):
    created = json.loads(project.gateway("keys", "create", "--consumer", "demo", "--json"))
    key = created["key"]
    expect("`exec gateway gateway keys create` hands out a key", key.startswith("pstn_"), created.keys())

    assert project.protected(key).status == 200, "a new key is accepted at once"
    answer = project.protected(key)
    expect("client with a key → 200, Access granted", answer.json() == {"message": "Access granted"}, answer)

    answer = project.protected()
    expect_refusal("client without a key → 401", answer, 401, "api_key_missing")
    challenge = answer.headers.get("www-authenticate", "")
    expect("… with a challenge", challenge.startswith('Bearer realm="'), answer)

    answer = project.protected(key[:-1] + ("a" if key[-1] != "a" else "b"))
    expect_refusal("client with a wrong key → 401", answer, 401, "api_key_invalid")

    answer = ask(project.origin_port, "/protected")
    expect("client → origin, no secret → 401", answer.status == 401, answer)
    expect("… No secret provided", answer.json().get("detail") == "No secret provided", answer)

    answer = ask(project.origin_port, "/protected", {"x-shared-secret": "nope"})
    expect("client → origin, wrong secret → 401", answer.status == 401, answer)
    expect("… Invalid secret", answer.json().get("detail") == "Invalid secret", answer)

    forged = {"X-Shared-Secret": "nope", "x_shared_secret": "nope", "X-Consumer-Id": "admin", "X_Consumer_Id": "admin"}
    expect("a forged proof opens nothing without a key", project.protected(headers=forged).status == 401)
    answer = project.get("/echo", key, forged)
    expect("… and changes nothing with one", answer.status == 200, answer)
    arrived = answer.json()["headers"]
    expect("… nor does a forged identity reach the origin", "nope" not in str(arrived) and "admin" not in str(arrived), arrived)
    expect("the origin learns who calls", arrived.get("x-consumer-username") == ["demo"], arrived)
    expect("… and not the key", "authorization" not in arrived and key not in str(arrived), arrived.keys())
    return created


def is_locked_down(project):
    for service in ("gateway", "origin"):
        inspected = project.inspect(service)
        status = dict(
            line.split(":\t", 1) for line in project.execute(service, "cat", "/proc/1/status").stdout.splitlines()
        )
        expect(f"{service}: runs as a user without rights", status["Uid"].split() == [SERVICE_UID] * 4, status["Uid"])
        expect(f"{service}: has no capability", int(status["CapBnd"], 16) == 0, status["CapBnd"])
        expect(f"{service}: can gain no privilege", status["NoNewPrivs"] == "1", status["NoNewPrivs"])

        for path in ("/written", "/usr/local/bin/written", "/run/postern/written", SECRET_FILE):
            done = project.execute(service, "sh", "-c", f": >> {path}", check=False)
            refused = done.returncode != 0 and ("Read-only" in done.stderr or "Permission denied" in done.stderr)
            expect(f"{service}: cannot write {path}", refused, done)
        mounts = {mount["Destination"]: mount["RW"] for mount in inspected["Mounts"] if mount["Type"] == "volume"}
        writable = {KEYS_DIRECTORY: True} if service == "gateway" else {}
        expect(f"{service}: has no other volume", mounts == {"/run/postern": False, **writable}, mounts)
        expect(f"{service}: its root is read-only", inspected["HostConfig"]["ReadonlyRootfs"])
        expect(f"{service}: its memory is limited", inspected["HostConfig"]["Memory"] == 1 << 30)
        expect(f"{service}: its processes and threads are limited", inspected["HostConfig"]["PidsLimit"] == 1024)

        published = [at["HostIp"] for ports in inspected["NetworkSettings"]["Ports"].values() for at in ports or []]
        expect(f"{service}: is published on loopback alone", published == ["127.0.0.1"], published)

    mode = project.execute("gateway", "stat", "-c", "%a %u %g", SECRET_FILE).stdout.strip()
    expect("only the services' user can read the secret", mode == f"400 {SERVICE_UID} {SERVICE_UID}", mode)
    mode = project.execute("gateway", "stat", "-c", "%a %u %g", KEYS_DIRECTORY).stdout.strip()
    expect("… and the keys", mode == f"700 {SERVICE_UID} {SERVICE_UID}", mode)
    left = project.execute("gateway", "ls", "-A", "/run/postern").stdout.split()
    expect("nothing lies beside the secret", left == ["shared-secret"], left)


def keeps_what_it_was_told(project, key):
    """Neither the secret nor a key is in anything that Docker shows or keeps."""
    secret = project.secret()
    expect("the secret is long and random", len(secret) >= 32 and len(set(secret)) > 8, len(secret))
    for service in ("secret", "origin", "gateway"):
        container = project.container(service)
        logs = run("docker", "logs", container)
        seen = run("docker", "inspect", container).stdout + logs.stdout + logs.stderr
        expect(f"{service}: no secret in its logs, environment or settings", secret not in seen)
        expect(f"{service}: nor a key", key not in seen)
    for service in ("origin", "gateway"):
        environment = project.execute(service, "env").stdout
        expect(f"{service}: no secret in the environment of a command", secret not in environment)
    asked = [project.protected(key), project.protected(), project.get("/echo", key), ask(project.origin_port, "/protected")]
    answers = " ".join(map(str, asked))
    expect("no secret in an answer", secret not in answers)


def outlives_its_containers(project, key):
    secret = project.secret()
    created = json.loads(project.gateway("keys", "create", "--consumer", "demo", "--json"))
    run("docker", "kill", "--signal=KILL", project.container("gateway"))
    run("docker", "start", project.container("gateway"))
    project.wait_until_healthy()
    expect("a key made just before kill -9 works after it", project.protected(created["key"]).status == 200)

    for service in ("gateway", "origin"):
        project.compose("stop", service)
        state = project.inspect(service)["State"]
        expect(f"{service}: ends by itself when asked to stop", state["ExitCode"] == 0, state)
    project.compose("down")
    project.up()
    project.wait_until_healthy()
    expect("`down` and `up` keep the secret", project.secret() == secret)
    expect("… and the keys", project.protected(key).status == 200)


def tells_a_dead_origin_from_a_dead_gateway(project, key):
    project.compose("stop", "origin")
    answer = project.protected(key)
    expect_refusal("origin stopped → 502", answer, 502, "origin_unreachable")
    expect("… and the gateway stays healthy", project.execute("gateway", "gateway", "healthcheck").returncode == 0)
    project.compose("start", "origin")
    project.wait_until_healthy()
    until("the origin is found again", lambda: project.protected(key).status == 200, 10)
    expect("origin started → 200 again", True)


def revokes_at_once(project, created):
    project.gateway("keys", "revoke", created["id"])
    revoked = time.monotonic()
    assert project.protected(created["key"]).status == 401, "a revoked key is refused at once"
    print(f"walk: refused {1000 * (time.monotonic() - revoked):.0f} ms after `keys revoke` had ended", flush=True)
    expect_refusal("a revoked key → 401", project.protected(created["key"]), 401, "api_key_revoked")


def has_a_secret_of_its_own(first, second):
    second.up("secret")
    until("the second secret is made", lambda: second.inspect("secret")["State"]["Status"] == "exited", COMMAND_SECONDS)
    shown = second.compose("run", "--rm", "-T", "--entrypoint", "cat", "secret", SECRET_FILE).stdout.strip()
    expect("another project has another secret", len(shown) >= 32 and shown != first.secret())


def walk(project, another):
    brings_itself_up(project)
    created = tells_the_story(project)
    is_locked_down(project)
    keeps_what_it_was_told(project, created["key"])
    outlives_its_containers(project, created["key"])
    tells_a_dead_origin_from_a_dead_gateway(project, created["key"])
    revokes_at_once(project, created)
    has_a_secret_of_its_own(project, another)


def end(signal_number, _frame):
    # As an exception, so that the containers are removed on this way out too.
    raise Failure(f"ended by signal {signal_number}")


def main():
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    projects = []
    try:
        engine = run("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()
        print(f"walk: Docker Engine {engine}", flush=True)
        compose = compose_command()
        projects = [Project(compose), Project(compose)]
        walk(*projects)
    except (Failure, OSError, ValueError, KeyError) as failure:
        print(f"walk: FAILED: {type(failure).__name__}: {failure}", file=sys.stderr)
        for project in projects[:1]:
            logs = project.compose("logs", "--no-color", "--tail=50", check=False)
            print(f"{logs.stdout}{logs.stderr}", file=sys.stderr)
        print(f"{passed} passed, 1 failed", flush=True)
        return 1
    finally:
        for project in projects:
            if os.environ.get("KEEP") != "1":
                project.remove()
    print(f"{passed} passed, 0 failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
