/* quick_check.h: tests/CMakeLists.txt includes it before the C tests (but not those of the runtime): Check without the
 * system call that it makes at every assertion that holds. That call only remembers a line for crashes; tests here assert
 * millions of times. And what every main ends with. */
#include <check.h>
#undef _mark_point
#define _mark_point(file, line) ((void)0)

/* Runs the suite and frees it; the exit status of the program. */
static inline int run_suite(Suite *s) {
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
