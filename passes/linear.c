/* linear.c: a fused graph with loops and ifs -> one graph without, and the steps that run it. The bodies' kernels become
 * nodes of the graph; what bodies take and give becomes values of it that no node makes (Program.alias).
 *
 *   loop:  carried = operands; i = 0            if:    branch on condition to L1
 *      L1: branch on trip count, condition to L2      then ..; result = ..; jump L2
 *          body ..; stacked[i] = ..               L1: else ..; result = ..
 *          carried = results; i = i + 1; jump L1  L2:
 *      L2:
 * A symbol belongs to the segment of its first definition. Sizes over several symbols belong to the latest of theirs: scope
 * ensures that this one is defined anew whenever an earlier one is, within the region where both are known. */
#include <string.h>

#include "internal.h"

enum { NEST = 100 };

typedef struct Lin {
    Ctx *c;
    Graph *g;
    Program *p;
    VEC(uint32_t) segment;      /* per symbol: 1 + segment of its definition, 0: none yet */
    VEC(bool) live;             /* per symbol: defined where we are */
    VEC(uint32_t) scope;        /* symbols defined in the open regions, in order */
    int depth;                  /* open regions */
} Lin;

typedef struct Set { Dim sym, dim; } Set;
typedef VEC(Set) Sets;
typedef struct Own { Dim sym; int k, d; } Own; /* symbol that is axis d of carried value k */
typedef VEC(Own) Owns;

static void unsupported(Lin *f, const Node *n, const char *what) {
    diag(f->c, SEV_UNSUPPORTED, n->loc, "U0301", "%s cannot be compiled yet; --eval runs it", what);
}

static void step(Lin *f, Step s) {
    s.inside = f->depth > 0;
    vec_push(f->c, &f->p->step, s);
}

static Val value(Lin *f, const Type *t, Val root, Dim offset) {
    Val v = graph_value(f->g, *t, NULL);
    vec_push(f->c, &f->p->alias, (Alias){v, root, offset});
    return v;
}

static uint32_t append(Lin *f, Node *n) {
    n->id = f->g->node.n;
    vec_push(f->c, &f->g->node, n);
    return n->id;
}

/* ---- symbols ---- */

static void know(Lin *f, uint32_t sym) {
    while (f->segment.n <= sym) vec_push(f->c, &f->segment, 0);
    while (f->live.n <= sym) vec_push(f->c, &f->live, false);
}

static bool is_symbol(Lin *f, Dim d, uint32_t *sym) {
    const DimInfo *i = dim_info(f->c, d);
    if (i->kind != D_SYM) return false;
    know(f, *sym = (uint32_t)i->val);
    return true;
}

static bool is_new(Lin *f, Dim d) {
    uint32_t sym;
    return is_symbol(f, d, &sym) && !f->live.v[sym];
}

/* d is defined from here to the end of the region, in `segment` unless it has one from another region. */
static uint32_t define(Lin *f, Dim d, uint32_t segment) {
    uint32_t sym = 0;
    CHECK(is_symbol(f, d, &sym));
    if (!f->live.v[sym]) vec_push(f->c, &f->scope, sym);
    f->live.v[sym] = true;
    if (!f->segment.v[sym]) f->segment.v[sym] = 1 + segment;
    return f->segment.v[sym] - 1;
}

static void leave(Lin *f, uint32_t scope) {
    for (uint32_t i = scope; i < f->scope.n; i++) f->live.v[f->scope.v[i]] = false;
    f->scope.n = scope;
}

/* Evaluates the segment, and those that came up between an earlier definition of one of its symbols (`from`) and this one. */
static void evaluate(Lin *f, uint32_t from, uint32_t segment) {
    step(f, (Step){.kind = SP_DIMS, .segment = from < segment ? from : segment, .last = segment});
}

