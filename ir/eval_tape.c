/* eval_tape.c: scalar expressions as a straight list of instructions over strips.
 *
 * In: the bodies of a map or the combiners of a reduce or scan. The DAG is compiled once per node
 * into a tape whose slots are reused after their last reader; running it costs one dispatch per
 * instruction and strip. Common operations are loops here; all others, and by test also these, are
 * what expr_eval_op() says. */
#include "eval_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ==== compiling ============================================================================== */

typedef struct Item { uint32_t expr; uint32_t next; } Item; /* next argument to visit */
typedef struct Maker {
    Ev *e;
    uint32_t *key, *pos;        /* expression -> place in `order`, open addressing */
    uint32_t nkey, cap;
    Expr *order;                /* arguments before their users */
    uint32_t n, ncap;
    uint32_t nsrc;              /* arguments altogether */
    Item *stack;
    uint32_t depth, dcap;
} Maker;

static bool grow(Ev *e, void **p, uint32_t *cap, size_t size) {
    uint32_t want = *cap ? *cap * 2 : 64;
    void *q = realloc(*p, size * want);
    if (!q) return ev_fail(e, "E0804", "no memory");
    *p = q;
    *cap = want;
    return true;
}

static uint32_t *find(const Maker *m, uint32_t key) {
    uint32_t h = key * 2654435761u;
    for (;; h++) {
        uint32_t k = h & (m->cap - 1);
        if (!m->key[k] || m->key[k] == key) return &m->pos[k];
    }
}

static bool add(Maker *m, Expr x, const ExprInfo *i) {
    if (m->n == m->ncap && !grow(m->e, (void **)&m->order, &m->ncap, sizeof *m->order))
        return false;
    if ((m->nkey + 1) * 2 > m->cap) {
        uint32_t cap = m->cap ? m->cap * 2 : 128;
        free(m->key);
        free(m->pos);
        m->key = calloc(cap, sizeof *m->key);
        m->pos = calloc(cap, sizeof *m->pos);
        if (!m->key || !m->pos) return ev_fail(m->e, "E0804", "no memory");
        m->cap = cap;
        for (uint32_t k = 0; k < m->n; k++) {
            uint32_t *p = find(m, m->order[k].i);
            *p = k;
            m->key[p - m->pos] = m->order[k].i;
        }
    }
    uint32_t *p = find(m, x.i);
    *p = m->n;
    m->key[p - m->pos] = x.i;
    m->nkey++;
    m->order[m->n++] = x;
    m->nsrc += i->narg;
    return true;
}

static bool seen(const Maker *m, Expr x) { return m->cap && m->key[find(m, x.i) - m->pos] == x.i; }

static bool push(Maker *m, Expr x) {
    if (m->depth == m->dcap && !grow(m->e, (void **)&m->stack, &m->dcap, sizeof *m->stack))
        return false;
    m->stack[m->depth++] = (Item){x.i, 0};
    return true;
}

static bool visit(Maker *m, Expr root) {
    if (!root.i) return ev_fail(m->e, "E0801", "an expression is poison");
    if (seen(m, root)) return true;
    if (!push(m, root)) return false;
    while (m->depth) {
        Item *top = &m->stack[m->depth - 1];
        Expr x = {top->expr};
        const ExprInfo *i = expr_info(m->e->c, x);
        if (i->kind == E_NONE) return ev_fail(m->e, "E0801", "an expression is poison");
        if (top->next < i->narg) {
            Expr a = i->arg[top->next++];
            if (!seen(m, a) && !push(m, a)) return false;
        } else {
            m->depth--;
            if (!seen(m, x) && !add(m, x, i)) return false;
        }
    }
    return true;
}

static bool is_leaf(unsigned kind) {
    return kind == E_CONST || kind == E_ARG || kind == E_AXIS || kind == E_DIM;
}

static DType widen(bool wide, DType t) { return wide && dt_is_float(t) ? DT_F64 : t; }

/* Slots: leaves and results keep theirs; others take one that is free and give back those read for
 * the last time. */
