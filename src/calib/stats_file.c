/* Reading a statistics file. The container's own checks come first (io/safetensors.h); then the metadata says which
 * tensors there must be, and nothing else may be there. */
#include "calib/stats_file.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/limits.h"
#include "calib/stats_kinds.h"
#include "io/bytes.h"
#include "io/name.h"

#define MAX_TOKENS (1ull << 53)
#define MAX_LINEARS 64u /* of one group */

#define FIELD(name) offsetof(struct ht_stats, name)

const struct ht_stats_kind ht_stats_kinds[HT_STATS_KINDS] = {
    {"mean_square", HT_NEEDS_MEAN_SQUARE, HT_STATS_VECTOR, HT_STATS_NOT_NEGATIVE, FIELD(mean_square)},
    {"absmax", HT_NEEDS_ABSMAX, HT_STATS_VECTOR, HT_STATS_NOT_NEGATIVE, FIELD(absmax)},
    {"min", HT_NEEDS_MINMAX, HT_STATS_VECTOR, HT_STATS_ANY, FIELD(min)},
    {"max", HT_NEEDS_MINMAX, HT_STATS_VECTOR, HT_STATS_ANY, FIELD(max)},
    {"mean_abs", HT_NEEDS_MEAN_ABS, HT_STATS_VECTOR, HT_STATS_NOT_NEGATIVE, FIELD(mean_abs)},
    {"mean", HT_NEEDS_MEAN, HT_STATS_VECTOR, HT_STATS_ANY, FIELD(mean)},
    {"gram", HT_NEEDS_GRAM, HT_STATS_TRIANGLE, HT_STATS_ANY, FIELD(gram)},
    {"sample", HT_NEEDS_SAMPLE, HT_STATS_ROWS, HT_STATS_ANY, FIELD(sample)},
};

uint64_t ht_stats_kind_elems(const struct ht_stats_kind *kind, const struct ht_stats_group *g) {
    return kind->shape == HT_STATS_VECTOR     ? g->cols
           : kind->shape == HT_STATS_TRIANGLE ? g->cols * (g->cols + 1) / 2
                                              : g->n_sample * g->cols;
}

/* ---- groups ---------------------------------------------------------------------------------------------------- */

static ht_status read_linears(struct ht_stats_file *f, const json_t *list, struct ht_stats_group *g, ht_err *err) {
    size_t n = json_array_size(list);
    if (n == 0 || n > MAX_LINEARS) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "group %zu: expected 1 to %u names in \"linears\"",
                       (size_t)(g - f->groups), MAX_LINEARS);
    }
    const char **names = ht_arena_calloc(&f->arena, n, sizeof *names);
    if (names == NULL) {
        return ht_fail_nomem(err, n * sizeof *names);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const char *s = json_string_value(v), *fault;
        bool existed;
        fault = s == NULL ? "is no string" : ht_name_fault(s, json_string_length(v), HT_MAX_ST_NAME - 16);
        if (fault != NULL) {
            return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "group %zu: the name of linear %zu %s",
                           (size_t)(g - f->groups), i, fault);
        }
        names[i] = ht_arena_strdup(&f->arena, s);
        if (names[i] == NULL || !ht_map_put(&f->index, s, strlen(s), (uint64_t)(g - f->groups), &existed)) {
            return ht_fail_nomem(err, strlen(s));
        }
        if (existed) {
            return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "the linear '%.200s' stands in two groups", s);
        }
    }
    g->linears = names;
    g->n_linears = n;
    return HT_OK;
}

