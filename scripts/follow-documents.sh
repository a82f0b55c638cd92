#!/bin/sh
# follow-documents.sh [DOCUMENT...]: does what the documents (the README and docs/, if none are named) tell their reader to
# do, block by block, from start to end. It installs things, so it runs in a root of its own:
#     scripts/bare-root.sh FOLDER scripts/follow-documents.sh
# A block's servers end with it. Not run is what takes long and is run by itself (SKIP names more), and what waits for
# somebody to look; each such line is shown.
set -eu
cd "$(dirname "$0")/.."
[ -e /made ] && [ "$(id -u)" = 0 ] || { echo "only in a root made by scripts/bare-root.sh" >&2; exit 2; }
skip="^(make (test|coverage|bench|soak)|tshark${SKIP:+|$SKIP})"
blocks=$(mktemp -d)
[ $# != 0 ] || set -- README.md docs/*.md

# What a reader has who gets there: sudo, a manual, and the program that he wants to build.
apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends sudo man-db openssl procps >/dev/null
awk '/^```c$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >main.c

failed=0 ran=0
for document in "$@"; do
    name=$(basename "$document" .md)
    awk -v to="$blocks/$name" '/^```sh$/ { n++; inside = 1; next } /^```$/ { inside = 0 } inside { print >(to "-" n) }' "$document"
    for block in "$blocks/$name"-*; do
        [ -e "$block" ] || { echo "$document: no commands"; continue; }
        grep -E "$skip" "$block" | sed "s|^|$document: not run: |" || true
        grep -vE "$skip" "$block" >"$block.run" || true
        [ -s "$block.run" ] || continue
        sed "s|^|$document: \$ |" "$block.run"
        # In a session of its own, so that what it leaves behind can be ended.
        code=0
        setsid sh -c 'echo $$ >"$0.session"; exec timeout --foreground 1800 sh -eu "$0"' "$block.run" >"$block.log" 2>&1 </dev/null || code=$?
        pkill -s "$(cat "$block.run.session")" || true
        tail -n 5 "$block.log" | sed 's/^/    /'
        ran=$((ran + 1))
        [ $code = 0 ] || { failed=$((failed + 1)); echo "$document: FAILED ($code)"; tail -n 40 "$block.log"; }
    done
done
echo "$ran blocks of commands, $failed failed"
[ $failed = 0 ]
