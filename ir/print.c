/* print.c: a graph as text that parse.c reads back: print(parse(print(g))) == print(g). The grammar
 * is in IR.md.
 *
 * Inputs keep their names, other values are numbered per region in order of definition. Types are
 * always printed. The symbols in use stand in a header line in the order of their creation, so that
 * reading the text makes the same normal forms. Constants of more than 4 KiB are given by a hash
 * only: the reader fills in noise of the same type and shape. */
#include "parse_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Pr {
    Buf *b;
    Ctx *c;
    Graph *g;
    const char **name;          /* of each value of g */
    int depth;
} Pr;

typedef struct Uses { Ctx *c; unsigned char *seen; uint32_t n; } Uses;

static void region(Pr *up, Graph *g, const char *end);

/* ==== words ================================================================================== */

bool is_text_word(const char *s) {
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_')) return false;
    for (; *s; s++) {
        bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                  (*s >= '0' && *s <= '9') || *s == '_' || *s == '.';
        if (!ok) return false;
    }
    return true;
}

static void put_quoted_n(Buf *b, const char *s, size_t n) {
    buf_puts(b, "\"");
    for (; n--; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\') buf_printf(b, "\\%c", ch);
        else if (ch < 32 || ch == 127) buf_printf(b, "\\x%02x", ch);
        else buf_printf(b, "%c", ch);
    }
    buf_puts(b, "\"");
}

static void put_quoted(Buf *b, const char *s) { put_quoted_n(b, s ? s : "", s ? strlen(s) : 0); }

static void put_name(Buf *b, const char *s) {
    if (is_text_word(s)) buf_puts(b, s);
    else put_quoted(b, s);
}

static void put_val(Pr *p, Val v) {
    v = graph_resolve(p->g, v);
    if (!v.i) {
        buf_puts(p->b, "_");
        return;
    }
    buf_puts(p->b, "%");
    buf_puts(p->b, p->name[v.i] ? p->name[v.i] : "?");
}

static void put_vals(Pr *p, const Val *v, unsigned n) {
    for (unsigned k = 0; k < n; k++) {
        buf_puts(p->b, k ? ", " : " ");
        put_val(p, v[k]);
    }
}

static void put_type(Pr *p, const Type *t) { type_print(p->b, p->c, t); }

static void put_dims(Pr *p, const char *word, const Dim *d, int n) {
    buf_printf(p->b, " %s%s[", word, *word ? " " : "");
    for (int k = 0; k < n; k++) {
        if (k) buf_puts(p->b, ", ");
        dim_print(p->b, p->c, d[k]);
    }
    buf_puts(p->b, "]");
}

static void put_ints(Pr *p, const char *word, const int64_t *v, int n) {
    buf_printf(p->b, " %s [", word);
    for (int k = 0; k < n; k++) buf_printf(p->b, "%s%lld", k ? ", " : "", (long long)v[k]);
    buf_puts(p->b, "]");
}

static void put_float(Buf *b, DType t, double v) {
    if (isnan(v)) buf_puts(b, "nan");
    else if (isinf(v)) buf_puts(b, v < 0 ? "-inf" : "inf");
    else buf_printf(b, t == DT_F64 || t == DT_F8E8M0 ? "%.17g" : "%.9g", v);
}

static void put_scalar(Buf *b, Scalar s) {
    if (dt_is_float(s.t)) put_float(b, s.t, s.f);
    else if (s.t == DT_U64) buf_printf(b, "%llu", (unsigned long long)s.i);
    else buf_printf(b, "%lld", (long long)s.i);
}

static void put_bodies(Pr *p, const Expr *e, int n) {
    buf_puts(p->b, " {");
    for (int k = 0; k < n; k++) {
        buf_puts(p->b, k ? ", " : " ");
        expr_print(p->b, p->c, e[k]);
    }
    buf_puts(p->b, " }");
}

/* ==== constants ============================================================================== */

