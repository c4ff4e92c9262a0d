/* rules.c: applies the rule table (rules.def) to scalar expressions. In: an expression. Out: one
 * that is no dearer and equal within the error that the caller allows. Rows are parsed by
 * expr_parse once per element type, when it first occurs; a row that does not parse is a bug of the
 * table. Matching is one-way unification on hash-consed expressions; the arguments of commutative
 * operations are tried in both orders. */
#include "rules.h"

#include <math.h>
#include <string.h>

enum {
    LETTERS = 26,
    CONST_FIRST = 'k' - 'a',
    CONST_LAST = 'n' - 'a',
    BOOL_FIRST = 'p' - 'a',
    BOOL_LAST = 's' - 'a'
};
enum { STEPS = 16 }; /* rewrites of one node */

typedef enum { FLT, INT, NUM, BIT } Types;
typedef struct Row {
    Types types;
    const char *left, *right;
    int ulp;
    const char *cond;
} Row;
static const Row rows[] = {
#define RULE(types, left, right, ulp, cond) {types, left, right, ulp, cond},
#include "rules.def"
#undef RULE
};
enum { NROWS = sizeof rows / sizeof *rows };

typedef struct Rule {
    const Row *row;
    Expr left, right, cond;
    bool pow2;
} Rule;
typedef struct Set {
    Rule *rule;
    uint32_t n;
} Set;
struct Rules {
    Ctx *c;
    int ulp;
    Set of[DT_COUNT]; /* by element type; rule NULL: not parsed yet */
    uint32_t fired;
};

static const struct {
    bool commutes;
    uint8_t rule;
} ops[S_COUNT] = {
#define R_SAME 0
#define R_INT 0
#define R_FLT 0
#define R_BOOL 0
#define R_SEL 0
#define R_CMP 1
#define R_TEST 1
#define SCALAR(e, text, n, rule, flags) [S_##e] = {sizeof flags > 1, R_##rule},
#include "ir/scalar.def"
#undef SCALAR
};

bool rule_letter_is_const(uint32_t letter) { return letter >= CONST_FIRST && letter <= CONST_LAST; }

Rules *rules_new(Ctx *c, int ulp) {
    Rules *r = NEW(c, Rules);
    r->c = c;
    r->ulp = ulp;
    return r;
}

/* ---- parsing ---- */

static bool has_type(Types types, DType t) {
    bool narrow = dt_is_packed(t) || dt_bits(t) < 8;
    bool flt = t == DT_F16 || t == DT_BF16 || t == DT_F32 || t == DT_F64,
         integer = dt_is_int(t) && !narrow;
    return types == FLT   ? flt
           : types == INT ? integer
           : types == NUM ? flt || integer
                          : t == DT_BOOL;
}

static Expr parse(Ctx *c, const char *text, DType t) {
    DType letter[LETTERS];
    Buf b = {.c = c};
    for (int k = 0; k < LETTERS; k++) letter[k] = k >= BOOL_FIRST && k <= BOOL_LAST ? DT_BOOL : t;
    for (const char *s = text; *s; s++) {
        if (s[0] == '$' && s[1] == 'T')
            buf_puts(&b, dt_name(t)), s++;
        else
            buf_printf(&b, "%c", *s);
    }
    const char *s = buf_str(&b);
    Expr e = expr_parse(c, &s, letter, LETTERS);
    if (!e.i || *s) ICE("rules.def: \"%s\" is no expression over %s", text, dt_name(t));
    return e;
}

static const Set *rules_for(Rules *r, DType t) {
    Set *s = &r->of[t];
    if (s->rule) return s;
    s->rule = NEWN(r->c, Rule, NROWS);
    for (int k = 0; k < NROWS; k++) {
        const Row *row = &rows[k];
        if (!has_type(row->types, t) || row->ulp > r->ulp) continue;
        Rule q = {
            .row = row, .left = parse(r->c, row->left, t), .right = parse(r->c, row->right, t)};
        q.pow2 = !strcmp(row->cond, "pow2(k)");
        if (*row->cond && !q.pow2) q.cond = parse(r->c, row->cond, t);
        s->rule[s->n++] = q;
    }
    return s;
}

