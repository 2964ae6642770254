#include <stdio.h>

#include "base/context.h"
#include "base/sys.h"
#include "flow/flow.h"
#include "flow/flow_doc.h"
#include "flow/flow_paths.h"
#include "io/halftone.h"
#include "model/model.h"
#include "token/chat.h"

/* Longer arrays are given by their count and first elements. */
#define SHOWN_ELEMS 8

struct sums { /* tensors of one format or one role */
    uint64_t tensors, weights, bytes;
};

struct view {
    const struct ht_source *source;
    const struct ht_arch *arch; /* NULL: unknown */
    struct ht_hparams hp;
    struct ht_binding *bindings; /* [n_tensors] or NULL */
    ht_err why;                  /* why the architecture is unknown */
    struct ht_context *ctx;
    json_t *warnings;
};

/* The file is shown all the same; what cannot be is said on the way and in the document. */
static void warn(struct ht_doc *d, const struct view *v, const char *text) {
    ht_log(v->ctx, HT_LOG_WARN, "%s: %s; 'halftone verify' refuses it", v->source->path, text);
    ht_doc_append(d, v->warnings, ht_doc_text(text, strlen(text)));
}

/* A model by its own account, with hyper-parameters that contradict themselves or its tensors. Files without any are
 * no models (statistics), or lie beside what says it (single safetensors). */
static bool impossible(const struct view *v) {
    ht_status code = v->why.code;
    return (v->source->config != NULL || ht_meta_find(&v->source->meta, "general.architecture") != NULL) &&
           (code == HT_FORMAT || code == HT_LIMIT || code == HT_INVAL || code == HT_NUMERIC);
}

static json_t *number(enum ht_meta_type type, const struct ht_meta_kv *kv) {
    switch (type) {
    case HT_META_BOOL: return json_boolean(kv->v.u != 0);
    case HT_META_STRING: return ht_doc_text(kv->v.str.s, kv->v.str.len);
    case HT_META_F32:
    case HT_META_F64: return ht_doc_real(kv->v.f);
    case HT_META_I8:
    case HT_META_I16:
    case HT_META_I32:
    case HT_META_I64: return json_integer(kv->v.i);
    default: return json_integer((json_int_t)kv->v.u);
    }
}

static json_t *element(const struct ht_meta_kv *kv, uint64_t i) {
    switch (kv->elem_type) {
    case HT_META_STRING: {
        struct ht_str s = ht_meta_elem_str(kv, i);
        return ht_doc_text(s.s, s.len);
    }
    case HT_META_BOOL: return json_boolean(ht_meta_elem_i64(kv, i) != 0);
    case HT_META_F32:
    case HT_META_F64: return ht_doc_real(ht_meta_elem_f64(kv, i));
    default: return json_integer(ht_meta_elem_i64(kv, i));
    }
}

static void add_meta(struct ht_doc *d, const struct ht_meta *meta) {
    json_t *all = ht_doc_object(d, d->root, "metadata");
    for (size_t i = 0; i < meta->n; i++) {
        const struct ht_meta_kv *kv = &meta->kv[i];
        if (kv->type != HT_META_ARRAY) {
            ht_doc_set(d, all, kv->key.s, number(kv->type, kv));
            continue;
        }
        json_t *array = ht_doc_object(d, all, kv->key.s);
        ht_doc_set(d, array, "array", json_string(ht_meta_type_name(kv->elem_type)));
        ht_doc_set(d, array, "count", json_integer((json_int_t)kv->n));
        json_t *first = ht_doc_array(d, array, "first");
        for (uint64_t j = 0; j < kv->n && j < SHOWN_ELEMS; j++) {
            ht_doc_append(d, first, element(kv, j));
        }
    }
}

static void add_sums(struct ht_doc *d, json_t *array, const char *key, const char *name, const struct sums *s) {
    if (s->tensors == 0) {
        return;
    }
    json_t *o = json_object();
    ht_doc_set(d, o, key, json_string(name));
    ht_doc_set(d, o, "tensors", json_integer((json_int_t)s->tensors));
    ht_doc_set(d, o, "weights", json_integer((json_int_t)s->weights));
    ht_doc_set(d, o, "bytes", json_integer((json_int_t)s->bytes));
    ht_doc_set(d, o, "bits_per_weight", ht_doc_real(8.0 * (double)s->bytes / (double)s->weights));
    ht_doc_append(d, array, o);
}

static void count(struct sums *s, const struct ht_tensor *t) {
    s->tensors++;
    s->weights += ht_tensor_elems(t);
    s->bytes += t->bytes;
}

