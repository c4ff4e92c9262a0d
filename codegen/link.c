/* link.c: temporary files and the system's linker (LLVM's C API has none). Tried in order: ld.lld, ld.lld-22 .. 19, ld, cc. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"

extern char **environ;
enum { MAX_ARGS = 96 };

const char *link_temp_dir(Ctx *c) {
    const char *base = getenv("TMPDIR");
    char *dir = ctx_printf(c, "%s/accelc-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(dir)) return dir;
    diag(c, SEV_ERROR, (Loc){0}, "E0601", "cannot make a temporary directory %s: %s", dir, strerror(errno));
    return NULL;
}

void link_remove_dir(const char *dir) {
    DIR *d = dir ? opendir(dir) : NULL;
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(dir);
}

bool link_write_file(Ctx *c, const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(data, 1, bytes, f) == bytes;
    if (f && fclose(f)) ok = false;
    if (!ok) diag(c, SEV_ERROR, (Loc){0}, "E0602", "cannot write %s: %s", path, strerror(errno));
    return ok;
}

int link_run(char *const *argv, const char *log) {
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    pid_t pid;
    int e = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (e) return -1;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

void link_report(Ctx *c, const char *tool, const char *log) {
    char line[400] = "";
    FILE *f = fopen(log, "r");
    if (f) {
        if (!fgets(line, sizeof line, f)) line[0] = 0;
        fclose(f);
    }
    line[strcspn(line, "\n")] = 0;
    diag(c, SEV_ERROR, (Loc){0}, "E0603", "%s failed: %s", tool, *line ? line : "no message");
}

/* The directory of the C library, so that a bare linker can record the dependency. */
static const char *libc_dir(Ctx *c) {
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)&fopen, &info) || !info.dli_fname) return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    return slash && strstr(slash, "libc.so") ? ctx_strn(c, info.dli_fname, (size_t)(slash - info.dli_fname)) : NULL;
}

/* Where the C library lacks threads and dlopen (glibc before 2.34), an artefact that nobody told about them could not be loaded; elsewhere these are
 * empty, and --as-needed leaves them out. */
static const char *const shared_libraries[] = {"-lpthread", "-ldl", "-lc", NULL};

enum { SMALL = 8 << 20 }; /* bytes of objects */

static uint64_t total_bytes(uint32_t n, const char *const *path) {
    uint64_t sum = 0;
    struct stat st;
    for (uint32_t i = 0; i < n; i++)
        if (!stat(path[i], &st)) sum += (uint64_t)st.st_size;
    return sum;
}

/* direct, driver: options for a linker, and for cc. libraries: behind the objects, for either. */
static bool link_with(Ctx *c, const char *out, uint32_t nobj, const char *const *obj, const char *const *direct, const char *const *driver,
                      const char *const *libraries) {
    /* GNU ld starts 30 ms earlier than lld, which loads LLVM, and copies weights more slowly. */
    static const char *const linkers[] = {"ld", "ld.lld", "ld.lld-22", "ld.lld-21", "ld.lld-20", "ld.lld-19", "ld", "cc"};
    const char *log = ctx_printf(c, "%.*s.log", (int)strlen(obj[0]), obj[0]);
    for (size_t i = total_bytes(nobj, obj) > SMALL; i < sizeof linkers / sizeof *linkers; i++) {
        const char *argv[MAX_ARGS];
        int n = 0;
        argv[n++] = linkers[i];
        for (const char *const *a = strcmp(linkers[i], "cc") ? direct : driver; *a; a++) argv[n++] = *a;
        argv[n++] = "-o";
        argv[n++] = out;
        for (uint32_t k = 0; k < nobj && n < MAX_ARGS - 8; k++) argv[n++] = obj[k];
        for (const char *const *a = libraries; *a; a++) argv[n++] = *a;
        argv[n] = NULL;
        int status = link_run((char *const *)(uintptr_t)argv, log);
        if (status == 0) return true;
        if (status > 0) {
            link_report(c, linkers[i], log);
            return false;
        }
    }
    diag(c, SEV_ERROR, (Loc){0}, "E0604",
         "no linker found (looked for ld.lld, ld and cc on PATH); install lld or binutils, or write an archive (-o model.a)");
    return false;
}

bool link_shared(Ctx *c, const char *out, uint32_t nobj, const char *const *obj, bool openmp) {
    const char *dir = libc_dir(c), *search = dir ? ctx_printf(c, "-L%s", dir) : "-L/usr/lib";
    const char *direct[] = {"-shared", "--eh-frame-hdr", "-z", "noexecstack", "-z", "relro", "-z", "noseparate-code", "--gc-sections", "--as-needed",
                            "--build-id=none", search, "-L/lib/x86_64-linux-gnu", "-L/usr/lib/x86_64-linux-gnu", "-L/lib64", "-L/usr/lib64", NULL};
    static const char *const driver[] = {"-shared", "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,--build-id=none", NULL};
    if (!openmp) return link_with(c, out, nobj, obj, direct, driver, shared_libraries);
    /* Only the driver knows where its OpenMP library is. */
    const char *log = ctx_printf(c, "%s.log", obj[0]);
    const char *argv[MAX_ARGS] = {"cc", "-shared", "-fopenmp", "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,--build-id=none", "-o", out};
    int n = 8;
    for (uint32_t k = 0; k < nobj && n < MAX_ARGS - 8; k++) argv[n++] = obj[k];
    for (const char *const *a = shared_libraries; *a; a++) argv[n++] = *a;
    int status = link_run((char *const *)(uintptr_t)argv, log);
    if (status > 0) link_report(c, "cc", log);
    else if (status < 0) diag(c, SEV_ERROR, (Loc){0}, "E0604", "--executor=openmp needs a C compiler with OpenMP (cc) to link");
    return status == 0;
}

bool link_relocatable(Ctx *c, const char *out, uint32_t nobj, const char *const *obj) {
    static const char *const direct[] = {"-r", NULL}, *const driver[] = {"-r", "-nostdlib", NULL}, *const none[] = {NULL};
    return link_with(c, out, nobj, obj, direct, driver, none);
}
