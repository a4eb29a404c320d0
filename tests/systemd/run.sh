#!/bin/sh
# Runs the package under a real systemd: makes the Debian roots, and the tools for them where they are missing (as root), and the
# package, then the tests. Called by `make test-systemd`. usage: run.sh DIR [arguments of the tests]; roots are kept in DIR
set -eu
dir=$1
shift
what="the package under systemd"
. tests/debian.sh

get systemd-nspawn systemd-container mmdebstrap mmdebstrap dpkg-shlibdeps dpkg-dev strace strace
make_system bookworm
make_system trixie
systemd-nspawn --quiet --register=no --keep-unit -D "$dir/bookworm" --ephemeral true 2>"$dir/error" ||
    leave_out "systemd-nspawn does not work here: $(tail -n 1 "$dir/error")"

echo "== $what, on Debian 12 and 13 (minutes)"
"${MAKE:-make}" deb
IPC_PIPELINE_DEB=$(readlink -f target/debian/*.deb) IPC_PIPELINE_ROOTS=$(readlink -f "$dir") \
    "${CARGO:-cargo}" test --locked --test systemd -- --ignored --test-threads=2 "$@"
