/* emit_value.c: values in registers. They have their "register type": f16, bf16 and f8 live as f32 (rounded after every operation, which is the
 * correctly rounded result for + - * / sqrt since 24 >= 2*11+2), 4- and 2-bit integers as bytes. */
#include <float.h>

#include "emit_value.h"

DType reg_type(DType t) {
    switch (t) {
    case DT_F16: case DT_BF16: case DT_F8E4M3: case DT_F8E4M3Z: case DT_F8E5M2: case DT_F8E5M2Z: case DT_F4E2M1:
    case DT_F8E8M0: return DT_F32;
    case DT_U4: case DT_U2: return DT_U8;
    case DT_I4: case DT_I2: return DT_I8;
    default: return t;
    }
}

static bool narrow_float(DType t) { return dt_is_float(t) && reg_type(t) != t; }

DType reg_mem_type(DType t) { return dt_is_packed(t) && !dt_is_float(t) ? reg_type(t) : t; }

LVal reg_round(Emit *e, LVal v, DType t) {
    return narrow_float(t) ? math_cast(e->l, e->t, math_cast(e->l, e->t, v, DT_F32, t), t, DT_F32) : v;
}

LVal reg_cast(Emit *e, LVal v, DType from, DType to) {
    if (from == to) return v;
    if (narrow_float(to)) {
        LVal wide = narrow_float(from) ? v : math_cast(e->l, e->t, v, from, DT_F32);
        if (to == DT_F8E5M2) { /* has infinities, but conversion saturates */
            LVal top = lir_splat(e->l, lir_float(e->l, DT_F32, FLT_MAX), lir_type(e->l, wide).lanes);
            LVal inf = math_op(e->l, e->t, S_ISINF, DT_F32, 1, &wide);
            LVal up = lir_op2(e->l, S_GT, wide, lir_float(e->l, DT_F32, 0)), end = lir_op3(e->l, S_SELECT, up, top, lir_op1(e->l, S_NEG, top));
            wide = lir_op3(e->l, S_SELECT, inf, end, wide);
        }
        return reg_round(e, wide, to);
    }
    return math_cast(e->l, e->t, v, reg_type(from), to);
}

uint16_t reg_lanes(Emit *e, LVal v) { return lir_type(e->l, v).lanes; }

LVal reg_widen(Emit *e, LVal v, uint16_t lanes) {
    return lanes > 1 && reg_lanes(e, v) == 1 ? lir_splat(e->l, v, lanes) : v;
}

LVal reg_from_memory(Emit *e, LVal v, DType t) {
    return narrow_float(t) ? math_cast(e->l, e->t, v, t, DT_F32) : v;
}

LVal reg_to_memory(Emit *e, LVal v, DType t) {
    return narrow_float(t) ? math_cast(e->l, e->t, v, DT_F32, t) : v;
}

LVal reg_const(Emit *e, Scalar s) {
    DType r = reg_type(s.t);
    if (s.t == DT_BOOL) return lir_bool(e->l, s.i != 0);
    return dt_is_float(s.t) ? lir_float(e->l, r, s.f) : lir_int(e->l, r, s.i);
}
