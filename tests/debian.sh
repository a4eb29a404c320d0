# Sourced by the scripts that run tests on Debian systems made for them. They set $what, the words for what is run, and $dir, where
# the roots are kept.

# Left out with a word about it; but what calls itself CI must not pass without them.
leave_out() {
    echo "== $what: not run, because $1"
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

# get PROGRAM PACKAGE ...: installs the packages whose program is missing.
get() {
    missing=""
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing="$missing $2"
        shift 2
    done
    if [ -n "$missing" ]; then
        apt-get update -q
        # shellcheck disable=SC2086  # a list of packages
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
    fi
}

# make_root NAME RELEASE VARIANT PACKAGES: a root by mmdebstrap, unless it is there with the same packages.
make_root() {
    [ "$(cat "$dir/$1.packages" 2>/dev/null)" != "$4" ] || return 0
    # From where this machine has its own packages.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | grep -v security | head -n 1)
    [ -n "$mirror" ] || leave_out "apt names no source of Debian's packages: 'apt-get update' first"
    echo "== a root of Debian $2: $1 (once)"
    mkdir -p "$dir"
    rm -rf "$dir/$1" "$dir/$1.new"
    mmdebstrap --quiet --variant="$3" --include="$4" "$2" "$dir/$1.new" "$mirror"
    mv "$dir/$1.new" "$dir/$1"
    echo "$4" >"$dir/$1.packages"
}

# make_system RELEASE: what systemd's part of the package needs, with what makes a session of whoever logs in.
make_system() {
    make_root "$1" "$1" minbase systemd,systemd-sysv,libpam-systemd,dbus,procps,udev
}

[ "$(id -u)" = 0 ] || leave_out "that takes root: sudo runs these, too"
command -v apt-get >/dev/null || leave_out "the roots for it are Debian's, and there is no apt here"
