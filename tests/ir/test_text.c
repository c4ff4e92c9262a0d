/* test_text.c: graphs as text: printing and reading are inverse, messages point at the place,
 * nothing crashes. */
#include "eval_cases.h"
#include "ir/ir.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(Graph *g) {
    Buf b = {.c = g->c};
    graph_print(&b, g);
    return buf_str(&b);
}

static Graph *must_parse(Ctx *c, const char *text) {
    Graph *g = graph_parse(c, text, "test.ir");
    ck_assert_msg(g, "%s\n%s", ctx_messages(c), text);
    return g;
}

static void same_text(const char *got, const char *want) {
    size_t k = 0;
    while (got[k] && got[k] == want[k]) k++;
    ck_assert_msg(got[k] == want[k], "byte %d: got %.200s\nexpected %.200s", (int)k, got + k,
                  want + k);
}

/* In a context of its own each time: normal forms must not depend on what was made before. */
static void check_round_trip(const char *first) {
    Ctx *c = ctx_new(), *d = ctx_new();
    const char *again = text_of(must_parse(c, first));
    same_text(again, first);
    same_text(text_of(must_parse(d, again)), first);
    ctx_free(c);
    ctx_free(d);
}

START_TEST(test_cases) {
    const Case *k = &cases[_i];
    Ctx *c = ctx_new();
    Buf b = {.c = c};
    buf_printf(&b, "graph @t (%s) -> (%s) { %s }", k->ins, k->outs, k->body);
    check_round_trip(text_of(must_parse(c, buf_str(&b))));
    ctx_free(c);
}
END_TEST

/* As printed: what one sees in a dump. */
static const char *const exact[] = {
    "dims N in [1, 512]\n"
    "graph @head (%x: f32[N,128], %w: f32[128,10], %\"b/0\": f32[10]) -> (%out: f32[N,10], "
    "f32[N,10]) {\n"
    "  %0 = contract \"mk,kn->mn\" %x, %w : f32[N,10] loc \"/fc/Gemm\"\n"
    "  %1 = map { a + b } %0, %\"b/0\" : f32[N,10] name \"y\"\n"
    "  %2 = group \"Softmax\" note \"axis 1\" %1 : f32[N,10] (%x: f32[N,10]) {\n"
    "    %0 = reduce.max [1] keep %x : f32[N,1]\n"
    "    %1 = map { exp(a - b) } %x, %0 : f32[N,10]\n"
    "    %2 = reduce.sum [1] keep %1 : f32[N,1]\n"
    "    %3 = map { a / b } %1, %2 : f32[N,10]\n"
    "    yield %3\n"
    "  }\n"
    "  return %2, %1\n"
    "}\n",
    "dims N\n"
    "graph @t (%x: f32[N,4], %0: seq<f32[?]>) -> (%a: f32[N], %b: i64[N]) {\n"
    "  %1 = map { #1 } : i64[N,4]\n"
    "  %2, %3 = reduce [1] { select(a >= c, a, c), select(a >= c, b, d) } init -inf, 0 acc f32, "
    "i64 %x, %1 : f32[N], i64[N]\n"
    "  return %2, %3\n"
    "}\n",
    "graph @t () -> (%c: f32[2], %d: i8[3], %e: str[2], %f: f16[1000]) {\n"
    "  %0 = const f32[2] {0.100000001, -0}\n"
    "  %1 = const i8[3] splat -5\n"
    "  %2 = const str[2] {\"a\\\"\\x0a\", \"\"}\n"
    "  %3 = const f16[1000] splat 0.5\n"
    "  return %0, %1, %2, %3\n"
    "}\n",
    "graph @t (%x: bf16[3,3]) -> (%y: bf16[3]) {\n"
    "  %0 = reduce.sum [0] %x : bf16[3]\n"
    "  %1 = reduce [0] { a + b } init 0 acc bf16 %x : bf16[3]\n"
    "  %2 = reduce [0] { a * b + 1 } init 2.5 acc f64 %x : bf16[3]\n"
    "  return %2\n"
    "}\n",
};

START_TEST(test_exact) { check_round_trip(exact[_i]); }
END_TEST

