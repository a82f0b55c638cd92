#!/bin/sh
# Runs a fuzz target for some seconds, with options of libFuzzer's: fuzz/run.sh endpoint 600 -len_control=0
#
# Does what `cargo +nightly fuzz run` does, with the stable compiler. New inputs go to target/corpus, what fails to
# artifacts; keep of them what is worth it under corpus, which the ordinary tests replay. With SANITIZER=none it runs three
# times as many inputs, and sees of mistakes with memory only what crashes: good for finding inputs, which AddressSanitizer
# then goes through.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: fuzz/run.sh TARGET [SECONDS [OPTION...]]}
seconds=${2:-60}
[ $# -lt 2 ] || shift
shift
host=$(rustc -vV | sed -n 's/^host: //p')
case ${SANITIZER:=address} in
    address) build=target flag=-Zsanitizer=address ;;
    none) build=target/none flag= ;;
    *) echo "SANITIZER is $SANITIZER: address or none" >&2; exit 2 ;;
esac

RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing $flag -Cdebug-assertions -Ccodegen-units=1 \
-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --quiet --bin "$target" --target "$host" --target-dir "$build"

# An input takes a millisecond or less: deep call stacks of each block and a long memory of freed ones would double that.
# What is kept for good the targets find out themselves (bodies/common.rs).
ASAN_OPTIONS=malloc_context_size=4:quarantine_size_mb=8:detect_stack_use_after_return=0:detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export ASAN_OPTIONS
mkdir -p "target/corpus/$target" "artifacts/$target"
exec "$build/$host/release/$target" "target/corpus/$target" "corpus/$target" "-artifact_prefix=artifacts/$target/" \
    "-max_total_time=$seconds" -timeout=10 -detect_leaks=0 -print_final_stats=1 "$@"
