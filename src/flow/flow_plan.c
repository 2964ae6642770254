#include "flow/flow_plan.h"

#include <stdio.h>
#include <stdlib.h> /* defines: qsort */

#include "base/mem.h"
#include "model/rope.h"

static ht_status open_source(struct ht_flow_plan *p, const char *path, const char *pre, ht_err *err) {
    HT_TRY(ht_source_open(path, &p->source, err));
    p->from_gguf = strcmp(p->source->container->name, "gguf") == 0;
    HT_TRY(ht_arch_read(p->source, &p->arch, &p->hp, err));
    p->bindings = ht_mem_calloc(p->source->n_tensors, sizeof *p->bindings);
    if (p->bindings == NULL) {
        return ht_fail_nomem(err, p->source->n_tensors * sizeof *p->bindings);
    }
    HT_TRY(ht_arch_bind(p->source, p->arch, &p->hp, p->bindings, err));
    if (p->from_gguf != (p->target == HT_TARGET_GGUF)) {
        HT_TRY(ht_arch_refuse_unknown(p->source, p->arch, p->bindings, err));
    }
    if (!p->from_gguf && p->target == HT_TARGET_GGUF) {
        HT_TRY(ht_hf_vocab_load(path, pre, &p->hf_vocab, err));
    }
    return HT_OK;
}

static char *keep_name(struct ht_flow_plan *p, const struct ht_binding *b, const struct ht_tensor *in) {
    bool to_gguf = p->target == HT_TARGET_GGUF;
    char buf[HT_MAX_ST_NAME + 1];
    const char *name = NULL;
    if (to_gguf != p->from_gguf && b->row != NULL) {
        name = ht_arch_tensor_name(b->row, to_gguf, b->layer, buf, sizeof buf);
    }
    return ht_arena_strdup(&p->arena, name != NULL ? name : in->name);
}

/* Rows are reordered when the containers differ in the order that rotary embedding wants. */
static void set_order(const struct ht_flow_plan *p, const struct ht_binding *b, struct ht_plan_tensor *t) {
    bool to_gguf = p->target == HT_TARGET_GGUF;
    unsigned flags = b->row != NULL ? b->row->flags : 0;
    if (to_gguf != p->from_gguf && (flags & (HT_TENSOR_PERMUTE_Q | HT_TENSOR_PERMUTE_K))) {
        t->heads = flags & HT_TENSOR_PERMUTE_Q ? p->hp.n_heads : p->hp.n_kv_heads;
        t->to_pairs = to_gguf;
    }
}

/* Whether the output holds this tensor of the source. Divisors of scaled RoPE are a tensor in GGUF only; HF
 * has them as numbers in config.json. */
static bool wanted_in_output(const struct ht_flow_plan *p, const struct ht_binding *b) {
    bool to_gguf = p->target == HT_TARGET_GGUF;
    return to_gguf == p->from_gguf || (b->row != NULL && (to_gguf ? b->row->gguf : b->row->hf) != NULL);
}

/* Inputs shifted at run time, x - z, with W z in the model's own bias: weights alone would be another model. Where the
 * sidecar holds W z, both go together. */
static ht_status check_shift(const struct ht_plan_tensor *t, ht_err *err) {
    unsigned leaves = t->packed != NULL && t->packed->has_side ? t->packed->side.leaves : 0;
    if ((leaves & HT_LEAVES_IN_SHIFT) == 0 || (leaves & HT_LEAVES_OUT_BIAS) != 0) {
        return HT_OK;
    }
    return ht_fail(err, HT_UNSUPPORTED, t->in->name, HT_NO_POS,
                   "its inputs are shifted at run time and the model's bias makes up for it; plain weights cannot do "
                   "that: start from the model that was quantized");
}

