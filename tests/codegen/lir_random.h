/* lir_random.h: random Lir programs whose every intermediate value is stored, so that the
 * interpreter and compiled code can be compared bit for bit. Programs keep to what Lir defines:
 * divisors are odd, shifts in range, float -> integer casts clamped, NaNs are never looked at as
 * integers. */
#ifndef LIR_RANDOM_H
#define LIR_RANDOM_H
#include "codegen/lir.h"
#include "ir/target.h"

enum {
    RND_IN = 6,
    RND_ELEMS = 256,
    RND_OUT = 6,
    RND_SCATTER = 7,
    RND_OUT_BYTES = 1 << 18,
    RND_DIMS = 3,
    RND_SCRATCH = 4096
};
typedef struct RndOut {
    uint32_t at;
    LTy ty;
} RndOut; /* where a value of which type was stored (in bytes) */
typedef struct Rnd {
    uint64_t seed;
    Lir *l;
    uint32_t flags; /* F_* of the target */
    int ops;        /* left to make */
    uint32_t nval, nout, at, depth;
    LVal val[4096]; /* visible values */
    RndOut out[8192];
} Rnd;
/* What buffer k < RND_IN holds: RND_ELEMS + 64 elements of this type. */
static const DType rnd_in[RND_IN] = {DT_F32, DT_I32, DT_U8, DT_F16, DT_F64, DT_BOOL};
static const uint16_t rnd_lanes[] = {1, 1, 1, 2, 3, 4, 5, 8, 8, 16, 16, 32, 64};
static const DType rnd_types[] = {DT_F32, DT_F32, DT_F32, DT_F64, DT_I8,  DT_U8,  DT_I16,  DT_U16,
                                  DT_I32, DT_I32, DT_U32, DT_I64, DT_I64, DT_U64, DT_BOOL, DT_BOOL};

static inline uint32_t rnd(Rnd *r, uint32_t n) {
    r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((r->seed >> 33) % n);
}
static inline LVal rnd_const(Rnd *r, DType t) {
    static const double f[] = {0,     -0.0,  1,    -1,       0.5,     2.5,
                               -3.25, 1e-40, 1e30, -7.5e-20, 8388609, 12345.678};
    static const int64_t v[] = {0,   1,   2,   3,    7,         8,        16,
                                100, 127, 128, 255,  256,       65535,    0x12345678,
                                -1,  -2,  -5,  -128, INT64_MAX, INT64_MIN};
    if (t == DT_BOOL) return lir_bool(r->l, rnd(r, 2));
    if (dt_is_float(t)) return lir_float(r->l, t, f[rnd(r, sizeof f / sizeof *f)]);
    return lir_int(r->l, t, v[rnd(r, sizeof v / sizeof *v)]);
}
static inline LVal rnd_splat(Rnd *r, DType t, int64_t v, uint16_t lanes) {
    return lir_splat(r->l, lir_int(r->l, t, v), lanes);
}

/* A visible value of the type, or a constant, or a load. */
static inline LVal rnd_get(Rnd *r, DType t, uint16_t lanes) {
    for (int tries = 0; r->nval && tries < 40; tries++) {
        LVal v = r->val[r->nval - 1 - rnd(r, r->nval < 60 ? r->nval : 60)];
        LTy ty = lir_type(r->l, v);
        if (ty.dt == t && ty.lanes == lanes) return v;
        if (ty.dt == t && ty.lanes == 1 && rnd(r, 4) == 0) return lir_splat(r->l, v, lanes);
        if (ty.dt == t && lanes == 1 && rnd(r, 4) == 0)
            return lir_extract(r->l, v, (uint16_t)rnd(r, ty.lanes));
    }
    for (uint32_t k = 0; k < RND_IN && rnd(r, 4); k++)
        if (rnd_in[k] == t)
            return lir_load(r->l, lir_buf(r->l, k), lir_i64(r->l, rnd(r, RND_ELEMS)),
                            (LTy){(uint8_t)t, lanes}, (LVal){0}, 0);
    if (lanes > 1 && rnd(r, 2)) {
        Scalar s[64];
        for (uint32_t k = 0; k < lanes; k++) {
            s[k].t = t, s[k].i = rnd(r, 2);
            if (dt_is_float(t)) s[k].f = (double)rnd(r, 1000) / 8 - 50;
        }
        if (rnd(r, 4) == 0 && dt_is_int(t)) return lir_iota(r->l, t, lanes);
        return lir_table(r->l, t, lanes, s);
    }
    return lir_splat(r->l, rnd_const(r, t), lanes);
}

