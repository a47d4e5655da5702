/* The next token of a GPT-2 on a CPU, in one call: every layer, every head, on all threads.
 *
 * A single new token multiplies every weight with one number once. So the time is the time to read the weights from
 * memory, and all that a program can do is not to wait for anything else:
 *   - one parallel region per token, in which the threads meet at a barrier that spins (5 times a layer);
 *   - each thread reads whole rows of a matrix one after the other, which the processor's prefetcher loves, and applies
 *     bias, GELU or the residual addition to its own rows while they are warm;
 *   - what is cheap (LayerNorm, rounding the activations) every thread computes for itself instead of waiting for it;
 *   - fewer bytes: weights as float32, bfloat16 or int8 with a scale per row.
 * A row is always summed in the same order by one thread, so the result does not depend on the number of threads.
 *
 * nudge/model/gpt.py is the readable twin; nudge/infer/weights.py fills these structs, nudge/infer/decode.py calls.
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

enum { FLOAT32, BFLOAT16, INT8 };
enum { GROUP = 64 };           /* int8: activations that share a scale; rows of weights are padded to a multiple */
enum { ROWS_PER_THREAD = 32 }; /* fewer rows of the smallest matrix than this are not worth another thread */
enum { AT_ONCE = 8 };         /* tokens whose values attention mixes in one go */
enum { SPINS = 2000 };         /* some tens of microseconds, longer than threads usually wait for each other */

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
typedef uint16_t halves __attribute__((vector_size(32)));

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

static inline float sum_lanes(floats v) { /* halves onto halves: 4 additions, where a loop would wait for 15 */
    typedef float eight __attribute__((vector_size(32)));
    typedef float four __attribute__((vector_size(16)));
    eight a[2];
    memcpy(a, &v, sizeof a);
    a[0] += a[1];
    four b[2];
    memcpy(b, a, sizeof b);
    b[0] += b[1];
    return (b[0][0] + b[0][2]) + (b[0][1] + b[0][3]);
}

static inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float from_bfloat16(uint16_t x) { return from_bits((uint32_t)x << 16); }

/* To the nearest, ties to even. Infinities stay, and so does every NaN that arithmetic makes. */
static inline uint16_t to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* exp(x) to 2e-7 relative, without a branch, so that loops over it become vector code: 2^n times a Taylor series. */
static inline float exp_(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;   /* ln 2 in two parts */
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return p * from_bits((uint32_t)((int32_t)n + 127) << 23);
}

static inline float gelu(float u) { /* tanh form, as in GPT-2: u/2 (1 + tanh t) = u / (1 + exp(-2t)) */
    float t = 0.797884561f * (u + 0.044715f * u * u * u);
    return u / (1.0f + exp_(-2.0f * t));
}

/* ---- one row of weights times the activations ------------------------------------------------------------------ */

/* Activations as the type of weights wants them. Every thread has its own. */
typedef struct {
    float *values;   /* what LayerNorm wrote, float32 */
    uint16_t *half;  /* bfloat16 */
    int8_t *bytes;   /* int8 in groups, the last one padded with zeros */
    float *scale;    /* of each group */
    float offset;    /* what the weights' 128 adds to every dot product */
} Activations;

