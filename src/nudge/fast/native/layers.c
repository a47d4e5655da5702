/* Everything that GPT-2 computes between its matrix products, forward, backward and in the optimizer, each in one pass
   over memory.

   Legend: N rows (B*T tokens), C channels, T tokens of a window, H heads, K channels of a head, V vocabulary.
   `real` is what matrix products read and write: bfloat16 if BF16 is defined, else float. Sums are always float.

   Every loop over rows gives thread t of n the rows [N*t/n, N*(t+1)/n). A sum over rows is kept by each thread in its
   part of `partial` and the parts are added in the order of the threads: an OpenMP reduction adds them in the order in
   which they happen to end, and the last bit of a run would depend on that.

   The matching PyTorch expressions are in nudge/model/gpt.py; tests/unit/test_kernels.py compares each kernel. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "numbers.h"
#include "threads.h"

typedef int64_t i64;

#ifdef BF16
typedef uint16_t real;
static inline float get(real x) { return from_bfloat16(x); }
static inline real put(float x) { return nearest_bfloat16(x); }
#else
typedef float real;
static inline float get(real x) { return x; }
static inline real put(float x) { return x; }
#endif

/* Divide a long loop, or the rows of a matrix, among the threads. */
#define FIRST(n) ((n) * omp_get_thread_num() / omp_get_num_threads())
#define LAST(n) ((n) * (omp_get_thread_num() + 1) / omp_get_num_threads())

/* Record the number of threads, for the code after the parallel region. */
#define TEAM(team) if (omp_get_thread_num() == 0) team = omp_get_num_threads()

static int threads = 1;
void use_threads(i64 n) { threads = (int)n; }

static inline float hyperbolic_tangent(float x) {
    float e = exponential(-2.0f * fabsf(x));
    return copysignf((1.0f - e) / (1.0f + e), x);
}

/* sums[j] = the partial sums of column j, added in the order of the threads. One thread does it after the parallel
   region: a barrier inside would put threads to sleep and wake them, which takes longer than these few additions. */
static void add_up(i64 columns, const float *partial, i64 stride, int team, real *sums) {
    if (!sums) return;
    for (i64 j = 0; j < columns; j++) {
        float sum = 0;
        for (int t = 0; t < team; t++) sum += partial[t * stride + j];
        sums[j] = put(sum);
    }
}

/* x + (add + bias) -> sum; LayerNorm(sum) -> y. `add` may be NULL: then x itself is normalized.
   x, sum [N, C] float; add, y [N, C] real; mean, rstd [N]. */
void residual_norm(i64 N, i64 C, const float *x, const real *add, const float *add_bias, const float *weight,
                   const float *bias, float *sum, real *y, float *mean, float *rstd) {
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(N); i < LAST(N); i++) {
        const float *row = x + i * C;
        if (add) {
            float *to = sum + i * C;
            const real *other = add + i * C;
            for (i64 j = 0; j < C; j++) to[j] = row[j] + get(other[j]) + add_bias[j];
            row = to;
        }
        float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
        for (i64 j = 0; j < C; j++) total += row[j];
        float m = total / (float)C;
#pragma omp simd reduction(+ : squares)
        for (i64 j = 0; j < C; j++) squares += (row[j] - m) * (row[j] - m);
        float r = 1.0f / sqrtf(squares / (float)C + 1e-5f);
        real *out = y + i * C;
        for (i64 j = 0; j < C; j++) out[j] = put((row[j] - m) * r * weight[j] + bias[j]);
        mean[i] = m;
        rstd[i] = r;
    }
}

/* Backward of LayerNorm, added to the gradient of the residual stream: dx += d LayerNorm, and dx once more as `real`.
   dy, dx_real [N, C] real; x, dx [N, C] float. Column sums: dweight, dbias of the norm, and of dx itself (the gradient
   of the bias that was added to the stream just before; may be NULL). partial [threads, 3C]. */
