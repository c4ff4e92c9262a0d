/* op_select.c: operators that choose and whose result's size only the data decide, as functions of the runtime
 * (runtime/call_select.c). */
#include "frontend/import.h"

#define FN(f) void imp_##f(Imp *m)
FN(nonmaxsuppression); FN(unique);

/* A size that the call defines. */
static Dim found(Imp *m, const char *stem)
{
    Dim d = dim_fresh(m->c, stem, 0, DIM_INF);
    dim_sym_mark_bound(m->c, (uint32_t)dim_info(m->c, d)->val);
    return d;
}

/* Operand k as a scalar, or deflt. */
static Val scalar_operand(Imp *m, uint32_t k, Val deflt) { return present(m, k) ? only_element(m, m->in[k]) : deflt; }

/* [batch, class, index] of the boxes that stay; no limit given: none stays */
void imp_nonmaxsuppression(Imp *m)
{
    Val boxes = m->in[0], scores = m->in[1], y;
    if (rank_of(m, boxes) != 3 || rank_of(m, scores) != 3) {
        ERR(m, "E0203", "expected boxes and scores of rank 3, got %d and %d", rank_of(m, boxes), rank_of(m, scores));
        return;
    }
    if (dtype_of(m, boxes) != DT_F32) {
        ERR(m, "E0207", "boxes: expected f32, got %s", dt_name(dtype_of(m, boxes)));
        return;
    }
    b_guard(&m->b, G_EQ, dim_of(m, boxes, 2), DC(m, 4), "a box has four numbers");
    b_guard(&m->b, G_EQ, dim_of(m, boxes, 0), dim_of(m, scores, 0), "boxes and scores have different numbers of batches");
    b_guard(&m->b, G_EQ, dim_of(m, boxes, 1), dim_of(m, scores, 2), "there must be one score per box and class");
    Val iou = scalar_operand(m, 3, scalar_of(m, DT_F32, 0));
    if (present(m, 3)) {
        Expr v = xarg(m, 0, DT_F32), ok = X2(AND, X2(GE, v, xf(m, DT_F32, 0)), X2(LE, v, xf(m, DT_F32, 1)));
        b_guard_val(&m->b, map_over(m, ok, 1, &iou, 0, NULL), "iou_threshold must be in [0, 1]");
    }
    Val in[6] = {boxes, scores, scalar_operand(m, 2, scalar_i64(m, 0)), iou, scalar_operand(m, 4, (Val){0}),
                 scalar_i64(m, attr_i(m, "center_point_box"))};
    Type t = type_tensor(m->c, DT_I64, 2, (Dim[]){found(m, "boxes"), DC(m, 3)});
    b_call(&m->b, "suppress_boxes", 1, &t, 6, in, &y);
    result(m, 0, y);
}

/* values, where each is first, which of them each element is, how often each occurs */
void imp_unique(Imp *m)
{
    Val x = m->in[0], y[4];
    const Type t = *val_type(m->b.g, x);
    int axis = -1;
    if (attr_has(m, "axis") && !axis_ok(m, attr_i(m, "axis"), t.rank, &axis))
        return;
    Dim u = found(m, "unique"), n = axis < 0 ? type_count(m->c, &t) : t.dim[axis];
    Type out[3] = {type_tensor(m->c, DT_I64, 1, &u), type_tensor(m->c, DT_I64, 1, &n), type_tensor(m->c, DT_I64, 1, &u)};
    Val in[3] = {x, scalar_i64(m, axis), scalar_i64(m, attr_i(m, "sorted"))};
    b_call(&m->b, "unique", 3, out, 3, in, y + 1);
    y[0] = b_gather(&m->b, axis < 0 ? reshape_to(m, x, 1, &n) : x, y[1], axis < 0 ? 0 : axis, OOB_FAIL);
    for (uint32_t k = 0; k < 4; k++)
        result(m, k, y[k]);
}
