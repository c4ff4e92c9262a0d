/* rt_session.h: a session, and what its objects share: the runtime (rt_all.c), the machinery for
 * values that are no tensors (rt_object.c), and that for GPUs (rt_gpu.c), which are linked only into
 * models that need them.
 *
 * A session is two blocks of memory: this struct with its tables (laid out once by create), and the
 * arena, which grows only when the caller's shapes do. Values that depend on shapes have one home,
 * `dims`; kernel arguments are copies of dims and buffer addresses in `slot`, which set_dim and
 * set_ptr keep up to date through lists of uses. Invariant: between two calls of settle() only
 * `dirty` dims may differ from what the slots and addresses say. */
#ifndef ACCELC_RT_SESSION_H
#define ACCELC_RT_SESSION_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "call.h"

#define RT_ALIGN 64      /* of buffers; also the largest vector */
#define RT_MEM_ALIGN 128 /* of what we allocate: two cache lines, which CPUs fetch together */
#define RT_PAGE 4096     /* a read past a buffer is harmless as long as it stays in a page */
#define RT_MAX_THREADS 256
#define RT_LATE_MANY                                                                               \
    (-1) /* value of Sess.def: set by several steps, or by one that is not RT_DIMS */

typedef struct accelc_session Sess;

typedef union {
    void *p;
    int64_t v;
} Slot; /* one kernel argument; kernels see an array of either */

typedef struct {
    char *p;    /* the memory, or NULL */
    size_t cap; /* bytes at p */
    bool lent;  /* p is the caller's: never freed, never grown */
    uint64_t twin; /* the same on the device, 0: none yet; rt_gpu.c's alone */
    size_t twin_cap;
} Block;

enum { ON_HOST = 1, ON_DEVICE = 2 }; /* where the bytes of a buffer are */

typedef struct { /* an input as this run sees it: the caller's value, or the session's state */
    const int64_t *dims; /* `rank` sizes, or NULL: absent */
    const void *data;
    size_t bytes; /* what the caller says is there */
    bool device;  /* data is an address on the session's device */
} Given;

typedef struct {       /* where an output of this run goes */
    void *user;        /* the caller's buffer, or NULL */
    size_t user_bytes; /* its capacity */
    bool device;       /* wanted on the device; `user` is an address there */
    bool direct;       /* kernels write to `user` */
    const void *src;   /* after the run: the value, in the session's memory unless direct */
    size_t bytes;      /* after the run: its size */
} Taken;

typedef struct {                          /* one member of the team */
    _Alignas(128) _Atomic uint64_t claim; /* last phase in which this member's part was taken */
    _Atomic uint32_t awake; /* 0: sleeps or never came, others may take its parts at once */
    int32_t fail_step;      /* first kernel that failed here in this phase, -1 none */
    int32_t fail_part;      /* the part it failed in */
    int32_t fail_code;      /* what it returned */
    struct accelc_session *session;
} Member;

typedef struct {                         /* see threads.c */
    _Alignas(128) _Atomic uint64_t gate; /* number of the open phase << 16 | its parts */
    _Alignas(128) _Atomic uint32_t left; /* parts of it that are not finished */
    _Atomic uint32_t sleepers;           /* members that sleep, or are about to */
    _Alignas(128) uint32_t pc, next;     /* the open phase: its first step, the step after it */
    _Atomic uint32_t failed;             /* some member has fail_step >= 0 */
    _Atomic uint32_t stop;               /* destroy: workers leave */
    uint32_t n;                          /* parts that a phase is cut into at most */
    uint32_t nworker;                    /* threads of our own, members 1 .. nworker */
    int64_t spin_ns, yield_ns;           /* a waiter spins, then yields, then sleeps */
    bool foreign; /* members are the caller's threads (gang executor, OpenMP) */
    pid_t pid;    /* workers do not survive a fork */
    Member *member;
    pthread_t *thread;
} Team;

