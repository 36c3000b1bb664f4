"""An ASGI origin that says in `x-handler` which route took the request."""

from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route, Router


class Named:
    """An ASGI app that answers with its name; with `rest`, methods that only read alone."""

    def __init__(self, name, rest=None):
        self.name, self.rest = name, rest

    async def __call__(self, scope, receive, send):
        name = self.name
        if self.rest and scope["method"] not in ("GET", "HEAD"):
            name = self.rest
        headers = [(b"x-handler", name.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def covering(path, app):
    """The path itself and what is below it."""
    return [Route(path, app), Mount(path, app)]


def paths(rest):
    return [
        *covering("/api/admin", Named("admin")),
        *covering("/v1/users:purge", Named("purge")),
        *covering("/files", Named("files")),
        *covering("/doc", Named("doc", rest)),
    ]


app = Starlette(
    routes=[
        Host("admin.example.com", Router([*paths("admin-host"), Mount("/", Named("admin-host"))])),
        Host(
            "closed.example.com",
            Router([*paths("closed"), *covering("/public", Named("public")), Mount("/", Named("closed"))]),
        ),
        *paths("open"),
        Mount("/", Named("open")),
    ]
)
