/* op_rnn.c: RNN, GRU and LSTM. The product of all inputs with W is one contract; a loop over time carries the state, makes the
 * product with R, and what follows elementwise. Each direction has a loop of its own, so that its R stays in cache. Trip s is time
 * s forwards and time len - 1 - s backwards, len being the batch's own length; the loop's stacked results are put in order of
 * time afterwards.
 *
 * AttnLSTM carries its attention, too: what the state of a trip finds in a memory is a further operand of the next trip's gates.
 *
 * Narrow floats are computed in f32, states included. Past its length the state of a batch stays and Y is 0. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>
#include <strings.h>

#define FN(f) void imp_##f(Imp *m)
FN(rnn); FN(gru); FN(lstm); FN(dynquantlstm); FN(attnlstm);

/* a: the argument, b: alpha, c: beta */
typedef struct Activation { const char *name, *text; int nparam; double param[2]; } Activation;
static const Activation activations[] = {
    {"Relu",            "max(a, 0)",                                  0, {0, 0}},
    {"Tanh",            "tanh(a)",                                    0, {0, 0}},
    {"Sigmoid",         "sigmoid(a)",                                 0, {0, 0}},
    {"Affine",          "b * a + c",                                  2, {1, 0}},
    {"LeakyRelu",       "select(a < 0, b * a, a)",                    1, {0.01, 0}},
    {"ThresholdedRelu", "select(a >= b, a, 0)",                       1, {1, 0}},
    {"ScaledTanh",      "b * tanh(c * a)",                            2, {1, 1}},
    {"HardSigmoid",     "min(max(b * a + c, 0), 1)",                  2, {0.2, 0.5}},
    {"Elu",             "select(a < 0, b * expm1(a), a)",             1, {1, 0}},
    {"Softsign",        "a / (abs(a) + 1)",                           0, {0, 0}},
    {"Softplus",        "max(a, 0) + log1p(exp(0 - abs(a)))",         0, {0, 0}},
};
enum { NACT = sizeof activations / sizeof *activations };

enum { B_AXIS, H_AXIS }; /* axes of a state: batch, unit */

/* What attention reads: the memory [batch, steps, depth], weights [of the direction] for its keys [depth, n], for queries [hidden, n], of the n
 * scores, of the layer behind it [hidden + depth, size] or none, of the gates [gates * hidden, size]; lengths of the memory i64[batch] or none. */
enum { KEYS, MEMORY, QUERY, SCORE, LAYER, GATES, ENDS, NATT };

typedef struct Rnn {
    Imp *m;                     /* where to append: outside of the loop, then in its body */
    int dirs, gates, nact, nstate;
    int dir;                    /* the direction being built */
    bool reverse, layout;       /* of that direction; layout 1: the batch comes first in X, Y and the states */
    const Activation *act[2][3];
    double param[2][3][2];
    DType type, wide;           /* of X; in which everything is computed */
    Dim time, batch, input, hidden, state[2];
    Val x, r, bias;             /* X W + bias [time, batch, dirs, gates, hidden]; R of the direction [gates * hidden, hidden]; its bias
                                   [gates, hidden] or none */
    Val r_scale, r_zero;        /* R of 8-bit integers: [gates * hidden or 1], of the direction; else none */
    bool attends;
    Dim seen;                   /* size of the attention, or 0 */
    Val att[NATT];              /* in the body, KEYS are products with the memory */
    Val lens, peep;             /* i64[batch] or none; of the direction [3, hidden] or none */
    Val iter, old[3];           /* in the body: the trip, the states before it, and the attention */
} Rnn;

/* ---- attributes */

static bool read_direction(Rnn *r)
{
    Imp *m = r->m;
    const char *s = attr_s(m, "direction");
    r->dirs = strcmp(s, "bidirectional") ? 1 : 2;
    r->reverse = !strcmp(s, "reverse");
    r->layout = row_has_attr(m->row, "layout") && attr_i(m, "layout");
    if (attr_has(m, "clip") && !(attr_f(m, "clip") > 0)) {
        ERR(m, "E0202", "attribute clip: expected a positive number, got %g", attr_f(m, "clip"));
        return false;
    }
    return true;
}

static const Activation *find_activation(const char *s, size_t n)
{
    for (int i = 0; i < NACT; i++)
        if (strlen(activations[i].name) == n && !strncasecmp(activations[i].name, s, n))
            return &activations[i];
    return NULL;
}

