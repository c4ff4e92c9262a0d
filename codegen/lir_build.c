/* lir_build.c: the second half of the builder: casts, vectors, memory and structure (lir.c has
 * constants and arithmetic). Displacements of addresses are split off here, masks that are known
 * disappear, loops that run exactly once are not built at all. */
#include <math.h>

#include "lir_internal.h"

#define NIL ((LVal){0})

static LVal unary(Lir *l, int op, LTy ty, LVal a) {
    LIns i = lir_mk(op, ty.dt, ty.lanes);
    return lir_pure(l, i, 1, &a);
}
static bool known_bool(const Lir *l, LVal v, bool b) {
    const LIns *i = lir_as_const(l, v);
    return i && i->ty.dt == DT_BOOL && (i->imm != 0) == b;
}
static bool is_ins(const Lir *l, LVal v, LOp op) { return l->ins.v[v.i].op == op; }

/* ---- conversions ----------------------------------------------------------------------------- */

/* f64 -> f32 rounded to odd, so that rounding once more to f16 or bf16 gives the correctly rounded
 * result. */
static LVal round_to_odd(Lir *l, LVal v) {
    LVal f = lir_cast(l, v, DT_F32), d = lir_cast(l, f, DT_F64), b = lir_bitcast(l, f, DT_I32);
    LVal rounded = lir_op1(l, S_ABS, d), over = lir_op2(l, S_GT, rounded, lir_op1(l, S_ABS, v));
    LVal odd = lir_op2(l, S_OR, lir_sub(l, b, lir_cast(l, over, DT_I32)), lir_int(l, DT_I32, 1));
    return lir_bitcast(l, lir_op3(l, S_SELECT, lir_op2(l, S_NE, d, v), odd, b), DT_F32);
}

static LVal fold_cast(Lir *l, const LIns *k, DType to, unsigned from_class, unsigned to_class) {
    if (from_class == LC_FLOAT || dt_is_half(k->ty.dt)) {
        if (dt_is_float(to)) return lir_const_float(l, to, k->ty.lanes, k->fimm);
        if (to == DT_BOOL) return lir_const_int(l, to, k->ty.lanes, k->fimm != 0);
        return fabs(k->fimm) < 0x1p31 ? lir_const_int(l, to, k->ty.lanes, (int64_t)k->fimm) : NIL;
    }
    if (to_class & (LC_INT | LC_BOOL)) return lir_const_int(l, to, k->ty.lanes, k->imm);
    if (k->ty.dt == DT_U64 && k->imm < 0) return NIL;
    if (to == DT_F32) return lir_const_float(l, to, k->ty.lanes, (double)(float)k->imm);
    return to == DT_F64 ? lir_const_float(l, to, k->ty.lanes, (double)k->imm) : NIL;
}

LVal lir_cast(Lir *l, LVal v, DType to) {
    LTy from = lir_type(l, v), ty = {(uint8_t)to, from.lanes};
    if (from.dt == to) return v;
    unsigned a = lir_class(from.dt), b = lir_class(to);
    bool ha = dt_is_half(from.dt), hb = dt_is_half(to);
    if ((!(a & (LC_FLOAT | LC_INT | LC_BOOL)) && !ha) ||
        (!(b & (LC_FLOAT | LC_INT | LC_BOOL)) && !hb))
        ICE("lir: %s: cast from %s to %s", l->name, dt_name(from.dt), dt_name(to));
    const LIns *k = lir_as_const(l, v);
    LVal r = k ? fold_cast(l, k, to, a, b) : NIL;
    if (r.i) return r;
    if (ha && to != DT_F32) return lir_cast(l, lir_cast(l, v, DT_F32), to);
    if (hb && from.dt == DT_F64) return lir_cast(l, round_to_odd(l, v), to);
    if (hb && from.dt != DT_F32)
        return lir_cast(l, lir_cast(l, v, lir_bits(from.dt) < 32 ? DT_F32 : DT_F64),
                        to); /* exact but for huge i64 */
    if (to == DT_BOOL)
        return lir_op2(l, S_NE, v,
                       b && a == LC_FLOAT ? lir_const_float(l, from.dt, from.lanes, 0)
                                          : lir_const_int(l, from.dt, from.lanes, 0));
    return unary(l, L_CAST, ty, v);
}

