/* test_winograd.c: template `winograd` on kernels in text, run by the bounds-checked interpreter at
 * every CPU level against the reference evaluator of the same body: both forms, cut tiles, channels
 * that do not fill a pair of blocks, images of any number, and epilogues. Whole and task by task
 * with scratch full of NaN: the same bits. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "codegen/kernel.h"
#include "ir/storage.h"
#include "ir/winograd.h"

static uint64_t state;
static float uniform(void) { /* (-1, 1) */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(int64_t)(state >> 11) / (double)(1ll << 52) - 1);
}

typedef struct Case {
    int form, images /* 0: a symbol, three of them */, cb, ob, ty, tx, h, w;
    const char *map;
} Case;

static const char *text_of(Ctx *c, const Case *k) {
    const WinoForm *f = &wino_form[k->form];
    int a = f->a, m = f->m, hp = k->ty * m + 2, wp = k->tx * m + 2;
    const char *n = k->images ? ctx_printf(c, "%d", k->images) : "N";
    const char *out = ctx_printf(c, "f32[%s,%d,%d,%d,16]", n, k->ob, k->h, k->w),
               *in = ctx_printf(c,
                                "%%x: f32[%s,%d,%d,%d,16], %%u: f32[%d,%d,%d,%d,16,16], %%bt: "
                                "f32[%d,%d], %%at: f32[%d,%d], %%r: %s",
                                n, k->cb, hp, wp, a, a, k->ob, k->cb, a, a, m, a, out);
    const char *v = ctx_printf(c, "f32[%s,%d,%d,%d,%d,%d,16]", n, k->cb, k->ty, k->tx, a, a);
    const char *p = ctx_printf(c, "f32[%s,%d,%d,%d", n, k->ob, k->ty, k->tx);
    const char *y = ctx_printf(c, "f32[%s,%d,%d,%d,16]", n, k->ob, k->ty * m, k->tx * m);
    return ctx_printf(
        c,
        "%sgraph @t (%s) -> (%%y: %s) {\n  %%y = group \"kernel\" %%x, %%u, %%bt, %%at, %%r : %s "
        "(%s) {\n"
        "    %%0 = window axes [2, 3] size [%d, %d] stride [%d, %d] dilation [1, 1] %%x : "
        "f32[%s,%d,%d,%d,16,%d,%d]\n"
        "    %%1 = contract \"ncyxiab,pa->ncyxpbi\" %%0, %%bt : %s\n"
        "    %%2 = contract \"ncyxpbi,qb->ncyxpqi\" %%1, %%bt : %s\n"
        "    %%3 = contract \"ncyxpqi,pqocij->noyxpqj\" %%2, %%u : %s,%d,%d,16]\n"
        "    %%4 = contract \"noyxpqj,rp->noyxrqj\" %%3, %%at : %s,%d,%d,16]\n"
        "    %%5 = contract \"noyxrqj,sq->noyrxsj\" %%4, %%at : f32[%s,%d,%d,%d,%d,%d,16]\n"
        "    %%6 = reshape [%s, %d, %d, %d, 16] %%5 : %s\n"
        "    %%7 = slice start [0, 0, 0, 0, 0] size [%s, %d, %d, %d, 16] step [1, 1, 1, 1, 1] %%6 "
        ": %s\n"
        "    %%8 = map { %s } %%7, %%r : %s\n    yield %%8\n  }\n  return %%y\n}\n",
        k->images ? "" : "dims N\n", in, out, out, in, a, a, m, m, n, k->cb, k->ty, k->tx, a, a, v,
        v, p, a, a, p, m, a, n, k->ob, k->ty, m, k->tx, m, n, k->ob, k->ty * m, k->tx * m, y, n,
        k->ob, k->h, k->w, out, k->map, out);
}

static Tensor *draw(Ctx *c, const Type *t, const int64_t *sym) {
    int64_t dim[MAX_RANK];
    for (int d = 0; d < t->rank; d++) ck_assert(dim_eval(c, t->dim[d], sym, &dim[d]));
    Tensor *x = tensor_new(c, DT_F32, t->rank, dim);
    for (int64_t i = 0; i < tensor_count(x); i++) ((float *)x->data)[i] = uniform();
    return x;
}

static void matrix(Tensor *x, const float (*m)[WINO_MAX]) {
    for (int64_t i = 0; i < tensor_count(x); i++)
        ((float *)x->data)[i] = m[i / x->dim[1]][i % x->dim[1]];
}

typedef struct Run {
    Ctx *c;
    Graph *g;
    const Node *n;
    Tensor *const *in;
    const int64_t *sym;
    size_t bytes;
} Run;

