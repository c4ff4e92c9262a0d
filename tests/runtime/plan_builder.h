/* plan_builder.h: writes rt_plans by hand, for tests. Dims are made first-come; symbols must be
 * made before any other dim. Every helper returns the index of what it made. pb_finish puts all
 * tables into one block as codegen/plan.c does. Sizes are generous fixed tables: a test that
 * overflows them stops. */
#ifndef PLAN_BUILDER_H
#define PLAN_BUILDER_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

#define PB_MAX 512
enum { F32 = 1, U8 = 2, I32 = 6, I64 = 7, STR = 8, BOOL = 9 };

typedef struct {
    rt_plan p;
    rt_dimop dimop[PB_MAX];
    rt_buf buf[PB_MAX];
    rt_io in[16], out[16];
    int32_t iodim[PB_MAX], arg[PB_MAX * 4];
    rt_iobind iobind[PB_MAX];
    rt_guard guard[PB_MAX];
    rt_step step[PB_MAX];
    rt_type type[PB_MAX];
    rt_map map[PB_MAX];
    char str[PB_MAX * 16];
} Pb;

static inline Pb *pb_new(void) {
    Pb *b = calloc(1, sizeof *b);
    b->p = (rt_plan){.magic = RT_MAGIC, .version = RT_VERSION};
    b->p.str.n = 1; /* offset 0: "" */
    return b;
}

static inline uint32_t pb_next(uint32_t *n, uint32_t max) {
    if (*n >= max) {
        fprintf(stderr, "plan_builder: table full\n");
        abort();
    }
    return (*n)++;
}

static inline int32_t pb_str(Pb *b, const char *s) {
    uint32_t at = b->p.str.n, len = (uint32_t)strlen(s) + 1;
    if (at + len > sizeof b->str) abort();
    memcpy(b->str + at, s, len);
    b->p.str.n += len;
    return (int32_t)at;
}

static inline int32_t pb_dim(Pb *b) { return (int32_t)b->p.ndim++; }

static inline int32_t pb_sym(Pb *b) {
    if (b->p.nsym != b->p.ndim) abort();
    b->p.nsym++;
    return pb_dim(b);
}

static inline int32_t pb_op_to(Pb *b, int32_t dst, uint32_t op, int32_t x, int32_t y, int32_t z) {
    uint32_t i = pb_next(&b->p.dimop.n, PB_MAX);
    b->dimop[i] = (rt_dimop){.op = op, .dst = dst, .a = x, .b = y, .c = z};
    return dst;
}

static inline int32_t pb_op(Pb *b, uint32_t op, int32_t x, int32_t y) {
    return pb_op_to(b, pb_dim(b), op, x, y, -1);
}

static inline int32_t pb_const(Pb *b, int64_t v) {
    int32_t d = pb_op(b, RT_DIM_CONST, -1, -1);
    b->dimop[b->p.dimop.n - 1].imm = v;
    return d;
}

/* All dimops and guards made so far belong to the entry. */
static inline void pb_entry(Pb *b) {
    b->p.entry_dimops = b->p.dimop.n;
    b->p.entry_guards = b->p.guard.n;
}

static inline int32_t pb_buf(Pb *b, uint8_t kind, uint8_t dtype, int32_t bytes_dim) {
    uint32_t i = pb_next(&b->p.buf.n, PB_MAX);
    b->buf[i] = (rt_buf){
        .kind = kind, .dtype = dtype, .index = -1, .offset_dim = -1, .bytes_dim = bytes_dim};
    return (int32_t)i;
}

static inline int32_t pb_arena(Pb *b, uint8_t dtype, int32_t bytes_dim, int32_t first,
                               int32_t last) {
    int32_t i = pb_buf(b, RT_BUF_ARENA, dtype, bytes_dim);
    b->buf[i].offset = -1;
    b->buf[i].first = first;
    b->buf[i].last = last;
    return i;
}

static inline int32_t pb_view(Pb *b, int32_t root, int64_t offset, int32_t offset_dim,
                              int32_t bytes_dim) {
    int32_t i = pb_buf(b, RT_BUF_VIEW, b->buf[root].dtype, bytes_dim);
    b->buf[i].index = root;
    b->buf[i].offset = offset;
    b->buf[i].offset_dim = offset_dim;
    return i;
}

/* A port of rank 0 to 4 whose dims are those given; symbols are defined by their first use, range
 * [lo, hi]. */
static inline rt_io pb_port(Pb *b, const char *name, uint16_t dtype, int rank, const int32_t *dims,
                            int32_t buf, int64_t lo, int64_t hi, int in) {
    rt_io io = {.name = pb_str(b, name),
                .dtype = dtype,
                .kind = ACCELC_TENSOR,
                .rank = rank,
                .dim = (int32_t)b->p.iodim.n,
                .buf = buf,
                .type = -1};
    for (int k = 0; k < rank; k++) {
        uint32_t i = pb_next(&b->p.iodim.n, PB_MAX);
        int first = in && dims[k] < (int32_t)b->p.nsym;
        for (uint32_t j = 0; j < i; j++) first &= b->iobind[j].sym != dims[k];
        b->iodim[i] = dims[k];
        b->iobind[i] = (rt_iobind){.sym = first ? dims[k] : -1, .lo = lo, .hi = hi};
    }
    b->p.iobind.n = b->p.iodim.n;
    return io;
}

