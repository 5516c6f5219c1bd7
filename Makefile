# What one does with this repository. CONTRIBUTING.md says more.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run cluster demo test sim fuzz compat-reference compat-table lint fix bench bench-cluster bench-topics bench-fifo bench-restart image chart-test chart-golden k8s-test

# One folder for all clones: what was compiled once is compiled once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/apogee-target
# The test programs of the official SDKs and what they need.
export COMPAT_ENV ?= $(HOME)/.cache/apogee-test-env
# Errors tell what happened; with backtraces a failing test prints pages in which that is lost.
export RUST_BACKTRACE := 0

# One profile and feature set for everything that is executed.
CARGO_BUILD := cargo build --release --workspace --locked
BINARY := $(CARGO_TARGET_DIR)/release/apogee
# Checks the lists of deny.toml; installed by `make lint` when missing.
CARGO_DENY := 0.20.2

# Simulated clusters. The test is named apart because what it prints is to be seen; with the features of the whole
# workspace nothing is compiled for it alone.
SEEDS := many_seeds_keep_every_promise
SIM = SIM_SECONDS=$(SIM_SECONDS) SIM_FROM=$(SIM_FROM) \
  cargo test --release --workspace --locked --test sim $(SEEDS) -- --nocapture

ARGS ?=
SCENARIOS ?=
SIM_SECONDS ?= 300
SIM_FROM ?= 0
TARGET ?= log
FUZZ_SECONDS ?= 600
ENDPOINT ?= 127.0.0.1:8081
COUNT ?= 1000
FOLDER ?= apogee-cluster
ROUNDS ?= 5
IMAGE ?= apogee:$(shell sed -n 's/^appVersion: "\(.*\)"/\1/p' helm/Chart.yaml)
ARCHIVE ?= apogee-image.tar

help:
	@echo "make run    build and start apogee dev on 127.0.0.1:8081    ARGS='--ephemeral' and the like"
	@echo "make cluster  three namesrv, three store-nodes, two proxies FOLDER=$(FOLDER)"
	@echo "make demo   1,000 messages through the official Java SDK    ENDPOINT=$(ENDPOINT) COUNT=$(COUNT)"
	@echo "make test   all tests, official SDKs included"
	@echo "make sim    whole clusters by the seed, in bad weather      SIM_SECONDS=$(SIM_SECONDS) SIM_FROM=$(SIM_FROM), the first seed"
	@echo "make fuzz   hostile bytes for one of our parsers            TARGET=$(TARGET) FUZZ_SECONDS=$(FUZZ_SECONDS)"
	@echo "make compat-reference  what Apache RocketMQ does in the compat scenarios    SCENARIOS='...' for some of them"
	@echo "make compat-table      the table of them, after a change of differences.toml"
	@echo "make image  the image of all roles, as an archive           IMAGE=$(IMAGE) ARCHIVE=$(ARCHIVE)"
	@echo "make chart-test        what the chart makes and refuses, without a cluster"
	@echo "make chart-golden      what the chart makes, after a change of helm/ or of the kinds"
	@echo "make k8s-test  the chart in the Kubernetes of KUBECONFIG, under load  IMAGE=$(IMAGE) ARGS='--steps restarts'"
	@echo "make lint   formatting, clippy, licences; changes nothing"
	@echo "make fix    what of that a machine can repair"
	@echo "make bench  load on a server of its own, and its figures    ARGS='...' of the load generator"
	@echo "make bench-cluster  what roles apart and three replicas cost  ROUNDS=$(ROUNDS)"
	@echo "make bench-topics   what a thousand topics cost             ROUNDS=$(ROUNDS)"
	@echo "make bench-fifo     what order by message group costs the Java SDK  ROUNDS=$(ROUNDS)"
	@echo "make bench-restart  kill -9 with a large log, and how long until it serves again    ARGS='GIB BODY_BYTES RUNS'"

run:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/run.sh $(BINARY) $(ARGS)

# Data and logs in FOLDER; a second start finds them.
cluster:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/cluster.sh $(BINARY) $(FOLDER)

demo:
	@tests/setup/demo.sh $(ENDPOINT) $(COUNT)

