/* frontend.h: ONNX model (file or text) -> Graph, and the whole compilation as one call.
 * Everything that the command can do goes through CompileOptions and accelc_compile(); nothing here
 * exits or prints. */
#ifndef ACCELC_FRONTEND_H
#define ACCELC_FRONTEND_H
#include "ir/ir.h"

#define ACCELC_VERSION "0.1.0"

/* --dim name=lo..hi: lo == hi binds the symbol to a constant, otherwise declares its range. */
typedef struct DimOption {
    const char *name;
    int64_t lo, hi;
} DimOption;

typedef enum { SYNTAX_AUTO, SYNTAX_PROTOBUF, SYNTAX_TEXT } Syntax;
typedef struct Paths {
    VEC(const char *) path;
} Paths;

typedef struct FrontendOptions {
    const DimOption *dim;
    uint32_t ndim;
    Syntax syntax;
    Paths *files; /* every file that is read is appended (NULL: not wanted) */
    struct Extract *extract; /* of extract.c: learns what was read (NULL: not wanted) */
} FrontendOptions;

/* model.c: reads a model (protobuf, or ONNX text if the name ends in .onnxtxt or the bytes look
 * like it) and imports it. NULL after messages. The graph's memory is the Ctx's, but weights may
 * lie in files that stay mapped until the process ends. */
Graph *frontend_read(Ctx *c, const char *path, const FrontendOptions *o);
/* The same for bytes in memory, which must stay until ctx_free; `name` is used in messages,
 * external data is looked up in `dir` (NULL: refused). */
Graph *frontend_read_bytes(Ctx *c, const void *data, size_t n, const char *name, const char *dir,
                           const FrontendOptions *o);

/* import.c: text of --list-ops: domain, operator, versions, operands and results; a line for each
 * meaning of an operator. */
void frontend_list_ops(Buf *b);

/* ==== compile.c ============================================================================== */
typedef enum { FROM_AUTO, FROM_ONNX, FROM_TEXT, FROM_IR } InputKind;
typedef enum {
    OUT_AUTO /* by the ending of the output's name */,
    OUT_SO,
    OUT_OBJ,
    OUT_ARCHIVE,
    OUT_IR,
    OUT_KERNELS,
    OUT_LIR,
    OUT_LLVM,
    OUT_ASM,
    OUT_PTX,
    OUT_HEADER
} OutputKind;

typedef struct CompileOptions {
    const char *input;  /* path, or "-" */
    const char *output; /* path, or "-" for standard output */
    InputKind from;
    OutputKind emit;
    DimOption *dim;
    uint32_t ndim;
    const char *name;                /* of the model, a C identifier; NULL: from the file names */
    const char *target;              /* comma-separated names */
    const char *gpu;                 /* the same, of architectures */
    bool cubin;
    const char *executor;            /* team, serial, openmp */
    const char *precision;           /* float32; tf32, bf16, f16: of factors on GPUs */
    const char *depfile, *deptarget; /* NULL: no dependencies, the output's name */
    int level;                       /* -O */
    struct Extract *extract;         /* as in FrontendOptions */
    const char *passes, *stop_after, *dump_after, *explain,
        *tuned, *sched; /* NULL: off; stop_after "import": no pass at all */
    bool verify_each, time_passes, stats, verbose;
    uint32_t bisect; /* UINT32_MAX: off */
} CompileOptions;
void compile_defaults(CompileOptions *o);
/* Reads, optimises and writes. Messages are in the Ctx (ctx_messages); listings and statistics go
 * to `info`. false after messages: then no output file is left behind, and one that was there
 * before is untouched. */
bool accelc_compile(Ctx *c, const CompileOptions *o, FILE *info);
Graph *compile_read(Ctx *c, const CompileOptions *o,
                    Paths *files); /* as imported; NULL after messages */
bool compile_passes(Ctx *c, const CompileOptions *o, Graph *g); /* in place; false after messages */
bool compile_describe(Ctx *c, const CompileOptions *o, Graph *g,
                      Buf *b);                      /* memory and kernels, for inspect */
const char *compile_name(Ctx *c, const char *path); /* a C identifier from a file name */
void compile_list_passes(Buf *b);
const char *compile_list_targets(void);
const char *compile_list_templates(Ctx *c);

/* ==== output.c: files that appear complete or not at all ===================================== */
typedef struct Output {
    Ctx *c;
    const char *path;         /* as given */
    const char *final, *temp; /* where it will be; where it is written now */
    bool device, executable;  /* device: not a regular file, is written through */
    bool open;
} Output;
bool output_begin(Output *o, Ctx *c, const char *path,
                  bool executable);            /* "-" is standard output; false after a message */
bool output_text(Output *o, const char *text); /* the whole content */
bool output_bytes(Output *o, const void *data, size_t n);
bool output_commit(Output *o);                 /* false after a message */
void output_abandon(Output *o);                /* nothing is left; harmless after commit */

/* ==== npy.c ================================================================================== */
/* A value of type t; opaque bytes (V1, V2) stand for its element type. NULL after a message. */
Tensor *npy_read(Ctx *c, const char *path, const Type *t);
bool npy_write(Ctx *c, const char *path, const Tensor *t);

/* ==== eval_call.c ============================================================================= */
/* An EvalCall over the functions of runtime/call.def. */
bool eval_call(Ctx *c, const char *symbol, int nin, const Tensor *const *in, int nout, Tensor **out, int64_t *room, char error[256]);

/* ==== extract.c ============================================================================== */
/* Compiles the model without writing code, and writes to `path` a model of the nodes at which that
 * fails, with what is known of their operands. true: nothing fails, and no file is written; false
 * after messages. What was done goes to `info`. */
bool extract_failing(Ctx *c, const CompileOptions *o, const char *path, FILE *info);

/* ==== bench.c: has accelc-run measure an artefact, or a model that is compiled for it, with more options for accelc-run. Its exit status. */
int tool_bench(Ctx *c, CompileOptions *o, bool compiled, int argc, char *const *argv);

/* ==== tools.c: the evaluator and inspect as commands ========================================= */
typedef struct NamedFile {
    const char *name, *path;
} NamedFile;
typedef struct EvalFiles {
    NamedFile *in, *out;
    uint32_t nin, nout;
    uint64_t seed;
} EvalFiles;
bool tool_eval(Ctx *c, Graph *g, const EvalFiles *f, FILE *out);
bool tool_inspect_model(Ctx *c, const CompileOptions *o, FILE *out);
void print_range(Buf *b, const char *name, int64_t lo,
                 int64_t hi); /* "  seq in 1..512"; hi < 0 or DIM_INF: no bound */
#endif
