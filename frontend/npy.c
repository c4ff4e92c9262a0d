/* npy.c: numpy's .npy files <-> Tensor, for --eval. Versions 1 to 3, little endian, both orders;
 * values of 4- and 2-bit types are one byte each; bfloat16 and float8, which numpy does not know,
 * are opaque bytes (V2, V1) as ml_dtypes writes them. Strings are those of numpy, <U and |S, whose ends lose NULs; they are
 * written as |S. A list is a folder: of a sequence its elements 0.npy, 1.npy .., of a map keys.npy and values.npy; elements that are
 * lists are folders, too. An optional is the value it holds; an empty one leaves nothing behind. */
#include "frontend/frontend.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_HEADER = 1 << 16 };

/* clang-format off */
static const struct { const char *descr; DType t; } codes[] = {
    {"<f4", DT_F32},   {"<f8", DT_F64},   {"<f2", DT_F16},   {"|i1", DT_I8},
    {"|u1", DT_U8},    {"<i2", DT_I16},   {"<u2", DT_U16},   {"<i4", DT_I32},
    {"<u4", DT_U32},   {"<i8", DT_I64},   {"<u8", DT_U64},   {"|b1", DT_BOOL},
    {"<c8", DT_C64},   {"<c16", DT_C128},
};
/* clang-format on */
static bool fail(Ctx *c, const char *path, const char *why) {
    diag(c, SEV_ERROR, loc_new(c, &(LocInfo){.file = path, .node = -1}), "E0180", "%s", why);
    return false;
}

static size_t unit_of(DType t) { return dt_is_packed(t) ? 1 : dt_bits(t) / 8; }

/* 'descr' of the header -> element type. */
static DType find_type(const char *descr, DType want) {
    if ((descr[0] == '<' && descr[1] == 'U') || (descr[0] == '|' && descr[1] == 'S')) return DT_STR;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(codes[i].descr + 1, descr + 1) && *descr != '>') {
            DType t = codes[i].t;
            bool as_bytes = dt_is_packed(want) && (t == DT_I8 || t == DT_U8);
            return as_bytes ? want : t;
        }
    if (descr[1] == 'V' && want != DT_NONE && unit_of(want) == (size_t)atoi(descr + 2)) return want;
    return DT_NONE;
}

static bool parse_header(const char *h, char descr[16], bool *fortran, Tensor *t) {
    const char *d = strstr(h, "'descr':"), *f = strstr(h, "'fortran_order':"),
               *s = strstr(h, "'shape':");
    if (!d || !f || !s || !(d = strchr(d + 8, '\'')) || !(s = strchr(s, '('))) return false;
    size_t n = strcspn(++d, "'");
    if (n < 3 || n > 15) return false;
    memcpy(descr, d, n);
    descr[n] = 0;
    *fortran = !strncmp(f + 16 + strspn(f + 16, " "), "True", 4);
    for (s++; *s && *s != ')';) {
        char *end;
        errno = 0;
        long long v = strtoll(s, &end, 10);
        if (end == s || errno || v < 0 || t->rank == MAX_RANK) return false;
        t->dim[t->rank++] = v;
        s = end + strspn(end, "L, ");
    }
    return *s == ')';
}

static void from_fortran(const Tensor *t, const char *src, char *dst, size_t unit) {
    int64_t idx[MAX_RANK] = {0};
    for (int64_t n = tensor_count(t), i = 0; i < n; i++) {
        int64_t at = 0;
        for (int a = t->rank - 1; a >= 0; a--) at = at * t->dim[a] + idx[a];
        memcpy(dst + (size_t)i * unit, src + (size_t)at * unit, unit);
        for (int a = t->rank - 1; a >= 0 && ++idx[a] == t->dim[a]; a--) idx[a] = 0;
    }
}

typedef struct Str { const char *s; size_t n; } Str; /* element of DT_STR */

/* Bytes that an element takes in the file. */
static size_t width_of(DType t, const char *descr) {
    return t == DT_STR ? (size_t)strtoul(descr + 2, NULL, 10) * (descr[1] == 'U' ? 4 : 1) : unit_of(t);
}

/* Up to 4 bytes of UTF-8. */
static size_t utf8(char *to, uint32_t c) {
    if (c < 0x80) return *to = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t k = n - 1; k > 0; k--, c >>= 6) to[k] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(0xF00u >> n | c);
    return n;
}