/* All symbols at once: none sees the new value of another. */
static void assign(Lin *f, Set *set, uint32_t n, uint32_t segment, Loc loc) {
    uint32_t from = segment, sym;
    Set *temp = NEWN(f->c, Set, n + 1);
    uint32_t ntemp = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = define(f, set[i].sym, segment);
        if (s < from) from = s;
        if (n == 1 || !is_symbol(f, set[i].dim, &sym)) continue;
        Dim t = dim_fresh(f->c, "t", INT64_MIN, DIM_INF);
        define(f, t, segment);
        step(f, (Step){.kind = SP_SET, .sym = t, .dim = set[i].dim, .segment = segment, .loc = loc});
        temp[ntemp++] = (Set){set[i].sym, t};
        set[i].sym = (Dim){0};
    }
    for (uint32_t i = 0; i < n; i++)
        if (set[i].sym.i) step(f, (Step){.kind = SP_SET, .sym = set[i].sym, .dim = set[i].dim, .segment = segment, .loc = loc});
    for (uint32_t i = 0; i < ntemp; i++)
        step(f, (Step){.kind = SP_SET, .sym = temp[i].sym, .dim = temp[i].dim, .segment = segment, .loc = loc});
    if (n) evaluate(f, from, segment);
}

static void must_equal(Lin *f, const Node *n, Dim a, Dim b, const char *text) {
    if (dim_same(f->c, a, b)) return;
    GuardAttr *attr = NEW(f->c, GuardAttr);
    *attr = (GuardAttr){.cmp = G_EQ, .a = a, .b = b, .text = text};
    Node *m = graph_node(f->g, P_GUARD, 0, NULL, 0, NULL, attr, n->loc);
    m->id = f->g->node.n - 1;
    step(f, (Step){.kind = SP_GUARD, .node = m->id, .loc = n->loc});
}

/* New symbols among the dims of `formal` take the values of `actual`; what they do not define must agree: see agree(). */
static void take_dims(Lin *f, Sets *sets, const Type *formal, const Type *actual) {
    for (int d = 0; d < formal->rank; d++) {
        bool queued = false;
        for (uint32_t i = 0; i < sets->n; i++) queued |= dim_same(f->c, sets->v[i].sym, formal->dim[d]);
        if (!queued && is_new(f, formal->dim[d])) vec_push(f->c, sets, (Set){formal->dim[d], actual->dim[d]});
    }
}

static void agree(Lin *f, const Node *n, const Type *formal, const Type *actual, const char *text) {
    for (int d = 0; d < formal->rank; d++) must_equal(f, n, formal->dim[d], actual->dim[d], text);
}

/* ---- conditions ---- */

/* The value's only element as a dim: for branches and the loop's own segment, so nothing is evaluated here. */
static Dim read(Lin *f, const Node *n, Val v, const char *stem, int64_t lo, int64_t hi) {
    Dim sym = dim_fresh(f->c, stem, lo, hi);
    uint32_t segment = ++f->p->nsegment;
    define(f, sym, segment);
    step(f, (Step){.kind = SP_BIND, .sym = sym, .from = v, .lo = lo, .hi = hi, .segment = segment, .loc = n->loc});
    return sym;
}

static void again(Lin *f, const Node *n, Dim sym, Val v) {
    uint32_t id = 0;
    CHECK(is_symbol(f, sym, &id));
    step(f, (Step){.kind = SP_BIND, .sym = sym, .from = v, .lo = 0, .hi = 1, .segment = f->segment.v[id] - 1, .loc = n->loc});
}

static bool is_true(const Graph *g, Val v) {
    Scalar s;
    return val_scalar(g, v, &s) && s.t == DT_BOOL && s.i;
}

/* ---- regions ---- */

static void walk(Lin *f, Graph *r, Val *map, Dim counter);

static Val mapped(Lin *f, const Graph *r, const Val *map, const Node *n, Val v) {
    v = graph_resolve(r, v);
    if (v.i && !map[v.i].i) unsupported(f, n, "a loop whose counter or condition is a value in memory (pass \"regions\" was left out)");
    return map[v.i];
}

static void jump(Lin *f, StepKind kind, uint32_t label, Dim cond) { step(f, (Step){.kind = (uint8_t)kind, .label = label, .dim = cond}); }

static void copy(Lin *f, const Node *n, Val to, Val from) {
    if (to.i != from.i) step(f, (Step){.kind = SP_COPY, .to = to, .from = from, .loc = n->loc});
}

/* How many results of r each of its values is. */
static uint32_t *results(const Graph *r) {
    uint32_t *n = NEWN(r->c, uint32_t, r->val.n);
    for (uint32_t k = 0; k < r->out.n; k++) n[graph_resolve(r, r->out.v[k].val).i]++;
    return n;
}