# The program and its tests in one go: tests want other features of libraries, and built apart, everything of ours and much
# below it would be compiled for each.
test:
	@tests/setup/build.sh
	@tests/setup/java.sh
	@tests/setup/python.sh
	@tests/setup/go.sh
	@tests/setup/node.sh
	@tests/setup/rust.sh
	@tests/setup/helm.sh
	cargo build --release --workspace --all-targets --locked
	$(CARGO_TARGET_DIR)/release/examples/descriptors $(CARGO_TARGET_DIR)/descriptors.bin
	$(COMPAT_ENV)/python/bin/python tests/compat/python/check_descriptors.py $(CARGO_TARGET_DIR)/descriptors.bin
	cargo test --release --workspace --locked --doc
	cargo test --release --workspace --locked --lib --bins --tests -- --skip $(SEEDS)
	$(SIM)

# Says how many seeds it had time for and what happened in them; a failing one is told with the command that runs it
# again. On all processors.
sim:
	@tests/setup/build.sh
	$(SIM)

# One target of tests/fuzz/Cargo.toml. The test leaves its valid inputs, and the build RocksDB.
fuzz:
	@tests/setup/build.sh
	cargo test --release --workspace --locked --test fuzz
	@tests/setup/fuzz.sh $(TARGET) $(FUZZ_SECONDS)

# Starts Apache RocketMQ on loopback, in a temporary folder, and records what it does; `make test` compares with that.
compat-reference:
	@tests/setup/build.sh
	@tests/setup/reference.sh
	$(CARGO_BUILD)
	cd tests && CARGO_MANIFEST_DIR=$$PWD $(CARGO_TARGET_DIR)/release/compat-record reference $(SCENARIOS)

compat-table:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	cd tests && CARGO_MANIFEST_DIR=$$PWD $(CARGO_TARGET_DIR)/release/compat-record table

# Nothing is pulled: `docker load`, `ctr images import` and their like take the archive.
image:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@k8s/image/build.sh $(BINARY) $(IMAGE) $(ARCHIVE)

# A part of `make test` that needs no cluster, but Helm.
CHART := cargo test --release --workspace --locked --test chart --test definitions

chart-test:
	@tests/setup/build.sh
	@tests/setup/helm.sh
	$(CARGO_BUILD)
	$(CHART)

chart-golden:
	@tests/setup/build.sh
	@tests/setup/helm.sh
	CHART_GOLDEN=1 $(CHART) -- it_makes_what_it_made the_chart_has_them

# Any cluster will do that has the image and whose Services are reached from here.
k8s-test:
	@if [ -z "$${KUBECONFIG:-}" ]; then \
	  echo "KUBECONFIG is not set. On a machine with a container runtime: kind create cluster; make image; kind load" >&2; \
	  echo "image-archive $(ARCHIVE); then this with ARGS='--endpoint ADDRESS_OF_THE_NODE:30081'." >&2; \
	  exit 1; \
	fi
	@tests/setup/build.sh
	@for sdk in java python go node rust; do tests/setup/$$sdk.sh; done
	$(CARGO_BUILD)
	CARGO_MANIFEST_DIR=$$PWD/tests $(CARGO_TARGET_DIR)/release/k8s-test --program $(BINARY) --image $(IMAGE) $(ARGS)

# Clippy, too, in the release profile: another one would compile all C and C++ code a second time.
lint:
	@tests/setup/build.sh
	cargo fmt --all -- --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	@if ! cargo deny --version 2>/dev/null | grep -qF $(CARGO_DENY); then \
	  echo "setup: installing cargo-deny $(CARGO_DENY) (cargo install, some minutes)" >&2; \
	  env -u CARGO_TARGET_DIR cargo install cargo-deny --version $(CARGO_DENY) --locked --quiet; \
	fi
	cargo deny --locked check licenses bans sources

fix:
	cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

bench:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/bench.sh $(CARGO_TARGET_DIR)/release $(ARGS)

# Alternates between one process, one replica and three.
bench-cluster:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/bench-cluster.sh $(CARGO_TARGET_DIR)/release $(ROUNDS)

# One topic and a thousand of them in turn.
bench-topics:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/bench-topics.sh $(CARGO_TARGET_DIR)/release $(ROUNDS)

# Messages of a thousand message groups, one of which always fails, and as many without order, in turn.
bench-fifo:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/bench-fifo.sh $(CARGO_TARGET_DIR)/release $(ROUNDS)

bench-restart:
	@tests/setup/build.sh
	$(CARGO_BUILD)
	@tests/setup/restart.sh $(CARGO_TARGET_DIR)/release $(ARGS)