struct accelc_session {
    const rt_bundle *bundle;
    const rt_model *model;
    const accelc_desc *desc; /* may be NULL in tests */
    accelc_config cfg;
    accelc_exec exec; /* cfg.exec points here */
    bool dry;         /* of accelc_rt1_sizes: nothing is allocated or run */
    /* the plan, with its offsets resolved */
    const rt_plan *plan;
    const rt_dimop *dimop;
    const rt_buf *buf;
    const rt_io *in, *out;
    const int32_t *iodim, *arg;
    const rt_type *type;
    const rt_map *maps;
    const rt_iobind *iobind;
    const rt_guard *guard;
    const rt_step *step;
    const char *str;
    uint32_t nbuf, nin, nout, nstep, narg, niodim, nuse;
    /* sizes: tables with ndim entries */
    int64_t *dims;
    int32_t *def;     /* who sets it: 0 entry, k > 0 the k-th RT_DIMS step, or RT_LATE_MANY */
    uint8_t *sym_set; /* nsym: defined while binding inputs */
    uint8_t *is_dirty;
    int32_t *dirty; /* the dirty ones */
    uint32_t ndirty;
    int32_t *dim_use; /* ndim + 1: first use of each in `use` */
    int32_t *buf_use; /* nbuf + 1: likewise for buffers */
    int32_t *use;     /* >= 0: slot, < 0: buffer ~x whose size or offset it is */
    bool mixed;       /* some dim is set both on entry and by a step */
    Slot *slot;       /* narg, parallel to `arg` */
    /* buffers: tables with nbuf entries */
    void **ptr;
    rt_value **value;         /* of VALUE buffers; only if the model has calls */
    int32_t *child, *sibling; /* views of each buffer, as lists; -1 ends */
    int32_t *home;            /* block that it lies in, -1: none of ours */
    int64_t *at;              /* offset there */
    int64_t *room;            /* bytes reserved there, slack included */
    int32_t *order;           /* scratch of place_group */
    int32_t *member_of;       /* group of buffers that are placed together, -1: none */
    uint8_t *grew;            /* maxblock: holds a buffer whose size changed */
    Block *block; /* 0: arena; 1 .. ngroup-1: groups of late buffers; then single ones */
    uint32_t nblock, ngroup, maxblock;
    int64_t late_bytes; /* in blocks other than the arena, held against mem_limit */
    Block scratch;
    int64_t scratch_each; /* bytes per member now */
    int32_t *scratch_dim; /* the different scratch dims of steps */
    uint32_t nscratch_dim;
    /* inputs and outputs */
    bool bound;                  /* in_dims is what dims and addresses were made for */
    int64_t *in_dims, *out_dims; /* niodim: parallel to iodim */
    size_t *in_bytes;            /* nin: bytes that the shape needs */
    Given *given;
    Taken *taken;
    int32_t *in_stage;  /* nin: block for a copy with slack behind it, -2: not made yet */
    int32_t *out_extra; /* nout: block for a result that has no memory of its own, -2 likewise */
    int32_t
        *state_block; /* nin: block that keeps the state, -1: the port has none, -2: not made yet */
    uint8_t *state_set;  /* nin: it holds one */
    uint8_t *is_state;   /* nout: it feeds a state */
    int64_t *state_dims; /* parallel to in_dims */
    int32_t *in_root;    /* nin: the INPUT buffer of the port, -1: not used */
    int32_t *out_root;   /* nout: the OUTPUT buffer of the port, -1: the result lies elsewhere */
    bool done;           /* `taken` describes a finished run */
    uint64_t runs;       /* since create or reset */
    _Atomic uint32_t busy, cancel;
    accelc_status status; /* of the run in progress */
    Team team;
    char error[512];
    void *map; /* the weights file, if there is one */
    uint64_t weights_end; /* where in the weights the last one ends that the plan uses: levels share them */
    size_t map_bytes;
    struct Objects *objects; /* rt_object.c's own */
    struct Device *device;   /* rt_gpu.c's own; NULL: everything runs on the host */
    int32_t where;           /* its number as in accelc_value.device; 0: the host */
    uint8_t *valid;          /* nbuf: of roots in a session with a device: ON_HOST, ON_DEVICE, both; neither
                                until something is written in this run */
    uint8_t *state_valid;    /* nin: likewise of the state */
};

