# The one door: `make` says what there is. People and CI call the same targets.

SHELL := /bin/sh
CARGO ?= cargo
ARGS  ?=
# How much the tests do: ci, nightly or release.
SIZE  ?= ci
export IPC_PIPELINE_SIZE = $(SIZE)
# How long `make torture` runs.
HOURS ?= 1
# Which seeded bugs `make mutants` tries: a pattern of file names in tests/mutants, without .patch.
ONLY  ?= *

# Some tests mount file systems; they are marked `#[ignore]`. Here they are taken in, if this user may mount ("unchanged":
# in a chroot the usual change of the root's propagation is refused, but mounts are not).
TAKE_IN = $(shell unshare --mount --propagation unchanged true 2>/dev/null && echo --include-ignored)

# Suites whose tests mostly wait, or keep one processor busy: two of a suite at a time do not disturb each other. What loads the
# whole machine, measures time or takes all queues that a user may have runs alone. `systemd` and `vm` need more than a machine
# as it is: test-systemd, test-vm.
TWO_AT_A_TIME = alarms calls carriers checker commands config disk docs ecg edges every_instruction foreign harness instances keep \
	messages notify package pages policies powercut refusals reload report run simulation sources statistics storm tidy windows
ALONE = bench_command carried damage fuzz junk pi timing
suites = $(addprefix --test ,$(1))

.PHONY: help build run test test-root test-systemd test-vm lint fuzz bench torture mutants deb deb-check clean need-cc need-rust need-lint need-strace need-foreign

# Where `need-foreign` puts what this machine's Python does not have; found before anything else.
FOREIGN := $(shell realpath -m -- "$${CARGO_TARGET_DIR:-target}")/foreign
export PATH := $(FOREIGN)/bin:$(PATH)

help: ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-9s %s\n", $$1, $$2}' Makefile

build: need-rust ## build the five programs into target/release
	$(CARGO) build --release --locked

run: build ## build, then run the reference job in the foreground; ARGS="--for 10s --name demo" adds arguments
	@exec "$${CARGO_TARGET_DIR:-target}/release/ipc-pipeline" run $(ARGS)

lint: need-lint ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

test: lint need-strace need-foreign ## everything that must hold: lint, unit tests, loom, power cuts, kill storms, doc tests (half an hour); SIZE=nightly or release does more
	@echo "== unit tests"
	$(CARGO) test --locked --lib --bins
	@echo "== every interleaving of the ring, by loom (about a minute)"
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target}/loom RUSTFLAGS="--cfg loom" \
		$(CARGO) test --locked --release --lib interleavings
	@echo "== kills at every instruction, power cuts, kill storms (some minutes)"
	$(CARGO) test --locked $(call suites,$(TWO_AT_A_TIME)) -- --test-threads=2 $(TAKE_IN)
	$(CARGO) test --locked $(call suites,$(ALONE)) -- --test-threads=1 $(TAKE_IN)
	@echo "== examples in the documentation"
	$(CARGO) test --locked --doc
	@$(MAKE) test-systemd
	@$(MAKE) test-vm
	@$(if $(TAKE_IN),,echo "== all of this passed; not run, for they need root and the right to mount: the tests shown as 'ignored'. 'make test-root' runs these")

test-root: need-rust ## the tests that mount file systems, by sudo; `make test` leaves them out where it may not mount
	@command -v sudo >/dev/null 2>&1 || { echo "make: there is no sudo; 'make test' as root runs these tests, too" >&2; exit 1; }
	$(CARGO) test --locked --config "target.'cfg(all())'.runner='sudo'" $(call suites,$(TWO_AT_A_TIME) $(ALONE)) -- --test-threads=1 --ignored

test-systemd: need-rust ## the package in containers with a real systemd, on Debian 12 and 13 (root); ARGS chooses
	@CARGO="$(CARGO)" MAKE="$(MAKE)" sh tests/systemd/run.sh "$${CARGO_TARGET_DIR:-target}/roots" $(ARGS)

test-vm: need-rust ## power cuts of an emulated machine with the package (root); VM_CUTS, VM_STATES, VM_FAULTS, VM_STEPS, VM_DISK and VM_SEED choose
	@CARGO="$(CARGO)" MAKE="$(MAKE)" sh tests/vm/run.sh "$${CARGO_TARGET_DIR:-target}/roots" $(ARGS)

