/* op_string.c: operators on strings. Strings are not arithmetic: each is a function of the runtime (runtime/call_string*.c), whose
 * attributes become constant operands. */
#include "frontend/import.h"

#define FN(f) void imp_##f(Imp *m)
FN(stringconcat); FN(stringsplit); FN(stringnormalizer); FN(regexfullmatch); FN(tfidf); FN(imagedecoder);

typedef struct Str { const char *s; size_t n; } Str;    /* an element of DT_STR */

static Val const_strings(Imp *m, int rank, size_t n, const ProtobufCBinaryData *from)
{
    Str *s = NEWN(m->c, Str, n + 1);
    int64_t dim = (int64_t)n;
    for (size_t i = 0; i < n; i++)
        s[i] = (Str){from[i].len ? (const char *)from[i].data : "", from[i].len};
    ConstData *d = NEW(m->c, ConstData);
    *d = (ConstData){.dtype = DT_STR, .count = dim, .data = s, .bytes = n * sizeof *s};
    return b_const(&m->b, d, type_consts(m->c, DT_STR, rank, &dim));
}

Val attr_string_val(Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    ProtobufCBinaryData none = {0};
    return const_strings(m, 0, 1, a ? &a->p->s : &none);
}

Val attr_strings_val(Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    return a ? const_strings(m, 1, a->p->n_strings, a->p->strings) : (Val){0};
}

Val attr_ints_val(Imp *m, const char *name)
{
    int n;
    const int64_t *v = attr_ints(m, name, &n);
    int64_t dim = n;
    return v ? b_const_i64(&m->b, 1, &dim, v) : (Val){0};
}

Val attr_floats_val(Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    if (!a)
        return (Val){0};
    ConstData *d = NEW(m->c, ConstData);
    int64_t n = (int64_t)a->p->n_floats;
    *d = (ConstData){.dtype = DT_F32, .count = n, .data = n ? (const void *)a->p->floats : NEW(m->c, float), .bytes = (size_t)n * sizeof(float)};
    return b_const(&m->b, d, type_consts(m->c, DT_F32, 1, &n));
}

/* A call with one result of known shape. */
Val call1(Imp *m, const char *symbol, Type t, int nin, const Val *in)
{
    Val v;
    b_call(&m->b, symbol, 1, &t, nin, in, &v);
    return v;
}

/* The dims of x and y broadcast against each other, with guards. */
static int broadcast_dims(Imp *m, Val x, Val y, Dim *dim)
{
    const Type *s = val_type(m->b.g, x), *t = val_type(m->b.g, y);
    int rank = s->rank > t->rank ? s->rank : t->rank;
    for (int d = 0; d < rank; d++) {
        int i = d - rank + s->rank, j = d - rank + t->rank;
        if (i >= 0 && j >= 0)
            b_guard(&m->b, G_BCAST, s->dim[i], t->dim[j], "axes %d and %d do not broadcast", i, j);
        dim[d] = i < 0 ? t->dim[j] : j < 0 ? s->dim[i] : dim_bcast(m->c, s->dim[i], t->dim[j]);
    }
    return rank;
}

void imp_stringconcat(Imp *m)
{
    Dim dim[MAX_RANK];
    int rank = broadcast_dims(m, m->in[0], m->in[1], dim);
    result(m, 0, call1(m, "string_concat", type_tensor(m->c, DT_STR, rank, dim), 2, m->in));
}

void imp_stringsplit(Imp *m)
{
    int rank = rank_of(m, m->in[0]);
    Dim dim[MAX_RANK + 1];
    dims_of(m, m->in[0], dim);
    if (rank == MAX_RANK) {
        ERR(m, "E0206", "an operand of rank %d", rank);
        return;
    }
    dim[rank] = fresh_size(m);
    Type t[2] = {type_tensor(m->c, DT_STR, rank + 1, dim), type_tensor(m->c, DT_I64, rank, dim)};
    Val in[3] = {m->in[0], attr_string_val(m, "delimiter"), scalar_i64(m, attr_has(m, "maxsplit") ? attr_i(m, "maxsplit") : -1)}, out[2];
    b_call(&m->b, "string_split", 2, t, 3, in, out);
    result(m, 0, out[0]);
    result(m, 1, out[1]);
}

/* The locale says nothing: case is that of Unicode. */
void imp_stringnormalizer(Imp *m)
{
    static const char *const cases[] = {"NONE", "LOWER", "UPPER"};
    int64_t how = 0;
    int rank = rank_of(m, m->in[0]);
    Dim dim[2] = {DC(m, 1), fresh_size(m)};
    while (how < 2 && !attr_is(m, "case_change_action", cases[how]))
        how++;
    if (rank < 1 || rank > 2) {
        ERR(m, "E0206", "an operand of rank %d, expected 1 or 2", rank);
        return;
    }
    Val in[4] = {m->in[0], attr_strings_val(m, "stopwords"), scalar_i64(m, how), scalar_i64(m, attr_i(m, "is_case_sensitive"))};
    result(m, 0, call1(m, "string_normalize", type_tensor(m->c, DT_STR, rank, dim + 2 - rank), 4, in));
}

