"""A Litestar backend behind the gateway. Run it with `uvicorn app:app`; see README.md."""

import base64
import json

from litestar import HttpMethod, Litestar, Request, WebSocket, get, route, websocket
from litestar.exceptions import WebSocketDisconnect
from postern_guard import RequireSharedSecret


@get("/protected", sync_to_thread=False)
def protected() -> dict[str, str]:
    return {"message": "Access granted"}


@get("/whoami", sync_to_thread=False)
def whoami(request: Request) -> dict:
    """The caller, as the gateway proved and forwarded it; behind the guard no client can set these headers. Empty is none."""
    headers = request.headers
    if not (consumer_id := headers.get("x-consumer-id")):
        consumer = None
    else:
        metadata = headers.get("x-consumer-metadata")
        consumer = {
            "id": consumer_id,
            "username": headers.get("x-consumer-username"),
            "custom_id": headers.get("x-consumer-custom-id") or None,
            "scopes": [scope.strip() for scope in headers.get("x-consumer-groups", "").split(",") if scope.strip()],
            "metadata": json.loads(base64.urlsafe_b64decode(metadata + "=" * (-len(metadata) % 4))) if metadata else None,
            "credential_id": headers.get("x-credential-identifier"),
        }
    return {"anonymous": consumer is None, "consumer": consumer, "request_id": headers.get("x-request-id")}


@route("/echo", http_method=[HttpMethod.GET, HttpMethod.POST], sync_to_thread=False, status_code=200)
def echo(request: Request) -> dict:
    """The headers that arrived, by which the tests see that the guard took the secret off."""
    headers: dict[str, list[str]] = {}
    for name, value in request.scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {"method": request.method, "path": request.scope["path"], "headers": headers}


@websocket("/ws")
async def ws(socket: WebSocket) -> None:
    """Sends every message back. The guard has let it in: an upgrade is a request too."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    return {"status": "ok"}


# Around the whole application, so that no answer of Litestar's own, such as 404, goes out without the secret.
app = RequireSharedSecret(Litestar([protected, whoami, echo, ws, healthz]), exempt=["/healthz"])