/* Result `o` of region r can be written where it belongs, by the kernel that makes it: it is of that shape, and no other result. */
static bool in_place(Lin *f, const Graph *r, const uint32_t *given, uint32_t o, const Dim *dim) {
    Val v = graph_resolve(r, r->out.v[o].val);
    const Node *d = val_def(r, v);
    if (!d || (d->op != P_GROUP && d->op != P_CONCAT) || given[v.i] > 1) return false;
    const Type *t = val_type(r, v);
    for (int i = 0; i < t->rank; i++) if (!dim_same(f->c, t->dim[i], dim[i])) return false;
    return true;
}

/* in: operands in the flat graph; out: where the results go. */
static void do_if(Lin *f, const Node *n, const Val *in, const Val *out) {
    const IfAttr *a = n->attr;
    const Dim *known = val_elems(f->g, in[0], NULL);
    Dim cond = known ? *known : read(f, n, in[0], "cond", 0, 1);
    uint32_t other = f->p->nlabel++, end = f->p->nlabel++;
    uint32_t result_segment = 0;
    for (int s = 0; s < 2; s++) {
        Graph *r = s ? a->else_g : a->then_g;
        Val *map = NEWN(f->c, Val, r->val.n);
        uint32_t scope = f->scope.n;
        Sets sets = {0};
        if (s == 0) jump(f, SP_BRANCH, other, cond);
        f->depth++;
        if (s == 1) jump(f, SP_LABEL, other, (Dim){0});
        for (int k = 1; k < n->nin; k++) {
            Val v = r->in.v[k - 1].val;
            map[v.i] = in[k];
            if (in[k].i) take_dims(f, &sets, val_type(r, v), val_type(f->g, in[k]));
        }
        if (sets.n) assign(f, sets.v, sets.n, ++f->p->nsegment, n->loc);
        for (int k = 1; k < n->nin; k++)
            if (in[k].i) agree(f, n, val_type(r, r->in.v[k - 1].val), val_type(f->g, in[k]), "the branch takes another shape");
        walk(f, r, map, (Dim){0});
        if (ctx_errors(f->c)) return;
        /* Sizes that the if defines. */
        Sets give = {0};
        uint32_t *given = results(r);
        Val *from = NEWN(f->c, Val, n->nout + 1);
        for (int k = 0; k < n->nout; k++) {
            from[k] = mapped(f, r, map, n, r->out.v[k].val);
            if (ctx_errors(f->c)) return;
            take_dims(f, &give, val_type(f->g, out[k]), val_type(r, r->out.v[k].val));
        }
        if (give.n) {
            if (!result_segment) result_segment = ++f->p->nsegment;
            assign(f, give.v, give.n, result_segment, n->loc);
        }
        for (int k = 0; k < n->nout; k++) {
            agree(f, n, val_type(f->g, out[k]), val_type(r, r->out.v[k].val), "the branches give different shapes");
            if (!give.n && in_place(f, r, given, (uint32_t)k, val_type(f->g, out[k])->dim))
                vec_push(f->c, &f->p->alias, (Alias){from[k], out[k], dim_const(f->c, 0)});
            else
                copy(f, n, out[k], from[k]);
        }
        leave(f, scope);
        if (s == 0) jump(f, SP_JUMP, end, (Dim){0});
        f->depth--;
    }
    jump(f, SP_LABEL, end, (Dim){0});
    for (int k = 0; k < n->nout; k++) {
        const Type *t = val_type(f->g, out[k]);
        for (int d = 0; d < t->rank; d++) if (is_new(f, t->dim[d])) define(f, t->dim[d], result_segment);
    }
}

typedef struct Carry {
    Type formal, after;         /* of the body's input and of its result */
    Val val, now, temp;         /* the carried value; what the body gave; the same between two trips, or none */
} Carry;

