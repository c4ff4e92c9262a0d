/* probe.c: counts what run() asks of the process: allocations and locks by defining those functions here (the model's calls
 * come to this program), system calls by a seccomp filter that traps all but the few that wake and park a team.
 *     probe MODEL.so THREADS SYMBOL_VALUE own|caller      outputs in the session's memory or in buffers of the caller
 * Inputs are zeros. Exit status 0: run() is clean; 1: it is not, and a line says why; 77: no seccomp here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "accelc_rt.h"

enum { MAX_PORTS = 16, MAX_RANK = 16, RUNS = 200 };

/* ---- interposed ---- */

static volatile int counting;
static volatile long allocations, locks;
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static void count(volatile long *what) {
    if (counting) __atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}
void *malloc(size_t n) {
    count(&allocations);
    return __libc_malloc(n);
}
void *calloc(size_t a, size_t b) {
    count(&allocations);
    return __libc_calloc(a, b);
}
void *realloc(void *p, size_t n) {
    count(&allocations);
    return __libc_realloc(p, n);
}
void free(void *p) {
    if (p) count(&allocations);
    __libc_free(p);
}
void *aligned_alloc(size_t a, size_t n) {
    count(&allocations);
    return __libc_memalign(a, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
    count(&allocations);
    return (*p = __libc_memalign(a, n)) ? 0 : ENOMEM;
}
static int (*real_lock)(pthread_mutex_t *);
int pthread_mutex_lock(pthread_mutex_t *m) {
    count(&locks);
    if (!real_lock) *(void **)&real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return real_lock(m);
}

/* ---- system calls ---- */

static void trapped(int sig, siginfo_t *info, void *context) {
    char text[64];
    (void)sig, (void)context;
    int n = snprintf(text, sizeof text, "run() makes system call %d\n", info->si_syscall);
    syscall(SYS_write, 1, text, (size_t)n);
    syscall(SYS_exit_group, 1);
}

/* From here on only these go through, in all threads. false: not available. */
static int forbid_system_calls(int team) {
    enum { ALLOW = 5 };
    const unsigned allowed[ALLOW] = {SYS_write, SYS_exit_group, SYS_rt_sigreturn, team ? SYS_futex : SYS_write, team ? SYS_sched_yield : SYS_write};
    struct sock_filter f[4 + ALLOW] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    int n = 1;
    for (int i = 0; i < ALLOW; i++) f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (unsigned char)(ALLOW - i), 0);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog p = {(unsigned short)n, f};
    struct sigaction a = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &a, NULL);
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &p);
}

/* ---- the model ---- */

static size_t bytes_of(unsigned dtype) { /* onnx.TensorProto.DataType: what the test models use */
    return dtype == 7 || dtype == 11 ? 8 : dtype == 2 || dtype == 3 || dtype == 9 ? 1 : dtype == 10 || dtype == 16 ? 2 : 4;
}

static void prepare(const accelc_port *p, int64_t symbol, accelc_value *v, int64_t *dims, int with_data) {
    size_t n = 1;
    for (int k = 0; k < p->rank; k++) {
        char *end;
        dims[k] = strtoll(p->dims[k].expr, &end, 10);
        if (*end) dims[k] = symbol;
        n *= (size_t)dims[k];
    }
    *v = (accelc_value){.kind = ACCELC_TENSOR, .dtype = p->dtype, .rank = p->rank, .dims = dims};
    v->bytes = n * bytes_of(p->dtype);
    v->data = with_data ? __libc_calloc(1, v->bytes + 1) : NULL;
    if (!with_data) v->bytes = 0;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "probe: %s: %s\n", what, why);
    exit(2);
}

int main(int argc, char **argv) {
    if (argc != 5) die("usage", "probe MODEL.so THREADS SYMBOL_VALUE own|caller");
    void *so = dlopen(argv[1], RTLD_NOW);
    if (!so) die(argv[1], dlerror());
    const accelc_api *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(so, "accelc_main");
    const accelc_api *api = entry();
    const accelc_desc *d = api->desc;
    int threads = atoi(argv[2]), own = !strcmp(argv[4], "own");
    if (d->nin > MAX_PORTS || d->nout > MAX_PORTS) die(argv[1], "too many ports");
    accelc_value in[MAX_PORTS], first[MAX_PORTS], out[MAX_PORTS];
    int64_t dims[2][MAX_PORTS][MAX_RANK];
    for (int i = 0; i < d->nin; i++) prepare(&d->in[i], atoll(argv[3]), &in[i], dims[0][i], 1);
    for (int i = 0; i < d->nout; i++) prepare(&d->out[i], atoll(argv[3]), &first[i], dims[1][i], !own);
    accelc_config config = {.size = sizeof config, .threads = threads};
    accelc_session *s;
    char message[200];
    if (api->create(&config, &s, message, sizeof message) != ACCELC_OK) die("create", message);
    for (int i = 0; i < 3; i++) {
        memcpy(out, first, sizeof out);
        if (api->run(s, in, out) != ACCELC_OK) die("run", api->error(s));
    }
    usleep(100000); /* new threads of the team finish their start */
    int forbidden = forbid_system_calls(threads > 1);
    counting = 1;
    for (int i = 0; i < RUNS; i++) {
        memcpy(out, first, sizeof out);
        if (api->run(s, in, out) != ACCELC_OK) break;
    }
    counting = 0;
    if (allocations || locks) {
        char text[100];
        int n = snprintf(text, sizeof text, "%d runs: %ld allocations or frees, %ld locks\n", RUNS, allocations, locks);
        syscall(SYS_write, 1, text, (size_t)n);
        syscall(SYS_exit_group, 1);
    }
    syscall(SYS_exit_group, forbidden ? 0 : 77);
}