static ht_status read_group(struct ht_stats_file *f, const json_t *o, struct ht_stats_group *g, ht_err *err) {
    if (!json_is_object(o)) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "group %zu is no object", (size_t)(g - f->groups));
    }
    HT_TRY(read_linears(f, json_object_get(o, "linears"), g, err));
    HT_TRY(ht_json_get_u64(o, "cols", HT_MAX_WIDTH, f->what, &g->cols, err));
    HT_TRY(ht_json_get_u64(o, "tokens", MAX_TOKENS, f->what, &g->tokens, err));
    HT_TRY(ht_json_get_u64(o, "sample", HT_STATS_MAX_SAMPLE, f->what, &g->n_sample, err));
    if (g->cols == 0 || g->tokens == 0) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "group '%.200s': expected cols and tokens above 0",
                       g->linears[0]);
    }
    return HT_OK;
}

static ht_status read_doc(struct ht_stats_file *f, ht_err *err) {
    const struct ht_meta_kv *kv = ht_meta_find(&f->st.meta, HT_STATS_KEY);
    uint64_t version = 0;
    if (kv == NULL) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS,
                       "no file of statistics: its metadata lacks " HT_STATS_KEY
                       "; `halftone stats collect` makes one");
    }
    HT_TRY(ht_json_parse(kv->v.str.s, (size_t)kv->v.str.len, 0, f->what, &f->doc, err));
    HT_TRY(ht_json_get_u64(f->doc, "version", UINT32_MAX, f->what, &version, err));
    if (version != HT_STATS_VERSION) {
        return ht_fail(err, version > HT_STATS_VERSION ? HT_UNSUPPORTED : HT_FORMAT, f->what, HT_NO_POS,
                       "statistics of version %llu, this build reads version %d", (unsigned long long)version,
                       HT_STATS_VERSION);
    }
    const json_t *groups = json_object_get(f->doc, "groups");
    size_t n = json_array_size(groups);
    if (n == 0 || n > HT_MAX_TENSORS || !json_is_object(json_object_get(f->doc, "model")) ||
        !json_is_array(json_object_get(f->doc, "runs"))) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS,
                       HT_STATS_KEY ": expected \"model\", \"runs\" and at least one of \"groups\"");
    }
    f->groups = ht_mem_calloc(n, sizeof *f->groups);
    if (f->groups == NULL) {
        return ht_fail_nomem(err, n * sizeof *f->groups);
    }
    for (f->n = 0; f->n < n; f->n++) {
        HT_TRY(read_group(f, json_array_get(groups, f->n), &f->groups[f->n], err));
    }
    json_object_del(f->doc, "groups");
    return HT_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------- */

static const struct ht_tensor *tensor_of(const struct ht_stats_file *f, const struct ht_stats_group *g,
                                         const struct ht_stats_kind *kind) {
    char name[HT_MAX_ST_NAME + 1];
    uint64_t i;
    snprintf(name, sizeof name, "%s.%s", g->linears[0], kind->suffix);
    return ht_map_get_str(&f->tensors, name, &i) ? &f->st.tensors[i] : NULL;
}

/* What the group has; every tensor found is of the right kind and size. */
static ht_status check_group(const struct ht_stats_file *f, const struct ht_stats_group *g, unsigned *has,
                             size_t *found, ht_err *err) {
    unsigned lacks = 0;
    *has = 0;
    for (size_t i = 0; i < HT_STATS_KINDS; i++) {
        const struct ht_stats_kind *kind = &ht_stats_kinds[i];
        const struct ht_tensor *t = tensor_of(f, g, kind);
        if (t == NULL) {
            lacks |= kind->need;
            continue;
        }
        uint64_t n = ht_stats_kind_elems(kind, g);
        if (strcmp(t->format->name, "f32") != 0 || n == 0 || ht_tensor_elems(t) != n) {
            return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS,
                           "'%.200s': expected %llu values in f32, found %llu in %s", t->name, (unsigned long long)n,
                           (unsigned long long)ht_tensor_elems(t), t->format->name);
        }
        *has |= kind->need;
        ++*found;
    }
    if ((*has & lacks) != 0) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "group '%.200s' has one of min and max, not both",
                       g->linears[0]);
    }
    return HT_OK;
}

