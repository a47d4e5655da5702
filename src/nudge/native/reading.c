/* Reading memory as fast as this machine can: the limit of everything that reads each weight once per token. */

#include <stdint.h>

/* The sum of all 64-bit words of a buffer, n_bytes a multiple of 64; what it is does not matter. Each thread reads its
   own stretch from front to back, a cache line at a time into sums of their own, and asks ahead for what comes. */
uint64_t read_all(const uint64_t *words, int64_t n_bytes)
{
    int64_t n_lines = n_bytes / 64;
    uint64_t total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (int64_t line = 0; line < n_lines; line++) {
        const uint64_t *at = words + 8 * line;
        __builtin_prefetch(at + 8 * 64); /* 4 KB ahead; a prefetch beyond the end does nothing */
        total += (at[0] ^ at[1]) + (at[2] ^ at[3]) + (at[4] ^ at[5]) + (at[6] ^ at[7]);
    }
    return total;
}