static void round_to_int8(Activations *a, const float *x, int64_t n) {
    a->offset = 0;
    for (int64_t g = 0; g * GROUP < n; g++) {
        int64_t size = n - g * GROUP < GROUP ? n - g * GROUP : GROUP;
        const float *from = x + g * GROUP;
        int8_t *to = a->bytes + g * GROUP;
        float largest = 0, nothing = 0;
#pragma omp simd reduction(max : largest) reduction(+ : nothing)
        for (int64_t i = 0; i < size; i++) {
            largest = fabsf(from[i]) > largest ? fabsf(from[i]) : largest;
            nothing += 0.0f * from[i]; /* NaN if one of them is not finite: a network that diverged must not look sane */
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
        a->offset += a->scale[g] * 128.0f * (float)sum;
    }
}

/* x [n] -> the form in which `dot` reads it. */
static void prepare(Activations *a, const float *x, int64_t n, int64_t type) {
    if (type == FLOAT32 && x != a->values) memcpy(a->values, x, (size_t)n * sizeof *x);
    if (type == BFLOAT16)
        for (int64_t i = 0; i < n; i++) a->half[i] = to_bfloat16(x[i]);
    if (type == INT8) round_to_int8(a, x, n);
}

static inline float dot_float32(const float *w, const float *x, int64_t n) {
    floats a = {0}, b = {0}, c = {0}, d = {0}; /* four sums: an addition takes four cycles, and can start in each */
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
        a += load(w + i) * load(x + i);
        b += load(w + i + 16) * load(x + i + 16);
        c += load(w + i + 32) * load(x + i + 32);
        d += load(w + i + 48) * load(x + i + 48);
    }
    for (; i + 16 <= n; i += 16) a += load(w + i) * load(x + i);
    float sum = sum_lanes((a + b) + (c + d));
    for (; i < n; i++) sum += w[i] * x[i];
    return sum;
}

static inline float dot_bfloat16(const uint16_t *w, const uint16_t *x, int64_t n) {
    floats a = {0}, b = {0}, c = {0}, d = {0};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
#ifdef __AVX512BF16__
        a = (floats)_mm512_dpbf16_ps((__m512)a, (__m512bh)load_words(w + i), (__m512bh)load_words(x + i));
        b = (floats)_mm512_dpbf16_ps((__m512)b, (__m512bh)load_words(w + i + 32), (__m512bh)load_words(x + i + 32));
#else
        /* A word holds two numbers; bfloat16 is the upper half of float32, so shifting or masking widens one of them. */
        words w0 = load_words(w + i), x0 = load_words(x + i), w1 = load_words(w + i + 32), x1 = load_words(x + i + 32);
        a += (floats)(w0 << 16) * (floats)(x0 << 16);
        b += (floats)(w0 & 0xffff0000u) * (floats)(x0 & 0xffff0000u);
        c += (floats)(w1 << 16) * (floats)(x1 << 16);
        d += (floats)(w1 & 0xffff0000u) * (floats)(x1 & 0xffff0000u);
#endif
    }
    float sum = sum_lanes((a + b) + (c + d));
    for (; i < n; i++) sum += from_bfloat16(w[i]) * from_bfloat16(x[i]);
    return sum;
}

/* Integers within a group, float32 from group to group. */
static inline float dot_int8(const uint8_t *w, const Activations *x, int64_t n_groups) {
#ifdef __AVX512VNNI__
    floats a = {0};
    for (int64_t g = 0; g < n_groups; g++) {
        __m512i products = _mm512_dpbusd_epi32(
            _mm512_setzero_si512(), _mm512_loadu_si512(w + g * GROUP), _mm512_loadu_si512(x->bytes + g * GROUP));
        a += (floats)_mm512_cvtepi32_ps(products) * x->scale[g];
    }
    return sum_lanes(a) - x->offset;
#else
    float sum = 0;
    for (int64_t g = 0; g < n_groups; g++) {
        int32_t products = 0;
#pragma omp simd reduction(+ : products)
        for (int i = 0; i < GROUP; i++) products += (int32_t)w[g * GROUP + i] * x->bytes[g * GROUP + i];
        sum += (float)products * x->scale[g];
    }
    return sum - x->offset;
#endif
}

