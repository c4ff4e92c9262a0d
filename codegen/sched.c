/* sched.c: the table of templates, and the choice among them by analytic cost (never by measuring: equal inputs give
 * equal bytes). */
#include <stdlib.h>
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

/* The length of the name that a forced schedule, "NAME [PARAMETER=VALUE ..]", begins with. */
static size_t name_length(const char *forced) { return strcspn(forced, " "); }

static bool names(const char *forced, const Tmpl *m) {
    return strlen(m->name) == name_length(forced) && !strncmp(forced, m->name, name_length(forced));
}

/* The values of a forced schedule: calls see(data, index of the parameter in m, value) for each until one is refused. false: refused, or no such
 * parameter, or no number. */
typedef bool (*SeeFn)(void *data, int parameter, int64_t value);
static bool each_value(const char *forced, const Tmpl *m, SeeFn see, void *data) {
    for (const char *p = forced + name_length(forced); *(p += strspn(p, " "));) {
        size_t n = strcspn(p, "= ");
        int at = 0;
        const char *q = m->params;
        while (*q && !(strcspn(q, " ") == n && !strncmp(p, q, n))) {
            q += strcspn(q, " ");
            q += strspn(q, " ");
            at++;
        }
        char *end;
        if (!*q || p[n] != '=') return false;
        int64_t value = strtoll(p + n + 1, &end, 10);
        if (end == p + n + 1 || (*end && *end != ' ') || !see(data, at, value)) return false;
        p = end;
    }
    return true;
}

static bool has_value(void *sched, int parameter, int64_t value) { return ((const Sched *)sched)->par[parameter] == value; }
static bool any_value(void *none, int parameter, int64_t value) {
    (void)none, (void)parameter, (void)value;
    return true;
}

bool sched_check(Ctx *c, const char *forced) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!names(forced, table[i])) continue;
        if (each_value(forced, table[i], any_value, NULL)) return true;
        diag(c, SEV_ERROR, (Loc){0}, "E0405", "--sched: '%s' is not NAME [PARAMETER=VALUE ..]; the parameters of %s are: %s", forced, table[i]->name,
             table[i]->params);
        return false;
    }
    diag(c, SEV_ERROR, (Loc){0}, "E0405", "--sched: there is no template '%.*s'; accelc --list-templates names them", (int)name_length(forced),
         forced);
    return false;
}

/* had: it is what was forced */
static bool choose(const Kernel *k, const Target *t, const char *forced, Sched *best, double *cycles, bool *had) {
    bool found = false;
    *had = false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const Tmpl *m = table[i];
        if ((m->features & t->flags) != m->features || !m->match(k, t)) continue;
        if (forced && i > 0 && !names(forced, m)) continue;
        Sched cand[MAX_CANDIDATES];
        memset(cand, 0, sizeof cand);
        int n = m->candidates(k, t, cand, MAX_CANDIDATES);
        for (int j = 0; j < n; j++) {
            cand[j].tmpl = m;
            double cost = m->cost(k, &cand[j], t);
            bool wanted = forced && names(forced, m) && each_value(forced, m, has_value, &cand[j]);
            if (wanted < *had || (found && wanted == *had && cost >= *cycles)) continue;
            *best = cand[j];
            *cycles = cost;
            *had = wanted;
            found = true;
        }
    }
    return found;
}

KernelCode *kernel_compile(Ctx *c, const Kernel *k, const Target *t, const char *forced) {
    Kernel *own = NEW(c, Kernel); /* axes may be merged */
    *own = *k;
    own->stage = ctx_dup(c, k->stage, sizeof(Stage) * k->nstage);
    kernel_collapse(own, !(t->flags & F_SIMD));
    if (t->flags & F_SIMD) kernel_moves(own);
    KernelCode *code = NEW(c, KernelCode);
    const char *tuned = tuned_schedule(own, t, &code->product);
    bool had = false;
    if (tuned && !forced) choose(own, t, tuned, &code->sched, &code->cycles, &had);
    if (!had && !choose(own, t, forced, &code->sched, &code->cycles, &had)) {
        diag(c, SEV_UNSUPPORTED, k->loc, "U0401", "no template can compile this (%s)", k->name);
        return NULL;
    }
    Emit e = {.c = c, .l = lir_new(c, k->name, 0, 0), .k = own, .s = &code->sched, .t = t, .code = code};
    code->lir = e.l;
    emit_begin(&e);
    code->sched.tmpl->build(&e);
    kernel_work(c, k, code);
    CHECK(lir_verify(c, code->lir));
    return code;
}

const char *templates_text(Ctx *c) {
    Buf b = {.c = c};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) buf_printf(&b, "%-10s %s\n", table[i]->name, table[i]->params);
    return buf_str(&b);
}
