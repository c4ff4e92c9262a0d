/* test_base.c: arena, strings, containers, messages; element types and conversions; types. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

static Ctx *c;
static void setup(void) { c = ctx_new(); }
static void teardown(void) { ctx_free(c); }

/* ==== base ==================================================================================== */

START_TEST(memory) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4095, 4096, 5000, 1 << 20, 3 << 20};
    char *kept[200];
    size_t before = ctx_memory(c), sum = 0;
    for (int i = 0; i < 40; i++) {
        size_t n = sizes[i % 10];
        kept[i] = ctx_alloc(c, n);
        sum += n;
        ck_assert_uint_eq((uintptr_t)kept[i] % (n >= 4096 ? 64 : 16), 0);
        ck_assert(n == 0 || (!kept[i][0] && !memcmp(kept[i], kept[i] + 1, n - 1))); /* zeros */
        memset(kept[i], i + 1, n);
    }
    ck_assert_uint_eq(ctx_memory(c) - before, sum);
    for (int i = 0; i < 40; i++)
        for (size_t k = 0, n = sizes[i % 10]; k < n; k += 509)
            ck_assert_int_eq(kept[i][k], (char)(i + 1));
    ck_assert_str_eq(ctx_printf(c, "%d-%s", 7, "x"), "7-x");
    ck_assert_int_eq(*(int *)ctx_dup(c, &(int){42}, sizeof(int)), 42);
}
END_TEST

START_TEST(memory_ends) { ctx_allocn(c, 1u << 20, SIZE_MAX / 4); }
END_TEST

START_TEST(memory_limit) {
    ctx_allocn(c, (size_t)1 << 40, 2);
}
END_TEST

START_TEST(strings) {
    char text[32];
    const char *first[3000];
    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof text, "s%d", i);
        first[i] = ctx_str(c, text);
    }
    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof text, "s%dtail", i);
        ck_assert_ptr_eq(ctx_strn(c, text, strlen(text) - 4), first[i]);
    }
    ck_assert_ptr_eq(ctx_strn(c, "ab\0cd", 5), ctx_str(c, "ab"));
    ck_assert_str_eq(ctx_str(c, ""), "");
}
END_TEST

START_TEST(containers) {
    VEC(int) v = {0};
    StrMap map = {.c = c};
    char key[16];
    ck_assert_uint_eq(strmap_get(&map, "none"), 0);
    for (int i = 0; i < 2000; i++) {
        vec_push(c, &v, i * 3);
        snprintf(key, sizeof key, "k%d", i);
        strmap_put(&map, key, (uint32_t)i + 1);
    }
    strmap_put(&map, "k5", 77);
    for (int i = 0; i < 2000; i++) {
        ck_assert_int_eq(v.v[i], i * 3);
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_uint_eq(strmap_get(&map, key), i == 5 ? 77 : (uint32_t)i + 1);
    }
    Buf b = {.c = c};
    ck_assert_str_eq(buf_str(&b), "");
    for (int i = 0; i < 1000; i++) {
        buf_puts(&b, "ab");
        buf_printf(&b, "%d", i % 10);
    }
    ck_assert_uint_eq(strlen(buf_str(&b)), 3000);
    ck_assert(hash_bytes("abcdefghi", 9, 0) != hash_bytes("abcdefghj", 9, 0));
    ck_assert(hash_bytes("abc", 3, 0) != hash_bytes("abc", 3, 1));
}
END_TEST

START_TEST(messages) {
    Loc node = loc_new(
        c, &(LocInfo){
               .file = "m.onnx", .name = "/fc\x1b[31m", .op = "Conv", .node = 37, .version = 11});
    Loc line = loc_new(c, &(LocInfo){.file = "a.ir", .node = -1, .line = 3, .col = 9});
    for (int i = 0; i < 200; i++) diag(c, SEV_WARNING, (Loc){0}, "W1", "warning %d", i);
    diag_note(c, "dropped");
    ck_assert_uint_eq(ctx_errors(c), 0);
    diag(c, SEV_ERROR, node, "E0203", "weight has %d channels", 3);
    diag_note(c, "input x");
    diag(c, SEV_UNSUPPORTED, line, "U0101", "text\nbroken");
    ck_assert_uint_eq(ctx_errors(c), 2);
    for (int i = 0; i < 200; i++) diag(c, SEV_ERROR, (Loc){0}, "E1", "error");
    ck_assert_uint_eq(ctx_errors(c), 202);
    const char *all = ctx_messages(c);
    ck_assert_ptr_nonnull(strstr(all, "m.onnx: node #37 \"/fc?[31m\" (Conv-11): error[E0203]: "
                                      "weight has 3 channels\n  input x\n"));
    ck_assert_ptr_nonnull(strstr(all, "a.ir:3:9: unsupported[U0101]: text?broken\n"));
    ck_assert_ptr_null(strstr(all, "dropped"));
    int lines = 0;
    for (const char *p = all; *p; p++) lines += *p == '\n';
    ck_assert_int_eq(lines, 102); /* 100 messages, a note, and how many more */
    ck_assert_int_eq(loc_info(c, (Loc){999})->node, -1);
}
END_TEST

