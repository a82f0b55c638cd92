#!/bin/sh
# bare-root.sh FOLDER COMMAND...: runs a command in a checkout of HEAD on a Debian that has nothing but make and cargo, made
# in FOLDER by debootstrap. Needs root. The root stays for the next time; the checkout is made anew.
#
# Rust comes from this machine's toolchain, and the way to the package mirrors from this machine's /etc.
set -eu
folder=$(realpath -m "$1")
shift
command -v debootstrap >/dev/null || { echo "missing: debootstrap; install with: sudo apt-get install debootstrap" >&2; exit 1; }
here=$(cd "$(dirname "$0")/.." && pwd)
mirror=$(sed -n 's/^URIs: *\(.*\/debian\)\/*$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)

if [ ! -e "$folder/made" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    debootstrap --variant=minbase --include=make,ca-certificates bookworm "$folder" "${mirror:-http://deb.debian.org/debian}"
    toolchain=$(rustc --print sysroot)
    mkdir -p "$folder/opt/rust"
    cp -a "$toolchain/bin" "$toolchain/lib" "$folder/opt/rust/"
    rm -rf "$folder/etc/apt" "$folder/etc/ssl/certs"
    cp -a /etc/apt "$folder/etc/apt"
    cp -a /etc/ssl/certs "$folder/etc/ssl/certs"
    cp -aL /usr/share/ca-certificates /usr/local/share/ca-certificates /usr/share/keyrings "$folder/usr/share/" 2>/dev/null || true
    cp -aL /usr/local/share/ca-certificates "$folder/usr/local/share/" 2>/dev/null || true
    touch "$folder/made"
fi
for file in /etc/resolv.conf /etc/hosts; do cp -L "$file" "$folder$file"; done

rm -rf "$folder/srv"
mkdir -p "$folder/srv"
git -C "$here" archive --prefix=dv_dtls/ HEAD | tar -xf - -C "$folder/srv"
if [ -d "$here/build/deb" ]; then
    mkdir "$folder/srv/deb"
    find "$here/build/deb" -maxdepth 1 -name '*.deb' -exec cp {} "$folder/srv/deb/" \;
fi
if [ -d "$here/../shared" ]; then cp -aL "$here/../shared" "$folder/srv/shared"; fi

# The mounts are this process's own and go with it.
# shellcheck disable=SC2016 # the variables are those of the shell inside
exec unshare -m sh -eu -c '
    folder=$1
    shift
    for place in proc sys dev; do mount --rbind "/$place" "$folder/$place"; done
    exec chroot "$folder" env -i HOME=/root TERM=dumb PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        sh -ec "cd /srv/dv_dtls && exec \"\$@\"" sh "$@"
' sh "$folder" "$@"
