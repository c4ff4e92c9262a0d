/* dim.c: symbolic dimensions: the table of interned nodes, symbols, unification, accessors,
 * evaluation.
 *
 * In: constructor calls (dim_ops.c), symbols, facts (dim_unify). Out: handles; every accessor
 * answers for the canonical form under the facts known so far. Invariant: a symbol is linked only
 * to a dim of symbols that are defined before it (inputs before bound ones, bound ones in order),
 * so links have no cycles and whatever is computed from a dim can be computed where the dim itself
 * could. Ranges only ever narrow. */
#include <ctype.h>
#include <string.h>

#include "dim_internal.h"

static const DimNode poison = {
    .info = {.kind = D_POISON, .lo = INT64_MIN, .hi = INT64_MAX, .mult = 1}, .size = 1};

DimTable *dim_table(Ctx *c) {
    if (!c->dim) {
        DimTable *t = c->dim = NEW(c, DimTable);
        t->name.c = t->stem.c = c;
        vec_push(c, &t->node, poison);
    }
    return c->dim;
}

const DimNode *dim_node(const Ctx *c, Dim d) {
    return c->dim && d.i < c->dim->node.n ? &c->dim->node.v[d.i] : &poison;
}

Dim dim_fail(Ctx *c, DimFailure f) {
    static const struct { Sev sev; const char *code, *text; } message[] = {
        {SEV_ERROR, "E0390", "a dimension does not fit in 64 bits"},
        {SEV_ERROR, "E0391", "division by zero in a dimension"},
        {SEV_UNSUPPORTED, "U0392", "the expression of a dimension is too large"},
    };
    DimTable *t = dim_table(c);
    if (!t->told[f]) diag(c, message[f].sev, c->here, message[f].code, "%s", message[f].text);
    t->told[f] = true;
    return (Dim){0};
}

/* ==== order =================================================================================== */

static int kind_rank(DimKind k) { return k == D_SYM ? 0 : k == D_CONST ? 100 : (int)k; }

/* Different nodes differ in structure, so only the first differing arguments are descended into. */
int dim_order(const Ctx *c, Dim a, Dim b) {
    while (a.i != b.i) {
        const DimNode *x = dim_node(c, a), *y = dim_node(c, b);
        if (x->info.kind != y->info.kind)
            return kind_rank(x->info.kind) < kind_rank(y->info.kind) ? -1 : 1;
        if (x->info.kind == D_CONST) return x->info.val < y->info.val ? -1 : 1;
        if (x->info.kind == D_SYM && x->info.val != y->info.val)
            return strcmp(dim_sym_info(c, (uint32_t)x->info.val)->name,
                          dim_sym_info(c, (uint32_t)y->info.val)->name);
        int k = 0;
        while (k < x->info.n && x->info.arg[k].i == y->info.arg[k].i) k++;
        if (k == x->info.n) return x->pinned + x->opaque < y->pinned + y->opaque ? -1 : 1;
        a = x->info.arg[k];
        b = y->info.arg[k];
    }
    return 0;
}

/* ==== interning =============================================================================== */

