/* The two functions of OpenMP that the kernels call. Without its header: many compilers that can compile for OpenMP come
 * without omp.h. A compiler without OpenMP ignores the pragmas, and the kernels then run on one thread. */

#ifndef NUDGE_THREADS_H
#define NUDGE_THREADS_H

#ifdef _OPENMP
int omp_get_thread_num(void);
int omp_get_num_threads(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
void nudge_serial(void) {} /* its presence tells Python */
#endif

#endif
