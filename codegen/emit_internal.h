/* emit_internal.h: what templates share besides kernel.h. */
#ifndef ACCELC_EMIT_INTERNAL_H
#define ACCELC_EMIT_INTERNAL_H
#include "kernel.h"

/* emit_value.c, emit_reduce.c, emit_memory.c (emit_share_loads), emit.c (emit_keep, emit_forget) */
enum { EMIT_TEMP_SLACK = 256 };                               /* bytes behind a temporary that vectors may read: lanes under a mask are read anyway */
DType reg_type(DType t);                                      /* type that a value of type t has in registers */
LVal reg_cast(Emit *e, LVal v, DType from, DType to);         /* a register value: IR semantics of cast */
LVal emit_combine(Emit *e, const Stage *s, int r, const LVal *acc, const LVal *nw); /* comb[r] on register values of acc types */
/* The body at p combined into acc[nres], in place. A sum of products becomes a fused multiply-add. */
void emit_accumulate(Emit *e, const Stage *s, LVal *acc, const Point *p);
/* Where the body is a load that is neutral out of range: cuts [*lo, *hi) of reduced axis `axis` to where the indices are in range that depend on
 * it, on no later axis and not on the lane. Their bits are set in p->inside, which emit_accumulate heeds. false: nothing to cut. */
bool emit_inside(Emit *e, const Stage *s, int axis, Point *p, LVal *lo, LVal *hi);
/* From here on, vectors that are loaded from operands at the same place, in one region, are loaded once; until called again. */
void emit_share_loads(Emit *e, bool share);
LVal emit_initial(Emit *e, const Stage *s, int r, uint16_t lanes); /* the neutral start of accumulator r */
void emit_parallel_point(const Stage *s, const Point *p, Point *out); /* p indexed by the parallel axes alone, as epilogues want it */
/* Before a loop along the axis that runs at least once: what s computes there without it is computed now, at p, unless it reads `written` buffers or
 * may fail, and remembered until emit_forget. */
void emit_keep(Emit *e, const Stage *s, const Point *p, int axis, uint64_t written);
/* The same before a loop along `row`, which is not the axis of p's lanes, in vectors: indices of elements, bounds and where lanes are near are found
 * once for all its points. */
void emit_keep_columns(Emit *e, const Stage *s, const Point *p, int row);
void emit_forget(Emit *e);
void emit_memo_new(Emit *e);                                  /* e->memo: one that remembers nothing, for points that take turns with others */
int emit_kept(Emit *e, int n);                                /* of the values that are remembered only the first n count; how many did before */
/* A result in registers, for Emit.temp: accumulator type, buffer type. It is loaded at the very point where it was computed. */
typedef struct EmitHeld { LVal v; DType from, to; } EmitHeld;
void emit_instead(Emit *e, int buf, const ConstData *data); /* the code reads that constant, not the operand that the buffer is */
LVal emit_held(Emit *e, void *data, const Expr *at, const Point *p);
void emit_hreduce(Emit *e, const Stage *s, LVal *acc);        /* lanes of the accumulators combined by halves, in place (comb commutes) */

/* emit_parts.c: sums of floats in parts. A loop over `most` iterations that carries count accumulators, each of which gains `terms` per iteration:
 *     Parts p = emit_parts(e, s, most, terms, step, &lo, &hi, count, acc);   opens a loop over parts where the chain is long; lo, hi, acc: of a part
 *     LFor f = lir_for(l, lo, hi, step, count, acc);                         if p.size.each, an iteration is a part: it starts from emit_initial_all,
 *     .. lir_for_end(l, &f, next, acc);                                      and ends with emit_add_part(e, s, count, f.c, next)
 *     emit_parts_end(e, s, &p, count, acc);
 * emit_terms: of the reduced axes from `a` on, at most what a part has; lanes_axis has `lanes` chains side by side (-1: none). */
typedef struct PartSize { int64_t rows; bool each; } PartSize; /* rows: iterations of a part; 0: there is only one */
typedef struct Parts { LFor loop; PartSize size; } Parts;
int64_t emit_terms(const Emit *e, const Stage *s, int a, int lanes_axis, int64_t lanes);
PartSize emit_part_size(const Emit *e, const Stage *s, int64_t most, int64_t terms);
Parts emit_parts(Emit *e, const Stage *s, int64_t most, int64_t terms, int64_t step, LVal *lo, LVal *hi, uint32_t count, LVal *acc);
void emit_initial_all(Emit *e, const Stage *s, uint32_t count, LVal *acc); /* of as many lanes as acc has */
void emit_add_part(Emit *e, const Stage *s, uint32_t count, const LVal *sum, LVal *acc); /* acc = sum with acc */
void emit_parts_end(Emit *e, const Stage *s, Parts *p, uint32_t count, LVal *acc);

/* emit_across.c: emit_epilogue of stage 0 for `rows` neighbours along its axis `row`, whose results are acc[i * step]; first: all axes of the stage.
 * Results that lie along the rows rather than the lanes are transposed before they are stored. */
void emit_epilogue_rows(Emit *e, int row, const LVal *acc, int step, const Point *first, int rows);

/* gpu_lane.c: v of the thread of the warp whose number differs in the bits of mask */
LVal emit_lane_xor(Lir *l, LVal v, uint32_t mask);

