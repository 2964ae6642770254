#include <string.h>

#include "base/sys.h"
#include "calib/calib.h"
#include "flow/flow.h"
#include "flow/flow_calib.h"
#include "flow/flow_doc.h"
#include "flow/flow_finish.h"
#include "flow/flow_paths.h"
#include "flow/flow_stats.h"

/* A file name that ends in .dat gets llama.cpp's old layout (ht_imatrix_save decides the same way). */
static const char *layout_of(const char *output) {
    size_t n = strlen(output);
    return n >= 4 && strcmp(output + n - 4, ".dat") == 0 ? "dat" : "gguf";
}

static void set_text(struct ht_doc *d, const char *key, const char *s) {
    ht_doc_set(d, d->root, key, ht_doc_text(s, strlen(s)));
}

static void set_count(struct ht_doc *d, const char *key, uint64_t n) {
    ht_doc_set(d, d->root, key, json_integer((json_int_t)n));
}

static void set_names(struct ht_doc *d, const char *key, const char *const *names, size_t n) {
    json_t *array = ht_doc_array(d, d->root, key);
    for (size_t i = 0; i < n; i++) {
        ht_doc_append(d, array, ht_doc_text(names[i], strlen(names[i])));
    }
}

/* What both records say of the matrix. */
static void add_matrix(struct ht_doc *d, const struct ht_imatrix *m, const char *output) {
    set_names(d, "texts", m->datasets, m->n_datasets);
    set_text(d, "output", output);
    set_text(d, "layout", layout_of(output));
    set_count(d, "entries", m->n);
    set_count(d, "ctx", m->chunk_size);
    set_count(d, "windows", m->chunk_count);
}

ht_status ht_flow_imatrix(struct ht_context *ctx, const ht_imatrix_options *options, char **json, ht_err *err) {
    struct ht_finite mended = {0};
    struct ht_model *model = NULL;
    struct ht_doc d;
    struct ht_imatrix *m = NULL;
    double start = ht_sys_now(), cpu = ht_sys_cpu_seconds();
    ht_status status;
    HT_TRY(ht_flow_check_place(options->output, false, options->force, err));
    HT_TRY(ht_flow_check_inputs(options->output, options->texts, options->n_texts, err));
    ht_doc_init(&d, "halftone.imatrix/1");
    ht_doc_array(&d, d.root, "warnings");
    HT_TRY_DONE(ht_model_load(options->model, &model, err));
    HT_TRY_DONE(ht_flow_check_output(model->source, options->output, err));
    HT_TRY_DONE(ht_flow_calib_ready(ctx, model, options->ctx, options->allow_nonfinite, &mended, &d, err));
    enum ht_math math = options->exact ? HT_MATH_EXACT : HT_MATH_FAST;
    HT_TRY_DONE(ht_calib_imatrix(ctx, model, options->texts, options->n_texts, options->tokens, options->ctx,
                                 math, &m, err));
    HT_TRY_DONE(ht_source_check(model->source, err));
    HT_TRY_DONE(ht_imatrix_save(m, options->output, options->force, err));
    uint64_t tokens = (uint64_t)m->chunk_size * m->chunk_count;
    set_text(&d, "model", options->model);
    add_matrix(&d, m, options->output);
    set_count(&d, "tokens", tokens);
    set_text(&d, "math", options->exact ? "exact" : "fast");
    ht_doc_set(&d, d.root, "tokens_per_s", ht_doc_real((double)tokens / (ht_sys_now() - start)));
    ht_flow_record_cost(&d, ctx, start, cpu);
    status = ht_doc_finish(&d, json, err);
done:
    ht_doc_deinit(&d);
    ht_imatrix_free(m);
    ht_model_unload(model);
    ht_finite_deinit(&mended);
    return status;
}

/* An importance file, or the mean squares of a statistics file. */
static ht_status load(const char *path, struct ht_imatrix **m, ht_err *err) {
    struct ht_stats_file *stats;
    *m = NULL;
    if (!ht_stats_file_probe(path)) {
        return ht_imatrix_load(path, m, err);
    }
    HT_TRY(ht_stats_file_open(path, &stats, err));
    ht_status status = ht_stats_to_imatrix(stats, m, err);
    ht_stats_file_close(stats);
    return status;
}

ht_status ht_flow_imatrix_merge(struct ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                                bool force, char **json, ht_err *err) {
    struct ht_imatrix *sum = NULL, *next = NULL;
    ht_status status = HT_OK;
    (void)ctx;
    if (n == 0) {
        return ht_fail(err, HT_INVAL, "inputs", HT_NO_POS, "nothing to merge: give at least one imatrix file");
    }
    HT_TRY(ht_flow_check_inputs(output, inputs, n, err));
    HT_TRY(ht_flow_check_place(output, false, force, err));
    HT_TRY_DONE(load(inputs[0], &sum, err));
    for (size_t i = 1; i < n; i++) {
        HT_TRY_DONE(load(inputs[i], &next, err));
        HT_TRY_DONE(ht_imatrix_add(sum, next, err));
        ht_imatrix_free(next);
        next = NULL;
    }
    HT_TRY_DONE(ht_imatrix_save(sum, output, force, err));
    struct ht_doc d;
    ht_doc_init(&d, "halftone.imatrix/1");
    set_names(&d, "inputs", inputs, n);
    add_matrix(&d, sum, output);
    status = ht_doc_finish(&d, json, err);
done:
    ht_imatrix_free(next);
    ht_imatrix_free(sum);
    return status;
}
