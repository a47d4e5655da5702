/* The next token of a GPT-2 on a CPU in one call: all layers and heads, on all threads, for one text or for many.
 *
 * A new token uses every weight once. So the time is the time to read the weights from memory, and the code must not
 * wait for anything else:
 *   - there is one parallel region per token, in which the threads meet at a spinning barrier (5 times a layer);
 *   - each thread reads whole rows of a matrix one after the other, which suits the processor's prefetcher, and applies
 *     bias, GELU or the residual addition to its own rows while they are in the cache;
 *   - every thread computes what is cheap (LayerNorm, rounding the activations) itself instead of waiting for it;
 *   - weights take fewer bytes as bfloat16, or as int8 with a scale per row.
 * Many texts at once share the reading: each row is multiplied with the activations of all of them.
 *
 * A row is always summed in the same order, so the result depends neither on the number of threads nor on the rest of
 * the batch. That needs -ffp-contract=off (see native_loader.py): a compiler that may turn a * b + c into one
 * instruction does so in the code for one text and not in the code for four. nudge/model/gpt.py is the readable twin;
 * nudge/fast/weights.py fills these structs, and decoder.py makes the calls.
 */
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#include "numbers.h"

enum { FLOAT32, BFLOAT16, INT8 };
enum { GROUP = 64 };           /* int8: activations that share a scale; rows of weights are padded to a multiple */
enum { ROWS_PER_THREAD = 32 }; /* another thread is only worth it for this many rows of the smallest matrix */
enum { TEXTS = 4 };            /* texts whose activations are multiplied with a row in one go; sum_each needs 4 */
enum { MAX_TEXTS = 64 };       /* texts in one call */
enum { ROWS_BYTES = 65536 };   /* of weights that stay in the cache while they are multiplied with all texts */
enum { AT_ONCE = 8 };         /* tokens whose values attention sums in one go */
enum { SPINS = 2000 };         /* tens of microseconds, longer than threads usually wait for each other */

typedef struct {
    const void *weight;  /* [n_out, n_in] in the model's type; int8: unsigned, 128 is zero */
    const float *scale;  /* int8: [n_out] */
    const float *bias;   /* [n_out] or NULL */
    int64_t n_in, n_out;
} Matrix;

typedef struct {
    const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias; /* [C] */
    Matrix c_attn, attn_proj, c_fc, mlp_proj;
} Layer;

typedef struct {
    int64_t type, n_layer, n_head, n_embd;
    const Layer *layers;
    const float *ln_f_weight, *ln_f_bias;
    Matrix head;
    const void *wte;  /* [V, C], float32 or (for bfloat16 and int8) bfloat16 */
    const float *wpe; /* [T, C] */
} Model;

typedef struct {
    void *k, *v;             /* [L, H, room, K], float32 or (for bfloat16 and int8) bfloat16 */
    int64_t room, n_tokens;  /* n_tokens: positions that are filled */
} Sequence;

/* ---- numbers ------------------------------------------------------------------------------------------------- */

typedef float floats __attribute__((vector_size(64))); /* 16 lanes: compilers split them where registers are shorter */
typedef uint32_t words __attribute__((vector_size(64)));
typedef int32_t integers __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef int16_t shorts __attribute__((vector_size(32)));
typedef uint8_t unsigned_bytes __attribute__((vector_size(16)));
typedef int8_t signed_bytes __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));
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

/* a * b + sum, rounded once with AVX-512 and twice elsewhere: a fused one gains nothing with AVX2's 16 registers. */
static inline floats multiply_add(floats a, floats b, floats sum) {
#ifdef __AVX512F__
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#else
    return sum + a * b;
#endif
}

