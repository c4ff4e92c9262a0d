/* pipeline.c: the table of passes and its manager: order, dumps, verification, timing, bisection. */
#include <string.h>
#include <time.h>

#include "internal.h"

const Pass pass_table[] = {
#define PASS(name, fn, level, needs, brief) {name, fn, level, needs, brief},
#include "passes.def"
#undef PASS
};
const int npasses = (int)(sizeof pass_table / sizeof *pass_table);

void passes_list(Buf *b) {
    for (int i = 0; i < npasses; i++) buf_printf(b, "  %-12s %s\n", pass_table[i].name, pass_table[i].brief);
}

void explain(PassCtx *p, const Graph *g, const Node *n, const char *fmt, ...) {
    if (!p->explain || !p->explain_out) return;
    const char *want = p->explain + (*p->explain == '%'), *source = loc_info(p->c, n->loc)->name;
    bool match = source && !strcmp(source, want);
    for (int r = 0; r < n->nout && !match; r++) {
        const char *name = val_info(g, n->out[r])->name;
        match = name && !strcmp(name, want);
    }
    if (!match) return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_printf(p->explain_out, "%s: %s (%s): %s\n", p->pass, want, prim_name(n->op), text);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const Pass *find(const char *name, size_t n) {
    for (int i = 0; i < npasses; i++)
        if (strlen(pass_table[i].name) == n && !memcmp(pass_table[i].name, name, n)) return &pass_table[i];
    return NULL;
}

static bool known(Ctx *c, const char *name, const char *option) {
    if (!name || !strcmp(name, "all") || find(name, strlen(name))) return true;
    diag(c, SEV_ERROR, (Loc){0}, "E0501", "--%s: there is no pass \"%s\" (see --list-passes)", option, name);
    return false;
}

/* Runs the pass on g and on the bodies of its loops and ifs; those that see to bodies themselves on g alone. */
static bool run_tree(Graph *g, PassCtx *p, const Pass *pass, bool region) {
    p->region = region;
    bool changed = pass->run(g, p);
    if (pass->run == pass_simplify || pass->run == pass_cse) return changed;
    for (uint32_t i = 0; i < g->node.n && !ctx_errors(g->c); i++) {
        const Node *n = g->node.v[i];
        if (n->op == P_LOOP) changed |= run_tree(((const LoopAttr *)n->attr)->body, p, pass, true);
        if (n->op != P_IF) continue;
        changed |= run_tree(((const IfAttr *)n->attr)->then_g, p, pass, true);
        changed |= run_tree(((const IfAttr *)n->attr)->else_g, p, pass, true);
    }
    return changed;
}

static bool run_one(Graph *g, PassCtx *p, const Pass *pass, const PassOptions *o) {
    double t0 = o->time_passes ? seconds() : 0;
    p->pass = pass->name;
    bool changed = run_tree(g, p, pass, false);
    if (o->time_passes) fprintf(stderr, "%-14s %8.2f ms%s\n", pass->name, 1e3 * (seconds() - t0), changed ? "" : "  (no change)");
    bool dump = o->dump_after && o->dump && (!strcmp(o->dump_after, pass->name) || (changed && !strcmp(o->dump_after, "all")));
    if (dump) {
        Buf b = {.c = g->c};
        buf_printf(&b, "# after %s\n", pass->name);
        graph_print(&b, g);
        fputs(buf_str(&b), o->dump);
    }
    if (ctx_errors(g->c)) return false;
    return !o->verify_each || graph_verify(g, pass->name);
}

bool passes_run(Graph *g, const PassOptions *o) {
    if (!known(g->c, o->stop_after, "stop-after") || !known(g->c, o->dump_after, "dump-after")) return false;
    PassCtx p = {.c = g->c, .target = o->target, .level = o->level, .max_changes = o->bisect, .explain = o->explain, .explain_out = o->explain_out};
    if (o->only) {
        for (const char *s = o->only; *s;) {
            size_t n = strcspn(s, ",");
            const Pass *pass = find(s, n);
            if (!pass) {
                diag(g->c, SEV_ERROR, (Loc){0}, "E0501", "--passes: there is no pass \"%.*s\" (see --list-passes)", (int)n, s);
                return false;
            }
            if (!run_one(g, &p, pass, o)) return false;
            s += n + (s[n] == ',');
        }
        return true;
    }
    for (int i = 0; i < npasses; i++) {
        bool wanted = pass_table[i].level <= o->level && (!o->target || !(pass_table[i].needs & ~o->target->flags));
        if (wanted && !run_one(g, &p, &pass_table[i], o)) return false;
        if (o->stop_after && !strcmp(o->stop_after, pass_table[i].name)) break;
    }
    return true;
}
