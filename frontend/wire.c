/* wire.c: bytes of a ModelProto -> unpacked message, safely.
 * One walk over the encoding, driven by protobuf-c's own descriptors, checks what the unpacker does
 * not: nesting, lengths, wire types, singular messages that occur twice, and the memory that
 * unpacking will take relative to the input. The walk writes a reduced copy without fields that
 * nobody reads, and with tensor payloads replaced by their place in the file, so that weights are
 * never copied here. Invariant: what is handed to protobuf-c is well formed. */
#include "frontend/internal.h"
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NESTING = 100,      /* messages within messages; protobuf's own default */
    LIFT_BYTES = 1024,      /* payloads from this size on stay in the file */
    TAG_OFFSET = 536870910, /* field numbers of the reduced copy's references to payloads; */
    TAG_LENGTH = 536870911, /* in the input they are dropped like every unknown field */
    SCANNED_BYTES = 56,     /* what the unpacker needs per field occurrence, besides the value */
    BLOCK_HEADER = 16       /* of block_alloc */
};

typedef struct Wire {
    const uint8_t *base;
    uint8_t *out; /* the reduced copy, malloc'ed: it dies before import */
    size_t nout, cap;
    uint64_t need;         /* bytes that unpacking will allocate, from above */
    uint64_t lifted;       /* bytes that stay in the file */
    size_t at;             /* first error: its byte, */
    const char *in, *what; /* the message type, and the text; what == NULL: none */
} Wire;

/* Not read by the compiler: never unpacked. */
static const char *const ignored[] = {
    "doc_string",
    "metadata_props",
    "training_info",
    "quantization_annotation",
    "device_configurations",
    "configuration",
    "segment",
    "denotation",
};

static bool is_ignored(const ProtobufCFieldDescriptor *f) {
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        if (!strcmp(f->name, ignored[i])) return true;
    return false;
}

static bool bad(Wire *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const char *what) {
    if (!w->what) {
        w->at = (size_t)(p - w->base);
        w->in = d->name;
        w->what = what;
    }
    return false;
}

static bool put(Wire *w, const void *p, size_t n) {
    if (w->cap - w->nout < n) {
        size_t cap = w->cap ? w->cap : 1 << 16;
        while (cap - w->nout < n) cap += cap / 2;
        uint8_t *out = realloc(w->out, cap);
        if (!out) {
            w->what = "out of memory";
            w->in = "";
            return false;
        }
        w->out = out;
        w->cap = cap;
    }
    memcpy(w->out + w->nout, p, n);
    w->nout += n;
    return true;
}

static size_t varint(uint8_t *to, uint64_t v) {
    size_t n = 0;
    while (v >= 0x80) {
        to[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    to[n++] = (uint8_t)v;
    return n;
}

static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *v) {
    *v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p == end) return NULL;
        uint8_t b = *p++;
        *v |= shift < 64 ? (uint64_t)(b & 0x7f) << shift : 0;
        if (!(b & 0x80)) return p;
    }
    return NULL;
}

static bool put_fixed64(Wire *w, uint32_t field, uint64_t v) {
    uint8_t b[16];
    size_t n = varint(b, (uint64_t)field << 3 | PROTOBUF_C_WIRE_TYPE_64BIT);
    memcpy(b + n, &v, sizeof v);
    return put(w, b, n + sizeof v);
}

