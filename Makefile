# The one door: `make` says what there is. People and CI call the same targets.

SHELL := /bin/sh
CARGO ?= cargo
ARGS  ?=
# Which seeded bugs `make mutants` tries: a pattern of file names in tests/mutants, without .patch.
ONLY  ?= *

.PHONY: help build run test lint bench mutants clean need-rust need-lint

help: ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-9s %s\n", $$1, $$2}' Makefile

build: need-rust ## build the five programs into target/release
	$(CARGO) build --release --locked

run: build ## build, then run the reference job in the foreground; ARGS="--for 10s --name demo" adds arguments
	@exec "$${CARGO_TARGET_DIR:-target}/release/ipc-pipeline" run $(ARGS)

lint: need-lint ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

# Programs with real processes come last and one test at a time, so that nothing else disturbs a storm.
test: lint ## everything that must hold: lint, unit tests, loom, power cuts, kill storms, doc tests (minutes)
	@echo "== unit tests"
	$(CARGO) test --locked --lib --bins
	@echo "== every interleaving of the ring, by loom (about a minute)"
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/loom RUSTFLAGS="--cfg loom" \
		$(CARGO) test --locked --release --lib interleavings
	@echo "== kills at every instruction, power cuts, kill storms (some minutes)"
	$(CARGO) test --locked --test '*' -- --test-threads=1
	@echo "== examples in the documentation"
	$(CARGO) test --locked --doc

bench: need-rust ## throughput and latency, as ratios measured in one run
	$(CARGO) bench --locked --bench pipeline $(if $(ARGS),-- $(ARGS))

mutants: need-rust ## every seeded bug of tests/mutants must make its test fail; ONLY='record-*' chooses
	@CARGO="$(CARGO)" sh tests/mutants/run.sh '$(ONLY)'

clean: ## remove what was built; records of pipelines stay
	$(CARGO) clean

need-rust:
	@command -v cc >/dev/null 2>&1 || { \
		echo "make: there is no C compiler (cc), and Rust links with it. On Debian: apt install gcc libc6-dev" >&2; exit 1; }
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "make: there is no cargo. Get Rust by rustup: on Debian 13 'apt install rustup' and" >&2; \
		echo "'rustup default stable', elsewhere the installer that the Rust project offers for download." >&2; exit 1; }
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$(rustc --version | cut -d' ' -f2); \
	oldest=$$(printf '%s\n' "$$need" "$$have" | sort -V | head -n 1); \
	[ "$$oldest" = "$$need" ] || { \
		echo "make: Rust $$have is too old, it must be $$need or newer: 'rustup update stable' gets it" >&2; exit 1; }

need-lint: need-rust
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 || { \
		echo "make: rustfmt or clippy is missing: 'rustup component add rustfmt clippy' gets them" >&2; exit 1; }