/* Those that take parameters take them from the lists, in order, as long as there are any. */
static bool read_activations(Rnn *r, const char *const *deflt)
{
    Imp *m = r->m;
    const SrcAttr *a = attr_find(m, "activations");
    const SrcAttr *list[2] = {attr_find(m, "activation_alpha"), attr_find(m, "activation_beta")};
    size_t used[2] = {0, 0}, want = (size_t)(r->dirs * r->nact);
    if (a && a->p->n_strings < want) {
        ERR(m, "E0203", "attribute activations: expected %zu names, got %zu", want, a->p->n_strings);
        return false;
    }
    for (int d = 0; d < r->dirs; d++)
        for (int k = 0; k < r->nact; k++) {
            const char *s = deflt[k];
            size_t n = strlen(s);
            if (a) {
                const ProtobufCBinaryData *p = &a->p->strings[d * r->nact + k];
                s = (const char *)p->data;
                n = p->len;
            }
            const Activation *f = r->act[d][k] = find_activation(s, n);
            if (!f) {
                ERR(m, "E0202", "attribute activations: there is no activation \"%.*s\"", (int)(n < 60 ? n : 60), s);
                return false;
            }
            for (int i = 0; i < 2; i++) {
                bool given = i < f->nparam && list[i] && used[i] < list[i]->p->n_floats;
                r->param[d][k][i] = given ? (double)list[i]->p->floats[used[i]++] : f->param[i];
            }
        }
    return true;
}

/* ---- expressions over the axes of a state */

static Expr activate(const Rnn *r, int k, Expr e)
{
    Imp *m = r->m;
    const double *p = r->param[r->dir][k];
    DType t[3] = {r->wide, r->wide, r->wide};
    Expr arg[3] = {e, xf(m, r->wide, p[0]), xf(m, r->wide, p[1])};
    const char *s = r->act[r->dir][k]->text;
    return expr_subst_args(m->c, expr_parse(m->c, &s, t, 3), arg, 3);
}

static Expr clip(Rnn *r, Expr e)
{
    Imp *m = r->m;
    if (!attr_has(m, "clip"))
        return e;
    double c = attr_f(m, "clip");
    return X2(MIN, X2(MAX, e, xf(m, r->wide, -c)), xf(m, r->wide, c));
}

/* Operands of a map, collected while its expressions are made. */
typedef struct Args { Val v[10]; int n; } Args;

static int add_arg(Args *a, Val v)
{
    for (int i = 0; i < a->n; i++)
        if (a->v[i].i == v.i)
            return i;
    a->v[a->n] = v;
    return a->n++;
}

static Expr arg(Rnn *r, Args *a, Val v) { return xarg(r->m, add_arg(a, v), dtype_of(r->m, v)); }

static Expr length(Rnn *r, Args *a, int batch_axis)
{
    Imp *m = r->m;
    Expr at[1] = {xaxis(m, batch_axis)};
    if (!r->lens.i)
        return xdim(m, r->time);
    return expr_load(m->c, (uint32_t)add_arg(a, r->lens), DT_I64, 1, at, OOB_NEVER, (Expr){0}, 0);
}

/* Trip to time, and time to trip: s forwards, len - 1 - s backwards. */
static Expr turn(Rnn *r, Args *a, Expr s, int batch_axis)
{
    Imp *m = r->m;
    return r->reverse ? X2(SUB, X2(SUB, length(r, a, batch_axis), XI(1)), s) : s;
}

/* Of batches that ended the time may be before the first. */
static Oob past_end(const Rnn *r) { return r->lens.i && r->reverse ? OOB_CLAMP : OOB_NEVER; }

/* X W + bias of gate g at the trip's time */
static Expr from_input(Rnn *r, Args *a, int g)
{
    Imp *m = r->m;
    Expr at[5] = {turn(r, a, arg(r, a, r->iter), B_AXIS), xaxis(m, B_AXIS), XI(r->dir), XI(g), xaxis(m, H_AXIS)};
    return expr_load(m->c, (uint32_t)add_arg(a, r->x), r->wide, 5, at, past_end(r), (Expr){0}, 0);
}

static Expr per_unit(Rnn *r, Args *a, Val v, int row)
{
    Imp *m = r->m;
    Expr at[2] = {XI(row), xaxis(m, H_AXIS)};
    return expr_load(m->c, (uint32_t)add_arg(a, v), r->wide, 2, at, OOB_NEVER, (Expr){0}, 0);
}