/* Sum sixteen lanes to four, adding halves to halves. */
static inline four fold(floats v) {
    eight a[2];
    memcpy(a, &v, sizeof a);
    a[0] += a[1];
    four b[2];
    memcpy(b, a, sizeof b);
    return b[0] + b[1];
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

/* Write the sums of 1 or TEXTS vectors to y, each in the order of sum_lanes. Summing four together takes half as many
 * instructions, which saves much of a batch's time when rows are short. */
static inline void sum_each(const floats *v, int count, float *y) {
    if (count == 1) {
        y[0] = sum_lanes(v[0]);
        return;
    }
    four a = fold(v[0]), b = fold(v[1]), c = fold(v[2]), d = fold(v[3]);
    four ab = PICK(a, b, 0, 4, 2, 6) + PICK(a, b, 1, 5, 3, 7); /* a0 + a1, b0 + b1, a2 + a3, b2 + b3 */
    four cd = PICK(c, d, 0, 4, 2, 6) + PICK(c, d, 1, 5, 3, 7);
    four all = PICK(ab, cd, 0, 1, 4, 5) + PICK(ab, cd, 2, 3, 6, 7);
    memcpy(y, &all, sizeof all);
}

static inline float gelu(float u) { /* tanh form, as in GPT-2: u/2 (1 + tanh t) = u / (1 + exp(-2t)) */
    float x = -2.0f * 0.797884561f * (u + 0.044715f * u * u * u);
    return u / (1.0f + exponential(x > 88.0f ? 88.0f : x));
}

/* ---- one row of weights times the activations ------------------------------------------------------------------ */

/* The activations of one text, in the form that the type of the weights needs. */
typedef struct {
    float *values;   /* the output of LayerNorm, float32 */
    uint16_t *half;  /* bfloat16 */
    int8_t *bytes;   /* int8 in groups, the last one padded with zeros */
    float *scale;    /* of each group */
    float *offset;   /* what the weights' zero of 128 adds to every dot product */
} Activations;

static void round_to_int8(Activations *a, const float *x, int64_t n) {
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
        offset += a->scale[g] * 128.0f * (float)sum;
    }
    *a->offset = offset;
}

/* Convert x [n] to the form that `dot` reads. */
static void prepare(Activations *a, const float *x, int64_t n, int64_t type) {
    if (type == FLOAT32 && x != a->values) memcpy(a->values, x, (size_t)n * sizeof *x);
    if (type == BFLOAT16)
        for (int64_t i = 0; i < n; i++) a->half[i] = to_bfloat16(x[i]);
    if (type == INT8) round_to_int8(a, x, n);
}

/* Write the products of one row w [n] with the activations of `count` texts to y [count]. `count` is 1 or TEXTS, a
 * constant where this is inlined, so that the sums stay in registers. Each product has several sums: an addition
 * takes four cycles and one can start in every cycle. */
static inline __attribute__((always_inline)) void dot_float32(
    const float *w, const Activations *x, int64_t n, int count, float *y) {
    floats sum[TEXTS][4] = {0};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int part = 0; part < 4; part++) {
            floats weights = load(w + i + 16 * part);
            for (int j = 0; j < count; j++)
                sum[j][part] = multiply_add(weights, load(x[j].values + i + 16 * part), sum[j][part]);
        }
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < count; j++) sum[j][0] = multiply_add(load(w + i), load(x[j].values + i), sum[j][0]);
    floats sums[TEXTS] = {0};
    for (int j = 0; j < count; j++) sums[j] = (sum[j][0] + sum[j][1]) + (sum[j][2] + sum[j][3]);
    sum_each(sums, count, y);
    for (; i < n; i++)
        for (int j = 0; j < count; j++) y[j] += w[i] * x[j].values[i];
}

/* Return the sum plus 32 products of bfloat16. */
static inline floats add_products(floats sum, words w, words x) {
#ifdef __AVX512BF16__
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
#else
    /* A word holds two numbers; bfloat16 is the upper half of float32, so shifting or masking widens one of them. */
    sum = multiply_add((floats)(w << 16), (floats)(x << 16), sum);
    return multiply_add((floats)(w & 0xffff0000u), (floats)(x & 0xffff0000u), sum);
#endif
}

