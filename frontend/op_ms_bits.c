/* op_ms_bits.c: com.microsoft operators on weights of less than a byte: MatMulNBits, MatMulBnb4, MatMulFpQ4, GatherBlockQuantized.
 * The bytes stay as they are in the file; unpacking and dequantisation are one expression over them, next to the product
 * or the gather that reads it, so no constant grows. Formulas and layouts: the schemas of ONNX Runtime (contrib_defs.cc). */
#include "frontend/import.h"
#include <math.h>

#define FN(f) void imp_##f(Imp *m)
FN(matmulnbits); FN(matmulbnb4); FN(matmulfpq4); FN(gatherblockq);

static Expr as(Imp *m, Expr e, DType t) { return expr_cast(m->c, e, t); }

/* An attribute that must be positive and below 2^31; 0 after a message. */
static int64_t positive(Imp *m, const char *name)
{
    int64_t v = attr_i(m, name);
    if (v < 1 || v > INT32_MAX) {
        ERR(m, "E0202", "attribute %s: expected a positive number, got %lld", name, (long long)v);
        return 0;
    }
    return v;
}

static bool block_size_ok(Imp *m, int64_t block)
{
    if (block >= 16 && !(block & (block - 1)))
        return true;
    ERR(m, "E0202", "attribute block_size: expected a power of 2 of at least 16, got %lld", (long long)block);
    return false;
}

static bool bytes_ok(Imp *m, uint32_t k, const char *what)
{
    DType t = dtype_of(m, m->in[k]);
    if (t != DT_U8)
        ERR(m, "E0204", "operand %s: expected u8, got %s", what, dt_name(t));
    return t == DT_U8;
}

/* v as rank dims; older files have the same elements in one dimension. */
static Val shaped(Imp *m, Val v, const char *what, int rank, const int64_t *dim)
{
    Dim d[MAX_RANK], count = DC(m, 1), have;
    const Type t = *val_type(m->b.g, v);
    for (int i = 0; i < rank; i++) {
        d[i] = DC(m, dim[i]);
        count = dim_mul(m->c, count, d[i]);
    }
    have = type_count(m->c, &t);
    if (dim_differ(m->c, have, count)) {
        Buf b = {.c = m->c}, s = {.c = m->c};
        type_print(&b, m->c, &t);
        dim_print(&s, m->c, count);
        ERR(m, "E0203", "%s has type %s, expected %s elements", what, buf_str(&b), buf_str(&s));
        return (Val){0};
    }
    return reshape_to(m, v, rank, d);
}

/* ---- MatMulNBits: Y = A * ((B - zero_points) * scales)' + bias. B[N, blocks, block * bits / 8] holds its values along K, the
 * first in the low bits. K is seen as [part of a byte, block, byte of the block]: with the part outermost the
 * bytes of consecutive steps are consecutive. */

typedef struct NBits { int bits; int64_t n, k, block, blocks, bytes, parts; } NBits; /* bytes of a block, values of a byte */

/* Constant bytes unpacked, one value each. */
static Val unpacked(Imp *m, Val v, int64_t rows, int64_t cols, int bits)
{
    const Tensor *t = tensor_from_const(m->c, val_const(m->b.g, v), val_type(m->b.g, v));
    int64_t pitch = (cols * bits + 7) / 8;
    uint8_t *to = ctx_alloc(m->c, (size_t)(rows * cols));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++)
            to[r * cols + k] = (uint8_t)((((const uint8_t *)t->data)[r * pitch + k * bits / 8] >> (k * bits % 8)) & ((1 << bits) - 1));
    ConstData *d = NEW(m->c, ConstData);
    *d = (ConstData){.dtype = DT_U8, .count = rows * cols, .data = to, .bytes = (size_t)(rows * cols)};
    return b_const(&m->b, d, type_consts(m->c, DT_U8, 2, (int64_t[]){rows, cols}));
}

