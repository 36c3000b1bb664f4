#!/usr/bin/env bash
# Makes sure that the base images of the Dockerfile are present, so that `docker-compose up --build` can run.
#
# They are pulled where a registry can be reached. Where none can, local stand-ins take their names: Debian from
# debootstrap, Rust from the same plus the toolchain of this machine, with the crates of Cargo.lock vendored in and set as
# cargo's source, so that the committed Dockerfile builds unchanged and without network. A stand-in carries the label
# `postern.stand-in`, whose value is what it was made from; one that is up to date is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The seconds after which a registry that does not answer is taken for absent.
PULL_SECONDS=${PULL_SECONDS:-600}
DEBIAN_MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

say() { echo "base-images: $*" >&2; }
die() { say "$*"; exit 1; }

base_image_of() {
  local name
  name=$(sed -n "s/^ARG $1=//p" Dockerfile)
  [ -n "$name" ] || die "the Dockerfile has no line 'ARG $1=…'"
  echo "$name"
}

# What a stand-in of this name was made from, or nothing when there is none.
stand_in_label() {
  docker image inspect --format '{{ index .Config.Labels "postern.stand-in" }}' "$1" 2>/dev/null || true
}

# True when the name is taken by an image which is not one of ours.
is_official() {
  docker image inspect "$1" >/dev/null 2>&1 && [ -z "$(stand_in_label "$1")" ]
}

pull() {
  local log=$work/pull.log
  is_official "$1" && { say "$1 is present"; return 0; }
  # A stand-in stays one until it is removed: its presence says that there was no registry.
  [ -z "$(stand_in_label "$1")" ] || return 1
  say "pulling $1"
  timeout "$PULL_SECONDS" docker pull --quiet "$1" >"$log" 2>&1 && return 0
  say "cannot pull $1: $(tail -n 1 "$log")"
  return 1
}

# bootstrap NAME LABEL PACKAGES [DIRECTORY-TO-ADD]: a minimal Debian as image NAME.
bootstrap() {
  local name=$1 label=$2 packages=$3 added=${4:-} root=$work/rootfs
  [ "$(id -u)" = 0 ] || die "a stand-in for $name needs root (debootstrap): run as root, or pull the image first"
  command -v debootstrap >/dev/null || die "a stand-in for $name needs debootstrap: apt-get install debootstrap"
  rm -rf "$root"
  mkdir -p "$packages_cache"
  debootstrap --variant=minbase ${packages:+--include="$packages"} --cache-dir="$packages_cache" \
    "$suite" "$root" "$DEBIAN_MIRROR" >"$work/debootstrap.log" 2>&1 ||
    die "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  if [ -n "$added" ]; then cp -a "$added/." "$root/"; fi
  tar -C "$root" --one-file-system -c . | docker import \
    --change "LABEL postern.stand-in=\"$label\"" \
    --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'CMD ["bash"]' \
    - "$name" >/dev/null
  rm -rf "$root"
}

# Lays the toolchain of this machine out as the official image does, without documentation and tools that no build uses.
lay_out_toolchain() {
  local to=$1/usr/local sysroot target
  sysroot=$(rustc --print sysroot)
  target=$(rustc -vV | sed -n 's/^host: //p')
  mkdir -p "$to/rustup/bin" "$to/rustup/lib/rustlib" "$to/cargo/bin"
  cp -a "$sysroot"/bin/{cargo,rustc} "$to/rustup/bin/"
  cp -a "$sysroot"/lib/*.so* "$to/rustup/lib/"
  cp -a "$sysroot/lib/rustlib/$target" "$to/rustup/lib/rustlib/"
  ln -s ../../rustup/bin/cargo ../../rustup/bin/rustc "$to/cargo/bin/"
}

make_debian() {
  local label=$suite
  [ "$(stand_in_label "$DEBIAN")" = "$label" ] && { say "the stand-in for $DEBIAN is up to date"; return; }
  say "making a stand-in for $DEBIAN"
  bootstrap "$DEBIAN" "$label" ''
}

make_rust() {
  local toolchain label old
  toolchain=$(rustc --version | cut -d ' ' -f 2)
  label=$toolchain-$(sha256sum Cargo.lock | cut -c 1-16)
  old=$(stand_in_label "$RUST")
  [ "$old" = "$label" ] && { say "the stand-in for $RUST is up to date"; return; }

  # Apart from the crates, so that a new lock file costs seconds.
  if [ "$(stand_in_label "$TOOLCHAIN")" != "$toolchain" ]; then
    say "making a stand-in for $RUST from the toolchain $toolchain"
    rm -rf "$work/toolchain"
    lay_out_toolchain "$work/toolchain"
    bootstrap "$TOOLCHAIN" "$toolchain" gcc,libc6-dev,ca-certificates "$work/toolchain"
    rm -rf "$work/toolchain"
  fi

  say "adding the crates of Cargo.lock to it"
  rm -rf "$work/crates"
  mkdir "$work/crates"
  cargo vendor --quiet --locked --versioned-dirs --respect-source-config "$work/crates/vendor" >/dev/null
  cat >"$work/crates/config.toml" <<'TOML'
[source.crates-io]
replace-with = "vendored-sources"
[source.vendored-sources]
directory = "/usr/local/cargo/vendor"
[net]
offline = true
TOML
  cat >"$work/crates/Dockerfile" <<DOCKERFILE
FROM $TOOLCHAIN
COPY config.toml /usr/local/cargo/config.toml
COPY vendor /usr/local/cargo/vendor
LABEL postern.stand-in="$label"
DOCKERFILE
  docker build --tag "$RUST" "$work/crates" >"$work/crates.log" 2>&1 || die "docker build: $(tail -n 3 "$work/crates.log")"
  rm -rf "$work/crates"
  # Images inherit the label, so these are the build stages on the stand-in just replaced: no build finds them again.
  if [ -n "$old" ]; then docker image prune --force --filter "label=postern.stand-in=$old" >/dev/null; fi
}

docker version --format '{{.Server.Version}}' >/dev/null || die "the Docker engine does not answer (see above)"

RUST=$(base_image_of RUST_IMAGE)
DEBIAN=$(base_image_of DEBIAN_IMAGE)
TOOLCHAIN=postern-stand-in/toolchain
suite=${DEBIAN##*:}
suite=${suite%%-*}
work=$PWD/target/base-images
packages_cache=$work/packages
mkdir -p "$work"

pull "$DEBIAN" || make_debian
pull "$RUST" || make_rust