static inline void rnd_put(Rnd *r, LVal v) { /* make it visible and store it */
    LTy ty = lir_type(r->l, v);
    uint32_t bytes = ty.dt == DT_BOOL ? 1 : dt_bits(ty.dt) / 8;
    if (r->nval < 4096 && ty.dt != DT_F16 && ty.dt != DT_BF16) r->val[r->nval++] = v;
    if (r->nout == 8192 || r->at + 64 * 8 + 8 > RND_OUT_BYTES) return;
    r->at = (r->at + 7) & ~7u;
    r->out[r->nout++] = (RndOut){r->at, ty};
    LVal p = lir_ptr_bytes(r->l, lir_buf(r->l, RND_OUT), lir_i64(r->l, r->at)), mask = {0};
    if (rnd(r, 8) == 0)
        mask = lir_mask(r->l, rnd(r, 2) ? lir_i64(r->l, rnd(r, ty.lanes + 2u)) : lir_dim(r->l, 0),
                        ty.lanes);
    lir_store(r->l, p, lir_i64(r->l, 0), v, mask, bytes);
    r->at += bytes * ty.lanes;
}

static inline LVal rnd_index(Rnd *r) { /* 0 .. RND_ELEMS - 1 */
    LVal i = lir_op2(r->l, S_AND, rnd_get(r, DT_I64, 1), lir_i64(r->l, RND_ELEMS / 2 - 1));
    return lir_addi(r->l, i, rnd(r, RND_ELEMS / 2));
}
static inline LVal rnd_mask(Rnd *r, uint16_t lanes) {
    switch (rnd(r, 3)) {
    case 0:
        return (LVal){0};
    case 1:
        return lir_mask(r->l,
                        lir_sub(r->l,
                                lir_op2(r->l, S_AND, rnd_get(r, DT_I64, 1), lir_i64(r->l, 127)),
                                lir_i64(r->l, 4)),
                        lanes);
    default:
        return rnd_get(r, DT_BOOL, lanes);
    }
}

static inline void rnd_memory(Rnd *r, uint16_t n) {
    Lir *l = r->l;
    uint32_t k = rnd(r, RND_IN);
    LTy ty = {(uint8_t)rnd_in[k], n};
    LVal v, mask = rnd_mask(r, n), idx;
    switch (rnd(r, 6)) {
    case 0:
        if (rnd(r, 3) == 0) lir_volatile_next(l);
        v = lir_load(l, lir_ptr_add(l, lir_buf(l, k), rnd_index(r), rnd_in[k]),
                     lir_i64(l, rnd(r, 8)), ty, mask, 0);
        break;
    case 1:
        idx = rnd(r, 2) ? rnd_get(r, DT_I64, n) : rnd_get(r, DT_I32, n);
        idx = lir_op2(l, S_AND, idx, lir_int(l, (DType)lir_type(l, idx).dt, RND_ELEMS - 1));
        v = lir_gather(l, lir_buf(l, k), idx, rnd_in[k], mask);
        break;
    case 2: /* scatter: a later lane wins */
        v = rnd_get(r, DT_I32, n);
        idx = lir_op2(l, S_AND, rnd_get(r, DT_I64, n), lir_i64(l, 63));
        lir_scatter(l, lir_buf(l, RND_SCATTER), idx, v, mask);
        return;
    case 3: /* through scratch */
        v = rnd_get(r, DT_F32, n);
        lir_store(l, lir_scratch(l), lir_i64(l, 0), lir_splat(l, lir_float(l, DT_F32, 5), 64),
                  (LVal){0}, 64);
        idx = lir_op2(l, S_AND, rnd_get(r, DT_I64, 1), lir_i64(l, 15));
        lir_store(l, lir_scratch(l), idx, v, mask, 0);
        v = lir_load(l, lir_scratch(l), lir_i64(l, 3), (LTy){DT_F32, n}, (LVal){0}, 4);
        break;
    case 4: /* also far outside: a hint faults nowhere */
        idx = lir_muli(l, rnd_index(r), rnd(r, 2) ? 1 : 1 << 30);
        lir_prefetch(l, lir_buf(l, k), idx, rnd_in[k], 1 + (int)rnd(r, 3));
        return;
    default:
        v = lir_load(l, lir_buf(l, k), rnd_index(r), ty, mask, 0);
    }
    if (lir_type(l, v).dt == DT_F16) v = lir_cast(l, v, DT_F32);
    rnd_put(r, v);
}

