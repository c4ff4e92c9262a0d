/* op_rnn.c: RNN, GRU and LSTM. The product of all inputs with W is one contract; a loop over time carries the state, makes the
 * product with R, and what follows elementwise. Both directions run in one loop, as a batch axis: trip s is time s forwards and
 * time len - 1 - s backwards, len being the batch's own length; the loop's stacked results are put in order of time afterwards.
 *
 * Narrow floats are computed in f32, states included. Past its length the state of a batch stays and Y is 0. */
#include "frontend/import.h"
#include <string.h>
#include <strings.h>

#define FN(f) void imp_##f(Imp *m)
FN(rnn); FN(gru); FN(lstm);

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

enum { MAX_GATES = 4, D = 0, B_AXIS, H_AXIS }; /* axes of a state: direction, batch, unit */

typedef struct Rnn {
    Imp *m;                     /* where to append: outside of the loop, then in its body */
    int dirs, gates, nact, nstate;
    bool reverse[2], layout;    /* per direction; layout 1: the batch comes first in X, Y and the states */
    const Activation *act[2][3];
    double param[2][3][2];
    DType type, wide;           /* of X; in which everything is computed */
    Dim time, batch, input, hidden, state[3];
    Val x, r, bias;             /* X W + bias [time, batch, dirs, gates, hidden]; R [dirs, gates * hidden, hidden]; R's bias or none */
    Val lens, peep;             /* i64[batch] or none; [dirs, 3, hidden] or none */
    Val iter, old[2];           /* in the body: the trip, the states before it */
} Rnn;

/* ---- attributes */

static bool read_direction(Rnn *r)
{
    Imp *m = r->m;
    const char *s = attr_s(m, "direction");
    r->dirs = strcmp(s, "bidirectional") ? 1 : 2;
    r->reverse[0] = !strcmp(s, "reverse");
    r->reverse[1] = r->dirs == 2;
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

static Expr activate_in(Rnn *r, int d, int k, Expr e)
{
    Imp *m = r->m;
    DType t[3] = {r->wide, r->wide, r->wide};
    Expr arg[3] = {e, xf(m, r->wide, r->param[d][k][0]), xf(m, r->wide, r->param[d][k][1])};
    const char *s = r->act[d][k]->text;
    return expr_subst_args(m->c, expr_parse(m->c, &s, t, 3), arg, 3);
}

/* Activation k of the direction that the point belongs to. */
static Expr activate(Rnn *r, int k, Expr e)
{
    Imp *m = r->m;
    Expr f = activate_in(r, 0, k, e);
    if (r->dirs == 1 || (r->act[0][k] == r->act[1][k] && !memcmp(r->param[0][k], r->param[1][k], sizeof r->param[0][k])))
        return f;
    return X3(SELECT, X2(EQ, xaxis(m, D), XI(0)), f, activate_in(r, 1, k, e));
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
static Expr turn(Rnn *r, Args *a, Expr s, int dir_axis, int batch_axis)
{
    Imp *m = r->m;
    if (!r->reverse[0] && !r->reverse[1])
        return s;
    Expr back = X2(SUB, X2(SUB, length(r, a, batch_axis), XI(1)), s);
    return r->dirs == 1 ? back : X3(SELECT, X2(EQ, xaxis(m, dir_axis), XI(0)), s, back);
}

/* Of batches that ended the time may be before the first. */
static Oob past_end(const Rnn *r) { return r->lens.i && (r->reverse[0] || r->reverse[1]) ? OOB_CLAMP : OOB_NEVER; }

/* X W + bias of gate g at the trip's time */
static Expr from_input(Rnn *r, Args *a, int g)
{
    Imp *m = r->m;
    Expr at[5] = {turn(r, a, arg(r, a, r->iter), D, B_AXIS), xaxis(m, B_AXIS), xaxis(m, D), XI(g), xaxis(m, H_AXIS)};
    return expr_load(m->c, (uint32_t)add_arg(a, r->x), r->wide, 5, at, past_end(r), (Expr){0}, 0);
}

static Expr per_unit(Rnn *r, Args *a, Val v, int row)
{
    Imp *m = r->m;
    Expr at[3] = {xaxis(m, D), XI(row), xaxis(m, H_AXIS)};
    return expr_load(m->c, (uint32_t)add_arg(a, v), r->wide, 3, at, OOB_NEVER, (Expr){0}, 0);
}

/* v R^T for n gates from the first: [dirs, batch, n, hidden] */
static Val product(Rnn *r, Val v, int first, int n)
{
    Imp *m = r->m;
    Dim d[4] = {r->state[0], r->state[1], DC(m, n), r->hidden};
    Val w = b_slice_axis(&m->b, r->r, 1, dim_muli(m->c, r->hidden, first), dim_muli(m->c, r->hidden, n));
    Val y = b_contract(&m->b, "dbk,dnk->dbn", v, w, r->wide, r->wide);
    return n == 1 ? y : reshape_to(m, y, 4, d);
}

/* Gate g of a product with several gates. */
static Expr gate(Rnn *r, Args *a, Val product, int g)
{
    Imp *m = r->m;
    return arg(r, a, drop_axes(m, b_slice_axis(&m->b, product, 2, DC(m, g), DC(m, 1)), 4));
}

/* ---- the steps: from r->old to the new states, as maps over a state */

/* The states of batches that have ended stay; y: the state's rounded value, 0 for those. */
static void finish(Rnn *r, Args *a, int n, Expr *next, bool want_y, Val *out)
{
    Imp *m = r->m;
    Expr body[3], y = next[0];
    if (r->lens.i) {
        Expr on = X2(LT, arg(r, a, r->iter), length(r, a, B_AXIS));
        y = X3(SELECT, on, y, xf(m, r->wide, 0));
        for (int i = 0; i < n; i++)
            next[i] = X3(SELECT, on, next[i], arg(r, a, r->old[i]));
    }
    memcpy(body, next, sizeof *next * (size_t)n);
    body[n] = expr_cast(m->c, y, r->type);
    bool same = body[n].i == body[0].i;
    b_map(&m->b, n + (want_y && !same), body, a->n, a->v, 3, r->state, out);
    if (want_y && same)
        out[n] = out[0];
}

/* h = f(x + h R) */
static void step_rnn(Rnn *r, bool want_y, Val *out)
{
    Imp *m = r->m;
    Args a = {.n = 0};
    Expr e = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 0), arg(r, &a, product(r, r->old[0], 0, 1)))));
    finish(r, &a, 1, &e, want_y, out);
}

