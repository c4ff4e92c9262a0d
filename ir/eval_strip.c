/* eval_strip.c: strips of cells: loading, storing, converting, and walking over boxes.
 *
 * Between memory and cells: floats of every type become double, integers and bool int64 (u64 keeps
 * its bits), elements of types without arithmetic (str, complex) travel as their addresses. Loads
 * and stores are by stride or by offset list, in elements; memory may be unaligned (constants lie
 * where the model file put them). */
#include "eval_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ==== one element ============================================================================ */

static inline double from_f16(uint16_t h) {
    uint32_t mag = h & 0x7fffu, bits = mag << 13;
    float f;
    memcpy(&f, &bits, sizeof f);
    f *= 0x1p112f; /* the difference of the exponent biases; also scales subnormals */
    memcpy(&bits, &f, sizeof bits);
    if (mag >= 0x7c00u) bits = mag << 13 | 0x7f800000u;
    bits |= (uint32_t)(h & 0x8000u) << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline double from_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static const double f4_value[16] = {0.0,  0.5,  1.0,  1.5,  2.0,  3.0,  4.0,  6.0,
                                    -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0};

static double from_small(DType t, unsigned char byte) {
    return t == DT_F4E2M1 ? f4_value[byte & 15] : dt_load(t, &byte, 0).f;
}

static double convert_to(DType t, double x) {
    return dt_convert((Scalar){.t = DT_F64, .f = x}, t).f;
}

/* x rounded to `frac` bits behind the point of its leading digit, to nearest even, exponents below
 * `low` as `low`: adding and subtracting 1.5 * 2^k lets the double adder round at the right place.
 */
static inline double round_bits(double x, int frac, int low, double most) {
    uint64_t bits, e;
    double c;
    memcpy(&bits, &x, sizeof bits);
    e = bits >> 52 & 0x7ff;
    if (e == 0x7ff) return x;
    if (e > 1023 + 200) return copysign((double)INFINITY, x);
    if (e < (uint64_t)(1023 + low)) e = (uint64_t)(1023 + low);
    bits = (e + (uint64_t)(52 - frac)) << 52 | (uint64_t)1 << 51;
    memcpy(&c, &bits, sizeof c);
    double r = fabs(x) + c - c;
    return copysign(r > most ? (double)INFINITY : r, x);
}
static inline double round_f16(double x) { return round_bits(x, 10, -14, 65504); }
static inline double round_bf16(double x) { return round_bits(x, 7, -126, 0x1.fep127); }

static inline uint16_t to_bf16(double x) {
    float f = (float)round_bf16(x);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(f != f ? bits >> 16 | 0x40 : bits >> 16);
}

static inline uint16_t to_f16(double x) {
    float f = (float)round_f16(x);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    float mag = fabsf(f);
    if (!(mag < 0x1p16f)) return (uint16_t)(sign | (mag != mag ? 0x7e00 : 0x7c00));
    if (mag < 0x1p-14f)
        return (uint16_t)(sign | (uint16_t)(mag * 0x1p24f)); /* a whole number of smallest steps */
    return (uint16_t)(sign | ((bits & 0x7fffffff) - (112u << 23)) >> 13);
}

static void put_small(DType t, char *p, double x) { /* f8.., f4 */
    double r = isinf(x) && t == DT_F8E5M2
                   ? x
                   : convert_to(t, x); /* an infinity in a cell is a value of t */
    if (t != DT_F4E2M1) {
        dt_store(t, p, 0, (Scalar){.t = t, .f = r});
        return;
    }
    int code = signbit(r) ? 8 : 0;
    for (int k = 0; k < 8; k++) {
        if (f4_value[k] == fabs(r)) code |= k;
    }
    *p = (char)code;
}

/* ==== strips: IDX(i) is the element that cell i comes from =================================== */

#define LOAD_AS(T, FIELD, EXPR)                                              \
    for (int64_t i = 0; i < n; i++) {                                        \
        T x;                                                                 \
        memcpy(&x, p + IDX(i) * (int64_t)sizeof x, sizeof x);                \
        d[i].FIELD = (EXPR);                                                 \
    }                                                                        \
    break;
#define LOAD_BODY                                                            \
    switch (t) {                                                             \
    case DT_F32: LOAD_AS(float, f, (double)x)                                \
    case DT_F64: LOAD_AS(double, f, x)                                       \
    case DT_F16: LOAD_AS(uint16_t, f, from_f16(x))                           \
    case DT_BF16: LOAD_AS(uint16_t, f, from_bf16(x))                         \
    case DT_I8: case DT_I4: case DT_I2: LOAD_AS(int8_t, i, x)                \
    case DT_U8: case DT_U4: case DT_U2: LOAD_AS(uint8_t, i, x)               \
    case DT_BOOL: LOAD_AS(uint8_t, i, x != 0)                                \
    case DT_I16: LOAD_AS(int16_t, i, x)                                      \
    case DT_U16: LOAD_AS(uint16_t, i, x)                                     \
    case DT_I32: LOAD_AS(int32_t, i, x)                                      \
    case DT_U32: LOAD_AS(uint32_t, i, x)                                     \
    case DT_I64: case DT_U64: case DT_C64: LOAD_AS(int64_t, i, x)            \
    case DT_F8E4M3: case DT_F8E4M3Z: case DT_F8E5M2: case DT_F8E5M2Z:        \
    case DT_F8E8M0: case DT_F4E2M1: LOAD_AS(unsigned char, f, from_small(t, x)) \
    default: {                                                               \
        int w = ev_width(t);                                                 \
        for (int64_t i = 0; i < n; i++) d[i].p = p + IDX(i) * w;             \
        break;                                                               \
    }                                                                        \
    }
#define STORE_AS(T, EXPR)                                                    \
    for (int64_t i = 0; i < n; i++) {                                        \
        T x = (T)(EXPR);                                                     \
        memcpy(p + IDX(i) * (int64_t)sizeof x, &x, sizeof x);                \
    }                                                                        \
    break;
#define STORE_BODY                                                           \
    switch (t) {                                                             \
    case DT_F32: STORE_AS(float, s[i].f)                                     \
    case DT_F64: STORE_AS(double, s[i].f)                                    \
    case DT_I8: case DT_U8: case DT_I4: case DT_I2: STORE_AS(int8_t, s[i].i) \
    case DT_U4: STORE_AS(int8_t, s[i].i & 15)                                \
    case DT_U2: STORE_AS(int8_t, s[i].i & 3)                                 \
    case DT_BOOL: STORE_AS(int8_t, s[i].i != 0)                              \
    case DT_I16: case DT_U16: STORE_AS(int16_t, s[i].i)                      \
    case DT_I32: case DT_U32: STORE_AS(int32_t, s[i].i)                      \
    case DT_I64: case DT_U64: case DT_C64: STORE_AS(int64_t, s[i].i)         \
    case DT_F16: STORE_AS(uint16_t, to_f16(s[i].f))                          \
    case DT_BF16: STORE_AS(uint16_t, to_bf16(s[i].f))                        \
    case DT_F8E4M3: case DT_F8E4M3Z: case DT_F8E5M2: case DT_F8E5M2Z:        \
    case DT_F8E8M0: case DT_F4E2M1:                                          \
        for (int64_t i = 0; i < n; i++) put_small(t, p + IDX(i), s[i].f);    \
        break;                                                               \
    default: {                                                               \
        int w = ev_width(t);                                                 \
        for (int64_t i = 0; i < n; i++) memcpy(p + IDX(i) * w, s[i].p, (size_t)w); \
        break;                                                               \
    }                                                                        \
    }

#define IDX(i) (i)
static void load_unit(DType t, Cell *d, const char *p, int64_t n) { LOAD_BODY }
static void store_unit(DType t, char *p, const Cell *s, int64_t n) { STORE_BODY }
#undef IDX
#define IDX(i) ((i) * stride)
static void load_stride(DType t, Cell *d, const char *p, int64_t stride, int64_t n) { LOAD_BODY }
static void store_stride(DType t, char *p, int64_t stride, const Cell *s, int64_t n) { STORE_BODY }
#undef IDX
#define IDX(i) (off[i])
void cells_load_at(DType t, Cell *d, const char *p, const int64_t *off, int64_t n) { LOAD_BODY }
void cells_store_at(DType t, char *p, const int64_t *off, const Cell *s, int64_t n) { STORE_BODY }
#undef IDX

void cells_load(DType t, Cell *d, const char *p, int64_t stride, int64_t n) {
    if (stride == 1) {
        load_unit(t, d, p, n);
    } else if (stride) {
        load_stride(t, d, p, stride, n);
    } else if (n) {
        load_unit(t, d, p, 1);
        for (int64_t i = 1; i < n; i++) d[i] = d[0];
    }
}

void cells_store(DType t, char *p, int64_t stride, const Cell *s, int64_t n) {
    if (stride == 1) store_unit(t, p, s, n);
    else store_stride(t, p, stride, s, n);
}

/* ==== conversion ============================================================================= */

Cell cell_zero(DType t) {
    static const char empty[16] = {0};
    if (dt_is_float(t)) return (Cell){.f = 0};
    return dt_is_int(t) || t == DT_BOOL || t == DT_C64 ? (Cell){.i = 0} : (Cell){.p = empty};
}
Cell cell_of(Scalar s) {
    if (dt_is_float(s.t)) return (Cell){.f = s.f};
    return dt_is_int(s.t) || s.t == DT_BOOL ? (Cell){.i = s.i} : cell_zero(s.t);
}
Scalar cell_scalar(DType t, Cell v) {
    Scalar s = {.t = t};
    if (dt_is_float(t)) s.f = v.f;
    else s.i = v.i;
    return s;
}

double cell_max(double a, double b) {
    if (a > b) return a;
    if (b > a) return b;
    return a == b ? (signbit(a) ? b : a) : a + b;
}
double cell_min(double a, double b) {
    if (a < b) return a;
    if (b < a) return b;
    return a == b ? (signbit(a) ? a : b) : a + b;
}

#define WRAP(T) for (int64_t i = 0; i < n; i++) d[i].i = (T)d[i].i; break;
void cells_round(DType t, Cell *d, int64_t n) {
    switch (t) {
    case DT_F32: for (int64_t i = 0; i < n; i++) d[i].f = (double)(float)d[i].f; break;
    case DT_F16: for (int64_t i = 0; i < n; i++) d[i].f = round_f16((double)(float)d[i].f); break;
    case DT_BF16: for (int64_t i = 0; i < n; i++) d[i].f = round_bf16((double)(float)d[i].f); break;
    case DT_I8: WRAP(int8_t)
    case DT_U8: WRAP(uint8_t)
    case DT_I16: WRAP(int16_t)
    case DT_U16: WRAP(uint16_t)
    case DT_I32: WRAP(int32_t)
    case DT_U32: WRAP(uint32_t)
    case DT_BOOL: for (int64_t i = 0; i < n; i++) d[i].i &= 1; break;
    case DT_U4: for (int64_t i = 0; i < n; i++) d[i].i &= 15; break;
    case DT_U2: for (int64_t i = 0; i < n; i++) d[i].i &= 3; break;
    case DT_I4: for (int64_t i = 0; i < n; i++) d[i].i = (int8_t)(d[i].i * 16) / 16; break;
    case DT_I2: for (int64_t i = 0; i < n; i++) d[i].i = (int8_t)(d[i].i * 64) / 64; break;
    default:
        if (dt_is_float(t) && t != DT_F64) {
            for (int64_t i = 0; i < n; i++) d[i].f = (double)dt_round_f32(t, (float)d[i].f);
        }
    }
}

void cells_cast(DType from, DType to, Cell *d, const Cell *s, int64_t n) {
    bool ff = dt_is_float(from), tf = dt_is_float(to);
    if (from == to || (ff && to == DT_F64) || (to == DT_I64 && !ff) || (to == DT_U64 && !ff)) {
        if (d != s) memcpy(d, s, sizeof *d * (size_t)n);
    } else if (ff && to == DT_F32) {
        for (int64_t i = 0; i < n; i++) d[i].f = (double)(float)s[i].f;
    } else if (ff && to == DT_F16) {
        for (int64_t i = 0; i < n; i++) d[i].f = round_f16(s[i].f);
    } else if (ff && to == DT_BF16) {
        for (int64_t i = 0; i < n; i++) d[i].f = round_bf16(s[i].f);
    } else if (tf && !ff && from != DT_U64 && (to == DT_F64 || to == DT_F32)) {
        if (to == DT_F64) for (int64_t i = 0; i < n; i++) d[i].f = (double)s[i].i;
        else for (int64_t i = 0; i < n; i++) d[i].f = (double)(float)s[i].i;
    } else if (!ff && !tf && to != DT_BOOL) {
        if (d != s) memcpy(d, s, sizeof *d * (size_t)n);
        cells_round(to, d, n);
    } else if (!ff && to == DT_BOOL) {
        for (int64_t i = 0; i < n; i++) d[i].i = s[i].i != 0;
    } else {
        for (int64_t i = 0; i < n; i++) d[i] = cell_of(dt_convert(cell_scalar(from, s[i]), to));
    }
}

/* ==== walks ================================================================================== */

bool walk_init(Ev *e, Walk *w, int rank, const int64_t *dim, int nop) {
    *w = (Walk){.rank = rank, .nop = nop};
    for (int d = 0; d < rank; d++) w->dim[d] = dim[d];
    w->stride = ev_tmp(e, nop + 1, sizeof *w->stride);
    if (w->stride) memset(w->stride, 0, sizeof *w->stride * ((size_t)nop + 1));
    return w->stride != NULL;
}

void walk_free(Walk *w) { free(w->stride); }

void walk_merge(Walk *w) {
    int k = -1; /* last axis kept */
    w->total = 1;
    for (int d = 0; d < w->rank; d++) {
        w->total *= w->dim[d];
        if (w->dim[d] == 1) continue;
        bool join = k >= 0;
        for (int o = 0; o < w->nop && join; o++) {
            join = w->stride[o][k] == w->stride[o][d] * w->dim[d];
        }
        int64_t n = w->dim[d];
        if (join) w->dim[k] *= n;
        else w->dim[++k] = n;
        for (int o = 0; o < w->nop; o++) w->stride[o][k] = w->stride[o][d];
    }
    w->rank = k + 1;
    if (!w->rank) {
        w->rank = 1;
        w->dim[0] = 1;
        for (int o = 0; o < w->nop; o++) w->stride[o][0] = 0;
    }
}

static int64_t seek(const Walk *w, int op, int64_t pos, int64_t *coord) {
    int64_t off = 0;
    for (int d = w->rank - 1; d >= 0; d--) {
        coord[d] = pos % w->dim[d];
        pos /= w->dim[d];
        off += coord[d] * w->stride[op][d];
    }
    return off;
}

static int64_t carry(const Walk *w, int op, int64_t *coord, int64_t off) {
    const int64_t *st = w->stride[op];
    for (int d = w->rank - 1; d > 0 && coord[d] == w->dim[d]; d--) {
        coord[d] = 0;
        off -= w->dim[d] * st[d];
        coord[d - 1]++;
        off += st[d - 1];
    }
    return off;
}

/* BODY sees `off` (of the run's first element), `done` (cells before it), `run` (its length) and
 * `step`. */
#define FOR_RUNS(BODY)                                                                             \
    int64_t coord[MAX_RANK], off = seek(w, op, pos, coord), step = w->stride[op][w->rank - 1];     \
    for (int64_t done = 0, run; done < n; done += run) {                                           \
        run = w->dim[w->rank - 1] - coord[w->rank - 1];                                            \
        if (run > n - done) run = n - done;                                                        \
        BODY;                                                                                      \
        coord[w->rank - 1] += run;                                                                 \
        off = carry(w, op, coord, off + run * step);                                               \
    }

void walk_load(const Walk *w, int op, DType t, const char *base, int64_t pos, int64_t n, Cell *d) {
    int width = ev_width(t);
    FOR_RUNS(cells_load(t, d + done, base + off * width, step, run))
}

void walk_store(const Walk *w, int op, DType t, char *base, int64_t pos, int64_t n, const Cell *s) {
    int width = ev_width(t);
    FOR_RUNS(cells_store(t, base + off * width, step, s + done, run))
}

void walk_offsets(const Walk *w, int op, int64_t pos, int64_t n, Cell *d) {
    FOR_RUNS(for (int64_t i = 0; i < run; i++) d[done + i].i = off + i * step)
}

/* ==== copying ================================================================================ */

#define COPY_AS(T)                                                           \
    for (int64_t i = 0; i < n; i++) {                                        \
        T x;                                                                 \
        memcpy(&x, from + i * fs * (int64_t)sizeof x, sizeof x);             \
        memcpy(to + i * ts * (int64_t)sizeof x, &x, sizeof x);               \
    }                                                                        \
    break;
typedef struct Pair { uint64_t a, b; } Pair;

static void copy_run(int width, char *to, int64_t ts, const char *from, int64_t fs, int64_t n) {
    if (ts == 1 && fs == 1) {
        memcpy(to, from, (size_t)(n * width));
        return;
    }
    switch (width) {
    case 1: COPY_AS(uint8_t)
    case 2: COPY_AS(uint16_t)
    case 4: COPY_AS(uint32_t)
    case 8: COPY_AS(uint64_t)
    default: COPY_AS(Pair)
    }
}

bool ev_copy(Ev *e, const EVal *v, char *dst, const int64_t *dst_stride) {
    Walk w;
    if (!walk_init(e, &w, v->rank, v->dim, 2)) return false;
    for (int d = 0; d < v->rank; d++) {
        w.stride[0][d] = v->stride[d];
        w.stride[1][d] = dst_stride[d];
    }
    walk_merge(&w);
    int width = ev_width(v->dtype), last = w.rank - 1;
    int64_t coord[MAX_RANK] = {0}, from = 0, to = 0, run = w.dim[last];
    for (int64_t done = 0; done < w.total; done += run) {
        copy_run(width, dst + to * width, w.stride[1][last], v->base + from * width,
                 w.stride[0][last], run);
        coord[last] = run;
        for (int d = last; d > 0 && coord[d] == w.dim[d]; d--) {
            coord[d] = 0;
            coord[d - 1]++;
            from += w.stride[0][d - 1] - (d == last ? 0 : w.dim[d] * w.stride[0][d]);
            to += w.stride[1][d - 1] - (d == last ? 0 : w.dim[d] * w.stride[1][d]);
        }
    }
    walk_free(&w);
    return true;
}
