/* lir_lanes.c: the meaning of every Lir operation without side effects, lane by lane, for the
 * interpreter. One function per operation and type, made by macros from one expression; tables map
 * (operation, type) to it. */
#include "lir_lanes.h"

#include <math.h>
#include <string.h>

static inline float get_f32(uint64_t x) {
    uint32_t u = (uint32_t)x;
    float f;
    return memcpy(&f, &u, 4), f;
}
static inline uint64_t put_f32(float f) {
    uint32_t u;
    return memcpy(&u, &f, 4), u;
}
static inline double get_f64(uint64_t x) {
    double f;
    return memcpy(&f, &x, 8), f;
}
static inline uint64_t put_f64(double f) {
    uint64_t u;
    return memcpy(&u, &f, 8), u;
}

/* tag, DType, C type, the same unsigned, is signed */
#define INT_TYPES(M)                                                                               \
    M(i8, I8, int8_t, uint8_t, 1)                                                                  \
    M(u8, U8, uint8_t, uint8_t, 0) M(i16, I16, int16_t, uint16_t, 1)                               \
        M(u16, U16, uint16_t, uint16_t, 0) M(i32, I32, int32_t, uint32_t, 1)                       \
            M(u32, U32, uint32_t, uint32_t, 0) M(i64, I64, int64_t, uint64_t, 1)                   \
                M(u64, U64, uint64_t, uint64_t, 0)
#define X(tag, dt, T, U, s)                                                                        \
    static inline T get_##tag(uint64_t x) { return (T)x; }                                         \
    static inline uint64_t put_##tag(T x) { return (uint64_t)(int64_t)x; }
INT_TYPES(X)
#undef X
static inline uint64_t put_bool(bool x) { return x; }
static inline bool below0(int64_t x) { return x < 0; }

#define LANES for (uint32_t k = 0; k < d->n; k++)
#define FN(name) static void name(Run *r, const Step *d)
#define UNUSED ((void)r)
/* name_tag(x), name_tag(x, y): `expr` over operands x, y of C type T */
#define UN(name, tag, T, ptag, expr)                                                               \
    FN(name##_##tag) {                                                                             \
        UNUSED;                                                                                    \
        LANES {                                                                                    \
            T x = get_##tag(d->a[k]);                                                              \
            d->dst[k] = put_##ptag(expr);                                                          \
        }                                                                                          \
    }
#define BIN(name, tag, T, ptag, expr)                                                              \
    FN(name##_##tag) {                                                                             \
        UNUSED;                                                                                    \
        LANES {                                                                                    \
            T x = get_##tag(d->a[k]), y = get_##tag(d->b[k]);                                      \
            d->dst[k] = put_##ptag(expr);                                                          \
        }                                                                                          \
    }

#define COMPARISONS(tag, T)                                                                        \
    BIN(eq, tag, T, bool, x == y)                                                                  \
    BIN(ne, tag, T, bool, x != y) BIN(lt, tag, T, bool, x < y) BIN(le, tag, T, bool, x <= y)       \
        BIN(gt, tag, T, bool, x > y) BIN(ge, tag, T, bool, x >= y)                                 \
            BIN(min, tag, T, tag, x < y ? x : y) BIN(max, tag, T, tag, x > y ? x : y)

/* Wrapping arithmetic is done in uint64 and narrowed by the cast to T. */
#define W(e) ((uint64_t)(e))
#define X(tag, dt, T, U, sgn)                                                                      \
    COMPARISONS(tag, T)                                                                            \
    BIN(add, tag, T, tag, (T)(W(x) + W(y)))                                                        \
    BIN(sub, tag, T, tag, (T)(W(x) - W(y))) BIN(mul, tag, T, tag, (T)(W(x) * W(y)))                \
        BIN(and, tag, T, tag, (T)(x & y)) BIN(or, tag, T, tag, (T)(x | y))                         \
            BIN(xor, tag, T, tag, (T)(x ^ y)) BIN(shl, tag, T, tag, (T)(W(x) << (W(y) & 63)))      \
                BIN(shr, tag, T, tag, (T)(x >> (W(y) & (sizeof(T) * 8 - 1))))                      \
                    BIN(shru, tag, T, tag, (T)((U)x >> (W(y) & (sizeof(T) * 8 - 1))))              \
                        BIN(ltu, tag, T, bool, (U)x < (U)y) UN(not, tag, T, tag, (T)~x)            \
                            UN(neg, tag, T, tag, (T)(0 - W(x)))                                    \
                                UN(abs, tag, T, tag, sgn &&below0((int64_t)x) ? (T)(0 - W(x)) : x) \
                                    FN(divide_##tag) {                                             \
        LANES {                                                                                    \
            T x = get_##tag(d->a[k]), y = get_##tag(d->b[k]), q = 0, m = 0;                        \
            if (y == 0 || (sgn && below0((int64_t)y) && W(y) + 1 == 0 &&                           \
                           x == (T)(W(1) << (sizeof(T) * 8 - 1))))                                 \
                r->fault = "division overflow or by zero";                                         \
            else                                                                                   \
                q = (T)(x / y), m = (T)(x % y);                                                    \
            bool down = sgn && m != 0 && below0((int64_t)m) != below0((int64_t)y);                 \
            SOp op = (SOp)d->size;                                                                 \
            if (op == S_FDIV && down) q = (T)(q - 1);                                              \
            if (op == S_MOD && down) m = (T)(m + y);                                               \
            d->dst[k] = put_##tag(op == S_DIV || op == S_FDIV ? q : m);                            \
        }                                                                                          \
    }
