/* parse.c: text to graph. The grammar is in IR.md, the attributes of the primitives in
 * parse_attr.c.
 *
 * In: text from anywhere. Out: a graph whose every node passed infer(), with the declared types; or
 * NULL after a message with line, column, the line and a caret. Nodes are appended as they are
 * written, nothing is simplified. Nesting and sizes are bounded by limits and by the length of the
 * text. */
#include "parse_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

typedef struct Scope {
    Graph *g;
    StrMap names;
} Scope; /* names of values; quoted odd ones start with a quote */

/* ==== messages, blanks ======================================================================= */

void *parse_fail(Parser *p, const char *at, const char *fmt, ...) {
    if (p->failed) return NULL;
    p->failed = true;
    uint32_t line = 1;
    const char *start = p->text;
    for (const char *s = p->text; s < at; s++) {
        if (*s != '\n') continue;
        line++;
        start = s + 1;
    }
    size_t len = strcspn(start, "\n"), col = (size_t)(at - start), from = col > 60 ? col - 60 : 0;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    LocInfo l = {.file = p->file, .node = -1, .line = line, .col = (uint32_t)col + 1};
    diag(p->c, SEV_ERROR, loc_new(p->c, &l), "E0701", "%s", text);
    int shown = (int)(len - from > 100 ? 100 : len - from);
    diag_note(p->c, "%.*s", shown, start + from);
    char caret[128];
    size_t n = 0;
    for (; n < col - from; n++) caret[n] = start[from + n] == '\t' ? '\t' : ' ';
    caret[n++] = '^';
    caret[n] = 0;
    diag_note(p->c, "%s", caret);
    return NULL;
}

void parse_blanks(Parser *p) {
    for (;; p->s++) {
        if (*p->s == '#') p->s += strcspn(p->s, "\n");
        if (*p->s != ' ' && *p->s != '\t' && *p->s != '\n' && *p->s != '\r') return;
    }
}

bool parse_sign(Parser *p, const char *sign) {
    size_t n = strlen(sign);
    if (p->failed) return false;
    parse_blanks(p);
    if (strncmp(p->s, sign, n)) return false;
    p->s += n;
    return true;
}

void parse_expect(Parser *p, const char *sign) {
    if (!parse_sign(p, sign)) parse_fail(p, p->s, "expected '%s'", sign);
}

static size_t word_length(const char *s) {
    size_t n = 0;
    while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || s[n] == '_' ||
           s[n] == '.' || (s[n] >= '0' && s[n] <= '9'))
        n++;
    return n;
}

bool parse_word(Parser *p, const char *word) {
    if (p->failed) return false;
    parse_blanks(p);
    size_t n = strlen(word);
    if (word_length(p->s) != n || memcmp(p->s, word, n)) return false;
    p->s += n;
    return true;
}

int parse_choice(Parser *p, const char *const *word, int n) {
    for (int k = 0; k < n; k++) {
        if (parse_word(p, word[k])) return k;
    }
    return -1;
}

/* ==== numbers, strings ======================================================================= */

int64_t parse_int(Parser *p, int64_t lo, int64_t hi) {
    if (p->failed) return lo;
    parse_blanks(p);
    const char *at = p->s;
    char *end = NULL;
    errno = 0;
    bool digits = (*at >= '0' && *at <= '9') || (*at == '-' && at[1] >= '0' && at[1] <= '9');
    long long v = digits ? strtoll(at, &end, 10) : 0;
    if (!digits || errno || v < lo || v > hi) {
        parse_fail(p, at, "expected an integer from %lld to %lld", (long long)lo, (long long)hi);
        return lo;
    }
    p->s = end;
    return v;
}

double parse_float(Parser *p) {
    if (p->failed) return 0;
    parse_blanks(p);
    char *end;
    double v = strtod(p->s, &end);
    if (end == p->s) parse_fail(p, p->s, "expected a number");
    p->s = end;
    return v;
}

