#!/bin/sh
# The names of the functions that a header declares, one a line, sorted. The header is cbindgen's: comments stand on lines
# of their own.
set -eu
sed -e '/^ *\/\*.*\*\/$/d' -e '/^ *\/\*/,/\*\/$/d' "$1" | grep -oE '\bdv_[a-z0-9_]+\(' | tr -d '(' | sort -u
