/* rt_gpu.h: the two files of the GPU's part of the runtime. They are one translation unit (rt_gpu_all.c),
 * linked only into models with kernels of a GPU; the driver is found when a session is made, and nothing but the
 * driver is needed. */
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
enum { CU_OUT_OF_MEMORY = 2, CU_INVALID_IMAGE = 200, CU_NO_BINARY = 209, CU_INVALID_PTX = 218, CU_NO_COMPILER = 221, CU_UNSUPPORTED_PTX = 222 };
enum { CU_CC_MAJOR = 75, CU_CC_MINOR = 76, CU_PROCESSORS = 16 }; /* attributes of a device */
enum { CU_DYNAMIC_SHARED = 8 };                                  /* attribute of a function */
enum { CU_STREAM_NON_BLOCKING = 1 };
#define CU_PARAM_POINTER ((void *)1)
#define CU_PARAM_SIZE ((void *)2)

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
    X(set32, cuMemsetD32Async, (CUdeviceptr, unsigned, size_t, CUstream))                                                  \
    X(stream_new, cuStreamCreate, (CUstream *, unsigned))                                                                  \
    X(stream_wait, cuStreamSynchronize, (CUstream))                                                                        \
    X(stream_free, cuStreamDestroy_v2, (CUstream))                                                                         \
    X(launch, cuLaunchKernel,                                                                                              \
      (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **))

typedef struct Device Device;

typedef struct Driver {
    void *lib; /* of dlopen */
#define FIELD(field, name, args) CUresult(*field) args;
    CU_FUNCTIONS(FIELD)
#undef FIELD
} Driver;

typedef struct Found { /* a device that can run the model */
    CUdevice device;
    int ordinal, arch, processors; /* arch: 90 for compute capability 9.0 */
    char name[64];
} Found;

/* Loads the driver and finds device cfg->device. On failure (a message) the driver may be loaded all the same. */
static accelc_status driver_open(Driver *d, const rt_gpu *g, const accelc_config *cfg, Found *f, char *msg, size_t n);
static void driver_close(Driver *d);
static bool image_fits(const rt_gpu_image *m, int arch);
/* "launch failed (CUDA_ERROR_LAUNCH_FAILED)" */
static const char *driver_error(const Driver *d, CUresult e, char *text, size_t n);
#endif
