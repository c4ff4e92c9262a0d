/* call_regex.c: regular expressions that must match a whole string, in time proportional to its length times that of the pattern.
 *
 * The syntax is that of RE2: literals, . [..] [^..] [[:alpha:]] \d \D \s \S \w \W, x* x+ x? x{n} x{n,} x{n,m} (lazy forms too), xy, x|y,
 * (x) (?:x) (?P<name>x) (?<name>x), flags (?ims-ims) and (?i:x), ^ $ \A \z \b \B, \a \f \n \r \t \v \012 \x7F \x{10FFFF} \Q..\E. \d, \s,
 * \w, \b and named classes are ASCII. Not supported, as in RE2: back references, looking around, possessive forms; and \p{..}, \C.
 * Characters are those of UTF-8; a byte that is none matches what is not a listed character: [^a], \W, not the dot.
 *
 * In: pattern. Out: a program of a nondeterministic automaton; all its states at one place of the string are kept in a set. */
#include "call_internal.h"
#include <stdlib.h>

enum { RE_MAX = 1 << 16, RE_DEPTH = 200, RE_REPEAT = 1000 };
enum { RE_ICASE = 1, RE_MULTI = 2, RE_DOT = 4 };
typedef enum { N_EMPTY, N_SET, N_ASSERT, N_CAT, N_ALT, N_REPEAT } ReKind;
typedef enum { A_TEXT_BEGIN, A_TEXT_END, A_LINE_BEGIN, A_LINE_END, A_WORD, A_NO_WORD } ReAssert;
typedef struct ReNode { ReKind kind; int a, b, min, max; } ReNode; /* SET: ranges a..b of range[]; max: -1 none */
typedef struct ReRange { uint32_t lo, hi; } ReRange;
typedef enum { I_SET, I_ASSERT, I_SPLIT, I_MATCH } ReOp;
typedef struct ReIns { uint8_t op, what; int x, y; } ReIns; /* SET: a, b in x, y; ASSERT: next in x; SPLIT: to x and y; SET goes on at +1 */

typedef struct Re {
    rt_call *c;
    const char *at, *end;
    int flags, depth;
    ReNode *node;
    ReRange *range;
    ReIns *ins;
    int nnode, nrange, nins, steps;
} Re;

static int re_fail(Re *r, const char *why)
{
    call_fail(r->c, "pattern: %s", why);
    return -1;
}

static int re_node(Re *r, ReKind kind, int a, int b)
{
    if (r->nnode == RE_MAX)
        return re_fail(r, "too long");
    r->node[r->nnode] = (ReNode){.kind = kind, .a = a, .b = b};
    return r->nnode++;
}

static bool re_add(Re *r, uint32_t lo, uint32_t hi)
{
    if (r->nrange == RE_MAX)
        return re_fail(r, "too long"), false;
    r->range[r->nrange++] = (ReRange){lo, hi};
    return true;
}

