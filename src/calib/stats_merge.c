/* Several statistics files of one model as one: means weigh with their tokens. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "calib/stats_file.h"
#include "calib/stats_kinds.h"

static const char *text_at(const struct ht_stats_file *f, const char *key) {
    const char *s = json_string_value(json_object_get(json_object_get(f->doc, "model"), key));
    return s != NULL ? s : "";
}

static ht_status check_same(const struct ht_stats_file *a, const struct ht_stats_file *b, ht_err *err) {
    if (strcmp(text_at(a, "norms"), text_at(b, "norms")) != 0) {
        return ht_fail(err, HT_INVAL, b->what, HT_NO_POS,
                       "statistics of the model %.80s; the first file's are of %.80s: only those of one model add up",
                       text_at(b, "name"), text_at(a, "name"));
    }
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) {
        const struct ht_stats_group *x = &a->groups[i], *y = &b->groups[i];
        same = x->cols == y->cols && x->n_linears == y->n_linears;
        for (size_t k = 0; same && k < x->n_linears; k++) {
            same = strcmp(x->linears[k], y->linears[k]) == 0;
        }
    }
    return same ? HT_OK
                : ht_fail(err, HT_INVAL, b->what, HT_NO_POS,
                          "its groups of linears are not those of the first file: another model, or another version of "
                          "this program");
}

/* Runs of all files in one list, under the first file's model. */
static json_t *merged_doc(const struct ht_stats_file *const *files, size_t n) {
    json_t *doc = json_copy(files[0]->doc), *runs = json_array();
    bool ok = doc != NULL && runs != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_array_extend(runs, json_object_get(files[i]->doc, "runs")) == 0;
    }
    ok = ok && json_object_set(doc, "runs", runs) == 0;
    json_decref(runs);
    if (!ok) {
        json_decref(doc);
        doc = NULL;
    }
    return doc;
}

/* Vectors that file i gives to a sample of `room`: in proportion to its tokens, as far as it has them. */
static uint64_t share_of(const struct ht_stats_file *const *files, size_t n, size_t i, size_t group) {
    uint64_t tokens = 0, before = 0, all = 0;
    for (size_t k = 0; k < n; k++) {
        tokens += files[k]->groups[group].tokens;
        before += k < i ? files[k]->groups[group].tokens : 0;
        all += files[k]->groups[group].n_sample;
    }
    uint64_t room = all < HT_STATS_SAMPLE ? all : HT_STATS_SAMPLE, own = files[i]->groups[group].n_sample;
    double from = (double)before / (double)tokens, to = from + (double)files[i]->groups[group].tokens / (double)tokens;
    uint64_t share = (uint64_t)((double)room * to + 0.5) - (uint64_t)((double)room * from + 0.5);
    return all <= HT_STATS_SAMPLE || share > own ? own : share;
}

struct sums {
    struct ht_stats stats;
    double *acc[HT_STATS_KINDS]; /* means so far, times tokens */
    float *out[HT_STATS_KINDS];
};

static bool is_mean(const struct ht_stats_kind *kind) {
    return (kind->need & (HT_NEEDS_ABSMAX | HT_NEEDS_MINMAX | HT_NEEDS_SAMPLE)) == 0;
}

static uint64_t full_elems(const struct ht_stats_kind *kind, const struct ht_stats_group *g) {
    return kind->shape == HT_STATS_TRIANGLE ? g->cols * g->cols : ht_stats_kind_elems(kind, g);
}

static void add_kind(struct sums *s, size_t k, const struct ht_stats_values *v, uint64_t share, bool first) {
    const struct ht_stats_kind *kind = &ht_stats_kinds[k];
    const float *x = v->room[k];
    uint64_t cols = v->stats.cols, n = kind->shape == HT_STATS_TRIANGLE ? cols * cols : cols;
    if (kind->need == HT_NEEDS_SAMPLE) { /* evenly spread over what the file has */
        for (uint64_t i = 0; i < share; i++) {
            const float *from = x + i * v->stats.n_sample / share * cols;
            memcpy(s->out[k] + s->stats.n_sample++ * cols, from, cols * sizeof *x);
        }
        return;
    }
    for (uint64_t j = 0; j < n; j++) {
        if (is_mean(kind)) {
            s->acc[k][j] += (double)x[j] * (double)v->stats.tokens;
        } else {
            bool least = strcmp(kind->suffix, "min") == 0;
            float *at = &s->out[k][j];
            *at = first ? x[j] : least ? fminf(*at, x[j]) : fmaxf(*at, x[j]);
        }
    }
}

