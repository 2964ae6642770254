/* Included first by every unit test: cmocka and its prerequisites. A test program's main returns
 * cmocka_run_group_tests(...); the runner (tools/run-tests) reads TAP. */
#ifndef HT_TESTS_TEST_H
#define HT_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/context.h"
#include "base/error.h"

/* More threads than most machines that test have cores. A sanitizer makes each of their meetings cost milliseconds. */
#ifdef HT_SANITIZED
#define MANY_THREADS 3
#else
#define MANY_THREADS 7
#endif

/* Fails with the library's message. */
#define ASSERT_OK(expr, err)                                                                      \
    do {                                                                                          \
        ht_status st_ = (expr);                                                                   \
        if (st_ != HT_OK) {                                                                       \
            fail_msg("%s: %s: %s: %s", #expr, ht_status_text(st_), (err)->what, (err)->msg);      \
        }                                                                                         \
    } while (0)

/* Folder of reference models (HT_REF_DIR), or NULL: then the test calls skip(). */
static inline const char *ref_dir(void) {
    return getenv("HT_REF_DIR");
}

/* progress may be NULL; it is called at every step, however fast the machine. */
static inline ht_context *make_context(int threads, ht_progress_fn *progress, void *user) {
    ht_context_options o;
    ht_context *ctx;
    ht_err err = {0};
    ht_context_options_defaults(&o);
    o.threads = threads;
    o.progress = progress;
    o.user = user;
    ASSERT_OK(ht_context_new(&o, &ctx, &err), &err);
    ctx->tell_every_s = 0;
    return ctx;
}

#endif
