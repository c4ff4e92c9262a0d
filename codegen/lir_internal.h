/* lir_internal.h: the representation of a Lir, shared by the builder (lir.c, lir_arith.c,
 * lir_build.c), lir_text.c and lir_run.c. Printers use the accessors of lir.h. */
#ifndef ACCELC_LIR_INTERNAL_H
#define ACCELC_LIR_INTERNAL_H
#include "lir.h"

#define LIR_MAX_INS (1u << 24) /* a kernel beyond this is refused */
#define LIR_MAX_LANES 4096u

typedef struct LTab {
    uint32_t *head, cap;
    VEC(uint32_t) list;
} LTab; /* chained through Lir.chain; list: insertion order */
typedef struct LRegion {
    uint32_t ins, mark;
} LRegion; /* opening FOR, IF or ELSE; length of scoped.list then */
typedef struct LPair {
    uint32_t a, b;
} LPair;
struct Lir {
    Ctx *c;
    const char *name;
    uint32_t nbuf, ndim;
    VEC(LIns) ins;       /* [0] is none */
    VEC(uint32_t) chain; /* parallel to ins: next in its bucket */
    VEC(LVal) args;
    VEC(int16_t) shuf;
    VEC(Scalar) tab;
    VEC(LPair) alias;
    VEC(LRegion) region; /* open ones */
    LTab global, scoped; /* value numbers: operand-free instructions; the others, of open regions */
    bool separate;       /* lir_volatile_next */
    bool streamed;       /* lir_stream_next */
    uint32_t threads, shared; /* lir_block */
    bool resident;
    uint32_t cluster; /* 0: none */
    VEC(LMap) map;
};

/* Classes of types; lir_sop_class: those a scalar operation accepts in Lir, 0 if it is not whitelisted.
 * FLOAT is f32 and f64; OTHER (f16, f8, ..) can only be stored, moved and cast; CMP marks comparisons. */
enum { LIR_TILES = 8, LIR_TILE_ROWS = 16, LIR_TILE_PITCH = 64 };
enum { LC_FLOAT = 1, LC_INT = 2, LC_BOOL = 4, LC_PTR = 8, LC_OTHER = 16, LC_CMP = 32 };
extern const uint8_t lir_sop_class[S_COUNT];
bool lir_permutes(DType table, DType idx); /* what lir_permute_var takes */
unsigned lir_class(DType t);
int lir_sop_args(SOp op);
unsigned lir_bits(DType t);           /* of a lane in memory: 8, 16, 32, 64 (bool 8); 0: none */
int64_t lir_wrap(DType t, int64_t v); /* v modulo 2^bits, sign- or zero-extended as t says */

/* lir.c, for lir_arith.c and lir_build.c. lir_pure: an equal visible value, or a new instruction.
 * lir_forget: a region has ended, its values leave the numbering. lir_as_const: v's CONST or NULL. */
LIns lir_mk(int op, DType t, uint32_t lanes);
LVal lir_append(Lir *l, LIns i, uint32_t narg, const LVal *a);
LVal lir_pure(Lir *l, LIns i, uint32_t narg, const LVal *a);
void lir_forget(Lir *l, uint32_t mark);
LVal lir_const_int(Lir *l, DType t, uint32_t lanes, int64_t v);
LVal lir_const_float(Lir *l, DType t, uint32_t lanes, double v);
const LIns *lir_as_const(const Lir *l, LVal v);
bool lir_is_op(const Lir *l, LVal v, SOp op);
LVal lir_arg(const Lir *l, LVal v, uint32_t k);

/* lir_build.c. ptr + (idx + disp) * size of elem (DT_NONE: bytes) */
typedef struct LAddr { LVal ptr, idx; int64_t disp; } LAddr;
LAddr lir_address(Lir *l, LVal ptr, LVal idx, DType elem);
enum { LIR_WARP = 32, LIR_MOST_THREADS = 1024, LIR_COPY_SIZE = 31 /* of aux */ };
static inline int64_t lir_copy_to(const LIns *i) { return (int32_t)i->aux >> 5; } /* what COPY_ASYNC adds to its first index */

/* lir_hopper.c: what a line says after the name; whether types and fields fit; which operands may be pointers into the block's memory, as bits; where
 * the values of a WGMMA, WGMMA_FENCE, WGMMA_WAIT end among its operands; the first misuse of sums that are under way (its instruction), or NULL. */
enum { LIR_A_FRAGMENTS = 1, LIR_A_TURNED = 2, LIR_B_TURNED = 4, LIR_ADD = 8 };
enum { LIR_WARPGROUP = 128, LIR_MOST_CLUSTER = 8 };
static inline bool lir_is_hopper(const LIns *i) { return i->op >= L_LANE_FIRST && i->op <= L_WGMMA_WAIT; }
void lir_hopper_print(Buf *b, const Lir *l, const LIns *i);
bool lir_hopper_fits(const Lir *l, const LIns *i);
uint64_t lir_hopper_places(const Lir *l, const LIns *i);
uint32_t lir_hopper_values(const LIns *i);
const char *lir_hopper_order(const Lir *l, uint32_t *at);
static inline int64_t lir_wgmma_a(const LIns *i) { return (int32_t)i->imm; }
static inline int64_t lir_wgmma_b(const LIns *i) { return i->imm >> 32; }

/* lir_arith.c. lir_widen: splats the scalar one of two. */
typedef struct LLin {
    LVal base; /* none: a constant */
    int64_t c; /* the value is base + c */
} LLin;
LLin lir_lin(const Lir *l, LVal v);
void lir_widen(Lir *l, LVal *a, LVal *b);
#endif