static Range range_of(const DimNode *n) { return (Range){n->info.lo, n->info.hi}; }
static Range hull(Range a, Range b) {
    return (Range){a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* x / y rounded by `div`; unbounded ends stay so. A divisor that cannot be negative is positive: 0
 * has no value. */
static Range quotient_range(Range x, Range y, int64_t (*div)(int64_t, int64_t)) {
    Range r = {INT64_MIN, INT64_MAX};
    if (y.lo < 0) return r;
    int64_t least = max64(y.lo, 1), most = max64(y.hi, 1);
    if (x.lo != INT64_MIN) r.lo = div(x.lo, x.lo < 0 ? least : most);
    if (x.hi != INT64_MAX) r.hi = div(x.hi, x.hi > 0 ? least : most);
    return r; /* dividing by INT64_MAX in place of an unbounded divisor rounds to the limit */
}

static Range op_range(DimKind kind, const Range *a) {
    switch (kind) {
    case D_ADD: return range_add(a[0], a[1]);
    case D_MUL: return range_mul(a[0], a[1]);
    case D_FLOORDIV: return quotient_range(a[0], a[1], floor_div);
    case D_CEILDIV: return quotient_range(a[0], a[1], ceil_div);
    case D_MOD: {
        if (a[1].lo < 0) return (Range){INT64_MIN, INT64_MAX};
        int64_t hi = a[1].hi == INT64_MAX ? INT64_MAX : max64(a[1].hi - 1, 0);
        return (Range){0, a[0].lo >= 0 ? min64(hi, a[0].hi) : hi};
    }
    case D_MIN: return (Range){min64(a[0].lo, a[1].lo), min64(a[0].hi, a[1].hi)};
    case D_MAX: return (Range){max64(a[0].lo, a[1].lo), max64(a[0].hi, a[1].hi)};
    case D_BCAST: return hull(a[0], a[1]);
    case D_EQ:
    case D_LT: return (Range){0, 1};
    case D_SELECT: return hull(a[1], a[2]);
    default: return (Range){INT64_MIN, INT64_MAX};
    }
}

/* A divisor of the value; 0 for the constant 0. */
static int64_t mult_of(const DimNode *n) {
    return n->info.kind == D_CONST ? gcd64(0, n->info.val) : n->info.mult;
}

static int64_t op_mult(const Ctx *c, DimKind kind, const Dim *arg) {
    int64_t m[3] = {1, 1, 1}, p;
    for (int k = 0; k < 3; k++)
        if (arg[k].i) m[k] = mult_of(dim_node(c, arg[k]));
    switch (kind) {
    case D_MUL: return __builtin_mul_overflow(m[0], m[1], &p) ? max64(m[0], m[1]) : p;
    case D_ADD:
    case D_MOD:
    case D_MIN:
    case D_MAX:
    case D_BCAST: return gcd64(m[0], m[1]);
    case D_SELECT: return gcd64(m[1], m[2]);
    default: return 1;
    }
}

static uint32_t slot_of(const DimTable *t, const DimInfo *key, bool flag) {
    uint64_t w[4] = {(uint64_t)key->kind << 8 | (uint64_t)flag << 4 | key->n, (uint64_t)key->val,
                     (uint64_t)key->arg[0].i << 32 | key->arg[1].i, key->arg[2].i};
    uint32_t h = (uint32_t)hash_bytes(w, sizeof w, 3) & (t->nslot - 1);
    for (; t->slot[h]; h = (h + 1) & (t->nslot - 1)) {
        const DimNode *n = &t->node.v[t->slot[h]];
        if (n->info.kind == key->kind && n->info.val == key->val &&
            (n->opaque || n->pinned) == flag && n->info.arg[0].i == key->arg[0].i &&
            n->info.arg[1].i == key->arg[1].i && n->info.arg[2].i == key->arg[2].i)
            break;
    }
    return h;
}

static void grow(Ctx *c, DimTable *t) {
    if (2 * (t->node.n + 1) <= t->nslot) return;
    t->nslot = t->nslot ? 2 * t->nslot : 256;
    t->slot = NEWN(c, uint32_t, t->nslot);
    for (uint32_t i = 1; i < t->node.n; i++)
        t->slot[slot_of(t, &t->node.v[i].info, t->node.v[i].opaque || t->node.v[i].pinned)] = i;
}

Dim dim_intern(Ctx *c, DimKind kind, int n, const Dim *arg, int64_t val, bool flag) {
    DimTable *t = dim_table(c);
    DimNode d = {
        .info = {.kind = kind, .n = (uint8_t)n, .val = val, .lo = val, .hi = val, .mult = 1},
        .size = 1};
    for (int k = 0; k < n; k++) {
        if (!arg[k].i) return (Dim){0};
        d.info.arg[k] = arg[k];
    }
    grow(c, t);
    uint32_t h = slot_of(t, &d.info, flag);
    if (t->slot[h]) return (Dim){t->slot[h]};
    Range r[3] = {{0, 0}, {0, 0}, {0, 0}};
    for (int k = 0; k < n; k++) {
        const DimNode *a = dim_node(c, arg[k]);
        r[k] = range_of(a);
        d.size += a->size;
        d.depth = a->depth > d.depth ? a->depth : d.depth;
        d.syms |= a->syms;
    }
    if (kind == D_SYM) {
        const SymInfo *s = &t->sym.v[val].info;
        d.info.lo = s->lo;
        d.info.hi = s->hi;
        d.pinned = flag;
        d.syms = flag ? 0 : (uint64_t)1 << (val & 63);
    } else if (kind == D_CONST) {
        d.info.mult = val ? gcd64(0, val) : (int64_t)1 << 62; /* 0 is divisible by any number */
    } else {
        d.opaque = flag;
        d.depth = (uint16_t)(d.depth + ((kind != D_ADD && kind != D_MUL) || flag));
        if (d.size > MAX_SIZE || d.depth > MAX_ATOMS_DEEP) return dim_fail(c, DIM_TOO_LARGE);
        Range known = op_range(kind, r);
        d.info.lo = known.lo;
        d.info.hi = known.hi;
        d.info.mult = op_mult(c, kind, d.info.arg);
    }
    vec_push(c, &t->node, d);
    return (Dim){t->slot[h] = t->node.n - 1};
}

void dim_tighten(Ctx *c, Dim d, Range r) {
    if (dim_node(c, d)->info.kind <= D_SYM) return;
    DimInfo *i = &c->dim->node.v[d.i].info;
    int64_t lo = max64(i->lo, r.lo), hi = min64(i->hi, r.hi);
    if (lo > hi) return; /* facts contradict each other: a guard is going to fail */
    i->lo = lo;
    i->hi = hi;
}

/* ==== symbols ================================================================================= */

Dim dim_sym(Ctx *c, const char *name, int64_t lo, int64_t hi) {
    DimTable *t = dim_table(c);
    uint32_t known = strmap_get(&t->name, name);
    if (known) return t->sym.v[known - 1].self;
    DimSym s = {.info = {.name = ctx_str(c, name), .lo = lo, .hi = max64(lo, hi)}};
    vec_push(c, &t->sym, s);
    strmap_put(&t->name, name, t->sym.n);
    Dim self = dim_intern(c, D_SYM, 0, NULL, t->sym.n - 1, false);
    return t->sym.v[t->sym.n - 1].self = self;
}

Dim dim_fresh(Ctx *c, const char *stem, int64_t lo, int64_t hi) {
    DimTable *t = dim_table(c);
    char base[64];
    size_t n = 0;
    if (!stem || isdigit((unsigned char)*stem) || !*stem) base[n++] = 'd';
    for (; stem && *stem && n < sizeof base - 1; stem++) {
        unsigned char x = (unsigned char)*stem;
        base[n++] = x < 0x80 && isalnum(x) ? (char)x : '_';
    }
    base[n] = 0;
    const char *name = base;
    uint32_t k = strmap_get(&t->stem, base);
    while (strmap_get(&t->name, name)) name = ctx_printf(c, "%s_%u", base, ++k);
    strmap_put(&t->stem, base, k);
    return dim_sym(c, name, lo, hi);
}

void dim_sym_range(Ctx *c, uint32_t sym, int64_t lo, int64_t hi) {
    if (!c->dim || sym >= c->dim->sym.n) return;
    DimSym *s = &c->dim->sym.v[sym];
    lo = max64(lo, s->info.lo);
    hi = min64(hi, s->info.hi);
    if (lo > hi) return;
    DimInfo *i = &c->dim->node.v[s->self.i].info;
    s->info.lo = i->lo = lo;
    s->info.hi = i->hi = hi;
}

void dim_sym_mark_bound(Ctx *c, uint32_t sym) {
    if (c->dim && sym < c->dim->sym.n) c->dim->sym.v[sym].info.bound = true;
}

enum { MOST_PARTS = 1 << 12 };

/* Of d something takes 1/by. */
static void note_parts(Ctx *c, Dim d, int64_t by) {
    const DimInfo *i = dim_info(c, d);
    int64_t v;
    if (i->kind == D_SYM) {
        SymInfo *s = &c->dim->sym.v[i->val].info;
        s->parts = max64(s->parts, by);
        return;
    }
    bool divides = (i->kind == D_FLOORDIV || i->kind == D_CEILDIV) && dim_is_const(c, i->arg[1], &v) && v > 0;
    if (divides) by = v < MOST_PARTS / by ? by * v : MOST_PARTS;
    for (int k = 0; k < i->n && i->kind != D_MOD && i->kind != D_EQ && i->kind != D_LT; k++) {
        bool scaled = i->kind == D_MUL && i->n == 2 && dim_is_const(c, i->arg[1 - k], &v) && v > 1;
        note_parts(c, i->arg[k], scaled ? max64(by / v, 1) : by);
    }
}

void dim_note_parts(Ctx *c, Dim d) { note_parts(c, d, 1); }

void dim_forget_parts(Ctx *c) {
    for (uint32_t i = 0; i < dim_nsyms(c); i++) c->dim->sym.v[i].info.parts = 0;
}

uint32_t dim_nsyms(const Ctx *c) { return c->dim ? c->dim->sym.n : 0; }

const SymInfo *dim_sym_info(const Ctx *c, uint32_t sym) {
    static const SymInfo none = {.name = "?", .lo = INT64_MIN, .hi = INT64_MAX};
    return c->dim && sym < c->dim->sym.n ? &c->dim->sym.v[sym].info : &none;
}

bool dim_mentions(const Ctx *c, Dim d, uint32_t sym) {
    const DimInfo *i = &dim_node(c, d)->info;
    if (i->kind == D_SYM) return i->val == sym;
    for (int k = 0; k < i->n; k++)
        if (dim_mentions(c, i->arg[k], sym)) return true;
    return false;
}

/* 1 + the greatest id of a bound symbol in d, 0 if there is none. */
static uint32_t last_bound(const Ctx *c, Dim d) {
    const DimInfo *i = &dim_node(c, d)->info;
    if (i->kind == D_SYM)
        return dim_sym_info(c, (uint32_t)i->val)->bound ? (uint32_t)i->val + 1 : 0;
    uint32_t last = 0;
    for (int k = 0; k < i->n; k++) {
        uint32_t x = last_bound(c, i->arg[k]);
        last = x > last ? x : last;
    }
    return last;
}

/* ==== rewriting =============================================================================== */

static Dim remake(Ctx *c, DimKind kind, const Dim *a) {
    static Dim (*const make[])(Ctx *, Dim, Dim) = {
        [D_ADD] = dim_add,         [D_MUL] = dim_mul,     [D_FLOORDIV] = dim_floordiv,
        [D_CEILDIV] = dim_ceildiv, [D_MOD] = dim_mod,     [D_MIN] = dim_min,
        [D_MAX] = dim_max,         [D_BCAST] = dim_bcast, [D_EQ] = dim_eqv,
        [D_LT] = dim_lt,
    };
    return kind == D_SELECT ? dim_select(c, a[0], a[1], a[2]) : make[kind](c, a[0], a[1]);
}

Dim dim_canon(const Ctx *c, Dim d) {
    DimTable *t = c->dim;
    const DimNode *n = dim_node(c, d);
    if (n == &poison) return (Dim){0};
    if (!(n->syms & t->linked)) return d;
    if (n->epoch == t->epoch) return (Dim){n->canon};
    DimInfo i = n->info;
    Dim r = d;
    if (i.kind == D_SYM) {
        Dim link = t->sym.v[i.val].link;
        if (link.i) r = dim_canon(c, link);
    } else {
        t->node.v[d.i].canon = d.i; /* unless it becomes another: its making may ask for it */
        t->node.v[d.i].epoch = t->epoch;
        for (int k = 0; k < i.n; k++) i.arg[k] = dim_canon(c, i.arg[k]);
        r = remake(t->name.c, i.kind, i.arg);
        /* An operand that a fact made of min, max .. has not become smaller by that: the fact's guard would prove itself. */
        if (i.kind < D_MIN || dim_node(c, r)->info.kind == i.kind) dim_tighten(t->name.c, r, (Range){i.lo, i.hi});
    }
    t->node.v[r.i].canon = t->node.v[d.i].canon = r.i;
    t->node.v[r.i].epoch = t->node.v[d.i].epoch = t->epoch;
    return r;
}

typedef struct Subst { bool pin; uint32_t sym; Dim with; } Subst;

static Dim subst(Ctx *c, const Subst *s, Dim d) {
    const DimNode *n = dim_node(c, d);
    DimInfo i = n->info;
    if (i.kind <= D_CONST) return d;
    if (i.kind == D_SYM && s->pin)
        return dim_sym_info(c, (uint32_t)i.val)->bound ? dim_intern(c, D_SYM, 0, NULL, i.val, true)
                                                       : d;
    if (i.kind == D_SYM) return i.val != s->sym ? d : n->pinned ? dim_pin(c, s->with) : s->with;
    bool changed = false;
    for (int k = 0; k < i.n; k++) {
        Dim a = subst(c, s, i.arg[k]);
        changed |= a.i != i.arg[k].i;
        i.arg[k] = a;
    }
    return changed ? remake(c, i.kind, i.arg) : d;
}

Dim dim_subst(Ctx *c, Dim d, uint32_t sym, Dim with) {
    return subst(c, &(Subst){.sym = sym, .with = with}, dim_canon(c, d));
}

Dim dim_pin(Ctx *c, Dim d) { return subst(c, &(Subst){.pin = true}, d); }

/* ==== unification ============================================================================= */

/* May `sym` be defined as -(p - term)/coef? Only by what is known where sym is defined, and not by
 * itself. */
static bool definable(const Ctx *c, const Poly *p, uint32_t skip, uint32_t sym) {
    uint32_t limit = dim_sym_info(c, sym)->bound ? sym : 0;
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t k = 0; k < p->t[i].n && i != skip; k++)
            if (dim_mentions(c, p->t[i].f[k], sym) || last_bound(c, p->t[i].f[k]) > limit)
                return false;
    return true;
}

/* The latest symbol that p == 0 can be solved for: index of its term, or -1. */
static int solvable(const Ctx *c, const Poly *p) {
    int best = -1;
    uint64_t best_rank = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const DimNode *a = dim_node(c, p->t[i].f[0]);
        if (p->t[i].n != 1 || a->info.kind != D_SYM || a->pinned ||
            (p->t[i].coef != 1 && p->t[i].coef != -1))
            continue;
        uint32_t sym = (uint32_t)a->info.val;
        uint64_t rank = (uint64_t)dim_sym_info(c, sym)->bound << 32 | sym;
        if ((best < 0 || rank > best_rank) && definable(c, p, i, sym)) {
            best = (int)i;
            best_rank = rank;
        }
    }
    return best;
}

