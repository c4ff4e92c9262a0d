/* emu.h: a look-alike of libcuda.so.1 that runs kernels on the host (fakecuda.c), and what tests and kernels know of it.
 *
 * A kernel is a function of the shared object that ACCELC_EMU_KERNELS names, called as the entry point of the PTX is, or that with
 * _thread at its end, as accelc --target gpu-emulated makes them; one call does what one thread of the device does. The object may also
 * have `const uint32_t NAME_nbuf`: so many of the first parameters must be addresses on the device. If it has NAME_block, the threads of a block
 * take turns between barriers, and all must come to the same ones; else they run one after the other.
 *
 * What goes into a stream happens when the stream is waited for. The device's memory can be touched inside the driver's functions
 * alone: anything else is a segmentation fault. New memory is filled with ff, freed memory with dd, and what lies behind an allocation
 * is looked at when it is freed. A copy out of bounds, a second free, a free of what work in a stream needs, a call in the wrong context or
 * with a handle that is not one stops the program with a message, and so does whatever is left at exit.
 *
 * Read from the environment by cuInit, which counts as call 1:
 *   ACCELC_EMU_FAIL=N[,CODE]  the Nth call fails with CODE (999). Calls that free something do so all the same; codes 700 and above but 999
 *                             stay: every later call fails until the last context is released
 *   ACCELC_EMU_MEMORY=BYTES   of the device (1 << 26, which is also the most)
 *   ACCELC_EMU_DEVICES=N      (2)
 *   ACCELC_EMU_ARCH=90        90: compute capability 9.0 */
#ifndef ACCELC_TESTS_GPU_EMU_H
#define ACCELC_TESTS_GPU_EMU_H
#include <stdint.h>

typedef struct emu_thread {
    uint32_t tid, ntid;     /* in its block */
    uint32_t ctaid, nctaid; /* its block in the grid */
    void *shared;           /* the block's dynamic shared memory */
    uint32_t word[10];      /* operands and results of load_matrix and mma */
    void (*barrier)(struct emu_thread *t, uint32_t at); /* returns when all threads of the block have called it; NULL without NAME_block */
} emu_thread;
/* params: the kernel's parameter block (rt_gpu of runtime/abi.h) */
typedef void emu_kernel(emu_thread *t, const void *params);

typedef struct fakecuda_counts {
    long calls;                                /* since cuInit */
    long live;                                 /* contexts, streams, modules, allocations that exist */
    long launches, uploads, downloads, moves;  /* ever */
    long waits;                                /* for streams, ever */
    long waiting;                              /* copies, fills and launches that are in streams now */
} fakecuda_counts;
typedef const fakecuda_counts *fakecuda_look_fn(void); /* the look-alike's fakecuda_look */
typedef int fakecuda_depth_fn(void);                   /* fakecuda_depth: contexts on the calling thread's stack */
#endif
