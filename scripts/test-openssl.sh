#!/bin/sh
# test-openssl.sh SERIES...: the Rust tests, the programs of tests/c and the demo of c-examples with other versions of OpenSSL
# than the system's, each built from source once (see openssl.sh) and linked statically. SERIES is 3.6, 4.0 or system.
# Not run here are the tests that take the built library apart (its exports, its layout, its loading, its panics) or install
# it, and those that run it beside programs of the system or peers from registries.
set -eu
cd "$(dirname "$0")/.."
apart=' documents header install interop layout openssl_mismatch operations original panic unload '
summary=

rust_tests() {
    {
        for test in tests/*.rs tests/*/main.rs; do
            basename "${test%/main.rs}" .rs
        done
        # Those in other files.
        sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' Cargo.toml
    } | sort -u | while read -r name; do
        case $apart in *" $name "*) ;; *) echo "--test $name" ;; esac
    done
}

# Where OpenSSL is static, the archive has it inside; a shared library would have one apart from its program's.
archive() {
    "${CARGO:-cargo}" rustc --quiet --locked --lib --crate-type staticlib -- --print native-static-libs 2>"$BUILD/cargo.log" ||
        { cat "$BUILD/cargo.log" >&2; return 1; }
    sed -n 's/^note: native-static-libs: //p' "$BUILD/cargo.log" | sed 's/-lssl\|-lcrypto//g' >"$BUILD/native-libs"
    cp "${CARGO_TARGET_DIR:-target}/debug/libdv_dtls.a" "$BUILD/libdv_dtls.a"
}

examples() {
    # shellcheck disable=SC2046 # lists of options
    for example in c-examples/*.c; do
        "${CC:-cc}" -std=gnu11 -O1 -g -Iinclude $("${PKG_CONFIG:-pkg-config}" --cflags libssl) \
            -o "$BUILD/$(basename "$example" .c)" "$example" "$BUILD/libdv_dtls.a" \
            $("${PKG_CONFIG:-pkg-config}" --libs libssl libcrypto) $(cat "$BUILD/native-libs") || return 1
    done
}

# one SERIES: in a shell of its own, for what it exports. Says how much passed in $BUILD/counts.
one() (
    export BUILD="build/openssl-$1"
    mkdir -p "$BUILD"
    if [ "$1" != system ]; then
        export CARGO_TARGET_DIR="$PWD/$BUILD/target"
        OPENSSL_DIR=$(scripts/openssl.sh "$1")
        export OPENSSL_DIR OPENSSL_STATIC=1 PKG_CONFIG_LIBDIR="$OPENSSL_DIR/lib/pkgconfig"
    fi
    # Tests that need the library as a C program has it find it, and the examples, there.
    export DV_LIBDIR="$PWD/$BUILD"
    log=$BUILD/test.log failed=0
    : >"$log"
    { archive && examples; } >>"$log" 2>&1 || { failed=1; echo "the archive and the examples FAILED" >>"$log"; }
    # Tests that are named do not bring the examples, and --examples would bring those as tests of their own.
    "${CARGO:-cargo}" build --locked --examples >>"$log" 2>&1 || failed=1
    # shellcheck disable=SC2046 # a list of options
    "${CARGO:-cargo}" test --locked --no-fail-fast --lib $(rust_tests) >>"$log" 2>&1 || failed=1
    scripts/test-c.sh static >>"$log" 2>&1 || failed=1
    scripts/demo.sh >>"$log" 2>&1 || { failed=1; echo "the demo FAILED" >>"$log"; }
    grep -E '^test .*FAILED|^FAILED|^error|FAILED$' "$log" | sort -u || true
    sum() { sed -nE "s|^$1.* ([0-9]+) $2.*|\1|p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
    rust='test result:' c=tests/c:
    echo "Rust $(sum "$rust" passed) passed, $(sum "$rust" failed) failed, $(sum "$rust" ignored) ignored;" \
        "C $(sum $c passed) passed, $(sum $c failed) failed, $(sum $c skipped) skipped; see $log" | tee "$BUILD/counts"
    [ "$failed" = 0 ]
)

status=0
for series in "${@:?usage: scripts/test-openssl.sh system|3.6|4.0...}"; do
    echo "OpenSSL $series:"
    one "$series" || status=1
    summary="$summary
OpenSSL $series: $(cat "build/openssl-$series/counts" 2>/dev/null || echo nothing was run)"
done
echo "$summary"
exit "$status"