/* coef * m + k lies in r: what that says about the symbol m. */
static void narrow(Ctx *c, uint32_t m, int64_t coef, int64_t k, Range r) {
    int64_t lo = 0, hi = 0;
    bool has_lo = r.lo != INT64_MIN && !__builtin_sub_overflow(r.lo, k, &lo) && lo != INT64_MIN;
    bool has_hi = r.hi != INT64_MAX && !__builtin_sub_overflow(r.hi, k, &hi) && hi != INT64_MIN;
    if (coef > 0)
        dim_sym_range(c, m, has_lo ? ceil_div(lo, coef) : INT64_MIN,
                      has_hi ? floor_div(hi, coef) : INT64_MAX);
    else
        dim_sym_range(c, m, has_hi ? ceil_div(hi, coef) : INT64_MIN,
                      has_lo ? floor_div(lo, coef) : INT64_MAX);
}

/* The symbol of p's term i becomes what p == 0 says. */
static void define(Ctx *c, Poly *p, uint32_t i) {
    DimTable *t = dim_table(c);
    Term solved = p->t[i];
    uint32_t sym = (uint32_t)dim_node(c, solved.f[0])->info.val;
    Poly *rest = poly_take(c);
    if (poly_add_poly(c, rest, p, -solved.coef) == P_OK &&
        poly_add_term(c, rest, &solved, solved.coef) == P_OK) {
        const SymInfo *s = &t->sym.v[sym].info;
        Range r = poly_range(c, rest), mine = {s->lo, s->hi};
        Dim link = max64(r.lo, mine.lo) <= min64(r.hi, mine.hi) ? poly_dim(c, rest) : (Dim){0};
        if (link.i) { /* otherwise the fact is false, and its guard will say so */
            bool bound = t->sym.v[sym].info.bound;
            t->sym.v[sym].link = link;
            t->linked |= (uint64_t)1 << (sym & 63) | (t->fact.n ? dim_node(c, link)->syms : 0); /* facts may be about these from now on */
            t->epoch++;
            /* The range of a bound symbol says nothing about others before the guard has run. */
            const DimInfo *m = &dim_node(c, rest->n ? rest->t[0].f[0] : link)->info;
            if (!bound) dim_tighten(c, link, mine);
            if (!bound && rest->n == 1 && rest->t[0].n == 1 && m->kind == D_SYM)
                narrow(c, (uint32_t)m->val, rest->t[0].coef, rest->k, mine);
        }
    }
    poly_give(c, 1);
}