static inline LVal rnd_cast(Rnd *r, uint16_t n) {
    DType from = rnd_types[rnd(r, 14)], to = rnd_types[rnd(r, 14)];
    LVal v = rnd_get(r, from, n);
    if (dt_is_float(from) && !dt_is_float(to)) {
        v = lir_op2(r->l, S_MAX, v, rnd_splat(r, from, dt_is_signed(to) ? -100 : 0, n));
        v = lir_op2(r->l, S_MIN, v, rnd_splat(r, from, 100, n));
    }
    if (dt_is_float(from) && rnd(r, 2)) { /* to half precision, seen as it is and back */
        LVal h = lir_cast(r->l, v, rnd(r, 2) ? DT_F16 : DT_BF16);
        rnd_put(r, h);
        return lir_cast(r->l, h, DT_F32);
    }
    if (rnd(r, 8) == 0) return lir_cast(r->l, v, DT_BOOL);
    return lir_cast(r->l, rnd(r, 8) ? v : rnd_get(r, DT_BOOL, n), rnd(r, 8) ? to : DT_F32);
}

static inline LVal rnd_vector(Rnd *r, uint16_t n, DType t) {
    Lir *l = r->l;
    int16_t idx[64];
    LVal v;
    switch (rnd(r, 10)) {
    case 0:
        return lir_insert(l, rnd_get(r, t, n), (uint16_t)rnd(r, n), rnd_get(r, t, 1));
    case 1: {
        uint16_t m = rnd_lanes[rnd(r, sizeof rnd_lanes / sizeof *rnd_lanes)];
        for (uint32_t k = 0; k < n; k++) idx[k] = (int16_t)rnd(r, 2u * m);
        return lir_shuffle(l, rnd_get(r, t, m), rnd_get(r, t, m), n, idx);
    }
    case 2:
        n = (uint16_t)(1u << rnd(r, 7));
        if (t == DT_BOOL) return lir_hreduce(l, rnd(r, 2) ? S_AND : S_OR, rnd_get(r, t, n));
        return lir_hreduce(l, (const SOp[]){S_ADD, S_MIN, S_MAX, S_MUL}[rnd(r, 4)],
                           rnd_get(r, t, n));
    case 3:
        n = (uint16_t)(1u << rnd(r, 7));
        return lir_permute_var(l, rnd_get(r, DT_F32, n), rnd_get(r, DT_I32, n));
    case 4:
        return lir_any(l, rnd_get(r, DT_BOOL, n));
    case 5:
        if (!rnd(r, 3)) return lir_add_pair(l, rnd_get(r, DT_I32, n), rnd_get(r, DT_I32, n));
        return (rnd(r, 2) ? lir_dot4 : lir_pairs)(l, rnd_get(r, DT_I32, n), rnd_get(r, DT_I32, n), rnd_get(r, DT_I32, n));
    case 6: {
        DType f = rnd(r, 3) ? DT_F32 : DT_F64;
        v = lir_op2(l, S_MUL, rnd_get(r, f, n), lir_splat(l, rnd_const(r, f), n));
        LVal e = lir_op2(
            l, S_MIN,
            lir_op2(l, S_MAX, lir_op1(l, S_RINT, rnd_get(r, f, n)), rnd_splat(r, f, -400, n)),
            rnd_splat(r, f, 400, n));
        return lir_scalef(l, v, e);
    }
    case 7:
        v = rnd_get(r, DT_F32, n);
        v = lir_op3(l, S_SELECT, lir_op2(l, S_EQ, v, v), v, rnd_splat(r, DT_F32, 0, n));
        return lir_bitcast(l, v, rnd(r, 2) ? DT_I32 : DT_U32);
    case 8:
        return lir_mask(l, lir_op2(l, S_AND, rnd_get(r, DT_I64, 1), lir_i64(l, 63)), n);
    default:
        return rnd_cast(r, n);
    }
}

