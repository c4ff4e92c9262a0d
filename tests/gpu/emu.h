/* emu.h: device kernels compiled for the host (accelc --emit=gpu-host), and the look-alike of libcuda that runs them: what
 * they know of each other. Every entry point of the model's PTX is a function of the shared object with the same name. One
 * call does what one thread of the device does. */
#ifndef ACCELC_TESTS_GPU_EMU_H
#define ACCELC_TESTS_GPU_EMU_H
#include <stdint.h>

typedef struct emu_thread {
    uint32_t tid, ntid;        /* in its block */
    uint32_t ctaid, nctaid;    /* its block in the grid */
    void *shared;              /* the block's dynamic shared memory, 1024-byte aligned */
    /* Both return when all threads of the block (of the warp) have called them. */
    void (*barrier)(struct emu_thread *t);
    uint64_t (*shuffle)(struct emu_thread *t, uint64_t value, uint32_t from); /* what lane `from` gave */
} emu_thread;
/* params: the kernel's parameter block (rt_gpu_kernel of runtime/abi.h) */
typedef void emu_kernel(emu_thread *t, const void *params);
#endif
