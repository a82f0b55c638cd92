#!/bin/sh
# ensure-packages.sh build|certs|test|interop|openssl|abi|deb|valgrind|fuzz|bench: what is missing for that is installed, when
# this runs as root or sudo asks no password; otherwise one line names it, with the command that installs it. What only widens
# the tests (another compiler, libraries to compare with) is asked for in the same way, but goes on without.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }
missing=
optional=yes
# need PACKAGE COMMAND...: the package is missing when the command fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 && return
    missing="$missing $package"
    optional=no
}
want() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need_build() {
    need gcc have "${CC:-cc}"
    need libc6-dev test -e /usr/include/stdio.h
    need binutils have objcopy
    need pkg-config have "${PKG_CONFIG:-pkg-config}"
    need libssl-dev "${PKG_CONFIG:-pkg-config}" --exists 'libssl >= 3.0' libcrypto
}

case ${1:-build} in
build) need_build ;;
certs) need openssl have openssl ;;
test)
    need_build
    need openssl have openssl
    want g++ have g++
    want clang have clang
    want gnutls-bin have gnutls-cli
    want cmake have cmake
    want python3-cffi /usr/bin/python3 -c 'import cffi'
    want groff have groff
    want iproute2 have ip
    want libmbedtls-dev test -e /usr/include/mbedtls/ssl.h
    want libcoap3-bin have coap-server-notls
    want tshark have tshark
    # Where there is systemd, its package starts a web server, which nobody has asked for.
    [ -d /run/systemd/system ] || want 'nginx libnginx-mod-stream' test -e /usr/lib/nginx/modules/ngx_stream_module.so
    ;;
interop)
    need_build
    want 'golang-go golang-github-pion-dtls.v2-dev' test -e /usr/share/gocode/src/github.com/pion/dtls/v2
    want npm have npm
    want python3-venv python3 -c 'import ensurepip'
    ;;
openssl)
    need_build
    need openssl have openssl
    need perl perl -MFindBin -MIPC::Cmd -MPod::Html -e 1
    ;;
abi) need_build; want abigail-tools have abidw ;;
deb)
    need_build
    need debhelper have dh
    need dpkg-dev have dpkg-buildpackage
    need lintian have lintian
    need xz-utils have xz
    ;;
valgrind) need_build; need valgrind have valgrind ;;
# libFuzzer is C++.
fuzz) need_build; need g++ have "${CXX:-c++}" ;;
bench)
    need_build
    need openssl have openssl
    need valgrind have valgrind
    # What is missing of these is left out of the comparison.
    want libgnutls28-dev test -e /usr/include/gnutls/gnutls.h
    want libmbedtls-dev test -e /usr/include/mbedtls/ssl.h
    want libwolfssl-dev test -e /usr/include/wolfssl/ssl.h
    ;;
*) echo "usage: $0 build|certs|test|interop|openssl|abi|deb|valgrind|fuzz|bench" >&2; exit 2 ;;
esac

have "${CARGO:-cargo}" || { echo "cargo is missing; install Rust 1.88 or later: https://rustup.rs" >&2; exit 1; }
[ -n "$missing" ] || exit 0

# shellcheck disable=SC2086 # a list of words
install() { "$@" apt-get update -q && "$@" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing; }
if have apt-get && [ "$(id -u)" = 0 ]; then
    echo "installing$missing"
    install env && exit 0
elif have apt-get && have sudo && sudo -n true 2>/dev/null; then
    echo "installing$missing (through sudo)"
    install sudo && exit 0
fi
echo "missing:$missing; install with: sudo apt-get install$missing" >&2
[ "$optional" = yes ]
