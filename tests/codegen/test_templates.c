/* test_templates.c: every template, on kernels of a graph in text: what it emits, run by the
 * bounds-checked interpreter at every CPU level, against the reference evaluator. Each kernel runs
 * once as a whole and once task by task with scratch full of NaN, to the same bits: results may not
 * depend on threads or on what scratch held. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "codegen/emit_internal.h"
#include "codegen/nest.h"
#include "ir/storage.h"

typedef struct Size {
    const char *name;
    int64_t n;
} Size;

static uint64_t state;
static double uniform(void) { /* (-1, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / (double)(1ll << 52) - 1;
}

static Tensor *draw(Ctx *c, const Type *t, const int64_t *sym) {
    int64_t dim[MAX_RANK];
    for (int d = 0; d < t->rank; d++) ck_assert(dim_eval(c, t->dim[d], sym, &dim[d]));
    Tensor *x = tensor_new(c, (DType)t->dtype, t->rank, dim);
    for (int64_t i = 0; i < tensor_count(x); i++) {
        double v = uniform();
        if (t->dtype == DT_BOOL)
            ((uint8_t *)x->data)[i] = v > -0.5;
        else if (t->dtype == DT_I8 || t->dtype == DT_U8)
            ((int8_t *)x->data)[i] = (int8_t)(v * 127);
        else if (t->dtype == DT_I64)
            ((int64_t *)x->data)[i] = (int64_t)(v * 5);
        else
            ((float *)x->data)[i] = (float)(2 * v);
    }
    return x;
}

static const Node *kernel_of(const Graph *g) {
    for (uint32_t i = 0; i < g->node.n; i++)
        if (g->node.v[i]->op == P_GROUP) return g->node.v[i];
    ck_abort_msg("no group in the graph");
    return NULL;
}

/* A copy in memory of its own size, so that the interpreter and sanitizers see its end. */
static void *exact(const void *p, size_t n) {
    void *q = malloc(n ? n : 1);
    if (p)
        memcpy(q, p, n);
    else
        memset(q, 0, n);
    return q;
}

static void poison(void *p, size_t n) {
    for (size_t i = 0; i + 4 <= n; i += 4) memcpy((char *)p + i, &(float){NAN}, 4);
}

typedef struct Run {
    Ctx *c;
    Graph *g;
    const Node *n;
    const Target *t;
    Tensor **in;
    const int64_t *sym;
} Run;

/* What the code reads of a constant; NULL: it is none. */
static const ConstData *constant(const Run *r, const KernelCode *code, uint32_t b) {
    return code->data && code->data[b] ? code->data[b] : val_const(r->g, code->buf[b]);
}

static float *execute(const Run *r, const KernelCode *code, bool apart, size_t bytes) {
    Ctx *c = r->c;
    void *buf[K_BUFS];
    size_t size[K_BUFS];
    int64_t dim[256], tasks, scratch;
    float *out = NULL;
    for (uint32_t b = 0; b < code->nbuf; b++) {
        buf[b] = NULL;
        for (uint32_t i = 0; i < r->g->in.n; i++)
            if (graph_resolve(r->g, r->g->in.v[i].val).i == code->buf[b].i)
                buf[b] = exact(r->in[i]->data,
                               size[b] = dt_bytes(r->in[i]->dtype, tensor_count(r->in[i])));
        const ConstData *d = constant(r, code, b);
        if (d) buf[b] = exact(d->data, size[b] = d->bytes);
        if (!buf[b]) {
            ck_assert_uint_eq(graph_resolve(r->g, r->n->out[0]).i, code->buf[b].i);
            buf[b] = out = exact(NULL, size[b] = bytes);
            poison(out, bytes);
        }
    }
    ck_assert_uint_le(code->ndim, 256);
    for (uint32_t i = 0; i < code->ndim; i++) ck_assert(dim_eval(c, code->dim[i], r->sym, &dim[i]));
    ck_assert(dim_eval(c, code->tasks, r->sym, &tasks) &&
              dim_eval(c, code->scratch, r->sym, &scratch));
    void *s = aligned_alloc(64, (size_t)scratch + 64);
    for (int64_t t = 0; t < (apart ? tasks : 1); t++) {
        poison(s, (size_t)scratch);
        int64_t t0 = apart ? tasks - 1 - t : 0, t1 = apart ? t0 + 1 : tasks;
        int32_t rc = lir_run(c, code->lir, buf, size, dim, t0, t1, s, (size_t)scratch, 0);
        ck_assert_msg(rc == 0, "%s: status %d: %s", r->t->name, rc, ctx_messages(c));
    }
    free(s);
    for (uint32_t b = 0; b < code->nbuf; b++)
        if (buf[b] != out) free(buf[b]);
    return out;
}

#ifdef ACCELC_HOSTILE /* narrow vectors are many instructions, and the interpreter is slower */
enum { FIRST_LEVEL = 1 };
#elif defined __SANITIZE_ADDRESS__ /* the hostile build sees all that this one sees */
enum { FIRST_LEVEL = 2 };
#else
enum { FIRST_LEVEL = 0 };
#endif

/* l2: size of the second-level cache, 0 for that of the level. tmpl: as --sched has it. Returns the schedule at the last level. */
static Sched try_kernel(const char *text, const char *tmpl, const Size *size, uint32_t l2) {
    Sched sched = {0};
    Ctx *c = ctx_new();
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s\n%s", ctx_messages(c), text);
    int64_t *sym = NEWN(c, int64_t, dim_nsyms(c) + 1);
    for (uint32_t i = 0; i < dim_nsyms(c); i++)
        for (const Size *s = size; s && s->name; s++)
            if (!strcmp(s->name, dim_sym_info(c, i)->name)) sym[i] = s->n;
    Run r = {.c = c, .g = g, .n = kernel_of(g), .in = NEWN(c, Tensor *, g->in.n), .sym = sym};
    state = 1;
    for (uint32_t i = 0; i < g->in.n; i++) r.in[i] = draw(c, val_type(g, g->in.v[i].val), sym);
    Tensor *want = NULL;
    EvalOptions eo = {0};
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)r.in, &want, &eo), "%s", ctx_messages(c));
    Kernel *k = kernel_lower(c, g, r.n, NEWN(c, Storage, g->val.n));
    static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v4", "x86-64-v4+vnni+amx", "cuda"};
    bool any = !strcmp(tmpl, "nest");
    for (int l = strcmp(tmpl, "contract_tiles") ? FIRST_LEVEL : 3; l < 4 + any; l++) {
        Target target = *target_find(levels[l]);
        if (l2) target.l2 = l2;
        r.t = &target;
        KernelCode *code = kernel_compile(c, k, r.t, tmpl);
        size_t name = strcspn(tmpl, " ");
        ck_assert_msg(code != NULL && strlen(code->sched.tmpl->name) == name && !strncmp(code->sched.tmpl->name, tmpl, name), "%s: not %s\n%s",
                      levels[l], tmpl, text);
        sched = code->sched;
        int64_t n = tensor_count(want);
        float *a = execute(&r, code, false, (size_t)n * 4),
              *b = execute(&r, code, true, (size_t)n * 4);
        ck_assert_msg(!memcmp(a, b, (size_t)n * 4),
                      "%s: results depend on how tasks are divided\n%s", levels[l], text);
        for (int64_t i = 0; i < n; i++) {
            double x = ((const float *)want->data)[i], y = a[i];
            bool same = x == y || (isnan(x) && isnan(y)) ||
                        fabs(x - y) <= 2e-5 * fmax(1, fabs(x));
            ck_assert_msg(same, "%s: element %lld is %.9g, not %.9g\n%s", levels[l], (long long)i,
                          y, x, text);
        }
        free(a);
        free(b);
    }
    ctx_free(c);
    return sched;
}

/* ---- attention ---- */

typedef struct Att {
    const char *s, *t, *d, *v; /* queries, keys, sizes of k and v: numbers or symbols */
    const char *mask;          /* shape of an added mask, or NULL */
    const char *score;         /* map over a: scores, b: mask */
    bool guard, permuted;
} Att;

static void attention(const Att *a, const Size *size) {
    char text[8192], dims[128] = "", mask[64] = "", arg[64] = "";
    for (const Size *s = size; s && s->name; s++) {
        strcat(dims, s == size ? "dims " : ", ");
        strcat(dims, s->name);
    }
    if (a->mask) {
        snprintf(mask, sizeof mask, ", %%m: %s", a->mask);
        snprintf(arg, sizeof arg, ", %%m");
    }
    const char *spec = a->permuted ? "bshd,bthd->bhst" : "bhsd,bhtd->bhst",
               *last = a->permuted ? "bhst,bthv->bshv" : "bhst,bhtv->bhsv";
    char q[128], k[128], v[128], y[128];
    const char *shape = a->permuted ? "f32[2,%s,3,%s]" : "f32[2,3,%s,%s]";
    snprintf(q, sizeof q, shape, a->s, a->d);
    snprintf(k, sizeof k, shape, a->t, a->d);
    snprintf(v, sizeof v, shape, a->t, a->v);
    snprintf(y, sizeof y, shape, a->s, a->v);
    snprintf(text, sizeof text,
             "%s\ngraph @t (%%q: %s, %%k: %s, %%v: %s%s) -> (%%y: %s) {\n"
             "  %%y = group \"kernel\" %%q, %%k, %%v%s : %s (%%q: %s, %%k: %s, %%v: %s%s) {\n"
             "    %%0 = contract \"%s\" %%q, %%k : f32[2,3,%s,%s]\n"
             "    %%1 = map { %s } %%0%s : f32[2,3,%s,%s]\n"
             "    %%2 = reduce.max [3] keep %%1 : f32[2,3,%s,1]\n"
             "    %%3 = map { exp(a - b) } %%1, %%2 : f32[2,3,%s,%s]\n"
             "    %%4 = reduce.sum [3] keep %%3 : f32[2,3,%s,1]\n"
             "    %%5 = map { %s } %%3, %%4 : f32[2,3,%s,%s]\n"
             "    %%6 = contract \"%s\" %%5, %%v : %s\n"
             "    %%7 = map { a * 2 } %%6 : %s\n"
             "    yield %%7\n  }\n  return %%y\n}\n",
             dims, q, k, v, mask, y, arg, y, q, k, v, mask, spec, a->s, a->t, a->score, arg, a->s,
             a->t, a->s, a->s, a->t, a->s, a->guard ? "select(isnan(a / b), 0, a / b)" : "a / b",
             a->s, a->t, last, y, y);
    try_kernel(text, "attention", size, 0);
}

