#!/bin/sh
# Makes the certificates of the tests and examples in certs/out/, or in the directory that is named. Does nothing when
# this version of the script has made them already.
#
#   ca.pem                            the CAs to trust: of all the good certificates here
#   server-ecdsa.pem .key .der        P-256, for localhost, 127.0.0.1 and ::1
#   server-rsa.pem .key               RSA-2048, for the same
#   server-chain5-rsa4096.pem .key    RSA-4096, for the same; the file has the whole chain: five certificates with the root
#   named.pem .key                    P-256, for one.example.test and two.example.test
#   wildcard.pem .key                 P-256, for *.example.test
#   client.pem .key                   P-256, for a client
#   expired.pem .key                  like server-ecdsa, but its time is over
#   revoked.pem .key                  like server-ecdsa, but revoked
#   revoked-client.pem .key           like client, but revoked
#   crl.pem, ca-crl.pem               the list that says so, and the CA with it
#   wrong-ca.pem .key, other-ca.pem   like server-ecdsa, but of another CA, and that CA
#   mismatched.key                    a key that belongs to no certificate
#   encrypted.key                     server-ecdsa's key under the passphrase dv_dtls
#   server-ecdsa-key.der              server-ecdsa's key as DER
#   empty.pem, garbage.pem            no certificates at all
set -eu
umask 077

script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
mkdir -p "${1:-$(dirname "$script")/out}"
cd "${1:-$(dirname "$script")/out}"

fresh() { cmp -s "$script" .made-by; }
fresh && exit 0

command -v openssl >/dev/null || { echo "make-certs.sh: the openssl command is missing: apt install openssl" >&2; exit 1; }

# One at a time: the files of two runs do not fit together.
waited=0
until mkdir .lock 2>/dev/null; do
    [ "$waited" -lt 180 ] || { echo "make-certs.sh: $(pwd)/.lock is held; if no other run is, remove it" >&2; exit 1; }
    sleep 1
    waited=$((waited + 1))
    fresh && exit 0
done
trap 'rm -rf .lock' EXIT
trap 'exit 1' HUP INT TERM
fresh && exit 0
rm -f .made-by
log=$(pwd)/.lock/log

die() {
    cat "$log" >&2
    echo "make-certs.sh: $1 failed" >&2
    exit 1
}

run() { openssl "$@" </dev/null >>"$log" 2>&1 || die "openssl $1"; }

p256() { run genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
rsa() { run genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:"$2" -out "$1.key"; }

# What `openssl ca` wants, and the extensions by name.
mkdir .lock/new
: >.lock/index
cat >.lock/config <<'END'
[ca]
default_ca = test
[test]
database = .lock/index
new_certs_dir = .lock/new
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
email_in_dn = no
[any]
commonName = supplied
[req]
distinguished_name = none
[none]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[named]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:one.example.test, DNS:two.example.test
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[wildcard]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:*.example.test
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

# root NAME TEXT: a certificate that signs itself.
root() {
    run req -x509 -new -sha256 -key "$1.key" -subj "/CN=$2" -days 7300 -config .lock/config -extensions authority \
        -out "$1.pem"
}

# sign NAME TEXT EXTENSIONS CA [NOT-AFTER]
sign() {
    run req -new -sha256 -key "$1.key" -subj "/CN=$2" -config .lock/config -out ".lock/$1.csr"
    run ca -batch -notext -config .lock/config -extensions "$3" -cert "$4.pem" -keyfile "$4.key" \
        -startdate 20200101000000Z -enddate "${5:-20460101000000Z}" -in ".lock/$1.csr" -out "$1.pem"
}

# The large keys take nearly all of the time.
large='chain5-root chain5-1 chain5-2 chain5-3 server-chain5-rsa4096'
jobs=
for name in $large; do
    rsa "$name" 4096 &
    jobs="$jobs $!"
done
rsa server-rsa 2048
for name in ca other-ca server-ecdsa named wildcard client expired revoked revoked-client wrong-ca mismatched; do
    p256 "$name"
done
for job in $jobs; do
    wait "$job" || die "openssl genpkey"
done

root ca "dv_dtls test CA"
root other-ca "another test CA"
sign server-ecdsa localhost server ca
sign server-rsa localhost server ca
sign named one.example.test named ca
sign wildcard wildcard.example.test wildcard ca
sign client "test client" client ca
sign revoked-client "revoked client" client ca
sign expired localhost server ca 20200201000000Z
sign revoked localhost server ca
sign wrong-ca localhost server other-ca
root chain5-root "dv_dtls test chain, root"
above=chain5-root
for i in 1 2 3; do
    sign "chain5-$i" "dv_dtls test chain, $i" authority "$above"
    above=chain5-$i
done
sign server-chain5-rsa4096 localhost server "$above"
cat chain5-3.pem chain5-2.pem chain5-1.pem chain5-root.pem >>server-chain5-rsa4096.pem
for name in revoked revoked-client; do
    run ca -config .lock/config -cert ca.pem -keyfile ca.key -revoke "$name.pem"
done
run ca -config .lock/config -cert ca.pem -keyfile ca.key -gencrl -crldays 7000 -out crl.pem
cat ca.pem crl.pem >ca-crl.pem
cat chain5-root.pem >>ca.pem
rm -f chain5-* ca.key other-ca.key

run x509 -in server-ecdsa.pem -outform DER -out server-ecdsa.der
run pkey -in server-ecdsa.key -outform DER -out server-ecdsa-key.der
# The tests expect of a wrong passphrase that it is seen to be wrong. With one key in 256 the padding is right by chance.
for _ in 1 2 3 4; do
    run pkey -in server-ecdsa.key -aes256 -passout pass:dv_dtls -out encrypted.key
    openssl pkey -in encrypted.key -passin pass:wrong -noout 2>&1 | grep -q 'bad decrypt' && break
done
: >empty.pem
{
    echo '-----BEGIN CERTIFICATE-----'
    echo 'This is text, and a certificate only at first sight.'
    echo '-----END CERTIFICATE-----'
} >garbage.pem
chmod 644 ./*.pem ./*.der
chmod 600 server-ecdsa-key.der

cp "$script" .made-by