static bool assign(Maker *m, Tape *t, const Expr *body, uint32_t narg, const DType *argtype,
                   bool wide, uint32_t *last, uint32_t *slot) {
    Ctx *c = m->e->c;
    uint32_t *free_slot = ev_tmp(m->e, m->n, sizeof *free_slot), nfree = 0, nsrc = 0;
    if (!free_slot) return false;
    bool ok = true;
    for (uint32_t k = 0; k < m->n && ok; k++) {
        Expr x = m->order[k];
        const ExprInfo *i = expr_info(c, x);
        TapeIns ins = {.kind = i->kind,
                       .op = i->op,
                       .oob = i->oob,
                       .nsrc = (uint8_t)i->narg,
                       .src = nsrc,
                       .t = (DType)i->dtype,
                       .operand = i->index,
                       .guard = i->guard};
        ins.at = ins.t;
        if (i->narg > 20) ok = ev_fail(m->e, "E0801", "an expression has too many arguments");
        for (unsigned a = 0; ok && a < i->narg; a++) {
            uint32_t from = *find(m, i->arg[a].i);
            t->src[nsrc++] = slot[from];
            if (!a) ins.at = (DType)expr_info(c, i->arg[a])->dtype;
            if (last[from] == k) {
                free_slot[nfree++] = slot[from];
                last[from] = UINT32_MAX; /* once, also if it is an argument twice */
            }
        }
        bool pinned = is_leaf(i->kind) || last[k] == UINT32_MAX;
        slot[k] = !pinned && nfree ? free_slot[--nfree] : t->nslot++;
        ins.dst = slot[k];
        if (i->kind == E_OP) {
            ins.t = widen(wide, ins.t);
            ins.at = widen(wide, ins.at);
        }
        if (i->kind == E_ARG) {
            if (i->index >= narg || argtype[i->index] != i->dtype) {
                ok = ev_fail(m->e, "E0801", "an expression does not fit operand %u of %u", i->index,
                             narg);
            } else t->arg[i->index] = (int32_t)slot[k];
        } else if (i->kind == E_AXIS) {
            if (i->index >= MAX_RANK)
                ok = ev_fail(m->e, "E0801", "an expression uses axis %u", i->index);
            else t->axis[i->index] = (int32_t)slot[k];
        } else if (i->kind == E_LOAD && i->index >= narg) {
            ok =
                ev_fail(m->e, "E0801", "an expression loads from operand %u of %u", i->index, narg);
        } else {
            t->ins[t->nins++] = ins;
        }
    }
    for (uint32_t r = 0; r < t->nres && ok; r++) t->res[r] = slot[*find(m, body[r].i)];
    free(free_slot);
    return ok;
}

/* Constants and dims are filled once; the tape keeps what is computed per strip. */
static bool fill_leaves(Ev *e, const Maker *m, Tape *t, const uint32_t *slot) {
    for (uint32_t k = 0; k < m->n; k++) {
        const ExprInfo *i = expr_info(e->c, m->order[k]);
        Cell v = {0};
        if (i->kind == E_CONST) v = cell_of(i->val);
        else if (i->kind != E_DIM) continue;
        else if (!ev_dim(e, (Dim){i->index}, &v.i)) return false;
        Cell *d = tape_slot(t, slot[k]);
        for (int j = 0; j < t->len; j++) d[j] = v;
    }
    uint32_t n = 0;
    for (uint32_t k = 0; k < t->nins; k++) {
        if (!is_leaf(t->ins[k].kind)) t->ins[n++] = t->ins[k];
    }
    t->nins = n;
    return true;
}

bool tape_build(Ev *e, Tape *t, uint32_t nres, const Expr *body, uint32_t narg,
                const DType *argtype, bool wide) {
    *t = (Tape){.nres = nres};
    Maker m = {.e = e};
    bool ok = true;
    for (uint32_t r = 0; r < nres && ok; r++) ok = visit(&m, body[r]);
    t->ins = ev_tmp(e, m.n, sizeof *t->ins);
    t->src = ev_tmp(e, m.nsrc, sizeof *t->src);
    t->res = ev_tmp(e, nres, sizeof *t->res);
    t->arg = ev_tmp(e, narg, sizeof *t->arg);
    uint32_t *last = ev_tmp(e, m.n, sizeof *last), *slot = ev_tmp(e, m.n, sizeof *slot);
    ok = ok && t->ins && t->src && t->res && t->arg && last && slot;
    if (ok) {
        for (uint32_t k = 0; k < narg; k++) t->arg[k] = -1;
        for (int k = 0; k < MAX_RANK; k++) t->axis[k] = -1;
        for (uint32_t k = 0; k < m.n; k++) {
            const ExprInfo *i = expr_info(e->c, m.order[k]);
            last[k] = is_leaf(i->kind) ? UINT32_MAX : k;
            for (unsigned a = 0; a < i->narg; a++) {
                uint32_t from = *find(&m, i->arg[a].i);
                if (last[from] != UINT32_MAX) last[from] = k;
            }
        }
        for (uint32_t r = 0; r < nres; r++) last[*find(&m, body[r].i)] = UINT32_MAX;
        ok = assign(&m, t, body, narg, argtype, wide, last, slot);
    }
    if (ok) {
        int64_t len = ((int64_t)1 << 19) / (t->nslot + 1); /* 4 MiB of cells at most */
        t->len = len > 1024 ? 1024 : len < 16 ? 16 : (int)len;
        t->mem = ev_tmp(e, (int64_t)(t->nslot + 1) * t->len, sizeof *t->mem);
        ok = t->mem && fill_leaves(e, &m, t, slot);
    }
    free(last);
    free(slot);
    free(m.key);
    free(m.pos);
    free(m.order);
    free(m.stack);
    if (!ok) tape_free(t);
    return ok;
}