void norm_backward(i64 N, i64 C, const real *dy, const float *x, const float *mean, const float *rstd,
                   const float *weight, float *dx, real *dx_real, real *dweight, real *dbias, real *dx_sum,
                   float *partial) {
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
        TEAM(team);
        float *dw = partial + omp_get_thread_num() * 3 * C, *db = dw + C, *dxs = db + C;
        memset(dw, 0, (size_t)(3 * C) * sizeof(float));
        for (i64 i = FIRST(N); i < LAST(N); i++) {
            const real *d = dy + i * C;
            const float *row = x + i * C;
            float m = mean[i], r = rstd[i], sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
            for (i64 j = 0; j < C; j++) {
                float dn = get(d[j]), n = (row[j] - m) * r;
                dw[j] += dn * n;
                db[j] += dn;
                dn *= weight[j];
                sum += dn;
                dot += dn * n;
            }
            sum /= (float)C;
            dot /= (float)C;
            float *to = dx + i * C;
            real *to_real = dx_real + i * C;
            for (i64 j = 0; j < C; j++) {
                float n = (row[j] - m) * r;
                float value = to[j] + r * (get(d[j]) * weight[j] - sum - n * dot);
                to[j] = value;
                to_real[j] = put(value);
                dxs[j] += value;
            }
        }
    }
    add_up(C, partial, 3 * C, team, dweight);
    add_up(C, partial + C, 3 * C, team, dbias);
    add_up(C, partial + 2 * C, 3 * C, team, dx_sum);
}

/* [B*T, parts, H, K] (+ bias) -> [parts, B, H, T, K]: the numbers of one head become contiguous. */
void split_heads(i64 B, i64 T, i64 parts, i64 H, i64 K, const real *in, const float *bias, real *out) {
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(B * T); i < LAST(B * T); i++)
        for (i64 ph = 0; ph < parts * H; ph++) {
            const real *from = in + (i * parts * H + ph) * K;
            real *to = out + ((((ph / H) * B + i / T) * H + ph % H) * T + i % T) * K;
            if (bias)
                for (i64 k = 0; k < K; k++) to[k] = put(get(from[k]) + bias[ph * K + k]);
            else
                memcpy(to, from, (size_t)K * sizeof(real));
        }
}

/* [parts, B, H, T, K] -> [B*T, parts, H, K], and its column sums (may be NULL). partial [threads, parts*H*K]. */
void merge_heads(i64 B, i64 T, i64 parts, i64 H, i64 K, const real *in, real *out, real *sums, float *partial) {
    i64 C = parts * H * K;
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
        TEAM(team);
        float *mine = partial + omp_get_thread_num() * C;
        if (sums) memset(mine, 0, (size_t)C * sizeof(float));
        for (i64 i = FIRST(B * T); i < LAST(B * T); i++)
            for (i64 ph = 0; ph < parts * H; ph++) {
                const real *from = in + ((((ph / H) * B + i / T) * H + ph % H) * T + i % T) * K;
                memcpy(out + i * C + ph * K, from, (size_t)K * sizeof(real));
                if (sums)
                    for (i64 k = 0; k < K; k++) mine[ph * K + k] += get(from[k]);
            }
    }
    add_up(C, partial, C, team, sums);
}

/* Scores -> probabilities, in place. The token in row i of each matrix sees the first `before` + i + 1 of `width`. */
void softmax(i64 matrices, i64 rows, i64 width, i64 before, double scale, real *scores) {
    float s = (float)scale;
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(matrices * rows); i < LAST(matrices * rows); i++) {
        real *row = scores + i * width;
        i64 n = before + i % rows + 1;
        float most = -INFINITY, sum = 0, values[n];
#pragma omp simd reduction(max : most)
        for (i64 j = 0; j < n; j++) {
            values[j] = get(row[j]) * s;
            most = values[j] > most ? values[j] : most;
        }
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < n; j++) {
            values[j] = exponential(values[j] - most);
            sum += values[j];
        }
        float share = 1.0f / sum;
        for (i64 j = 0; j < n; j++) row[j] = put(values[j] * share);
        memset(row + n, 0, (size_t)(width - n) * sizeof(real));
    }
}

