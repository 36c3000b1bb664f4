#!/usr/bin/env python3
"""Tries to forge what only the gateway may say, through every proxy of docs/FORWARD-AUTH.md, with the very texts of that page.

A backend answers with the headers that arrived: exactly what the gateway says of the caller, or nothing.
"""

import base64
import contextlib
import json
import posixpath
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import programs
import recipes
from backend import Backend
from programs import ADMIN_TOKEN, SECRET, text_of
from spellings import FAMILIES, IDENTITY, MARKS, PRIVILEGED, cased, is_privileged, marked
from traefik import Traefik

ROUTES = """
[listen]
trusted_proxies = ["127.0.0.1"]

[[routes]]
path = "/orders"
methods = ["GET", "HEAD", "POST"]
scopes = ["orders:read"]
forward_metadata = true

[[routes]]
path = "/open"
forward_metadata = true

[[routes]]
path = "/public"
on_missing_key = "anonymous"

[[routes]]
path = "/preflight"
methods = ["OPTIONS"]
on_missing_key = "anonymous"

[[routes]]
path = "/admin"
hosts = ["admin.example"]
"""
# A text that each proxy could take for something of its own.
CUSTOM_ID = "crm-7 {env.SHARED_SECRET} $host %REQ(authorization)% \"x\" \\\\1"
FORGED = "forged-51d07be84a639f2c"
BAD = "Authorization: Bearer nonsense"


