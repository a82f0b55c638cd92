#!/bin/sh
# abi.sh check|update HEADER: compares the ABI that the header declares with the one that was promised last, in
# abi/dv_dtls.abi, or makes it the promised one. What is added is no break; what is changed or gone is.
#
# The library itself is Rust and has no debug information that speaks C. So a probe is compiled that has, for each function
# of the header, a variable of that function's type: its debug information is what a caller's compiler sees.
set -eu
what=$1 header=$2
here=$(dirname "$0")
promised=abi/dv_dtls.abi
command -v abidw >/dev/null || { echo "abi: abigail-tools is not installed: left out"; exit 0; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

{
    echo '#include "dv_dtls.h"'
    "$here/header-functions.sh" "$header" | sed 's/.*/__typeof__(\&&) abi_of_&;/'
} >"$tmp/probe.c"
# shellcheck disable=SC2046 # a list of words
"${CC:-cc}" -g -shared -fPIC -I"$(dirname "$header")" $("${PKG_CONFIG:-pkg-config}" --cflags libssl) \
    -o "$tmp/libdv_dtls.so" "$tmp/probe.c"
# Only what the header defines: OpenSSL's and the C library's structs are promised by others.
abidw --no-show-locs --no-comp-dir-path --no-corpus-path --short-locs --headers-dir "$(dirname "$header")" --drop-private-types \
    "$tmp/libdv_dtls.so" >"$tmp/dv_dtls.abi"

case $what in
update)
    mkdir -p abi
    cp "$tmp/dv_dtls.abi" $promised
    ;;
check)
    if abidiff --no-added-syms "$promised" "$tmp/dv_dtls.abi" >"$tmp/difference"; then
        echo "abi: nothing that was promised has changed"
    else
        cat "$tmp/difference" >&2
        echo "abi: a program that was compiled before would break; if that is meant: docs/abi.md, then \`make abi\`" >&2
        exit 1
    fi
    ;;
*)
    echo "usage: $0 check|update HEADER" >&2
    exit 2
    ;;
esac