/* The carried values and sizes take what the body gave: by way of memory between trips where sizes change or values cross. */
static void next_trip(Lin *f, const Node *n, Carry *carry, int nc, const Owns *own, Dim i, uint32_t segment) {
    Sets sets = {0};
    bool sizes = own->n > 0, *carried = NEWN(f->c, bool, f->g->val.n); /* those must not be overwritten before they are read */
    for (int k = 0; k < nc; k++) carried[carry[k].val.i] = true;
    for (int k = 0; k < nc; k++) {
        Carry *x = &carry[k];
        x->temp = (Val){0};
        if (!sizes) agree(f, n, &x->formal, &x->after, "a carried value changes its shape");
        if (!sizes && (x->now.i == x->val.i || !carried[x->now.i])) continue;
        Dim dim[MAX_RANK];
        for (int d = 0; d < x->after.rank; d++) {
            dim[d] = x->after.dim[d];
            if (!sizes) continue;
            dim[d] = dim_fresh(f->c, "t", 0, DIM_INF); /* no size of a body's result is one of these */
            define(f, dim[d], segment);
            step(f, (Step){.kind = SP_SET, .sym = dim[d], .dim = x->after.dim[d], .segment = segment, .loc = n->loc});
        }
        if (x->after.kind == TY_TENSOR) x->after = type_tensor(f->c, (DType)x->after.dtype, x->after.rank, dim);
        x->temp = value(f, &x->after, (Val){0}, (Dim){0});
    }
    if (sizes) evaluate(f, segment, segment);
    for (int k = 0; k < nc; k++) if (carry[k].temp.i) copy(f, n, carry[k].temp, carry[k].now);
    for (uint32_t o = 0; o < own->n; o++) vec_push(f->c, &sets, (Set){own->v[o].sym, carry[own->v[o].k].after.dim[own->v[o].d]});
    vec_push(f->c, &sets, (Set){i, dim_addi(f->c, i, 1)});
    if (!sizes) for (int k = 0; k < nc; k++) copy(f, n, carry[k].val, carry[k].temp.i ? carry[k].temp : carry[k].now);
    assign(f, sets.v, sets.n, segment, n->loc);
    for (int k = 0; sizes && k < nc; k++) {
        agree(f, n, &carry[k].formal, &carry[k].after, "a carried value changes its shape");
        copy(f, n, carry[k].val, carry[k].temp);
    }
}

/* A loop being laid out: its node in the outer graph, its body, and the symbols that change from trip to trip. */
typedef struct Loop {
    const Node *n;
    const Val *in, *out;
    Graph *r;                   /* body */
    Val *map;                   /* values of the body -> outer ones */
    int ncarried, nstacked;
    Carry *carry;
    Owns own;                   /* sizes of carried values */
    Set *stack;                 /* sizes of stacked results */
    uint32_t nstack, segment;
    Dim i, trip, flag;          /* rounds done; how many at most, or none; whether to go on, or none */
} Loop;

/* The carried and captured values before the first trip: entry takes the sizes that the body has other symbols for. */
static bool loop_operands(Lin *f, Loop *p, Sets *entry) {
    Ctx *c = f->c;
    for (int k = 2; k < p->n->nin; k++) {
        Val v = p->r->in.v[k].val;
        const Type *t = val_type(p->r, v);
        uint32_t before = entry->n;
        if (!p->in[k].i) {
            unsupported(f, p->n, "a loop with an absent operand");
            return false;
        }
        take_dims(f, entry, t, val_type(f->g, p->in[k]));
        if (k >= 2 + p->ncarried) {
            p->map[v.i] = p->in[k];
            continue;
        }
        for (uint32_t s = before; s < entry->n; s++) /* which carried value, which axis */
            for (int d = 0; d < t->rank; d++)
                if (dim_same(c, t->dim[d], entry->v[s].sym)) {
                    vec_push(c, &p->own, (Own){t->dim[d], k - 2, d});
                    break;
                }
        p->carry[k - 2].formal = *t;
        p->carry[k - 2].val = p->map[v.i] = value(f, t, (Val){0}, (Dim){0});
    }
    return true;
}

/* Sizes of stacked results begin as 0. */
static void loop_stacks(Lin *f, Loop *p, Sets *entry) {
    uint32_t first = entry->n;
    for (int k = p->ncarried; k < p->ncarried + p->nstacked; k++) {
        const Type *t = val_type(f->g, p->out[k]);
        for (int d = 0; d < t->rank; d++) {
            bool queued = false;
            for (uint32_t s = 0; s < entry->n; s++) queued |= dim_same(f->c, entry->v[s].sym, t->dim[d]);
            int64_t lo = dim_lo(f->c, t->dim[d]);
            if (!queued && is_new(f, t->dim[d])) vec_push(f->c, entry, (Set){t->dim[d], dim_const(f->c, d && lo > 0 ? lo : 0)});
        }
    }
    p->nstack = entry->n - first;
    if (p->nstack) p->stack = ctx_dup(f->c, &entry->v[first], sizeof *p->stack * p->nstack);
}