static inline LVal rnd_arith(Rnd *r, uint16_t n, DType t) {
    Lir *l = r->l;
    LVal a = rnd_get(r, t, n), b = rnd_get(r, t, n);
    static const SOp fop[] = {S_ADD, S_SUB,   S_MUL,  S_DIV,   S_MIN,  S_MAX,  S_NEG,
                              S_ABS, S_FLOOR, S_CEIL, S_TRUNC, S_RINT, S_SQRT, S_FMA};
    static const SOp iop[] = {S_ADD, S_SUB, S_MUL, S_MIN, S_MAX, S_NEG, S_ABS,  S_AND, S_OR,
                              S_XOR, S_NOT, S_SHL, S_SHR, S_DIV, S_REM, S_FDIV, S_MOD};
    static const SOp cmp[] = {S_EQ, S_NE, S_LT, S_LE, S_GT, S_GE};
    if (rnd(r, 6) == 0) return lir_op3(l, S_SELECT, rnd_get(r, DT_BOOL, n), a, b);
    if (t == DT_BOOL)
        return rnd(r, 4)
                   ? lir_op2(l, (const SOp[]){S_AND, S_OR, S_XOR, S_EQ, S_NE}[rnd(r, 5)], a, b)
                   : lir_op1(l, S_NOT, a);
    if (rnd(r, 6) == 0) return lir_op2(l, cmp[rnd(r, 6)], a, b);
    SOp op = dt_is_float(t) ? fop[rnd(r, 14)] : iop[rnd(r, 17)];
    if (op == S_FMA)
        return r->flags & F_FMA ? lir_fma(l, a, b, rnd_get(r, t, n)) : lir_add(l, a, b);
    if (op == S_SHL || op == S_SHR) {
        b = lir_op2(l, S_AND, b, rnd_splat(r, t, dt_bits(t) - 1, n));
        return rnd(r, 3) ? lir_op2(l, op, a, b) : lir_shru(l, a, b);
    }
    if ((op == S_DIV && !dt_is_float(t)) || op == S_REM || op == S_FDIV || op == S_MOD) {
        if (rnd(r, 3) == 0)
            b = rnd_splat(r, t, (int64_t[]){1, 2, 3, 7, 16, 100}[rnd(r, 6)], n);
        else
            b = lir_op2(l, S_OR, lir_op2(l, S_AND, b, rnd_splat(r, t, 31, n)),
                        rnd_splat(r, t, 1, n));
        if (dt_is_signed(t) && rnd(r, 2))
            b = lir_sub(l, rnd_splat(r, t, rnd(r, 2) ? 2 : -2, n), b),
            b = lir_op2(l, S_OR, b, rnd_splat(r, t, 1, n)),
            a = lir_op2(l, S_MAX, a, rnd_splat(r, t, -100, n));
    }
    if (op == S_NEG || op == S_ABS || op == S_NOT || op == S_FLOOR || op == S_CEIL ||
        op == S_TRUNC || op == S_RINT || op == S_SQRT)
        return lir_op1(l, op, a);
    if (!dt_is_float(t) && rnd(r, 12) == 0) return lir_ltu(l, a, b);
    return lir_op2(l, op, a, b);
}

