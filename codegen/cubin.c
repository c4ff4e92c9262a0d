/* cubin.c: PTX -> machine code of a GPU, by ptxas. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"

static bool read_file(Ctx *c, const char *path, Blob *out) {
    FILE *f = fopen(path, "rb");
    long n = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    char *p = n > 0 ? ctx_allocn(c, 1, (size_t)n) : NULL;
    bool ok = p && !fseek(f, 0, SEEK_SET) && fread(p, 1, (size_t)n, f) == (size_t)n;
    if (f) fclose(f);
    if (!ok) diag(c, SEV_ERROR, (Loc){0}, "E0602", "cannot read %s: %s", path, n == 0 ? "it is empty" : strerror(errno));
    *out = (Blob){p, ok ? (size_t)n : 0};
    return ok;
}

bool cubin_assemble(Ctx *c, const char *dir, const char *arch, Blob text, Blob *code) {
    const char *given = getenv("ACCELC_PTXAS");
    const char *const tool[] = {given && *given ? given : "ptxas", given && *given ? NULL : "/usr/local/cuda/bin/ptxas"};
    const char *in = ctx_printf(c, "%s/%s.ptx", dir, arch), *out = ctx_printf(c, "%s/%s.cubin", dir, arch), *log = ctx_printf(c, "%s/ptxas.log", dir);
    if (!link_write_file(c, in, text.data, text.bytes)) return false;
    for (size_t i = 0; i < 2 && tool[i]; i++) {
        const char *argv[] = {tool[i], ctx_printf(c, "-arch=%s", arch), in, "-o", out, NULL};
        int status = link_run((char *const *)(uintptr_t)argv, log);
        if (status == 0) return read_file(c, out, code);
        if (status < 0) continue;
        link_report(c, tool[i], log);
        return false;
    }
    diag(c, SEV_ERROR, (Loc){0}, "E0604", "--cubin: there is no %s; without this option the driver of the GPU assembles the code when it is loaded",
         given && *given ? given : "ptxas (looked for on PATH and in /usr/local/cuda/bin)");
    return false;
}