static void put_element(Buf *b, DType t, const char *p, int64_t i) {
    if (t == DT_STR) {
        struct { const char *ptr; uint64_t len; } s;
        memcpy(&s, p + i * 16, sizeof s);
        put_quoted_n(b, s.ptr, s.len);
        return;
    }
    if (t == DT_C64 || t == DT_C128) {
        DType part = t == DT_C64 ? DT_F32 : DT_F64;
        Cell x[2];
        cells_load(part, x, p + i * ev_width(t), 1, 2);
        put_float(b, part, x[0].f);
        buf_puts(b, " ");
        put_float(b, part, x[1].f);
        return;
    }
    Cell x;
    cells_load(t, &x, p + i * ev_width(t), 1, 1);
    put_scalar(b, cell_scalar(t, x));
}

static void attr_const(Pr *p, const Node *n) {
    const ConstAttr *a = n->attr;
    const ConstData *d = a->data;
    buf_puts(p->b, " ");
    put_type(p, &a->type);
    int64_t one = 1;
    Type flat = type_consts(p->c, d->dtype, 1, d->splat ? &one : &d->count);
    ConstData head = *d;
    if (d->splat) head.count = 1;
    head.splat = false;
    if (d->splat || d->count <= CONST_LIST) {
        const Tensor *t = tensor_from_const(p->c, &head, &flat);
        buf_puts(p->b, d->splat ? " splat " : " {");
        for (int64_t k = 0; t && k < tensor_count(t); k++) {
            if (k) buf_puts(p->b, ", ");
            put_element(p->b, d->dtype, t->data, k);
        }
        if (!d->splat) buf_puts(p->b, "}");
    } else if (d->bytes <= CONST_HEX && d->dtype != DT_STR) {
        buf_puts(p->b, " hex \"");
        for (size_t k = 0; k < d->bytes; k++)
            buf_printf(p->b, "%02x", ((const unsigned char *)d->data)[k]);
        buf_puts(p->b, "\"");
    } else {
        buf_printf(p->b, " blob \"%016llx\"",
                   (unsigned long long)hash_bytes(d->data, d->bytes, d->dtype));
    }
}

/* ==== attributes ============================================================================= */

static void attr_map(Pr *p, const Node *n) {
    const MapAttr *a = n->attr;
    put_bodies(p, a->body, n->nout);
}

static void put_axes(Pr *p, uint32_t axes) {
    buf_puts(p->b, " [");
    for (int d = 0, k = 0; d < 32; d++) {
        if (axes >> d & 1) buf_printf(p->b, "%s%d", k++ ? ", " : "", d);
    }
    buf_puts(p->b, "]");
}

/* " max" if comb, init and acc are those that the short form stands for. */
static const FoldName *fold_of(Pr *p, const Node *n, const Expr *comb, const Scalar *init,
                               const DType *acc) {
    if (n->nout != 1 || acc[0] != fold_acc((DType)val_type(p->g, n->out[0])->dtype)) return NULL;
    for (int k = 0; k < fold_count; k++) {
        Scalar s = fold_init(&fold_table[k], acc[0]);
        bool same = init[0].t == s.t && init[0].i == s.i; /* by bits: f and i share them */
        if (same && comb[0].i && comb[0].i == fold_comb(p->c, &fold_table[k], acc[0]).i)
            return &fold_table[k];
    }
    return NULL;
}

static void put_comb(Pr *p, const Node *n, const Expr *comb, const Scalar *init, const DType *acc) {
    if (fold_of(p, n, comb, init, acc)) return;
    put_bodies(p, comb, n->nout);
    for (int k = 0; k < n->nout; k++) {
        buf_puts(p->b, k ? ", " : " init ");
        put_scalar(p->b, init[k]);
    }
    for (int k = 0; k < n->nout; k++) buf_printf(p->b, "%s%s", k ? ", " : " acc ", dt_name(acc[k]));
}

static void attr_reduce(Pr *p, const Node *n) {
    const ReduceAttr *a = n->attr;
    const FoldName *f = fold_of(p, n, a->comb, a->init, a->acc);
    if (f) buf_printf(p->b, ".%s", f->name);
    put_axes(p, a->axes);
    if (a->keep) buf_puts(p->b, " keep");
    put_comb(p, n, a->comb, a->init, a->acc);
}

