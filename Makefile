# `make` alone says what there is.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo build fmt lint check test test-rust test-demo test-litestar test-api test-readings test-forward-auth test-operate test-browser test-oidc test-extend test-compose test-vectors fuzz fuzz-readings bench bench-check bench-count bench-fleet bench-table requirements

# Random requests to each origin, and where they begin, for `make fuzz-readings`.
COUNT ?= 10000
SEED ?= 1
# How long `make fuzz` runs each target.
SECONDS ?= 60
# Arguments of bench/run.py, for example BENCH='--only small --seconds 2'.
BENCH ?=
# Arguments of bench/table.py, for example TABLE='--keys 100000 --rounds 1'.
TABLE ?=

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Build, start both services without Docker, and show the story step by step
	@demo/run.sh

build: ## Build both programs as they go to production: target/release/gateway, target/release/origin
	cargo build --release --locked

fmt: ## Format the code, and wrap the prose of the documents
	cargo fmt --all
	for crate in fuzz examples/own-gateway examples/own-origin; do cargo fmt --manifest-path $$crate/Cargo.toml; done
	tests/wrap_documents.py

check: ## Format, lints and unit tests: what to run after each edit
	cargo fmt --all --check
	for crate in fuzz examples/own-gateway examples/own-origin; do cargo fmt --manifest-path $$crate/Cargo.toml --check || exit 1; done
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --lib --locked

test: lint test-rust test-demo test-litestar test-api test-readings test-forward-auth test-operate test-browser test-oidc test-extend test-compose ## Run every check that these targets name: lint and test-…; installs what it may, else names it and fails

lint: ## Check the format, and take each warning of clippy for an error
	@tests/prepare.sh rust
	cargo fmt --all --check
	for crate in fuzz examples/own-gateway examples/own-origin; do cargo fmt --manifest-path $$crate/Cargo.toml --check || exit 1; done
	cargo clippy --workspace --all-targets --locked -- -D warnings

test-rust: ## Run unit, integration and documentation tests
	@tests/prepare.sh rust
	cargo test --workspace --locked --no-fail-fast

test-demo: ## Run the demonstration, try the command that it ends with, and stop it
	@tests/prepare.sh rust demo
	tests/demo.py

test-litestar: target/litestar-venv/ready ## Test the Litestar example, alone and behind the gateway
	@tests/prepare.sh rust
	cargo build --workspace --bins --locked
	target/litestar-venv/bin/python -m pytest examples/litestar

test-api: target/api-venv/ready ## Try the admin API with requests made from its OpenAPI document
	@tests/prepare.sh rust
	cargo build --locked --bin gateway
	target/api-venv/bin/python tests/api/run.py

test-forward-auth: target/forward-auth-venv/ready ## Try to forge identities through nginx, Caddy and Envoy that ask the gateway
	@tests/prepare.sh rust forward-auth
	cargo build --locked --bin gateway
	target/forward-auth-venv/bin/python tests/forward-auth/run.py

test-readings: target/readings-venv/ready ## Try spellings of paths and hosts through the gateway on nginx, an ASGI server and actix
	@tests/prepare.sh rust readings
	cargo build --locked --bin gateway
	cargo build --locked -p postern-origin --example readings_origin
	target/readings-venv/bin/python tests/readings/run.py

test-operate: target/operate-venv/ready ## Try the steps of docs/OPERATE.md, deploy/, and the frameworks of the README
	@tests/prepare.sh rust operate
	cargo build --locked --workspace --bins
	target/operate-venv/bin/python -B tests/operate/run.py

test-browser: ## Call the gateway from a page of another origin in a real Chromium
	@tests/prepare.sh rust browser
	cargo build --locked --bin gateway
	tests/browser/run.py

test-oidc: target/oidc-venv/ready ## Have a real provider of OpenID Connect issue tokens for the gateway, and change its key
	@tests/prepare.sh rust oidc
	cargo build --locked --bin gateway
	target/oidc-venv/bin/python -B tests/oidc/run.py

test-extend: ## Build examples/own-gateway and examples/own-origin as crates of their own, and try them
	@tests/prepare.sh rust extend
	for example in own-gateway own-origin; do \
	  cp Cargo.lock examples/$$example/Cargo.lock && \
	  cargo build --manifest-path examples/$$example/Cargo.toml --target-dir target || exit 1; \
	done
	tests/extend.py

