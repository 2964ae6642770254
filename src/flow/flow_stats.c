/* Statistics files as other commands want them: is it one, whom does it serve, what else can be made of it. */
#include "flow/flow_stats.h"

#include "base/json.h"
#include "quant/fold_job.h"

ht_status ht_flow_stats_open(const char *path, const char *matrix, struct ht_stats_file **file, ht_err *err) {
    struct ht_err why = {0};
    struct ht_imatrix *m = NULL;
    ht_status status = ht_stats_file_open(path, file, &why);
    if (status == HT_FORMAT && ht_imatrix_load(path, &m, NULL) == HT_OK) {
        ht_imatrix_free(m);
        return ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                       "it is an importance matrix, not a file of statistics: %s, and 'halftone stats collect' makes "
                       "statistics",
                       matrix);
    }
    if (status != HT_OK && err != NULL && err->code == HT_OK) {
        *err = why;
    }
    return status;
}

/* Scales can be followed: inputs are divided by them. What else a transform does to inputs cannot. */
static const struct ht_part *not_followed(const struct ht_recipe *recipe) {
    static ht_part_fold *const followed[] = {ht_fold_job_migrate, ht_fold_job_search, ht_fold_job_clip,
                                             ht_fold_job_equalize};
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < w->n_transforms; i++) {
        ht_part_fold *fold = w->transforms[i].part->fold;
        bool ok = fold == NULL;
        for (size_t k = 0; k < sizeof followed / sizeof followed[0]; k++) {
            ok |= fold == followed[k];
        }
        if (!ok) {
            return w->transforms[i].part;
        }
    }
    return NULL;
}

ht_status ht_flow_stats_serve(const struct ht_recipe *recipe, ht_err *err) {
    unsigned more = ht_recipe_needs(recipe) & ~(unsigned)HT_STATS_KEPT;
    const struct ht_part *transform = not_followed(recipe);
    char text[192];
    if (more != 0) {
        return ht_fail(err, HT_UNSUPPORTED, recipe->name, HT_NO_POS,
                       "it needs what no file of statistics holds: %s; quantize with --calib TEXT in place of --stats",
                       ht_part_needs_text(more, text, sizeof text));
    }
    if (transform != NULL) {
        return ht_fail(err, HT_UNSUPPORTED, recipe->name, HT_NO_POS,
                       "transform %s changes inputs in a way that their statistics do not tell; quantize with --calib "
                       "TEXT in place of --stats",
                       transform->name);
    }
    return HT_OK;
}

bool ht_flow_stats_unordered(const struct ht_recipe *recipe) {
    bool beyond = (ht_recipe_needs(recipe) & ~(unsigned)HT_NEEDS_MEAN_SQUARE) != 0;
    return !recipe->calibration.sequential || !beyond;
}

ht_status ht_flow_stats_refuse_order(const char *path, ht_err *err) {
    return ht_fail(err, HT_INVAL, path, HT_NO_POS,
                   "it calibrates each layer on what the quantized layers before it give, and statistics hold what the "
                   "unquantized ones gave: say 'calibration: {sequential: false}', or quantize with --calib TEXT in "
                   "place of --stats");
}

/* ---- as an importance matrix ----------------------------------------------------------------------------------- */

static ht_status add_entries(const struct ht_stats_file *f, const struct ht_stats_group *g, struct ht_imatrix *m,
                             ht_err *err) {
    struct ht_stats_values v;
    bool square = (f->has & HT_NEEDS_MEAN_SQUARE) != 0;
    HT_TRY(ht_stats_file_load(f, g, square ? HT_NEEDS_MEAN_SQUARE : HT_NEEDS_GRAM, &v, err));
    ht_status status = HT_OK;
    for (size_t i = 0; i < g->n_linears && status == HT_OK; i++) {
        struct ht_imatrix_entry *e;
        status = ht_imatrix_entry(m, g->linears[i], g->cols, 1, &e, err);
        for (uint64_t j = 0; j < g->cols && status == HT_OK; j++) {
            float mean = square ? v.stats.mean_square[j] : v.stats.gram[j * g->cols + j];
            e->sum2[j] = (float)((double)mean * (double)g->tokens);
        }
        if (status == HT_OK) {
            e->count[0] = (float)g->tokens;
        }
    }
    ht_stats_values_deinit(&v);
    return status;
}

static ht_status add_datasets(const struct ht_stats_file *f, struct ht_imatrix *m, ht_err *err) {
    json_t *run, *text;
    size_t i, k;
    json_array_foreach(json_object_get(f->doc, "runs"), i, run) {
        uint64_t windows = 0, window = 0;
        HT_TRY(ht_json_get_u64(run, "windows", UINT32_MAX - m->chunk_count, f->what, &windows, err));
        HT_TRY(ht_json_get_u64(run, "window", UINT32_MAX, f->what, &window, err));
        m->chunk_count += (uint32_t)windows;
        m->chunk_size = i == 0 || m->chunk_size == window ? (uint32_t)window : 0; /* 0: several */
        json_array_foreach(json_object_get(run, "sources"), k, text) {
            const char *path = json_string_value(json_object_get(text, "path"));
            HT_TRY(path != NULL ? ht_imatrix_dataset(m, path, err) : HT_OK);
        }
    }
    m->chunk_size = m->chunk_size != 0 ? m->chunk_size : 1; /* 0 would mean counts of chunks */
    return HT_OK;
}

ht_status ht_stats_to_imatrix(const struct ht_stats_file *f, struct ht_imatrix **imatrix, ht_err *err) {
    *imatrix = NULL;
    if ((f->has & (HT_NEEDS_MEAN_SQUARE | HT_NEEDS_GRAM)) == 0) {
        return ht_fail(err, HT_INVAL, f->what, HT_NO_POS, "it holds no mean squares, so no importance");
    }
    struct ht_imatrix *m;
    HT_TRY(ht_imatrix_new(&m, err));
    ht_status status = add_datasets(f, m, err);
    for (size_t i = 0; i < f->n && status == HT_OK; i++) {
        status = add_entries(f, &f->groups[i], m, err);
    }
    if (status != HT_OK) {
        ht_imatrix_free(m);
        return status;
    }
    *imatrix = m;
    return HT_OK;
}
