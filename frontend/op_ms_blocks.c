/* op_ms_blocks.c: GatherPacked of com.microsoft: rows of a table whose bytes are blocks of quantised numbers, in the formats of GGML, whose
 * numbers the attribute packed_type takes. Each number is an expression of the bytes of its block. */
#include "frontend/import.h"

#define FN(f) void imp_##f(Imp *m)
FN(gatherpacked);

enum { DATA, ROW, CODES };  /* operands of the map */

typedef struct Block { Imp *m; Expr row, base, j; } Block;  /* where the block begins in the row, and the number in it */

static Expr plus(Block *p, Expr a, int64_t b) { return expr_op(p->m->c, S_ADD, a, expr_int(p->m->c, DT_I64, b), (Expr){0}); }
static Expr over(Block *p, Expr a, int64_t b) { return expr_op(p->m->c, S_FDIV, a, expr_int(p->m->c, DT_I64, b), (Expr){0}); }
static Expr rest(Block *p, Expr a, int64_t b) { return expr_op(p->m->c, S_MOD, a, expr_int(p->m->c, DT_I64, b), (Expr){0}); }
static Expr by(Block *p, Expr a, int64_t b) { return expr_op(p->m->c, S_MUL, a, expr_int(p->m->c, DT_I64, b), (Expr){0}); }

static Expr raw(Block *p, Expr at)
{
    Imp *m = p->m;
    return load_at(m, DATA, DT_U8, 2, (Expr[]){p->row, X2(ADD, p->base, at)});
}

static Expr byte(Block *p, Expr at) { return expr_cast(p->m->c, raw(p, at), DT_I64); }
static Expr signed_byte(Block *p, Expr at) { return expr_cast(p->m->c, expr_bitcast(p->m->c, raw(p, at), DT_I8), DT_I64); }

/* n bits of the byte from `shift` on */
static Expr bits(Block *p, Expr at, Expr shift, int n)
{
    Imp *m = p->m;
    return X2(AND, X2(SHR, byte(p, at), shift), XI((1 << n) - 1));
}

static Expr word(Block *p, int at, int n, DType t)
{
    Imp *m = p->m;
    DType u = n == 2 ? DT_U16 : DT_U32;
    Expr v = expr_cast(m->c, raw(p, XI(at)), u);
    for (int i = 1; i < n; i++)
        v = X2(OR, v, X2(SHL, expr_cast(m->c, raw(p, XI(at + i)), u), expr_int(m->c, u, 8 * i)));
    v = expr_bitcast(m->c, v, t);
    return t == DT_F32 ? v : expr_cast(m->c, v, DT_F32);
}

static Expr times(Block *p, Expr a, Expr b) { return expr_op(p->m->c, S_MUL, a, b, (Expr){0}); }
static Expr real(Block *p, Expr i) { return expr_cast(p->m->c, i, DT_F32); }
static Expr half(Block *p, int at) { return word(p, at, 2, DT_F16); }

/* Of 32 numbers in 16 bytes at `at`: the low halves first, then the high ones */
static Expr nibble(Block *p, Expr at, Expr j)
{
    Imp *m = p->m;
    return bits(p, X2(ADD, at, rest(p, j, 16)), by(p, over(p, j, 16), 4), 4);
}

static Expr plain_f32(Block *p) { return word(p, 0, 4, DT_F32); }
static Expr plain_f16(Block *p) { return word(p, 0, 2, DT_F16); }
static Expr plain_bf16(Block *p) { return word(p, 0, 2, DT_BF16); }

static Expr q4_0(Block *p)
{
    Imp *m = p->m;
    return times(p, half(p, 0), real(p, plus(p, nibble(p, XI(2), p->j), -8)));
}

static Expr q5_0(Block *p)
{
    Imp *m = p->m;
    Expr top = bits(p, plus(p, over(p, p->j, 8), 2), rest(p, p->j, 8), 1);
    return times(p, half(p, 0), real(p, plus(p, X2(OR, nibble(p, XI(6), p->j), by(p, top, 16)), -16)));
}

static Expr q8_0(Block *p) { return times(p, half(p, 0), real(p, signed_byte(p, plus(p, p->j, 2)))); }

/* d sc q - e min: scale and minimum of 32 numbers have 6 bits each, in 12 bytes from 4 on */
static Expr q5_k(Block *p)
{
    Imp *m = p->m;
    Expr s = over(p, p->j, 32), l = rest(p, p->j, 32), zero = XI(0), four = XI(4), late = X2(GE, s, four);
    Expr q = bits(p, X2(ADD, plus(p, by(p, over(p, s, 2), 32), 48), l), by(p, rest(p, s, 2), 4), 4);
    q = X2(OR, q, by(p, bits(p, plus(p, l, 16), s, 1), 16));
    Expr own = plus(p, s, 4), next = plus(p, s, 8), before = X3(SELECT, late, s, own);
    Expr scale = X3(SELECT, late, X2(OR, bits(p, next, zero, 4), by(p, bits(p, before, XI(6), 2), 16)), bits(p, own, zero, 6));
    Expr least = X3(SELECT, late, X2(OR, bits(p, next, four, 4), by(p, bits(p, own, XI(6), 2), 16)), bits(p, next, zero, 6));
    return X2(SUB, times(p, times(p, half(p, 0), real(p, scale)), real(p, q)), times(p, half(p, 2), real(p, least)));
}

