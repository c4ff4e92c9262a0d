/* lir_run.c: the interpreter. In: a Lir and its arguments; out: what the kernel writes, and
 * rt_kernel's status; every access is checked against its buffer, and the alignment it claims
 * against the address.
 *
 * A Lir is decoded once per run into Steps with direct pointers to lanes, so that a task costs
 * little beyond its lanes. lir_lanes.c has the operations; here are memory and structure. FMA
 * rounds once, as on targets with F_FMA. */
#include "lir.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lir_internal.h"
#include "lir_lanes.h"

typedef struct Tiles {
    uint8_t at[LIR_TILES][LIR_TILE_ROWS][LIR_TILE_PITCH];
    int64_t rows; /* of tiles 0 to 5; 0: none configured */
} Tiles;

typedef struct Machine {
    Run r;
    Step *step;       /* parallel to the instructions */
    uint64_t *carry;  /* room for the carried values of one loop */
    void *const *buf; /* arguments of lir_run .. */
    const size_t *bytes;
    void *scratch;
    size_t scratch_bytes, slack;
    uint32_t pc; /* instruction being executed */
    bool dead;   /* a message has been given */
    Tiles tiles;
} Machine;

#define OFFSET_BITS 48
static uint64_t pointer(uint32_t buffer, int64_t offset) {
    return (uint64_t)buffer << OFFSET_BITS |
           ((uint64_t)offset & (((uint64_t)1 << OFFSET_BITS) - 1));
}
static int64_t offset_of(uint64_t p) {
    return (int64_t)(p << (64 - OFFSET_BITS)) >> (64 - OFFSET_BITS);
}
static uint32_t buffer_of(uint64_t p) { return (uint32_t)(p >> OFFSET_BITS); }

static void dead(Machine *m, const char *what, uint64_t ptr, int64_t offset) {
    const Lir *l = m->r.l;
    const LIns *i = &l->ins.v[m->pc];
    uint32_t b = buffer_of(ptr),
             lanes = i->op == L_STORE || i->op == L_SCATTER ? m->step[m->pc].n : i->ty.lanes;
    bool scratch = b == l->nbuf;
    size_t size = m->step[m->pc].size;
    if (!m->dead)
        diag(m->r.c, SEV_ERROR, (Loc){0}, "X0502",
             "lir @%s: %%%u: %s (%u lanes of %zu bytes) at byte %" PRId64 " of %s %u (%zu bytes)",
             l->name, m->pc, what, lanes, size, offset, scratch ? "scratch" : "buffer",
             scratch ? 0 : b, scratch ? m->scratch_bytes : m->bytes[b]);
    m->dead = true;
}

/* The address of n bytes at ptr + (idx + disp) * size + extra, or NULL after a message. */
static char *locate(Machine *m, uint64_t ptr, int64_t idx, size_t n, uint32_t align, bool write) {
    const LIns *i = &m->r.l->ins.v[m->pc];
    uint32_t b = buffer_of(ptr);
    bool scratch = b == m->r.l->nbuf;
    size_t have = scratch ? m->scratch_bytes : m->bytes[b] + (write ? 0 : m->slack);
    int64_t at;
    if (__builtin_add_overflow(idx, i->imm, &at) ||
        __builtin_mul_overflow(at, (int64_t)m->step[m->pc].size, &at) ||
        __builtin_add_overflow(at, offset_of(ptr), &at))
        return dead(m, "address overflow", ptr, INT64_MAX), NULL;
    if (at < 0 || (uint64_t)at > have || have - (uint64_t)at < n)
        return dead(m, write ? "write out of bounds" : "read out of bounds", ptr, at), NULL;
    char *p = (char *)(scratch ? m->scratch : m->buf[b]) + at;
    if ((uintptr_t)p & (align - 1))
        return dead(m, "access less aligned than claimed", ptr, at), NULL;
    return p;
}

