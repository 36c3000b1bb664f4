# Both services from one file: `docker build --target gateway .` and `--target origin`; Compose builds both.
#
# The base images are pinned, and of the same Debian release, because the programs link to its libc. To update one, take a
# newer tag of the official images `rust` (`X.Y.Z-slim-bookworm`, as in rust-toolchain.toml) and `debian`
# (`bookworm-YYYYMMDD-slim`), and run `make test-compose`. A mirror: `--build-arg DEBIAN_IMAGE=mirror.example/debian:…`.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-20260824-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# Dependencies first, against empty crates: this layer is built again only when a manifest or the lock file changes.
# Not `RUN --mount=type=cache`: that needs BuildKit, and the classic builder of older engines must do as well.
COPY Cargo.toml Cargo.lock ./
COPY gateway/Cargo.toml gateway/
COPY origin/Cargo.toml origin/
COPY shared/Cargo.toml shared/
RUN for crate in gateway origin shared; do mkdir "$crate/src" && : > "$crate/src/lib.rs" || exit 1; done \
 && for crate in gateway origin; do echo 'fn main() {}' > "$crate/src/main.rs" || exit 1; done \
 && cargo build --locked --release --bin gateway --bin origin

COPY shared shared
COPY origin origin
COPY gateway gateway
# Touched, because a checkout may be older than the empty crates just built, and cargo goes by the time of a file.
# `target` is dropped in the same step, so that this layer, new with every change of source, holds two programs only.
RUN find gateway origin shared -name '*.rs' -exec touch {} + \
 && cargo build --locked --release --bin gateway --bin origin \
 && install -D -t /out target/release/gateway target/release/origin \
 && rm -rf target

# What both images share. A new named volume takes owner and mode from the directory that it is first mounted over, so
# these directories decide who can read the shared secret and who can write keys. The user is a number, so that
# orchestrators can check that it is not root; it is the same in both images, because both read one secret file.
FROM ${DEBIAN_IMAGE} AS runtime
RUN install -d -o 10001 -g 10001 -m 0700 /run/postern

FROM runtime AS origin
COPY --from=build /out/origin /usr/local/bin/
ENV ORIGIN_LISTEN=0.0.0.0:9000
USER 10001:10001
EXPOSE 9000
STOPSIGNAL SIGTERM
ENTRYPOINT ["origin"]

FROM runtime AS gateway
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/postern
# The public certificate authorities, for an origin that speaks HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/gateway /usr/local/bin/
# The public listener is reachable from outside the container; the admin listener is not, until you say so.
ENV GATEWAY__LISTEN__ADDRESS=0.0.0.0:8080 \
    GATEWAY__ADMIN__ADDRESS=127.0.0.1:8081 \
    DATABASE_URL=sqlite:///var/lib/postern/gateway.db
USER 10001:10001
# Where the gateway looks for a `gateway.toml`; mount yours there.
WORKDIR /etc/postern
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["serve"]