static void attr_scan(Pr *p, const Node *n) {
    const ScanAttr *a = n->attr;
    const FoldName *f = fold_of(p, n, a->comb, a->init, a->acc);
    if (f) buf_printf(p->b, ".%s", f->name);
    buf_printf(p->b, " axis %d", a->axis);
    if (a->reverse) buf_puts(p->b, " reverse");
    if (a->exclusive) buf_puts(p->b, " exclusive");
    put_comb(p, n, a->comb, a->init, a->acc);
}

static void attr_contract(Pr *p, const Node *n) {
    const ContractAttr *a = n->attr;
    static const char *const sep[3] = {" \"", ",", "->"};
    for (int s = 0; s < 3; s++) {
        int rank = val_type(p->g, s < 2 ? n->in[s] : n->out[0])->rank;
        buf_puts(p->b, sep[s]);
        for (int d = 0; d < rank; d++) buf_printf(p->b, "%c", LABELS[a->label[s][d] & 31]);
    }
    buf_puts(p->b, "\"");
    if (a->acc != a->out) buf_printf(p->b, " acc %s", dt_name(a->acc));
}

static void attr_dims(Pr *p, const Node *n) {
    const DimsAttr *a = n->attr;
    put_dims(p, "", a->dim, a->rank);
}

static void attr_permute(Pr *p, const Node *n) {
    const PermAttr *a = n->attr;
    buf_puts(p->b, " [");
    for (int d = 0; d < val_type(p->g, n->out[0])->rank; d++)
        buf_printf(p->b, "%s%d", d ? ", " : "", a->perm[d]);
    buf_puts(p->b, "]");
}

static void attr_slice(Pr *p, const Node *n) {
    const SliceAttr *a = n->attr;
    int rank = val_type(p->g, n->in[0])->rank;
    put_dims(p, "start", a->start, rank);
    if (n->op == P_SLICE) put_dims(p, "size", a->size, rank);
    bool plain = true;
    for (int d = 0; a->step && d < rank; d++) plain &= a->step[d] == 1;
    if (!plain) put_ints(p, "step", a->step, rank);
}

static void attr_pad(Pr *p, const Node *n) {
    const PadAttr *a = n->attr;
    int rank = val_type(p->g, n->in[0])->rank;
    put_dims(p, "lo", a->lo, rank);
    put_dims(p, "hi", a->hi, rank);
    bool plain = true;
    for (int d = 0; a->interior && d < rank; d++) plain &= a->interior[d] == 0;
    if (!plain) put_ints(p, "interior", a->interior, rank);
    if (a->mode != PAD_VALUE) {
        buf_printf(p->b, " %s", pad_modes[a->mode]);
    } else if (n->nin == 1 && a->value.t) {
        buf_puts(p->b, " value ");
        put_scalar(p->b, a->value);
    }
}

static void attr_axis(Pr *p, const Node *n) {
    buf_printf(p->b, " axis %d", ((const AxisAttr *)n->attr)->axis);
}

static void attr_window(Pr *p, const Node *n) {
    const WindowAttr *a = n->attr;
    int64_t axis[4];
    for (int k = 0; k < a->n; k++) axis[k] = a->axis[k];
    put_ints(p, "axes", axis, a->n);
    put_dims(p, "size", a->size, a->n);
    put_ints(p, "stride", a->stride, a->n);
    put_ints(p, "dilation", a->dilation, a->n);
}

static void attr_gather(Pr *p, const Node *n) {
    const GatherAttr *a = n->attr;
    buf_printf(p->b, " axis %d %s", a->axis, oob_names[a->oob]);
}

static void attr_scatter(Pr *p, const Node *n) {
    const ScatterAttr *a = n->attr;
    if (a->elements) buf_printf(p->b, " elements axis %d", a->axis);
    buf_printf(p->b, " %s", scatter_modes[a->mode]);
}

