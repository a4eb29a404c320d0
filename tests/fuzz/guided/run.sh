#!/bin/sh
# Fuzzing that coverage guides, by libFuzzer and on a stable Rust: called by `make fuzz`. Each target has FUZZ_SECONDS (60). What
# leads to new code is gathered in target/fuzz/found; FUZZ_KEEP=1 puts small inputs of those that lead to all of that into
# tests/fuzz/corpus, where `make test` tries it. An input that breaks something stays in target/fuzz/broken.
set -eu
only=${1:-}
here=tests/fuzz/guided
work=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz sets, without a sanitizer: nothing of ours outside daemons/lib/sys could break memory.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
# With --target the flags are not for build scripts.
RUSTFLAGS="$flags" ${CARGO:-cargo} build --release --locked --manifest-path $here/Cargo.toml --target "$host" --target-dir "$work/build"
program=$work/build/$host/release/fuzz-guided
failed=""
for target in ${only:-$(sed -n 's/.*Target::new("\([^"]*\)".*/\1/p' tests/fuzz/targets/mod.rs)}; do
    found=$work/found/$target kept=tests/fuzz/corpus/$target broken=$work/broken/$target
    mkdir -p "$found" "$kept" "$broken" "$work/seeds/$target"
    echo "== $target"
    FUZZ_TARGET=$target FUZZ_SEEDS=$work/seeds/$target "$program" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
        -dict="$work/seeds/$target.dict" -print_final_stats=1 -artifact_prefix="$broken/" "$found" "$kept" "$work/seeds/$target" 2>&1 |
        tee "$work/log" | grep -E 'panicked|SUMMARY|Test unit written|number_of_executed_units|^thread|cov:.*DONE' || true
    grep -q 'DONE' "$work/log" || failed="$failed $target"
    if [ "${FUZZ_KEEP:-}" ]; then
        rm -rf "$work/small"
        mkdir -p "$work/small"
        FUZZ_TARGET=$target "$program" -merge=1 "$work/small" "$kept" "$work/seeds/$target" "$found" 2>/dev/null || failed="$failed $target"
        # 24 of those below 1.5 KiB, evenly from the small to the large: the repository is no place for more.
        find "$work/small" -type f -size -4 -printf '%s %p\n' | sort -n >"$work/list"
        awk -v n="$(wc -l <"$work/list")" '{ if (int(NR * 24 / n) > int((NR - 1) * 24 / n) || n <= 24) print $2 }' "$work/list" |
            xargs -r cp -nt "$kept"
    fi
    rmdir "$kept" 2>/dev/null || true
done
[ -z "$failed" ] || { echo "these targets broke:$failed; the inputs are in $work/broken" >&2; exit 1; }