INT_TYPES(X)
#undef X

#define X(tag, T, F)                                                                               \
    COMPARISONS(tag, T)                                                                            \
    BIN(add, tag, T, tag, x + y)                                                                   \
    BIN(sub, tag, T, tag, x - y) BIN(mul, tag, T, tag, x *y) BIN(div, tag, T, tag, x / y)          \
        UN(neg, tag, T, tag, -x) UN(abs, tag, T, tag, fabs##F(x))                                  \
            UN(floor, tag, T, tag, floor##F(x)) UN(ceil, tag, T, tag, ceil##F(x))                  \
                UN(trunc, tag, T, tag, trunc##F(x)) UN(rint, tag, T, tag, rint##F(x))              \
                    UN(sqrt, tag, T, tag, sqrt##F(x)) BIN(scalef, tag, T, tag,                     \
                                                          scalbn##F(x, y > 4000    ? 4000          \
                                                                       : y < -4000 ? -4000         \
                                                                                   : (int)y))      \
                        FN(fma_##tag) {                                                            \
        UNUSED;                                                                                    \
        LANES d->dst[k] =                                                                          \
            put_##tag(fma##F(get_##tag(d->a[k]), get_##tag(d->b[k]), get_##tag(d->c[k])));         \
    }
X(f32, float, f)
X(f64, double, )
#undef X

    FN(not_bool) {
    UNUSED;
    LANES d->dst[k] = !d->a[k];
}
FN(select_any) {
    UNUSED;
    LANES d->dst[k] = d->a[k] ? d->b[k] : d->c[k];
}

LaneFn lane_op(SOp op, DType t) {
#define COMMON(tag)                                                                                \
    [S_ADD] = add_##tag, [S_SUB] = sub_##tag, [S_MUL] = mul_##tag, [S_MIN] = min_##tag,            \
    [S_MAX] = max_##tag, [S_EQ] = eq_##tag, [S_NE] = ne_##tag, [S_LT] = lt_##tag,                  \
    [S_LE] = le_##tag, [S_GT] = gt_##tag, [S_GE] = ge_##tag, [S_NEG] = neg_##tag,                  \
    [S_ABS] = abs_##tag
    static const LaneFn table[DT_COUNT][S_COUNT] = {
#define X(tag, dt, T, U, sgn)                                                                      \
    [DT_##dt] = {COMMON(tag),                                                                      \
                 [S_AND] = and_##tag,                                                              \
                 [S_OR] = or_##tag,                                                                \
                 [S_XOR] = xor_##tag,                                                              \
                 [S_NOT] = not_##tag,                                                              \
                 [S_SHL] = shl_##tag,                                                              \
                 [S_SHR] = shr_##tag,                                                              \
                 [S_DIV] = divide_##tag,                                                           \
                 [S_REM] = divide_##tag,                                                           \
                 [S_FDIV] = divide_##tag,                                                          \
                 [S_MOD] = divide_##tag},
        INT_TYPES(X)
#undef X
#define X(tag, dt)                                                                                 \
    [DT_##dt] = {COMMON(tag),           [S_DIV] = div_##tag,     [S_FLOOR] = floor_##tag,          \
                 [S_CEIL] = ceil_##tag, [S_TRUNC] = trunc_##tag, [S_RINT] = rint_##tag,            \
                 [S_SQRT] = sqrt_##tag, [S_FMA] = fma_##tag},
            X(f32, F32) X(f64, F64)
#undef X
                [DT_BOOL] = {[S_AND] = and_u64,
                             [S_OR] = or_u64,
                             [S_XOR] = xor_u64,
                             [S_NOT] = not_bool,
                             [S_EQ] = eq_u64,
                             [S_NE] = ne_u64},
    };
    return op == S_SELECT ? select_any : table[t][op];
}

/* ---- conversions ----------------------------------------------------------------------------- */

static float f16_to_f32(uint64_t h) {
    uint32_t sign = (uint32_t)(h >> 15 & 1) << 31, e = (uint32_t)(h >> 10 & 31),
             m = (uint32_t)(h & 1023);
    if (e == 31) return get_f32(sign | 0x7f800000u | m << 13 | (m ? 0x400000u : 0));
    if (e) return get_f32(sign | (e + 112) << 23 | m << 13);
    float f = (float)m * 0x1p-24f;
    return sign ? -f : f;
}
static uint64_t f32_to_f16(float f) {
    uint32_t u = (uint32_t)put_f32(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return sign | 0x7e00 | (a >> 13 & 0x3ff);
    if (a >= 0x477ff000) return sign | 0x7c00; /* rounds to 2^16 or more */
    if (a < 0x38800000)
        return sign |
               ((uint32_t)put_f32(get_f32(a) + 0.5f) - 0x3f000000); /* denormal: unit 2^-24 */
    return sign | ((a + 0xfff + (a >> 13 & 1) - 0x38000000) >> 13);
}
static uint64_t f32_to_bf16(float f) {
    uint32_t u = (uint32_t)put_f32(f);
    return (u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
FN(f16_f32) {
    UNUSED;
    LANES d->dst[k] = put_f32(f16_to_f32(d->a[k]));
}
FN(f32_f16) {
    UNUSED;
    LANES d->dst[k] = f32_to_f16(get_f32(d->a[k]));
}
FN(bf16_f32) {
    UNUSED;
    LANES d->dst[k] = (d->a[k] & 0xffff) << 16;
}
FN(f32_bf16) {
    UNUSED;
    LANES d->dst[k] = f32_to_bf16(get_f32(d->a[k]));
}
UN(to_f64, f32, float, f64, (double)x)
UN(to_f32, f64, double, f32, (float)x)
UN(signed_f32, i64, int64_t, f32, (float)x)
UN(unsigned_f32, u64, uint64_t, f32, (float)x)
UN(signed_f64, i64, int64_t, f64, (double)x)
UN(unsigned_f64, u64, uint64_t, f64, (double)x)
/* float -> integer, defined in range only; outside the result is what x86 gives for i32 and i64 */
#define X(tag, dt, T, U, sgn)                                                                      \
    UN(narrow_##tag, u64, uint64_t, tag, (T)x)                                                     \
    UN(f64_##tag, f64, double, tag,                                                                \
       sgn ? (x > -0x1p63 && x < 0x1p63 ? (T)(int64_t)x : (T)(W(1) << (sizeof(T) * 8 - 1)))        \
           : (x > -1 && x < 0x1p64 ? (T)(uint64_t)x : (T)0))                                       \
    UN(f32_##tag, f32, float, tag,                                                                 \
       sgn ? (x > -0x1p63f && x < 0x1p63f ? (T)(int64_t)x : (T)(W(1) << (sizeof(T) * 8 - 1)))      \
           : (x > -1 && x < 0x1p64f ? (T)(uint64_t)x : (T)0))
INT_TYPES(X)
#undef X
FN(keep64) {
    UNUSED;
    LANES d->dst[k] = d->a[k];
}

static LaneFn cast_fn(DType from, DType to) {
    static const LaneFn narrow[DT_COUNT] = {
#define X(tag, dt, T, U, sgn) [DT_##dt] = narrow_##tag##_u64,
        INT_TYPES(X)
#undef X
    };
    static const LaneFn from_f32[DT_COUNT] = {[DT_F64] = to_f64_f32,
                                              [DT_F16] = f32_f16,
                                              [DT_BF16] = f32_bf16,
#define X(tag, dt, T, U, sgn) [DT_##dt] = f32_##tag##_f32,
                                              INT_TYPES(X)
#undef X
    };
    static const LaneFn from_f64[DT_COUNT] = {[DT_F32] = to_f32_f64,
#define X(tag, dt, T, U, sgn) [DT_##dt] = f64_##tag##_f64,
                                              INT_TYPES(X)
#undef X
    };
    if (from == DT_F32) return from_f32[to];
    if (from == DT_F64) return from_f64[to];
    if (dt_is_half(from))
        return to != DT_F32 ? NULL : from == DT_F16 ? f16_f32 : bf16_f32;
    if (to == DT_F32) return from == DT_U64 ? unsigned_f32_u64 : signed_f32_i64;
    if (to == DT_F64) return from == DT_U64 ? unsigned_f64_u64 : signed_f64_i64;
    return narrow[to];
}

/* Bits of any width to the lane form of `to`. */
FN(bits8) {
    UNUSED;
    LANES d->dst[k] = d->a[k] & 0xff;
}
FN(bits16) {
    UNUSED;
    LANES d->dst[k] = d->a[k] & 0xffff;
}
FN(bits32) {
    UNUSED;
    LANES d->dst[k] = d->a[k] & 0xffffffff;
}
static LaneFn bits_fn(DType to) {
    switch (to) {
    case DT_I8:
        return narrow_i8_u64;
    case DT_I16:
        return narrow_i16_u64;
    case DT_I32:
        return narrow_i32_u64;
    default:
        break;
    }
    unsigned b = dt_bits(to);
    return b <= 8 ? bits8 : b == 16 ? bits16 : b == 32 ? bits32 : keep64;
}

/* ---- vectors --------------------------------------------------------------------------------- */

FN(splat) {
    UNUSED;
    LANES d->dst[k] = d->a[0];
}
FN(extract) {
    UNUSED;
    d->dst[0] = d->a[d->width];
}
FN(insert) {
    UNUSED;
    LANES d->dst[k] = k == d->width ? d->b[0] : d->a[k];
}
FN(permute) {
    UNUSED;
    LANES d->dst[k] = d->a[d->b[k] & (d->n - 1)];
}
FN(mask) {
    UNUSED;
    LANES d->dst[k] = (int64_t)k < (int64_t)d->a[0];
}
FN(any) {
    UNUSED;
    uint64_t v = 0;
    for (uint32_t k = 0; k < d->width; k++) v |= d->a[k];
    d->dst[0] = v;
}
FN(dot4) {
    UNUSED;
    LANES {
        uint32_t sum = (uint32_t)d->a[k];
        for (int b = 0; b < 32; b += 8)
            sum += (uint32_t)((int32_t)(uint8_t)(d->b[k] >> b) * (int8_t)(d->c[k] >> b));
        d->dst[k] = put_i32((int32_t)sum);
    }
}
static int32_t saturated(int32_t v) { return v < INT16_MIN ? INT16_MIN : v > INT16_MAX ? INT16_MAX : v; }
FN(pairs) {
    UNUSED;
    LANES {
        uint32_t both = 0;
        for (int b = 0; b < 32; b += 16) {
            int32_t sum = 0;
            for (int j = b; j < b + 16; j += 8) sum += (int32_t)(uint8_t)(d->b[k] >> j) * (int8_t)(d->c[k] >> j);
            both |= (uint32_t)(uint16_t)saturated((int16_t)(d->a[k] >> b) + saturated(sum)) << b;
        }
        d->dst[k] = put_i32((int32_t)both);
    }
}
FN(add_pair) {
    UNUSED;
    LANES d->dst[k] = put_i32((int32_t)((uint32_t)d->a[k] + (uint32_t)(int16_t)d->b[k] + (uint32_t)(int16_t)(d->b[k] >> 16)));
}
FN(hreduce) { /* width: lanes of the operand; dst has room for them */
    memcpy(d->dst, d->a, d->width * sizeof *d->dst);
    for (uint32_t h = d->width / 2; h; h /= 2) {
        Step s = {.dst = d->dst, .a = d->dst, .b = d->dst + h, .n = h};
        d->combine(r, &s);
    }
}

LaneFn lane_other(LOp op, DType from, DType to) {
    static const LaneFn shru[DT_COUNT] = {
#define X(tag, dt, T, U, sgn) [DT_##dt] = shru_##tag,
        INT_TYPES(X)
#undef X
    };
    static const LaneFn ltu[DT_COUNT] = {
#define X(tag, dt, T, U, sgn) [DT_##dt] = ltu_##tag,
        INT_TYPES(X)
#undef X
    };
    switch (op) {
    case L_SHRU:
        return shru[from];
    case L_LTU:
        return ltu[from];
    case L_CAST:
        return cast_fn(from, to);
    case L_BITCAST:
        return bits_fn(to);
    case L_SPLAT:
        return splat;
    case L_EXTRACT:
        return extract;
    case L_INSERT:
        return insert;
    case L_PERMUTE:
        return permute;
    case L_HREDUCE:
        return hreduce;
    case L_MASK:
        return mask;
    case L_ANY:
        return any;
    case L_DOT4:
        return dot4;
    case L_PAIRS:
        return pairs;
    case L_ADD_PAIR:
        return add_pair;
    case L_SCALEF:
        return to == DT_F32 ? scalef_f32 : scalef_f64;
    default:
        return NULL;
    }
}
