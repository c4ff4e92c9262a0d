/* test_dim.c: dims: normal forms, ranges, unification, text; and a random walk that compares every
 * constructor, range, divisor and comparison with plain integer arithmetic. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

static Ctx *c;
static Dim n, m, h;

static void setup(void) {
    c = ctx_new();
    n = dim_sym(c, "N", 0, DIM_INF);
    m = dim_sym(c, "M", 0, DIM_INF);
    h = dim_sym(c, "H", 1, 512);
}
static void teardown(void) { ctx_free(c); }

static const char *text(Dim d) {
    Buf b = {.c = c};
    dim_print(&b, c, d);
    return buf_str(&b);
}

static Dim of(const char *s) {
    Dim d = dim_parse(c, &s);
    ck_assert_msg(d.i && !*s, "cannot parse at \"%s\"", s);
    return d;
}

/* left and right become the same dim, which prints as the third column. */
static const char *const same[][3] = {
    {"N+M-N", "M", "M"},
    {"2*(N+1)", "2*N+2", "2*N+2"},
    {"(N+1)*(M+1)", "M*N+1+M+N", "M*N+M+N+1"},
    {"N-N", "0", "0"},
    {"10-N", "-N+10", "10-N"},
    {"-N-M", "0-M-N", "-M-N"},
    {"N*M*3", "3*M*N", "3*M*N"},
    {"N-9223372036854775808", "N-9223372036854775808", "N-9223372036854775808"},
    {"floordiv(16*N,16)", "N", "N"},
    {"floordiv(16*N+3,16)", "N", "N"},
    {"mod(16*N+3,16)", "3", "3"},
    {"mod(16*N,16)", "0", "0"},
    {"mod(2*N+1,16)", "2*mod(N,8)+1", "2*mod(N,8)+1"},
    {"floordiv(2*N+1,16)", "floordiv(N,8)", "floordiv(N,8)"},
    {"floordiv(N+17,16)", "floordiv(N+1,16)+1", "floordiv(N+1,16)+1"},
    {"floordiv(5*N,2)", "2*N+floordiv(N,2)", "2*N+floordiv(N,2)"},
    {"floordiv(floordiv(N,2),3)", "floordiv(N,6)", "floordiv(N,6)"},
    {"floordiv(floordiv(N-1,2)+1-1,2)+1", "floordiv(N-1,4)+1", "floordiv(N+3,4)"},
    {"ceildiv(N,16)", "floordiv(N+15,16)", "floordiv(N+15,16)"},
    {"ceildiv(16*N,16)", "N", "N"},
    {"ceildiv(16*N+1,16)", "N+1", "N+1"},
    {"ceildiv(N*M,M)", "N", "N"},
    {"16*floordiv(N,16)+mod(N,16)", "N", "N"},
    {"M*16*floordiv(N+3,16)+mod(N+3,16)*M+M", "M*N+4*M", "M*N+4*M"},
    {"mod(mod(N,32),8)", "mod(N,8)", "mod(N,8)"},
    {"floordiv(N*M,N)", "M", "M"},
    {"floordiv((N+1)*(M+2)*4,N+1)", "4*M+8", "4*M+8"},
    {"floordiv(N*N-M*M,N-M)", "N+M", "M+N"},
    {"floordiv(6*N,4*M)", "floordiv(3*N,2*M)", "floordiv(3*N,2*M)"},
    {"mod(N*M+2,M+3-3)", "mod(2,M)", "mod(2,M)"},
    {"floordiv(H,1000)", "0", "0"},
    {"mod(H,1000)", "H", "H"},
    {"floordiv(-N,-2)", "floordiv(N,2)", "floordiv(N,2)"},
    {"mod(-7,3)", "2", "2"},
    {"floordiv(-7,3)", "-3", "-3"},
    {"ceildiv(-7,3)", "-2", "-2"},
    {"min(N,N+1)", "N", "N"},
    {"max(N,N+1)", "N+1", "N+1"},
    {"max(N,0)", "N", "N"},
    {"min(H,600)", "H", "H"},
    {"min(min(N,M),N)", "min(M,N)", "min(M,N)"},
    {"min(N,min(5,M))", "min(min(N,5),M)", "min(min(M,N),5)"},
    {"max(N-min(N,5),0)", "N-min(N,5)", "N-min(N,5)"},
    {"max(N-floordiv(N,2),0)", "N-floordiv(N,2)", "N-floordiv(N,2)"},
    {"max(N-mod(N,16),0)", "N-mod(N,16)", "N-mod(N,16)"},
    {"max((H-1)*(H-1),0)", "H*H-2*H+1", "H*H-2*H+1"},
    {"min(N,1)+max(N-1,0)", "N", "N"},
    {"2*H*max(0,N-M)+2*H*min(N,M)", "2*H*N", "2*H*N"},
    {"min(N,M+3)+max(N-5,M-2)+1", "N+M-1", "M+N-1"},
    {"min(N,3)+max(N-1,0)", "max(N-1,0)+min(N,3)", "min(N,3)+max(N-1,0)"},
    {"bcast(N,N)", "N", "N"},
    {"bcast(1,N)", "N", "N"},
    {"bcast(N,1)", "N", "N"},
    {"bcast(5,N)", "5", "5"},
    {"bcast(N,5)", "5", "5"},
    {"bcast(N,0)", "0", "0"},
    {"bcast(N,M+2)", "M+2", "M+2"},
    {"bcast(bcast(N,M),N)", "bcast(M,N)", "bcast(M,N)"},
    {"bcast(1,1)", "1", "1"},
    {"eq(N+1,2)", "eq(1,N)", "eq(N,1)"},
    {"eq(2*N,2*M+1)", "0", "0"},
    {"eq(N,N+1)", "0", "0"},
    {"lt(N,N+1)", "1", "1"},
    {"lt(2*N,7)", "lt(N,4)", "lt(N,4)"},
    {"lt(H,H*1)", "0", "0"},
    {"select(eq(N,1),3,3)", "3", "3"},
    {"select(lt(N,5),1,0)", "lt(N,5)", "lt(N,5)"},
    {"select(H,N,M)", "N", "N"},
};

