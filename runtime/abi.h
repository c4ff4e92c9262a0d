/* abi.h: what a compiled model's object hands to the runtime. Private to accelc; the public header is accelc_rt.h.
 *
 * The compiler emits, per model and level (of a CPU, or of GPUs), one `rt_model`: a plan (a position-independent block of bytes: every
 * cross reference is an index or a byte offset), a table of kernel entry points, and the packed weights. The runtime
 * interprets the plan: a table of steps; consecutive kernel steps without a barrier are one phase. All numbers that
 * depend on shapes are entries of one int64 table, `dims`, filled by the `dimop` program.
 * Everything here is little-endian, natural alignment, and written by codegen/plan.c alone. */
#ifndef ACCELC_ABI_H
#define ACCELC_ABI_H
#include <stdbool.h>
#include <stdint.h>

#include "accelc_rt.h"

#define RT_MAGIC 0x31434c43u /* "CLC1" */
#define RT_VERSION 1u

/* A kernel: runs tasks [t0, t1) of its task space. `buf` are the step's buffers, `dim` the step's sizes, both in the
 * order of the step's argument list; `scratch` is private to the calling thread (64-byte aligned). Returns 0, or
 * 1 + g where guard g failed (rt_plan.kernel_guard0). Must be re-entrant and must not call anything. */
typedef int32_t (*rt_kernel)(void *const *buf, const int64_t *dim, int64_t t0, int64_t t1, void *scratch);

struct rt_call;
/* Of a model that calls functions of call.h, or has ports that are no tensors: the functions, and who calls them
 * (accelc_rt1_objects of rt_object.c, with what it needs of a session: rt_session.h). */
typedef struct rt_calls {
    const struct rt_object_ops *ops;
    bool (*const *fn)(struct rt_call *c); /* index = rt_step.kernel */
    uint32_t nfn, pad;
} rt_calls;

/* Kernels of a GPU. An image holds every kernel of the model that runs on the device, as an entry point. Its parameters,
 * by value, are one block of 64-bit numbers:
 *     CUtensorMap map[nmap]; u64 buf[nbuf]; i64 dim[ndim]; i64 tasks; u64 scratch; i64 scratch_bytes; u64 status
 * the maps of the step (rt_map; where there are any, they are a parameter of their own), its arguments in its order (addresses
 * on the device, multiples of 64 unless the buffer is a view), the number of tasks, and
 *   scratch        memory of the step, scratch_bytes (a multiple of 64) for each thread or block
 *   status         address of a u32, 0 before the run; a guard g that fails changes 0 to 1 + g (compare and swap). The runtime looks at it
 *                    when it waits, so what follows runs on what the failed kernel left: a kernel in which an address or the rounds of a loop
 *                    depend on what it loads does nothing if the status is not 0 when it begins
 * THREADS: thread t of n (in the grid) runs tasks t, t + n, ..; its scratch begins at scratch + t * scratch_bytes. BLOCK: the
 * threads of block b of n run tasks b, b + n, .. together; their scratch begins at scratch + b * scratch_bytes. Without scratch
 * a BLOCK kernel is given a block per task (up to 2^31 - 1), a RESIDENT one, which is the same otherwise, no more blocks than there are
 * multiprocessors. Threads without a task do nothing. */
