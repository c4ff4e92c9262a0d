/* profile.h: times of a session's steps over many runs, for accelc-run. */
#ifndef ACCELC_PROFILE_H
#define ACCELC_PROFILE_H
#include <stdio.h>

#include "accelc_rt.h"

enum { PROFILE_THREADS = 256 };
typedef struct Profile {
    const accelc_api *api;
    const accelc_session *session;
    int nstep;
    int64_t runs, most;                  /* done; room for */
    uint64_t (*ns)[PROFILE_THREADS];     /* nstep: of the run in progress */
    uint64_t *sample, *calls;            /* most * nstep, nstep: of all runs */
} Profile;

/* Before the first run of the session, whose config has profile_step as on_step and p as prof_ctx. 0: not enough memory. */
int profile_start(Profile *p, const accelc_api *api, const accelc_session *s, int64_t runs);
void profile_step(void *p, int step, int thread, uint64_t t0, uint64_t t1);
void profile_run(Profile *p, int counts); /* a run is over; it counts, or was for warming up */
/* A line for every step that ran, the longest first. Of a step run by several threads, the time is the longest of theirs. */
int profile_print(const Profile *p, FILE *f);
/* The same as a JSON array. 0: not enough memory. */
int profile_json(const Profile *p, FILE *f);
void json_text(FILE *f, const char *s); /* s as a JSON string */
#endif
