/* sched.c: the table of templates, and the choice among them by analytic cost (never by measuring: equal inputs give
 * equal bytes). */
#include <string.h>

#include "emit_internal.h"
#include "ukr.h"

enum { MAX_CANDIDATES = 16 };

static const Tmpl *const table[] = {&tmpl_nest,
#define UKR(name) &tmpl_##name,
#include "ukr.def"
#undef UKR
};

void sched_print(Buf *b, const Sched *s) {
    buf_puts(b, s->tmpl->name);
    const char *p = s->tmpl->params;
    for (int i = 0; *p; i++) {
        size_t n = strcspn(p, " ");
        buf_printf(b, " %.*s=%lld", (int)n, p, (long long)s->par[i]);
        p += n;
        while (*p == ' ') p++;
    }
}

static bool choose(const Kernel *k, const Target *t, const char *forced, Sched *best, double *cycles) {
    bool found = false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const Tmpl *m = table[i];
        if ((m->features & t->flags) != m->features || !m->match(k, t)) continue;
        if (forced && i > 0 && strcmp(forced, m->name)) continue;
        Sched cand[MAX_CANDIDATES];
        memset(cand, 0, sizeof cand);
        int n = m->candidates(k, t, cand, MAX_CANDIDATES);
        for (int j = 0; j < n; j++) {
            cand[j].tmpl = m;
            double cost = m->cost(k, &cand[j], t);
            if (found && cost >= *cycles && !(forced && i > 0)) continue;
            *best = cand[j];
            *cycles = cost;
            found = true;
        }
    }
    return found;
}

KernelCode *kernel_compile(Ctx *c, const Kernel *k, const Target *t, const char *forced) {
    Kernel *own = NEW(c, Kernel); /* axes may be merged */
    *own = *k;
    own->stage = ctx_dup(c, k->stage, sizeof(Stage) * k->nstage);
    kernel_collapse(own);
    KernelCode *code = NEW(c, KernelCode);
    if (!choose(own, t, forced, &code->sched, &code->cycles)) {
        diag(c, SEV_UNSUPPORTED, k->loc, "U0401", "no template can compile this (%s)", k->name);
        return NULL;
    }
    Emit e = {.c = c, .l = lir_new(c, k->name, 0, 0), .k = own, .s = &code->sched, .t = t, .code = code};
    code->lir = e.l;
    emit_begin(&e);
    code->sched.tmpl->build(&e);
    CHECK(lir_verify(c, code->lir));
    return code;
}

const char *templates_text(Ctx *c) {
    Buf b = {.c = c};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) buf_printf(&b, "%-10s %s\n", table[i]->name, table[i]->params);
    return buf_str(&b);
}
