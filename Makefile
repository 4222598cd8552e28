# make run    installs what is missing, builds, and serves from config.toml with data in ./data; stdout is the server's alone
# make test   installs what is missing, and runs all tests, those of the API a second time on the strict memory engine; YURT_TEST_PEER=none leaves Synapse out
# make lint   formatting, clippy and the linter of the API's description, warnings denied
# make bench  all benches, or those in BENCHES, such as BENCHES='--bench load'; YURT_BENCH=quick makes the load on the running server short (two minutes instead of ten)
#
# make api-lint   only the last of make lint
# make api-test   holds a running server to the API's description for some minutes; API_TEST='--seed random' varies it
# make fuzz       runs each fuzz target for FUZZ_SECONDS, or only those in TARGETS; wants cargo-fuzz and a nightly toolchain
#
# One cargo profile (dev) and the same features everywhere: RocksDB's C++ takes minutes to build, and is built once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run

# Where rustup puts cargo, for shells that have not read its profile.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Incremental builds of optimised code fail to link now and then: https://github.com/rust-lang/rust/issues/81280
export CARGO_INCREMENTAL := 0

# What serves and what is measured is as optimised as its libraries are; tests build faster.
OPTIMISED := CARGO_PROFILE_DEV_OPT_LEVEL=3

CARGO ?= cargo
CONFIG ?= config.toml

# Further arguments for tests/api/run.py.
API_TEST ?=

# Which benches.
BENCHES ?= --workspace

TARGETS ?= bundle config feed ids key_answers pdus requests rows send_join_answers transactions well_known_answers x_matrix
FUZZ_SECONDS ?= 60

# Yurt has no unsafe code, so that no sanitizer could find more than the targets' own checks do.
FUZZ := cargo +nightly fuzz
FUZZ_RUN := $(FUZZ) run --sanitizer none

# What is needed from Debian: a C++ compiler, libclang, with which bindgen reads RocksDB's header, curl for the tour of the README, openssl for the certificates
# of the tests.
PACKAGES := curl g++ libclang-dev make openssl pkg-config

.PHONY: run test lint bench api-lint api-test fuzz dependencies rust-components python peer

run: dependencies
	@$(OPTIMISED) $(CARGO) run --locked --bin yurt -- serve --config $(CONFIG)

test: dependencies peer
	$(CARGO) test --locked --workspace --no-fail-fast
	YURT_TEST_STORE=memory $(CARGO) test --locked --test it -- v1:: engine:: --skip leaves_no_byte_behind

lint: dependencies rust-components api-lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	@if command -v cargo-deny > /dev/null; then cargo-deny check; fi

api-lint: python
	@tools=$$(.ci/api-tools); \
	PATH=$$tools/bin:$$PATH REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true $$tools/node_modules/.bin/redocly lint v1 ryos virola mirage agora

# The binary that the tests run, so that nothing is built a second time.
api-test: dependencies python
	$(CARGO) test --locked --workspace --no-run
	@tools=$$(.ci/api-tools); $$tools/bin/python tests/api/run.py "$${CARGO_TARGET_DIR:-target}/debug/yurt" $(API_TEST)

# The targets are built with other flags than Yurt, in a folder of their own; RocksDB's C++ is the one that Yurt's build made.
fuzz: export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
fuzz: export ROCKSDB_STATIC := 1
fuzz: dependencies
	$(CARGO) build --locked --lib
	@export ROCKSDB_LIB_DIR=$$(dirname "$$(ls -t "$$CARGO_TARGET_DIR"/debug/build/librocksdb-sys-*/out/librocksdb.a | head -1)"); \
	export CARGO_TARGET_DIR=$$CARGO_TARGET_DIR/fuzz; \
	$(FUZZ) build --sanitizer none; \
	YURT_FUZZ_CORPUS=fuzz/corpus $(FUZZ_RUN) requests; \
	for target in $(TARGETS); do \
	  mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target; \
	  $(FUZZ_RUN) $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096; \
	done

bench: dependencies
	$(OPTIMISED) $(CARGO) bench --locked --profile dev $(BENCHES)

dependencies:
	@if ! command -v $(CARGO) > /dev/null; then \
	  echo 'cargo is missing: install Rust with rustup, https://rustup.rs' >&2; exit 1; \
	fi; \
	if ! command -v dpkg-query > /dev/null; then exit 0; fi; \
	missing=; \
	for package in $(PACKAGES); do \
	  status=$$(dpkg-query --show --showformat='$${db:Status-Status}' "$$package" 2> /dev/null || true); \
	  if [ "$$status" != installed ]; then missing="$$missing $$package"; fi; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; \
	elif sudo --non-interactive true 2> /dev/null; then root='sudo --non-interactive'; \
	else \
	  echo "Packages are missing. Run this, then again what you ran: sudo apt-get install --yes$$missing" >&2; exit 1; \
	fi; \
	echo "Installing:$$missing" >&2; \
	$$root apt-get update >&2 || true; \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get --option DPkg::Lock::Timeout=300 install --yes --no-install-recommends $$missing >&2

rust-components:
	@if ! $(CARGO) fmt --version > /dev/null 2>&1 || ! $(CARGO) clippy --version > /dev/null 2>&1; then \
	  rustup component add rustfmt clippy; \
	fi

# The other server with which the tests of federation talk.
peer: python
	@if [ "$${YURT_TEST_PEER:-}" != none ]; then tests/peers/synapse/start --install-only >&2; fi

python:
	@if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then $(MAKE) --no-print-directory dependencies PACKAGES=python3-venv; fi
