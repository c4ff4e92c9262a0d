/* op_matmul.c: MatMul, Gemm and Einsum as contracts. An axis that broadcasts (size 1 on one side) is dropped from that
 * operand rather than copied, so that a contract sees which axes each operand really has. Narrow floats are
 * accumulated in f32. */
#include "frontend/import.h"
#include <string.h>

void imp_matmul(Imp *m);
void imp_gemm(Imp *m);
void imp_einsum(Imp *m);

/* Makes two broadcasting dims agree. Returns which operands keep the axis (bit 0: a, bit 1: b) and the size. */
static int meet(Imp *m, Dim a, Dim b, Dim *size, const char *what)
{
    *size = a;
    if (dim_same(m->c, a, b))
        return 3;
    if (dim_is(m->c, b, 1))
        return 1;
    if (dim_is(m->c, a, 1))
        return *size = b, 2;
    b_guard(&m->b, G_BCAST, a, b, "%s do not broadcast", what);
    *size = dim_bcast(m->c, a, b);
    return 3;
}

/* [..B, M, K] x [..B, K, N]; operands of one dimension have no M or no N */
Val matmul(Imp *m, Val a, Val b, DType acc, DType out)
{
    enum { M = MAX_RANK, N, K };
    Ctx *c = m->c;
    int ra = rank_of(m, a), rb = rank_of(m, b);
    if (!ra || !rb) {
        ERR(m, "E0203", "operand %c is a scalar", ra ? 'B' : 'A');
        return (Val){0};
    }
    Dim ad[MAX_RANK], bd[MAX_RANK], od[MAX_RANK], na[MAX_RANK], nb[MAX_RANK];
    Dim wa[MAX_RANK], wb[MAX_RANK]; /* na and nb, as wide as the result */
    ContractAttr at = {.label = NO_LABELS, .acc = acc, .out = out};
    int ka = ra > 1 ? ra - 2 : 0, kb = rb > 1 ? rb - 2 : 0; /* batch axes */
    int batch = ka > kb ? ka : kb, ia = 0, ib = 0, io = 0, no = 0;
    dims_of(m, a, ad);
    dims_of(m, b, bd);
    for (int i = 0; i < batch; i++) {
        Dim one = DC(m, 1), x = i < batch - ka ? one : ad[i - (batch - ka)];
        Dim y = i < batch - kb ? one : bd[i - (batch - kb)];
        int both = meet(m, x, y, &od[no++], "the batch axes of A and B");
        if (both == 3 && (i < batch - ka || i < batch - kb)) /* size 1, absent on one side */
            both = i < batch - ka ? 2 : 1;
        if (both & 1) {
            na[ia] = x;
            wa[ia] = od[i];
            at.label[0][ia++] = (uint8_t)i;
        }
        if (both & 2) {
            nb[ib] = y;
            wb[ib] = od[i];
            at.label[1][ib++] = (uint8_t)i;
        }
        at.label[2][io++] = (uint8_t)i;
    }
    if (ra > 1) {
        na[ia] = wa[ia] = ad[ra - 2];
        at.label[0][ia++] = at.label[2][io++] = M;
    }
    Dim k = ad[ra - 1], kk = bd[rb > 1 ? rb - 2 : 0];
    if (dim_differ(c, k, kk)) {
        Buf sa = {.c = c}, sb = {.c = c};
        type_print(&sa, c, val_type(m->b.g, a));
        type_print(&sb, c, val_type(m->b.g, b));
        ERR(m, "E0203", "inner sizes differ: %s times %s", buf_str(&sa), buf_str(&sb));
        return (Val){0};
    }
    b_guard(&m->b, G_EQ, k, kk, "the inner sizes of A and B differ");
    na[ia] = wa[ia] = k;
    at.label[0][ia++] = K;
    nb[ib] = wb[ib] = kk;
    at.label[1][ib++] = K;
    if (rb > 1) {
        nb[ib] = wb[ib] = bd[rb - 1];
        at.label[1][ib++] = at.label[2][io++] = N;
    }
    Val x = b_broadcast(&m->b, reshape_to(m, a, ia, na), ia, wa);
    Val y = b_broadcast(&m->b, reshape_to(m, b, ib, nb), ib, wb);
    return b_contract_attr(&m->b, &at, x, y);
}