bool rules_view(Rules *r, DType t, uint32_t index, RuleView *out) {
    const Set *s = rules_for(r, t);
    if (index >= s->n) return false;
    const Rule *q = &s->rule[index];
    *out = (RuleView){q->row->left, t, q->left, q->right, q->cond, q->pow2, q->row->ulp};
    return true;
}

/* ---- matching ---- */

typedef struct Match {
    Ctx *c;
    Expr is[LETTERS];
} Match;

static bool match(Match *m, Expr pattern, Expr e) {
    const ExprInfo *p = expr_info(m->c, pattern), *i = expr_info(m->c, e);
    if (p->dtype != i->dtype) return false;
    if (p->kind == E_ARG) {
        if (rule_letter_is_const(p->index) && i->kind != E_CONST) return false;
        Expr *is = &m->is[p->index];
        if (is->i) return is->i == e.i;
        *is = e;
        return true;
    }
    if (p->kind == E_CONST) return pattern.i == e.i;
    if (p->kind != i->kind || p->op != i->op || p->narg != i->narg) return false;
    Match saved = *m;
    bool ok = true;
    for (int k = 0; ok && k < p->narg; k++) ok = match(m, p->arg[k], i->arg[k]);
    if (ok || p->kind != E_OP || !ops[p->op].commutes) return ok;
    *m = saved;
    return match(m, p->arg[0], i->arg[1]) && match(m, p->arg[1], i->arg[0]);
}

bool rule_power_of_two(Scalar s) {
    if (!dt_is_float(s.t) || !isfinite(s.f) || s.f == 0) return false;
    int exponent;
    double f = frexp(fabs(s.f), &exponent);
    int most = s.t == DT_F64 ? 1020 : s.t == DT_F16 ? 12 : 124;
    return f == 0.5 && exponent > -most && exponent < most;
}

static bool holds(const Match *m, const Rule *q) {
    if (q->pow2) return rule_power_of_two(expr_info(m->c, m->is[CONST_FIRST])->val);
    if (!q->cond.i) return true;
    const ExprInfo *i = expr_info(m->c, expr_subst_args(m->c, q->cond, m->is, LETTERS));
    return i->kind == E_CONST && i->val.i;
}

static Expr step(Rules *r, Expr e) {
    const ExprInfo *i = expr_info(r->c, e);
    if (i->kind != E_OP) return e;
    const Set *s =
        rules_for(r, ops[i->op].rule ? (DType)expr_info(r->c, i->arg[0])->dtype : (DType)i->dtype);
    for (uint32_t k = 0; k < s->n; k++) {
        const Rule *q = &s->rule[k];
        if (expr_info(r->c, q->left)->op != i->op) continue;
        Match m = {.c = r->c};
        if (!match(&m, q->left, e) || !holds(&m, q)) continue;
        Expr to = expr_subst_args(r->c, q->right, m.is, LETTERS);
        if (!to.i || to.i == e.i) continue;
        r->fired++;
        return to;
    }
    return e;
}

static Expr rewrite(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    Rules *r = data;
    bool same = !i->narg || !memcmp(newarg, i->arg, sizeof *newarg * i->narg);
    Expr now = same ? e : expr_rebuild(c, i, newarg);
    for (int k = 0; k < STEPS; k++) {
        Expr next = step(r, now);
        if (next.i == now.i) break;
        now = next;
    }
    return now;
}

Expr rules_apply(Rules *r, Expr e, uint32_t *fired) {
    r->fired = 0;
    for (int k = 0; k < STEPS; k++) {
        Expr next = expr_rewrite(r->c, e, rewrite, r);
        if (next.i == e.i) break;
        e = next;
    }
    *fired += r->fired;
    return e;
}
