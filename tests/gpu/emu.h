/* emu.h: a look-alike of libcuda.so.1 that runs kernels on the host (fakecuda.c), and what tests and kernels know of it.
 *
 * A kernel is a function, called as the entry point of the PTX is, or that with _thread at its end; one call does what one thread of the device
 * does. Those of an artefact made by accelc --target gpu-emulated, whose image is EMU_TWINS, are in the artefact; those of texts in the shared object
 * that ACCELC_EMU_KERNELS names. The object may also have `const uint32_t NAME_nbuf`: so many of the first parameters must be addresses on the
 * device. If it has NAME_block, the threads of a block take turns between meetings (emu.c); else they run one after the other.
 *
 * A launch ends the program with a message that names kernel, block, thread and instruction where threads that should meet do not: they are at
 * different instructions, or some have ended; where bytes of shared memory or of the block's scratch that a thread writes are read or written by
 * another before the next barrier, or while a copy to them is under way, which brings its bytes when a wait retires it and no sooner; where an access
 * leaves shared memory or the device's allocations, or is not aligned. Shared memory is filled with ff. Threads and blocks run in one order or the
 * opposite, by turns. Of mbarriers, copies of tiles and products of warpgroups (emu_hopper.c has what is found): bytes come when a phase has all
 * its arrivals, products are computed when a wait retires them, stores of tiles likewise.
 *
 * An image "broken", or "broken CODE", is refused, with CODE; one that begins as EMU_CUBIN, where it is of another device or a newer driver; one
 * of PTX is any other. A link of a text gives such a cubin.
 *
 * What goes into a stream happens when the stream is waited for. The device's memory can be touched inside the driver's functions
 * alone: anything else is a segmentation fault. New memory is filled with ff, freed memory with dd, and what lies behind an allocation
 * is looked at when it is freed. A copy out of bounds, a second free, a free of what work in a stream needs, a call in the wrong context or
 * with a handle that is not one stops the program with a message, and so does a thread that captures and waits, allocates, or copies to or
 * from the host, a graph that uses memory which has been freed since, and whatever is left at exit.
 *
 * Read from the environment by cuInit, which counts as call 1:
 *   ACCELC_EMU_FAIL=N[,CODE]  the Nth call fails with CODE (999). Calls that free something do so all the same; codes 700 and above but 999
 *                             stay: every later call fails until the last context is released
 *   ACCELC_EMU_MEMORY=BYTES   of the device (1 << 32, which is also the most)
 *   ACCELC_EMU_DEVICES=N      (2)
 *   ACCELC_EMU_GRAPHS=0       streams cannot be captured (1)
 *   ACCELC_EMU_WITHOUT=LIST   functions that old drivers do not have and this one shall not have either, separated by commas
 *   ACCELC_EMU_ARCH=90        90: compute capability 9.0
 *   ACCELC_EMU_DRIVER=13000   its version
 * and by the first launch
 *   ACCELC_EMU_SEED=N         threads take turns in random orders, and give way at accesses
 *   ACCELC_EMU_CLOCK=1        events tell how many loads, stores and meetings of threads there have been, a microsecond each, and no time
 *   ACCELC_EMU_COUNT=1        after a launch, for each access of a kernel whose blocks have a known size: turns of shared memory (conflicts of
 *                             banks make more of them) and sectors of the device's memory, those that it took and the least for as many bytes,
 *                             on stderr */
#ifndef ACCELC_TESTS_GPU_EMU_H
#define ACCELC_TESTS_GPU_EMU_H
#include <stdint.h>

