/* Vectors as long as the processor's registers, and what the processors do differently with them.
 *
 * Compilers split longer vectors for shorter registers, but then keep them in memory. */

#ifndef NUDGE_VECTORS_H
#define NUDGE_VECTORS_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512VNNI__) /* those without VNNI take AVX2 */
#define NUDGE_AVX512
enum { LANES = 16 };
#elif defined(__AVX2__) && defined(__FMA__)
#define NUDGE_AVX2
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef float four __attribute__((vector_size(16)));
typedef uint32_t four_words __attribute__((vector_size(16)));

static inline floats load(const float *p) {
    floats v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline words load_words(const uint16_t *p) {
    words v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline floats spread(float x) { return x - (floats){0}; }

/* a * b + sum, rounded once where the processor can. Not left to the compiler: it would decide anew in each place. */
static inline floats multiply_add(floats a, floats b, floats sum) {
#if defined(NUDGE_AVX512)
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(NUDGE_AVX2)
    return (floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
    return (floats)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
}

/* Sum the lanes to four, adding halves to halves. */
static inline four fold(floats v) {
    four a[LANES / 4];
    memcpy(a, &v, sizeof a);
    for (int n = LANES / 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) a[i] += a[i + n];
    return a[0];
}

static inline float sum_lanes(floats v) {
    four a = fold(v);
    return (a[0] + a[1]) + (a[2] + a[3]);
}

#ifdef __clang__
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (four_words){i, j, k, l})
#endif

/* Write the sums of `count` vectors to y, each in the order of sum_lanes. Summing four together takes half as many
 * instructions, which saves much of a batch's time when rows are short. */
static inline __attribute__((always_inline)) void sum_each(const floats *v, int count, float *y) {
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        four a = fold(v[i]), b = fold(v[i + 1]), c = fold(v[i + 2]), d = fold(v[i + 3]);
        four ab = PICK(a, b, 0, 4, 2, 6) + PICK(a, b, 1, 5, 3, 7); /* a0 + a1, b0 + b1, a2 + a3, b2 + b3 */
        four cd = PICK(c, d, 0, 4, 2, 6) + PICK(c, d, 1, 5, 3, 7);
        four all = PICK(ab, cd, 0, 1, 4, 5) + PICK(ab, cd, 2, 3, 6, 7);
        memcpy(y + i, &all, sizeof all);
    }
    for (; i < count; i++) y[i] = sum_lanes(v[i]);
}

#endif
