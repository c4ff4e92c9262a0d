/* lir_chase.c: whether a kernel believes what it loads. */
#include <stdlib.h>

#include "lir_internal.h"

typedef struct Chase {
    const Lir *l;
    bool *loaded; /* by value: it depends on what was loaded */
    bool grew, found;
} Chase;

/* Whether one of operands [from, to) of instruction v does. */
static bool any(const Chase *c, uint32_t v, uint32_t from, uint32_t to) {
    const LIns *i = &c->l->ins.v[v];
    bool is = false;
    for (uint32_t k = from; k < to && k < i->narg; k++) is |= c->loaded[c->l->args.v[i->arg + k].i];
    return is;
}

static bool depends(Chase *c, uint32_t v) {
    const LIns *ins = c->l->ins.v, *i = &ins[v];
    uint32_t k = (uint32_t)i->imm, of = i->aux;
    switch (i->op) {
    case L_LOAD:
    case L_GATHER:
    case L_LOAD_MATRIX:
        c->found |= any(c, v, 0, 2);
        return true;
    case L_STORE:
    case L_SCATTER:
        c->found |= any(c, v, 0, 2);
        return false;
    case L_FOR:
        c->found |= any(c, v, 0, 3);
        return any(c, v, 0, 3);
    case L_CARRY:
        return any(c, of, 3 + k, 4 + k) || any(c, (uint32_t)ins[of].imm, k, k + 1);
    case L_WGMMA: /* its places come between values that are data */
        c->found |= any(c, v, lir_hopper_values(i), i->narg);
        return false;
    case L_STORE_MATRIX:
        c->found |= any(c, v, 0, 2);
        return false;
    case L_RESULT:
        if (ins[of].op == L_WGMMA) return true;
        if (lir_is_hopper(&ins[of])) return any(c, of, k, k + 1);
        if (ins[of].op == L_ENDFOR) return any(c, of, k, k + 1) || any(c, (uint32_t)ins[of].imm, 3 + k, 4 + k);
        return any(c, of, k, k + 1) || any(c, (uint32_t)ins[ins[of].imm].imm, k, k + 1) || any(c, (uint32_t)ins[of].imm, 0, 1);
    case L_ENDFOR:
    case L_IF:
    case L_ELSE:
    case L_ENDIF:
    case L_FAIL_IF:
    case L_PREFETCH:
        return false;
    case L_LANE_XOR:
    case L_LANE_FIRST:
    case L_EXP2:
    case L_HALVES:
    case L_MMA:
    case L_WGMMA_FENCE:
    case L_WGMMA_WAIT:
        return any(c, v, 0, i->narg);
    default:
        if (i->op > L_PTR_BYTES) c->found |= any(c, v, 0, i->narg); /* touches memory in a way of its own */
        return any(c, v, 0, i->narg);
    }
}

bool lir_chases(const Lir *l) {
    Chase c = {.l = l, .loaded = calloc(l->ins.n, sizeof(bool))};
    CHECK(c.loaded);
    do {
        c.grew = false;
        for (uint32_t v = 1; v < l->ins.n; v++) {
            bool is = depends(&c, v);
            c.grew |= is && !c.loaded[v];
            c.loaded[v] |= is;
        }
    } while (c.grew);
    free(c.loaded);
    return c.found;
}
