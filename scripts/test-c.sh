#!/bin/sh
# test-c.sh KIND...: compiles each program of tests/c (a .c file with a main), runs it with the folder of the certificates
# as its argument, and counts: exit code 0 has passed, 77 was skipped, anything else failed. KIND is shared, static (both
# with the libraries of build/), asan, tsan (the Rust side built for these too) or valgrind.
# BUILD is where the library is and the programs go: build/, if it is not set.
# CASES names the programs to run, for instance CASES=bad_input_context; all when empty.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
certificates=$PWD/certs/out
cc=${CC:-cc}
flags="-std=gnu11 -O1 -g -Wall -Wextra -Werror -Iinclude -Itests/c $("${PKG_CONFIG:-pkg-config}" --cflags libssl libcrypto)"
# Programs that put functions in front of libcrypto's cannot where it is in themselves.
flags="$flags${OPENSSL_STATIC:+ -DDV_OPENSSL_STATIC}"
ssl=$("${PKG_CONFIG:-pkg-config}" --libs libssl libcrypto)
limit=${TEST_TIMEOUT:-120}
passed=0 failed=0 skipped=0

# The Rust side with AddressSanitizer: a nightly option, which RUSTC_BOOTSTRAP allows this one build.
build_asan() {
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan \
        "${CARGO:-cargo}" rustc --quiet --locked --lib --no-default-features --target "$host" --crate-type staticlib
    asan_archive=target/asan/$host/debug/libdv_dtls.a
    nm "$asan_archive" 2>/dev/null | grep -q 'U __asan_report_load' || { echo "no ASan in $asan_archive" >&2; exit 1; }
    # What std needs does not depend on how it was built.
    [ -s build/native-libs ] || make --silent build/native-libs
}

# The Rust side with ThreadSanitizer, std included: it would report what it cannot see into. The runtime is Rust's own, as
# the C compiler's may be too old for what rustc emits.
build_tsan() {
    host=$(rustc -vV | sed -n 's/^host: //p')
    rust=$(rustc --print sysroot)/lib/rustlib
    [ -d "$rust/src/rust/library" ] || { echo "rust-src is missing: rustup component add rust-src" >&2; exit 1; }
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=target/tsan \
        "${CARGO:-cargo}" rustc --quiet --locked --lib --no-default-features -Zbuild-std --target "$host" \
        --crate-type staticlib
    tsan_archive=target/tsan/$host/debug/libdv_dtls.a
    tsan_runtime=$(echo "$rust/$host/lib/"librustc-*_rt.tsan.a)
    nm "$tsan_archive" 2>/dev/null | grep -q 'U __tsan_read' || { echo "no TSan in $tsan_archive" >&2; exit 1; }
    [ -s build/native-libs ] || make --silent build/native-libs
}

# compile KIND SOURCE PROGRAM
compile() {
    # shellcheck disable=SC2086,SC2046 # lists of options
    case $1 in
    shared) "$cc" $flags -o "$3" "$2" -Lbuild -Wl,-rpath,"$PWD/build" -ldv_dtls $ssl -lpthread -ldl ;;
    valgrind)
        "$cc" $flags -o "$3" "$2" tests/c/memcheck.c -Lbuild -Wl,-rpath,"$PWD/build" -ldv_dtls $ssl -lpthread -ldl
        ;;
    static) "$cc" $flags -o "$3" "$2" "$build/libdv_dtls.a" $ssl $(cat "$build/native-libs") ;;
    asan)
        "$cc" $flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -o "$3" "$2" \
            "$asan_archive" $ssl $(cat build/native-libs) && nm "$3" | grep -q __asan_init
        ;;
    tsan)
        "$cc" $flags -fsanitize=thread -c -o "$3.o" "$2" && "$cc" -rdynamic -o "$3" "$3.o" "$tsan_archive" \
            -Wl,--whole-archive "$tsan_runtime" -Wl,--no-whole-archive $ssl $(cat build/native-libs) &&
            nm "$3" | grep -q __tsan_init
        ;;
    esac
}

# run KIND PROGRAM
run() {
    case $1 in
    valgrind)
        timeout "$((limit * 5))" valgrind --quiet --error-exitcode=99 --leak-check=full \
            --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect "$2" "$certificates"
        ;;
    *) timeout "$limit" "$2" "$certificates" ;;
    esac
}

for kind in "$@"; do
    case $kind in
    asan) build_asan ;;
    tsan) build_tsan ;;
    shared | static | valgrind) ;;
    *) echo "usage: $0 shared|static|asan|tsan|valgrind..." >&2; exit 2 ;;
    esac
    mkdir -p "$build/tests/$kind"
    for source in tests/c/*.c; do
        name=$(basename "$source" .c)
        grep -qE '^(int )?main\(' "$source" || continue
        [ -z "${CASES:-}" ] || case " $CASES " in *" $name "*) ;; *) continue ;; esac
        program=$build/tests/$kind/$name
        code=0
        { compile "$kind" "$source" "$program" && run "$kind" "$program"; } >"$program.log" 2>&1 </dev/null || code=$?
        case $code in
        0) passed=$((passed + 1)); echo "ok       $kind $name" ;;
        77) skipped=$((skipped + 1)); echo "skipped  $kind $name: $(tail -n 1 "$program.log")" ;;
        *)
            failed=$((failed + 1))
            echo "FAILED   $kind $name (exit code $code); the end of $program.log:"
            tail -n 40 "$program.log" | sed 's/^/    /'
            ;;
        esac
    done
done
echo "tests/c: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$((passed + skipped))" != 0 ]