static ht_status add_source_tensors(struct ht_flow_plan *p, ht_err *err) {
    const struct ht_source *s = p->source;
    p->tensors = ht_mem_calloc(s->n_tensors + 2, sizeof *p->tensors); /* two more: divisors of RoPE, a head */
    p->skipped = ht_mem_calloc(s->n_tensors + 1, sizeof *p->skipped);
    if (p->tensors == NULL || p->skipped == NULL) {
        return ht_fail_nomem(err, s->n_tensors * sizeof *p->tensors);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct ht_binding *b = &p->bindings[i];
        char *name = keep_name(p, b, &s->tensors[i]);
        if (name == NULL) {
            return ht_fail_nomem(err, 0);
        }
        if (!wanted_in_output(p, b)) {
            p->skipped[p->n_skipped++] = name;
            continue;
        }
        struct ht_plan_tensor *t = &p->tensors[p->n_tensors++];
        t->out = s->tensors[i];
        t->out.name = name;
        t->out.data = NULL;
        t->in = &s->tensors[i];
        t->packed = ht_source_packed(s, t->in);
        t->role = b->role;
        t->layer = b->layer;
        t->wanted = t->out.format;
        set_order(p, b, t);
        HT_TRY(check_shift(t, err));
    }
    return HT_OK;
}

/* HF names the scaling in config.json; GGUF has the divisors as a tensor. */
static ht_status add_rope_divisors(struct ht_flow_plan *p, ht_err *err) {
    if (p->target != HT_TARGET_GGUF || p->from_gguf || p->hp.rope_scaling != HT_ROPE_SCALING_LLAMA3) {
        return HT_OK;
    }
    uint64_t n = p->hp.rope_dim / 2;
    float *divisors = ht_arena_calloc(&p->arena, n, sizeof *divisors);
    char *name = ht_arena_strdup(&p->arena, "rope_freqs.weight");
    if (divisors == NULL || name == NULL) {
        return ht_fail_nomem(err, n * sizeof *divisors);
    }
    ht_rope_llama3_divisors(&p->hp, divisors);
    struct ht_plan_tensor *t = &p->tensors[p->n_tensors++];
    t->out = (struct ht_tensor){.name = name, .format = ht_format_find("f32"), .n_dims = 1, .ne = {n, 1, 1, 1}};
    t->literal = divisors;
    t->role = HT_ROLE_ROPE_FREQS;
    t->layer = -1;
    t->wanted = t->out.format;
    return HT_OK;
}

/* Tensors outside of layers first, then layer by layer; inside by role. Names break ties. */
static int by_layer(const void *a, const void *b) {
    const struct ht_plan_tensor *x = a, *y = b;
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    if (x->role != y->role) {
        return x->role < y->role ? -1 : 1;
    }
    return strcmp(x->out.name, y->out.name);
}

/* Row of a table by role; it is there. */
static const struct ht_arch_tensor *row_of(const struct ht_arch *arch, enum ht_role role) {
    const struct ht_arch_tensor *row = arch->tensors;
    while (row->role != role && (row->hf != NULL || row->gguf != NULL)) {
        row++;
    }
    return row;
}

static struct ht_plan_tensor *find_name(const struct ht_flow_plan *p, const char *name) {
    for (size_t i = 0; i < p->n_tensors; i++) {
        if (strcmp(p->tensors[i].out.name, name) == 0) {
            return &p->tensors[i];
        }
    }
    return NULL;
}

ht_status ht_flow_plan_untie(struct ht_flow_plan *p, ht_err *err) {
    char buf[HT_MAX_ST_NAME + 1];
    bool to_gguf = p->target == HT_TARGET_GGUF;
    const struct ht_plan_tensor *embd = p->tensors;
    if (!p->hp.tied) {
        return HT_OK;
    }
    while (embd->role != HT_ROLE_TOKEN_EMBD) { /* bound, so it is there */
        embd++;
    }
    const char *name = ht_arch_tensor_name(row_of(p->arch, HT_ROLE_OUTPUT), to_gguf, -1, buf, sizeof buf);
    /* A checkpoint may hold a head that nobody reads: its place is taken. */
    struct ht_plan_tensor *head = find_name(p, name);
    head = head != NULL ? head : &p->tensors[p->n_tensors++];
    *head = *embd;
    head->role = HT_ROLE_OUTPUT;
    head->out.name = ht_arena_strdup(&p->arena, name);
    if (head->out.name == NULL) {
        return ht_fail_nomem(err, sizeof buf);
    }
    p->hp.tied = false;
    p->untied = true;
    if (!to_gguf || !p->from_gguf) {
        qsort(p->tensors, p->n_tensors, sizeof *p->tensors, by_layer);
    }
    return HT_OK;
}