static void to_strings(Ctx *c, const char *from, size_t width, bool wide, int64_t n, Str *to) {
    char *p = ctx_alloc(c, (size_t)n * width + 1);
    for (int64_t i = 0; i < n; i++, from += width) {
        size_t unit = wide ? 4 : 1, len = width / unit;
        uint32_t code = 0;
        to[i].s = p;
        while (len && !memcmp(from + (len - 1) * unit, "\0\0\0", unit)) len--;
        for (size_t k = 0; k < len; k++) {
            memcpy(&code, from + k * unit, unit);
            if (wide) p += utf8(p, code & 0x1FFFFF);
            else *p++ = from[k];
        }
        to[i].n = (size_t)(p - to[i].s);
    }
}

/* An element of a packed type: ml_dtypes writes the bits above it as it pleases. */
static unsigned char low_bits(DType t, unsigned byte) {
    unsigned bits = dt_bits(t), v = byte & ((1u << bits) - 1u);
    return (unsigned char)(dt_is_signed(t) && v >> (bits - 1) ? v | 0xffu << bits : v);
}

static Tensor *read_open(Ctx *c, const char *path, FILE *f, DType want) {
    unsigned char magic[12] = {0};
    Tensor head = {.kind = TY_TENSOR};
    char descr[16];
    bool fortran;
    if (fread(magic, 1, 8, f) != 8 || memcmp(magic, "\x93NUMPY", 6) || magic[6] < 1 || magic[6] > 3)
        return fail(c, path, "not a .npy file"), NULL;
    size_t extra = magic[6] == 1 ? 2 : 4;
    if (fread(magic + 8, 1, extra, f) != extra)
        return fail(c, path, "the .npy file is cut off"), NULL;
    size_t n = magic[8] | (size_t)magic[9] << 8 | (size_t)magic[10] << 16 | (size_t)magic[11] << 24;
    if (n > MAX_HEADER) return fail(c, path, "the header of the .npy file is too long"), NULL;
    char *h = ctx_alloc(c, n + 1);
    if (fread(h, 1, n, f) != n || !parse_header(h, descr, &fortran, &head))
        return fail(c, path, "the header of the .npy file is damaged"), NULL;
    DType t = find_type(descr, want);
    if (t == DT_NONE)
        return fail(c, path, ctx_printf(c, "element type %s is not supported", descr)), NULL;
    size_t unit = width_of(t, descr);
    int64_t bytes = (int64_t)unit, count = 1;
    for (int i = 0; i < head.rank; i++)
        if (__builtin_mul_overflow(count, head.dim[i], &count) ||
            __builtin_mul_overflow(bytes, head.dim[i] ? head.dim[i] : 1, &bytes))
            return fail(c, path, "the array is too large"), NULL;
    bytes = count ? bytes : 0;
    long at = ftell(f);
    if (at >= 0 &&
        !fseek(f, 0, SEEK_END)) { /* know that the bytes are there before taking memory for them */
        if (ftell(f) - at < bytes) return fail(c, path, "the .npy file is cut off"), NULL;
        fseek(f, at, SEEK_SET);
    }
    Tensor *r = tensor_new(c, t, head.rank, head.dim);
    char *data = t == DT_STR ? ctx_alloc(c, (size_t)bytes + 1) : r->data;
    char *to = fortran && head.rank > 1 ? ctx_alloc(c, (size_t)bytes + 1) : data;
    if (bytes && fread(to, 1, (size_t)bytes, f) != (size_t)bytes)
        return fail(c, path, "the .npy file is cut off"), NULL;
    if (to != data) from_fortran(r, to, data, unit);
    if (t == DT_STR) to_strings(c, data, unit, descr[1] == 'U', count, r->data);
    for (int64_t i = 0; t == DT_BOOL && i < count; i++)
        ((unsigned char *)r->data)[i] = ((unsigned char *)r->data)[i] != 0;
    for (int64_t i = 0; dt_is_packed(t) && i < count; i++)
        ((unsigned char *)r->data)[i] = low_bits(t, ((unsigned char *)r->data)[i]);
    return r;
}

static Tensor *read_array(Ctx *c, const char *path, DType want) {
    FILE *f = fopen(path, "rb");
    if (!f) return fail(c, path, ctx_printf(c, "cannot read: %s", strerror(errno))), NULL;
    Tensor *t = read_open(c, path, f, want);
    fclose(f);
    return t;
}

