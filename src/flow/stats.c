/* stats: calibration statistics as a file, collected once for many methods. */
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"
#include "calib/calib.h"
#include "flow/flow.h"
#include "flow/flow_calib.h"
#include "flow/flow_doc.h"
#include "flow/flow_finish.h"
#include "flow/flow_hash.h"
#include "flow/flow_paths.h"
#include "flow/flow_stats.h"
#include "quant/method.h"

#define OF_MATRIX "'halftone inspect' shows it, 'halftone imatrix merge' adds such files up"

/* ---- what to collect ------------------------------------------------------------------------------------------- */

static ht_status needs_of_one(const char *name, unsigned *needs, ht_err *err) {
    struct ht_recipe *recipe = ht_mem_alloc(sizeof *recipe);
    if (recipe == NULL) {
        return ht_fail_nomem(err, sizeof *recipe);
    }
    ht_status status = ht_flow_find_recipe(name, recipe, err);
    status = status == HT_OK ? ht_flow_stats_serve(recipe, err) : status;
    if (status == HT_OK && ht_method_find(name) == NULL && !ht_flow_stats_unordered(recipe)) {
        status = ht_flow_stats_refuse_order(name, err);
    }
    *needs |= status == HT_OK ? ht_recipe_needs(recipe) : 0;
    ht_mem_free(recipe);
    return status;
}

static ht_status needs_of(const ht_stats_options *o, unsigned *needs, ht_err *err) {
    *needs = o->n_methods == 0 ? HT_STATS_KEPT & ~(unsigned)HT_NEEDS_GRAM : 0;
    for (size_t i = 0; i < o->n_methods; i++) {
        HT_TRY(needs_of_one(o->methods[i], needs, err));
    }
    *needs |= o->gram ? HT_NEEDS_GRAM : 0;
    if (*needs == 0) {
        return ht_fail(err, HT_INVAL, "method", HT_NO_POS, "%s needs no statistics", o->methods[0]);
    }
    return HT_OK;
}

/* ---- what the file says of itself ------------------------------------------------------------------------------ */

static ht_status make_doc(struct ht_context *ctx, const struct ht_model *model, const json_t *data,
                          struct ht_doc *d, ht_err *err) {
    const struct ht_source *source = model->source;
    char name[256], hex[17];
    json_t *m = ht_doc_object(d, d->root, "model");
    ht_flow_base_name(source->path, name, sizeof name);
    ht_doc_set(d, m, "name", ht_doc_text(name, strlen(name)));
    ht_doc_set(d, m, "architecture", json_string(model->arch->name));
    HT_TRY(ht_flow_hash_files(ctx, name, source->maps, source->n_maps, hex, err));
    ht_doc_set(d, m, "xxh3", json_string(hex));
    HT_TRY(ht_flow_hash_norms(source, model->bindings, hex, err));
    ht_doc_set(d, m, "norms", json_string(hex));
    json_t *run = json_deep_copy(data);
    ht_doc_set(d, run, "math", json_string("exact"));
    ht_doc_append(d, ht_doc_array(d, d->root, "runs"), run);
    return d->failed ? ht_fail_nomem(err, 0) : HT_OK;
}

/* ---- records --------------------------------------------------------------------------------------------------- */

static void add_needs(struct ht_doc *d, const char *key, unsigned needs) {
    char text[192];
    ht_doc_set(d, d->root, key, needs != 0 ? json_string(ht_part_needs_text(needs, text, sizeof text)) : json_null());
}

static void add_file(struct ht_doc *d, const char *key, const char *path, const struct ht_stats_file *f) {
    ht_doc_set(d, d->root, key, ht_doc_text(path, strlen(path)));
    ht_doc_set(d, d->root, "bytes", json_integer((json_int_t)f->map.size));
    add_needs(d, "statistics", f->has);
    ht_doc_set(d, d->root, "groups", json_integer((json_int_t)f->n));
    ht_doc_set(d, d->root, "tokens", json_integer((json_int_t)f->groups[0].tokens));
    ht_doc_set(d, d->root, "model", json_deep_copy(json_object_get(f->doc, "model")));
    json_t *runs = json_deep_copy(json_object_get(f->doc, "runs")), *run;
    size_t i;
    json_array_foreach(runs, i, run) {
        json_object_del(run, "grams"); /* numbers for programs */
    }
    ht_doc_set(d, d->root, "runs", runs);
}

