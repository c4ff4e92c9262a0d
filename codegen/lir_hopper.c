/* lir_hopper.c: operations of targets with F_WGMMA: the builder, text and checks. */
#include <inttypes.h>

#include "lir_internal.h"

enum {
    MOST_REGISTERS = 240,
    LEAST_REGISTERS = 24,
    MOST_BARRIERS = 16,
    MOST_COLUMNS = 256,
    COLUMNS = 8 /* of a value of c */,
    SIXTEEN = 16
};

/* ---- builder ---- */

LVal lir_lane_first(Lir *l, LVal v) {
    LTy ty = lir_type(l, v);
    CHECK(ty.lanes == 1 && lir_bits((DType)ty.dt) == 32);
    return lir_append(l, lir_mk(L_LANE_FIRST, ty.dt, 1), 1,
                      &v); /* not numbered: all threads come here, whoever needs it */
}

LVal lir_halves(Lir *l, DType t, LVal low, LVal high) {
    LIns i = lir_mk(L_HALVES, DT_I32, 1);
    i.aux = t;
    CHECK(dt_is_half(t) && lir_type(l, low).dt == DT_F32 && lir_type(l, high).dt == DT_F32);
    return lir_pure(l, i, 2, (LVal[]){low, high});
}

LVal lir_exp2(Lir *l, LVal v) {
    CHECK(lir_type(l, v).dt == DT_F32 && lir_type(l, v).lanes == 1);
    return lir_pure(l, lir_mk(L_EXP2, DT_F32, 1), 1, &v);
}

void lir_store_matrix(Lir *l, LVal ptr, LVal at, LVal v, bool transposed) {
    LAddr a = lir_address(l, ptr, at, DT_NONE);
    lir_append(l, (LIns){.op = L_STORE_MATRIX, .imm = a.disp, .flags = transposed}, 3,
               (LVal[]){a.ptr, a.idx, v});
}

void lir_barrier_some(Lir *l, uint32_t id, uint32_t threads) {
    lir_append(l, (LIns){.op = L_BARRIER_SOME, .imm = id, .aux = threads, .flags = 1}, 0, NULL);
}
void lir_barrier_arrive(Lir *l, uint32_t id, uint32_t threads) {
    lir_append(l, (LIns){.op = L_BARRIER_SOME, .imm = id, .aux = threads}, 0, NULL);
}
void lir_registers(Lir *l, uint32_t n, bool more) {
    lir_append(l, (LIns){.op = L_REGISTERS, .imm = n, .flags = more}, 0, NULL);
}

void lir_mbarrier_init(Lir *l, LVal ptr, LVal at, uint32_t arrivals) {
    lir_append(l, (LIns){.op = L_MBARRIER_INIT, .imm = arrivals}, 2, (LVal[]){ptr, at});
}
void lir_fence_mbarriers(Lir *l) { lir_append(l, (LIns){.op = L_FENCE_MBARRIERS}, 0, NULL); }
void lir_mbarrier_arrive(Lir *l, LVal ptr, LVal at) {
    lir_append(l, (LIns){.op = L_MBARRIER_ARRIVE}, 2, (LVal[]){ptr, at});
}
void lir_mbarrier_expect(Lir *l, LVal ptr, LVal at, LVal bytes) {
    lir_append(l, (LIns){.op = L_MBARRIER_EXPECT}, 3, (LVal[]){ptr, at, bytes});
}
void lir_mbarrier_wait(Lir *l, LVal ptr, LVal at, LVal parity) {
    lir_append(l, (LIns){.op = L_MBARRIER_WAIT}, 3, (LVal[]){ptr, at, parity});
}
void lir_mbarrier_arrive_at(Lir *l, LVal ptr, LVal at, LVal rank) {
    lir_append(l, (LIns){.op = L_MBARRIER_ARRIVE_AT}, 3, (LVal[]){ptr, at, rank});
}
void lir_cluster_barrier(Lir *l) { lir_append(l, (LIns){.op = L_CLUSTER_BARRIER}, 0, NULL); }
void lir_fence_async(Lir *l) { lir_append(l, (LIns){.op = L_FENCE_ASYNC}, 0, NULL); }