static void add_totals(struct ht_doc *d, const struct view *v) {
    struct sums total = {0};
    bool quantized = false;
    json_t *formats = ht_doc_array(d, d->root, "formats");
    struct ht_format_sums *rows;
    size_t n;
    d->failed |= ht_source_formats(v->source, &rows, &n, NULL) != HT_OK;
    for (size_t f = 0; f < n; f++) {
        struct sums s = {rows[f].tensors, rows[f].weights, rows[f].bytes};
        add_sums(d, formats, "format", rows[f].name, &s);
        quantized |= rows[f].quantized;
        total.tensors += s.tensors;
        total.weights += s.weights;
        total.bytes += s.bytes;
    }
    ht_mem_free(rows);
    json_t *roles = ht_doc_array(d, d->root, "roles");
    for (int r = 0; r < HT_ROLES && v->bindings != NULL; r++) {
        struct sums s = {0};
        for (size_t i = 0; i < v->source->n_tensors; i++) {
            if (v->bindings[i].role == (enum ht_role)r) {
                count(&s, &v->source->tensors[i]);
            }
        }
        add_sums(d, roles, "role", ht_role_name((enum ht_role)r), &s);
    }
    ht_doc_set(d, d->root, "quantized", json_boolean(quantized));
    ht_doc_set(d, d->root, "n_tensors", json_integer((json_int_t)total.tensors));
    ht_doc_set(d, d->root, "weights", json_integer((json_int_t)total.weights));
    ht_doc_set(d, d->root, "data_bytes", json_integer((json_int_t)total.bytes));
    ht_doc_set(d, d->root, "bits_per_weight",
               ht_doc_real(total.weights > 0 ? 8.0 * (double)total.bytes / (double)total.weights : 0));
}

static void add_tensors(struct ht_doc *d, const struct view *v) {
    json_t *all = ht_doc_array(d, d->root, "tensors");
    for (size_t i = 0; i < v->source->n_tensors; i++) {
        const struct ht_tensor *t = &v->source->tensors[i];
        char text[HT_SCHEME_TEXT];
        json_t *o = json_object();
        ht_doc_set(d, o, "name", ht_doc_text(t->name, strlen(t->name)));
        if (v->bindings != NULL) {
            ht_doc_set(d, o, "role", json_string(ht_role_name(v->bindings[i].role)));
            ht_doc_set(d, o, "layer", v->bindings[i].layer < 0 ? json_null() : json_integer(v->bindings[i].layer));
        }
        const struct ht_packed *packed = ht_source_packed(v->source, t);
        ht_doc_set(d, o, "format", json_string(ht_source_format(v->source, t, text)));
        if (packed != NULL && packed->has_side) { /* what stands beside codes, or happens at run time */
            char leaves[HT_LEAVES_TEXT];
            ht_doc_set(d, o, "beside", json_string(ht_leaves_text(packed->side.leaves, leaves)));
            if ((packed->side.leaves & HT_LEAVES_ACT) != 0) {
                ht_doc_set(d, o, "activations", json_string(ht_scheme_text(&packed->side.act, text)));
            }
        }
        json_t *shape = ht_doc_array(d, o, "shape"); /* contiguous dimension first, as in GGUF */
        for (int k = 0; k < t->n_dims; k++) {
            ht_doc_append(d, shape, json_integer((json_int_t)t->ne[k]));
        }
        ht_doc_set(d, o, "bytes", json_integer((json_int_t)t->bytes));
        ht_doc_set(d, o, "bits", ht_doc_real(packed != NULL ? 8.0 * (double)t->bytes / (double)ht_tensor_elems(t)
                                                            : ht_format_bits(t->format)));
        ht_doc_append(d, all, o);
    }
}

static const char *scaling_name(enum ht_rope_scaling s) {
    static const char *const names[] = {"none", "linear", "llama3", "divisors"};
    return names[s];
}

static void add_hparams(struct ht_doc *d, const struct view *v) {
    const struct ht_hparams *hp = &v->hp;
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {
        {"vocab", hp->vocab},     {"layers", hp->n_layers},     {"width", hp->width}, {"heads", hp->n_heads},
        {"kv_heads", hp->n_kv_heads}, {"head_dim", hp->head_dim}, {"ffn", hp->ffn},   {"context", hp->context},
        {"rope_dim", hp->rope_dim},
    };
    json_t *o = ht_doc_object(d, d->root, "hparams");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        ht_doc_set(d, o, counts[i].key, json_integer(counts[i].value));
    }
    ht_doc_set(d, o, "rms_eps", ht_doc_real(hp->rms_eps));
    ht_doc_set(d, o, "rope_base", ht_doc_real(hp->rope_base));
    ht_doc_set(d, o, "rope_scaling", json_string(scaling_name(hp->rope_scaling)));
    ht_doc_set(d, o, "tied_output", json_boolean(hp->tied));
    /* Keys and values of all layers, two bytes each. */
    uint64_t per_token = 4ull * hp->n_layers * hp->n_kv_heads * hp->head_dim;
    json_t *kv = ht_doc_object(d, d->root, "kv_cache_f16");
    ht_doc_set(d, kv, "bytes_per_token", json_integer((json_int_t)per_token));
    ht_doc_set(d, kv, "bytes_per_1024_tokens", json_integer((json_int_t)(per_token * 1024)));
}

static json_t *id_or_null(int32_t id) {
    return id < 0 ? json_null() : json_integer(id);
}