static inline int32_t pb_in(Pb *b, const char *name, uint16_t dtype, int rank, const int32_t *dims,
                            int32_t bytes) {
    int32_t buf = pb_buf(b, RT_BUF_INPUT, (uint8_t)dtype, bytes);
    b->buf[buf].index = (int32_t)b->p.in.n;
    b->in[pb_next(&b->p.in.n, 16)] = pb_port(b, name, dtype, rank, dims, buf, 0, -1, 1);
    return buf;
}

static inline int32_t pb_out(Pb *b, const char *name, uint16_t dtype, int rank, const int32_t *dims,
                             int32_t bytes) {
    int32_t buf = pb_buf(b, RT_BUF_OUTPUT, (uint8_t)dtype, bytes);
    b->buf[buf].index = (int32_t)b->p.out.n;
    b->out[pb_next(&b->p.out.n, 16)] = pb_port(b, name, dtype, rank, dims, buf, 0, -1, 0);
    return buf;
}

static inline int32_t pb_guard(Pb *b, int32_t cmp, int32_t x, int32_t y, const char *msg) {
    uint32_t i = pb_next(&b->p.guard.n, PB_MAX);
    b->guard[i] = (rt_guard){.cmp = cmp, .a = x, .b = y, .msg = pb_str(b, msg)};
    return (int32_t)i;
}

static inline rt_step *pb_step(Pb *b, uint8_t op) {
    rt_step *s = &b->step[pb_next(&b->p.step.n, PB_MAX)];
    *s =
        (rt_step){.op = op, .scratch = -1, .nodes = pb_str(b, "node"), .name = pb_str(b, "kernel")};
    return s;
}

/* Arguments end with -1 each: buffers, then dims. */
static inline rt_step *pb_kernel(Pb *b, int32_t kernel, int32_t tasks, int32_t grain, int barrier,
                                 const int32_t *bufs, const int32_t *dims) {
    rt_step *s = pb_step(b, RT_KERNEL);
    s->kernel = kernel;
    s->tasks = tasks;
    s->grain = grain;
    s->barrier = (uint8_t)barrier;
    s->arg = (int32_t)b->p.arg.n;
    for (; *bufs >= 0; bufs++, s->nbuf++) b->arg[pb_next(&b->p.arg.n, PB_MAX * 4)] = *bufs;
    for (; *dims >= 0; dims++, s->ndim++) b->arg[pb_next(&b->p.arg.n, PB_MAX * 4)] = *dims;
    return s;
}

/* Kernel s has a map of a matrix of 4-byte elements, its buffer number `arg`; tiles are single rows of 4 elements. */
static inline void pb_map(Pb *b, rt_step *s, uint16_t arg, int32_t zero, int32_t rows, int32_t columns, int32_t stride) {
    uint32_t i = pb_next(&b->p.map.n, PB_MAX);
    b->map[i] = (rt_map){.arg = arg, .rank = 2, .bytes = 4, .box = {4, 1}, .offset = zero, .extent = {columns, rows}, .stride = {zero, stride}};
    if (!s->nmap++) s->lo = (int64_t)i;
}

static inline rt_step *pb_ctl(Pb *b, uint8_t op, int32_t x, int32_t y, int64_t imm) {
    rt_step *s = pb_step(b, op);
    s->a = x;
    s->b = y;
    s->imm = imm;
    return s;
}

#define LIST(...) ((const int32_t[]){__VA_ARGS__ - 1})
#define DIMS(...) ((const int32_t[]){__VA_ARGS__})

/* The plan as one block; frees the builder. */
static inline const rt_plan *pb_finish(Pb *b) {
    size_t at = (sizeof(rt_plan) + 15) & ~(size_t)15;
    char *out = calloc(1, sizeof *b + 256);
#define PUT(field)                                                                                 \
    do {                                                                                           \
        memcpy(out + at, b->field, b->p.field.n * sizeof *b->field);                               \
        b->p.field.off = (uint32_t)at;                                                             \
        at = (at + b->p.field.n * sizeof *b->field + 15) & ~(size_t)15;                            \
    } while (0)
    PUT(dimop);
    PUT(buf);
    PUT(in);
    PUT(out);
    PUT(iodim);
    PUT(iobind);
    PUT(guard);
    PUT(step);
    PUT(arg);
    PUT(type);
    PUT(map);
    PUT(str);
#undef PUT
    b->p.bytes = (uint32_t)at;
    memcpy(out, &b->p, sizeof b->p);
    free(b);
    return (const rt_plan *)(const void *)out;
}
#endif
