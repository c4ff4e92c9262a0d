/* emu_block.h: the block that runs, for emu.c (turns, meetings, memory) and emu_hopper.c (what is done beside the threads' work). The blocks of a
 * cluster run as one: their threads are numbered through, and their memory lies one behind the other.
 *
 * Who has seen what: time counts releases (barriers, arrivals). Each byte of the memory that threads have together has marks of who wrote and who
 * read it last: time << 11 | who, time the one that the next release gets. A thread sees what others did before the last release of theirs that it
 * has acquired: all of them at barriers; others have to be told from one another once there are any (clocks). */
#ifndef ACCELC_TESTS_GPU_EMU_BLOCK_H
#define ACCELC_TESTS_GPU_EMU_BLOCK_H
#include "emu_internal.h"

enum { WARPGROUP = 128, MOST_WARPS = MOST_THREADS / WARP, MOST_GROUPS = MOST_THREADS / WARPGROUP, BARRIERS = 16 };
/* Who: a thread; all of a warp, of a warpgroup; any of a warpgroup (who waited for its products together); what an mbarrier has announced. */
enum { OF_WARP = MOST_THREADS, OF_GROUP = OF_WARP + MOST_WARPS, ANY_OF_GROUP = OF_GROUP + MOST_GROUPS, OF_MBARRIER = ANY_OF_GROUP + MOST_GROUPS };
enum { MOST_RANKS = 8 };
enum { WHO_BITS = 11, WHO_COUNT = 1 << WHO_BITS };
enum { MOST_MBARRIERS = 256, IS_MBARRIER = UINT16_MAX /* flight: no place for anything else */ };

typedef enum {
    READY, BARRIER, CLUSTER_BARRIER, LANE_XOR, LANE_FIRST, LOAD_MATRIX, STORE_MATRIX, MMA, WGMMA, WGMMA_ORDER, REGISTERS,
    FOR_REGISTERS, BARRIER_SOME, MBARRIER, DONE
} State; /* what a thread waits for the others at; from FOR_REGISTERS on: no meeting */

typedef struct Copy {
    uint8_t *to;
    const uint8_t *from;
    uint32_t size, valid, group;
} Copy;
typedef struct Store { /* of a tile */
    const emu_map *map;
    int32_t at[EMU_AXES];
    size_t from;
    uint32_t bytes, group;
} Store;
typedef struct Thread {
    emu_thread t; /* what the kernel sees */
    uint32_t number, rank; /* among those that run; of its block in the cluster */
    void *sp;
    State state;
    uint32_t at;              /* instruction where it waits */
    uint32_t value, mask, in; /* operands of what it waits for */
    const uint8_t *row;
    uint64_t a, b; /* of a product */
    Copy *copy;    /* under way */
    uint32_t ncopy, cap, group;
    Store *store; /* under way */
    uint32_t nstore, store_cap, store_group;
    uint32_t fences; /* that it has made */
    emu_log log;
} Thread;
/* Memory that the threads of a block have together, and marks of its bytes. */
typedef struct Region {
    const char *name;
    uint8_t *base;
    size_t bytes, room; /* room: bytes of all marks */
    uint32_t *wrote, *read[MOST_GROUPS]; /* read: by those of each warpgroup */
    uint32_t *fresh;  /* 0; or thread | (its fences + 1) << 11: it stored that, and no fence for what is done beside the threads has been since */
    uint16_t *flight; /* 1 + thread whose copy is under way to it; IS_MBARRIER */
    uint16_t *busy;   /* products and stores under way that read it */
} Region;

typedef struct Meeting {
    uint32_t here, done; /* threads that wait; that have ended */
    const Thread *first; /* of those that wait */
} Meeting;

typedef struct emu_block {
    const emu_launch *l;
    uint32_t threads, ranks; /* that run; blocks */
    size_t each;             /* bytes of the region from block to block */
    uint32_t time, done;
    struct { uint32_t done, touched; } rank[MOST_RANKS]; /* threads that have ended; mark of who reached into its memory last */
    bool clocks;
    uint32_t *seen; /* [thread][who]: the last release of a thread, the last phase of an mbarrier, that the thread has acquired */
    Region shared, scratch;
    Thread thread[MOST_THREADS], *now;
    Meeting warp[MOST_WARPS], group[MOST_GROUPS], all[MOST_RANKS], cluster; /* of each warp, and, at what they meet for, of all of them besides */
    uint32_t order[MOST_THREADS];
    uint8_t *stacks;
    void *scheduler;
    uint64_t random; /* 0: no seed was given */
    bool counts;
} emu_block;
extern emu_block emu;

static inline Thread *emu_of(emu_thread *t) { return (Thread *)(void *)t; }
_Noreturn void emu_die(const Thread *t, uint32_t at, const char *what);
#define DIE(t, at, ...)                                                                                                                              \
    do {                                                                                                                                             \
        char die_text[400];                                                                                                                          \
        snprintf(die_text, sizeof die_text, __VA_ARGS__);                                                                                            \
        emu_die(t, at, die_text);                                                                                                                    \
    } while (0)
void emu_need(const void *p);
uint32_t emu_below(uint32_t n); /* a random number */
void emu_pause(Thread *t);      /* others have their turn */
/* Waits until all of its warp, warpgroup or block are where it is; the last one performs what they have met for. */
void emu_meet(Thread *t, State s, uint32_t at);
/* The place in the region of bytes [p, p + n) of the thread's block's shared memory. */
size_t emu_place(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what);
void emu_on_device(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what);

/* The same place in block `rank` of the cluster, which the thread reaches. */
size_t emu_reach(const Thread *t, size_t x, uint32_t rank, uint32_t at, const char *what);

/* ---- who has seen what ---- */

uint32_t *emu_seen(uint32_t thread); /* its row of emu.seen; from now on there are clocks */
void emu_release(Thread *t, uint32_t *into);       /* what it has seen and done becomes known to who acquires `into` (WHO_COUNT) */
void emu_acquire(const Thread *t, const uint32_t *from);
bool emu_unseen(uint32_t mark, uint32_t who);      /* by one of them */
/* The first byte of [x, x + n) that others than `who` have touched, unseen by them, ends everything. */
void emu_no_race(const Region *s, const Thread *t, size_t x, uint32_t n, uint32_t who, bool store, uint32_t at, const char *what);
void emu_reads(Region *s, const Thread *t, size_t x, uint32_t n, uint32_t who, uint32_t at, const char *what);
void emu_writes(Region *s, const Thread *t, size_t x, uint32_t n);

/* ---- emu_hopper.c ---- */

void emu_hopper_hooks(emu_thread *t);
void emu_hopper_begin(void);             /* of a block */
void emu_hopper_end(void);               /* what is under way then ends everything */
void emu_hopper_perform(uint32_t group, State s); /* what a warpgroup has met for */
bool emu_hopper_ready(Thread *t);        /* t waits without a meeting: whether it may go on */
void emu_hopper_why(const Thread *t, char *text, size_t n); /* what it waits for, in words */
void emu_hopper_ends(const Thread *t);   /* t has come to its end */
#endif
