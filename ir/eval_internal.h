/* eval_internal.h: what the files of the reference evaluator share.
 *
 * A value is an EVal: an immutable, reference-counted strided view of a buffer (so that permute,
 * slice, broadcast and window cost nothing), or a list of values. Scalars are computed in strips of
 * Cells: floats of every type as double, integers and bool as int64 (u64 by its bits), elements of
 * other types by address. Every function that can fail reports once through ev_fail() and returns
 * false or NULL; nothing here allocates from the arena while a graph runs. */
#ifndef ACCELC_EVAL_INTERNAL_H
#define ACCELC_EVAL_INTERNAL_H
#include "ir.h"

typedef struct EBuf {
    char *data;
    size_t bytes;
    uint32_t refs;
    bool owned;                 /* from malloc; else it belongs to the caller or to a constant */
} EBuf;
typedef struct EVal {
    uint8_t kind;               /* TypeKind */
    DType dtype;
    int rank;
    int64_t dim[MAX_RANK], stride[MAX_RANK]; /* strides in elements, may be 0 or negative */
    char *base;                 /* address of element 0,0,.. */
    EBuf *buf;
    struct EVal **elem;         /* SEQ: elements; OPT: one or none; MAP: keys, values */
    int64_t nelem;
    uint32_t refs;
} EVal;
typedef struct EDraw { const Node *node; uint64_t runs; } EDraw;
typedef struct Ev {
    Ctx *c;
    const Node *node;           /* being evaluated: place of messages */
    const Graph *g;             /* its graph */
    int64_t live, limit;        /* bytes of buffers now, and allowed (0: no limit) */
    int64_t budget;             /* scalar steps left; only folding is limited */
    int64_t *sym;               /* value of each symbol */
    bool *known;
    uint32_t nsym;
    uint64_t seed;              /* session seed of unseeded random nodes */
    EvalCall call;              /* functions of the runtime, or NULL */
    EDraw *draw;                /* how often each random node ran */
    uint32_t ndraw;
    int depth;                  /* of regions */
    bool quiet;                 /* folding: failure is an answer, not a message */
    bool failed;                /* ev_fail was called */
} Ev;
typedef bool (*EvFn)(Ev *e, const Node *n, EVal *const *in, EVal **out);

/* ==== eval_value.c =========================================================================== */
/* Scratch from malloc, for free(); NULL after a message. */
void *ev_tmp(Ev *e, int64_t n, size_t size);
bool ev_size(Ev *e, DType t, int rank, const int64_t *dim, int64_t *bytes); /* checked */
int ev_width(DType t);                              /* bytes of an element (packed types: 1) */
EVal *ev_new(Ev *e, DType t, int rank, const int64_t *dim); /* dense, uninitialised */
EVal *ev_view(Ev *e, const EVal *v);                /* a new header, to be changed by the caller */
EVal *ev_list(Ev *e, TypeKind kind, int64_t n);     /* elements NULL, to be set by the caller */
EVal *ev_ref(EVal *v);
void ev_unref(Ev *e, EVal *v);                      /* NULL is allowed */
/* Row-major without gaps: v itself with one more reference, or a copy. */
EVal *ev_dense(Ev *e, EVal *v);
bool ev_is_dense(const EVal *v);
int64_t ev_count(const EVal *v);
/* The element at a row-major position of an integer or bool tensor. */
int64_t ev_int(const EVal *v, int64_t flat);
/* A value over the bytes of a tensor, which outlives it; a dense copy of a value in the arena (bytes that are not of the evaluator are
 * shared). NULL after a message. */
EVal *ev_from_tensor(Ev *e, const Tensor *t, int depth);
Tensor *ev_to_tensor(Ev *e, EVal *v);
/* The bytes of t, or of its first element. */
const ConstData *ev_pack(Ctx *c, const Tensor *t, bool splat);
bool ev_const(Ev *e, const Node *n, EVal *const *in, EVal **out);

