/* rt_gpu.h: what the files of the GPU's part of the runtime share. They are one translation unit (rt_gpu_all.c), linked only into models
 * with kernels of a GPU; the driver is found when a session is made, and nothing but the driver is needed.
 *
 * The host and the device each have a place for every buffer, and valid[] says where its bytes are; steps of the device are put into one
 * stream, so they follow each other without being waited for. What belongs together lies together on both sides: a block of the session
 * has a twin of its size on the device, where its buffers have the same offsets; inputs and values of calls have a region each. The context
 * is current only inside the functions of accelc_rt1_gpu: the thread is the caller's, or one of the team, and what it does with other
 * contexts is its own business. */
#ifndef ACCELC_RT_GPU_H
#define ACCELC_RT_GPU_H
#include "rt_session.h"

/* ---- the driver: what we use of libcuda, with the names that it exports ---- */

typedef int CUresult; /* 0: success */
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUlink_st *CUlink;
enum { CU_OUT_OF_MEMORY = 2, CU_INVALID_IMAGE = 200, CU_NO_BINARY = 209, CU_INVALID_PTX = 218, CU_NO_COMPILER = 221, CU_UNSUPPORTED_PTX = 222 };
enum { CU_CC_MAJOR = 75, CU_CC_MINOR = 76, CU_PROCESSORS = 16 }; /* attributes of a device */
enum { CU_DYNAMIC_SHARED = 8 };                                  /* attribute of a function */
/* Options of the compiler, what it is given, and the architecture to which the number of one is added that alone has what the text needs. */
enum { CU_JIT_ERROR_LOG = 5, CU_JIT_ERROR_LOG_BYTES = 6, CU_JIT_TARGET = 9, CU_INPUT_PTX = 1, CU_TARGET_ONLY = 0x10000 };
/* A DEFAULT stream and the device's default stream, where callers have most of their work, follow each other. */
enum { CU_STREAM_DEFAULT = 0, CU_STREAM_NON_BLOCKING = 1, CU_CAPTURE_THREAD_LOCAL = 1 };
enum { CU_EVENT_DEFAULT = 0, CU_EVENT_RECORD_EXTERNAL = 1 };
#define CU_PARAM_POINTER ((void *)1)
#define CU_PARAM_SIZE ((void *)2)
typedef struct CUattribute { /* of a launch */
    int id;
    _Alignas(8) uint32_t value[16];
} CUattribute;
typedef struct CUconfig {
    uint32_t grid[3], block[3], shared;
    CUstream stream;
    CUattribute *attribute;
    uint32_t nattribute;
} CUconfig;
_Static_assert(sizeof(CUattribute) == 72 && sizeof(CUconfig) == 56, "as cuda.h has them");
enum { CU_CLUSTER = 4 }; /* attribute: blocks of a cluster along x, y, z */
typedef struct CUtensorMap { _Alignas(64) uint64_t word[16]; } CUtensorMap;
enum { CU_UINT8 = 0, CU_UINT16 = 1, CU_UINT32 = 2, CU_UINT64 = 4 };
enum { CU_INTERLEAVE_NONE = 0, CU_SWIZZLE_NONE = 0, CU_SWIZZLE_128 = 3, CU_PROMOTION_256 = 3, CU_FILL_ZERO = 0 };