static inline __attribute__((always_inline)) void dot_bfloat16(
    const uint16_t *w, const Activations *x, int64_t n, int count, float *y) {
    floats sum[TEXTS][2] = {0};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int part = 0; part < 2; part++) {
            words weights = load_words(w + i + 32 * part);
            for (int j = 0; j < count; j++)
                sum[j][part] = add_products(sum[j][part], weights, load_words(x[j].half + i + 32 * part));
        }
    floats sums[TEXTS] = {0};
    for (int j = 0; j < count; j++) sums[j] = sum[j][0] + sum[j][1];
    sum_each(sums, count, y);
    for (; i < n; i++)
        for (int j = 0; j < count; j++) y[j] += from_bfloat16(w[i]) * from_bfloat16(x[j].half[i]);
}

/* Return the sum of the products of a group, each at most 255 * 127, in 16 lanes. */
static inline integers multiply_bytes(const uint8_t *w, const int8_t *x) {
#if defined(__AVX512VNNI__)
    return (integers)_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(w), _mm512_loadu_si512(x));
#elif defined(__AVX2__)
    __m256i pairs[4];
    for (int i = 0; i < 4; i++)
        pairs[i] = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)w + i)),
                                     _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)x + i)));
    __m256i lanes[2] = {_mm256_add_epi32(pairs[0], pairs[1]), _mm256_add_epi32(pairs[2], pairs[3])};
    integers all;
    memcpy(&all, lanes, sizeof all);
    return all;
#else
    integers all = {0};
    for (int i = 0; i < GROUP; i += 16) {
        unsigned_bytes weights;
        signed_bytes activations;
        memcpy(&weights, w + i, sizeof weights);
        memcpy(&activations, x + i, sizeof activations);
        all += __builtin_convertvector(
            __builtin_convertvector(weights, shorts) * __builtin_convertvector(activations, shorts), integers);
    }
    return all;
#endif
}

/* Sums are integers within a group and float32 from group to group. */
static inline __attribute__((always_inline)) void dot_int8(
    const uint8_t *w, const Activations *x, int64_t n_groups, int count, float *y) {
    floats sum[TEXTS] = {0};
    for (int64_t g = 0; g < n_groups; g++)
        for (int j = 0; j < count; j++) {
            integers products = multiply_bytes(w + g * GROUP, x[j].bytes + g * GROUP);
            sum[j] = multiply_add(__builtin_convertvector(products, floats), spread(x[j].scale[g]), sum[j]);
        }
    sum_each(sum, count, y);
    for (int j = 0; j < count; j++) y[j] -= *x[j].offset;
}

static inline __attribute__((always_inline)) void dot(
    const Matrix *m, int64_t type, const Activations *x, int64_t row, int count, float *y) {
    int64_t n = m->n_in, n_groups = (n + GROUP - 1) / GROUP;
    if (type == FLOAT32) dot_float32((const float *)m->weight + row * n, x, n, count, y);
    if (type == BFLOAT16) dot_bfloat16((const uint16_t *)m->weight + row * n, x, n, count, y);
    if (type == INT8) {
        dot_int8((const uint8_t *)m->weight + row * n_groups * GROUP, x, n_groups, count, y);
        for (int j = 0; j < count; j++) y[j] *= m->scale[row];
    }
}

/* ---- the threads of a token ------------------------------------------------------------------------------------ */

typedef struct {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int round;
} Barrier;

static inline void pause_(void) {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait for the whole team. OpenMP's own barrier may put threads to sleep, and waking them takes longer than the work
 * between two barriers. After some spins a thread yields its core: the thread that it waits for may need one, because
 * there are more threads than cores or because of another program. */
static void meet(Barrier *barrier, int team) {
    int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == team - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round; spins++) {
        if (spins < SPINS) pause_();
        else sched_yield();
    }
}

/* The tokens of one call: one for each of n texts. */
typedef struct {
    const Sequence *const *sequences; /* [n] */
    const int64_t *tokens;            /* [n] */
    int64_t n, longest;               /* the largest room of a sequence */
} Batch;