START_TEST(attention_of_fixed_sizes) {
    static const struct {
        const char *s, *t, *d, *v;
    } sizes[] = {
        {"1", "5", "4", "4"},     {"2", "16", "16", "16"}, {"7", "7", "8", "8"},
        {"13", "33", "20", "12"}, {"29", "40", "5", "3"},  {"17", "530", "8", "17"},
        {"200", "3", "4", "40"},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int p = 0; p < 2; p++) {
            Att a = {sizes[i].s, sizes[i].t, sizes[i].d, sizes[i].v, NULL, "a * 0.25", false, p};
            attention(&a, NULL);
        }
}
END_TEST

START_TEST(attention_of_any_length) {
    static const int64_t lengths[][2] = {{1, 1},   {1, 270}, {5, 16}, {16, 300},
                                         {130, 9}, {0, 4},   {3, 0}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        Size size[] = {{"S", lengths[i][0]}, {"T", lengths[i][1]}, {"D", 6}, {"V", 5}, {0}};
        attention(&(Att){"S", "T", "8", "16", NULL, "a * 0.25", false, true},
                  (Size[]){size[0], size[1], {0}});
        attention(&(Att){"S", "T", "D", "V", NULL, "a", false, false}, size);
    }
}
END_TEST

START_TEST(attention_with_masks) {
    static const char *const masks[] = {"f32[2,1,1,40]", "f32[1,3,21,40]", "f32[21,40]",
                                        "f32[21,1]"};
    for (int i = 0; i < 4; i++)
        attention(&(Att){"21", "40", "8", "8", masks[i], "a * 0.5 + b", false, true}, NULL);
    attention(&(Att){"21", "40", "8", "8", "bool[2,1,21,40]", "select(b, a, -inf)", false, true},
              NULL);
    attention(&(Att){"40", "40", "8", "8", NULL, "select(#3 <= #2, a * 0.5, -inf)", false, true},
              NULL);
    attention(
        &(Att){"21", "40", "8", "8", "f32[3,1,1]", "tanh(a) * 3 + b * f32(#3 - #2)", false, true},
        NULL);
}
END_TEST

START_TEST(rows_without_keys) {
    /* no key is visible to the first rows: NaN, or 0 with the guard */
    for (int g = 0; g < 2; g++) {
        attention(&(Att){"20", "24", "8", "8", NULL, "select(#3 < #2 - 3, a, -inf)", g, false},
                  NULL);
        attention(&(Att){"20", "600", "8", "8", NULL, "select(#3 < #2 - 3, a, -inf)", g, false},
                  NULL);
        attention(&(Att){"20", "600", "8", "8", NULL, "select(#3 > #2 + 500, a, -inf)", g, false},
                  NULL);
    }
}
END_TEST

START_TEST(grouped_heads) {
    for (int st = 0; st < 2; st++) {
        const char *s = st ? "S" : "9";
        char text[4096];
        snprintf(text, sizeof text,
                 "%sgraph @t (%%q: f32[2,%s,3,4,8], %%k: f32[2,21,3,8], %%v: f32[2,21,3,8]) -> "
                 "(%%y: f32[2,%s,3,4,8]) {\n"
                 "  %%y = group \"kernel\" %%q, %%k, %%v : f32[2,%s,3,4,8] (%%q: f32[2,%s,3,4,8], "
                 "%%k: f32[2,21,3,8], %%v: f32[2,21,3,8]) {\n"
                 "    %%0 = contract \"bshgd,bthd->bhgst\" %%q, %%k : f32[2,3,4,%s,21]\n"
                 "    %%2 = reduce.max [4] keep %%0 : f32[2,3,4,%s,1]\n"
                 "    %%3 = map { exp(a - b) } %%0, %%2 : f32[2,3,4,%s,21]\n"
                 "    %%4 = reduce.sum [4] keep %%3 : f32[2,3,4,%s,1]\n"
                 "    %%5 = map { a / b } %%3, %%4 : f32[2,3,4,%s,21]\n"
                 "    %%6 = contract \"bhgst,bthv->bshgv\" %%5, %%v : f32[2,%s,3,4,8]\n"
                 "    yield %%6\n  }\n  return %%y\n}\n",
                 st ? "dims S\n" : "", s, s, s, s, s, s, s, s, s, s);
        static const int64_t n[] = {1, 9, 140};
        for (int i = 0; i < (st ? 3 : 1); i++)
            try_kernel(text, "attention", st ? (Size[]){{"S", n[i]}, {0}} : NULL, 0);
    }
}
END_TEST

/* ---- products ---- */

static void product_of(const char *spec, const char *a, const char *b, const char *y,
                       const char *map, const Size *size) {
    char text[4096], dims[128] = "";
    for (const Size *s = size; s && s->name; s++) {
        strcat(dims, s == size ? "dims " : ", ");
        strcat(dims, s->name);
    }
    snprintf(text, sizeof text,
             "%s\ngraph @t (%%a: f32%s, %%b: f32%s) -> (%%y: f32%s) {\n  %%y = group \"kernel\" "
             "%%a, %%b : f32%s (%%a: f32%s, %%b: f32%s) {\n"
             "    %%0 = contract \"%s\" %%a, %%b : f32%s\n    %%1 = map { %s } %%0 : f32%s\n    "
             "yield %%1\n  }\n  return %%y\n}\n",
             dims, a, b, y, y, a, b, spec, y, map, y);
    try_kernel(text, "contract_packed", size, 0);
}

START_TEST(packed_products) {
    product_of("mk,nk->mn", "[19,50]", "[45,50]", "[19,45]", "a + 1", NULL);
    product_of("mk,nk->mn", "[1,17]", "[70,17]", "[1,70]", "a", NULL);
    product_of("mk,kn->mn", "[19,50]", "[50,45]", "[19,45]", "a + 1", NULL);
    product_of("bmk,bkn->bmn", "[2,3,70]", "[2,70,64]", "[2,3,64]", "a", NULL);
    product_of("mk,nk->mn", "[64,3]", "[7,3]", "[64,7]", "max(a, 0)", NULL);
    product_of("bshd,bthd->bhst", "[2,20,3,24]", "[2,31,3,24]", "[2,3,20,31]", "a * 2", NULL);
    product_of("mak,nak->mn", "[9,5,12]", "[30,5,12]", "[9,30]", "a", NULL);
    product_of("amk,nk->amn", "[3,20,24]", "[30,24]", "[3,20,30]", "a", NULL);
    product_of("amk,bnk->bamn", "[2,9,24]", "[3,30,24]", "[3,2,9,30]", "a", NULL);
    static const int64_t n[][3] = {{1, 1, 1}, {40, 33, 18}, {230, 5, 7}, {6, 100, 0}, {0, 3, 3}};
    for (int i = 0; i < 5; i++)
        product_of("mk,nk->mn", "[M,K]", "[N,K]", "[M,N]", "a - 1",
                   (Size[]){{"M", n[i][0]}, {"N", n[i][1]}, {"K", n[i][2]}, {0}});
}
END_TEST

/* ---- a kernel by its inputs "%a: f32[4], %b: .." and the lines of its body ---- */

static void kernel(const char *tmpl, const char *dims, const char *in, const char *out,
                   const char *body, const Size *size) {
    char text[8192], names[256] = "";
    for (const char *p = strchr(in, '%'); p; p = strchr(p + 1, '%')) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%.*s", n ? ", " : "", (int)strcspn(p, ":"), p);
    }
    int n = snprintf(text, sizeof text,
                     "%s%s\ngraph @t (%s) -> (%%y: %s) {\n  %%y = group \"kernel\" %s : %s (%s) {\n"
                     "%s\n  }\n  return %%y\n}\n",
                     *dims ? "dims " : "", dims, in, out, names, out, in, body);
    ck_assert_int_lt(n, (int)sizeof text);
    try_kernel(text, tmpl, size, 0);
}

typedef struct Case {
    const char *in, *out, *body;
} Case;

/* Weights of four bits, two in a byte, times a row: bytes lie along the columns. */
START_TEST(packed_weights) {
    static const char *const value[] = {"f32(and(shr(i32(a), i32(#2 * 4)), 15)) - 8", "f32(and(i32(a), 3)) * 0.5 + f32(#2)",
                                        "exp(f32(and(i32(a) + i32(#2), 7)) * 0.25)"};
    for (int v = 0; v < 3; v++)
        for (int cols = 32; cols >= 24; cols -= 8) {
            char in[128], out[64], body[512];
            snprintf(in, sizeof in, "%%b: u8[3,9,1,%d], %%s: f32[3,9,1,%d], %%x: f32[9,2,1]", cols, cols);
            snprintf(out, sizeof out, "f32[3,%d]", cols);
            snprintf(body, sizeof body, "%%0 = map { (%s) * b * c } %%b, %%s, %%x : f32[3,9,2,%d]\n%%1 = reduce.sum [1, 2] %%0 : %s\nyield %%1",
                     value[v], cols, out);
            kernel("tile", "", in, out, body, NULL);
        }
}
END_TEST

/* ---- tile: one reduction per point, lanes along the innermost axis ---- */

