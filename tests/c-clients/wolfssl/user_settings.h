/* What the wolfSSL of tests/cid_interop.rs can do: DTLS 1.2 with AEADs, connection IDs and resumption. */
#ifndef USER_SETTINGS_H
#define USER_SETTINGS_H
#define WOLFSSL_DTLS
#define WOLFSSL_DTLS_CID
#define HAVE_TLS_EXTENSIONS
#define HAVE_SUPPORTED_CURVES
#define HAVE_EXTENDED_MASTER
#define HAVE_SESSION_TICKET
#define HAVE_SNI
#define HAVE_ECC
#define HAVE_CURVE25519
#define HAVE_AESGCM
#define HAVE_CHACHA
#define HAVE_POLY1305
#define WOLFSSL_SHA384
#define WOLFSSL_SHA512
#define WOLFSSL_SP_MATH_ALL
#define ECC_TIMING_RESISTANT
#define WC_RSA_BLINDING
#define NO_OLD_TLS
#define NO_DSA
#define NO_RC4
#define NO_MD4
#define NO_DES3
#define NO_PSK
#define SINGLE_THREADED
#endif
