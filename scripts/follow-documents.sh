#!/bin/sh
# follow-documents.sh [DOCUMENT...]: does what the documents (the README and docs/, if none are named) tell their reader to
# do, block by block, from start to end. It installs things, so it runs in a root of its own:
#     scripts/bare-root.sh FOLDER scripts/follow-documents.sh
# A block's servers end with it. What takes half an hour is left to be run by itself, and fuzzing gets ten seconds a target:
# the rules below say so, and each such line is shown. SKIP is a pattern of more lines to leave out.
set -eu
cd "$(dirname "$0")/.."
if [ ! -e /made ] || [ "$(id -u)" != 0 ]; then
    echo "only in a root made by scripts/bare-root.sh" >&2
    exit 2
fi
rules='
    s/^make test\( .*\)\{0,1\}$/# not run, it is run by itself: &/
    s/^make coverage.*/# not run, it is make test again, in a clone: &/
    s/^make bench\( .*\)\{0,1\}$/# not run, it takes half an hour; bench-quick is its short form: &/
    s/^make soak *\(#.*\)\{0,1\}$/# not run, it takes half an hour; five minutes of it are the next line: &/
    s/FUZZ_SECONDS=[0-9]*/FUZZ_SECONDS=10/
    s/\(run\.sh [a-z]* \)[0-9]*/\110/'
[ -z "${SKIP:-}" ] || rules="$rules
    s/.*$SKIP.*/# not run: &/"
blocks=$(mktemp -d)
[ $# != 0 ] || set -- README.md docs/*.md

# What a reader has who gets there: sudo, a manual, curl, tshark, and the program that he wants to build.
apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends sudo man-db openssl procps curl tshark >/dev/null
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >main.c

failed=0 ran=0 begin=$(date +%s)
for document in "$@"; do
    name=$(basename "$document" .md)
    awk -v to="$blocks/$name" '/^```sh$/ { n++; inside = 1; next } /^```$/ { inside = 0 } inside { print >(to "-" n) }' "$document"
    for block in "$blocks/$name"-*; do
        [ -e "$block" ] || { echo "$document: no commands"; continue; }
        sed "$rules" "$block" >"$block.run"
        sed "s|^|$document: \$ |" "$block.run"
        # In a session of its own, so that what it leaves behind can be ended.
        code=0 since=$(date +%s)
        # shellcheck disable=SC2016 # the variables are those of that shell
        setsid sh -c 'echo $$ >"$0.session"; exec timeout --foreground 1800 sh -eu "$0"' "$block.run" >"$block.log" 2>&1 </dev/null || code=$?
        pkill -s "$(cat "$block.run.session")" || true
        tail -n 5 "$block.log" | sed 's/^/    /'
        echo "    ($(($(date +%s) - since)) s)"
        ran=$((ran + 1))
        [ $code = 0 ] || { failed=$((failed + 1)); echo "$document: FAILED ($code)"; tail -n 40 "$block.log"; }
    done
done
echo "$ran blocks of commands, $failed failed, in $((($(date +%s) - begin) / 60)) minutes"
[ $failed = 0 ]
