/* expr_text.c: the text form of scalar expressions, printed and parsed.
 *
 *   text  := { "let" tN "=" cmp ";" } cmp
 *   cmp   := sum [ ("<"|"<="|">"|">="|"=="|"!=") sum ]
 *   sum   := mul { ("+"|"-") mul }
 *   mul   := unary { ("*"|"/") unary }
 *   unary := "-" unary | number [":" type] | "true" | "false" | a..z | x26.. | #axis | tN
 *          | "dim(" dim ")" | type "(" cmp ")" | "bitcast." type "(" cmp ")"
 *          | op "(" cmp { "," cmp } ")" | "(" cmp ")" | load
 *   load  := "load" [".value"|".clamp"|".drop"|".fail@" guard] "(" operand {"," cmp} [";" cmp] ")"
 *
 * A number without a type takes that of the other operands, else i64 (f32 if it has a point, an
 * exponent, or is inf or nan). Printing then parsing gives the same handle; a graph that is large
 * as a tree is printed with lets, so that text is linear in its nodes and nesting stays below what
 * the parser accepts. */
#include "expr_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEST_PRINT = 40, NEST_PARSE = 256, TREE_LIMIT = 96 };
typedef enum { PREC_CMP, PREC_SUM, PREC_MUL, PREC_UNARY } Prec;
typedef struct Infix { const char *sign; Prec prec; } Infix;
static const Infix infix[S_COUNT] = {
    [S_ADD] = {"+", PREC_SUM}, [S_SUB] = {"-", PREC_SUM}, [S_MUL] = {"*", PREC_MUL},
    [S_DIV] = {"/", PREC_MUL}, [S_LT] = {"<", PREC_CMP},  [S_LE] = {"<=", PREC_CMP},
    [S_GT] = {">", PREC_CMP},  [S_GE] = {">=", PREC_CMP}, [S_EQ] = {"==", PREC_CMP},
    [S_NE] = {"!=", PREC_CMP},
};
static const char *const policies[] = {
    [OOB_NEVER] = "",      [OOB_VALUE] = ".value", [OOB_CLAMP] = ".clamp",
    [OOB_FAIL] = ".fail",  [OOB_DROP] = ".drop",
};

/* ==== printing ================================================================================ */

typedef struct Printer {
    Buf *b;
    const Ctx *c;
    ExprWalk walk;
    uint32_t *let;              /* by position: number of its let + 1, or 0 */
} Printer;

static void print_expr(Printer *p, Expr e, Prec prec, bool typed);

static void print_float(Buf *b, DType t, double v) {
    char s[40];
    if (isnan(v)) snprintf(s, sizeof s, "nan");
    else if (isinf(v)) snprintf(s, sizeof s, v < 0 ? "-inf" : "inf");
    else
        for (int digits = 1; digits <= 17; digits++) { /* the shortest that reads back */
            snprintf(s, sizeof s, "%.*g", digits, v);
            double back = strtod(s, NULL);
            if (t != DT_F64)
                back = t == DT_F32 ? (double)(float)back : (double)dt_round_f32(t, (float)back);
            if (back == v) break;
        }
    buf_puts(b, s);
}

/* typed: the place says which type it is. */
static void print_const(Buf *b, Scalar s, bool typed) {
    if (s.t == DT_BOOL) {
        buf_puts(b, s.i ? "true" : "false");
        return;
    }
    if (dt_is_float(s.t)) print_float(b, s.t, s.f);
    else if (s.t == DT_U64) buf_printf(b, "%llu", (unsigned long long)s.i);
    else buf_printf(b, "%lld", (long long)s.i);
    if (!typed && s.t != DT_I64) buf_printf(b, ":%s", dt_name(s.t));
}

static void print_name(Buf *b, uint32_t k) {
    if (k < 26) buf_printf(b, "%c", (int)('a' + k));
    else buf_printf(b, "x%u", k);
}

