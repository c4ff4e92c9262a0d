/* npy.c: the .npy format, versions 1 to 3 (numpy/lib/format.py). A file is hostile until proven
 * otherwise: the header must be exactly a dict of descr, fortran_order and shape, the sizes must
 * not overflow, and the data must be there to the byte. */
#include "npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* kind and bytes: what numpy calls it, e.g. f4; bits: of an element in memory */
static const struct {
    const char *name;
    char kind;
    uint8_t bytes, bits;
} types[] = {
    {"undefined", 0, 0, 0},        {"float32", 'f', 4, 32},   {"uint8", 'u', 1, 8},
    {"int8", 'i', 1, 8},           {"uint16", 'u', 2, 16},    {"int16", 'i', 2, 16},
    {"int32", 'i', 4, 32},         {"int64", 'i', 8, 64},     {"string", 0, 0, 0},
    {"bool", 'b', 1, 8},           {"float16", 'f', 2, 16},   {"float64", 'f', 8, 64},
    {"uint32", 'u', 4, 32},        {"uint64", 'u', 8, 64},    {"complex64", 'c', 8, 64},
    {"complex128", 'c', 16, 128},  {"bfloat16", 'u', 2, 16},  {"float8e4m3fn", 'u', 1, 8},
    {"float8e4m3fnuz", 'u', 1, 8}, {"float8e5m2", 'u', 1, 8}, {"float8e5m2fnuz", 'u', 1, 8},
    {"uint4", 'u', 1, 4},          {"int4", 'i', 1, 4},       {"float4e2m1", 'u', 1, 4},
    {"float8e8m0", 'u', 1, 8},     {"uint2", 'u', 1, 2},      {"int2", 'i', 1, 2},
};

static int row(int dtype) {
    return dtype > 0 && dtype < (int)(sizeof types / sizeof *types) ? dtype : 0;
}
int npy_bits(int dtype) { return types[row(dtype)].bits; }
const char *npy_type(int dtype) { return types[row(dtype)].name; }

/* ---- the header ---- */

typedef struct {
    const char *p, *end;
} Scan;

static void skip(Scan *s) {
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t')) s->p++;
}

static bool eat(Scan *s, char c) {
    skip(s);
    if (s->p < s->end && *s->p == c) {
        s->p++;
        return true;
    }
    return false;
}

static bool word(Scan *s, const char *w) {
    size_t n = strlen(w);
    skip(s);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0) return false;
    s->p += n;
    return true;
}

/* A quoted string of fewer than n bytes without escapes. */
static bool quoted(Scan *s, char *text, size_t n) {
    skip(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"')) return false;
    char q = *s->p++;
    size_t k = 0;
    for (; s->p < s->end && *s->p != q; s->p++) {
        if (*s->p == '\\' || k + 1 >= n) return false;
        text[k++] = *s->p;
    }
    text[k] = 0;
    return eat(s, q);
}

static bool number(Scan *s, int64_t *v) {
    skip(s);
    const char *first = s->p;
    *v = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *s->p - '0', v))
            return false;
    return s->p > first;
}

static bool shape(Scan *s, Npy *o) {
    if (!eat(s, '(')) return false;
    for (o->rank = 0; !eat(s, ')');) {
        if (o->rank == NPY_RANK || !number(s, &o->dims[o->rank])) return false;
        o->rank++;
        if (!eat(s, ',')) return eat(s, ')') && o->rank > 1; /* (3) is no tuple */
    }
    return true;
}

/* The dict: each of the three keys once, nothing else. */
static bool header(Scan *s, Npy *o, char *descr, size_t n, bool *fortran) {
    unsigned seen = 0;
    char key[24];
    if (!eat(s, '{')) return false;
    while (!eat(s, '}')) {
        if (!quoted(s, key, sizeof key) || !eat(s, ':')) return false;
        unsigned bit = strcmp(key, "descr") == 0           ? 1
                       : strcmp(key, "fortran_order") == 0 ? 2
                       : strcmp(key, "shape") == 0         ? 4
                                                           : 0;
        bool ok = bit == 1   ? quoted(s, descr, n)
                  : bit == 4 ? shape(s, o)
                             : bit == 2 && ((*fortran = word(s, "True")) || word(s, "False"));
        if (!ok || (seen & bit)) return false;
        seen |= bit;
        if (!eat(s, ',')) {
            if (!eat(s, '}')) return false;
            break;
        }
    }
    for (skip(s); s->p < s->end && *s->p == '\n';) s->p++;
    return seen == 7 && s->p == s->end;
}