START_TEST(normal_forms) {
    Dim a = of(same[_i][0]), b = of(same[_i][1]);
    ck_assert_msg(dim_same(c, a, b), "%s is %s, %s is %s", same[_i][0], text(a), same[_i][1],
                  text(b));
    ck_assert_str_eq(text(a), same[_i][2]);
    ck_assert_uint_eq(of(text(a)).i, a.i);
}
END_TEST

START_TEST(ranges_and_divisors) {
    ck_assert_int_eq(dim_lo(c, of("H*16+1")), 17);
    ck_assert_int_eq(dim_hi(c, of("H*16+1")), 8193);
    ck_assert_int_eq(dim_lo(c, n), 0);
    ck_assert_int_eq(dim_hi(c, n), DIM_INF);
    ck_assert_int_eq(dim_hi(c, of("floordiv(H,2)")), 256);
    ck_assert_int_eq(dim_hi(c, of("mod(N,16)")), 15);
    ck_assert_int_eq(dim_lo(c, of("(N+1)*(M+1)-N")), 1);
    ck_assert_int_eq(dim_lo(c, of("N-floordiv(N+1,2)")), 0);
    ck_assert_int_eq(dim_lo(c, of("N-16*floordiv(N,16)")), 0);
    ck_assert_int_eq(dim_hi(c, of("N-16*floordiv(N,16)")), 15);
    ck_assert(dim_divisible(c, of("16*N+32"), 16));
    ck_assert(dim_divisible(c, of("4*N*(4*M+8)"), 16));
    ck_assert(!dim_divisible(c, of("16*N+8"), 16));
    ck_assert(dim_divisible(c, of("min(16*N,32)"), 16));
    ck_assert(dim_divisible(c, dim_const(c, 0), 7));
    ck_assert(dim_differ(c, n, of("N+1")));
    ck_assert(dim_differ(c, of("2*N"), of("2*M+1")));
    ck_assert(dim_differ(c, h, dim_const(c, 0)));
    ck_assert(!dim_differ(c, n, m));
    ck_assert(!dim_same(c, n, m));
}
END_TEST

START_TEST(unify_symbols) {
    Dim sum = of("N+M"), product = of("3*N*M");
    dim_unify(c, n, m);
    ck_assert(dim_same(c, n, m));
    ck_assert(dim_same(c, sum, of("2*N")));
    ck_assert(dim_same(c, product, of("3*M*M")));
    ck_assert(dim_is(c, dim_sub(c, m, n), 0));
    dim_unify(c, sum, dim_const(c, 10));
    ck_assert(dim_is(c, n, 5));
    ck_assert(dim_is(c, product, 75));
    ck_assert_str_eq(text(product), "75");
    dim_unify(c, n, dim_const(c, 7)); /* a false fact changes nothing */
    ck_assert(dim_is(c, n, 5));
    ck_assert_uint_eq(ctx_errors(c), 0);
}
END_TEST

