/* text_lex.h: tokens of the ONNX textual syntax, shared by text_lex.c and text.c. The first error
 * is kept and ends parsing: afterwards every function returns at once with an empty result, so that
 * callers need to look only in loops. */
#ifndef ACCELC_FRONTEND_TEXT_LEX_H
#define ACCELC_FRONTEND_TEXT_LEX_H
#include "ir/ir.h"

typedef struct Text {
    Ctx *c;
    const char *file, *start, *p, *end;
    bool failed;
    int depth; /* nesting of graphs and types */
} Text;
typedef enum { LIT_NONE, LIT_INT, LIT_FLOAT, LIT_STRING } LitKind;
typedef struct Literal {
    LitKind kind;
    int64_t i;     /* INT; as two's complement beyond int64 */
    bool big;      /* INT: does not fit int64, but uint64 */
    double f;      /* INT, FLOAT */
    const char *s; /* STRING, in the arena, terminated */
    size_t n;
} Literal;

void text_fail(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char text_peek(Text *t); /* next character after space and comments; 0 at the end */
bool text_accept(Text *t, char ch);
void text_expect(Text *t, char ch);
void text_arrow(Text *t); /* => */
bool text_ended(Text *t);
const char *text_word(Text *t);      /* an identifier; "" if there is none */
const char *text_peek_word(Text *t); /* the same, not consumed */
const char *text_name(
    Text *t,
    bool *found); /* an identifier or quoted string; *found false if neither (NULL: an error) */
Literal text_literal(Text *t);
int64_t text_int(Text *t);
const char *text_string(Text *t);
bool text_float_word(const char *s); /* inf, infinity, nan in any case */
#endif
