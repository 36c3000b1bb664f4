#!/usr/bin/env bash
# The story without Docker: builds both services, starts them, shows each step with its request and its answer, and keeps
# them running until Ctrl-C. Everything that it makes is in a folder of its own, removed at the end.
#
# Other ports: DEMO_GATEWAY=127.0.0.1:18080 DEMO_ADMIN=127.0.0.1:18081 DEMO_ORIGIN=127.0.0.1:19000 make demo
set -euo pipefail
cd "$(dirname "$0")/.."

gateway_address=${DEMO_GATEWAY:-127.0.0.1:8080}
admin_address=${DEMO_ADMIN:-127.0.0.1:8081}
origin_address=${DEMO_ORIGIN:-127.0.0.1:9000}
folder=$(mktemp -d)
chmod 0700 "$folder"
services=()

stop() {
  trap - EXIT INT TERM
  for service in "${services[@]}"; do kill -TERM "$service" 2>/dev/null || true; done
  for service in "${services[@]}"; do wait "$service" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# A service that did not come up says why in its log.
wait_for() {
  local name=$1 service=$2 address=$3 path=$4
  for _ in $(seq 1 200); do
    if ! kill -0 "$service" 2>/dev/null; then
      echo "$name did not start:" >&2
      cat "$folder/$name.log" >&2
      exit 1
    fi
    if curl --silent --fail --max-time 2 --output /dev/null "http://$address$path"; then return; fi
    sleep 0.1
  done
  echo "$name did not become ready within 20 s:" >&2
  cat "$folder/$name.log" >&2
  exit 1
}

# Shows a request as one would type it, and its answer; fails when the status is not the expected one.
step() {
  local title=$1 expected=$2
  shift 2
  say "$title"
  local shown=''
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9:/._=-]*) shown+=" '$word'" ;;
      *) shown+=" $word" ;;
    esac
  done
  echo "\$ curl -i$shown"
  curl --silent --show-error --max-time 10 --include "$@" | tr -d '\r' | tee "$folder/answer"
  echo
  local status
  status=$(awk 'NR == 1 { print $2 }' "$folder/answer")
  if [ "$status" != "$expected" ]; then
    echo "expected status $expected, got $status" >&2
    exit 1
  fi
}

command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
command -v curl >/dev/null || { echo "curl is missing: install it with your system's package manager" >&2; exit 1; }

say 'Building gateway and origin'
cargo build --locked --bin gateway --bin origin
gateway=target/debug/gateway
origin=target/debug/origin

# Files, so that the secret is in no command line and in no environment.
(umask 077; "$gateway" secret new > "$folder/secret")
export DATABASE_URL="sqlite://$folder/gateway.db"

say "Starting the origin on $origin_address and the gateway on $gateway_address, with one shared secret"
SHARED_SECRET_FILE="$folder/secret" ORIGIN_LISTEN="$origin_address" "$origin" > "$folder/origin.log" 2>&1 &
services+=($!)
wait_for origin "${services[0]}" "$origin_address" /healthz
SHARED_SECRET_FILE="$folder/secret" ORIGIN_URL="http://$origin_address" \
  GATEWAY__LISTEN__ADDRESS="$gateway_address" GATEWAY__ADMIN__ADDRESS="$admin_address" \
  "$gateway" serve > "$folder/gateway.log" 2>&1 &
services+=($!)
wait_for gateway "${services[1]}" "$admin_address" /readyz

say 'Making a consumer and a key'
echo '$ gateway consumers create demo'
"$gateway" consumers create demo
echo '$ gateway keys create --consumer demo --json'
"$gateway" keys create --consumer demo --json > "$folder/key.json"
cat "$folder/key.json"
key=$(sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' "$folder/key.json")

step 'With a key, through the gateway' 200 "http://$gateway_address/protected" -H "Authorization: Bearer $key"
step 'Without a key' 401 "http://$gateway_address/protected"
step 'Around the gateway, without the secret' 401 "http://$origin_address/protected"
step 'Around the gateway, with a wrong secret' 401 "http://$origin_address/protected" -H 'x-shared-secret: nope'
step 'Who the origin sees; what a client claims of itself is not believed' 200 "http://$gateway_address/whoami" \
  -H "Authorization: Bearer $key" -H 'X-Consumer-Username: admin'

say 'Running until Ctrl-C. Try it:'
echo "curl -i http://$gateway_address/protected -H 'Authorization: Bearer $key'"
# The services end by a signal; if one ends by itself, so does the demonstration.
wait -n "${services[@]}" || true
echo 'A service has ended:' >&2
tail -n 20 "$folder"/*.log >&2
exit 1