START_TEST(assumed_bounds) {
    Dim m1 = of("min(N,96)"), m2 = of("min(N+M,96)"), other = of("min(2*N+M,96)"), less = of("lt(96,M)");
    dim_assume_le(c, of("N+M"), dim_const(c, 96));
    ck_assert(dim_same(c, m1, n) && dim_same(c, m2, of("N+M")));
    ck_assert(dim_same(c, dim_sub(c, m2, m1), m));
    ck_assert(dim_is(c, less, 0) && dim_is(c, of("lt(N,97)"), 1));
    ck_assert_str_eq(text(other), "min(M+2*N,96)");
    ck_assert(dim_same(c, of("max(N+100,4)"), of("N+100")));
    dim_unify(c, n, of("M+1"));
    ck_assert(dim_same(c, of("min(2*M,95)"), of("2*M")));
    Dim quotient = of("floordiv(N+3,M+2)"), twice = of("ceildiv(2*N+M,3*M+1)"); /* of the same symbols, and nothing changes */
    dim_assume_le(c, m, dim_const(c, 90));
    ck_assert_str_eq(text(quotient), "floordiv(N+3,N+1)");
    ck_assert_str_eq(text(twice), "ceildiv(3*N-1,3*N-2)");
    Dim p = dim_sym(c, "P", 0, DIM_INF), q = dim_sym(c, "Q", 0, DIM_INF); /* P will be an expression of minima itself */
    dim_assume_le(c, of("P+Q"), dim_const(c, 50));
    dim_unify(c, p, of("min(Q,7)+max(Q,9)"));
    ck_assert(dim_same(c, of("min(Q,51)"), q) && dim_same(c, of("min(P,51)"), p));
    Dim b = dim_sym(c, "B", 0, DIM_INF), cut = of("min(B,8)");
    dim_sym_mark_bound(c, (uint32_t)dim_info(c, b)->val);
    dim_assume_le(c, b, dim_const(c, 8)); /* only known once its guard has run */
    ck_assert(!dim_same(c, cut, b));
    dim_assume_le(c, of("min(Q,30)"), dim_const(c, 9)); /* no sum of products */
    ck_assert_str_eq(text(of("min(Q,9)")), "min(Q,9)");
    dim_sym(c, "T", 0, DIM_INF); /* what a convolution makes of T is not empty */
    Dim made = of("floordiv(T,20)-1"), positive = of("max(floordiv(T,20)-1,0)"), empty = of("eq(floordiv(T,20)-1,0)");
    dim_assume_le(c, dim_const(c, 1), made);
    ck_assert(dim_same(c, positive, made) && dim_is(c, empty, 0));
    ck_assert_int_eq(dim_lo(c, made), -1); /* the guard is not proven by itself */
}
END_TEST

START_TEST(unify_equations) {
    dim_unify(c, of("N+M"), dim_const(c, 10));
    ck_assert(dim_same(c, of("N+M"), dim_const(c, 10)));
    ck_assert(dim_same(c, m, of("10-N")));
    ck_assert_int_eq(dim_hi(c, n), 10); /* since M >= 0 */
    Dim k = dim_sym(c, "K", 0, DIM_INF), l = dim_sym(c, "L", 0, DIM_INF);
    dim_unify(c, of("2*K"), of("4*L+6"));
    ck_assert(dim_same(c, k, of("2*L+3")));
    dim_unify(c, l, of("floordiv(L,2)")); /* would define L by itself */
    ck_assert_str_eq(text(l), "L");
    Dim q = dim_sym(c, "Q", 0, DIM_INF);
    dim_unify(c, of("floordiv(L,2)"), of("Q+1"));
    ck_assert(dim_same(c, q, of("floordiv(L,2)-1")));
    Dim z = dim_sym(c, "Z", 1, 4);
    dim_unify(c, z, dim_const(c, 9)); /* out of its range: false */
    ck_assert_str_eq(text(z), "Z");
    int64_t values[16] = {[2] = 0}, out;
    values[0] = 4; /* N */
    ck_assert(dim_eval(c, m, values, &out));
    ck_assert_int_eq(out, 6);
}
END_TEST

