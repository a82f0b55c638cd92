#!/bin/sh
# coverage.sh: runs `make test` in a copy of the tree where everything Rust counts what runs, the C programs' library
# included, and says which lines of src/ ran. The whole of it: target/coverage/lines.txt.
set -eu
cd "$(dirname "$0")/.."
top=$PWD/target/coverage tree=$PWD/target/coverage/tree
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[ -x "$tools/llvm-cov" ] || { echo "missing: llvm-cov; install with: rustup component add llvm-tools" >&2; exit 1; }

# What cargo and make have made there stays; the rest is as it is here.
mkdir -p "$tree" "$top/bin" certs/out
(cd "$tree" && find . -maxdepth 1 ! -name . ! -name target ! -name build -exec rm -rf {} +)
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$tree"
cp -a certs/out "$tree/certs/"
rm -rf "$top/raw" && mkdir "$top/raw"
[ ! -d ../shared ] || ln -sfn "$(realpath ../shared)" "$top/shared"

# The counters are written while they count (%c): many servers end by a signal. A C program has to ask for what writes them.
printf '#!/bin/sh\nexec cc "$@" -Wl,-u,__llvm_profile_runtime\n' >"$top/bin/cc-coverage" && chmod +x "$top/bin/cc-coverage"
export LLVM_PROFILE_FILE="$top/raw/%m%c.profraw" CC="$top/bin/cc-coverage" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
status=0
unset CARGO_TARGET_DIR
RUSTFLAGS="-Cinstrument-coverage -Cllvm-args=-runtime-counter-relocation" make -C "$tree" test || status=1

"$tools/llvm-profdata" merge --sparse --failure-mode=all -o "$top/all.profdata" "$top"/raw/*.profraw
objects=$(find "$tree/target/debug/deps" "$tree/target/debug/examples" -maxdepth 1 -type f -perm /111 ! -name '*.so' ! -name '*-*[!0-9a-f]*' |
    sed 's/^/--object=/')
# shellcheck disable=SC2086 # a list of options
show() {
    "$tools/llvm-cov" "$@" "$tree/build/libdv_dtls.so" --instr-profile="$top/all.profdata" \
        --ignore-filename-regex='/tests\.rs$' $objects "$tree/src" 2>/dev/null
}
show show >"$top/lines.txt"
show report --show-region-summary=false --show-branch-summary=false | tee "$top/report.txt"
exit "$status"