enum { RT_GPU_PTX, RT_GPU_CUBIN };
#define RT_GPU_ONLY 0x100u /* in arch: for that architecture alone (sm_90a); without: for it and newer ones (CUBIN: of its generation) */
typedef struct rt_gpu_image {
    uint32_t arch, kind;       /* 80, RT_GPU_ONLY | 90, ..; PTX: text that ends with a NUL, counted in bytes */
    const void *data;
    uint64_t bytes;
} rt_gpu_image;
enum { RT_GPU_THREADS, RT_GPU_BLOCK, RT_GPU_RESIDENT };
typedef struct rt_gpu_kernel {
    const char *name;          /* entry point; NULL: steps of this kernel run on the host, by rt_model.kernel */
    uint32_t mode;             /* RT_GPU_THREADS, .. */
    uint32_t block, shared;    /* threads of a block; bytes of dynamic shared memory */
    uint32_t guards, maps;     /* guards 1: may leave a status; maps: that its steps have */
    uint32_t cluster, pad;     /* blocks that run together: grids are multiples of it; 0 or 1: each is alone */
    uint64_t writes;           /* bit k: may write buffer k of its arguments; bit 63: that and all that follow. Of host kernels, too */
} rt_gpu_kernel;
typedef struct rt_gpu {
    uint32_t nimage, nkernel;
    const rt_gpu_image *image; /* best first: the first that the device takes is loaded */
    const rt_gpu_kernel *kernel; /* index = rt_step.kernel */
    const struct rt_gpu_ops *ops; /* accelc_rt1_gpu: nothing else refers to the GPU's part of the runtime */
    void *shared;              /* RT_GPU_SHARED bytes, aligned to 16, zeros at first: the runtime's notes of what sessions have in common */
} rt_gpu;
enum { RT_GPU_SHARED = 64 };

typedef struct rt_model {
    uint32_t magic, size;      /* RT_MAGIC, sizeof(rt_model) */
    const void *plan;          /* rt_plan and what it points to */
    const rt_kernel *kernel;   /* entry points, index = rt_step.kernel; NULL where `gpu` has one */
    const void *weights;       /* base of RT_BUF_WEIGHT offsets, 64-byte aligned; NULL if none */
    const char *level;         /* of the CPU: "x86-64", "x86-64-v3", "x86-64-v4" */
    const rt_calls *calls;     /* or NULL */
    const rt_gpu *gpu;         /* or NULL: everything runs on the host */
} rt_model;

/* What the per-model thunks pass to the runtime: every level of a fat artefact, best first. A model with `gpu` is chosen where
 * the device has the compute capability of one of its images, and the driver takes it; else the next such model is tried, and, unless the
 * caller asks for a device (config.device), those for the CPU. Levels share `weights`. */
typedef struct rt_bundle {
    uint32_t magic, nmodel;
    const rt_model *const *model;
    const accelc_api *api;
    uint32_t executor;         /* RT_EXEC_*: what sessions use unless their config says otherwise */
    uint32_t pad;
} rt_bundle;

typedef struct { uint32_t off, n; } rt_arr; /* byte offset from the start of the plan, number of elements */

enum { /* operations of the dims program; values are int64, arithmetic is checked: an overflow is ACCELC_ESHAPE */
    RT_DIM_CONST,  /* dim[dst] = imm */
    RT_DIM_ADD, RT_DIM_SUB, RT_DIM_MUL,
    RT_DIM_FLOORDIV, RT_DIM_CEILDIV, RT_DIM_MOD, /* floor semantics; division by 0 is ACCELC_ESHAPE */
    RT_DIM_MIN, RT_DIM_MAX,
    RT_DIM_BCAST,  /* a == 1 ? b : a (equality or 1 is checked by a guard of its own) */
    RT_DIM_EQ, RT_DIM_LT, /* 0 or 1 */
    RT_DIM_SELECT  /* dim[a] ? dim[b] : dim[c] */
};
typedef struct { uint32_t op; int32_t dst, a, b, c, pad; int64_t imm; } rt_dimop;

enum {
    RT_BUF_ARENA, RT_BUF_WEIGHT, RT_BUF_INPUT, RT_BUF_OUTPUT, RT_BUF_VIEW,
    RT_BUF_VALUE /* result of a call, or what a port holds that is no tensor: an rt_value (call.h) in memory that lasts
                    until the next run. With an element type it is a tensor, and its elements are the buffer */
};
typedef struct {
    uint8_t kind, dtype;   /* VALUE: dtype 0: no tensor */
    uint8_t rank, pad;     /* of tensors that are operands or results of calls */
    int32_t index;         /* INPUT, OUTPUT: port; VIEW: the buffer it lies in (an earlier index) */
    int64_t offset;        /* bytes from arena / weights / root; ARENA: -1 = placed at run time (see first, last) */
    int32_t offset_dim;    /* VIEW: dim index whose value is added to offset (bytes), or -1 */
    int32_t bytes_dim;     /* dim index of the size in bytes (without vector slack); 2- and 4-bit types have a byte per
                              element here, the runtime packs and unpacks them at the ABI */
    int32_t first, last;   /* ARENA: live from step first to step last, inclusive */
    int64_t slack;         /* extra readable bytes that must follow it */
} rt_buf;

