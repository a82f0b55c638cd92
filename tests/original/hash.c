/* Reads keys, prints their hashes: the library's, or with -DORIGINAL those of the function cut out of the document. */
#include "prelude.h"

#ifdef ORIGINAL
#define DV_OMIT_DTLS_CONN_HASH
#endif
#include <dv_dtls.h>
#ifdef ORIGINAL
#include "original_hash.h"
#endif

int main(void)
{
    dv_udp_conn_key_t key;

    while (fread(&key, sizeof(key), 1, stdin) == 1) {
        printf("%u\n", dv_dtls_conn_hash(&key));
    }
    return 0;
}