/* The zero points as [N, blocks] of values or floats, or none; constants are unpacked here: they are few. */
static bool nbits_zero(Imp *m, const NBits *q, Val *out)
{
    Val z = *out = operand(m, 3);
    if (!z.i)
        return true;
    DType t = dtype_of(m, z);
    int64_t packed[2] = {q->n, (q->blocks * q->bits + 7) / 8}, plain[2] = {q->n, q->blocks};
    if (t != DT_U8 && t != dtype_of(m, m->in[0])) {
        ERR(m, "E0204", "operand zero_points: expected u8 or %s, got %s", dt_name(dtype_of(m, m->in[0])), dt_name(t));
        return false;
    }
    z = shaped(m, z, "zero_points", 2, t == DT_U8 ? packed : plain);
    if (z.i && t == DT_U8 && q->bits < 8 && val_const(m->b.g, z)) {
        z = unpacked(m, z, q->n, q->blocks, q->bits);
    } else if (z.i && t == DT_U8 && q->bits < 8) {
        Expr at[2] = {xaxis(m, 0), X2(FDIV, xaxis(m, 1), XI(q->parts))};
        Expr v = expr_load(m->c, 0, t, 2, at, OOB_NEVER, (Expr){0}, 0);
        v = bits_of(m, v, X2(MUL, X2(MOD, xaxis(m, 1), XI(q->parts)), XI(q->bits)), q->bits);
        z = map_over(m, as(m, v, DT_U8), 1, &z, 2, (Dim[]){DC(m, q->n), DC(m, q->blocks)});
    }
    *out = z;
    return z.i != 0;
}

/* A table [N, blocks] over [N, parts, blocks, bytes]: broadcast, or with g_idx read at the group of each element of K. */
static Expr nbits_table(Imp *m, const NBits *q, Val v, DType w, Val *in, int *nin)
{
    DType t = dtype_of(m, v);
    if (!present(m, 4)) {
        in[*nin] = reshape_to(m, v, 4, (Dim[]){DC(m, q->n), DC(m, 1), DC(m, q->blocks), DC(m, 1)});
        return as(m, xarg(m, (*nin)++, t), w);
    }
    Expr k = X2(ADD, X2(MUL, X2(ADD, X2(MUL, xaxis(m, 2), XI(q->bytes)), xaxis(m, 3)), XI(q->parts)), xaxis(m, 1));
    Expr group = as(m, expr_load(m->c, 1, dtype_of(m, in[1]), 1, &k, OOB_CLAMP, (Expr){0}, 0), DT_I64);
    in[*nin] = v;
    return as(m, expr_load(m->c, (uint32_t)(*nin)++, t, 2, (Expr[]){xaxis(m, 0), group}, OOB_CLAMP, (Expr){0}, 0), w);
}

/* The dequantised weights over [N, parts, blocks, bytes], in w's float type. */
static Val nbits_weights(Imp *m, const NBits *q, DType w)
{
    Val in[4], s, z;
    int nin = 1;
    int64_t bd[4] = {q->n, 1, q->blocks, q->bytes}, sd[2] = {q->n, q->blocks};
    Dim dim[4] = {DC(m, q->n), DC(m, q->parts), DC(m, q->blocks), DC(m, q->bytes)};
    in[0] = shaped(m, m->in[1], "B", 4, bd);
    s = shaped(m, m->in[2], "scales", 2, sd);
    if (!in[0].i || !s.i || !nbits_zero(m, q, &z))
        return (Val){0};
    if (present(m, 4)) {
        Dim len = rank_of(m, m->in[4]) == 1 ? dim_of(m, m->in[4], 0) : DC(m, -1);
        b_guard(&m->b, G_LE, DC(m, q->k), len, "g_idx must have an element for each of K=%lld", (long long)q->k);
        in[nin++] = m->in[4];
    }
    Expr v = as(m, bits_of(m, xarg(m, 0, DT_U8), X2(MUL, xaxis(m, 1), XI(q->bits)), q->bits), w);
    Expr zero = z.i ? nbits_table(m, q, z, w, in, &nin) : xf(m, w, ldexp(1, q->bits - 1));
    Expr scale = nbits_table(m, q, s, w, in, &nin);
    return map_over(m, X2(MUL, X2(SUB, v, zero), scale), nin, in, 4, dim);
}

