/* Products of rows of weights with the activations of some texts, for weights in float32, bfloat16 or int8.
 *
 * A tile is some rows times some texts, with one sum for each product, in registers. Every number that is loaded is used
 * for the whole tile, and several sums hide that an addition takes four cycles while one or two can start in each. A
 * product is summed in the same order in every tile, so its bits do not depend on the other rows and texts. */

#ifndef NUDGE_DOT_H
#define NUDGE_DOT_H

#include <math.h>

#include "numbers.h"
#include "vectors.h"

enum { FLOAT32, BFLOAT16, INT8 };
enum { GROUP = 64 }; /* int8: activations that share a scale; rows of weights are padded to a multiple */

/* Rows of a tile: for one text, where the time is that of reading memory, and for TEXTS texts, where it is that of
 * computing and as many as there are registers for. Each row of a tile is one more place that the processor reads ahead
 * from; more than the sums need only cost time. */
enum { TEXTS = 4, LARGEST_TILE = 16 };
enum { AHEAD = 4096 }; /* bytes */
enum { ROWS_FLOAT32 = 8, ROWS_BFLOAT16 = 1, ROWS_INT8 = 1 };
#ifdef NUDGE_AVX2
enum { TOGETHER_FLOAT32 = 3, TOGETHER_BFLOAT16 = 1, TOGETHER_INT8 = 1 }; /* 16 registers */
#else
enum { TOGETHER_FLOAT32 = 4, TOGETHER_BFLOAT16 = 2, TOGETHER_INT8 = 4 }; /* 32 registers */
#endif

#define INLINED static inline __attribute__((always_inline)) /* so that the size of a tile is a constant */

/* Ask for the weights some lines ahead: the processor's own reading ahead stops at the end of each page of 4 KB. */
static inline void read_ahead(const void *weights) { __builtin_prefetch((const char *)weights + AHEAD); }

/* The activations of one text, in the form that the type of the weights needs. */
typedef struct {
    float *values;   /* float32; for bfloat16 see prepare_bfloat16 */
    uint16_t *half;  /* bfloat16 */
    int8_t *bytes;   /* int8 in groups, the last one padded with zeros */
    int16_t *shorts; /* the same for AVX2: of each 32 bytes the even ones, then the odd ones */
    float *scale;    /* of each group */
    float *offset;   /* what the weights' ZERO adds to every product */
} Activations;

/* ---- float32 --------------------------------------------------------------------------------------------------- */

INLINED void dot_float32(const float *w, const Activations *x, int64_t n, int rows, int texts, float *y) {
    floats sum[LARGEST_TILE] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int t = 0; t < texts; t++) {
            floats values = load(x[t].values + i);
            for (int r = 0; r < rows; r++)
                sum[r * texts + t] = multiply_add(load(w + r * n + i), values, sum[r * texts + t]);
        }
    sum_each(sum, rows * texts, y);
    for (; i < n; i++)
        for (int p = 0; p < rows * texts; p++) y[p] += w[p / texts * n + i] * x[p % texts].values[i];
}

/* ---- bfloat16 -------------------------------------------------------------------------------------------------- */

/* Round x [n] to bfloat16. Without an instruction for its products, keep float32, in the order in which two numbers are
 * taken out of one word of weights: of each 2 * LANES numbers the even ones, then the odd ones. x may be a->values. */
static void prepare_bfloat16(Activations *a, const float *x, int64_t n) {
#ifdef __AVX512BF16__
    for (int64_t i = 0; i < n; i++) a->half[i] = to_bfloat16(x[i]);
#else
    int64_t whole = n / (2 * LANES) * (2 * LANES);
    for (int64_t start = 0; start < whole; start += 2 * LANES) {
        float rounded[2 * LANES];
        for (int i = 0; i < 2 * LANES; i++) rounded[i] = from_bfloat16(to_bfloat16(x[start + i]));
        for (int i = 0; i < LANES; i++) {
            a->values[start + i] = rounded[2 * i];
            a->values[start + LANES + i] = rounded[2 * i + 1];
        }
    }
    for (int64_t i = whole; i < n; i++) a->values[i] = from_bfloat16(to_bfloat16(x[i]));
#endif
}

#ifdef __AVX512BF16__
enum { STEP = 4 * LANES };
static inline floats multiply_pairs(words w, words x, floats sum) {
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
}
#else
enum { STEP = 2 * LANES };
#endif