/* x w^T: x is quantised to u8 by its range, the product is of integers; w[n, k] has a scale and a zero point, or one per row. */
static Val quantised_product(Imp *m, const char *spec, Val x, Val w, Val scale, Val zero)
{
    Val q[3];
    dynamic_quantize(m, x, q);
    Val a = minus_zero_point(m, q[0], q[2], 0, DT_I32), b = minus_zero_point(m, w, zero, 0, DT_I32);
    Val y = b_contract(&m->b, spec, a, b, DT_I32, DT_I32);
    return b_binary(&m->b, S_MUL, cast_to(m, y, DT_F32), b_binary(&m->b, S_MUL, q[1], scale));
}

/* v R^T for n gates from the first: [batch, n, hidden], or [batch, hidden] for one */
static Val product(Rnn *r, Val v, int first, int n)
{
    Imp *m = r->m;
    Dim d[3] = {r->batch, DC(m, n), r->hidden};
    if (r->r_scale.i) /* all gates of an LSTM */
        return reshape_to(m, quantised_product(m, "bk,nk->bn", v, r->r, r->r_scale, r->r_zero), 3, d);
    Val w = b_slice_axis(&m->b, r->r, 0, dim_muli(m->c, r->hidden, first), dim_muli(m->c, r->hidden, n));
    Val y = b_contract(&m->b, "bk,nk->bn", v, w, r->wide, r->wide);
    if (r->attends) /* all gates */
        y = b_binary(&m->b, S_ADD, y, b_contract(&m->b, "bk,nk->bn", r->old[r->nstate], r->att[GATES], r->wide, r->wide));
    return n == 1 ? y : reshape_to(m, y, 3, d);
}

/* Gate g of a product with several gates. */
static Expr gate(Rnn *r, Args *a, Val product, int g)
{
    Imp *m = r->m;
    return arg(r, a, drop_axes(m, b_slice_axis(&m->b, product, 1, DC(m, g), DC(m, 1)), 2));
}

/* ---- the steps: from r->old to the next states, as maps over a state; y: the slice of Y, or NULL */

typedef void Step(Rnn *r, Val *next, Val *y);

/* State k is e; of batches that have ended it stays. With y it is also the slice of Y, rounded, which is 0 for those: then e is a value of its own,
 * so that it is computed once. */
static Val next_state(Rnn *r, Args *a, int k, Expr e, Val *y)
{
    Imp *m = r->m;
    Args of = *a;
    Expr slice = e, on;
    Val out;
    if (y && (r->lens.i || r->type != r->wide)) {
        maps_over(m, 1, &e, a->n, a->v, 2, r->state, &out);
        of.n = 0;
        slice = e = arg(r, &of, out);
    }
    if (r->lens.i) {
        on = X2(LT, arg(r, &of, r->iter), length(r, &of, B_AXIS));
        slice = X3(SELECT, on, e, xf(m, r->wide, 0));
        e = X3(SELECT, on, e, arg(r, &of, r->old[k]));
    }
    slice = expr_cast(m->c, slice, r->type);
    maps_over(m, 1, &e, of.n, of.v, 2, r->state, &out);
    if (y && slice.i != e.i)
        maps_over(m, 1, &slice, of.n, of.v, 2, r->state, y);
    else if (y)
        *y = out;
    return out;
}

/* h = f(x + h R) */
static void step_rnn(Rnn *r, Val *next, Val *y)
{
    Imp *m = r->m;
    Args a = {.n = 0};
    Expr e = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 0), arg(r, &a, product(r, r->old[0], 0, 1)))));
    next[0] = next_state(r, &a, 0, e, y);
}

/* z = f(x + h R), r = f(x + h R), c = g(x + (r h) R) or g(x + r (h R + b)), h = (1 - z) c + z h */
static void step_gru(Rnn *r, Val *next, Val *y)
{
    Imp *m = r->m;
    Args a = {.n = 0}, ar = {.n = 0};
    Val h = r->old[0];
    Expr z, c;
    if (row_has_attr(m->row, "linear_before_reset") && attr_i(m, "linear_before_reset")) {
        Val p = product(r, h, 0, 3);
        z = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 0), gate(r, &a, p, 0))));
        Expr reset = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 1), gate(r, &a, p, 1)))), own = gate(r, &a, p, 2);
        if (r->bias.i)
            own = X2(ADD, own, per_unit(r, &a, r->bias, 2));
        c = X2(ADD, from_input(r, &a, 2), X2(MUL, reset, own));
    } else {
        Expr reset = activate(r, 0, clip(r, X2(ADD, from_input(r, &ar, 1), arg(r, &ar, product(r, h, 1, 1)))));
        Expr kept = X2(MUL, reset, arg(r, &ar, h));
        Val rh = map_over(m, kept, ar.n, ar.v, 2, r->state);
        z = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 0), arg(r, &a, product(r, h, 0, 1)))));
        c = X2(ADD, from_input(r, &a, 2), arg(r, &a, product(r, rh, 2, 1)));
    }
    c = activate(r, 1, clip(r, c));
    Expr e = X2(ADD, X2(MUL, X2(SUB, xf(m, r->wide, 1), z), c), X2(MUL, z, arg(r, &a, h)));
    next[0] = next_state(r, &a, 0, e, y);
}

