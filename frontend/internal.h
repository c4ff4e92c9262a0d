/* internal.h: the interface between the reader of models (model.c, tensor.c, text.c, wire.c) and
 * the importers (import.c, op_*.c). The reader hands over a Src* tree: names interned, versions
 * resolved, model-local functions already expanded, attribute references already substituted, uses
 * checked against definitions. An importer therefore never looks at a NodeProto; attribute and
 * tensor values stay the protobuf structs they were read into. */
#ifndef ACCELC_FRONTEND_INTERNAL_H
#define ACCELC_FRONTEND_INTERNAL_H
#include "frontend/frontend.h"
#include "onnx.pb-c.h"

typedef struct Model Model;
typedef struct SrcGraph SrcGraph;

typedef struct SrcAttr {
    const char *name; /* interned */
    const Onnx__AttributeProto
        *p;           /* never a reference; p->type is set (deduced if the file left it out) */
    SrcGraph **graph; /* GRAPH: 1, GRAPHS: n; else NULL */
    uint32_t ngraph;
} SrcAttr;

typedef struct SrcNode {
    const char *domain; /* interned; "" for ai.onnx */
    const char *op;     /* interned */
    const char *name;   /* interned; "" if the node has none */
    int32_t version;    /* opset version of its domain in force at this node */
    Loc loc;            /* file, index, name, operator, version */
    uint32_t nin, nout, nattr;
    const char **in, **out; /* interned; "" = absent */
    const SrcAttr *attr;
} SrcNode;

typedef struct SrcInit { /* an initialiser: dense or sparse */
    const char *name;
    const Onnx__TensorProto *dense;
    const Onnx__SparseTensorProto *sparse;
} SrcInit;

typedef struct SrcValue { /* graph input or output, or a value_info entry */
    const char *name;
    const Onnx__TypeProto *type; /* NULL: not declared (allowed in subgraphs and for outputs) */
} SrcValue;

struct SrcGraph {
    const char *name;
    SrcGraph *outer;   /* lexically enclosing graph, NULL at the top */
    VEC(SrcNode) node; /* a topological order; that of the file if it is one */
    VEC(SrcInit) init;
    VEC(SrcValue) in; /* inputs that have an initialiser are not listed: they are constants */
    VEC(SrcValue) out;
    VEC(SrcValue) info; /* declared types of inner values (hints only) */
    StrMap captured;    /* set of capture, for source.c */
    VEC(const char *)
    capture; /* names of enclosing graphs used here or deeper, each once, in order of first use */
};

struct Model {
    Ctx *c;
    const char *file;   /* for messages: last component of the path */
    const char *dir;    /* directory of external data; NULL: external data is refused */
    const uint8_t *map; /* the file's bytes (tensor payloads lifted by wire.c point into them) */
    size_t size;
    bool mapped; /* map is a file, not memory of the caller */
    StrMap dims; /* dim_param as written -> 1 + index in dim */
    VEC(Dim) dim;
    const Onnx__ModelProto *proto;
    SrcGraph *graph;
    const FrontendOptions *opt;
    uint32_t *dim_used;  /* per --dim option: some symbol had this name */
    uint32_t errors;     /* given before the preflight */
    const uint8_t *choice; /* settle.c: the branch of an If, for those met so far whose branches differ in rank */
    uint32_t nchoice, met;
    uint32_t odd;        /* results of another rank than declared */
    bool settling;       /* the import is an attempt */
    struct ExtFile *ext; /* mapped external files, most recent first */
};

/* ==== model.c ================================================================================ */
/* The type of a declared value. Named dims become symbols (with the ranges of --dim, or constants);
 * unnamed ones fresh symbols named after the value and axis. Returns false after a message: unknown
 * element type, negative dim, no shape (rank unknown). A NULL or incomplete type of a subgraph's
 * input is no error: use model_type_known first. */
bool model_type(Model *m, const Onnx__TypeProto *t, const char *name, Loc loc, Type *out);
bool model_type_known(const Onnx__TypeProto *t); /* element type and shape (rank) are there */
int model_type_rank(const Onnx__TypeProto *t);   /* of a tensor; -1: not declared (t may be NULL) */
Loc model_loc(Model *m,
              const char *what); /* a place that is not a node: "model.onnx: input \"x\"" */
/* m->map -> m->graph, before anything is imported; text is known by `name`, the file's. false after messages. */
bool model_build(Model *m, const char *name);

/* ==== source.c =============================================================================== */
/* m->proto -> SrcGraph: names resolved and checked, nodes in topological order, model-local
 * functions expanded, versions looked up. NULL after messages (all of them, not only the first). */
SrcGraph *source_build(Model *m);
const Onnx__TypeProto *source_info(const SrcGraph *g, const char *name); /* value_info of an inner value, or NULL */

/* ==== settle.c =============================================================================== */
/* Chooses, by importing the model, between branches of different rank; `name` as for model_build. */
void settle(Model *m, const char *name);
/* At an If whose branches have different ranks: 0 then, 1 else; -1: with neither can the model be imported. */
int settle_choice(Model *m);

/* ==== tensor.c =============================================================================== */
/* TensorProto -> constant. The bytes are not copied if they can be used as they are (inline raw
 * data and external files stay mapped). Any element type including strings. NULL after a message at
 * loc (name of the tensor included). */
const ConstData *tensor_read(Model *m, const Onnx__TensorProto *t, const char *name, Loc loc,
                             Type *type);
const ConstData *tensor_read_sparse(Model *m, const Onnx__SparseTensorProto *t, const char *name,
                                    Loc loc, Type *type);
/* An initialiser of either kind. */
const ConstData *tensor_read_init(Model *m, const SrcInit *i, Loc loc, Type *type);
DType dtype_of_onnx(int32_t data_type); /* TensorProto.DataType -> DType; DT_NONE if unknown */
int32_t onnx_of_dtype(DType t);         /* the other way; 0 if ONNX does not have it */

/* ==== wire.c ================================================================================= */
/* Checks the encoding of a message against its schema before it is unpacked (nesting, lengths,
 * duplicates, memory it will take) and lifts large tensor payloads out, which then are found with
 * wire_payload(). NULL after a message. */
Onnx__ModelProto *wire_read(Model *m);
bool wire_payload(const Model *m, const Onnx__TensorProto *t, const uint8_t **data, size_t *n);

/* ==== text.c ================================================================================= */
bool text_sniff(const char *path, const uint8_t *data,
                size_t n); /* does it look like the ONNX textual syntax? */
Onnx__ModelProto *text_read(Ctx *c, const char *text, size_t n,
                            const char *file); /* NULL after messages with line, column */

/* ==== import.c =============================================================================== */
/* Can this node be imported? false: *why is one line without the node's name ("no operator Foo in
 * domain x", "version 25 of Bar is newer than 22", "attribute baz is not supported"), in the arena.
 * Looks at the node alone. */
bool import_supported(Model *m, const SrcNode *n, const char **why);
/* m->graph -> Graph; NULL after messages. What the preflight found unsupported is poison without a
 * further message. */
Graph *import_model(Model *m);

/* ==== extract.c ============================================================================== */
typedef struct SeenOperand { /* name "": not known */
    const char *name;
    Type type;
    const ConstData *data; /* NULL: not a constant, or a large one */
} SeenOperand;
typedef struct SeenNode { /* a node after its import, with its operands, captures and results */
    const SrcNode *n;
    SeenOperand *operand;
    uint32_t noperand;
} SeenNode;
typedef struct Extract {
    Model *model;
    VEC(SeenNode) seen; /* in order of import; a body may be imported several times */
} Extract;
#endif
