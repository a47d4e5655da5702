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
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "dot.h"
#include "threads.h"

enum { ROWS_PER_THREAD = 32 }; /* another thread is only worth it for this many rows of the smallest matrix */
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

static inline float gelu(float u) { /* tanh form, as in GPT-2: u/2 (1 + tanh t) = u / (1 + exp(-2t)) */
    float x = -2.0f * 0.797884561f * (u + 0.044715f * u * u * u);
    return u / (1.0f + exponential(x > 88.0f ? 88.0f : x));
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

/* The floats of the activations of one text that are `width` wide: values; half or shorts; bytes; offset and scale. */
static int64_t activation_floats(int64_t width) {
    int64_t wide = whole_lines(width);
    return wide + wide / 2 + wide / 4 + whole_lines(wide / GROUP + 1);
}

static Activations activations_at(float *start, int64_t width) {
    int64_t wide = whole_lines(width);
    Activations a = {.values = start, .half = (uint16_t *)(start + wide), .bytes = (int8_t *)(start + wide + wide / 2)};
    a.shorts = (int16_t *)a.half; /* no type uses both */
    a.offset = start + wide + wide / 2 + wide / 4;
    a.scale = a.offset + 1;
    return a;
}

static int64_t shared_floats(const Model *m, int64_t n) {
    return n * whole_lines(9 * m->n_embd) + (n > 1 ? n * activation_floats(4 * m->n_embd) : 0);
}

static int64_t own_floats(const Model *m, int64_t n, int64_t longest) {
    return (n > 1 ? 0 : activation_floats(4 * m->n_embd)) + whole_lines(longest);
}

static Workspace workspace(const Model *m, const Batch *batch, float *memory, int id) {
    int64_t C = m->n_embd, n = batch->n;
    float *own = memory + shared_floats(m, n) + id * own_floats(m, n, batch->longest);
    Workspace w = {.x = memory, .qkv = memory + n * C, .mixed = memory + 4 * n * C, .hidden = memory + 5 * n * C};
    w.activations = n > 1 ? memory + n * whole_lines(9 * C) : own;
    w.scores = n > 1 ? own : own + activation_floats(4 * C);
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

/* Convert x [n] to the form that products read. x may be a->values. */
static void prepare(Activations *a, const float *x, int64_t n, int64_t type) {
    if (type == FLOAT32 && x != a->values) memcpy(a->values, x, (size_t)n * sizeof *x);
    if (type == BFLOAT16) prepare_bfloat16(a, x, n);
    if (type == INT8) prepare_int8(a, x, n);
}

INLINED void one_tile(const Matrix *m, int64_t type, const Activations *a, int64_t row, int rows, int64_t text,
                      int texts, float *y, int then) {
    float sums[LARGEST_TILE];
    int64_t n = m->n_in, n_groups = (n + GROUP - 1) / GROUP;
    if (type == FLOAT32) dot_float32((const float *)m->weight + row * n, a + text, n, rows, texts, sums);
    if (type == BFLOAT16) dot_bfloat16((const uint16_t *)m->weight + row * n, a + text, n, rows, texts, sums);
    if (type == INT8)
        dot_int8((const uint8_t *)m->weight + row * n_groups * GROUP, a + text, n_groups, rows, texts, sums);
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < texts; t++) {
            float *to = y + (text + t) * m->n_out + row + r;
            float sum = sums[r * texts + t] * (type == INT8 ? m->scale[row + r] : 1.0f);
            sum += m->bias ? m->bias[row + r] : 0.0f;
            *to = then == ADD ? *to + sum : sum;
        }
}

/* Compute rows `start` to `end` of the products with some texts. */
INLINED void some_rows(const Matrix *m, int64_t type, const Activations *a, int64_t start, int64_t end, int rows,
                       int64_t text, int texts, float *y, int then) {
    int64_t row = start;
    for (; row + rows <= end; row += rows) one_tile(m, type, a, row, rows, text, texts, y, then);
    for (; row < end; row++) one_tile(m, type, a, row, 1, text, texts, y, then);
}

/* Compute rows `first` to `last` of the products with n texts. A few rows at a time, so that they stay in the cache for
 * all texts. */
INLINED void all_rows(const Matrix *m, int64_t type, int rows, int together, const Activations *a, int64_t first,
                      int64_t last, int64_t n, float *y, int then) {
    int64_t at_once = 1 + ROWS_BYTES / (m->n_in * (type == FLOAT32 ? 4 : type == BFLOAT16 ? 2 : 1)), text;
    at_once = (at_once + together - 1) / together * together;
    for (int64_t start = first; start < last; start += at_once) {
        int64_t end = start + at_once < last ? start + at_once : last;
        for (text = 0; text + TEXTS <= n; text += TEXTS)
            some_rows(m, type, a, start, end, together, text, TEXTS, y, then);
        for (; text < n; text++) some_rows(m, type, a, start, end, rows, text, 1, y, then);
    }
}

/* Compute this thread's rows of y = W a + bias, y += W a + bias or y = gelu(W a + bias) for n texts: y [n, n_out]. */
static void product(
    const Matrix *m, int64_t type, const Activations *a, int64_t n, float *y, int then, int id, int team) {
    int64_t first = m->n_out * id / team, last = m->n_out * (id + 1) / team;
    if (type == FLOAT32) all_rows(m, FLOAT32, ROWS_FLOAT32, TOGETHER_FLOAT32, a, first, last, n, y, then);
    if (type == BFLOAT16) all_rows(m, BFLOAT16, ROWS_BFLOAT16, TOGETHER_BFLOAT16, a, first, last, n, y, then);
    if (type == INT8) all_rows(m, INT8, ROWS_INT8, TOGETHER_INT8, a, first, last, n, y, then);
    if (then == GELU)
        for (int64_t text = 0; text < n; text++)
            for (int64_t row = first; row < last; row++) y[text * m->n_out + row] = gelu(y[text * m->n_out + row]);
}

/* Return number i of a cache (or a vector of numbers), which is float32 or, if `half`, bfloat16. */
static inline float kept(const void *cache, int64_t i, int half) {
    return half ? from_bfloat16(((const uint16_t *)cache)[i]) : ((const float *)cache)[i];
}

static inline floats kept_vector(const void *cache, int64_t i, int half) {
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
    int64_t now = s->n_tokens, whole = K / LANES * LANES; /* whole: the channels that fill vectors */
    keep(s->k, start + now * K, k, K, half);
    keep(s->v, start + now * K, v, K, half);
    float scale = 1.0f / sqrtf((float)K), largest = -INFINITY, sum = 0;
    for (int64_t t = 0; t <= now; t++) {
        floats products = {0};
        for (int64_t i = 0; i < whole; i += LANES)
            products = multiply_add(load(q + i), kept_vector(s->k, start + t * K + i, half), products);
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
        for (int64_t i = 0; i < whole; i += LANES) {
            floats mixed = load(y + i);
            for (int64_t u = t; u < end; u++)
                mixed = multiply_add(spread(scores[u]), kept_vector(s->v, start + u * K + i, half), mixed);
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
            int64_t width = 4 * m->n_embd, size = activation_floats(width);
            for (int64_t text = 0; text < n; text++) a[text] = activations_at(worker.w.activations + text * size, width);
            work(&worker, logits);
        }
    }
}

static int64_t structs_floats(int64_t n) { return whole_lines(n * (int64_t)(sizeof(Activations) / sizeof(float))); }

/* Return the size of `memory` for the products of n tokens, in floats. */
int64_t nudge_product_workspace(int64_t n_in, int64_t n) { return structs_floats(n) + n * activation_floats(n_in); }

/* Multiply n tokens of a prompt with a matrix: y [n, n_out] = W x + bias, or its GELU, for x [n, n_in]. */
void nudge_product(const Matrix *m, int64_t type, const float *x, int64_t n, float *memory, float *y, int32_t then,
                   int32_t n_threads) {
    Activations *a = (Activations *)memory;
    float *start = memory + structs_floats(n);
    Barrier barrier = {0};
#pragma omp parallel num_threads(n_threads)
    {
        int id = omp_get_thread_num(), team = omp_get_num_threads();
        for (int64_t t = id; t < n; t += team) {
            a[t] = activations_at(start + t * activation_floats(m->n_in), m->n_in);
            prepare(&a[t], x + t * m->n_in, m->n_in, type);
        }
        meet(&barrier, team);
        product(m, type, a, n, y, then, id, team);
    }
}