#define CU_FUNCTIONS(X)                                                                                                    \
    X(init, cuInit, (unsigned))                                                                                            \
    X(error_name, cuGetErrorName, (CUresult, const char **))                                                               \
    X(error_text, cuGetErrorString, (CUresult, const char **))                                                             \
    X(device_count, cuDeviceGetCount, (int *))                                                                             \
    X(device_get, cuDeviceGet, (CUdevice *, int))                                                                          \
    X(device_name, cuDeviceGetName, (char *, int, CUdevice))                                                               \
    X(device_attribute, cuDeviceGetAttribute, (int *, int, CUdevice))                                                      \
    X(context_retain, cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                                   \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                           \
    X(context_push, cuCtxPushCurrent_v2, (CUcontext))                                                                      \
    X(context_pop, cuCtxPopCurrent_v2, (CUcontext *))                                                                      \
    X(module_load, cuModuleLoadDataEx, (CUmodule *, const void *, unsigned, int *, void **))                               \
    X(module_unload, cuModuleUnload, (CUmodule))                                                                           \
    X(module_function, cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                                        \
    X(function_set, cuFuncSetAttribute, (CUfunction, int, int))                                                            \
    X(alloc, cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                                       \
    X(free, cuMemFree_v2, (CUdeviceptr))                                                                                   \
    X(upload, cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, size_t, CUstream))                                         \
    X(download, cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, size_t, CUstream))                                             \
    X(move, cuMemcpyDtoDAsync_v2, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                                            \
    X(host_alloc, cuMemHostAlloc, (void **, size_t, unsigned))                                                             \
    X(host_free, cuMemFreeHost, (void *))                                                                                  \
    X(set32, cuMemsetD32Async, (CUdeviceptr, unsigned, size_t, CUstream))                                                  \
    X(stream_new, cuStreamCreate, (CUstream *, unsigned))                                                                  \
    X(stream_wait, cuStreamSynchronize, (CUstream))                                                                        \
    X(stream_free, cuStreamDestroy_v2, (CUstream))                                                                         \
    X(event_new, cuEventCreate, (CUevent *, unsigned))                                                                     \
    X(event_put, cuEventRecord, (CUevent, CUstream))                                                                       \
    X(event_time, cuEventElapsedTime, (float *, CUevent, CUevent))                                                         \
    X(event_free, cuEventDestroy_v2, (CUevent))                                                                            \
    X(launch, cuLaunchKernel,                                                                                              \
      (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **))
/* What old drivers lack: NULL. */
#define CU_OPTIONAL(X)                                                                      \
    X(launch_ex, cuLaunchKernelEx, (const CUconfig *, CUfunction, void **, void **))        \
    X(driver_version, cuDriverGetVersion, (int *))                                          \
    X(link_new, cuLinkCreate_v2, (unsigned, int *, void **, CUlink *))                      \
    X(link_add, cuLinkAddData_v2, (CUlink, int, void *, size_t, const char *, unsigned, int *, void **)) \
    X(link_end, cuLinkComplete, (CUlink, void **, size_t *)) /* the result lives as long as the link */ \
    X(link_free, cuLinkDestroy, (CUlink))                                                   \
    X(event_in_graph, cuEventRecordWithFlags, (CUevent, CUstream, unsigned))                  \
    X(capture_begin, cuStreamBeginCapture_v2, (CUstream, int))                              \
    X(capture_end, cuStreamEndCapture, (CUstream, CUgraph *))                               \
    X(graph_ready, cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long)) \
    X(graph_launch, cuGraphLaunch, (CUgraphExec, CUstream))                                 \
    X(graph_exec_free, cuGraphExecDestroy, (CUgraphExec))                                   \
    X(graph_free, cuGraphDestroy, (CUgraph))                                                \
    X(map_encode, cuTensorMapEncodeTiled,                                                   \
      (CUtensorMap *, int, uint32_t, CUdeviceptr, const uint64_t *, const uint64_t *, const uint32_t *, const uint32_t *, int, int, int, int)) \
    X(windows_encode, cuTensorMapEncodeIm2col,                                                                                       \
      (CUtensorMap *, int, uint32_t, CUdeviceptr, const uint64_t *, const uint64_t *, const int *, const int *, uint32_t, uint32_t,  \
       const uint32_t *, int, int, int, int))

typedef struct Driver {
    void *lib; /* of dlopen */
#define FIELD(field, name, args) CUresult(*field) args;
    CU_FUNCTIONS(FIELD)
    CU_OPTIONAL(FIELD)
#undef FIELD
} Driver;

typedef struct Found { /* a device that can run the model */
    CUdevice device;
    int ordinal, arch, processors; /* arch: 90 for compute capability 9.0 */
    char name[64];
} Found;

/* ---- a session's part of the device ---- */

typedef struct Region {
    CUdeviceptr at; /* 0: none */
    size_t cap;
} Region;

/* By sessions of one level of a model, on one device: code, and weights, of which there may be several where they are given by the caller. */
typedef struct Code {
    struct Code *next;
    int ordinal;
    uint32_t users; /* weights */
    CUmodule module;
    CUfunction kernel[]; /* nkernel */
} Code;

typedef struct Shared {
    struct Shared *next;
    Code *code;
    uint32_t users;
    const void *source; /* of the weights, on the host */
    CUdeviceptr weights;
} Shared;

/* Memory of the host that the device reaches without the driver's help: copies to and from the caller's memory pass through it, so
 * that they neither wait nor depend on what the caller does meanwhile. Handed out in one direction until the stream has been waited for. */
typedef struct Stage {
    char *p;
    size_t cap, used, need, most; /* need: what was asked for since the last wait, had there been room; most: of that, of all times */
} Stage;

typedef struct Late { /* bytes in the stage that belong elsewhere when the stream has been waited for and no guard failed */
    void *to;
    const void *from;
    size_t n;
} Late;
enum { LATE = 64 };

typedef struct Grid { /* of a launch */
    unsigned blocks, threads, shared, cluster; /* cluster: 0 or 1: none */
} Grid;

/* What a run put into the stream between its inputs and its results, to be put there again (rt_gpu_tape.c). */
typedef struct Action {
    CUfunction kernel; /* NULL: a copy of `bytes` */
    CUdeviceptr to, from;
    size_t bytes, at;  /* of the parameters, which begin at word[at] */
    Grid grid;
    uint32_t step;     /* of a kernel */
} Action;

typedef struct Timed { /* a launch between two events */
    CUevent begin, end;
    uint32_t step;
} Timed;

typedef struct Tape {
    Action *action;
    uint64_t *word;
    size_t naction, maxaction, nword, maxword;
    int64_t *in_dims, *dims; /* niodim, ndim: sizes of the inputs, and all when the run had ended */
    CUdeviceptr *place;      /* nbuf + 1: of the buffers, and of scratch */
    uint8_t *before, *after; /* nbuf: valid[] */
    const rt_step *guarded;
    uint64_t played;         /* d->plays when it was last of use; 0: holds nothing */
    CUgraphExec graph;       /* NULL: not yet, or the driver has none */
    bool tried;              /* to make it */
} Tape;
enum { TAPES = 4 };

typedef struct Device {
    Driver cu;
    Found found;
    CUcontext context;
    CUstream stream; /* ours or the caller's */
    Shared *shared;
    CUdeviceptr status;
    Region scratch;
    Region *own;          /* nbuf: for inputs and values */
    CUdeviceptr *lent;    /* nbuf: inputs: where the caller or the state has it; 0: in `own` */
    uint64_t *parameters; /* as many as the largest step has */
    Stage stage;
    Late late[LATE];
    uint32_t nlate;
    uint32_t code;           /* what `status` was */
    const rt_step *guarded;  /* the last kernel with guards of which nobody knows the status, or NULL */
    const rt_step *last;     /* the last kernel since the last wait, and how many there were */
    uint32_t nlast;
    bool busy;               /* something may be in the stream */
    bool uploading;          /* host memory that is not the stage may still be read */
    bool stale;              /* status may not be 0 */
    bool whole;              /* runs can be played again: all steps are the device's, all sizes follow from the inputs' */
    Tape tape[TAPES];
    Tape *recording;         /* NULL: nothing is recorded */
    uint64_t plays;
    Timed *timed;            /* launches since the last wait; of nevents of them there are events */
    size_t ntimed, mosttimed, nevents;
    uint64_t timed_from;     /* when the first of them was put into the stream */
} Device;

/* rt_gpu_driver.c */

/* Loads the driver and finds device cfg->device. On failure (a message) the driver may be loaded all the same. */
static accelc_status driver_open(Driver *d, const rt_gpu *g, const accelc_config *cfg, Found *f, char *msg, size_t n);
static void driver_close(Driver *d);
static bool image_fits(const rt_gpu_image *m, int arch);
/* "launch failed (CUDA_ERROR_LAUNCH_FAILED)" */
static const char *driver_error(const Driver *d, CUresult e, char *text, size_t n);

/* rt_gpu_memory.c: all are called with the context current but `enter`; each failure has a message */

static accelc_status broken(Sess *s, CUresult e, const char *what);
static accelc_status broken_step(Sess *s, CUresult e, const rt_step *st);
#define TRY(call, what)                                \
    do {                                               \
        CUresult try_e = (call);                       \
        if (try_e != 0) return broken(s, try_e, what); \
    } while (0)

static accelc_status enter(Sess *s);                   /* makes the context current */
static accelc_status leave(Sess *s, accelc_status st); /* as it was; st, or the failure of this */
/* Waits for the stream: what was downloaded is there, unless a guard failed before (ACCELC_EDATA). */
static accelc_status drain(Sess *s);
static size_t stage_want(const Device *d); /* bytes that it should have, by what was asked for */
static void stage_grow(Sess *s);           /* to that; nothing is in the stream */
static void stage_free(Device *d);
/* Room for `bytes`, named `what` in messages. What was in a smaller region is lost. */
static accelc_status region_need(Sess *s, Region *r, size_t bytes, const char *what);
static accelc_status block_twin(Sess *s, Block *k);
static size_t root_bytes(const Sess *s, int32_t r);
static accelc_status root_address(Sess *s, int32_t r, CUdeviceptr *a); /* there is memory for it from now on */
static CUdeviceptr root_place(const Sess *s, int32_t r);               /* its address; 0: there is not enough memory yet */
static accelc_status address(Sess *s, int32_t b, CUdeviceptr *a); /* of any buffer */
static accelc_status upload(Sess *s, CUdeviceptr to, const void *from, size_t n);
static accelc_status download(Sess *s, void *to, CUdeviceptr from, size_t n);
static accelc_status move(Sess *s, CUdeviceptr to, CUdeviceptr from, size_t n);
static accelc_status to_device(Sess *s, int32_t r);
static accelc_status to_host(Sess *s, int32_t r);

/* rt_gpu_time.c: a launch, which is timed if the session wants to know */

static CUresult launch_timed(Sess *s, uint32_t step, CUfunction kernel, const Grid *grid, CUstream stream, bool captured, void **extra);
static void timed_graph(Sess *s, const Tape *t);
static void timed_tell(Sess *s, bool well);
static void timed_free(Device *d);

/* rt_gpu_tape.c */

static accelc_status tape_open(Sess *s);
static void graphs_free(Device *d);
static void tape_close(Sess *s);
static void tape_stop(Device *d); /* what is recorded now cannot be played again */
/* Room for one more of `size` bytes each, or false. */
static bool grow(Sess *s, void **list, size_t n, size_t *most, size_t more, size_t size);
static void tape_launch(Sess *s, uint32_t step, CUfunction kernel, const Grid *grid, const uint64_t *word, size_t bytes);
static void tape_move(Sess *s, CUdeviceptr to, CUdeviceptr from, size_t bytes);
static bool gpu_replay(Sess *s);
static void gpu_ran(Sess *s);

/* rt_gpu_cache.c: an image, by the folder that keeps machine code, if there is one and nothing is in the way */

static bool cache_load(Sess *s, const rt_gpu_image *m, CUmodule *module);

/* rt_gpu_shared.c */

static accelc_status shared_get(Sess *s, const void *weights);
static void shared_put(Sess *s, bool reachable);

/* rt_gpu_open.c, rt_gpu_launch.c: members of rt_gpu_ops */

static accelc_status clear_status(Sess *s); /* the status is 0 before the first kernel of a run */

static accelc_status gpu_probe(const rt_gpu *g, const accelc_config *cfg, char *msg, size_t n);
static accelc_status gpu_open(Sess *s, const void *weights);
static void gpu_close(Sess *s);
static accelc_status gpu_steps(Sess *s, uint32_t *pc);
static void written(Sess *s, const rt_step *st, uint8_t where); /* a step wrote to buffers there */
#endif