/* Behind the body: stacked results have one slice more. */
static void loop_grow(Lin *f, Loop *p) {
    static const char differ[] = "the slices of a stacked result have different shapes";
    Ctx *c = f->c;
    for (int k = p->ncarried; k < p->ncarried + p->nstacked; k++) {
        const Type *t = val_type(f->g, p->out[k]), *x = val_type(p->r, p->r->out.v[1 + k].val);
        for (int d = 0; d < x->rank; d++) {
            bool known = true;
            for (uint32_t s = 0; s < p->nstack; s++) {
                if (!dim_same(c, p->stack[s].sym, t->dim[d + 1])) continue;
                must_equal(f, p->n, dim_select(c, dim_eqv(c, p->i, dim_const(c, 0)), x->dim[d], t->dim[d + 1]), x->dim[d], differ);
                p->stack[s].dim = x->dim[d];
                known = false;
            }
            if (known) must_equal(f, p->n, t->dim[d + 1], x->dim[d], differ);
        }
        for (uint32_t s = 0; s < p->nstack; s++)
            if (dim_same(c, p->stack[s].sym, t->dim[0])) p->stack[s].dim = dim_addi(c, p->i, 1);
    }
    uint32_t *given = results(p->r);
    Set *grow = ctx_dup(c, p->stack, sizeof *p->stack * p->nstack);
    if (p->nstack) assign(f, grow, p->nstack, p->segment, p->n->loc);
    for (int k = p->ncarried; k < p->ncarried + p->nstacked; k++) {
        const Type *x = val_type(p->r, p->r->out.v[1 + k].val);
        Val from = mapped(f, p->r, p->map, p->n, p->r->out.v[1 + k].val);
        if (ctx_errors(c)) return;
        Dim at = dim_mul(c, p->i, type_count(c, x));
        bool own = !p->nstack && in_place(f, p->r, given, 1 + (uint32_t)k, val_type(f->g, p->out[k])->dim + 1);
        if (own) vec_push(c, &f->p->alias, (Alias){from, p->out[k], at});
        else copy(f, p->n, value(f, x, p->out[k], at), from);
    }
}

/* Behind the loop: its results are the carried values. Their sizes stay known, those of the body do not. */
static void loop_results(Lin *f, const Loop *p, uint32_t scope) {
    Sets result = {0};
    for (int k = 0; k < p->ncarried; k++) take_dims(f, &result, val_type(f->g, p->out[k]), &p->carry[k].formal);
    if (result.n) assign(f, result.v, result.n, ++f->p->nsegment, p->n->loc);
    for (int k = 0; k < p->ncarried; k++) {
        agree(f, p->n, val_type(f->g, p->out[k]), &p->carry[k].formal, "a carried value changes its shape");
        vec_push(f->c, &f->p->alias, (Alias){p->out[k], p->carry[k].val, dim_const(f->c, 0)});
    }
    leave(f, scope);
    for (int k = 0; k < p->ncarried + p->nstacked; k++) {
        const Type *t = val_type(f->g, p->out[k]);
        uint32_t sym;
        for (int d = 0; d < t->rank; d++)
            if (is_symbol(f, t->dim[d], &sym) && f->segment.v[sym] && !f->live.v[sym]) define(f, t->dim[d], p->segment);
    }
}

