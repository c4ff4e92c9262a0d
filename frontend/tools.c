/* tools.c: what the command does besides compiling: run the reference evaluator on .npy files, and
 * describe a model from its graph and plan. */
#include "frontend/frontend.h"
#include <string.h>

enum { SHOWN_VALUES = 8 };
typedef struct Str {
    const char *s;
    size_t n;
} Str; /* element of DT_STR */

/* ---- eval ---- */

static const NamedFile *find_file(const NamedFile *f, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(f[i].name, name)) return &f[i];
    return NULL;
}

static bool check_names(Ctx *c, const char *option, const NamedFile *f, uint32_t n,
                        const Port *port, uint32_t nport) {
    Buf b = {.c = c};
    for (uint32_t k = 0; k < nport; k++) buf_printf(&b, "%s%s", k ? ", " : "", port[k].name);
    for (uint32_t i = 0; i < n; i++) {
        bool known = false;
        for (uint32_t k = 0; k < nport && !known; k++) known = !strcmp(port[k].name, f[i].name);
        if (!known)
            diag(c, SEV_ERROR, (Loc){0}, "E0510", "%s %s: the model has no such name; it has %s",
                 option, f[i].name, nport ? buf_str(&b) : "none");
    }
    return !ctx_errors(c);
}

static void print_value(FILE *out, const Tensor *t) {
    if (t->kind != TY_TENSOR) {
        if (t->nelem < 0) {
            fputs(" (absent)\n", out);
            return;
        }
        fprintf(out, " (%lld elements)\n", (long long)t->nelem);
        for (int64_t i = 0; i < t->nelem; i++) {
            fprintf(out, "  [%lld]", (long long)i);
            print_value(out, t->elem[i]);
        }
        return;
    }
    fprintf(out, " %s[", dt_name(t->dtype));
    for (int i = 0; i < t->rank; i++) fprintf(out, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    fputs("]", out);
    DType as = !dt_is_packed(t->dtype)  ? t->dtype
               : dt_is_signed(t->dtype) ? DT_I8
                                        : DT_U8; /* unpacked: a byte each */
    int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n && i < SHOWN_VALUES; i++) {
        if (t->dtype == DT_STR) {
            const Str *s = (const Str *)t->data + i;
            fprintf(out, " \"%.*s\"", (int)(s->n < 200 ? s->n : 200), s->s);
        } else if (dt_is_float(as)) {
            fprintf(out, " %.9g", dt_load(as, t->data, i).f);
        } else if (as != DT_C64 && as != DT_C128) {
            fprintf(out, " %lld", (long long)dt_load(as, t->data, i).i);
        }
    }
    fputs(n > SHOWN_VALUES ? " ...\n" : "\n", out);
}

bool tool_eval(Ctx *c, Graph *g, const EvalFiles *f, FILE *out) {
    if (!check_names(c, "--input", f->in, f->nin, g->in.v, g->in.n) ||
        !check_names(c, "--output", f->out, f->nout, g->out.v, g->out.n))
        return false;
    const Tensor **in = NEWN(c, const Tensor *, g->in.n + 1);
    Tensor **res = NEWN(c, Tensor *, g->out.n + 1);
    for (uint32_t i = 0; i < g->in.n; i++) {
        const NamedFile *nf = find_file(f->in, f->nin, g->in.v[i].name);
        const Type *t = val_type(g, g->in.v[i].val);
        Buf b = {.c = c};
        type_print(&b, c, t);
        if (!nf && t->kind == TY_OPT) { /* empty */
            Tensor *none = NEW(c, Tensor);
            *none = (Tensor){.kind = TY_OPT, .nelem = -1};
            in[i] = none;
        } else if (!nf)
            diag(c, SEV_ERROR, (Loc){0}, "E0511",
                 "input %s is missing: give --input %s=FILE.npy with %s", g->in.v[i].name,
                 g->in.v[i].name, buf_str(&b));
        else
            in[i] = npy_read(c, nf->path, t);
    }
    EvalOptions eo = {.seed = f->seed, .call = eval_call};
    if (ctx_errors(c) || !graph_eval(c, g, in, res, &eo)) return false;
    for (uint32_t i = 0; i < g->out.n; i++) {
        const NamedFile *nf = find_file(f->out, f->nout, g->out.v[i].name);
        if (nf && !npy_write(c, nf->path, res[i])) return false;
        if (f->nout) continue;
        fputs(g->out.v[i].name, out);
        print_value(out, res[i]);
    }
    return true;
}

/* ---- inspect ---- */

static void print_ports(Buf *b, Graph *g, const char *title, const Port *p, uint32_t n) {
    buf_printf(b, "%s\n", title);
    for (uint32_t i = 0; i < n; i++) {
        buf_printf(b, "  %s ", p[i].name);
        type_print(b, g->c, val_type(g, p[i].val));
        buf_puts(b, "\n");
    }
}

void print_range(Buf *b, const char *name, int64_t lo, int64_t hi) {
    if (hi < 0 || hi == DIM_INF)
        buf_printf(b, "  %s >= %lld\n", name, (long long)lo);
    else
        buf_printf(b, "  %s in %lld..%lld\n", name, (long long)lo, (long long)hi);
}

static void count_nodes(const Graph *g, uint32_t count[P_COUNT], uint64_t *weights) {
    for (uint32_t i = 0; i < g->node.n; i++) {
        const Node *n = g->node.v[i];
        count[n->op]++;
        if (n->op == P_CONST) *weights += ((const ConstAttr *)n->attr)->data->bytes;
        if (n->op == P_GROUP) count_nodes(((const GroupAttr *)n->attr)->body, count, weights);
        if (n->op == P_LOOP) count_nodes(((const LoopAttr *)n->attr)->body, count, weights);
        if (n->op == P_IF) {
            count_nodes(((const IfAttr *)n->attr)->then_g, count, weights);
            count_nodes(((const IfAttr *)n->attr)->else_g, count, weights);
        }
    }
}

bool tool_inspect_model(Ctx *c, const CompileOptions *o, FILE *out) {
    Graph *g = compile_read(c, o, NULL);
    Buf b = {.c = c};
    uint32_t count[P_COUNT] = {0};
    uint64_t weights = 0;
    if (!g) return false;
    print_ports(&b, g, "inputs", g->in.v, g->in.n);
    print_ports(&b, g, "outputs", g->out.v, g->out.n);
    if (dim_nsyms(c)) buf_puts(&b, "dims\n");
    for (uint32_t i = 0; i < dim_nsyms(c); i++)
        if (!dim_sym_info(c, i)->bound)
            print_range(&b, dim_sym_info(c, i)->name, dim_sym_info(c, i)->lo,
                        dim_sym_info(c, i)->hi);
    count_nodes(g, count, &weights);
    buf_printf(&b, "weights\n  %llu bytes\nprimitives as imported\n ", (unsigned long long)weights);
    for (int i = 0; i < P_COUNT; i++)
        if (count[i]) buf_printf(&b, " %s:%u", prim_name((PrimOp)i), count[i]);
    buf_puts(&b, "\n");
    bool ok = compile_describe(c, o, g, &b);
    fputs(buf_str(&b), out);
    return ok;
}