static ht_status record_of(const char *schema_key, const char *path, struct ht_doc *d, ht_err *err) {
    struct ht_stats_file *f;
    HT_TRY(ht_flow_stats_open(path, OF_MATRIX, &f, err));
    add_file(d, schema_key, path, f);
    ht_stats_file_close(f);
    return HT_OK;
}

/* ---- drivers --------------------------------------------------------------------------------------------------- */

static const char *spill_of(struct ht_context *ctx, const ht_stats_options *o, const struct ht_model *model,
                            const struct ht_calib_windows *w) {
    uint64_t all = ht_calib_layers_memory(model, w->n * w->window, w->window, ht_pool_threads(ctx->pool));
    return o->memory_bytes != 0 && all > o->memory_bytes ? o->output : NULL;
}

static void warn_data(struct ht_context *ctx, const ht_stats_options *o, const json_t *data, struct ht_doc *d) {
    char words[160];
    if (!ht_flow_calib_short(data, words, sizeof words)) {
        return;
    }
    if (o->tokens != UINT64_MAX) {
        ht_flow_calib_warn(ctx, d, words);
    } else {
        ht_log(ctx, HT_LOG_INFO, "%s", words);
        ht_doc_append(d, json_object_get(d->root, "warnings"), json_string(words));
    }
}

ht_status ht_flow_stats(struct ht_context *ctx, const ht_stats_options *o, char **json, ht_err *err) {
    struct ht_model *model = NULL;
    struct ht_calib_windows windows = {0};
    struct ht_finite mended = {0};
    json_t *data = NULL;
    struct ht_doc doc = {0}, record;
    double start = ht_sys_now(), cpu = ht_sys_cpu_seconds();
    uint64_t n_groups;
    unsigned needs;
    uint64_t tokens = o->tokens != UINT64_MAX ? o->tokens : 65536;
    const struct ht_calib_data_options how = HT_FLOW_CALIB(o, tokens, o->ctx);
    HT_TRY(needs_of(o, &needs, err));
    HT_TRY(ht_flow_calib_check(&how, NULL, err));
    HT_TRY(ht_flow_check_place(o->output, false, o->force, err));
    HT_TRY(ht_flow_check_inputs(o->output, o->calib, o->n_calib, err));
    HT_TRY(ht_flow_check_inputs(o->output, o->not_in, o->n_not_in, err));
    ht_doc_init(&record, "halftone.stats/1");
    ht_doc_array(&record, record.root, "warnings");
    doc.root = json_object();
    ht_status status;
    HT_TRY_DONE(ht_model_load(o->model, &model, err));
    HT_TRY_DONE(ht_flow_check_output(model->source, o->output, err));
    HT_TRY_DONE(ht_flow_calib_ready(ctx, model, o->ctx, o->allow_nonfinite, &mended, &record, err));
    HT_TRY_DONE(ht_calib_data(ctx, model, &how, &windows, &data, err));
    HT_TRY_DONE(make_doc(ctx, model, data, &doc, err));
    HT_TRY_DONE(ht_calib_stats(ctx, model, &windows, needs, spill_of(ctx, o, model, &windows), doc.root, o->output,
                               o->force, &n_groups, err));
    HT_TRY_DONE(record_of("output", o->output, &record, err));
    warn_data(ctx, o, data, &record);
    ht_flow_record_cost(&record, ctx, start, cpu);
    status = ht_doc_finish(&record, json, err);
done:
    ht_doc_deinit(&record);
    ht_doc_deinit(&doc);
    json_decref(data);
    ht_calib_windows_deinit(&windows);
    ht_model_unload(model);
    ht_finite_deinit(&mended);
    return status;
}

/* Texts that two runs have in common count twice. */
static void warn_doubles(struct ht_context *ctx, const json_t *runs, json_t *warnings) {
    json_t *seen = json_object(), *run, *text;
    size_t i, k;
    json_array_foreach(runs, i, run) {
        json_array_foreach(json_object_get(run, "sources"), k, text) {
            const char *sha = json_string_value(json_object_get(text, "sha256"));
            const char *path = json_string_value(json_object_get(text, "path"));
            const json_t *at = sha != NULL ? json_object_get(seen, sha) : NULL;
            if (at != NULL && json_integer_value(at) != (json_int_t)i) {
                char line[512];
                snprintf(line, sizeof line, "%.200s was collected by several of the files: it counts as often",
                         path != NULL ? path : sha);
                ht_log(ctx, HT_LOG_WARN, "%s", line);
                json_array_append_new(warnings, ht_doc_text(line, strlen(line)));
            } else if (sha != NULL) {
                json_object_set_new(seen, sha, json_integer((json_int_t)i));
            }
        }
    }
    json_decref(seen);
}

