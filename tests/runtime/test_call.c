/* test_call.c: regular expressions, Unicode and UTF-8 of the functions of the runtime. */
#include "call_all.c"

#include <check.h>

static void *test_alloc(rt_call *c, size_t n)
{
    (void)c;
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (p)
        memset(p, 0, n);
    return p;
}

static accelc_str str(const char *s) { return (accelc_str){s, strlen(s)}; }

/* 1 or 0, -1: the pattern is refused */
static int matches(const char *pattern, accelc_str text)
{
    accelc_str p = str(pattern);
    const rt_value x = {.kind = ACCELC_TENSOR, .dtype = DT_STR, .data = &text}, re = {.kind = ACCELC_TENSOR, .dtype = DT_STR, .data = &p};
    const rt_value *in[2] = {&x, &re};
    rt_value *out[1] = {NULL};
    rt_call c = {.nin = 2, .nout = 1, .in = in, .out = out, .alloc = test_alloc};
    if (!accelc_rt1_call_regex_match(&c)) {
        ck_assert(c.error[0] != 0);
        return -1;
    }
    return *(uint8_t *)out[0]->data;
}

static const struct { const char *pattern, *text; int want; } regex_cases[] = {
    {"", "", 1}, {"", "a", 0}, {"a*", "aaa", 1}, {"(a|ab)(c|bcd)", "abcd", 1}, {"x{2,3}", "x", 0}, {"x{2,3}", "xxx", 1}, {"x{2,3}", "xxxx", 0},
    {"[^b]", "\n", 1}, {".", "\n", 0}, {"(?s).", "\n", 1}, {"\\x{e9}", "é", 1}, {"(?i)É", "é", 1}, {"(?i)[^é]", "É", 0}, {"\\Qa.b\\E", "a.b", 1},
    {"\\Qa.b\\E", "axb", 0}, {"a$b", "ab", 0}, {"(?m)a$.b", "a\nb", 0}, {"(?ms)a$.b", "a\nb", 1}, {"\\bé", "é", 0}, {"a{,2}", "a{,2}", 1},
    {"[[:^digit:]]+", "ab", 1}, {"[[:^digit:]]+", "a1", 0}, {"a|", "", 1}, {"(?P<n>a)(?<m>b)", "ab", 1}, {"(?i-i:A)b", "Ab", 1},
    {"(?i-i:A)b", "ab", 0},
    {"\\101\\60", "A0", 1}, {"a**", "", -1}, {"(?=a)", "", -1}, {"\\2", "", -1}, {"[b-a]", "", -1}, {"(", "", -1}, {"\\", "", -1}, {"\xff", "", -1},
};

START_TEST(test_regex)
{
    ck_assert_msg(matches(regex_cases[_i].pattern, str(regex_cases[_i].text)) == regex_cases[_i].want, "%s on %s", regex_cases[_i].pattern,
                  regex_cases[_i].text);
}
END_TEST

/* Bytes that are no UTF-8 are characters of their own, which the dot does not match. */
START_TEST(test_regex_bytes)
{
    ck_assert_int_eq(matches("[^a]", str("\xff")), 1);
    ck_assert_int_eq(matches("[^a][^a]", str("\xe6\x97")), 1);
    ck_assert_int_eq(matches("\\W", str("\xc0")), 1);
    ck_assert_int_eq(matches("(?s).", str("\xff")), 0);
    ck_assert_int_eq(matches("a[^b]c", (accelc_str){"a\0c", 3}), 1);
}
END_TEST

START_TEST(test_utf8)
{
    for (uint32_t c = 0; c < INVALID; c += c < 0x3000 ? 1 : 97) {
        char text[4];
        const char *p = text;
        if (c >= 0xD800 && c < 0xE000)
            continue;
        int n = utf8_put(text, c);
        ck_assert_uint_eq(utf8_next(&p, text + n), c);
        ck_assert_ptr_eq(p, text + n);
        if (n > 1) { /* cut off: the first byte alone */
            p = text;
            ck_assert_uint_eq(utf8_next(&p, text + n - 1), INVALID + (unsigned char)text[0]);
            ck_assert_ptr_eq(p, text + 1);
        }
    }
    static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf8",
                                      "\xff"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        const char *p = bad[k], *end = p + strlen(p);
        char back[4];
        uint32_t c = utf8_next(&p, end);
        ck_assert_uint_ge(c, INVALID);
        ck_assert_int_eq(utf8_put(back, c), 1);
        ck_assert_int_eq(back[0], bad[k][0]);
    }
}
END_TEST

START_TEST(test_case)
{
    static const struct { uint32_t c, lower, upper; } rows[] = {
        {'A', 'a', 'A'}, {'z', 'z', 'Z'}, {'[', '[', '['}, {0xE4, 0xE4, 0xC4}, {0xDF, 0xDF, 0xDF}, {0xFF, 0xFF, 0x178}, {0x130, 'i', 0x130},
        {0x131, 0x131, 'I'}, {0x1C4, 0x1C6, 0x1C4}, {0x1C6, 0x1C6, 0x1C4}, {0x3C2, 0x3C2, 0x3A3}, {0x416, 0x436, 0x416}, {0x1E9E, 0xDF, 0x1E9E},
        {0x10400, 0x10428, 0x10400}, {0x1F80, 0x1F80, 0x1F88}, {0x4E00, 0x4E00, 0x4E00}, {INVALID + 0xE4, INVALID + 0xE4, INVALID + 0xE4},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        ck_assert_uint_eq(to_lower(rows[k].c), rows[k].lower);
        ck_assert_uint_eq(to_upper(rows[k].c), rows[k].upper);
    }
}
END_TEST

START_TEST(test_float_text)
{
    static const double values[] = {0.1, 1.0 / 3, 1e22, 5e-324, 1.7976931348623157e308, 123456789.5, 1e-4, 99999999, 1e8};
    char text[64];
    for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
        float_text(text, values[k], false);
        ck_assert_msg(strtod(text, NULL) == values[k], "%s", text);
        float_text(text, (float)values[k], true);
        ck_assert_msg(strtof(text, NULL) == (float)values[k] || values[k] > 1e38, "%s", text);
    }
    float_text(text, 99999999, false);
    ck_assert_str_eq(text, "99999999");
    float_text(text, 1e8, false);
    ck_assert_str_eq(text, "1e+08");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("call");
    TCase *t = tcase_create("call");
    tcase_add_loop_test(t, test_regex, 0, (int)(sizeof regex_cases / sizeof *regex_cases));
    tcase_add_test(t, test_regex_bytes);
    tcase_add_test(t, test_utf8);
    tcase_add_test(t, test_case);
    tcase_add_test(t, test_float_text);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