static ht_status start_sums(struct sums *s, const struct ht_stats_group *g, unsigned has, ht_err *err) {
    *s = (struct sums){.stats = {.cols = g->cols}};
    for (size_t k = 0; k < HT_STATS_KINDS; k++) {
        const struct ht_stats_kind *kind = &ht_stats_kinds[k];
        uint64_t n = full_elems(kind, g);
        if ((kind->need & has) != 0) {
            s->out[k] = ht_mem_alloc_array(n, sizeof *s->out[k]);
            s->acc[k] = ht_mem_calloc(is_mean(kind) ? n : 1, sizeof *s->acc[k]);
            if (s->out[k] == NULL || s->acc[k] == NULL) {
                return ht_fail_nomem(err, n * (sizeof *s->out[k] + sizeof *s->acc[k]));
            }
            *ht_stats_field(&s->stats, kind) = s->out[k];
        }
    }
    return HT_OK;
}

static void end_sums(struct sums *s) {
    for (size_t k = 0; k < HT_STATS_KINDS; k++) {
        ht_mem_free(s->acc[k]);
        ht_mem_free(s->out[k]);
    }
}

static ht_status merge_group(const struct ht_stats_file *const *files, size_t n, const struct ht_stats_group *merged,
                             size_t group, unsigned has, struct ht_stats_writer *w, ht_err *err) {
    struct sums s;
    ht_status status = start_sums(&s, merged, has, err);
    for (size_t i = 0; i < n && status == HT_OK; i++) {
        struct ht_stats_values v;
        status = ht_stats_file_load(files[i], &files[i]->groups[group], has, &v, err);
        for (size_t k = 0; k < HT_STATS_KINDS && status == HT_OK; k++) {
            if (v.room[k] != NULL) {
                add_kind(&s, k, &v, share_of(files, n, i, group), i == 0);
            }
        }
        s.stats.tokens += files[i]->groups[group].tokens;
        if (status == HT_OK) {
            ht_stats_values_deinit(&v);
        }
    }
    for (size_t k = 0; k < HT_STATS_KINDS && status == HT_OK; k++) {
        uint64_t elems = s.out[k] != NULL && is_mean(&ht_stats_kinds[k]) ? full_elems(&ht_stats_kinds[k], merged) : 0;
        for (uint64_t j = 0; j < elems; j++) {
            s.out[k][j] = (float)(s.acc[k][j] / (double)s.stats.tokens);
        }
    }
    if (status == HT_OK) {
        status = ht_stats_writer_put(w, &s.stats, err);
    }
    end_sums(&s);
    return status;
}

ht_status ht_stats_file_merge(const struct ht_stats_file *const *files, size_t n, const char *output, bool overwrite,
                         unsigned *dropped, ht_err *err) {
    unsigned has = files[0]->has, any = 0;
    struct ht_stats_writer *w = NULL;
    for (size_t i = 0; i < n; i++) {
        HT_TRY(check_same(files[0], files[i], err));
        has &= files[i]->has;
        any |= files[i]->has;
    }
    if (dropped != NULL) {
        *dropped = any & ~has;
    }
    if (has == 0) {
        return ht_fail(err, HT_INVAL, output, HT_NO_POS, "the files have no statistic in common");
    }
    size_t n_groups = files[0]->n;
    struct ht_stats_group *groups = ht_mem_alloc_array(n_groups, sizeof *groups);
    json_t *doc = merged_doc(files, n);
    ht_status status = groups == NULL || doc == NULL ? ht_fail_nomem(err, n_groups * sizeof *groups) : HT_OK;
    for (size_t g = 0; g < n_groups && status == HT_OK; g++) {
        groups[g] = files[0]->groups[g];
        groups[g].tokens = groups[g].n_sample = 0;
        for (size_t i = 0; i < n; i++) {
            groups[g].tokens += files[i]->groups[g].tokens;
            groups[g].n_sample += share_of(files, n, i, g);
        }
    }
    if (status == HT_OK) {
        status = ht_stats_writer_new(output, doc, groups, n_groups, has, overwrite, &w, err);
    }
    for (size_t g = 0; g < n_groups && status == HT_OK; g++) {
        status = merge_group(files, n, &groups[g], g, has, w, err);
    }
    if (status == HT_OK) {
        status = ht_stats_writer_commit(w, err);
    } else {
        ht_stats_writer_abort(w);
    }
    json_decref(doc);
    ht_mem_free(groups);
    return status;
}
