/* Read memory as fast as this machine can: the limit of all code that reads each weight once per token. */

#include <stdint.h>

/* Return some sum of a buffer's 64-bit words: its value does not matter, only that every byte is read. n_bytes is a
   multiple of 64. Each thread reads its own part from front to back. */
uint64_t read_all(const uint64_t *words, int64_t n_bytes)
{
    uint64_t total = 0; /* of integers, so that the order does not matter */
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (int64_t line = 0; line < n_bytes / 64; line++) {
        const uint64_t *at = words + 8 * line;
        total += (at[0] ^ at[1]) + (at[2] ^ at[3]) + (at[4] ^ at[5]) + (at[6] ^ at[7]);
    }
    return total;
}
