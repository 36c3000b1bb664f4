// Calls the gateway from a page of another origin, and reports what the browser lets it see.
"use strict";

const { gateway, key, wrong } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const DEADLINE = 10000;

/** What a page sees of an answer, or "blocked". */
async function call(path, options) {
  try {
    const answer = await fetch(gateway + path, options);
    const exposed = ["x-request-id", "retry-after", "date"];
    const body = await answer.text();
    let code = null;
    try {
      code = JSON.parse(body).code ?? null;
    } catch {
      // No problem document.
    }
    return {
      status: answer.status,
      code,
      headers: exposed.filter((name) => answer.headers.has(name)),
    };
  } catch {
    return "blocked";
  }
}

/** The first event of a stream, or "blocked". */
function event(path, options) {
  return new Promise((resolve) => {
    const source = new EventSource(gateway + path, options);
    const end = (found) => {
      source.close();
      resolve(found);
    };
    source.onmessage = (message) => end(message.data.length > 0);
    source.onerror = () => end("blocked");
    setTimeout(() => end("nothing"), DEADLINE);
  });
}

/** What a WebSocket agrees to and sends back, or "blocked". */
function socket(path, protocols) {
  return new Promise((resolve) => {
    const socket = new WebSocket(gateway.replace("http", "ws") + path, protocols);
    const end = (found) => {
      socket.close();
      resolve(found);
    };
    socket.onopen = () => socket.send("ping");
    socket.onmessage = (message) => end({ protocol: socket.protocol, echo: message.data });
    socket.onerror = () => end("blocked");
    setTimeout(() => end("nothing"), DEADLINE);
  });
}

async function tell() {
  const bearer = (token) => ({ Authorization: `Bearer ${token}` });
  const json = { "Content-Type": "application/json" };
  const post = (headers, more) => ({ method: "POST", body: "{}", headers, ...more });
  const escaped = encodeURIComponent(key);
  const found = {
    simple_without_a_key: await call("/bearer/echo"),
    bearer: await call("/bearer/echo", { headers: bearer(key) }),
    bearer_that_is_wrong: await call("/bearer/echo", { headers: bearer(wrong) }),
    put_of_json: await call("/bearer/echo", { method: "PUT", body: "{}", headers: { ...bearer(key), ...json } }),
    header_that_is_not_allowed: await call("/bearer/echo", { headers: { ...bearer(key), "X-Other": "1" } }),
    credentials_where_none_are_allowed: await call("/bearer/echo", { headers: bearer(key), credentials: "include" }),
    scope_that_is_missing: await call("/scoped", { headers: bearer(key) }),
    limited_first: await call("/limited/echo", { headers: bearer(key) }),
    limited_then: await call("/limited/echo", { headers: bearer(key) }),
    origin_that_is_away: await call("/away", { headers: bearer(key) }),
    path_without_a_route: await call("/", { headers: bearer(key) }),
    header: await call("/header/echo", post({ "X-API-Key": key })),
    other_page: await call("/other/echo", { headers: bearer(key) }),
    other_page_simple: await call("/other/echo"),
    off: await call("/off/echo", { headers: bearer(key) }),
    any_page: await call("/any/echo", { headers: bearer(key) }),
    event_without_a_key: await event("/query/events"),
    event_by_query: await event(`/query/events?api_key=${escaped}`),
    event_without_a_cookie: await event("/cookie/events"),
  };
  // Sites are told apart without their ports, so the gateway gets this page's cookie.
  document.cookie = `api_key=${key}; SameSite=Strict; Path=/`;
  Object.assign(found, {
    event_with_a_cookie_not_sent: await event("/cookie/events"),
    event_by_cookie: await event("/cookie/events", { withCredentials: true }),
    cookie: await call("/cookie/echo", { credentials: "include" }),
    socket_by_cookie: await socket("/cookie/ws"),
  });
  document.cookie = "api_key=; Max-Age=0; Path=/";
  Object.assign(found, {
    socket_without_a_key: await socket("/subprotocol/ws"),
    socket_with_a_wrong_key: await socket("/subprotocol/ws", ["postern", `postern.key.${wrong}`]),
    socket: await socket("/subprotocol/ws", ["postern", `postern.key.${key}`]),
    socket_key_first: await socket("/subprotocol/ws", [`postern.key.${key}`, "postern"]),
    socket_in_base64: await socket("/subprotocol/ws", [
      "postern",
      `postern.key64.${btoa(key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`,
    ]),
    socket_that_is_told_nothing: await socket("/subprotocol/ws", [`postern.key.${key}`]),
    socket_by_query: await socket(`/query/ws?api_key=${escaped}`),
  });
  await fetch("result", { method: "POST", body: JSON.stringify(found) });
}

tell().catch((error) => fetch("result", { method: "POST", body: JSON.stringify({ error: String(error) }) }));
