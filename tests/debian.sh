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

# make_root NAME RELEASE ARGUMENTS: a root of this release by mmdebstrap, unless it is there.
make_root() {
    [ ! -d "$dir/$1" ] || return 0
    # From where this machine has its own packages.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | grep -v security | head -n 1)
    [ -n "$mirror" ] || leave_out "apt names no source of Debian's packages: 'apt-get update' first"
    mkdir -p "$dir"
    name=$1 release=$2
    shift 2
    echo "== $name of Debian $release (once)"
    rm -rf "$dir/$name.new"
    mmdebstrap --quiet "$@" "$release" "$dir/$name.new" "$mirror"
    mv "$dir/$name.new" "$dir/$name"
}

# make_system RELEASE: what systemd's part of the package needs, and no more.
make_system() {
    make_root "$1" "$1" --variant=minbase --include=systemd,systemd-sysv,dbus,procps,udev
}

[ "$(id -u)" = 0 ] || leave_out "that takes root: sudo runs these, too"
command -v apt-get >/dev/null || leave_out "the roots for it are Debian's, and there is no apt here"
