#!/bin/sh
# test.sh: the Rust tests, then the programs of tests/c, and one line that counts both.
set -eu
cd "$(dirname "$0")/.."
log=build/test.log

# The status of the first command of each pipe is kept in a file: sh has no pipefail.
{ "${CARGO:-cargo}" test --locked --workspace --no-fail-fast 2>&1 && echo 0 >build/rust.status || echo 1 >build/rust.status; } |
    tee "$log"
{ scripts/test-c.sh shared static 2>&1 && echo 0 >build/c.status || echo 1 >build/c.status; } | tee -a "$log"

count() { sed -nE "s/^(test result:|tests\/c:).* ([0-9]+) $1.*/\2/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$(count passed) failed=$(count failed)
# What did not even compile, or died, is in no count.
if [ "$(cat build/rust.status build/c.status | tr -d '\n')" != 00 ] && [ "$failed" = 0 ]; then
    failed=1
fi
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
