/* bench.c: `accelc bench`: compiles a model into a temporary file and has accelc-run measure it. */
#include "frontend/frontend.h"
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* accelc-run beside this program, or else of PATH. */
static const char *runner(Ctx *c) {
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self);
    while (n > 0 && self[n - 1] != '/') n--;
    const char *path = ctx_printf(c, "%.*saccelc-run", n > 0 ? (int)n : 0, self);
    return n > 0 && access(path, X_OK) == 0 ? path : "accelc-run";
}

/* The exit status of accelc-run for an artefact. */
static int measure(Ctx *c, const char *so, int argc, char *const *argv) {
    static const char *const defaults[] = {"--profile", "--warmup", "3", "--repeat", "20"}; /* options that follow are the ones that count */
    enum { N = sizeof defaults / sizeof *defaults };
    const char **line = NEWN(c, const char *, argc + N + 3);
    int n = 0, status;
    line[n++] = runner(c);
    for (int i = 0; i < N; i++) line[n++] = defaults[i];
    line[n++] = so;
    for (int i = 0; i < argc; i++) line[n++] = argv[i];
    pid_t pid;
    int e = posix_spawnp(&pid, line[0], NULL, NULL, (char *const *)line, environ);
    while (!e && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (e) diag(c, SEV_ERROR, (Loc){0}, "E0513", "accelc-run cannot be started: %s", strerror(e));
    return e || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
}

int tool_bench(Ctx *c, CompileOptions *o, bool compiled, int argc, char *const *argv) {
    const char *folder = getenv("TMPDIR");
    char *path = ctx_printf(c, "%s/accelc-bench-XXXXXX.so", folder && *folder ? folder : "/tmp");
    if (compiled) return measure(c, o->input, argc, argv);
    int fd = mkstemps(path, 3), status = 1;
    if (fd < 0) {
        diag(c, SEV_ERROR, (Loc){0}, "E0514", "cannot write \"%s\": %s", path, strerror(errno));
        return 1;
    }
    close(fd);
    o->output = path;
    if (!o->name) o->name = compile_name(c, o->input);
    if (accelc_compile(c, o, stderr)) status = measure(c, path, argc, argv);
    unlink(path);
    return status;
}
