# `make` alone says what there is.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo build fmt lint check test test-rust test-demo test-litestar test-api test-readings test-forward-auth test-operate test-compose fuzz-readings bench bench-fleet bench-table requirements

VENV := target/litestar-venv
API_VENV := target/api-venv
FORWARD_AUTH_VENV := target/forward-auth-venv
READINGS_VENV := target/readings-venv
OPERATE_VENV := target/operate-venv
# Random requests to each origin, and where they begin, for `make fuzz-readings`.
COUNT ?= 10000
SEED ?= 1
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
	tests/wrap_documents.py

check: ## Format, lints and unit tests: what to run after each edit
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --lib --locked

test: lint test-rust test-demo test-litestar test-api test-readings test-forward-auth test-operate test-compose ## Run every check that these targets name: lint and test-…; installs what it may, else names it and fails

lint: ## Check the format, and take each warning of clippy for an error
	@tests/prepare.sh rust
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

test-rust: ## Run unit, integration and documentation tests
	@tests/prepare.sh rust
	cargo test --workspace --locked

test-demo: ## Run the demonstration, try the command that it ends with, and stop it
	@tests/prepare.sh rust demo
	tests/demo.py

test-litestar: $(VENV)/ready ## Test the Litestar example, alone and behind the gateway
	@tests/prepare.sh rust
	cargo build --workspace --bins --locked
	$(VENV)/bin/python -m pytest examples/litestar

test-api: $(API_VENV)/ready ## Try the admin API with requests made from its OpenAPI document
	@tests/prepare.sh rust
	cargo build --locked --bin gateway
	$(API_VENV)/bin/python tests/api/run.py

test-forward-auth: $(FORWARD_AUTH_VENV)/ready ## Try to forge identities through nginx, Caddy and Envoy that ask the gateway
	@tests/prepare.sh rust forward-auth
	cargo build --locked --bin gateway
	$(FORWARD_AUTH_VENV)/bin/python tests/forward-auth/run.py

test-readings: $(READINGS_VENV)/ready ## Try spellings of paths and hosts through the gateway on nginx, an ASGI server and actix
	@tests/prepare.sh rust readings
	cargo build --locked --bin gateway
	cargo build --locked -p postern-origin --example readings_origin
	$(READINGS_VENV)/bin/python tests/readings/run.py

test-operate: $(OPERATE_VENV)/ready ## Try the steps of docs/OPERATE.md, deploy/, and the frameworks of the README
	@tests/prepare.sh rust operate
	cargo build --locked --workspace --bins
	$(OPERATE_VENV)/bin/python -B tests/operate/run.py

fuzz-readings: $(READINGS_VENV)/ready ## The same for longer (COUNT=10000 SEED=1), and on Tomcat too
	@tests/prepare.sh rust readings tomcat
	cargo build --locked --bin gateway
	cargo build --locked -p postern-origin --example readings_origin
	$(READINGS_VENV)/bin/python tests/readings/run.py --tomcat --count $(COUNT) --seed $(SEED)

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

$(API_VENV)/ready: tests/api/requirements.txt
	@tests/prepare.sh api
	rm -rf $(API_VENV)
	python3 -m venv $(API_VENV)
	$(API_VENV)/bin/python -m pip install --quiet -r $<
	touch $@

$(FORWARD_AUTH_VENV)/ready: tests/forward-auth/requirements.txt
	@tests/prepare.sh forward-auth
	rm -rf $(FORWARD_AUTH_VENV)
	python3 -m venv $(FORWARD_AUTH_VENV)
	$(FORWARD_AUTH_VENV)/bin/python -m pip install --quiet -r $<
	touch $@

$(READINGS_VENV)/ready: tests/readings/requirements.txt
	@tests/prepare.sh readings
	rm -rf $(READINGS_VENV)
	python3 -m venv $(READINGS_VENV)
	$(READINGS_VENV)/bin/python -m pip install --quiet -r $<
	touch $@

$(OPERATE_VENV)/ready: tests/operate/requirements.txt
	@tests/prepare.sh operate
	rm -rf $(OPERATE_VENV)
	python3 -m venv $(OPERATE_VENV)
	$(OPERATE_VENV)/bin/python -m pip install --quiet -r $<
	touch $@

$(VENV)/ready: examples/litestar/requirements.txt examples/litestar/requirements-dev.txt
	@tests/prepare.sh litestar
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(addprefix -r ,$^)
	touch $@
