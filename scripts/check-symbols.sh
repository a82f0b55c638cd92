#!/bin/sh
# check-symbols.sh SHARED STATIC HEADER: the shared library exports exactly what the header declares, each symbol at a
# version of libdv_dtls.map, and has the soname and hardening that are promised; Debian's symbol file has them all; the
# archive's symbols are weak.
set -eu
shared=$1 static=$2 header=$3
here=$(dirname "$0")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() {
    echo "check-symbols: $*" >&2
    exit 1
}

"$here/header-functions.sh" "$header" >"$tmp/declared"
[ -s "$tmp/declared" ] || fail "$header declares nothing"

# Symbol lines look like `dv_version@@DV_DTLS_0`; the version node itself is an absolute symbol.
nm -D --defined-only --with-symbol-versions "$shared" | awk '$2 != "A" { print $3 }' | sort >"$tmp/exported"
sed 's/@.*//' "$tmp/exported" | diff -u "$tmp/declared" - >&2 || fail "$shared exports something else than $header declares"
if grep -vE '^dv_[a-z0-9_]+@@DV_DTLS_[0-9]+$' "$tmp/exported" >&2; then
    fail "$shared has symbols without a version"
fi

sed -n 's/^ \(dv_.*\)@DV_DTLS_.*/\1/p' "$here/../debian/libdv-dtls0.symbols" | sort | diff -u "$tmp/declared" - >&2 ||
    fail "debian/libdv-dtls0.symbols lists something else than $header declares"

readelf -dW "$shared" >"$tmp/dynamic"
grep -q 'SONAME.*\[libdv_dtls\.so\.0\]' "$tmp/dynamic" || fail "$shared has the wrong soname"
grep -q 'FLAGS_1.*NOW.*NODELETE' "$tmp/dynamic" || fail "$shared lacks -z now or -z nodelete"
readelf -lW "$shared" | grep -q GNU_RELRO || fail "$shared lacks -z relro"
if readelf -lW "$shared" | grep GNU_STACK | grep -q RWE; then
    fail "$shared wants an executable stack"
fi

nm --defined-only "$static" 2>/dev/null | awk '$3 ~ /^dv_/ && $2 == "W" { print $3 }' | sort >"$tmp/weak"
diff -u "$tmp/declared" "$tmp/weak" >&2 || fail "$static: these are missing or not weak"

echo "check-symbols: $(wc -l <"$tmp/declared") functions, all exported at a version, nothing else"