static void add_tokenizer(struct ht_doc *d, const struct view *v) {
    char text[128];
    struct ht_tokenizer *tokenizer = NULL;
    ht_err e = {.pos = HT_NO_POS};
    json_t *o = ht_doc_object(d, d->root, "tokenizer");
    if (ht_model_tokenizer(v->source, NULL, &tokenizer, &e) != HT_OK) {
        ht_doc_set(d, o, "error", ht_doc_text(e.msg, strlen(e.msg)));
        return;
    }
    const struct ht_vocab *t = ht_tokenizer_vocab(tokenizer);
    if (t->n_tokens > v->hp.vocab) {
        snprintf(text, sizeof text, "the tokenizer has %u tokens, the embedding only %u rows", t->n_tokens,
                 v->hp.vocab);
        warn(d, v, text);
    }
    const struct ht_chat *chat = t->chat_template != NULL ? ht_chat_match(t->chat_template) : NULL;
    ht_doc_set(d, o, "model", json_string(t->model));
    ht_doc_set(d, o, "pre", json_string(t->pre));
    ht_doc_set(d, o, "tokens", json_integer(t->n_tokens));
    ht_doc_set(d, o, "merges", json_integer(t->n_merges));
    ht_doc_set(d, o, "bos", id_or_null(t->bos));
    ht_doc_set(d, o, "eos", id_or_null(t->eos));
    ht_doc_set(d, o, "add_bos", json_boolean(t->add_bos));
    ht_doc_set(d, o, "chat_template_bytes",
               json_integer(t->chat_template != NULL ? (json_int_t)strlen(t->chat_template) : 0));
    ht_doc_set(d, o, "chat", chat != NULL ? json_string(chat->name) : json_null());
    ht_tokenizer_free(tokenizer);
}

static ht_status fill(struct view *v, char **json, ht_err *err) {
    const struct ht_source *s = v->source;
    struct ht_doc d;
    char name[256], text[sizeof v->why.msg + 64];
    ht_flow_base_name(s->path, name, sizeof name);
    ht_doc_init(&d, "halftone.inspect/1");
    ht_doc_set(&d, d.root, "path", ht_doc_text(name, strlen(name)));
    ht_doc_set(&d, d.root, "container", json_string(s->container->name));
    ht_doc_set(&d, d.root, "files", json_integer((json_int_t)s->n_maps));
    ht_doc_set(&d, d.root, "file_bytes", json_integer((json_int_t)s->file_bytes));
    const struct ht_meta_kv *kind = ht_meta_find(&s->meta, "general.type"); /* "imatrix", "adapter" ... */
    if (kind != NULL && kind->type == HT_META_STRING) {
        ht_doc_set(&d, d.root, "kind", ht_doc_text(kind->v.str.s, kind->v.str.len));
    }
    ht_doc_set(&d, d.root, "architecture", v->arch != NULL ? json_string(v->arch->name) : json_null());
    v->warnings = ht_doc_array(&d, d.root, "warnings");
    if (v->arch != NULL) {
        add_hparams(&d, v);
        add_tokenizer(&d, v);
    } else {
        ht_doc_set(&d, d.root, "architecture_note", ht_doc_text(v->why.msg, strlen(v->why.msg)));
        if (impossible(v)) {
            snprintf(text, sizeof text, "hyper-parameters that cannot be: %s", v->why.msg);
            warn(&d, v, text);
        }
    }
    const json_t *how = s->packed != NULL ? json_object_get(s->config, "quantization_config") : NULL;
    const char *kv = json_string_value(json_object_get(how, "kv_cache"));
    if (kv != NULL) {
        ht_doc_set(&d, d.root, "kv_cache", ht_doc_text(kv, strlen(kv)));
    }
    add_totals(&d, v);
    add_meta(&d, &s->meta);
    add_tensors(&d, v);
    return ht_doc_finish(&d, json, err);
}

ht_status ht_flow_inspect(struct ht_context *ctx, const char *path, char **json, ht_err *err) {
    struct ht_source *source = NULL; /* opening is enough: no data are read */
    struct view v = {.why = {.pos = HT_NO_POS}, .ctx = ctx};
    HT_TRY(ht_source_open(path, &source, err));
    v.source = source;
    ht_status status = ht_arch_read(source, &v.arch, &v.hp, &v.why);
    if (status == HT_OK) {
        v.bindings = ht_mem_calloc(source->n_tensors + 1, sizeof *v.bindings);
        status = v.bindings == NULL ? ht_fail_nomem(&v.why, source->n_tensors * sizeof *v.bindings)
                                    : ht_arch_bind(source, v.arch, &v.hp, v.bindings, &v.why);
    }
    if (status != HT_OK) { /* a file of an unknown kind still has tensors and metadata to show */
        ht_mem_free(v.bindings);
        v.bindings = NULL;
        v.arch = NULL;
    }
    status = status == HT_NOMEM ? ht_fail(err, HT_NOMEM, NULL, HT_NO_POS, "%s", v.why.msg) : fill(&v, json, err);
    ht_mem_free(v.bindings);
    ht_source_close(source);
    return status;
}