static Expr q6_k(Block *p)
{
    Imp *m = p->m;
    Expr h = over(p, p->j, 128), g = over(p, rest(p, p->j, 128), 32), l = rest(p, p->j, 32);
    Expr low = X2(ADD, X2(ADD, by(p, h, 64), by(p, rest(p, g, 2), 32)), l), high = X2(ADD, plus(p, by(p, h, 32), 128), l);
    Expr q = X2(OR, bits(p, low, by(p, over(p, g, 2), 4), 4), by(p, bits(p, high, by(p, g, 2), 2), 16));
    return times(p, times(p, half(p, 208), real(p, signed_byte(p, plus(p, over(p, p->j, 16), 192)))), real(p, plus(p, q, -32)));
}

static const int64_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static Expr code(Block *p, Expr q) { return real(p, load_at(p->m, CODES, DT_I64, 1, &q)); }

static Expr iq4_nl(Block *p)
{
    Imp *m = p->m;
    return times(p, half(p, 0), code(p, nibble(p, XI(2), p->j)));
}

static Expr iq4_xs(Block *p)
{
    Imp *m = p->m;
    Expr s = over(p, p->j, 32), low = bits(p, plus(p, over(p, s, 2), 4), by(p, rest(p, s, 2), 4), 4);
    Expr high = bits(p, plus(p, over(p, s, 4), 2), by(p, rest(p, s, 4), 2), 2);
    Expr scale = plus(p, X2(OR, low, by(p, high, 16)), -32);
    return times(p, times(p, half(p, 0), real(p, scale)), code(p, nibble(p, plus(p, by(p, s, 16), 8), rest(p, p->j, 32))));
}

static const struct Format { int id, numbers, bytes; Expr (*number)(Block *p); } formats[] = {
    {0, 1, 4, plain_f32}, {1, 1, 2, plain_f16}, {30, 1, 2, plain_bf16}, {2, 32, 18, q4_0},     {6, 32, 22, q5_0},
    {8, 32, 34, q8_0},    {13, 256, 176, q5_k}, {14, 256, 210, q6_k},   {20, 32, 18, iq4_nl}, {23, 256, 136, iq4_xs},
};

/* Indices that are not in the table take its first row. */
void imp_gatherpacked(Imp *m)
{
    Val data = m->in[0], at = m->in[1];
    int64_t k = attr_i(m, "K"), type = attr_i(m, "packed_type"), sixteen = 16;
    int r = rank_of(m, at);
    const struct Format *f = NULL;
    DType out = attr_dtype(m, "output_dtype", DT_BF16);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].id == type)
            f = &formats[i];
    if (!f) {
        UNSUP(m, "attribute packed_type: the format %lld", (long long)type);
        return;
    }
    if (rank_of(m, data) != 2 || dtype_of(m, data) != DT_U8 || k < 1 || k % f->numbers || k > INT32_MAX || r >= MAX_RANK || !out ||
        !dt_is_float(out)) {
        ERR(m, "E0203", "expected data u8[vocabulary, bytes], an output type of floats and K a multiple of %d, got %lld", f->numbers, (long long)k);
        return;
    }
    Dim d[MAX_RANK], rows = dim_of(m, data, 0), n;
    dims_of(m, at, d);
    n = count_of(m, d, r);
    b_guard(&m->b, G_EQ, dim_of(m, data, 1), DC(m, k / f->numbers * f->bytes), "the rows of data have not the bytes of K numbers");
    at = reshape_to(m, cast_to(m, at, DT_I64), 1, &n);
    Expr i = xarg(m, 0, DT_I64), in = in_range(m, i, XI(0), xdim(m, rows)), axis = xaxis(m, 0);
    Val row = map_over(m, X3(SELECT, in, i, XI(0)), 1, &at, 1, &n);
    Block p = {.m = m, .row = load_at(m, ROW, DT_I64, 1, &axis)};
    p.base = by(&p, over(&p, xaxis(m, 1), f->numbers), f->bytes);
    p.j = rest(&p, xaxis(m, 1), f->numbers);
    Expr e = expr_cast(m->c, f->number(&p), out);
    Val y = map_over(m, e, 3, (Val[]){data, row, b_const_i64(&m->b, 1, &sixteen, iq4_values)}, 2, (Dim[]){n, DC(m, k)});
    d[r] = DC(m, k);
    result(m, 0, reshape_to(m, y, r + 1, d));
}