/* i, o, f = f(x + h R + P c), g = g(x + h R), c = f c + i g, h = o h(c); P of o looks at the new c */
static void step_lstm(Rnn *r, Val *next, Val *y)
{
    Imp *m = r->m;
    Args a = {.n = 0}, ah = {.n = 0};
    Val p = product(r, r->old[0], 0, 4);
    Expr old = arg(r, &a, r->old[1]), x[4];
    for (int g = 0; g < 4; g++)
        if (g != 1)
            x[g] = X2(ADD, from_input(r, &a, g), gate(r, &a, p, g));
    if (r->peep.i) {
        x[0] = X2(ADD, x[0], X2(MUL, per_unit(r, &a, r->peep, 0), old));
        x[2] = X2(ADD, x[2], X2(MUL, per_unit(r, &a, r->peep, 2), old));
    }
    Expr i = activate(r, 0, clip(r, x[0]));
    Expr f = attr_i(m, "input_forget") ? X2(SUB, xf(m, r->wide, 1), i) : activate(r, 0, clip(r, x[2]));
    next[1] = next_state(r, &a, 1, X2(ADD, X2(MUL, f, old), X2(MUL, i, activate(r, 1, clip(r, x[3])))), NULL);
    Expr c = arg(r, &ah, next[1]), o = X2(ADD, from_input(r, &ah, 1), gate(r, &ah, p, 1));
    if (r->peep.i)
        o = X2(ADD, o, X2(MUL, per_unit(r, &ah, r->peep, 1), c));
    next[0] = next_state(r, &ah, 0, X2(MUL, activate(r, 0, clip(r, o)), activate(r, 2, c)), y);
}

/* ---- attention (Bahdanau's) */

/* The memory weighed by how it answers to state h, [batch, depth], and through the layer behind it, [batch, size] */
static Val attend(Rnn *r, Val h)
{
    Imp *m = r->m;
    DType w = r->wide;
    Val q = b_contract(&m->b, "bh,hn->bn", h, r->att[QUERY], w, w);
    Val x = map_text(m, "tanh(a + b) * c", 3, (Val[]){r->att[KEYS], insert_axes(m, q, 3, 2), r->att[SCORE]});
    if (!x.i)
        return x;
    x = b_reduce1(&m->b, R_SUM, x, 4, false);
    if (r->att[ENDS].i) {
        Expr b = xaxis(m, 0), on = X2(LT, xaxis(m, 1), load_at(m, 1, DT_I64, 1, &b));
        Dim d[2] = {r->batch, dim_of(m, r->att[KEYS], 1)};
        x = map_over(m, X3(SELECT, on, xarg(m, 0, w), xf(m, w, -INFINITY)), 2, (Val[]){x, r->att[ENDS]}, 2, d);
    }
    Val c = b_contract(&m->b, "bt,btd->bd", b_softmax(&m->b, x, 2), r->att[MEMORY], w, w);
    return r->att[LAYER].i ? b_contract(&m->b, "bk,kn->bn", b_concat(&m->b, 2, (Val[]){h, c}, 1), r->att[LAYER], w, w) : c;
}

/* ---- operands */

/* Operand k, absent or of shape `want` (n dims), in the type of computation. false after a message. */
static bool take(Rnn *r, uint32_t k, const char *what, int n, const Dim *want, Val *v)
{
    Imp *m = r->m;
    *v = operand(m, k);
    if (!v->i)
        return true;
    if (rank_of(m, *v) != n) {
        ERR(m, "E0203", "%s: expected rank %d, got %d", what, n, rank_of(m, *v));
        return false;
    }
    for (int i = 0; i < n; i++)
        b_guard(&m->b, G_EQ, dim_of(m, *v, i), want[i], "%s has another size along axis %d than the other operands ask for", what, i);
    *v = cast_to(m, *v, r->wide);
    return true;
}