static float *execute(const Run *r, const KernelCode *code, bool apart) {
    void *buf[K_BUFS];
    size_t size[K_BUFS];
    int64_t dim[256], tasks, scratch;
    float *out = malloc(r->bytes);
    ck_assert_uint_le(code->ndim, 256);
    for (uint32_t b = 0; b < code->nbuf; b++) {
        buf[b] = out;
        size[b] = r->bytes;
        for (uint32_t i = 0; i < r->n->nin; i++) {
            if (graph_resolve(r->g, r->n->in[i]).i != code->buf[b].i) continue;
            size[b] = (size_t)tensor_count(r->in[i]) * 4;
            memcpy(buf[b] = malloc(size[b]), r->in[i]->data,
                   size[b]); /* of its own size: sanitizers see its end */
        }
    }
    for (uint32_t i = 0; i < code->ndim; i++)
        ck_assert(dim_eval(r->c, code->dim[i], r->sym, &dim[i]));
    ck_assert(dim_eval(r->c, code->tasks, r->sym, &tasks) &&
              dim_eval(r->c, code->scratch, r->sym, &scratch));
    float *s = aligned_alloc(64, (size_t)scratch + 64);
    for (int64_t t = apart ? tasks - 1 : 0; t >= 0; t--) {
        for (int64_t i = 0; i < scratch / 4; i++) s[i] = NAN;
        int32_t rc = lir_run(r->c, code->lir, buf, size, dim, t, apart ? t + 1 : tasks, s,
                             (size_t)scratch, 0);
        ck_assert_msg(rc == 0, "status %d: %s", rc, ctx_messages(r->c));
    }
    free(s);
    for (uint32_t b = 0; b < code->nbuf; b++)
        if (buf[b] != out) free(buf[b]);
    return out;
}

static void try(const Case *k) {
    static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
    Ctx *c = ctx_new();
    const char *text = text_of(c, k);
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g != NULL, "%s\n%s", ctx_messages(c), text);
    int64_t *sym = NEWN(c, int64_t, dim_nsyms(c) + 1);
    for (uint32_t i = 0; i < dim_nsyms(c); i++) sym[i] = 3;
    Tensor *in[5], *want = NULL;
    state = 1;
    for (int i = 0; i < 5; i++) in[i] = draw(c, val_type(g, g->in.v[i].val), sym);
    matrix(in[2], wino_form[k->form].bt);
    matrix(in[3], wino_form[k->form].at);
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)in, &want, &(EvalOptions){0}), "%s",
                  ctx_messages(c));
    B b = builder(g, (Loc){0});
    for (int i = 1; i < 4; i++) /* weights and matrices are constants to the template */
        graph_replace(g, g->in.v[i].val,
                      b_const(&b, tensor_to_const(c, in[i]), *val_type(g, g->in.v[i].val)));
    graph_tidy(g);
    const Node *n = NULL;
    for (uint32_t i = 0; i < g->node.n; i++)
        if (g->node.v[i]->op == P_GROUP) n = g->node.v[i];
    Kernel *kernel = kernel_lower(c, g, n, NEWN(c, Storage, g->val.n));
    int64_t count = tensor_count(want);
    Run r = {c, g, n, in, sym, (size_t)count * 4};
    for (int l = 0; l < 3; l++) {
        KernelCode *code = kernel_compile(c, kernel, target_find(levels[l]), NULL);
        ck_assert_msg(code && !strcmp(code->sched.tmpl->name, "winograd"),
                      "%s: another template\n%s", levels[l], text);
        float *x = execute(&r, code, false), *y = execute(&r, code, true);
        ck_assert_msg(!memcmp(x, y, r.bytes), "%s: results depend on how tasks are divided\n%s",
                      levels[l], text);
        for (int64_t i = 0; i < count; i++) {
            double e = ((const float *)want->data)[i];
            ck_assert_msg(fabs(e - x[i]) <= 1e-3 + 1e-5 * fabs(e),
                          "%s: element %lld is %.9g, not %.9g\n%s", levels[l], (long long)i, x[i],
                          e, text);
        }
        free(x);
        free(y);
    }
    ctx_free(c);
}

START_TEST(both_forms) {
    static const Case cases[] = {
        {0, 1, 2, 2, 3, 3, 6, 6, "a + b"},         {1, 1, 2, 2, 2, 3, 8, 12, "a + b"},
        {0, 2, 3, 2, 4, 2, 7, 4, "max(a + b, 0)"}, /* cut below */
        {1, 1, 2, 3, 3, 2, 9, 7, "max(a + b, 0)"}, /* cut on both sides; an odd number of blocks */
        {1, 0, 2, 2, 4, 4, 15, 16, "tanh(a) * b"}, /* any number of images; as many tiles as points
                                                    */
        {0, 0, 2, 5, 2, 9, 3, 17, "a * 2 - b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) try(&cases[i]);
}
END_TEST

int main(void) {
    Suite *s = suite_create("winograd");
    TCase *t = tcase_create("winograd");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, both_forms);
    suite_add_tcase(s, t);
    return run_suite(s);
}
