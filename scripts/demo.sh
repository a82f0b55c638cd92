#!/bin/sh
# demo.sh: the example server on a free port, the example client against it over IPv4 and IPv6, and a line that says what
# happened. Exit code 0: every message came back.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
log=$build/demo-server.log
messages=3
server=

stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null
    # Bounded: what does not end in five seconds is killed.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    status=$?
    server=
    return "$status"
}
trap stop_server EXIT
trap 'exit 1' INT TERM

fail() {
    echo "server said:"
    sed 's/^/    /' "$log"
    echo
    echo "demo FAILED: $*"
    exit 1
}

families="127.0.0.1"
if grep -qs '^00000000000000000000000000000001 ' /proc/net/if_inet6; then
    families="$families ::1"
else
    echo "this machine has no IPv6: IPv4 only"
fi

set -- -p 0
for address in $families; do
    set -- "$@" -a "$address"
done
echo "\$ $build/dtls_server $*"
"$build/dtls_server" "$@" >"$log" 2>&1 &
server=$!
wanted=$(echo "$families" | wc -w)
# Half a minute: a machine that builds something else at the same time has been seen to need more than five seconds.
tries=120
until [ "$(grep -c '^server listens on' "$log")" = "$wanted" ] || [ $((tries -= 1)) = 0 ]; do
    kill -0 "$server" 2>/dev/null || fail "the server did not start"
    sleep 0.25
done
port=$(sed -n 's/^server listens on .* port \([0-9]*\)$/\1/p' "$log" | head -n 1)
[ -n "$port" ] || fail "the server does not listen"

shown=0
for address in $families; do
    echo "\$ $build/dtls_client -a $address -p $port -N localhost -n $messages"
    timeout 60 "$build/dtls_client" -a "$address" -p "$port" -N localhost -n "$messages"
    code=$?
    tail -n "+$((shown + 1))" "$log" | sed 's/^/    /'
    shown=$(wc -l <"$log")
    case $code in
    0) echo ;;
    3) fail "no session over $address" ;;
    4) fail "a message to $address was not answered" ;;
    *) fail "the client for $address ended with exit code $code" ;;
    esac
done

stop_server || fail "the server did not end cleanly (exit code $?)"
tail -n "+$((shown + 1))" "$log" | sed 's/^/    /'
echo
echo "demo passed: a DTLS session over each of $families, $messages messages each, all answered; the server ended cleanly"
