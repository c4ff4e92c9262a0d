/* rt_cpu.c: which level of a fat artefact this CPU can run, and how many CPUs this process may use.
 * Features come from cpuid and xgetbv, never from the model name: virtual machines lie about it. A
 * level is a name such as "x86-64-v3", optionally followed by "+feature" for each extra it needs.
 * Nothing here reads the environment. */
#include "rt_internal.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { /* bits of the set returned by cpu_features */
       CPU_V2 = 1,
       CPU_V3 = 2,
       CPU_V4 = 4,
       CPU_VNNI = 8,
       CPU_AVXVNNI = 16,
       CPU_BF16 = 32,
       CPU_FP16 = 64,
       CPU_AMX = 128
};
static const struct {
    const char *name;
    unsigned bit;
} cpu_extra[] = {
    {"vnni", CPU_VNNI}, {"avxvnni", CPU_AVXVNNI}, {"bf16", CPU_BF16},
    {"fp16", CPU_FP16}, {"amx", CPU_AMX},
};

static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Tile registers must be asked for, once per process. */
static bool amx_allowed(void) {
#ifdef SYS_arch_prctl
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
#else
    return false;
#endif
}

static bool all(uint32_t reg, uint32_t mask) { return (reg & mask) == mask; }

static unsigned cpu_features(bool ask_amx) {
    uint32_t a, b, c, d, b7 = 0, c7 = 0, d7 = 0, a71 = 0, cx = 0, top = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    uint32_t c1 = c;
    if (__get_cpuid_count(7, 0, &top, &b, &c, &d)) {
        b7 = b, c7 = c, d7 = d;
        if (top >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
    }
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) cx = c;
    unsigned f = 0;
    /* sse3 ssse3 cx16 sse4.1 sse4.2 popcnt */
    if (all(c1, 1u | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23)) f |= CPU_V2;
    uint64_t os = all(c1, 1u << 27) ? xcr0() : 0;
    bool ymm = (os & 6) == 6, zmm = (os & 0xe6) == 0xe6, tile = (os & 0x60000) == 0x60000;
    /* fma movbe avx f16c; bmi1 avx2 bmi2; lzcnt */
    if ((f & CPU_V2) && ymm && all(c1, 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29) &&
        all(b7, 1u << 3 | 1u << 5 | 1u << 8) && all(cx, 1u << 5))
        f |= CPU_V3;
    /* avx512 f dq cd bw vl */
    if ((f & CPU_V3) && zmm && all(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31))
        f |= CPU_V4;
    if (ymm && all(a71, 1u << 4)) f |= CPU_AVXVNNI;
    if (zmm && all(c7, 1u << 11)) f |= CPU_VNNI;
    if (zmm && all(a71, 1u << 5)) f |= CPU_BF16;
    if (zmm && all(d7, 1u << 23)) f |= CPU_FP16;
    if (ask_amx && tile && all(d7, 1u << 22 | 1u << 24 | 1u << 25) && amx_allowed()) f |= CPU_AMX;
    return f;
}

static bool level_runs(const char *level) {
    static const char base[] = "x86-64";
    if (strncmp(level, base, sizeof base - 1) != 0) return false;
    const char *p = level + sizeof base - 1;
    unsigned have = cpu_features(strstr(level, "+amx") != NULL), need = 0;
    if (p[0] == '-' && p[1] == 'v') {
        if (p[2] < '2' || p[2] > '4') return false;
        need = p[2] == '2' ? CPU_V2 : p[2] == '3' ? CPU_V3 : CPU_V4;
        p += 3;
    }
    while (*p == '+') {
        size_t len = strcspn(++p, "+"), i = 0, n = sizeof cpu_extra / sizeof *cpu_extra;
        while (i < n &&
               !(strlen(cpu_extra[i].name) == len && strncmp(cpu_extra[i].name, p, len) == 0))
            i++;
        if (i == n) return false;
        need |= cpu_extra[i].bit;
        p += len;
    }
    return *p == 0 && (have & need) == need;
}
#else
static bool level_runs(const char *level) { return strncmp(level, "x86-64", 6) != 0; }
#endif

