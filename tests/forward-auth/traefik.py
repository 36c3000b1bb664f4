"""Traefik's ForwardAuth in a few lines: Traefik is in no package that this machine installs, so its requests are made as its
documentation describes them, and the answer is applied as it does, with the options of the documented text.
"""

import re

import yaml

from backend import METHODS, ask
from programs import text_of

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization", "content-length"}


class Traefik:
    """Answers like the proxies that run; a request that passes arrives nowhere but in the answer."""

    name = "traefik"

    def __init__(self, admin):
        self.admin = admin
        options = yaml.safe_load(text_of("traefik"))["http"]["middlewares"]["postern"]["forwardAuth"]
        assert options["trustForwardHeader"] is False
        self.passed_on = {name.lower() for name in options["authRequestHeaders"]}
        self.replaced = re.compile(options["authResponseHeadersRegex"])

    def send(self, method, target, lines=(), host="api.example", body=b"", source="127.0.0.1"):
        assert method in METHODS
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        said = [
            f"X-Forwarded-For: {source}",
            f"X-Forwarded-Method: {method}",
            "X-Forwarded-Proto: http",
            f"X-Forwarded-Host: {host}",
            f"X-Forwarded-Uri: {target}",
        ]
        copied = [f"{name}: {value}" for name, value in headers if name.lower() in self.passed_on]
        status, answered, _ = ask(self.admin, "GET", "/v1/auth", copied + said, host=f"127.0.0.1:{self.admin}")
        if status // 100 != 2:
            return status, answered, None
        kept = [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP and not self.replaced.search(name)]
        kept += [(name, value) for name, value in answered.items() if self.replaced.search(name)]
        return status, answered, {"method": method, "target": target, "headers": kept, "body": body.decode()}