Scalar parse_scalar(Parser *p, DType t) {
    Scalar s = {.t = t};
    parse_blanks(p);
    const char *at = p->s;
    if (dt_is_float(t)) {
        s.f = parse_float(p);
        if (t == DT_F32) s.f = (double)strtof(at, NULL);
        else if (t == DT_F8E5M2 && isinf(s.f)) return s; /* conversion would saturate */
        else if (t != DT_F64) s = dt_convert((Scalar){.t = DT_F64, .f = s.f}, t);
        return s;
    }
    if (t == DT_U64 && *at != '-') {
        char *end;
        errno = 0;
        s.i = (int64_t)strtoull(at, &end, 10);
        if (end == at || errno) parse_fail(p, at, "expected an integer of type u64");
        if (!p->failed) p->s = end;
        return s;
    }
    unsigned bits = t == DT_BOOL ? 1 : dt_bits(t);
    if (t != DT_BOOL && !dt_is_int(t)) {
        parse_fail(p, at, "no number has type %s", dt_name(t));
    } else if (dt_is_signed(t)) {
        int64_t hi = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
        s.i = parse_int(p, -hi - 1, hi);
    } else {
        s.i = parse_int(p, 0, bits >= 64 ? INT64_MAX : (int64_t)(((uint64_t)1 << bits) - 1));
    }
    return s;
}

