// Lets in only requests that bring the secret shared with the gateway: plain Node.js without dependencies, so it guards an
// application of any framework that listens with node:http. guard(http.createServer(app)) is all there is to call.
import { createHash, timingSafeEqual } from "node:crypto";
import { STATUS_CODES } from "node:http";

import { acceptedSecrets } from "./secrets.mjs";

const SECRET = "x-shared-secret";
const IDENTITY = new Set(["x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-consumer-groups",
  "x-consumer-metadata", "x-credential-identifier", "x-anonymous-consumer"]);
const REFUSALS = { unconfigured: [500, "Server configuration error"], missing: [401, "No secret provided"], invalid: [401, "Invalid secret"] };
// Every event of a server that hands a request over. Middleware sees the first alone: an upgrade passes it by.
const EVENTS = new Set(["request", "checkContinue", "checkExpectation", "upgrade", "connect"]);

const digest = (text) => createHash("sha256").update(text, "latin1").digest();

/** Guards every request of `server`; throws where a secret is set and unusable. */
export function guard(server, { exempt = [], environment = process.env } = {}) {
  const accepted = acceptedSecrets(environment).map(digest);
  for (const path of exempt) if (!/^\/[A-Za-z0-9/_-]*$/.test(path)) throw new Error(`${path} cannot be exempt`);
  const emit = server.emit;
  server.emit = function (event, request, answer, ...rest) {
    if (!EVENTS.has(event)) return emit.call(this, event, request, answer, ...rest);
    const verdict = exempt.includes(request.url.split("?")[0]) ? "exempt" : judge(request, accepted);
    if (verdict in REFUSALS) return refuse(verdict, request, answer);
    clean(request, verdict === "proven" ? IDENTITY : new Set());
    return emit.call(this, event, request, answer, ...rest);
  };
  return server;
}

function judge({ rawHeaders }, accepted) {
  if (accepted.length === 0) return "unconfigured";
  // Not `headers`, which joins what came several times.
  const values = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1].toLowerCase() === SECRET);
  if (values.length === 0 || (values.length === 1 && values[0].trim() === "")) return "missing";
  const presented = digest(values[0].replace(/^[ \t]+|[ \t]+$/g, ""));
  const matches = accepted.map((one) => timingSafeEqual(one, presented)); // each is compared, also after a match
  return values.length === 1 && matches.includes(true) ? "proven" : "invalid";
}

/** Takes off the secret, and identity but under the names `kept`, wherever handlers look for headers. */
function clean(request, kept) {
  const spelled = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, "-");
  const isPrivileged = (name) => spelled(name) === SECRET || IDENTITY.has(spelled(name)) || /^x-(consumer|credential)-/.test(spelled(name));
  const isDropped = (name) => isPrivileged(name) && !kept.has(name.toLowerCase());
  const raw = request.rawHeaders;
  // Before `rawHeaders`, from which Node.js makes these two when they are first asked for.
  for (const view of [request.headers, request.headersDistinct]) Object.keys(view).filter(isDropped).forEach((name) => delete view[name]);
  raw.splice(0, raw.length, ...raw.filter((_, at) => !isDropped(raw[at - (at % 2)])));
}

/** Answers on the socket itself: an upgrade has no response to write to. */
function refuse(marker, { url, socket }, answer) {
  const [status, detail] = REFUSALS[marker];
  const problem = { type: "about:blank", title: STATUS_CODES[status], status, detail, instance: url.split("?")[0], code: `shared_secret_${marker}` };
  const body = JSON.stringify(problem);
  const headers = { "content-type": "application/problem+json", "content-length": Buffer.byteLength(body), "cache-control": "no-store",
    "x-origin-guard": marker, ...(status === 401 && { "www-authenticate": 'SharedSecret realm="origin"' }) };
  if (answer.writeHead) return answer.writeHead(status, headers).end(body), true;
  const lines = Object.entries({ ...headers, connection: "close" });
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`);
  return true;
}
