# cython: language_level=3, embedsignature=True
"""CRC-32 as zlib's, by carry-less multiplication where the processor has it: the writer sums up every byte it records.

Owns the arithmetic. V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"
(Intel, 2009), is the method; the constants are its own for the reflected polynomial of CRC-32.
"""

from libc.stdint cimport uint32_t, uint8_t

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    #define FOLDS 1
    #define WITH_CLMUL __attribute__((target("sse4.1,pclmul")))

    static int can_fold(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    }

    WITH_CLMUL static inline __m128i fold(__m128i sum, __m128i by, __m128i next) {
        return _mm_xor_si128(
            next, _mm_xor_si128(_mm_clmulepi64_si128(sum, by, 0x00), _mm_clmulepi64_si128(sum, by, 0x11)));
    }

    WITH_CLMUL static inline __m128i load(const uint8_t *at) {
        return _mm_loadu_si128((const __m128i *) at);
    }

    /* Of 64 bytes or more, whole sixteens; `value` goes in and comes out without the final inversion. */
    WITH_CLMUL static uint32_t fold_all(const uint8_t *at, size_t size, uint32_t value) {
        const __m128i by64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        const __m128i by4 = _mm_set_epi64x(0, 0x163cd6124), reduce = _mm_set_epi64x(0x1f7011641, 0x1db710641);
        const __m128i low = _mm_set_epi32(0, 0, 0, -1);
        __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128((int) value));
        __m128i b = load(at + 16), c = load(at + 32), d = load(at + 48), sum;
        for (at += 64, size -= 64; size >= 64; at += 64, size -= 64) {
            a = fold(a, by64, load(at));
            b = fold(b, by64, load(at + 16));
            c = fold(c, by64, load(at + 32));
            d = fold(d, by64, load(at + 48));
        }
        sum = fold(fold(fold(a, by16, b), by16, c), by16, d);
        for (; size >= 16; at += 16, size -= 16)
            sum = fold(sum, by16, load(at));
        /* 128 bits to 96, to 64, and by Barrett's way to 32. */
        sum = _mm_xor_si128(_mm_srli_si128(sum, 8), _mm_clmulepi64_si128(sum, by16, 0x10));
        sum = _mm_xor_si128(_mm_srli_si128(sum, 4), _mm_clmulepi64_si128(_mm_and_si128(sum, low), by4, 0x00));
        a = _mm_clmulepi64_si128(_mm_and_si128(sum, low), reduce, 0x10);
        a = _mm_clmulepi64_si128(_mm_and_si128(a, low), reduce, 0x00);
        return (uint32_t) _mm_extract_epi32(_mm_xor_si128(sum, a), 1);
    }
    #else
    #define FOLDS 0
    static int can_fold(void) { return 0; }
    static uint32_t fold_all(const uint8_t *at, size_t size, uint32_t value) { return value; }
    #endif

    static uint32_t table[256];

    static void make_table(void) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t value = byte;
            for (int bit = 0; bit < 8; bit++)
                value = value & 1 ? value >> 1 ^ 0xedb88320 : value >> 1;
            table[byte] = value;
        }
    }

    static uint32_t crc_of(const uint8_t *at, size_t size, uint32_t value) {
        value = ~value;
        if (size >= 64) {
            size_t whole = size & ~(size_t) 15;
            value = fold_all(at, whole, value);
            at += whole;
            size -= whole;
        }
        while (size--)
            value = value >> 8 ^ table[(value ^ *at++) & 255];
        return ~value;
    }
    """
    bint can_fold()
    void make_table()
    uint32_t crc_of(const uint8_t*, size_t, uint32_t) noexcept nogil


make_table()
WORKS = can_fold()
"""Whether this processor has the instructions; `crc32` is not to be called where it has not."""


def crc32(const uint8_t[::1] data not None, uint32_t value=0, /):
    """Return the CRC-32 of what `value` is the CRC-32 of, and `data` behind it: zlib.crc32."""
    return crc_of(&data[0], data.shape[0], value) if data.shape[0] else value
