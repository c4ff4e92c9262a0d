/* op_rotary.c: rotary embedding: (x1, x2) of each pair to (x1*cos - x2*sin, x1*sin + x2*cos). */
#include "frontend/attn.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(rotary); FN(ms_rotary); FN(ms_mrotary); FN(gemmarotary);

/* [.., n] of the last axis from `start` */
static Val part(Imp *m, Val v, Dim start, Dim size)
{
    return b_slice_axis(&m->b, v, rank_of(m, v) - 1, start, size);
}

bool rotate(Imp *m, Heads *h, const Rotary *rot)
{
    Dim half = dim_floordiv(m->c, rot->size, DC(m, 2)), zero = DC(m, 0), one = DC(m, 1), d[4];
    if (!h->v.i || !rot->cos.i || !rot->sin.i)
        return false;
    DType t = dtype_of(m, h->v), w = wide_type(t);
    Val v = cast_to(m, h->v, w), cs[2] = {rot->cos, rot->sin};
    dims_of(m, v, d);
    b_guard(&m->b, G_LE, rot->size, d[3], "the rotated part is larger than the head");
    for (int i = 0; i < 2; i++) {
        b_guard(&m->b, G_EQ, dim_of(m, cs[i], 2), half, "the caches must hold half of the rotated size");
        cs[i] = cast_to(m, insert_axes(m, cs[i], 4, h->flat ? 4 : 2), w);
    }
    bool whole = dim_same(m->c, rot->size, d[3]);
    Val turned = whole ? v : part(m, v, zero, rot->size), x1, x2;
    if (rot->pairs) {
        Val two = reshape_to(m, turned, 5, (Dim[]){d[0], d[1], d[2], half, DC(m, 2)});
        x1 = drop_axes(m, part(m, two, zero, one), 1u << 4);
        x2 = drop_axes(m, part(m, two, one, one), 1u << 4);
    } else {
        x1 = part(m, turned, zero, half);
        x2 = part(m, turned, half, half);
    }
    Val in[4] = {x1, x2, cs[0], cs[1]};
    Val y[3] = {map_text(m, "a * c - b * d", 4, in), map_text(m, "a * d + b * c", 4, in)};
    if (rot->pairs) {
        for (int i = 0; i < 2; i++)
            y[i] = insert_axes(m, y[i], 5, 1u << 4);
        y[0] = reshape_to(m, b_concat(&m->b, 2, y, 4), 4, (Dim[]){d[0], d[1], d[2], rot->size});
    }
    int k = rot->pairs ? 1 : 2;
    if (!whole)
        y[k++] = part(m, v, rot->size, dim_sub(m->c, d[3], rot->size));
    h->v = cast_to(m, k == 1 ? y[0] : b_concat(&m->b, k, y, 3), t);
    return h->v.i != 0;
}

void imp_rotary(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x);
    int64_t n = attr_i(m, "num_heads"), rot = attr_i(m, "rotary_embedding_dim");
    Heads h;
    Dim d[MAX_RANK];
    if (r == 4)
        n = 1;
    if (rot < 0) {
        ERR(m, "E0201", "attribute rotary_embedding_dim is negative");
        return;
    }
    if (!heads_apart(m, x, n, "num_heads", &h))
        return;
    Rotary turn = {.size = rot ? DC(m, rot) : h.size, .pairs = attr_i(m, "interleaved") != 0};
    for (int i = 0; i < 2; i++) { /* [batch, seq, half] */
        Val cs = m->in[1 + i];
        if (present(m, 3))
            cs = rank_of(m, cs) == 2 ? b_gather(&m->b, cs, m->in[3], 0, OOB_FAIL) : (Val){0};
        if (!cs.i || rank_of(m, cs) != 3) {
            ERR(m, "E0203", "%s: unexpected rank %d", i ? "sin_cache" : "cos_cache", rank_of(m, m->in[1 + i]));
            return;
        }
        *(i ? &turn.sin : &turn.cos) = cs;
    }
    dims_of(m, x, d);
    if (rotate(m, &h, &turn))
        result(m, 0, reshape_to(m, h.v, r, d));
}

/* ---- com.microsoft: always by positions; a single position is that of the first row */

/* [B, S] positions, from ids [1] or [B, S] */
static Val positions(Imp *m, Val ids, Dim batch, Dim len)
{
    Dim d[2] = {batch, len};
    if (rank_of(m, ids) == 2)
        return ids;
    if (rank_of(m, ids) != 1) {
        ERR(m, "E0203", "position_ids: expected rank 1 or 2, got %d", rank_of(m, ids));
        return (Val){0};
    }
    b_guard(&m->b, G_EQ, dim_of(m, ids, 0), DC(m, 1), "position_ids of one dimension hold the first position");
    return map_over(m, X2(ADD, xarg(m, 0, DT_I64), xaxis(m, 1)), 1, &ids, 2, d);
}

/* The operand with its heads apart and what the attributes say about the rotation. */
static bool rotary_read(Imp *m, Heads *h, Rotary *turn)
{
    Val x = m->in[0], cos = m->in[2];
    int64_t n = attr_i(m, "num_heads"), rot = attr_i(m, "rotary_embedding_dim");
    if (rank_of(m, cos) != 2 || rank_of(m, m->in[3]) != 2 || n < 0 || rot < 0 || (rot && n == 0 && rank_of(m, x) == 3)) {
        ERR(m, "E0203", "expected caches of rank 2, and num_heads where rotary_embedding_dim is given");
        return false;
    }
    turn->size = dim_muli(m->c, dim_of(m, cos, 1), 2);
    turn->pairs = attr_i(m, "interleaved") != 0;
    if (rank_of(m, x) == 3 && n == 0) { /* heads of twice the width of the caches */
        Dim d[3];
        dims_of(m, x, d);
        Dim heads = dim_floordiv(m->c, d[2], dim_max(m->c, turn->size, DC(m, 1)));
        b_guard(&m->b, G_EQ, dim_mul(m->c, heads, turn->size), d[2], "the hidden size must be divisible by the head size");
        *h = (Heads){reshape_to(m, x, 4, (Dim[]){d[0], d[1], heads, turn->size}), true, d[0], heads, d[1], turn->size};
        return h->v.i != 0;
    }
    return heads_apart(m, x, n, "num_heads", h);
}