/* A bound symbol is defined by inputs, never the reverse; a pinned dim keeps asking the bound
 * symbol. */
START_TEST(unify_bound) {
    Dim s = dim_fresh(c, "s", 0, DIM_INF), late = dim_sym(c, "late", 0, DIM_INF), pinned, guard;
    dim_sym_mark_bound(c, (uint32_t)dim_info(c, s)->val);
    pinned = dim_pin(c, s);
    guard = dim_pin(c, dim_muli(c, s, 2));
    dim_unify(c, late, s);
    ck_assert_str_eq(text(s), "late");
    ck_assert_str_eq(text(late), "late");
    ck_assert_int_eq(dim_info(c, pinned)->kind, D_SYM);
    ck_assert_str_eq(text(pinned), "s");
    ck_assert_str_eq(text(guard), "2*s");
    dim_unify(c, late, dim_const(c, 3));
    ck_assert(dim_is(c, s, 3));
    ck_assert_str_eq(text(guard), "2*s");
    Dim t = dim_fresh(c, "s", 0, DIM_INF);
    ck_assert_str_eq(text(t), "s_1");
    dim_sym_mark_bound(c, (uint32_t)dim_info(c, t)->val);
    dim_unify(c, n, dim_muli(c, t, 2)); /* would define an input by what is computed from it */
    ck_assert_str_eq(text(n), "N");
}
END_TEST

START_TEST(substitute) {
    Dim d = of("floordiv(N+3,4)*M+min(N,M)");
    uint32_t sym = (uint32_t)dim_info(c, n)->val;
    ck_assert_str_eq(text(dim_subst(c, d, sym, of("4*M+1"))), "M*M+2*M");
    ck_assert_str_eq(text(dim_subst(c, d, sym, dim_const(c, 0))), "0");
}
END_TEST

START_TEST(failures) {
    Dim big = dim_const(c, INT64_MAX), zero = {0};
    ck_assert_uint_eq(dim_add(c, big, dim_const(c, 1)).i, 0);
    ck_assert_uint_eq(dim_mul(c, big, of("2*N")).i, 0);
    ck_assert_uint_eq(dim_mul(c, zero, n).i, 0);
    ck_assert_uint_eq(dim_select(c, zero, n, m).i, 0);
    ck_assert_uint_eq(ctx_errors(c), 1); /* one message for all */
    ck_assert_uint_eq(dim_floordiv(c, n, dim_const(c, 0)).i, 0);
    ck_assert_uint_eq(ctx_errors(c), 2);
    ck_assert(!dim_same(c, zero, zero));
    ck_assert_str_eq(text(zero), "?");
    int64_t v[3] = {INT64_MAX, 2, 1}, out;
    ck_assert(!dim_eval(c, of("N*M"), v, &out));
    v[0] = 0;
    ck_assert(!dim_eval(c, of("floordiv(M,N)"), v, &out));
    static const char *const bad[] = {
        "", "N+", "foo(N)", "min(N)", "select(N,M)", "(N", "99999999999999999999", "@", "N*,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *s = bad[i];
        ck_assert_msg(!dim_parse(c, &s).i, "%s", bad[i]);
    }
    const char *rest = "N+1 in [0,5]";
    ck_assert_str_eq(text(dim_parse(c, &rest)), "N+1");
    ck_assert_str_eq(rest, " in [0,5]");
}
END_TEST

/* Growth is bounded: long sums nest, deep or huge expressions become poison with one message. */
START_TEST(limits) {
    Dim sum = dim_const(c, 0), deep = n, wide = n;
    char name[16];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "x%d", i);
        sum = dim_add(c, sum, dim_sym(c, name, 0, DIM_INF));
    }
    ck_assert(sum.i);
    ck_assert_uint_eq(of(text(sum)).i, sum.i);
    for (int i = 0; i < 300; i++)
        deep = dim_max(c, dim_mul(c, deep, dim_min(c, deep, m)), dim_addi(c, m, i));
    ck_assert_uint_eq(deep.i, 0);
    for (int i = 0; i < 40 && wide.i; i++) wide = dim_mul(c, wide, dim_addi(c, wide, i));
    ck_assert_uint_eq(ctx_errors(c), 1);
    char *s = malloc(100001);
    memset(s, '(', 100000);
    s[100000] = 0;
    const char *at = s;
    ck_assert_uint_eq(dim_parse(c, &at).i, 0);
    memset(s, '-', 100000);
    at = s;
    ck_assert_uint_eq(dim_parse(c, &at).i, 0);
    free(s);
    ck_assert(ctx_memory(c) < (size_t)200 << 20);
}
END_TEST