static ProtobufCWireType wire_type(ProtobufCType t) {
    switch (t) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

/* Has f, or another member of its oneof, been seen in this message? */
static bool seen_before(const ProtobufCMessageDescriptor *d, uint64_t seen,
                        const ProtobufCFieldDescriptor *f) {
    for (unsigned i = 0; i < d->n_fields && i < 64; i++) {
        const ProtobufCFieldDescriptor *g = &d->fields[i];
        bool same = g == f || ((f->flags & g->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                               f->quantifier_offset == g->quantifier_offset);
        if (same && (seen >> i & 1)) return true;
    }
    return false;
}

static bool scan(Wire *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                 int depth);

/* A submessage, written with a length of fixed width so that it can be filled in afterwards. */
static bool scan_message(Wire *w, const ProtobufCFieldDescriptor *f, const uint8_t *p, size_t len,
                         int depth) {
    uint8_t head[10];
    size_t n = varint(head, (uint64_t)f->id << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
    memcpy(head + n, "\x80\x80\x80\x80\x00", 5);
    if (!put(w, head, n + 5)) return false;
    size_t start = w->nout;
    if (!scan(w, f->descriptor, p, p + len, depth + 1)) return false;
    size_t size = w->nout - start;
    for (int i = 0; i < 5; i++)
        w->out[start - 5 + (size_t)i] = (uint8_t)((size >> (7 * i) & 0x7f) | (i < 4 ? 0x80 : 0));
    return true;
}

static bool scan_bytes(Wire *w, const ProtobufCMessageDescriptor *d,
                       const ProtobufCFieldDescriptor *f, const uint8_t *field, const uint8_t *p,
                       size_t len) {
    if (f->type == PROTOBUF_C_TYPE_BYTES || f->type == PROTOBUF_C_TYPE_STRING) {
        if (d == &onnx__tensor_proto__descriptor && len >= LIFT_BYTES &&
            !strcmp(f->name, "raw_data")) {
            w->lifted += len;
            w->need += 2 * (SCANNED_BYTES + sizeof(ProtobufCMessageUnknownField) + 32);
            return put_fixed64(w, TAG_OFFSET, (uint64_t)(p - w->base)) &&
                   put_fixed64(w, TAG_LENGTH, len);
        }
        w->need += len + 1 + BLOCK_HEADER;
        return put(w, field, (size_t)(p - field) + len);
    }
    /* A packed array: count its elements; varints may not run over the end. */
    size_t unit = wire_type(f->type) == PROTOBUF_C_WIRE_TYPE_32BIT ? 4 : 8, n = 0;
    if (wire_type(f->type) == PROTOBUF_C_WIRE_TYPE_VARINT) {
        for (size_t i = 0, run = 0; i < len; i++) {
            run = p[i] & 0x80 ? run + 1 : 0;
            n += !run;
            if (run > 9) return bad(w, d, p, "a number is longer than 10 bytes");
        }
        if (len && (p[len - 1] & 0x80)) return bad(w, d, p, "a packed array ends within a number");
    } else {
        if (len % unit) return bad(w, d, p, "a packed array ends within a number");
        n = len / unit;
    }
    w->need += n * 8 + BLOCK_HEADER;
    return put(w, field, (size_t)(p - field) + len);
}

static bool scan(Wire *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                 int depth) {
    uint64_t seen = 0;
    if (depth > MAX_NESTING) return bad(w, d, p, "messages are nested more than 100 deep");
    w->need += d->sizeof_message + BLOCK_HEADER;
    while (p < end) {
        const uint8_t *field = p;
        uint64_t tag, len = 0;
        if (!(p = get_varint(p, end, &tag)) || tag >> 3 == 0 || tag >> 3 > TAG_LENGTH)
            return bad(w, d, field, "no valid field begins here");
        unsigned wt = tag & 7;
        const uint8_t *value = p;
        if (wt == PROTOBUF_C_WIRE_TYPE_VARINT) {
            uint64_t v;
            if (!(p = get_varint(p, end, &v))) return bad(w, d, field, "a number is cut off");
        } else if (wt == PROTOBUF_C_WIRE_TYPE_64BIT || wt == PROTOBUF_C_WIRE_TYPE_32BIT) {
            len = wt == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4;
            if ((uint64_t)(end - p) < len) return bad(w, d, field, "a number is cut off");
            p += len;
        } else if (wt == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
            if (!(p = get_varint(p, end, &len)) || len > (uint64_t)(end - p) || len > INT32_MAX)
                return bad(w, d, field, "a field is longer than what contains it");
            value = p;
            p += len;
        } else {
            return bad(w, d, field, "no valid field begins here");
        }
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
        if (!f || is_ignored(f)) continue;
        bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
        bool packed = repeated && wt == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED &&
                      wire_type(f->type) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
        if (wt != wire_type(f->type) && !packed)
            return bad(w, d, field, "a field has the wrong type");
        if (!repeated) {
            unsigned i = (unsigned)(f - d->fields);
            if (f->type == PROTOBUF_C_TYPE_MESSAGE || (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)) {
                if (i >= 64 || seen_before(d, seen, f))
                    return bad(w, d, field, "a field occurs twice");
                seen |= UINT64_C(1) << i;
            }
        }
        w->need += SCANNED_BYTES + (repeated ? 16 : 0);
        bool ok = f->type == PROTOBUF_C_TYPE_MESSAGE ? scan_message(w, f, value, (size_t)len, depth)
                  : wt == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED
                      ? scan_bytes(w, d, f, field, value, (size_t)len)
                      : put(w, field, (size_t)(p - field));
        if (!ok) return false;
    }
    return true;
}

/* The arena as protobuf-c's allocator. The unpacker frees its work lists: blocks of some size are
 * kept for reuse, by the power of two of their size, which is stored in front of them. */
typedef struct Blocks {
    Ctx *c;
    void *spare[48];
} Blocks;

static void *block_alloc(void *data, size_t n) {
    Blocks *b = data;
    unsigned k = 5;
    while (((size_t)1 << k) < n + BLOCK_HEADER && k < 47) k++;
    uint8_t *p;
    if (n >= 512) {
        p = b->spare[k];
        if (p)
            memcpy(&b->spare[k], p + BLOCK_HEADER, sizeof(void *));
        else
            p = ctx_alloc(b->c, n < ((size_t)1 << 20) ? (size_t)1 << k : n + BLOCK_HEADER);
    } else {
        p = ctx_alloc(b->c, n + BLOCK_HEADER);
    }
    size_t kept = n >= 512 && n < ((size_t)1 << 20) ? k : 0;
    memcpy(p, &kept, sizeof kept);
    return p + BLOCK_HEADER;
}

static void block_free(void *data, void *ptr) {
    Blocks *b = data;
    if (!ptr) return;
    uint8_t *p = (uint8_t *)ptr - BLOCK_HEADER;
    size_t k;
    memcpy(&k, p, sizeof k);
    if (k) {
        memcpy(ptr, &b->spare[k], sizeof(void *));
        b->spare[k] = p;
    }
}

/* What else a file may be that is given for a model, by its first bytes; NULL: no idea. */
static const char *other_kind(const Model *m) {
    static const struct {
        size_t at;
        const char *bytes, *what;
    } kinds[] = {
        {0, "version https://git-lfs",
         "a pointer of Git LFS; fetch the file itself (git lfs pull)"},
        {0, "PK\3\4", "a ZIP archive, as PyTorch writes; export the model to ONNX"},
        {0, "\x80\2", "a Python pickle, as PyTorch writes; export the model to ONNX"},
        {0, "\x89HDF", "an HDF5 file, as Keras writes; convert the model to ONNX"},
        {0, "\x1f\x8b", "compressed by gzip; unpack it"},
        {4, "TFL3", "a model of TensorFlow Lite; convert it to ONNX"},
        {4, "ORTM",
         "a model in ONNX Runtime's own format; take the ONNX model that it was made of"},
        {0, "<!", "HTML or XML"},
        {0, "<html", "HTML"},
        {0, "<?xml", "XML"},
        {0, "{", "JSON or another text"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i].bytes);
        if (m->size >= kinds[i].at + n && !memcmp(m->map + kinds[i].at, kinds[i].bytes, n))
            return kinds[i].what;
    }
    return NULL;
}

Onnx__ModelProto *wire_read(Model *m) {
    Wire w = {.base = m->map};
    Loc loc = model_loc(m, NULL);
    Onnx__ModelProto *proto = NULL;
    if (!scan(&w, &onnx__model_proto__descriptor, m->map, m->map + m->size, 0)) {
        const char *what = other_kind(m);
        if (what)
            diag(m->c, SEV_ERROR, loc, "E0101", "not an ONNX model but %s", what);
        else
            diag(m->c, SEV_ERROR, loc, "E0101",
                 "not an ONNX model, or a damaged one: byte %zu of %zu: %s%s%s", w.at, m->size,
                 w.what, *w.in ? ", in " : "", w.in);
    } else if (w.need > (UINT64_C(64) << 20) + 64 * (m->size - w.lifted)) {
        diag(m->c, SEV_ERROR, loc, "E0102",
             "the model would take %llu MiB of memory, which its %zu bytes do not justify",
             (unsigned long long)(w.need >> 20), m->size);
    } else {
        Blocks blocks = {.c = m->c};
        ProtobufCAllocator a = {block_alloc, block_free, &blocks};
        proto = onnx__model_proto__unpack(&a, w.nout, w.out);
        if (!proto) diag(m->c, SEV_ERROR, loc, "E0101", "not an ONNX model, or a damaged one");
    }
    free(w.out);
    return proto;
}

bool wire_payload(const Model *m, const Onnx__TensorProto *t, const uint8_t **data, size_t *n) {
    if (t->has_raw_data) {
        *data = t->raw_data.data;
        *n = t->raw_data.len;
        return true;
    }
    uint64_t at = UINT64_MAX, len = 0;
    for (unsigned i = 0; i < t->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *u = &t->base.unknown_fields[i];
        if (u->len == 8 && (u->tag == TAG_OFFSET || u->tag == TAG_LENGTH))
            memcpy(u->tag == TAG_OFFSET ? &at : &len, u->data, 8);
    }
    if (at == UINT64_MAX) return false;
    CHECK(at <= m->size && len <= m->size - at);
    *data = m->map + at;
    *n = (size_t)len;
    return true;
}