/* *p: a - b, divided by what all coefficients have in common. Index of the term whose symbol a == b defines, or -1. */
static int solve(Ctx *c, Dim a, Dim b, Poly *p) {
    a = dim_canon(c, a);
    b = dim_canon(c, b);
    if (!a.i || !b.i || a.i == b.i) return -1;
    if (poly_add(c, p, a, 1) != P_OK || poly_add(c, p, b, -1) != P_OK || !p->n) return -1;
    int64_t g = poly_content(p);
    if (p->k % g != 0) return -1;
    poly_scale_down(p, g);
    return solvable(c, p);
}

void dim_unify(Ctx *c, Dim a, Dim b) {
    Poly *p = poly_take(c);
    int i = solve(c, a, b, p);
    if (i >= 0) define(c, p, (uint32_t)i);
    poly_give(c, 1);
}

bool dim_unifies(Ctx *c, Dim a, Dim b, uint32_t *sym) {
    Poly *p = poly_take(c);
    int i = solve(c, a, b, p);
    if (i >= 0) *sym = (uint32_t)dim_node(c, p->t[i].f[0])->info.val;
    poly_give(c, 1);
    return i >= 0;
}

/* Is d made of symbols that are not bound by sums, products and divisions by constants? */
static bool of_inputs(const Ctx *c, Dim d) {
    const DimNode *n = dim_node(c, d);
    const DimInfo *i = &n->info;
    if (i->kind == D_SYM) return !n->pinned && !dim_sym_info(c, (uint32_t)i->val)->bound;
    if (i->kind == D_FLOORDIV) return of_inputs(c, i->arg[0]) && dim_node(c, i->arg[1])->info.kind == D_CONST;
    if (i->kind != D_CONST && i->kind != D_ADD && i->kind != D_MUL) return false;
    for (int k = 0; k < i->n; k++)
        if (!of_inputs(c, i->arg[k])) return false;
    return true;
}

