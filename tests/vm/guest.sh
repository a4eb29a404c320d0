#!/bin/sh
# Makes the machine whose power is cut: vmlinuz, initrd, and root.img, which is Debian with the package installed.
# usage: guest.sh ROOT KERNEL DEB OUT: a Debian root, the extracted packages of a kernel and busybox, the package, where to
set -eu
here=$(dirname "$0")
root=$1 kernel=$2 deb=$3 out=$4
mkdir -p "$out"
work=$(mktemp -d "$(readlink -f "$out")/XXXXXX")
trap 'umount "$work/root" 2>/dev/null; rm -rf "$work"' EXIT

# The initramfs: busybox, and of the modules those that disks and file systems need.
version=$(ls "$kernel/lib/modules")
modules=lib/modules/$version
mkdir -p "$work/initrd/bin" "$work/initrd/$modules"
cp "$kernel/bin/busybox" "$work/initrd/bin/"
cp "$here/init" "$work/initrd/init"
chmod 755 "$work/initrd/init"
chroot "$kernel" depmod "$version"
chroot "$kernel" modprobe -S "$version" -a --show-depends virtio_pci virtio_blk virtio_console xfs btrfs \
    dm_mod dm_delay dm_flakey quota_v2 |
    sed -n 's/^insmod //p' | sort -u | while read -r module; do
    mkdir -p "$work/initrd/$(dirname "$module")"
    cp "$kernel/$module" "$work/initrd/$module"
done
cp "$kernel/$modules"/modules.* "$work/initrd/$modules/"
(cd "$work/initrd" && find . | "$work/initrd/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"

# Debian with the package, as its installation leaves it.
mkdir "$work/root" "$work/upper" "$work/work"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/root"
cp "$deb" "$work/root/opt/ipc-pipeline.deb"
chroot "$work/root" dpkg -i /opt/ipc-pipeline.deb >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; exit 1; }
cp -r "$here/etc" "$work/root/"
units=$work/root/etc/systemd/system
ln -s /etc/systemd/system/verify.service /etc/systemd/system/shell.service "$units/multi-user.target.wants/"

# An emulated processor is slow: what is not for the pipeline is not started.
mask() {
    ln -sf /dev/null "$units/$1"
}
for unit in "$work"/root/usr/lib/systemd/system/*.target.wants/*; do
    case $unit in
        *-journald*.s* | *-tmpfiles-setup.service | *.mount | *-ask-password* | *.target) ;;
        *) mask "$(basename "$unit")" ;;
    esac
done
for unit in getty.target timers.target cryptsetup.target integritysetup.target veritysetup.target remote-fs.target \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount \
    proc-sys-fs-binfmt_misc.automount systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    modprobe@.service dbus.service dbus.socket systemd-initctl.socket; do
    mask "$unit"
done
mkfs.ext4 -q -d "$work/root" "$work/root.img" 1G >/dev/null
cp "$kernel/boot/vmlinuz-$version" "$out/vmlinuz"
mv "$work/initrd.gz" "$out/initrd"
mv "$work/root.img" "$out/root.img"