void ht_flow_turn_rows(const struct ht_plan_tensor *t, float *x, uint64_t rows, float *scratch) {
    uint64_t cols = t->out.ne[0];
    for (uint64_t r = 0; t->turn != NULL && r < rows; r++, x += cols) {
        for (uint64_t j = 0; t->turn->scale != NULL && j < cols; j++) {
            x[j] *= t->turn->scale[j];
        }
        ht_rotation_row(t->turn->q, x, scratch);
    }
}

static ht_status copy_meta(struct ht_flow_plan *p, ht_err *err) {
    for (size_t i = 0; i < p->source->meta.n; i++) {
        const struct ht_meta_kv *kv = &p->source->meta.kv[i];
        if (strncmp(kv->key.s, "split.", 6) != 0) {
            HT_TRY(ht_meta_set_kv(&p->meta, kv, err));
        }
    }
    return HT_OK;
}

ht_status ht_flow_plan_open(const char *path, const char *pre, enum ht_target target, struct ht_flow_plan **out,
                            ht_err *err) {
    *out = NULL;
    struct ht_flow_plan *p = ht_mem_calloc(1, sizeof *p);
    if (p == NULL) {
        return ht_fail_nomem(err, sizeof *p);
    }
    ht_status status;
    p->target = target;
    ht_arena_init(&p->arena, 0);
    ht_meta_init(&p->meta);
    HT_TRY_DONE(open_source(p, path, pre, err));
    HT_TRY_DONE(add_source_tensors(p, err));
    HT_TRY_DONE(add_rope_divisors(p, err));
    if (target == HT_TARGET_GGUF && p->from_gguf) {
        HT_TRY_DONE(copy_meta(p, err));
    } else {
        qsort(p->tensors, p->n_tensors, sizeof *p->tensors, by_layer);
    }
    if (target == HT_TARGET_GGUF && !p->from_gguf) {
        HT_TRY_DONE(ht_flow_meta_from_hf(p, err));
    }
    *out = p;
done:
    if (status != HT_OK) {
        ht_flow_plan_close(p);
    }
    return status;
}

void ht_flow_plan_close(struct ht_flow_plan *p) {
    if (p == NULL) {
        return;
    }
    ht_meta_deinit(&p->meta);
    ht_hf_vocab_free(p->hf_vocab);
    ht_mem_free(p->tensors);
    ht_mem_free(p->skipped);
    ht_mem_free(p->bindings);
    ht_source_close(p->source);
    ht_arena_deinit(&p->arena);
    ht_mem_free(p);
}

/* ---- what files hold ------------------------------------------------------------------------------------- */

const char *ht_plan_format(const struct ht_plan_tensor *t, char text[HT_SCHEME_TEXT]) {
    if (t->scheme != NULL) {
        return ht_scheme_text(t->scheme, text);
    }
    snprintf(text, HT_SCHEME_TEXT, "%s", t->out.format->name);
    return text;
}

bool ht_flow_is_packed(const struct ht_flow_plan *p, const struct ht_plan_tensor *t) {
    bool plain = t->scheme == NULL && t->side == NULL &&
                 (t->out.format->kind == HT_KIND_FLOAT || t->out.format->kind == HT_KIND_INT);
    return p->target == HT_TARGET_HALFTONE && !plain;
}

/* The tensor as it is packed; sizes is memory for the shape of codes that are not made yet. */
static ht_status pack_of(const struct ht_plan_tensor *t, struct ht_qtensor *sizes, struct ht_pack *pack, ht_err *err) {
    *pack = (struct ht_pack){.name = t->out.name, .rows = t->out.ne[1], .cols = t->out.ne[0], .side = t->side};
    if (t->scheme == NULL) {
        pack->format = t->out.format;
        return HT_OK;
    }
    pack->q = t->q != NULL ? t->q : sizes;
    return t->q != NULL ? HT_OK : ht_qtensor_shape(sizes, t->scheme, pack->rows, pack->cols, t->out.name, err);
}

ht_status ht_flow_plan_sizes(struct ht_flow_plan *p, ht_err *err) {
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct ht_plan_tensor *t = &p->tensors[i];
        struct ht_qtensor sizes;
        struct ht_pack pack;
        if (t->scheme == NULL) {
            HT_TRY(ht_tensor_check(&t->out, NULL, err));
        } else {
            HT_TRY(pack_of(t, &sizes, &pack, err));
            t->out.bytes = ht_qtensor_bytes(pack.q);
        }
        t->out.bytes += t->side != NULL ? ht_sidecar_bytes(t->side) : 0;
    }
    return HT_OK;
}