INLINED void dot_bfloat16(const uint16_t *w, const Activations *x, int64_t n, int rows, int texts, float *y) {
    floats sum[LARGEST_TILE] = {0}, other_sum[LARGEST_TILE] = {0};
    int64_t i = 0;
    for (; i + STEP <= n; i += STEP)
        for (int t = 0; t < texts; t++)
            for (int r = 0; r < rows; r++) {
                const uint16_t *row = w + r * n + i;
                floats *to = &sum[r * texts + t], *other = &other_sum[r * texts + t];
                if (texts == 1) read_ahead(row);
#ifdef __AVX512BF16__
                const uint16_t *half = x[t].half + i;
                *to = multiply_pairs(load_words(row), load_words(half), *to);
                *other = multiply_pairs(load_words(row + STEP / 2), load_words(half + STEP / 2), *other);
#else
                words pair = load_words(row); /* bfloat16 is the upper half of float32, and a word holds two */
                *to = multiply_add((floats)(pair << 16), load(x[t].values + i), *to);
                *other = multiply_add((floats)(pair & 0xffff0000u), load(x[t].values + i + LANES), *other);
#endif
            }
    for (int p = 0; p < rows * texts; p++) sum[p] += other_sum[p];
    sum_each(sum, rows * texts, y);
    for (; i < n; i++)
        for (int p = 0; p < rows * texts; p++) {
#ifdef __AVX512BF16__
            float value = from_bfloat16(x[p % texts].half[i]);
#else
            float value = x[p % texts].values[i];
#endif
            y[p] += from_bfloat16(w[p / texts * n + i]) * value;
        }
}

/* ---- int8 ------------------------------------------------------------------------------------------------------ */

#ifdef __ARM_FEATURE_DOTPROD
enum { ZERO = 0 }; /* its instruction multiplies signed bytes */
#else
enum { ZERO = 128 }; /* the byte of a weight of 0 */
#endif

/* Round x [n] to int8, each group with its own scale. */
static void prepare_int8(Activations *a, const float *x, int64_t n) {
    float offset = 0;
    for (int64_t g = 0; g * GROUP < n; g++) {
        int64_t size = n - g * GROUP < GROUP ? n - g * GROUP : GROUP;
        const float *from = x + g * GROUP;
        int8_t *to = a->bytes + g * GROUP;
        float largest = 0, nothing = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nothing)
        for (int64_t i = 0; i < size; i++) {
            largest = fabsf(from[i]) > largest ? fabsf(from[i]) : largest;
            nothing += 0.0f * from[i]; /* NaN if one is not finite: rounding would hide a diverged network */
        }
        float inverse = largest > 0 ? 127.0f / largest : 0.0f;
        int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; i++) {
            to[i] = (int8_t)(int32_t)((from[i] * inverse + 12582912.0f) - 12582912.0f);
            sum += to[i];
        }
        memset(to + size, 0, (size_t)(GROUP - size));
        a->scale[g] = largest / 127.0f + nothing;
        offset += a->scale[g] * (float)(ZERO * sum);
#ifdef NUDGE_AVX2
        for (int i = 0; i < GROUP / 2; i++) {
            a->shorts[g * GROUP + i / 16 * 32 + i % 16] = to[2 * i];
            a->shorts[g * GROUP + i / 16 * 32 + 16 + i % 16] = to[2 * i + 1];
        }
#endif
    }
    *a->offset = offset;
}

/* Return the sum of the products of a group of weights w and activations x, each at most 255 * 127, in LANES lanes. */
static inline integers group_products(const uint8_t *w, const Activations *x, int64_t group) {
#if defined(NUDGE_AVX512)
    __m512i bytes = _mm512_loadu_si512(x->bytes + group * GROUP);
    return (integers)_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(w), bytes);
#elif defined(NUDGE_AVX2)
    const __m256i *shorts = (const __m256i *)(x->shorts + group * GROUP);
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 2; i++) { /* a byte is half of a 16-bit number, which masking or shifting takes out */
        __m256i pairs = _mm256_loadu_si256((const __m256i *)w + i);
        __m256i even = _mm256_and_si256(pairs, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(pairs, 8);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, _mm256_loadu_si256(shorts + 2 * i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(odd, _mm256_loadu_si256(shorts + 2 * i + 1)));
    }
    return (integers)sum;
#elif defined(__ARM_FEATURE_DOTPROD)
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < GROUP; i += 16) { /* flipping the upper bit subtracts 128 */
        int8x16_t weights = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + i), vdupq_n_u8(128)));
        sum = vdotq_s32(sum, weights, vld1q_s8(x->bytes + group * GROUP + i));
    }
    return (integers)sum;
#else
    integers sum = {0};
    for (int i = 0; i < GROUP; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sum[lane] += w[i + lane] * x->bytes[group * GROUP + i + lane];
    return sum;
#endif
}

/* Sums are integers within a group and float32 from group to group. */
INLINED void dot_int8(const uint8_t *w, const Activations *x, int64_t n_groups, int rows, int texts, float *y) {
    floats sum[LARGEST_TILE] = {0};
    for (int64_t g = 0; g < n_groups; g++)
        for (int t = 0; t < texts; t++) {
            floats scale = spread(x[t].scale[g]);
            for (int r = 0; r < rows; r++) {
                if (texts == 1) read_ahead(w + (r * n_groups + g) * GROUP);
                integers products = group_products(w + (r * n_groups + g) * GROUP, &x[t], g);
                sum[r * texts + t] =
                    multiply_add(__builtin_convertvector(products, floats), scale, sum[r * texts + t]);
            }
        }
    sum_each(sum, rows * texts, y);
    for (int p = 0; p < rows * texts; p++) y[p] -= *x[p % texts].offset;
}

#endif
