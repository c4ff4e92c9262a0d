/* emu_child.h: for tests: compiled twins, and launches on the emulator in processes of their own, as what goes wrong ends the process. */
#ifndef ACCELC_TESTS_GPU_EMU_CHILD_H
#define ACCELC_TESTS_GPU_EMU_CHILD_H
#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "codegen/llvm.h"
#include "emu_internal.h"

/* Kernels compiled for the emulator, as one shared object. */
static void *twins_open(Ctx *c, uint32_t n, Lir *const *l) {
    LlvmOut out = {.kind = LLVM_OBJECT};
    char dir[] = "/tmp/accelc-emu-XXXXXX", path[64];
    ck_assert_msg(llvm_compile(c, target_of_gpus("gpu-emulated"), n, l, &out), "%s", ctx_messages(c));
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (uint32_t b = 0; b < out.nblob; b++) {
        snprintf(path, sizeof path, "%s/%u.o", dir, b);
        FILE *f = fopen(path, "wb");
        ck_assert(f && fwrite(out.blob[b].data, 1, out.blob[b].bytes, f) == out.blob[b].bytes && fclose(f) == 0);
    }
    ck_assert_int_eq(system(ctx_printf(c, "cc -nostdlib -shared -o %s/k.so %s/*.o", dir, dir)), 0);
    snprintf(path, sizeof path, "%s/k.so", dir);
    void *h = dlopen(path, RTLD_NOW);
    ck_assert_msg(h != NULL, "%s", dlerror());
    ck_assert_int_eq(system(ctx_printf(c, "rm -r %s", dir)), 0);
    return h;
}

static emu_kernel *twin_of(Ctx *c, void *twins, const Lir *l) {
    void *at = dlsym(twins, ctx_printf(c, "%s_thread", lir_name(l)));
    emu_kernel *k;
    ck_assert_ptr_nonnull(at);
    memcpy(&k, &at, sizeof k);
    return k;
}

/* Memory that a child shares with us. */
static void *shared_memory(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(p != MAP_FAILED);
    return p;
}

static char child_text[1 << 16]; /* what the last child said */

/* Whether the launch comes to its end. */
static bool child_launch(const emu_launch *l, const char *seed, bool count) {
    int says[2], state;
    ck_assert_int_eq(pipe(says), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(says[1], 2);
        if (seed) setenv("ACCELC_EMU_SEED", seed, 1);
        if (count) setenv("ACCELC_EMU_COUNT", "1", 1);
        emu_run(l);
        _exit(0);
    }
    close(says[1]);
    size_t have = 0, most = sizeof child_text - 1;
    for (ssize_t got; have < most && (got = read(says[0], child_text + have, most - have)) > 0;) have += (size_t)got;
    child_text[have] = 0;
    close(says[0]);
    ck_assert_int_eq(waitpid(child, &state, 0), child);
    return WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

/* What the child counted (ACCELC_EMU_COUNT), of all accesses. */
static inline void child_total(const char *what, unsigned long long *is, unsigned long long *least) {
    *is = *least = 0;
    for (const char *p = child_text; (p = strstr(p, what)); p++) {
        unsigned long long a, b;
        ck_assert_int_eq(sscanf(p + strlen(what), ": %llu, at least %llu", &a, &b), 2);
        *is += a, *least += b;
    }
}
#endif
