/* import.h: what the importers (op_*.c) see: the node being imported, its operands and attributes, and helpers.
 *
 * An importer reads operands with operand(), attributes with attr_*(), builds primitives through m->b, and hands over
 * results with result(). Operands that are absent are poison; an importer is not called when a present operand is
 * poison (the message was given where that happened). Kinds, element types and numbers of operands and the kinds and
 * choices of attributes were checked against the row of ops.def before. After an error an importer just returns. */
#ifndef ACCELC_FRONTEND_IMPORT_H
#define ACCELC_FRONTEND_IMPORT_H
#include "frontend/internal.h"

#define NEWEST_OPSET 27             /* of ai.onnx, that ops.def was written for */
#define SHAPE_MAX 64                /* elements of a shape-like operand that are looked at one by one */

typedef struct Imp Imp;
typedef struct OpRow {
    const char *domain, *op;
    int32_t since;                  /* first version with this meaning */
    const char *in, *out, *attrs;   /* see ops.def */
    void (*fn)(Imp *m);             /* NULL: the operator was withdrawn in this version */
    const char *text;               /* argument of fn: an expression */
    int arg;                        /* argument of fn: a number */
} OpRow;

struct Imp {
    B b;                            /* where to append; b.loc is the node's */
    Ctx *c;
    Model *m;
    const SrcGraph *src;            /* the graph being imported */
    const SrcNode *n;               /* the node being imported */
    const OpRow *row;
    Val *in, *out;                  /* operands (poison: absent) and results of n, room for 16 beyond n->nin, n->nout */
    StrMap names;                   /* value name -> Val.i + 1 in b.g */
    const Imp *up;                  /* importer of the enclosing graph, if src goes into the same b.g */
};

#define ERR(m, code, ...) diag((m)->c, SEV_ERROR, (m)->b.loc, code, __VA_ARGS__)
#define UNSUP(m, ...) diag((m)->c, SEV_UNSUPPORTED, (m)->b.loc, "U0102", __VA_ARGS__)

/* ==== import.c: operands and results ============================================================================== */
static inline Val operand(const Imp *m, uint32_t k) { return k < m->n->nin ? m->in[k] : (Val){0}; }
static inline bool present(const Imp *m, uint32_t k) { return operand(m, k).i != 0; }
static inline bool wanted(const Imp *m, uint32_t k) { return k < m->n->nout && m->n->out[k][0]; }
static inline void result(Imp *m, uint32_t k, Val v) { if (k < m->n->nout) m->out[k] = v; }
static inline int rank_of(const Imp *m, Val v) { return val_type(m->b.g, v)->rank; }
static inline DType dtype_of(const Imp *m, Val v) { return (DType)val_type(m->b.g, v)->dtype; }
static inline Dim dim_of(const Imp *m, Val v, int axis) { return val_type(m->b.g, v)->dim[axis]; }
static inline Dim DC(const Imp *m, int64_t v) { return dim_const(m->c, v); }
bool row_elementwise(const SrcNode *n);              /* the result has the rank of the operands, or of the largest */
void dims_of(const Imp *m, Val v, Dim *dim);        /* copies rank_of dims */

/* ==== import_attr.c: attributes and constants ===================================================================== */
bool attr_has(const Imp *m, const char *name);      /* present in the node */
int64_t attr_i(const Imp *m, const char *name);     /* the node's or the row's default; 0 if neither */
double attr_f(const Imp *m, const char *name);
const char *attr_s(const Imp *m, const char *name); /* "" if neither */
bool attr_is(const Imp *m, const char *name, const char *value);
const int64_t *attr_ints(const Imp *m, const char *name, int *n);   /* NULL and 0 if absent */
const Onnx__TensorProto *attr_tensor(const Imp *m, const char *name);
const SrcAttr *attr_find(const Imp *m, const char *name);
/* Checks the attributes that the row has: E for kinds, missing ones and bad choices. */
bool attrs_check(Imp *m);
bool operands_check(Imp *m);
bool row_has_attr(const OpRow *r, const char *name);
const char *operand_class(char cls);                /* of ops.def but '=', in words */

/* Element type named by attribute `name` holding a TensorProto.DataType (0 or absent: deflt). DT_NONE after a message. */
DType attr_dtype(Imp *m, const char *name, DType deflt);

/* A value that can be computed now (at most 65536 elements), as a tensor; NULL if it depends on inputs. */
const Tensor *const_tensor(Imp *m, Val v);
bool const_ints(Imp *m, Val v, int64_t *out, int max, int *n);
bool const_floats(Imp *m, Val v, double *out, int max, int *n);
bool const_scalar(Imp *m, Val v, Scalar *s);        /* one element, or all equal */

