/* rt_all.c: the whole runtime as one translation unit, which is how it is built and embedded in
 * compiled models: all internals stay static, and what a model does not use can be dropped.
 * -DRT_OPENMP -fopenmp adds the openmp executor; without it nothing needs libgomp. */
#include "rt_internal.h"

#include "rt_cpu.c"
#include "rt_pages.c"
#include "rt_place.c"
#include "rt_bind.c"
#include "rt_run.c"
#include "rt_omp.c"
#include "threads.c"
#include "rt_setup.c"
#include "rt_host.c"
#include "rt_step.c"
#include "rt.c"