void tape_free(Tape *t) {
    free(t->ins);
    free(t->src);
    free(t->res);
    free(t->arg);
    free(t->mem);
    *t = (Tape){0};
}

/* ==== running ================================================================================ */

typedef struct Str { const char *ptr; uint64_t len; } Str; /* an element of type str */

static bool same_str(const char *a, const char *b) {
    Str x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x.len == y.len && (!x.len || !memcmp(x.ptr, y.ptr, x.len));
}

#define EACH(FIELD, EXPR)                                                    \
    do {                                                                     \
        for (int i = 0; i < n; i++) d[i].FIELD = (EXPR);                     \
        return true;                                                         \
    } while (0)
#define AF a[i].f
#define BF b[i].f
#define AI a[i].i
#define BI b[i].i
#define AU ((uint64_t)a[i].i)
#define BU ((uint64_t)b[i].i)

/* These return false for what they leave to expr_eval_op(). Results are not yet rounded to the
 * type. */
static bool float_op(SOp op, Cell *d, const Cell *a, const Cell *b, int n) {
    switch (op) {
    case S_ADD: EACH(f, AF + BF);
    case S_SUB: EACH(f, AF - BF);
    case S_MUL: EACH(f, AF * BF);
    case S_DIV: EACH(f, AF / BF);
    case S_NEG: EACH(f, -AF);
    case S_ABS: EACH(f, fabs(AF));
    case S_MIN: EACH(f, cell_min(AF, BF));
    case S_MAX: EACH(f, cell_max(AF, BF));
    case S_FLOOR: EACH(f, floor(AF));
    case S_CEIL: EACH(f, ceil(AF));
    case S_TRUNC: EACH(f, trunc(AF));
    case S_RINT: EACH(f, rint(AF));
    case S_SQRT: EACH(f, sqrt(AF));
    case S_EQ: EACH(i, AF == BF);
    case S_NE: EACH(i, AF != BF);
    case S_LT: EACH(i, AF < BF);
    case S_LE: EACH(i, AF <= BF);
    case S_GT: EACH(i, AF > BF);
    case S_GE: EACH(i, AF >= BF);
    case S_ISNAN: EACH(i, AF != AF);
    case S_ISINF: EACH(i, isinf(AF) != 0);
    default: return false;
    }
}

static int64_t int_fdiv(int64_t a, int64_t b) {
    if (!b) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}