void dim_assume_le(Ctx *c, Dim a, Dim b) {
    enum { MOST = 16 }; /* each is looked at for every comparison */
    DimTable *t = dim_table(c);
    if (!a.i || !b.i || t->fact.n == MOST || !of_inputs(c, dim_canon(c, a)) || !of_inputs(c, dim_canon(c, b))) return;
    Dim gap = dim_sub(c, b, a);
    if (!gap.i || dim_is_const(c, gap, NULL)) return;
    for (uint32_t k = 0; k < t->fact.n; k++)
        if (dim_same(c, t->fact.v[k], gap)) return;
    vec_push(c, &t->fact, gap);
    t->linked |= dim_node(c, gap)->syms;
    t->epoch++;
}

/* ==== accessors =============================================================================== */

const DimInfo *dim_info(const Ctx *c, Dim d) { return &dim_node(c, dim_canon(c, d))->info; }

bool dim_is_const(const Ctx *c, Dim d, int64_t *v) {
    const DimInfo *i = dim_info(c, d);
    if (i->kind != D_CONST) return false;
    if (v) *v = i->val;
    return true;
}

bool dim_is(const Ctx *c, Dim d, int64_t v) {
    int64_t x;
    return dim_is_const(c, d, &x) && x == v;
}

bool dim_same(const Ctx *c, Dim a, Dim b) {
    uint32_t x = dim_canon(c, a).i;
    return x && x == dim_canon(c, b).i;
}