/* Whether a descr such as "<f4" is how numpy writes dtype; "V" of the same width is anything
 * (ml_dtypes). */
static bool descr_fits(const char *descr, int dtype) {
    int t = row(dtype);
    char *rest;
    if (strlen(descr) < 3 || (descr[0] != '<' && descr[0] != '|' && descr[0] != '=')) return false;
    if (descr[2] < '0' || descr[2] > '9' || strtoul(descr + 2, &rest, 10) != types[t].bytes ||
        *rest)
        return false;
    bool foreign = dtype == 16 || (dtype >= 17 && dtype <= 26); /* numpy has no such type */
    return descr[1] == types[t].kind ||
           (foreign && (descr[1] == 'V' || descr[1] == 'u' || descr[1] == 'i' || descr[1] == 'f'));
}

/* ---- data ---- */

/* From column-major to row-major: walks the destination in order. */
static void transpose(const Npy *o, size_t size, const char *from, char *to) {
    int64_t index[NPY_RANK] = {0}, pitch[NPY_RANK], n = 1, at = 0;
    for (int k = 0; k < o->rank; k++) {
        pitch[k] = n;
        n *= o->dims[k];
    }
    for (int64_t i = 0; i < n; i++, to += size) {
        memcpy(to, from + (size_t)at * size, size);
        for (int k = o->rank - 1; k >= 0; k--) {
            at += pitch[k];
            if (++index[k] < o->dims[k]) break;
            at -= pitch[k] * o->dims[k];
            index[k] = 0;
        }
    }
}

/* n elements of `bits` below 8: from a byte each to packed, low bits first, or back. In place, as
 * packed is smaller. */
static void pack(uint8_t *p, size_t n, int bits) {
    size_t per = 8 / (size_t)bits;
    for (size_t i = 0; i < n; i++) {
        uint8_t v = (uint8_t)(p[i] & ((1u << bits) - 1u));
        p[i / per] =
            (uint8_t)((i % per ? p[i / per] : 0u) | (uint8_t)(v << (i % per * (size_t)bits)));
    }
}

static void unpack(const uint8_t *from, uint8_t *to, size_t n, int bits, bool is_signed) {
    size_t per = 8 / (size_t)bits;
    for (size_t i = 0; i < n; i++) {
        unsigned v = (unsigned)from[i / per] >> (i % per * (size_t)bits) & ((1u << bits) - 1u);
        if (is_signed && v >> (bits - 1)) v |= 0xffu << bits;
        to[i] = (uint8_t)v;
    }
}

/* Elements, and bytes in the file; false if they overflow. */
static bool measure(int rank, const int64_t *dims, size_t size, size_t *n, size_t *bytes) {
    bool wide = false;
    *n = 1;
    for (int k = 0; k < rank; k++) {
        if (dims[k] == 0) {
            *n = *bytes = 0;
            return true;
        }
        wide |= __builtin_mul_overflow(*n, (size_t)dims[k], n);
    }
    return !__builtin_mul_overflow(*n, size, bytes) && !wide && *bytes <= PTRDIFF_MAX - 128;
}

static char *room(size_t bytes) { return aligned_alloc(64, (bytes + 127) / 64 * 64); }