/* Elements in memory <-> lanes. */
static uint64_t read_elem(const Step *d, const char *p) {
    uint64_t v = 0;
    switch (d->size) {
    case 1:
        v = *(const uint8_t *)p;
        break;
    case 2: {
        uint16_t x;
        memcpy(&x, p, 2), v = x;
        break;
    }
    case 4: {
        uint32_t x;
        memcpy(&x, p, 4), v = x;
        break;
    }
    default:
        memcpy(&v, p, 8);
    }
    return d->dt == DT_BOOL             ? v != 0
           : dt_is_signed((DType)d->dt) ? (uint64_t)lir_wrap((DType)d->dt, (int64_t)v)
                                        : v;
}
static void write_elem(const Step *d, char *p, uint64_t v) {
    switch (d->size) {
    case 1:
        *(uint8_t *)p = (uint8_t)v;
        break;
    case 2: {
        uint16_t x = (uint16_t)v;
        memcpy(p, &x, 2);
        break;
    }
    case 4: {
        uint32_t x = (uint32_t)v;
        memcpy(p, &x, 4);
        break;
    }
    default:
        memcpy(p, &v, 8);
    }
}

static void load(Machine *m, const Step *d, const LIns *i) {
    if (!d->c) {
        const char *p = locate(m, d->a[0], (int64_t)d->b[0], (size_t)d->n * d->size, i->aux, false);
        if (!p) return;
        if (d->size == 4 && (d->dt == DT_F32 || d->dt == DT_U32)) {
            for (uint32_t k = 0; k < d->n; k++) {
                uint32_t x;
                memcpy(&x, p + 4 * (size_t)k, 4), d->dst[k] = x;
            }
            return;
        }
        for (uint32_t k = 0; k < d->n; k++) d->dst[k] = read_elem(d, p + (size_t)k * d->size);
        return;
    }
    for (uint32_t k = 0; k < d->n; k++) {
        const char *p =
            d->c[k] ? locate(m, d->a[0], (int64_t)d->b[0] + k, d->size, k ? 1 : i->aux, false)
                    : NULL;
        d->dst[k] = p ? read_elem(d, p) : 0;
    }
}

/* STORE: index b[0] + k; SCATTER and GATHER: index b[k]. The value stored is in `c`, the mask at
 * `mask`. */
static void store(Machine *m, const Step *d, const LIns *i, const uint64_t *mask) {
    bool vec = i->op == L_SCATTER;
    if (!mask && !vec) {
        char *p = locate(m, d->a[0], (int64_t)d->b[0], (size_t)d->n * d->size, i->aux, true);
        for (uint32_t k = 0; p && k < d->n; k++) write_elem(d, p + (size_t)k * d->size, d->c[k]);
        return;
    }
    for (uint32_t k = 0; k < d->n && !m->dead; k++) {
        if (mask && !mask[k]) continue;
        int64_t idx = vec ? (int64_t)d->b[k] : (int64_t)(d->b[0] + k);
        char *p = locate(m, d->a[0], idx, d->size, vec || k ? 1 : i->aux, true);
        if (p) write_elem(d, p, d->c[k]);
    }
}

static void gather(Machine *m, const Step *d) {
    for (uint32_t k = 0; k < d->n; k++) {
        const char *p =
            !d->c || d->c[k] ? locate(m, d->a[0], (int64_t)d->b[k], d->size, 1, false) : NULL;
        d->dst[k] = p ? read_elem(d, p) : 0;
    }
}

static void move_pointer(Machine *m, const Step *d, const LIns *i) {
    int64_t at;
    const int64_t limit = (int64_t)1 << (OFFSET_BITS - 2);
    if (__builtin_add_overflow((int64_t)d->b[0], i->imm, &at) ||
        __builtin_mul_overflow(at, (int64_t)d->size, &at) ||
        __builtin_add_overflow(at, offset_of(d->a[0]), &at) || at >= limit || at < -limit)
        dead(m, "pointer out of range", d->a[0], INT64_MAX);
    else
        d->dst[0] = pointer(buffer_of(d->a[0]), at);
}

static int64_t tile_rows(const Tiles *t, uint32_t tile) { return tile < 6 ? t->rows : t->rows ? LIR_TILE_ROWS : 0; }

static void tile_move(Machine *m, const Step *d, const LIns *i) {
    Tiles *t = &m->tiles;
    bool write = i->op == L_TILE_STORE;
    for (int64_t r = 0; r < tile_rows(t, i->aux); r++) {
        char *p = locate(m, d->a[0], (int64_t)(d->b[0] + (uint64_t)r * d->c[0]), LIR_TILE_PITCH, 1, write);
        if (!p) return;
        memcpy(write ? (void *)p : t->at[i->aux][r], write ? (const void *)t->at[i->aux][r] : p, LIR_TILE_PITCH);
    }
}