/* x[.., K] times w[N, parts, blocks, bytes]: x[.., N] of x's type. x is seen as [.., part, block, byte], its end filled up
 * with zeros. */
static Val times_blocks(Imp *m, Val x, Val w, const NBits *q)
{
    int r = rank_of(m, x), perm[MAX_RANK];
    DType t = dtype_of(m, x), wide = wide_type(t);
    ContractAttr at = {.label = NO_LABELS, .acc = wide, .out = t};
    Dim d[MAX_RANK], lo[MAX_RANK], hi[MAX_RANK], split[3] = {DC(m, q->blocks), DC(m, q->bytes), DC(m, q->parts)};
    if (!w.i)
        return w;
    if (!r || r + 2 > MAX_RANK) {
        ERR(m, "E0203", "A of rank %d", r);
        return (Val){0};
    }
    dims_of(m, x, d);
    if (dim_differ(m->c, d[r - 1], DC(m, q->k))) {
        Buf s = {.c = m->c};
        dim_print(&s, m->c, d[r - 1]);
        ERR(m, "E0203", "the last axis of A has %s elements, K=%lld", buf_str(&s), (long long)q->k);
        return (Val){0};
    }
    b_guard(&m->b, G_EQ, d[r - 1], DC(m, q->k), "the last axis of A must have K=%lld elements", (long long)q->k);
    for (int i = 0; i < r; i++) {
        lo[i] = hi[i] = DC(m, 0);
        perm[i] = i;
        at.label[1][i] = at.label[2][i] = (uint8_t)i;
    }
    hi[r - 1] = DC(m, q->blocks * q->block - q->k);
    x = cast_to(m, x, wide);
    if (!dim_is(m->c, hi[r - 1], 0))
        x = b_pad(&m->b, x, lo, hi, NULL, PAD_VALUE, dt_convert((Scalar){.t = DT_I64, .i = 0}, wide), (Val){0});
    for (int i = 0; i < 3; i++) {
        d[r - 1 + i] = split[i];
        perm[r - 1 + i] = r - 1 + (i + 2) % 3;
        at.label[1][r - 1 + i] = at.label[0][1 + i] = (uint8_t)(r + i);
    }
    at.label[0][0] = at.label[2][r - 1] = (uint8_t)(r + 3);
    return b_contract_attr(&m->b, &at, w, b_permute(&m->b, reshape_to(m, x, r + 2, d), perm)); /* w's order of summation */
}

static Val plus_bias(Imp *m, Val y, Val bias, Dim n)
{
    if (!bias.i || !y.i)
        return y;
    b_guard(&m->b, G_EQ, rank_of(m, bias) == 1 ? dim_of(m, bias, 0) : DC(m, -1), n, "the bias must have one element per column");
    return b_binary(&m->b, S_ADD, y, bias);
}

void imp_matmulnbits(Imp *m)
{
    Val x = m->in[0], b = m->in[1], y;
    NBits q = {.bits = (int)attr_i(m, "bits"), .n = positive(m, "N"), .k = positive(m, "K"), .block = positive(m, "block_size")};
    if (!q.n || !q.k || !q.block || !block_size_ok(m, q.block) || !bytes_ok(m, 1, "B"))
        return;
    if (attr_i(m, "weight_prepacked")) {
        UNSUP(m, "attribute weight_prepacked: a layout of one GPU library; export the weights with weight_prepacked 0");
        return;
    }
    if (q.bits != 2 && q.bits != 4 && q.bits != 8) {
        UNSUP(m, "attribute bits: expected 2, 4 or 8, got %d", q.bits);
        return;
    }
    q.blocks = (q.k + q.block - 1) / q.block;
    q.parts = 8 / q.bits;
    q.bytes = q.block / q.parts;
    int r = rank_of(m, x);
    const Type bt = *val_type(m->b.g, b);
    if (dim_is(m->c, type_count(m->c, &bt), 0) && r) { /* a projection that was left out */
        Dim d[MAX_RANK];
        dims_of(m, x, d);
        d[r - 1] = DC(m, q.n);
        y = b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, dtype_of(m, x)), r, d);
    } else {
        y = times_blocks(m, x, nbits_weights(m, &q, wide_type(dtype_of(m, x))), &q);
    }
    result(m, 0, plus_bias(m, y, operand(m, 5), DC(m, q.n)));
}

