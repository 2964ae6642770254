#include "eval/eval.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"
#include "calib/sketch.h"
#include "eval/eval_json.h"

#define RESAMPLES_MIN 100u
#define RESAMPLES_MAX 1000000u

static ht_status check_options(const ht_eval_options *o, ht_err *err) {
    if (o->model == NULL || o->n_texts == 0) {
        return ht_fail(err, HT_INVAL, o->model == NULL ? "model" : "text", HT_NO_POS,
                       "an evaluation needs a model and at least one text file");
    }
    if (o->ctx < 4 || o->ctx > HT_MAX_CONTEXT) {
        return ht_fail(err, HT_INVAL, "ctx", HT_NO_POS, "a window of %u tokens: 4 to %u are possible, 512 is usual",
                       o->ctx, HT_MAX_CONTEXT);
    }
    if (o->resamples < RESAMPLES_MIN || o->resamples > RESAMPLES_MAX) {
        return ht_fail(err, HT_INVAL, "resamples", HT_NO_POS,
                       "%u resamples: %u to %u are possible, 2000 is usual", o->resamples, RESAMPLES_MIN,
                       RESAMPLES_MAX);
    }
    if (o->fail_if_kld > 0 && o->reference == NULL) {
        return ht_fail(err, HT_INVAL, "fail-if-kld", HT_NO_POS,
                       "a bound on the KL divergence needs a reference model");
    }
    if (o->tokens != 0 && o->tokens < o->ctx) {
        return ht_fail(err, HT_INVAL, "tokens", HT_NO_POS,
                       "%llu tokens do not fill one window of %u; ask for more tokens or a smaller window",
                       (unsigned long long)o->tokens, o->ctx);
    }
    return HT_OK;
}

/* Both tokenizers must read the text alike, or position i is not the same place in it. */
static ht_status same_ids(const struct ht_lockstep *ls, const struct ht_calib_text *text,
                          const struct ht_ids *ids, const char *path, ht_err *err) {
    struct ht_ids other = {0};
    ht_status status = ht_calib_text_ids(ls->reference.model, text, &other, NULL, err);
    size_t i = 0;
    while (status == HT_OK && i < ids->n && i < other.n && ids->ids[i] == other.ids[i]) {
        i++;
    }
    if (status == HT_OK && (i < ids->n || i < other.n)) {
        status = ht_fail(err, HT_INVAL, path, HT_NO_POS,
                         "model and reference split the text differently, first at token %zu (%d and %d; -1: "
                         "none): their tokenizers differ, so their distributions cannot be compared",
                         i, i < ids->n ? ids->ids[i] : -1, i < other.n ? other.ids[i] : -1);
    }
    ht_mem_free(other.ids);
    return status;
}

/* Files of ours carry a sketch of what they were calibrated on. */
static double calibrated_share(const struct ht_model *model, const int32_t *ids, uint64_t n) {
    struct ht_sketch sketch;
    uint64_t looked, shared;
    if (!ht_sketch_from_meta(&model->source->meta, &sketch)) {
        return -1;
    }
    double share = ht_sketch_share(&sketch, ids, n, &looked, &shared);
    return shared > 1 ? share : 0; /* one of few says nothing */
}

static ht_status load_text(const struct ht_lockstep *ls, const ht_eval_options *o, const char *path,
                           struct ht_eval_text *text, struct ht_ids *ids, ht_err *err) {
    struct ht_calib_text file;
    HT_TRY(ht_calib_text_read(path, &file, err));
    text->path = path;
    text->file_bytes = file.file_bytes;
    memcpy(text->sha256, file.sha256, sizeof text->sha256);
    ht_status status = ht_calib_text_ids(ls->model.model, &file, ids, &text->n_invalid, err);
    if (status == HT_OK && ls->reference.model != NULL) {
        status = same_ids(ls, &file, ids, path, err);
    }
    ht_calib_text_deinit(&file);
    HT_TRY(status);
    text->tokens = ids->n;
    uint64_t windows = ids->n / o->ctx, most = o->tokens / o->ctx;
    text->windows = (size_t)(o->tokens != 0 && windows > most ? most : windows);
    if (text->windows == 0) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS,
                       "the text has %zu tokens, one window needs %u; use a longer text or a smaller window",
                       ids->n, o->ctx);
    }
    text->calibrated = calibrated_share(ls->model.model, ids->ids, (uint64_t)text->windows * o->ctx);
    return HT_OK;
}

