/* profile.c: see profile.h. */
#include "profile.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    accelc_step info;
    int step;
    uint64_t median, least;
    double share; /* of the sum of all medians */
    double calls; /* a run */
} Row;

int profile_start(Profile *p, const accelc_api *api, const accelc_session *s, int64_t runs) {
    accelc_step info = {.size = sizeof info};
    *p = (Profile){.api = api, .session = s, .most = runs};
    while (api->step_info(s, p->nstep, &info) == ACCELC_OK) p->nstep++;
    p->ns = calloc((size_t)p->nstep + 1, sizeof *p->ns);
    p->calls = calloc((size_t)p->nstep + 1, sizeof *p->calls);
    p->sample = calloc((size_t)p->nstep + 1, (size_t)runs * sizeof *p->sample);
    return p->ns && p->calls && p->sample;
}

void profile_step(void *ctx, int step, int thread, uint64_t t0, uint64_t t1) {
    Profile *p = ctx;
    if (step < p->nstep && thread < PROFILE_THREADS) p->ns[step][thread] += t1 - t0 + 1; /* one more, so that 0 is: did not run */
}

void profile_run(Profile *p, int counts) {
    for (int i = 0; i < p->nstep && counts && p->runs < p->most; i++) {
        uint64_t longest = 0;
        for (int t = 0; t < PROFILE_THREADS; t++) longest = p->ns[i][t] > longest ? p->ns[i][t] : longest;
        p->calls[i] += longest > 0;
        p->sample[(size_t)i * (size_t)p->most + (size_t)p->runs] = longest;
    }
    p->runs += counts;
    memset(p->ns, 0, (size_t)p->nstep * sizeof *p->ns);
}

static int by_value(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int by_time(const void *a, const void *b) {
    const Row *x = a, *y = b;
    return x->median != y->median ? (x->median < y->median ? 1 : -1) : x->step - y->step;
}

/* What ran, the longest first; *n of them, and their sum. NULL: not enough memory. */
static Row *rows(const Profile *p, int *n, double *sum) {
    Row *row = calloc((size_t)p->nstep + 1, sizeof *row);
    uint64_t *sorted = calloc((size_t)p->runs + 1, sizeof *sorted);
    *n = 0;
    *sum = 0;
    for (int i = 0; i < p->nstep && row && sorted; i++) {
        if (!p->calls[i]) continue;
        Row *r = &row[(*n)++];
        memcpy(sorted, p->sample + (size_t)i * (size_t)p->most, (size_t)p->runs * sizeof *sorted);
        qsort(sorted, (size_t)p->runs, sizeof *sorted, by_value);
        *r = (Row){.info = {.size = sizeof r->info}, .step = i, .median = sorted[p->runs / 2], .least = sorted[0],
                   .calls = (double)p->calls[i] / (double)p->runs};
        p->api->step_info(p->session, i, &r->info);
        *sum += (double)r->median;
    }
    if (!sorted) {
        free(row);
        return NULL;
    }
    free(sorted);
    for (int i = 0; i < *n && row; i++) row[i].share = *sum > 0 ? (double)row[i].median / *sum : 0;
    if (row) qsort(row, (size_t)*n, sizeof *row, by_time);
    return row;
}

/* x / y in units of 10^9 a second, in a column; a dash if it is not known. */
static void print_number(FILE *f, int width, double x) {
    if (x > 0) fprintf(f, " %*.*f", width, x < 10 ? 2 : 1, x);
    else fprintf(f, " %*s", width, "-");
}

int profile_print(const Profile *p, FILE *f) {
    int n;
    double sum;
    Row *row = rows(p, &n, &sum);
    if (!row) return 0;
    fprintf(f, "steps: %.2f us a run, median of %lld\n", sum / 1e3, (long long)p->runs);
    fprintf(f, "%5s %10s %6s %9s %8s %9s %9s  %-28s %s\n", "step", "us", "%", "MB", "GB/s", "MFLOP", "GFLOP/s", "kernel", "schedule; nodes");
    for (int i = 0; i < n; i++) {
        const Row *r = &row[i];
        double ns = (double)r->median;
        fprintf(f, "%5d %10.2f %6.1f", r->step, ns / 1e3, 100 * r->share);
        print_number(f, 9, r->info.bytes / 1e6);
        print_number(f, 8, r->info.bytes / ns);
        print_number(f, 9, r->info.operations / 1e6);
        print_number(f, 9, r->info.operations / ns);
        fprintf(f, "  %-28s %s%s%s\n", r->info.kernel, r->info.schedule, *r->info.schedule ? "; " : "", r->info.onnx_nodes);
    }
    free(row);
    return 1;
}

void json_text(FILE *f, const char *s) {
    fputc('"', f);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < ' ') fprintf(f, "\\u%04x", c);
        else fputc(c, f);
    }
    fputc('"', f);
}

int profile_json(const Profile *p, FILE *f) {
    int n;
    double sum;
    Row *row = rows(p, &n, &sum);
    if (!row) return 0;
    fputc('[', f);
    for (int i = 0; i < n; i++) {
        const Row *r = &row[i];
        const struct {
            const char *name, *text;
        } texts[] = {{"kernel", r->info.kernel}, {"schedule", r->info.schedule}, {"nodes", r->info.onnx_nodes}};
        fprintf(f,
                "%s\n    {\"step\": %d, \"device\": %d, \"us\": %.3f, \"least_us\": %.3f, \"share\": %.5f, \"bytes\": %.0f, "
                "\"operations\": %.0f, \"tasks\": %lld",
                i ? "," : "", r->step, r->info.device - 1, (double)r->median / 1e3, (double)r->least / 1e3, r->share, r->info.bytes,
                r->info.operations, (long long)r->info.tasks);
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            fprintf(f, ", \"%s\": ", texts[k].name);
            json_text(f, texts[k].text);
        }
        fputc('}', f);
    }
    fputs("\n  ]", f);
    free(row);
    return 1;
}
