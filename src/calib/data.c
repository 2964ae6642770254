/* Calibration data, from sources to windows. */
#include "calib/data.h"

#include <stdio.h>
#include <strings.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "calib/data_impl.h"

enum sampling { SEQUENTIAL, RANDOM, DIVERSE, SAMPLINGS };
static const char *const sampling_names[SAMPLINGS] = {"sequential", "random", "diverse"};

static const char *sampling_name_at(const void *unused, size_t i) {
    (void)unused;
    return sampling_names[i];
}

static ht_status parse_sampling(const char *name, enum sampling *sampling, ht_err *err) {
    char near[64];
    *sampling = SEQUENTIAL;
    for (int i = 0; name != NULL && i < SAMPLINGS; i++) {
        if (strcasecmp(name, sampling_names[i]) == 0) {
            *sampling = (enum sampling)i;
            return HT_OK;
        }
    }
    if (name == NULL) {
        return HT_OK;
    }
    ht_nearest(name, sampling_name_at, NULL, SAMPLINGS, near, sizeof near);
    return ht_fail(err, HT_INVAL, "sampling", HT_NO_POS,
                   "expected sequential, random or diverse, found '%.40s'%s%s", name,
                   near[0] != '\0' ? "; did you mean " : "", near);
}

static ht_status check(const struct ht_calib_data_options *o, ht_err *err) {
    uint64_t sum = 0;
    if (o->n_sources == 0 || o->window < 2) {
        return ht_fail(err, HT_INVAL, o->n_sources ? "ctx" : "calib", HT_NO_POS,
                       "calibration needs at least one text and a window of at least 2 tokens");
    }
    for (size_t i = 0; i < o->n_weights; i++) {
        sum += o->weights[i];
    }
    if (o->n_weights != 0 && (o->n_weights != o->n_sources || sum == 0)) {
        return ht_fail(err, HT_INVAL, "calib-weights", HT_NO_POS,
                       "%zu weights for %zu sources; expected one for each, not all of them 0", o->n_weights,
                       o->n_sources);
    }
    if (o->n_weights != 0 && o->tokens == 0) {
        return ht_fail(err, HT_INVAL, "calib-weights", HT_NO_POS,
                       "shares are of a number of tokens, and all of the text was asked for; say how many");
    }
    if (o->tokens != 0 && o->tokens < o->window) {
        return ht_fail(err, HT_INVAL, "tokens", HT_NO_POS,
                       "%llu tokens do not fill one window of %u; ask for more tokens or a smaller window",
                       (unsigned long long)o->tokens, o->window);
    }
    for (size_t i = 0; i < o->n_sources && o->tokens == 0; i++) {
        if (strcmp(o->sources[i], HT_CALIB_SELF) == 0) {
            return ht_fail(err, HT_INVAL, "tokens", HT_NO_POS,
                           "a model has no end of text to write: say how many tokens");
        }
    }
    return HT_OK;
}

/* ---- overlap
 * ----------------------------------------------------------------------------------------------- */

static ht_status check_overlap(const struct ht_data *d, ht_err *err) {
    for (size_t i = 0; i < d->o->n_sources && !d->o->drop_overlap; i++) {
        const struct ht_data_source *s = &d->sources[i];
        if (s->dropped[HT_DROP_OVERLAP] != 0) {
            return ht_fail(
                err, HT_INVAL, s->path, HT_NO_POS,
                "%llu of %llu windows (the first is number %llu) share %.0f %% or more of their %u-token "
                "sequences with a text that must stay unseen; take another text, or --drop-overlap",
                (unsigned long long)s->dropped[HT_DROP_OVERLAP], (unsigned long long)s->windows,
                (unsigned long long)s->first_overlap, 100 * HT_NOT_IN_SHARE, d->gram);
        }
    }
    return HT_OK;
}

/* ---- choice
 * ------------------------------------------------------------------------------------------------ */

