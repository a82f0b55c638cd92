#!/bin/sh
# test.sh: the Rust tests, then the programs of tests/c, and one line that counts both.
set -eu
cd "$(dirname "$0")/.."
log=build/test.log

# A test program that hangs is ended, so that what it printed is seen; none takes a quarter of this.
bound='target."cfg(all())".runner = ["timeout", "--kill-after=10", "1200"]'

# The status of the first command of each pipe is kept in a file: sh has no pipefail.
{ "${CARGO:-cargo}" test --config "$bound" --locked --workspace --features dv-dtls/test-hooks --no-fail-fast 2>&1 && echo 0 >build/rust.status || echo 1 >build/rust.status; } |
    tee "$log"
{ scripts/test-c.sh shared static 2>&1 && echo 0 >build/c.status || echo 1 >build/c.status; } | tee -a "$log"

count() { sed -nE "s/^$1.* ([0-9]+) $2.*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
passed=0 failed=0
for side in rust c; do
    case $side in rust) line='test result:' ;; c) line='tests\/c:' ;; esac
    good=$(count "$line" passed) bad=$(count "$line" failed)
    # What did not even compile, or died, is in no count.
    if [ "$(cat build/$side.status)" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
done
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
