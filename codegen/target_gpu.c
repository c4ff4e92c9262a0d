/* target_gpu.c: NVIDIA's architectures as numbers. A thread is one lane, so there are no vectors. Code for sm_80 runs on everything
 * newer; what ends in a letter runs on that architecture alone. Driver floors, by the version of PTX: 7.8 is CUDA 11.8, 8.4 is 12.4. */
#include <stdlib.h>
#include <string.h>

#include "codegen.h"
#include "runtime/abi.h"

#define FLAGS (F_FMA | F_F16C | F_ROUND | F_BLOCKS)
#define L1 (128 << 10)
#define L2 (40 << 20)
#define SHARED (99 << 10) /* what all of them have */

static const Target arch[] = {
    {"sm_80", "+ptx78", "sm_80", FLAGS, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 163 << 10, NULL},
    {"sm_86", "+ptx78", "sm_86", FLAGS, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 99 << 10, NULL},
    {"sm_89", "+ptx78", "sm_89", FLAGS, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 99 << 10, NULL},
    {"sm_90", "+ptx78", "sm_90", FLAGS, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 227 << 10, NULL},
    {"sm_90a", "+ptx84", "sm_90a", FLAGS | F_WGMMA, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 227 << 10, NULL},
};
#define NARCH (sizeof arch / sizeof arch[0])

/* Levels, the best last: what programs and kernels are made for, and what prints the same kernels as twins, which run where x86-64-v3 does: it has
 * the same arithmetic. All architectures without F_WGMMA share one; their texts differ in what LLVM makes of it. */
#define TWIN "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+cx16"
static const struct { Target cuda, twin; } level[] = {
    {{"cuda", "+ptx78", "sm_80", FLAGS, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, SHARED, NULL},
     {"gpu-emulated", TWIN, "znver3", FLAGS, 4, 16, L1, L2, L2, 1, MACHINE_EMULATED, SHARED, NULL}},
    {{"cuda-sm_90a", "+ptx80", "sm_90a", FLAGS | F_WGMMA, 4, 255, L1, L2, L2, 1, MACHINE_NVPTX, 227 << 10, NULL},
     {"gpu-emulated-sm_90a", TWIN, "znver3", FLAGS | F_WGMMA, 4, 16, L1, L2, L2, 1, MACHINE_EMULATED, 227 << 10, NULL}},
};

const Target *target_gpu(const char *name) {
    for (size_t k = 0; k < NARCH; k++)
        if (!strcmp(name, arch[k].name)) return &arch[k];
    return NULL;
}

uint32_t target_gpu_arch(const Target *t) {
    char *end;
    uint32_t number = (uint32_t)strtoul(t->name + strlen("sm_"), &end, 10);
    return number | (*end ? RT_GPU_ONLY : 0);
}

static int level_of(const Target *t) { return (t->flags & F_WGMMA) != 0; }

const Target *target_gpu_level(const Target *t) { return &level[level_of(t)].cuda; }

const Target *target_gpu_oldest(const Target *t) {
    size_t k = 0;
    while (level_of(&arch[k]) != level_of(t)) k++;
    return &arch[k];
}

const Target *target_of_gpus(const char *name) {
    if (!strcmp(name, "cuda")) return &level[0].cuda;
    for (size_t k = 0; k < sizeof level / sizeof *level; k++)
        if (!strcmp(name, level[k].twin.name)) return &level[k].twin;
    return NULL;
}

const char *target_gpu_names(void) { return "sm_80, sm_86, sm_89, sm_90, sm_90a"; }