void imp_regexfullmatch(Imp *m)
{
    const SrcAttr *a = attr_find(m, "pattern");
    Dim dim[MAX_RANK];
    dims_of(m, m->in[0], dim);
    Str text = {a->p->s.len ? (const char *)a->p->s.data : "", a->p->s.len};
    const Tensor none = {.dtype = DT_STR, .rank = 1, .data = &text}, pattern = {.dtype = DT_STR, .data = &text}, *const probe[2] = {&none, &pattern};
    Tensor *y;
    int64_t room = INT64_MAX;
    char error[256];
    if (!eval_call(m->c, "regex_match", 2, probe, 1, &y, &room, error)) {
        ERR(m, "E0203", "attribute pattern: %s", error);
        return;
    }
    Val in[2] = {m->in[0], attr_string_val(m, "pattern")};
    result(m, 0, call1(m, "regex_match", type_tensor(m->c, DT_BOOL, rank_of(m, m->in[0]), dim), 2, in));
}

void imp_tfidf(Imp *m)
{
    bool strings = dtype_of(m, m->in[0]) == DT_STR;
    int rank = rank_of(m, m->in[0]), n;
    const int64_t *column = attr_ints(m, "ngram_indexes", &n);
    int64_t width = 0, four = 4, how[4] = {attr_i(m, "min_gram_length"), attr_i(m, "max_gram_length"), attr_i(m, "max_skip_count"),
                                           attr_is(m, "mode", "IDF") ? 1 : attr_is(m, "mode", "TFIDF") ? 2 : 0};
    for (int i = 0; i < n; i++)
        width = column[i] >= width ? column[i] + 1 : width;
    if (!attr_has(m, strings ? "pool_strings" : "pool_int64s") || (!strings && !dt_is_int(dtype_of(m, m->in[0])))) {
        ERR(m, "E0203", "the pool of n-grams is not of the type of the operand");
        return;
    }
    if (rank > 2 || how[0] < 1 || how[1] < how[0] || how[2] < 0 || width > INT32_MAX) {
        ERR(m, "E0203", "an operand of rank %d, n-grams of %lld to %lld elements", rank, (long long)how[0], (long long)how[1]);
        return;
    }
    Dim dim[2] = {rank == 2 ? dim_of(m, m->in[0], 0) : DC(m, width), DC(m, width)};
    Val in[6] = {m->in[0], strings ? attr_strings_val(m, "pool_strings") : attr_ints_val(m, "pool_int64s"), attr_ints_val(m, "ngram_counts"),
                 attr_ints_val(m, "ngram_indexes"), attr_floats_val(m, "weights"), b_const_i64(&m->b, 1, &four, how)};
    result(m, 0, call1(m, "tfidf", type_tensor(m->c, DT_F32, rank == 2 ? 2 : 1, dim), 6, in));
}

/* A function of the runtime as well, with libraries of its own. */
void imp_imagedecoder(Imp *m)
{
    int64_t grey = attr_is(m, "pixel_format", "Grayscale"), order = grey ? 2 : attr_is(m, "pixel_format", "BGR");
    Dim dim[3] = {fresh_size(m), fresh_size(m), DC(m, grey ? 1 : 3)};
    if (dtype_of(m, m->in[0]) != DT_U8 || rank_of(m, m->in[0]) != 1) {
        ERR(m, "E0204", "operand encoded_stream: expected u8[n]");
        return;
    }
    Val in[2] = {m->in[0], scalar_i64(m, order)};
    result(m, 0, call1(m, "image_decode", type_tensor(m->c, DT_U8, 3, dim), 2, in));
}

/* Numbers to text and back, through the types that the functions know. */
Val cast_string(Imp *m, Val x, DType t)
{
    DType s = dtype_of(m, x);
    Dim dim[MAX_RANK];
    int rank = rank_of(m, x);
    dims_of(m, x, dim);
    if (t == DT_STR) {
        Val wide = dt_is_float(s) ? cast_to(m, x, s == DT_F64 ? DT_F64 : DT_F32) : dt_is_packed(s) ? cast_to(m, x, DT_I32) : x;
        return call1(m, "string_of", type_tensor(m->c, DT_STR, rank, dim), 1, &wide);
    }
    DType via = t == DT_F32 || t == DT_U64 ? t : dt_is_float(t) ? DT_F64 : DT_I64;
    Val in[2] = {x, scalar_i64(m, via)};
    return cast_to(m, call1(m, "string_number", type_tensor(m->c, via, rank, dim), 2, in), t);
}