LVal lir_bitcast(Lir *l, LVal v, DType to) {
    LTy from = lir_type(l, v), ty = {(uint8_t)to, from.lanes};
    if (from.dt == to) return v;
    if (lir_bits(from.dt) != lir_bits(to) || from.dt == DT_BOOL || to == DT_BOOL ||
        from.dt == DT_PTR || to == DT_PTR)
        ICE("lir: %s: bitcast from %s to %s", l->name, dt_name(from.dt), dt_name(to));
    if (is_ins(l, v, L_BITCAST)) return lir_bitcast(l, lir_arg(l, v, 0), to);
    const LIns *k = lir_as_const(l, v);
    if (k && (!dt_is_float(from.dt) || !isnan(k->fimm)) && lir_bits(to) == dt_bits(to) &&
        lir_bits(to) == dt_bits(from.dt)) {
        uint64_t bits = 0;
        Scalar s = {from.dt, {.i = k->imm}};
        if (dt_is_float(from.dt)) s.f = k->fimm;
        dt_store(from.dt, &bits, 0, s);
        s = dt_load(to, &bits, 0);
        if (!dt_is_float(to)) return lir_const_int(l, to, ty.lanes, s.i);
        if (!isnan(s.f)) return lir_const_float(l, to, ty.lanes, s.f);
    }
    return unary(l, L_BITCAST, ty, v);
}

/* ---- vectors --------------------------------------------------------------------------------- */

LVal lir_splat(Lir *l, LVal s, uint16_t lanes) {
    LTy ty = lir_type(l, s);
    if (ty.lanes == lanes) return s;
    if (ty.lanes != 1)
        ICE("lir: %s: splat of a vector of %u lanes to %u", l->name, ty.lanes, lanes);
    const LIns *k = lir_as_const(l, s);
    if (k)
        return dt_is_float(ty.dt) ? lir_const_float(l, ty.dt, lanes, k->fimm)
                                  : lir_const_int(l, ty.dt, lanes, k->imm);
    LTy vt = {ty.dt, lanes};
    if (ty.dt == DT_I64) { /* constants of index arithmetic stay outermost */
        LLin x = lir_lin(l, s);
        if (x.c) return lir_addi(l, unary(l, L_SPLAT, vt, x.base), x.c);
    }
    return unary(l, L_SPLAT, vt, s);
}

static LVal const_lane(Lir *l, const LIns *k, uint32_t lane) {
    if (k->op == L_IOTA) return lir_const_int(l, k->ty.dt, 1, lane);
    if (k->op == L_TABLE) {
        Scalar s = l->tab.v[k->aux + lane];
        return dt_is_float(s.t) ? lir_const_float(l, s.t, 1, s.f) : lir_const_int(l, s.t, 1, s.i);
    }
    return dt_is_float(k->ty.dt) ? lir_const_float(l, k->ty.dt, 1, k->fimm)
                                 : lir_const_int(l, k->ty.dt, 1, k->imm);
}

LVal lir_extract(Lir *l, LVal v, uint16_t lane) {
    LTy ty = lir_type(l, v);
    CHECK(lane < ty.lanes);
    if (ty.lanes == 1) return v;
    LIns k = l->ins.v[v.i];
    if (k.op == L_CONST || k.op == L_IOTA || k.op == L_TABLE) return const_lane(l, &k, lane);
    if (k.op == L_SPLAT) return lir_arg(l, v, 0);
    if (k.op == L_INSERT)
        return k.imm == lane ? lir_arg(l, v, 1) : lir_extract(l, lir_arg(l, v, 0), lane);
    if (k.op == L_SHUFFLE && l->shuf.v[k.aux + lane] >= 0) {
        uint16_t from = (uint16_t)l->shuf.v[k.aux + lane], n = lir_type(l, lir_arg(l, v, 0)).lanes;
        return lir_extract(l, lir_arg(l, v, from >= n), (uint16_t)(from >= n ? from - n : from));
    }
    LIns i = lir_mk(L_EXTRACT, ty.dt, 1);
    i.imm = lane;
    return lir_pure(l, i, 1, &v);
}

