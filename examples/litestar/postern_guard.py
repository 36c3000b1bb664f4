"""Lets in only requests that bring the secret shared with the gateway.

Plain ASGI without dependencies, so it guards an application of any ASGI framework. Wrap the whole application:
middleware of a framework can run after routing, and then answers for unknown paths pass it by.
"""

import hashlib
import hmac
import json
import logging
import os
import re

from postern_secrets import accepted_digests

log = logging.getLogger(__name__)

SECRET = b"x-shared-secret"
IDENTITY = {b"x-consumer-id", b"x-consumer-username", b"x-consumer-custom-id", b"x-consumer-groups",
            b"x-consumer-metadata", b"x-credential-identifier", b"x-anonymous-consumer"}  # fmt: skip
# Names that begin so are the gateway's, whether it sets them or not.
FAMILIES = (b"x-consumer-", b"x-credential-")
REFUSALS = {
    "unconfigured": (500, "Internal Server Error", "Server configuration error"),
    "missing": (401, "Unauthorized", "No secret provided"),
    "invalid": (401, "Unauthorized", "Invalid secret"),
}


class RequireSharedSecret:
    """Reads the secrets from the environment; raises ValueError when one is set and unusable."""

    def __init__(self, app, exempt=()):
        self.app, self.exempt, self.accepted = app, frozenset(exempt), accepted_digests(os.environ)
        for path in self.exempt:
            if not re.fullmatch(r"/[A-Za-z0-9/_-]*", path):  # a router could read anything else differently
                raise ValueError(f"{path!r} cannot be exempt: only letters, digits, '/', '-' and '_' can, after a '/'")

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        verdict = self._verdict(scope)
        if verdict in REFUSALS:
            return await _refuse(verdict, scope, receive, send)
        # The secret leaves in every spelling; identity stays under its own names, and only where it is proven.
        proven = IDENTITY if verdict == "proven" else frozenset()
        headers = [(n, v) for n, v in scope["headers"] if n.lower() in proven or not _is_privileged(n)]
        return await self.app({**scope, "headers": headers}, receive, send)

    def _verdict(self, scope):
        path = scope["path"]
        # Also as it was sent: a path that only means an exempt one once it is decoded is not exempt.
        if path in self.exempt and scope.get("raw_path") in (None, path.encode()):
            return "exempt"
        if not self.accepted:
            return "unconfigured"
        # HTTP does not count the white space around a value as part of it, and not every server takes it off.
        values = [value.strip(b" \t") for name, value in scope["headers"] if name.lower() == SECRET]
        if values in ([], [b""]):
            return "missing"
        if len(values) > 1:  # even when all are right: two readers could each take another one
            return "invalid"
        digest = hashlib.sha256(values[0]).digest()
        # A list and no generator: every accepted secret is compared, also after a match.
        return "proven" if any([hmac.compare_digest(digest, accepted) for accepted in self.accepted]) else "invalid"


def _is_privileged(name):
    """In every spelling: CGI turns `-` into `_`, and some servers do so with every other mark."""
    spelled = re.sub(rb"[^a-z0-9]", b"-", name.lower())
    return spelled == SECRET or spelled in IDENTITY or spelled.startswith(FAMILIES)


async def _refuse(marker, scope, receive, send):
    status, title, detail = REFUSALS[marker]
    path = scope.get("raw_path") or scope["path"].encode()
    log.warning("refused %s %r: shared secret %s", scope.get("method", "websocket"), path, marker)
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail,
               "instance": path.decode("latin-1"), "code": f"shared_secret_{marker}"}  # fmt: skip
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode()),
               (b"cache-control", b"no-store"), (b"x-origin-guard", marker.encode())]  # fmt: skip
    if status == 401:
        headers.append((b"www-authenticate", b'SharedSecret realm="origin"'))
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the handshake, which comes before any answer to it
        if "websocket.http.response" not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1008})
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
