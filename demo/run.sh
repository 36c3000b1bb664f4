#!/usr/bin/env bash
# The story without Docker: builds both services, starts them, shows each step with its request and its answer, and keeps
# them running until Ctrl-C. Everything that it makes is in a folder of its own, removed at the end.
#
# Other ports: DEMO_GATEWAY=127.0.0.1:18080 DEMO_ADMIN=127.0.0.1:18081 DEMO_ORIGIN=127.0.0.1:19000 make demo
set -euo pipefail
cd "$(dirname "$0")/.."

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

# The inode of the socket that listens on a port, from the kernel's table; nothing where there is none, or no such table.
listener() {
  local port
  port=$(printf '%04X' "$1")
  awk -v port=":$port" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10; exit }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null || true
}

# Who has the socket with this inode, as far as one may know.
holder() {
  local entry process
  entry=$(find /proc/[0-9]*/fd -lname "socket:\[$1\]" 2>/dev/null | head -n 1) || true
  process=$(cut -d / -f 3 <<<"$entry")
  if [ -n "$process" ] && [ -r "/proc/$process/comm" ]; then
    echo "process $process ($(cat "/proc/$process/comm"))"
  else
    echo 'another program'
  fi
}

# The address for a service: the one that was asked for in the variable $1, or the usual one, $2; where something else
# listens there, a free port in place of the usual one.
choose() {
  local variable=$1 usual=$2 address port inode
  address=${!variable:-$usual}
  port=${address##*:}
  inode=''
  if [[ $port =~ ^[0-9]+$ ]] && [ "$port" != 0 ]; then inode=$(listener "$port"); fi
  if [ -z "$inode" ]; then
    echo "$address"
  elif [ -z "${!variable:-}" ]; then
    echo "Port $port is taken by $(holder "$inode"): a free one is used here; $variable=127.0.0.1:PORT chooses one." >&2
    echo '127.0.0.1:0'
  else
    echo "$variable: port $port is taken by $(holder "$inode"); choose another, or leave $variable out." >&2
    exit 1
  fi
}

# Waits until a service says in its own log where it listens, and puts that address into the variable $4. Nothing else is
# ever asked: what answers on a port may be a stranger.
wait_until_it_listens() {
  local name=$1 service=$2 words=$3 result=$4 address
  for _ in $(seq 1 200); do
    if ! kill -0 "$service" 2>/dev/null; then
      echo "$name did not start. Other ports: DEMO_GATEWAY, DEMO_ADMIN and DEMO_ORIGIN, each as 127.0.0.1:PORT" >&2
      cat "$folder/$name.log" >&2
      exit 1
    fi
    address=$(sed -n "s|.*\] $words http://\([0-9a-f.:]*\).*|\1|p" "$folder/$name.log" | head -n 1)
    if [ -n "$address" ]; then
      printf -v "$result" %s "$address"
      return
    fi
    sleep 0.1
  done
  echo "$name did not say within 20 s where it listens:" >&2
  cat "$folder/$name.log" >&2
  exit 1
}

# Waits until the gateway has loaded its keys.
wait_until_ready() {
  for _ in $(seq 1 200); do
    if curl --silent --fail --max-time 2 --output /dev/null "http://$admin_address/readyz"; then return; fi
    sleep 0.1
  done
  echo 'the gateway did not become ready within 20 s:' >&2
  cat "$folder/gateway.log" >&2
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

# Makes a key, and reads the key and its id.
make_key() {
  "$gateway" keys create --consumer demo --json > "$folder/key.json" 2> "$folder/remarks" || { cat "$folder/remarks" >&2; exit 1; }
  key=$(sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' "$folder/key.json")
  id=$(sed -n 's/.*"id": *"\([^"]*\)".*/\1/p' "$folder/key.json")
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

origin_address=$(choose DEMO_ORIGIN 127.0.0.1:9000)
gateway_address=$(choose DEMO_GATEWAY 127.0.0.1:8080)
admin_address=$(choose DEMO_ADMIN 127.0.0.1:8081)

say 'Starting the origin and the gateway, with one shared secret'
SHARED_SECRET_FILE="$folder/secret" ORIGIN_LISTEN="$origin_address" "$origin" > "$folder/origin.log" 2>&1 &
services+=($!)
wait_until_it_listens origin "${services[0]}" 'listening on' origin_address
SHARED_SECRET_FILE="$folder/secret" ORIGIN_URL="http://$origin_address" \
  GATEWAY__LISTEN__ADDRESS="$gateway_address" GATEWAY__ADMIN__ADDRESS="$admin_address" \
  "$gateway" serve > "$folder/gateway.log" 2>&1 &
services+=($!)
wait_until_it_listens gateway "${services[1]}" 'listening on' gateway_address
wait_until_it_listens gateway "${services[1]}" 'admin listening on' admin_address
wait_until_ready
echo "origin: http://$origin_address, gateway: http://$gateway_address, its admin listener: http://$admin_address"

say 'Making a consumer and a key'
echo '$ gateway consumers create demo'
"$gateway" consumers create demo
echo '$ gateway keys create --consumer demo --json'
make_key
cat "$folder/key.json"

step 'With a key, through the gateway' 200 "http://$gateway_address/protected" -H "Authorization: Bearer $key"
step 'Without a key' 401 "http://$gateway_address/protected"
step 'Around the gateway, without the secret' 401 "http://$origin_address/protected"
step 'Around the gateway, with a wrong secret' 401 "http://$origin_address/protected" -H 'x-shared-secret: nope'
step 'Who the origin sees; what a client claims of itself is not believed' 200 "http://$gateway_address/whoami" \
  -H "Authorization: Bearer $key" -H 'X-Consumer-Username: admin'

say 'Revoking the key'
echo "\$ gateway keys revoke $id"
"$gateway" keys revoke "$id"
step 'The next request with it is refused' 401 "http://$gateway_address/protected" -H "Authorization: Bearer $key"

say 'Making another key'
echo '$ gateway keys create --consumer demo --json'
make_key

say 'Running until Ctrl-C. Try it:'
echo "curl -i http://$gateway_address/protected -H 'Authorization: Bearer $key'"
# The services end by a signal; if one ends by itself, so does the demonstration.
wait -n "${services[@]}" || true
echo 'A service has ended:' >&2
tail -n 20 "$folder"/*.log >&2
exit 1