/* ==== element types =========================================================================== */

static Scalar f64(double x) { return (Scalar){.t = DT_F64, .f = x}; }
static Scalar i64(int64_t x) { return (Scalar){.t = DT_I64, .i = x}; }

START_TEST(type_table) {
    for (int t = 1; t < DT_COUNT; t++) {
        const char *name = dt_name((DType)t);
        if (!strcmp(name, "none")) continue;
        ck_assert_int_eq(dt_parse(name, strlen(name)), t);
        ck_assert(dt_bits((DType)t) > 0);
    }
    ck_assert_int_eq(dt_parse("f3", 2), DT_NONE);
    ck_assert(!dt_is_int(DT_BOOL) && dt_is_int(DT_U4) && dt_is_signed(DT_I2) &&
              !dt_is_signed(DT_U8));
    ck_assert(dt_is_packed(DT_F4E2M1) && !dt_is_packed(DT_F8E4M3) && !dt_is_packed(DT_NONE));
    ck_assert_uint_eq(dt_bytes(DT_I4, 5), 3);
    ck_assert_uint_eq(dt_bytes(DT_U2, 5), 2);
    ck_assert_uint_eq(dt_bytes(DT_C64, 5), 40);
    ck_assert_uint_eq(dt_bytes(DT_C128, 5), 80);
    ck_assert(!dt_is_float(DT_C64) && !dt_is_int(DT_C64) && !dt_is_float(DT_C128));
    ck_assert_uint_eq(dt_bytes(DT_F32, INT64_MAX), SIZE_MAX);
    ck_assert_uint_eq(dt_bytes(DT_F32, -1), SIZE_MAX);
}
END_TEST

static const struct { DType t; unsigned codes; double max, least, over; } narrow[] = {
    {DT_F16, 0x10000, 65504, 0x1p-24, INFINITY}, {DT_BF16, 0x10000, 0x1.fep127, 0x1p-133, INFINITY},
    {DT_F8E4M3, 256, 448, 0x1p-9, 448},          {DT_F8E4M3Z, 256, 240, 0x1p-10, 240},
    {DT_F8E5M2, 256, 57344, 0x1p-16, 57344},     {DT_F8E5M2Z, 256, 57344, 0x1p-17, 57344},
    {DT_F4E2M1, 16, 6, 0.5, 6},
};

static double load_code(DType t, unsigned code) {
    uint16_t two[4] = {(uint16_t)code};
    return dt_load(t, two, 0).f;
}

/* Codes survive; between neighbouring values the middle goes to the even code, anything else to the
 * nearer one. */
