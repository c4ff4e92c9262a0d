/* kernel.h: Kernel (WHAT a fused group computes), Sched (HOW), templates, and the emission hooks shared by templates.
 *
 * A Kernel is a list of stages over buffers, in execution order. Each stage says: for every point of its axes,
 * out[r][at] (comb)= body[r]. Bodies load from kernel buffers at index expressions over the stage's axes. Buffers of kind
 * KB_TEMP live inside the kernel: their home (registers, scratch) is the template's choice. The order in which a reduction
 * combines is part of the meaning: ascending over the reduced axes, row-major (first reduced axis slowest), split only as `Order` says,
 * so that results never depend on threads, tiles or vector width. */
#ifndef ACCELC_KERNEL_H
#define ACCELC_KERNEL_H
#include "ir/ir.h"
#include "ir/target.h"
#include "lir.h"

#define K_AXES 20
#define K_RES MAX_FOLDED
#define K_BUFS 64 /* sets of buffers are 64 bits */
typedef enum { KB_IN, KB_OUT, KB_TEMP } KBufKind;
typedef struct KBuf {
    uint8_t kind, rank;
    uint8_t align;          /* bytes that the buffer's base is a multiple of */
    DType dtype;
    Dim dim[MAX_RANK];      /* logical shape */
    Dim stride[MAX_RANK];   /* in elements; 0 where the dim is 1 (a bcast dim: select(dim == 1, 0, s)) */
    Dim offset;             /* first element, from the buffer's base */
    Val val;                /* graph value (KB_IN: operand; KB_OUT: result) */
    const ConstData *data;  /* constant operand, else NULL */
    bool final;             /* a result of the model that none of its kernels reads */
} KBuf;
typedef enum { AX_PAR, AX_RED, AX_SCAN } AxKind;
typedef struct KAxis { Dim extent; uint8_t kind; } KAxis;
typedef struct KOut { uint16_t buf; uint8_t rank, oob; /* OOB_NEVER, OOB_DROP; SCATTER: OOB_FAIL */ Expr at[MAX_RANK]; } KOut;
typedef enum { ST_NEST, ST_SCAN, ST_SCATTER, ST_SORT, ST_TOPK, ST_COMPACT, ST_RANDOM } StageKind;
typedef struct Stage {
    uint8_t kind, naxis, nres;
    KAxis axis[K_AXES];
    Expr body[K_RES];           /* one value per result and point; E_LOAD operands are kernel buffers */
    Expr comb[K_RES];           /* with RED/SCAN axes: E_ARG(0..n-1) accumulator, E_ARG(n..2n-1) new; else none */
    Scalar init[K_RES];
    DType acc[K_RES];           /* accumulator types; the result is cast to its buffer's type on store */
    KOut out[K_RES];
    const Node *node;           /* SORT, TOPK, COMPACT, RANDOM, SCAN: attributes */
    uint32_t guard;             /* SCATTER: an index is out of range; COMPACT: no room */
} Stage;
typedef struct Kernel {
    Ctx *c;
    const char *name;           /* for people: "conv_bias_relu" */
    const char *nodes;          /* source nodes, comma separated */
    KBuf buf[K_BUFS];
    uint16_t nbuf, nstage;
    Stage *stage;               /* arena array */
    Loc loc;
} Kernel;
typedef struct Sched { const struct Tmpl *tmpl; int64_t par[16]; } Sched; /* template and its numbers, names in tmpl->params */

/* The tensor of a map of the code (lir_map): its first element, the sizes of its axes, and how many elements lie from one to the next; axis 0 has
 * step 1, the others steps that are multiples of 16 bytes. Of windows: the coordinates, offsets apart, of the first and last point along each axis,
 * and the way from one to the next, at most KMAP_MOST_STRIDE. What hardware has bits for: `first`, and last - (extent - 1), from -n to n - 1,
 * offsets below 2 n, where n = kmap_reach(rank). */