/* y = X W^T[time, batch, all rows of W] plus the bias of W, and that of R but for what the reset gate multiplies; the latter is kept. */
static void project(Rnn *r, Val y, Val bias, bool apart)
{
    Imp *m = r->m;
    Dim n = DC(m, r->dirs * r->gates), all = dim_mul(m->c, n, r->hidden);
    Dim d[5] = {r->time, r->batch, DC(m, r->dirs), DC(m, r->gates), r->hidden}, two[4] = {d[2], DC(m, 2), d[3], r->hidden};
    if (bias.i) {
        bias = reshape_to(m, bias, 4, two);
        Val own = drop_axes(m, b_slice_axis(&m->b, bias, 1, DC(m, 0), DC(m, 1)), 2);
        r->bias = drop_axes(m, b_slice_axis(&m->b, bias, 1, DC(m, 1), DC(m, 1)), 2);
        Val with = r->bias;
        if (apart) /* gates z and r only */
            with = b_pad(&m->b, b_slice_axis(&m->b, with, 1, DC(m, 0), DC(m, 2)), (Dim[]){DC(m, 0), DC(m, 0), DC(m, 0)},
                         (Dim[]){DC(m, 0), DC(m, 1), DC(m, 0)}, NULL, PAD_VALUE, (Scalar){.t = r->wide}, (Val){0});
        y = b_binary(&m->b, S_ADD, y, reshape_to(m, b_binary(&m->b, S_ADD, own, with), 1, &all));
    }
    r->x = reshape_to(m, y, 5, d);
}

/* Scale or zero point k of quantised weights: [dirs, rows], from [dirs] or [dirs, rows]. */
static Val quant_param(Rnn *r, uint32_t k, Dim rows)
{
    Imp *m = r->m;
    Val v = m->in[k];
    Dim d[2] = {DC(m, r->dirs), rows};
    int n = rank_of(m, v);
    if (n < 1 || n > 2) {
        ERR(m, "E0203", "scales and zero points: expected rank 1 or 2, got %d", n);
        return (Val){0};
    }
    for (int i = 0; i < n; i++)
        b_guard(&m->b, G_EQ, dim_of(m, v, i), d[i], "a scale or zero point does not fit its weights along axis %d", i);
    return b_broadcast(&m->b, n == 1 ? insert_axes(m, v, 2, 2) : v, 2, d);
}

/* W and R of 8-bit integers, [dirs, input or hidden, rows]: X W^T, and what is needed for products with R. */
static bool quantised_weights(Rnn *r, Dim rows, Val *y)
{
    Imp *m = r->m;
    Val w[2], scale[2], zero[2];
    Dim all = dim_muli(m->c, rows, r->dirs);
    for (uint32_t i = 0; i < 2; i++) {
        Dim d[3] = {DC(m, r->dirs), i ? r->hidden : r->input, rows};
        DType t = dtype_of(m, m->in[1 + i]);
        if ((t != DT_U8 && t != DT_I8) || dtype_of(m, m->in[9 + 2 * i]) != t) {
            ERR(m, "E0204", "weights of %s with zero points of %s", dt_name(t), dt_name(dtype_of(m, m->in[9 + 2 * i])));
            return false;
        }
        for (int a = 0; a < 3; a++)
            b_guard(&m->b, G_EQ, dim_of(m, m->in[1 + i], a), d[a], "%s has another size along axis %d than the other operands ask for",
                    i ? "R" : "W", a);
        w[i] = b_permute(&m->b, m->in[1 + i], (int[]){0, 2, 1});
        scale[i] = quant_param(r, 8 + 2 * i, rows);
        zero[i] = quant_param(r, 9 + 2 * i, rows);
        if (!scale[i].i || !zero[i].i)
            return false;
    }
    *y = quantised_product(m, "tbi,ni->tbn", m->in[0], reshape_to(m, w[0], 2, (Dim[]){all, r->input}), reshape_to(m, scale[0], 1, &all),
                           reshape_to(m, zero[0], 1, &all));
    r->r = w[1];
    r->r_scale = scale[1];
    r->r_zero = zero[1];
    return y->i != 0;
}

