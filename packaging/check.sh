#!/bin/sh
# Judges the Debian package in DIR: `make deb-check`. lintian has nothing to say against it, and the same sources built
# elsewhere, at another time and by another name, give the same bytes.
set -eu

dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
package=$(ls "$dir"/ipc-pipeline_*.deb)

lintian --fail-on error,warning "$package"
echo "lintian: no errors, no warnings"

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT INT TERM
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents -t "$elsewhere"
(cd "$elsewhere" && env -u CARGO_TARGET_DIR TZ=Pacific/Auckland LANG=C.UTF-8 sh packaging/build.sh "$elsewhere/out")
cmp "$package" "$elsewhere"/out/ipc-pipeline_*.deb
echo "a second build elsewhere gives the same bytes: $(sha256sum <"$package" | cut -d ' ' -f 1)"