static void do_loop(Lin *f, const Node *n, const Val *in, const Val *out) {
    const LoopAttr *a = n->attr;
    Graph *r = a->body;
    Ctx *c = f->c;
    Loop loop = {.n = n, .in = in, .out = out, .r = r, .ncarried = a->ncarried, .nstacked = a->nscan_out}, *p = &loop;
    Val next = graph_resolve(r, r->out.v[0].val);
    bool stops = !is_true(r, next);
    if (!in[0].i && !stops && !in[1].i) stops = true; /* for ever: cancel ends it */
    uint32_t scope = f->scope.n, head = f->p->nlabel++, end = f->p->nlabel++;
    Dim go = {0};
    if (in[0].i) {
        const Dim *known = val_elems(f->g, in[0], NULL);
        p->trip = known ? *known : read(f, n, in[0], "trip", INT64_MIN, DIM_INF);
    }
    if (in[1].i && !is_true(f->g, in[1])) go = read(f, n, in[1], "go", 0, 1);
    p->segment = ++f->p->nsegment;
    p->i = dim_fresh(c, "i", 0, DIM_INF);
    p->carry = NEWN(c, Carry, p->ncarried + 1);
    p->map = NEWN(c, Val, r->val.n);
    /* Symbols of the loop: the counter, sizes of carried and captured values, sizes of stacked results. */
    Sets entry = {0};
    if (!is_true(r, next)) {
        p->flag = dim_fresh(c, "go", 0, 1);
        vec_push(c, &entry, (Set){p->flag, go.i ? go : dim_const(c, 1)});
    } else if (go.i) {
        p->flag = go;
    }
    vec_push(c, &entry, (Set){p->i, dim_const(c, 0)});
    if (!loop_operands(f, p, &entry)) return;
    loop_stacks(f, p, &entry);
    assign(f, entry.v, entry.n, p->segment, n->loc);
    for (int k = 2; k < n->nin; k++) {
        agree(f, n, val_type(r, r->in.v[k].val), val_type(f->g, in[k]), "the body of a loop takes another shape");
        if (k < 2 + p->ncarried) copy(f, n, p->carry[k - 2].val, in[k]);
    }
    for (int k = p->ncarried; k < p->ncarried + p->nstacked; k++) step(f, (Step){.kind = SP_LIVE, .to = out[k]});
    f->depth++;
    jump(f, SP_LABEL, head, (Dim){0});
    if (p->trip.i) jump(f, SP_BRANCH, end, dim_lt(c, p->i, p->trip));
    if (p->flag.i) jump(f, SP_BRANCH, end, p->flag);
    uint32_t inner = f->scope.n;
    walk(f, r, p->map, p->i);
    if (ctx_errors(c)) return;
    if (stops && !is_true(r, next)) {
        Val v = mapped(f, r, p->map, n, next);
        if (ctx_errors(c)) return;
        again(f, n, p->flag, v);
    }
    loop_grow(f, p);
    if (ctx_errors(c)) return;
    for (int k = 0; k < p->ncarried; k++) {
        p->carry[k].after = *val_type(r, r->out.v[1 + k].val);
        p->carry[k].now = mapped(f, r, p->map, n, r->out.v[1 + k].val);
    }
    if (ctx_errors(c)) return;
    next_trip(f, n, p->carry, p->ncarried, &p->own, p->i, p->segment);
    leave(f, inner);
    jump(f, SP_JUMP, head, (Dim){0});
    f->depth--;
    jump(f, SP_LABEL, end, (Dim){0});
    loop_results(f, p, scope);
}

static void control(Lin *f, Graph *r, Val *map, const Node *n) {
    Val *in = NEWN(f->c, Val, n->nin + 1), *out = NEWN(f->c, Val, n->nout + 1);
    if (f->depth > NEST) {
        unsupported(f, n, "so deep a nest of loops and ifs");
        return;
    }
    for (int k = 0; k < n->nin; k++) in[k] = mapped(f, r, map, n, n->in[k]);
    for (int k = 0; k < n->nout; k++) {
        bool carried = n->op == P_LOOP && k < ((const LoopAttr *)n->attr)->ncarried;
        out[k] = r == f->g ? n->out[k] : graph_value(f->g, *val_type(r, n->out[k]), NULL);
        map[n->out[k].i] = out[k];
        if (!carried) vec_push(f->c, &f->p->alias, (Alias){.val = out[k]});
    }
    if (ctx_errors(f->c)) return;
    if (n->op == P_LOOP) do_loop(f, n, in, out);
    else do_if(f, n, in, out);
}

static void bind(Lin *f, const Graph *r, const Val *map, const Node *n, Dim counter) {
    const BindAttr *a = n->attr;
    uint32_t sym = 0;
    if (!is_symbol(f, a->sym, &sym)) return;
    uint32_t segment = ++f->p->nsegment;
    Val v = graph_resolve(r, n->in[0]);
    if (counter.i && r->in.n && v.i == r->in.v[0].val.i) {
        Set s = {a->sym, counter};
        assign(f, &s, 1, segment, n->loc);
        return;
    }
    v = mapped(f, r, map, n, v);
    const SymInfo *info = dim_sym_info(f->c, sym);
    uint32_t from = define(f, a->sym, segment);
    step(f, (Step){.kind = SP_BIND, .sym = a->sym, .from = v, .index = a->index, .lo = info->lo, .hi = info->hi, .segment = from, .loc = n->loc});
    evaluate(f, from, segment);
}

