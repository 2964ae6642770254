/* What the work file holds: which job it is of, layers of an earlier run, and in the end the tensors of the plan. */
#include <string.h>

#include "base/buf.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/mem.h"
#include "flow/quantize/quantize_blocks.h"
#include "quant/recipe_yaml.h"

/* ---- the job's digest ---- */

ht_status ht_blocks_digest(const struct blocks *b, char digest[65], ht_err *err) {
    const struct ht_quant_job *j = b->job;
    struct ht_sha256 *sha;
    struct ht_buf text;
    char format[HT_SCHEME_TEXT];
    ht_buf_init(&text, 0);
    ht_buf_printf(&text, "%s %s %s seed %llu\n", ht_version(), ht_cpu_level_name(ht_cpu_best()),
                  j->source_xxh3, (unsigned long long)j->o->seed);
    ht_recipe_write(&j->recipe, &text);
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        ht_buf_printf(&text, "%s %s %llu %llu\n", t->out.name, ht_plan_format(t, format),
                      (unsigned long long)t->out.ne[0], (unsigned long long)t->out.ne[1]);
    }
    if (j->stats != NULL) {
        ht_buf_printf(&text, "statistics %016llx\n", (unsigned long long)ht_quant_stats_hash(j->stats));
    }
    ht_status status = ht_buf_ok(&text) ? ht_sha256_new(&sha, err) : ht_fail_nomem(err, text.len);
    if (status == HT_OK) {
        uint64_t n = b->windows.n * b->windows.window;
        ht_sha256_update(sha, text.data, text.len);
        ht_sha256_update(sha, &b->windows.window, sizeof b->windows.window);
        ht_sha256_update(sha, b->windows.ids, n * sizeof *b->windows.ids);
        ht_sha256_final(sha, digest);
        ht_sha256_free(sha);
    }
    ht_buf_deinit(&text);
    return status;
}

/* ---- what an earlier run has finished ---- */

/* The model's own copy of a norm or bias: steps of the plan point to it. */
static void put_vector(struct ht_layer *layer, enum ht_role role, const void *bytes, uint64_t n_bytes) {
    if (layer->vectors[role] != NULL) {
        memcpy((float *)(uintptr_t)layer->vectors[role], bytes, n_bytes);
    }
}

ht_status ht_blocks_resume(struct blocks *b, struct ht_work *work, uint32_t layers, ht_err *err) {
    struct ht_work_item items[MAX_LINEARS];
    struct ht_model *m = b->model;
    ht_status status = HT_OK;
    uint64_t at = 0;
    bool sequential = b->job->recipe.calibration.sequential;
    HT_TRY(ht_work_map(work, err));
    bool more = ht_work_next(work, b->job->plan, &at, &items[0], &status, err);
    for (int32_t layer = 0; layer < (int32_t)layers; layer++) {
        size_t n = 0;
        HT_TRY(ht_blocks_save_layer(b, &m->layers[layer], err));
        /* The layer in floating point is only wanted where something runs through it. */
        if (b->calib != NULL && (!sequential || ht_calib_layers_hidden_float(b->calib) != NULL)) {
            HT_TRY(ht_blocks_transform(b, layer, true, err));
            HT_TRY(ht_calib_layers_advance_float(b->calib, layer, err));
        }
        while (more && items[n].layer == layer && n + 1 < MAX_LINEARS) {
            const struct ht_plan_tensor *t = &b->job->plan->tensors[items[n].tensor];
            struct ht_linear *linear = m->layers[layer].linears[t->role];
            if (sequential && items[n].vector) {
                put_vector(&m->layers[layer], t->role, items[n].bytes, items[n].n_bytes);
            } else if (sequential && linear != NULL) {
                ht_blocks_install(linear, items[n].has_q ? NULL : t->out.format, items[n].bytes,
                        items[n].has_q ? &items[n].q : NULL,
                        items[n].side.leaves != 0 ? &items[n].side : NULL);
            }
            b->done += items[n].vector ? 0 : ht_tensor_elems(&t->out);
            n++;
            more = ht_work_next(work, b->job->plan, &at, &items[n], &status, err);
        }
        HT_TRY(status);
        HT_TRY(sequential ? ht_blocks_advance(b, layer, err) : ht_blocks_advance_plain(b, layer, err));
        ht_blocks_restore_layer(b, &m->layers[layer]);
        ht_blocks_drop_layer(b);
        ht_model_drop_layer(m, layer);
        items[0] = items[n];
    }
    return HT_OK;
}

/* What transforms did to all layers, those of earlier runs too. */
static ht_status bind_folds(struct blocks *b, const struct ht_work *work, ht_err *err) {
    struct ht_quant_job *j = b->job;
    struct ht_work_folds f;
    size_t n = 0;
    for (uint64_t at = 0; ht_work_next_layer(work, &at, &f);) {
        n += (size_t)f.n_notes;
    }
    struct ht_fold_note *all = ht_arena_calloc(&j->plan->arena, n + 1, sizeof *all);
    if (all == NULL) {
        return ht_fail_nomem(err, n * sizeof *all);
    }
    for (uint64_t at = 0; ht_work_next_layer(work, &at, &f);) {
        j->folded_sites += f.sites;
        j->folded_dead += f.dead;
        j->folded_clamped += f.clamped;
        j->folded_cut += f.cut;
        if (f.n_notes > 0) {
            memcpy(all + j->n_folds, f.notes, (size_t)f.n_notes * sizeof *all);
        }
        j->n_folds += (size_t)f.n_notes;
    }
    j->folds = all;
    return HT_OK;
}

ht_status ht_blocks_bind(struct blocks *b, struct ht_work *work, ht_err *err) {
    struct ht_flow_plan *p = b->job->plan;
    struct ht_work_item item;
    ht_status status;
    uint64_t at = 0, from = 0;
    HT_TRY(ht_work_map(work, err));
    for (; ht_work_next(work, p, &at, &item, &status, err); from = at) {
        struct ht_plan_tensor *t = &p->tensors[item.tensor];
        t->heads = b->halves ? 0 : t->heads;
        t->made = ht_work_mapping(work);
        t->made_at = from;
        t->made_bytes = at - from;
        if (item.vector) {
            t->out.format = t->wanted = ht_format_find("f32");
            t->stored = item.bytes;
            continue;
        }
        struct ht_job_report *report = ht_arena_calloc(&p->arena, 1, sizeof *report);
        struct ht_qtensor *q = item.has_q ? ht_arena_calloc(&p->arena, 1, sizeof *q) : NULL;
        struct ht_sidecar *side = item.side.leaves != 0 ? ht_arena_calloc(&p->arena, 1, sizeof *side) : NULL;
        if (report == NULL || (item.has_q && q == NULL) || (item.side.leaves != 0 && side == NULL)) {
            return ht_fail_nomem(err, sizeof *report + sizeof *q + sizeof *side);
        }
        *report = item.report;
        t->report = report;
        t->stored = item.bytes;
        if (q != NULL) {
            *q = item.q;
        }
        if (side != NULL) {
            *side = item.side;
        }
        t->q = q;
        t->side = side;
    }
    HT_TRY(status);
    HT_TRY(bind_folds(b, work, err));
    for (size_t i = 0; i < p->n_tensors; i++) { /* what is streamed from the source is counted there */
        p->tensors[i].n_nonfinite = p->tensors[i].q != NULL ? p->tensors[i].n_nonfinite : 0;
    }
    return ht_flow_plan_sizes(p, err);
}