def made(admin, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{admin}{path}", json.dumps(body).encode(), method="POST")
    request.add_header("Authorization", f"Bearer {ADMIN_TOKEN}")
    request.add_header("Content-Type", "application/json")
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        raise SystemExit(f"forward-auth: {path} {body}: {error.read().decode()}") from error


def callers(admin):
    """Each with the line of its key, where it may go, and what the backend has to be told of it."""
    metadata = {"plan": "gold"}
    rich = made(admin, "/v1/consumers", {"name": "acme", "custom_id": CUSTOM_ID, "scopes": ["orders:read"], "metadata": metadata})
    bare = made(admin, "/v1/consumers", {"name": "bare"})
    bound = made(admin, "/v1/consumers", {"name": "bound", "scopes": ["orders:read"], "allowed_ips": ["127.0.0.2"]})
    rich_key, bare_key, bound_key = (made(admin, f"/v1/consumers/{one['id']}/keys", {}) for one in (rich, bare, bound))
    said = lambda consumer, key: {  # noqa: E731
        "x-consumer-id": consumer["id"], "x-consumer-username": consumer["name"], "x-credential-identifier": key["id"],
    }  # fmt: skip
    more = {
        "x-consumer-custom-id": CUSTOM_ID,
        "x-consumer-groups": "orders:read",
        "x-consumer-metadata": base64.urlsafe_b64encode(json.dumps(metadata, separators=(",", ":")).encode()).decode().rstrip("="),
    }
    line = lambda key: f"Authorization: Bearer {key['key']}"  # noqa: E731
    table = {
        "a key with every value": (line(rich_key), "/orders/7?a=b%2Fc", said(rich, rich_key) | more),
        "a key with few": (line(bare_key), "/open/x", said(bare, bare_key)),
        "nobody": (None, "/public/x", {"x-anonymous-consumer": "true"}),
    }
    return table, line(rich_key), line(bound_key)


def check_arrived(where, arrived, told, secret=None):
    """Exactly what the gateway says, each once under its own name; nothing of the client, and no key."""
    found = {}
    for name, value in arrived["headers"]:
        assert FORGED not in value, f"{where}: {name}: {value} arrived"
        assert name.lower() != "authorization" and "pstn_" not in value, f"{where}: the key arrived in {name}"
        if is_privileged(name):
            assert name.lower() in PRIVILEGED and name.lower() not in found, f"{where}: {name}: {value} arrived"
            found[name.lower()] = value
    # Empty is nothing: where a proxy can only replace.
    found = {name: value for name, value in found.items() if value}
    wanted = told | ({"x-shared-secret": secret} if secret else {})
    assert found == wanted, f"{where}: {found} arrived, not {wanted}"


def attempts(names, marks):
    """Header lines with a forged value: one spelling at a time, and some ways to get around a removal."""
    for name in names:
        yield from ([f"{spelling}: {FORGED}"] for spelling in cased(name))
        yield from ([f"{spelling}: {FORGED}"] for spelling in marked(name, [mark for mark in marks if mark in "_."]))
        yield [f"{name}: {FORGED}", f"{name.title()}: {FORGED}"]
    # The rarer marks, some dozens in one request.
    rare = [spelling for name in names for spelling in marked(name, [mark for mark in marks if mark not in "_."])]
    yield from ([f"{name}: {FORGED}" for name in rare[at : at + 40]] for at in range(0, len(rare), 40))
    yield [f"{name}:{FORGED}" for name in names if name in PRIVILEGED]


def forging(proxy, table, secret=None, names=tuple(PRIVILEGED + FAMILIES), marks=MARKS):
    """Nothing forged arrives, and whoever may pass passes; how many attempts there were."""
    count = 0
    for who, (key, target, told) in table.items():
        for lines in attempts(names, marks):
            count += 1
            where = f"{proxy.name}, {who}, {lines}"
            status, _, arrived = proxy.send("GET", target, [*([key] if key else []), *lines])
            # nginx cannot remove headers by their beginning: the gateway refuses what the proxy does not know of its families.
            unknown = any(line.partition(":")[0].lower() in FAMILIES for line in lines)
            if proxy.name.startswith("nginx") and unknown:
                assert (status, arrived) == (403, None), f"{where}: {status} {arrived}"
                continue
            assert status == 200 and arrived is not None, f"{where}: {status}"
            assert arrived["target"] == target, f"{where}: {arrived['target']}"
            check_arrived(where, arrived, told, secret)
    return count


def refusing(proxy, table):
    """Whoever is refused does not arrive, whatever is forged beside."""
    lines = [f"{name}: {FORGED}" for name in IDENTITY]
    for target in ["/orders/7", "/open/x"]:
        for key in [[], [BAD], ["Authorization: Basic eDp5"]]:
            status, headers, arrived = proxy.send("GET", target, key + lines)
            assert (status, arrived) == (401, None), f"{proxy.name}: {target} {key}: {status} {arrived}"
            assert headers.get("www-authenticate", "").startswith("Bearer realm="), f"{proxy.name}: {headers}"
    status, _, arrived = proxy.send("GET", "/public/x", [BAD, *lines])
    assert (status, arrived) == (401, None), f"{proxy.name}: a bad key on an anonymous route: {status}"


def naming(proxy, key):
    """Which request is in question, no client says: it is the one that the proxy forwards."""
    elsewhere = [
        "X-Original-URI: /public/x", "X-Original-Method: GET", "X-Forwarded-Uri: /public/x", "X-Forwarded-Method: GET",
        "X-Original-URL: http://api.example/public/x", "X-Forwarded-Host: admin.example", "X-Rewrite-URL: /public/x",
        "X-Original-Url: /public/x", "X_Original_URI: /public/x", "X_Forwarded_Uri: /public/x", "X-HTTP-Method-Override: GET",
        "X-Envoy-Original-Path: /public/x", "Forwarded: host=admin.example",
    ]  # fmt: skip
    sets = [[line] for line in elsewhere] + [elsewhere]
    for method, target, keys in [
        ("GET", "/orders/7", []), ("DELETE", "/orders/7", [key]), ("GET", "/elsewhere", [key]), ("GET", "/admin/x", [key]),
        ("GET", "/orders/%2e%2e/open", [key]), ("OPTIONS", "/orders/7", []), ("GET", "/%6frders%252F7", []), ("PUT", "/preflight", []),
    ]:  # fmt: skip
        for lines in [[], *sets]:
            status, _, arrived = proxy.send(method, target, keys + lines)
            assert arrived is None and status in (400, 401, 403, 404, 405), f"{proxy.name}: {method} {target} {lines}: {status}"
    for lines in sets:
        status, _, arrived = proxy.send("GET", "/orders/7", [key, *lines])
        assert status in (200, 403), f"{proxy.name}: {lines}: {status}"
        assert arrived is None or arrived["target"] == "/orders/7"


def paths(proxy):
    """What arrives without a key is below the one route that takes nobody's, however the path is written."""
    for target in [
        "/public#/../orders/7", "/orders/7#/../../public", "/public/../orders/7", "/public/%2e%2e/orders/7", "/public/%2E./orders/7",
        "//public/../orders/7", "/orders/7?/public", "/public/..%2forders/7", "/public\\..\\orders/7", "/public/%252e%252e/orders/7",
        "/public?#/../orders/7", "http://api.example/orders/7", "http://admin.example/admin/x", "http://api.example/public/../orders/7",
        "*", "orders/7", "?/public", "/public/./../orders/7", "/%70ublic/..", "/PUBLIC/../orders/7",
    ]:  # fmt: skip
        status, _, arrived = proxy.send("GET", target)
        if arrived is None:
            assert status in (400, 401, 403, 404, 405), f"{proxy.name}: {target}: {status}"
            continue
        path = posixpath.normpath(urllib.parse.unquote(arrived["target"].partition("?")[0]))
        assert path.startswith("/public") and "#" not in arrived["target"], f"{proxy.name}: {target} arrived as {arrived['target']}"


def passing(proxy, key):
    """Methods, bodies, hosts, paths and queries are judged as they are forwarded."""
    for method, target, host, keys, body in [
        ("POST", "/orders/7?a=b&a=%20", "api.example", [key], b"0123456789"),
        ("HEAD", "/orders/7", "api.example", [key], b""),
        ("OPTIONS", "/preflight", "api.example", ["Access-Control-Request-Method: GET", "Origin: https://app.example"], b""),
        ("GET", "/admin/x?y", "admin.example", [key], b""),
        ("GET", "/orders/%37%7E?c=%2F%3f", "api.example", [key], b""),
    ]:
        status, _, arrived = proxy.send(method, target, keys, host=host, body=body)
        assert status == 200, f"{proxy.name}: {method} {target}: {status}"
        assert (arrived["method"], arrived["target"], arrived["body"]) == (method, target, body.decode()), f"{proxy.name}: {arrived}"


def addresses(proxy, key):
    """A key for one address only works from there, whatever the client says of its own."""
    for source, lines, wanted in [
        ("127.0.0.2", [], 200),
        ("127.0.0.2", ["X-Forwarded-For: 127.0.0.3"], 200),
        ("127.0.0.3", [], 403),
        ("127.0.0.3", ["X-Forwarded-For: 127.0.0.2"], 403),
        ("127.0.0.3", ["X-Forwarded-For: 127.0.0.2, 127.0.0.1", "X-Real-IP: 127.0.0.2"], 403),
    ]:
        status, _, arrived = proxy.send("GET", "/orders/7", [key, *lines], source=source)
        assert (status, arrived is None) == (wanted, wanted != 200), f"{proxy.name}: {source} {lines}: {status}"


def nominated(proxy, key, told):
    """A client that has the proxy drop headers (`Connection`) can lose what is said of it, not change it."""
    for name in PRIVILEGED:
        for lines in [[f"Connection: {name}"], [f"Connection: close, {name}", f"{name}: {FORGED}"]]:
            status, _, arrived = proxy.send("GET", "/orders/7", [key, *lines])
            assert status == 200, f"{proxy.name}: {lines}: {status}"
            lost = {n: v for n, v in told.items() if n != name}
            kept = {n.lower(): v for n, v in arrived["headers"] if is_privileged(n) and v}
            assert kept in (told, lost), f"{proxy.name}: {lines}: {kept}"


def upgrading(proxy, key, told):
    """An upgrade is a request like any other: what passes at all says what the gateway says."""
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    forged = [f"{name}: {FORGED}" for name in PRIVILEGED]
    status, _, arrived = proxy.send("GET", "/orders/7", [key, *upgrade, *forged])
    assert (status == 200) == (arrived is not None), f"{proxy.name}: an upgrade: {status}"
    if arrived:
        check_arrived(f"{proxy.name}, an upgrade", arrived, told)
    status, _, arrived = proxy.send("GET", "/orders/7", [*upgrade, *forged])
    assert status in (401, 403) and arrived is None, f"{proxy.name}: an upgrade without a key: {status}"


def with_proof(folder):
    """The documented texts with what proves to the backend that a request came this way."""
    (folder / "postern-secret.conf").write_text(f'proxy_set_header X-Shared-Secret "{SECRET}";\n')
    exchanged = {
        "nginx": ('proxy_set_header X-Shared-Secret "";', text_of("nginx-proof").replace("/etc/nginx", str(folder))),
        "caddy": ("reverse_proxy 127.0.0.1:9000\n", text_of("caddy-proof")),
        "envoy": ("            virtual_hosts:\n", text_of("envoy-proof") + "            virtual_hosts:\n"),
    }
    for name, (line, proof) in exchanged.items():
        text = text_of(name)
        assert text.count(line) == 1, f"{name}: {line}"
        yield name, text.replace(line, proof)


def main():
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        folder, backend = Path(directory), Backend()
        admin = stack.enter_context(programs.gateway(folder, ROUTES))
        table, key, bound = callers(admin)
        start = {"nginx": programs.nginx, "caddy": programs.caddy, "envoy": programs.envoy}
        run = lambda kind, text, name: stack.enter_context(start[kind](folder, admin, Backend(), text, name))  # noqa: E731
        documented = [run(kind, text_of(kind), kind) for kind in start] + [Traefik(admin)]
        proven = [run(kind, text, f"{kind}-proof") for kind, text in with_proof(folder)]
        gateway_api = run("envoy", recipes.envoy_gateway(), "envoy-gateway")
        external_auth = run("envoy", recipes.external_auth(), "external-auth")

        count = sum(forging(proxy, table) for proxy in documented)
        count += sum(forging(proxy, table, SECRET, names=PRIVILEGED, marks="_") for proxy in proven)
        # These know exact names only, as the page says; the first drops names with "_".
        count += forging(gateway_api, table, names=PRIVILEGED, marks="_")
        count += forging(external_auth, table, names=PRIVILEGED, marks="")
        every = documented + proven + [gateway_api, external_auth]
        for proxy in every:
            refusing(proxy, table)
            passing(proxy, key)
        for proxy in documented + [gateway_api, external_auth]:
            naming(proxy, key)
            paths(proxy)
            addresses(proxy, bound)
        told = table["a key with every value"][2]
        for proxy in documented:
            nominated(proxy, key, told)
            upgrading(proxy, key, told)
        print(f"forward-auth: {count} attempts to forge through {len(every)} proxies")


if __name__ == "__main__":
    main()
