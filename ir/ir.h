/* ir.h: the vocabulary of accelc. Every shared type, and the prototypes of each file of ir/ under its own heading.
 * ir/ depends on nothing of ours. IR.md describes the semantics; this header says who owns what.
 *
 * Memory: one Ctx per compilation owns one arena; everything reachable from a Ctx lives until ctx_free(). Nothing is
 * freed before. Handles (Dim, Expr, Val, Loc) are indices into tables of the Ctx or the Graph; index 0 is "none".
 * Errors: bad input is reported with diag(); constructors then return POISON (index 0), which every constructor and
 * accessor accepts and propagates, so that callers need no error plumbing. A bug of ours is ICE(). */
#ifndef ACCELC_IR_H
#define ACCELC_IR_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct Ctx Ctx;
typedef struct Graph Graph;
typedef struct Node Node;
typedef struct { uint32_t i; } Dim;  /* interned integer expression; 0 = poison */
typedef struct { uint32_t i; } Expr; /* hash-consed scalar expression; 0 = none/poison */
typedef struct { uint32_t i; } Val;  /* value of a Graph; 0 = poison / absent optional operand */
typedef struct { uint32_t i; } Loc;  /* where something came from; 0 = nowhere */
#define MAX_RANK 16
#define MAX_FOLDED 8 /* operands of a reduction, a scan or a sort */

/* ==== base.c: arena, strings, vectors, hashing ==================================================================== */
Ctx *ctx_new(void);
void ctx_free(Ctx *c);
/* Zeroed memory, 64-byte aligned if n >= 4096, else 16. Exhaustion of the limit (or of the machine) ends the
 * compilation: a message and exit status 1 through ctx_fatal. */
void *ctx_alloc(Ctx *c, size_t n);
void *ctx_allocn(Ctx *c, size_t size, size_t n);            /* n objects of that size; a product too large ends as above */
void *ctx_dup(Ctx *c, const void *p, size_t n);
char *ctx_printf(Ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *ctx_str(Ctx *c, const char *s);                 /* interned: equal strings are equal pointers */
const char *ctx_strn(Ctx *c, const char *s, size_t n);
size_t ctx_memory(const Ctx *c);                            /* bytes allocated so far */
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);
#define NEW(c, T) ((T *)ctx_alloc((c), sizeof(T)))
#define NEWN(c, T, n) ((T *)ctx_allocn((c), sizeof(T), (size_t)(n)))
/* A growable vector, memory from the arena: VEC(int) v = {0}; vec_push(c, &v, 3); v.v[0], v.n */
#define VEC(T) struct { T *v; uint32_t n, cap; }
#define vec_push(c, vec, ...) \
    ((vec)->n == (vec)->cap ? vec_grow((c), (void **)&(vec)->v, &(vec)->cap, sizeof *(vec)->v) : (void)0, \
     (void)((vec)->v[(vec)->n++] = (__VA_ARGS__)))
