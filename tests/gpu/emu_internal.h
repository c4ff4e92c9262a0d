/* emu_internal.h: the emulator of blocks, in parts: emu.c (threads, their meetings, memory), emu_hopper.c (mbarriers, copies of tiles,
 * products of a warpgroup), emu_matrix.c (what a warp or warpgroup computes), emu_count.c (costs). */
#ifndef ACCELC_TESTS_GPU_EMU_INTERNAL_H
#define ACCELC_TESTS_GPU_EMU_INTERNAL_H
#include <stdbool.h>
#include <stddef.h>

#include "emu.h"

enum { WARP = 32, MOST_THREADS = 1024, SHARED_ALIGN = 1024 };

/* One launch: every cluster, in some order. What goes wrong ends the program with a message. */
typedef struct emu_launch {
    const char *name;
    emu_kernel *run;
    const void *params;
    uint32_t grid, block;
    size_t shared;
    uint8_t *scratch; /* on the device: scratch_bytes of each block */
    size_t scratch_bytes;
    bool together;                                  /* threads of a block meet */
    bool (*on_device)(const void *p, size_t bytes); /* whether these bytes are in one allocation */
    uint32_t cluster; /* blocks that run together, from a multiple of that on, and reach each other's memory; 0: each runs alone */
} emu_launch;
void emu_run(const emu_launch *l);
extern uint64_t emu_steps; /* loads, stores and meetings of threads so far */

/* emu_matrix.c: the words of 32 threads: row[t] is the row that thread t names. */
void emu_load_matrix(const uint8_t *const row[WARP], bool transposed, uint32_t (*const word[WARP])[EMU_WORDS]);
void emu_store_matrix(const uint8_t *const row[WARP], bool transposed, uint32_t (*const word[WARP])[EMU_WORDS]); /* the rows are written */
void emu_mma(uint32_t in, uint32_t (*const word[WARP])[EMU_WORDS]);
void emu_wgmma(uint32_t in, const uint8_t *a, const uint8_t *b, uint32_t columns, uint32_t (*word)[EMU_FRAGMENTS]); /* of 128 threads */

/* emu_count.c: what accesses of a warp cost, per instruction; printed at the end of a launch. The threads of a warp log theirs until they meet. */
typedef enum { COST_SHARED, COST_DEVICE, COST_COUNT } Cost;
typedef struct emu_log {
    struct emu_entry *entry;
    uint32_t n, cap;
} emu_log;
void emu_count(emu_log *l, uint32_t at, Cost c, const void *p, uint32_t bytes);
void emu_count_warp(emu_log *thread, size_t stride, uint32_t n); /* their logs are stride bytes apart; they are empty then */
void emu_count_print(const char *kernel);
#endif