LVal lir_insert(Lir *l, LVal v, uint16_t lane, LVal s) {
    LTy ty = lir_type(l, v), st = lir_type(l, s);
    CHECK(lane < ty.lanes && st.lanes == 1 && st.dt == ty.dt);
    if (ty.lanes == 1) return s;
    LIns i = lir_mk(L_INSERT, ty.dt, ty.lanes);
    i.imm = lane;
    return lir_pure(l, i, 2, (LVal[]){v, s});
}

LVal lir_shuffle(Lir *l, LVal a, LVal b, uint16_t lanes, const int16_t *idx) {
    if (!b.i) b = a;
    LTy ty = lir_type(l, a), bt = lir_type(l, b);
    CHECK(ty.dt == bt.dt && ty.lanes == bt.lanes && lanes >= 1);
    bool same = lanes == ty.lanes;
    for (uint16_t k = 0; k < lanes; k++) {
        CHECK(idx[k] >= -1 && idx[k] < 2 * ty.lanes);
        same &= idx[k] == k;
    }
    if (same) return a;
    if (lanes == 1) {
        uint16_t k = idx[0] < 0 ? 0 : (uint16_t)idx[0];
        return k < ty.lanes ? lir_extract(l, a, k) : lir_extract(l, b, (uint16_t)(k - ty.lanes));
    }
    if (a.i == b.i && (is_ins(l, a, L_SPLAT) || lir_as_const(l, a) || ty.lanes == 1))
        return lir_splat(l, lir_extract(l, a, 0), lanes);
    LIns i = lir_mk(L_SHUFFLE, ty.dt, lanes);
    i.aux = l->shuf.n;
    for (uint16_t k = 0; k < lanes; k++) vec_push(l->c, &l->shuf, idx[k]);
    LVal r = lir_pure(l, i, 2, (LVal[]){a, b});
    if (l->ins.v[r.i].aux != i.aux) l->shuf.n = i.aux;
    return r;
}

/* Lanes of vectors that differ in bit h of their numbers change places, for every h. */
void lir_transpose(Lir *l, LVal *v, uint16_t n) {
    int16_t lo[64], hi[64];
    CHECK(n <= 64);
    for (int h = n / 2; h; h /= 2) {
        for (int j = 0; j < n; j++) {
            lo[j] = (int16_t)(j & h ? n + j - h : j);
            hi[j] = (int16_t)(j & h ? n + j : j + h);
        }
        for (int i = 0; i < n; i++) {
            if (i & h) continue;
            LVal a = v[i], b = v[i + h];
            v[i] = lir_shuffle(l, a, b, n, lo);
            v[i + h] = lir_shuffle(l, a, b, n, hi);
        }
    }
}

bool lir_permutes(DType table, DType idx) {
    return table == DT_F32 ? idx == DT_I32 : idx == table && (table == DT_U16 || table == DT_U8);
}

LVal lir_permute_var(Lir *l, LVal table, LVal idx) {
    LTy ty = lir_type(l, table), it = lir_type(l, idx);
    CHECK(lir_permutes((DType)ty.dt, (DType)it.dt) && ty.lanes == it.lanes && (ty.lanes & (ty.lanes - 1)) == 0);
    if (ty.lanes == 1) return table;
    return lir_pure(l, lir_mk(L_PERMUTE, ty.dt, ty.lanes), 2, (LVal[]){table, idx});
}

LVal lir_hreduce(Lir *l, SOp op, LVal v) {
    LTy ty = lir_type(l, v);
    CHECK((ty.lanes & (ty.lanes - 1)) == 0);
    CHECK(op == S_ADD || op == S_MUL || op == S_MIN || op == S_MAX || op == S_AND || op == S_OR);
    CHECK(lir_sop_class[op] & lir_class(ty.dt));
    if (ty.lanes == 1) return v;
    LIns i = lir_mk(L_HREDUCE, ty.dt, 1);
    i.sop = (uint8_t)op;
    return lir_pure(l, i, 1, &v);
}

LVal lir_mask(Lir *l, LVal n, uint16_t lanes) {
    LTy ty = lir_type(l, n);
    CHECK(ty.dt == DT_I64 && ty.lanes == 1);
    int64_t k;
    if (lanes == 1) return lir_op2(l, S_GT, n, lir_i64(l, 0));
    if (lir_is_const(l, n, &k) && (k <= 0 || k >= lanes))
        return lir_const_int(l, DT_BOOL, lanes, k > 0);
    return unary(l, L_MASK, (LTy){DT_BOOL, lanes}, n);
}