static ht_status add_parts(struct ht_flow_plan *p, size_t row, struct ht_flow_stored *s, size_t *cap, ht_err *err) {
    struct ht_plan_tensor *t = &p->tensors[row];
    struct ht_qtensor sizes;
    struct ht_pack pack;
    struct ht_tensor part = t->out;
    char name[HT_MAX_ST_NAME + 1];
    ht_status status = HT_OK;
    bool packed = ht_flow_is_packed(p, t);
    if (packed) {
        HT_TRY(pack_of(t, &sizes, &pack, err));
    }
    for (size_t i = 0; packed ? ht_pack_part(&pack, i, &part, name, &status, err) : i == 0; i++) {
        if (s->n == *cap) {
            *cap = *cap > 0 ? *cap * 2 : 64;
            struct ht_tensor *tensors = ht_mem_realloc_array(s->tensors, *cap, sizeof *tensors);
            s->tensors = tensors != NULL ? tensors : s->tensors;
            size_t *rows = ht_mem_realloc_array(s->rows, *cap, sizeof *rows);
            s->rows = rows != NULL ? rows : s->rows;
            if (tensors == NULL || rows == NULL) {
                return ht_fail_nomem(err, *cap * sizeof *tensors);
            }
        }
        part.name = packed ? ht_arena_strdup(&p->arena, name) : t->out.name;
        part.data = NULL;
        if (part.name == NULL) {
            return ht_fail_nomem(err, sizeof name);
        }
        s->tensors[s->n] = part;
        s->rows[s->n++] = row;
    }
    return status;
}

ht_status ht_flow_plan_stored(struct ht_flow_plan *p, struct ht_flow_stored *stored, ht_err *err) {
    size_t cap = 0;
    *stored = (struct ht_flow_stored){0};
    for (size_t i = 0; i < p->n_tensors; i++) {
        ht_status status = add_parts(p, i, stored, &cap, err);
        if (status != HT_OK) {
            ht_flow_stored_free(stored);
            return status;
        }
    }
    return HT_OK;
}

void ht_flow_stored_free(struct ht_flow_stored *s) {
    ht_mem_free(s->tensors);
    ht_mem_free(s->rows);
    *s = (struct ht_flow_stored){0};
}

ht_status ht_flow_plan_entries(const struct ht_flow_plan *p, json_t **weights, ht_err *err) {
    json_t *all = json_object();
    ht_status status = all != NULL ? HT_OK : ht_fail_nomem(err, 0);
    for (size_t i = 0; i < p->n_tensors && status == HT_OK; i++) {
        struct ht_qtensor sizes;
        struct ht_pack pack;
        if (!ht_flow_is_packed(p, &p->tensors[i])) {
            continue;
        }
        status = pack_of(&p->tensors[i], &sizes, &pack, err);
        if (status == HT_OK && json_object_set_new(all, p->tensors[i].out.name, ht_pack_entry(&pack)) != 0) {
            status = ht_fail_nomem(err, 0);
        }
    }
    if (status != HT_OK) {
        json_decref(all);
        all = NULL;
    }
    *weights = all;
    return status;
}

const struct ht_format *ht_flow_plan_main_format(const struct ht_flow_plan *p, bool *quantized) {
    const struct ht_format *best = NULL;
    uint64_t best_elems = 0;
    *quantized = false;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        uint64_t elems = 0;
        for (size_t j = 0; j < p->n_tensors; j++) {
            const struct ht_plan_tensor *t = &p->tensors[j];
            if (ht_plan_is_weight(t) && t->in != NULL && t->in->format == f) {
                elems += ht_tensor_elems(t->in);
            }
        }
        if (elems > 0 && f->kind != HT_KIND_FLOAT) {
            *quantized = true;
        }
        if (elems > best_elems) {
            best_elems = elems;
            best = f;
        }
    }
    return best;
}

void ht_flow_size_label(uint64_t n_params, char *buf, size_t len) {
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}};
    size_t i = 0;
    while (i < 3 && (double)n_params < units[i].unit) {
        i++;
    }
    double v = (double)n_params / units[i].unit;
    snprintf(buf, len, "%.*f%s", v < 9.5 ? 1 : 0, v, units[i].suffix); /* two digits, as gguf's tools */
}
