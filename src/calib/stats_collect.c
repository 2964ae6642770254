/* One pass of calibration text through the unquantized model, into a statistics file: one layer's sums in memory. */
#include "base/mem.h"
#include "calib/calib.h"
#include "calib/stats_file.h"

struct layout {
    struct ht_stats_group *groups; /* [n] */
    int32_t *layers;               /* [n] */
    size_t n, cap;
    struct ht_arena arena;
};

static uint64_t sample_of(uint64_t tokens) {
    uint64_t stride = (tokens + HT_STATS_SAMPLE - 1) / HT_STATS_SAMPLE;
    uint64_t n = (tokens + stride - 1) / stride;
    return n < HT_STATS_SAMPLE ? n : HT_STATS_SAMPLE;
}

static ht_status add_group(struct layout *l, const struct ht_linear *linear, int32_t layer,
                           struct ht_stats_group **group, ht_err *err) {
    const char **names = ht_arena_calloc(&l->arena, HT_ROLES, sizeof *names);
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct ht_stats_group *groups = ht_mem_realloc_array(l->groups, cap, sizeof *groups);
        l->groups = groups != NULL ? groups : l->groups;
        int32_t *layers = groups != NULL ? ht_mem_realloc_array(l->layers, cap, sizeof *layers) : NULL;
        if (layers == NULL) {
            return ht_fail_nomem(err, cap * sizeof *groups);
        }
        l->layers = layers;
        l->cap = cap;
    }
    if (names == NULL) {
        return ht_fail_nomem(err, HT_ROLES * sizeof *names);
    }
    names[0] = linear->name;
    l->layers[l->n] = layer;
    l->groups[l->n] = (struct ht_stats_group){.linears = names, .n_linears = 1, .cols = linear->w.cols};
    *group = &l->groups[l->n++];
    return HT_OK;
}

/* Which linears of a layer read the same inputs: one token goes through the model and tells. */
static ht_status find_groups(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                             struct layout *l, ht_err *err) {
    const struct ht_calib_windows one = {.ids = windows->ids, .n = 1, .window = 1};
    const struct ht_calib_layers_options options = {.needs = HT_NEEDS_NOTHING, .math = HT_MATH_FAST};
    struct ht_calib_layers *probe;
    HT_TRY(ht_calib_layers_new_with(ctx, model, &one, &options, &probe, err));
    ht_status status = HT_OK;
    for (int32_t layer = 0; layer < (int32_t)model->hp.n_layers; layer++) {
        const struct ht_stats *of[HT_ROLES];
        size_t first = l->n;
        HT_TRY_DONE(ht_calib_layers_collect(probe, layer, err));
        for (int role = 0; role < HT_ROLES; role++) {
            const struct ht_linear *linear = model->layers[layer].linears[role];
            const struct ht_stats *s = linear != NULL ? ht_calib_layers_stats(probe, linear) : NULL;
            size_t i = first;
            while (s != NULL && i < l->n && of[i - first] != s) {
                i++;
            }
            if (s != NULL && i < l->n) {
                struct ht_stats_group *g = &l->groups[i];
                ((const char **)(uintptr_t)g->linears)[g->n_linears++] = linear->name;
            } else if (s != NULL) {
                struct ht_stats_group *g;
                HT_TRY_DONE(add_group(l, linear, layer, &g, err));
                of[l->n - 1 - first] = s;
            }
        }
        HT_TRY_DONE(ht_calib_layers_advance(probe, layer, err));
        ht_model_drop_layer(model, layer);
    }
done:
    ht_calib_layers_free(probe);
    return status;
}

static const struct ht_linear *linear_of(const struct ht_model *model, int32_t layer, const char *name) {
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_linear *linear = model->layers[layer].linears[role];
        if (linear != NULL && strcmp(linear->name, name) == 0) {
            return linear;
        }
    }
    return NULL;
}

static ht_status write_layers(struct ht_context *ctx, struct ht_model *model, struct ht_calib_layers *layers,
                              const struct layout *l, struct ht_stats_writer *w, ht_err *err) {
    struct ht_meter meter;
    int32_t n_layers = (int32_t)model->hp.n_layers;
    ht_meter_init(&meter, ctx, "statistics", "layers", (uint64_t)n_layers);
    for (int32_t layer = 0; layer < n_layers; layer++) {
        HT_TRY(ht_calib_layers_collect(layers, layer, err));
        for (size_t i = 0; i < l->n; i++) {
            if (l->layers[i] == layer) {
                const struct ht_linear *linear = linear_of(model, layer, l->groups[i].linears[0]);
                HT_TRY(ht_stats_writer_put(w, ht_calib_layers_stats(layers, linear), err));
            }
        }
        HT_TRY(layer + 1 < n_layers ? ht_calib_layers_advance(layers, layer, err) : HT_OK);
        ht_model_drop_layer(model, layer);
        HT_TRY(ht_meter_tell(&meter, (uint64_t)layer + 1, 0, "text", err));
    }
    return HT_OK;
}

ht_status ht_calib_stats(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                         unsigned needs, const char *spill, const json_t *doc, const char *output, bool overwrite,
                         uint64_t *n_groups, ht_err *err) {
    struct layout l = {0};
    struct ht_calib_layers *layers = NULL;
    struct ht_stats_writer *w = NULL;
    const struct ht_calib_layers_options options = {
        .needs = needs, .n_sample = HT_STATS_SAMPLE, .math = HT_MATH_EXACT, .spill = spill};
    uint64_t tokens = windows->n * windows->window;
    ht_status status;
    ht_arena_init(&l.arena, 0);
    HT_TRY_DONE(find_groups(ctx, model, windows, &l, err));
    for (size_t i = 0; i < l.n; i++) {
        l.groups[i].tokens = tokens;
        l.groups[i].n_sample = (needs & HT_NEEDS_SAMPLE) != 0 ? sample_of(tokens) : 0;
    }
    *n_groups = l.n;
    HT_TRY_DONE(ht_stats_writer_new(output, doc, l.groups, l.n, needs, overwrite, &w, err));
    HT_TRY_DONE(ht_calib_layers_new_with(ctx, model, windows, &options, &layers, err));
    HT_TRY_DONE(write_layers(ctx, model, layers, &l, w, err));
    HT_TRY_DONE(ht_source_check(model->source, err));
    struct ht_stats_writer *full = w;
    w = NULL;
    status = ht_stats_writer_commit(full, err);
done:
    ht_stats_writer_abort(w);
    ht_calib_layers_free(layers);
    ht_mem_free(l.groups);
    ht_mem_free(l.layers);
    ht_arena_deinit(&l.arena);
    return status;
}
