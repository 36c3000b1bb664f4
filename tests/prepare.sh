#!/usr/bin/env bash
# Sees to it that the tests named (rust, demo, litestar, api, readings, tomcat, forward-auth, operate, browser, oidc, extend, compose,
# bench; all but tomcat and bench when none is named) find what they need.
#
# What is missing is installed where that is allowed (root, on a Debian or a descendant of it). Otherwise it is named, all
# of it at once, and this fails: a test that cannot run is never skipped. The Rust toolchain is only ever named.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
updated=no

say() { echo "prepare: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
has_nginx() { has nginx || [ -x /usr/sbin/nginx ]; }
has_nginx_stream() { [ -e /usr/lib/nginx/modules/ngx_stream_module.so ]; }
has_haproxy() { has haproxy || [ -x /usr/sbin/haproxy ]; }
has_chromium() { has chromium || has chromium-browser || has google-chrome; }
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }
has_compose() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }
has_postgres() { (has initdb && has postgres) || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
has_pgbouncer() { has pgbouncer || [ -x /usr/sbin/pgbouncer ]; }
engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
may_install() { [ "$(id -u)" = 0 ] && has apt-get; }

# need WHAT PACKAGE CHECK…: installs the package unless the check succeeds, and notes what is missing after that.
need() {
  local what=$1 package=$2
  shift 2
  "$@" && return
  if may_install; then
    say "installing $package, for $what"
    if [ "$updated" = no ]; then
      apt-get update -qq || say "apt-get update failed; going on with the lists that are there"
      updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null </dev/null ||
      say "apt-get install $package failed"
    hash -r
    "$@" && return
  fi
  missing+=("$what (Debian: apt-get install $package)")
}

for_rust() {
  has cargo || missing+=("cargo (https://rustup.rs)")
  if has cargo; then
    cargo fmt --version >/dev/null 2>&1 || missing+=("rustfmt (rustup component add rustfmt)")
    cargo clippy --version >/dev/null 2>&1 || missing+=("clippy (rustup component add clippy)")
  fi
  need "a C compiler, which the bundled SQLite is built with" build-essential has cc
  # The tests start servers of their own: none is to be set up beside them.
  if may_install && ! has_postgres && [ ! -e /etc/postgresql-common ]; then
    mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  fi
  need "a PostgreSQL server" postgresql has_postgres
  need "a pooler before PostgreSQL" pgbouncer has_pgbouncer
  need "a Redis server, which gateways share limits through" redis-server has redis-server
  need "nginx, which asks the gateway about requests" nginx-light has_nginx
  need "nginx's stream module, a load balancer" libnginx-mod-stream has_nginx_stream
  need "HAProxy, a load balancer" haproxy has_haproxy
  need "groff, which sets manual pages" groff-base has groff
  need "Node.js, which the guard of examples/node runs in" nodejs has node
}

for_demo() {
  need "Python 3" python3 has python3
  need "curl" curl has curl
}

for_bench() {
  need "Python 3" python3 has python3
  need "a load generator" wrk has wrk
  need "a load generator for HTTP/2" nghttp2-client has h2load
  need "certificates of the proxies" openssl has openssl
  need "nginx, a peer and the origin" nginx-light has_nginx
  need "HAProxy, a peer" haproxy has haproxy
  need "a way to pin processes to a core" util-linux has taskset
  need "virtual environments for Python" python3-venv has_venv
}

for_litestar() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
}

for_api() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
}

for_forward_auth() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
  need "nginx, which asks the gateway about requests" nginx-light has_nginx
  need "Caddy, which asks the gateway about requests" caddy has caddy
}

for_oidc() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
}

for_readings() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
  need "nginx, an origin" nginx-light has_nginx
}

for_operate() {
  need "Python 3" python3 has python3
  need "virtual environments for Python" python3-venv has_venv
  need "systemd-analyze, which checks units" systemd has systemd-analyze
  need "sqlite3, which copies a store" sqlite3 has sqlite3
  need "PostgreSQL and its tools for backups" postgresql has pg_dump
}

for_browser() {
  need "Python 3" python3 has python3
  need "a browser, which a page runs in" chromium has_chromium
}

for_extend() {
  need "Python 3" python3 has python3
}

for_tomcat() {
  need "Java 17, which runs an origin from its source" openjdk-17-jdk-headless has javac
  need "Tomcat, an origin" libtomcat10-embed-java test -e /usr/share/java/tomcat10-embed-core.jar
}

for_compose() {
  need "Python 3" python3 has python3
  need "Docker" docker.io has docker
  need "Docker Compose" docker-compose has_compose
  need "certificates of registries" ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
  # Only for a machine without a registry, and of no use without root: then base-images.sh says what it wants.
  if may_install; then need "stand-ins for base images" debootstrap has debootstrap; fi
  if has docker && ! engine_answers; then start_engine; fi
}

start_engine() {
  if [ "$(id -u)" = 0 ] && has dockerd && [ -z "${DOCKER_HOST:-}" ]; then
    say "starting the Docker engine (its log: target/dockerd.log)"
    mkdir -p target
    # A session of its own: the engine serves the tests that follow and outlives this script.
    setsid dockerd >target/dockerd.log 2>&1 </dev/null &
    for _ in $(seq 120); do
      if engine_answers; then return; fi
      sleep 0.5
    done
    say "the engine does not answer; the end of its log: $(tail -n 3 target/dockerd.log)"
  fi
  missing+=("a Docker engine that answers ($(docker version 2>&1 >/dev/null | tail -n 1 || true))")
}

[ $# -gt 0 ] || set -- rust demo litestar api readings forward-auth operate browser oidc extend compose
for tests in "$@"; do
  case $tests in
    rust | demo | litestar | api | readings | tomcat | forward-auth | operate | browser | oidc | extend | compose | bench) "for_${tests//-/_}" ;;
    *) say "unknown: $tests (rust, demo, litestar, api, readings, tomcat, forward-auth, operate, browser, oidc, extend, compose, bench)"; exit 2 ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  say "missing, and not to be installed from here:"
  # Once each: two of the tests may want the same.
  printf '  %s\n' "${missing[@]}" | awk '!seen[$0]++' >&2
  exit 1
fi
