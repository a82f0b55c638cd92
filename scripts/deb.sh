#!/bin/sh
# deb.sh VERSION FOLDER: builds libdv-dtls0 and libdv-dtls-dev in FOLDER/deb from the tarballs of `make dist`, without a
# network, and lets lintian look at them; its errors are errors.
set -eu
version=$1 folder=$(realpath "$2")
deb=$folder/deb name=dv-dtls-$version
rm -rf "$deb"
mkdir -p "$deb"
ln -s "../$name.tar.xz" "$deb/dv-dtls_$version.orig.tar.xz"
ln -s "../$name-vendor.tar.xz" "$deb/dv-dtls_$version.orig-vendor.tar.xz"
tar -xf "$folder/$name.tar.xz" -C "$deb"
tar -xf "$folder/$name-vendor.tar.xz" -C "$deb/$name"
cd "$deb/$name"

# Where Rust does not come from a package, dpkg cannot know that it is there.
dpkg -s cargo >/dev/null 2>&1 || export DEB_BUILD_PROFILES=pkg.dv-dtls.rustup
# A network would be noticed: without one to ask, cargo has only vendor/.
if unshare -rn true 2>/dev/null; then offline="unshare -rn"; else offline=; fi
echo "building the packages; $deb/build.log says how it goes"
$offline dpkg-buildpackage -us -uc >"$deb/build.log" 2>&1 || { tail -n 40 "$deb/build.log" >&2; exit 1; }
cd "$deb"
# Only the packages: the source, with the crates as they were published, takes lintian minutes. LINT_SOURCE=1 adds it.
lintian --fail-on error ./*.deb ${LINT_SOURCE:+./*.dsc}
ls -l ./*.deb
