/* Runs of quantize with a recipe given in words, on small models. */
#ifndef HT_TESTS_UNIT_TURN_TEST_H
#define HT_TESTS_UNIT_TURN_TEST_H

#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "flow_test.h"
#include "model/model.h"
#include "model/session.h"

#define GOLDEN HT_TEST_DIR "/golden/models/"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};
static int seen, stop_at; /* calls in stage "round"; 0: never stop */

static inline int stop(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "round") == 0 && ++seen == stop_at;
}

/* what: a recipe's lines behind its name; or a method's name. calib: with text. */
static inline ht_status quantize(const struct fixture *f, int threads, const char *input, const char *output, const char *what,
                          bool calib, ht_err *err) {
    ht_context *ctx = make_context(threads, stop, NULL);
    char *recipe = ht_path_join(f->dir, "recipe.yaml"), text[1024];
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = input;
    o.output = output;
    if (strchr(what, ':') != NULL) {
        snprintf(text, sizeof text, "name: test\nsummary: \"test\"\n%s\n", what);
        ASSERT_OK(ht_write_file(recipe, text, strlen(text), true, err), err);
        o.recipe = recipe;
    } else {
        o.method = what;
    }
    if (calib) {
        o.calib = TEXT;
        o.n_calib = 1;
        o.calib_tokens = 256;
        o.ctx = 64;
    }
    seen = 0;
    ht_status status = ht_quantize(ctx, &o, NULL, err);
    ht_context_free(ctx);
    ht_mem_free(recipe);
    return status;
}

#endif
