/* dim_text.c: dims as text, and back. What is printed parses to the same dim:
 *   sum: product {("+" | "-") product};  product: factor {"*" factor}
 *   factor: number | "-" factor | name | function "(" sum {"," sum} ")" | "(" sum ")" | "?"
 * A name may contain letters, digits and "_", and may follow a "$"; a function is a name before
 * "(". "?" is poison. Parsing stops at the first character that fits nothing; on an error it
 * returns poison and leaves *s there. */
#include <ctype.h>
#include <string.h>

#include "dim_internal.h"

enum { MAX_NESTING = 200 };

static const struct Function {
    const char *name;
    DimKind kind;
    Dim (*make)(Ctx *, Dim, Dim); /* NULL: select */
} functions[] = {
    {"floordiv", D_FLOORDIV, dim_floordiv},   {"ceildiv", D_CEILDIV, dim_ceildiv},
    {"mod", D_MOD, dim_mod},                  {"min", D_MIN, dim_min},
    {"max", D_MAX, dim_max},                  {"bcast", D_BCAST, dim_bcast},
    {"eq", D_EQ, dim_eqv},                    {"lt", D_LT, dim_lt},
    {"select", D_SELECT, NULL},
};
enum { NFUNCTIONS = sizeof functions / sizeof *functions };

/* ==== print =================================================================================== */

static void print_sum(Buf *b, const Ctx *c, Dim d);

static void print_atom(Buf *b, const Ctx *c, Dim d) {
    const DimInfo *i = &dim_node(c, d)->info;
    switch (i->kind) {
    case D_POISON: buf_puts(b, "?"); return;
    case D_CONST: buf_printf(b, "%lld", (long long)i->val); return;
    case D_SYM: buf_puts(b, dim_sym_info(c, (uint32_t)i->val)->name); return;
    case D_ADD:
    case D_MUL:
        buf_puts(b, "(");
        print_sum(b, c, d);
        buf_puts(b, ")");
        return;
    default: break;
    }
    for (int k = 0; k < NFUNCTIONS; k++)
        if (functions[k].kind == i->kind) buf_puts(b, functions[k].name);
    for (int k = 0; k < i->n; k++) {
        buf_puts(b, k ? "," : "(");
        print_sum(b, c, i->arg[k]);
    }
    buf_puts(b, ")");
}

/* A product without its sign, which is returned: true if negative. */
static bool negative(const Ctx *c, Dim d, Dim *body, uint64_t *coef) {
    const DimNode *n = dim_node(c, d);
    int64_t k = 1;
    *body = d;
    if (n->info.kind == D_MUL && !n->opaque && dim_node(c, n->info.arg[0])->info.kind == D_CONST) {
        k = dim_node(c, n->info.arg[0])->info.val;
        *body = n->info.arg[1];
    } else if (n->info.kind == D_CONST) {
        k = n->info.val;
        *body = (Dim){0};
    }
    *coef = k < 0 ? 0 - (uint64_t)k : (uint64_t)k;
    return k < 0;
}

static void print_product(Buf *b, const Ctx *c, Dim d) {
    const DimNode *n = dim_node(c, d);
    if (n->info.kind != D_MUL) {
        print_atom(b, c, d);
        return;
    }
    if (n->opaque) print_atom(b, c, n->info.arg[0]);
    else print_product(b, c, n->info.arg[0]);
    buf_puts(b, "*");
    print_atom(b, c, n->info.arg[1]);
}

static void print_signed(Buf *b, const Ctx *c, Dim d, bool first) {
    Dim body;
    uint64_t coef;
    if (negative(c, d, &body, &coef)) buf_puts(b, "-");
    else if (!first) buf_puts(b, "+");
    if (!body.i || coef != 1) buf_printf(b, "%llu", (unsigned long long)coef);
    if (body.i && coef != 1) buf_puts(b, "*");
    if (body.i) print_product(b, c, body);
}

static void print_sum(Buf *b, const Ctx *c, Dim d) {
    Dim part[MAX_TERMS + 1], body;
    uint64_t coef;
    int n = 0;
    const DimNode *x = dim_node(c, d);
    if (x->info.kind == D_ADD && x->opaque) {
        print_atom(b, c, x->info.arg[0]);
        buf_puts(b, "+");
        print_atom(b, c, x->info.arg[1]);
        return;
    }
    if (!d.i) {
        print_atom(b, c, d);
        return;
    }
    for (; x->info.kind == D_ADD && !x->opaque && n < MAX_TERMS; x = dim_node(c, d)) {
        part[n++] = x->info.arg[1];
        d = x->info.arg[0];
    }
    part[n++] = d;
    /* 10-N reads better than -N+10 */
    bool lead = n > 1 && negative(c, d, &body, &coef) &&
                dim_node(c, part[0])->info.kind == D_CONST && dim_node(c, part[0])->info.val > 0;
    if (lead) print_signed(b, c, part[0], true);
    for (int i = n - 1; i >= (int)lead; i--) print_signed(b, c, part[i], i == n - 1 && !lead);
}