/* The gradient of the probabilities -> the gradient of the scores, in place: p * (dp - sum(p * dp)) * scale. */
void softmax_backward(i64 matrices, i64 rows, i64 width, i64 before, double scale, const real *probs, real *grad) {
    float s = (float)scale;
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(matrices * rows); i < LAST(matrices * rows); i++) {
        const real *p = probs + i * width;
        real *d = grad + i * width;
        i64 n = before + i % rows + 1;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (i64 j = 0; j < n; j++) dot += get(p[j]) * get(d[j]);
        for (i64 j = 0; j < n; j++) d[j] = put(get(p[j]) * (get(d[j]) - dot) * s);
        memset(d + n, 0, (size_t)(width - n) * sizeof(real));
    }
}

#define GELU_A 0.7978845608f /* sqrt(2 / pi) */
#define GELU_B 0.044715f

/* x += bias; GELU(x) -> y, in GPT-2's tanh form. x, y [N, C]. */
void gelu(i64 N, i64 C, real *x, const float *bias, real *y) {
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(N); i < LAST(N); i++) {
        real *in = x + i * C, *out = y + i * C;
        for (i64 j = 0; j < C; j++) {
            in[j] = put(get(in[j]) + bias[j]);
            float v = get(in[j]);
            out[j] = put(0.5f * v * (1.0f + hyperbolic_tangent(GELU_A * (v + GELU_B * v * v * v))));
        }
    }
}

/* The gradient of y -> the gradient of x, in place, and its column sums. partial [threads, C]. */
void gelu_backward(i64 N, i64 C, const real *x, real *grad, real *sums, float *partial) {
    int team = 1;
#pragma omp parallel num_threads(threads)
    {
        TEAM(team);
        float *mine = partial + omp_get_thread_num() * C;
        memset(mine, 0, (size_t)C * sizeof(float));
        for (i64 i = FIRST(N); i < LAST(N); i++) {
            const real *in = x + i * C;
            real *d = grad + i * C;
            for (i64 j = 0; j < C; j++) {
                float v = get(in[j]);
                float t = hyperbolic_tangent(GELU_A * (v + GELU_B * v * v * v));
                float slope = 0.5f * (1.0f + t + v * (1.0f - t * t) * GELU_A * (1.0f + 3.0f * GELU_B * v * v));
                float value = get(d[j]) * slope;
                d[j] = put(value);
                mine[j] += value;
            }
        }
    }
    add_up(C, partial, C, team, sums);
}

/* Loss of each row, and logits -> their gradient (softmax - one-hot) * scale, in place. logits [N, stride], of which V
   are tokens; the others become 0. A target of -1 has no loss and no gradient. */
void cross_entropy(i64 N, i64 V, i64 stride, real *logits, const i64 *targets, double scale, float *losses) {
#pragma omp parallel num_threads(threads)
    for (i64 i = FIRST(N); i < LAST(N); i++) {
        real *row = logits + i * stride;
        i64 target = targets[i];
        if (target < 0) {
            memset(row, 0, (size_t)stride * sizeof(real));
            losses[i] = 0;
            continue;
        }
        float most = -INFINITY, sum = 0, right = get(row[target]);
#pragma omp simd reduction(max : most)
        for (i64 j = 0; j < V; j++) {
            float v = get(row[j]);
            most = v > most ? v : most;
        }
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < V; j++) sum += exponential(get(row[j]) - most);
        losses[i] = logf(sum) + most - right;
        float share = (float)scale / sum;
        for (i64 j = 0; j < V; j++) row[j] = put(exponential(get(row[j]) - most) * share);
        row[target] = put(exponential(right - most) * share - (float)scale);
        memset(row + V, 0, (size_t)(stride - V) * sizeof(real));
    }
}

/* weight[token] += the gradients of all its places, added as float. `order`: the places sorted by token. Each thread
   has its own columns, so that no two threads write the same number. dx [N, C] float; dweight [V, C]. */
void embedding_backward(i64 N, i64 C, const i64 *tokens, const i64 *order, const float *dx, real *dweight) {
#pragma omp parallel num_threads(threads)
    {
        i64 first = FIRST(C), width = LAST(C) - first;
        float sum[width];
        for (i64 n = 0; n < N;) {
            i64 token = tokens[order[n]];
            memset(sum, 0, sizeof(sum));
            for (; n < N && tokens[order[n]] == token; n++) {
                const float *row = dx + order[n] * C + first;
                for (i64 j = 0; j < width; j++) sum[j] += row[j];
            }
            real *to = dweight + token * C + first;
            for (i64 j = 0; j < width; j++) to[j] = put(get(to[j]) + sum[j]);
        }
    }
}

