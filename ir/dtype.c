/* dtype.c: element types: names and sizes, elements in memory, and exact conversion of one scalar.
 *
 * Every narrow float is a row of `format`; encoding rounds a double once, to nearest even, so that
 * a conversion never rounds twice. Memory may be unaligned. Invariant of Scalar: integers are sign-
 * or zero-extended to 64 bits, floats are exactly representable in their type. Types without
 * arithmetic (str, complex, ptr) load as zero and store zeros. IR.md "cast" has the rules; where
 * ONNX leaves values open we follow ml_dtypes: f4 NaN becomes -0. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ir.h"

typedef enum { KIND_OTHER, KIND_FLOAT, KIND_INT, KIND_UINT } Kind;
static const struct { const char *name; uint16_t bits; uint8_t kind; } types[DT_COUNT] = {
    [DT_NONE] = {"none", 0, KIND_OTHER},
    [DT_PTR] = {"ptr", 64, KIND_OTHER},
#define DTYPE(e, text, n, bits, kind) [DT_##e] = {text, bits, KIND_##kind},
#include "dtype.def"
#undef DTYPE
};

static unsigned valid(DType t) { return (unsigned)t < DT_COUNT ? (unsigned)t : DT_NONE; }

const char *dt_name(DType t) {
    const char *s = types[valid(t)].name;
    return s ? s : "none";
}

DType dt_parse(const char *s, size_t n) {
    for (unsigned t = 1; t < DT_COUNT; t++) {
        const char *name = types[t].name;
        if (name && strlen(name) == n && memcmp(name, s, n) == 0) return (DType)t;
    }
    return DT_NONE;
}

unsigned dt_bits(DType t) { return types[valid(t)].bits; }
bool dt_is_float(DType t) { return types[valid(t)].kind == KIND_FLOAT; }
bool dt_is_half(DType t) { return t == DT_F16 || t == DT_BF16; }
bool dt_is_signed(DType t) { return types[valid(t)].kind == KIND_INT; }
bool dt_is_int(DType t) { return types[valid(t)].kind >= KIND_INT && t != DT_BOOL; }
bool dt_is_packed(DType t) { return dt_bits(t) > 0 && dt_bits(t) < 8; }

size_t dt_bytes(DType t, int64_t n) {
    size_t bytes, bits = dt_bits(t);
    if (n < 0) return SIZE_MAX; /* no buffer is that large, so the caller's check fails */
    if (dt_is_packed(t)) {
        size_t per = 8 / bits;
        return (size_t)n / per + ((size_t)n % per != 0);
    }
    return __builtin_mul_overflow((size_t)n, bits / 8, &bytes) ? SIZE_MAX : bytes;
}

/* ---- narrow floats ---- */

typedef struct Format {
    int mant, bias;             /* bits of the fraction; of the exponent */
    uint32_t sign;              /* sign bit; 0 = the type has none */
    uint32_t max, over, nan;    /* codes of: the largest finite value, what lies beyond it, NaN */
    uint32_t inf;               /* code of infinity, or 0 */
    bool one_zero;              /* "fnuz": no -0, and the code of -0 is the only NaN */
} Format;

static const Format format[DT_COUNT] = {
    [DT_F16] = {10, 15, 0x8000, 0x7bff, 0x7c00, 0x7e00, 0x7c00, false},
    [DT_BF16] = {7, 127, 0x8000, 0x7f7f, 0x7f80, 0x7fc0, 0x7f80, false},
    [DT_F8E4M3] = {3, 7, 0x80, 0x7e, 0x7e, 0x7f, 0, false},
    [DT_F8E4M3Z] = {3, 8, 0x80, 0x7f, 0x7f, 0x80, 0, true},
    [DT_F8E5M2] = {2, 15, 0x80, 0x7b, 0x7b, 0x7e, 0x7c, false},
    [DT_F8E5M2Z] = {2, 16, 0x80, 0x7f, 0x7f, 0x80, 0, true},
    [DT_F4E2M1] = {1, 1, 0x8, 0x7, 0x7, 0x8, 0, false},
};