void imp_matmul(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    result(m, 0, matmul(m, m->in[0], m->in[1], wide_type(t), t));
}

/* alpha * A' * B' + beta * C */
void imp_gemm(Imp *m)
{
    Val a = m->in[0], b = m->in[1], cc = operand(m, 2);
    DType t = dtype_of(m, a);
    double alpha = attr_f(m, "alpha"), beta = attr_f(m, "beta");
    bool ta = attr_i(m, "transA") != 0, tb = attr_i(m, "transB") != 0;
    if (rank_of(m, a) != 2 || rank_of(m, b) != 2) {
        ERR(m, "E0203", "expected matrices, got ranks %d and %d", rank_of(m, a), rank_of(m, b));
        return;
    }
    Dim k = dim_of(m, a, ta ? 0 : 1), kk = dim_of(m, b, tb ? 1 : 0);
    if (dim_differ(m->c, k, kk)) {
        Buf sa = {.c = m->c}, sb = {.c = m->c};
        type_print(&sa, m->c, val_type(m->b.g, a));
        type_print(&sb, m->c, val_type(m->b.g, b));
        ERR(m, "E0203", "inner sizes differ: %s%s times %s%s", buf_str(&sa), ta ? " transposed" : "", buf_str(&sb),
            tb ? " transposed" : "");
        return;
    }
    b_guard(&m->b, G_EQ, k, kk, "the inner sizes of A and B differ");
    static const char *const specs[2][2] = {{"mk,kn->mn", "mk,nk->mn"}, {"km,kn->mn", "km,nk->mn"}};
    Val y = b_contract(&m->b, specs[ta][tb], a, b, wide_type(t), t);
    if (alpha != 1)
        y = b_binary(&m->b, S_MUL, y, scalar_of(m, t, alpha));
    if (cc.i && beta != 0) {
        if (rank_of(m, cc) > 2) {
            ERR(m, "E0203", "C of rank %d does not broadcast to a matrix", rank_of(m, cc));
            return;
        }
        if (beta != 1)
            cc = b_binary(&m->b, S_MUL, cc, scalar_of(m, t, beta));
        y = b_binary(&m->b, S_ADD, y, cc);
    }
    result(m, 0, y);
}

/* ---- Einsum */

enum { LABELS = 32, TERMS = 16 };
typedef struct Term { Val v; int n; uint8_t label[MAX_RANK]; } Term; /* no label twice */
typedef struct Ein {
    int nterm, nout, nlabel, ndots; /* ndots: axes that the ellipsis stands for; labels 0..ndots-1 */
    Term term[TERMS];
    uint8_t out[MAX_RANK];
    uint8_t of[128];                /* letter -> label + 1 */
    int uses[LABELS];               /* over all terms */
} Ein;

static bool letter(char ch) { return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z'); }

static int label_of(Imp *m, Ein *e, char ch)
{
    if (!e->of[(int)ch]) {
        if (e->nlabel == LABELS) {
            UNSUP(m, "attribute equation: more than %d different axes", LABELS);
            return -1;
        }
        e->of[(int)ch] = (uint8_t)(++e->nlabel);
    }
    return e->of[(int)ch] - 1;
}

/* One list of letters with at most one ellipsis, `rank` axes in all (-1: the result). */
static bool labels(Imp *m, Ein *e, const char *s, size_t len, int rank, uint8_t *out, int *n)
{
    int letters = 0, dots = -1;
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        if (letter(s[i]))
            letters++;
        else if (s[i] == '.' && i + 2 < len && s[i + 1] == '.' && s[i + 2] == '.' && dots < 0)
            dots = (int)i, i += 2;
        else if (s[i] != ' ') {
            ERR(m, "E0202", "attribute equation: \"%.*s\" is malformed", (int)(len < 60 ? len : 60), s);
            return false;
        }
    }
    int fill = dots < 0 ? 0 : rank < 0 ? e->ndots : rank - letters;
    if (letters + fill > MAX_RANK || fill < 0 || (rank >= 0 && letters + fill != rank)) {
        ERR(m, "E0203", "attribute equation: \"%.*s\" does not fit rank %d", (int)(len < 60 ? len : 60), s, rank);
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (letter(s[i])) {
            int l = label_of(m, e, s[i]);
            if (l < 0)
                return false;
            out[(*n)++] = (uint8_t)l;
        } else if (s[i] == '.') {
            for (int k = 0; k < fill; k++)
                out[(*n)++] = (uint8_t)(e->ndots - fill + k);
            i += 2;
        }
    }
    return true;
}