torture: need-strace need-foreign ## all faults, round after round with new dice, for HOURS=n; writes the table of docs/reliability.md; ARGS="--seed 7 --only storm"
	$(CARGO) test --locked --no-run
	MAKE="$(MAKE)" $(CARGO) run --locked --quiet --example torture -- --hours $(HOURS) $(ARGS) -- $(TAKE_IN)

fuzz: need-rust ## mutations that the coverage guides for the targets of tests/fuzz; FUZZ_SECONDS for each, ARGS=NAME chooses (C++ compiler)
	@CARGO="$(CARGO)" sh tests/fuzz/guided/run.sh $(ARGS)

bench: need-rust ## throughput and latency, as ratios measured in one run
	$(CARGO) bench --locked --bench pipeline $(if $(ARGS),-- $(ARGS))

mutants: need-rust need-foreign ## every seeded bug of tests/mutants must make its test fail; ONLY='record-*' chooses
	@CARGO="$(CARGO)" sh tests/mutants/run.sh '$(ONLY)'

# One package for Debian 12 and newer: built on 12, because a program needs at least the C library that it was built with.
deb: need-rust ## build the Debian package into target/debian (on Debian 12 for 12 and 13)
	CARGO="$(CARGO)" sh packaging/build.sh target/debian
	@ls target/debian/*.deb

deb-check: deb ## lintian and piuparts on Debian 12 and 13, and a second build that must give the same bytes (root)
	CARGO="$(CARGO)" sh packaging/check.sh target/debian

clean: ## remove what was built; records of pipelines stay
	$(CARGO) clean

need-cc:
	@command -v cc >/dev/null 2>&1 || { \
		echo "make: there is no C compiler (cc), and Rust links with it. On Debian: apt install gcc libc6-dev" >&2; exit 1; }
	@[ "$$(cc -print-file-name=crt1.o)" != crt1.o ] || { \
		echo "make: cc cannot link, there are no development files of the C library. On Debian: apt install libc6-dev" >&2; exit 1; }

# What to do without a Rust that is new enough: for who has rustup, for whose shell does not see it yet, for all others.
get_rust = { \
	if command -v rustup >/dev/null 2>&1; then \
		echo "'rustup default stable' and 'rustup update stable' get it."; \
	elif [ -x "$$HOME/.cargo/bin/cargo" ]; then \
		echo "There is one in ~/.cargo/bin, where this shell does not look: '. ~/.cargo/env' mends that."; \
	else \
		echo "Get Rust by rustup: on Debian 13 'apt install rustup' and 'rustup default stable',"; \
		echo "elsewhere the installer that the Rust project offers for download."; \
	fi >&2; exit 1; }

need-rust: need-cc
	@command -v $(CARGO) >/dev/null 2>&1 || { echo "make: there is no cargo." >&2; $(get_rust); }
	@rustc --version >/dev/null || { echo "make: rustc does not work." >&2; $(get_rust); }
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$(rustc --version | cut -d' ' -f2); \
	oldest=$$(printf '%s\n' "$$need" "$$have" | sort -V | head -n 1); \
	[ "$$oldest" = "$$need" ] || { \
		echo "make: Rust $$have ($$(command -v rustc)) is too old, it must be $$need or newer." >&2; $(get_rust); }

need-lint: need-rust
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 || { \
		echo "make: rustfmt or clippy is missing: 'rustup component add rustfmt clippy' gets them" >&2; exit 1; }

need-strace:
	@command -v strace >/dev/null 2>&1 || { \
		echo "make: there is no strace, which kills daemons at a system call. On Debian: apt install strace" >&2; exit 1; }

# Programs that are not ours, for tests/foreign. Debian 12 has no posix_ipc: pip gets it, as cargo gets crates.
need-foreign:
	@command -v socat >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || { \
		echo "make: programs that meet ours in tests are missing. On Debian: apt install socat g++ python3-venv" >&2; exit 1; }
	@python3 -c 'import posix_ipc, sysv_ipc' 2>/dev/null || { \
		echo "== posix_ipc and sysv_ipc for Python, into $(FOREIGN)"; \
		python3 -m venv "$(FOREIGN)" && "$(FOREIGN)/bin/pip" install --quiet posix_ipc==1.3.2 sysv_ipc==1.2.0; }