START_TEST(narrow_floats) {
    DType t = narrow[_i].t;
    unsigned half = narrow[_i].codes / 2;
    double max = 0, least = INFINITY;
    for (unsigned code = 0; code < narrow[_i].codes; code++) {
        double x = load_code(t, code);
        if (isnan(x)) continue;
        uint16_t back[4] = {0};
        dt_store(t, back, 0, (Scalar){.t = t, .f = x});
        ck_assert_uint_eq(back[0], code);
        if (isinf(x)) continue;
        ck_assert(dt_convert(f64(x), t).f == x && signbit(dt_convert(f64(x), t).f) == signbit(x));
        ck_assert(dt_round_f32(t, (float)x) == (float)x);
        max = fmax(max, x);
        if (x > 0) least = fmin(least, x);
        double y = code + 1 < half ? load_code(t, code + 1) : NAN;
        if (!isfinite(y)) continue;
        double mid = (x + y) / 2, even = code & 1 ? y : x;
        ck_assert_msg(dt_convert(f64(mid), t).f == even, "%s code %u", dt_name(t), code);
        ck_assert(dt_convert(f64(nextafter(mid, 0)), t).f == x || mid == 0);
        ck_assert(dt_convert(f64(nextafter(mid, INFINITY)), t).f == y);
        ck_assert(dt_convert(f64(-mid), t).f == -even);
    }
    ck_assert(max == narrow[_i].max && least == narrow[_i].least);
    double over[] = {INFINITY, 1e300, max * 1.5};
    for (int k = 0; k < 3; k++) {
        ck_assert(dt_convert(f64(over[k]), t).f == narrow[_i].over);
        ck_assert(dt_convert(f64(-over[k]), t).f == -narrow[_i].over);
    }
    ck_assert(dt_convert(f64(5e-324), t).f == 0 && dt_convert(f64(least / 2), t).f == 0);
    if (t != DT_F4E2M1) ck_assert(isnan(dt_convert(f64(NAN), t).f));
}
END_TEST