static ht_status pick(const struct ht_data *d, const struct ht_data_source *s, enum sampling how,
                      uint64_t seed, uint64_t *picked, ht_err *err) {
    if (how == RANDOM && s->taken < s->n) {
        return ht_pick_random(s->n, s->taken, seed, picked, err);
    }
    if (how == DIVERSE && s->taken < s->n) {
        return ht_pick_diverse(d->ctx->pool, s->ids, s->n, d->o->window, s->taken, seed, picked, err);
    }
    for (uint64_t i = 0; i < s->taken; i++) {
        picked[i] = i;
    }
    return HT_OK;
}

static ht_status take(const struct ht_data *d, enum sampling how, struct ht_calib_windows *w, ht_err *err) {
    uint32_t window = d->o->window;
    uint64_t total = 0;
    for (size_t i = 0; i < d->o->n_sources; i++) {
        total += d->sources[i].taken;
    }
    uint64_t *picked = ht_mem_alloc_array(total + 1, sizeof *picked);
    w->ids = ht_mem_alloc_array(total * window + 1, sizeof *w->ids);
    ht_status status =
        picked != NULL && w->ids != NULL ? HT_OK : ht_fail_nomem(err, total * window * sizeof *w->ids);
    for (size_t i = 0; i < d->o->n_sources && status == HT_OK; i++) {
        const struct ht_data_source *s = &d->sources[i];
        status = pick(d, s, how, d->o->seed + i, picked, err);
        for (uint64_t k = 0; k < s->taken && status == HT_OK; k++) {
            memcpy(w->ids + w->n++ * window, s->ids + picked[k] * window, window * sizeof *w->ids);
        }
    }
    ht_mem_free(picked);
    return status;
}

/* "3 of 4 rows", for all sources together; false: no row was too short. */
static bool short_rows(const struct ht_data *d, char *out, size_t len) {
    uint64_t dropped = 0, rows = 0;
    for (size_t i = 0; i < d->o->n_sources; i++) {
        const struct ht_data_source *s = &d->sources[i];
        dropped += s->dropped[HT_DROP_SHORT];
        rows += strcmp(s->kind, "jsonl") == 0 ? s->documents : 0;
    }
    snprintf(out, len, "%llu of %llu rows", (unsigned long long)dropped, (unsigned long long)rows);
    return dropped != 0;
}

/* Nothing is left: why. */
static ht_status nothing(const struct ht_data *d, ht_err *err) {
    const char *path = d->sources[0].path;
    uint64_t windows = 0, tokens = 0, dropped[HT_DROPS] = {0};
    char rows[64], more[160] = "";
    for (size_t i = 0; i < d->o->n_sources; i++) {
        windows += d->sources[i].windows;
        tokens = d->sources[i].tokens > tokens ? d->sources[i].tokens : tokens;
        for (int k = 0; k < HT_DROPS; k++) {
            dropped[k] += d->sources[i].dropped[k];
        }
    }
    bool few = short_rows(d, rows, sizeof rows);
    if (few) {
        snprintf(more, sizeof more, "; %s were dropped, since they have fewer than %u tokens: --no-filters keeps them",
                 rows, HT_SHORT_TOKENS);
    }
    if (windows == 0) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS,
                       "the text has %llu tokens, one window needs %u; use a longer text or a smaller window%s",
                       (unsigned long long)tokens, d->o->window, more);
    }
    return ht_fail(
        err, HT_INVAL, path, HT_NO_POS,
        "all of %llu windows were dropped: %llu no text, %llu repetitive, %llu duplicates, %llu overlapping; "
        "give another text%s%s",
        (unsigned long long)windows, (unsigned long long)dropped[HT_DROP_NO_TEXT],
        (unsigned long long)dropped[HT_DROP_REPEATED], (unsigned long long)dropped[HT_DROP_DUPLICATE],
        (unsigned long long)dropped[HT_DROP_OVERLAP],
        d->o->no_filters || dropped[HT_DROP_OVERLAP] == windows ? "" : ", or --no-filters", more);
}