/* The gradient of an update is `grad` plus `sum`, the gradients of earlier passes (NULL if there was only one pass). */
static inline float gradient(const real *grad, const float *sum, i64 j) { return get(grad[j]) + (sum ? sum[j] : 0); }

/* sum += grad, after each pass of an update but the last. */
void accumulate(i64 n, const real *grad, float *sum) {
#pragma omp parallel num_threads(threads)
    for (i64 j = FIRST(n), last = LAST(n); j < last; j++) sum[j] += get(grad[j]);
}

static inline float squares(i64 first, i64 last, const real *grad, const float *sum) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (i64 j = first; j < last; j++) total += gradient(grad, sum, j) * gradient(grad, sum, j);
    return total;
}

/* Return the squared norm of the gradient. Blocks are added as double: a float sum of 124 million numbers would be inexact. */
double sum_of_squares(i64 n, const real *grad, const float *sum) {
    double totals[256] = {0}, result = 0;
    int n_threads = threads < 256 ? threads : 256;
#pragma omp parallel num_threads(n_threads)
    {
        double total = 0;
        for (i64 first = FIRST(n), end = LAST(n); first < end; first += 4096) {
            i64 last = first + 4096 < end ? first + 4096 : end;
            total += sum ? squares(first, last, grad, sum) : squares(first, last, grad, NULL);
        }
        totals[omp_get_thread_num()] = total;
    }
    for (int t = 0; t < n_threads; t++) result += totals[t];
    return result;
}

/* One step of AdamW (Loshchilov & Hutter 2019), and the weights once more as `real`. `scale` clips the gradient;
   correction1 = 1 - beta1^t, correction2 = 1 - beta2^t. */
void adamw(i64 n, float *weight, float *exp_avg, float *exp_avg_sq, const real *grad, const float *sum, real *copy,
           double scale, double lr, double beta1, double beta2, double eps, double weight_decay, double correction1,
           double correction2) {
    float s = (float)scale, b1 = (float)beta1, b2 = (float)beta2, e = (float)eps, kept = (float)(1 - lr * weight_decay);
    float rate = (float)(lr / correction1), root = (float)(1 / sqrt(correction2));
#pragma omp parallel num_threads(threads)
    for (i64 j = FIRST(n), last = LAST(n); j < last; j++) {
        float g = gradient(grad, sum, j) * s;
        float m = b1 * exp_avg[j] + (1 - b1) * g, v = b2 * exp_avg_sq[j] + (1 - b2) * g * g;
        float w = weight[j] * kept - rate * m / (sqrtf(v) * root + e);
        exp_avg[j] = m;
        exp_avg_sq[j] = v;
        weight[j] = w;
        copy[j] = put(w);
    }
}

/* Muon's first half: the momentum buffer, and Nesterov's look-ahead (Jordan et al. 2024), not orthogonalized yet. */
void momentum(i64 n, float *buffer, const real *grad, const float *sum, double scale, double beta, float *update) {
    float s = (float)scale, b = (float)beta;
#pragma omp parallel num_threads(threads)
    for (i64 j = FIRST(n), last = LAST(n); j < last; j++) {
        float g = gradient(grad, sum, j) * s;
        float m = b * buffer[j] + (1 - b) * g;
        buffer[j] = m;
        update[j] = b * m + (1 - b) * g;
    }
}

/* Muon's second half: weight * kept - rate * update, and the weights once more as `real`. */
void step(i64 n, float *weight, const real *update, real *copy, double rate, double kept) {
    float r = (float)rate, k = (float)kept;
#pragma omp parallel num_threads(threads)
    for (i64 j = FIRST(n), last = LAST(n); j < last; j++) {
        float w = weight[j] * k - r * get(update[j]);
        weight[j] = w;
        copy[j] = put(w);
    }
}
