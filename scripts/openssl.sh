#!/bin/sh
# openssl.sh SERIES: builds OpenSSL of a series (3.6, 4.0) in build/openssl-SERIES, unless it is there, from the source
# that a crate of crates.io carries. The last line says where it is.
set -eu
cd "$(dirname "$0")/.."
series=${1:?usage: scripts/openssl.sh 3.6|4.0}
into=$PWD/build/openssl-$series
mkdir -p "$into"

# One at a time: another run would begin by deleting what this one has built.
exec 9>"$into/lock"
flock 9
if [ ! -e "$into/done" ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    echo "building OpenSSL $series, once; this takes minutes" >&2
    # What these say is the caller's, and the crate's compiler asks for it.
    OPT_LEVEL=2 TARGET=$host HOST=$host "${CARGO:-cargo}" run --quiet --locked --manifest-path scripts/openssl/Cargo.toml \
        --target-dir build/openssl-builder -- "$series" "$into" "$host" >"$into/log" 2>&1 ||
        { tail -n 40 "$into/log" >&2; exit 1; }
    rm -rf "$into/build"
    touch "$into/done"
fi
echo "$into/install"
