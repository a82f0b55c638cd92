#!/bin/sh
# dist.sh VERSION FOLDER: dv-dtls-VERSION.tar.xz, the committed tree, and dv-dtls-VERSION-vendor.tar.xz, the crates of
# Cargo.lock with which it builds where there is no network. The same commit gives the same bytes.
set -eu
version=$1 folder=$2
git rev-parse --verify -q HEAD >/dev/null || { echo "dist: a git checkout is needed, to know what belongs to the tree" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
name=dv-dtls-$version
when=$(git log -1 --format=%ct)

pack() { # FILE FOLDER: with nothing of this machine or this moment in it
    tar -C "$tmp" --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner -cf - "$2" | xz -T0 >"$1"
}

git archive --prefix="$name/" HEAD | tar -xf - -C "$tmp"
pack "$folder/$name.tar.xz" "$name"
"${CARGO:-cargo}" vendor --locked --quiet --versioned-dirs "$tmp/vendor" >/dev/null
pack "$folder/$name-vendor.tar.xz" vendor
ls -l "$folder/$name.tar.xz" "$folder/$name-vendor.tar.xz"