START_TEST(conversions) {
    static const struct { double from; DType to; int64_t want; } ints[] = {
        {1.9, DT_I32, 1},             {-1.9, DT_I32, -1},           {3e9, DT_I32, INT32_MAX},
        {-3e9, DT_I32, INT32_MIN},    {NAN, DT_I64, 0},             {1e19, DT_I64, INT64_MAX},
        {-1e19, DT_I64, INT64_MIN},   {-0.5, DT_U8, 0},             {-5, DT_U8, 0},
        {300, DT_U8, 255},            {1e20, DT_U64, -1},           {0x1p63, DT_U64, INT64_MIN},
        {7.9, DT_I4, 7},              {9, DT_I4, 7},                {-9, DT_I4, -8},
        {99, DT_U4, 15},              {2.5, DT_I2, 1},              {-7, DT_I2, -2},
        {9, DT_U2, 3},                {INFINITY, DT_I8, 127},       {NAN, DT_BOOL, 1},
        {0.1, DT_BOOL, 1},            {-0.0, DT_BOOL, 0},           {INT64_MIN, DT_I64, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        ck_assert_msg(dt_convert(f64(ints[i].from), ints[i].to).i == ints[i].want, "row %zu", i);
    ck_assert_int_eq(dt_convert(i64(200), DT_I8).i, -56); /* integers wrap */
    ck_assert_int_eq(dt_convert(i64(-1), DT_U32).i, UINT32_MAX);
    ck_assert_int_eq(dt_convert(i64(9), DT_I4).i, -7);
    ck_assert_int_eq(dt_convert(i64(256), DT_BOOL).i, 1);
    ck_assert(dt_convert((Scalar){.t = DT_U64, .i = -1}, DT_F64).f == 0x1p64);
    ck_assert(dt_convert((Scalar){.t = DT_U64, .i = -1}, DT_F32).f == 0x1p64);
    ck_assert(dt_convert(i64(16777217), DT_F32).f == 16777216);
    /* one rounding only: just above a tie of bf16, closer to it than a double can tell */
    ck_assert(dt_convert(i64(((int64_t)1 << 60) + ((int64_t)1 << 52) + 1), DT_BF16).f ==
              0x1p60 + 0x1p53);
    ck_assert(dt_convert(i64(-(((int64_t)1 << 60) + ((int64_t)1 << 52))), DT_BF16).f == -0x1p60);
    ck_assert(dt_convert(f64(1e39), DT_F32).f == INFINITY);
    ck_assert(!signbit(dt_convert(f64(-0.0), DT_F8E4M3Z).f) &&
              signbit(dt_convert(f64(-0.0), DT_F8E4M3).f));
    ck_assert(dt_convert(f64(1.1), DT_F8E8M0).f == 2 &&
              dt_convert(f64(0.124), DT_F8E8M0).f == 0.125);
    ck_assert(dt_convert(f64(0), DT_F8E8M0).f == 0x1p-127 &&
              dt_convert(f64(1e300), DT_F8E8M0).f == 0x1p127);
    ck_assert_int_eq(dt_convert(f64(3), DT_STR).i, 0);
    ck_assert_int_eq(dt_convert(f64(3), DT_C64).i, 0);
    /* Infinity of f8e5m2: results of operations keep it, casts saturate, as ONNX does. */
    ck_assert(isinf(dt_round_f32(DT_F8E5M2, -INFINITY)));
    ck_assert(dt_round_f32(DT_F8E5M2, 1e30f) == 57344);
    ck_assert(dt_convert(f64(-INFINITY), DT_F8E5M2).f == -57344);
    ck_assert(dt_round_f32(DT_F8E4M3, INFINITY) == 448);
}
END_TEST

START_TEST(elements) {
    static const DType integer[] = {DT_U8,  DT_I8, DT_U16, DT_I16, DT_I32, DT_I64, DT_U32,
                                    DT_U64, DT_U4, DT_I4,  DT_U2,  DT_I2,  DT_BOOL};
    for (size_t k = 0; k < sizeof integer / sizeof *integer; k++) {
        DType t = integer[k];
        unsigned char *bytes = ctx_alloc(c, 1 + dt_bytes(t, 100)), *odd = bytes + 1; /* unaligned */
        for (int i = 99; i >= 0; i--) dt_store(t, odd, i, dt_convert(i64(i * 77 - 900), t));
        for (int i = 0; i < 100; i++)
            ck_assert_int_eq(dt_load(t, odd, i).i, dt_convert(i64(i * 77 - 900), t).i);
    }
    unsigned char nibbles[2] = {0x21, 0xf3}; /* the first element is in the low bits */
    ck_assert_int_eq(dt_load(DT_U4, nibbles, 0).i, 1);
    ck_assert_int_eq(dt_load(DT_U4, nibbles, 1).i, 2);
    ck_assert_int_eq(dt_load(DT_I4, nibbles, 3).i, -1);
    ck_assert_int_eq(dt_load(DT_U2, nibbles, 2).i, 2);
    float f = 0.1f;
    ck_assert(dt_load(DT_F32, &f, 0).f == (double)0.1f);
}
END_TEST

START_TEST(types) {
    Dim n = dim_sym(c, "N", 0, DIM_INF), m = dim_sym(c, "M", 0, DIM_INF);
    Type a = type_tensor(c, DT_F32, 3, (Dim[]){n, dim_const(c, 3), m}),
         b = type_tensor(c, DT_F32, 3, (Dim[]){m, dim_const(c, 3), m});
    Type k = type_consts(c, DT_I8, 2, (int64_t[]){4, 5}), s = {.kind = TY_SEQ, .elem = &k};
    Type map = {.kind = TY_MAP, .dtype = DT_STR, .elem = &s},
         scalar = type_tensor(c, DT_BOOL, 0, NULL);
    int64_t dim[MAX_RANK];
    Buf out = {.c = c};
    type_print(&out, c, &a);
    buf_puts(&out, " ");
    type_print(&out, c, &map);
    buf_puts(&out, " ");
    type_print(&out, c, &scalar);
    buf_puts(&out, " ");
    Type list = type_list(c, TY_SEQ, &map); /* of an element, keys are kept */
    type_print(&out, c, &list);
    ck_assert_str_eq(buf_str(&out), "f32[N,3,M] map<str,seq<i8[4,5]>> bool[] seq<map<str,seq<i8[4,5]>>>");
    ck_assert(!type_same(c, &a, &b) && !type_same(c, &k, &s) && type_same(c, &map, &map));
    dim_unify(c, n, m);
    ck_assert(type_same(c, &a, &b));
    ck_assert(!type_const_dims(c, &a, dim) && type_const_dims(c, &k, dim) && dim[1] == 5);
    ck_assert(dim_is(c, type_count(c, &k), 20) && dim_is(c, type_count(c, &scalar), 1));
    ck_assert(dim_same(c, type_count(c, &a), dim_muli(c, dim_mul(c, n, n), 3)));
}
END_TEST

int main(void) {
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, memory);
    tcase_add_exit_test(t, memory_ends, 1);
    tcase_add_exit_test(t, memory_limit, 1);
    tcase_add_test(t, strings);
    tcase_add_test(t, containers);
    tcase_add_test(t, messages);
    tcase_add_test(t, type_table);
    tcase_add_loop_test(t, narrow_floats, 0, sizeof narrow / sizeof *narrow);
    tcase_add_test(t, conversions);
    tcase_add_test(t, elements);
    tcase_add_test(t, types);
    suite_add_tcase(s, t);
    return run_suite(s);
}