static int64_t int_mod(int64_t a, int64_t b) {
    if (!b || b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static bool int_op(SOp op, DType t, Cell *d, const Cell *a, const Cell *b, int n) {
    bool wide = t == DT_U64; /* its cells are bits: order and division are unsigned */
    if (t == DT_BOOL && op != S_AND && op != S_OR && op != S_XOR && op != S_EQ && op != S_NE)
        return false;
    switch (op) {
    case S_ADD: EACH(i, (int64_t)(AU + BU));
    case S_SUB: EACH(i, (int64_t)(AU - BU));
    case S_MUL: EACH(i, (int64_t)(AU * BU));
    case S_NEG: EACH(i, (int64_t)(0 - AU));
    case S_AND: EACH(i, AI & BI);
    case S_OR: EACH(i, AI | BI);
    case S_XOR: EACH(i, AI ^ BI);
    case S_EQ: EACH(i, AI == BI);
    case S_NE: EACH(i, AI != BI);
    default: break;
    }
    if (wide) return false;
    switch (op) {
    case S_MIN: EACH(i, AI < BI ? AI : BI);
    case S_MAX: EACH(i, AI > BI ? AI : BI);
    case S_LT: EACH(i, AI < BI);
    case S_LE: EACH(i, AI <= BI);
    case S_GT: EACH(i, AI > BI);
    case S_GE: EACH(i, AI >= BI);
    case S_FDIV: EACH(i, int_fdiv(AI, BI));
    case S_MOD: EACH(i, int_mod(AI, BI));
    default: return false;
    }
}

static bool run_op(Ev *e, const Tape *t, const TapeIns *ins, int n) {
    const uint32_t *s = t->src + ins->src;
    Cell *d = tape_slot(t, ins->dst);
    const Cell *x[3] = {NULL, NULL, NULL};
    for (int k = 0; k < ins->nsrc && k < 3; k++) x[k] = tape_slot(t, s[k]);
    if (ins->op == S_SELECT) {
        for (int i = 0; i < n; i++) d[i] = x[0][i].i ? x[1][i] : x[2][i];
        return true;
    }
    bool fl = dt_is_float(ins->at), in = dt_is_int(ins->at) || ins->at == DT_BOOL;
    if (!fl && !in) {
        if ((ins->op != S_EQ && ins->op != S_NE) || ins->at != DT_STR) {
            return ev_fail(e, "E0805", "no operation %u on %s", ins->op, dt_name(ins->at));
        }
        for (int i = 0; i < n; i++) d[i].i = same_str(x[0][i].p, x[1][i].p) == (ins->op == S_EQ);
        return true;
    }
    if (fl ? float_op((SOp)ins->op, d, x[0], x[1], n)
           : int_op((SOp)ins->op, ins->at, d, x[0], x[1], n)) {
        if (ins->t != DT_BOOL || ins->at == DT_BOOL) cells_round(ins->t, d, n);
        return true;
    }
    for (int i = 0; i < n; i++) {
        Scalar arg[3];
        for (int k = 0; k < 3; k++)
            arg[k] = k < ins->nsrc ? cell_scalar(ins->at, x[k][i]) : (Scalar){.t = ins->at};
        d[i] = cell_of(expr_eval_op((SOp)ins->op, ins->at, arg));
    }
    return true;
}

static void run_bitcast(const TapeIns *ins, Cell *d, const Cell *s, int n) {
    for (int i = 0; i < n; i++) {
        char raw[16] = {0};
        cells_store(ins->at, raw, 1, &s[i], 1);
        cells_load(ins->t, &d[i], raw, 1, 1);
    }
}

static bool run_load(Ev *e, const Tape *t, const TapeIns *ins, int n, EVal *const *operand) {
    const EVal *v = operand[ins->operand];
    if (!v || v->kind != TY_TENSOR || v->dtype != ins->t) {
        return ev_fail(e, "E0805", "a load of %s does not fit its operand", dt_name(ins->t));
    }
    const uint32_t *s = t->src + ins->src;
    Cell *d = tape_slot(t, ins->dst);
    int rank = v->rank, width = ev_width(v->dtype);
    bool pad = ins->oob == OOB_VALUE && ins->nsrc == rank + 1;
    if (ins->nsrc != rank + pad)
        return ev_fail(e, "E0805", "a load of rank %d has %u indices", rank, ins->nsrc);
    for (int i = 0; i < n; i++) {
        int64_t off = 0;
        bool out = false;
        for (int a = 0; a < rank && !out; a++) {
            int64_t x = tape_slot(t, s[a])[i].i;
            if (x < 0 || x >= v->dim[a]) {
                if (ins->oob == OOB_CLAMP && v->dim[a]) x = x < 0 ? 0 : v->dim[a] - 1;
                else out = true;
            }
            if (!out) off += x * v->stride[a];
        }
        if (!out) {
            cells_load(v->dtype, &d[i], v->base + off * width, 1, 1);
        } else if (pad) {
            d[i] = tape_slot(t, s[rank])[i];
        } else if (ins->oob == OOB_VALUE || ins->oob == OOB_DROP || ins->oob == OOB_CLAMP) {
            d[i] = cell_zero(v->dtype); /* no pad value, or nothing to clamp to */
        } else {
            return ev_fail(e, "E0803", "%s",
                           ins->oob == OOB_FAIL ? expr_guard_text(e->c, ins->guard)
                                                : "a load believed to be in range is not");
        }
    }
    return true;
}

bool tape_run(Ev *e, const Tape *t, int n, EVal *const *operand) {
    for (uint32_t k = 0; k < t->nins; k++) {
        const TapeIns *ins = &t->ins[k];
        Cell *d = tape_slot(t, ins->dst);
        const Cell *s = ins->nsrc ? tape_slot(t, t->src[ins->src]) : NULL;
        switch (ins->kind) {
        case E_OP:
            if (!run_op(e, t, ins, n)) return false;
            break;
        case E_CAST: cells_cast(ins->at, ins->t, d, s, n); break;
        case E_BITCAST: run_bitcast(ins, d, s, n); break;
        case E_LOAD:
            if (!run_load(e, t, ins, n, operand)) return false;
            break;
        default: return ev_fail(e, "E0801", "an expression cannot be evaluated");
        }
    }
    return true;
}