static int by_lo(const void *a, const void *b)
{
    const ReRange *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Ranges from `from` on become the sorted complement among characters and stray bytes. */
static bool re_negate(Re *r, int from)
{
    ReRange *v = r->range + from;
    int n = r->nrange - from;
    qsort(v, (size_t)n, sizeof *v, by_lo);
    uint32_t next = 0;
    int m = 0;
    if (r->nrange == RE_MAX)
        return re_fail(r, "too long"), false;
    for (int i = 0; i < n; i++) {
        ReRange x = v[i];
        if (x.lo > next)
            v[m++] = (ReRange){next, x.lo - 1}; /* m <= i: what was there has been read */
        next = x.hi + 1 > next ? x.hi + 1 : next;
    }
    v[m++] = (ReRange){next, INVALID + 255};
    r->nrange = from + m;
    return true;
}

static const struct { const char *name; const char *pairs; } re_classes[] = {
    {"d", "09"}, {"s", "\t\n\f\r  "}, {"w", "09AZ__az"}, {"[:alnum:]", "09AZaz"}, {"[:alpha:]", "AZaz"}, {"[:ascii:]", "\001\177"},
    {"[:blank:]", "\t\t  "}, {"[:cntrl:]", "\001\037\177\177"}, {"[:digit:]", "09"}, {"[:graph:]", "!~"}, {"[:lower:]", "az"},
    {"[:print:]", " ~"}, {"[:punct:]", "!/:@[`{~"}, {"[:space:]", "\t\r  "}, {"[:upper:]", "AZ"}, {"[:word:]", "09AZ__az"},
    {"[:xdigit:]", "09AFaf"},
};

/* Adds a class by name; negated if `not`. */
static bool re_class(Re *r, const char *name, size_t n, bool not)
{
    for (size_t k = 0; k < sizeof re_classes / sizeof *re_classes; k++) {
        const char *p = re_classes[k].pairs;
        int from = r->nrange;
        if (strlen(re_classes[k].name) != n || memcmp(re_classes[k].name, name, n))
            continue;
        bool zero = !strcmp(re_classes[k].name, "[:ascii:]") || !strcmp(re_classes[k].name, "[:cntrl:]");
        for (bool ok = !zero || re_add(r, 0, 0); *p; p += 2)
            if (!ok || !re_add(r, (unsigned char)p[0], (unsigned char)p[1]))
                return false;
        return !not || re_negate(r, from);
    }
    return re_fail(r, "no such class"), false;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* The character of an escape whose backslash was read. */
static bool re_escape(Re *r, uint32_t *c)
{
    static const char names[] = "afnrtv", codes[] = "\a\f\n\r\t\v";
    if (r->at == r->end)
        return re_fail(r, "ends in a backslash"), false;
    char e = *r->at;
    const char *p = e ? strchr(names, e) : NULL;
    bool braces = false;
    if (p) {
        *c = (unsigned char)codes[p - names];
        r->at++;
    } else if (e >= '0' && e <= '7') {
        *c = 0;
        if (e != '0' && !(r->end - r->at > 1 && r->at[1] >= '0' && r->at[1] <= '7'))
            return re_fail(r, "back references are not supported"), false;
        for (int k = 0; k < 3 && r->at < r->end && *r->at >= '0' && *r->at <= '7'; k++)
            *c = *c * 8 + (uint32_t)(*r->at++ - '0');
    } else if (e == 'x') {
        int n = 0;
        *c = 0;
        r->at++;
        if (r->at < r->end && *r->at == '{') {
            braces = true;
            r->at++;
        }
        for (; r->at < r->end && hex(*r->at) >= 0 && n < (braces ? 6 : 2); n++)
            *c = *c * 16 + (uint32_t)hex(*r->at++);
        bool closed = !braces || (r->at < r->end && *r->at++ == '}');
        if (!closed || n == 0 || (!braces && n != 2) || *c >= INVALID)
            return re_fail(r, "a bad \\x"), false;
    } else if ((unsigned char)e >= 0x80 || (e >= '0' && e <= '9') || (e >= 'A' && e <= 'Z') || (e >= 'a' && e <= 'z')) {
        return re_fail(r, "an escape that is not supported"), false;
    } else {
        *c = (unsigned char)e;
        r->at++;
    }
    return true;
}

static int re_set(Re *r, int from)
{
    if (r->flags & RE_ICASE)    /* matching looks at both cases */
        return re_node(r, N_SET, from, -r->nrange);
    return re_node(r, N_SET, from, r->nrange);
}

static int re_char(Re *r, uint32_t c) { return re_add(r, c, c) ? re_set(r, r->nrange - 1) : -1; }

static bool is_perl_class(const Re *r) { return r->end - r->at > 1 && *r->at == '\\' && r->at[1] && strchr("dDsSwW", r->at[1]); }

static bool re_perl_class(Re *r)
{
    char name = (char)(r->at[1] | 32);
    bool not = r->at[1] < 'a';
    r->at += 2;
    return re_class(r, &name, 1, not);
}

static bool set_char(Re *r, uint32_t *c)
{
    if (r->at == r->end)
        return re_fail(r, "a missing ]"), false;
    if (*r->at == '\\') {
        r->at++;
        return re_escape(r, c);
    }
    *c = utf8_next(&r->at, r->end);
    return *c < INVALID || (re_fail(r, "not UTF-8"), false);
}

static int re_brackets(Re *r)
{
    int from = r->nrange;
    bool not = r->at < r->end && *r->at == '^', first = true, folds = (r->flags & RE_ICASE) != 0;
    r->at += not;
    for (; r->at < r->end && (*r->at != ']' || first); first = false) {
        uint32_t lo, hi;
        const char *close = r->end - r->at > 2 && r->at[0] == '[' && r->at[1] == ':' ? memmem(r->at, (size_t)(r->end - r->at), ":]", 2) : NULL;
        if (is_perl_class(r)) {
            if (!re_perl_class(r))
                return -1;
            continue;
        }
        if (close) {
            char name[16] = "[:";
            const char *p = r->at + 2;
            bool inverse = *p == '^';
            p += inverse;
            size_t n = (size_t)(close + 2 - p);
            if (n + 2 > sizeof name)
                return re_fail(r, "no such class");
            memcpy(name + 2, p, n);
            if (!re_class(r, name, n + 2, inverse))
                return -1;
            r->at = close + 2;
            continue;
        }
        if (!set_char(r, &lo))
            return -1;
        hi = lo;
        if (r->end - r->at > 1 && r->at[0] == '-' && r->at[1] != ']') {
            r->at++;
            if (is_perl_class(r))
                return re_fail(r, "a bad range");
            if (!set_char(r, &hi))
                return -1;
            if (hi < lo)
                return re_fail(r, "a bad range");
        }
        if (!re_add(r, lo, hi))
            return -1;
    }
    if (r->at == r->end)
        return re_fail(r, "a missing ]");
    r->at++;
    if (not && folds) { /* what is left out in one case is left out in the other */
        for (int k = from, n = r->nrange; k < n; k++)
            for (uint32_t c = r->range[k].lo; c <= r->range[k].hi && c < 0x20000; c++)
                if ((to_lower(c) != c && !re_add(r, to_lower(c), to_lower(c))) || (to_upper(c) != c && !re_add(r, to_upper(c), to_upper(c))))
                    return -1;
        return re_negate(r, from) ? re_node(r, N_SET, from, r->nrange) : -1;
    }
    return not && !re_negate(r, from) ? -1 : re_set(r, from);
}

static int re_alternatives(Re *r);

/* After "(?": flags, or the beginning of a group; *group: whether one follows. */
static bool re_flags(Re *r, bool *group)
{
    bool off = false;
    *group = false;
    if (r->at < r->end && (*r->at == 'P' || *r->at == '<')) {
        r->at += *r->at == 'P';
        const char *close = r->at < r->end && *r->at == '<' ? memchr(r->at, '>', (size_t)(r->end - r->at)) : NULL;
        if (!close || close == r->at + 1 || r->at[1] == '=' || r->at[1] == '!')
            return re_fail(r, "a group that is not supported"), false;
        r->at = close + 1;
        return *group = true;
    }
    for (; r->at < r->end; r->at++) {
        int flag = *r->at == 'i' ? RE_ICASE : *r->at == 'm' ? RE_MULTI : *r->at == 's' ? RE_DOT : 0;
        if (flag)
            r->flags = off ? r->flags & ~flag : r->flags | flag;
        else if (*r->at == '-' && !off)
            off = true;
        else if (*r->at == ':' || *r->at == ')')
            break;
        else if (*r->at != 'U')         /* lazy or not makes no difference to a full match */
            return re_fail(r, "a group that is not supported"), false;
    }
    if (r->at == r->end)
        return re_fail(r, "a missing )"), false;
    *group = *r->at == ':';
    r->at++;
    return true;
}

static int re_group(Re *r)
{
    int flags = r->flags;
    bool group = true;
    if (r->end - r->at > 0 && *r->at == '?') {
        r->at++;
        if (!re_flags(r, &group))
            return -1;
        if (!group)
            return re_node(r, N_EMPTY, 0, 0);   /* the flags hold on until the group around ends */
    }
    if (++r->depth > RE_DEPTH)
        return re_fail(r, "nested too deeply");
    int n = re_alternatives(r);
    r->depth--;
    r->flags = flags;
    if (n < 0)
        return -1;
    if (r->at == r->end || *r->at++ != ')')
        return re_fail(r, "a missing )");
    return n;
}

static int re_quoted(Re *r)
{
    int n = re_node(r, N_EMPTY, 0, 0);
    while (n >= 0 && r->at < r->end) {
        if (r->end - r->at > 1 && r->at[0] == '\\' && r->at[1] == 'E') {
            r->at += 2;
            break;
        }
        int c = re_char(r, utf8_next(&r->at, r->end));
        n = c < 0 ? -1 : re_node(r, N_CAT, n, c);
    }
    return n;
}

static int re_atom(Re *r)
{
    static const struct { char c; ReAssert a; } asserts[] = {{'A', A_TEXT_BEGIN}, {'z', A_TEXT_END}, {'b', A_WORD}, {'B', A_NO_WORD}};
    uint32_t c = utf8_next(&r->at, r->end);
    bool multi = (r->flags & RE_MULTI) != 0;
    switch (c) {
    case '(': return re_group(r);
    case '[': return re_brackets(r);
    case '^': return re_node(r, N_ASSERT, multi ? A_LINE_BEGIN : A_TEXT_BEGIN, 0);
    case '$': return re_node(r, N_ASSERT, multi ? A_LINE_END : A_TEXT_END, 0);
    case '*': case '+': case '?': return re_fail(r, "nothing to repeat");
    case '.': {
        int from = r->nrange;
        bool ok = r->flags & RE_DOT ? re_add(r, 0, INVALID - 1) : re_add(r, 0, '\n' - 1) && re_add(r, '\n' + 1, INVALID - 1);
        return ok ? re_node(r, N_SET, from, r->nrange) : -1;
    }
    case '\\': break;
    default: return c < INVALID ? re_char(r, c) : re_fail(r, "not UTF-8");
    }
    r->at--;
    if (is_perl_class(r)) {
        int from = r->nrange;
        return re_perl_class(r) ? re_node(r, N_SET, from, r->nrange) : -1;
    }
    r->at++;
    for (size_t k = 0; k < sizeof asserts / sizeof *asserts && r->at < r->end; k++)
        if (*r->at == asserts[k].c) {
            r->at++;
            return re_node(r, N_ASSERT, (int)asserts[k].a, 0);
        }
    if (r->at < r->end && *r->at == 'Q') {
        r->at++;
        return re_quoted(r);
    }
    return re_escape(r, &c) ? re_char(r, c) : -1;
}

static bool re_number(Re *r, int *n)
{
    const char *from = r->at;
    for (*n = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
        *n = *n > RE_REPEAT ? *n : *n * 10 + (*r->at - '0');
    return r->at > from;
}

/* {n}, {n,} or {n,m} at r->at; else nothing is read and { is a character. */
static bool re_braces(Re *r, int *min, int *max)
{
    const char *from = r->at++;
    bool ok = re_number(r, min);
    *max = *min;
    if (ok && r->at < r->end && *r->at == ',') {
        r->at++;
        if (!re_number(r, max))
            *max = -1;
    }
    ok = ok && r->at < r->end && *r->at++ == '}';
    if (!ok)
        r->at = from;
    return ok;
}

static int re_repeated(Re *r)
{
    int n = re_atom(r);
    for (bool again = false; n >= 0 && r->at < r->end; again = true) {
        int min = *r->at == '+', max = *r->at == '?' ? 1 : -1;
        if (*r->at == '{') {
            if (!re_braces(r, &min, &max))
                break;
        } else if (*r->at == '*' || *r->at == '+' || *r->at == '?') {
            r->at++;
        } else {
            break;
        }
        if (again || (r->at < r->end && (*r->at == '+' || *r->at == '*')))
            return re_fail(r, "a repetition of a repetition");
        if (min > RE_REPEAT || max > RE_REPEAT || (max >= 0 && max < min))
            return re_fail(r, "a bad number of repetitions");
        if (r->at < r->end && *r->at == '?')
            r->at++;
        n = re_node(r, N_REPEAT, n, 0);
        if (n >= 0) {
            r->node[n].min = min;
            r->node[n].max = max;
        }
    }
    return n;
}

static int re_alternatives(Re *r)
{
    int all = -1;
    for (;;) {
        int n = re_node(r, N_EMPTY, 0, 0);
        while (n >= 0 && r->at < r->end && *r->at != '|' && *r->at != ')') {
            int next = re_repeated(r);
            n = next < 0 ? -1 : re_node(r, N_CAT, n, next);
        }
        all = n < 0 ? -1 : all < 0 ? n : re_node(r, N_ALT, all, n);
        if (all < 0 || r->at == r->end || *r->at == ')')
            return all;
        r->at++;
    }
}

/* ---- the program */

static int re_emit(Re *r, ReOp op, int x, int y)
{
    if (r->nins == RE_MAX)
        return re_fail(r, "too long");
    r->ins[r->nins] = (ReIns){.op = (uint8_t)op, .x = x, .y = y};
    return r->nins++;
}

/* Appends the code of a node. Chains of N_CAT and N_ALT hang to the left and are as long as the pattern: their depth is counted. */
static bool re_code(Re *r, int k, int depth)
{
    const ReNode n = r->node[k];
    if (depth > RE_MAX / 16 || ++r->steps > 16 * RE_MAX) /* also of what is empty, many times */
        return re_fail(r, "too long"), false;
    switch (n.kind) {
    case N_EMPTY: return true;
    case N_SET: return re_emit(r, I_SET, n.a, n.b) >= 0;
    case N_CAT: return re_code(r, n.a, depth + 1) && re_code(r, n.b, depth + 1);
    case N_ASSERT: {
        int i = re_emit(r, I_ASSERT, r->nins + 1, 0);
        if (i >= 0)
            r->ins[i].what = (uint8_t)n.a;
        return i >= 0;
    }
    case N_ALT: {
        int split = re_emit(r, I_SPLIT, r->nins + 1, 0);
        if (split < 0 || !re_code(r, n.a, depth + 1))
            return false;
        int jump = re_emit(r, I_SPLIT, 0, 0);
        if (jump < 0)
            return false;
        r->ins[split].y = r->nins;
        if (!re_code(r, n.b, depth + 1))
            return false;
        r->ins[jump].x = r->ins[jump].y = r->nins;
        return true;
    }
    case N_REPEAT: break;
    }
    for (int i = 0; i < n.min; i++)
        if (!re_code(r, n.a, depth + 1))
            return false;
    if (n.max < 0) {
        int split = re_emit(r, I_SPLIT, r->nins + 1, 0);
        if (split < 0 || !re_code(r, n.a, depth + 1) || re_emit(r, I_SPLIT, split, split) < 0)
            return false;
        r->ins[split].y = r->nins;
        return true;
    }
    int last = -1;      /* x? nested: each split may leave to the end; they are chained through y until it is known */
    for (int i = n.min; i < n.max; i++) {
        int split = re_emit(r, I_SPLIT, r->nins + 1, last);
        if (split < 0 || !re_code(r, n.a, depth + 1))
            return false;
        last = split;
    }
    while (last >= 0) {
        int before = r->ins[last].y;
        r->ins[last].y = r->nins;
        last = before;
    }
    return true;
}

static bool re_compile(Re *r, rt_call *c, accelc_str p)
{
    *r = (Re){.c = c, .at = p.ptr, .end = p.ptr + p.len};
    if (p.len > RE_MAX)
        return re_fail(r, "too long"), false;
    r->node = call_alloc(c, RE_MAX, sizeof *r->node);
    r->range = call_alloc(c, RE_MAX + 1, sizeof *r->range);
    r->ins = call_alloc(c, RE_MAX, sizeof *r->ins);
    if (!r->node || !r->range || !r->ins)
        return false;
    int n = re_alternatives(r);
    if (n >= 0 && r->at < r->end)
        n = re_fail(r, "a ) without (");
    return n >= 0 && re_code(r, n, 0) && re_emit(r, I_MATCH, 0, 0) >= 0;
}

/* ---- matching */

typedef struct ReSet { int n, *list, *index; } ReSet;   /* list[index[i]] == i if i is in */

static bool set_has(const ReSet *s, int i) { return s->index[i] < s->n && s->list[s->index[i]] == i; }
static void set_put(ReSet *s, int i)
{
    s->index[i] = s->n;
    s->list[s->n++] = i;
}

static bool word(uint32_t c) { return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

enum { NOTHING = UINT32_MAX };  /* before the first character, after the last */

static bool holds(int a, uint32_t before, uint32_t after)
{
    bool edge = (before != NOTHING && word(before)) != (after != NOTHING && word(after));
    switch (a) {
    case A_TEXT_BEGIN: return before == NOTHING;
    case A_TEXT_END: return after == NOTHING;
    case A_LINE_BEGIN: return before == NOTHING || before == '\n';
    case A_LINE_END: return after == NOTHING || after == '\n';
    default: return edge == (a == A_WORD);
    }
}

/* State i and all that follow without a character, into s. */
static void reach(const Re *r, ReSet *s, int *stack, int i, uint32_t before, uint32_t after)
{
    int n = 0;
    stack[n++] = i;
    while (n) {
        i = stack[--n];
        if (set_has(s, i))
            continue;
        set_put(s, i);
        const ReIns *p = &r->ins[i];
        if (p->op == I_ASSERT && holds(p->what, before, after) && !set_has(s, p->x))
            stack[n++] = p->x;
        if (p->op == I_SPLIT && !set_has(s, p->x))
            stack[n++] = p->x;
        if (p->op == I_SPLIT && !set_has(s, p->y))
            stack[n++] = p->y;
    }
}

static bool in_ranges(const Re *r, int from, int to, uint32_t c)
{
    for (; from < to; from++)
        if (c >= r->range[from].lo && c <= r->range[from].hi)
            return true;
    return false;
}

static bool in_set(const Re *r, const ReIns *p, uint32_t c)
{
    if (p->y >= 0)
        return in_ranges(r, p->x, p->y, c);
    return in_ranges(r, p->x, -p->y, c) || in_ranges(r, p->x, -p->y, to_lower(c)) || in_ranges(r, p->x, -p->y, to_upper(c));
}

static bool re_match(const Re *r, ReSet *now, ReSet *next, int *stack, accelc_str s)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    uint32_t before = NOTHING, c = p < end ? utf8_next(&p, end) : NOTHING;
    now->n = 0;
    reach(r, now, stack, 0, NOTHING, c);
    while (c != NOTHING && now->n) {
        uint32_t after = p < end ? utf8_next(&p, end) : NOTHING;
        before = c;
        next->n = 0;
        for (int k = 0; k < now->n; k++) {
            int i = now->list[k];
            if (r->ins[i].op == I_SET && in_set(r, &r->ins[i], c))
                reach(r, next, stack, i + 1, before, after);
        }
        ReSet *t = now;
        now = next;
        next = t;
        c = after;
    }
    return c == NOTHING && set_has(now, r->nins - 1);
}

/* (x str, pattern str[]) -> bool of the shape of x: whether the pattern matches all of the string */
CALL_FN(regex_match)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR), *pattern = tensor_operand(c, 1, DT_STR);
    Re r;
    if (!x || !pattern || !re_compile(&r, c, call_strs(pattern)[0]))
        return false;
    rt_value *y = c->out[0] = call_tensor(c, DT_BOOL, x->rank, x->dims);
    int *mem = call_alloc(c, 7 * (int64_t)r.nins, sizeof *mem);
    if (!y || !mem)
        return false;
    ReSet a = {0, mem, mem + r.nins}, b = {0, mem + 2 * r.nins, mem + 3 * r.nins};
    for (int64_t i = 0, n = call_count(x); i < n; i++)
        ((uint8_t *)y->data)[i] = re_match(&r, &a, &b, mem + 4 * r.nins, call_strs(x)[i]);
    return true;
}