/* ==== random walk ============================================================================= */

static uint64_t seed;
static uint32_t rnd(uint32_t k) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % k;
}

enum { NSYM = 4, NWORLD = 12, NDIM = 60 };
typedef struct Known { Dim d; bool ok[NWORLD]; int64_t v[NWORLD]; } Known;

static bool apply(DimKind k, int64_t a, int64_t b, int64_t z, int64_t *out) {
    int64_t q;
    switch (k) {
    case D_ADD: return !__builtin_add_overflow(a, b, out);
    case D_MUL: return !__builtin_mul_overflow(a, b, out);
    case D_MIN: *out = a < b ? a : b; return true;
    case D_MAX: *out = a > b ? a : b; return true;
    case D_BCAST:
        *out = a != 1 ? a : b;
        return a == 1 || b == 1 || a == b; /* what the guard demands */
    case D_EQ: *out = a == b; return true;
    case D_LT: *out = a < b; return true;
    case D_SELECT: *out = z ? a : b; return true;
    default: break;
    }
    if (b == 0) return false;
    q = a / b;
    if (a % b != 0 && (a < 0) != (b < 0)) q--;
    *out = k == D_FLOORDIV ? q : k == D_MOD ? a - q * b : q + (a - q * b != 0);
    return true;
}

static void check_known(const Known *k, const int64_t world[][NSYM]) {
    for (int w = 0; w < NWORLD; w++) {
        int64_t v;
        if (!k->ok[w]) continue;
        if (!dim_eval(c, k->d, world[w], &v)) continue; /* overflow on the way */
        ck_assert_msg(v == k->v[w], "%s is %lld, not %lld", text(k->d), (long long)v,
                      (long long)k->v[w]);
        ck_assert_msg(v >= dim_lo(c, k->d) && v <= dim_hi(c, k->d),
                      "%s: %lld is not in [%lld,%lld]", text(k->d), (long long)v,
                      (long long)dim_lo(c, k->d), (long long)dim_hi(c, k->d));
        ck_assert_msg(v % dim_info(c, k->d)->mult == 0, "%s: %lld", text(k->d), (long long)v);
    }
}

