#!/bin/sh
# Runs the package under a real systemd: makes the Debian roots, and the tools for them where they are missing (as root), and the
# package, then the tests. Called by `make test-systemd`. usage: run.sh DIR [arguments of the tests]; roots are kept in DIR
set -eu
dir=$1
shift

# Left out with a word about it; but what calls itself CI must not pass without them.
leave_out() {
    echo "== the package under systemd: not run, because $1"
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

[ "$(id -u)" = 0 ] || leave_out "that takes root: 'sudo make test-systemd' runs these"
command -v apt-get >/dev/null || leave_out "the roots for it are Debian's, and there is no apt here"
missing=""
command -v systemd-nspawn >/dev/null || missing="$missing systemd-container"
command -v mmdebstrap >/dev/null || missing="$missing mmdebstrap"
command -v dpkg-shlibdeps >/dev/null || missing="$missing dpkg-dev"
if [ -n "$missing" ]; then
    apt-get update -q
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

# From where this machine has its own packages.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | grep -v security | head -n 1)
[ -n "$mirror" ] || leave_out "apt names no source of Debian's packages: 'apt-get update' first"
mkdir -p "$dir"
# With what makes a session of whoever logs in.
packages=systemd,systemd-sysv,libpam-systemd,dbus,procps,udev
for release in bookworm trixie; do
    if [ "$(cat "$dir/$release.packages" 2>/dev/null)" != "$packages" ]; then
        echo "== a root of Debian $release (once)"
        rm -rf "$dir/$release" "$dir/$release.new"
        mmdebstrap --quiet --variant=minbase --include="$packages" "$release" "$dir/$release.new" "$mirror"
        mv "$dir/$release.new" "$dir/$release"
        echo "$packages" >"$dir/$release.packages"
    fi
done
systemd-nspawn --quiet --register=no --keep-unit -D "$dir/bookworm" --ephemeral true 2>"$dir/error" ||
    leave_out "systemd-nspawn does not work here: $(tail -n 1 "$dir/error")"

echo "== the package under systemd, on Debian 12 and 13 (minutes)"
"${MAKE:-make}" deb
IPC_PIPELINE_DEB=$(readlink -f target/debian/*.deb) IPC_PIPELINE_ROOTS=$(readlink -f "$dir") \
    "${CARGO:-cargo}" test --locked --test systemd -- --ignored --test-threads=1 "$@"
