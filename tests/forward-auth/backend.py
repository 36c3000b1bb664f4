"""A backend that answers with what it was sent, and the client that asks through a proxy."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
SECONDS = 20


class Recorder(BaseHTTPRequestHandler):
    """Answers every method with the request's line, header lines and body, as JSON."""

    protocol_version = "HTTP/1.1"

    def record(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = {"method": self.command, "target": self.path, "headers": list(self.headers.items()), "body": body.decode()}
        self.server.arrived.append(seen)
        answer = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def log_message(self, *_):
        pass


for method in METHODS:
    setattr(Recorder, f"do_{method}", Recorder.record)


class Backend(ThreadingHTTPServer):
    """Listens until the process ends; `arrived` has every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Recorder)
        self.arrived = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]


def ask(port, method, target, lines=(), host="api.example", body=b"", source="127.0.0.1"):
    """Sends exactly these header lines, with `Host` and a length; returns status, headers and body of the answer."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, *([f"Content-Length: {len(body)}"] if body else []), "", ""]
    with socket.create_connection(("127.0.0.1", port), SECONDS, source_address=(source, 0)) as stream:
        stream.sendall("\r\n".join(head).encode("latin-1") + body)
        return answer(stream, method)


def answer(stream, method):
    """Reads one answer: its length is announced, chunked, or ends with the connection."""
    reader = stream.makefile("rb")
    status = int(reader.readline().split()[1])
    headers = {}
    while (line := reader.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while (size := int(reader.readline(), 16)) > 0:
            body += reader.read(size)
            reader.readline()
    elif "content-length" in headers:
        body = reader.read(int(headers["content-length"]))
    else:
        body = reader.read()
    return status, headers, body