void lir_bulk_load(Lir *l, LVal to, LVal to_at, LVal from, LVal from_at, LVal bytes, LVal mbarrier,
                   LVal mbarrier_at) {
    lir_append(l, (LIns){.op = L_BULK_LOAD}, 7,
               (LVal[]){to, to_at, from, from_at, mbarrier, mbarrier_at, bytes});
}

static int box_axes(const LMap *m) { return m->windows ? 2 : m->rank; }

uint32_t lir_map(Lir *l, LMap m) {
    for (int d = box_axes(&m); d < LIR_AXES; d++) m.box[d] = 0; /* maps are compared by their bytes */
    vec_push(l->c, &l->map, m);
    return l->map.n - 1;
}

uint32_t lir_map_bytes(const LMap *m) {
    uint32_t n = lir_bits((DType)m->dt) / 8;
    for (int d = 0; d < box_axes(m); d++) n *= m->box[d];
    return n;
}

static void tensor_load(Lir *l, bool all, LVal to, LVal to_at, uint32_t map, const LVal *at,
                        LVal mbarrier, LVal mbarrier_at) {
    LVal a[4 + LIR_AXES + LIR_WINDOW] = {to, to_at, mbarrier, mbarrier_at};
    CHECK(map < l->map.n && l->map.v[map].rank <= LIR_AXES);
    uint32_t n = lir_map_numbers(&l->map.v[map]);
    for (uint32_t d = 0; d < n; d++) a[4 + d] = at[d];
    lir_append(l, (LIns){.op = L_TENSOR_LOAD, .imm = map, .flags = all}, 4 + n, a);
}

void lir_tensor_load(Lir *l, LVal to, LVal to_at, uint32_t map, const LVal *at, LVal mbarrier,
                     LVal mbarrier_at) {
    tensor_load(l, false, to, to_at, map, at, mbarrier, mbarrier_at);
}
void lir_tensor_load_all(Lir *l, LVal to, LVal to_at, uint32_t map, const LVal *at, LVal mbarrier,
                         LVal mbarrier_at) {
    tensor_load(l, true, to, to_at, map, at, mbarrier, mbarrier_at);
}

void lir_tensor_store(Lir *l, LVal from, LVal from_at, uint32_t map, const LVal *at) {
    LVal a[2 + LIR_AXES] = {from, from_at};
    CHECK(map < l->map.n);
    uint32_t rank = l->map.v[map].rank;
    for (uint32_t d = 0; d < rank; d++) a[2 + d] = at[d];
    lir_append(l, (LIns){.op = L_TENSOR_STORE, .imm = map}, 2 + rank, a);
}

void lir_bulk_commit(Lir *l) { lir_append(l, (LIns){.op = L_BULK_COMMIT}, 0, NULL); }
void lir_bulk_wait(Lir *l, uint32_t pending, bool read) {
    lir_append(l, (LIns){.op = L_BULK_WAIT, .imm = pending, .flags = read}, 0, NULL);
}

/* An instruction that makes values of the first n operands. */
static void with_results(Lir *l, LIns i, uint32_t narg, const LVal *a, uint32_t n, LVal *v) {
    LVal of = lir_append(l, i, narg, a);
    for (uint32_t k = 0; k < n; k++) {
        LTy ty = lir_type(l, a[k]);
        LIns r = lir_mk(L_RESULT, ty.dt, ty.lanes);
        r.aux = of.i, r.imm = k;
        v[k] = lir_append(l, r, 0, NULL);
    }
}

