/* Part of each program that runs under valgrind. */
#include <stddef.h>
#include <valgrind/valgrind.h>

#ifdef __x86_64__

/*
 * In libdv_dtls.so*: ring_core_*__gcm_ghash_avx. ring's GHASH for processors with AVX makes its zeros in an odd way: it copies
 * what its caller has left in xmm0, xmm1 and xmm2, and combines each with its copy by an exclusive or. memcheck does not see
 * that these are equal, and where what was left is undefined it takes the AES-GCM tag for undefined. So the three are cleared
 * first, and tags are checked like all else.
 */
#define GHASH I_WRAP_SONAME_FNNAME_ZZ(libdvZudtlsZdsoZa, ringZucoreZuZaZuZugcmZughashZuavx)

void GHASH(void *state, const void *table, const void *blocks, size_t len);

void GHASH(void *state, const void *table, const void *blocks, size_t len)
{
    OrigFn ghash;

    VALGRIND_GET_ORIG_FN(ghash);
    __asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm1, %%xmm1; pxor %%xmm2, %%xmm2" ::: "xmm0", "xmm1", "xmm2");
    CALL_FN_v_WWWW(ghash, state, table, blocks, len);
}

#endif
