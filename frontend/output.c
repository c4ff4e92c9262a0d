/* output.c: a file that appears complete or not at all. It is written under a temporary name in its
 * own directory and renamed at the end; every failure up to close is a message, and removes it.
 * Whether the directory can be written is tried at the beginning, but the file is made when its
 * content is there, so that even a crash in between leaves nothing behind. What exists and is no
 * regular file (a device, a pipe) is never renamed over: the content is made elsewhere and written
 * through. */
#include "frontend/frontend.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(Output *o, const char *what, int error) {
    diag(o->c, SEV_ERROR, (Loc){0}, "E0190", "cannot write \"%.300s\": %s%s", o->path, what,
         strerror(error));
    output_abandon(o);
    return false;
}

bool output_begin(Output *o, Ctx *c, const char *path, bool executable) {
    *o = (Output){.c = c, .path = path, .final = path, .executable = executable};
    struct stat st;
    bool std = !strcmp(path, "-");
    o->device = std;
    if (!std && !*path) return fail(o, "", ENOENT);
    if (!std && !stat(path, &st)) {
        if (S_ISDIR(st.st_mode)) return fail(o, "", EISDIR);
        if (S_ISREG(st.st_mode)) { /* replace what a link points to, not the link */
            char *real = realpath(path, NULL);
            if (real) o->final = ctx_str(c, real);
            free(real);
        } else {
            o->device = true;
        }
    }
    char *temp;
    if (o->device) {
        const char *dir = getenv("TMPDIR");
        temp = ctx_printf(c, "%s/accelc-XXXXXX", dir && *dir ? dir : "/tmp");
    } else {
        const char *slash = strrchr(o->final, '/');
        int n = slash ? (int)(slash + 1 - o->final) : 0;
        temp = ctx_printf(c, "%.*s.accelc-XXXXXX", n, o->final);
    }
    int fd = mkstemp(temp);
    if (fd < 0) return fail(o, "", errno);
    close(fd);
    unlink(temp);
    uint64_t unseen; /* a name that has never been visible, so that nobody can be waiting for it */
    if (getrandom(&unseen, sizeof unseen, 0) != sizeof unseen) return fail(o, "", errno);
    o->temp = ctx_printf(c, "%s-%016llx", temp, (unsigned long long)unseen);
    o->open = true;
    return true;
}

bool output_text(Output *o, const char *text) { return output_bytes(o, text, strlen(text)); }

bool output_bytes(Output *o, const void *data, size_t n) {
    FILE *f = fopen(o->temp, "w");
    if (!f) return fail(o, "", errno);
    errno = 0;
    bool ok = fwrite(data, 1, n, f) == n;
    int error = errno;
    if (fclose(f) || !ok) return fail(o, "", error ? error : errno);
    return true;
}

/* Copies the finished file to a device, pipe or standard output. */
static bool write_through(Output *o) {
    static const int copied = 1 << 16;
    char *buf = ctx_alloc(o->c, copied);
    int in = open(o->temp, O_RDONLY | O_CLOEXEC);
    int out = !strcmp(o->path, "-") ? dup(STDOUT_FILENO) : open(o->path, O_WRONLY | O_CLOEXEC);
    int error = in < 0 || out < 0 ? errno : 0;
    ssize_t n = 0;
    while (!error && (n = read(in, buf, copied)) != 0) {
        error = n < 0 && errno != EINTR ? errno : 0;
        for (ssize_t k, at = 0; !error && at < n; at += k) {
            k = write(out, buf + at, (size_t)(n - at));
            if (k < 0 && errno != EINTR) error = errno;
            k = k < 0 ? 0 : k;
        }
    }
    if (in >= 0) close(in);
    if (out >= 0 && close(out) && !error) error = errno;
    output_abandon(o);
    return !error || fail(o, "", error);
}

bool output_commit(Output *o) {
    if (!o->open) return false;
    if (o->device) return write_through(o);
    mode_t mask = umask(0);
    umask(mask);
    if (chmod(o->temp, (o->executable ? 0777u : 0666u) & ~mask) || rename(o->temp, o->final))
        return fail(o, "", errno);
    o->open = false;
    return true;
}

void output_abandon(Output *o) {
    if (o->open) unlink(o->temp);
    o->open = false;
}