void vec_grow(Ctx *c, void **v, uint32_t *cap, size_t elem);
/* String-keyed map to uint32 (0 = absent). */
typedef struct StrMap { Ctx *c; struct StrEnt *e; uint32_t n, cap; } StrMap;
void strmap_put(StrMap *m, const char *key, uint32_t value); /* key is copied */
uint32_t strmap_get(const StrMap *m, const char *key);
/* A text being built, used by every printer. */
typedef struct Buf { Ctx *c; char *s; size_t n, cap; } Buf;
void buf_printf(Buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_puts(Buf *b, const char *s);
const char *buf_str(Buf *b);

/* ==== diag.c: messages ============================================================================================ */
typedef enum { SEV_ERROR, SEV_UNSUPPORTED, SEV_WARNING, SEV_NOTE } Sev; /* E: bad input, U: unsupported, W, and evidence */
/* A place: `file` model or text file; node index, name, operator as in the source; line/col for text files. */
typedef struct LocInfo { const char *file, *name, *op; int32_t node; uint32_t line, col; int32_t version; } LocInfo;
Loc loc_new(Ctx *c, const LocInfo *info);
const LocInfo *loc_info(const Ctx *c, Loc l); /* never NULL */
/* One line: `model.onnx: node #37 "/layer1/Conv" (Conv-11): error[E0203]: text`. code: "E0203", "U0101", "W...".
 * Messages are kept in the Ctx (in order) and written to stderr by the command; at most 100 are kept. */
void diag(Ctx *c, Sev sev, Loc loc, const char *code, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void diag_note(Ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* evidence line of the last one */
void diag_here(Ctx *c, Loc loc);    /* where messages without a place belong from now on */
uint32_t ctx_errors(const Ctx *c);              /* errors and unsupported so far */
const char *ctx_messages(Ctx *c);               /* all messages, one per line */
bool ctx_message(const Ctx *c, uint32_t k, Sev *sev, Loc *loc, const char **text); /* the k-th that was kept; false: there are no more */
void ctx_fatal(Ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn)); /* resources ended */
void ice(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
#define ICE(...) ice(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond) ((cond) ? (void)0 : ice(__FILE__, __LINE__, "%s", #cond))

/* ==== dtype.c ===================================================================================================== */
typedef enum DType {
    DT_NONE = 0,
#define DTYPE(e, text, n, bits, kind) DT_##e = n,
#include "dtype.def"
#undef DTYPE
    DT_PTR = 31, /* Lir only */
    DT_COUNT = 32
} DType;
const char *dt_name(DType t);
DType dt_parse(const char *s, size_t n); /* DT_NONE if unknown */
unsigned dt_bits(DType t);
bool dt_is_float(DType t);
bool dt_is_half(DType t);   /* f16, bf16 */
bool dt_is_int(DType t);    /* signed or unsigned, not bool */
bool dt_is_signed(DType t); /* signed integers */
bool dt_is_packed(DType t); /* 4- and 2-bit types, stored unpacked (one byte each) in values, packed in consts */
size_t dt_bytes(DType t, int64_t n); /* bytes of n elements as stored in a ConstData: packed types are packed */
/* A scalar of any numeric type: integers in i (sign- or zero-extended), floats in f. */
typedef struct Scalar { DType t; union { int64_t i; double f; }; } Scalar;
Scalar dt_load(DType t, const void *base, int64_t index);     /* element `index` */
void dt_store(DType t, void *base, int64_t index, Scalar s);  /* s.t must be t */
Scalar dt_convert(Scalar s, DType to); /* IR.md "cast": round to nearest even; float->int truncates and saturates, NaN -> 0 */
float dt_round_f32(DType t, float x);  /* x rounded to t (f16, bf16, f8..) and back */

/* ==== dim.c: symbolic dimensions ================================================================================== */
typedef enum { D_POISON, D_CONST, D_SYM, D_ADD, D_MUL, D_FLOORDIV, D_CEILDIV, D_MOD, D_MIN, D_MAX,
               D_BCAST, /* a if a != 1 else b: the result of broadcasting (a guard checks that they fit) */
               D_EQ, D_LT, D_SELECT /* 0/1; select(c, a, b) */ } DimKind;
typedef struct DimInfo { DimKind kind; uint8_t n; Dim arg[3]; int64_t val; /* CONST: value; SYM: symbol id */
                         int64_t lo, hi; int64_t mult; /* known range (hi INT64_MAX: none), and a divisor of the value */ } DimInfo;
typedef struct SymInfo { const char *name; int64_t lo, hi; bool bound; /* defined by a bind node, not an input */
                         int64_t parts; /* 0, or the greatest constant that dim_note_parts() saw it divided by */ } SymInfo;
#define DIM_INF INT64_MAX
Dim dim_const(Ctx *c, int64_t v);
Dim dim_sym(Ctx *c, const char *name, int64_t lo, int64_t hi); /* the symbol of that name; an existing one keeps its range */
Dim dim_fresh(Ctx *c, const char *stem, int64_t lo, int64_t hi); /* a new symbol, name made unique */
void dim_sym_range(Ctx *c, uint32_t sym, int64_t lo, int64_t hi); /* narrow a range (before anything is interned on it) */
void dim_sym_mark_bound(Ctx *c, uint32_t sym);
void dim_note_parts(Ctx *c, Dim d); /* the symbols that d divides by constants: SymInfo.parts */
void dim_forget_parts(Ctx *c);      /* of all symbols */
double dim_typical(Ctx *c, Dim d);  /* dim_guess.c: the value that costs assume: 1 for a batch-like symbol with lower bound 0 .. */
double dim_guess(Ctx *c, Dim d, double more); /* the same, of symbols that nothing bounds `more` times as much */
uint32_t dim_nsyms(const Ctx *c);
const SymInfo *dim_sym_info(const Ctx *c, uint32_t sym);
/* Constructors normalise: sums are flattened, sorted, like terms collected; constants folded with overflow checks
 * (overflow gives poison and one message); floordiv/mod/ceildiv simplify by divisibility and ranges. */
Dim dim_add(Ctx *c, Dim a, Dim b);
Dim dim_sub(Ctx *c, Dim a, Dim b);
Dim dim_mul(Ctx *c, Dim a, Dim b);
Dim dim_floordiv(Ctx *c, Dim a, Dim b);
Dim dim_ceildiv(Ctx *c, Dim a, Dim b);
Dim dim_mod(Ctx *c, Dim a, Dim b);
Dim dim_min(Ctx *c, Dim a, Dim b);
Dim dim_max(Ctx *c, Dim a, Dim b);
Dim dim_bcast(Ctx *c, Dim a, Dim b);
Dim dim_eqv(Ctx *c, Dim a, Dim b);
Dim dim_lt(Ctx *c, Dim a, Dim b);
Dim dim_select(Ctx *c, Dim cond, Dim a, Dim b);
Dim dim_addi(Ctx *c, Dim a, int64_t b);
Dim dim_muli(Ctx *c, Dim a, int64_t b);
const DimInfo *dim_info(const Ctx *c, Dim d);
bool dim_is_const(const Ctx *c, Dim d, int64_t *v);  /* v may be NULL */
bool dim_is(const Ctx *c, Dim d, int64_t v);         /* known to be v */
bool dim_same(const Ctx *c, Dim a, Dim b);           /* known equal (normal forms identical) */
bool dim_differ(const Ctx *c, Dim a, Dim b);         /* known different (constants, or disjoint ranges) */
int64_t dim_lo(const Ctx *c, Dim d);
int64_t dim_hi(const Ctx *c, Dim d);
bool dim_divisible(const Ctx *c, Dim d, int64_t by);
Dim dim_subst(Ctx *c, Dim d, uint32_t sym, Dim with);
void dim_each_sym(const Ctx *c, Dim d, void (*fn)(void *data, uint32_t sym), void *data); /* calls fn for each symbol that d mentions */
bool dim_eval(const Ctx *c, Dim d, const int64_t *sym, int64_t *out); /* sym[id]; false on overflow or division by 0 */
void dim_print(Buf *b, const Ctx *c, Dim d);         /* N, 10, 2*N+1, floordiv(N,2), bcast(N,M) */
Dim dim_parse(Ctx *c, const char **s);               /* the same grammar; unknown names become symbols >= 0 */
/* A fact that must hold at run time and is assumed from then on: a == b. Unifies symbols where possible: after it,
 * dim_same(a, b) holds if one side was a lone symbol. Rewrites nothing already interned; canonical form follows links. */
void dim_unify(Ctx *c, Dim a, Dim b);
bool dim_unifies(Ctx *c, Dim a, Dim b, uint32_t *sym); /* whether it would define a symbol, and which */
/* The same of a <= b, if both are sums of products, and quotients by constants, of symbols of graph inputs: min, max and comparisons
 * of sizes use it. */
void dim_assume_le(Ctx *c, Dim a, Dim b);
/* d with its bound symbols shielded from dim_unify, before or after: what BIND's symbol and the dims of a GUARD must be, or
 * unification would make the guard compare a thing with itself. (Input symbols are checked where inputs enter.) */
Dim dim_pin(Ctx *c, Dim d);

/* ==== types ======================================================================================================= */
typedef enum { TY_TENSOR, TY_SEQ, TY_OPT, TY_MAP } TypeKind;
typedef struct Type {
    uint8_t kind;             /* TypeKind */
    uint8_t dtype;            /* TENSOR: element; MAP: key */
    uint8_t rank;             /* TENSOR */
    const Dim *dim;           /* TENSOR: rank dims */
    const struct Type *elem;  /* SEQ, OPT, MAP: element. Sizes in it are constants, or poison: any size */
} Type;
/* Ranks that only the element of a sequence, optional or map may have; no dims. NONE: there is no element (yet). */
enum { RANK_NONE = 0xfe, RANK_ANY = 0xff };
static inline int type_ndim(const Type *t) { return t->rank > MAX_RANK ? 0 : t->rank; } /* dims that are there */
Type type_tensor(Ctx *c, DType t, int rank, const Dim *dim); /* dim is copied */
Type type_consts(Ctx *c, DType t, int rank, const int64_t *dim);
/* A sequence or optional of such elements: symbolic sizes become "any". */
Type type_list(Ctx *c, TypeKind kind, const Type *elem);
Type type_unranked(DType t, int rank);                        /* RANK_NONE or RANK_ANY */
/* The type of what is either a or b. Sizes that differ become poison; ranks may differ in elements alone. */
bool type_join(Ctx *c, const Type *a, const Type *b, Type *out);
bool type_same(const Ctx *c, const Type *a, const Type *b);
bool type_covers(const Ctx *c, const Type *wide, const Type *t); /* elements: every value of type t is one of type wide */
Dim type_count(Ctx *c, const Type *t);                        /* number of elements */
bool type_const_dims(const Ctx *c, const Type *t, int64_t *out); /* true if all are constants */
void type_print(Buf *b, const Ctx *c, const Type *t);         /* f32[N,3,224,224] */

/* ==== expr.c: scalar expressions ================================================================================== */
typedef enum { S_NONE,
#define SCALAR(e, text, n, rule, flags) S_##e,
#include "scalar.def"
#undef SCALAR
    S_COUNT } SOp;
typedef enum { E_NONE, E_CONST, E_ARG, E_AXIS, E_DIM, E_OP, E_CAST, E_BITCAST, E_LOAD } ExprKind;
typedef enum { OOB_NEVER, OOB_VALUE, OOB_CLAMP, OOB_FAIL, OOB_DROP } Oob;
/* OOB_NEVER: proven in range. VALUE: reads the load's pad value. CLAMP: index clamped. FAIL: the run ends with the
 * guard's message (index in `guard`). DROP: a store is skipped. Negative indices never wrap here; importers add dims. */
typedef struct ExprInfo {
    uint8_t kind, dtype, op, oob;   /* ExprKind, result DType, SOp for E_OP, Oob for E_LOAD */
    uint16_t narg;                  /* E_OP, E_CAST, E_LOAD (indices, then the pad value if OOB_VALUE) */
    uint32_t index;                 /* E_ARG: operand; E_AXIS: axis; E_DIM: Dim; E_LOAD: operand (or Kernel buffer) */
    uint32_t guard;                 /* E_LOAD with OOB_FAIL: message index in the Ctx (loc + text), see expr_guard */
    const Expr *arg;
    Scalar val;                     /* E_CONST */
} ExprInfo;
/* In a graph, E_ARG(k) is operand k of the map at the current point (operands broadcast to the domain), E_AXIS(a) the
 * coordinate (i64) along axis a of the domain, E_LOAD(k, idx..) an element of operand k at explicit coordinates.
 * In a Kernel stage only E_LOAD (on kernel buffers), E_AXIS (stage axes), E_DIM and constants occur. */
Expr expr_const(Ctx *c, Scalar s);
Expr expr_int(Ctx *c, DType t, int64_t v);
Expr expr_float(Ctx *c, DType t, double v); /* rounded to t; integer types are allowed (converted) */
Expr expr_arg(Ctx *c, uint32_t k, DType t);
Expr expr_axis(Ctx *c, uint32_t a);
Expr expr_dim(Ctx *c, Dim d);               /* i64 */
Expr expr_op(Ctx *c, SOp op, Expr a, Expr b, Expr d); /* unused arguments {0}; checks types; folds constants and identities */
Expr expr_opn(Ctx *c, SOp op, int n, const Expr *arg);
Expr expr_cast(Ctx *c, Expr a, DType to);
Expr expr_bitcast(Ctx *c, Expr a, DType to); /* same width */
Expr expr_load(Ctx *c, uint32_t operand, DType t, int nidx, const Expr *idx, Oob oob, Expr pad, uint32_t guard);
uint32_t expr_guard(Ctx *c, Loc loc, const char *text); /* a message for OOB_FAIL; >= 1 */
uint32_t expr_nguards(const Ctx *c); /* guards are 1 .. expr_nguards - 1 */
const char *expr_guard_text(const Ctx *c, uint32_t guard);
Loc expr_guard_loc(const Ctx *c, uint32_t guard);
const ExprInfo *expr_info(const Ctx *c, Expr e);
/* Calls fn on each expression reachable from e once, arguments in no order. false as soon as fn answers false. */
bool expr_each(Ctx *c, Expr e, bool (*fn)(void *data, Ctx *c, const ExprInfo *i), void *data);
/* Rewrite bottom-up: fn gets a node whose arguments are already rewritten, and returns its replacement. Memoised. */
typedef Expr (*ExprFn)(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg);
Expr expr_rewrite(Ctx *c, Expr e, ExprFn fn, void *data);
Expr expr_rebuild(Ctx *c, const ExprInfo *i, const Expr *newarg); /* same node, new arguments */
Expr expr_subst_args(Ctx *c, Expr e, const Expr *args, uint32_t n); /* E_ARG(k) -> args[k] (if nonzero) */
Expr expr_subst_axes(Ctx *c, Expr e, const Expr *axes, uint32_t n); /* E_AXIS(k) -> axes[k] */
bool expr_uses_axis(const Ctx *c, Expr e, uint32_t axis);
int expr_cost(const Ctx *c, Expr e);        /* rough cycles per element, shared subtrees once */
/* Integer range of an i64 index expression given the extents of the axes (Dim per axis): used to drop div/mod and
 * bounds checks. Returns false if unknown. */
bool expr_range(Ctx *c, Expr e, const Dim *extent, uint32_t naxis, int64_t *lo, int64_t *hi);
/* Whether 0 <= e < n holds at every point; compares symbolically, so it proves more than a range of numbers can. */
bool expr_in_bounds(Ctx *c, Expr e, Dim n, const Dim *extent, uint32_t naxis);
/* Simplify an index expression under 0 <= axis[k] < extent[k]: (a*16+b) fdiv 16 -> a, mod -> b, and so on; normalises
 * affine sums. Works on symbolic extents too, by dim_divisible and ranges. */
Expr expr_simplify_index(Ctx *c, Expr e, const Dim *extent, uint32_t naxis);
/* e == sum coef[k]*axis[k] + rest with rest free of axes: true, with coef Exprs free of axes (0 = absent). */
bool expr_affine(Ctx *c, Expr e, uint32_t naxis, Expr *coef, Expr *rest);
Scalar expr_eval_op(SOp op, DType t, const Scalar *arg);    /* the one definition of scalar semantics; t: type of result or operands for CMP */
void expr_print(Buf *b, const Ctx *c, Expr e);  /* {a + b}: infix for + - * / < <= > >= == !=, else name(args); a..z then x26.. */
Expr expr_parse(Ctx *c, const char **s, const DType *argtype, uint32_t nargs); /* literals take the other operand's type; suffix 1:i32 forces one */

/* ==== graph.c: values, nodes, graphs ============================================================================== */
typedef enum PrimOp {
#define PRIM(e, text, min, max, nout, attr) P_##e,
#include "prim.def"
#undef PRIM
    P_COUNT } PrimOp;
/* Bytes of a constant: row-major, packed types packed as in ONNX raw_data. Immutable, may point into a mapped file. */
typedef struct ConstData {
    DType dtype; int64_t count;
    bool splat;             /* all elements equal: `data` holds one element */
    const void *data;
    size_t bytes;           /* of data */
} ConstData;
typedef struct NoAttr { char none; } NoAttr;
typedef struct ConstAttr { const ConstData *data; Type type; } ConstAttr;
typedef struct MapAttr {
    uint8_t rank;
    const Dim *dim;   /* domain; operands broadcast to it, right-aligned */
    const Expr *body; /* one per result */
} MapAttr;
/* n operands, n results. comb/init: one per result; in comb, E_ARG(0..n-1) is the accumulator and E_ARG(n..2n-1) the
 * new element; types are acc[r] (operands are cast to it, results cast back to the operand's type). */
typedef struct ReduceAttr { uint32_t axes; /* bit mask */ bool keep; const Expr *comb; const Scalar *init; const DType *acc; } ReduceAttr;
#define NO_LABELS {[0 ... 2] = {[0 ... MAX_RANK - 1] = 0xff}} /* to fill in: 0xff ends a list of labels */
typedef struct ContractAttr {
    uint8_t label[3][MAX_RANK]; /* axis label of each dim of a, b, out: 0..31; 0xff past the rank */
    DType acc, out;
} ContractAttr;
typedef struct ScanAttr { uint8_t axis; bool reverse, exclusive; const Expr *comb; const Scalar *init; const DType *acc; } ScanAttr;
typedef struct DimsAttr { uint8_t rank; const Dim *dim; } DimsAttr;
typedef struct PermAttr { uint8_t perm[MAX_RANK]; /* result dim d is operand dim perm[d] */ } PermAttr;
typedef struct SliceAttr { const Dim *start; const int64_t *step; /* may be < 0 */ const Dim *size; /* result dims (slice) */ } SliceAttr;
typedef enum { PAD_VALUE, PAD_EDGE, PAD_REFLECT, PAD_WRAP } PadMode;
typedef struct PadAttr {
    const Dim *lo, *hi;
    const int64_t *interior; /* zeros between elements; NULL = none */
    PadMode mode;
    Scalar value; /* if no second operand */
} PadAttr;
typedef struct AxisAttr { uint8_t axis; } AxisAttr;
/* Appends one dim per windowed axis: y[.., o_a, .., k_a] = x[.., o_a*stride + k_a*dilation, ..]. */
typedef struct WindowAttr { uint8_t n; uint8_t axis[4]; Dim size[4]; int64_t stride[4], dilation[4]; } WindowAttr;
typedef struct GatherAttr { uint8_t axis; Oob oob; } GatherAttr;        /* y = x[.., idx[..], ..]; negative indices count from the end */
typedef enum { SC_SET, SC_ADD, SC_MUL, SC_MIN, SC_MAX } ScatterMode;
typedef struct ScatterAttr { ScatterMode mode; bool elements; uint8_t axis; } ScatterAttr; /* ScatterND or ScatterElements */
typedef struct SortAttr { uint8_t axis; bool descending, stable; uint8_t nkeys; } SortAttr;
typedef struct TopkAttr { uint8_t axis; bool largest, sorted; Dim k; } TopkAttr;
typedef struct CompactAttr { Dim bound; } CompactAttr; /* (mask[n]) -> indices i64[bound], count i64[]; the first count are valid */
typedef struct LoopAttr {
    Graph *body;
    uint16_t ncarried, nscan_out;
    bool has_trip, has_cond;
    Dim iter; /* symbol: iterations done, the first size of stacked results; or none */
} LoopAttr;
typedef struct IfAttr { Graph *then_g, *else_g; } IfAttr;
typedef struct BindAttr { Dim sym; int64_t index; } BindAttr;   /* symbol = element `index` of the operand (flat) */
typedef enum { G_EQ, G_LE, G_LT, G_BCAST, G_TRUE } GuardCmp;
typedef struct GuardAttr { GuardCmp cmp; Dim a, b; const char *text; } GuardAttr; /* dims, or the bool operand (G_TRUE) */
typedef struct CopyAttr { uint8_t device; } CopyAttr;
typedef struct SeqAttr { const char *sub; Type type; } SeqAttr;
typedef struct RandomAttr { const char *algo; Type type; uint64_t seed; bool seeded; double a, b; } RandomAttr;
typedef struct ShapeAttr { uint8_t n; const Dim *dim; } ShapeAttr; /* i64[n] tensor of dims; n = 0xff: scalar of dim[0] */
typedef struct GroupAttr { const char *name; Graph *body; const char *note; } GroupAttr; /* body inputs = operands in order */
typedef struct CallAttr { const char *symbol; uint8_t nout; const Type *type; } CallAttr;

struct Node {
    uint16_t op;            /* PrimOp */
    uint16_t nin, nout;
    Val *in, *out;
    const void *attr;       /* the struct that prim.def names */
    Loc loc;
    uint32_t id;            /* position in creation order */
};
typedef struct ValInfo {
    Type type;
    Node *def;              /* NULL: graph input */
    const char *name;       /* source name, or NULL */
    const Dim *elem;        /* small integer tensors (<= 64 elements) whose elements are known as dims: count of them; else NULL */
    Val link;               /* replaced by this value (graph_replace), until graph_tidy */
    uint32_t uses;          /* graph.c: head of the list of uses, in Graph.use */
} ValInfo;
typedef struct ValUse { Node *n; uint32_t operand, next; } ValUse; /* graph.c: operand `operand` of n; next: 0 ends */
typedef struct Port { const char *name; Val val; } Port;
struct Graph {
    Ctx *c;
    const char *name;
    VEC(ValInfo) val;       /* [0] is poison */
    VEC(Node *) node;       /* in execution order after graph_tidy */
    VEC(Port) in, out;
    Graph *parent;          /* of a region; regions capture nothing: operands are passed explicitly */
    VEC(ValUse) use;        /* graph.c: uses by nodes made with graph_node; [0] unused */
};
Graph *graph_new(Ctx *c, const char *name, Graph *parent);
Val graph_input(Graph *g, const char *name, Type t);
void graph_output(Graph *g, const char *name, Val v);
Val graph_value(Graph *g, Type t, Node *def);
Node *graph_node(Graph *g, PrimOp op, int nin, const Val *in, int nout, const Type *outtype, const void *attr, Loc loc); /* appended */
void graph_replace(Graph *g, Val old, Val with);    /* all uses of old become uses of with (applied at once) */
void graph_tidy(Graph *g);  /* drop dead nodes (guard, bind of a used symbol, and effects stay), stable topological order */
Val graph_resolve(const Graph *g, Val v);           /* follow links */
const ValInfo *val_info(const Graph *g, Val v);     /* links followed; poison has rank 0, DT_NONE */
const Type *val_type(const Graph *g, Val v);
Node *val_def(const Graph *g, Val v);
const ConstData *val_const(const Graph *g, Val v);  /* NULL if not a const node */
bool val_scalar(const Graph *g, Val v, Scalar *s);  /* a const whose elements are all equal (splat or one element) */
const Dim *val_elems(const Graph *g, Val v, int64_t *n); /* known elements as dims; NULL if unknown */
void val_set_elems(Graph *g, Val v, const Dim *elem);
/* Calls fn(data, id) for each symbol that n defines: the symbol of a bind, and sizes of results of control nodes that are
 * bound symbols and not sizes of operands. */
void node_makes(Ctx *c, const Graph *g, const Node *n, void (*fn)(void *data, uint32_t sym), void *data);
/* dim_guess.c: from now on, costs take symbols for what suits the sizes of this graph: before it is optimised, before its kernels are compiled. */
void dim_guess_in(const Graph *g);
/* uses[v.i] = number of uses (graph outputs count); arena array of val.n */
uint32_t *graph_uses(Graph *g);
Graph *graph_clone(Graph *g);
/* Copy the body of src (whose inputs are bound to `in`) into dst; out receives the values of its outputs. */
void graph_inline(Graph *dst, Graph *src, const Val *in, Val *out);
const char *prim_name(PrimOp op);

/* ==== infer.c: result types of each primitive; verify.c: invariants =============================================== */
/* Computes result types from operands and attribute; reports (E03xx, at loc) and returns false if they do not fit.
 * out has room for nout types. Also the place where `elem` of small integer results is computed (see build.c). */
bool infer(Graph *g, PrimOp op, int nin, const Val *in, const void *attr, int nout, Type *out, Loc loc);
bool graph_verify(Graph *g, const char *when); /* false and messages X... if an invariant is broken */

/* ==== build.c: one function per primitive, poison-safe, simplifying on the fly ==================================== */
typedef struct B { Graph *g; Ctx *c; Loc loc; } B; /* builder: where to append, and for which source node */
B builder(Graph *g, Loc loc);
Val b_const(B *b, const ConstData *d, Type t);
Val b_const_i64(B *b, int rank, const int64_t *dims, const int64_t *v);   /* copies */
Val b_scalar(B *b, Scalar s);                                             /* rank 0 */
Val b_splat(B *b, Scalar s, int rank, const Dim *dim);                    /* broadcast of a scalar const */
/* Guards that the operands which the bodies read at a point broadcast to the domain: what b_map1 makes sure of by its choice of the domain. */
void b_guard_domain(B *b, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim);
void b_map(B *b, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim, Val *out);
Val b_map1(B *b, Expr body, int nin, const Val *in);                      /* domain = broadcast of the operands (guards added if needed) */
Val b_unary(B *b, SOp op, Val a);
Val b_binary(B *b, SOp op, Val x, Val y);                                 /* broadcasting; types must be equal */
Val b_select(B *b, Val cond, Val x, Val y);
Val b_cast(B *b, Val v, DType t);
void b_reduce(B *b, int n, const Val *in, uint32_t axes, bool keep, const Expr *comb, const Scalar *init, const DType *acc, Val *out);
typedef enum { R_SUM, R_PROD, R_MAX, R_MIN, R_AND, R_OR } ReduceOp;
Val b_reduce1(B *b, ReduceOp op, Val v, uint32_t axes, bool keep);        /* accumulates f16/bf16/f8 in f32, ints in own type */
bool reduce_is(const Ctx *c, const ReduceAttr *a, ReduceOp op, DType t);  /* one result, that combiner */
Val b_argminmax(B *b, Val v, int axis, bool keep, bool max, bool last);   /* i64 */
/* Is this the combiner of such a reduction? Then the one of values and indices of type `index`, and the one that may take its place where the second
 * pair's index is the higher one. */
typedef struct Picks { Expr comb[2], after[2]; } Picks;
bool picks_best(Ctx *c, const Expr comb[2], DType index, Picks *out);
Val b_contract(B *b, const char *spec, Val x, Val y, DType acc, DType out); /* "mk,kn->mn"; letters a-zA-F */
Val b_contract_attr(B *b, const ContractAttr *a, Val x, Val y);
void b_scan(B *b, int n, const Val *in, int axis, bool reverse, bool exclusive, const Expr *comb, const Scalar *init, const DType *acc, Val *out);
Val b_reshape(B *b, Val v, int rank, const Dim *dim);                     /* adds a guard if the counts are not provably equal */
Val b_permute(B *b, Val v, const int *perm);
Val b_broadcast(B *b, Val v, int rank, const Dim *dim);
Val b_slice(B *b, Val v, const Dim *start, const int64_t *step, const Dim *size);
Val b_slice_axis(B *b, Val v, int axis, Dim start, Dim size);
Val b_pad(B *b, Val v, const Dim *lo, const Dim *hi, const int64_t *interior, PadMode mode, Scalar value, Val valop);
Val b_concat(B *b, int n, const Val *in, int axis);
bool window_of_ones(Ctx *c, const WindowAttr *a); /* one element at each place, and none left out: a reshape, as of a pooling without effect */
Val b_window(B *b, Val v, const WindowAttr *a);
Val b_gather(B *b, Val x, Val idx, int axis, Oob oob);
Val b_scatter(B *b, Val x, Val idx, Val upd, const ScatterAttr *a);
Val b_update(B *b, Val x, Val part, const Dim *start);
void b_sort(B *b, int n, const Val *in, const SortAttr *a, Val *out);
void b_topk(B *b, Val v, const TopkAttr *a, Val *values, Val *indices);
void b_compact(B *b, Val mask, Dim bound, Val *indices, Val *count);
/* loop: in = trip (i64[] or poison), cond (bool[] or poison), carried..., captured...; body inputs: iter i64[], cond bool[],
 * carried..., captured...; body outputs: cond bool[], carried..., scan outputs.... Results: carried, then stacked scan outputs. */
void b_loop(B *b, Graph *body, int ncarried, int nscan, int nin, const Val *in, Val *out);
void b_if(B *b, Val cond, Graph *t, Graph *e, int nin, const Val *in, Val *out); /* regions take in[] as inputs */
Dim b_bind(B *b, Val v, int64_t index, const char *stem, int64_t lo, int64_t hi); /* known element as dim, or a bind node */
/* Nothing if provable; a message if disprovable. */
void b_guard(B *b, GuardCmp cmp, Dim x, Dim y, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void b_guard_val(B *b, Val cond, const char *text); /* all elements of cond */
Val b_shape(B *b, Val v);                                                 /* i64[rank] with known elems */
Val b_dims(B *b, int n, const Dim *dim);                                  /* i64[n] tensor of dims; n = 1 elements allowed */
Val b_dim_scalar(B *b, Dim d);                                            /* i64[] */
Val b_random(B *b, const RandomAttr *a, int nin, const Val *in);
/* build_seq.c: t is the type of the result, unless it can be had without a list, then it may be more precise: that alone is b_seq_try,
 * of at, length, concat, stack, has, get; else poison. */
Val b_seq(B *b, const char *sub, Type t, int nin, const Val *in);
Val b_seq_try(B *b, const char *sub, int nin, const Val *in);
void b_call(B *b, const char *symbol, int nout, const Type *t, int nin, const Val *in, Val *out); /* absent operands are poison */
void b_group(B *b, const char *name, Graph *body, int nin, const Val *in, Val *out);
/* Wrap: everything appended to b->g since mark (a node count) that feeds `outs` becomes group `name`. */
uint32_t b_mark(B *b);
void b_wrap(B *b, const char *name, uint32_t mark, int nout, Val *outs);
/* Sugar shared by importers and passes. */
Val b_softmax(B *b, Val x, uint32_t axes);
Val b_mean(B *b, Val x, uint32_t axes, bool keep);

/* ==== print.c, parse.c ============================================================================================ */
void graph_print(Buf *b, Graph *g);
Graph *graph_parse(Ctx *c, const char *text, const char *file); /* NULL after messages with line and column */

/* ==== eval.c: the reference evaluator ============================================================================= */
typedef struct Tensor { DType dtype; int rank; int64_t dim[MAX_RANK]; void *data; /* 1 byte per element for packed types */
                        struct Tensor **elem; int64_t nelem; uint8_t kind; } Tensor; /* kind: TypeKind; absent optional: data NULL, nelem -1 */
/* Runs the function of a `call` node, which ir/ knows nothing of; NULL: calls fail. Operands (absent ones NULL) are in the arena, results shall
 * be. room: bytes that it may take from the arena, to be reduced. false after writing to `error`. An empty optional comes and goes as TY_OPT
 * with nelem -1, another one as the value it holds. */
typedef bool (*EvalCall)(Ctx *c, const char *symbol, int nin, const Tensor *const *in, int nout, Tensor **out, int64_t *room, char error[256]);
typedef struct EvalOptions { int64_t max_bytes; /* 0: none */ uint64_t seed; EvalCall call; } EvalOptions;
/* Runs g on inputs (order of g->in). sym: values of symbols are bound from inputs. Results malloc'ed through the Ctx
 * arena `c`. false with a message on a failed guard or a wrong input. */
bool graph_eval(Ctx *c, Graph *g, const Tensor *const *in, Tensor **out, const EvalOptions *o);
/* Evaluates one node whose operands are all known tensors; used by folding. false if it cannot (effects, symbols). */
bool node_eval(Ctx *c, Graph *g, const Node *n, const Tensor *const *in, Tensor **out);
Tensor *tensor_new(Ctx *c, DType t, int rank, const int64_t *dim);
Tensor *tensor_from_const(Ctx *c, const ConstData *d, const Type *t); /* shares bytes where the storage agrees; type must be constant */
const ConstData *tensor_to_const(Ctx *c, const Tensor *t);            /* finds splats */
int64_t tensor_count(const Tensor *t);
#endif