static bool write_array(Ctx *c, const char *path, const Tensor *t) {
    const char *descr = dt_is_packed(t->dtype) ? (dt_is_signed(t->dtype) ? "|i1" : "|u1")
                                               : ctx_printf(c, "|V%zu", unit_of(t->dtype));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].t == t->dtype) descr = codes[i].descr;
    const Str *str = t->dtype == DT_STR ? t->data : NULL;
    size_t width = str ? 1 : unit_of(t->dtype);
    for (int64_t i = 0; str && i < tensor_count(t); i++) width = str[i].n > width ? str[i].n : width;
    if (str) descr = ctx_printf(c, "|S%zu", width);
    Buf b = {.c = c};
    buf_printf(&b, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < t->rank; i++)
        buf_printf(&b, "%lld,%s", (long long)t->dim[i], i + 1 < t->rank ? " " : "");
    buf_puts(&b, "), }");
    while ((10 + b.n + 1) % 64) buf_puts(&b, " ");
    buf_puts(&b, "\n");
    unsigned char magic[10] = "\x93NUMPY\x01";
    magic[8] = (unsigned char)(b.n & 255);
    magic[9] = (unsigned char)(b.n >> 8);
    size_t bytes = (size_t)tensor_count(t) * width;
    const char *data = t->data;
    if (str) {
        char *to = ctx_allocn(c, width, (size_t)tensor_count(t) + 1);
        for (int64_t i = 0; i < tensor_count(t); i++)
            if (str[i].n) memcpy(to + (size_t)i * width, str[i].s, str[i].n);
        data = to;
    }
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(magic, 1, 10, f) == 10 && fwrite(b.s, 1, b.n, f) == b.n &&
              fwrite(data, 1, bytes, f) == bytes;
    ok = f && !fclose(f) && ok;
    return ok || fail(c, path, ctx_printf(c, "cannot write: %s", strerror(errno)));
}

static Tensor *read_value(Ctx *c, const char *path, const Type *t, int depth);

/* Elements 0, 1, .. of a folder, as many as there are. */
static Tensor *read_list(Ctx *c, const char *path, const Type *elem, int depth) {
    VEC(Tensor *) list = {0};
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) return fail(c, path, "expected a folder with the elements of a list"), NULL;
    for (;;) {
        const char *one = ctx_printf(c, elem->kind == TY_TENSOR ? "%s/%u.npy" : "%s/%u", path, list.n);
        if (stat(one, &st)) break;
        Tensor *v = read_value(c, one, elem, depth + 1);
        if (!v) return NULL;
        vec_push(c, &list, v);
    }
    Tensor *t = NEW(c, Tensor);
    t->kind = TY_SEQ;
    t->elem = list.v;
    t->nelem = list.n;
    return t;
}

static Tensor *read_map(Ctx *c, const char *path, const Type *type, int depth) {
    Tensor *t = NEW(c, Tensor);
    const Type *of = type->elem;
    bool numbers = of->kind == TY_TENSOR && (of->rank == 0 || of->rank > MAX_RANK);
    t->kind = TY_MAP;
    t->elem = NEWN(c, Tensor *, 2);
    t->nelem = 2;
    t->elem[0] = read_array(c, ctx_printf(c, "%s/keys.npy", path), (DType)type->dtype);
    t->elem[1] = numbers ? read_array(c, ctx_printf(c, "%s/values.npy", path), (DType)of->dtype)
                         : read_list(c, ctx_printf(c, "%s/values", path), of, depth + 1);
    return t->elem[0] && t->elem[1] ? t : NULL;
}

static Tensor *read_value(Ctx *c, const char *path, const Type *t, int depth) {
    if (depth > 8) return fail(c, path, "lists are nested too deeply"), NULL;
    if (t->kind == TY_OPT) return read_value(c, path, t->elem, depth + 1);
    if (t->kind == TY_SEQ) return read_list(c, path, t->elem, depth);
    return t->kind == TY_MAP ? read_map(c, path, t, depth) : read_array(c, path, (DType)t->dtype);
}

Tensor *npy_read(Ctx *c, const char *path, const Type *t) { return read_value(c, path, t, 0); }

bool npy_write(Ctx *c, const char *path, const Tensor *t) {
    if (t->kind == TY_OPT) return t->nelem < 1 || npy_write(c, path, t->elem[0]);
    if (t->kind == TY_TENSOR) return write_array(c, path, t);
    if (mkdir(path, 0777) && errno != EEXIST) return fail(c, path, ctx_printf(c, "cannot write: %s", strerror(errno)));
    for (int64_t i = 0; i < t->nelem; i++) {
        const char *name = t->kind == TY_MAP ? (i ? "values" : "keys") : ctx_printf(c, "%lld", (long long)i);
        if (!npy_write(c, ctx_printf(c, "%s/%s%s", path, name, t->elem[i]->kind == TY_TENSOR ? ".npy" : ""), t->elem[i])) return false;
    }
    return true;
}