/* ==== import_shape.c: axes and shape-like operands ================================================================ */
bool axis_ok(Imp *m, int64_t axis, int rank, int *out);     /* -rank..rank-1 to 0..rank-1; E0206 */
bool axes_ok(Imp *m, const int64_t *axis, int n, int rank, uint32_t *mask); /* duplicates are errors */
#define DECLARE_IT "; declare the shape of the result (value_info)" /* in messages, where hint_rank helps */
int hint_rank(const Imp *m, uint32_t k);            /* declared rank of result k, -1 if it is not declared */
/* The elements of integer operand v as dims: known ones, else symbols bound at run time in [lo, hi]. The length is the
 * static one, else `want` (checked at run time) if >= 0. out has room for SHAPE_MAX. false after a message. */
bool operand_dims(Imp *m, Val v, const char *what, int64_t lo, int64_t hi, int want, Dim *out, int *n);
bool operand_dim(Imp *m, Val v, const char *what, int64_t lo, int64_t hi, Dim *out);  /* of one element */
int length_of(Imp *m, Val v);                       /* static number of elements of a 0- or 1-dimensional value, else -1 */
/* Axes at run time, as flags: flag[i] is a dim 0 or 1, 1 if axis i of `rank` is in v (none listed: `empty`). */
bool runtime_axes(Imp *m, Val v, int rank, int empty, Dim *flag);
/* full[i] = the element of `v` whose partner in `axes` names axis i, else deflt; i64[rank], computed at run time. */
Val by_axis(Imp *m, Val v, Val axes, int rank, int64_t deflt);
Dim count_of(Imp *m, const Dim *dim, int n);        /* product */
/* The k-th (from 0) of those dims whose flag is 0; 1 if there are fewer. */
Dim kept_dim(Imp *m, const Dim *dim, const Dim *flag, int rank, int k);

/* ==== import_build.c: small pieces of primitives ================================================================== */
#define X1(op, a) expr_op(m->c, S_##op, (a), (Expr){0}, (Expr){0})
#define X2(op, a, b) expr_op(m->c, S_##op, (a), (b), (Expr){0})
#define X3(op, a, b, d) expr_op(m->c, S_##op, (a), (b), (d))
#define XI(v) expr_int(m->c, DT_I64, (v))
static inline Expr xaxis(const Imp *m, int a) { return expr_axis(m->c, (uint32_t)a); }
static inline Expr xdim(const Imp *m, Dim d) { return expr_dim(m->c, d); }
static inline Expr xarg(const Imp *m, int k, DType t) { return expr_arg(m->c, (uint32_t)k, t); }
static inline Expr xf(const Imp *m, DType t, double v) { return expr_float(m->c, t, v); }
static inline Expr to_f64(const Imp *m, Expr e) { return expr_cast(m->c, e, DT_F64); }
/* Bits [shift, shift + bits) of a byte, as i32. */
Expr bits_of(Imp *m, Expr byte, Expr shift, int bits);
/* The type in which a float type is computed: f32 for the narrower ones. */
DType wide_type(DType t);
/* The expression `text` of a, b, c.. (the operands, all of type t), $name being attributes of the node. Narrow floats
 * are computed in f32. Result type: t, or bool if the expression is a test. */
Expr text_expr(Imp *m, const char *text, DType t, int narg);
Val map_text(Imp *m, const char *text, int nin, const Val *in);
/* v as an argument of a map body: a constant if it is one, else the next operand. */
Expr arg_or_const(Imp *m, Val v, Val *in, int *nin);
/* A result for each body over an explicit domain, to which the operands that are read at a point broadcast (guards); poison if
 * anything is. */
void maps_over(Imp *m, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim, Val *out);
Val map_over(Imp *m, Expr body, int nin, const Val *in, int rank, const Dim *dim);
Val cast_to(Imp *m, Val v, DType t);
Val reshape_to(Imp *m, Val v, int rank, const Dim *dim);
Val insert_axes(Imp *m, Val v, int rank, uint32_t mask);    /* result rank; axes of mask are new (1) */
Val drop_axes(Imp *m, Val v, uint32_t mask);                /* axes known to be 1 */
Val along(Imp *m, Val v, int rank, int axis);               /* a vector as [1,..,n,..,1] */
Val scalar_of(Imp *m, DType t, double v);
Val scalar_i64(Imp *m, int64_t v);
Val only_element(Imp *m, Val v);                            /* a value of one element as a scalar */
/* A float with a whole value as an index; beyond 32 bits, where no element is, it saturates. */
Expr position_of(Imp *m, Expr whole);
/* select(i < 0, i + d, i) of an index expression */
Expr wrap_index(Imp *m, Expr i, Dim d);
Expr in_range(Imp *m, Expr i, Expr lo, Expr end);             /* lo <= i < end */
Expr load_at(Imp *m, int operand, DType t, int n, const Expr *idx);    /* must be in range, else the run fails */
/* x - with zero point: x of an integer type as t, minus zp (which may be absent), per axis or whole */
Val minus_zero_point(Imp *m, Val x, Val zp, int axis, DType t);