/* emit_task.c: a template's tasks are the points of a box. What is added first runs fastest; *at < count is set by tasks_split:
 *     Tasks t = {0};
 *     tasks_along(&t, blocks, &block);  tasks_points(&t, s, axes, &p);      the coordinates
 *     tasks_begin(e, &t);  tasks_grain(e, cycles);                          e->code->tasks; grain: of cycles, that all tasks take
 *     LFor f = lir_for_tasks(l, ..);  tasks_split(e, &t, f.iv); */
enum { TASK_COORDINATES = K_AXES + 4 };
typedef struct Tasks { int n; Dim count[TASK_COORDINATES]; LVal *at[TASK_COORDINATES]; } Tasks;
void tasks_along(Tasks *t, Dim count, LVal *at);
void tasks_axes(Tasks *t, const Stage *s, const int *axis, int n, LVal *at); /* at[axis[i]], the last of them fastest */
void tasks_points(Tasks *t, const Stage *s, uint32_t axes, Point *p);        /* along the axes in the bit set, the last one fastest */
void tasks_begin(Emit *e, const Tasks *t);
void tasks_grain(Emit *e, double cycles);
void tasks_split(Emit *e, const Tasks *t, LVal task);

/* emit_stream.c */
bool result_is_final(Graph *g, const struct Storage *storage, Val v); /* a result of g that nothing in it reads, or a part of one */
uint64_t emit_streamed(const Emit *e);                        /* buffers whose lines are written past the caches */

/* emit_table.c: is the f32 expression x a function of the low four bits of i32 expression *bits alone? entry[16]: its values. */
bool emit_is_table(const Emit *e, Expr x, Expr *bits, Scalar *entry);

/* random.c: element i (flat, i64) of a random node, as a function of the symbols RANDOM_SEED and RANDOM_RUN; sequential
 * generators are no such function but a stage. */
#define RANDOM_SEED "accelc.seed"   /* seed of the session */
#define RANDOM_RUN "accelc.run"     /* runs before this one */
bool random_sequential(const Node *n);
Expr random_at(Ctx *c, const Node *n, Expr i);

/* ukr_special.c: stages of kind SORT, TOPK, COMPACT and RANDOM at a point of their parallel axes; bytes of scratch that it
 * needs there, from `scratch` on (64-byte aligned). */
Dim special_scratch(const Emit *e, const Stage *s);
void special_stage(Emit *e, int st, Point *p, LVal scratch);

/* kernel.c: questions about kernels */
typedef void (*LoadFn)(void *data, const ExprInfo *load);
void expr_loads(Ctx *c, Expr e, LoadFn fn, void *data);       /* every E_LOAD below e, once each, inner ones too */
int expr_operations(Ctx *c, Expr e);                          /* scalar operations of e, shared ones once, without those in addresses */
void stage_extents(const Stage *s, Dim *extent);              /* of its axes, as index expressions want them */
uint64_t expr_bufs(Ctx *c, Expr e);                           /* bit set of kernel buffers loaded below e */
bool kernel_is_total(const Kernel *k);                        /* no load fails, no element is wider than 64 bits: for blocks of a GPU */
/* Stages after `of` that are pointwise over its parallel axes, read its results (or those of such stages) at the very point, and
 * otherwise only what earlier stages wrote: they can run on its accumulators. Their number is the bit. None runs twice: a stage that
 * runs on those of an earlier one is not in the mask, and has none. */
uint64_t epilogue_mask(const Kernel *k, int of);
/* Merges neighbouring axes wherever every access walks them as one, and cuts those in two that accesses divide by the length of a block; parallel:
 * parallel axes come before reduced ones. Call before choosing a schedule. */
void kernel_collapse(Kernel *k, bool parallel);
void kernel_moves(Kernel *k);                                 /* moves.c */

/* work.c: fills code->work */
void kernel_work(Ctx *c, const Kernel *k, KernelCode *code);

/* ukr_stream.c: is the access the same at all points along the axis, or at neighbours, n of which from a multiple of n on lie at a multiple of
 * their size? *bits: of an element, 0 if it is the same. */
bool access_in_pieces(const Kernel *k, const Stage *s, uint16_t buf, const Expr *at, Oob oob, int axis, int n, unsigned *bits);

/* ukr_nest.c, nest_axis.c */
extern const Tmpl tmpl_nest;
int nest_prefix(const Kernel *k);                             /* leading parallel axes that all stages share: what may be the task space */
bool nest_commutes(const Kernel *k, const Stage *s);          /* one result, whose combiner is one commutative operation */
uint32_t scatter_own_axes(const Kernel *k, const Stage *s);   /* bit a: updates that differ in axis a go to different elements */
double nest_stage_cost(const Kernel *k, const Stage *s, const Target *t); /* cycles */
/* Temporaries read by anything but an epilogue (of each stage: its epilogue_mask) live in scratch, one task's worth; bytes of that. e->k
 * becomes a copy that has their places. */
Dim nest_temps(Emit *e, int prefix, const uint64_t *epilogue);
void nest_points(Emit *e, int from, const Point *p);          /* the only stage, a map, along its axes from `from` on, at p of the others */
void nest_run(Emit *e, int prefix, int64_t chunk);            /* build: the first `prefix` axes are the tasks; or chunks of the one parallel axis */
#endif