enum { KMAP_MOST_STRIDE = 8 };
typedef struct KWindow { Dim first, last; uint8_t stride; } KWindow;
typedef struct KMap { uint32_t buf /* of lir_buf */; Dim offset, extent[LIR_AXES], step[LIR_AXES]; KWindow window[LIR_WINDOW]; } KMap;
static inline int32_t kmap_reach(int rank) { return rank == 3 ? 1 << 15 : rank == 4 ? 1 << 7 : 1 << 4; }

/* factor times the product of the sizes: bytes that a kernel moves of an argument, or operations that it computes (buf: none). All that have the same
 * buf are added up. */
typedef struct Work { Val buf; double factor; uint8_t ndim; Dim dim[K_AXES]; } Work;

/* What the plan needs to know besides the code. */
typedef struct KernelCode {
    Lir *lir;
    Sched sched;
    Dim tasks;                  /* number of tasks */
    Dim scratch;                /* bytes per thread, 64-byte multiple; constant 0 if none */
    int64_t grain;              /* least tasks worth a thread */
    Val *buf; uint32_t nbuf;    /* argument order of lir_buf: graph values */
    const ConstData **data;     /* per argument: a constant to be read instead of the value, or NULL; NULL: none at all */
    uint64_t writes;            /* bit k: buffer k may be written; bit 63: that and all that follow */
    Dim *dim; uint32_t ndim;    /* argument order of lir_dim */
    KMap *map;                  /* lir_nmap(lir) */
    int64_t slack;              /* bytes that loads may read beyond the end of any operand (never written) */
    double cycles;              /* estimated, whole kernel, at typical sizes */
    const char *product;        /* as tuned_schedule tells it */
    const Work *work; uint32_t nwork; /* for tools that measure */
} KernelCode;

/* lower.c: a `kernel` group of the final graph -> Kernel. storage: per value of the outer graph (ir/storage.h). */
struct Storage;
Kernel *kernel_lower(Ctx *c, Graph *outer, const Node *group, const struct Storage *storage);
void kernel_print(Buf *b, const Kernel *k);
bool kernel_verify(const Kernel *k);

/* sched.c: the table of templates; picks the cheapest candidate; row 0 (nest) takes everything. */
typedef struct Emit Emit;
typedef struct Tmpl {
    const char *name, *params;  /* "mr nv kc" */
    uint32_t features;          /* F_* that the target must have */
    bool (*match)(const Kernel *k, const Target *t);
    int (*candidates)(const Kernel *k, const Target *t, Sched *out, int max);
    double (*cost)(const Kernel *k, const Sched *s, const Target *t); /* cycles on one core at typical sizes */
    void (*build)(Emit *e);     /* emits e->l; sets e->code->tasks, scratch, grain, slack */
} Tmpl;
/* Lower half: choose, build, verify. forced: "NAME [PARAMETER=VALUE ..]", preferred wherever the template matches and has such a candidate;
 * sched_check: whether it is one, else a message. */
KernelCode *kernel_compile(Ctx *c, const Kernel *k, const Target *t, const char *forced);
bool sched_check(Ctx *c, const char *forced);
/* tuned.c: the schedule of the nearest row, or NULL. *product: the sizes of a product by blocks of a GPU, as rows of measurements have them; NULL: it
 * is none. */
const char *tuned_schedule(const Kernel *k, const Target *t, const char **product);
void sched_print(Buf *b, const Sched *s); /* gemm mr=6 nv=2 kc=256 */