static ht_status check_tensors(struct ht_stats_file *f, ht_err *err) {
    size_t found = 0;
    for (size_t i = 0; i < f->st.n_tensors; i++) {
        const char *name = f->st.tensors[i].name;
        if (!ht_map_put(&f->tensors, name, strlen(name), i, NULL)) {
            return ht_fail_nomem(err, strlen(name));
        }
    }
    for (size_t i = 0; i < f->n; i++) {
        unsigned has;
        HT_TRY(check_group(f, &f->groups[i], &has, &found, err));
        if (has == 0 || (i > 0 && has != f->has)) {
            return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS,
                           "group '%.200s' has no statistics, or others than the groups before it",
                           f->groups[i].linears[0]);
        }
        f->has = has;
    }
    if (found != f->st.n_tensors) {
        return ht_fail(err, HT_FORMAT, f->what, HT_NO_POS, "%zu of %zu tensors belong to no group",
                       f->st.n_tensors - found, f->st.n_tensors);
    }
    return HT_OK;
}

/* ---- open ------------------------------------------------------------------------------------------------------ */

static ht_status fill(struct ht_stats_file *f, const void *data, uint64_t size, const char *what, ht_err *err) {
    ht_map_init(&f->index);
    ht_map_init(&f->tensors);
    ht_arena_init(&f->arena, 0);
    f->what = ht_arena_strdup(&f->arena, what);
    if (f->what == NULL) {
        return ht_fail_nomem(err, strlen(what));
    }
    HT_TRY(ht_safetensors_parse(data, size, f->what, &f->st, err));
    HT_TRY(read_doc(f, err));
    return check_tensors(f, err);
}

ht_status ht_stats_file_parse(const void *data, uint64_t size, const char *what, struct ht_stats_file **file,
                              ht_err *err) {
    *file = ht_mem_calloc(1, sizeof **file);
    if (*file == NULL) {
        return ht_fail_nomem(err, sizeof **file);
    }
    ht_status status = fill(*file, data, size, what, err);
    if (status != HT_OK) {
        ht_stats_file_close(*file);
        *file = NULL;
    }
    return status;
}

ht_status ht_stats_file_open(const char *path, struct ht_stats_file **file, ht_err *err) {
    struct ht_mapping map;
    *file = NULL;
    HT_TRY(ht_map_file(path, &map, err));
    if (map.size >= 8 && !ht_safetensors_probe(path)) {
        ht_unmap_file(&map);
        return ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                       "expected a safetensors file of statistics; `halftone stats collect` makes one");
    }
    ht_status status = ht_stats_file_parse(map.data, map.size, path, file, err);
    if (status == HT_OK) {
        (*file)->map = map;
    } else {
        ht_unmap_file(&map);
    }
    return status;
}

void ht_stats_file_close(struct ht_stats_file *f) {
    if (f != NULL) {
        json_decref(f->doc);
        ht_safetensors_deinit(&f->st);
        ht_mem_free(f->groups);
        ht_map_deinit(&f->index);
        ht_map_deinit(&f->tensors);
        ht_arena_deinit(&f->arena);
        if (f->map.data != NULL) {
            ht_unmap_file(&f->map);
        }
        ht_mem_free(f);
    }
}

bool ht_stats_file_probe(const char *path) {
    struct ht_mapping map;
    struct ht_safetensors st;
    bool yes = false;
    if (!ht_safetensors_probe(path) || ht_map_file(path, &map, NULL) != HT_OK) {
        return false;
    }
    if (ht_safetensors_parse(map.data, map.size, path, &st, NULL) == HT_OK) {
        yes = ht_meta_find(&st.meta, HT_STATS_KEY) != NULL;
        ht_safetensors_deinit(&st);
    }
    ht_unmap_file(&map);
    return yes;
}