/* Slices of the memory that Python allocates, some shared by all threads and some for one thread. */
typedef struct {
    float *x, *qkv, *mixed, *hidden; /* [n, C] the residual stream, [n, 3C], [n, C] the output of attention, [n, 4C] */
    float *activations;              /* a slice for each text: shared or, for a single text, this thread's own */
    float *scores;                   /* [longest], this thread's own */
} Workspace;

static int64_t whole_lines(int64_t n) { return (n + GROUP - 1) / GROUP * GROUP; }

static int64_t activation_floats(const Model *m) { /* values, half, bytes, offset and scale */
    int64_t wide = whole_lines(4 * m->n_embd);
    return wide + wide / 2 + wide / 4 + whole_lines(wide / GROUP + 1);
}

static Activations activations_of(const Model *m, const Workspace *w, int64_t text) {
    int64_t wide = whole_lines(4 * m->n_embd);
    float *start = w->activations + text * activation_floats(m);
    Activations a = {.values = start, .half = (uint16_t *)(start + wide), .bytes = (int8_t *)(start + wide + wide / 2)};
    a.offset = start + wide + wide / 2 + wide / 4;
    a.scale = a.offset + 1;
    return a;
}

static int64_t shared_floats(const Model *m, int64_t n) {
    return n * whole_lines(9 * m->n_embd) + (n > 1 ? n * activation_floats(m) : 0);
}

static int64_t own_floats(const Model *m, int64_t n, int64_t longest) {
    return (n > 1 ? 0 : activation_floats(m)) + whole_lines(longest);
}

static Workspace workspace(const Model *m, const Batch *batch, float *memory, int id) {
    int64_t C = m->n_embd, n = batch->n;
    float *own = memory + shared_floats(m, n) + id * own_floats(m, n, batch->longest);
    Workspace w = {.x = memory, .qkv = memory + n * C, .mixed = memory + 4 * n * C, .hidden = memory + 5 * n * C};
    w.activations = n > 1 ? memory + n * whole_lines(9 * C) : own;
    w.scores = n > 1 ? own : own + activation_floats(m);
    return w;
}

/* ---- the parts of a layer --------------------------------------------------------------------------------------- */

static void layer_norm(const float *x, const float *weight, const float *bias, float *y, int64_t n) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    float mean = sum / (float)n;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    float inverse = 1.0f / sqrtf(squares / (float)n + 1e-5f);
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
}

enum { STORE, ADD, GELU };

static inline __attribute__((always_inline)) void one_row(
    const Matrix *m, int64_t type, const Activations *a, int64_t row, int64_t text, int count, float *y, int then) {
    float sums[TEXTS] = {0}, bias = m->bias ? m->bias[row] : 0.0f;
    dot(m, type, a + text, row, count, sums);
    for (int j = 0; j < count; j++) {
        float *to = y + (text + j) * m->n_out + row;
        *to = then == ADD ? *to + (sums[j] + bias) : sums[j] + bias;
    }
}

/* Compute this thread's rows of y = W a + bias, y += W a + bias or y = gelu(W a + bias) for n texts: y [n, n_out].
 * A few rows at a time, so that they stay in the cache for all groups of texts. */
static void product(
    const Matrix *m, int64_t type, const Activations *a, int64_t n, float *y, int then, int id, int team) {
    int64_t first = m->n_out * id / team, last = m->n_out * (id + 1) / team;
    int64_t at_once = 1 + ROWS_BYTES / (m->n_in * (type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1));
    for (int64_t start = first; start < last; start += at_once) {
        int64_t end = start + at_once < last ? start + at_once : last;
        for (int64_t text = 0; text + TEXTS <= n; text += TEXTS)
            for (int64_t row = start; row < end; row++) one_row(m, type, a, row, text, TEXTS, y, then);
        for (int64_t text = n / TEXTS * TEXTS; text < n; text++)
            for (int64_t row = start; row < end; row++) one_row(m, type, a, row, text, 1, y, then);
    }
    if (then == GELU)
        for (int64_t text = 0; text < n; text++)
            for (int64_t row = first; row < last; row++) y[text * m->n_out + row] = gelu(y[text * m->n_out + row]);
}

