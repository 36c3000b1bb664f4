#!/usr/bin/env python3
"""Has a real provider of OpenID Connect issue tokens, and presents them to the gateway; then the provider changes its key."""

import http.client
import http.server
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
from oidc_provider_mock import run_server_in_thread  # noqa: E402

GATEWAY = Path(__file__).parents[2] / "target/debug/gateway"
TOKEN = "oidc-51d07be84a639f2c-admin"
REDIRECT = "https://client.example/callback"


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers with the name that the gateway says the caller has."""

    def do_GET(self):
        body = (self.headers.get("x-consumer-username") or "").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def id_token(issuer: str) -> str:
    """Logs a person in, as a browser and a client do."""
    host = urllib.parse.urlsplit(issuer).netloc
    asked = urllib.parse.urlencode(
        {"client_id": "app", "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid", "nonce": os.urandom(8).hex()}
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection(host)
    connection.request("POST", f"/oauth2/authorize?{asked}", "sub=alice", form)
    answer = connection.getresponse()
    answer.read()
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)["code"][0]
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": "app", "client_secret": "any"}
    answer = urllib.request.urlopen(f"{issuer}/oauth2/token", urllib.parse.urlencode(body).encode())
    return json.load(answer)["id_token"]


def call(url: str, token: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what: str, holds) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def free_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), Backend) as server:
        return server.server_port


def main() -> None:
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    public, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory, run_server_in_thread() as provider:
        port = provider.server_port
        issuer = f"http://localhost:{port}"
        settings = f"""
[[jwt.issuers]]
name = "provider"
issuer = "{issuer}"
audiences = ["app"]
cooldown = "100ms"

[[routes]]
auth = ["jwt:provider"]
"""
        Path(directory, "gateway.toml").write_text(settings)
        environment = {
            "SHARED_SECRET": "oidc-9f2c51d07be84a63-shared",
            "ADMIN_TOKEN": TOKEN,
            "ORIGIN_URL": f"http://127.0.0.1:{backend.server_port}",
            "DATABASE_URL": f"sqlite://{directory}/gateway.db",
            "GATEWAY__LISTEN__ADDRESS": f"127.0.0.1:{public}",
            "GATEWAY__ADMIN__ADDRESS": f"127.0.0.1:{admin}",
        }
        gateway = subprocess.Popen([GATEWAY, "serve"], cwd=directory, env=environment, stdout=subprocess.DEVNULL)
        try:
            def is_ready() -> bool:
                try:
                    return call(f"http://127.0.0.1:{admin}/readyz", "")[0] == 200
                except OSError:
                    return False

            until("the gateway is ready", is_ready)
            url = f"http://127.0.0.1:{public}/"
            first = id_token(issuer)
            until("a token of the provider passes", lambda: call(url, first) == (200, "alice"))
            assert call(url, first[:-8] + "AAAAAAAA")[0] == 401
            provider.shutdown()
            provider.server_close()
            assert call(url, first) == (200, "alice"), "the keys serve while the provider is away"
            with run_server_in_thread(port=port):
                second = id_token(issuer)

                def is_rotated() -> bool:
                    request = urllib.request.Request(
                        f"http://127.0.0.1:{admin}/v1/issuers/provider/refresh", b"", {"authorization": f"Bearer {TOKEN}"}
                    )
                    with urllib.request.urlopen(request) as answer:
                        assert json.load(answer)["name"] == "provider"
                    return call(url, second) == (200, "alice")

                until("a token of the new key passes", is_rotated)
                assert call(url, first)[0] == 401, "the old key is gone"
        finally:
            gateway.terminate()
            gateway.wait()
    print("tokens of a real provider pass, before and after it changed its key")


if __name__ == "__main__":
    main()