/* ---- MatMulBnb4: the 16 values of a 4-bit code, times the largest magnitude of its block. B is [N, K] in one row of codes, the
 * first of a byte in its high bits. Tables: bitsandbytes' fp4 and nf4 (blockwise_quant_dequant_bnb4.h). */

static const float bnb4[2][16] = {
    {0, 0x1.555556p-8f, 0x1.555556p-1f, 1, 0x1.555556p-2f, 0.5f, 0x1.555556p-3f, 0.25f, -0.0f, -0x1.555556p-8f, -0x1.555556p-1f, -1,
     -0x1.555556p-2f, -0.5f, -0x1.555556p-3f, -0.25f},
    {-1, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
     -0.09105003625154495f, 0, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
     0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1},
};

void imp_matmulbnb4(Imp *m)
{
    int64_t n = positive(m, "N"), k = positive(m, "K"), block = positive(m, "block_size"), kind = attr_i(m, "quant_type");
    if (!n || !k || !block || !block_size_ok(m, block) || !bytes_ok(m, 1, "B"))
        return;
    if (kind != 0 && kind != 1) {
        ERR(m, "E0202", "attribute quant_type: expected 0 or 1, got %lld", (long long)kind);
        return;
    }
    DType t = dtype_of(m, m->in[0]), w = wide_type(t);
    int64_t bd[1] = {(n * k + 1) / 2}, sd[1] = {(n * k + block - 1) / block};
    ConstData *d = NEW(m->c, ConstData);
    *d = (ConstData){.dtype = DT_F32, .count = 16, .data = bnb4[kind], .bytes = sizeof bnb4[kind]};
    Val in[3] = {shaped(m, m->in[1], "B", 1, bd), shaped(m, m->in[2], "absmax", 1, sd),
                 b_const(&m->b, d, type_consts(m->c, DT_F32, 1, (int64_t[]){16}))};
    if (!in[0].i || !in[1].i)
        return;
    Expr flat = X2(ADD, X2(MUL, xaxis(m, 0), XI(k)), xaxis(m, 1)), byte = X2(FDIV, flat, XI(2)), at = X2(FDIV, flat, XI(block));
    Expr b = expr_load(m->c, 0, DT_U8, 1, &byte, OOB_NEVER, (Expr){0}, 0);
    Expr code = as(m, bits_of(m, b, X2(SUB, XI(4), X2(MUL, X2(MOD, flat, XI(2)), XI(4))), 4), DT_I64);
    Expr v = expr_load(m->c, 2, DT_F32, 1, &code, OOB_CLAMP, (Expr){0}, 0);
    Expr s = expr_load(m->c, 1, t, 1, &at, OOB_NEVER, (Expr){0}, 0);
    Val wt = map_over(m, X2(MUL, as(m, v, w), as(m, s, w)), 3, in, 2, (Dim[]){DC(m, n), DC(m, k)});
    result(m, 0, matmul(m, m->in[0], attr_i(m, "transB") ? b_permute(&m->b, wt, (int[]){1, 0}) : wt, w, t));
}

/* ---- MatMulFpQ4: the blobs of MLAS (q4common.h): per column and block of K a scale (f32), a zero point (u8, type 1
 * only), and the values: of each 32, the first 16 in the low halves of 16 bytes, the others in the high halves. */