/* A symbol that nothing mentions any more has no place in the text. */
START_TEST(test_dropped_symbol) {
    Ctx *c = ctx_new();
    Graph *g = must_parse(c, "dims K bound\n"
                             "graph @t (%x: f32[2], %n: i64[1]) -> (f32[2]) {\n"
                             "  bind %n[0] as K  %s = slice start [0] size [K] %x : f32[K]  return %x }");
    ck_assert(strstr(text_of(g), "dims K"));
    graph_tidy(g);
    check_round_trip(text_of(g));
    ck_assert(!strstr(text_of(g), "dims K"));
    ctx_free(c);
}
END_TEST

START_TEST(test_constants) {
    Ctx *c = ctx_new();
    Graph *g = graph_new(c, "t", NULL);
    B b = builder(g, (Loc){0});
    for (int n = 1; n < 5000; n = n * 2 + 1) {
        int64_t dim = n;
        for (DType t = DT_F32; t <= DT_I2; t++) {
            if (t == DT_STR) continue;
            Tensor *x = tensor_new(c, t, 1, &dim);
            unsigned char *p = x->data;
            int64_t bytes = dt_is_packed(t) ? n : (int64_t)dt_bytes(t, n);
            for (int64_t k = 0; k < bytes; k++)
                p[k] = (unsigned char)(t == DT_BOOL ? k % 3 == 0 : k * 37);
            if (dt_is_packed(t)) for (int64_t k = 0; k < n; k++) p[k] &= 1;
            const ConstData *d = tensor_to_const(c, x);
            if (d->bytes <= 4096 || n <= 64)
                graph_output(g, NULL, b_const(&b, d, type_consts(c, t, 1, &dim)));
        }
    }
    check_round_trip(text_of(g));
    ctx_free(c);
}
END_TEST

/* Big constants come back as noise of the same type: the text can be read, and always gives the
 * same noise. */
START_TEST(test_blob) {
    static const char *const text =
        "graph @t () -> (f32[10000], i8[10000]) {\n  %0 = const f32[10000] blob \"1234\"\n"
        "  %1 = const i8[10000] blob \"1234\"\n  return %0, %1\n}\n";
    Ctx *c = ctx_new();
    const char *a = text_of(must_parse(c, text)), *b = text_of(must_parse(c, text));
    ck_assert_str_eq(a, b);
    ck_assert(strstr(a, "blob \"") && !strstr(a, "\"1234\""));
    ctx_free(c);
}
END_TEST

/* ==== messages =============================================================================== */

typedef struct Bad { const char *text, *place, *message; } Bad;
static const Bad bad[] = {
    {"", "1:1", "expected 'graph'"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = frob %x\n  return %y\n}\n", "2:8",
     "expected a primitive"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = map { a } %z\n  return %y\n}\n", "2:18",
     "%z is not defined here"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = map { a + } %x\n  return %y\n}\n", "2:18",
     "this expression is not right"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %x = map { a } %x\n  return %x\n}\n", "2:3",
     "%x is defined twice"},
    {"graph @g (%x: f32[2]) -> (f32[3]) {\n  return %x\n}\n", "1:27",
     "this output has type f32[2]"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = map { a } %x : f32[3]\n  return %y\n}\n", "2:8",
     "this map is not possible"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = reshape [3] %x\n  return %y\n}\n", "2:8",
     "this reshape is not possible"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = reduce.sum [1] %x\n return %y\n}\n", "2:8",
     "this reduce is not possible"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = permute [0, 1] %x\n return %y\n}\n", "2:8",
     "the permutation has 2 entries, expected 1"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = const f32[3] {1, 2}\n return %x\n}\n", "2:26",
     "expected ','"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = const i8[1] {300}\n return %x\n}\n", "2:21",
     "expected an integer from -128 to 127"},
    {"graph @g (%x: foo[2]) -> (f32[2]) {\n  return %x\n}\n", "1:15", "expected a type"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  return %x\n} graph", "3:3",
     "expected the end of the text"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  return %x, %x\n}", "3:2",
     "2 values are returned, 1 are declared"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = group \"n\n\" %x\n}", "2:14",
     "this string has no end"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = map { a %x\n}", "2:15",
     "this expression is not right"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  %y = contract \"ab,b->a\" %x, %x\n  return %x }",
     "2:8", "an operand's label list has 2 entries, expected 1"},
    {"graph @g (%x: f32[2]) -> (f32[2]) {\n  bind %x[0] as 2*N\n  return %x }", "2:17",
     "only a symbol can be bound"},
};