/* z = f(x + h R), r = f(x + h R), c = g(x + (r h) R) or g(x + r (h R + b)), h = (1 - z) c + z h */
static void step_gru(Rnn *r, bool want_y, Val *out)
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
        Val rh = map_over(m, kept, ar.n, ar.v, 3, r->state);
        z = activate(r, 0, clip(r, X2(ADD, from_input(r, &a, 0), arg(r, &a, product(r, h, 0, 1)))));
        c = X2(ADD, from_input(r, &a, 2), arg(r, &a, product(r, rh, 2, 1)));
    }
    c = activate(r, 1, clip(r, c));
    Expr e = X2(ADD, X2(MUL, X2(SUB, xf(m, r->wide, 1), z), c), X2(MUL, z, arg(r, &a, h)));
    finish(r, &a, 1, &e, want_y, out);
}

/* i, o, f = f(x + h R + P c), g = g(x + h R), c = f c + i g, h = o h(c); P of o looks at the new c */
static void step_lstm(Rnn *r, bool want_y, Val *out)
{
    Imp *m = r->m;
    Args a = {.n = 0};
    Val p = product(r, r->old[0], 0, 4);
    Expr old = arg(r, &a, r->old[1]), x[4];
    for (int g = 0; g < 4; g++)
        x[g] = X2(ADD, from_input(r, &a, g), gate(r, &a, p, g));
    if (r->peep.i) {
        x[0] = X2(ADD, x[0], X2(MUL, per_unit(r, &a, r->peep, 0), old));
        x[2] = X2(ADD, x[2], X2(MUL, per_unit(r, &a, r->peep, 2), old));
    }
    Expr i = activate(r, 0, clip(r, x[0]));
    Expr f = attr_i(m, "input_forget") ? X2(SUB, xf(m, r->wide, 1), i) : activate(r, 0, clip(r, x[2]));
    Expr e[2], c = X2(ADD, X2(MUL, f, old), X2(MUL, i, activate(r, 1, clip(r, x[3]))));
    if (r->peep.i)
        x[1] = X2(ADD, x[1], X2(MUL, per_unit(r, &a, r->peep, 1), c));
    e[0] = X2(MUL, activate(r, 0, clip(r, x[1])), activate(r, 2, c));
    e[1] = c;
    finish(r, &a, 2, e, want_y, out);
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

/* X W^T plus the bias of W, and that of R but for what the reset gate multiplies; the latter is kept. */
static void project(Rnn *r, Val x, Val w, Val bias, bool apart)
{
    Imp *m = r->m;
    Dim n = DC(m, r->dirs * r->gates), all = dim_mul(m->c, n, r->hidden);
    Dim d[5] = {r->time, r->batch, DC(m, r->dirs), DC(m, r->gates), r->hidden}, two[4] = {d[2], DC(m, 2), d[3], r->hidden};
    Val flat = reshape_to(m, w, 2, (Dim[]){all, r->input});
    Val y = b_contract(&m->b, r->layout ? "bti,ni->tbn" : "tbi,ni->tbn", x, flat, r->wide, r->wide);
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

static bool read_operands(Rnn *r)
{
    Imp *m = r->m;
    Val w, rr, bias, x = m->in[0];
    if (rank_of(m, x) != 3 || rank_of(m, m->in[1]) != 3 || rank_of(m, m->in[2]) != 3) {
        ERR(m, "E0203", "X, W and R: expected rank 3, got %d, %d and %d", rank_of(m, x), rank_of(m, m->in[1]), rank_of(m, m->in[2]));
        return false;
    }
    r->type = dtype_of(m, x);
    r->wide = wide_type(r->type);
    r->time = dim_of(m, x, r->layout ? 1 : 0);
    r->batch = dim_of(m, x, r->layout ? 0 : 1);
    r->input = dim_of(m, x, 2);
    r->hidden = attr_has(m, "hidden_size") ? DC(m, attr_i(m, "hidden_size")) : dim_of(m, m->in[2], 2);
    if (dim_hi(m->c, r->hidden) < 1) {
        ERR(m, "E0202", "attribute hidden_size: expected a positive number");
        return false;
    }
    Dim dirs = DC(m, r->dirs), rows = dim_muli(m->c, r->hidden, r->gates);
    r->state[D] = dirs;
    r->state[B_AXIS] = r->batch;
    r->state[H_AXIS] = r->hidden;
    bool apart = row_has_attr(m->row, "linear_before_reset") && attr_i(m, "linear_before_reset");
    if (!take(r, 1, "W", 3, (Dim[]){dirs, rows, r->input}, &w) || !take(r, 2, "R", 3, (Dim[]){dirs, rows, r->hidden}, &rr) ||
        !take(r, 3, "B", 2, (Dim[]){dirs, dim_muli(m->c, rows, 2)}, &bias))
        return false;
    r->r = rr;
    project(r, cast_to(m, x, r->wide), w, bias, apart);
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

/* Initial state k, 0 if it is absent. */
static bool read_state(Rnn *r, int k, Val *v)
{
    Imp *m = r->m;
    Dim d[3] = {r->state[r->layout], r->state[!r->layout], r->hidden};
    if (!take(r, 5 + (uint32_t)k, k ? "initial_c" : "initial_h", 3, d, v))
        return false;
    if (!v->i)
        *v = b_splat(&m->b, (Scalar){.t = r->wide}, 3, r->state);
    else if (r->layout)
        *v = b_permute(&m->b, *v, (int[]){1, 0, 2});
    return true;
}

/* ---- the loop */

/* The states after the loop; of batches of length 0 they are 0, as in ONNX Runtime, whatever they began with. */
static Val last_state(Rnn *r, Val v)
{
    Imp *m = r->m;
    Args a = {.v = {v}, .n = 1};
    Expr e = xarg(m, 0, r->wide);
    if (r->lens.i)
        e = X3(SELECT, X2(GT, length(r, &a, B_AXIS), XI(0)), e, xf(m, r->wide, 0));
    v = map_over(m, expr_cast(m->c, e, r->type), a.n, a.v, 3, r->state);
    return r->layout ? b_permute(&m->b, v, (int[]){1, 0, 2}) : v;
}

/* Stacked by trips -> in order of time; backwards, what lies past the length is 0. */
static Val in_time(Rnn *r, Val y)
{
    Imp *m = r->m;
    Dim d[4] = {r->time, r->state[D], r->batch, r->hidden};
    Args a = {.v = {y}, .n = 1};
    if (!r->reverse[0] && !r->reverse[1])
        return y;
    Expr t = xaxis(m, 0), at[4] = {turn(r, &a, t, 1, 2), xaxis(m, 1), xaxis(m, 2), xaxis(m, 3)};
    Expr e = expr_load(m->c, 0, r->type, 4, at, past_end(r), (Expr){0}, 0);
    if (r->lens.i)
        e = X3(SELECT, X2(LT, t, length(r, &a, 2)), e, xf(m, r->type, 0));
    return map_over(m, e, a.n, a.v, 4, d);
}

static void run(Rnn *r, void (*step)(Rnn *, bool, Val *))
{
    Imp *m = r->m, inner;
    bool want_y = wanted(m, 0);
    Val in[12], out[4], res[3], cap[5] = {r->x, r->r, r->bias, r->lens, r->peep};
    Val *const slot[5] = {&r->x, &r->r, &r->bias, &r->lens, &r->peep};
    int n = 2 + r->nstate;
    for (int k = 0; k < r->nstate; k++)
        if (!read_state(r, k, &in[2 + k]))
            return;
    region_open(&inner, m, NEW(m->c, SrcGraph));
    inner.n = m->n;
    inner.row = m->row;
    r->iter = graph_input(inner.b.g, "iter", type_tensor(m->c, DT_I64, 0, NULL));
    Val cond = graph_input(inner.b.g, "cond", type_tensor(m->c, DT_BOOL, 0, NULL));
    for (int k = 0; k < r->nstate; k++)
        r->old[k] = graph_input(inner.b.g, k ? "c" : "h", type_tensor(m->c, r->wide, 3, r->state));
    for (int k = 0; k < 5; k++)
        if (cap[k].i) {
            in[n++] = cap[k];
            *slot[k] = graph_input(inner.b.g, "", *val_type(m->b.g, cap[k]));
        }
    r->m = &inner;
    step(r, want_y, out + 1);
    r->m = m;
    r->lens = cap[3];
    graph_output(inner.b.g, "cond", cond);
    for (int k = 0; k < r->nstate + want_y; k++)
        graph_output(inner.b.g, "", out[1 + k]);
    in[0] = b_dim_scalar(&m->b, r->time);
    in[1] = (Val){0};
    b_loop(&m->b, inner.b.g, r->nstate, want_y, n, in, res);
    if (want_y) {
        Val y = in_time(r, res[r->nstate]);
        result(m, 0, r->layout ? b_permute(&m->b, y, (int[]){2, 0, 1, 3}) : y);
    }
    for (int k = 0; k < r->nstate; k++)
        if (wanted(m, 1 + (uint32_t)k))
            result(m, 1 + (uint32_t)k, last_state(r, res[k]));
}

static void import(Imp *m, int gates, int nstate, const char *const *deflt, int nact, void (*step)(Rnn *, bool, Val *))
{
    Rnn r = {.m = m, .gates = gates, .nact = nact, .nstate = nstate};
    if (!read_direction(&r) || !read_activations(&r, deflt) || !read_operands(&r))
        return;
    Dim peep[2] = {r.state[D], dim_muli(m->c, r.hidden, 3)}, d[3] = {r.state[D], DC(m, 3), r.hidden};
    if (nstate == 2 && !take(&r, 7, "P", 2, peep, &r.peep))
        return;
    r.peep = reshape_to(m, r.peep, 3, d);
    run(&r, step);
}

void imp_rnn(Imp *m) { import(m, 1, 1, (const char *const[]){"Tanh"}, 1, step_rnn); }
void imp_gru(Imp *m) { import(m, 3, 1, (const char *const[]){"Sigmoid", "Tanh"}, 2, step_gru); }
void imp_lstm(Imp *m) { import(m, 4, 2, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, 3, step_lstm); }