/* The type of a port that is no tensor, as a tree. */
typedef struct {
    uint8_t kind, optional;    /* accelc_kind; may be ABSENT */
    uint16_t dtype;            /* TENSOR: of elements; MAP: of keys */
    int32_t rank;              /* TENSOR: -1: any */
    int32_t elem;              /* SEQUENCE: index of the elements' type; MAP: of the values' */
} rt_type;

typedef struct { /* one input or output */
    int32_t name;              /* offset into str */
    uint16_t dtype; uint8_t kind, optional;
    int32_t rank;
    int32_t dim;               /* first of `rank` entries in iodim: dim indices giving the shape */
    int32_t buf;               /* its buffer */
    int32_t type;              /* -1: a tensor; else its buffer is a VALUE, rank is 0, and this is its rt_type */
} rt_io;
/* Inputs bind symbols: for each input dim in order, rt_iobind tells whether it defines symbol `sym` (dims[sym] = it)
 * or is only checked against dims[iodim]. Range [lo, hi] is checked on definition (hi -1: none). */
typedef struct { int32_t sym; int32_t pad; int64_t lo, hi; } rt_iobind; /* sym -1: check only; parallel to iodim */

enum { RT_CMP_EQ, RT_CMP_LE, RT_CMP_LT, RT_CMP_BCAST, RT_CMP_TRUE }; /* a==b, a<=b, a<b, a==b||a==1||b==1, a!=0 */
typedef struct { int32_t cmp, a, b; int32_t msg; } rt_guard; /* dims a, b; msg: text naming node and what must hold.
                                                                Kernel guards (returned by kernels) use cmp TRUE, a = b = -1 */
enum {
    RT_KERNEL,  /* run kernel over all tasks, split among the threads */
    RT_GUARDS,  /* check guards [a, b) */
    RT_BIND,    /* dims[a] = element imm of buffer b (an integer or bool type), checked against [lo, hi];
                   hi < lo: no upper bound */
    RT_SET,     /* dims[a] = dims[b] + imm */
    RT_DIMS,    /* evaluate dimops [a, b), then place and re-resolve buffers. A buffer with offset -1 whose size is set
                   by this step alone and whose `first` comes later shares memory with others of that kind; one that is
                   already live, or sized in several places, has memory of its own and keeps its first bytes when it grows */
    RT_JUMP,    /* pc = a */
    RT_BRANCH,  /* if dims[b] == 0: pc = a */
    RT_COPYBUF, /* copy all bytes of buffer b to buffer a (loop-carried values) */
    RT_CALL,    /* call function `kernel` with the first `a` of nbuf buffers (-1: absent) as operands; their sizes follow
                   in `arg`. The other buffers, VALUEs, are its results */
    RT_SIZE,    /* dims[a] = size of axis imm of the tensor in buffer b, a VALUE, checked against [lo, hi] */
    RT_SEED,    /* dims[a] = the session's seed, dims[b] = number of runs since create or reset (random operators) */
    RT_END
};
/* A tensor in a buffer, and the tile of it that a kernel of a GPU loads or stores at a time: what cuTensorMapEncodeTiled makes a map of when the
 * buffer's address and the sizes are known, or cuTensorMapEncodeIm2col (windows). Axis 0 is the one whose elements lie side by side. */
enum { RT_AXES = 5, RT_WINDOW = RT_AXES - 2 };
typedef struct {
    int32_t first, last;       /* dim indices: coordinates of the first and last point along axis 1 + d, and how far they are apart */
    int32_t stride;
} rt_window;
typedef struct {
    uint16_t arg;              /* which buffer of the step */
    uint8_t rank, bytes;       /* bytes: of an element */
    uint8_t swizzled, windows; /* swizzled: rows of 128 bytes, in chunks of 16 */
    uint16_t box[RT_AXES];     /* elements of a tile; windows: elements of a point, points */
    int32_t offset;            /* dim index: bytes before the first element */
    int32_t extent[RT_AXES];   /* dim indices: elements */
    int32_t stride[RT_AXES];   /* dim indices: bytes; of axis 0 without meaning */
    rt_window window[RT_WINDOW]; /* of windows: rank - 2 */
} rt_map;