START_TEST(random_walk) {
    static Known k[NDIM];
    int64_t world[NWORLD][NSYM];
    static const char *const name[NSYM] = {"a", "b", "c", "d"};
    static const int64_t hi[NSYM] = {DIM_INF, 9, DIM_INF, 1};
    seed = (uint64_t)_i * 7919 + 1;
    teardown();
    c = ctx_new();
    for (int w = 0; w < NWORLD; w++)
        for (int s = 0; s < NSYM; s++)
            world[w][s] = rnd((uint32_t)(hi[s] > 40 ? (w & 1 ? 40 : 3) : hi[s] + 1));
    for (int i = 0; i < NDIM; i++) {
        Known *x = &k[i];
        *x = (Known){.d = {0}};
        if (i < NSYM) {
            x->d = dim_sym(c, name[i], 0, hi[i]);
            for (int w = 0; w < NWORLD; w++) x->ok[w] = true, x->v[w] = world[w][i];
            continue;
        }
        const Known *a = &k[rnd((uint32_t)i)], *b = &k[rnd((uint32_t)i)], *z = &k[rnd((uint32_t)i)];
        DimKind op = (DimKind)(D_ADD + (int)rnd(11));
        bool sub = op == D_ADD && rnd(2);
        Known konst = {.d = dim_const(c, (int64_t)rnd(20) - (int64_t)rnd(8))};
        for (int w = 0; w < NWORLD; w++) konst.ok[w] = true, konst.v[w] = dim_info(c, konst.d)->val;
        if (rnd(2)) b = &konst;
        switch (op) {
        case D_ADD: x->d = sub ? dim_sub(c, a->d, b->d) : dim_add(c, a->d, b->d); break;
        case D_MUL: x->d = dim_mul(c, a->d, b->d); break;
        case D_FLOORDIV: x->d = dim_floordiv(c, a->d, b->d); break;
        case D_CEILDIV: x->d = dim_ceildiv(c, a->d, b->d); break;
        case D_MOD: x->d = dim_mod(c, a->d, b->d); break;
        case D_MIN: x->d = dim_min(c, a->d, b->d); break;
        case D_MAX: x->d = dim_max(c, a->d, b->d); break;
        case D_BCAST: x->d = dim_bcast(c, a->d, b->d); break;
        case D_EQ: x->d = dim_eqv(c, a->d, b->d); break;
        case D_LT: x->d = dim_lt(c, a->d, b->d); break;
        default: x->d = dim_select(c, z->d, a->d, b->d); break;
        }
        bool usable = x->d.i != 0;
        for (int w = 0; w < NWORLD; w++) {
            int64_t bv = b->v[w];
            x->ok[w] = usable && a->ok[w] && b->ok[w] && (op != D_SELECT || z->ok[w]) &&
                       apply(op, a->v[w], sub ? -bv : bv, z->v[w], &x->v[w]);
        }
        if (!usable) { /* overflow or a zero divisor; go on with a symbol */
            *x = k[rnd(NSYM)];
            continue;
        }
        check_known(x, (const int64_t(*)[NSYM])world);
        const char *s = text(x->d), *p = s;
        Dim back = dim_parse(c, &p);
        ck_assert_msg(back.i && !*p, "%s", s);
        ck_assert_str_eq(text(back), s);
        for (int w = 0; w < NWORLD; w++)
            ck_assert(!(x->ok[w] && a->ok[w] && dim_differ(c, x->d, a->d) && x->v[w] == a->v[w]));
        ck_assert(dim_same(c, dim_sub(c, dim_add(c, x->d, k[0].d), k[0].d), x->d) || ctx_errors(c));
    }
    /* a becomes b + 3: in worlds where that is so, no value changes. */
    char *kept[NDIM];
    int64_t after[NDIM][NWORLD];
    bool ok[NDIM][NWORLD];
    for (int i = 0; i < NDIM; i++) kept[i] = strdup(text(k[i].d));
    dim_unify(c, k[0].d, dim_addi(c, k[1].d, 3));
    ck_assert(dim_same(c, k[0].d, dim_addi(c, k[1].d, 3)));
    for (int w = 0; w < NWORLD; w++) world[w][0] = world[w][1] + 3;
    for (int i = 0; i < NDIM; i++) {
        for (int w = 0; w < NWORLD; w++) {
            int64_t *v = &after[i][w];
            ok[i][w] = !strstr(kept[i], "bcast") && dim_eval(c, k[i].d, world[w], v);
            if (ok[i][w]) ck_assert(*v >= dim_lo(c, k[i].d) && *v <= dim_hi(c, k[i].d));
        }
    }
    /* In a fresh context the texts parse to the same texts: order does not depend on history. */
    teardown();
    c = ctx_new();
    for (int n_sym = NSYM - 1; n_sym >= 0; n_sym--) dim_sym(c, name[n_sym], 0, hi[n_sym]);
    for (int i = NDIM - 1; i >= 0; i--) {
        const char *p = kept[i];
        Dim d = dim_parse(c, &p);
        for (int w = 0; w < NWORLD && d.i; w++) {
            int64_t sym[NSYM], v;
            for (int x = 0; x < NSYM; x++) sym[x] = world[w][NSYM - 1 - x];
            if (ok[i][w] && dim_eval(c, d, sym, &v)) ck_assert_int_eq(v, after[i][w]);
        }
        if (d.i) ck_assert_str_eq(text(d), kept[i]);
        free(kept[i]);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("dim");
    TCase *t = tcase_create("dim");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, normal_forms, 0, sizeof same / sizeof *same);
    tcase_add_test(t, ranges_and_divisors);
    tcase_add_test(t, unify_symbols);
    tcase_add_test(t, assumed_bounds);
    tcase_add_test(t, unify_equations);
    tcase_add_test(t, unify_bound);
    tcase_add_test(t, substitute);
    tcase_add_test(t, failures);
    tcase_add_test(t, limits);
    tcase_add_loop_test(t, random_walk, 0, 300);
    suite_add_tcase(s, t);
    return run_suite(s);
}
