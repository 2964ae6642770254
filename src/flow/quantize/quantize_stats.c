/* quantize --stats: what calibration saw comes out of a file, layer by layer, instead of a pass. */
#include <stdio.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "calib/stats_file.h"
#include "flow/flow_hash.h"
#include "flow/flow_stats.h"
#include "flow/quantize/quantize.h"

#define MAX_LOADED 16 /* groups of one layer */

struct ht_quant_stats {
    struct ht_stats_file *file;
    struct {
        const struct ht_stats_group *group;
        struct ht_stats_values values;
    } loaded[MAX_LOADED];
    size_t n;
};

static void unload(struct ht_quant_stats *s) {
    for (size_t i = 0; i < s->n; i++) {
        ht_stats_values_deinit(&s->loaded[i].values);
    }
    s->n = 0;
}

void ht_quant_stats_close(struct ht_quant_stats *s) {
    if (s != NULL) {
        unload(s);
        ht_stats_file_close(s->file);
        ht_mem_free(s);
    }
}

/* ---- does the file fit? ---------------------------------------------------------------------------------------- */

static ht_status check_needs(const struct ht_quant_job *j, const struct ht_stats_file *f, ht_err *err) {
    char text[192];
    unsigned needs = ht_recipe_needs(&j->recipe), lacks = needs & ~f->has;
    if ((lacks & HT_NEEDS_MEAN_SQUARE) != 0 && (f->has & HT_NEEDS_GRAM) != 0) {
        lacks &= ~(unsigned)HT_NEEDS_MEAN_SQUARE; /* the diagonal */
    }
    if (lacks == 0) {
        return HT_OK;
    }
    return ht_fail(err, HT_INVAL, f->what, HT_NO_POS,
                   "method %s also needs: %s; collect them with 'halftone stats collect --method'", j->recipe.name,
                   ht_part_needs_text(lacks, text, sizeof text));
}

/* The name that statistics have for a tensor of the plan, whatever the container calls it. */
static const char *gguf_name(const struct ht_flow_plan *p, const struct ht_plan_tensor *t, char *name, size_t len) {
    for (const struct ht_arch_tensor *row = p->arch->tensors; row->hf != NULL || row->gguf != NULL; row++) {
        if (row->role == t->role) {
            return ht_arch_tensor_name(row, true, t->layer, name, len);
        }
    }
    return NULL;
}

static ht_status check_tensors(const struct ht_quant_job *j, const struct ht_stats_file *f, ht_err *err) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        char room[HT_MAX_ST_NAME];
        const char *name = ht_plan_is_weight(t) && t->layer >= 0 ? gguf_name(j->plan, t, room, sizeof room) : NULL;
        const struct ht_stats_group *g = name != NULL ? ht_stats_file_find(f, name) : NULL;
        if (name != NULL && (g == NULL || g->cols != t->out.ne[0])) {
            return ht_fail(err, HT_INVAL, f->what, HT_NO_POS,
                           "it has %s%llu inputs for %.200s, the model %llu: statistics of another model",
                           g == NULL ? "no statistics, so " : "", (unsigned long long)(g != NULL ? g->cols : 0), name,
                           (unsigned long long)t->out.ne[0]);
        }
    }
    return HT_OK;
}

static ht_status check_model(const struct ht_quant_job *j, const struct ht_stats_file *f, ht_err *err) {
    char hex[17];
    const json_t *model = json_object_get(f->doc, "model");
    const char *norms = json_string_value(json_object_get(model, "norms"));
    const char *name = json_string_value(json_object_get(model, "name"));
    HT_TRY(ht_flow_hash_norms(j->plan->source, j->plan->bindings, hex, err));
    if (norms == NULL || strcmp(norms, hex) != 0) {
        return ht_fail(err, HT_INVAL, f->what, HT_NO_POS,
                       "its statistics are of another model (%.100s): the norms differ; collect them on this one",
                       name != NULL ? name : "unnamed");
    }
    return HT_OK;
}