void imp_matmulfpq4(Imp *m)
{
    int64_t type = attr_i(m, "blk_quant_type"), dim[2];
    int n;
    if (type < 0 || type > 2) {
        UNSUP(m, "attribute blk_quant_type: expected 0, 1 or 2, got %lld", (long long)type);
        return;
    }
    if (!const_ints(m, m->in[2], dim, 2, &n) || n != 2 || dim[0] < 1 || dim[1] < 1 || dim[0] > INT32_MAX || dim[1] > INT32_MAX) {
        ERR(m, "E0203", "operand B_shape: expected the constants K and N");
        return;
    }
    if (!bytes_ok(m, 1, "B"))
        return;
    int64_t block = type == 2 ? 64 : 32, head = type == 1 ? 5 : 4, blob = head + block / 2, k = dim[0], cols = dim[1];
    int64_t blocks = (k + block - 1) / block;
    int64_t bd[3] = {cols, blocks, blob};
    Val b = shaped(m, m->in[1], "B", 3, bd);
    if (!b.i)
        return;
    Expr row = xaxis(m, 0), at = X2(FDIV, xaxis(m, 1), XI(block)), in = X2(MOD, xaxis(m, 1), XI(block)), word = {0};
#define BYTE(i) expr_load(m->c, 0, DT_U8, 3, (Expr[]){row, at, (i)}, OOB_NEVER, (Expr){0}, 0)
    for (int i = 3; i >= 0; i--) {
        Expr v = as(m, BYTE(XI(i)), DT_U32);
        word = word.i ? X2(OR, X2(SHL, word, expr_int(m->c, DT_U32, 8)), v) : v;
    }
    Expr scale = expr_bitcast(m->c, word, DT_F32);
    Expr zero = type == 1 ? as(m, BYTE(XI(4)), DT_F32) : xf(m, DT_F32, 8);
    Expr part = X2(MOD, in, XI(32));
    Expr v = BYTE(X2(ADD, X2(ADD, X2(MUL, X2(FDIV, in, XI(32)), XI(16)), X2(MOD, part, XI(16))), XI(head)));
    v = as(m, bits_of(m, v, X2(MUL, X2(FDIV, part, XI(16)), XI(4)), 4), DT_F32);
#undef BYTE
    Val w = map_over(m, X2(MUL, X2(SUB, v, zero), scale), 1, &b, 2, (Dim[]){DC(m, cols), DC(m, k)});
    result(m, 0, matmul(m, m->in[0], b_permute(&m->b, w, (int[]){1, 0}), DT_F32, DT_F32));
}

/* ---- GatherBlockQuantized: (data - zero_points) * scales of the gathered elements. An index out of range gives zeros. Bytes hold
 * 8 / bits values along their last axis, the first in the low bits, so do zero points of bytes. */

typedef struct Table { Dim dim[MAX_RANK]; int rank, parts; } Table; /* of data, in values; values of a byte */

/* Element at[] of a table of values, which may be packed along its last axis. */
static Expr table_at(Imp *m, int operand, DType t, int rank, const Expr *at, int parts, DType w)
{
    Expr idx[MAX_RANK];
    for (int i = 0; i < rank; i++)
        idx[i] = at[i];
    if (parts > 1)
        idx[rank - 1] = X2(FDIV, at[rank - 1], XI(parts));
    Expr v = expr_load(m->c, (uint32_t)operand, t, rank, idx, OOB_CLAMP, (Expr){0}, 0);
    if (parts > 1)
        v = bits_of(m, v, X2(MUL, X2(MOD, at[rank - 1], XI(parts)), XI(8 / parts)), 8 / parts);
    return as(m, v, w);
}

