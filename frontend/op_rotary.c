/* op_rotary.c: rotary embedding: (x1, x2) of each pair to (x1*cos - x2*sin, x1*sin + x2*cos). */
#include "frontend/attn.h"
#include <string.h>

void imp_rotary(Imp *m);

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
