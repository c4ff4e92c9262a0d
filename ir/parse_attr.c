/* parse_attr.c: reading the attribute of each primitive, in the order in which print.c writes it.
 *
 * Two functions per row: one for the words before the operands, one that completes the attribute
 * when the operands' types are known. Lists are checked against ranks here, because an attribute
 * holds bare pointers. */
#include "parse_internal.h"
#include <stdlib.h>
#include <string.h>

static const Type *operand(const Graph *g, const Stmt *s, uint32_t k) {
    static const Type none = {0};
    return k < s->in.n ? val_type(g, s->in.v[k]) : &none;
}

static DType operand_dtype(const Graph *g, const Stmt *s, uint32_t k) {
    return (DType)operand(g, s, k)->dtype;
}

static Dim *dup_dims(Parser *p, const Dim *d, int n) {
    return ctx_dup(p->c, d, sizeof *d * (size_t)(n ? n : 1));
}

static Dim *dim_list(Parser *p, int *n) {
    Dim d[MAX_RANK] = {{0}};
    *n = parse_dims(p, d, MAX_RANK);
    return dup_dims(p, d, *n);
}

static int64_t *int_list(Parser *p, int *n, int64_t lo, int64_t hi) {
    int64_t v[MAX_RANK] = {0};
    *n = parse_ints(p, v, MAX_RANK, lo, hi);
    return ctx_dup(p->c, v, sizeof *v * (size_t)(*n ? *n : 1));
}

static void check_count(Parser *p, const Stmt *s, const char *what, int have, int want) {
    if (have != want) parse_fail(p, s->at, "%s has %d entries, expected %d", what, have, want);
}

static int axis_word(Parser *p) {
    if (!parse_word(p, "axis")) parse_fail(p, p->s, "expected 'axis'");
    return (int)parse_int(p, 0, MAX_RANK - 1);
}

/* ==== bodies ================================================================================= */

/* Remembers where a list of bodies starts, and skips it: { a, b } or { a }, { b }. */
static void skip_bodies(Parser *p, Stmt *s) {
    parse_expect(p, "{");
    s->body = p->s;
    for (bool more = true; more && !p->failed;) {
        bool quoted = false;
        while (*p->s && (quoted || *p->s != '}')) {
            if (*p->s == '\\' && quoted && p->s[1]) p->s++;
            else if (*p->s == '"') quoted = !quoted;
            p->s++;
        }
        if (!parse_sign(p, "}")) parse_fail(p, s->body, "this body has no end");
        const char *back = p->s;
        more = parse_sign(p, ",") && parse_sign(p, "{");
        if (!more) p->s = back;
    }
}

static const Expr *read_bodies(Parser *p, const Stmt *s, const DType *type, uint32_t ntype,
                               uint32_t n) {
    const char *back = p->s;
    if (p->failed) return NULL;
    if (!s->body) return parse_fail(p, s->at, "expected '{'");
    p->s = s->body;
    Expr *e = NEWN(p->c, Expr, n + 1);
    for (uint32_t k = 0; k < n && !p->failed; k++) {
        if (k && !parse_sign(p, ",")) {
            parse_expect(p, "}");
            parse_expect(p, ",");
            parse_expect(p, "{");
        }
        while (*p->s == ' ' || *p->s == '\t' || *p->s == '\n' || *p->s == '\r')
            p->s++; /* # is an axis here */
        const char *at = p->s;
        if (!p->failed) e[k] = expr_parse(p->c, &p->s, type, ntype);
        if (!e[k].i) parse_fail(p, p->s > at ? p->s : at, "this expression is not right");
    }
    parse_expect(p, "}");
    p->s = back;
    return e;
}

/* ==== const ================================================================================== */