test-vectors: ## Verify third-party test vectors of signed tokens (VECTORS=directory), which this repository does not contain
	@test -n "$(VECTORS)" || { echo "say where they are: make test-vectors VECTORS=DIRECTORY, of the files testvectors_v1/json_web_*_test.json of https://github.com/C2SP/wycheproof"; exit 2; }
	@tests/prepare.sh rust
	cargo run --quiet --locked -p postern-gateway --example token_vectors -- "$(VECTORS)"

fuzz: ## Feed the parsers of fuzz/ with mutated input, for SECONDS=60 each (with TARGET=name only one)
	cp Cargo.lock fuzz/Cargo.lock
	cargo run --quiet --manifest-path fuzz/Cargo.toml --target-dir target --bin mutate -- $(SECONDS) $(TARGET)

fuzz-readings: target/readings-venv/ready ## The same for longer (COUNT=10000 SEED=1), and on Tomcat too
	@tests/prepare.sh rust readings tomcat
	cargo build --locked --bin gateway
	cargo build --locked -p postern-origin --example readings_origin
	target/readings-venv/bin/python tests/readings/run.py --tomcat --count $(COUNT) --seed $(SEED)

test-compose: ## Bring up docker-compose.yml and walk the story through it
	@tests/prepare.sh compose
	tests/compose/base-images.sh
	tests/compose/walk.py

bench: ## Measure the gateway beside nginx, HAProxy, Envoy and a TCP relay, in one run
	@tests/prepare.sh rust bench
	cargo build --release --locked --bin gateway
	test -d target/bench-venv || python3 -m venv target/bench-venv
	target/bench-venv/bin/pip install --quiet -r bench/requirements.txt
	target/bench-venv/bin/python bench/run.py $(BENCH)

bench-check: ## Check the benchmark itself: refuses taken ports, measures every case, leaves nothing running
	@tests/prepare.sh rust bench
	cargo build --release --locked --bin gateway
	bench/check.py

bench-count: ## Count what a small request costs, exactly: instructions, allocations, page faults
	@tests/prepare.sh rust
	cargo build --release --locked --bin gateway
	bench/count.py
	cargo test -p postern-gateway --lib --locked -- the_future_of_a_request_is_small --nocapture

bench-fleet: ## Measure how soon a revoked key is refused by every gateway of a fleet
	@tests/prepare.sh rust bench
	cargo build --release --locked --bin gateway
	bench/fleet.py

bench-table: ## Measure what a million keys take: memory, time to ready, time of a look-up
	@tests/prepare.sh rust
	cargo build --release --locked -p postern-gateway --bin gateway --example table_lookups
	bench/table.py $(TABLE)

requirements: ## Pin what Python tests need anew, with hashes: each requirements*.txt from its .in
	@tests/prepare.sh api
	test -d target/pip-tools-venv || python3 -m venv target/pip-tools-venv
	target/pip-tools-venv/bin/pip install --quiet pip-tools
	set -e; for file in $$(git ls-files '*requirements*.in'); do \
	  cd "$$(dirname "$$file")"; PIP_FIND_LINKS= CUSTOM_COMPILE_COMMAND='make requirements' \
	    $(CURDIR)/target/pip-tools-venv/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
	    --no-emit-trusted-host --no-emit-find-links --annotation-style=line \
	    --output-file "$$(basename "$$file" .in).txt" "$$(basename "$$file")"; cd $(CURDIR); \
	done

# The environment of a suite, made anew when what it pins changes.
target/%-venv/ready:
	@tests/prepare.sh $*
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(addprefix -r ,$^)
	touch $@

target/litestar-venv/ready: examples/litestar/requirements.txt examples/litestar/requirements-dev.txt
target/api-venv/ready: tests/api/requirements.txt
target/forward-auth-venv/ready: tests/forward-auth/requirements.txt
target/readings-venv/ready: tests/readings/requirements.txt
target/operate-venv/ready: tests/operate/requirements.txt
target/oidc-venv/ready: tests/oidc/requirements.txt