/* Operands 8 to 13, of all directions */
static bool read_attention(Rnn *r)
{
    Imp *m = r->m;
    Val memory = m->in[11], ends = operand(m, 12);
    if (rank_of(m, memory) != 3 || rank_of(m, m->in[10]) != 2 || (present(m, 13) && rank_of(m, m->in[13]) != 3) ||
        (ends.i && rank_of(m, ends) != 1)) {
        ERR(m, "E0203", "expected M and AW of rank 3, V of rank 2 and memory_seq_lens of rank 1");
        return false;
    }
    Dim dirs = DC(m, r->dirs), n = dim_of(m, m->in[10], 1), depth = dim_of(m, memory, 2), steps = dim_of(m, memory, 1);
    r->seen = present(m, 13) ? dim_of(m, m->in[13], 2) : depth;
    if (!take(r, 8, "QW", 3, (Dim[]){dirs, r->hidden, n}, &r->att[QUERY]) || !take(r, 9, "MW", 3, (Dim[]){dirs, depth, n}, &r->att[KEYS]) ||
        !take(r, 10, "V", 2, (Dim[]){dirs, n}, &r->att[SCORE]) || !take(r, 11, "M", 3, (Dim[]){r->batch, steps, depth}, &r->att[MEMORY]) ||
        !take(r, 13, "AW", 3, (Dim[]){dirs, dim_add(m->c, r->hidden, depth), r->seen}, &r->att[LAYER]))
        return false;
    if (!ends.i)
        return true;
    b_guard(&m->b, G_EQ, dim_of(m, ends, 0), r->batch, "memory_seq_lens must have one element per batch");
    Expr e = xarg(m, 0, DT_I64), ok = X2(AND, X2(GT, e, XI(0)), X2(LE, e, xdim(m, steps)));
    r->att[ENDS] = cast_to(m, ends, DT_I64);
    b_guard_val(&m->b, map_over(m, ok, 1, &r->att[ENDS], 1, &r->batch), "an element of memory_seq_lens is not in the memory");
    return true;
}

static bool read_operands(Rnn *r, bool quantised)
{
    Imp *m = r->m;
    Val w, rr, bias, x = m->in[0], y;
    if (rank_of(m, x) != 3 || rank_of(m, m->in[1]) != 3 || rank_of(m, m->in[2]) != 3) {
        ERR(m, "E0203", "X, W and R: expected rank 3, got %d, %d and %d", rank_of(m, x), rank_of(m, m->in[1]), rank_of(m, m->in[2]));
        return false;
    }
    r->type = dtype_of(m, x);
    r->wide = wide_type(r->type);
    r->time = dim_of(m, x, r->layout ? 1 : 0);
    r->batch = dim_of(m, x, r->layout ? 0 : 1);
    r->input = dim_of(m, x, 2);
    r->hidden = attr_has(m, "hidden_size") ? DC(m, attr_i(m, "hidden_size")) : dim_of(m, m->in[2], quantised ? 1 : 2);
    if (dim_hi(m->c, r->hidden) < 1) {
        ERR(m, "E0202", "attribute hidden_size: expected a positive number");
        return false;
    }
    r->seen = DC(m, 0);
    if (r->attends && !read_attention(r))
        return false;
    Dim dirs = DC(m, r->dirs), rows = dim_muli(m->c, r->hidden, r->gates);
    r->state[B_AXIS] = r->batch;
    r->state[H_AXIS] = r->hidden;
    bool apart = row_has_attr(m->row, "linear_before_reset") && attr_i(m, "linear_before_reset");
    if (!take(r, 3, "B", 2, (Dim[]){dirs, dim_muli(m->c, rows, 2)}, &bias))
        return false;
    if (quantised) {
        if (!quantised_weights(r, rows, &y))
            return false;
    } else {
        if (!take(r, 1, "W", 3, (Dim[]){dirs, rows, dim_add(m->c, r->input, r->seen)}, &w) ||
            !take(r, 2, "R", 3, (Dim[]){dirs, rows, r->hidden}, &rr))
            return false;
        if (r->attends) {
            r->att[GATES] = b_slice_axis(&m->b, w, 2, r->input, r->seen);
            w = b_slice_axis(&m->b, w, 2, DC(m, 0), r->input);
        }
        Val flat = reshape_to(m, w, 2, (Dim[]){dim_mul(m->c, dirs, rows), r->input});
        y = b_contract(&m->b, r->layout ? "bti,ni->tbn" : "tbi,ni->tbn", cast_to(m, x, r->wide), flat, r->wide, r->wide);
        r->r = rr;
    }
    project(r, y, bias, apart);
    if (present(m, 4)) {
        if (rank_of(m, m->in[4]) != 1) {
            ERR(m, "E0203", "sequence_lens: expected rank 1, got %d", rank_of(m, m->in[4]));
            return false;
        }
        b_guard(&m->b, G_EQ, dim_of(m, m->in[4], 0), r->batch, "sequence_lens must have one element per batch");
        r->lens = cast_to(m, m->in[4], DT_I64);
        Expr n = xarg(m, 0, DT_I64), ok = X2(AND, X2(GE, n, XI(0)), X2(LE, n, xdim(m, r->time)));
        b_guard_val(&m->b, map_over(m, ok, 1, &r->lens, 1, &r->batch), "an element of sequence_lens is negative or beyond the end of X");
    }
    return true;
}