typedef struct {
    uint8_t op;
    uint8_t barrier;       /* KERNEL: 1 = all threads meet before the next step */
    uint16_t nbuf, ndim;   /* KERNEL, CALL: number of arguments */
    uint16_t nmap;         /* KERNEL: number of maps, from `lo` on in `map` */
    int32_t kernel;        /* index of entry point */
    int32_t arg;           /* first of nbuf buffer indices, then ndim dim indices, in `arg` */
    int32_t tasks;         /* dim index: number of tasks */
    int32_t grain;         /* least tasks worth a thread of their own, >= 1 */
    int32_t scratch;       /* dim index: bytes per thread, or -1 */
    int32_t name, nodes;   /* offsets into str: kernel name, ONNX nodes it computes */
    int32_t a, b;          /* KERNEL: its rt_terms [a, b); imm: offset into str of its schedule */
    int64_t imm, lo, hi;
} rt_step;

/* What a kernel does, for tools: factor times the product of the n dims from `dim` of the work's `dim`. All terms of an argument give the bytes that
 * are moved of it, but no more than it has; those of none (-1) the arithmetic operations. */
typedef struct { double factor; int32_t buf, dim, n, pad; } rt_term;
typedef struct { rt_arr term, dim; } rt_work;

typedef struct rt_plan {
    uint32_t magic, version, bytes;
    uint32_t nsym;          /* dims[0 .. nsym) are symbols: those of inputs first */
    uint32_t ndim;          /* length of the dims table */
    uint32_t entry_dimops;  /* dimops [0, entry_dimops) are evaluated when inputs are bound; the rest by RT_DIMS */
    uint32_t entry_guards;  /* guards [0, entry_guards) are checked right after that */
    uint32_t flags;         /* RT_STATIC: no symbol at all */
    int64_t arena;          /* bytes of the offline-placed part of the arena */
    int64_t scratch;        /* bytes per thread where constant, else -1: the largest `scratch` dim of any step */
    rt_arr dimop, buf, in, out, iodim, iobind, guard, step, arg, str, map;
    uint32_t kernel_guard0; /* guard[kernel_guard0 + g] is guard g of kernels (a kernel returns 1 + g) */
    uint32_t work;          /* offset of the rt_work, 0: none */
    rt_arr type;
} rt_plan;
#define RT_STATIC 1u
enum { RT_EXEC_TEAM, RT_EXEC_SERIAL, RT_EXEC_OPENMP };

/* Entry points of the runtime that the per-model thunks use. The names carry the version so that two models made by
 * different compilers can live in one program; weak and hidden so that two copies of one version can. */
#define RT_API __attribute__((weak, visibility("hidden")))
extern const struct rt_object_ops accelc_rt1_objects;
extern const struct rt_gpu_ops accelc_rt1_gpu;
accelc_status accelc_rt1_create(const rt_bundle *m, const accelc_config *cfg, accelc_session **out, char *msg,
                                size_t msg_bytes);
accelc_status accelc_rt1_sizes(const rt_bundle *m, const int64_t *sym, uint64_t *arena, uint64_t *scratch,
                               int64_t *const *out_dims);
accelc_status accelc_rt1_step_info(const accelc_session *s, int step, accelc_step *info);
accelc_status accelc_rt1_step_name(const rt_bundle *m, int step, const char **kernel, const char **onnx_nodes);
void accelc_rt1_destroy(accelc_session *s);
accelc_status accelc_rt1_run(accelc_session *s, const accelc_value *in, accelc_value *out);
accelc_status accelc_rt1_fetch(accelc_session *s, int out_index, accelc_value *v);
accelc_status accelc_rt1_reset(accelc_session *s);
void accelc_rt1_cancel(accelc_session *s);
const char *accelc_rt1_error(const accelc_session *s);
#endif