const struct ht_stats_group *ht_stats_file_find(const struct ht_stats_file *f, const char *linear) {
    uint64_t i;
    return ht_map_get_str(&f->index, linear, &i) ? &f->groups[i] : NULL;
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static bool fits(const struct ht_stats_kind *kind, float v) {
    return isfinite(v) && (kind->sign == HT_STATS_ANY || v >= 0);
}

static ht_status load_kind(const struct ht_stats_file *f, const struct ht_stats_group *g,
                           const struct ht_stats_kind *kind, float *to, ht_err *err) {
    const struct ht_tensor *t = tensor_of(f, g, kind);
    const unsigned char *p = t->data;
    uint64_t n = ht_tensor_elems(t), row = 0, col = 0;
    for (uint64_t i = 0; i < n; i++) {
        float v = ht_le_f32(p + 4 * i);
        bool diagonal = kind->shape == HT_STATS_TRIANGLE && row == col;
        if (!fits(kind, v) || (diagonal && v < 0)) {
            return ht_fail(err, HT_NUMERIC, f->what, HT_NO_POS, "'%.200s': value %llu is %g, which no such statistic "
                           "can be; the file is damaged, collect it again",
                           t->name, (unsigned long long)i, (double)v);
        }
        if (kind->shape != HT_STATS_TRIANGLE) {
            to[i] = v;
            continue;
        }
        to[row * g->cols + col] = to[col * g->cols + row] = v;
        if (++col == g->cols) {
            col = ++row;
        }
    }
    return HT_OK;
}

ht_status ht_stats_file_load(const struct ht_stats_file *f, const struct ht_stats_group *g, unsigned wanted,
                             struct ht_stats_values *v, ht_err *err) {
    *v = (struct ht_stats_values){.stats = {.cols = g->cols, .tokens = g->tokens}};
    ht_status status = HT_OK;
    for (size_t i = 0; i < HT_STATS_KINDS && status == HT_OK; i++) {
        const struct ht_stats_kind *kind = &ht_stats_kinds[i];
        if ((kind->need & wanted & f->has) == 0) {
            continue;
        }
        uint64_t rows = kind->shape == HT_STATS_VECTOR ? 1 : kind->shape == HT_STATS_TRIANGLE ? g->cols : g->n_sample;
        v->room[i] = ht_mem_alloc_aligned(rows, g->cols * sizeof *v->room[i]);
        if (v->room[i] == NULL) {
            status = ht_fail_nomem(err, rows * g->cols * sizeof *v->room[i]);
            break;
        }
        *ht_stats_field(&v->stats, kind) = v->room[i];
        status = load_kind(f, g, kind, v->room[i], err);
    }
    v->stats.n_sample = v->stats.sample != NULL ? g->n_sample : 0;
    if (status != HT_OK) {
        ht_stats_values_deinit(v);
    }
    return status;
}

void ht_stats_values_deinit(struct ht_stats_values *v) {
    for (size_t i = 0; i < HT_STATS_KINDS; i++) {
        ht_mem_free_aligned(v->room[i]);
    }
    *v = (struct ht_stats_values){0};
}

void ht_stats_values_divide(struct ht_stats_values *v, const float *s) {
    uint64_t cols = v->stats.cols;
    for (size_t k = 0; k < HT_STATS_KINDS; k++) {
        const struct ht_stats_kind *kind = &ht_stats_kinds[k];
        float *x = v->room[k];
        bool vector = kind->shape == HT_STATS_VECTOR, triangle = kind->shape == HT_STATS_TRIANGLE;
        uint64_t rows = vector ? 1 : triangle ? cols : v->stats.n_sample;
        for (uint64_t r = 0; x != NULL && r < rows; r++) {
            for (uint64_t j = 0; j < cols; j++) {
                float by = triangle                             ? s[r] * s[j]
                           : kind->need == HT_NEEDS_MEAN_SQUARE ? s[j] * s[j]
                                                                 : s[j];
                x[r * cols + j] /= by;
            }
        }
    }
}