LVal lir_any(Lir *l, LVal mask) {
    LTy ty = lir_type(l, mask);
    CHECK(ty.dt == DT_BOOL);
    const LIns *k = lir_as_const(l, mask);
    if (ty.lanes == 1) return mask;
    if (k) return lir_bool(l, k->imm != 0);
    if (is_ins(l, mask, L_SPLAT)) return lir_arg(l, mask, 0);
    return unary(l, L_ANY, (LTy){DT_BOOL, 1}, mask);
}

LVal lir_streq(Lir *l, LVal a, LVal b) {
    CHECK(lir_type(l, a).dt == DT_STR && lir_type(l, b).dt == DT_STR && lir_type(l, a).lanes == 1);
    return lir_pure(l, lir_mk(L_STREQ, DT_BOOL, 1), 2, (LVal[]){a, b});
}

static LVal dot4(Lir *l, LOp op, LVal acc, LVal u8x4, LVal s8x4) {
    lir_widen(l, &u8x4, &s8x4);
    lir_widen(l, &acc, &u8x4);
    LTy ty = lir_type(l, acc), a = lir_type(l, u8x4), b = lir_type(l, s8x4);
    CHECK(ty.dt == DT_I32 && a.dt == DT_I32 && b.dt == DT_I32 && ty.lanes == a.lanes &&
          ty.lanes == b.lanes);
    return lir_pure(l, lir_mk(op, ty.dt, ty.lanes), 3, (LVal[]){acc, u8x4, s8x4});
}

LVal lir_dot4(Lir *l, LVal acc, LVal u8x4, LVal s8x4) { return dot4(l, L_DOT4, acc, u8x4, s8x4); }
LVal lir_pairs(Lir *l, LVal pair, LVal u8x4, LVal s8x4) { return dot4(l, L_PAIRS, pair, u8x4, s8x4); }

LVal lir_add_pair(Lir *l, LVal acc, LVal pair) {
    lir_widen(l, &acc, &pair);
    LTy ty = lir_type(l, acc), p = lir_type(l, pair);
    CHECK(ty.dt == DT_I32 && p.dt == DT_I32 && ty.lanes == p.lanes);
    return lir_pure(l, lir_mk(L_ADD_PAIR, ty.dt, ty.lanes), 2, (LVal[]){acc, pair});
}

LVal lir_scalef(Lir *l, LVal x, LVal n) {
    lir_widen(l, &x, &n);
    LTy ty = lir_type(l, x), nt = lir_type(l, n);
    CHECK(lir_class(ty.dt) == LC_FLOAT && ty.dt == nt.dt && ty.lanes == nt.lanes);
    return lir_pure(l, lir_mk(L_SCALEF, ty.dt, ty.lanes), 2, (LVal[]){x, n});
}

/* ---- memory ---------------------------------------------------------------------------------- */

static unsigned elem_bytes(const Lir *l, DType t) {
    unsigned b = lir_bits(t) / 8;
    if (b == 0 || t == DT_PTR) ICE("lir: %s: elements of type %s in memory", l->name, dt_name(t));
    return b;
}

/* Alignment of an element of that many bytes: a pair of words has that of a word. */
static unsigned natural(unsigned bytes) { return bytes > 8 ? 8 : bytes; }

LAddr lir_address(Lir *l, LVal ptr, LVal idx, DType elem) {
    CHECK(lir_type(l, ptr).dt == DT_PTR);
    if (!idx.i) idx = lir_i64(l, 0);
    LTy it = lir_type(l, idx);
    CHECK(it.dt == DT_I64 && it.lanes == 1);
    LLin x = lir_lin(l, idx);
    LIns p = l->ins.v[ptr.i];
    if (p.op == L_PTR_ADD && p.imm &&
        p.aux == elem) { /* the displacement of the pointer joins ours */
        LVal a[2] = {lir_arg(l, ptr, 0), lir_arg(l, ptr, 1)};
        int64_t zero;
        x.c = (int64_t)((uint64_t)x.c + (uint64_t)p.imm);
        p.imm = 0;
        ptr = lir_is_const(l, a[1], &zero) && zero == 0 ? a[0] : lir_pure(l, p, 2, a);
    }
    return (LAddr){ptr, x.base.i ? x.base : lir_i64(l, 0), x.c};
}