static bool gatherbq_read(Imp *m, Table *t, int *ga, int *qa, int64_t *block)
{
    Val data = m->in[0];
    DType dt = dtype_of(m, data);
    int r = t->rank = rank_of(m, data);
    int64_t bits = attr_i(m, "bits");
    *block = attr_i(m, "block_size");
    if (!r || rank_of(m, m->in[2]) != r || (present(m, 3) && rank_of(m, m->in[3]) != r)) {
        ERR(m, "E0203", "data of rank %d, scales of rank %d", r, rank_of(m, m->in[2]));
        return false;
    }
    if (dt != DT_U8 && dt != DT_U4 && dt != DT_I4 && !(dt_is_float(dt) && dt_bits(dt) <= 8)) {
        ERR(m, "E0204", "operand data: expected u8, a 4-bit integer or an 8- or 4-bit float, got %s", dt_name(dt));
        return false;
    }
    if (present(m, 3) && dtype_of(m, m->in[3]) != dt) {
        ERR(m, "E0204", "operand zero_points: expected %s as the data, got %s", dt_name(dt), dt_name(dtype_of(m, m->in[3])));
        return false;
    }
    if (present(m, 3) && dt_is_float(dt)) {
        ERR(m, "E0205", "operand zero_points is not allowed with data of type %s", dt_name(dt));
        return false;
    }
    if (dt == DT_U8 && bits != 2 && bits != 4 && bits != 8) {
        ERR(m, "E0202", "attribute bits: expected 2, 4 or 8, got %lld", (long long)bits);
        return false;
    }
    if (!(*block == 0 && dt_is_float(dt)) && !block_size_ok(m, *block))
        return false;
    if (!axis_ok(m, attr_i(m, "gather_axis"), r, ga) || !axis_ok(m, attr_i(m, "quantize_axis"), r, qa))
        return false;
    t->parts = dt == DT_U8 ? 8 / (int)bits : 1;
    dims_of(m, data, t->dim);
    t->dim[r - 1] = dim_muli(m->c, t->dim[r - 1], t->parts);
    if (t->parts > 1 && (*ga == *qa || *ga == r - 1)) {
        ERR(m, "E0202", "attribute gather_axis: %d cannot be the axis of packing or of quantize_axis", *ga);
        return false;
    }
    return true;
}

void imp_gatherblockq(Imp *m)
{
    Table t;
    int ga, qa, nin = 3;
    int64_t block;
    if (!gatherbq_read(m, &t, &ga, &qa, &block))
        return;
    Val idx = m->in[1], in[4] = {m->in[0], idx, m->in[2]};
    DType dt = dtype_of(m, in[0]), st = dtype_of(m, in[2]), w = wide_type(st);
    int r = t.rank, q = rank_of(m, idx), rank = q + r - 1;
    Dim d[MAX_RANK], id[MAX_RANK], sd[MAX_RANK];
    Expr at[MAX_RANK] = {{0}}, of[MAX_RANK] = {{0}}, iat[MAX_RANK];
    if (rank > MAX_RANK) {
        UNSUP(m, "a result of rank %d (at most %d)", rank, MAX_RANK);
        return;
    }
    dims_of(m, idx, id);
    dims_of(m, in[2], sd);
    for (int i = 0; i < q; i++) {
        d[ga + i] = id[i];
        iat[i] = xaxis(m, ga + i);
    }
    Expr i = as(m, expr_load(m->c, 1, dtype_of(m, idx), q, iat, OOB_NEVER, (Expr){0}, 0), DT_I64);
    i = wrap_index(m, i, t.dim[ga]);
    for (int a = 0; a < r; a++) {
        int o = a < ga ? a : a + q - 1;
        at[a] = a == ga ? i : xaxis(m, o);
        if (a != ga)
            d[o] = t.dim[a];
        Dim want = a == qa ? (block ? dim_ceildiv(m->c, t.dim[a], DC(m, block)) : DC(m, 1)) : t.dim[a];
        if (!dim_is(m->c, sd[a], 1) || !dt_is_float(dt))
            b_guard(&m->b, G_EQ, sd[a], want, "scales do not fit the data along axis %d", a);
        of[a] = a == qa ? (block ? X2(FDIV, at[a], XI(block)) : XI(0)) : at[a];
    }
    Expr v = table_at(m, 0, dt, r, at, t.parts, w), s = table_at(m, 2, st, r, of, 1, w);
    if (present(m, 3)) {
        in[nin] = m->in[3];
        v = X2(SUB, v, table_at(m, nin++, dt, r, of, t.parts, w));
    } else if (dt == DT_U8) {
        v = X2(SUB, v, xf(m, w, ldexp(1, 8 / t.parts - 1)));
    }
    Expr inside = in_range(m, i, XI(0), xdim(m, t.dim[ga]));
    v = as(m, X3(SELECT, inside, X2(MUL, v, s), xf(m, w, 0)), st);
    result(m, 0, map_over(m, v, nin, in, rank, d));
}