/* ==== extract.c =================================================================================================== */
void extract_see(Imp *m);                           /* remembers what is known of the node's operands and results */
/* ==== op_math.c =================================================================================================== */
/* a (f32 or f64) as an 8- or 4-bit float; what is too large becomes the largest number, or, without saturation, infinite or NaN. */
Expr expr_f8(Imp *m, Expr a, DType t, bool saturate);
/* ==== op_nn.c, op_pool.c, shared with op_quant.c ============================================================================= */
/* Convolution without bias of x by w; types may differ, accumulated in acc. Attributes are the node's. */
Val conv(Imp *m, Val x, Val w, DType acc, DType out);
Val conv_bias(Imp *m, Val y, Val bias);
/* Pooling of x[N, C, ..] by the node's attributes; indices: of the greatest elements, or NULL. */
Val average_pool(Imp *m, Val x);
Val max_pool(Imp *m, Val x, Val *indices);
/* x[N, C, in..] under each place of the node's kernel, [N, C, out.., kernel..]; `pad` is what lies outside. */
Val pool_windows(Imp *m, Val x, Scalar pad);
/* ==== op_quant.c ================================================================================================== */
/* x quantised to u8 by its own range: out[0] the values, out[1] the scale, out[2] the zero point */
void dynamic_quantize(Imp *m, Val x, Val *out);
/* QLinearConv with x[N, C, ..] in place of operand 0: y[N, O, ..] */
Val qlinear_conv(Imp *m, Val x);
/* ==== op_fft.c ==================================================================================================== */
/* The discrete Fourier transform, or its inverse, along axis 1 of [outer, n, inner], n >= 1, real (im none) or complex. */
void fft(Imp *m, Val *re, Val *im, int64_t n, bool inverse);
/* ==== op_fft_any.c ================================================================================================ */
/* The same for a length that the run knows, of f64 re and im. false after a message. */
bool fft_any(Imp *m, Val *re, Val *im, Dim n, bool inverse);
/* ==== op_matmul.c ================================================================================================= */
Val matmul(Imp *m, Val a, Val b, DType acc, DType out);

/* ==== op_norm.c =================================================================================================== */
typedef struct Stats { Val centred, mean, dev; } Stats;
/* x - mean(x), mean(x), sqrt(mean((x - mean)^2) + $epsilon) over the axes of mask, which are kept */
Stats stats(Imp *m, Val x, uint32_t mask);
Val root_mean_square(Imp *m, Val x, uint32_t mask); /* sqrt(mean(x^2) + $epsilon) */
Val affine(Imp *m, Val v, Val scale, Val bias);     /* v * scale + bias, both optional, in the type of v */
/* ==== op_seq.c, shared with op_flow.c ============================================================================= */
/* What the operation (`at` or `get`) takes from the list in[0]. rank: of a result whose rank the list does not know; -1: nor does
 * anybody else, then a message. */
Val list_take(Imp *m, const char *sub, int nin, const Val *in, int rank);

/* ==== op_string.c: calls, and attributes as their operands ======================================================= */
Val call1(Imp *m, const char *symbol, Type t, int nin, const Val *in);  /* with one result */
Val attr_string_val(Imp *m, const char *name);      /* str[]; "" if absent */
Val attr_strings_val(Imp *m, const char *name);     /* str[n], i64[n], f32[n]; poison if absent */
Val attr_ints_val(Imp *m, const char *name);
Val attr_floats_val(Imp *m, const char *name);
Val cast_string(Imp *m, Val x, DType t);            /* one of the two is DT_STR */
Dim fresh_size(Imp *m);                             /* op_seq.c: a size that a call or a list decides */

/* ==== import.c: regions =========================================================================================== */
/* Importing a SrcGraph as a region of m's graph: open, declare inputs in their order, capture, then the body, after which the
 * caller declares the outputs with graph_output(inner->b.g, ..). */
void region_open(Imp *inner, Imp *m, const SrcGraph *sg);
Val region_input(Imp *inner, int k, Type t);        /* the region's next input is sg's k-th */
void region_name(Imp *inner, int k, Val v);         /* sg's k-th input is this value of the region */
void region_capture(Imp *inner, Imp *m, int ncap, const char *const *cap);
bool region_body(Imp *inner, Val *out);             /* out: sg's outputs; false after messages */
/* Names of m that the graphs use and that must be operands of the region; constants are copied in instead. -1: one of
 * them is poison. */
int region_captures(Imp *m, int ngraph, SrcGraph *const *g, const char ***names);
Val name_value(Imp *m, const char *name);           /* the value of that name in m */
/* sg's nodes directly in m's graph, its formal inputs bound to in[]; out: its outputs. */
bool import_inline(Imp *m, const SrcGraph *sg, int nformal, const Val *in, Val *out);
#endif
