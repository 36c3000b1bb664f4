"""The same backend in three frameworks, set up as the README says, behind the guard of examples/litestar."""

import os


def django():
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["api.example.com"],
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        USE_X_FORWARDED_HOST=bool(os.environ.get("NO_HOST")),
        ROOT_URLCONF=__name__,
        SECRET_KEY="of-the-tests",
    )
    from django.core.asgi import get_asgi_application
    from django.http import JsonResponse
    from django.urls import path

    def where(request):
        return JsonResponse({"url": request.build_absolute_uri("/where"), "user": request.headers["x-consumer-username"]})

    globals()["urlpatterns"] = [path("where", where)]
    return get_asgi_application()


def fastapi():
    from fastapi import FastAPI, Request

    app = FastAPI()

    @app.get("/where")
    async def where(request: Request):
        return {"url": str(request.url_for("where")), "user": request.headers["x-consumer-username"], "client": request.client.host}

    return app


def flask():
    from asgiref.wsgi import WsgiToAsgi
    from flask import Flask, request, url_for
    from werkzeug.middleware.proxy_fix import ProxyFix

    app = Flask(__name__)
    # The gateway, and one trusted proxy before it.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=2, x_proto=1, **({"x_host": 1} if os.environ.get("NO_HOST") else {}))

    @app.get("/where")
    def where():
        url = url_for("where", _external=True)
        return {"url": url, "user": request.headers["x-consumer-username"], "client": request.remote_addr}

    return WsgiToAsgi(app)


def app():
    from postern_guard import RequireSharedSecret

    return RequireSharedSecret({"django": django, "fastapi": fastapi, "flask": flask}[os.environ["FRAMEWORK"]]())