static int hex_digit(char ch) {
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static void read_element(Parser *p, DType t, char *base, int64_t i) {
    char *to = base + i * ev_width(t);
    if (t == DT_STR) {
        struct { const char *ptr; uint64_t len; } x = {0};
        size_t n = 0;
        x.ptr = parse_string(p, &n);
        x.len = n;
        memcpy(to, &x, sizeof x);
    } else if (t == DT_C64 || t == DT_C128) {
        Cell x[2] = {{.f = parse_float(p)}, {.f = parse_float(p)}};
        cells_store(t == DT_C64 ? DT_F32 : DT_F64, to, 1, x, 2);
    } else {
        Cell x = cell_of(parse_scalar(p, t));
        cells_store(t, to, 1, &x, 1);
    }
}

static const ConstData *read_list(Parser *p, DType t, int64_t n, bool splat) {
    int64_t stored = splat ? 1 : n;
    if (!splat && n > (int64_t)strlen(p->s)) return parse_fail(p, p->s, "too few elements");
    Tensor *x = tensor_new(p->c, t, 1, &stored);
    for (int64_t k = 0; k < stored && !p->failed; k++) {
        if (k) parse_expect(p, ",");
        read_element(p, t, x->data, k);
    }
    if (!splat) parse_expect(p, "}");
    ConstData *d = ctx_dup(p->c, ev_pack(p->c, x, false), sizeof *d);
    d->splat = splat;
    d->count = n;
    return d;
}

static const ConstData *read_hex(Parser *p, DType t, int64_t n) {
    const char *at = p->s, *h = parse_string(p, NULL);
    if (p->failed) return NULL;
    ConstData *d = NEW(p->c, ConstData);
    *d = (ConstData){.dtype = t, .count = n, .bytes = strlen(h) / 2};
    if (t == DT_STR || strlen(h) % 2 || d->bytes != dt_bytes(t, n)) {
        return parse_fail(p, at, "expected the hex digits of %zu bytes", dt_bytes(t, n));
    }
    unsigned char *to = ctx_alloc(p->c, d->bytes + 1);
    for (size_t k = 0; k < d->bytes; k++) {
        int hi = hex_digit(h[2 * k]), lo = hex_digit(h[2 * k + 1]);
        if (hi < 0 || lo < 0) return parse_fail(p, at, "expected hex digits");
        to[k] = (unsigned char)(hi * 16 + lo);
    }
    d->data = to;
    return d;
}

/* Stands for bytes that the text does not hold: noise that depends on the hash alone. Floats are
 * within [-0.1, 0.1], 8-bit and smaller integers are any value, others and bool are 0 or 1. */
static const ConstData *read_blob(Parser *p, DType t, int64_t n) {
    const char *at = p->s, *h = parse_string(p, NULL);
    if (p->failed) return NULL;
    int64_t bytes = (int64_t)dt_bytes(t, n);
    if (bytes > p->noise_left || t == DT_STR)
        return parse_fail(p, at, "this constant is too large to be made up");
    p->noise_left -= bytes;
    uint64_t state = hash_bytes(h, strlen(h), 1);
    char *to = ctx_alloc(p->c, (size_t)bytes + 1);
    DType part = t == DT_C64 ? DT_F32 : t == DT_C128 ? DT_F64 : t;
    int width = ev_width(part);
    bool bits = dt_is_packed(t) || (dt_is_int(t) && dt_bits(t) == 8);
    enum { BLOCK = 256 };
    Cell block[BLOCK];
    for (int64_t k = 0, count = bytes / width; k < count;) {
        int m = 0;
        for (; m < BLOCK && k + m < count; m++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint64_t r = state >> 33;
            if (dt_is_float(part)) block[m].f = ((double)r * 0x1p-31 - 0.5) * 0.2;
            else block[m].i = (int64_t)(r >> 8) & (bits ? 0xff : 1);
        }
        cells_store(bits ? DT_U8 : part, to + k * width, 1, block, m);
        k += m;
    }
    ConstData *d = NEW(p->c, ConstData);
    *d = (ConstData){.dtype = t, .count = n, .data = to, .bytes = (size_t)bytes};
    return d;
}

static void read_const(Parser *p, Stmt *s) {
    ConstAttr *a = s->attr;
    const char *at = p->s;
    a->type = parse_type(p, 0);
    int64_t dim[MAX_RANK], n = 1;
    if (p->failed) return;
    bool over = a->type.kind != TY_TENSOR || !type_const_dims(p->c, &a->type, dim);
    for (int d = 0; !over && d < a->type.rank; d++)
        over = dim[d] < 0 || __builtin_mul_overflow(n, dim[d], &n);
    if (over || n > INT64_MAX / 64) {
        parse_fail(p, at, "a constant needs a tensor type with constant dims");
        return;
    }
    DType t = (DType)a->type.dtype;
    if (parse_sign(p, "{")) a->data = read_list(p, t, n, false);
    else if (parse_word(p, "splat")) a->data = read_list(p, t, n, true);
    else if (parse_word(p, "hex")) a->data = read_hex(p, t, n);
    else if (parse_word(p, "blob")) a->data = read_blob(p, t, n);
    else parse_fail(p, p->s, "expected '{', 'splat', 'hex' or 'blob'");
}

/* ==== map, reduce, scan, contract ============================================================ */

static void read_map(Parser *p, Stmt *s) { skip_bodies(p, s); }

static void finish_map(Parser *p, const Graph *g, Stmt *s) {
    MapAttr *a = s->attr;
    DType *type = NEWN(p->c, DType, s->in.n + 1);
    Dim dim[MAX_RANK] = {{0}};
    for (uint32_t k = 0; k < s->in.n; k++) type[k] = operand_dtype(g, s, k);
    if (s->given.n) {
        a->rank = s->given.v[0].rank;
        a->dim = s->given.v[0].dim;
    } else { /* the broadcast of the operands */
        for (uint32_t k = 0; k < s->in.n; k++) {
            if (operand(g, s, k)->rank > a->rank) a->rank = operand(g, s, k)->rank;
        }
        for (int d = 0; d < a->rank; d++) dim[d] = dim_const(p->c, 1);
        for (uint32_t k = 0; k < s->in.n; k++) {
            const Type *t = operand(g, s, k);
            for (int d = 0; d < t->rank; d++) {
                Dim *to = &dim[a->rank - t->rank + d];
                *to = dim_bcast(p->c, *to, t->dim[d]);
            }
        }
        a->dim = dup_dims(p, dim, a->rank);
    }
    a->body = read_bodies(p, s, type, s->in.n, s->nout);
}

static void read_comb(Parser *p, Stmt *s) {
    if (s->fold) return;
    skip_bodies(p, s);
    if (parse_word(p, "init")) {
        s->init = p->s; /* numbers are read when their types are known */
        do {
            parse_sign(p, "-");
            parse_blanks(p);
            while ((*p->s >= 'a' && *p->s <= 'z') || (*p->s >= '0' && *p->s <= '9') ||
                   *p->s == '.' || *p->s == '+' || (*p->s == '-' && p->s[-1] == 'e'))
                p->s++;
        } while (parse_sign(p, ","));
    } else {
        parse_fail(p, p->s, "expected 'init'");
    }
    if (!parse_word(p, "acc")) parse_fail(p, p->s, "expected 'acc'");
    do {
        parse_blanks(p);
        size_t n = 0;
        while ((p->s[n] >= 'a' && p->s[n] <= 'z') || (p->s[n] >= '0' && p->s[n] <= '9')) n++;
        DType t = dt_parse(p->s, n);
        if (t == DT_NONE) parse_fail(p, p->s, "expected an element type");
        p->s += n;
        vec_push(p->c, &s->acc, t);
    } while (!p->failed && parse_sign(p, ","));
}

typedef struct CombAttr { const Expr *comb; const Scalar *init; const DType *acc; } CombAttr;

static CombAttr finish_comb(Parser *p, const Graph *g, Stmt *s) {
    uint32_t n = s->in.n;
    CombAttr a = {0};
    Scalar *init = NEWN(p->c, Scalar, n + 1);
    if (p->failed) return a;
    if (n != s->nout) {
        parse_fail(p, s->at, "%u operands but %u results", n, s->nout);
        return a;
    }
    if (s->fold) {
        DType t = fold_acc(operand_dtype(g, s, 0));
        Expr e = n == 1 ? fold_comb(p->c, s->fold, t) : (Expr){0};
        if (!e.i) {
            parse_fail(p, s->at, "%s is not possible here", s->fold->name);
            return a;
        }
        init[0] = fold_init(s->fold, t);
        return (CombAttr){ctx_dup(p->c, &e, sizeof e), init, ctx_dup(p->c, &t, sizeof t)};
    }
    check_count(p, s, "acc", (int)s->acc.n, (int)n);
    if (p->failed) return a;
    const char *back = p->s;
    p->s = s->init;
    for (uint32_t k = 0; k < n; k++) {
        if (k) parse_expect(p, ",");
        init[k] = parse_scalar(p, s->acc.v[k]);
    }
    if (!p->failed) p->s = back;
    DType *type = NEWN(p->c, DType, 2 * n + 1);
    for (uint32_t k = 0; k < 2 * n; k++) type[k] = s->acc.v[k % n];
    return (CombAttr){read_bodies(p, s, type, 2 * n, n), init, s->acc.v};
}

static void read_reduce(Parser *p, Stmt *s) {
    ReduceAttr *a = s->attr;
    int64_t axis[MAX_RANK];
    int n = parse_ints(p, axis, MAX_RANK, 0, MAX_RANK - 1);
    for (int k = 0; k < n; k++) a->axes |= 1u << axis[k];
    a->keep = parse_word(p, "keep");
    read_comb(p, s);
}

static void finish_reduce(Parser *p, const Graph *g, Stmt *s) {
    ReduceAttr *a = s->attr;
    CombAttr k = finish_comb(p, g, s);
    a->comb = k.comb;
    a->init = k.init;
    a->acc = k.acc;
}

static void read_scan(Parser *p, Stmt *s) {
    ScanAttr *a = s->attr;
    a->axis = (uint8_t)axis_word(p);
    a->reverse = parse_word(p, "reverse");
    a->exclusive = parse_word(p, "exclusive");
    read_comb(p, s);
}

static void finish_scan(Parser *p, const Graph *g, Stmt *s) {
    ScanAttr *a = s->attr;
    CombAttr k = finish_comb(p, g, s);
    a->comb = k.comb;
    a->init = k.init;
    a->acc = k.acc;
}

static DType dtype_word(Parser *p) {
    parse_blanks(p);
    size_t n = 0;
    while ((p->s[n] >= 'a' && p->s[n] <= 'z') || (p->s[n] >= '0' && p->s[n] <= '9')) n++;
    DType t = dt_parse(p->s, n);
    if (t == DT_NONE) parse_fail(p, p->s, "expected an element type");
    p->s += n;
    return t;
}

static void read_contract(Parser *p, Stmt *s) {
    ContractAttr *a = s->attr;
    const char *at = p->s, *spec = parse_string(p, NULL);
    memset(a->label, 0xff, sizeof a->label);
    for (int side = 0; !p->failed && *spec;) {
        const char *l = strchr(LABELS, *spec);
        if (l && s->count[side] < MAX_RANK)
            a->label[side][s->count[side]++] = (uint8_t)(l - LABELS);
        else if (side == 0 && *spec == ',') side = 1;
        else if (side == 1 && spec[0] == '-' && spec[1] == '>') side = 2, spec++;
        else parse_fail(p, at, "expected labels like \"mk,kn->mn\"");
        spec++;
    }
    if (parse_word(p, "acc")) a->acc = dtype_word(p);
}

static void finish_contract(Parser *p, const Graph *g, Stmt *s) {
    ContractAttr *a = s->attr;
    for (uint32_t k = 0; k < 2; k++)
        check_count(p, s, "an operand's label list", s->count[k], operand(g, s, k)->rank);
    if (s->given.n) check_count(p, s, "the result's label list", s->count[2], s->given.v[0].rank);
    a->out = s->given.n ? (DType)s->given.v[0].dtype : a->acc ? a->acc : operand_dtype(g, s, 0);
    if (!a->acc) a->acc = a->out;
}

/* ==== movement =============================================================================== */

static void read_dims(Parser *p, Stmt *s) {
    DimsAttr *a = s->attr;
    int n;
    a->dim = dim_list(p, &n);
    a->rank = (uint8_t)n;
}

static void read_permute(Parser *p, Stmt *s) {
    PermAttr *a = s->attr;
    int64_t v[MAX_RANK];
    s->count[0] = parse_ints(p, v, MAX_RANK, 0, MAX_RANK - 1);
    for (int k = 0; k < s->count[0] && k < MAX_RANK; k++) a->perm[k] = (uint8_t)v[k];
}

static void finish_permute(Parser *p, const Graph *g, Stmt *s) {
    check_count(p, s, "the permutation", s->count[0], operand(g, s, 0)->rank);
}

static void read_slice(Parser *p, Stmt *s) {
    SliceAttr *a = s->attr;
    if (!parse_word(p, "start")) parse_fail(p, p->s, "expected 'start'");
    a->start = dim_list(p, &s->count[0]);
    s->count[1] = s->count[2] = s->count[0];
    if (s->op == P_SLICE) {
        if (!parse_word(p, "size")) parse_fail(p, p->s, "expected 'size'");
        a->size = dim_list(p, &s->count[1]);
    }
    if (parse_word(p, "step")) {
        a->step = int_list(p, &s->count[2], INT64_MIN, INT64_MAX);
    } else {
        int64_t *one = NEWN(p->c, int64_t, s->count[0] + 1);
        for (int k = 0; k < s->count[0]; k++) one[k] = 1;
        a->step = one;
    }
}

static void finish_slice(Parser *p, const Graph *g, Stmt *s) {
    for (int k = 0; k < 3; k++) check_count(p, s, "a list", s->count[k], operand(g, s, 0)->rank);
    SliceAttr *a = s->attr;
    if (s->op == P_UPDATE) a->size = operand(g, s, 1)->dim;
    if (s->op == P_UPDATE) check_count(p, s, "a list", s->count[0], operand(g, s, 1)->rank);
}

static void read_pad(Parser *p, Stmt *s) {
    PadAttr *a = s->attr;
    if (!parse_word(p, "lo")) parse_fail(p, p->s, "expected 'lo'");
    a->lo = dim_list(p, &s->count[0]);
    if (!parse_word(p, "hi")) parse_fail(p, p->s, "expected 'hi'");
    a->hi = dim_list(p, &s->count[1]);
    s->count[2] = s->count[0];
    if (parse_word(p, "interior")) a->interior = int_list(p, &s->count[2], 0, INT32_MAX);
    int mode = parse_choice(p, pad_modes, 4);
    a->mode = mode > 0 ? (PadMode)mode : PAD_VALUE;
    if (mode != PAD_VALUE) return;
    s->init = p->s;
    (void)parse_float(p); /* read again when its type is known */
}

static void finish_pad(Parser *p, const Graph *g, Stmt *s) {
    PadAttr *a = s->attr;
    for (int k = 0; k < 3; k++) check_count(p, s, "a list", s->count[k], operand(g, s, 0)->rank);
    if (!s->init) return;
    const char *back = p->s;
    p->s = s->init;
    a->value = parse_scalar(p, operand_dtype(g, s, 0));
    if (!p->failed) p->s = back;
}

static void read_axis(Parser *p, Stmt *s) { ((AxisAttr *)s->attr)->axis = (uint8_t)axis_word(p); }

static void read_window(Parser *p, Stmt *s) {
    WindowAttr *a = s->attr;
    int64_t axis[4];
    int n[4] = {0};
    if (parse_word(p, "axes")) n[0] = parse_ints(p, axis, 4, 0, MAX_RANK - 1);
    if (parse_word(p, "size")) n[1] = parse_dims(p, a->size, 4);
    if (parse_word(p, "stride")) n[2] = parse_ints(p, a->stride, 4, 1, INT32_MAX);
    if (parse_word(p, "dilation")) n[3] = parse_ints(p, a->dilation, 4, 1, INT32_MAX);
    for (int k = 1; k < 4; k++) check_count(p, s, "a list", n[k], n[0]);
    a->n = (uint8_t)n[0];
    for (int k = 0; k < n[0]; k++) a->axis[k] = (uint8_t)axis[k];
}

/* ==== indices ================================================================================ */

static void read_gather(Parser *p, Stmt *s) {
    GatherAttr *a = s->attr;
    a->axis = (uint8_t)axis_word(p);
    int k = parse_choice(p, oob_names, 5);
    a->oob = k < 0 ? OOB_FAIL : (Oob)k;
}

static void read_scatter(Parser *p, Stmt *s) {
    ScatterAttr *a = s->attr;
    a->elements = parse_word(p, "elements");
    if (a->elements) a->axis = (uint8_t)axis_word(p);
    int k = parse_choice(p, scatter_modes, 5);
    if (k < 0) parse_fail(p, p->s, "expected set, add, mul, min or max");
    else a->mode = (ScatterMode)k;
}

static void read_sort(Parser *p, Stmt *s) {
    SortAttr *a = s->attr;
    a->axis = (uint8_t)axis_word(p);
    a->nkeys = 1;
    if (parse_word(p, "keys")) a->nkeys = (uint8_t)parse_int(p, 1, 16);
    a->descending = parse_word(p, "descending");
    a->stable = parse_word(p, "stable");
}

static void read_topk(Parser *p, Stmt *s) {
    TopkAttr *a = s->attr;
    a->axis = (uint8_t)axis_word(p);
    a->largest = parse_word(p, "largest");
    if (!a->largest && !parse_word(p, "smallest"))
        parse_fail(p, p->s, "expected 'largest' or 'smallest'");
    a->sorted = parse_word(p, "sorted");
    if (!parse_word(p, "k")) parse_fail(p, p->s, "expected 'k'");
    a->k = parse_dim(p);
}

static void read_compact(Parser *p, Stmt *s) {
    if (!parse_word(p, "bound")) parse_fail(p, p->s, "expected 'bound'");
    ((CompactAttr *)s->attr)->bound = parse_dim(p);
}

/* ==== control and the rest =================================================================== */

static void read_loop(Parser *p, Stmt *s) {
    LoopAttr *a = s->attr;
    if (parse_word(p, "carried")) a->ncarried = (uint16_t)parse_int(p, 0, MAX_OPERANDS);
    if (parse_word(p, "scan")) a->nscan_out = (uint16_t)parse_int(p, 0, MAX_OPERANDS);
    if (parse_word(p, "iter")) a->iter = parse_dim(p);
}

static void finish_loop(Parser *p, const Graph *g, Stmt *s) {
    (void)g;
    LoopAttr *a = s->attr;
    if (s->in.n < 2u + a->ncarried || s->nout != (uint32_t)a->ncarried + a->nscan_out) {
        parse_fail(p, s->at,
                   "a loop takes trip, condition, carried values, captured values, and gives "
                   "carried and stacked ones");
        return;
    }
    a->has_trip = s->in.v[0].i != 0;
    a->has_cond = s->in.v[1].i != 0;
}

static void read_guard(Parser *p, Stmt *s) {
    GuardAttr *a = s->attr;
    int k = parse_choice(p, guard_names, 5);
    if (k < 0) parse_fail(p, p->s, "expected eq, le, lt, bcast or true");
    a->cmp = k < 0 ? G_TRUE : (GuardCmp)k;
    if (a->cmp != G_TRUE) {
        a->a = dim_pin(p->c, parse_dim(p));
        parse_expect(p, ",");
        a->b = dim_pin(p->c, parse_dim(p));
    }
    a->text = parse_string(p, NULL);
}

static void read_copy(Parser *p, Stmt *s) {
    if (parse_word(p, "device")) ((CopyAttr *)s->attr)->device = (uint8_t)parse_int(p, 0, 255);
}

static void need_type(Parser *p, const Graph *g, Stmt *s, Type *t) {
    (void)g;
    if (s->given.n) *t = s->given.v[0];
    else parse_fail(p, s->at, "%s needs a type", prim_name(s->op));
}

static void read_seq(Parser *p, Stmt *s) { ((SeqAttr *)s->attr)->sub = parse_string(p, NULL); }
static void finish_seq(Parser *p, const Graph *g, Stmt *s) {
    need_type(p, g, s, &((SeqAttr *)s->attr)->type);
}

static void read_random(Parser *p, Stmt *s) {
    RandomAttr *a = s->attr;
    a->algo = parse_string(p, NULL);
    a->b = 1;
    if (parse_word(p, "a")) a->a = parse_float(p);
    if (parse_word(p, "b")) a->b = parse_float(p);
    a->seeded = parse_word(p, "seed");
    if (a->seeded || parse_word(p, "salt")) a->seed = (uint64_t)parse_scalar(p, DT_U64).i;
}
static void finish_random(Parser *p, const Graph *g, Stmt *s) {
    need_type(p, g, s, &((RandomAttr *)s->attr)->type);
}

static void read_shape(Parser *p, Stmt *s) {
    ShapeAttr *a = s->attr;
    parse_blanks(p);
    if (*p->s != '[') {
        Dim d = parse_dim(p);
        a->n = 0xff;
        a->dim = ctx_dup(p->c, &d, sizeof d);
        return;
    }
    Dim d[254] = {{0}};
    int n = parse_dims(p, d, 254);
    a->n = (uint8_t)n;
    a->dim = dup_dims(p, d, n);
}

static void read_group(Parser *p, Stmt *s) {
    GroupAttr *a = s->attr;
    a->name = parse_string(p, NULL);
    if (parse_word(p, "note")) a->note = parse_string(p, NULL);
}

static void read_call(Parser *p, Stmt *s) { ((CallAttr *)s->attr)->symbol = parse_string(p, NULL); }

static void finish_call(Parser *p, const Graph *g, Stmt *s) {
    (void)g;
    CallAttr *a = s->attr;
    if (s->given.n != s->nout || s->nout > 255)
        parse_fail(p, s->at, "call needs the types of its results");
    a->nout = (uint8_t)s->nout;
    a->type = s->given.v;
}

typedef struct AttrRow {
    void (*read)(Parser *, Stmt *);
    void (*finish)(Parser *, const Graph *, Stmt *);
} AttrRow;
static const AttrRow rows[] = {
    [P_CONST] = {read_const, NULL},
    [P_MAP] = {read_map, finish_map},
    [P_REDUCE] = {read_reduce, finish_reduce},
    [P_CONTRACT] = {read_contract, finish_contract},
    [P_SCAN] = {read_scan, finish_scan},
    [P_RESHAPE] = {read_dims, NULL},
    [P_PERMUTE] = {read_permute, finish_permute},
    [P_BROADCAST] = {read_dims, NULL},
    [P_SLICE] = {read_slice, finish_slice},
    [P_PAD] = {read_pad, finish_pad},
    [P_CONCAT] = {read_axis, NULL},
    [P_WINDOW] = {read_window, NULL},
    [P_GATHER] = {read_gather, NULL},
    [P_SCATTER] = {read_scatter, NULL},
    [P_UPDATE] = {read_slice, finish_slice},
    [P_SORT] = {read_sort, NULL},
    [P_TOPK] = {read_topk, NULL},
    [P_COMPACT] = {read_compact, NULL},
    [P_LOOP] = {read_loop, finish_loop},
    [P_IF] = {NULL, NULL},
    [P_BIND] = {NULL, NULL},
    [P_GUARD] = {read_guard, NULL},
    [P_COPY] = {read_copy, NULL},
    [P_SEQ] = {read_seq, finish_seq},
    [P_RANDOM] = {read_random, finish_random},
    [P_SHAPE] = {read_shape, NULL},
    [P_GROUP] = {read_group, NULL},
    [P_CALL] = {read_call, finish_call},
    [P_RETURN] = {NULL, NULL},
};
_Static_assert(sizeof rows / sizeof *rows == P_COUNT, "one row per primitive");

void attr_read(Parser *p, Stmt *s) {
    s->attr = ctx_alloc(p->c, prim_info(s->op)->attr_size);
    if (!p->failed && rows[s->op].read) rows[s->op].read(p, s);
}

void attr_finish(Parser *p, const Graph *g, Stmt *s) {
    if (!p->failed && rows[s->op].finish) rows[s->op].finish(p, g, s);
}