static bool read_file(FILE *f, int dtype, Npy *o, char *msg, size_t n) {
    unsigned char b[12];
    char descr[16] = "", *text;
    bool fortran = false;
    if (fread(b, 1, 10, f) != 10 || memcmp(b, "\x93NUMPY", 6) != 0 || b[6] < 1 || b[6] > 3)
        return snprintf(msg, n, "not a .npy file"), false;
    size_t len = b[8] | (size_t)b[9] << 8;
    if (b[6] > 1) {
        if (fread(b + 10, 1, 2, f) != 2) return snprintf(msg, n, "the header is cut off"), false;
        len |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    }
    if (len > 1 << 16 || !(text = malloc(len + 1)))
        return snprintf(msg, n, "a header of %zu bytes", len), false;
    bool whole = fread(text, 1, len, f) == len;
    Scan s = {text, text + len};
    bool good = whole && header(&s, o, descr, sizeof descr, &fortran);
    free(text);
    if (!good)
        return snprintf(msg, n, whole ? "the header is malformed" : "the header is cut off"), false;
    if (!descr_fits(descr, dtype))
        return snprintf(msg, n, "has type %s, not %s", descr, npy_type(dtype)), false;
    size_t size = types[row(dtype)].bytes, count, bytes;
    if (!measure(o->rank, o->dims, size, &count, &bytes))
        return snprintf(msg, n, "the shape is too large"), false;
    long begin = ftell(f),
         end = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1; /* before memory is taken for it */
    if (begin < 0 || end < begin || (size_t)(end - begin) != bytes ||
        fseek(f, begin, SEEK_SET) != 0)
        return snprintf(msg, n, "holds %ld bytes of data, the shape needs %zu",
                        end < begin ? 0 : end - begin, bytes),
               false;
    char *data = room(bytes), *other = NULL;
    if (data && fortran && o->rank > 1 && bytes && (other = room(bytes))) {
        good = fread(other, 1, bytes, f) == bytes;
        transpose(o, size, other, data);
        free(other);
    } else
        good = data && !(fortran && o->rank > 1 && bytes) && fread(data, 1, bytes, f) == bytes;
    if (!good) {
        snprintf(msg, n, data ? "cannot be read" : "out of memory");
        free(data);
        return false;
    }
    int bits = npy_bits(dtype);
    if (bits < 8) pack((uint8_t *)data, count, bits);
    o->data = data;
    o->bytes = bits < 8 ? (count * (size_t)bits + 7) / 8 : bytes;
    return true;
}

bool npy_read(const char *path, int dtype, Npy *out, char *msg, size_t msg_bytes) {
    char why[128] = "";
    memset(out, 0, sizeof *out);
    if (npy_bits(dtype) == 0) {
        snprintf(msg, msg_bytes, "%s: type %s has no .npy form here", path, npy_type(dtype));
        return false;
    }
    FILE *f = fopen(path, "rb");
    if (!f) {
        snprintf(msg, msg_bytes, "%s: %s", path, strerror(errno));
        return false;
    }
    bool ok = read_file(f, dtype, out, why, sizeof why);
    fclose(f);
    if (!ok) snprintf(msg, msg_bytes, "%s: %s", path, why);
    return ok;
}

bool npy_write(const char *path, int dtype, int rank, const int64_t *dims, const void *data,
               char *msg, size_t msg_bytes) {
    int t = row(dtype), used;
    size_t n, bytes, at = 10;
    char head[1024] = "\x93NUMPY\x01";
    if (!types[t].bits || rank > NPY_RANK || !measure(rank, dims, types[t].bytes, &n, &bytes)) {
        snprintf(msg, msg_bytes, "%s: type %s of rank %d has no .npy form here", path,
                 npy_type(dtype), rank);
        return false;
    }
    used = snprintf(head + at, sizeof head - at,
                    "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (",
                    types[t].bytes > 1 ? '<' : '|', types[t].kind, types[t].bytes);
    at += (size_t)used;
    for (int k = 0; k < rank; k++)
        at += (size_t)snprintf(head + at, sizeof head - at, "%lld,", (long long)dims[k]);
    at += (size_t)snprintf(head + at, sizeof head - at, "), }");
    while ((at + 1) % 64) head[at++] = ' ';
    head[at++] = '\n';
    head[8] = (char)((at - 10) & 255);
    head[9] = (char)((at - 10) >> 8);
    FILE *f = fopen(path, "wb");
    uint8_t *wide = f && types[t].bits < 8 ? malloc(n + 1) : NULL;
    if (wide) unpack(data, wide, n, types[t].bits, types[t].kind == 'i');
    const void *from = types[t].bits < 8 ? wide : data;
    bool ok = f && fwrite(head, 1, at, f) == at &&
              (bytes == 0 || (from && fwrite(from, 1, bytes, f) == bytes));
    if (f && fclose(f) != 0) ok = false;
    free(wide);
    if (!ok) snprintf(msg, msg_bytes, "%s: %s", path, strerror(errno));
    return ok;
}