void lir_wgmma(Lir *l, const LProduct *p, uint32_t n, LVal *c) {
    LVal a[MOST_COLUMNS / COLUMNS + 5];
    uint32_t k = n / COLUMNS, values = k;
    int64_t adds;
    LIns i = {.op = L_WGMMA,
              .sop = (uint8_t)p->in,
              .aux = p->b_panel,
              .flags = (p->a_turned ? LIR_A_TURNED : 0) | (p->b_turned ? LIR_B_TURNED : 0)};
    CHECK(n % COLUMNS == 0 && n > 0 && n <= MOST_COLUMNS);
    for (uint32_t j = 0; j < k; j++) a[j] = c[j];
    LAddr x = {.disp = 0}, y = lir_address(l, p->b, p->b_at, DT_NONE);
    if (p->a_at.i) {
        x = lir_address(l, p->a, p->a_at, DT_NONE);
        a[k++] = x.ptr, a[k++] = x.idx;
    } else {
        i.flags |= LIR_A_FRAGMENTS, a[k++] = p->a;
    }
    a[k++] = y.ptr, a[k++] = y.idx;
    CHECK(x.disp == (int32_t)x.disp && y.disp == (int32_t)y.disp);
    i.imm = (int64_t)((uint64_t)y.disp << 32 | (uint32_t)x.disp);
    if (p->add.i && !(lir_is_const(l, p->add, &adds) && adds)) i.flags |= LIR_ADD, a[k++] = p->add;
    with_results(l, i, k, a, values, c);
}

void lir_wgmma_fence(Lir *l, uint32_t n, LVal *v) {
    with_results(l, (LIns){.op = L_WGMMA_FENCE}, n, v, n, v);
}
void lir_wgmma_commit(Lir *l) { lir_append(l, (LIns){.op = L_WGMMA_COMMIT}, 0, NULL); }
void lir_wgmma_wait(Lir *l, uint32_t pending, uint32_t n, LVal *v) {
    with_results(l, (LIns){.op = L_WGMMA_WAIT, .imm = pending}, n, v, n, v);
}

/* ---- operands ---- */

uint32_t lir_hopper_values(const LIns *i) {
    if (i->op != L_WGMMA) return i->op == L_WGMMA_FENCE || i->op == L_WGMMA_WAIT ? i->narg : 0;
    return i->narg - 3u - (i->flags & LIR_A_FRAGMENTS ? 0 : 1) - (i->flags & LIR_ADD ? 1 : 0);
}

uint64_t lir_hopper_places(const Lir *l, const LIns *i) {
    uint32_t n = lir_hopper_values(i);
    (void)l;
    switch (i->op) {
    case L_BULK_LOAD:
        return 1 | 1 << 4;
    case L_TENSOR_LOAD:
        return 1 | 1 << 2;
    case L_STORE_MATRIX:
    case L_MBARRIER_INIT:
    case L_MBARRIER_ARRIVE:
    case L_MBARRIER_EXPECT:
    case L_MBARRIER_WAIT:
    case L_MBARRIER_ARRIVE_AT:
    case L_TENSOR_STORE:
        return 1;
    case L_WGMMA:
        return i->flags & LIR_A_FRAGMENTS ? (uint64_t)2 << n : (uint64_t)5 << n;
    default:
        return 0;
    }
}

static LTy type_of(const Lir *l, const LIns *i, uint32_t k) {
    return l->ins.v[l->args.v[i->arg + k].i].ty;
}
static bool is(LTy a, DType t, uint32_t lanes) { return a.dt == t && a.lanes == lanes; }
static bool is_constant(const Lir *l, LVal v, int64_t *k) { return lir_is_const(l, v, k); }

/* Operands from `first` on: places, then numbers. */
static bool places_and_numbers(const Lir *l, const LIns *i, uint32_t first, uint32_t places,
                               uint32_t numbers) {
    if (i->narg != first + 2 * places + numbers) return false;
    for (uint32_t k = 0; k < 2 * places + numbers; k++)
        if (!is(type_of(l, i, first + k), k < 2 * places && k % 2 == 0 ? DT_PTR : DT_I64, 1))
            return false;
    return true;
}

static bool map_fits(const LMap *m) {
    uint32_t size = lir_bits((DType)m->dt) / 8, row = size * m->box[0];
    bool ok = m->rank >= 1 && m->rank <= LIR_AXES && size && row && row % SIXTEEN == 0 &&
              (!m->swizzled || row == LIR_SWIZZLE_ROW) && (!m->windows || m->rank >= 3);
    for (int d = 0; d < box_axes(m) && ok; d++) ok = m->box[d] >= 1 && m->box[d] <= LIR_MOST_BOX;
    return ok;
}

