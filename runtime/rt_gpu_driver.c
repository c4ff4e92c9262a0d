/* rt_gpu_driver.c: finds libcuda and a device. ACCELC_LIBCUDA in the environment names another file than libcuda.so.1 (tests use a
 * look-alike; a machine may have it where the loader does not search). The library stays loaded when the last session is gone, as it cannot
 * be loaded twice safely. */
#include "rt_gpu.h"

#include <dlfcn.h>

static const char *driver_error(const Driver *d, CUresult e, char *text, size_t n) {
    const char *name = NULL, *what = NULL;
    if (d->error_name(e, &name) != 0) name = NULL;
    if (d->error_text(e, &what) != 0) what = NULL;
    if (name && what) snprintf(text, n, "%s (%s)", what, name);
    else snprintf(text, n, "error %d of the driver", e);
    return text;
}

static accelc_status driver_load(Driver *d, char *msg, size_t n) {
    static const struct {
        const char *name;
        size_t at;
        bool optional;
    } entry[] = {
#define ENTRY(field, name, args) {#name, offsetof(Driver, field), false},
        CU_FUNCTIONS(ENTRY)
#undef ENTRY
#define ENTRY(field, name, args) {#name, offsetof(Driver, field), true},
        CU_OPTIONAL(ENTRY)
#undef ENTRY
    };
    const char *file = secure_getenv("ACCELC_LIBCUDA");
    if (!file || !*file) file = "libcuda.so.1";
    d->lib = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!d->lib) {
        const char *why = dlerror();
        snprintf(msg, n, "the driver of the GPU is missing: %s", why ? why : file);
        return ACCELC_EDEVICE;
    }
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++) {
        void *f = dlsym(d->lib, entry[i].name);
        if (!f && !entry[i].optional) {
            snprintf(msg, n, "the driver of the GPU is too old: %s has no %s", file, entry[i].name);
            return ACCELC_EDEVICE;
        }
        memcpy((char *)d + entry[i].at, &f, sizeof f);
    }
    return ACCELC_OK;
}

/* PTX runs on its architecture and newer ones, a cubin on its generation from its architecture on. */
static bool image_fits(const rt_gpu_image *m, int arch) {
    int own = (int)(m->arch & 0xffu);
    if (m->arch & RT_GPU_ONLY) return arch == own;
    return arch >= own && (m->kind == RT_GPU_PTX || arch / 10 == own / 10);
}

static accelc_status driver_open(Driver *d, const rt_gpu *g, const accelc_config *cfg, Found *f, char *msg, size_t n) {
    char why[200];
    int count = 0, major = 0, minor = 0, need = 0;
    bool fits = false;
    f->ordinal = cfg->device > 0 ? cfg->device - 1 : 0;
    accelc_status st = driver_load(d, msg, n);
    if (st != ACCELC_OK) return st;
    for (uint32_t k = 0; k < g->nkernel; k++) {
        const char *lacks = NULL;
        if (g->kernel[k].cluster > 1 && !d->launch_ex) lacks = "cuLaunchKernelEx";
        if (g->kernel[k].maps && !d->windows_encode) lacks = "cuTensorMapEncodeIm2col";
        if (g->kernel[k].maps && !d->map_encode) lacks = "cuTensorMapEncodeTiled";
        if (!lacks) continue;
        snprintf(msg, n, "the driver of the GPU is too old: it has no %s", lacks);
        return ACCELC_EDEVICE;
    }
    CUresult e = d->init(0);
    if (e == 0) e = d->device_count(&count);
    if (e != 0) {
        snprintf(msg, n, "no GPU can be used: %s", driver_error(d, e, why, sizeof why));
        return ACCELC_EDEVICE;
    }
    if (f->ordinal >= count) {
        snprintf(msg, n, "there is no GPU %d, the machine has %d", f->ordinal, count);
        return ACCELC_EDEVICE;
    }
    e = d->device_get(&f->device, f->ordinal);
    if (e == 0) e = d->device_name(f->name, (int)sizeof f->name, f->device);
    if (e == 0) e = d->device_attribute(&major, CU_CC_MAJOR, f->device);
    if (e == 0) e = d->device_attribute(&minor, CU_CC_MINOR, f->device);
    if (e == 0) e = d->device_attribute(&f->processors, CU_PROCESSORS, f->device);
    if (e != 0) {
        snprintf(msg, n, "GPU %d: %s", f->ordinal, driver_error(d, e, why, sizeof why));
        return ACCELC_EDEVICE;
    }
    f->arch = major * 10 + minor;
    for (uint32_t i = 0; i < g->nimage; i++) {
        int own = (int)(g->image[i].arch & 0xffu);
        fits |= image_fits(&g->image[i], f->arch);
        need = i == 0 || own < need ? own : need;
    }
    if (fits) return ACCELC_OK;
    snprintf(msg, n, "GPU %d (%s) has compute capability %d.%d, the model was compiled for %d.%d", f->ordinal, f->name, major, minor,
             need / 10, need % 10);
    return ACCELC_EDEVICE;
}

static void driver_close(Driver *d) {
    if (d->lib) dlclose(d->lib);
    d->lib = NULL;
}