/* Node n of the flat graph. Its results have the sizes that the function gives them: those are what symbols of their types
 * stand for that have no value yet; all others must be as the types say. */
static void call(Lin *f, const Node *n) {
    uint32_t segment = ++f->p->nsegment, from = segment, sym;
    Sets check = {0};
    bool any = false;
    step(f, (Step){.kind = SP_CALL, .node = n->id, .loc = n->loc});
    for (int r = 0; r < n->nout; r++) {
        const Type *t = val_type(f->g, n->out[r]);
        for (int d = 0; d < t->rank; d++) {
            Dim size = is_new(f, t->dim[d]) ? t->dim[d] : dim_fresh(f->c, "t", 0, DIM_INF);
            uint32_t s = define(f, size, segment);
            const SymInfo *info = is_symbol(f, size, &sym) ? dim_sym_info(f->c, sym) : NULL;
            if (s < from) from = s;
            step(f, (Step){.kind = SP_SIZE, .sym = size, .from = n->out[r], .index = d, .lo = info->lo, .hi = info->hi, .segment = s, .loc = n->loc});
            if (size.i != t->dim[d].i) vec_push(f->c, &check, (Set){size, t->dim[d]});
            any = true;
        }
    }
    if (any) evaluate(f, from, segment);
    for (uint32_t i = 0; i < check.n; i++) must_equal(f, n, check.v[i].sym, check.v[i].dim, "the result has another shape");
}

/* Lays out region r; map: values of r -> values of the flat graph (identity at the top). */
static void walk(Lin *f, Graph *r, Val *map, Dim counter) {
    uint32_t count = r->node.n;
    Node **node = ctx_dup(f->c, r->node.v, sizeof *node * count);
    bool top = r == f->g;
    if (top) r->node.n = 0;
    for (uint32_t i = 0; i < count && !ctx_errors(f->c); i++) {
        Node *n = node[i];
        switch (n->op) {
        case P_BIND: bind(f, r, map, n, counter); continue;
        case P_LOOP: case P_IF: control(f, r, map, n); continue;
        case P_GROUP: case P_CONST: case P_CONCAT: case P_GUARD: case P_SEQ: case P_CALL: break;
        default: unsupported(f, n, prim_name((PrimOp)n->op)); continue;
        }
        Val *in = NEWN(f->c, Val, n->nin + 1);
        for (int k = 0; k < n->nin; k++) in[k] = mapped(f, r, map, n, n->in[k]);
        if (ctx_errors(f->c)) return;
        if (top) {
            for (int k = 0; k < n->nin; k++) n->in[k] = in[k];
            append(f, n);
        } else {
            Type *t = NEWN(f->c, Type, n->nout + 1);
            for (int k = 0; k < n->nout; k++) t[k] = *val_type(r, n->out[k]);
            Node *m = graph_node(f->g, (PrimOp)n->op, n->nin, in, n->nout, t, n->attr, n->loc);
            m->id = f->g->node.n - 1;
            for (int k = 0; k < n->nout; k++) map[n->out[k].i] = m->out[k];
            n = m;
        }
        if (n->op == P_GROUP) step(f, (Step){.kind = SP_KERNEL, .node = n->id, .loc = n->loc});
        if (n->op == P_GUARD) step(f, (Step){.kind = SP_GUARD, .node = n->id, .loc = n->loc});
        if (n->op == P_SEQ || n->op == P_CALL) call(f, n);
    }
}

Program *linearise(Graph *g) {
    Lin lin = {.c = g->c, .g = g, .p = NEW(g->c, Program)}, *f = &lin;
    f->p->g = g;
    Val *map = NEWN(g->c, Val, g->val.n);
    for (uint32_t v = 1; v < g->val.n; v++) map[v] = graph_resolve(g, (Val){v});
    for (uint32_t i = 0; i < g->in.n; i++) {
        const Type *t = val_type(g, g->in.v[i].val);
        uint32_t sym;
        for (int d = 0; t->kind == TY_TENSOR && d < t->rank; d++)
            if (is_symbol(f, t->dim[d], &sym)) f->live.v[sym] = true; /* segment 0 */
    }
    walk(f, g, map, (Dim){0});
    return ctx_errors(g->c) ? NULL : f->p;
}