static inline float dot(const Matrix *m, int64_t type, const Activations *x, int64_t row) {
    if (type == FLOAT32) return dot_float32((const float *)m->weight + row * m->n_in, x->values, m->n_in);
    if (type == BFLOAT16) return dot_bfloat16((const uint16_t *)m->weight + row * m->n_in, x->half, m->n_in);
    int64_t n_groups = (m->n_in + GROUP - 1) / GROUP;
    return dot_int8((const uint8_t *)m->weight + row * n_groups * GROUP, x, n_groups) * m->scale[row];
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
 * between two barriers. But the thread that is waited for may not be running, because there are more threads than
 * cores or because of another program: after some spins this thread offers its core. */
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

/* What the threads share, and what belongs to one of them: slices of the workspace that Python allocates. */
typedef struct {
    float *x, *qkv, *mixed, *hidden; /* [C] the residual stream, [3C], [C] what attention found, [4C] */
    float *scores;                   /* [room], this thread's */
    Activations a;                   /* this thread's */
} Workspace;

static int64_t whole_groups(int64_t n) { return (n + GROUP - 1) / GROUP * GROUP; }

static int64_t own_floats(const Model *m, int64_t room) { /* values, half, bytes, scale, scores: each on its own line */
    int64_t wide = whole_groups(4 * m->n_embd);
    return wide + wide / 2 + wide / 4 + whole_groups(wide / GROUP) + whole_groups(room);
}

static Workspace workspace(const Model *m, int64_t room, float *memory, int id) {
    int64_t C = whole_groups(m->n_embd), wide = whole_groups(4 * m->n_embd);
    float *own = memory + 9 * C + id * own_floats(m, room);
    Workspace w = {.x = memory, .qkv = memory + C, .mixed = memory + 4 * C, .hidden = memory + 5 * C};
    w.a.values = own;
    w.a.half = (uint16_t *)(own + wide);
    w.a.bytes = (int8_t *)(own + wide + wide / 2);
    w.a.scale = own + wide + wide / 2 + wide / 4;
    w.scores = w.a.scale + whole_groups(wide / GROUP);
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

/* This thread's rows of y = W a + bias, or y += W a + bias, or y = gelu(W a + bias). */
static void product(const Matrix *m, int64_t type, const Activations *a, float *y, int then, int id, int team) {
    int64_t first = m->n_out * id / team, last = m->n_out * (id + 1) / team;
    for (int64_t row = first; row < last; row++) {
        float sum = dot(m, type, a, row) + (m->bias ? m->bias[row] : 0.0f);
        y[row] = then == ADD ? y[row] + sum : sum;
    }
    if (then == GELU)
        for (int64_t row = first; row < last; row++) y[row] = gelu(y[row]);
}

/* Number i of what a cache keeps (or 16 of them), which is float32 or, if `half`, bfloat16. */
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

/* One head of one new token: keep its key and value, compare the query with all keys, mix the values.
 * q, k, v [K] -> y [K]. Inlined twice, so that `half` is a constant. */
static inline __attribute__((always_inline)) void attend(
    const Sequence *s, int64_t start, int64_t K, const float *q, const float *k, const float *v, float *scores,
    float *y, int half) {
    int64_t now = s->n_tokens, whole = K / 16 * 16; /* the channels that come in sixteens, then the others */
    keep(s->k, start + now * K, k, K, half);
    keep(s->v, start + now * K, v, K, half);
    float scale = 1.0f / sqrtf((float)K), largest = -INFINITY, sum = 0;
    for (int64_t t = 0; t <= now; t++) {
        floats products = {0};
        for (int64_t i = 0; i < whole; i += 16) products += load(q + i) * kept16(s->k, start + t * K + i, half);
        float score = sum_lanes(products);
        for (int64_t i = whole; i < K; i++) score += q[i] * kept(s->k, start + t * K + i, half);
        scores[t] = score * scale;
        largest = scores[t] > largest ? scores[t] : largest;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t <= now; t++) {
        scores[t] = exp_(scores[t] - largest);
        sum += scores[t];
    }
    memset(y, 0, (size_t)K * sizeof *y);
    for (int64_t t = 0; t <= now; t += AT_ONCE) { /* y is read and written once for several tokens */
        int64_t end = now + 1 - t < AT_ONCE ? now + 1 : t + AT_ONCE;
        for (int64_t i = 0; i < whole; i += 16) {
            floats mixed = load(y + i);
            for (int64_t u = t; u < end; u++) mixed += scores[u] * kept16(s->v, start + u * K + i, half);
            memcpy(y + i, &mixed, sizeof mixed);
        }
        for (int64_t i = whole; i < K; i++)
            for (int64_t u = t; u < end; u++) y[i] += scores[u] * kept(s->v, start + u * K + i, half);
    }
    for (int64_t i = 0; i < K; i++) y[i] /= sum;
}

/* qkv [3C] of one token -> head `h` of y [C]. */
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

/* What one thread does for a token. Between two barriers a thread reads only what was finished before the first. */
static void part(const Model *m, const Sequence *s, Workspace w, int64_t token, float *logits, Barrier *barrier, int id,
                 int team) {
    int64_t C = m->n_embd, H = m->n_head;
    if (id == 0) embed(m, token, s->n_tokens, w.x);
    meet(barrier, team);
    for (int64_t i = 0; i < m->n_layer; i++) {
        const Layer *layer = &m->layers[i];
        layer_norm(w.x, layer->ln_1_weight, layer->ln_1_bias, w.a.values, C);
        prepare(&w.a, w.a.values, C, m->type);
        product(&layer->c_attn, m->type, &w.a, w.qkv, STORE, id, team);
        meet(barrier, team);
        for (int64_t h = H * id / team; h < H * (id + 1) / team; h++)
            attend_head(m, s, i, h, w.qkv, w.scores, w.mixed);
        meet(barrier, team);
        prepare(&w.a, w.mixed, C, m->type);
        product(&layer->attn_proj, m->type, &w.a, w.x, ADD, id, team);
        meet(barrier, team);
        layer_norm(w.x, layer->ln_2_weight, layer->ln_2_bias, w.a.values, C);
        prepare(&w.a, w.a.values, C, m->type);
        product(&layer->c_fc, m->type, &w.a, w.hidden, GELU, id, team);
        meet(barrier, team);
        prepare(&w.a, w.hidden, 4 * C, m->type);
        product(&layer->mlp_proj, m->type, &w.a, w.x, ADD, id, team);
        meet(barrier, team);
    }
    if (!logits) return;
    layer_norm(w.x, m->ln_f_weight, m->ln_f_bias, w.a.values, C);
    prepare(&w.a, w.a.values, C, m->type);
    product(&m->head, m->type, &w.a, logits, STORE, id, team);
}

/* ---- what Python calls ------------------------------------------------------------------------------------------ */

/* Floats of workspace for this many threads. */
int64_t nudge_workspace(const Model *m, int64_t room, int32_t n_threads) {
    return 9 * whole_groups(m->n_embd) + n_threads * own_floats(m, room);
}

/* Read one token: its keys and values go to position n_tokens of the sequence (Python then counts it), and the scores
 * of the token after it to logits [V], unless that is NULL. `memory` is a workspace that starts on a cache line. */
void nudge_token(const Model *m, const Sequence *s, int64_t token, float *memory, float *logits, int32_t n_threads) {
    Barrier barrier = {0};
    int useful = (int)(m->n_embd / ROWS_PER_THREAD);
#pragma omp parallel num_threads(n_threads)
    {
        int id = omp_get_thread_num(), team = omp_get_num_threads();
        if (team > useful) team = useful > 1 ? useful : 1;
        if (id < team) part(m, s, workspace(m, s->room, memory, id), token, logits, &barrier, id, team);
    }
}

/* Attention of one new token in each of several sequences: qkv [n, 3C] -> y [n, C]. PyTorch does the rest of a layer,
 * as with several tokens a weight that was read is used several times. `scores` [n_threads, longest room]. */
void nudge_attend(const Model *m, const Sequence *const *sequences, int64_t n, int64_t layer, const float *qkv,
                  float *scores, int64_t longest, float *y, int32_t n_threads) {
    int64_t C = m->n_embd, H = m->n_head;
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < n * H; task++) {
        int64_t row = task / H;
        float *own = scores + omp_get_thread_num() * longest;
        attend_head(m, sequences[row], layer, task % H, qkv + row * 3 * C, own, y + row * C);
    }
}
