#!/usr/bin/env python3
"""Does what docs/OPERATE.md says, with the text of that page where it has a mark, and checks what deploy/ has."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import kubernetes_validate
import yaml
from programs import PROGRAMS, ROOT, SECRET, Gateway, Program, ask, environment, fail, free_port, postgres, step, until

NEW_SECRET = "operate-a63f2c51d07be849"
TOKENS = ["operate-d07be84a639f2c51", "operate-84a639f2c51d07be"]
KUBERNETES = "1.30"
MANIFESTS = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))


def check(holds, what):
    if not holds:
        fail(what)


def of_kind(kind):
    return next(manifest for manifest in MANIFESTS if manifest["kind"] == kind)


def seconds(text):
    return sum(float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m)", text))


def units(folder):
    """systemd takes the units, and finds little that they could still give up."""
    for program in ["gateway", "origin"]:
        text = (ROOT / f"deploy/postern-{program}.service").read_text()
        unit = folder / f"postern-{program}.service"
        unit.write_text(text.replace(f"/usr/local/bin/{program}", str(PROGRAMS / program)))
        verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        check(verified.returncode == 0 and not verified.stderr.strip(), f"{unit.name}: {verified.stderr}")
        rated = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True)
        check(rated.returncode == 0, f"{unit.name} is exposed: {rated.stdout[-200:]}")
        # A word that systemd does not know is a warning to it.
        broken = folder / f"broken-{program}.service"
        broken.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
        said = subprocess.run(["systemd-analyze", "verify", broken], capture_output=True, text=True).stderr
        check("NoNewPrivilege" in said, "systemd-analyze finds no fault")


def settings_in_force(folder, **variables):
    ran = subprocess.run(["gateway", "check"], cwd=folder, env=environment(**variables), capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


def drain_seconds(folder, **variables):
    """How long a gateway with these settings takes to stop, at most."""
    code, said, error = settings_in_force(folder, SHARED_SECRET=SECRET, **variables)
    check(code == 0, error)
    values = [re.search(rf'^{key} = "(.+?)"', said, re.M)[1] for key in ["drain_delay", "drain_timeout"]]
    # Half a second for what was sent before no more was taken, and one for the last lines of each log.
    return sum(map(seconds, values)) + 2.5


def kubernetes(folder):
    """The manifest is one of Kubernetes, and the gateway takes its settings, once the Secret is replaced."""
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    deployment, secret = of_kind("Deployment"), of_kind("Secret")["stringData"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    mounted = folder / "secrets"
    mounted.mkdir()
    there = {name: value.replace("/run/postern", str(mounted)) for name, value in variables.items()}
    for name, value in secret.items():
        (mounted / name).write_text(value)
    code, _, error = settings_in_force(folder, **there)
    check(code == 2 and error.count("placeholder") == 2 and "DATABASE_URL" in error, f"placeholders are taken: {error}")
    (mounted / "shared-secret").write_text(SECRET)
    (mounted / "admin-token").write_text(TOKENS[0])
    (mounted / "database-url").write_text(secret["database-url"].replace("changeme:", "postgres:"))
    code, said, error = settings_in_force(folder, **there)
    check(code == 0, f"the settings of deploy/kubernetes.yaml: {error}")
    probe = container["readinessProbe"]["httpGet"]
    check(f'health_path = "{probe["path"]}"' in said, "readiness asks another path than the gateway answers")
    check(container["livenessProbe"]["exec"]["command"] == ["gateway", "healthcheck", "--live"], "liveness asks for readiness")
    takes = drain_seconds(folder, **{name: value for name, value in variables.items() if "DRAIN" in name})
    check(takes < pod["terminationGracePeriodSeconds"], f"a pod is killed within {takes} s of draining")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in [of_kind("Service")["spec"]["selector"], of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]:
        check(selector.items() <= labels.items(), f"{selector} selects no pod")
    # A manifest that is none is found.
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    try:
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError:
        return
    fail("the schemas find no fault")


def drains(folder):
    """A gateway with the default settings stops within the grace periods of the document."""
    takes = drain_seconds(folder)
    check(takes < 30, f"the defaults take {takes} s")
    unit = (ROOT / "deploy/postern-gateway.service").read_text()
    check(takes < int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]), "systemd kills the gateway")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    check(takes < seconds(compose["services"]["gateway"]["stop_grace_period"]), "Compose kills the gateway")


def sqlite(folder):
    """What was backed up is in force after the restore, with a gateway that runs and with one that was killed."""
    gateway = Gateway(folder, "sqlite://gateway.db")
    kept = gateway.key("kept")
    said = step("sqlite-backup", folder)
    check("ok" in said, said)
    later = gateway.key("later")
    until("both keys are let in", lambda: gateway.takes(kept) and gateway.takes(later))
    step("sqlite-restore", folder)
    until("the gateway goes by the backup", lambda: not gateway.takes(later))
    check(gateway.takes(kept), "the key of the backup is refused")
    again = gateway.key("again")
    check(gateway.takes(again), "a restored store takes no changes")
    # Killed: its log stays beside the file.
    gateway.stop(signal.SIGKILL)
    check((folder / "gateway.db-wal").stat().st_size > 0, "there is no log that could be left")
    step("sqlite-restore-stopped", folder)
    gateway = Gateway(folder, "sqlite://gateway.db")
    check(gateway.takes(kept) and not gateway.takes(again), "the backup is not what is in force")
    gateway.stop()


def postgresql(folder):
    """The same with PostgreSQL, and two gateways on one database: the second starts while the first serves."""
    with postgres(folder) as database:
        gateway = Gateway(folder, database)
        kept = gateway.key("kept")
        step("postgres-backup", folder, DATABASE_URL=database)
        later = gateway.key("later")
        beside = Gateway(folder, database)
        check(all(one.takes(key) for one in (gateway, beside) for key in (kept, later)), "two gateways differ")
        gateway.stop()
        beside.stop()
        step("postgres-restore", folder, DATABASE_URL=database)
        gateway = Gateway(folder, database)
        check(gateway.takes(kept) and not gateway.takes(later), "the backup is not what is in force")
        # The next version: a schema with a step more.
        newer = "insert into _sqlx_migrations select 9999, 'newer', now(), true, checksum, 0 from _sqlx_migrations limit 1"
        subprocess.run(["psql", database, "-c", newer], env=environment(), check=True, capture_output=True)
        check(gateway.takes(kept), "a gateway that runs stops serving beside a newer one")
        older = subprocess.run(
            ["gateway", "serve"], cwd=folder, capture_output=True, text=True, timeout=30,
            env=environment(SHARED_SECRET=SECRET, DATABASE_URL=database, GATEWAY__LISTEN__ADDRESS="127.0.0.1:0",
                            GATEWAY__ADMIN__ADDRESS="127.0.0.1:0"),
        )  # fmt: skip
        check(older.returncode == 1 and "9999" in older.stderr, f"an older gateway starts: {older.stderr}")
        gateway.stop()


class Asking:
    """Asks again and again, as long as the block runs; every answer has to be 200."""

    def __init__(self, urls, key):
        self.urls, self.key, self.statuses, self.ends = urls, key, [], threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        while not self.ends.is_set():
            # As a balancer: the first of the gateways that takes a connection.
            status = next((status for url in self.urls() if (status := ask(f"{url}/protected", self.key)[0])), 0)
            self.statuses.append(status)
            time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


def secrets(folder):
    """The shared secret is rotated in the three steps, and each request is answered; in another order it is refused."""
    database = f"sqlite://{folder}/gateway.db"
    ports = [free_port(), free_port()]

    def origin(port, **accepted):
        listens = lambda: ask(f"http://127.0.0.1:{port}/healthz")[0] == 200  # noqa: E731
        return Program(["origin"], folder, listens, ORIGIN_LISTEN=f"127.0.0.1:{port}", **accepted)

    file = folder / "gateway.toml"
    targets = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
    file.write_text(f'[[upstreams]]\nname = "backend"\ntargets = [{targets}]\n\n[[routes]]\nupstream = "backend"\n')
    origins = [origin(port, SHARED_SECRET=SECRET) for port in ports]
    gateways = [Gateway(folder, database), None]
    key = gateways[0].key("acme")
    urls = lambda: [gateway.url for gateway in gateways if gateway]  # noqa: E731
    until("the key is let in", lambda: ask(f"{gateways[0].url}/protected", key)[0] == 200)
    with Asking(urls, key) as asking:

        def restart_origins(**accepted):
            for at, port in enumerate(ports):
                origins[at].stop()
                origins[at] = origin(port, **accepted)

        restart_origins(SHARED_SECRET=NEW_SECRET, SHARED_SECRET_PREVIOUS=SECRET)
        gateways[1] = Gateway(folder, database, secret=NEW_SECRET)
        old, gateways[0] = gateways[0], None
        old.stop()
        restart_origins(SHARED_SECRET=NEW_SECRET)
    check(len(asking.statuses) > 20 and set(asking.statuses) == {200}, f"answers while the secret is rotated: {asking.statuses}")
    wrong = Gateway(folder, database)
    status, body = ask(f"{wrong.url}/protected", key)
    check((status, json.loads(body)["code"]) == (502, "origin_rejected_gateway"), f"the old secret: {status} {body}")
    for program in [wrong, gateways[1], *origins]:
        program.stop()


def tokens(folder):
    """An admin token is replaced while both are taken."""
    file = folder / "gateway.toml"
    of = lambda name, token: f'[[admin.tokens]]\nname = "{name}"\nrole = "read-only"\ntoken = "{token}"\n'  # noqa: E731
    for text, taken in [
        (of("old", TOKENS[0]), [True, False]),
        (of("old", TOKENS[0]) + of("new", TOKENS[1]), [True, True]),
        (of("new", TOKENS[1]), [False, True]),
    ]:
        file.write_text(text)
        gateway = Gateway(folder, f"sqlite://{folder}/gateway.db")
        found = [ask(f"{gateway.admin}/v1/consumers", token)[0] == 200 for token in TOKENS]
        check(found == taken, f"tokens taken: {found}, not {taken}, with {text}")
        gateway.stop()


def frameworks(folder):
    """Links and addresses are the client's in each framework, set up as the README says."""
    readme = (ROOT / "README.md").read_text()
    for words in ['ALLOWED_HOSTS = ["api.example.com"]', "USE_X_FORWARDED_HOST = True", "--proxy-headers --forwarded-allow-ips"]:
        check(words in readme, f"the README does not say {words}")
    proxied = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "Host": "api.example.com"}
    for framework in ["django", "fastapi", "flask"]:
        for keeps_host in [True, False]:
            if framework == "fastapi" and not keeps_host:
                continue  # uvicorn reads no X-Forwarded-Host: it needs the setting
            port = free_port()
            arguments = ["--proxy-headers", "--forwarded-allow-ips=127.0.0.1"] if framework == "fastapi" else ["--no-proxy-headers"]
            origin = Program(
                [sys.executable, "-m", "uvicorn", "--factory", "backends:app", "--port", str(port), *arguments],
                folder,
                lambda: ask(f"http://127.0.0.1:{port}/")[0] == 401,  # noqa: B023
                PYTHONPATH=f"{ROOT}/tests/operate:{ROOT}/examples/litestar",
                SHARED_SECRET=SECRET,
                FRAMEWORK=framework,
                **({} if keeps_host else {"NO_HOST": "1"}),
            )
            gateway = Gateway(
                folder, f"sqlite://{folder}/gateway.db", f"http://127.0.0.1:{port}",
                GATEWAY__ORIGIN__PRESERVE_HOST=str(keeps_host).lower(), GATEWAY__LISTEN__TRUSTED_PROXIES="127.0.0.1",
            )  # fmt: skip
            key = gateway.key("ada")
            status, body = ask(f"{gateway.url}/where", key, **proxied)
            check(status == 200, f"{framework}, host kept {keeps_host}: {status} {body[:300]}\n{origin.log.read_text()[-1500:]}")
            seen = json.loads(body)
            wanted = {"url": "https://api.example.com/where", "user": "ada"} | ({} if framework == "django" else {"client": "203.0.113.7"})
            check(seen == wanted, f"{framework}, host kept {keeps_host}: {seen}")
            gateway.stop()
            origin.stop()


def main():
    try:
        for what in [units, kubernetes, drains, sqlite, postgresql, secrets, tokens, frameworks]:
            if sys.argv[1:] and what.__name__ not in sys.argv[1:]:
                continue
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="postern-operate-") as folder:
                what(Path(folder))
            print(f"operate: {what.__name__} ok, {time.monotonic() - begun:.1f} s", flush=True)
    finally:
        Program.stop_all()


main()
