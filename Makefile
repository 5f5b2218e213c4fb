# The commands people type. One profile (release, the whole workspace) serves all of them, so that
# whatever one target compiled, the next one finds. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help needs-build needs-test needs-cuda needs-checkpoints needs-llama needs-peers build cuda demo test test-faults test-checkpoints test-trainers soak bench bench-engine-peers failover overload bench-peers eval notices lint clean

BINARY := target/release/aligner-connector
CARGO_BUILD := cargo build --release --workspace
SUITES := .ci/suites
MINUTES ?= 30
EVENTS ?=
TRIPLES ?= 2000

help: ## list the targets
	@echo "Aligner Connector. Targets:"
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

needs-build:
	@.ci/needs build

needs-test needs-cuda needs-checkpoints needs-llama needs-peers:
	@.ci/needs build $(@:needs-%=%)

build: needs-build ## compile the connector to target/release/aligner-connector
	@test -x $(BINARY) || echo "First build: everything is compiled once, about 15 minutes on two cores. Later ones take seconds."
	@$(CARGO_BUILD)

cuda: needs-cuda ## a binary that corrects on NVIDIA GPUs too, in target/cuda/release; needs no GPU to build
	@home=$$(.ci/nvcc) && CUDA_HOME=$$home \
	    cargo build --release --locked -p aligner-service --features cuda --target-dir target/cuda

demo: build ## correct a few hundred answers with the bundled model, over an in-process Kafka
	@$(BINARY) demo $(if $(EVENTS),--events $(EVENTS))

test: needs-test ## run every test, on a real Apache Kafka and real Helm; ends with a table of times
	@test -x $(BINARY) || echo "First build: everything is compiled once, about 20 minutes on two cores, tests included."
	@$(CARGO_BUILD)
	@$(SUITES)

test-faults: needs-test build ## the faults of `make test` alone, on real brokers
	@$(SUITES) faults overload

failover: needs-test build ## seconds until a killed process is replaced, over ten kills each
	@cargo test --release --workspace --test faults -- --ignored --nocapture --test-threads 1 failover::

overload: needs-test build ## ten minutes of five times more than the Aligner can take
	@cargo test --release --workspace --test faults -- --ignored --nocapture overload::

test-trainers: needs-test build ## Hugging Face transformers loads the bundled model and decodes the same tokens; TRL trains on pairs
	@$(SUITES) trainers

soak: needs-test build ## random faults for MINUTES=30 from a printed seed, then the books are checked
	@ALIGNER_SOAK_MINUTES=$(MINUTES) SUITE_LIMIT_MINUTES=$$(($(MINUTES) + 15)) $(SUITES) soak

bench: needs-test build ## how fast the bundled Aligner is here, and the connector on a real Apache Kafka
	@$(BINARY) bench
	@target/release/kafka-bench

bench-peers: needs-peers build ## the connector beside a plain rdkafka loop, Kafka Streams and franz-go
	@tests/peers/build.sh
	@target/release/kafka-bench --peers

test-checkpoints: needs-checkpoints build ## a real model and real tokenizers, fetched once (260 MB)
	@$(SUITES) checkpoints

bench-engine-peers: needs-llama ## the engine beside llama.cpp and candle-transformers; PEERS="--shape 150m"
	@$(CARGO_BUILD) --bins --examples
	@python3 connector/engine/peers/run.py $(PEERS)

eval: build ## the bundled Aligner's figures: on templates and values it never saw, and on typed answers
	@mkdir -p target/eval
	@target/release/aligner-corpus --split test --count $(TRIPLES) --out target/eval/test.jsonl
	@$(BINARY) eval --data target/eval/test.jsonl --report target/eval/report.html
	@for set in answers development strangers; do \
		$(BINARY) eval --data connector/bundled/typed/$$set.jsonl --report target/eval/$$set.html || exit; \
	done
	@echo "The worst cases are in the reports, target/eval/*.html."

# With what a GPU needs besides, so that they go with the binary of `make cuda` too.
notices: needs-build ## licences of all that is linked in, to target/notices: for whoever passes a binary on
	@$(CARGO_BUILD) --bin aligner-notices
	@target/release/aligner-notices target/notices aligner-service/cuda
	@echo "Pass target/notices on with the binary."

# In the release profile too: build scripts (librdkafka's above all) and macros are shared with it.
lint: needs-build ## formatting, clippy, documentation, dependency policy
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
	@if home=$$(.ci/nvcc --present); then \
	    CUDA_HOME=$$home cargo clippy --release --workspace --features aligner-service/cuda -- -D warnings; \
	 else echo "there is no nvcc here: the feature cuda was not checked; \`make cuda\` fetches one"; fi
	@if cargo deny --version >/dev/null 2>&1; then \
	    cargo deny --offline check bans licenses sources; \
	 else echo "cargo-deny is not installed: deny.toml was not checked; \`tidy\` checks licences"; fi

clean: ## remove what was compiled from this repository, and keep the dependencies
	cargo clean --workspace --release
	rm -rf target/tools target/doc