static void tile_dot4(Tiles *t, const LIns *i) {
    uint32_t sum = i->imm & 15, u8 = i->imm >> 4 & 15, s8 = (uint32_t)(i->imm >> 8);
    for (int64_t r = 0; r < tile_rows(t, sum); r++)
        for (int n = 0; n < LIR_TILE_PITCH / 4; n++) {
            uint32_t v;
            memcpy(&v, t->at[sum][r] + 4 * n, 4);
            for (int k = 0; k < LIR_TILE_PITCH; k++)
                v += (uint32_t)((int32_t)t->at[u8][r][k] * (int8_t)t->at[s8][k / 4][4 * n + k % 4]);
            memcpy(t->at[sum][r] + 4 * n, &v, 4);
        }
}

/* Instructions on tiles; false: not one. */
static bool tiles(Machine *m, const Step *d, const LIns *i) {
    Tiles *t = &m->tiles;
    switch (i->op) {
    case L_TILES:
        t->rows = (int64_t)d->a[0];
        if (t->rows < 1 || t->rows > LIR_TILE_ROWS) m->r.fault = "tiles of no or too many rows";
        return true;
    case L_TILES_END:
        t->rows = 0;
        return true;
    case L_TILE_ZERO:
        memset(t->at[i->imm], 0, sizeof t->at[0]);
        break;
    case L_TILE_DOT4:
        tile_dot4(t, i);
        break;
    case L_TILE_LOAD:
    case L_TILE_STORE:
        tile_move(m, d, i);
        break;
    default:
        return false;
    }
    if (!t->rows) m->r.fault = "tiles before they are configured";
    return true;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static uint32_t room(const Lir *l, const LIns *i) { /* HREDUCE works in place */
    return i->op == L_HREDUCE ? l->ins.v[l->args.v[i->arg].i].ty.lanes : i->ty.lanes;
}

static uint64_t const_lane(DType t, int64_t i, double f) {
    uint64_t bits = 0;
    if (!dt_is_float(t)) return (uint64_t)lir_wrap(t, i);
    dt_store(t, &bits, 0, (Scalar){t, {.f = f}});
    return bits;
}

/* Decodes every instruction; lane[v] is where the lanes of value v start. */
static void decode(Machine *m, const uint32_t *lane, const int64_t *dim, int64_t t0, int64_t t1) {
    const Lir *l = m->r.l;
    uint64_t *s = m->r.s;
    for (uint32_t v = 1; v < l->ins.n; v++) {
        const LIns *i = &l->ins.v[v];
        const LVal *a = l->args.v + i->arg;
        Step *d = &m->step[v];
        DType from =
                  i->narg ? (DType)l->ins.v[a[i->op == L_OP ? i->narg - 1u : 0].i].ty.dt : DT_NONE,
              to = (DType)i->ty.dt;
        d->op = i->op, d->n = i->ty.lanes, d->dt = i->ty.dt, d->dst = s + lane[v];
        if (i->narg > 0) d->a = s + lane[a[0].i];
        if (i->narg > 1) d->b = s + lane[a[1].i];
        if (i->narg > 2) d->c = s + lane[a[2].i];
        switch (i->op) {
        case L_BUF:
            d->dst[0] = pointer((uint32_t)i->imm, 0);
            break;
        case L_SCRATCH:
            d->dst[0] = pointer(l->nbuf, 0);
            break;
        case L_DIM:
            d->dst[0] = (uint64_t)dim[i->imm];
            break;
        case L_T0:
            d->dst[0] = (uint64_t)t0;
            break;
        case L_T1:
            d->dst[0] = (uint64_t)t1;
            break;
        case L_TID:
            d->dst[0] = 0;
            break;
        case L_NTID:
        case L_TSTEP:
            d->dst[0] = 1;
            break;
        case L_CONST:
            for (uint32_t k = 0; k < d->n; k++) d->dst[k] = const_lane(to, i->imm, i->fimm);
            break;
        case L_IOTA:
            for (uint32_t k = 0; k < d->n; k++) d->dst[k] = const_lane(to, k, 0);
            break;
        case L_TABLE:
            for (uint32_t k = 0; k < d->n; k++) {
                const Scalar *c = &l->tab.v[i->aux + k];
                d->dst[k] =
                    const_lane(to, dt_is_float(c->t) ? 0 : c->i, dt_is_float(c->t) ? c->f : 0);
            }
            break;
        case L_STREQ:
            ICE("lir_run: %s: strings cannot be interpreted", l->name);
        case L_OP:
            d->fn = lane_op((SOp)i->sop, from), d->size = i->sop;
            if (!d->fn) ICE("lir_run: %s: no operation %u on %s", l->name, i->sop, dt_name(from));
            break;
        case L_HREDUCE:
            d->combine = lane_op((SOp)i->sop, from), d->width = room(l, i),
            d->fn = lane_other(L_HREDUCE, from, to);
            break;
        case L_EXTRACT:
        case L_INSERT:
            d->width = (uint32_t)i->imm, d->fn = lane_other((LOp)i->op, from, to);
            break;
        case L_ANY:
            d->width = l->ins.v[a[0].i].ty.lanes, d->fn = lane_other(L_ANY, from, to);
            break;
        case L_STORE:
        case L_SCATTER:
            d->dt = l->ins.v[a[2].i].ty.dt, d->n = l->ins.v[a[2].i].ty.lanes,
            d->size = (uint8_t)(lir_bits((DType)d->dt) / 8);
            break;
        case L_LOAD:
        case L_GATHER:
            d->size = (uint8_t)(lir_bits(to) / 8);
            break;
        case L_PTR_ADD:
            d->size = (uint8_t)(lir_bits((DType)i->aux) / 8);
            break;
        case L_PTR_BYTES:
        case L_TILE_LOAD:
        case L_TILE_STORE:
            d->size = 1;
            break;
        case L_CARRY:
            m->step[i->aux].width += d->n;
            break;
        case L_RESULT:
            m->step[i->aux].width += d->n;
            break;
        default:
            d->fn = lane_other((LOp)i->op, from, to);
        }
        if (i->op == L_CAST && !d->fn)
            ICE("lir_run: %s: cast %s to %s", l->name, dt_name(from), dt_name(to));
    }
}

/* ---- execution ------------------------------------------------------------------------------- */

/* Operands from..narg of i, packed into m->carry, then to the consecutive lanes at dst: all at
 * once, as they may swap. */
static void transfer(Machine *m, const LIns *i, uint32_t from, uint64_t *dst) {
    const Lir *l = m->r.l;
    uint32_t n = 0;
    for (uint32_t k = from; k < i->narg; k++) {
        uint32_t v = l->args.v[i->arg + k].i;
        memcpy(m->carry + n, m->step[v].dst, l->ins.v[v].ty.lanes * sizeof *dst);
        n += l->ins.v[v].ty.lanes;
    }
    if (n) memcpy(dst, m->carry, n * sizeof *dst);
}

static int32_t execute(Machine *m) {
    const Lir *l = m->r.l;
    const LIns *ins = l->ins.v;
    uint32_t n = l->ins.n;
    for (uint32_t v = 1; v < n;) {
        const Step *d = &m->step[v];
        const LIns *i = &ins[v];
        uint32_t next = v + 1;
        m->pc = v;
        if (d->fn) {
            d->fn(&m->r, d);
            if (m->r.fault)
                return diag(m->r.c, SEV_ERROR, (Loc){0}, "X0502", "lir @%s: %%%u: %s", l->name, v,
                            m->r.fault),
                       -1;
            v = next;
            continue;
        }
        switch (i->op) {
        case L_SHUFFLE: {
            const int16_t *idx = l->shuf.v + i->aux;
            uint32_t na = ins[l->args.v[i->arg].i].ty.lanes;
            for (uint32_t k = 0; k < d->n; k++) {
                uint32_t x = (uint32_t)idx[k];
                d->dst[k] = idx[k] < 0 ? 0 : x < na ? d->a[x] : d->b[x - na];
            }
            break;
        }
        case L_PTR_ADD:
        case L_PTR_BYTES:
            move_pointer(m, d, i);
            break;
        case L_LOAD:
            load(m, d, i);
            break;
        case L_GATHER:
            gather(m, d);
            break;
        case L_STORE:
        case L_SCATTER:
            store(m, d, i, i->narg == 4 ? m->step[l->args.v[i->arg + 3].i].dst : NULL);
            break;
        case L_FOR: {
            int64_t lo = (int64_t)d->a[0], hi = (int64_t)d->b[0], step = (int64_t)d->c[0];
            uint32_t ncarry = i->narg - 3u, end = (uint32_t)i->imm;
            if (step <= 0)
                return diag(m->r.c, SEV_ERROR, (Loc){0}, "X0502",
                            "lir @%s: %%%u: loop step %" PRId64, l->name, v, step),
                       -1;
            d->dst[0] = (uint64_t)lo;
            if (lo < hi)
                transfer(m, i, 3, m->step[v + 1].dst), next = v + 1 + ncarry;
            else if (ncarry)
                transfer(m, i, 3, m->step[end + 1].dst), next = end + 1 + ncarry;
            else
                next = end + 1;
            break;
        }
        case L_ENDFOR: {
            const Step *head = &m->step[i->imm];
            int64_t iv;
            bool more = !__builtin_add_overflow((int64_t)head->dst[0], (int64_t)head->c[0], &iv) &&
                        iv < (int64_t)head->b[0];
            if (i->narg) transfer(m, i, 0, m->step[(more ? (uint32_t)i->imm : v) + 1].dst);
            if (more) head->dst[0] = (uint64_t)iv;
            next = (more ? (uint32_t)i->imm : v) + 1 + i->narg;
            break;
        }
        case L_IF:
            if (!d->a[0]) next = (uint32_t)i->imm + 1;
            break;
        case L_ELSE: /* end of the then part */
            if (i->narg) transfer(m, i, 0, m->step[i->imm + 1].dst);
            next = (uint32_t)i->imm + 1 + i->narg;
            break;
        case L_ENDIF:
            if (i->narg) transfer(m, i, 0, m->step[v + 1].dst);
            next = v + 1 + i->narg;
            break;
        case L_FAIL_IF:
            if (d->a[0]) return 1 + (int32_t)i->aux;
            break;
        default: /* else parameters, constants, prefetch */
            if (tiles(m, d, i) && m->r.fault)
                return diag(m->r.c, SEV_ERROR, (Loc){0}, "X0502", "lir @%s: %%%u: %s", l->name, v, m->r.fault), -1;
        }
        if (m->dead) return -1;
        v = next;
    }
    return 0;
}

int32_t lir_run(Ctx *c, const Lir *l, void *const *buf, const size_t *bytes, const int64_t *dim,
                int64_t t0, int64_t t1, void *scratch, size_t scratch_bytes, size_t slack) {
    Machine m = {.r = {.c = c, .l = l},
                 .buf = buf,
                 .bytes = bytes,
                 .scratch = scratch,
                 .scratch_bytes = scratch_bytes,
                 .slack = slack};
    CHECK(l->nbuf < 60000);
    if (l->threads) return diag(c, SEV_ERROR, (Loc){0}, "X0504", "lir @%s: blocks of %u threads are not interpreted", l->name, l->threads), -1;
    uint32_t *lane = malloc(sizeof *lane * l->ins.n);
    m.step = calloc(l->ins.n, sizeof *m.step);
    uint64_t total = 0, widest = 0;
    for (uint32_t v = 1; v < l->ins.n && lane; v++) {
        lane[v] = (uint32_t)total;
        total += room(l, &l->ins.v[v]);
        uint64_t w = 0;
        const LIns *i = &l->ins.v[v];
        if (i->op == L_FOR || i->op == L_ENDFOR || i->op == L_ELSE || i->op == L_ENDIF)
            for (uint32_t k = 0; k < i->narg; k++) w += l->ins.v[l->args.v[i->arg + k].i].ty.lanes;
        if (w > widest) widest = w;
    }
    int32_t rc = -1;
    if (total < UINT32_MAX) {
        m.r.s = malloc(sizeof *m.r.s * (total + 1));
        m.carry = malloc(sizeof *m.carry * (widest + 1));
    }
    if (lane && m.step && m.r.s && m.carry) {
        decode(&m, lane, dim, t0, t1);
        rc = execute(&m);
    } else {
        diag(c, SEV_ERROR, (Loc){0}, "X0503", "lir @%s: out of memory for its values", l->name);
    }
    free(lane), free(m.step), free(m.r.s), free(m.carry);
    return rc;
}