/* emit.c, emit_memory.c, emit_reduce.c: the hooks. A Point is where a stage's body is evaluated: one value per axis, one axis possibly vectorised. */
typedef struct Point {
    LVal axis[K_AXES];          /* i64 scalars; for the vector axis: coordinate of lane 0 */
    int8_t vaxis;               /* vectorised axis or -1 */
    uint16_t lanes;             /* 1 if vaxis < 0 */
    LVal mask;                  /* active lanes, or none = all */
    uint32_t inside;            /* bit d: index d of the load that is reduced is in range: emit_inside */
} Point;
typedef LVal (*TempFn)(Emit *e, void *data, const Expr *at, const Point *p); /* value of a TEMP buffer at the point's element */
struct Emit {
    Ctx *c; Lir *l; const Kernel *k; const Sched *s; const Target *t; KernelCode *code;
    TempFn temp[K_BUFS]; void *temp_data[K_BUFS];   /* register homes; NULL: the buffer has a pointer in `ptr` */
    LVal ptr[K_BUFS];                               /* base pointers: lir_buf for IN/OUT (set up by emit_begin), scratch homes set by the template */
    uint8_t aligned, aligned_axis;                  /* accesses that depend on the axis are at multiples of so many elements; 0: not known */
    struct EmitMemo *memo;
    struct EmitShared *shared;                      /* emit_share_loads */
    LVal *held; uint16_t hold;                      /* emit_store leaves the value for buffer hold - 1 in *held; its caller stores it */
    uint64_t streamed;                              /* results that are not to stay in caches: emit_stream.c */
    bool near;                                      /* lanes that gather look whether they are neighbours first, as many rows share the answer */
};
void emit_begin(Emit *e);                           /* parameters: collects Dims used by the kernel as lir_dim arguments */
LVal emit_dim(Emit *e, Dim d);                      /* i64 */
/* Value of expression x of stage s at point p; lanes = p->lanes if it varies along the vector axis, else a scalar. All
 * scalar.def operations are expanded (math.h); f16/bf16 computed in f32 and rounded after each operation. Loads: contiguous along the vector
 * axis -> vector load (masked by p->mask), invariant -> scalar load, else strided/gather; OOB policy honoured. Shared
 * subexpressions of one call sequence are emitted once between emit_memo_reset calls (call it on entering a new region or point). */
LVal emit_expr(Emit *e, const Stage *s, Expr x, const Point *p);
LVal emit_vec(Emit *e, const Stage *s, Expr x, const Point *p); /* the same, splatted to p->lanes */
void emit_memo_reset(Emit *e);
/* Store result r of stage s (v already of acc type; cast to the buffer's type) at point p. Honours OOB_DROP and p->mask. */
void emit_store(Emit *e, const Stage *s, int r, LVal v, const Point *p);
/* Element offset (from the buffer's base) of an access, split as base + lane * step along p->vaxis; step -1: not affine, then base + *vec[lane]. */
LVal emit_address(Emit *e, const Stage *s, uint16_t buf, int rank, const Expr *at, const Point *p, int64_t *step, LVal *vec);
/* Runs every stage from `first` on whose axes equal those of stage `of` pointwise (epilogue), with stage `of`'s results bound as values acc[]. */
void emit_epilogue(Emit *e, int of, const LVal *acc, const Point *p);
/* kernel.c. Affine view of an access for matching: offset = rest + sum coef[a] * axis[a] in elements; false if not affine. */
typedef struct Affine { Dim coef[K_AXES]; Expr rest; bool has[K_AXES]; } Affine;
bool access_affine(const Kernel *k, const Stage *s, uint16_t buf, int rank, const Expr *at, Affine *out);
bool index_affine(const Kernel *k, const Stage *s, Expr x, Affine *out); /* the same of one index */

/* math.c: expansions with documented ULP (CODEGEN.md). x: f32 or f64, any lanes. */
LVal math_op(Lir *l, const Target *t, SOp op, DType ty, int n, const LVal *arg); /* any scalar.def op, total semantics */
LVal math_cast(Lir *l, const Target *t, LVal v, DType from, DType to);          /* as IR.md says: saturation, NaN -> 0, f8, f16 without F16C .. */
LVal math_cast_rint(Lir *l, const Target *t, LVal v, int z, DType to);          /* of rint(v) + z; v is f32, |z| < 2^16, to has at most 16 bits */
#endif