/* The first model of the bundle (best first) from number *next on that this CPU runs, or the one of
 * level c->cpu, on the host or a device as the config says; *next becomes its number + 1. A failure
 * (*model = NULL) has a message. Devices are not looked at. */
static accelc_status level_next(const rt_bundle *m, const accelc_config *c, uint32_t *next,
                                const rt_model **model, char *msg, size_t n) {
    char list[128];
    size_t used = 0;
    uint32_t placed = 0;
    list[0] = 0;
    *model = NULL;
    for (uint32_t i = *next; i < m->nmodel; i++) {
        const rt_model *x = m->model[i];
        if (x->gpu ? c->device < 0 : c->device > 0) continue;
        placed++;
        if (c->cpu ? strcmp(c->cpu, x->level) == 0 : level_runs(x->level)) {
            *next = i + 1;
            if (!c->cpu || level_runs(c->cpu)) {
                *model = x;
                return ACCELC_OK;
            }
            snprintf(msg, n, "this CPU does not have level \"%s\"", c->cpu);
            return ACCELC_ECPU;
        }
        int k = snprintf(list + used, sizeof list - used, "%s%s", placed > 1 ? ", " : "", x->level);
        if (k > 0 && (size_t)k < sizeof list - used) used += (size_t)k;
    }
    *next = m->nmodel;
    if (!placed && c->device > 0)
        snprintf(msg, n, "the model has no code for devices, only for the host");
    else if (!placed && c->device < 0)
        snprintf(msg, n, "the model has code for devices only, none for the host");
    else if (c->cpu)
        snprintf(msg, n, "the model has no code for level \"%s\", only for %s", c->cpu, list);
    else
        snprintf(msg, n, "the model was compiled for %s, which this CPU does not have", list);
    return placed ? ACCELC_ECPU : ACCELC_EDEVICE;
}

static size_t file_text(const char *path, char *text, size_t n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, n - 1);
    if (fd >= 0) close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

/* CPUs' worth of time that one cgroup allows, rounded up; 0: no limit. */
static int quota_of(const char *v2, const char *v1_quota, const char *v1_period) {
    char t[64], *rest;
    if (v2 && file_text(v2, t, sizeof t)) {
        long long q = strtoll(t, &rest, 10), p = strtoll(rest, NULL, 10);
        return q > 0 && p > 0 ? (int)((q + p - 1) / p) : 0;
    }
    if (v1_quota && file_text(v1_quota, t, sizeof t)) {
        long long q = strtoll(t, NULL, 10),
                  p = file_text(v1_period, t, sizeof t) ? strtoll(t, NULL, 10) : 0;
        return q > 0 && p > 0 ? (int)((q + p - 1) / p) : 0;
    }
    return 0;
}

static int cpus_quota(void) {
    char self[512], path[600];
    int best = quota_of("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                        "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    file_text("/proc/self/cgroup", self, sizeof self);
    char *own = strncmp(self, "0::/", 4) == 0 ? self + 3 : NULL; /* version 2: one line */
    if (own) own[strcspn(own, "\n")] = 0;
    while (own && own[1]) { /* every group up to the root may limit us */
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", own);
        int q = quota_of(path, NULL, NULL);
        best = q > 0 && (best == 0 || q < best) ? q : best;
        char *slash = strrchr(own, '/');
        slash[slash == own] = 0;
    }
    return best;
}

/* At least 1, at most RT_MAX_THREADS. */
static int cpus_usable(void) {
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    else { /* more CPUs than cpu_set_t holds */
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > RT_MAX_THREADS ? RT_MAX_THREADS : (int)online;
    }
    int quota = cpus_quota();
    if (quota > 0 && quota < n) n = quota;
    return n < 1 ? 1 : n > RT_MAX_THREADS ? RT_MAX_THREADS : n;
}
