#!/bin/sh
# A machine with the package whose power is cut again and again, whose disk gets bad and whose clock is set: makes an emulated
# machine of Debian 12, a kernel and the package, gets the tools for it where they are missing (as root), and runs the tests. Called
# by `make test-vm`.
# usage: run.sh DIR [arguments of the tests]; the roots are kept in DIR
set -eu
dir=$1
shift
what="power cuts, bad disks and set clocks of a whole machine"
. tests/debian.sh

[ "$(dpkg --print-architecture)" = amd64 ] || leave_out "the emulated machine is an amd64, and this one is not"
losetup --find >/dev/null 2>&1 || leave_out "no loop device can be had here, and the disks have to be looked at"
get qemu-system-x86_64 qemu-system-x86 mmdebstrap mmdebstrap dpkg-shlibdeps dpkg-dev mkfs.ext4 e2fsprogs
make_system bookworm
# Extracted only; which version they are is their own business.
make_root kernel bookworm extract linux-image-cloud-amd64,busybox-static

echo "== $what (two or three minutes)"
"${MAKE:-make}" deb
sh tests/vm/guest.sh "$dir/bookworm" "$dir/kernel" target/debian/*.deb "$dir/guest"
IPC_PIPELINE_GUEST=$(readlink -f "$dir/guest") \
    "${CARGO:-cargo}" test --locked --test vm -- --ignored --test-threads=2 --nocapture "$@"
