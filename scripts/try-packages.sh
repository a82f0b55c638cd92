#!/bin/sh
# try-packages.sh FOLDER: installs the Debian packages that lie in FOLDER, builds the C examples against them with
# pkg-config and with CMake, runs them, and takes the packages away again without a trace. Run it as root where nothing is
# lost by that: scripts/bare-root.sh FOLDER scripts/try-packages.sh ../deb
set -eu
packages=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT

apt() { DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; exit 1; }; }
all_files() { find / -xdev -path "$work" -prune -o \( -path /tmp -o -path /var/lib -o -path /var/log -o -path /var/cache -o -path /root -o -path /srv \) -prune -o -print | sort; }

apt update
apt install -y gcc cmake pkg-config libssl-dev openssl
all_files >"$work/before"
apt install -y "$packages"/libdv-dtls0_*.deb "$packages"/libdv-dtls-dev_*.deb

cp -r /usr/share/doc/libdv-dtls-dev/examples "$work/examples"
cd "$work/examples"
built=0
for source in *.c; do
    # shellcheck disable=SC2046 # a list of words
    cc -Wall -Wextra -Werror "$source" -o "$work/${source%.c}" $(pkg-config --cflags --libs dv_dtls libssl libcrypto)
    built=$((built + 1))
done
echo "pkg-config: $built examples built"

cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.16)
project(examples C)
find_package(dv_dtls 0.1 REQUIRED)
file(GLOB sources *.c)
foreach(source ${sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE dv_dtls::dv_dtls)
endforeach()
END
{ cmake -S . -B "$work/cmake" && cmake --build "$work/cmake"; } >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log" >&2; exit 1; }
echo "CMake: the same"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
for place in "$work" "$work/cmake"; do
    "$place/dtls_server" -c "$work/cert.pem" -k "$work/key.pem" >"$work/server.log" 2>&1 &
    server=$!
    tries=0
    until "$place/dtls_client" -C "$work/cert.pem" -N localhost >"$work/client.log" 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || { cat "$work/server.log" "$work/client.log" >&2; exit 1; }
        sleep 0.2
    done
    kill "$server"
    wait "$server" || true
    server=
done
tail -n 1 "$work/client.log"

cd /
apt purge -y libdv-dtls-dev libdv-dtls0
all_files >"$work/after"
diff "$work/before" "$work/after" >&2 || { echo "the packages left something behind" >&2; exit 1; }
echo "packages: installed, used, and gone without a trace"
