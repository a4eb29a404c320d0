#!/bin/sh
# Builds the Debian package into DIR: `make deb`. The same sources give the same bytes, wherever they stand and whenever
# they are built, as long as compiler and system are the same.
set -eu

CARGO=${CARGO:-cargo}
CARGO_DEB=3.8.0
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C

# It tells which versions of the C library will do.
command -v dpkg-shlibdeps >/dev/null 2>&1 || { echo "build.sh: there is no dpkg-shlibdeps: apt install dpkg-dev" >&2; exit 1; }
[ "$("$CARGO" deb --version 2>/dev/null)" = "cargo-deb $CARGO_DEB" ] || "$CARGO" install cargo-deb --locked --version "$CARGO_DEB"

# Everything in the package is as old as its newest entry in the changelog, and no path of this machine is in it.
changed=$(sed -n 's/^ -- .*>  //p' packaging/changelog | head -n 1)
SOURCE_DATE_EPOCH=$(date -d "$changed" +%s)
"$CARGO" fetch --locked
RUSTFLAGS="--remap-path-prefix=$PWD=."
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
	RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$crates=/crates"
done
# A directory of its own, so that `make build` is not built anew after each package because of these flags.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/package
export SOURCE_DATE_EPOCH RUSTFLAGS CARGO_TARGET_DIR

"$CARGO" build --release --locked
pages=$CARGO_TARGET_DIR/release/pages
rm -rf "$pages"
"$CARGO_TARGET_DIR/release/ipc-pipeline" pages "$pages"
gzip -9n "$pages"/man?/*
rm -f "$out"/ipc-pipeline_*.deb
"$CARGO" deb --quiet --no-build --locked --output "$out"
