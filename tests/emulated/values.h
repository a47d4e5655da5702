/* Numbers and tensors that Python writes to this program, and reads back from it. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void take(void *to, size_t n_bytes) {
    if (fread(to, 1, n_bytes, stdin) != n_bytes) exit(2);
}

static int64_t take_number(void) {
    int64_t number;
    take(&number, sizeof number);
    return number;
}

/* Memory that starts on a cache line. */
static void *room_for(int64_t n_bytes) { return aligned_alloc(64, (size_t)(n_bytes / 64 + 1) * 64); }

/* Return a tensor, or NULL for None, which has the size -1. */
static void *take_tensor(int64_t *n_bytes) {
    *n_bytes = take_number();
    if (*n_bytes < 0) return NULL;
    void *tensor = room_for(*n_bytes);
    take(tensor, (size_t)*n_bytes);
    return tensor;
}

static void give(const void *from, int64_t n_bytes) { fwrite(from, 1, (size_t)n_bytes, stdout); }
