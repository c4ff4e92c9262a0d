/* model.c: path or bytes -> Graph.
 * Opens the file (a regular file or a pipe; mapped if possible), tells ONNX from its textual form,
 * checks the model's header, lists everything unsupported before anything is imported, and gives
 * declared types to values: named dims become symbols, bound or ranged by --dim. The rest of the
 * reader is wire.c, text.c, source.c and tensor.c. */
#include "frontend/internal.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIN_IR_VERSION = 3, MAX_TYPE_DEPTH = 32, SHOWN_OPERANDS = 6 };
enum { UNKNOWN_SIZE = -1 }; /* no size to the standard; converters from other frameworks write it where those have none */

static const char *str(const char *s) { return s ? s : ""; }

Loc model_loc(Model *m, const char *what) {
    LocInfo i = {.file = m->file, .name = what, .node = -1};
    return loc_new(m->c, &i);
}

/* ---- declared types ---- */

int model_type_rank(const Onnx__TypeProto *t) {
    if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type->shape) return -1;
    return (int)t->tensor_type->shape->n_dim;
}

bool model_type_known(const Onnx__TypeProto *t) {
    for (int depth = 0; t && depth < MAX_TYPE_DEPTH; depth++) {
        switch (t->value_case) {
        case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
            return t->tensor_type->elem_type && (t->tensor_type->shape || depth);
        case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
            t = t->sequence_type->elem_type;
            break;
        case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
            t = t->optional_type->elem_type;
            break;
        case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
            t = t->map_type->value_type;
            break;
        default:
            return false;
        }
    }
    return false;
}

/* A name that the IR's text can spell: letters, digits, underscores; not one of the functions of
 * dim expressions. */
static const char *identifier(Ctx *c, const char *s) {
    static const char *const taken[] = {"floordiv", "ceildiv", "mod", "min",   "max",
                                        "bcast",    "eq",      "lt",  "select"};
    Buf b = {.c = c};
    if (!isalpha((unsigned char)*s) && *s != '_') buf_puts(&b, "d_");
    for (; *s; s++) buf_printf(&b, "%c", isalnum((unsigned char)*s) && !(*s & 0x80) ? *s : '_');
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!strcmp(buf_str(&b), taken[i])) buf_puts(&b, "_");
    return buf_str(&b);
}

static const DimOption *dim_option(Model *m, const char *a, const char *b) {
    const DimOption *found = NULL;
    for (uint32_t i = 0; i < m->opt->ndim; i++)
        if (!strcmp(m->opt->dim[i].name, a) || !strcmp(m->opt->dim[i].name, b)) {
            m->dim_used[i] = 1;
            found = &m->opt->dim[i];
        }
    return found;
}

/* What converters write for any size: not a name that several sizes share. */
static bool is_placeholder(const char *param) { return !strcmp(param, "?") || !strcmp(param, "-1") || !strcmp(param, "None"); }

/* A dim without a value. `param` is its name in the file; without one it is named after value and
 * axis. */
static Dim symbol(Model *m, const char *param, const char *value, size_t axis) {
    Ctx *c = m->c;
    uint32_t known = *param ? strmap_get(&m->dims, param) : 0;
    if (known) return m->dim.v[known - 1];
    const char *id = identifier(c, *param ? param : ctx_printf(c, "%s_%zu", value, axis));
    const DimOption *o = dim_option(m, *param ? param : id, id);
    Dim d = o && o->lo == o->hi ? dim_const(c, o->lo)
                                : dim_fresh(c, id, o ? o->lo : 0, o ? o->hi : DIM_INF);
    vec_push(c, &m->dim, d);
    strmap_put(&m->dims, *param ? param : ctx_printf(c, "%s %zu", value, axis), m->dim.n);
    return d;
}

/* `"x": ` unless the place says it already. */
static const char *about(Model *m, Loc loc, const char *name) {
    return *loc_info(m->c, loc)->name ? "" : ctx_printf(m->c, "\"%s\": ", name);
}