ht_status ht_flow_stats_merge(struct ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                              bool force, char **json, ht_err *err) {
    struct ht_stats_file **files = NULL;
    struct ht_doc d;
    unsigned dropped = 0;
    HT_TRY(ht_flow_check_inputs(output, inputs, n, err));
    HT_TRY(ht_flow_check_place(output, false, force, err));
    ht_doc_init(&d, "halftone.stats/1");
    ht_status status = HT_OK;
    files = ht_mem_calloc(n, sizeof *files);
    if (files == NULL) {
        status = ht_fail_nomem(err, n * sizeof *files);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        HT_TRY_DONE(ht_flow_stats_open(inputs[i], OF_MATRIX, &files[i], err));
    }
    HT_TRY_DONE(ht_stats_file_merge((const struct ht_stats_file *const *)files, n, output, force, &dropped, err));
    json_t *list = ht_doc_array(&d, d.root, "inputs");
    for (size_t i = 0; i < n; i++) {
        ht_doc_append(&d, list, ht_doc_text(inputs[i], strlen(inputs[i])));
    }
    HT_TRY_DONE(record_of("output", output, &d, err));
    add_needs(&d, "dropped", dropped);
    if (dropped != 0) {
        char text[192];
        ht_log(ctx, HT_LOG_WARN, "not all files have these, so the sum has none: %s",
               ht_part_needs_text(dropped, text, sizeof text));
    }
    json_t *warnings = ht_doc_array(&d, d.root, "warnings");
    warn_doubles(ctx, json_object_get(d.root, "runs"), warnings);
    status = ht_doc_finish(&d, json, err);
done:
    for (size_t i = 0; files != NULL && i < n; i++) {
        ht_stats_file_close(files[i]);
    }
    ht_mem_free(files);
    ht_doc_deinit(&d);
    return status;
}

/* One row per group: what people look at first is how far inputs reach beyond their usual size. */
static ht_status add_group(struct ht_doc *d, json_t *rows, const struct ht_stats_file *f,
                           const struct ht_stats_group *g, ht_err *err) {
    struct ht_stats_values v;
    HT_TRY(ht_stats_file_load(f, g, HT_NEEDS_MEAN_SQUARE | HT_NEEDS_ABSMAX, &v, err));
    json_t *o = json_object(), *linears = ht_doc_array(d, o, "linears");
    for (size_t i = 0; i < g->n_linears; i++) {
        ht_doc_append(d, linears, json_string(g->linears[i]));
    }
    ht_doc_set(d, o, "cols", json_integer((json_int_t)g->cols));
    ht_doc_set(d, o, "tokens", json_integer((json_int_t)g->tokens));
    double sum = 0, most = 0;
    uint64_t dead = 0;
    for (uint64_t j = 0; j < g->cols; j++) {
        sum += v.stats.mean_square != NULL ? v.stats.mean_square[j] : 0;
        dead += v.stats.absmax != NULL && v.stats.absmax[j] == 0;
        most = v.stats.absmax != NULL && v.stats.absmax[j] > most ? v.stats.absmax[j] : most;
    }
    ht_doc_set(d, o, "mean_square", v.stats.mean_square != NULL ? ht_doc_real(sum / (double)g->cols) : json_null());
    ht_doc_set(d, o, "absmax", v.stats.absmax != NULL ? ht_doc_real(most) : json_null());
    ht_doc_set(d, o, "dead_inputs", v.stats.absmax != NULL ? json_integer((json_int_t)dead) : json_null());
    ht_doc_append(d, rows, o);
    ht_stats_values_deinit(&v);
    return HT_OK;
}

ht_status ht_flow_stats_show(struct ht_context *ctx, const char *path, char **json, ht_err *err) {
    struct ht_stats_file *f;
    struct ht_doc d;
    (void)ctx;
    HT_TRY(ht_flow_stats_open(path, OF_MATRIX, &f, err));
    ht_doc_init(&d, "halftone.stats/1");
    add_file(&d, "path", path, f);
    json_t *rows = ht_doc_array(&d, d.root, "inputs_of");
    ht_status status = HT_OK;
    for (size_t i = 0; i < f->n && status == HT_OK; i++) {
        status = add_group(&d, rows, f, &f->groups[i], err);
    }
    status = status == HT_OK ? ht_doc_finish(&d, json, err) : status;
    ht_doc_deinit(&d);
    ht_stats_file_close(f);
    return status;
}
