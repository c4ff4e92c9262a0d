/* overlap.c: sums of blocks that lie over an image where they overlap: Col2Im, and transposed convolutions whose products come first. */
#include "frontend/import.h"
#include "frontend/window.h"
#include <string.h>

/* An axis of the image. Pixels behind `skip` others are `phases` to a place: axis `at` of the sums; where that is more than one, the number of
 * the pixel there is axis `phase`, and what covers it is `phases` apart. */
typedef struct Fold { Overlap o; Dim places, some; int64_t phases, skip; int at, phase; } Fold;

static void fold_axes(Imp *m, int n, const Overlap *axis, Fold *f)
{
    int at = 2;
    for (int i = 0; i < n; i++) {
        const Overlap *o = &axis[i];
        int64_t phases = o->dilation == 1 && 3 * n + 2 <= MAX_RANK ? o->stride : 1, skip = o->pad % phases;
        Dim by = DC(m, phases);
        f[i] = (Fold){.o = *o, .phases = phases, .skip = skip, .phase = at, .places = dim_ceildiv(m->c, dim_addi(m->c, o->image, skip), by),
                      .some = dim_ceildiv(m->c, o->block, by)};
        at += phases > 1;
    }
    for (int i = 0; i < n; i++)
        f[i].at = at + i;
}

/* Position in the block, and block, of the j-th that may cover a pixel; whether it does, where that is not certain. */
static Expr fold_at(Imp *m, const Fold *f, Expr j, Expr *pos, Expr *block)
{
    const Overlap *o = &f->o;
    Expr u = xaxis(m, f->at), certain = expr_int(m->c, DT_BOOL, 1);
    if (f->phases == 1) {
        Expr p = X2(SUB, X2(ADD, u, XI(o->pad)), X2(MUL, j, XI(o->dilation)));
        *pos = j, *block = X2(FDIV, p, XI(o->stride));
        return X2(AND, X2(EQ, X2(MOD, p, XI(o->stride)), XI(0)), in_range(m, *block, XI(0), xdim(m, o->count)));
    }
    const int64_t first = o->pad / f->phases;
    *pos = X2(ADD, X2(MUL, j, XI(f->phases)), xaxis(m, f->phase));
    *block = X2(SUB, X2(ADD, u, XI(first)), j);
    Expr whole = dim_is(m->c, dim_mod(m->c, o->block, DC(m, f->phases)), 0) ? certain : X2(LT, *pos, xdim(m, o->block));
    Expr begun = dim_is(m->c, f->some, 1) ? certain : X2(GE, *block, XI(0));
    bool room = dim_lo(m->c, dim_sub(m->c, o->count, dim_addi(m->c, f->places, first))) >= 0;
    return X2(AND, whole, X2(AND, begun, room ? certain : X2(LT, *block, xdim(m, o->count))));
}

/* The sums of phases, in the order of pixels. */
static Val fold_join(Imp *m, Val v, int n, const Fold *f)
{
    Dim d[MAX_RANK] = {dim_of(m, v, 0), dim_of(m, v, 1)};
    int perm[MAX_RANK] = {0, 1}, r = 2;
    for (int i = 0; i < n; i++) {
        perm[r++] = f[i].at;
        if (f[i].phases > 1)
            perm[r++] = f[i].phase;
        d[2 + i] = dim_muli(m->c, f[i].places, f[i].phases);
    }
    v = reshape_to(m, b_permute(&m->b, v, perm), 2 + n, d);
    for (int i = 0; i < n; i++)
        v = b_slice_axis(&m->b, v, 2 + i, DC(m, f[i].skip), f[i].o.image);
    return v;
}

/* Every pixel sums the columns of the blocks that cover it: a map over pixel and position in the block, then a sum. */
Val overlap_sum(Imp *m, Val x, int n, const Overlap *axis)
{
    const DType t = dtype_of(m, x);
    Fold f[MAX_RANK] = {0};
    Dim d[MAX_RANK], positions = DC(m, 1), blocks = DC(m, 1);
    fold_axes(m, n, axis, f);
    const int inner = f[n - 1].at + 1;
    Expr at[3] = {xaxis(m, 0), XI(0), XI(0)}, hit = expr_int(m->c, DT_BOOL, 1);
    for (int i = 0; i < n; i++) {
        Expr pos, b, j = dim_is(m->c, f[i].some, 1) ? XI(0) : xaxis(m, inner + i);
        hit = X2(AND, hit, fold_at(m, &f[i], j, &pos, &b));
        at[1] = X2(ADD, X2(MUL, at[1], xdim(m, axis[i].block)), pos);
        at[2] = X2(ADD, X2(MUL, at[2], xdim(m, axis[i].count)), b);
        positions = dim_mul(m->c, positions, axis[i].count);
        blocks = dim_mul(m->c, blocks, axis[i].block);
        if (f[i].phases > 1)
            d[f[i].phase] = DC(m, f[i].phases);
        d[f[i].at] = f[i].places;
        d[inner + i] = f[i].some;
    }
    b_guard(&m->b, G_EQ, dim_of(m, x, 2), positions, "the number of columns does not fit image, blocks, strides and pads");
    b_guard(&m->b, G_EQ, dim_mod(m->c, dim_of(m, x, 1), blocks), DC(m, 0), "the rows must be a multiple of the block's size");
    d[0] = dim_of(m, x, 0);
    d[1] = dim_floordiv(m->c, dim_of(m, x, 1), blocks);
    at[1] = X2(ADD, X2(MUL, xaxis(m, 1), xdim(m, blocks)), at[1]);
    Expr zero = expr_int(m->c, t, 0);
    Expr e = X3(SELECT, hit, expr_load(m->c, 0, t, 3, at, OOB_VALUE, zero, 0), zero);
    Val v = map_over(m, expr_cast(m->c, e, t == DT_BOOL ? DT_I32 : t), 1, &x, inner + n, d);
    v = b_reduce1(&m->b, R_SUM, v, ((1u << n) - 1) << inner, false);
    return fold_join(m, cast_to(m, v, t), n, f);
}