/* ---- record
 * ------------------------------------------------------------------------------------------------ */

static json_t *source_json(const struct ht_data_source *s, uint32_t weight) {
    const char *base = ht_path_base(s->path);
    json_t *o =
        json_pack("{s:o*, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:{}}", "path",
                  ht_json_str(base, strlen(base)), "kind", s->kind, "sha256", s->sha256, "bytes",
                  (json_int_t)s->bytes, "documents", (json_int_t)s->documents, "tokens",
                  (json_int_t)s->tokens, "invalid", (json_int_t)s->invalid, "windows", (json_int_t)s->windows,
                  "rest_tokens", (json_int_t)s->rest, "taken", (json_int_t)s->taken, "read_in_part",
                  (int)s->stopped, "weight", (json_int_t)weight, "dropped");
    for (int i = 0; o != NULL && i < HT_DROPS; i++) {
        if (json_object_set_new(json_object_get(o, "dropped"), ht_drop_keys[i],
                                json_integer((json_int_t)s->dropped[i])) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static ht_status make_record(const struct ht_data *d, enum sampling how, const struct ht_calib_windows *w,
                             json_t **record, ht_err *err) {
    const struct ht_calib_data_options *o = d->o;
    uint64_t tokens = w->n * w->window;
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)ht_hash_xxh3(w->ids, tokens * sizeof *w->ids));
    json_t *r =
        json_pack("{s:s, s:o*, s:I, s:I, s:I, s:I, s:s, s:b, s:[]}", "sampling", sampling_names[how], "seed",
                  ht_json_u64(o->seed), "window", (json_int_t)w->window, "windows", (json_int_t)w->n,
                  "tokens", (json_int_t)tokens, "asked_tokens", (json_int_t)o->tokens, "windows_xxh3", hash,
                  "filters", (int)!o->no_filters, "sources");
    struct ht_sketch sketch;
    ht_sketch_init(&sketch);
    for (uint64_t i = 0; i < w->n; i++) { /* windows are no neighbours: sequences do not cross them */
        ht_sketch_add(&sketch, w->ids + i * w->window, w->window);
    }
    bool ok = r != NULL && json_object_set_new(r, "grams", ht_sketch_json(&sketch)) == 0;
    for (size_t i = 0; ok && i < o->n_sources; i++) {
        json_t *s = source_json(&d->sources[i], o->n_weights != 0 ? o->weights[i] : 1);
        ok = s != NULL && json_array_append_new(json_object_get(r, "sources"), s) == 0;
    }
    if (ok && o->n_not_in > 0) {
        ok = json_object_set(r, "not_in", d->not_in) == 0;
    }
    if (!ok) {
        json_decref(r);
        return ht_fail_nomem(err, 0);
    }
    *record = r;
    return HT_OK;
}

static void tell(const struct ht_data *d) {
    for (size_t i = 0; i < d->o->n_sources; i++) {
        const struct ht_data_source *s = &d->sources[i];
        if (s->taken == 0) {
            bool dropped = s->n == 0 && s->windows > 0;
            ht_log(d->ctx, HT_LOG_WARN, "%s: nothing of it was taken: %s", s->path,
                   dropped ? "all of its windows were dropped" : "its share of the tokens fills no window");
        }
        ht_log(d->ctx, HT_LOG_INFO, "%s: %llu documents, %llu tokens, %llu windows, %llu taken", s->path,
               (unsigned long long)s->documents, (unsigned long long)s->tokens,
               (unsigned long long)s->windows, (unsigned long long)s->taken);
        for (int k = 0; k < HT_DROPS; k++) {
            bool most = k == HT_DROP_SHORT && s->dropped[k] > s->documents / 2;
            if (s->dropped[k] != 0) {
                ht_log(d->ctx, most ? HT_LOG_WARN : HT_LOG_INFO, "%s: %llu %s dropped: %s", s->path,
                       (unsigned long long)s->dropped[k], k == HT_DROP_SHORT ? "rows" : "windows",
                       ht_drop_keys[k]);
            }
        }
        if (s->invalid != 0) {
            ht_log(d->ctx, HT_LOG_INFO, "%s: %llu broken UTF-8 sequences were replaced", s->path,
                   (unsigned long long)s->invalid);
        }
    }
}

/* ---- the whole
 * --------------------------------------------------------------------------------------------- */

static ht_status read_all(struct ht_data *d, enum sampling how, ht_err *err) {
    const struct ht_calib_data_options *o = d->o;
    uint64_t want = o->tokens / o->window, n = o->n_sources;
    uint64_t *there = ht_mem_alloc_array(n, sizeof *there), *shares = ht_mem_alloc_array(n, sizeof *shares);
    ht_status status = there != NULL && shares != NULL ? HT_OK : ht_fail_nomem(err, n * sizeof *there);
    const uint32_t *weights = o->n_weights != 0 ? o->weights : NULL;
    d->most = how == SEQUENTIAL ? (want != 0 ? want : UINT64_MAX) : HT_POOL_WINDOWS;
    for (size_t i = 0; i < n && status == HT_OK; i++) {
        there[i] = UINT64_MAX;
    }
    if (status == HT_OK) {
        ht_data_shares(want, there, weights, n, shares);
    }
    for (size_t i = 0; i < n && status == HT_OK; i++) {
        struct ht_data_source *s = &d->sources[i];
        s->path = o->sources[i];
        s->want = shares[i];
        status = ht_data_read(d, s, err);
        there[i] = s->n;
    }
    if (status == HT_OK) {
        if (want != 0) {
            ht_data_shares(want, there, weights, n, shares);
        }
        for (size_t i = 0; i < n; i++) {
            d->sources[i].taken = want != 0 ? shares[i] : there[i];
        }
    }
    ht_mem_free(there);
    ht_mem_free(shares);
    return status;
}

static void release(struct ht_data *d) {
    for (size_t i = 0; d->sources != NULL && i < d->o->n_sources; i++) {
        ht_mem_free(d->sources[i].ids);
    }
    ht_mem_free(d->sources);
    ht_mem_free(d->grams);
    ht_map_deinit(&d->seen);
    ht_buf_deinit(&d->text);
    ht_buf_deinit(&d->default_system);
    json_decref(d->not_in);
}

ht_status ht_calib_data(struct ht_context *ctx, const struct ht_model *model,
                        const struct ht_calib_data_options *options, struct ht_calib_windows *windows,
                        json_t **record, ht_err *err) {
    struct ht_data d = {.ctx = ctx, .model = model, .o = options};
    enum sampling how;
    *windows = (struct ht_calib_windows){.window = options->window};
    *record = NULL;
    HT_TRY(check(options, err));
    HT_TRY(parse_sampling(options->sampling, &how, err));
    ht_map_init(&d.seen);
    ht_buf_init(&d.text, 0);
    ht_buf_init(&d.default_system, 0);
    d.not_in = json_array();
    d.sources = ht_mem_calloc(options->n_sources, sizeof *d.sources);
    ht_status status = HT_OK;
    if (d.sources == NULL || d.not_in == NULL) {
        status = ht_fail_nomem(err, options->n_sources * sizeof *d.sources);
        goto done;
    }
    HT_TRY_DONE(ht_data_load_not_in(&d, err));
    HT_TRY_DONE(read_all(&d, how, err));
    HT_TRY_DONE(check_overlap(&d, err));
    HT_TRY_DONE(take(&d, how, windows, err));
    if (windows->n == 0) {
        status = nothing(&d, err);
        goto done;
    }
    tell(&d); /* behind the refusals: they give their own reasons */
    status = make_record(&d, how, windows, record, err);
done:
    release(&d);
    if (status != HT_OK) {
        ht_calib_windows_deinit(windows);
    }
    return status;
}
