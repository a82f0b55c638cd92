#!/bin/sh
# check-header-docs.sh HEADER: every constant, type, member and function has a comment, and a function's comment has what
# docs/header-style.md asks for. Prints each gap; fails when there is one.
set -eu
awk '
function gap(text) { print FILENAME ":" FNR ": " text; gaps++ }
function undocumented(what) { if (doc == "") gap(what " has no comment"); doc = "" }

# The comment that stands before the next declaration, as one line.
/^ *\/\*/ { doc = ""; inside = 1 }
inside {
    line = $0
    gsub(/^ *\/?\*+\/?|\*\/$/, " ", line)
    if ($0 ~ /^ *\/\*\*/ || documented) { doc = doc line; documented = 1 }
    if ($0 ~ /\*\/$/) { inside = documented = 0 }
    next
}
/^#define DV_DTLS_H$/ || /^#define DV_LIST_NODE / { next }
/^#define / { undocumented($2); next }
/^#/ || /^ *$/ || /^extern "C"/ || /^}$/ { next }
/^typedef.*\{$/ { undocumented("type " $3); body = 1; next }
/^}/ { body = 0; next }
body { undocumented("member " $0); next }
{
    declaration = declaration " " $0
    if ($0 !~ /;$/) next
    if (declaration ~ /^ typedef/) undocumented("type" declaration); else check(declaration)
    declaration = ""
}
function check(d,    name, list, n, i, words, k) {
    functions++
    match(d, /dv_[a-z0-9_]+\(/)
    name = substr(d, RSTART, RLENGTH - 1)
    list = substr(d, RSTART + RLENGTH)
    sub(/\);.*/, "", list)
    d = substr(d, 1, RSTART - 1)
    if (doc !~ /[A-Za-z]/) { gap(name " has no comment"); return }
    if (doc ~ /# |\[`|```|\*\*/) gap(name ": Rust marks in the comment")
    n = (list == "void") ? 0 : split(list, words, ",")
    for (i = 1; i <= n; i++) {
        k = words[i]
        gsub(/.*[ *]/, "", k)
        if (index(doc, "@param " k " ") == 0) gap(name ": no @param " k)
    }
    if (d !~ /^ *void *$/ && doc !~ /@return /) gap(name ": no @return")
    if (d ~ /\*/ && doc !~ /Ownership: /) gap(name ": returns a pointer and has no Ownership:")
    doc = ""
}
END {
    if (functions == 0) gap("no function found")
    if (gaps) exit 1
    print "check-header-docs: " functions " functions and everything beside them documented"
}' "$1"
