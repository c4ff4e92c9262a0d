/* rt_gpu_cache.c: machine code that the driver has made of PTX, kept in a folder that the caller (config.code_cache) or, if he does not say, the
 * user (ACCELC_CUDA_CACHE in the environment) names. The driver has a cache of its own, in the user's home, which serves where that can be
 * written and outlives the process; this one is for where it does not. Without a folder nothing is written anywhere.
 *
 * A file is named by what it was made of: hash of the text, driver, compute capability. It says the same once more, with a hash of the code; a file
 * that says anything else, or that belongs to neither the user nor root, is as good as none and gives way to the right one. Files appear whole,
 * by renaming, so processes need not agree. Whatever goes wrong here, the driver compiles as if there were no cache. */
#include "rt_gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CACHE_MOST ((off_t)1 << 30)

typedef struct Entry { /* of a file; the code follows */
    char magic[8];
    uint32_t driver, arch;
    uint64_t text_bytes, text[2];
    uint64_t bytes, code[2];
} Entry;
_Static_assert(sizeof(Entry) == RT_ALIGN, "code is aligned");
enum { CACHE_PATH = 4096 };

static void hash128(const void *p, size_t n, uint64_t h[2]) {
    static const uint64_t by[2] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu};
    h[0] = h[1] = n;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, (const char *)p + i, n - i < 8 ? n - i : 8);
        for (int k = 0; k < 2; k++) {
            h[k] = (h[k] ^ word) * by[k];
            h[k] ^= h[k] >> 29;
        }
    }
}

static bool read_all(int fd, char *to, size_t n) {
    while (n) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got, n -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const char *from, size_t n) {
    while (n) {
        ssize_t put = write(fd, from, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        from += put, n -= (size_t)put;
    }
    return true;
}

/* The file, if it is what e says but for the code, or NULL; to be given back. */
static Entry *cache_read(Sess *s, const char *path, const Entry *e) {
    Entry *file = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return NULL;
    bool good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == geteuid() || st.st_uid == 0) &&
                st.st_size > (off_t)sizeof *file && st.st_size < CACHE_MOST && (file = accelc_rt1_mem_get(&s->cfg, (size_t)st.st_size)) != NULL &&
                read_all(fd, (char *)file, (size_t)st.st_size) && memcmp(file, e, offsetof(Entry, bytes)) == 0 &&
                file->bytes == (uint64_t)st.st_size - sizeof *file;
    close(fd);
    uint64_t code[2];
    if (good) hash128(file + 1, file->bytes, code);
    if (good && memcmp(code, file->code, sizeof code) == 0) return file;
    accelc_rt1_mem_put(&s->cfg, file);
    return NULL;
}

static void cache_write(const char *folder, const char *path, Entry e, const void *code, size_t n) {
    char temporary[CACHE_PATH];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(temporary, sizeof temporary, "%s/.%ld-%p-%ld", folder, (long)getpid(), (void *)&e, now.tv_nsec);
    if (length >= (int)sizeof temporary || n >= (size_t)CACHE_MOST - sizeof e) return;
    e.bytes = n;
    hash128(code, n, e.code);
    mkdir(folder, 0777);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return;
    bool good = write_all(fd, (const char *)&e, sizeof e) && write_all(fd, code, n);
    good &= close(fd) == 0;
    if (!good || rename(temporary, path) != 0) unlink(temporary);
}

/* The driver's code for the text, loaded and kept. */
static bool cache_make(Sess *s, const rt_gpu_image *m, const char *folder, const char *path, const Entry *e, CUmodule *module) {
    Device *d = s->device;
    int option = CU_JIT_TARGET; /* what is for one architecture alone must be named; else it is the device's */
    void *value = (void *)(uintptr_t)(CU_TARGET_ONLY + (m->arch & 0xffu)), *code;
    size_t bytes;
    CUlink link;
    if (d->cu.link_new(m->arch & RT_GPU_ONLY ? 1 : 0, &option, &value, &link) != 0) return false;
    bool good = d->cu.link_add(link, CU_INPUT_PTX, (void *)(uintptr_t)m->data, (size_t)m->bytes, "accelc", 0, NULL, NULL) == 0 &&
                d->cu.link_end(link, &code, &bytes) == 0 && d->cu.module_load(module, code, 0, NULL, NULL) == 0;
    if (good) cache_write(folder, path, *e, code, bytes);
    d->cu.link_free(link);
    return good;
}

/* Loads an image by the cache, if there is a folder for it and nothing is in the way. */
static bool cache_load(Sess *s, const rt_gpu_image *m, CUmodule *module) {
    Device *d = s->device;
    const char *folder = s->cfg.code_cache ? s->cfg.code_cache : secure_getenv("ACCELC_CUDA_CACHE");
    char path[CACHE_PATH];
    int driver;
    bool known = d->cu.driver_version && d->cu.link_new && d->cu.link_add && d->cu.link_end && d->cu.link_free;
    if (m->kind != RT_GPU_PTX || !folder || !*folder || !known || d->cu.driver_version(&driver) != 0) return false;
    Entry e = {"accelc1", (uint32_t)driver, (uint32_t)d->found.arch, m->bytes, {0}, 0, {0}};
    hash128(m->data, (size_t)m->bytes, e.text);
    int length = snprintf(path, sizeof path, "%s/%016llx%016llx-%u-%u.cubin", folder, (unsigned long long)e.text[0], (unsigned long long)e.text[1],
                          e.driver, e.arch);
    if (length >= (int)sizeof path) return false;
    Entry *file = cache_read(s, path, &e);
    bool good = file && d->cu.module_load(module, file + 1, 0, NULL, NULL) == 0;
    accelc_rt1_mem_put(&s->cfg, file);
    return good || cache_make(s, m, folder, path, &e, module);
}
