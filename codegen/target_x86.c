/* target_x86.c: the x86-64 levels as numbers, and which of them this machine is. Features come from
 * CPUID, never from the name of the CPU: virtual machines report names whose features they do not
 * have.
 *
 * The named levels are constants, so that what is compiled for them is the same everywhere; "host"
 * is the best level that this machine supports, with the sizes of its own caches. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#include "codegen.h"

#define V1 "+cx8,+fxsr,+mmx,+sse,+sse2"
#define V3                                                                                         \
    V1 ",+cx16,+sahf,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+"      \
       "lzcnt,+movbe,+xsave"
#define V4 V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
#define FLAGS3 (F_SIMD | F_SSE2 | F_AVX2 | F_FMA | F_F16C | F_ROUND)

/* Caches: what most machines of a level have. tune: schedules measured best for explicit vectors;
 * the default tunings of the levels split 512-bit operations or spill. */
static const Target level[] = {
    {"x86-64", V1, "x86-64", F_SIMD | F_SSE2, 16, 16, 32 << 10, 256 << 10, 1 << 20, 1, MACHINE_X86, 0, NULL},
    {"x86-64-v3", V3, "znver3", FLAGS3, 32, 16, 32 << 10, 512 << 10, 4 << 20, 2, MACHINE_X86, 0, NULL},
    {"x86-64-v3+avxvnni", V3 ",+avxvnni", "znver3", FLAGS3 | F_VNNI, 32, 16, 32 << 10, 1 << 20,
     2 << 20, 2, MACHINE_X86, 0, NULL},
    {"x86-64-v4", V4, "sapphirerapids", FLAGS3 | F_AVX512, 64, 32, 32 << 10, 1 << 20, 2 << 20, 2, MACHINE_X86, 0, NULL},
    {"x86-64-v4+vnni", V4 ",+avx512vnni", "sapphirerapids", FLAGS3 | F_AVX512 | F_VNNI, 64, 32,
     32 << 10, 1 << 20, 2 << 20, 2, MACHINE_X86, 0, NULL},
    {"x86-64-v4+vnni+amx", V4 ",+avx512vnni,+amx-tile,+amx-int8", "sapphirerapids",
     FLAGS3 | F_AVX512 | F_VNNI | F_AMX, 64, 32, 48 << 10, 2 << 20, 2 << 20, 2, MACHINE_X86, 0, NULL},
};
#define NLEVEL (sizeof level / sizeof level[0])

const char *target_names(void) {
    return "host, x86-64, x86-64-v3, x86-64-v3+avxvnni, x86-64-v4, x86-64-v4+vnni, x86-64-v4+vnni+amx, cuda";
}

/* Whether list (comma separated) enables the feature at `want` ("+name", up to a comma). */
static bool enabled(const char *list, const char *want, size_t n) {
    for (const char *s = list; s && *s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (!strncmp(s, want, n) && (s[n] == ',' || s[n] == 0)) return true;
    return false;
}
static bool supports(const char *have, const char *need) {
    for (const char *s = need; *s;) {
        size_t n = strcspn(s, ",");
        if (!enabled(have, s, n)) return false;
        s += n + (s[n] == ',');
    }
    return true;
}

/* Linux lends tile registers to processes that ask, and not to all: what compiles here should run here. */
static bool tiles_allowed(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }

static uint32_t cache(int name, uint32_t fallback) {
    long n = sysconf(name) & ~4095L;
    return n >= 4096 && n <= INT32_MAX ? (uint32_t)n : fallback;
}

/* What one model may count on of the third-level cache that processor 0 shares with others: half of one that a few cores have, and little of one of
 * a whole socket, most of which belongs to neighbours. Linux tells its size; sysconf adds up those of a socket. */
static uint32_t third_level(uint32_t fallback) {
    enum { MIB = 1 << 20, SMALL = 64, LEAST = 1, OF_SMALL = 16, OF_LARGE = 8 };
    long kib = 0;
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (!f) return fallback;
    if (fscanf(f, "%ldK", &kib) != 1) kib = 0;
    fclose(f);
    const long mib = kib >> 10, most = mib > SMALL ? OF_LARGE : OF_SMALL;
    return mib / 2 < LEAST ? fallback : (uint32_t)(mib / 2 < most ? mib / 2 : most) * MIB;
}

static Target host; /* written once, by find_host */
static pthread_once_t host_found = PTHREAD_ONCE_INIT;
static void find_host(void) {
    char *have = LLVMGetHostCPUFeatures();
    host = level[0];
    for (size_t k = 1; k < NLEVEL; k++)
        if (supports(have, level[k].features) && (!(level[k].flags & F_AMX) || tiles_allowed())) host = level[k];
    LLVMDisposeMessage(have);
    host.l1 = cache(_SC_LEVEL1_DCACHE_SIZE, host.l1);
    host.l2 = cache(_SC_LEVEL2_CACHE_SIZE, host.l2);
    host.l3 = third_level(host.l3);
}

const Target *target_find(const char *name) {
    if (!strcmp(name, "host")) {
        pthread_once(&host_found, find_host);
        return &host;
    }
    for (size_t k = 0; k < NLEVEL; k++)
        if (!strcmp(name, level[k].name)) return &level[k];
    return target_of_gpus(name);
}