START_TEST(tiles_of_fixed_sizes) {
    static const Case cases[] = {
        /* depthwise convolution, and what follows it */
        {"%x: f32[2,2,7,9,16], %w: f32[2,3,3,16], %b: f32[2,1,1,16]", "f32[2,2,5,7,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "f32[2,2,5,7,16,3,3]\n"
         "%1 = contract \"aeghfjk,ejkf->aeghf\" %0, %w : f32[2,2,5,7,16]\n"
         "%2 = map { max(a + b, 0) } %1, %b : f32[2,2,5,7,16]\nyield %2"},
        /* strides, dilations, a wide row, more taps than are unrolled */
        {"%x: f32[1,3,9,75,16], %w: f32[3,2,11,16]", "f32[1,3,4,33,16]",
         "%0 = window axes [2, 3] size [2, 11] stride [2, 2] dilation [2, 1] %x : "
         "f32[1,3,4,33,16,2,11]\n"
         "%1 = contract \"aeghfjk,ejkf->aeghf\" %0, %w : f32[1,3,4,33,16]\nyield %1"},
        /* one point per row */
        {"%x: f32[2,2,4,3,16], %w: f32[2,3,3,16]", "f32[2,2,2,1,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "f32[2,2,2,1,16,3,3]\n"
         "%1 = contract \"aeghfjk,ejkf->aeghf\" %0, %w : f32[2,2,2,1,16]\nyield %1"},
        /* pooling */
        {"%x: f32[1,2,9,9,16]", "f32[1,2,4,4,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [2, 2] dilation [1, 1] %x : "
         "f32[1,2,4,4,16,3,3]\n"
         "%1 = reduce.max [5, 6] %0 : f32[1,2,4,4,16]\nyield %1"},
        {"%x: f32[1,2,8,31,16], %r: f32[1,2,4,15,16]", "f32[1,2,4,15,16]",
         "%0 = window axes [2, 3] size [2, 3] stride [2, 2] dilation [1, 1] %x : "
         "f32[1,2,4,15,16,2,3]\n"
         "%1 = reduce.sum [5, 6] %0 : f32[1,2,4,15,16]\n"
         "%2 = map { a / 6 + b } %1, %r : f32[1,2,4,15,16]\nyield %2"},
        /* lanes that do not fill a vector */
        {"%x: f32[3,8,21]", "f32[3,6,21]",
         "%0 = window axes [1] size [3] stride [1] dilation [1] %x : f32[3,6,21,3]\n"
         "%1 = reduce.max [3] %0 : f32[3,6,21]\nyield %1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("tile", "", cases[i].in, cases[i].out, cases[i].body, NULL);
}
END_TEST

/* ---- repeat: rows that are the same along an axis ---- */

START_TEST(repeats) {
    static const Size size[] = {{"N", 7}, {"M", 9}, {0}}, none[] = {{"N", 3}, {"M", 0}, {0}};
    static const Case cases[] = {
        {"%x: f32[40,1,3]", "f32[40,700,3]", "%0 = map { a } %x : f32[40,700,3]\nyield %0"},
        {"%x: f32[1,5]", "f32[6000,5]", "%0 = map { a } %x : f32[6000,5]\nyield %0"},
        {"%x: f32[5,7]", "f32[45,2100]", /* two such axes */
         "%0 = reshape [1, 5, 1, 7] %x : f32[1,5,1,7]\n%1 = broadcast [9, 5, 300, 7] %0 : f32[9,5,300,7]\n"
         "%2 = reshape [45, 2100] %1 : f32[45,2100]\n%3 = map { a } %2 : f32[45,2100]\nyield %3"},
        {"%x: f32[3,1,2,1,5], %z: f32[1,1,2,1,1]", "f32[3,4,2,9,5]", "%0 = map { exp(a) + b } %x, %z : f32[3,4,2,9,5]\nyield %0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) kernel("repeat", "", cases[i].in, cases[i].out, cases[i].body, NULL);
    for (int i = 0; i < 2; i++)
        kernel("repeat", "N, M", "%x: f32[N,M]", "f32[4*N,6*M]",
               "%0 = reshape [1, N, 1, M] %x : f32[1,N,1,M]\n%1 = broadcast [4, N, 6, M] %0 : f32[4,N,6,M]\n"
               "%2 = reshape [4*N, 6*M] %1 : f32[4*N,6*M]\n%3 = map { a } %2 : f32[4*N,6*M]\nyield %3", i ? none : size);
}
END_TEST

START_TEST(windows) {
    static const struct {
        const char *in, *out, *body;
    } cases[] = {
        /* borders on all sides, rows that do not fill a vector, a row and one point more */
        {"%x: f32[3,20,20]", "f32[3,20,20]",
         "%0 = pad lo [0, 2, 2] hi [0, 2, 2] value -inf %x : f32[3,24,24]\n"
         "%1 = window axes [1, 2] size [5, 5] stride [1, 1] dilation [1, 1] %0 : f32[3,20,20,5,5]\n"
         "%2 = reduce.max [3, 4] %1 : f32[3,20,20]\nyield %2"},
        /* strides, dilations with a common divisor and without, an epilogue, a border that is not
         * neutral */
        {"%x: f32[2,19,70], %r: f32[9,33]", "f32[2,9,33]",
         "%0 = pad lo [0, 1, 0] hi [0, 0, 3] value 2 %x : f32[2,20,73]\n"
         "%1 = window axes [1, 2] size [2, 3] stride [2, 2] dilation [3, 4] %0 : f32[2,9,33,2,3]\n"
         "%2 = reduce.sum [3, 4] %1 : f32[2,9,33]\n"
         "%3 = map { a / 6 + b * f32(#1 + #2) } %2, %r : f32[2,9,33]\nyield %3"},
        /* windows that interlock along one axis */
        {"%x: f32[2,11,40]", "f32[2,3,37]",
         "%0 = window axes [1, 2] size [3, 4] stride [2, 1] dilation [3, 1] %x : f32[2,3,37,3,4]\n"
         "%1 = reduce.min [3, 4] %0 : f32[2,3,37]\nyield %1"},
        /* three axes, and a body of more than a load */
        {"%x: f32[2,5,9,37]", "f32[2,3,4,19]",
         "%0 = pad lo [0, 0, 1, 1] hi [0, 0, 0, 1] value 0 %x : f32[2,5,10,39]\n"
         "%1 = window axes [1, 2, 3] size [3, 3, 3] stride [1, 2, 2] dilation [1, 1, 1] %0 : "
         "f32[2,3,4,19,3,3,3]\n"
         "%2 = map { a * a } %1 : f32[2,3,4,19,3,3,3]\n"
         "%3 = reduce.sum [4, 5, 6] %2 : f32[2,3,4,19]\nyield %3"},
        /* blocked channels */
        {"%x: f32[1,2,9,9,16]", "f32[1,2,4,4,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [2, 2] dilation [1, 1] %x : "
         "f32[1,2,4,4,16,3,3]\n"
         "%1 = reduce.max [5, 6] %0 : f32[1,2,4,4,16]\nyield %1"},
        /* rows of several vectors: some side by side, and a rest */
        {"%x: f32[2,6,330]", "f32[2,6,165]",
         "%0 = pad lo [0, 1, 1] hi [0, 1, 1] value -inf %x : f32[2,8,332]\n"
         "%1 = window axes [1, 2] size [3, 3] stride [1, 2] dilation [1, 1] %0 : f32[2,6,165,3,3]\n"
         "%2 = reduce.max [3, 4] %1 : f32[2,6,165]\nyield %2"},
        {"%x: f32[1,5,200]", "f32[1,5,50]",
         "%0 = pad lo [0, 1, 0] hi [0, 1, 3] value 0 %x : f32[1,7,203]\n"
         "%1 = window axes [1, 2] size [3, 7] stride [1, 4] dilation [1, 1] %0 : f32[1,5,50,3,7]\n"
         "%2 = reduce.sum [3, 4] %1 : f32[1,5,50]\nyield %2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("window", "", cases[i].in, cases[i].out, cases[i].body, NULL);
}
END_TEST

START_TEST(windows_of_any_size) {
    static const int64_t n[][3] = {{1, 3, 3}, {2, 7, 40}, {3, 12, 4}, {0, 5, 5},
                                 {1, 1, 17}, {1, 2, 0}, {2, 0, 3}};
    for (int i = 0; i < 7; i++) {
        Size size[] = {{"N", n[i][0]}, {"H", n[i][1]}, {"W", n[i][2]}, {0}};
        kernel("window", "N, H, W", "%x: f32[N,2,H,W]", "f32[N,2,H,W]",
               "%0 = pad lo [0, 0, 1, 2] hi [0, 0, 1, 2] value -inf %x : f32[N,2,H+2,W+4]\n"
               "%1 = window axes [2, 3] size [3, 5] stride [1, 1] dilation [1, 1] %0 : "
               "f32[N,2,H,W,3,5]\n"
               "%2 = reduce.max [4, 5] %1 : f32[N,2,H,W]\nyield %2",
               size);
    }
}
END_TEST

START_TEST(tiles_of_any_size) {
    static const int64_t n[][3] = {{1, 3, 3}, {2, 7, 40}, {3, 12, 4}, {0, 5, 5}};
    for (int i = 0; i < 4; i++) {
        Size size[] = {{"N", n[i][0]}, {"H", n[i][1]}, {"W", n[i][2]}, {0}};
        kernel("tile", "N, H in [3, inf], W in [3, inf]", "%x: f32[N,2,H,W,16], %w: f32[2,3,3,16]",
               "f32[N,2,H-2,W-2,16]",
               "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
               "f32[N,2,H-2,W-2,16,3,3]\n"
               "%1 = contract \"aeghfjk,ejkf->aeghf\" %0, %w : f32[N,2,H-2,W-2,16]\n"
               "%2 = map { a * 2 } %1 : f32[N,2,H-2,W-2,16]\nyield %2",
               size);
    }
}
END_TEST

/* ---- nest: maps whose columns are dear ---- */

/* What a column computes once is a vector: positions that are the beginning of a vector, too, and stay a scalar there. */
START_TEST(maps_by_columns) {
    static const Case cases[] = {
        {"%a: f32[30,70], %b: f32[60]", "f32[30,60]",
         "%0 = map { load(0, #0, #1 + 10) * exp(tanh(load(1, #1))) } %a, %b : f32[30,60]\nyield %0"},
        {"%a: f32[30,70], %b: f32[70]", "f32[30,60]",
         "%0 = map { load(0, #0, #1 + 10) * exp(tanh(load(1, #1 + 10))) + f32(#1 + 10) } %a, %b : f32[30,60]\nyield %0"},
        {"%a: f32[30,70], %b: f32[60]", "f32[30,60]",
         "%0 = map { load(0, #0, mod(#1, 2) * 30 + fdiv(#1, 2)) * exp(tanh(load(1, #1))) } %a, %b : f32[30,60]\nyield %0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) kernel("nest", "", cases[i].in, cases[i].out, cases[i].body, NULL);
    char deep[4096] = "%0 = map { let t0 = load(0, #0, #1 + 10); "; /* 2^64 ways to the load */
    for (int i = 0; i < 64; i++) snprintf(deep + strlen(deep), sizeof deep - strlen(deep), "let t%d = cos(t%d) * t%d; ", i + 1, i, i);
    strcat(deep, "t64 } %a : f32[30,60]\nyield %0");
    kernel("nest", "", "%a: f32[30,70]", "f32[30,60]", deep, NULL);
}
END_TEST

static const char *const reflected = /* n points of rows of m */
    "%%0 = map { load(0, #0, %d - abs(%d - abs(#1 - 3))) } %%a : f32[30,%d]\nyield %%0";

/* Rows of several vectors that go from row to row together, in equal parts, with rests; of less than a vector; of any size. */
START_TEST(moves_by_columns) {
    static const int points[] = {6, 35, 112, 118, 300, 561};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        const int n = points[i], m = n > 6 ? n - 6 : 4;
        char in[32], out[32], body[128];
        snprintf(in, sizeof in, "%%a: f32[30,%d]", m);
        snprintf(out, sizeof out, "f32[30,%d]", n);
        snprintf(body, sizeof body, reflected, m - 1, m - 1, n);
        kernel("nest", "", in, out, body, NULL);
    }
    static const int64_t wide[] = {0, 1, 7, 40, 600};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        const Size size[] = {{"H", 30}, {"N", wide[i]}, {0}};
        kernel("nest", "H, N", "%a: f32[H,N]", "f32[2*H,2*N]",
               "%0 = reshape [H, 1, N, 1] %a : f32[H,1,N,1]\n%1 = broadcast [H, 2, N, 2] %0 : f32[H,2,N,2]\n"
               "%2 = reshape [2*H, 2*N] %1 : f32[2*H,2*N]\n%3 = copy device 0 %2 : f32[2*H,2*N]\nyield %3", size);
    }
}
END_TEST

static int count(const char *text, const char *what) {
    int n = 0;
    while ((text = strstr(text, what))) n++, text++;
    return n;
}

/* How often `what` stands in the code of a kernel. */
static int in_code(const char *in, const char *out, const char *body, const char *what) {
    char text[1024], names[64] = "";
    for (const char *p = strchr(in, '%'); p; p = strchr(p + 1, '%')) snprintf(names + strlen(names), 8, "%s%.2s", *names ? ", " : "", p);
    snprintf(text, sizeof text, "graph @t (%s) -> (%%y: %s) {\n%%y = group \"k\" %s : %s (%s) {\n%s\n}\nreturn %%y\n}\n", in, out, names, out,
             in, body);
    Ctx *c = ctx_new();
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s\n%s", ctx_messages(c), text);
    const Kernel *k = kernel_lower(c, g, kernel_of(g), NEWN(c, Storage, g->val.n));
    const KernelCode *code = kernel_compile(c, k, target_find("x86-64-v3"), "nest");
    Buf b = {.c = c};
    lir_print(&b, code->lir);
    const int n = count(buf_str(&b), what);
    ctx_free(c);
    return n;
}

/* A row is read and stored whole, and nothing of it under a mask. */
START_TEST(columns_together) {
    char body[128];
    snprintf(body, sizeof body, reflected, 105, 105, 112);
    ck_assert_int_eq(in_code("%a: f32[30,106]", "f32[30,112]", body, "store %"), 7);
    ck_assert_int_eq(in_code("%a: f32[30,106]", "f32[30,112]", body, " mask %"), 0);
    ck_assert_int_eq(in_code("%a: f32[30,106]", "f32[30,112]", body, "for %"), 2);
}
END_TEST

/* Columns anywhere in a plane, some of them outside, are loads of places that are known before the rows, which go on in few enough planes. */
START_TEST(columns_apart) {
    static const Case cases[] = {
        {"%a: f32[30,9,11], %i: i64[5,40], %j: i64[5,40]", "f32[30,5,40]",
         "%0 = map { load.value(0, #0, load(1, #1, #2) + 2, load(2, #1, #2) + 4; 7) * 2 } %a, %i, %j : f32[30,5,40]\nyield %0"},
        {"%a: f32[30,9,11], %i: i64[5,37], %j: i64[5,37]", "f32[30,5,37]",
         "%0 = map { load.clamp(0, #0, load(1, #1, #2) + 2, load(2, #1, #2) + 4) } %a, %i, %j : f32[30,5,37]\nyield %0"},
        {"%a: f32[30,9,11], %i: i64[48], %j: i64[48]", "f32[30,48]", /* the row, too, may be outside */
         "%0 = map { load.value(0, #0 * 2, load(1, #1) + 2, load(2, #1) + 4; 7) } %a, %i, %j : f32[30,48]\nyield %0"},
        {"%a: f32[5,7,9,3]", "f32[5,7,8]", /* of a part of a buffer */
         "%0 = slice start [0, 0, 4, 1] size [5, 7, 4, 2] step [1, 1, 1, 1] %a : f32[5,7,4,2]\n%1 = permute [0, 1, 3, 2] %0 : f32[5,7,2,4]\n"
         "%2 = reshape [5, 7, 8] %1 : f32[5,7,8]\n%3 = map { exp(a) } %2 : f32[5,7,8]\nyield %3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kernel("nest", "", cases[i].in, cases[i].out, cases[i].body, NULL);
        ck_assert_int_eq(in_code(cases[i].in, cases[i].out, cases[i].body, "gather"), 0);
    }
}
END_TEST

/* Every few elements of a row, either way, are loads of neighbours and shuffles, at the end of the row under a mask. */
START_TEST(columns_at_intervals) {
    static const struct { int size, start, step; } cases[] = {{20, 1, 2}, {17, 0, 2}, {13, 39, -3}, {28, 30, -1}, {9, 2, 4}, {9, 40, -4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256], out[32];
        snprintf(out, sizeof out, "f32[6,%d]", cases[i].size);
        snprintf(body, sizeof body, "%%0 = slice start [0, %d] size [6, %d] step [1, %d] %%a : %s\n%%1 = map { exp(a) } %%0 : %s\nyield %%1",
                 cases[i].start, cases[i].size, cases[i].step, out, out);
        kernel("nest", "", "%a: f32[6,41]", out, body, NULL);
        ck_assert_int_eq(in_code("%a: f32[6,41]", out, body, "gather"), 0);
    }
}
END_TEST

/* ---- contract: products with columns along a vector axis ---- */

START_TEST(contractions_of_fixed_sizes) {
    static const Case cases[] = {
        {"%a: f32[19,50], %b: f32[50,45], %c: f32[45], %r: f32[19,45]", "f32[19,45]",
         "%0 = contract \"mk,kn->mn\" %a, %b : f32[19,45]\n"
         "%1 = map { max(a + b, 0) + c } %0, %c, %r : f32[19,45]\nyield %1"},
        {"%a: f32[1,17], %b: f32[17,5]", "f32[1,5]",
         "%0 = contract \"mk,kn->mn\" %a, %b : f32[1,5]\nyield %0"},
        {"%a: f32[3,7,20], %b: f32[3,20,33]", "f32[3,7,33]",
         "%0 = contract \"bmk,bkn->bmn\" %a, %b : f32[3,7,33]\nyield %0"},
        /* the vector operand on the left, the result transposed */
        {"%a: f32[20,33], %b: f32[7,20]", "f32[7,33]",
         "%0 = contract \"kn,mk->mn\" %a, %b : f32[7,33]\nyield %0"},
        /* a transposed convolution: contiguous along two taps alone, which are the innermost rows, too */
        {"%a: f32[12,5,21], %b: f32[12,19,2,2], %c: f32[19,1,1,1,1]", "f32[19,5,2,21,2]",
         "%0 = contract \"chw,coij->ohiwj\" %a, %b : f32[19,5,2,21,2]\n%1 = map { a + b } %0, %c : f32[19,5,2,21,2]\nyield %1"},
        /* results out of blocks: tiles are transposed; whole rows, parts of rows, several rows; nothing between the sums and the result */
        {"%x: f32[1,2,5,21,16], %w: f32[3,2,16,16], %b: f32[1,3,1,1,16]", "f32[1,3,16,5,21]",
         "%0 = contract \"nchwi,ocij->nohwj\" %x, %w : f32[1,3,5,21,16]\n%1 = map { max(a + b, 0) } %0, %b : f32[1,3,5,21,16]\n"
         "%2 = permute [0, 1, 4, 2, 3] %1 : f32[1,3,16,5,21]\n%3 = copy device 0 %2 : f32[1,3,16,5,21]\nyield %3"},
        {"%x: f32[2,3,4,7,16], %w: f32[2,3,16,16]", "f32[2,2,16,4,7]",
         "%0 = contract \"nchwi,ocij->nohwj\" %x, %w : f32[2,2,4,7,16]\n%1 = permute [0, 1, 4, 2, 3] %0 : f32[2,2,16,4,7]\n"
         "%2 = copy device 0 %1 : f32[2,2,16,4,7]\nyield %2"},
        /* packed panels, the columns beyond the last cut off */
        {"%a: f32[23,30], %b: f32[4,30,16], %c: f32[50]", "f32[23,50]",
         "%0 = contract \"mk,bki->mbi\" %a, %b : f32[23,4,16]\n"
         "%1 = reshape [23, 64] %0 : f32[23,64]\n"
         "%2 = slice start [0, 0] size [23, 50] step [1, 1] %1 : f32[23,50]\n"
         "%3 = map { tanh(a + b) } %2, %c : f32[23,50]\nyield %3"},
        /* the same, of which a map reads what lies at coordinates of its own */
        {"%a: f32[23,30], %b: f32[4,30,16], %c: f32[3,2,50]", "f32[23,50]",
         "%0 = contract \"mk,bki->mbi\" %a, %b : f32[23,4,16]\n"
         "%1 = reshape [23, 64] %0 : f32[23,64]\n"
         "%2 = slice start [0, 0] size [23, 50] step [1, 1] %1 : f32[23,50]\n"
         "%3 = map { tanh(a + load(1, 2, 1, #1)) * load.value(1, 0, 0, #1 - 3; 0.5) } %2, %c : f32[23,50]\nyield %3"},
        /* convolutions: blocked, of planes, of groups */
        {"%x: f32[2,2,6,9,16], %w: f32[3,2,3,3,16,16], %b: f32[1,3,1,1,16]", "f32[2,3,4,7,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "f32[2,2,4,7,16,3,3]\n"
         "%1 = permute [0, 2, 3, 1, 5, 6, 4] %0 : f32[2,4,7,2,3,3,16]\n"
         "%2 = contract \"aghejkf,cejkfd->acghd\" %1, %w : f32[2,3,4,7,16]\n"
         "%3 = map { a + b } %2, %b : f32[2,3,4,7,16]\nyield %3"},
        {"%x: f32[1,3,11,13], %w: f32[2,3,5,5,16]", "f32[1,2,4,5,16]",
         "%0 = window axes [2, 3] size [5, 5] stride [2, 2] dilation [1, 1] %x : f32[1,3,4,5,5,5]\n"
         "%1 = permute [0, 2, 3, 1, 4, 5] %0 : f32[1,4,5,3,5,5]\n"
         "%2 = contract \"aghejk,cejkd->acghd\" %1, %w : f32[1,2,4,5,16]\nyield %2"},
        {"%x: f32[1,2,1,5,5,16], %w: f32[2,2,1,3,3,16,16]", "f32[1,2,2,3,3,16]",
         "%0 = window axes [3, 4] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "f32[1,2,1,3,3,16,3,3]\n"
         "%1 = contract \"abeghfjk,bcejkfd->abcghd\" %0, %w : f32[1,2,2,3,3,16]\nyield %1"},
        /* bytes by four: products, convolutions, one quad alone */
        {"%a: u8[19,12,4], %b: i8[3,12,16,4], %c: f32[19,3,16]", "f32[19,3,16]",
         "%0 = contract \"mkq,nkiq->mni\" acc i32 %a, %b : i32[19,3,16]\n"
         "%1 = map { f32(a) * 0.001 + b } %0, %c : f32[19,3,16]\nyield %1"},
        {"%x: u8[1,2,6,9,4,4], %w: i8[3,2,3,3,4,16,4]", "f32[1,3,4,7,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "u8[1,2,4,7,4,4,3,3]\n"
         "%1 = permute [0, 2, 3, 1, 6, 7, 4, 5] %0 : u8[1,4,7,2,3,3,4,4]\n"
         "%2 = contract \"aghejkim,cejkidm->acghd\" acc i32 %1, %w : i32[1,3,4,7,16]\n"
         "%3 = map { f32(a) * 0.001 } %2 : f32[1,3,4,7,16]\nyield %3"},
        {"%a: u8[7,4], %b: i8[16,4]", "f32[7,16]",
         "%0 = contract \"mq,iq->mi\" acc i32 %a, %b : i32[7,16]\n"
         "%1 = map { f32(a) } %0 : f32[7,16]\nyield %1"},
        /* integers */
        {"%a: u8[9,50], %b: i8[50,21]", "f32[9,21]",
         "%0 = contract \"mk,kn->mn\" acc i32 %a, %b : i32[9,21]\n"
         "%1 = map { f32(a) * 0.001 } %0 : f32[9,21]\nyield %1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("contract", "", cases[i].in, cases[i].out, cases[i].body, NULL);
}
END_TEST

/* Products of bytes by constants, where those of a pair or of two may be summed in 16 bits: of weights that are small, that are large here and there,
 * that are all large, and that somebody else reads, too. */
typedef enum { SMALL, SMALL_FEW, TINY, TINY_FEW, ALL_LARGE, SHARED } Weights;

static int weight(Weights kind, int i) {
    static const int large[] = {127, -128, 100, -1, 64, 65, -64, -65, 1, -128, -127, 127};
    int some = (int)(uniform() * (kind == TINY || kind == TINY_FEW ? 33 : 65)), most = large[i * 7 % 12];
    int at = i / 4 % 401; /* 34, 50: neighbours in one column */
    if (at == 34 || at == 50) most = i & 1024 ? -128 : 127;
    return kind == ALL_LARGE || ((kind == SMALL_FEW || kind == TINY_FEW) && (at == 34 || at == 50 || at == 300)) ? most : some;
}

static int occurrences(const char *s, const char *word) {
    int n = 0;
    while ((s = strstr(s, word))) n++, s++;
    return n;
}

static void pairs(Weights kind, const char *x, const char *w, int count, const char *y, const char *body) {
    static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v4", "x86-64-v4+vnni"};
    Ctx *c = ctx_new();
    Buf b = {.c = c};
    buf_printf(&b, "graph @t (%%x: %s) -> (%%y: %s) {\n  %%w = const %s {", x, y, w);
    for (int i = 0; i < count; i++) buf_printf(&b, "%s%d", i ? ", " : "", weight(kind, i));
    buf_printf(&b, "}\n  %%y = group \"kernel\" %%x, %%w : %s (%%x: %s, %%w: %s) {\n%s\n  }\n  return %%y\n}\n", y, x, w, body);
    const char *text = buf_str(&b);
    try_kernel(text, "contract", NULL, 0);
    Graph *g = graph_parse(c, text, "test.ir");
    for (int l = 0; l < 4; l++) {
        const Kernel *k = kernel_lower(c, g, kernel_of(g), NEWN(c, Storage, g->val.n));
        const KernelCode *code = kernel_compile(c, k, target_find(levels[l]), "contract");
        int quads = l != 1 && l != 2 ? 0 : kind <= SMALL_FEW ? 1 : kind <= TINY_FEW ? 2 : 0;
        Buf lir = {.c = c};
        lir_print(&lir, code->lir);
        int sums = occurrences(buf_str(&lir), "add_pair"), terms = occurrences(buf_str(&lir), "= pairs");
        ck_assert_msg((terms > 0) + (terms > sums) == quads, "%s: kind %d: %d sums of %d\n%s", levels[l], (int)kind, sums, terms, body);
        bool left = quads && (kind == SMALL_FEW || kind == TINY_FEW);
        ck_assert_msg((code->data != NULL) == left, "%s: kind %d: what is left\n%s", levels[l], (int)kind, body);
    }
    ctx_free(c);
}

START_TEST(products_in_pairs) {
    for (Weights kind = SMALL; kind <= ALL_LARGE; kind++) {
        pairs(kind, "u8[19,12,4]", "i8[3,12,16,4]", 3 * 12 * 64, "f32[19,3,16]",
              "%0 = contract \"mkq,nkiq->mni\" acc i32 %x, %w : i32[19,3,16]\n%1 = map { f32(a) } %0 : f32[19,3,16]\nyield %1");
        pairs(kind, "u8[1,2,6,9,4,4]", "i8[3,2,3,3,4,16,4]", 3 * 2 * 9 * 4 * 64, "f32[1,3,4,7,16]",
              "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : u8[1,2,4,7,4,4,3,3]\n"
              "%1 = permute [0, 2, 3, 1, 6, 7, 4, 5] %0 : u8[1,4,7,2,3,3,4,4]\n"
              "%2 = contract \"aghejkim,cejkidm->acghd\" acc i32 %1, %w : i32[1,3,4,7,16]\n"
              "%3 = map { f32(a) } %2 : f32[1,3,4,7,16]\nyield %3");
        pairs(kind, "u8[9,13,4]", "i8[2,13,16,4]", 2 * 13 * 64, "f32[9,2,16]",
              "%0 = contract \"mkq,nkiq->mni\" acc i32 %x, %w : i32[9,2,16]\n%1 = map { f32(a) } %0 : f32[9,2,16]\nyield %1");
        /* groups, each with panels of its own */
        pairs(kind, "u8[7,2,5,4]", "i8[2,2,5,16,4]", 2 * 2 * 5 * 64, "f32[7,2,2,16]",
              "%0 = contract \"mgkq,gnkiq->mgni\" acc i32 %x, %w : i32[7,2,2,16]\n%1 = map { f32(a) } %0 : f32[7,2,2,16]\nyield %1");
    }
    pairs(SHARED, "u8[5,8,4]", "i8[2,8,16,4]", 2 * 8 * 64, "f32[5,2,16]",
          "%0 = contract \"mkq,nkiq->mni\" acc i32 %x, %w : i32[5,2,16]\n"
          "%1 = slice start [0, 1, 0, 1] size [2, 1, 16, 1] step [1, 1, 1, 1] %w : i8[2,1,16,1]\n%2 = reshape [2, 16] %1 : i8[2,16]\n"
          "%3 = map { f32(a) + f32(b) } %0, %2 : f32[5,2,16]\nyield %3");
}
END_TEST

/* The second operand packed, the first too large for the second-level cache: sums wait in scratch between passes; rows are copied where they lie a
 * multiple of 4096 bytes apart. The last column tile may be narrower than the others. */
START_TEST(contractions_in_passes) {
    static const struct {
        const char *in, *a, *y, *spec, *tmpl;
        uint32_t l2;
    } cases[] = {
        {"%a: f32[6,8,384], %b: f32[6,32,384,16]", "%a", "f32[6,8,32,16]", "bmk,bnki->bmni", "contract nv=8", 12 << 10},
        {"%a: f32[60,1024], %b: f32[27,512,16]", "slice start [0, 512] size [60, 512] step [1, 1] %a : f32[60,512]", "f32[60,27,16]", "mk,nki->mni",
         "contract nv=2", 40 << 10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        bool view = *cases[i].a != '%';
        snprintf(text, sizeof text,
                 "graph @t (%s, %%c: f32[16]) -> (%%y: %s) {\n"
                 "  %%y = group \"kernel\" %%a, %%b, %%c : %s (%s, %%c: f32[16]) {\n"
                 "%s%s%s"
                 "    %%0 = contract \"%s\" %s, %%b : %s\n"
                 "    %%1 = map { max(a * 0.125 + b, 0) } %%0, %%c : %s\n    yield %%1\n  }\n  return %%y\n}\n",
                 cases[i].in, cases[i].y, cases[i].y, cases[i].in, view ? "    %v = " : "", view ? cases[i].a : "", view ? "\n" : "",
                 cases[i].spec, view ? "%v" : "%a", cases[i].y, cases[i].y);
        Sched s = try_kernel(text, cases[i].tmpl, NULL, cases[i].l2);
        enum { DEPTH = 5, TILES = 6 };
        ck_assert_msg(s.par[DEPTH] > 0 && s.par[TILES] > 1, "no passes: %s", text);
    }
}
END_TEST

/* ---- contract_tiles: bytes in matrix tiles ---- */

START_TEST(contractions_in_tiles) {
    static const Case cases[] = {
        {"%a: u8[37,32,4], %b: i8[3,32,16,4], %c: f32[37,3,16]", "f32[37,3,16]",
         "%0 = contract \"mkq,nkiq->mni\" acc i32 %a, %b : i32[37,3,16]\n"
         "%1 = map { f32(a) * 0.001 + b } %0, %c : f32[37,3,16]\nyield %1"},
        {"%a: u8[5,16,4], %b: i8[2,16,16,4]", "f32[5,32]",
         "%0 = contract \"mkq,nkiq->mni\" acc i32 %a, %b : i32[5,2,16]\n"
         "%1 = reshape [5, 32] %0 : i32[5,32]\n"
         "%2 = map { f32(a) * 0.001 } %1 : f32[5,32]\nyield %2"},
        /* one panel; batches with weights of their own */
        {"%a: u8[3,18,16,4], %b: i8[3,1,16,16,4]", "f32[3,18,1,16]",
         "%0 = contract \"bmkq,bnkiq->bmni\" acc i32 %a, %b : i32[3,18,1,16]\n"
         "%1 = map { f32(a) * 0.001 } %0 : f32[3,18,1,16]\nyield %1"},
        /* convolutions: pairs of tiles in a row and across rows, strides */
        {"%x: u8[2,2,5,33,16,4], %w: i8[4,2,3,3,16,16,4]", "f32[2,4,3,31,16]",
         "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %x : "
         "u8[2,2,3,31,16,4,3,3]\n"
         "%1 = permute [0, 2, 3, 1, 6, 7, 4, 5] %0 : u8[2,3,31,2,3,3,16,4]\n"
         "%2 = contract \"aghejkim,cejkidm->acghd\" acc i32 %1, %w : i32[2,4,3,31,16]\n"
         "%3 = map { f32(a) * 0.001 } %2 : f32[2,4,3,31,16]\nyield %3"},
        {"%x: u8[1,1,11,13,16,4], %w: i8[3,1,1,1,16,16,4]", "f32[1,3,6,7,16]",
         "%0 = window axes [2, 3] size [1, 1] stride [2, 2] dilation [1, 1] %x : "
         "u8[1,1,6,7,16,4,1,1]\n"
         "%1 = permute [0, 2, 3, 1, 6, 7, 4, 5] %0 : u8[1,6,7,1,1,1,16,4]\n"
         "%2 = contract \"aghejkim,cejkidm->acghd\" acc i32 %1, %w : i32[1,3,6,7,16]\n"
         "%3 = map { f32(a) * 0.001 } %2 : f32[1,3,6,7,16]\nyield %3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("contract_tiles", "", cases[i].in, cases[i].out, cases[i].body, NULL);
    static const int64_t m[] = {0, 1, 15, 16, 17, 48, 300};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++)
        kernel("contract_tiles", "M", "%a: u8[M,32,4], %b: i8[5,32,16,4]", "f32[M,5,16]",
               "%0 = contract \"mkq,nkiq->mni\" acc i32 %a, %b : i32[M,5,16]\n"
               "%1 = map { f32(a) * 0.001 } %0 : f32[M,5,16]\nyield %1",
               (Size[]){{"M", m[i]}, {0}});
}
END_TEST

START_TEST(contractions_of_any_size) {
    static const int64_t n[][3] = {{1, 1, 1}, {40, 33, 18}, {230, 5, 7}, {6, 100, 0}, {0, 3, 3}};
    for (int i = 0; i < 5; i++)
        kernel("contract", "M, N, K", "%a: f32[M,K], %b: f32[K,N]", "f32[M,N]",
               "%0 = contract \"mk,kn->mn\" %a, %b : f32[M,N]\n"
               "%1 = map { a - 1 } %0 : f32[M,N]\nyield %1",
               (Size[]){{"M", n[i][0]}, {"N", n[i][1]}, {"K", n[i][2]}, {0}});
}
END_TEST

/* ---- transpose: reads along one axis, writes along another ---- */

START_TEST(transposes) {
    static const Case cases[] = {
        {"%a: f32[32,48]", "f32[48,32]", "%0 = permute [1, 0] %a : f32[48,32]\n%1 = copy device 0 %0 : f32[48,32]\nyield %1"},
        {"%a: f32[37,5]", "f32[5,37]", "%0 = permute [1, 0] %a : f32[5,37]\n%1 = map { a * 2 } %0 : f32[5,37]\nyield %1"},
        {"%a: f32[3,19,33], %b: f32[33,1], %c: f32[3,33,19]", "f32[3,33,19]",
         "%0 = permute [0, 2, 1] %a : f32[3,33,19]\n%1 = map { max(a * b, c) } %0, %b, %c : f32[3,33,19]\nyield %1"},
        {"%a: f32[20,21], %b: f32[20,21]", "f32[21,20]",
         "%0 = permute [1, 0] %a : f32[21,20]\n%1 = permute [1, 0] %b : f32[21,20]\n%2 = map { a - b } %0, %1 : f32[21,20]\nyield %2"},
        {"%a: i8[50,40]", "f32[40,50]", "%0 = permute [1, 0] %a : i8[40,50]\n%1 = map { f32(a) } %0 : f32[40,50]\nyield %1"},
        /* out of blocks of channels: an axis that is read at its quotient and remainder is two */
        {"%a: f32[3,21,16]", "f32[48,21]", "%0 = permute [0, 2, 1] %a : f32[3,16,21]\n%1 = reshape [48, 21] %0 : f32[48,21]\n"
         "%2 = copy device 0 %1 : f32[48,21]\nyield %2"},
        {"%a: i8[2,3,21,16], %b: f32[48,1]", "f32[2,48,21]",
         "%0 = permute [0, 1, 3, 2] %a : i8[2,3,16,21]\n%1 = reshape [2, 48, 21] %0 : i8[2,48,21]\n"
         "%2 = map { f32(a) + b } %1, %b : f32[2,48,21]\nyield %2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("transpose", "", cases[i].in, cases[i].out, cases[i].body, NULL);
    static const int64_t n[][2] = {{1, 1}, {3, 70}, {100, 5}, {0, 4}, {16, 64}};
    for (int i = 0; i < 5; i++)
        kernel("transpose", "N, S", "%x: f32[N,S]", "f32[S,N]",
               "%0 = permute [1, 0] %x : f32[S,N]\n%1 = map { a * 2 } %0 : f32[S,N]\nyield %1",
               (Size[]){{"N", n[i][0]}, {"S", n[i][1]}, {0}});
}
END_TEST

/* ---- nest: everything else ---- */

START_TEST(nests_of_fixed_sizes) {
    static const Case cases[] = {
        {"%a: f32[5,37], %b: f32[37], %c: f32[5,1]", "f32[5,37]",
         "%0 = map { select(a < 0, b, a * c) + f32(#1 - #0) } %a, %b, %c : f32[5,37]\nyield %0"},
        {"%a: f32[6,7,9]", "f32[9,7,6]",
         "%0 = permute [2, 1, 0] %a : f32[9,7,6]\n%1 = copy device 0 %0 : f32[9,7,6]\nyield %1"},
        {"%a: f32[6,20]", "f32[8,15]",
         "%0 = permute [1, 0] %a : f32[20,6]\n%1 = reshape [8, 15] %0 : f32[8,15]\n"
         "%2 = copy device 0 %1 : f32[8,15]\nyield %2"},
        {"%a: f32[4,19]", "f32[6,13]",
         "%0 = slice start [0, 18] size [4, 9] step [1, -2] %a : f32[4,9]\n"
         "%1 = pad lo [1, 2] hi [1, 2] reflect %0 : f32[6,13]\n"
         "%2 = map { a * 3 } %1 : f32[6,13]\nyield %2"},
        {"%a: f32[4,9]", "f32[5,14]",
         "%0 = pad lo [1, 2] hi [0, 3] value 7 %a : f32[5,14]\n%1 = map { exp(a) } %0 : f32[5,14]\n"
         "yield %1"},
        /* rows: softmax, layer norm; reductions of leading, of all, of no elements */
        {"%x: f32[7,45]", "f32[7,45]",
         "%0 = reduce.max [1] keep %x : f32[7,1]\n%1 = map { exp(a - b) } %x, %0 : f32[7,45]\n"
         "%2 = reduce.sum [1] keep %1 : f32[7,1]\n%3 = map { a / b } %1, %2 : f32[7,45]\nyield %3"},
        /* a map whose row is reduced at once: four chains, whole vectors after them, a rest; no long chain; read by a map that rides along; f64 */
        {"%x: f32[4,187]", "f32[4,187]",
         "%0 = reduce.max [1] keep %x : f32[4,1]\n%1 = map { exp(a - b) } %x, %0 : f32[4,187]\n"
         "%2 = reduce.sum [1] keep %1 : f32[4,1]\n%3 = map { a / b } %1, %2 : f32[4,187]\nyield %3"},
        {"%x: f32[4,96]", "f32[4,96]",
         "%0 = reduce.max [1] keep %x : f32[4,1]\n%1 = map { max(a - b, -2) } %x, %0 : f32[4,96]\n"
         "%2 = reduce.sum [1] keep %1 : f32[4,1]\n%3 = map { sqrt(a + 200) } %2 : f32[4,1]\n%4 = map { a * b } %1, %3 : f32[4,96]\nyield %4"},
        {"%x: f32[3,70]", "f32[3,70]",
         "%0 = reduce.max [1] keep %x : f32[3,1]\n%1 = map { exp(f64(a - b)) } %x, %0 : f64[3,70]\n"
         "%2 = reduce.sum [1] keep %1 : f64[3,1]\n%3 = map { f32(a / b) } %1, %2 : f32[3,70]\nyield %3"},
        {"%x: f32[3,5,64], %g: f32[64]", "f32[3,5,64]",
         "%0 = reduce.sum [2] keep %x : f32[3,5,1]\n%1 = map { a / 64 } %0 : f32[3,5,1]\n"
         "%2 = map { a - b } %x, %1 : f32[3,5,64]\n%3 = map { a * a } %2 : f32[3,5,64]\n"
         "%4 = reduce.sum [2] keep %3 : f32[3,5,1]\n"
         "%5 = map { rsqrt(a / 64 + 0.001) } %4 : f32[3,5,1]\n"
         "%6 = map { a * b * c } %2, %5, %g : f32[3,5,64]\nyield %6"},
        {"%x: f32[33,21]", "f32[21]",
         "%0 = reduce.sum [0] %x : f32[21]\n%1 = map { sqrt(abs(a)) } %0 : f32[21]\nyield %1"},
        /* several vectors at once, in chunks of the only parallel axis; the same for scans */
        {"%x: f32[9,700]", "f32[700]",
         "%0 = reduce.sum [0] %x : f32[700]\n%1 = map { a * 2 } %0 : f32[700]\nyield %1"},
        {"%x: f32[9,700]", "f32[9,700]", "%0 = scan.sum axis 0 reverse exclusive %x : f32[9,700]\nyield %0"},
        {"%x: f32[3,9,45]", "f32[3,9,45]", "%0 = scan.sum axis 1 %x : f32[3,9,45]\nyield %0"},
        /* row by row: more of them than caches hold, two reduced axes, two results, several strips */
        {"%x: f32[300,901]", "f32[300,901]", "%0 = scan.sum axis 0 reverse exclusive %x : f32[300,901]\nyield %0"},
        {"%x: f32[3,2,90,1001]", "f32[2,1001]",
         "%0 = reduce.max [0, 2] %x : f32[2,1001]\n%1 = map { a * 2 } %0 : f32[2,1001]\nyield %1"},
        {"%x: f32[6,9001]", "f32[9001]",
         "%0 = map { #0 } : i64[6,9001]\n"
         "%1, %2 = reduce [0] { select(a >= c, a, c), select(a >= c, b, d) } init -inf, 0 "
         "acc f32, i64 %x, %0 : f32[9001], i64[9001]\n"
         "%3 = map { f32(a) } %2 : f32[9001]\nyield %3"},
        {"%x: f32[33,21]", "f32[]", "%0 = reduce.min [0, 1] %x : f32[]\nyield %0"},
        {"%x: f32[4,0]", "f32[4]", "%0 = reduce.max [1] %x : f32[4]\nyield %0"},
        {"%x: f32[6,40]", "f32[6]",
         "%0 = map { #1 } : i64[6,40]\n"
         "%1, %2 = reduce [1] { select(a >= c, a, c), select(a >= c, b, d) } init -inf, 0 "
         "acc f32, i64 %x, %0 : f32[6], i64[6]\n"
         "%3 = map { f32(a) } %2 : f32[6]\nyield %3"},
        /* as many results as a fold can have */
        {"%x: f32[7,40]", "f32[7]",
         "%0, %1, %2, %3, %4, %5, %6, %7 = reduce [1] { a + i, min(b, j), max(c, k), d + l * l, "
         "e + m * a, f - n, max(g, 0 - o), h + p } init 0, inf, -inf, 0, 0, 0, 0, 1 "
         "acc f32, f32, f32, f32, f32, f32, f32, f32 %x, %x, %x, %x, %x, %x, %x, %x : f32[7], f32[7], f32[7], f32[7], "
         "f32[7], f32[7], f32[7], f32[7]\n%8 = map { a - b + c - d + e - f + g - h } %0, %1, %2, %3, %4, %5, %6, %7 : f32[7]\n"
         "yield %8"},
        {"%x: f32[7,40]", "f32[40]",
         "%0, %1, %2, %3, %4, %5, %6, %7 = reduce [0] { a + i, min(b, j), max(c, k), d + l * l, "
         "e + m * a, f - n, max(g, 0 - o), h + p } init 0, inf, -inf, 0, 0, 0, 0, 1 "
         "acc f32, f32, f32, f32, f32, f32, f32, f32 %x, %x, %x, %x, %x, %x, %x, %x : f32[40], f32[40], f32[40], f32[40], "
         "f32[40], f32[40], f32[40], f32[40]\n%8 = map { a - b + c - d + e - f + g - h } %0, %1, %2, %3, %4, %5, %6, %7 : f32[40]\n"
         "yield %8"},
        {"%x: f32[7,40]", "f32[7,40]",
         "%0, %1, %2, %3, %4, %5, %6, %7 = scan axis 1 reverse { a + i, min(b, j), max(c, k), d + l * l, "
         "e + m * a, f - n, max(g, 0 - o), h + p } init 0, inf, -inf, 0, 0, 0, 0, 1 "
         "acc f32, f32, f32, f32, f32, f32, f32, f32 %x, %x, %x, %x, %x, %x, %x, %x : f32[7,40], f32[7,40], f32[7,40], f32[7,40], "
         "f32[7,40], f32[7,40], f32[7,40], f32[7,40]\n%8 = map { a - b + c - d + e - f + g - h } %0, %1, %2, %3, %4, %5, %6, %7 : f32[7,40]\n"
         "yield %8"},
        {"%x: f32[7,40]", "f32[7,40]",
         "%0, %1, %2, %3, %4, %5, %6, %7 = scan axis 0 exclusive { a + i, min(b, j), max(c, k), d + l * l, "
         "e + m * a, f - n, max(g, 0 - o), h + p } init 0, inf, -inf, 0, 0, 0, 0, 1 "
         "acc f32, f32, f32, f32, f32, f32, f32, f32 %x, %x, %x, %x, %x, %x, %x, %x : f32[7,40], f32[7,40], f32[7,40], f32[7,40], "
         "f32[7,40], f32[7,40], f32[7,40], f32[7,40]\n%8 = map { a - b + c - d + e - f + g - h } %0, %1, %2, %3, %4, %5, %6, %7 : f32[7,40]\n"
         "yield %8"},
        {"%x: f32[9,40], %i: i64[7,1], %u: f32[7,40]", "f32[9,40]", "%0 = scatter add %x, %i, %u : f32[9,40]\nyield %0"},
        {"%x: f32[9,40], %i: i64[7,1], %u: f32[7,40]", "f32[9,40]", "%0 = scatter set %x, %i, %u : f32[9,40]\nyield %0"},
        {"%x: f32[9,40], %i: i64[7,40], %u: f32[7,40]", "f32[9,40]",
         "%0 = scatter elements axis 0 max %x, %i, %u : f32[9,40]\nyield %0"},
        {"%t: f32[5,11], %i: i64[8]", "f32[8,11]",
         "%0 = gather axis 0 clamp %t, %i : f32[8,11]\n%1 = map { a + 1 } %0 : f32[8,11]\n"
         "yield %1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kernel("nest", "", cases[i].in, cases[i].out, cases[i].body, NULL);
}
END_TEST

START_TEST(nests_of_any_size) {
    static const int64_t n[][2] = {{1, 1}, {3, 70}, {100, 5}, {0, 4}, {2, 1000}};
    for (int i = 0; i < 5; i++) {
        Size size[] = {{"N", n[i][0]}, {"S", n[i][1]}, {0}};
        kernel("nest", "N, S", "%x: f32[N,S], %g: f32[S]", "f32[N,S]",
               "%0 = reduce.max [1] keep %x : f32[N,1]\n%1 = map { exp(a - b) } %x, %0 : f32[N,S]\n"
               "%2 = reduce.sum [1] keep %1 : f32[N,1]\n"
               "%3 = map { a / b * c } %1, %2, %g : f32[N,S]\nyield %3",
               size);
        kernel("nest", "N, S", "%x: f32[N,S]", "f32[S,N]",
               "%0 = permute [1, 0] %x : f32[S,N]\n%1 = map { a * 2 } %0 : f32[S,N]\nyield %1",
               size);
        kernel("nest", "N, S", "%x: f32[7,S], %i: i64[N,1], %u: f32[N,S]", "f32[7,S]",
               "%0 = scatter add %x, %i, %u : f32[7,S]\nyield %0", size);
        kernel("nest", "N, S", "%a: f32[N,S], %b: f32[S,3]", "f32[N,3]",
               "%0 = contract \"mk,kn->mn\" %a, %b : f32[N,3]\nyield %0", size);
    }
}
END_TEST

#define BEST "select(and(or(c >= a, c != c), or(not(or(a >= c, a != a)), d < b)), "
#define LAST_BEST "select(and(or(c >= a, c != c), or(not(or(a >= c, a != a)), d > b)), "

static void best_pairs(const char *best, const char *in, const char *out, const char *index, int axis, const char *domain) {
    char body[1024];
    snprintf(body, sizeof body,
             "%%0 = map { #%d } : i64[%s]\n%%q = map { min(max(f32(i32(a * 3)), -3), 3) } %%x : f32[%s]\n"
             "%%1, %%2 = reduce [%d] { %sc, a), %sd, b) } init -inf, 0 acc f32, i64 %%q, %%0 : %s, %s\n%%3 = map { f32(a) } %%2 : %s\nyield %%3",
             axis, domain, domain, axis, best, best, out, index, out);
    kernel("nest", "", in, out, body, NULL);
}

/* Of many equal values the first or the last one, along lanes and across them. */
START_TEST(nests_that_pick_the_best) {
    static const char *const best[] = {BEST, LAST_BEST};
    for (int k = 0; k < 2; k++) {
        best_pairs(best[k], "%x: f32[5,301]", "f32[5]", "i64[5]", 1, "5,301");
        best_pairs(best[k], "%x: f32[301,45]", "f32[45]", "i64[45]", 0, "301,45");
        best_pairs(best[k], "%x: f32[6,9001]", "f32[9001]", "i64[9001]", 0, "6,9001");
    }
}
END_TEST

/* The best of a row, sorted in scratch: few, more than are counted, or all. */
START_TEST(nests_that_sort) {
    static const int cases[][2] = {{40, 7}, {300, 70}, {300, 129}, {150, 149}, {200, 200}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char in[32], out[32], body[128];
        snprintf(in, sizeof in, "%%a: f32[3,%d]", cases[i][0]);
        snprintf(out, sizeof out, "f32[3,%d]", cases[i][1]);
        snprintf(body, sizeof body, "%%0, %%1 = topk axis 1 largest sorted k %d %%a : %s, i64[3,%d]\nyield %%0", cases[i][1], out, cases[i][1]);
        kernel("nest", "", in, out, body, NULL);
    }
}
END_TEST

/* Which axes are left: `want`, lines of the collapsed kernel in order. */
static void collapsed(const char *in, const char *out, const char *body, const char *const *want) {
    char text[2048];
    snprintf(text, sizeof text, "dims N\ngraph @t (%s) -> (%%y: %s) {\n  %%y = group \"kernel\" %s : %s (%s) {\n%s\n  }\n  return %%y\n}\n",
             in, out, strstr(in, "%i") ? "%x, %i" : "%x", out, in, body);
    Ctx *c = ctx_new();
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s\n%s", ctx_messages(c), text);
    Kernel *k = kernel_lower(c, g, kernel_of(g), NEWN(c, Storage, g->val.n));
    kernel_collapse(k, false);
    Buf b = {.c = c};
    kernel_print(&b, k);
    const char *at = buf_str(&b);
    for (; *want; want++) {
        const char *found = strstr(at, *want);
        ck_assert_msg(found != NULL, "no %s\n%s", *want, buf_str(&b));
        at = found + strlen(*want);
    }
    ctx_free(c);
}

START_TEST(collapsing) {
    /* a scalar between stages over all axes; a dim of size 1 between axes */
    collapsed("%x: f32[N,5,1,5]", "f32[N,5,1,5]",
              "%0 = reduce.sum [0, 1, 2, 3] keep %x : f32[1,1,1,1]\n%1 = map { a / 2 } %0 : f32[1,1,1,1]\n"
              "%2 = map { a - b } %x, %1 : f32[N,5,1,5]\nyield %2",
              (const char *[]){"in   0: f32[25*N] stride [1]", "nest (#0 reduce <25*N)", "nest (#0 <25*N)", NULL});
    /* the axes that all stages share stay so: a row is a task */
    collapsed("%x: f32[N,4,5,6]", "f32[N,4,5,6]",
              "%0 = reduce.sum [2, 3] keep %x : f32[N,4,1,1]\n%1 = map { a - b } %x, %0 : f32[N,4,5,6]\nyield %1",
              (const char *[]){"nest (#0 <4*N, #1 reduce <30)", "nest (#0 <4*N, #1 <30)", NULL});
    /* what one stage walks in another order stays apart in both */
    collapsed("%x: f32[4,5]", "f32[5,4]",
              "%0 = map { exp(a) } %x : f32[4,5]\n%1 = permute [1, 0] %0 : f32[5,4]\n%2 = map { exp(exp(a)) } %1 : f32[5,4]\nyield %2",
              (const char *[]){"nest (#0 <5, #1 <4)", NULL});
    /* axes by which indices alone are loaded */
    collapsed("%x: f32[7,N,9], %i: i32[4,5]", "f32[7,4,5]",
              "%0 = map { load(0, #0, 0, i64(load(1, #1, #2))) + load(0, #0, 1, i64(load(1, #1, #2))) } %x, %i : f32[7,4,5]\nyield %0",
              (const char *[]){"in   1: i32[20] stride [1]", "nest (#0 <7, #1 <20)", NULL});
    /* an index that may miss a dim of size 1 is still tested */
    collapsed("%x: f32[1,6]", "f32[3,6]", "%0 = pad lo [1, 0] hi [1, 0] value 2 %x : f32[3,6]\n%1 = map { a + 1 } %0 : f32[3,6]\nyield %1",
              (const char *[]){"in   0: f32[1,6]", "nest (#0 <3, #1 <6)", NULL});
}
END_TEST

/* Beside values of 32 bits, indices have as many, and rows that lie along them are read so. */
START_TEST(narrow_indices) {
#define PAIRS(t) "%0 = map { #1 } : i64[16,300]\n%1, %2 = reduce [1] { " BEST "c, a), " BEST "d, b) } init -inf, 0 acc " t ", i64 %x, %0 : " \
                 t "[16], i64[16]\nyield %2"
    collapsed("%x: f32[16,300]", "i64[16]", PAIRS("f32"), (const char *[]){"= f32 select", "= i32 select", NULL});
    collapsed("%x: f64[16,300]", "i64[16]", PAIRS("f64"), (const char *[]){"= f64 select", "= i64 select", NULL});
    Ctx *c = ctx_new();
    const char *text = "graph @t (%x: f32[16,300]) -> (%y: i64[16]) {\n  %y = group \"kernel\" %x : i64[16] (%x: f32[16,300]) {\n" PAIRS("f32")
                       "\n  }\n  return %y\n}\n";
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s", ctx_messages(c));
    Kernel *k = kernel_lower(c, g, kernel_of(g), NEWN(c, Storage, g->val.n));
    ck_assert_int_eq(nest_vector_axis(k, &k->stage[0], target_find("x86-64-v3"), 0), 1);
    ck_assert_int_eq(nest_widest(k, &k->stage[0]), DT_I32);
    ctx_free(c);
}
END_TEST

/* Sums of equal terms, each rounded the same way: a single chain of them would be off by more than the tolerance. Along lanes, across them, by
 * rows, over axes that are merged and such that are not. */
START_TEST(long_sums) {
    static const struct {
        const char *shape, *axes, *out, *tmpl;
        int64_t n;
    } cases[] = {
        {"289,5,1,5", "0, 1, 2, 3", "", "nest", 0},
        {"N,5,1,5", "0, 1, 2, 3", "", "nest", 1200},
        {"15000,3", "0", "3", "nest", 0},
        {"N,18", "0", "18", "nest", 9000},
        {"1400,2,7", "0, 2", "2", "nest", 0},
        {"2,2,N", "0, 2", "2", "nest", 30000},
        {"1400,2,7,16", "0, 2", "2,16", "tile", 0},
        {"20,700,9,5", "0, 1", "9,5", "nest", 0},
        {"20,N,2,5", "0, 1, 3", "2", "nest", 900},
        {"5,900,300", "0, 1", "300", "nest", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        Size size[] = {{"N", cases[i].n}, {0}};
        snprintf(text, sizeof text,
                 "%sgraph @t (%%x: f32[%s]) -> (%%y: f32[%s]) {\n  %%y = group \"kernel\" %%x : f32[%s] (%%x: f32[%s]) {\n"
                 "    %%0 = map { min(max(a, 0.1), 0.1) } %%x : f32[%s]\n    %%1 = reduce.sum [%s] %%0 : f32[%s]\n"
                 "    yield %%1\n  }\n  return %%y\n}\n",
                 cases[i].n ? "dims N\n" : "", cases[i].shape, cases[i].out, cases[i].out, cases[i].shape, cases[i].shape, cases[i].axes,
                 cases[i].out);
        try_kernel(text, cases[i].tmpl, size, 0);
    }
}
END_TEST

/* ---- which schedule is the cheapest ---- */

static void chooses(const char *level, const char *want, const char *in, const char *out, const char *body) {
    Ctx *c = ctx_new();
    const char *text = ctx_printf(
        c, "dims T\ngraph @t (%s) -> (%%y: %s) {\n  %%y = group \"kernel\" %%a, %%b : %s (%s) {\n%s\n  }\n  return %%y\n}\n", in, out, out, in, body);
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s\n%s", ctx_messages(c), text);
    dim_guess_in(g);
    KernelCode *code = kernel_compile(c, kernel_lower(c, g, kernel_of(g), NEWN(c, Storage, g->val.n)), target_find(level), NULL);
    ck_assert(code != NULL);
    Buf b = {.c = c};
    sched_print(&b, &code->sched);
    ck_assert_msg(!strncmp(buf_str(&b), want, strlen(want)), "%s: %s, not %s\n%s", level, buf_str(&b), want, text);
    ctx_free(c);
}

/* The sizes of one graph, or of one level's, do not tell what is typical in another. */
START_TEST(typical_sizes) {
    static const char *const size[] = {"floordiv(T,320)", "T", "floordiv(T+1,40)"};
    static const double typical[] = {320 * 16, 128, 40 * 16};
    Ctx *c = ctx_new();
    for (int i = 0; i < 3; i++) {
        const char *text = ctx_printf(c, "dims T\ngraph @t (%%a: f32[%s]) -> (%%a: f32[%s]) {\n  return %%a\n}\n", size[i], size[i]);
        Graph *g = graph_parse(c, text, "test.ir");
        ck_assert_msg(g != NULL, "%s", ctx_messages(c));
        dim_guess_in(g);
        ck_assert_double_eq(dim_typical(c, dim_sym(c, "T", 0, DIM_INF)), typical[i]);
    }
    ctx_free(c);
}
END_TEST

START_TEST(choices) {
    /* A tap of a depthwise convolution costs a multiplication, whatever its address: many points share its weights, also where a block of channels
     * is two vectors. */
    static const char taps[] = "%0 = window axes [2, 3] size [3, 3] stride [1, 1] dilation [1, 1] %a : f32[1,9,28,28,16,3,3]\n"
                               "%1 = contract \"aeghfjk,ejkf->aeghf\" %0, %b : f32[1,9,28,28,16]\nyield %1";
    chooses("x86-64-v3", "tile tx=10 unroll=3 nv=1", "%a: f32[1,9,30,30,16], %b: f32[9,3,3,16]", "f32[1,9,28,28,16]", taps);
    /* Few rows times panels that no cache holds: the panels are read once. */
    chooses("x86-64-v3", "contract ", "%a: f32[8,4096], %b: f32[256,4096,16]", "f32[8,256,16]",
            "%0 = contract \"mk,nki->mni\" %a, %b : f32[8,256,16]\nyield %0");
    /* A size that depends on a comparison is what it is at the usual sizes, not that of the rare branch. */
    chooses("x86-64-v4", "contract ", "%a: f32[select(lt(T,64),0,T),64], %b: f32[64,T]", "f32[select(lt(T,64),0,T),T]",
            "%0 = contract \"mk,kn->mn\" %a, %b : f32[select(lt(T,64),0,T),T]\nyield %0");
    /* Frames of so many samples that the usual number of samples would be none of them. */
    chooses("x86-64-v4", "contract ", "%a: f32[floordiv(T+5,320),64], %b: f32[64,floordiv(T,320)]", "f32[floordiv(T+5,320),floordiv(T,320)]",
            "%0 = contract \"mk,kn->mn\" %a, %b : f32[floordiv(T+5,320),floordiv(T,320)]\nyield %0");
    /* The 16 channels of a block are no loop where registers are few. */
    static const char blocks[] = "%0 = window axes [2, 3] size [3, 3] stride [2, 2] dilation [1, 1] %a : f32[1,4,14,14,16,3,3]\n"
                                 "%1 = permute [0, 2, 3, 1, 5, 6, 4] %0 : f32[1,14,14,4,3,3,16]\n"
                                 "%2 = contract \"aghejkf,cejkfd->acghd\" %1, %b : f32[1,16,14,14,16]\nyield %2";
    static const char blocks_in[] = "%a: f32[1,4,30,30,16], %b: f32[16,4,3,3,16,16]", blocks_out[] = "f32[1,16,14,14,16]";
    chooses("x86-64-v3", "contract mr=6 nv=2 rows=7 unroll=16", blocks_in, blocks_out, blocks);
    chooses("x86-64-v4", "contract mr=14 nv=2 rows=4 unroll=4", blocks_in, blocks_out, blocks);
}
END_TEST

int main(void) {
    Suite *s = suite_create("templates");
    TCase *t = tcase_create("templates");
    tcase_set_timeout(t, 300);
    suite_add_tcase(s, t);
    tcase_add_test(t, attention_of_fixed_sizes);
    tcase_add_test(t, attention_of_any_length);
    tcase_add_test(t, attention_with_masks);
    tcase_add_test(t, rows_without_keys);
    tcase_add_test(t, grouped_heads);
    tcase_add_test(t, packed_products);
    tcase_add_test(t, packed_weights);
    tcase_add_test(t, products_in_pairs);
    tcase_add_test(t, tiles_of_fixed_sizes);
    tcase_add_test(t, tiles_of_any_size);
    tcase_add_test(t, repeats);
    tcase_add_test(t, windows);
    tcase_add_test(t, windows_of_any_size);
    tcase_add_test(t, maps_by_columns);
    tcase_add_test(t, moves_by_columns);
    tcase_add_test(t, columns_together);
    tcase_add_test(t, columns_apart);
    tcase_add_test(t, columns_at_intervals);
    tcase_add_test(t, contractions_of_fixed_sizes);
    tcase_add_test(t, contractions_of_any_size);
    tcase_add_test(t, transposes);
    tcase_add_test(t, collapsing);
    tcase_add_test(t, long_sums);
    tcase_add_test(t, contractions_in_tiles);
    tcase_add_test(t, contractions_in_passes);
    tcase_add_test(t, nests_of_fixed_sizes);
    tcase_add_test(t, nests_of_any_size);
    tcase_add_test(t, nests_that_pick_the_best);
    tcase_add_test(t, nests_that_sort);
    tcase_add_test(t, narrow_indices);
    tcase_add_test(t, choices);
    tcase_add_test(t, typical_sizes);
    return run_suite(s);
}