static void attr_sort(Pr *p, const Node *n) {
    const SortAttr *a = n->attr;
    buf_printf(p->b, " axis %d keys %d", a->axis, a->nkeys);
    if (a->descending) buf_puts(p->b, " descending");
    if (a->stable) buf_puts(p->b, " stable");
}

static void attr_topk(Pr *p, const Node *n) {
    const TopkAttr *a = n->attr;
    buf_printf(p->b, " axis %d %s%s k ", a->axis, a->largest ? "largest" : "smallest",
               a->sorted ? " sorted" : "");
    dim_print(p->b, p->c, a->k);
}

static void attr_compact(Pr *p, const Node *n) {
    buf_puts(p->b, " bound ");
    dim_print(p->b, p->c, ((const CompactAttr *)n->attr)->bound);
}

static void attr_loop(Pr *p, const Node *n) {
    const LoopAttr *a = n->attr;
    buf_printf(p->b, " carried %u scan %u", a->ncarried, a->nscan_out);
    if (a->iter.i) {
        buf_puts(p->b, " iter ");
        dim_print(p->b, p->c, a->iter);
    }
}

static void attr_guard(Pr *p, const Node *n) {
    const GuardAttr *a = n->attr;
    buf_printf(p->b, " %s", guard_names[a->cmp]);
    if (a->cmp != G_TRUE) {
        buf_puts(p->b, " ");
        dim_print(p->b, p->c, a->a);
        buf_puts(p->b, ", ");
        dim_print(p->b, p->c, a->b);
    }
    buf_puts(p->b, " ");
    put_quoted(p->b, a->text);
}

static void attr_device(Pr *p, const Node *n) {
    buf_printf(p->b, " device %d", ((const CopyAttr *)n->attr)->device);
}

static void attr_seq(Pr *p, const Node *n) {
    buf_puts(p->b, " ");
    put_quoted(p->b, ((const SeqAttr *)n->attr)->sub);
}

static void attr_random(Pr *p, const Node *n) {
    const RandomAttr *a = n->attr;
    buf_puts(p->b, " ");
    put_quoted(p->b, a->algo);
    buf_puts(p->b, " a ");
    put_float(p->b, DT_F64, a->a);
    buf_puts(p->b, " b ");
    put_float(p->b, DT_F64, a->b);
    buf_printf(p->b, " %s %llu", a->seeded ? "seed" : "salt", (unsigned long long)a->seed);
}

static void attr_shape(Pr *p, const Node *n) {
    const ShapeAttr *a = n->attr;
    if (a->n != 0xff) {
        put_dims(p, "", a->dim, a->n);
        return;
    }
    buf_puts(p->b, " ");
    dim_print(p->b, p->c, a->dim[0]);
}

static void attr_group(Pr *p, const Node *n) {
    const GroupAttr *a = n->attr;
    buf_puts(p->b, " ");
    put_quoted(p->b, a->name);
    if (a->note && *a->note) {
        buf_puts(p->b, " note ");
        put_quoted(p->b, a->note);
    }
}

static void attr_call(Pr *p, const Node *n) {
    buf_puts(p->b, " ");
    put_quoted(p->b, ((const CallAttr *)n->attr)->symbol);
}

static void attr_none(Pr *p, const Node *n) { (void)p, (void)n; }

typedef void (*AttrFn)(Pr *, const Node *);
static const AttrFn attr_table[] = {
    [P_CONST] = attr_const,     [P_MAP] = attr_map,         [P_REDUCE] = attr_reduce,
    [P_CONTRACT] = attr_contract, [P_SCAN] = attr_scan,     [P_RESHAPE] = attr_dims,
    [P_PERMUTE] = attr_permute, [P_BROADCAST] = attr_dims,  [P_SLICE] = attr_slice,
    [P_PAD] = attr_pad,         [P_CONCAT] = attr_axis,     [P_WINDOW] = attr_window,
    [P_GATHER] = attr_gather,   [P_SCATTER] = attr_scatter, [P_UPDATE] = attr_slice,
    [P_SORT] = attr_sort,       [P_TOPK] = attr_topk,       [P_COMPACT] = attr_compact,
    [P_LOOP] = attr_loop,       [P_IF] = attr_none,         [P_BIND] = attr_none,
    [P_GUARD] = attr_guard,     [P_COPY] = attr_device,       [P_SEQ] = attr_seq,
    [P_RANDOM] = attr_random,   [P_SHAPE] = attr_shape,     [P_GROUP] = attr_group,
    [P_CALL] = attr_call,       [P_RETURN] = attr_none,
};
_Static_assert(sizeof attr_table / sizeof *attr_table == P_COUNT, "one row per primitive");

