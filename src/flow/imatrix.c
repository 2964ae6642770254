#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"
#include "calib/calib.h"
#include "flow/flow.h"
#include "flow/flow_paths.h"

/* A file name that ends in .dat gets llama.cpp's old layout (ht_imatrix_save decides the same way). */
static const char *layout_of(const char *output) {
    size_t n = strlen(output);
    return n >= 4 && strcmp(output + n - 4, ".dat") == 0 ? "dat" : "gguf";
}

static ht_status finish(json_t *record, char **json, ht_err *err) {
    char *text;
    ht_status status = ht_json_text(record, &text, err);
    json_decref(record);
    if (status == HT_OK && json != NULL) {
        *json = text;
    } else {
        ht_mem_free(text);
    }
    return status;
}

static json_t *text_names(const struct ht_imatrix *m) {
    json_t *array = json_array();
    for (size_t i = 0; i < m->n_datasets; i++) {
        json_array_append_new(array, json_string(m->datasets[i]));
    }
    return array;
}

ht_status ht_flow_imatrix(struct ht_context *ctx, const ht_imatrix_options *options, char **json, ht_err *err) {
    struct ht_model *model = NULL;
    struct ht_imatrix *m = NULL;
    double start = ht_sys_now(), cpu = ht_sys_cpu_seconds();
    ht_status status;
    if (!options->force && ht_path_exists(options->output)) {
        return ht_fail(err, HT_EXISTS, options->output, HT_NO_POS,
                       "the output exists already; choose another name or replace it with force");
    }
    HT_TRY(ht_flow_check_inputs(options->output, options->texts, options->n_texts, err));
    HT_TRY_DONE(ht_model_load(options->model, &model, err));
    HT_TRY_DONE(ht_flow_check_output(model->source, options->output, options->force, err));
    enum ht_math math = options->exact ? HT_MATH_EXACT : HT_MATH_FAST;
    HT_TRY_DONE(ht_calib_imatrix(ctx, model, options->texts, options->n_texts, options->tokens, options->ctx,
                                 math, &m, err));
    HT_TRY_DONE(ht_source_check(model->source, err));
    HT_TRY_DONE(ht_imatrix_save(m, options->output, options->force, err));
    double seconds = ht_sys_now() - start;
    uint64_t tokens = (uint64_t)m->chunk_size * m->chunk_count;
    json_t *record = json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:I, s:i}", "schema",
        "halftone.imatrix/1", "version", ht_version(), "model", options->model, "texts", text_names(m), "tokens",
        (json_int_t)tokens, "windows", (json_int_t)m->chunk_count, "ctx", (json_int_t)m->chunk_size, "math",
        options->exact ? "exact" : "fast", "output", options->output, "layout", layout_of(options->output),
        "entries", (json_int_t)m->n, "seconds", seconds, "cpu_seconds", ht_sys_cpu_seconds() - cpu,
        "tokens_per_s", (double)tokens / seconds, "peak_rss_bytes", (json_int_t)ht_sys_peak_rss_bytes(),
        "threads", ht_pool_threads(ctx->pool));
    status = finish(record, json, err);
done:
    ht_imatrix_free(m);
    ht_model_unload(model);
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
    HT_TRY_DONE(ht_imatrix_load(inputs[0], &sum, err));
    for (size_t i = 1; i < n; i++) {
        HT_TRY_DONE(ht_imatrix_load(inputs[i], &next, err));
        HT_TRY_DONE(ht_imatrix_add(sum, next, err));
        ht_imatrix_free(next);
        next = NULL;
    }
    HT_TRY_DONE(ht_imatrix_save(sum, output, force, err));
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(names, json_string(inputs[i]));
    }
    json_t *record =
        json_pack("{s:s, s:s, s:o, s:o, s:s, s:s, s:I, s:I, s:I}", "schema", "halftone.imatrix/1", "version",
                  ht_version(), "inputs", names, "texts", text_names(sum), "output", output, "layout",
                  layout_of(output), "entries", (json_int_t)sum->n, "ctx", (json_int_t)sum->chunk_size, "windows",
                  (json_int_t)sum->chunk_count);
    status = finish(record, json, err);
done:
    ht_imatrix_free(next);
    ht_imatrix_free(sum);
    return status;
}