void dim_print(Buf *b, const Ctx *c, Dim d) { print_sum(b, c, dim_canon(c, d)); }

/* ==== parse =================================================================================== */

typedef struct Parser { Ctx *c; const char *s; int nesting; bool failed; } Parser;

static Dim parse_sum(Parser *p);

static bool accept(Parser *p, char x) {
    while (*p->s == ' ' || *p->s == '\t') p->s++;
    if (*p->s != x || p->failed) return false;
    p->s++;
    return true;
}

static Dim fail(Parser *p) {
    p->failed = true;
    return (Dim){0};
}

static Dim parse_number(Parser *p, bool minus) {
    int64_t v = 0;
    const char *start = p->s;
    for (; isdigit((unsigned char)*p->s); p->s++) {
        int digit = *p->s - '0';
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, minus ? -digit : digit, &v)) {
            p->s = start;
            return fail(p);
        }
    }
    return dim_const(p->c, v);
}

static Dim parse_call(Parser *p, const char *name, size_t n) {
    Dim arg[3] = {{0}, {0}, {0}};
    int count = 0;
    do {
        if (count == 3) return fail(p);
        arg[count++] = parse_sum(p);
    } while (accept(p, ','));
    const char *end = p->s;
    if (!accept(p, ')')) return fail(p);
    for (int k = 0; k < NFUNCTIONS; k++) {
        const struct Function *f = &functions[k];
        if (strlen(f->name) != n || memcmp(f->name, name, n) != 0 || count != (f->make ? 2 : 3))
            continue;
        return f->make ? f->make(p->c, arg[0], arg[1]) : dim_select(p->c, arg[0], arg[1], arg[2]);
    }
    p->s = end;
    return fail(p);
}

static bool name_char(unsigned char x, bool first) {
    if (x >= 0x80) return false;
    return isalpha(x) || x == '_' || (!first && (isdigit(x)));
}

static Dim parse_factor(Parser *p) {
    Dim d = {0};
    bool minus = accept(p, '-');
    while (*p->s == ' ' || *p->s == '\t') p->s++;
    if (p->failed || p->nesting >= MAX_NESTING) return fail(p);
    p->nesting++;
    if (isdigit((unsigned char)*p->s)) {
        d = parse_number(p, minus);
        minus = false;
    } else if (accept(p, '?')) {
        minus = false;
    } else if (minus && *p->s == '-') {
        d = parse_factor(p);
    } else if (accept(p, '(')) {
        d = parse_sum(p);
        if (!accept(p, ')')) d = fail(p);
    } else {
        bool dollar = *p->s == '$';
        const char *name = p->s + dollar, *end = name;
        if (!name_char((unsigned char)*name, true)) return fail(p);
        while (name_char((unsigned char)*end, false)) end++;
        p->s = end;
        if (!dollar && accept(p, '(')) d = parse_call(p, name, (size_t)(end - name));
        else d = dim_sym(p->c, ctx_strn(p->c, name, (size_t)(end - name)), 0, DIM_INF);
    }
    p->nesting--;
    return minus ? dim_muli(p->c, d, -1) : d;
}

static Dim parse_product(Parser *p) {
    Dim d = parse_factor(p);
    while (accept(p, '*')) d = dim_mul(p->c, d, parse_factor(p));
    return d;
}

/* "-" and a number, which are read as one: there is a smallest number that has no opposite. */
static bool minus_number(const Parser *p) {
    const char *s = p->s + strspn(p->s, " \t");
    if (p->failed || *s != '-') return false;
    s += 1 + strspn(s + 1, " \t");
    return isdigit((unsigned char)*s);
}

static Dim parse_sum(Parser *p) {
    Dim d = parse_product(p);
    for (;;) {
        if (accept(p, '+') || minus_number(p)) d = dim_add(p->c, d, parse_product(p));
        else if (accept(p, '-')) d = dim_sub(p->c, d, parse_product(p));
        else return d;
    }
}

Dim dim_parse(Ctx *c, const char **s) {
    Parser p = {.c = c, .s = *s};
    Dim d = parse_sum(&p);
    while (p.s > *s && (p.s[-1] == ' ' || p.s[-1] == '\t')) p.s--;
    *s = p.s;
    return p.failed ? (Dim){0} : d;
}