static void print_load(Printer *p, const ExprInfo *i) {
    buf_printf(p->b, "load%s", policies[i->oob]);
    if (i->oob == OOB_FAIL) {
        buf_puts(p->b, "@\"");
        for (const char *s = expr_guard_text(p->c, i->guard); *s; s++)
            buf_printf(p->b, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
        buf_puts(p->b, "\"");
    }
    buf_printf(p->b, "(%u", i->index);
    int nidx = i->narg - (i->oob == OOB_VALUE);
    for (int k = 0; k < i->narg; k++) {
        buf_puts(p->b, k < nidx ? ", " : "; ");
        print_expr(p, i->arg[k], PREC_CMP, true);
    }
    buf_puts(p->b, ")");
}

/* Which arguments of an operation have a type that the reader knows: the first of a group of
 * constants shows it. */
static bool arg_typed(const Printer *p, const ExprInfo *i, int k) {
    int first = i->op == S_SELECT ? 1 : 0;
    if (k < first) return true;
    for (int a = first; a < i->narg; a++)
        if (a != k && expr_info(p->c, i->arg[a])->kind != E_CONST) return true;
    return k != first;
}

static void print_infix(Printer *p, const ExprInfo *i, Prec prec) {
    Prec own = infix[i->op].prec;
    const ExprInfo *y = expr_info(p->c, i->arg[1]);
    if (prec > own) buf_puts(p->b, "(");
    print_expr(p, i->arg[0], own == PREC_CMP ? PREC_SUM : own, arg_typed(p, i, 0));
    if (i->op == S_ADD && y->kind == E_CONST && dt_is_signed((DType)y->dtype) && y->val.i < 0 &&
        y->val.i > (int64_t)(UINT64_MAX << (dt_bits((DType)y->dtype) - 1))) {
        buf_puts(p->b, " - "); /* how x - 1 is kept: x + -1 */
        print_const(p->b, (Scalar){.t = (DType)y->dtype, .i = -y->val.i}, true);
    } else {
        buf_printf(p->b, " %s ", infix[i->op].sign);
        print_expr(p, i->arg[1], own + 1, arg_typed(p, i, 1));
    }
    if (prec > own) buf_puts(p->b, ")");
}

static void print_node(Printer *p, const ExprInfo *i, Prec prec, bool typed) {
    switch (i->kind) {
    case E_CONST: print_const(p->b, i->val, typed); break;
    case E_ARG: print_name(p->b, i->index); break;
    case E_AXIS: buf_printf(p->b, "#%u", i->index); break;
    case E_DIM:
        buf_puts(p->b, "dim(");
        dim_print(p->b, p->c, (Dim){i->index});
        buf_puts(p->b, ")");
        break;
    case E_LOAD: print_load(p, i); break;
    case E_CAST:
    case E_BITCAST:
        buf_printf(p->b, "%s%s(", i->kind == E_CAST ? "" : "bitcast.", dt_name((DType)i->dtype));
        print_expr(p, i->arg[0], PREC_CMP, false);
        buf_puts(p->b, ")");
        break;
    default:
        if (infix[i->op].sign) {
            print_infix(p, i, prec);
            break;
        }
        buf_printf(p->b, "%s(", sop_info((SOp)i->op)->text);
        for (int k = 0; k < i->narg; k++) {
            if (k) buf_puts(p->b, ", ");
            print_expr(p, i->arg[k], PREC_CMP, arg_typed(p, i, k));
        }
        buf_puts(p->b, ")");
    }
}

static void print_expr(Printer *p, Expr e, Prec prec, bool typed) {
    uint32_t let = p->let[expr_walk_at(&p->walk, e)];
    if (let) buf_printf(p->b, "t%u", let - 1);
    else print_node(p, expr_info(p->c, e), prec, typed);
}

/* Chooses the nodes that get a let: those used more than once if the tree would be long, and those
 * whose nesting would get deep. */
static void choose_lets(Printer *p) {
    const ExprWalk *w = &p->walk;
    struct Node { uint32_t uses, tree, nest; } *n = expr_scratch(p->c, NULL, w->n, sizeof *n);
    memset(n, 0, sizeof *n * w->n);
    for (uint32_t k = 0; k < w->n; k++) {
        const ExprInfo *i = expr_info(p->c, (Expr){w->e[k]});
        uint64_t tree = 1;
        for (int a = 0; a < i->narg; a++) {
            struct Node *x = &n[expr_walk_at(w, i->arg[a])];
            x->uses++;
            tree += x->tree;
        }
        n[k].tree = tree < TREE_LIMIT ? (uint32_t)tree : TREE_LIMIT;
    }
    bool share = w->n && n[w->n - 1].tree >= TREE_LIMIT;
    for (uint32_t k = 0; k < w->n; k++) {
        const ExprInfo *i = expr_info(p->c, (Expr){w->e[k]});
        for (int a = 0; a < i->narg; a++) {
            uint32_t at = expr_walk_at(w, i->arg[a]);
            if (!p->let[at] && n[at].nest >= n[k].nest) n[k].nest = n[at].nest + 1;
        }
        bool last = k + 1 == w->n;
        if (!last && i->narg && ((share && n[k].uses > 1) || n[k].nest >= NEST_PRINT))
            p->let[k] = UINT32_MAX;
    }
    free(n);
}

/* Numbers the lets in the order in which the expression, read from left to right, completes them:
 * unlike that of handles it does not depend on what else the Ctx holds. order: their positions.
 * Returns how many there are. */
static uint32_t number_lets(Printer *p, uint32_t *order) {
    const ExprWalk *w = &p->walk;
    struct Frame { uint32_t at; int arg; } *stack = expr_scratch(p->c, NULL, w->n, sizeof *stack);
    bool *seen = expr_scratch(p->c, NULL, w->n, sizeof *seen);
    memset(seen, 0, sizeof *seen * w->n);
    uint32_t count = 0, depth = 1;
    stack[0] = (struct Frame){w->n - 1, 0}; /* the root has the highest handle */
    while (depth) {
        struct Frame *f = &stack[depth - 1];
        const ExprInfo *i = expr_info(p->c, (Expr){w->e[f->at]});
        if (f->arg < i->narg) {
            uint32_t at = expr_walk_at(w, i->arg[f->arg++]);
            if (!seen[at]) stack[depth++] = (struct Frame){at, 0};
            seen[at] = true;
            continue;
        }
        if (p->let[f->at]) {
            order[count++] = f->at;
            p->let[f->at] = count;
        }
        depth--;
    }
    free(stack);
    free(seen);
    return count;
}

void expr_print(Buf *b, const Ctx *c, Expr e) {
    if (!e.i) {
        buf_puts(b, "poison");
        return;
    }
    Printer p = {.b = b, .c = c};
    expr_walk(c, &p.walk, e);
    p.let = expr_scratch(c, NULL, p.walk.n, sizeof *p.let);
    memset(p.let, 0, sizeof *p.let * p.walk.n);
    choose_lets(&p);
    uint32_t *order = expr_scratch(c, NULL, p.walk.n, sizeof *order);
    for (uint32_t k = 0, n = number_lets(&p, order); k < n; k++) {
        buf_printf(b, "let t%u = ", k);
        print_node(&p, expr_info(c, (Expr){p.walk.e[order[k]]}), PREC_CMP, false);
        buf_puts(b, "; ");
    }
    free(order);
    print_expr(&p, e, PREC_CMP, false);
    free(p.let);
    expr_walk_free(&p.walk);
}

/* ==== parsing ================================================================================= */

/* A parsed part: an expression, or a number that has no type yet. */
typedef struct Term {
    Expr e;
    bool lit, whole;            /* a number; it is an integer that fits 64 bits */
    uint64_t i;                 /* whole: two's complement */
    bool minus;                 /* whole: i was negated */
    double f;
} Term;
typedef struct Parser {
    Ctx *c;
    const char *s;
    const DType *argtype;
    uint32_t nargs;
    int depth;
    bool failed;
    VEC(Expr) let;
} Parser;

static Term parse_cmp(Parser *p);

static Term fail(Parser *p, const char *what) {
    if (!p->failed) {
        int n = 0;
        while (n < 24 && p->s[n] && p->s[n] != '\n') n++;
        diag(p->c, SEV_ERROR, (Loc){0}, "E0353", "expression: %s at '%.*s'", what, n, p->s);
    }
    p->failed = true;
    return (Term){0};
}

static void blanks(Parser *p) {
    while (*p->s == ' ' || *p->s == '\t' || *p->s == '\n' || *p->s == '\r') p->s++;
}

static bool accept(Parser *p, const char *sign) {
    blanks(p);
    size_t n = strlen(sign);
    if (strncmp(p->s, sign, n)) return false;
    p->s += n;
    return true;
}

static bool expect(Parser *p, const char *sign) {
    if (p->failed || accept(p, sign)) return !p->failed;
    char what[32];
    snprintf(what, sizeof what, "expected '%s'", sign);
    fail(p, what);
    return false;
}

static bool is_digit(char ch) { return ch >= '0' && ch <= '9'; }
static bool is_letter(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_';
}

/* A decimal number below 2^31; false if there is none. */
static bool parse_index(Parser *p, uint32_t *out) {
    uint64_t v = 0;
    if (!is_digit(*p->s)) return false;
    for (; is_digit(*p->s); p->s++)
        if (v < UINT32_MAX) v = v * 10 + (uint64_t)(*p->s - '0');
    *out = (uint32_t)v;
    return v < INT32_MAX;
}

static size_t word_len(const char *s) {
    size_t n = 0;
    if (is_letter(*s)) while (is_letter(s[n]) || is_digit(s[n])) n++;
    return n;
}

/* ---- numbers and their types ---- */

static Expr typed_number(Parser *p, const Term *t, DType type) {
    if (p->failed) return (Expr){0};
    if (dt_is_float(type)) return expr_float(p->c, type, t->f);
    if (dt_is_int(type) && t->whole) {
        bool fits = type == DT_U64 ? !t->minus || !t->i : t->minus == ((int64_t)t->i < 0) || !t->i;
        Expr e = expr_int(p->c, type, (int64_t)t->i);
        if (fits && expr_info(p->c, e)->val.i == (int64_t)t->i) return e;
    } else if (!dt_is_int(type) && type != DT_BOOL && t->whole && t->i == 0) {
        return expr_int(p->c, type, 0);
    }
    char what[64];
    snprintf(what, sizeof what, "a number that is no %s before", dt_name(type));
    fail(p, what);
    return (Expr){0};
}

static Expr as_expr(Parser *p, const Term *t, DType type) {
    return t->lit ? typed_number(p, t, type) : t->e;
}
static DType own_type(const Term *t) { return t->whole ? DT_I64 : DT_F32; }

/* The expression of a part that stands alone. */
static Expr settle(Parser *p, const Term *t) { return as_expr(p, t, own_type(t)); }

/* Gives the numbers among t[0..n) the type of the others. */
static void agree(Parser *p, Term *t, int n, Expr *out) {
    DType type = DT_NONE;
    bool whole = true;
    for (int k = 0; k < n; k++) {
        if (!t[k].lit && type == DT_NONE) type = (DType)expr_info(p->c, t[k].e)->dtype;
        whole &= t[k].lit && t[k].whole;
    }
    if (type == DT_NONE) type = whole ? DT_I64 : DT_F32;
    for (int k = 0; k < n; k++) out[k] = as_expr(p, &t[k], type);
}

static Term term_of(Parser *p, Expr e) {
    if (!e.i) p->failed = true; /* the constructor has said why */
    return (Term){.e = e};
}

static Term parse_number(Parser *p, bool minus) {
    Term t = {.lit = true, .minus = minus};
    char *end;
    const char *from = p->s;
    size_t n = 0;
    if (from[0] == '0' && (from[1] == 'x' || from[1] == 'X'))
        return fail(p, "expected a decimal number");
    while (is_digit(from[n])) n++;
    t.whole = n && from[n] != '.' && from[n] != 'e' && from[n] != 'E';
    for (size_t k = 0; t.whole && k < n; k++) {
        uint64_t digit = (uint64_t)(from[k] - '0');
        if (t.i > (UINT64_MAX - digit) / 10) t.whole = false;
        else t.i = t.i * 10 + digit;
    }
    t.f = strtod(from, &end); /* digits, "inf" or "nan": the caller looked */
    p->s = end;
    if (minus) {
        t.f = -t.f;
        t.whole = t.whole && t.i <= (uint64_t)1 << 63;
        t.i = 0 - t.i;
    }
    if (*p->s != ':') return t;
    p->s++;
    n = word_len(p->s);
    DType type = dt_parse(p->s, n);
    if (type == DT_NONE) return fail(p, "expected a type");
    p->s += n;
    return term_of(p, typed_number(p, &t, type));
}

/* ---- calls ---- */

static bool parse_operand(Parser *p, uint32_t *k) {
    const char *s = p->s;
    size_t n = word_len(s);
    if (n == 1 && *s >= 'a' && *s <= 'z') {
        *k = (uint32_t)(*s - 'a');
        p->s++;
    } else if (n > 1 && *s == 'x' && is_digit(s[1])) {
        p->s++;
        if (!parse_index(p, k)) return false;
    } else if (!parse_index(p, k)) {
        return false;
    }
    return *k < p->nargs && p->argtype[*k] != DT_NONE;
}

static bool parse_guard(Parser *p, uint32_t *guard) {
    if (!expect(p, "@")) return false;
    if (*p->s != '"') return parse_index(p, guard) && *guard >= 1 && *guard < expr_nguards(p->c);
    Buf text = {.c = p->c};
    for (p->s++; *p->s && *p->s != '"'; p->s++) {
        if (*p->s == '\\' && p->s[1]) p->s++;
        buf_printf(&text, "%c", *p->s);
    }
    if (*p->s != '"') return false;
    p->s++;
    *guard = expr_guard(p->c, (Loc){0}, buf_str(&text));
    return true;
}

static Term parse_load(Parser *p) {
    Oob oob = OOB_NEVER;
    uint32_t guard = 0, operand;
    for (Oob k = OOB_VALUE; k <= OOB_DROP; k++)
        if (oob == OOB_NEVER && accept(p, policies[k])) oob = k;
    if (oob == OOB_FAIL && !parse_guard(p, &guard)) return fail(p, "expected the text of a guard");
    if (!expect(p, "(")) return (Term){0};
    blanks(p);
    if (!parse_operand(p, &operand)) return fail(p, "expected an operand before");
    DType t = p->argtype[operand];
    Expr idx[MAX_RANK], pad = {0};
    int n = 0;
    while (!p->failed && accept(p, ",")) {
        if (n == MAX_RANK) return fail(p, "too many indices");
        Term x = parse_cmp(p);
        idx[n++] = as_expr(p, &x, DT_I64);
    }
    if (oob == OOB_VALUE && expect(p, ";")) {
        Term x = parse_cmp(p);
        pad = as_expr(p, &x, t);
    }
    if (!expect(p, ")")) return (Term){0};
    return term_of(p, expr_load(p->c, operand, t, n, idx, oob, pad, guard));
}

static Term parse_cast(Parser *p, DType t, bool bits) {
    if (!expect(p, "(")) return (Term){0};
    Term x = parse_cmp(p);
    if (!expect(p, ")")) return (Term){0};
    Expr e = settle(p, &x);
    return term_of(p, bits ? expr_bitcast(p->c, e, t) : expr_cast(p->c, e, t));
}

/* Sums, differences and products of two numbers without a type are such a number. */
static bool fold_numbers(SOp op, const Term *x, Term *out) {
    int64_t a = (int64_t)x[0].i, b = (int64_t)x[1].i, r = 0;
    bool whole = x[0].lit && x[1].lit && x[0].whole && x[1].whole && (x[0].minus || a >= 0) && (x[1].minus || b >= 0);
    *out = (Term){.lit = true};
    switch (op) {
    case S_ADD: out->f = x[0].f + x[1].f, whole = whole && !__builtin_add_overflow(a, b, &r); break;
    case S_SUB: out->f = x[0].f - x[1].f, whole = whole && !__builtin_sub_overflow(a, b, &r); break;
    case S_MUL: out->f = x[0].f * x[1].f, whole = whole && !__builtin_mul_overflow(a, b, &r); break;
    default: return false;
    }
    out->whole = whole, out->i = (uint64_t)r, out->minus = r < 0;
    return x[0].lit && x[1].lit;
}

static Term apply(Parser *p, SOp op, Term *x) {
    Expr arg[3] = {{0}};
    int n = sop_info(op)->n, first = op == S_SELECT;
    Term number;
    if (p->failed) return (Term){0};
    if (n == 2 && fold_numbers(op, x, &number)) return number;
    if (first) arg[0] = settle(p, &x[0]);
    agree(p, x + first, n - first, arg + first);
    return p->failed ? (Term){0} : term_of(p, expr_opn(p->c, op, n, arg));
}

static Term parse_call(Parser *p, SOp op) {
    Term x[3] = {{.lit = false}};
    if (!expect(p, "(")) return (Term){0};
    for (int k = 0; k < sop_info(op)->n; k++) {
        if (k && !expect(p, ",")) return (Term){0};
        x[k] = parse_cmp(p);
    }
    return expect(p, ")") ? apply(p, op, x) : (Term){0};
}

static SOp find_op(const char *s, size_t n) {
    for (SOp op = S_NONE + 1; op < S_COUNT; op++)
        if (strlen(sop_info(op)->text) == n && !memcmp(sop_info(op)->text, s, n)) return op;
    return S_NONE;
}

/* ---- primaries ---- */

static bool is_word(const char *s, size_t n, const char *word) {
    return strlen(word) == n && !memcmp(s, word, n);
}

static Term parse_dim(Parser *p) {
    if (!expect(p, "(")) return (Term){0};
    blanks(p);
    Dim d = dim_parse(p->c, &p->s);
    if (!d.i) return fail(p, "expected a dimension before");
    return expect(p, ")") ? term_of(p, expr_dim(p->c, d)) : (Term){0};
}

static Term parse_word(Parser *p) {
    const char *s = p->s;
    size_t n = word_len(s);
    if (is_word(s, n, "inf") || is_word(s, n, "nan")) return parse_number(p, false);
    if (n > 1 && *s == 't' && is_digit(s[1])) {
        uint32_t k;
        p->s++;
        if (!parse_index(p, &k) || k >= p->let.n) return fail(p, "unknown let before");
        return (Term){.e = p->let.v[k]};
    }
    if (n == 1 || (*s == 'x' && is_digit(s[1]))) {
        uint32_t k;
        if (!parse_operand(p, &k)) return fail(p, "unknown operand before");
        return term_of(p, expr_arg(p->c, k, p->argtype[k]));
    }
    p->s += n;
    if (is_word(s, n, "true") || is_word(s, n, "false"))
        return term_of(p, expr_int(p->c, DT_BOOL, *s == 't'));
    if (is_word(s, n, "dim")) return parse_dim(p);
    if (is_word(s, n, "load")) return parse_load(p);
    if (is_word(s, n, "bitcast")) {
        if (!expect(p, ".")) return (Term){0};
        s = p->s;
        n = word_len(s);
        DType t = dt_parse(s, n);
        p->s += n;
        return t == DT_NONE ? fail(p, "expected a type before") : parse_cast(p, t, true);
    }
    DType t = dt_parse(s, n);
    if (t != DT_NONE) return parse_cast(p, t, false);
    SOp op = find_op(s, n);
    if (op != S_NONE) return parse_call(p, op);
    p->s = s;
    return fail(p, "unknown name");
}

static Term parse_primary(Parser *p) {
    blanks(p);
    if (is_digit(*p->s) || (*p->s == '.' && is_digit(p->s[1]))) return parse_number(p, false);
    if (is_letter(*p->s)) return parse_word(p);
    if (accept(p, "#")) {
        uint32_t a;
        return parse_index(p, &a) ? term_of(p, expr_axis(p->c, a)) : fail(p, "expected an axis");
    }
    if (!accept(p, "(")) return fail(p, "expected an expression");
    Term t = parse_cmp(p);
    expect(p, ")");
    return t;
}

static Term parse_unary(Parser *p) {
    if (!accept(p, "-")) return parse_primary(p);
    blanks(p);
    size_t n = word_len(p->s);
    if (is_digit(*p->s) || *p->s == '.' || is_word(p->s, n, "inf") || is_word(p->s, n, "nan"))
        return parse_number(p, true);
    if (++p->depth > NEST_PARSE) return fail(p, "nested too deeply");
    Term x = parse_unary(p);
    p->depth--;
    return apply(p, S_NEG, &x);
}

/* Left-associative chains of the operators of one level. */
static Term parse_chain(Parser *p, Prec prec) {
    Term x[2] = {prec == PREC_MUL ? parse_unary(p) : parse_chain(p, PREC_MUL)};
    while (!p->failed) {
        SOp op = prec == PREC_MUL ? (accept(p, "*") ? S_MUL : accept(p, "/") ? S_DIV : S_NONE)
                                  : (accept(p, "+") ? S_ADD : accept(p, "-") ? S_SUB : S_NONE);
        if (op == S_NONE) return x[0];
        x[1] = prec == PREC_MUL ? parse_unary(p) : parse_chain(p, PREC_MUL);
        x[0] = apply(p, op, x);
    }
    return (Term){0};
}

static Term parse_cmp(Parser *p) {
    static const SOp order[] = {S_LE, S_GE, S_EQ, S_NE, S_LT, S_GT}; /* longer signs first */
    if (p->failed) return (Term){0};
    if (++p->depth > NEST_PARSE) return fail(p, "nested too deeply");
    Term x[2] = {parse_chain(p, PREC_SUM)};
    for (size_t k = 0; k < sizeof order / sizeof *order && !p->failed; k++) {
        if (!accept(p, infix[order[k]].sign)) continue;
        x[1] = parse_chain(p, PREC_SUM);
        x[0] = apply(p, order[k], x);
        break;
    }
    p->depth--;
    return x[0];
}

Expr expr_parse(Ctx *c, const char **s, const DType *argtype, uint32_t nargs) {
    Parser p = {.c = c, .s = *s, .argtype = argtype, .nargs = nargs};
    blanks(&p);
    while (!p.failed && word_len(p.s) == 3 && !strncmp(p.s, "let", 3)) {
        uint32_t k;
        p.s += 3;
        if (!expect(&p, "t") || !parse_index(&p, &k) || k != p.let.n) {
            fail(&p, "expected the name of the next let before");
            break;
        }
        if (!expect(&p, "=")) break;
        Term t = parse_cmp(&p);
        Expr e = settle(&p, &t);
        if (!expect(&p, ";")) break;
        vec_push(c, &p.let, e);
        blanks(&p);
    }
    Term t = parse_cmp(&p);
    Expr e = settle(&p, &t);
    *s = p.s;
    return p.failed ? (Expr){0} : e;
}