/* Return number i of a cache (or 16 numbers), which is float32 or, if `half`, bfloat16. */
static inline float kept(const void *cache, int64_t i, int half) {
    return half ? from_bfloat16(((const uint16_t *)cache)[i]) : ((const float *)cache)[i];
}

static inline floats kept16(const void *cache, int64_t i, int half) {
    if (!half) return load((const float *)cache + i);
    halves narrow;
    memcpy(&narrow, (const uint16_t *)cache + i, sizeof narrow);
    return (floats)(__builtin_convertvector(narrow, words) << 16);
}

static inline void keep(void *cache, int64_t at, const float *values, int64_t n, int half) {
    for (int64_t i = 0; i < n; i++) {
        if (half) ((uint16_t *)cache)[at + i] = to_bfloat16(values[i]);
        else ((float *)cache)[at + i] = values[i];
    }
}

/* Attend with one head of one new token: store its key and value, compare its query with all keys, average the values.
 * q, k, v [K] -> y [K]. Inlined twice, so that `half` is a constant. */
static inline __attribute__((always_inline)) void attend(
    const Sequence *s, int64_t start, int64_t K, const float *q, const float *k, const float *v, float *scores,
    float *y, int half) {
    int64_t now = s->n_tokens, whole = K / 16 * 16; /* whole: the channels that fill vectors of sixteen */
    keep(s->k, start + now * K, k, K, half);
    keep(s->v, start + now * K, v, K, half);
    float scale = 1.0f / sqrtf((float)K), largest = -INFINITY, sum = 0;
    for (int64_t t = 0; t <= now; t++) {
        floats products = {0};
        for (int64_t i = 0; i < whole; i += 16)
            products = multiply_add(load(q + i), kept16(s->k, start + t * K + i, half), products);
        float score = sum_lanes(products);
        for (int64_t i = whole; i < K; i++) score += q[i] * kept(s->k, start + t * K + i, half);
        scores[t] = score * scale;
        largest = scores[t] > largest ? scores[t] : largest;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t <= now; t++) {
        scores[t] = exponential(scores[t] - largest);
        sum += scores[t];
    }
    memset(y, 0, (size_t)K * sizeof *y);
    for (int64_t t = 0; t <= now; t += AT_ONCE) { /* y is read and written once per AT_ONCE tokens */
        int64_t end = now + 1 - t < AT_ONCE ? now + 1 : t + AT_ONCE;
        for (int64_t i = 0; i < whole; i += 16) {
            floats mixed = load(y + i);
            for (int64_t u = t; u < end; u++)
                mixed = multiply_add(spread(scores[u]), kept16(s->v, start + u * K + i, half), mixed);
            memcpy(y + i, &mixed, sizeof mixed);
        }
        for (int64_t i = whole; i < K; i++)
            for (int64_t u = t; u < end; u++) y[i] += scores[u] * kept(s->v, start + u * K + i, half);
    }
    for (int64_t i = 0; i < K; i++) y[i] /= sum;
}

/* Write head `h` of y [C] for one token, from its qkv [3C]. */
static void attend_head(
    const Model *m, const Sequence *s, int64_t layer, int64_t h, const float *qkv, float *scores, float *y) {
    int64_t C = m->n_embd, K = C / m->n_head, start = (layer * m->n_head + h) * s->room * K;
    const float *q = qkv + h * K;
    if (m->type == FLOAT32) attend(s, start, K, q, q + C, q + 2 * C, scores, y + h * K, 0);
    else attend(s, start, K, q, q + C, q + 2 * C, scores, y + h * K, 1);
}

static void embed(const Model *m, int64_t token, int64_t position, float *x) {
    int64_t C = m->n_embd, from = token * C;
    for (int64_t i = 0; i < C; i++) x[i] = kept(m->wte, from + i, m->type != FLOAT32) + m->wpe[position * C + i];
}

/* The work of one thread. Between two barriers a thread reads only what was written before the first of them. */
typedef struct {
    const Model *m;
    const Batch *batch;
    Workspace w;
    Activations *a; /* [n] */
    Barrier *barrier;
    int id, team;
} Worker;

