#!/bin/sh
# Judges the Debian package in DIR: `make deb-check`. lintian has nothing to say against it, on Debian 12 and on 13, and the
# same sources built elsewhere, at another time, give the same bytes.
set -eu

dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
package=$(ls "$dir"/ipc-pipeline_*.deb)
command -v mmdebstrap >/dev/null 2>&1 || { echo "check.sh: there is no mmdebstrap: apt install mmdebstrap" >&2; exit 1; }

# In a bare Debian of its own, from where this machine gets its packages. There it is installed, too.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
for suite in bookworm trixie; do
	mmdebstrap --quiet --variant=apt --include=lintian,man-db --format=null \
		--customize-hook="copy-in '$package' /opt" \
		--customize-hook='chroot "$1" sh -c "lintian --allow-root --fail-on error,warning /opt/*.deb"' \
		--customize-hook='chroot "$1" sh -c "apt-get install --quiet --yes --no-install-recommends /opt/*.deb"' \
		"$suite" /dev/null "$mirror"
	echo "$suite: it can be installed; lintian has no errors, no warnings"
done

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT INT TERM
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents -t "$elsewhere"
(cd "$elsewhere" && env -u CARGO_TARGET_DIR TZ=Pacific/Auckland LANG=C.UTF-8 sh packaging/build.sh "$elsewhere/out")
cmp "$package" "$elsewhere"/out/ipc-pipeline_*.deb
echo "a second build elsewhere gives the same bytes: $(sha256sum <"$package" | cut -d ' ' -f 1)"