static ht_status run_texts(struct ht_lockstep *ls, const ht_eval_options *o, struct ht_eval_text *texts,
                           const struct ht_ids *ids, struct ht_tally *tally, ht_err *err) {
    uint64_t total = 0;
    for (size_t i = 0; i < o->n_texts; i++) {
        texts[i].first = (size_t)total;
        total += texts[i].windows;
    }
    struct ht_meter meter;
    ht_meter_init(&meter, ls->ctx, "evaluate", "tokens", total * o->ctx);
    ht_lockstep_watch(ls, &meter);
    ht_status status = HT_OK;
    for (size_t i = 0; i < o->n_texts; i++) {
        for (size_t w = 0; w < texts[i].windows; w++) {
            HT_TRY_DONE(ht_lockstep_window(ls, ids[i].ids + w * o->ctx, w, texts[i].path, err));
            HT_TRY_DONE(ht_tally_add(tally, ls->scores, err));
            HT_TRY_DONE(ht_meter_tell(&meter, (uint64_t)tally->n * o->ctx, 0, texts[i].path, err));
        }
    }
done:
    ht_lockstep_watch(ls, NULL);
    return status;
}

/* Figures of files that changed under the reader belong to no file. */
static ht_status check_sources(const struct ht_lockstep *ls, ht_err *err) {
    HT_TRY(ht_source_check(ls->model.model->source, err));
    return ls->reference.model != NULL ? ht_source_check(ls->reference.model->source, err) : HT_OK;
}

static ht_status summarize(const ht_eval_options *o, const struct ht_tally *tally, struct ht_eval_text *texts,
                           struct ht_summary *total, ht_err *err) {
    for (size_t i = 0; i < o->n_texts; i++) {
        struct ht_summary *s = &texts[i].summary;
        HT_TRY(ht_tally_summary(tally, texts[i].first, texts[i].windows, o->resamples, o->seed, s, err));
        s->max_window += texts[i].first;
    }
    return ht_tally_summary(tally, 0, tally->n, o->resamples, o->seed, total, err);
}

static void fill_result(const struct ht_summary *s, const struct ht_lockstep *ls, ht_eval_result *result) {
    *result = (ht_eval_result){.tokens_scored = s->tokens_scored,
                               .windows = s->windows,
                               .perplexity = s->perplexity,
                               .has_reference = ls->reference.model != NULL,
                               .reference_perplexity = s->reference_perplexity,
                               .kld = s->kld,
                               .same_top = s->same_top,
                               .kld_p99 = s->kld_p99.mean,
                               .kld_max = s->kld_max,
                               .kld_median = s->kld_median,
                               .tokens_per_s = (double)ls->model.tokens / ls->model.seconds};
}

ht_status ht_eval_run(struct ht_context *ctx, const ht_eval_options *options, ht_eval_result *result,
                      char **json, ht_err *err) {
    HT_TRY(check_options(options, err));
    double start = ht_sys_now(), cpu = ht_sys_cpu_seconds();
    struct ht_lockstep ls;
    HT_TRY(ht_lockstep_init(&ls, ctx, options, err));
    struct ht_tally tally;
    ht_tally_init(&tally, ls.per_window, options->reference != NULL);
    struct ht_eval_text *texts = ht_mem_calloc(options->n_texts, sizeof *texts);
    struct ht_ids *ids = ht_mem_calloc(options->n_texts, sizeof *ids);
    struct ht_eval_report report = {.options = options, .lockstep = &ls, .texts = texts};
    json_t *record = NULL;
    ht_status status = HT_OK;
    if (texts == NULL || ids == NULL) {
        status = ht_fail_nomem(err, options->n_texts * sizeof *texts);
        goto done;
    }
    for (size_t i = 0; i < options->n_texts; i++) {
        HT_TRY_DONE(load_text(&ls, options, options->texts[i], &texts[i], &ids[i], err));
    }
    HT_TRY_DONE(run_texts(&ls, options, texts, ids, &tally, err));
    HT_TRY_DONE(check_sources(&ls, err));
    HT_TRY_DONE(summarize(options, &tally, texts, &report.total, err));
    report.seconds = ht_sys_now() - start;
    report.cpu_seconds = ht_sys_cpu_seconds() - cpu;
    if (result != NULL) {
        fill_result(&report.total, &ls, result);
    }
    if (json != NULL) {
        record = ht_eval_record(&report);
        HT_TRY_DONE(ht_json_text(record, json, err));
    }
    if (options->fail_if_kld > 0 && !(report.total.kld.mean <= options->fail_if_kld)) {
        status = ht_fail(err, HT_GATE, options->model, HT_NO_POS,
                         "mean KL divergence %.6f [%.6f, %.6f] is above the bound of %.6f",
                         report.total.kld.mean, report.total.kld.low, report.total.kld.high,
                         options->fail_if_kld);
    }
done:
    json_decref(record);
    for (size_t i = 0; ids != NULL && i < options->n_texts; i++) {
        ht_mem_free(ids[i].ids);
    }
    ht_mem_free(ids);
    ht_mem_free(texts);
    ht_tally_deinit(&tally);
    ht_lockstep_deinit(&ls);
    return status;
}
