/* Arithmetic for the kernels: bfloat16, which is the upper half of a float, and e^x. Plain functions without branches,
   so that compilers turn loops over them into vector instructions. */

#ifndef NUDGE_NUMBERS_H
#define NUDGE_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float from_bfloat16(uint16_t x) { return from_bits((uint32_t)x << 16); }

/* Round to the nearest, ties to even. Infinities stay, and so does every NaN that arithmetic produces. A NaN from a
   file may have all bits set and would become -0. */
static inline uint16_t nearest_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* The same, right for any NaN. The check takes a tenth of the time of a loop such as GELU's. */
static inline uint16_t to_bfloat16(float x) { return x != x ? 0x7fc0 : nearest_bfloat16(x); }

/* Return e^x for x <= 88, to 2e-7 of its value; x below -87 counts as -87, NaN stays NaN. It is 2^n e^r with an
   integer n and abs(r) <= ln 2 / 2. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x; /* not fmaxf, which would lose a NaN */
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x); /* ln 2 in two parts: x - n ln 2 without cancellation */
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691e-4f;
    p = fmaf(p, r, 1.3981999e-3f);
    p = fmaf(p, r, 8.3334519e-3f);
    p = fmaf(p, r, 4.1665795e-2f);
    p = fmaf(p, r, 1.6666665e-1f);
    p = fmaf(p, r, 5.0e-1f);
    p = fmaf(p * r, r, r) + 1.0f;
    return p * from_bits((uint32_t)((int32_t)n + 127) << 23);
}

#endif