static int hex(char ch) {
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

const char *parse_string(Parser *p, size_t *n) {
    if (p->failed) return "";
    parse_blanks(p);
    const char *at = p->s;
    size_t most = *at == '"' ? strcspn(at + 1, "\n") : 0, k = 0;
    if (*at != '"') {
        parse_fail(p, at, "expected a string");
        return "";
    }
    char *out = ctx_alloc(p->c, most + 1);
    const char *s = at + 1;
    for (; *s && *s != '\n' && *s != '"'; s++) {
        if (*s != '\\') {
            out[k++] = *s;
        } else if (s[1] == 'x' && hex(s[2]) >= 0 && hex(s[3]) >= 0) {
            out[k++] = (char)(hex(s[2]) * 16 + hex(s[3]));
            s += 3;
        } else if (s[1] == '"' || s[1] == '\\') {
            out[k++] = *++s;
        } else {
            parse_fail(p, s, "expected \\\", \\\\ or \\x and two hex digits");
            return "";
        }
    }
    if (*s != '"') parse_fail(p, at, "this string has no end");
    else p->s = s + 1;
    if (n) *n = k;
    else if (memchr(out, 0, k)) parse_fail(p, at, "no zero byte may stand here");
    return out;
}

/* ==== dims, types ============================================================================ */

Dim parse_dim(Parser *p) {
    if (p->failed) return (Dim){0};
    parse_blanks(p);
    const char *at = p->s;
    Dim d = dim_parse(p->c, &p->s);
    if (!d.i) parse_fail(p, at, "expected a dimension");
    return d;
}

int parse_dims(Parser *p, Dim *d, int max) {
    int n = 0;
    parse_expect(p, "[");
    while (!p->failed && !parse_sign(p, "]")) {
        if (n) parse_expect(p, ",");
        if (n == max) parse_fail(p, p->s, "more than %d entries", max);
        else d[n++] = parse_dim(p);
    }
    return p->failed ? 0 : n;
}

int parse_ints(Parser *p, int64_t *v, int max, int64_t lo, int64_t hi) {
    int n = 0;
    parse_expect(p, "[");
    while (!p->failed && !parse_sign(p, "]")) {
        if (n) parse_expect(p, ",");
        if (n == max) parse_fail(p, p->s, "more than %d entries", max);
        else v[n++] = parse_int(p, lo, hi);
    }
    return p->failed ? 0 : n;
}

/* The rank of an element of a list, and its sizes: constants, or `?`. */
static int element_dims(Parser *p, Dim *d) {
    int n = 0, any = 0;
    parse_expect(p, "[");
    any = parse_sign(p, "*") ? RANK_ANY : parse_word(p, "none") ? RANK_NONE : 0;
    if (any) {
        parse_expect(p, "]");
        return any;
    }
    while (!p->failed && !parse_sign(p, "]")) {
        if (n) parse_expect(p, ",");
        if (n == MAX_RANK) parse_fail(p, p->s, "more than %d entries", MAX_RANK);
        else d[n++] = parse_sign(p, "?") ? (Dim){0} : dim_const(p->c, parse_int(p, 0, INT64_MAX));
    }
    return p->failed ? 0 : n;
}

Type parse_type(Parser *p, int depth) {
    static const char *const kinds[] = {[TY_SEQ] = "seq", [TY_OPT] = "opt", [TY_MAP] = "map"};
    Type t = {0};
    if (p->failed) return t;
    parse_blanks(p);
    const char *at = p->s;
    size_t n = word_length(at);
    for (int k = TY_SEQ; k <= TY_MAP; k++) {
        if (strlen(kinds[k]) != n || memcmp(at, kinds[k], n)) continue;
        p->s += n;
        t.kind = (uint8_t)k;
        parse_expect(p, "<");
        if (k == TY_MAP) {
            parse_blanks(p);
            n = word_length(p->s);
            t.dtype = (uint8_t)dt_parse(p->s, n);
            if (!t.dtype) parse_fail(p, p->s, "expected an element type");
            p->s += n;
            parse_expect(p, ",");
        }
        if (depth == 8) parse_fail(p, at, "types are nested too deeply");
        Type e = parse_type(p, depth + 1);
        t.elem = ctx_dup(p->c, &e, sizeof e);
        parse_expect(p, ">");
        return t;
    }
    DType e = n ? dt_parse(at, n) : DT_NONE;
    if (e == DT_NONE) {
        parse_fail(p, at, "expected a type");
        return t;
    }
    p->s += n;
    Dim dim[MAX_RANK];
    int rank = depth ? element_dims(p, dim) : parse_dims(p, dim, MAX_RANK);
    return p->failed ? t : rank > MAX_RANK ? type_unranked(e, rank) : type_tensor(p->c, e, rank, dim);
}

/* May a value of inferred type `have` be declared as `want`? Dims only must not be known to differ.
 */
static bool agrees(Ctx *c, const Type *have, const Type *want) {
    for (bool first = true; have && want; have = have->elem, want = want->elem, first = false) {
        if (!first) return type_covers(c, want, have);
        if (have->kind != want->kind || have->dtype != want->dtype || have->rank != want->rank)
            return false;
        for (int d = 0; d < have->rank; d++) {
            if (have->dim[d].i && dim_differ(c, have->dim[d], want->dim[d])) return false;
        }
    }
    return !have && !want;
}

static bool complete(const Type *t) {
    for (int d = 0; d < t->rank; d++) {
        if (!t->dim[d].i) return false;
    }
    return true;
}

/* ==== values ================================================================================= */

/* After `%`: the key of the name; *name its text, NULL for a number. */
static const char *value_name(Parser *p, const char **name) {
    *name = NULL;
    if (p->failed) return "";
    if (*p->s == '"') {
        const char *s = parse_string(p, NULL);
        *name = s;
        return is_text_word(s) ? s : ctx_printf(p->c, "\"%s", s);
    }
    size_t n = word_length(p->s);
    if (!n) {
        parse_fail(p, p->s, "expected a name");
        return "";
    }
    const char *s = ctx_strn(p->c, p->s, n);
    p->s += n;
    if (*s < '0' || *s > '9') *name = s;
    return s;
}

static void define(Parser *p, Scope *sc, const char *at, const char *key, Val v) {
    if (p->failed) return;
    if (strmap_get(&sc->names, key))
        parse_fail(p, at, "%%%.100s is defined twice", *key == '"' ? key + 1 : key);
    else strmap_put(&sc->names, key, v.i);
}

static Val use(Parser *p, Scope *sc, bool absent) {
    parse_blanks(p);
    const char *at = p->s, *name;
    if (absent && parse_word(p, "_")) return (Val){0};
    parse_expect(p, "%");
    const char *key = value_name(p, &name);
    if (p->failed) return (Val){0};
    Val v = {strmap_get(&sc->names, key)};
    if (!v.i) parse_fail(p, at, "%%%.100s is not defined here", *key == '"' ? key + 1 : key);
    return v;
}

/* ==== regions ================================================================================ */

static void statement(Parser *p, Scope *sc);

static void inputs(Parser *p, Scope *sc) {
    parse_expect(p, "(");
    for (int k = 0; !p->failed && !parse_sign(p, ")"); k++) {
        if (k) parse_expect(p, ",");
        parse_expect(p, "%");
        const char *at = p->s, *name, *key = value_name(p, &name);
        parse_expect(p, ":");
        Type t = parse_type(p, 0);
        if (!p->failed) define(p, sc, at, key, graph_input(sc->g, name, t));
    }
}

static void body(Parser *p, Scope *sc, const char *end) {
    parse_expect(p, "{");
    while (!p->failed && !parse_word(p, end)) statement(p, sc);
    parse_blanks(p);
    for (int k = 0; !p->failed && *p->s != '}'; k++) {
        if (k) parse_expect(p, ",");
        if (!p->failed) graph_output(sc->g, NULL, use(p, sc, false));
        parse_blanks(p);
    }
    parse_expect(p, "}");
}

static Graph *region(Parser *p, Graph *parent, const char *name) {
    if (p->failed) return NULL;
    if (p->depth == MAX_DEPTH) return parse_fail(p, p->s, "regions are nested too deeply");
    Scope sc = {.g = graph_new(p->c, name, parent), .names = {.c = p->c}};
    p->depth++;
    inputs(p, &sc);
    body(p, &sc, "yield");
    p->depth--;
    return p->failed ? NULL : sc.g;
}

static void regions(Parser *p, Graph *g, Stmt *s) {
    if (s->op == P_LOOP) {
        ((LoopAttr *)s->attr)->body = region(p, g, "body");
    } else if (s->op == P_GROUP) {
        ((GroupAttr *)s->attr)->body = region(p, g, ((GroupAttr *)s->attr)->name);
    } else if (s->op == P_IF) {
        IfAttr *a = s->attr;
        if (!parse_word(p, "then")) parse_fail(p, p->s, "expected 'then'");
        a->then_g = region(p, g, "then");
        if (!parse_word(p, "else")) parse_fail(p, p->s, "expected 'else'");
        a->else_g = region(p, g, "else");
    }
}

/* ==== statements ============================================================================= */

static bool primitive(Parser *p, Stmt *s) {
    parse_blanks(p);
    s->at = p->s;
    size_t n = 0, f;
    while (p->s[n] >= 'a' && p->s[n] <= 'z') n++;
    int op = 0;
    while (op < P_COUNT &&
           (strlen(prim_name((PrimOp)op)) != n || memcmp(prim_name((PrimOp)op), p->s, n)))
        op++;
    if (op == P_COUNT || op == P_RETURN) {
        parse_fail(p, p->s, "expected a primitive");
        return false;
    }
    s->op = (PrimOp)op;
    p->s += n;
    if (*p->s != '.' || (op != P_REDUCE && op != P_SCAN)) return true;
    f = word_length(p->s) - 1;
    for (int k = 0; k < fold_count; k++) {
        if (strlen(fold_table[k].name) == f && !memcmp(fold_table[k].name, p->s + 1, f))
            s->fold = &fold_table[k];
    }
    if (!s->fold) parse_fail(p, p->s, "expected sum, prod, max, min, and, or");
    p->s += f + 1;
    return true;
}

/* Is what follows the results of the next statement: %a, %b = ..? */
static bool next_statement(Parser *p) {
    const char *back = p->s, *name;
    do {
        if (!parse_sign(p, "%") || (*p->s != '"' && !word_length(p->s))) break;
        value_name(p, &name);
    } while (parse_sign(p, ","));
    bool next = parse_sign(p, "=");
    p->s = back;
    return next;
}

static void operands(Parser *p, Scope *sc, Stmt *s) {
    parse_blanks(p);
    bool none = prim_info(s->op)->max == 0 || next_statement(p);
    while (!none && !p->failed && (*p->s == '%' || *p->s == '_')) {
        const char *at = p->s;
        Val v = use(p, sc, absent_ok(s->op));
        if (s->in.n == MAX_OPERANDS) parse_fail(p, at, "too many operands");
        vec_push(p->c, &s->in, v);
        if (!parse_sign(p, ",")) break;
        parse_blanks(p);
    }
    const PrimInfo *i = prim_info(s->op);
    if ((int)s->in.n < i->min || (i->max >= 0 && (int)s->in.n > i->max)) {
        parse_fail(p, s->at, "%s does not take %u operands", i->text, s->in.n);
    }
    if (i->nout >= 0 && (uint32_t)i->nout != s->nout) {
        parse_fail(p, s->at, "%s has %d results, not %u", i->text, i->nout, s->nout);
    }
}

/* bind %v[2] as N */
static void bind(Parser *p, Scope *sc, Stmt *s) {
    BindAttr *a = s->attr;
    Val v = use(p, sc, false);
    vec_push(p->c, &s->in, v);
    parse_expect(p, "[");
    a->index = parse_int(p, 0, INT64_MAX);
    parse_expect(p, "]");
    if (!parse_word(p, "as")) parse_fail(p, p->s, "expected 'as'");
    parse_blanks(p);
    const char *at = p->s;
    uint32_t sym;
    a->sym = parse_dim(p);
    if (p->failed) return;
    if (dim_lone_sym(p->c, a->sym, &sym)) {
        dim_sym_mark_bound(p->c, sym);
        a->sym = dim_pin(p->c, a->sym);
    } else parse_fail(p, at, "only a symbol can be bound");
}

typedef struct Suffix { const char *loc; VEC(const char *) name; } Suffix;

static void suffix(Parser *p, Stmt *s, Suffix *x) {
    if (s->op != P_CONST && parse_sign(p, ":")) {
        do {
            uint32_t k = dim_nsyms(p->c);
            Type t = parse_type(p, 0);
            vec_push(p->c, &s->given, t);
            /* A size first named here is one that the node finds out when it runs. */
            for (; absent_ok(s->op) && t.kind == TY_TENSOR && k < dim_nsyms(p->c); k++)
                dim_sym_mark_bound(p->c, k);
        } while (!p->failed && parse_sign(p, ","));
        if (s->given.n != s->nout)
            parse_fail(p, s->at, "%u types for %u results", s->given.n, s->nout);
    }
    if (parse_word(p, "loc")) x->loc = parse_string(p, NULL);
    if (!parse_word(p, "name")) return;
    do {
        const char *n = parse_string(p, NULL);
        vec_push(p->c, &x->name, n);
    } while (!p->failed && parse_sign(p, ","));
    if (x->name.n > s->nout) parse_fail(p, s->at, "%u names for %u results", x->name.n, s->nout);
}

static Node *append(Parser *p, Graph *g, Stmt *s, const Suffix *x) {
    Type *type = NEWN(p->c, Type, s->nout + 1);
    if (p->failed) return NULL;
    LocInfo l = {.file = p->file, .name = x->loc, .node = -1, .line = s->line, .col = s->col};
    Loc loc = loc_new(p->c, &l);
    if (!infer(g, s->op, (int)s->in.n, s->in.v, s->attr, (int)s->nout, type, loc)) {
        return parse_fail(p, s->at, "this %s is not possible", prim_name(s->op));
    }
    for (uint32_t k = 0; k < s->nout; k++) {
        if (k < s->given.n) {
            if (!agrees(p->c, &type[k], &s->given.v[k])) {
                return parse_fail(p, s->at, "result %u has type %s, not %s", k,
                                  type_text(p->c, &type[k]), type_text(p->c, &s->given.v[k]));
            }
            type[k] = s->given.v[k];
        } else if (!complete(&type[k])) {
            return parse_fail(p, s->at, "the type of result %u must be given", k);
        }
    }
    return graph_node(g, s->op, (int)s->in.n, s->in.v, (int)s->nout, type, s->attr, loc);
}

static void statement(Parser *p, Scope *sc) {
    Stmt s = {0};
    Suffix x = {0};
    VEC(const char *) key = {0};
    parse_blanks(p);
    const char *at = p->s;
    for (; p->seen < at; p->seen++) { /* statements come in order: no line is counted twice */
        if (*p->seen != '\n') continue;
        p->line++;
        p->start = p->seen + 1;
    }
    s.line = p->line;
    s.col = (uint32_t)(at - p->start) + 1;
    if (*p->s == '%') {
        do {
            const char *name;
            parse_expect(p, "%");
            const char *k = value_name(p, &name);
            if (key.n == MAX_OPERANDS) parse_fail(p, at, "too many results");
            vec_push(p->c, &key, k);
        } while (!p->failed && parse_sign(p, ","));
        parse_expect(p, "=");
    }
    s.nout = key.n;
    if (p->failed || !primitive(p, &s)) return;
    attr_read(p, &s);
    if (s.op == P_BIND) bind(p, sc, &s);
    else operands(p, sc, &s);
    suffix(p, &s, &x);
    attr_finish(p, sc->g, &s);
    regions(p, sc->g, &s);
    Node *n = append(p, sc->g, &s, &x);
    for (uint32_t k = 0; n && k < key.n; k++) {
        define(p, sc, at, key.v[k], n->out[k]);
        if (k < x.name.n && *x.name.v[k])
            sc->g->val.v[n->out[k].i].name = ctx_str(p->c, x.name.v[k]);
    }
}

/* ==== the file =============================================================================== */

/* The name of one symbol as dim_parse() reads it, without making that symbol: its range comes
 * behind. */
static const char *symbol_name(Parser *p) {
    Ctx *scratch = ctx_new();
    uint32_t sym;
    parse_blanks(p);
    Dim d = p->failed ? (Dim){0} : dim_parse(scratch, &p->s);
    const char *name = NULL;
    if (d.i && dim_lone_sym(scratch, d, &sym))
        name = ctx_str(p->c, dim_sym_info(scratch, sym)->name);
    ctx_free(scratch);
    return name;
}

/* dims N in [1, 512], M, K bound */
static void symbols(Parser *p) {
    if (!parse_word(p, "dims")) return;
    do {
        int64_t lo = 0, hi = DIM_INF;
        const char *at = p->s, *name = symbol_name(p);
        if (!name) parse_fail(p, at, "expected the name of a dimension");
        if (parse_word(p, "in")) {
            parse_expect(p, "[");
            lo = parse_int(p, INT64_MIN, INT64_MAX);
            parse_expect(p, ",");
            if (!parse_word(p, "inf")) hi = parse_int(p, lo, INT64_MAX);
            parse_expect(p, "]");
        }
        bool bound = parse_word(p, "bound");
        uint32_t sym;
        if (p->failed) return;
        if (dim_lone_sym(p->c, dim_sym(p->c, name, lo, hi), &sym) && bound)
            dim_sym_mark_bound(p->c, sym);
    } while (parse_sign(p, ","));
}

typedef struct Declared { const char *at, *name; Type type; } Declared;

static void check_outputs(Parser *p, Graph *g, const Declared *d, uint32_t n) {
    if (!p->failed && g->out.n != n)
        parse_fail(p, p->s, "%u values are returned, %u are declared", g->out.n, n);
    for (uint32_t k = 0; k < n && !p->failed; k++) {
        const Type *t = val_type(g, g->out.v[k].val);
        g->out.v[k].name = d[k].name;
        if (!agrees(p->c, t, &d[k].type)) {
            parse_fail(p, d[k].at, "this output has type %s", type_text(p->c, t));
        }
    }
}

Graph *graph_parse(Ctx *c, const char *text, const char *file) {
    Parser p = {.c = c,
                .file = file,
                .text = text,
                .s = text,
                .seen = text,
                .start = text,
                .line = 1,
                .noise_left = (int64_t)1 << 30};
    Scope sc = {.names = {.c = c}};
    VEC(Declared) out = {0};
    const char *name = NULL, *key;
    symbols(&p);
    if (!parse_word(&p, "graph")) return parse_fail(&p, p.s, "expected 'graph'");
    parse_expect(&p, "@");
    key = value_name(&p, &name);
    sc.g = graph_new(c, name ? name : key, NULL);
    inputs(&p, &sc);
    parse_expect(&p, "->");
    parse_expect(&p, "(");
    while (!p.failed && !parse_sign(&p, ")")) {
        Declared d = {0};
        if (out.n) parse_expect(&p, ",");
        parse_blanks(&p);
        d.at = p.s;
        if (parse_sign(&p, "%")) {
            key = value_name(&p, &d.name);
            if (!d.name) d.name = key;
            parse_expect(&p, ":");
        }
        d.type = parse_type(&p, 0);
        vec_push(c, &out, d);
    }
    body(&p, &sc, "return");
    parse_blanks(&p);
    if (*p.s) parse_fail(&p, p.s, "expected the end of the text");
    check_outputs(&p, sc.g, out.v, out.n);
    return p.failed ? NULL : sc.g;
}
