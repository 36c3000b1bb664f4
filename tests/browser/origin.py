"""An origin that records what arrives, sends an event, and echoes over a WebSocket."""

import base64
import hashlib
import http.server
import threading

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Origin:
    """Runs until the block ends; `arrived` has method, target and headers of every request."""

    def __enter__(self):
        self.arrived = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def _handler(self):
        arrived = self.arrived

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                arrived.append((self.command, self.path, str(self.headers)))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.partition("?")[0]
                if path.endswith("/ws"):
                    self.echo()
                elif path.endswith("/events"):
                    self.send(b"data: hello\n\n", "text/event-stream")
                else:
                    self.send(b"{}", "application/json")

            def send(self, body, media):
                self.send_response(200)
                # Of its own, which the gateway has to replace: twice the header is an error in a browser.
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def echo(self):
                """Agrees to no subprotocol, and sends one short text frame back."""
                key = self.headers["Sec-WebSocket-Key"] + GUID
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", accept)
                self.end_headers()
                self.close_connection = True
                head = self.rfile.read(2)
                if len(head) < 2:
                    return
                mask = self.rfile.read(4)
                text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(head[1] & 0x7F)))
                self.wfile.write(bytes([0x81, len(text)]) + text)
                # Until the browser closes.
                self.rfile.read(2)

            do_GET = do_POST = do_PUT = do_OPTIONS = answer

        return Handler
