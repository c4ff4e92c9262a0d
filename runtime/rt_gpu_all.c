/* rt_gpu_all.c: the GPU's part of the runtime as one translation unit. Its one name is accelc_rt1_gpu. */
#include "rt_gpu_driver.c"
#include "rt_gpu_memory.c"
#include "rt_gpu_shared.c"
#include "rt_gpu_open.c"
#include "rt_gpu_time.c"
#include "rt_gpu_launch.c"
#include "rt_gpu_tape.c"
#include "rt_gpu.c"
