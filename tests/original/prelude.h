/* What the program around the original listings defines: system headers, and the names that belong to the caller. */
#ifndef PRELUDE_H
#define PRELUDE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/md5.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* Whoever includes dv_dtls.h has these two from there. */
#ifdef PROGRAM_IS_ORIGINAL
#define DV_OK 0
#define DV_ERROR -1
#endif

#define DV_BUF_MAX_LEN 1000
#define DV_TEST_EVENT_MAX_NUM 10
#define DV_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The test looks for these two in what the programs print. */
#define DV_TEST_REQ "ping from the client"
#ifndef PROGRAM_IS_MEASURED
#define DV_TEST_RESP "pong from the server"
#else
/* Beside echo servers the main has to answer as much as they do: what it has just read into `buf`, `len` bytes. */
#define DV_TEST_RESP (*(char (*)[len])buf)
#endif

#define CIPHERS "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
#define DV_DEF_SERVER_CIPHERS CIPHERS
static char dv_client_ciphers[] __attribute__((unused)) = CIPHERS;

#endif
