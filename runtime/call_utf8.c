/* call_utf8.c: UTF-8 and the simple case mappings of Unicode, without a locale. A byte that is not part of valid UTF-8 is one
 * character, INVALID + its value, and is written back as that byte. */
#include "call_internal.h"

typedef struct CaseRun { uint32_t first, last; int32_t step, delta; } CaseRun;  /* first, first + step, .. last: + delta */
#include "call_unicode.h"

enum { INVALID = 0x110000 };

/* The character at *s, which moves on; *s < end. */
static uint32_t utf8_next(const char **s, const char *end)
{
    const unsigned char *p = (const unsigned char *)*s;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
    uint32_t c = n == 1 ? (uint32_t)*p : n ? *p & 0x7Fu >> n : 0u;
    bool ok = n > 0 && end - *s >= n;
    for (int k = 1; ok && k < n; k++) {
        ok = (p[k] & 0xC0) == 0x80;
        c = c << 6 | (p[k] & 0x3F);
    }
    ok = ok && c >= least[n] && c < INVALID && !(c >= 0xD800 && c < 0xE000);
    *s += ok ? n : 1;
    return ok ? c : (uint32_t)INVALID + *p;
}

/* Writes c to `to`, which has room for 4 bytes; how many it took. */
static int utf8_put(char *to, uint32_t c)
{
    if (c < 0x80 || c >= INVALID) {
        *to = (char)(c < 0x80 ? c : c - (uint32_t)INVALID);
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int k = n - 1; k > 0; k--, c >>= 6)
        to[k] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(0xF00u >> n | c);
    return n;
}

static uint32_t case_map(uint32_t c, const CaseRun *run, size_t n)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > run[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool in = lo < n && c >= run[lo].first && (c - run[lo].first) % (uint32_t)run[lo].step == 0;
    return in ? c + (uint32_t)run[lo].delta : c;
}

static uint32_t to_upper(uint32_t c)
{
    if (c < 0x80)
        return c >= 'a' && c <= 'z' ? c - 32 : c;
    return case_map(c, upper_runs, sizeof upper_runs / sizeof *upper_runs);
}

static uint32_t to_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return case_map(c, lower_runs, sizeof lower_runs / sizeof *lower_runs);
}

/* White space as in Python's str.split. */
static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