static LVal check_mask(Lir *l, LVal mask, uint16_t lanes) {
    if (!mask.i) return mask;
    LTy mt = lir_type(l, mask);
    CHECK(mt.dt == DT_BOOL);
    mask = lir_splat(l, mask, lanes);
    return known_bool(l, mask, true) ? NIL : mask;
}
static LVal zero_of(Lir *l, LTy ty) {
    return dt_is_float(ty.dt) ? lir_const_float(l, ty.dt, ty.lanes, 0)
                              : lir_const_int(l, ty.dt, ty.lanes, 0);
}

LVal lir_load(Lir *l, LVal ptr, LVal idx, LTy ty, LVal mask, uint32_t align) {
    LIns i = lir_mk(L_LOAD, ty.dt, ty.lanes);
    unsigned size = elem_bytes(l, ty.dt);
    i.flags = l->separate, l->separate = false;
    mask = check_mask(l, mask, ty.lanes);
    if (mask.i && known_bool(l, mask, false)) return zero_of(l, ty);
    LAddr a = lir_address(l, ptr, idx, ty.dt);
    i.imm = a.disp, i.aux = align ? align : natural(size);
    CHECK((i.aux & (i.aux - 1)) == 0);
    return lir_append(l, i, mask.i ? 3 : 2, (LVal[]){a.ptr, a.idx, mask});
}

void lir_store(Lir *l, LVal ptr, LVal idx, LVal v, LVal mask, uint32_t align) {
    LTy ty = lir_type(l, v);
    LIns i = {.op = L_STORE};
    unsigned size = elem_bytes(l, ty.dt);
    mask = check_mask(l, mask, ty.lanes);
    if (mask.i && known_bool(l, mask, false)) return;
    LAddr a = lir_address(l, ptr, idx, ty.dt);
    i.imm = a.disp, i.aux = align ? align : natural(size);
    CHECK((i.aux & (i.aux - 1)) == 0);
    i.flags = l->streamed && !mask.i && size * ty.lanes % 64 == 0;
    l->streamed = false;
    lir_append(l, i, mask.i ? 4 : 3, (LVal[]){a.ptr, a.idx, v, mask});
}

static LVal vector_index(Lir *l, LVal *idx,
                         int64_t *disp) { /* a scalar index if there is only one lane */
    LTy it = lir_type(l, *idx);
    CHECK(it.dt == DT_I64 || it.dt == DT_I32);
    if (it.lanes == 1) return lir_cast(l, *idx, DT_I64);
    LLin x = lir_lin(l, *idx);
    if (it.dt == DT_I64 && x.base.i) *idx = x.base, *disp = x.c;
    return NIL;
}

LVal lir_gather(Lir *l, LVal ptr, LVal idx, DType t, LVal mask) {
    LIns i = lir_mk(L_GATHER, t, lir_type(l, idx).lanes);
    i.aux = natural(elem_bytes(l, t));
    LVal one = vector_index(l, &idx, &i.imm);
    if (one.i) return lir_load(l, ptr, one, i.ty, mask, 0);
    CHECK(lir_type(l, ptr).dt == DT_PTR);
    mask = check_mask(l, mask, i.ty.lanes);
    if (mask.i && known_bool(l, mask, false)) return zero_of(l, i.ty);
    return lir_append(l, i, mask.i ? 3 : 2, (LVal[]){ptr, idx, mask});
}

void lir_scatter(Lir *l, LVal ptr, LVal idx, LVal v, LVal mask) {
    LIns i = {.op = L_SCATTER};
    LTy ty = lir_type(l, v);
    i.aux = natural(elem_bytes(l, ty.dt));
    CHECK(lir_type(l, ptr).dt == DT_PTR && lir_type(l, idx).lanes == ty.lanes);
    LVal one = vector_index(l, &idx, &i.imm);
    if (one.i) {
        lir_store(l, ptr, one, v, mask, 0);
        return;
    }
    mask = check_mask(l, mask, ty.lanes);
    if (mask.i && known_bool(l, mask, false)) return;
    lir_append(l, i, mask.i ? 4 : 3, (LVal[]){ptr, idx, v, mask});
}

void lir_volatile_next(Lir *l) { l->separate = true; }

void lir_stream_next(Lir *l) { l->streamed = true; }