static uint64_t bits_of(double x) {
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static double double_of(uint64_t b) {
    double x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* f8e8m0 is 2^(code - 127), without sign and zero. Rounds up and saturates, as ONNX Cast does by
 * default. */
static uint32_t encode_e8m0(double x) {
    int e;
    x = fabs(x);
    if (isnan(x)) return 0xff;
    if (isinf(x)) return 0xfe;
    if (frexp(x, &e) == 0.5) e--; /* now 2^e is the least power of two >= x */
    return x == 0 || e < -127 ? 0 : e > 127 ? 0xfe : (uint32_t)(e + 127);
}

/* Of a value that is representable, or to be rounded: finite ones out of range become `over`. */
static uint32_t encode(const Format *f, double x) {
    uint64_t b = bits_of(x), sig = (b & 0xfffffffffffffu) | (uint64_t)1 << 52;
    uint32_t sign = b >> 63 ? f->sign : 0, code;
    int e = (int)(b >> 52 & 0x7ff) - 1023;
    if (e == 1024 && (b & 0xfffffffffffffu))
        return f->one_zero || f->sign == 8 ? f->nan : f->nan | sign;
    if (e == 1024) return (f->inf ? f->inf : f->over) | sign;
    int floor_e = e < 1 - f->bias ? 1 - f->bias : e, shift = 52 - f->mant + floor_e - e;
    if (shift > 53) { /* below half of the least value: zero, subnormal doubles */
        code = 0;
    } else {
        uint64_t r = sig >> shift, rest = sig & (((uint64_t)1 << shift) - 1),
                 half = (uint64_t)1 << (shift - 1);
        r += rest > half || (rest == half && (r & 1));
        /* r carries the implicit bit of a normal value, hence bias - 1; a carry out of r raises the
         * exponent */
        code = ((uint32_t)(floor_e + f->bias - 1) << f->mant) + (uint32_t)r;
        if (code > f->max) code = f->over;
    }
    return code == 0 && f->one_zero ? 0 : code | sign;
}

static double decode(const Format *f, uint32_t code) {
    if (f->one_zero && code == f->sign) return NAN;
    double s = code & f->sign ? -1.0 : 1.0;
    code &= f->sign - 1;
    if (f->inf && code == f->inf) return s * INFINITY;
    if (code > f->max) return copysign(NAN, s);
    uint32_t e = code >> f->mant, m = code & ((1u << f->mant) - 1);
    double unit = double_of((uint64_t)(1023 + 1 - f->bias - f->mant) << 52); /* the least value */
    if (e == 0) return s * m * unit;
    return s * double_of((uint64_t)(1023 + (int)e - f->bias) << 52 | (uint64_t)m << (52 - f->mant));
}

static uint32_t encode_type(DType t, double x) {
    return t == DT_F8E8M0 ? encode_e8m0(x) : encode(&format[t], x);
}

static double decode_type(DType t, uint32_t code) {
    if (t != DT_F8E8M0) return decode(&format[t], code);
    return code == 0xff ? NAN : double_of((uint64_t)(1023 - 127 + (int)code) << 52);
}

static double round_to(DType t, double x) {
    if (t == DT_F64) return x;
    if (t == DT_F32) return (double)(float)x;
    if (isinf(x) && format[t].over != format[t].inf)
        x = copysign(DBL_MAX, x); /* conversion saturates: ONNX's f8 */
    return decode_type(t, encode_type(t, x));
}

float dt_round_f32(DType t, float x) {
    if (!dt_is_float(t) || t == DT_F32 || t == DT_F64 || (isinf(x) && format[t].inf)) return x;
    return (float)round_to(t, x);
}

/* ---- elements in memory: packed types are packed here, the first element in the low bits ---- */

static int64_t wrap(DType t, int64_t v) {
    unsigned bits = dt_bits(t);
    if (bits >= 64) return v;
    uint64_t u = (uint64_t)v << (64 - bits);
    return dt_is_signed(t) ? (int64_t)u >> (64 - bits) : (int64_t)(u >> (64 - bits));
}

Scalar dt_load(DType t, const void *base, int64_t index) {
    Scalar s = {.t = t, .i = 0};
    unsigned bits = dt_bits(t);
    if (types[valid(t)].kind == KIND_OTHER) return s;
    uint64_t u = 0;
    if (bits < 8) {
        unsigned per = 8 / bits;
        u = ((const unsigned char *)base)[index / per] >> (bits * (unsigned)(index % per)) &
            ((1u << bits) - 1);
    } else {
        memcpy(&u, (const char *)base + index * (bits / 8), bits / 8);
    }
    if (t == DT_F64) {
        s.f = double_of(u);
    } else if (t == DT_F32) {
        uint32_t w = (uint32_t)u;
        float f;
        memcpy(&f, &w, sizeof f);
        s.f = f;
    } else if (dt_is_float(t)) {
        s.f = decode_type(t, (uint32_t)u);
    } else {
        s.i = t == DT_BOOL ? u != 0 : wrap(t, (int64_t)u);
    }
    return s;
}

void dt_store(DType t, void *base, int64_t index, Scalar s) {
    unsigned bits = dt_bits(t);
    CHECK(s.t == t);
    if (types[valid(t)].kind == KIND_OTHER) {
        memset((char *)base + index * (bits / 8), 0, bits / 8);
        return;
    }
    uint64_t u;
    if (t == DT_F64) {
        u = bits_of(s.f);
    } else if (t == DT_F32) {
        float f = (float)s.f;
        uint32_t w;
        memcpy(&w, &f, sizeof w);
        u = w;
    } else if (dt_is_float(t)) {
        u = encode_type(t, s.f);
    } else {
        u = t == DT_BOOL ? s.i != 0 : (uint64_t)s.i;
    }
    if (bits < 8) {
        unsigned per = 8 / bits, at = bits * (unsigned)(index % per), mask = (1u << bits) - 1;
        unsigned char *p = (unsigned char *)base + index / per;
        *p = (unsigned char)((*p & ~(mask << at)) | ((unsigned)u & mask) << at);
    } else {
        memcpy((char *)base + index * (bits / 8), &u, bits / 8);
    }
}

/* ---- conversion ---- */

/* Truncates and saturates. The bounds are powers of two, hence exact as doubles. */
static int64_t to_int(DType t, double x) {
    unsigned bits = dt_bits(t);
    if (isnan(x)) return 0;
    if (dt_is_signed(t)) {
        double bound = ldexp(1, (int)bits - 1);
        int64_t max = (int64_t)(UINT64_MAX >> (65 - bits));
        return x >= bound ? max : x < -bound ? -max - 1 : (int64_t)x;
    }
    if (x <= 0) return 0;
    return x >= ldexp(1, (int)bits) ? (int64_t)(UINT64_MAX >> (64 - bits)) : (int64_t)(uint64_t)x;
}

/* An integer as a double. For a target narrower than f32 the low bits of large values are jammed
 * into one sticky bit, so that the rounding which follows is the only one. */
static double from_int(DType from, int64_t i, bool sticky) {
    bool minus = i < 0 && from != DT_U64;
    uint64_t u = minus ? 0 - (uint64_t)i : (uint64_t)i;
    if (sticky && u >> 53) u = (u >> 11 | ((u & 0x7ff) != 0)) << 11;
    return minus ? -(double)u : (double)u;
}

Scalar dt_convert(Scalar s, DType to) {
    Scalar r = {.t = to, .i = 0};
    if (s.t == to) return s;
    if (types[valid(s.t)].kind == KIND_OTHER || types[valid(to)].kind == KIND_OTHER) return r;
    bool ff = dt_is_float(s.t), tf = dt_is_float(to);
    if (ff && tf) r.f = round_to(to, s.f);
    else if (to == DT_BOOL) r.i = ff ? s.f != 0 : s.i != 0; /* NaN is not zero */
    else if (ff) r.i = to_int(to, s.f);
    else if (!tf) r.i = wrap(to, s.i);
    else if (to == DT_F32) r.f = s.t == DT_U64 ? (float)(uint64_t)s.i : (float)s.i;
    else r.f = round_to(to, from_int(s.t, s.i, to != DT_F64));
    return r;
}