/* Part r->dir of v along an axis, without that axis. */
static Val of_direction(const Rnn *r, Val v, int axis)
{
    Imp *m = r->m;
    return v.i ? drop_axes(m, b_slice_axis(&m->b, v, axis, DC(m, r->dir), DC(m, 1)), 1u << axis) : v;
}

/* Initial state k [batch, hidden], 0 if it is absent. */
static bool read_state(Rnn *r, int k, Val *v)
{
    Imp *m = r->m;
    Dim dirs = DC(m, r->dirs), d[3] = {r->layout ? r->batch : dirs, r->layout ? dirs : r->batch, r->hidden};
    if (!take(r, 5 + (uint32_t)k, k ? "initial_c" : "initial_h", 3, d, v))
        return false;
    *v = v->i ? of_direction(r, *v, r->layout) : b_splat(&m->b, (Scalar){.t = r->wide}, 2, r->state);
    return true;
}

/* ---- the loop */

/* A state after the loop; of batches of length 0 it is 0, as in ONNX Runtime, whatever it began with. */
static Val last_state(Rnn *r, Val v)
{
    Imp *m = r->m;
    Args a = {.v = {v}, .n = 1};
    Expr e = xarg(m, 0, r->wide);
    if (r->lens.i)
        e = X3(SELECT, X2(GT, length(r, &a, B_AXIS), XI(0)), e, xf(m, r->wide, 0));
    return map_over(m, expr_cast(m->c, e, r->type), a.n, a.v, 2, r->state);
}

/* [time, batch, hidden], stacked by trips -> in order of time; backwards, what lies past the length is 0. */
static Val in_time(Rnn *r, Val y)
{
    Imp *m = r->m;
    Dim d[3] = {r->time, r->batch, r->hidden};
    Args a = {.v = {y}, .n = 1};
    if (!r->reverse)
        return y;
    Expr t = xaxis(m, 0), at[3] = {turn(r, &a, t, 1), xaxis(m, 1), xaxis(m, 2)};
    Expr e = expr_load(m->c, 0, r->type, 3, at, past_end(r), (Expr){0}, 0);
    if (r->lens.i)
        e = X3(SELECT, X2(LT, t, length(r, &a, 1)), e, xf(m, r->type, 0));
    return map_over(m, e, a.n, a.v, 3, d);
}