static void meet_all(const Worker *t) { meet(t->barrier, t->team); }

/* Prepare the activations for the next product: LayerNorm of x [n, width] if there is one, then rounding. Every thread
 * prepares a single text for itself; with many texts each thread prepares some, then waits for the others. */
static void activate(const Worker *t, const float *x, int64_t width, const float *weight, const float *bias) {
    int64_t n = t->batch->n;
    for (int64_t text = n > 1 ? t->id : 0; text < n; text += n > 1 ? t->team : 1) {
        const float *from = x + text * width;
        if (weight) layer_norm(from, weight, bias, t->a[text].values, width);
        prepare(&t->a[text], weight ? t->a[text].values : from, width, t->m->type);
    }
    if (n > 1) meet_all(t);
}

static void multiply(const Worker *t, const Matrix *matrix, float *y, int then) {
    product(matrix, t->m->type, t->a, t->batch->n, y, then, t->id, t->team);
    meet_all(t);
}

static void work(const Worker *t, float *logits) {
    const Model *m = t->m;
    const Workspace *w = &t->w;
    int64_t C = m->n_embd, H = m->n_head, n = t->batch->n;
    for (int64_t text = t->id; text < n; text += t->team)
        embed(m, t->batch->tokens[text], t->batch->sequences[text]->n_tokens, w->x + text * C);
    meet_all(t);
    for (int64_t i = 0; i < m->n_layer; i++) {
        const Layer *layer = &m->layers[i];
        activate(t, w->x, C, layer->ln_1_weight, layer->ln_1_bias);
        multiply(t, &layer->c_attn, w->qkv, STORE);
        for (int64_t task = t->id; task < n * H; task += t->team) {
            int64_t text = task / H;
            attend_head(
                m, t->batch->sequences[text], i, task % H, w->qkv + text * 3 * C, w->scores, w->mixed + text * C);
        }
        meet_all(t);
        activate(t, w->mixed, C, NULL, NULL);
        multiply(t, &layer->attn_proj, w->x, ADD);
        activate(t, w->x, C, layer->ln_2_weight, layer->ln_2_bias);
        multiply(t, &layer->c_fc, w->hidden, GELU);
        activate(t, w->hidden, 4 * C, NULL, NULL);
        multiply(t, &layer->mlp_proj, w->x, ADD);
    }
    activate(t, w->x, C, m->ln_f_weight, m->ln_f_bias);
    multiply(t, &m->head, logits, STORE);
}

/* ---- called by Python ------------------------------------------------------------------------------------------- */

/* Return the size of `memory` for n texts at once, in floats. */
int64_t nudge_workspace(const Model *m, int64_t n, int64_t longest, int32_t n_threads) {
    return shared_floats(m, n) + n_threads * own_floats(m, n, longest);
}

/* Read one token for each of n texts (at most MAX_TEXTS). Keys and values are written to position n_tokens of their
 * sequences (Python then increments it), the scores of the next tokens to logits [n, V]. `memory` has nudge_workspace
 * floats and starts on a cache line; `longest` is the largest room of a sequence. */
void nudge_tokens(const Model *m, const Sequence *const *sequences, const int64_t *tokens, int64_t n, int64_t longest,
                  float *memory, float *logits, int32_t n_threads) {
    const Batch batch = {sequences, tokens, n, longest};
    Barrier barrier = {0};
    int useful = (int)(m->n_embd / ROWS_PER_THREAD);
#pragma omp parallel num_threads(n_threads)
    {
        int id = omp_get_thread_num(), team = omp_get_num_threads();
        if (team > useful) team = useful > 1 ? useful : 1;
        if (id < team) {
            Activations a[MAX_TEXTS];
            Worker worker = {m, &batch, workspace(m, &batch, memory, id), a, &barrier, id, team};
            for (int64_t text = 0; text < n; text++) a[text] = activations_of(m, &worker.w, text);
            work(&worker, logits);
        }
    }
}
