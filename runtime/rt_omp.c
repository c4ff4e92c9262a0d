/* rt_omp.c: the openmp executor, for programs that already live in OpenMP. One parallel region
 * around the whole run; its members behave like those of any other team, and since parts of members
 * that never come are taken by others, it does not matter if OpenMP gives fewer threads than asked
 * for (nested regions, OMP_THREAD_LIMIT). */
#ifdef RT_OPENMP
#include "rt_internal.h"

#include <omp.h>

static void omp_run(Sess *s) {
    int n = (int)s->team.n;
#pragma omp parallel num_threads(n)
    member_join(s, (uint32_t)omp_get_thread_num());
}
#endif
