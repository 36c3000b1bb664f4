// A backend behind the gateway. Run it with `node server.mjs`; see README.md.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

import { guard } from "./guard.mjs";

const [host, port] = (process.env.ORIGIN_LISTEN ?? "127.0.0.1:9000").split(":");

/** As an application would be, Express's or any other: it knows nothing of the guard. */
function app(request, response) {
  const answers = { "/healthz": { status: "ok" }, "/protected": { message: "Access granted" } };
  // The headers that arrived, by which the tests see that the guard took the secret off.
  const headers = { ...request.headersDistinct };
  const answer = JSON.stringify(answers[request.url] ?? { method: request.method, path: request.url, headers });
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(answer) }).end(answer);
}

const server = guard(createServer(app), { exempt: ["/healthz"] });

// As WebSocket libraries do: no middleware of a framework stands before this.
server.on("upgrade", (request, socket) => {
  const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  socket.end(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`);
});

server.listen(Number(port), host, () => console.error(`listening on http://${host}:${server.address().port}`));
