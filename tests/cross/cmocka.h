/* The part of cmocka's interface that the kernel and format tests use, for builds whose target has no cmocka
 * (HT_KERNELS_ONLY). Prints TAP. A failed assertion ends its test; a test that dies ends the program. */
#ifndef HT_TESTS_CROSS_CMOCKA_H
#define HT_TESTS_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

#define cmocka_unit_test(f)                                                                                  \
    { #f, f, NULL, NULL, NULL }

static jmp_buf cross_test_end;
enum { CROSS_FAILED = 1, CROSS_SKIPPED };

__attribute__((unused, noreturn, format(printf, 3, 4))) static void cross_fail(const char *file, int line,
                                                                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "# ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n# %s:%d: failed\n", file, line);
    va_end(args);
    longjmp(cross_test_end, CROSS_FAILED);
}

#define fail_msg(...) cross_fail(__FILE__, __LINE__, __VA_ARGS__)
#define print_message(...) ((void)fprintf(stdout, "# " __VA_ARGS__))
#define print_error(...) ((void)fprintf(stderr, "# " __VA_ARGS__))
#define skip() longjmp(cross_test_end, CROSS_SKIPPED)

#define assert_true(x) ((x) ? (void)0 : cross_fail(__FILE__, __LINE__, "expected %s", #x))
#define assert_false(x) assert_true(!(x))
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_null(p) assert_true((p) == NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_string_not_equal(a, b) assert_true(strcmp(a, b) != 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)
#define assert_memory_not_equal(a, b, n) assert_true(memcmp(a, b, n) != 0)
#define assert_int_equal(a, b) cross_int_equal((intmax_t)(a), (intmax_t)(b), #a, __FILE__, __LINE__)

__attribute__((unused)) static void cross_int_equal(intmax_t a, intmax_t b, const char *what,
                                                    const char *file, int line) {
    if (a != b) {
        cross_fail(file, line, "%s: %jd, expected %jd", what, a, b);
    }
}

/* 0: passed, or why not. */
__attribute__((noinline)) static int cross_one(const struct CMUnitTest *test) {
    void *state = test->initial_state;
    int end = setjmp(cross_test_end);
    if (end != 0) {
        return end;
    }
    if (test->setup_func != NULL && test->setup_func(&state) != 0) {
        return CROSS_FAILED;
    }
    test->test_func(&state);
    return test->teardown_func != NULL && test->teardown_func(&state) != 0 ? CROSS_FAILED : 0;
}

static int cross_run(const struct CMUnitTest *tests, size_t n) {
    int failed = 0;
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        int end = cross_one(&tests[i]);
        failed += end == CROSS_FAILED;
        printf("%s %zu - %s%s\n", end == CROSS_FAILED ? "not ok" : "ok", i + 1, tests[i].name,
               end == CROSS_SKIPPED ? " # SKIP" : "");
        fflush(stdout);
    }
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown) cross_run(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