static bool tensor_type(Model *m, const Onnx__TypeProto__Tensor *t, const char *name, Loc loc,
                        Type *out) {
    DType dt = dtype_of_onnx(t->elem_type);
    if (dt == DT_NONE) {
        diag(m->c, SEV_ERROR, loc, "E0110", "%selement type %d is unknown", about(m, loc, name),
             t->elem_type);
        return false;
    }
    if (!t->shape) {
        diag(m->c, SEV_UNSUPPORTED, loc, "U0120",
             "%sthe model does not declare its shape; the rank must be known, sizes may be names", about(m, loc, name));
        return false;
    }
    if (t->shape->n_dim > MAX_RANK) {
        diag(m->c, SEV_ERROR, loc, "E0111", "%srank %zu, the limit is %d", about(m, loc, name),
             t->shape->n_dim, MAX_RANK);
        return false;
    }
    Dim dim[MAX_RANK];
    int64_t count = 1;
    for (size_t i = 0; i < t->shape->n_dim; i++) {
        const Onnx__TensorShapeProto__Dimension *d = t->shape->dim[i];
        const bool value = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (!value || d->dim_value == UNKNOWN_SIZE) {
            bool named = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            dim[i] = symbol(m, named && !is_placeholder(str(d->dim_param)) ? str(d->dim_param) : "", name, i);
            continue;
        }
        if (d->dim_value < 0) {
            diag(m->c, SEV_ERROR, loc, "E0112", "%sdim %zu is negative: %lld", about(m, loc, name),
                 i, (long long)d->dim_value);
            return false;
        }
        if (__builtin_mul_overflow(count, d->dim_value ? d->dim_value : 1, &count) ||
            count > INT64_MAX / 32) {
            diag(m->c, SEV_ERROR, loc, "E0113",
                 "%sthe number of elements overflows at dim %zu (%lld)", about(m, loc, name), i,
                 (long long)d->dim_value);
            return false;
        }
        dim[i] = dim_const(m->c, d->dim_value);
    }
    *out = type_tensor(m->c, dt, (int)t->shape->n_dim, dim);
    return true;
}

static bool any_type(Model *m, const Onnx__TypeProto *t, const char *name, Loc loc, Type *out,
                     int depth) {
    Type *elem = NEW(m->c, Type);
    *out = (Type){0};
    int kind = depth < MAX_TYPE_DEPTH && t ? (int)t->value_case : 0;
    const Onnx__TypeProto *inner = NULL;
    switch (kind) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        return tensor_type(m, t->tensor_type, name, loc, out);
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
        out->kind = TY_SEQ;
        inner = t->sequence_type->elem_type;
        break;
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
        out->kind = TY_OPT;
        inner = t->optional_type->elem_type;
        break;
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
        out->kind = TY_MAP;
        out->dtype = (uint8_t)dtype_of_onnx(t->map_type->key_type);
        if (!dt_is_int((DType)out->dtype) && out->dtype != DT_STR) {
            diag(m->c, SEV_ERROR, loc, "E0116", "%sthe keys of a map must be integers or strings, not of element type %d",
                 about(m, loc, name), t->map_type->key_type);
            return false;
        }
        inner = t->map_type->value_type;
        break;
    default:
        diag(m->c, kind ? SEV_UNSUPPORTED : SEV_ERROR, loc, kind ? "U0121" : "E0115", "%s%s",
             about(m, loc, name),
             kind ? "sparse and opaque types are not supported"
                  : "the model does not declare its type");
        return false;
    }
    out->elem = elem;
    const Onnx__TypeProto__Tensor *t0 = inner && inner->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? inner->tensor_type : NULL;
    if (t0 && !t0->shape) { /* elements may have any rank */
        *elem = type_unranked(dtype_of_onnx(t0->elem_type), RANK_ANY);
        if (elem->dtype != DT_NONE) return true;
    }
    if (!any_type(m, inner, name, loc, elem, depth + 1)) return false;
    Type list = type_list(m->c, (TypeKind)out->kind, elem);
    out->elem = list.elem;
    return true;
}

