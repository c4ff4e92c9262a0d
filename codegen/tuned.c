/* tuned.c: schedules of products that were the fastest on a device, for sizes like theirs. What was measured is data: gpu_tuned.def, and files that
 * users give (--tuned). A row is a line
 *     FAMILY TYPE BATCHES ROWS COLUMNS DEPTH TEMPLATE [PARAMETER=VALUE ..]
 * FAMILY is the architecture whose level the kernel is of, TYPE that of the factors, with -taps behind it where several axes are summed; the sizes
 * are those that listings tell (--emit=kernels, "product:"). The nearest row counts, if no size is more than NEAR times that of the kernel, or less.
 * Without a row, or where the kernel cannot be compiled so, the estimate decides. tests/gpu/tune.py writes rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_tile.h"
#include "ukr.h"

#define NEAR 1.5
enum { SIZES = 4 };

static const char measured[] = ""
#include "gpu_tuned.def"
    ;

typedef struct Key {
    const char *family;
    char type[24];
    double size[SIZES]; /* batches, rows, columns, depth */
} Key;

static bool key_of(const Kernel *k, const Target *t, Key *key) {
    GpuProduct x;
    if (!(t->flags & F_BLOCKS)) return false;
    if (!gpu_matrix_product(k, t, &x) && !gpu_product(k, DT_F32, DT_F32, DT_F32, &x) && !gpu_product(k, DT_I32, DT_I32, DT_I32, &x)) return false;
    *key = (Key){.family = t->flags & F_WGMMA ? "sm_90a" : "sm_80",
                 .size = {dim_typical(k->c, gpu_batches(&x)), dim_typical(k->c, gpu_rows(&x, 0)), dim_typical(k->c, gpu_rows(&x, 1)),
                          dim_typical(k->c, gpu_depth(&x))}};
    snprintf(key->type, sizeof key->type, "%s%s", dt_name(x.side[0].type), x.nred > 1 ? "-taps" : "");
    return true;
}

/* A line as a row: its schedule and how far it is from the key; or NULL. */
static const char *row_of(const char *line, const Key *key, double *far) {
    char family[16], type[24];
    double size[SIZES];
    int at = 0;
    int got = sscanf(line, "%15s %23s %lf %lf %lf %lf %n", family, type, &size[0], &size[1], &size[2], &size[3], &at);
    if (got != 2 + SIZES || !line[at]) return NULL;
    if (strcmp(family, key->family) != 0 || strcmp(type, key->type) != 0) return NULL;
    *far = 0;
    for (int i = 0; i < SIZES; i++) {
        double way = fabs(log(size[i] / key->size[i]));
        if (!(way <= log(NEAR))) return NULL;
        *far += way;
    }
    return line + at;
}

static void nearest(Ctx *c, const char *text, const Key *key, const char **best, double *far) {
    while (text && *text) {
        size_t n = strcspn(text, "\n");
        double way;
        const char *line = ctx_strn(c, text, n), *schedule = *line == '#' ? NULL : row_of(line, key, &way);
        if (schedule && way < *far) *best = schedule, *far = way;
        text += n + (text[n] == '\n');
    }
}

const char *tuned_schedule(const Kernel *k, const Target *t, const char **product) {
    const char *best = NULL;
    double far = INFINITY;
    Key key;
    *product = NULL;
    if (!key_of(k, t, &key)) return NULL;
    *product = ctx_printf(k->c, "%s %s %.0f %.0f %.0f %.0f", key.family, key.type, key.size[0], key.size[1], key.size[2], key.size[3]);
    nearest(k->c, t->tuned, &key, &best, &far);
    if (!best) nearest(k->c, measured, &key, &best, &far);
    return best;
}