/* One direction: y[0] is Y or none, then the last states. The operands of all directions are r's. */
static bool run(Rnn r, Step *step, Val *y)
{
    Imp *m = r.m, inner;
    bool want_y = wanted(m, 0);
    Val in[24], next[4], res[4];
    int ncarried = r.nstate + r.attends, n = 2 + ncarried;
    r.r = of_direction(&r, r.r, 0);
    r.r_scale = of_direction(&r, r.r_scale, 0);
    r.r_zero = of_direction(&r, r.r_zero, 0);
    r.bias = of_direction(&r, r.bias, 0);
    r.peep = of_direction(&r, r.peep, 0);
    for (int k = 0; k < r.nstate; k++)
        if (!read_state(&r, k, &in[2 + k]))
            return false;
    if (r.attends) {
        for (int k = 0; k < NATT; k++)
            if (k != MEMORY && k != ENDS)
                r.att[k] = of_direction(&r, r.att[k], 0);
        r.att[KEYS] = b_contract(&m->b, "btd,dn->btn", r.att[MEMORY], r.att[KEYS], r.wide, r.wide);
        in[2 + r.nstate] = b_splat(&m->b, (Scalar){.t = r.wide}, 2, (Dim[]){r.batch, r.seen});
    }
    region_open(&inner, m, NEW(m->c, SrcGraph));
    inner.n = m->n;
    inner.row = m->row;
    Rnn body = r;
    body.m = &inner;
    body.iter = graph_input(inner.b.g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    Val cond = graph_input(inner.b.g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    for (int k = 0; k < r.nstate; k++)
        body.old[k] = graph_input(inner.b.g, k ? "c" : "h", type_tensor(m->c, r.wide, 2, r.state));
    if (r.attends)
        body.old[r.nstate] = graph_input(inner.b.g, "seen", type_tensor(m->c, r.wide, 2, (Dim[]){r.batch, r.seen}));
    Val *const a = body.att, *const slot[] = {&body.x, &body.r, &body.r_scale, &body.r_zero, &body.bias, &body.lens, &body.peep,
                                              a + KEYS, a + MEMORY, a + QUERY, a + SCORE, a + LAYER, a + GATES, a + ENDS};
    for (size_t k = 0; k < sizeof slot / sizeof *slot; k++)
        if (slot[k]->i) {
            in[n++] = *slot[k];
            *slot[k] = graph_input(inner.b.g, "", *val_type(m->b.g, *slot[k]));
        }
    step(&body, next, want_y ? &next[ncarried] : NULL);
    if (r.attends)
        next[r.nstate] = attend(&body, next[0]);
    graph_output(inner.b.g, "cond", cond);
    for (int k = 0; k < ncarried + want_y; k++)
        graph_output(inner.b.g, "", next[k]);
    in[0] = b_dim_scalar(&m->b, r.time);
    in[1] = (Val){0};
    b_loop(&m->b, inner.b.g, ncarried, want_y, n, in, res);
    y[0] = want_y ? in_time(&r, res[ncarried]) : (Val){0};
    for (int k = 0; k < r.nstate; k++)
        y[1 + k] = wanted(m, 1 + (uint32_t)k) ? last_state(&r, res[k]) : (Val){0};
    return true;
}

/* Results of the directions, joined along a new axis. */
static Val join(Rnn *r, const Val *v, int axis)
{
    Imp *m = r->m;
    Val part[2];
    for (int d = 0; d < r->dirs; d++)
        part[d] = v[d].i ? insert_axes(m, v[d], rank_of(m, v[d]) + 1, 1u << axis) : v[d];
    return r->dirs == 1 ? part[0] : b_concat(&m->b, 2, part, axis);
}

enum { QUANTISED = 1, ATTENDS };

static void import(Imp *m, int gates, int nstate, const char *const *deflt, int nact, Step *step, int how)
{
    Rnn r = {.m = m, .gates = gates, .nact = nact, .nstate = nstate, .attends = how == ATTENDS};
    if (!read_direction(&r) || !read_activations(&r, deflt) || !read_operands(&r, how == QUANTISED))
        return;
    Dim peep[2] = {DC(m, r.dirs), dim_muli(m->c, r.hidden, 3)}, d[3] = {peep[0], DC(m, 3), r.hidden};
    if (nstate == 2 && !take(&r, 7, "P", 2, peep, &r.peep))
        return;
    r.peep = reshape_to(m, r.peep, 3, d);
    Val y[2][3], part[2];
    for (r.dir = 0; r.dir < r.dirs; r.dir++) {
        r.reverse |= r.dir == 1;
        if (!run(r, step, y[r.dir]))
            return;
    }
    for (uint32_t k = 0; k < m->n->nout; k++)
        if (wanted(m, k)) {
            for (int i = 0; i < r.dirs; i++)
                part[i] = y[i][k];
            Val v = join(&r, part, k ? r.layout : 1);
            result(m, k, r.layout && !k ? b_permute(&m->b, v, (int[]){2, 0, 1, 3}) : v);
        }
}

void imp_rnn(Imp *m) { import(m, 1, 1, (const char *const[]){"Tanh"}, 1, step_rnn, 0); }
void imp_gru(Imp *m) { import(m, 3, 1, (const char *const[]){"Sigmoid", "Tanh"}, 2, step_gru, 0); }
void imp_lstm(Imp *m) { import(m, 4, 2, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, 3, step_lstm, 0); }
/* LSTM with weights of 8-bit integers, transposed; X and, in every step, the state are quantised by their ranges. */
void imp_dynquantlstm(Imp *m) { import(m, 4, 2, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, 3, step_lstm, QUANTISED); }
/* LSTM of which each trip sees what the state before found in a memory */
void imp_attnlstm(Imp *m) { import(m, 4, 2, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, 3, step_lstm, ATTENDS); }
