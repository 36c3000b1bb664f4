#!/usr/bin/env python3
"""Runs the programs of examples/own-gateway and examples/own-origin as their authors would: the whole command line in a gateway
of another name, its own section of settings, its own check before the origin, and the guard in a backend of one's own."""

import contextlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent.parent / "target/debug"
SECRET = "extend-9f2c51d07be84a63"
SECONDS = 60


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


def until(what, holds):
    by = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < by, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)
    return found


def ask(url, method="GET", **headers):
    """Status, headers and text of an answer; 0 where there is no connection."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, {}, ""


class Place:
    """Both programs on free ports, with a store of their own."""

    def __init__(self, folder, settings):
        self.folder, self.running = Path(folder), []
        self.settings = self.folder / "gateway.toml"
        self.settings.write_text(settings)
        address = free_address()
        self.origin = f"http://{address}"
        self.variables = {
            "PATH": os.environ["PATH"], "SHARED_SECRET": SECRET, "ORIGIN_LISTEN": address, "ORIGIN_URL": self.origin,
            "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0", "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
            "DATABASE_URL": f"sqlite://{folder}/gateway.db",
        }  # fmt: skip

    def start(self):
        self.spawn("own-origin")
        until("the origin listens", lambda: ask(self.origin)[0])
        self.spawn("own-gateway", "serve")
        self.gateway = self.logged(r" listening on (http://\S+)")
        self.admin = self.logged(r"admin listening on (http://\S+)")
        until("the gateway is ready", lambda: ask(f"{self.admin}/readyz")[0] == 200)

    def spawn(self, program, *arguments):
        with open(self.folder / f"{program}.out", "w") as out, open(self.folder / f"{program}.log", "w") as log:
            self.running.append(
                subprocess.Popen(
                    [PROGRAMS / program, *arguments], cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL, stdout=out,
                    stderr=log,
                )  # fmt: skip
            )

    def logged(self, pattern):
        log = self.folder / "own-gateway.log"
        return until(pattern, lambda: (found := re.search(pattern, log.read_text())) and found[1])

    def access_log(self):
        lines = (self.folder / "own-gateway.out").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def run(self, *arguments):
        return subprocess.run(
            [PROGRAMS / "own-gateway", *arguments], cwd=self.folder, env=self.variables, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip

    def key(self, consumer):
        made = self.run("keys", "create", "--consumer", consumer, "--json")
        assert made.returncode == 0, made
        return json.loads(made.stdout)["key"]

    def stop(self):
        for program in reversed(self.running):
            program.send_signal(signal.SIGTERM)
        for program in self.running:
            program.wait(SECONDS)


@contextlib.contextmanager
def place(settings, start=True):
    with tempfile.TemporaryDirectory() as folder:
        here = Place(folder, settings)
        try:
            if start:
                here.start()
            yield here
        finally:
            here.stop()


FROZEN = '[own.partner]\nfrozen = ["slow"]\n'


def test_the_check_of_ones_own_refuses_with_its_code_and_sets_a_header_that_no_client_can_send():
    with place(FROZEN) as here:
        made = here.run("consumers", "create", "acme", "--tag", "tier=gold")
        assert made.returncode == 0, made
        acme, slow = (f"Bearer {here.key(name)}" for name in ("acme", "slow"))
        orders = f"{here.gateway}/orders"
        # Around the gateway nobody is let in, with whatever header.
        assert ask(f"{here.origin}/orders", x_partner_tier="gold")[0] == 401
        assert json.loads(ask(orders)[2])["code"] == "api_key_missing"
        status, _, text = ask(orders, authorization=acme)
        assert (status, text) == (200, "orders of acme, tier gold\n"), (status, text)
        status, _, text = ask(orders, authorization=slow, x_partner_tier="gold", x_consumer_username="acme")
        assert (status, text) == (200, "orders of slow, tier basic\n"), (status, text)
        status, headers, text = ask(orders, "DELETE", authorization=slow)
        problem = json.loads(text)
        assert (status, headers["content-type"]) == (403, "application/problem+json"), headers
        assert (problem["code"], problem["title"]) == ("partner_frozen", "This partner may only read"), problem
        assert problem["type"] == "urn:postern:problem:own:partner_frozen", problem
        assert 'postern_refusals_total{code="own_rule"} 1\n' in ask(f"{here.admin}/metrics")[2]
        lines = lambda: [line for line in here.access_log() if line.get("code") == "partner_frozen"]
        line = until("the access log has the refusal", lines)[0]
        assert (line["status"], line["cause"]) == (403, "own.partner"), line


def test_the_section_of_ones_own_is_checked_shown_and_taken_over_like_any_other():
    with place("", start=False) as here:
        for settings, said in (
            ("[own.partner]\nfrosen = []\n", "own.partner.frosen (from gateway.toml): there is no such setting; here are: frozen, signed_route, secret_file"),
            ("[own.partner]\nfrozen = 1\n", "own.partner.frozen (from gateway.toml): accepted here is a list"),
            (
                '[own.partner]\nfrozen = ["a", ""]\n',
                'own.partner.frozen (from gateway.toml): accepted are names of consumers, such as "acme"',
            ),
            ('[own.partner]\nsigned_route = "a"\n', "own.partner.secret_file (from the settings): accepted is a file with 32 bytes"),
            ("[own.other]\na = 1\n", "there is no such setting; here are: partner"),
        ):  # fmt: skip
            here.settings.write_text(settings)
            for command in ("check", "serve"):
                refused = here.run(command)
                assert refused.returncode == 2 and said in refused.stderr, refused
                assert refused.stderr.startswith("gateway: a problem with the settings:"), refused
        here.settings.write_text(FROZEN)
        checked = here.run("check")
        assert checked.returncode == 0 and '[own.partner]\nfrozen = ["slow"]' in checked.stdout, checked

        here.start()
        acme = f"Bearer {here.key('acme')}"
        delete = lambda: ask(f"{here.gateway}/orders", "DELETE", authorization=acme)
        assert delete()[0] == 404
        # Whole or not at all: what is wrong changes nothing.
        here.settings.write_text('[own.partner]\nfrozen = ["acme", ""]\n')
        here.running[1].send_signal(signal.SIGHUP)
        here.logged(r"(own\.partner\.frozen \(from)")
        assert delete()[0] == 404
        here.settings.write_text('[own.partner]\nfrozen = ["acme"]\n')
        here.running[1].send_signal(signal.SIGHUP)
        here.logged(r"in force \(.*\): (own\.partner\.frozen)")
        assert json.loads(delete()[2])["code"] == "partner_frozen"


SIGNED = """
[[routes]]
path = "/orders"
name = "partners"
on_missing_key = "anonymous"
[[routes]]
path = "/elsewhere"
[own.partner]
signed_route = "partners"
secret_file = "secret"
"""


def test_a_credential_of_ones_own_lets_in_and_refuses_and_reaches_no_origin():
    with place(SIGNED, start=False) as here:
        secret = os.urandom(32)
        (here.folder / "secret").write_bytes(secret)
        here.start()
        host = here.gateway.removeprefix("http://")

        def signed(name, secret=secret, line=f"GET {host} /orders"):
            signature = hmac.new(secret, f"{name} {line}".encode(), "sha256").hexdigest()
            return {"x_partner_signature": f"{name}:{signature}"}

        key = {"authorization": f"Bearer {here.key('acme')}"}
        for headers, answered, found in (
            (signed("umbrella"), 200, "orders of umbrella, tier none\n"),
            (key, 200, "orders of acme, tier basic\n"),
            # A client cannot say who it is, and the origin has the name from the check alone.
            ({**signed("umbrella"), "x_partner": "acme"}, 200, "orders of umbrella, tier none\n"),
            ({}, 401, "signature_missing"),
            ({"x_partner": "umbrella"}, 401, "signature_missing"),
            ({"x_partner_signature": "umbrella:00"}, 401, "signature_invalid"),
            ({"x_partner_signature": "umbrella"}, 401, "signature_invalid"),
            (signed("umbrella", secret=bytes(32)), 401, "signature_invalid"),
            (signed("umbrella", line=f"DELETE {host} /orders"), 401, "signature_invalid"),
            ({"authorization": "Bearer x", **signed("umbrella")}, 401, "api_key_invalid"),
        ):  # fmt: skip
            status, told, text = ask(f"{here.gateway}/orders", **headers)
            assert status == answered, (headers, status, text)
            assert (text if status == 200 else json.loads(text)["code"]) == found, (headers, text)
            if found.startswith("signature_"):
                assert told["www-authenticate"] == 'PartnerSignature realm="partners"', told
            if status == 200:
                assert "x-partner-signature" in told["vary"], told
        # Nowhere else is a signature worth anything.
        assert ask(f"{here.gateway}/elsewhere", **signed("umbrella"))[0] == 401
        # A new secret is in force with its file.
        (here.folder / "secret").write_bytes(os.urandom(32))
        here.running[1].send_signal(signal.SIGHUP)
        here.logged(r"in force \(.*\): (own\.partner)")
        assert ask(f"{here.gateway}/orders", **signed("umbrella"))[0] == 401


def test_every_command_works_in_a_gateway_of_ones_own():
    with place(FROZEN) as here:
        key = here.key("acme")
        found = here.run("keys", "list", "--json")
        assert found.returncode == 0, found
        number = re.search(r'"(key_[^"]+)"', found.stdout)[1]
        orders = f"{here.gateway}/orders"
        assert ask(orders, authorization=f"Bearer {key}")[0] == 200
        revoked = here.run("keys", "revoke", number)
        assert revoked.returncode == 0, revoked
        assert json.loads(ask(orders, authorization=f"Bearer {key}")[2])["code"] == "api_key_revoked"
        assert here.run("secret", "new").returncode == 0
        assert here.run("--version").stdout.startswith("gateway "), here.run("--version")


def main():
    cases = [
        test_the_check_of_ones_own_refuses_with_its_code_and_sets_a_header_that_no_client_can_send,
        test_the_section_of_ones_own_is_checked_shown_and_taken_over_like_any_other,
        test_a_credential_of_ones_own_lets_in_and_refuses_and_reaches_no_origin,
        test_every_command_works_in_a_gateway_of_ones_own,
    ]
    for case in cases:
        case()
    print(f"extend: {len(cases)} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