static inline void rnd_block(Rnd *r, int ops);
static inline void rnd_structure(Rnd *r) {
    Lir *l = r->l;
    uint32_t mark = r->nval, n = rnd(r, 4);
    LVal v[4], w[4], res[4];
    for (uint32_t k = 0; k < n; k++)
        v[k] = rnd_get(r, rnd_types[rnd(r, 16)], rnd_lanes[rnd(r, 13)]);
    r->depth++;
    if (rnd(r, 2)) {
        LVal lo = rnd(r, 2) ? lir_i64(l, rnd(r, 3))
                            : lir_op2(l, S_AND, rnd_get(r, DT_I64, 1), lir_i64(l, 3));
        LVal hi = rnd(r, 2) ? lir_i64(l, rnd(r, 6)) : lir_dim(l, 1);
        LFor f = lir_for(l, lo, hi, lir_i64(l, 1 + rnd(r, 3)), n, v);
        r->val[r->nval++] = f.iv;
        for (uint32_t k = 0; k < n; k++) r->val[r->nval++] = f.c[k];
        rnd_block(r, 12);
        for (uint32_t k = 0; k < n; k++) {
            LTy ty = lir_type(l, v[k]);
            w[k] = rnd(r, 4) ? rnd_get(r, (DType)ty.dt, ty.lanes) : f.c[k];
            for (uint32_t j = 0; j < n && rnd(r, 3) == 0; j++) /* swaps */
                if (lir_type(l, f.c[j]).dt == ty.dt && lir_type(l, f.c[j]).lanes == ty.lanes)
                    w[k] = f.c[j];
        }
        r->nval = mark;
        lir_for_end(l, &f, w, res);
    } else {
        LIf i = lir_if(l, rnd_get(r, DT_BOOL, 1), n);
        rnd_block(r, 8);
        for (uint32_t k = 0; k < n; k++)
            w[k] = rnd_get(r, (DType)lir_type(l, v[k]).dt, lir_type(l, v[k]).lanes);
        r->nval = mark;
        lir_else(l, &i, w);
        if (rnd(r, 2)) rnd_block(r, 8);
        r->nval = mark;
        lir_endif(l, &i, v, res);
    }
    r->depth--;
    for (uint32_t k = 0; k < n; k++) rnd_put(r, res[k]);
}

static inline void rnd_block(Rnd *r, int ops) {
    for (; ops > 0 && r->ops > 0 && r->nval < 3900; ops--, r->ops--) {
        uint16_t n = rnd_lanes[rnd(r, sizeof rnd_lanes / sizeof *rnd_lanes)];
        DType t = rnd_types[rnd(r, sizeof rnd_types / sizeof *rnd_types)];
        uint32_t what = rnd(r, 20);
        if (what < 3)
            rnd_memory(r, n);
        else if (what < 9)
            rnd_put(r, rnd_vector(r, n, t));
        else if (what < 10 && r->depth < 3)
            rnd_structure(r);
        else if (what < 11 && rnd(r, 8) == 0)
            lir_fail_if(r->l, lir_op2(r->l, S_EQ, rnd_get(r, DT_I32, n), rnd_get(r, DT_I32, n)),
                        rnd(r, 100));
        else
            rnd_put(r, rnd_arith(r, n, t));
    }
}

/* A program of about `ops` operations; the same for the same seed and flags. */
static inline void rnd_program(Rnd *r, Ctx *c, const char *name, uint64_t seed, uint32_t flags,
                               int ops) {
    r->seed = seed * 0x9e3779b97f4a7c15u + 1, r->flags = flags, r->ops = ops;
    r->nval = r->nout = r->at = r->depth = 0;
    r->l = lir_new(c, name, 8, RND_DIMS);
    for (uint32_t k = 0; k < RND_DIMS; k++) r->val[r->nval++] = lir_dim(r->l, k);
    r->val[r->nval++] = lir_t0(r->l);
    r->val[r->nval++] = lir_tstep(r->l);
    r->val[r->nval++] = lir_tid(r->l);
    r->val[r->nval++] = lir_ntid(r->l);
    lir_barrier(r->l);
    rnd_block(r, ops);
}
#endif
