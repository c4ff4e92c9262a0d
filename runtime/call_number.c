/* call_number.c: numbers to strings and back. The C locale holds for the calling thread meanwhile, whatever the program has set. */
#include "call_internal.h"
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The fewest digits that give x back, as %g lays them out, but with an exponent only below 1e-4 and from 1e8 on (or where the digits
 * end). f32: x is a float. */
static int float_text(char text[64], double x, bool f32)
{
    char digits[48];
    int p = 1, max = f32 ? 9 : 17;
    if (isnan(x) || isinf(x))
        return snprintf(text, 64, "%s", isnan(x) ? "NaN" : x < 0 ? "-INF" : "INF");
    for (; p < max; p++) {
        snprintf(digits, sizeof digits, "%.*e", p - 1, x);
        if (f32 ? strtof(digits, NULL) == (float)x : strtod(digits, NULL) == x)
            break;
    }
    snprintf(digits, sizeof digits, "%.*e", p - 1, x);
    int exponent = atoi(strchr(digits, 'e') + 1), most = p > 8 ? p : 8;
    if (exponent < -4 || exponent >= most)
        return snprintf(text, 64, "%.*g", p, x);
    return snprintf(text, 64, "%.*f", p - 1 - exponent > 0 ? p - 1 - exponent : 0, x);
}

static int number_text(char text[64], const rt_value *v, int64_t i)
{
    switch (v->dtype) {
    case DT_F32: return float_text(text, ((const float *)v->data)[i], true);
    case DT_F64: return float_text(text, ((const double *)v->data)[i], false);
    case DT_U64: return snprintf(text, 64, "%llu", ((const unsigned long long *)v->data)[i]);
    default: return snprintf(text, 64, "%lld", (long long)int_at(v, i));
    }
}

static bool texts(rt_call *c, const rt_value *x)
{
    rt_value *y = c->out[0] = call_tensor(c, DT_STR, x->rank, x->dims);
    char text[64], *block = NULL;
    size_t room = 0;
    for (int64_t i = 0, n = call_count(x); y && i < n; i++) {
        size_t len = (size_t)number_text(text, x, i);
        if (len > room && !(block = call_alloc(c, (int64_t)(room = 4096), 1)))
            return false;
        ((accelc_str *)y->data)[i] = (accelc_str){memcpy(block, text, len), len};
        block += len;
        room -= len;
    }
    return y != NULL;
}

/* (x of f32, f64, an integer type or bool) -> str of the same shape */
CALL_FN(string_of)
{
    const rt_value *x = tensor_operand(c, 0, 0);
    if (!x)
        return false;
    if (x->dtype != DT_F32 && x->dtype != DT_F64 && !is_int(x))
        return call_fail(c, "numbers of type %d have no text", x->dtype);
    locale_t plain = newlocale(LC_ALL_MASK, "C", NULL), before = uselocale(plain);
    bool ok = texts(c, x);
    uselocale(before);
    freelocale(plain);
    return ok;
}

/* The number that is all of s but for white space around it. */
static bool parse_number(accelc_str s, int dtype, void *out)
{
    char text[512], *end = text;
    if (s.len >= sizeof text || (s.len && memchr(s.ptr, 0, s.len)))
        return false;
    if (s.len)
        memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    errno = 0;
    double f = dtype == DT_F32 ? strtof(text, &end) : strtod(text, &end);
    bool ok = end != text;
    for (; ok && *end; end++)
        ok = is_space((unsigned char)*end);
    if (!ok)
        return false;
    if (dtype == DT_F32)
        *(float *)out = (float)f;
    if (dtype == DT_F64)
        *(double *)out = f;
    if (dtype == DT_F32 || dtype == DT_F64)
        return true;
    errno = 0;
    unsigned long long u = dtype == DT_U64 ? strtoull(text, &end, 10) : (unsigned long long)strtoll(text, &end, 10);
    bool whole = end != text && !errno;
    for (; whole && *end; end++)
        whole = is_space((unsigned char)*end);
    double top = dtype == DT_U64 ? 18446744073709551616.0 : 9223372036854775808.0;
    if (!whole && !(errno != ERANGE && f < top && f > (dtype == DT_U64 ? -1 : -top - 1)))
        return false;
    if (!whole)         /* 1.5, 1e3: towards zero */
        u = dtype == DT_U64 ? (unsigned long long)f : (unsigned long long)(long long)f;
    memcpy(out, &u, sizeof u);
    return true;
}

/* (x str, type i64[]) -> f32, f64, i64 or u64 of the same shape, by the number of the type. Text that is no number fails. */
CALL_FN(string_number)
{
    const rt_value *x = tensor_operand(c, 0, DT_STR);
    int64_t t;
    if (!x || !call_int(c, c->in[1], "type", &t))
        return false;
    if (t != DT_F32 && t != DT_F64 && t != DT_I64 && t != DT_U64)
        return call_fail(c, "type %lld of numbers from strings", (long long)t);
    rt_value *y = c->out[0] = call_tensor(c, (int)t, x->rank, x->dims);
    locale_t plain = newlocale(LC_ALL_MASK, "C", NULL), before = uselocale(plain);
    bool ok = y != NULL;
    for (int64_t i = 0, n = call_count(x); ok && i < n; i++) {
        accelc_str s = call_strs(x)[i];
        ok = parse_number(s, (int)t, (char *)y->data + i * (int64_t)call_width((int)t)) ||
             call_fail(c, "\"%.*s\" is not a number", s.len < 100 ? (int)s.len : 100, s.len ? s.ptr : "");
    }
    uselocale(before);
    freelocale(plain);
    return ok;
}