static bool product_fits(const Lir *l, const LIns *i) {
    uint32_t n = lir_hopper_values(i), at = n, columns = n * COLUMNS;
    bool whole = i->sop == DT_I8 || i->sop == DT_U8, half = dt_is_half((DType)i->sop),
         turned = i->flags & (LIR_A_TURNED | LIR_B_TURNED);
    if (i->narg < 4 || n == 0 || columns > MOST_COLUMNS || (!whole && !half && i->sop != DT_F32) ||
        (turned && !half))
        return false;
    if (whole && columns % 16 && columns != 8 && columns != 24) return false;
    for (uint32_t k = 0; k < n; k++)
        if (!is(type_of(l, i, k), whole ? DT_I32 : DT_F32, 4)) return false;
    if (i->flags & LIR_A_FRAGMENTS) {
        if (i->flags & LIR_A_TURNED || !is(type_of(l, i, at++), DT_I32, 4)) return false;
    }
    uint32_t places = i->flags & LIR_A_FRAGMENTS ? 1 : 2, add = i->flags & LIR_ADD ? 1 : 0;
    for (uint32_t k = 0; k < 2 * places; k++)
        if (!is(type_of(l, i, at + k), k % 2 ? DT_I64 : DT_PTR, 1)) return false;
    if (add && !is(type_of(l, i, i->narg - 1u), DT_BOOL, 1)) return false;
    if (columns > 64 && i->flags & LIR_B_TURNED && !i->aux) return false;
    return at + 2 * places + add == i->narg && i->aux % LIR_SWIZZLE == 0 &&
           lir_wgmma_a(i) % SIXTEEN == 0 && lir_wgmma_b(i) % SIXTEEN == 0;
}

bool lir_hopper_fits(const Lir *l, const LIns *i) {
    int64_t k;
    LTy a = i->narg ? type_of(l, i, 0) : (LTy){0};
    const LMap *m = i->imm >= 0 && i->imm < l->map.n ? &l->map.v[i->imm] : NULL;
    switch (i->op) {
    case L_LANE_FIRST:
        return a.dt == i->ty.dt && is(i->ty, a.dt, 1) && lir_bits((DType)a.dt) == 32;
    case L_EXP2:
        return is(a, DT_F32, 1) && is(i->ty, DT_F32, 1);
    case L_HALVES:
        return is(a, DT_F32, 1) && is(type_of(l, i, 1), DT_F32, 1) && is(i->ty, DT_I32, 1) && dt_is_half((DType)i->aux);
    case L_STORE_MATRIX:
        return is(a, DT_PTR, 1) && is(type_of(l, i, 1), DT_I64, 1) &&
               is(type_of(l, i, 2), DT_I32, 4);
    case L_BARRIER_SOME:
        return i->imm > 0 && i->imm < MOST_BARRIERS && i->aux && i->aux % LIR_WARP == 0 &&
               i->aux <= l->threads;
    case L_REGISTERS:
        return i->imm >= LEAST_REGISTERS && i->imm <= MOST_REGISTERS && i->imm % 8 == 0 &&
               l->threads % LIR_WARPGROUP == 0;
    case L_MBARRIER_INIT:
        return i->imm > 0 && i->imm < 1 << 20 && places_and_numbers(l, i, 0, 1, 0);
    case L_MBARRIER_ARRIVE:
        return places_and_numbers(l, i, 0, 1, 0);
    case L_MBARRIER_EXPECT:
    case L_MBARRIER_WAIT:
        return places_and_numbers(l, i, 0, 1, 1) &&
               !(i->op == L_MBARRIER_WAIT && is_constant(l, l->args.v[i->arg + 2], &k) &&
                 (k < 0 || k > 1));
    case L_MBARRIER_ARRIVE_AT:
        return l->cluster && places_and_numbers(l, i, 0, 1, 1) &&
               !(is_constant(l, l->args.v[i->arg + 2], &k) && (k < 0 || k >= l->cluster));
    case L_CLUSTER_BARRIER:
        return l->cluster;
    case L_BULK_LOAD:
        return places_and_numbers(l, i, 0, 3, 1) &&
               !(is_constant(l, l->args.v[i->arg + 6], &k) && (k < 0 || k % SIXTEEN));
    case L_TENSOR_LOAD:
    case L_TENSOR_STORE:
        return m && map_fits(m) && (i->op == L_TENSOR_LOAD || !m->windows) && (!i->flags || l->cluster) &&
               places_and_numbers(l, i, 0, i->op == L_TENSOR_LOAD ? 2 : 1, lir_map_numbers(m));
    case L_BULK_WAIT:
        return i->imm >= 0;
    case L_WGMMA:
        return l->threads % LIR_WARPGROUP == 0 && product_fits(l, i);
    case L_WGMMA_WAIT:
        return i->imm >= 0 && i->imm < 8;
    default:
        return true;
    }
}