/* Repeated labels of one operand: its diagonal. */
static void diagonal(Imp *m, Term *t)
{
    Dim d[MAX_RANK], od[MAX_RANK];
    Expr idx[MAX_RANK];
    int n = 0;
    uint8_t kept[MAX_RANK];
    dims_of(m, t->v, d);
    for (int i = 0; i < t->n; i++) {
        int k = 0;
        while (k < n && kept[k] != t->label[i])
            k++;
        if (k == n) {
            kept[n] = t->label[i];
            od[n++] = d[i];
        } else {
            b_guard(&m->b, G_EQ, d[i], od[k], "axes with the same letter have different sizes");
        }
        idx[i] = xaxis(m, k);
    }
    if (n == t->n)
        return;
    t->v = map_over(m, load_at(m, 0, dtype_of(m, t->v), t->n, idx), 1, &t->v, n, od);
    memcpy(t->label, kept, (size_t)n);
    t->n = n;
}

static int find(const uint8_t *list, int n, int label)
{
    for (int i = 0; i < n; i++)
        if (list[i] == label)
            return i;
    return -1;
}

/* Sum over the axes of t whose label is nowhere else; drop axes of size 1 that another term has larger. */
static void reduce_own(Imp *m, const Ein *e, Term *t, int first_other)
{
    uint32_t sum = 0, drop = 0;
    for (int i = 0; i < t->n; i++) {
        int l = t->label[i];
        bool elsewhere = find(e->out, e->nout, l) >= 0;
        for (int k = first_other; k < e->nterm; k++)
            elsewhere |= &e->term[k] != t && find(e->term[k].label, e->term[k].n, l) >= 0;
        if (!elsewhere)
            sum |= 1u << i;
        else if (dim_is(m->c, dim_of(m, t->v, i), 1))
            for (int k = first_other; k < e->nterm; k++) {
                int p = &e->term[k] == t ? -1 : find(e->term[k].label, e->term[k].n, l);
                if (p >= 0 && !dim_is(m->c, dim_of(m, e->term[k].v, p), 1))
                    drop |= 1u << i;
            }
    }
    if (sum)
        t->v = b_reduce1(&m->b, R_SUM, t->v, sum, true);
    if (sum | drop)
        t->v = drop_axes(m, t->v, sum | drop);
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (!((sum | drop) >> i & 1))
            t->label[n++] = t->label[i];
    t->n = n;
}

/* acc * t; labels that neither the result nor a later term has are summed */
static void multiply(Imp *m, const Ein *e, Term *acc, Term *t, int next)
{
    DType ty = dtype_of(m, acc->v);
    ContractAttr a = {.label = NO_LABELS, .acc = wide_type(ty), .out = ty};
    Term r = {.n = 0};
    for (int side = 0; side < 2; side++) {
        const Term *s = side ? t : acc;
        for (int i = 0; i < s->n; i++) {
            int l = s->label[i];
            a.label[side][i] = (uint8_t)l;
            bool needed = find(e->out, e->nout, l) >= 0;
            for (int k = next; k < e->nterm; k++)
                needed |= find(e->term[k].label, e->term[k].n, l) >= 0;
            if (needed && find(r.label, r.n, l) < 0 && r.n < MAX_RANK)
                r.label[r.n++] = (uint8_t)l;
            int p = find(t->label, t->n, l);
            if (!side && p >= 0)
                b_guard(&m->b, G_EQ, dim_of(m, s->v, i), dim_of(m, t->v, p),
                        "axes with the same letter have different sizes");
        }
    }
    memcpy(a.label[2], r.label, (size_t)r.n);
    r.v = b_contract_attr(&m->b, &a, acc->v, t->v);
    *acc = r;
}