bool model_type(Model *m, const Onnx__TypeProto *t, const char *name, Loc loc, Type *out) {
    return any_type(m, t, name, loc, out, 0);
}

/* ---- preflight ---- */

/* Declared types of the values of one graph, for the evidence lines of a message. */
static void collect_types(Ctx *c, const SrcGraph *g, StrMap *map, const Onnx__TypeProto **type,
                          uint32_t *n) {
    const struct {
        const SrcValue *v;
        uint32_t n;
    } list[] = {{g->in.v, g->in.n}, {g->out.v, g->out.n}, {g->info.v, g->info.n}};
    map->c = c;
    for (size_t k = 0; k < sizeof list / sizeof *list; k++)
        for (uint32_t i = 0; i < list[k].n; i++)
            if (list[k].v[i].type) {
                type[*n] = list[k].v[i].type;
                strmap_put(map, list[k].v[i].name, ++*n);
            }
}

static void print_declared(Buf *b, const Onnx__TypeProto *t) {
    if (t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        buf_puts(b, "(no tensor)");
        return;
    }
    const Onnx__TensorShapeProto *s = t->tensor_type->shape;
    buf_puts(b, dt_name(dtype_of_onnx(t->tensor_type->elem_type)));
    if (!s) return;
    for (size_t i = 0; i < s->n_dim; i++) {
        buf_puts(b, i ? "," : "[");
        if (s->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
            buf_printf(b, "%lld", (long long)s->dim[i]->dim_value);
        else if (s->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
                 s->dim[i]->dim_param)
            buf_printf(b, "%.60s", s->dim[i]->dim_param);
        else
            buf_puts(b, "?");
    }
    buf_puts(b, s->n_dim ? "]" : "[]");
}

static void preflight(Model *m, const SrcGraph *g) {
    StrMap map = {0};
    uint32_t ntype = 0;
    const Onnx__TypeProto **type = NULL;
    for (uint32_t i = 0; i < g->node.n; i++) {
        const SrcNode *n = &g->node.v[i];
        const char *why = NULL;
        for (uint32_t a = 0; a < n->nattr; a++)
            for (uint32_t k = 0; k < n->attr[a].ngraph; k++) preflight(m, n->attr[a].graph[k]);
        if (import_supported(m, n, &why)) continue;
        diag(m->c, SEV_UNSUPPORTED, n->loc, "U0101", "%s", why ? why : "not supported");
        if (!type) {
            type = NEWN(m->c, const Onnx__TypeProto *, g->in.n + g->out.n + g->info.n + 1);
            collect_types(m->c, g, &map, type, &ntype);
        }
        for (uint32_t k = 0; k < n->nin && k < SHOWN_OPERANDS; k++) {
            uint32_t t = strmap_get(&map, n->in[k]);
            Buf b = {.c = m->c};
            if (!t) continue;
            print_declared(&b, type[t - 1]);
            diag_note(m->c, "input %s %s", n->in[k], buf_str(&b));
        }
    }
}

/* ---- opening ---- */

static bool check_header(Model *m) {
    const Onnx__ModelProto *p = m->proto;
    if (!p->graph || (!p->has_ir_version && !p->n_opset_import)) {
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0103", "not an ONNX model: it has no %s",
             p->graph ? "IR version" : "graph");
        return false;
    }
    if (p->has_ir_version && p->ir_version < MIN_IR_VERSION) {
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0142",
             "IR version %lld is not supported, the oldest is %d", (long long)p->ir_version,
             MIN_IR_VERSION);
        return false;
    }
    if (!p->n_opset_import) {
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0140", "the model imports no operator set");
        return false;
    }
    return true;
}

static void check_dims(Model *m) {
    for (uint32_t i = 0; i < m->opt->ndim; i++) {
        if (m->dim_used[i]) continue;
        Buf b = {.c = m->c};
        for (uint32_t k = 0, n = dim_nsyms(m->c); k < n; k++)
            if (!dim_sym_info(m->c, k)->bound)
                buf_printf(&b, "%s%s", b.n ? ", " : "", dim_sym_info(m->c, k)->name);
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0143",
             "--dim %s: the model has no such dimension; it has %s", m->opt->dim[i].name,
             b.n ? buf_str(&b) : "none");
    }
}