/* rt_host.c: functions of the runtime that rt_object.c uses, too. */
#define fail accelc_rt1_fail
accelc_status fail(Sess *s, accelc_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *accelc_rt1_mem_get(const accelc_config *c, size_t bytes);
void accelc_rt1_mem_put(const accelc_config *c, void *p);
int accelc_rt1_dtype_bits(int dtype);
size_t accelc_rt1_dtype_align(int dtype);
const char *accelc_rt1_dtype_name(int dtype);
void accelc_rt1_bits_unpack(const uint8_t *from, uint8_t *to, int64_t n, int dtype);
void accelc_rt1_bits_pack(const uint8_t *from, uint8_t *to, int64_t n, int dtype);
accelc_status accelc_rt1_shape_bytes(Sess *s, const char *what, const char *name,
                                     const int64_t *dims, int rank, int dtype, size_t *bytes);
void accelc_rt1_set_ptr(Sess *s, int32_t b, void *p);
accelc_status accelc_rt1_block_new(Sess *s, int32_t *b, int64_t bytes);
bool accelc_rt1_tail_is_near(const void *p, int64_t bytes, int64_t slack);
accelc_status accelc_rt1_kernel_failed(Sess *s, const rt_step *st, int32_t code);
accelc_status accelc_rt1_set_dims(Sess *s, const int64_t *dims); /* all of them, with what depends on them */

/* What the runtime calls in a model that has calls, or ports that are no tensors (rt_model.calls).
 * All but `size` and `close` return a status whose message is set. */
struct rt_object_ops {
    const char *(*check)(const Sess *s,
                         const rt_step *st); /* of RT_CALL, RT_SIZE: what is wrong, or NULL */
    accelc_status (*begin)(Sess *s,
                           const accelc_value *in); /* a run: forgets the last one's values, takes
                                                       inputs that are no tensors */
    accelc_status (*call)(Sess *s, const rt_step *st);
    int64_t (*size)(const Sess *s, const rt_step *st); /* of RT_SIZE */
    accelc_status (*finish)(
        Sess *s, uint32_t port); /* taken[port].src: an accelc_value, a tree in our memory */
    void (*close)(Sess *s);
};

/* What the runtime calls in a session of a model with kernels of a GPU (rt_model.gpu). Every buffer has
 * a place on the host and, as soon as it is needed, one on the device; a step finds its operands where
 * it runs, and what it writes is valid there alone. Steps of the device only wait for each other:
 * `host`, `read`, `move` and `wait` wait for them, and tell (ACCELC_EDATA) if a guard failed in one. */
struct rt_gpu_ops {
    /* Whether device cfg->device can run it, as far as can be told without loading anything. */
    accelc_status (*probe)(const rt_gpu *g, const accelc_config *cfg, char *msg, size_t n);
    accelc_status (*open)(Sess *s, const void *weights); /* close, even if it fails */
    void (*close)(Sess *s);
    void (*begin)(Sess *s);                       /* a run: no buffer has a value but the weights */
    accelc_status (*input)(Sess *s, uint32_t i);  /* given[i] is on the device, or ptr[] is it on the host */
    accelc_status (*steps)(Sess *s, uint32_t *pc); /* runs the step there and those after it in its phase */
    accelc_status (*host)(Sess *s, const rt_step *st); /* a kernel or call that runs on the host next */
    accelc_status (*copy)(Sess *s, const rt_step *st); /* RT_COPYBUF; sizes are checked */
    accelc_status (*get)(Sess *s, int32_t b);     /* the host has buffer b after the next wait */
    accelc_status (*read)(Sess *s, int32_t b, int64_t offset, void *to, size_t n);
    accelc_status (*result)(Sess *s, uint32_t i); /* the device has output i: taken[i].src becomes its address;
                                                     before: NULL, or where it is on the host if not in its buffer */
    accelc_status (*move)(Sess *s, void *to, bool to_device, const void *from, bool from_device, size_t n);
    accelc_status (*wait)(Sess *s);
    bool (*replay)(Sess *s); /* inputs and outputs are bound: does all steps as in an earlier run that was the same, or else nothing */
    void (*ran)(Sess *s);    /* the steps have been done one by one */
};
static inline bool on_device(const Sess *s, const rt_step *st) {
    return st->op == RT_KERNEL && s->model->gpu && s->model->gpu->kernel[st->kernel].name;
}
static inline bool on_host(const Sess *s, const rt_step *st) {
    return st->op == RT_KERNEL && !on_device(s, st);
}
static inline int32_t root_of(const Sess *s, int32_t b) {
    while (s->buf[b].kind == RT_BUF_VIEW) b = s->buf[b].index;
    return b;
}
static inline int64_t view_offset(const Sess *s, int32_t b) {
    const rt_buf *v = &s->buf[b];
    return v->offset + (v->offset_dim >= 0 ? s->dims[v->offset_dim] : 0);
}
static inline bool is_object(const Sess *s, const rt_io *io) {
    return s->buf[io->buf].kind == RT_BUF_VALUE;
}
static inline int64_t align_up(int64_t x) { return (x + RT_ALIGN - 1) & ~(int64_t)(RT_ALIGN - 1); }
static inline int64_t buf_bytes(const Sess *s, int32_t b) { return s->dims[s->buf[b].bytes_dim]; }
#endif