static bool equation(Imp *m, Ein *e)
{
    const char *eq = attr_s(m, "equation"), *arrow = strstr(eq, "->");
    const char *end = arrow ? arrow : eq + strlen(eq), *s = eq;
    int count[LABELS] = {0};
    e->nterm = (int)m->n->nin;
    if (e->nterm < 1 || e->nterm > TERMS) {
        UNSUP(m, "%d operands (at most %d)", e->nterm, TERMS);
        return false;
    }
    for (int k = 0; k < e->nterm; k++) { /* how many axes an ellipsis stands for */
        size_t len = 0;
        int letters = 0;
        bool dots = false;
        for (; s + len < end && s[len] != ','; len++) {
            letters += letter(s[len]);
            dots |= s[len] == '.';
        }
        int fill = rank_of(m, m->in[k]) - letters;
        if (dots && fill > e->ndots)
            e->ndots = fill;
        s += len + (s + len < end);
    }
    e->nlabel = e->ndots;
    s = eq;
    for (int k = 0; k < e->nterm; k++) {
        size_t len = 0;
        while (s + len < end && s[len] != ',')
            len++;
        Term *t = &e->term[k];
        t->v = m->in[k];
        if (!labels(m, e, s, len, rank_of(m, t->v), t->label, &t->n))
            return false;
        for (int i = 0; i < t->n; i++)
            count[t->label[i]]++;
        s += len;
        if ((k < e->nterm - 1) != (s < end)) {
            ERR(m, "E0203", "attribute equation: \"%.60s\" does not have %d terms", eq, e->nterm);
            return false;
        }
        s += s < end;
    }
    if (arrow) {
        int before = e->nlabel;
        if (!labels(m, e, arrow + 2, strlen(arrow + 2), -1, e->out, &e->nout))
            return false;
        bool bad = e->nlabel != before;
        for (int i = 0; i < e->nout; i++)
            bad |= find(e->out, i, e->out[i]) >= 0;
        if (bad)
            ERR(m, "E0202", "attribute equation: the result of \"%.60s\" is malformed", eq);
        return !bad;
    }
    for (int i = 0; i < e->ndots; i++)
        e->out[e->nout++] = (uint8_t)i;
    for (int ch = 'A'; ch <= 'z'; ch++) /* letters that occur once, in alphabetical order */
        if (letter((char)ch) && e->of[ch] && count[e->of[ch] - 1] == 1 && e->nout < MAX_RANK)
            e->out[e->nout++] = (uint8_t)(e->of[ch] - 1);
    return true;
}

void imp_einsum(Imp *m)
{
    Ein *e = NEW(m->c, Ein);
    for (uint32_t k = 1; k < m->n->nin; k++)
        if (dtype_of(m, m->in[k]) != dtype_of(m, m->in[0])) {
            ERR(m, "E0204", "operand number %u: expected %s, as the first operand, got %s", k, dt_name(dtype_of(m, m->in[0])),
                dt_name(dtype_of(m, m->in[k])));
            return;
        }
    if (!equation(m, e))
        return;
    for (int k = 0; k < e->nterm; k++)
        diagonal(m, &e->term[k]);
    for (int k = 0; k < e->nterm; k++)
        reduce_own(m, e, &e->term[k], 0);
    Term acc = e->term[0];
    for (int k = 1; k < e->nterm; k++)
        multiply(m, e, &acc, &e->term[k], k + 1);
    /* order the axes; a letter of the ellipsis that every operand lacks has size 1 */
    int perm[MAX_RANK], n = 0;
    uint32_t missing = 0;
    for (int i = 0; i < e->nout; i++) {
        int p = find(acc.label, acc.n, e->out[i]);
        if (p >= 0)
            perm[n++] = p;
        else
            missing |= 1u << i;
    }
    if (n != acc.n || !acc.v.i)
        return;
    result(m, 0, insert_axes(m, b_permute(&m->b, acc.v, perm), e->nout, missing));
}
