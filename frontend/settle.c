/* settle.c: which branch of an If is compiled where the branches give results of different rank. In: a model before its import; out: a choice for
 * each such If, in the order in which the importer meets them.
 *
 * Exporters write `x.squeeze(d)` of a size that they do not know as an If between a squeezed and the same value. What follows is meant for one of
 * the ranks. If no type is declared for the result, the model is imported with one branch and the other, in a context that is thrown away: those
 * branches are taken with which the rest can be imported, and has results of the ranks that the model declares. At run time a guard checks that
 * the condition is as chosen. */
#include <string.h>

#include "frontend/internal.h"

enum { ATTEMPTS = 32, CHOICES = 16 };

/* Is there an If whose declarations leave open whether its results have one rank? */
static bool is_open(const SrcGraph *g) {
    for (uint32_t i = 0; i < g->node.n; i++) {
        const SrcNode *n = &g->node.v[i];
        const SrcGraph *branch[2] = {0};
        uint32_t nbranch = 0;
        for (uint32_t a = 0; a < n->nattr; a++)
            for (uint32_t k = 0; k < n->attr[a].ngraph; k++) {
                if (is_open(n->attr[a].graph[k])) return true;
                if (nbranch < 2) branch[nbranch++] = n->attr[a].graph[k];
            }
        if (strcmp(n->op, "If") || *n->domain || nbranch < 2 || branch[0]->out.n != branch[1]->out.n) continue;
        for (uint32_t k = 0; k < branch[0]->out.n; k++) {
            int rank = model_type_rank(branch[0]->out.v[k].type);
            if (rank < 0 || rank != model_type_rank(branch[1]->out.v[k].type)) return true;
        }
    }
    return false;
}

int settle_choice(Model *m) {
    if (m->settling && ctx_errors(m->c) != m->errors) return 0; /* a choice before this one is wrong */
    uint32_t k = m->met++;
    return k < m->nchoice ? m->choice[k] : m->settling ? 0 : -1;
}

typedef struct Attempt { bool imported; uint32_t met, odd; } Attempt;

static Attempt attempt(const Model *m, const char *name, const uint8_t *choice, uint32_t n) {
    Ctx *c = ctx_new();
    FrontendOptions o = *m->opt;
    o.files = NULL;
    Model t = {.c = c, .opt = &o, .file = m->file, .dir = m->dir, .map = m->map, .size = m->size, .mapped = m->mapped, .choice = choice,
               .nchoice = n, .settling = true};
    bool imported = model_build(&t, name) && import_model(&t);
    ctx_free(c);
    return (Attempt){imported, t.met, t.odd};
}

void settle(Model *m, const char *name) {
    uint8_t choice[CHOICES] = {0};
    uint32_t given = 0, odd = UINT32_MAX;
    if (m->opt->extract || !is_open(m->graph)) return;
    for (int k = 0; k < ATTEMPTS && odd; k++) {
        Attempt a = attempt(m, name, choice, given);
        uint32_t last = a.met;
        if (last > CHOICES) return;
        if (a.imported && a.odd < odd) {
            odd = a.odd;
            m->choice = ctx_dup(m->c, choice, sizeof choice);
            m->nchoice = last;
        }
        while (last && choice[last - 1]) last--;
        if (!last) return;
        choice[last - 1] = 1;
        memset(choice + last, 0, CHOICES - last);
        given = last;
    }
}