LVal lir_ptr_add(Lir *l, LVal ptr, LVal idx, DType elem) {
    LIns i = lir_mk(L_PTR_ADD, DT_PTR, 1);
    (void)elem_bytes(l, elem);
    LAddr a = lir_address(l, ptr, idx, elem);
    int64_t k;
    if (lir_is_const(l, a.idx, &k) && k == 0 && a.disp == 0) return a.ptr;
    i.imm = a.disp, i.aux = elem;
    return lir_pure(l, i, 2, (LVal[]){a.ptr, a.idx});
}

LVal lir_ptr_bytes(Lir *l, LVal ptr, LVal bytes) {
    LIns i = lir_mk(L_PTR_BYTES, DT_PTR, 1);
    LAddr a = lir_address(l, ptr, bytes, DT_NONE);
    int64_t k;
    if (lir_is_const(l, a.idx, &k) && k == 0 && a.disp == 0) return a.ptr;
    i.imm = a.disp;
    return lir_pure(l, i, 2, (LVal[]){a.ptr, a.idx});
}

void lir_prefetch(Lir *l, LVal ptr, LVal idx, DType elem, int level) {
    LIns i = {.op = L_PREFETCH};
    (void)elem_bytes(l, elem);
    CHECK(level >= 1 && level <= 3);
    LAddr a = lir_address(l, ptr, idx, elem);
    i.imm = a.disp, i.aux = elem, i.sop = (uint8_t)level;
    lir_append(l, i, 2, (LVal[]){a.ptr, a.idx});
}

void lir_tiles(Lir *l, LVal rows) {
    CHECK(lir_type(l, rows).dt == DT_I64 && lir_type(l, rows).lanes == 1);
    lir_append(l, (LIns){.op = L_TILES}, 1, &rows);
}

void lir_barrier(Lir *l) { lir_append(l, (LIns){.op = L_BARRIER}, 0, NULL); }
void lir_tiles_end(Lir *l) { lir_append(l, (LIns){.op = L_TILES_END}, 0, NULL); }

static int64_t tile_number(int tile) {
    CHECK(tile >= 0 && tile < LIR_TILES);
    return tile;
}

void lir_tile_zero(Lir *l, int tile) { lir_append(l, (LIns){.op = L_TILE_ZERO, .imm = tile_number(tile)}, 0, NULL); }

void lir_tile_dot4(Lir *l, int sum, int u8, int s8) {
    int64_t imm = tile_number(sum) | tile_number(u8) << 4 | tile_number(s8) << 8;
    lir_append(l, (LIns){.op = L_TILE_DOT4, .imm = imm}, 0, NULL);
}

static void tile_move(Lir *l, LOp op, int tile, LVal ptr, LVal idx, LVal pitch) {
    LAddr a = lir_address(l, ptr, idx, DT_U8);
    CHECK(lir_type(l, pitch).dt == DT_I64 && lir_type(l, pitch).lanes == 1);
    lir_append(l, (LIns){.op = (uint16_t)op, .imm = a.disp, .aux = (uint32_t)tile_number(tile)}, 3, (LVal[]){a.ptr, a.idx, pitch});
}

void lir_tile_load(Lir *l, int tile, LVal ptr, LVal idx, LVal pitch) { tile_move(l, L_TILE_LOAD, tile, ptr, idx, pitch); }

void lir_tile_store(Lir *l, int tile, LVal ptr, LVal idx, LVal pitch) { tile_move(l, L_TILE_STORE, tile, ptr, idx, pitch); }

/* ---- structure ------------------------------------------------------------------------------- */

static void region_open(Lir *l, uint32_t ins) {
    vec_push(l->c, &l->region, (LRegion){ins, l->scoped.list.n});
}
static void region_close(Lir *l, uint32_t ins) {
    if (l->region.n == 0 || l->region.v[l->region.n - 1].ins != ins)
        ICE("lir: %s: regions are not nested", l->name);
    lir_forget(l, l->region.v[--l->region.n].mark);
}

static void results(Lir *l, LOp op, uint32_t owner, uint32_t n, const LVal *like, LVal *out) {
    for (uint32_t k = 0; k < n; k++) {
        LTy ty = lir_type(l, like[k]);
        LIns i = lir_mk(op, ty.dt, ty.lanes);
        i.imm = k, i.aux = owner;
        out[k] = lir_append(l, i, 0, NULL);
    }
}