static void rotary_result(Imp *m, Heads *h, const Rotary *turn)
{
    Dim d[MAX_RANK];
    double scale = attr_has(m, "scale") ? attr_f(m, "scale") : 1;
    dims_of(m, m->in[0], d);
    if (!rotate(m, h, turn))
        return;
    if (scale != 1)
        h->v = b_binary(&m->b, S_MUL, h->v, scalar_of(m, dtype_of(m, h->v), scale));
    result(m, 0, reshape_to(m, h->v, rank_of(m, m->in[0]), d));
}

void imp_ms_rotary(Imp *m)
{
    Heads h;
    Rotary turn;
    if (!rotary_read(m, &h, &turn))
        return;
    Val at = positions(m, m->in[1], h.batch, h.len);
    if (!at.i)
        return;
    turn.cos = b_gather(&m->b, m->in[2], at, 0, OOB_FAIL);
    turn.sin = b_gather(&m->b, m->in[3], at, 0, OOB_FAIL);
    rotary_result(m, &h, &turn);
}

/* Three streams of positions, [3, B, S]; each column of the caches follows one of them. */
void imp_ms_mrotary(Imp *m)
{
    Heads h;
    Rotary turn;
    int n;
    const int64_t *part = attr_ints(m, "mrope_section", &n);
    int64_t layout = attr_i(m, "mrope_layout");
    if (n != 3 || part[0] < 0 || part[1] < 0 || part[2] < 0 || layout < 0 || layout > 1 || rank_of(m, m->in[1]) != 3) {
        ERR(m, "E0203", "expected three sections that are not negative, mrope_layout 0 or 1, and position_ids of rank 3");
        return;
    }
    if (!rotary_read(m, &h, &turn))
        return;
    Dim half = dim_of(m, m->in[2], 1), d[3] = {h.batch, h.len, half};
    Expr col = xaxis(m, 2), stream;
    b_guard(&m->b, G_EQ, half, DC(m, part[0] + part[1] + part[2]), "the sections must add up to the width of the caches");
    if (layout) { /* every third column, as long as the section lasts */
        Expr third = X2(MOD, col, XI(3));
        Expr tall = X2(AND, X2(EQ, third, XI(1)), X2(LT, col, XI(3 * part[1])));
        Expr wide = X2(AND, X2(EQ, third, XI(2)), X2(LT, col, XI(3 * part[2])));
        stream = X3(SELECT, tall, XI(1), X3(SELECT, wide, XI(2), XI(0)));
    } else {
        stream = X3(SELECT, X2(LT, col, XI(part[0])), XI(0), X3(SELECT, X2(LT, col, XI(part[0] + part[1])), XI(1), XI(2)));
    }
    Expr pos = load_at(m, 1, DT_I64, 3, (Expr[]){stream, xaxis(m, 0), xaxis(m, 1)});
    for (int i = 0; i < 2; i++) {
        Val cache = m->in[2 + i];
        Expr e = load_at(m, 0, dtype_of(m, cache), 2, (Expr[]){pos, col});
        *(i ? &turn.sin : &turn.cos) = map_over(m, e, 2, (Val[]){cache, m->in[1]}, 3, d);
    }
    rotary_result(m, &h, &turn);
}

/* emb[B, S, D] of angles; q cos(emb) + q_rot sin(emb), of shape [B, H, S, D], and k likewise; cos and sin are rounded to the type of q */
void imp_gemmarotary(Imp *m)
{
    const int of_emb[4] = {0, -1, 1, 2}; /* axes */
    Val turn[2];
    for (int k = 0; k < 5; k++)
        if (rank_of(m, m->in[k]) != (k ? 4 : 3) || (k && dtype_of(m, m->in[k]) != dtype_of(m, m->in[1]))) {
            ERR(m, "E0203", "operand number %d: expected rank %d and the type of q, got rank %d of %s", k, k ? 4 : 3, rank_of(m, m->in[k]),
                dt_name(dtype_of(m, m->in[k])));
            return;
        }
    for (int k = 1; k < 5; k++)
        for (int d = 0; d < 4; d++)
            b_guard(&m->b, G_EQ, dim_of(m, m->in[k], d), d == 1 ? dim_of(m, m->in[k > 2 ? 3 : 1], 1) : dim_of(m, m->in[0], of_emb[d]),
                    "operand number %d has another size along axis %d than the other operands ask for", k, d);
    for (int i = 0; i < 2; i++)
        turn[i] = insert_axes(m, cast_to(m, map_text(m, i ? "sin(a)" : "cos(a)", 1, m->in), dtype_of(m, m->in[1])), 4, 2);
    for (int k = 0; k < 2; k++) {
        Val straight = b_binary(&m->b, S_MUL, m->in[1 + 2 * k], turn[0]), turned = b_binary(&m->b, S_MUL, m->in[2 + 2 * k], turn[1]);
        result(m, (uint32_t)k, b_binary(&m->b, S_ADD, straight, turned));
    }
}