START_TEST(test_messages) {
    const Bad *b = &bad[_i];
    Ctx *c = ctx_new();
    ck_assert_msg(!graph_parse(c, b->text, "bad.ir"), "accepted: %s", b->text);
    char place[64];
    snprintf(place, sizeof place, "bad.ir:%s: ", b->place);
    const char *m = ctx_messages(c);
    ck_assert_msg(strstr(m, b->message), "expected '%s' in\n%s", b->message, m);
    ck_assert_msg(strstr(m, place), "expected '%s' in\n%s", place, m);
    ck_assert_msg(strstr(m, "^\n"), "no caret in\n%s", m);
    ctx_free(c);
}
END_TEST

/* ==== hostile text =========================================================================== */

typedef struct Rng { uint64_t s; } Rng;
static int pick(Rng *r, int n) {
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return (int)((r->s * 0x2545f4914f6cdd1du >> 33) % (uint64_t)n);
}

/* Cuts, repeats and changes of valid texts: parsing says no or gives a graph that prints and reads
 * again. */
static void mutate(Rng *r, char *s, size_t room) {
    static const char bits[] = "%{}[](),:\"#0 9-ab.xN*";
    for (int k = 0, n = 1 + pick(r, 4); k < n; k++) {
        size_t len = strlen(s), at = (size_t)pick(r, (int)len + 1), num = (size_t)pick(r, 12);
        switch (pick(r, 4)) {
        case 0:
            if (at < len) s[at] = bits[pick(r, (int)sizeof bits - 1)];
            break;
        case 1:
            if (at + num < len) memmove(s + at, s + at + num, len - at - num + 1);
            break;
        case 2:
            if (at + num < len && len + num + 1 < room) memmove(s + at + num, s + at, len - at + 1);
            break;
        default:
            if (pick(r, 8) == 0) s[at] = 0;
        }
    }
}

START_TEST(test_hostile) {
    Rng r = {.s = (uint64_t)_i * 1000003 + 17};
    char text[8192];
    for (int round = 0; round < 60; round++) {
        const Case *k = &cases[pick(&r, (int)(sizeof cases / sizeof *cases))];
        if (pick(&r, 3))
            snprintf(text, sizeof text, "graph @t (%s) -> (%s) { %s }", k->ins, k->outs, k->body);
        else snprintf(text, sizeof text, "%s", exact[pick(&r, 4)]);
        mutate(&r, text, sizeof text);
        Ctx *c = ctx_new(), *d = ctx_new();
        Graph *g = graph_parse(c, text, "fuzz.ir");
        ck_assert_msg(g || ctx_errors(c), "no message: %s", text);
        if (g) {
            const char *once = text_of(g);
            Graph *h = graph_parse(d, once, "fuzz.ir");
            ck_assert_msg(h, "%s\n%s\n%s", ctx_messages(d), text, once);
            same_text(text_of(h), once);
            Tensor **out = NEWN(c, Tensor *, g->out.n + 1);
            EvalOptions o = {.max_bytes = 1 << 22};
            if (g->in.n == 0 && !strstr(once, "loop")) graph_eval(c, g, NULL, out, &o);
        }
        ctx_free(c);
        ctx_free(d);
    }
}
END_TEST

START_TEST(test_nesting) {
    Ctx *c = ctx_new();
    Buf b = {.c = c};
    buf_puts(&b, "graph @t () -> () {");
    for (int k = 0; k < 100000; k++) buf_puts(&b, " group \"x\" () {");
    ck_assert(!graph_parse(c, buf_str(&b), "deep.ir"));
    b = (Buf){.c = c};
    buf_puts(&b, "graph @t (%x: ");
    for (int k = 0; k < 100000; k++) buf_puts(&b, "seq<");
    ck_assert(!graph_parse(c, buf_str(&b), "deep.ir"));
    b = (Buf){.c = c};
    buf_puts(&b, "graph @t (%x: f32[");
    for (int k = 0; k < 100000; k++) buf_puts(&b, "(");
    ck_assert(!graph_parse(c, buf_str(&b), "deep.ir"));
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_cases, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_loop_test(t, test_exact, 0, (int)(sizeof exact / sizeof *exact));
    tcase_add_test(t, test_dropped_symbol);
    tcase_add_test(t, test_constants);
    tcase_add_test(t, test_blob);
    tcase_add_loop_test(t, test_messages, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_loop_test(t, test_hostile, 0, 50);
    tcase_add_test(t, test_nesting);
    suite_add_tcase(s, t);
    return run_suite(s);
}