bool model_build(Model *m, const char *name) {
    Ctx *c = m->c;
    bool text = m->opt->syntax == SYNTAX_AUTO ? text_sniff(name, m->map, m->size)
                                              : m->opt->syntax == SYNTAX_TEXT;
    m->dims.c = c;
    m->dim_used = NEWN(c, uint32_t, m->opt->ndim + 1);
    m->proto = text ? text_read(c, (const char *)m->map, m->size, m->file) : wire_read(m);
    if (!m->proto || !check_header(m)) return false;
    m->graph = source_build(m);
    m->errors = ctx_errors(c);
    return m->graph != NULL;
}

static Graph *read_model(Model *m, const char *name) {
    static const FrontendOptions none = {0};
    Ctx *c = m->c;
    uint32_t errors = ctx_errors(c);
    m->opt = m->opt ? m->opt : &none;
    if (m->opt->extract) m->opt->extract->model = m;
    if (!model_build(m, name)) return NULL;
    preflight(m, m->graph);
    if (ctx_errors(c) == errors) settle(m, name);
    Graph *g = import_model(m); /* which finds more, and ends with an error after one above */
    if (g && ctx_errors(c) == errors) check_dims(m);
    return ctx_errors(c) == errors ? g : NULL;
}

/* All of a pipe. */
static bool slurp(Model *m, int fd) {
    size_t n = 0, cap = 1 << 16;
    uint8_t *p = ctx_alloc(m->c, cap);
    for (;;) {
        ssize_t k = read(fd, p + n, cap - n);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return false;
        if (k == 0) break;
        n += (size_t)k;
        if (n == cap) {
            uint8_t *q = ctx_alloc(m->c, 2 * cap);
            memcpy(q, p, n);
            p = q;
            cap *= 2;
        }
    }
    m->map = p;
    m->size = n;
    return true;
}

static bool open_file(Model *m, const char *path) {
    bool std = !strcmp(path, "-");
    int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    const char *why = NULL;
    if (fd < 0 || fstat(fd, &st)) {
        why = strerror(errno);
    } else if (S_ISDIR(st.st_mode)) {
        why = "it is a directory";
    } else if (S_ISREG(st.st_mode) && !std) {
        void *p =
            st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : (void *)"";
        if (p == MAP_FAILED) why = strerror(errno);
        m->map = p;
        m->size = (size_t)st.st_size;
        m->mapped = st.st_size > 0;
    } else if (!slurp(m, fd)) {
        why = strerror(errno);
    }
    if (!std && fd >= 0) close(fd);
    if (!why && !m->size) why = "the file is empty";
    if (why)
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0100", "cannot read the model: %s", why);
    else if (m->opt && m->opt->files && !std)
        vec_push(m->c, &m->opt->files->path, ctx_str(m->c, path));
    return !why;
}

Graph *frontend_read(Ctx *c, const char *path, const FrontendOptions *o) {
    const char *slash = strrchr(path, '/');
    Model *m = NEW(c, Model);
    *m = (Model){.c = c,
                 .opt = o,
                 .file = ctx_str(c, strcmp(path, "-") ? slash ? slash + 1 : path : "stdin")};
    m->dir = slash ? ctx_strn(c, path, slash == path ? 1 : (size_t)(slash - path)) : ".";
    if (!open_file(m, path)) return NULL;
    return read_model(m, path);
}

Graph *frontend_read_bytes(Ctx *c, const void *data, size_t n, const char *name, const char *dir,
                           const FrontendOptions *o) {
    Model *m = NEW(c, Model);
    *m = (Model){.c = c, .opt = o, .file = ctx_str(c, name), .dir = dir, .map = data, .size = n};
    if (n) return read_model(m, name);
    diag(c, SEV_ERROR, model_loc(m, NULL), "E0100", "cannot read the model: it is empty");
    return NULL;
}