/* ==== nodes ================================================================================== */

static void indent(Pr *p) { buf_printf(p->b, "%*s", 2 * p->depth, ""); }

static void put_suffix(Pr *p, const Node *n) {
    bool named = false;
    for (unsigned k = 0; k < n->nout; k++) {
        if (n->op != P_CONST) {
            buf_puts(p->b, k ? ", " : " : ");
            put_type(p, val_type(p->g, n->out[k]));
        }
        named |= p->g->val.v[n->out[k].i].name != NULL;
    }
    const LocInfo *l = loc_info(p->c, n->loc);
    if (l->name && *l->name) {
        buf_puts(p->b, " loc ");
        put_quoted(p->b, l->name);
    }
    for (unsigned k = 0; named && k < n->nout; k++) {
        buf_puts(p->b, k ? ", " : " name ");
        put_quoted(p->b, p->g->val.v[n->out[k].i].name);
    }
}

static void put_node(Pr *p, const Node *n) {
    indent(p);
    for (unsigned k = 0; k < n->nout; k++) {
        buf_printf(p->b, "%s%%%s", k ? ", " : "", p->name[n->out[k].i]);
    }
    buf_printf(p->b, "%s%s", n->nout ? " = " : "", prim_name((PrimOp)n->op));
    if (n->op == P_BIND) {
        const BindAttr *a = n->attr;
        put_vals(p, n->in, 1);
        buf_printf(p->b, "[%lld] as ", (long long)a->index);
        dim_print(p->b, p->c, a->sym);
    } else {
        attr_table[n->op](p, n);
        put_vals(p, n->in, n->nin);
    }
    put_suffix(p, n);
    switch (n->op) {
    case P_LOOP: region(p, ((const LoopAttr *)n->attr)->body, "yield"); break;
    case P_GROUP: region(p, ((const GroupAttr *)n->attr)->body, "yield"); break;
    case P_IF:
        buf_puts(p->b, " then");
        region(p, ((const IfAttr *)n->attr)->then_g, "yield");
        buf_puts(p->b, " else");
        region(p, ((const IfAttr *)n->attr)->else_g, "yield");
        break;
    default: break;
    }
    buf_puts(p->b, "\n");
}

/* Inputs by their own names if those are unlike all others, everything else by number. */
static void name_values(Pr *p) {
    Graph *g = p->g;
    uint32_t next = 0;
    StrMap used = {.c = p->c};
    p->name = NEWN(p->c, const char *, g->val.n);
    for (uint32_t k = 0; k < g->in.n; k++) {
        const char *s = g->in.v[k].name;
        if (s && *s && !strmap_get(&used, s)) {
            strmap_put(&used, s, 1);
            Buf b = {.c = p->c};
            put_name(&b, s);
            p->name[g->in.v[k].val.i] = buf_str(&b);
        } else {
            p->name[g->in.v[k].val.i] = ctx_printf(p->c, "%u", next++);
        }
    }
    for (uint32_t k = 0; k < g->node.n; k++) {
        for (unsigned r = 0; r < g->node.v[k]->nout; r++) {
            p->name[g->node.v[k]->out[r].i] = ctx_printf(p->c, "%u", next++);
        }
    }
}

static void put_inputs(Pr *p) {
    buf_puts(p->b, " (");
    for (uint32_t k = 0; k < p->g->in.n; k++) {
        Val v = p->g->in.v[k].val;
        buf_printf(p->b, "%s%%%s: ", k ? ", " : "", p->name[v.i]);
        put_type(p, &p->g->val.v[v.i].type);
    }
    buf_puts(p->b, ")");
}

