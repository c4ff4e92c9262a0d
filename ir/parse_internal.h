/* parse_internal.h: what parse.c (words, types, graphs) and parse_attr.c (attributes) share.
 *
 * A statement is read in order: attribute words, operands, types, loc, name, regions. What needs
 * the operands' types (bodies, init values) is remembered by position and read in a second step.
 * After the first error everything is a no-op, so that callers test once, at the end. */
#ifndef ACCELC_PARSE_INTERNAL_H
#define ACCELC_PARSE_INTERNAL_H
#include "graph_internal.h"
#include "eval_internal.h"
#include "text.h"

typedef struct Parser {
    Ctx *c;
    const char *file, *text;    /* the whole text, for messages */
    const char *s;              /* what is next */
    const char *seen, *start; /* up to where lines are counted, and where the last of them starts */
    uint32_t line;
    bool failed;
    int depth;                  /* of regions */
    int64_t noise_left;         /* bytes of blobs that may still be made up */
} Parser;
typedef struct Stmt {
    PrimOp op;
    const char *at;             /* for messages */
    uint32_t line, col;
    const FoldName *fold;       /* reduce.sum */
    void *attr;                 /* the attribute, filled in two steps */
    const char *body, *init;    /* positions behind `{` and `init`, or NULL */
    int count[4];               /* lengths of lists, in the order of the attribute's words */
    VEC(DType) acc;
    VEC(Val) in;
    VEC(Type) given;            /* declared result types, if any */
    uint32_t nout;
} Stmt;

void *parse_fail(Parser *p, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));          /* NULL */
void parse_blanks(Parser *p);                       /* blanks and comments */
bool parse_sign(Parser *p, const char *sign);       /* accepts it */
bool parse_word(Parser *p, const char *word);       /* accepts a whole word */
void parse_expect(Parser *p, const char *sign);
int64_t parse_int(Parser *p, int64_t lo, int64_t hi);
double parse_float(Parser *p);
Scalar parse_scalar(Parser *p, DType t);
const char *parse_string(Parser *p, size_t *n); /* quoted; in the arena; n NULL: no NUL inside */
Dim parse_dim(Parser *p);
int parse_dims(Parser *p, Dim *d, int max);         /* [a, b]; how many */
int parse_ints(Parser *p, int64_t *v, int max, int64_t lo, int64_t hi);
int parse_choice(Parser *p, const char *const *word, int n); /* index, or -1 */
Type parse_type(Parser *p, int depth);

void attr_read(Parser *p, Stmt *s);                         /* the words before the operands */
void attr_finish(Parser *p, const Graph *g, Stmt *s);       /* when operands and types are known */
bool is_text_word(const char *s); /* print.c: a name that needs no quotes */
#endif