bool dim_differ(const Ctx *c, Dim a, Dim b) {
    a = dim_canon(c, a);
    b = dim_canon(c, b);
    if (!a.i || !b.i || a.i == b.i) return false;
    const DimInfo *x = dim_info(c, a), *y = dim_info(c, b);
    if (x->hi < y->lo || y->hi < x->lo) return true;
    Ctx *own = c->dim->name.c;
    Poly *p = poly_take(own);
    bool differ = false;
    if (poly_add(own, p, a, 1) == P_OK && poly_add(own, p, b, -1) == P_OK) {
        int64_t g = poly_content(p);
        Range r = poly_range(own, p);
        differ = r.lo > 0 || r.hi < 0 || (g && p->k % g != 0);
    }
    poly_give(own, 1);
    return differ;
}

int64_t dim_lo(const Ctx *c, Dim d) { return dim_info(c, d)->lo; }
int64_t dim_hi(const Ctx *c, Dim d) { return dim_info(c, d)->hi; }

bool dim_divisible(const Ctx *c, Dim d, int64_t by) {
    d = dim_canon(c, d);
    int64_t m = mult_of(dim_node(c, d));
    by = gcd64(0, by);
    return d.i && by && m % by == 0;
}

/* ==== evaluation ============================================================================== */

static bool eval(const Ctx *c, Dim d, const int64_t *sym, int64_t *out) {
    const DimInfo *i = &dim_node(c, d)->info;
    int64_t a, b;
    switch (i->kind) {
    case D_POISON: return false;
    case D_CONST: *out = i->val; return true;
    case D_SYM: *out = sym[i->val]; return true;
    case D_SELECT: return eval(c, i->arg[0], sym, &a) && eval(c, i->arg[a ? 1 : 2], sym, out);
    default: break;
    }
    if (!eval(c, i->arg[0], sym, &a) || !eval(c, i->arg[1], sym, &b)) return false;
    switch (i->kind) {
    case D_ADD: return !__builtin_add_overflow(a, b, out);
    case D_MUL: return !__builtin_mul_overflow(a, b, out);
    case D_FLOORDIV:
    case D_CEILDIV:
    case D_MOD:
        if (b == 0 || (b == -1 && a == INT64_MIN)) return false;
        if (i->kind == D_MOD) *out = a % b != 0 && (a < 0) != (b < 0) ? a % b + b : a % b;
        else *out = i->kind == D_FLOORDIV ? floor_div(a, b) : ceil_div(a, b);
        return true;
    case D_MIN: *out = min64(a, b); return true;
    case D_MAX: *out = max64(a, b); return true;
    case D_BCAST: *out = a != 1 ? a : b; return true;
    case D_EQ: *out = a == b; return true;
    case D_LT: *out = a < b; return true;
    default: return false;
    }
}

bool dim_eval(const Ctx *c, Dim d, const int64_t *sym, int64_t *out) {
    return eval(c, dim_canon(c, d), sym, out);
}