#define EMU_TWINS "accelc-twins"
#define EMU_CUBIN "emu-cubin sm_%d by %d" /* compute capability, driver; the text follows */
enum { EMU_WORDS = 136, EMU_FRAGMENTS = 128 /* where those of a begin */ };
enum { EMU_AXES = 5, EMU_WINDOW = EMU_AXES - 2, EMU_NUMBERS = EMU_AXES + EMU_WINDOW };
enum { EMU_INIT, EMU_ARRIVE, EMU_EXPECT, EMU_WAIT, EMU_ARRIVE_AT }; /* of an mbarrier */
enum { EMU_SWIZZLED = 1, EMU_TO_ALL = 2 };                    /* of a tile */
enum { EMU_FENCE_MBARRIERS, EMU_FENCE_ASYNC };
enum { EMU_COMMIT, EMU_WAIT_ALL, EMU_WAIT_READ };             /* groups of stores */
enum { EMU_WGMMA_FENCE, EMU_WGMMA_COMMIT, EMU_WGMMA_WAIT };
enum { EMU_A_FRAGMENTS = 1, EMU_A_TURNED = 2, EMU_B_TURNED = 4 }; /* how operands of a product lie */
typedef struct emu_map { /* what cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col (windows) make, of 128 bytes */
    uint64_t is; /* EMU_IS_MAP */
    uint8_t *base;
    uint64_t extent[EMU_AXES], step[EMU_AXES]; /* step: bytes; of axis 0 those of an element */
    uint16_t box[EMU_AXES];
    uint8_t rank, swizzled;
    uint8_t windows, stride[EMU_WINDOW];
    struct { int16_t first, end; } window[EMU_WINDOW]; /* the last point is at extent - 1 + end, or a part of a stride before that */
    uint32_t none;
} emu_map;
_Static_assert(sizeof(emu_map) == 128, "a map");
#define EMU_IS_MAP 0x70616d2d756d65u
enum { EMU_STORE = 1, EMU_SHARED = 2 }; /* how an access is made; 0: a load from the device's memory */
typedef struct emu_thread {
    uint32_t tid, ntid;     /* in its block */
    uint32_t ctaid, nctaid; /* its block in the grid */
    void *shared;           /* the block's dynamic shared memory */
    /* Operands and results of load_matrix, store_matrix (0 to 3), mma (a 0 to 3, b 4 and 5, c 6 to 9), wgmma (c from 0 on, fragments of a from
     * EMU_FRAGMENTS on), of wgmma_order, and coordinates of a tile, then offsets of windows. */
    uint32_t word[EMU_WORDS];
    /* What lir.h says of the operations of these names; `at` tells the instruction. access comes before every load or store of a kernel whose
     * blocks have a known size. The others are for kernels of which NAME_block exists. */
    void (*barrier)(struct emu_thread *t, uint32_t at);
    void (*access)(struct emu_thread *t, const void *p, uint32_t bytes, uint32_t align, uint32_t how, uint32_t at);
    uint32_t (*lane_xor)(struct emu_thread *t, uint32_t v, uint32_t mask, uint32_t at);
    void (*load_matrix)(struct emu_thread *t, const void *row, uint32_t transposed, uint32_t at);
    void (*mma)(struct emu_thread *t, uint32_t in, uint32_t at); /* in: the type's number in ONNX */
    void (*copy_async)(struct emu_thread *t, void *to, const void *from, uint32_t size, int64_t valid, uint32_t at);
    void (*copy_commit)(struct emu_thread *t, uint32_t at);
    void (*copy_wait)(struct emu_thread *t, uint32_t pending, uint32_t at);
    uint32_t (*lane_first)(struct emu_thread *t, uint32_t v, uint32_t at);
    void (*store_matrix)(struct emu_thread *t, void *row, uint32_t transposed, uint32_t at);
    void (*barrier_some)(struct emu_thread *t, uint32_t id, uint32_t threads, uint32_t wait, uint32_t at);
    void (*registers)(struct emu_thread *t, uint32_t n, uint32_t more, uint32_t at);
    void (*mbarrier)(struct emu_thread *t, void *place, uint32_t what, int64_t v, uint32_t at); /* v: arrivals, bytes, parity, block of the cluster */
    void (*fence)(struct emu_thread *t, uint32_t what, uint32_t at);
    void (*bulk_load)(struct emu_thread *t, void *to, const void *from, int64_t bytes, void *mbarrier, uint32_t at);
    void (*tensor)(struct emu_thread *t, const emu_map *m, void *place, void *mbarrier, uint32_t bytes, uint32_t how, uint32_t at);
    /* mbarrier NULL: a store; bytes, EMU_SWIZZLED: what the kernel takes the tile for; EMU_TO_ALL: it comes to every block of the cluster */
    void (*bulk_group)(struct emu_thread *t, uint32_t what, uint32_t pending, uint32_t at);
    void (*wgmma)(struct emu_thread *t, const void *a, const void *b, uint32_t in, uint32_t how, uint32_t columns, uint32_t panel, uint32_t add,
                  uint32_t at);
    void (*wgmma_order)(struct emu_thread *t, uint32_t what, uint32_t pending, uint32_t words, uint32_t at);
    float (*exp2)(struct emu_thread *t, float v, uint32_t at);
    uint32_t (*halves)(struct emu_thread *t, float low, float high, uint32_t type, uint32_t at); /* type: its number in ONNX */
    void (*cluster_barrier)(struct emu_thread *t, uint32_t at);
} emu_thread;
/* params: the kernel's parameter block (rt_gpu of runtime/abi.h) */
typedef void emu_kernel(emu_thread *t, const void *params);

typedef struct fakecuda_counts {
    long calls;                               /* since cuInit */
    long live;                                /* contexts, streams, modules, allocations that exist */
    long launches, uploads, downloads, moves; /* ever */
    long graphs;                              /* that were launched, ever; what they launch and copy counts as well */
    long waits;                               /* for streams, ever */
    long waiting;                             /* copies, fills and launches that are in streams now */
    long compiled;                            /* texts, to modules or machine code, ever */
} fakecuda_counts;
typedef const fakecuda_counts *fakecuda_look_fn(void); /* the look-alike's fakecuda_look */
typedef int fakecuda_depth_fn(void);                   /* fakecuda_depth: contexts on the calling thread's stack */
#endif