ht_status ht_quant_stats_open(struct ht_quant_job *j, ht_err *err) {
    if (j->o->stats == NULL) {
        return HT_OK;
    }
    HT_TRY(ht_flow_stats_serve(&j->recipe, err));
    j->stats = ht_mem_calloc(1, sizeof *j->stats);
    if (j->stats == NULL) {
        return ht_fail_nomem(err, sizeof *j->stats);
    }
    HT_TRY(ht_flow_stats_open(j->o->stats, "--imatrix FILE takes it", &j->stats->file, err));
    const struct ht_stats_file *f = j->stats->file;
    HT_TRY(check_needs(j, f, err));
    HT_TRY(check_tensors(j, f, err));
    return check_model(j, f, err);
}

void ht_quant_stats_compare(struct ht_context *ctx, struct ht_quant_job *j) {
    const json_t *model = j->stats != NULL ? json_object_get(j->stats->file->doc, "model") : NULL;
    const char *xxh3 = json_string_value(json_object_get(model, "xxh3"));
    if (j->stats != NULL && (xxh3 == NULL || strcmp(xxh3, j->source_xxh3) != 0)) {
        ht_quant_warn(ctx, j,
                      "%s was collected on another file with the same norms: fine for the same model in another "
                      "container, wrong for one that was tuned since",
                      j->stats->file->what);
    }
}

/* ---- what it holds --------------------------------------------------------------------------------------------- */

ht_status ht_quant_stats_layer(struct ht_quant_stats *s, const struct ht_layer *layer, unsigned needs, ht_err *err) {
    unload(s);
    if ((s->file->has & HT_NEEDS_MEAN_SQUARE) == 0 && (needs & HT_NEEDS_MEAN_SQUARE) != 0) {
        needs |= HT_NEEDS_GRAM;
    }
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_linear *linear = layer->linears[role];
        const struct ht_stats_group *g = linear != NULL ? ht_stats_file_find(s->file, linear->name) : NULL;
        size_t i = 0;
        while (g != NULL && i < s->n && s->loaded[i].group != g) {
            i++;
        }
        if (g == NULL || i < s->n) {
            continue;
        }
        if (s->n == MAX_LOADED) {
            return ht_fail(err, HT_LIMIT, linear->name, HT_NO_POS, "a layer of more than %d different inputs",
                           MAX_LOADED);
        }
        HT_TRY(ht_stats_file_load(s->file, g, needs, &s->loaded[s->n].values, err));
        s->loaded[s->n++].group = g;
    }
    return HT_OK;
}

static struct ht_stats_values *values_of(struct ht_quant_stats *s, const struct ht_linear *linear) {
    const struct ht_stats_group *g = ht_stats_file_find(s->file, linear->name);
    for (size_t i = 0; i < s->n; i++) {
        if (s->loaded[i].group == g) {
            return &s->loaded[i].values;
        }
    }
    return NULL;
}

const struct ht_stats *ht_quant_stats_of(struct ht_quant_stats *s, const struct ht_linear *linear) {
    const struct ht_stats_values *v = values_of(s, linear);
    return v != NULL ? &v->stats : NULL;
}

void ht_quant_stats_divide(struct ht_quant_stats *s, const struct ht_linear *linear, const float *by) {
    struct ht_stats_values *v = values_of(s, linear);
    if (v != NULL) {
        ht_stats_values_divide(v, by);
    }
}

uint64_t ht_quant_stats_tokens(const struct ht_quant_stats *s) {
    return s->file->groups[0].tokens;
}

uint64_t ht_quant_stats_hash(const struct ht_quant_stats *s) {
    return ht_hash_xxh3(s->file->map.data, (size_t)s->file->map.size);
}

const json_t *ht_quant_stats_doc(const struct ht_quant_stats *s) {
    return s->file->doc;
}

ht_status ht_quant_stats_imatrix(const struct ht_quant_stats *s, struct ht_imatrix **imatrix, ht_err *err) {
    return ht_stats_to_imatrix(s->file, imatrix, err);
}