static void put_body(Pr *p, const char *end) {
    Graph *g = p->g;
    buf_puts(p->b, " {\n");
    for (uint32_t k = 0; k < g->node.n; k++) {
        if (g->node.v[k]->op != P_RETURN) put_node(p, g->node.v[k]);
    }
    indent(p);
    buf_puts(p->b, end);
    for (uint32_t k = 0; k < g->out.n; k++) {
        buf_puts(p->b, k ? ", " : " ");
        put_val(p, g->out.v[k].val);
    }
    buf_puts(p->b, "\n");
    p->depth--;
    indent(p);
    buf_puts(p->b, "}");
}

static void region(Pr *up, Graph *g, const char *end) {
    Pr p = {.b = up->b, .c = up->c, .g = g, .depth = up->depth + 1};
    name_values(&p);
    put_inputs(&p);
    put_body(&p, end);
}

/* ==== symbols, graphs ======================================================================== */

static void mark_sym(void *data, uint32_t sym) {
    Uses *u = data;
    if (sym < u->n) u->seen[sym] = 1;
}

static Dim mark_dim(void *data, Ctx *c, Dim d) {
    dim_each_sym(c, d, mark_sym, data);
    return d;
}

static void mark_type(Uses *u, const Graph *g, Val v) {
    const Type *t = &g->val.v[v.i].type;
    while (t && t->kind != TY_TENSOR) t = t->elem;
    for (int d = 0; t && d < type_ndim(t); d++) mark_dim(u, u->c, t->dim[d]);
}

/* Of what is printed: values that nothing defines any more count for nothing. */
static void mark_graph(Uses *u, Graph *g) {
    for (uint32_t k = 0; k < g->in.n; k++) mark_type(u, g, g->in.v[k].val);
    for (uint32_t k = 0; k < g->node.n; k++) {
        Graph *r[2];
        const Node *n = g->node.v[k];
        if (n->op == P_RETURN) continue;
        for (unsigned o = 0; o < n->nout; o++) mark_type(u, g, n->out[o]);
        attr_visit(u->c, g, n, false, mark_dim, u);
        for (int i = 0, count = node_regions(n, r); i < count; i++) mark_graph(u, r[i]);
    }
}

static void put_symbols(Pr *p) {
    Uses u = {.c = p->c, .n = dim_nsyms(p->c)};
    u.seen = NEWN(p->c, unsigned char, u.n + 1);
    mark_graph(&u, p->g);
    int shown = 0;
    for (uint32_t s = 0; s < u.n; s++) {
        if (!u.seen[s]) continue;
        const SymInfo *i = dim_sym_info(p->c, s);
        buf_puts(p->b, shown++ ? ", " : "dims ");
        buf_puts(p->b, i->name); /* itself, not what it was unified with */
        if (i->hi != DIM_INF)
            buf_printf(p->b, " in [%lld, %lld]", (long long)i->lo, (long long)i->hi);
        else if (i->lo) buf_printf(p->b, " in [%lld, inf]", (long long)i->lo);
        if (i->bound) buf_puts(p->b, " bound");
    }
    if (shown) buf_puts(p->b, "\n");
}

void graph_print(Buf *b, Graph *g) {
    Pr p = {.b = b, .c = g->c, .g = g, .depth = 1};
    put_symbols(&p);
    name_values(&p);
    buf_puts(b, "graph @");
    put_name(b, g->name && *g->name ? g->name : "g");
    put_inputs(&p);
    buf_puts(b, " -> (");
    for (uint32_t k = 0; k < g->out.n; k++) {
        if (k) buf_puts(b, ", ");
        if (g->out.v[k].name) {
            buf_puts(b, "%");
            put_name(b, g->out.v[k].name);
            buf_puts(b, ": ");
        }
        put_type(&p, val_type(g, g->out.v[k].val));
    }
    buf_puts(b, ")");
    put_body(&p, "return");
    buf_puts(b, "\n");
}
