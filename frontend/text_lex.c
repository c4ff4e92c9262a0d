/* text_lex.c: characters -> tokens of the ONNX textual syntax. The text need not be terminated.
 * Identifiers are letters, digits and underscores; strings are quoted with `"` and escape with a
 * backslash; `#` begins a comment. */
#include "frontend/text_lex.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_NUMBER = 400 };

void text_fail(Text *t, const char *fmt, ...) {
    if (t->failed) return;
    t->failed = true;
    LocInfo at = {.file = t->file, .node = -1, .line = 1, .col = 1};
    for (const char *s = t->start; s < t->p; s++) {
        at.col = *s == '\n' ? 1 : at.col + 1;
        at.line += *s == '\n';
    }
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diag(t->c, SEV_ERROR, loc_new(t->c, &at), "E0160", "%s", text);
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

char text_peek(Text *t) {
    while (t->p < t->end) {
        if (*t->p == '#')
            while (t->p < t->end && *t->p != '\n') t->p++;
        else if (*t->p == ' ' || (*t->p >= '\t' && *t->p <= '\r'))
            t->p++;
        else
            return t->failed ? 0 : *t->p;
    }
    return 0;
}

bool text_ended(Text *t) {
    text_peek(t);
    return t->failed || t->p == t->end;
}

bool text_accept(Text *t, char ch) {
    if (text_peek(t) != ch || !ch) return false;
    t->p++;
    return true;
}

static void describe(Text *t, char *to, size_t n) {
    char c = text_peek(t);
    if (t->p == t->end)
        snprintf(to, n, "the end of the file");
    else if (c > ' ' && c < 127)
        snprintf(to, n, "'%c'", c);
    else
        snprintf(to, n, "byte 0x%02x", (unsigned char)*t->p);
}

void text_expect(Text *t, char ch) {
    char found[32];
    if (text_accept(t, ch)) return;
    describe(t, found, sizeof found);
    text_fail(t, "expected '%c', found %s", ch, found);
}

void text_arrow(Text *t) {
    if (text_peek(t) == '=' && t->end - t->p >= 2 && t->p[1] == '>')
        t->p += 2;
    else
        text_fail(t, "expected '=>'");
}

const char *text_word(Text *t) {
    const char *s = t->p;
    if (!is_letter(text_peek(t))) return "";
    for (s = t->p; t->p < t->end && (is_letter(*t->p) || is_digit(*t->p));) t->p++;
    return ctx_strn(t->c, s, (size_t)(t->p - s));
}

const char *text_peek_word(Text *t) {
    text_peek(t);
    const char *save = t->p, *w = text_word(t);
    t->p = save;
    return w;
}

const char *text_name(Text *t, bool *found) {
    bool quoted = text_peek(t) == '"';
    const char *s = quoted ? text_string(t) : text_word(t);
    if (found)
        *found = quoted || *s;
    else if (!quoted && !*s) {
        char what[32];
        describe(t, what, sizeof what);
        text_fail(t, "expected a name, found %s", what);
    }
    return s;
}

bool text_float_word(const char *s) {
    return !strcasecmp(s, "inf") || !strcasecmp(s, "infinity") || !strcasecmp(s, "nan");
}

static Literal string_literal(Text *t) {
    Literal l = {.kind = LIT_STRING};
    const char *s = ++t->p, *e = s;
    while (e < t->end && *e != '"') e += *e == '\\' && e + 1 < t->end ? 2 : 1;
    if (e >= t->end) {
        text_fail(t, "the string does not end");
        return (Literal){0};
    }
    char *to = ctx_alloc(t->c, (size_t)(e - s) + 1);
    for (; s < e; s++) to[l.n++] = *s == '\\' ? *++s : *s;
    l.s = to;
    t->p = e + 1;
    return l;
}

Literal text_literal(Text *t) {
    Literal l = {0};
    char c = text_peek(t), buf[MAX_NUMBER + 1], *end;
    const char *s = t->p, *e = s;
    if (c == '"') return string_literal(t);
    bool point = false, word = false;
    if (e < t->end && *e == '-') e++;
    if (e < t->end && is_letter(*e)) {
        word = true;
        while (e < t->end && is_letter(*e)) e++;
    } else {
        const char *digits = e;
        while (e < t->end && (is_digit(*e) || (*e == '.' && !point))) point |= *e++ == '.';
        if (e > digits && e < t->end && (*e == 'e' || *e == 'E')) {
            point = true;
            e++;
            e += e < t->end && (*e == '+' || *e == '-');
            while (e < t->end && is_digit(*e)) e++;
        }
    }
    size_t n = (size_t)(e - s);
    if (t->failed || n == 0 || n > MAX_NUMBER) {
        text_fail(t, n ? "the number is too long" : "expected a number or a string");
        return l;
    }
    memcpy(buf, s, n);
    buf[n] = 0;
    bool neg = *buf == '-';
    if (word && !text_float_word(buf + neg)) {
        text_fail(t, "expected a number or a string, found \"%.40s\"", buf);
        return l;
    }
    l.kind = word || point ? LIT_FLOAT : LIT_INT;
    l.f = strtod(buf, &end);
    if (*end || end == buf || (n == 1 && neg)) {
        text_fail(t, "\"%.40s\" is not a number", buf);
        return (Literal){0};
    }
    if (l.kind == LIT_INT) {
        errno = 0;
        l.i = strtoll(buf, NULL, 10);
        if (errno && !neg) {
            errno = 0;
            l.i = (int64_t)strtoull(buf, NULL, 10);
            l.big = true;
        }
        if (errno) {
            text_fail(t, "the integer %.40s does not fit 64 bits", buf);
            return (Literal){0};
        }
    }
    t->p = e;
    return l;
}

int64_t text_int(Text *t) {
    Literal l = text_literal(t);
    if (l.kind != LIT_INT || l.big) text_fail(t, "expected an integer");
    return l.i;
}

const char *text_string(Text *t) {
    Literal l = {0};
    if (text_peek(t) == '"')
        l = string_literal(t);
    else
        text_fail(t, "expected a string in quotes");
    return l.kind == LIT_STRING ? l.s : "";
}