LFor lir_for(Lir *l, LVal lo, LVal hi, LVal step, uint32_t n, const LVal *init) {
    LFor f = {.n = n};
    CHECK(n <= sizeof f.c / sizeof f.c[0]);
    for (int k = 0; k < 3; k++) {
        LTy ty = lir_type(l, k == 0 ? lo : k == 1 ? hi : step);
        CHECK(ty.dt == DT_I64 && ty.lanes == 1);
    }
    int64_t a, b, s;
    if (lir_is_const(l, lo, &a) && lir_is_const(l, hi, &b) && lir_is_const(l, step, &s) && a < b &&
        b - a > 0 && s >= b - a) {
        f.iv = lo; /* exactly one trip: no region, lir_for_end returns `next` */
        for (uint32_t k = 0; k < n; k++) f.c[k] = init[k];
        return f;
    }
    LVal head[3 + 64] = {lo, hi, step};
    for (uint32_t k = 0; k < n; k++) head[3 + k] = init[k];
    f.iv = lir_append(l, lir_mk(L_FOR, DT_I64, 1), 3 + n, head);
    f.ins = f.iv.i;
    region_open(l, f.ins);
    results(l, L_CARRY, f.ins, n, init, f.c);
    return f;
}

LFor lir_for_tasks(Lir *l, LVal step, uint32_t n, const LVal *init) {
    LVal t0 = lir_t0(l), t1 = lir_t1(l);
    return lir_for(l, t0, t1, step, n, init);
}

static void check_results(const Lir *l, uint32_t n, const LVal *v, const LVal *like) {
    for (uint32_t k = 0; k < n; k++) {
        LTy a = lir_type(l, v[k]), b = lir_type(l, like[k]);
        if (a.dt != b.dt || a.lanes != b.lanes)
            ICE("lir: %s: result %u of a region is %s x%u, not %s x%u", l->name, k, dt_name(a.dt),
                a.lanes, dt_name(b.dt), b.lanes);
    }
}

void lir_for_end(Lir *l, LFor *f, const LVal *next, LVal *result) {
    check_results(l, f->n, next, f->c);
    if (!f->ins) {
        for (uint32_t k = 0; k < f->n; k++) result[k] = next[k];
        return;
    }
    LVal end = lir_append(l, (LIns){.op = L_ENDFOR, .imm = f->ins}, f->n, next);
    l->ins.v[f->ins].imm = end.i;
    region_close(l, f->ins);
    results(l, L_RESULT, end.i, f->n, f->c, result);
}

LIf lir_if(Lir *l, LVal cond, uint32_t n) {
    LTy ty = lir_type(l, cond);
    CHECK(ty.dt == DT_BOOL && ty.lanes == 1);
    LVal i = lir_append(l, (LIns){.op = L_IF}, 1, &cond);
    region_open(l, i.i);
    return (LIf){i.i, n};
}

void lir_else(Lir *l, LIf *i, const LVal *v) {
    LVal e = lir_append(l, (LIns){.op = L_ELSE}, i->n, v);
    region_close(l, i->ins);
    l->ins.v[i->ins].imm = e.i;
    i->ins = e.i;
    region_open(l, e.i);
}

void lir_endif(Lir *l, LIf *i, const LVal *v, LVal *result) {
    uint32_t first = 0;
    CHECK(i->ins && l->ins.v[i->ins].op == L_ELSE);
    const LVal *t = l->args.v + l->ins.v[i->ins].arg;
    check_results(l, i->n, v, t);
    for (first = i->ins; !(l->ins.v[first].op == L_IF && l->ins.v[first].imm == i->ins);) first--;
    LVal e = lir_append(l, (LIns){.op = L_ENDIF, .imm = first}, i->n, v);
    l->ins.v[i->ins].imm = e.i;
    region_close(l, i->ins);
    results(l, L_RESULT, e.i, i->n, v, result);
}

void lir_fail_if(Lir *l, LVal cond, uint32_t guard) {
    cond = lir_any(l, cond);
    if (known_bool(l, cond, false)) return;
    LIns i = {.op = L_FAIL_IF, .aux = guard};
    (void)lir_pure(l, i, 1, &cond); /* once per region is enough */
}