/* ==== eval.c ================================================================================= */
bool ev_fail(Ev *e, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* false after a message when the budget is used up. */
bool ev_spend(Ev *e, int64_t steps);
/* The value of a dim; a message if a symbol of it is not known. */
bool ev_dim(Ev *e, Dim d, int64_t *out);
bool ev_known(const Ev *e, Dim d, int64_t *out);    /* the same without a message */
/* d is v: defines a lone symbol that is not known, else checks. */
bool ev_define(Ev *e, Dim d, int64_t v, const char *what, int axis);
bool ev_bind_type(Ev *e, const Type *t, const EVal *v, const char *what);
/* Symbols defined inside stay known after ev_graph, and are forgotten after ev_region. */
bool ev_graph(Ev *e, Graph *g, EVal *const *in, EVal **out);
bool ev_region(Ev *e, Graph *g, EVal *const *in, EVal **out);
/* v, or the optional that holds it if the type wants one. v is consumed. */
EVal *ev_optional(Ev *e, const Type *t, EVal *v);

/* ==== eval_strip.c =========================================================================== */
typedef union Cell {
    double f;
    int64_t i;
    const char *p;
} Cell;
void cells_load(DType t, Cell *d, const char *p, int64_t stride, int64_t n);
void cells_load_at(DType t, Cell *d, const char *p, const int64_t *off, int64_t n);
void cells_store(DType t, char *p, int64_t stride, const Cell *s, int64_t n);
void cells_store_at(DType t, char *p, const int64_t *off, const Cell *s, int64_t n);
void cells_cast(DType from, DType to, Cell *d, const Cell *s, int64_t n); /* d may be s */
/* To values of type t: rounds floats, wraps integers. */
void cells_round(DType t, Cell *d, int64_t n);
Cell cell_zero(DType t);                            /* also the empty string, complex zero */
Cell cell_of(Scalar s);
Scalar cell_scalar(DType t, Cell v);
double cell_max(double a, double b);                /* NaN if either is, -0 < +0 */
double cell_min(double a, double b);

/* A row-major walk over a box along which several operands advance by their own strides; axes that
 * advance together for all operands are merged. Positions are linear indices of the box. */
typedef struct Walk {
    int rank, nop;
    int64_t dim[MAX_RANK], total;
    int64_t (*stride)[MAX_RANK];
} Walk;
/* Strides are 0; the caller fills them in, then merges. */
bool walk_init(Ev *e, Walk *w, int rank, const int64_t *dim, int nop);
void walk_merge(Walk *w);
void walk_free(Walk *w);
void walk_load(const Walk *w, int op, DType t, const char *base, int64_t pos, int64_t n, Cell *d);
void walk_store(const Walk *w, int op, DType t, char *base, int64_t pos, int64_t n, const Cell *s);
/* Offsets in elements, as integers. */
void walk_offsets(const Walk *w, int op, int64_t pos, int64_t n, Cell *d);
/* All elements of v, of any type. */
bool ev_copy(Ev *e, const EVal *v, char *dst, const int64_t *dst_stride);

/* ==== eval_tape.c: scalar expressions over strips ============================================ */
typedef struct TapeIns {
    uint8_t kind, op, oob, nsrc;    /* ExprKind, SOp, Oob */
    DType t, at;                    /* of the result, of the first argument */
    uint32_t src, dst;              /* first of nsrc entries of Tape.src; slot */
    uint32_t operand, guard;        /* loads */
} TapeIns;
typedef struct Tape {
    TapeIns *ins;
    uint32_t nins;
    uint32_t *src;                  /* slots of arguments */
    uint32_t *res;                  /* slot of each result */
    int32_t *arg;                   /* slot to fill with operand k before each run, -1: not used */
    int32_t axis[MAX_RANK];         /* slot to fill with the coordinate along an axis, or -1 */
    uint32_t nres, nslot;
    int len;                        /* cells per slot: the most a run can take */
    Cell *mem;
} Tape;
/* wide: float operations of narrower types are not rounded (accumulation in double). */
bool tape_build(Ev *e, Tape *t, uint32_t nres, const Expr *body, uint32_t narg,
                const DType *argtype, bool wide);
bool tape_run(Ev *e, const Tape *t, int n, EVal *const *operand);
void tape_free(Tape *t);
static inline Cell *tape_slot(const Tape *t, int64_t s) { return t->mem + s * t->len; }

/* ==== one function per primitive ============================================================= */
bool ev_map(Ev *e, const Node *n, EVal *const *in, EVal **out);        /* eval_map.c */
bool ev_reduce(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_scan(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_contract(Ev *e, const Node *n, EVal *const *in, EVal **out);   /* eval_contract.c */
bool ev_reshape(Ev *e, const Node *n, EVal *const *in, EVal **out);    /* eval_move.c */
bool ev_permute(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_broadcast(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_slice(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_pad(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_concat(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_window(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_update(Ev *e, const Node *n, EVal *const *in, EVal **out);
/* At least one value, along an existing axis. */
bool ev_stack(Ev *e, int64_t n, EVal *const *v, int axis, EVal **out);
bool ev_gather(Ev *e, const Node *n, EVal *const *in, EVal **out);     /* eval_index.c */
bool ev_scatter(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_sort(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_topk(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_compact(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_loop(Ev *e, const Node *n, EVal *const *in, EVal **out);       /* eval_control.c */
bool ev_if(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_group(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_bind(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_guard(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_copy_node(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_shape(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_call(Ev *e, const Node *n, EVal *const *in, EVal **out);
bool ev_seq(Ev *e, const Node *n, EVal *const *in, EVal **out);        /* eval_seq.c */
bool ev_random(Ev *e, const Node *n, EVal *const *in, EVal **out);     /* eval_random.c */
#endif
