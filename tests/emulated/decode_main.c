/* Decodes some texts at once with decode.c: a network and the tokens in the standard input, the logits [steps, n, V] in
 * the standard output, and after them the product of c_fc with x [n, C], with GELU. */

#include "decode.c"
#include "values.h"

static int64_t size; /* of the last tensor, in bytes */

static Matrix take_matrix(void) {
    Matrix m = {.weight = take_tensor(&size), .scale = take_tensor(&size), .bias = take_tensor(&size)};
    m.n_in = take_number();
    m.n_out = take_number();
    return m;
}

static void take_norm(const float **weight, const float **bias) {
    *weight = take_tensor(&size);
    *bias = take_tensor(&size);
}

int main(void) {
    Model m = {0};
    m.type = take_number(), m.n_layer = take_number(), m.n_head = take_number(), m.n_embd = take_number();
    Layer *layers = room_for(m.n_layer * (int64_t)sizeof *layers);
    for (int64_t i = 0; i < m.n_layer; i++) {
        take_norm(&layers[i].ln_1_weight, &layers[i].ln_1_bias);
        take_norm(&layers[i].ln_2_weight, &layers[i].ln_2_bias);
        layers[i].c_attn = take_matrix(), layers[i].attn_proj = take_matrix();
        layers[i].c_fc = take_matrix(), layers[i].mlp_proj = take_matrix();
    }
    m.layers = layers;
    take_norm(&m.ln_f_weight, &m.ln_f_bias);
    m.head = take_matrix();
    m.wte = take_tensor(&size), m.wpe = take_tensor(&size);

    int64_t steps = take_number(), n = take_number(), V = m.head.n_out, threads = take_number();
    const int64_t *tokens = take_tensor(&size); /* [steps, n] */
    const float *x = take_tensor(&size);

    Sequence texts[MAX_TEXTS];
    const Sequence *places[MAX_TEXTS];
    int64_t cache = m.n_layer * steps * m.n_embd * (m.type == FLOAT32 ? 4 : 2);
    for (int64_t text = 0; text < n; text++) {
        texts[text] = (Sequence){room_for(cache), room_for(cache), steps, 0};
        places[text] = &texts[text];
    }
    float *memory = room_for(4 * nudge_workspace(&m, n, steps, (int32_t)threads)), *logits = room_for(4 * n * V);
    for (int64_t i = 0; i < steps; i++) {
        nudge_tokens(&m, places, tokens + i * n, n, steps, memory, logits, (int32_t)threads);
        for (int64_t text = 0; text < n; text++) texts[text].n_tokens++;
        give(logits, 4 * n * V);
    }
    const Matrix *matrix = &layers[0].c_fc;
    float *space = room_for(4 * nudge_product_workspace(matrix->n_in, n)), *y = room_for(4 * n * matrix->n_out);
    nudge_product(matrix, m.type, x, n, space, y, GELU, (int32_t)threads);
    give(y, 4 * n * matrix->n_out);
    return 0;
}