/* ---- sums that are under way ---- */

enum { ORDINARY = 1 /* made by an ordinary operation, and no fence is between */, UNDER_WAY = 2 };

static uint8_t operand_state(const Lir *l, const uint8_t *state, uint32_t v, uint32_t k,
                             bool carried) {
    uint32_t a = l->args.v[l->ins.v[v].arg + k].i;
    return l->ins.v[a].op == L_CONST && carried
               ? 0
               : state[a]; /* it is in registers before the loop begins */
}

static uint8_t state_of(const Lir *l, const uint8_t *state, uint32_t v) {
    const LIns *ins = l->ins.v, *i = &ins[v];
    uint32_t k = (uint32_t)i->imm, of = i->aux;
    if (i->op == L_CARRY)
        return operand_state(l, state, of, 3 + k, true) |
               operand_state(l, state, (uint32_t)ins[of].imm, k, true);
    if (i->op != L_RESULT) return ORDINARY;
    uint32_t start = (uint32_t)ins[of].imm;
    switch (ins[of].op) {
    case L_ENDFOR:
        return operand_state(l, state, of, k, true) | operand_state(l, state, start, 3 + k, true);
    case L_ENDIF:
        return operand_state(l, state, of, k, false) |
               operand_state(l, state, (uint32_t)ins[start].imm, k, false);
    case L_WGMMA:
        return UNDER_WAY;
    case L_WGMMA_FENCE:
        return operand_state(l, state, of, k, false) & UNDER_WAY;
    default:
        return 0;
    }
}

/* Whether the old sum is not looked at. */
static bool begins(const Lir *l, const LIns *i) {
    int64_t k;
    return i->flags & LIR_ADD && is_constant(l, l->args.v[i->arg + i->narg - 1u], &k) && !k;
}

const char *lir_hopper_order(const Lir *l, uint32_t *at) {
    uint8_t *state = NEWN(l->c, uint8_t, l->ins.n);
    bool grew = true;
    while (grew) {
        grew = false;
        for (uint32_t v = 1; v < l->ins.n; v++) {
            uint8_t s = state[v] | state_of(l, state, v);
            grew |= s != state[v];
            state[v] = s;
        }
    }
    for (*at = 1; *at < l->ins.n; ++*at) {
        const LIns *i = &l->ins.v[*at];
        uint32_t values = lir_hopper_values(i);
        bool passes = i->op == L_FOR || i->op == L_ENDFOR || i->op == L_ELSE || i->op == L_ENDIF;
        for (uint32_t k = 0; k < i->narg; k++) {
            uint8_t s = state[l->args.v[i->arg + k].i];
            bool data =
                k < values || (k == values && i->op == L_WGMMA && i->flags & LIR_A_FRAGMENTS);
            if (s & UNDER_WAY && !passes && k >= values)
                return "a sum that is under way must not go here";
            if (i->op == L_WGMMA && data && s & ORDINARY && !(k < values && begins(l, i)))
                return "a value that has gone through no fence";
        }
    }
    return NULL;
}

/* ---- text ---- */

static void place(Buf *b, const Lir *l, const LIns *i, uint32_t k, int64_t disp) {
    buf_printf(b, "%%%u[%%%u", l->args.v[i->arg + k].i, l->args.v[i->arg + k + 1].i);
    if (disp) buf_printf(b, disp < 0 ? " - %" PRId64 : " + %" PRId64, disp < 0 ? -disp : disp);
    buf_puts(b, "]");
}

