#!/bin/sh
# Judges the Debian package in DIR: `make deb-check`. lintian has nothing to say against it, on Debian 12 and on 13, nor has
# piuparts, and the same sources built elsewhere, at another time, give the same bytes.
set -eu

dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
package=$(ls "$dir"/ipc-pipeline_*.deb)
for tool in mmdebstrap piuparts; do
	command -v $tool >/dev/null 2>&1 || { echo "check.sh: there is no $tool: apt install $tool" >&2; exit 1; }
done
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT INT TERM

# In a bare Debian of its own, from where this machine gets its packages. There it is installed, too.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
for suite in bookworm trixie; do
	mmdebstrap --quiet --variant=apt --include=lintian,man-db --format=null \
		--customize-hook="copy-in '$package' /opt" \
		--customize-hook='chroot "$1" sh -c "lintian --allow-root --fail-on error,warning /opt/*.deb"' \
		--customize-hook='chroot "$1" sh -c "apt-get install --quiet --yes --no-install-recommends /opt/*.deb"' \
		"$suite" /dev/null "$mirror"
	echo "$suite: it can be installed; lintian has no errors, no warnings"

	# Installed, removed, purged: nothing is left. systemd is there before, for what it leaves is not ours. Nor is the directory
	# that is passed over: on 13 dpkg-preconfigure (debconf) makes it for whatever apt installs; the package hello leaves it, too.
	base=$elsewhere/$suite.tar.gz
	mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv "$suite" "$base" "$mirror"
	piuparts --basetgz="$base" --distribution="$suite" --mirror="$mirror main" --no-eatmydata --tmpdir="$elsewhere" \
		--ignore-regex='/var/cache/debconf/tmp.ci/?' "$package" >"$elsewhere/said" 2>&1 || { cat "$elsewhere/said"; exit 1; }
	echo "$suite: piuparts finds nothing that is left after a purge"
done

mkdir "$elsewhere/sources"
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents -t "$elsewhere/sources"
(cd "$elsewhere/sources" && env -u CARGO_TARGET_DIR TZ=Pacific/Auckland LANG=C.UTF-8 sh packaging/build.sh "$elsewhere/out")
cmp "$package" "$elsewhere"/out/ipc-pipeline_*.deb
echo "a second build elsewhere gives the same bytes: $(sha256sum <"$package" | cut -d ' ' -f 1)"
