/* Writing and merging statistics files. */
#include <stdio.h>

#include "base/json.h"
#include "calib/stats_file.h"
#include "calib/stats_kinds.h"
#include "io/bytes.h"

struct ht_stats_writer {
    struct ht_safetensors_writer *out;
    const struct ht_stats_group *groups;
    size_t n, at;
    unsigned has;
};

/* ---- head ------------------------------------------------------------------------------------------------------ */

static json_t *group_json(const struct ht_stats_group *g) {
    json_t *o = json_pack("{s:I, s:I, s:I, s:[]}", "cols", (json_int_t)g->cols, "tokens", (json_int_t)g->tokens,
                          "sample", (json_int_t)g->n_sample, "linears");
    for (size_t i = 0; o != NULL && i < g->n_linears; i++) {
        if (json_array_append_new(json_object_get(o, "linears"), json_string(g->linears[i])) != 0) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

static ht_status make_meta(const json_t *doc, const struct ht_stats_group *groups, size_t n, struct ht_meta *meta,
                           ht_err *err) {
    json_t *whole = json_pack("{s:i}", "version", HT_STATS_VERSION), *list = json_array();
    char *text = NULL;
    bool ok = whole != NULL && list != NULL && json_object_update(whole, (json_t *)(uintptr_t)doc) == 0;
    ok = ok && json_object_set_new(whole, "version", json_integer(HT_STATS_VERSION)) == 0;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_array_append_new(list, group_json(&groups[i])) == 0;
    }
    ok = ok && json_object_set(whole, "groups", list) == 0;
    ht_status status = ok ? ht_json_text(whole, &text, err) : ht_fail_nomem(err, 0);
    if (status == HT_OK) {
        status = ht_meta_set_str(meta, HT_STATS_KEY, text, strlen(text), err);
    }
    ht_mem_free(text);
    json_decref(list);
    json_decref(whole);
    return status;
}

static ht_status make_tensors(const struct ht_stats_group *groups, size_t n, unsigned has, struct ht_arena *names,
                              struct ht_tensor *tensors, size_t *n_tensors, ht_err *err) {
    const struct ht_format *f32 = ht_format_find("f32");
    *n_tensors = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < HT_STATS_KINDS; k++) {
            const struct ht_stats_kind *kind = &ht_stats_kinds[k];
            if ((kind->need & has) == 0) {
                continue;
            }
            size_t len = strlen(groups[i].linears[0]) + strlen(kind->suffix) + 2;
            char *name = ht_arena_alloc(names, len);
            if (name == NULL) {
                return ht_fail_nomem(err, len);
            }
            snprintf(name, len, "%s.%s", groups[i].linears[0], kind->suffix);
            bool rows = kind->shape == HT_STATS_ROWS;
            uint64_t elems = ht_stats_kind_elems(kind, &groups[i]);
            tensors[(*n_tensors)++] = (struct ht_tensor){
                name, f32, rows ? 2 : 1, {rows ? groups[i].cols : elems, rows ? groups[i].n_sample : 1, 1, 1}, NULL, 0};
        }
    }
    return HT_OK;
}

ht_status ht_stats_writer_new(const char *path, const json_t *doc, const struct ht_stats_group *groups, size_t n,
                              unsigned has, bool overwrite, struct ht_stats_writer **writer, ht_err *err) {
    struct ht_meta meta;
    struct ht_arena names;
    struct ht_stats_writer *w = ht_mem_calloc(1, sizeof *w);
    struct ht_tensor *tensors = ht_mem_calloc(n * HT_STATS_KINDS, sizeof *tensors);
    size_t n_tensors;
    ht_status status = HT_OK;
    *writer = NULL;
    ht_meta_init(&meta);
    ht_arena_init(&names, 0);
    if (w == NULL || tensors == NULL) {
        status = ht_fail_nomem(err, n * HT_STATS_KINDS * sizeof *tensors);
        goto done;
    }
    w->groups = groups;
    w->n = n;
    w->has = has;
    HT_TRY_DONE(make_meta(doc, groups, n, &meta, err));
    HT_TRY_DONE(make_tensors(groups, n, has, &names, tensors, &n_tensors, err));
    HT_TRY_DONE(ht_safetensors_writer_new_file(path, &meta, tensors, n_tensors, overwrite, &w->out, err));
    *writer = w;
    w = NULL;
done:
    ht_mem_free(w);
    ht_mem_free(tensors);
    ht_arena_deinit(&names);
    ht_meta_deinit(&meta);
    return status;
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

static ht_status put_floats(struct ht_safetensors_writer *out, const float *x, uint64_t n, ht_err *err) {
    unsigned char le[4096];
    while (n != 0) {
        uint64_t step = n < sizeof le / 4 ? n : sizeof le / 4;
        ht_le_store_f32s(le, x, step);
        HT_TRY(ht_safetensors_writer_tensor(out, le, 4 * step, err));
        x += step;
        n -= step;
    }
    return HT_OK;
}

ht_status ht_stats_writer_put(struct ht_stats_writer *w, const struct ht_stats *s, ht_err *err) {
    const struct ht_stats_group *g = w->at < w->n ? &w->groups[w->at] : NULL;
    bool sample = (w->has & HT_NEEDS_SAMPLE) != 0;
    if (g == NULL || s->cols != g->cols || s->tokens != g->tokens || (sample && s->n_sample != g->n_sample)) {
        return ht_fail(err, HT_INTERNAL, g != NULL ? g->linears[0] : "statistics", HT_NO_POS,
                       "%llu inputs and %llu tokens were not announced", (unsigned long long)s->cols,
                       (unsigned long long)s->tokens);
    }
    for (size_t k = 0; k < HT_STATS_KINDS; k++) {
        const struct ht_stats_kind *kind = &ht_stats_kinds[k];
        const float *x = ht_stats_values_of(s, kind);
        if ((kind->need & w->has) == 0) {
            continue;
        }
        if (x == NULL) {
            return ht_fail(err, HT_INTERNAL, g->linears[0], HT_NO_POS, "%s was announced and is missing", kind->suffix);
        }
        if (kind->shape != HT_STATS_TRIANGLE) {
            HT_TRY(put_floats(w->out, x, ht_stats_kind_elems(kind, g), err));
            continue;
        }
        for (uint64_t r = 0; r < g->cols; r++) {
            HT_TRY(put_floats(w->out, x + r * g->cols + r, g->cols - r, err));
        }
    }
    w->at++;
    return HT_OK;
}

ht_status ht_stats_writer_commit(struct ht_stats_writer *w, ht_err *err) {
    struct ht_safetensors_writer *out = w->out;
    ht_mem_free(w);
    return ht_safetensors_writer_commit(out, err);
}

void ht_stats_writer_abort(struct ht_stats_writer *w) {
    if (w != NULL) {
        ht_safetensors_writer_abort(w->out);
        ht_mem_free(w);
    }
}