static void values(Buf *b, const Lir *l, const LIns *i, uint32_t from, uint32_t to) {
    for (uint32_t k = from; k < to; k++)
        buf_printf(b, "%s%%%u", k > from ? ", " : "", l->args.v[i->arg + k].i);
}

static void print_product(Buf *b, const Lir *l, const LIns *i) {
    uint32_t n = lir_hopper_values(i), at = n;
    buf_printf(b, ".%s ", dt_name((DType)i->sop)), values(b, l, i, 0, n),
        buf_puts(b, i->flags & LIR_A_TURNED ? " + turned " : " + ");
    if (i->flags & LIR_A_FRAGMENTS)
        values(b, l, i, at, at + 1), at += 1;
    else
        place(b, l, i, at, lir_wgmma_a(i)), at += 2;
    buf_puts(b, i->flags & LIR_B_TURNED ? " * turned " : " * "), place(b, l, i, at, lir_wgmma_b(i));
    if (i->aux) buf_printf(b, " panels %u", i->aux);
    if (i->flags & LIR_ADD) buf_puts(b, " if "), values(b, l, i, i->narg - 1u, i->narg);
}

void lir_hopper_print(Buf *b, const Lir *l, const LIns *i) {
    switch (i->op) {
    case L_HALVES:
        buf_printf(b, ".%s ", dt_name((DType)i->aux)), values(b, l, i, 0, 2);
        break;
    case L_STORE_MATRIX:
        buf_puts(b, i->flags ? ".transposed " : " "), place(b, l, i, 0, i->imm), buf_puts(b, ", "),
            values(b, l, i, 2, 3);
        break;
    case L_BARRIER_SOME:
        buf_printf(b, "%s %" PRId64 " of %u", i->flags ? "" : ".arrive", i->imm, i->aux);
        break;
    case L_REGISTERS:
        buf_printf(b, ".%s %" PRId64, i->flags ? "more" : "less", i->imm);
        break;
    case L_MBARRIER_INIT:
    case L_MBARRIER_ARRIVE:
    case L_MBARRIER_EXPECT:
    case L_MBARRIER_WAIT:
    case L_MBARRIER_ARRIVE_AT:
        buf_puts(b, " "), place(b, l, i, 0, 0);
        if (i->op == L_MBARRIER_INIT) buf_printf(b, " of %" PRId64, i->imm);
        if (i->narg > 2) buf_puts(b, ", "), values(b, l, i, 2, 3);
        break;
    case L_BULK_LOAD:
        buf_puts(b, " "), place(b, l, i, 0, 0), buf_puts(b, " from "), place(b, l, i, 2, 0),
            buf_puts(b, " bytes "), values(b, l, i, 6, 7);
        buf_puts(b, " for "), place(b, l, i, 4, 0);
        break;
    case L_TENSOR_LOAD:
        buf_puts(b, i->flags ? ".all " : " "), place(b, l, i, 0, 0), buf_printf(b, " from map %" PRId64 "[", i->imm),
            values(b, l, i, 4, 4 + l->map.v[i->imm].rank);
        if (l->map.v[i->imm].windows) buf_puts(b, "] + ["), values(b, l, i, 4 + l->map.v[i->imm].rank, i->narg);
        buf_puts(b, "] for "), place(b, l, i, 2, 0);
        break;
    case L_TENSOR_STORE:
        buf_printf(b, " map %" PRId64 "[", i->imm), values(b, l, i, 2, i->narg), buf_puts(b, "], "),
            place(b, l, i, 0, 0);
        break;
    case L_BULK_WAIT:
        buf_printf(b, "%s %" PRId64, i->flags ? ".read" : "", i->imm);
        break;
    case L_WGMMA:
        print_product(b, l, i);
        break;
    case L_WGMMA_WAIT:
        buf_printf(b, " %" PRId64, i->imm);
        if (i->narg) buf_puts(b, ", "), values(b, l, i, 0, i->narg);
        break;
    default:
        if (i->narg) buf_puts(b, " "), values(b, l, i, 0, i->narg);
    }
}
