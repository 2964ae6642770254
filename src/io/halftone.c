/* Reading: a Hugging Face folder is opened as such, then its parts are gathered into packed weights. */
#include "io/halftone.h"

#include <fcntl.h>
#include <float.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h> /* read, close */

#include "base/json.h"
#include "base/mem.h"
#include "io/hf.h"
#include "io/safetensors.h"
#include "io/source.h"
#include "tensor/kv.h"

/* ---- recognizing ------------------------------------------------------------------------------------------- */

static const json_t *quantization(const json_t *config) {
    const json_t *q = json_object_get(config, "quantization_config");
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    return method != NULL && strcmp(method, HT_HALFTONE_METHOD) == 0 ? q : NULL;
}

/* Reads `"quant_method" : "halftone"`, blanks between its parts being free, without the heap: when memory is out, "not
 * ours" would be the wrong answer. Whether it stands in quantization_config is the opener's question. */
struct scan {
    const char *const *parts; /* what is still to come, NULL ends */
    size_t at;                /* bytes of the first that were met */
};

static const char *const wanted[] = {"\"quant_method\"", ":", "\"" HT_HALFTONE_METHOD "\"", NULL};

static void scan_byte(struct scan *s, char c) {
    if (s->at == 0 && s->parts != wanted && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
        return;
    }
    if (c == (*s->parts)[s->at]) {
        s->at++;
    } else { /* the first part begins with a quote, which none of them holds but at its ends */
        s->parts = wanted;
        s->at = c == wanted[0][0];
    }
    if ((*s->parts)[s->at] == '\0') {
        s->parts++;
        s->at = 0;
    }
}

bool ht_halftone_probe(const char *path) {
    char file[PATH_MAX], buf[4096];
    struct scan s = {wanted, 0};
    int n = snprintf(file, sizeof file, "%s/config.json", path);
    int fd = n > 0 && (size_t)n < sizeof file ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0) {
        return false;
    }
    size_t total = 0;
    for (ssize_t got; *s.parts != NULL && total <= HT_MAX_CONFIG_BYTES && (got = read(fd, buf, sizeof buf)) > 0;
         total += (size_t)got) {
        for (ssize_t i = 0; i < got && *s.parts != NULL; i++) {
            scan_byte(&s, buf[i]);
        }
    }
    close(fd);
    return *s.parts == NULL;
}

/* ---- gathering --------------------------------------------------------------------------------------------- */

struct gather {
    struct ht_source *s;
    const char *config;    /* its path, for messages */
    size_t *owner;         /* [n_parts] 0: a tensor of its own; else 1 + weight */
    bool *is_codes;        /* [n_parts] */
    struct ht_packed *packed; /* [n_weights] */
    struct ht_tensor *weights; /* [n_weights] what the source shows */
    size_t n_weights;
    ht_err *err;
};

/* ---- refusals: file, weight or key, what was expected, what was found. All are the file's fault --------------- */

/* Of tensors: t NULL when the file that should have held it is not known. */
static ht_status fail(const struct gather *g, const struct ht_tensor *t, const char *name, const char *text) {
    const struct ht_source *s = g->s;
    const char *file = t != NULL        ? s->map_paths[s->tensor_map[t - s->tensors]]
                       : s->n_maps == 1 ? s->map_paths[0]
                                        : s->path;
    return ht_fail(g->err, HT_FORMAT, file, HT_NO_POS, "%.300s: %s", name, text);
}

/* Of the weight's entry in config.json. */
static ht_status fail_entry(const struct gather *g, const char *name, const char *text) {
    return ht_fail(g->err, HT_FORMAT, g->config, HT_NO_POS, "quantization_config.weights: %.300s: %s", name, text);
}

/* What a lower floor said of the entry, or (file) of its tensors: there the argument was invalid, here the file is. */
static ht_status relay(const struct gather *g, bool file, const char *name, ht_status status, const ht_err *e) {
    if (status == HT_OK || status == HT_NOMEM) {
        return status == HT_OK ? HT_OK : ht_fail(g->err, HT_NOMEM, NULL, HT_NO_POS, "%s", e->msg);
    }
    return file ? fail(g, NULL, name, e->msg) : fail_entry(g, name, e->msg);
}

/* A string of config.json with zero bytes would be read in part. */
static ht_status get_text(const json_t *object, const char *key, const char **text, ht_err *err) {
    HT_TRY(ht_json_get_str(object, key, NULL, text, err));
    if (*text != NULL && strlen(*text) != json_string_length(json_object_get(object, key))) {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': expected text, found a zero byte behind '%.64s'",
                       key, *text);
    }
    return HT_OK;
}

static ht_status read_scheme(const struct gather *g, const char *name, const char *key, const char *text,
                             struct ht_scheme *scheme) {
    ht_err e = {0};
    char message[sizeof e.msg + 128];
    if (ht_scheme_parse(text, scheme, &e) == HT_OK) {
        return HT_OK;
    }
    snprintf(message, sizeof message, "%s '%.80s': %s", key, text, e.msg);
    return fail_entry(g, name, message);
}

/* ---- parts ---------------------------------------------------------------------------------------------------- */

static const struct ht_tensor *find(const struct gather *g, const char *name, const char *suffix) {
    char full[HT_MAX_ST_NAME + 32];
    int n = snprintf(full, sizeof full, "%s.%s", name, suffix);
    return n > 0 && (size_t)n < sizeof full ? ht_source_find(g->s, full) : NULL;
}

/* safetensors has no name for the type of e8m0 scales: they are stored as bytes. */
static const struct ht_format *stored_format(const struct ht_format *f) {
    return f->st_dtype != NULL ? f : ht_format_find("u8");
}

/* Elements are read in place: a file that does not align them gets a copy. */
static ht_status aligned(const struct gather *g, const struct ht_tensor *t, void **out) {
    uint32_t size = t->format->block_bytes;
    *out = (void *)(uintptr_t)t->data; /* never written to */
    if ((uintptr_t)t->data % size != 0) {
        *out = ht_arena_alloc(&g->s->arena, (size_t)t->bytes);
        if (*out == NULL) {
            return ht_fail_nomem(g->err, t->bytes);
        }
        memcpy(*out, t->data, (size_t)t->bytes);
    }
    return HT_OK;
}

/* Takes NAME.SUFFIX, which must have this format and shape, for weight w. */
static ht_status take(struct gather *g, size_t w, const struct ht_qpart *part) {
    const char *name = g->weights[w].name;
    const struct ht_tensor *t = find(g, name, part->suffix);
    char text[256];
    if (t == NULL) {
        snprintf(text, sizeof text, "tensor .%s is missing", part->suffix);
        return fail(g, NULL, name, text);
    }
    bool fits = t->format == stored_format(part->format) && t->n_dims == part->n_dims && t->ne[0] == part->ne[0] &&
                (part->n_dims == 1 || t->ne[1] == part->ne[1]);
    if (!fits) {
        snprintf(text, sizeof text, ".%s: expected %s [%llu, %llu] (contiguous dimension first, %d dimensions), found "
                 "%s [%llu, %llu] of %d", part->suffix, stored_format(part->format)->name,
                 (unsigned long long)part->ne[0], (unsigned long long)part->ne[1], part->n_dims,
                 t->format->name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], t->n_dims);
        return fail(g, t, name, text);
    }
    size_t i = (size_t)(t - g->s->tensors);
    g->owner[i] = w + 1;
    g->is_codes[i] = strcmp(part->suffix, "codes") == 0;
    g->weights[w].bytes += t->bytes;
    return aligned(g, t, part->slot);
}

static ht_status check_keys(const struct gather *g, const json_t *object, const char *const *known, size_t n,
                            const char *weight) {
    const char *key;
    json_t *value;
    char where[HT_MAX_ST_NAME + 16] = "";
    if (weight != NULL) {
        snprintf(where, sizeof where, ".weights: %s", weight);
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool found = false;
        for (size_t i = 0; i < n; i++) {
            found = found || strcmp(key, known[i]) == 0;
        }
        if (!found) {
            return ht_fail(g->err, HT_UNSUPPORTED, g->config, HT_NO_POS,
                           "quantization_config%.200s: unknown key '%.64s'; a newer version may have written it, and "
                           "ignoring it could change results",
                           where, key);
        }
        if (json_is_null(value)) {
            return ht_fail(g->err, HT_FORMAT, g->config, HT_NO_POS,
                           "quantization_config%.200s: key '%.64s': expected a value, found null", where, key);
        }
    }
    return HT_OK;
}

/* The choices of a weight's entry. */
static ht_status read_choices(struct gather *g, const char *name, const json_t *entry, struct ht_sidecar *s) {
    const char *act = NULL;
    uint64_t hadamard = 0;
    double threshold = 0;
    ht_err e = {0};
    HT_TRY(relay(g, false, name, ht_json_get_u64(entry, "hadamard", HT_MAX_WIDTH, NULL, &hadamard, &e), &e));
    HT_TRY(relay(g, false, name, ht_json_get_f64(entry, "threshold", NULL, &threshold, &e), &e));
    HT_TRY(relay(g, false, name, get_text(entry, "act", &act, &e), &e));
    s->hadamard = (uint32_t)hadamard;
    s->leaves |= json_object_get(entry, "hadamard") != NULL ? HT_LEAVES_HADAMARD : 0;
    if (json_object_get(entry, "threshold") != NULL) {
        s->leaves |= HT_LEAVES_THRESHOLD;
        s->threshold = threshold > 0 && threshold <= (double)FLT_MAX ? (float)threshold : 0;
        if (!(s->threshold > 0)) {
            char text[96];
            snprintf(text, sizeof text, "threshold %g: expected a positive number", threshold);
            return fail_entry(g, name, text);
        }
    }
    if (act != NULL) {
        s->leaves |= HT_LEAVES_ACT;
        HT_TRY(read_scheme(g, name, "act", act, &s->act));
    }
    return HT_OK;
}

/* Counts and presence of a sidecar's parts, from the tensors that are there. */
static void read_counts(const struct gather *g, const char *name, struct ht_sidecar *s) {
    static const struct {
        const char *suffix;
        unsigned leaves;
    } parts[] = {
        {"in_shift", HT_LEAVES_IN_SHIFT}, {"in_scale", HT_LEAVES_IN_SCALE}, {"perm", HT_LEAVES_PERM},
        {"out_idx", HT_LEAVES_COLUMNS},   {"sp_ptr", HT_LEAVES_SPARSE},     {"lr_a", HT_LEAVES_LOWRANK},
        {"out_bias", HT_LEAVES_OUT_BIAS}, {"act_idx", HT_LEAVES_CLUSTERS},  {"act_scale", HT_LEAVES_ACT_SCALE},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        s->leaves |= find(g, name, parts[i].suffix) != NULL ? parts[i].leaves : 0;
    }
    const struct ht_tensor *idx = find(g, name, "out_idx"), *sp = find(g, name, "sp_idx"), *lr = find(g, name, "lr_a"),
                           *clusters = find(g, name, "act_idx");
    uint64_t n_out = idx != NULL ? idx->ne[0] : 0, rank = lr != NULL ? lr->ne[1] : 0,
             n_clusters = clusters != NULL ? clusters->ne[0] : 0;
    s->n_out = n_out <= UINT32_MAX ? (uint32_t)n_out : UINT32_MAX; /* beyond cols: refused below */
    s->rank = rank <= UINT32_MAX ? (uint32_t)rank : UINT32_MAX;
    s->n_clusters = n_clusters <= UINT32_MAX ? (uint32_t)n_clusters : UINT32_MAX;
    s->n_sparse = sp != NULL && (s->leaves & HT_LEAVES_SPARSE) != 0 ? sp->ne[0] : 0;
}

static ht_status read_side(struct gather *g, size_t w, const json_t *entry, struct ht_sidecar *s) {
    const char *name = g->weights[w].name;
    const struct ht_source *source = g->s;
    ht_err e = {0};
    read_counts(g, name, s);
    HT_TRY(read_choices(g, name, entry, s));
    if (s->leaves == 0) {
        return HT_OK;
    }
    HT_TRY(relay(g, true, name, ht_sidecar_check_counts(s, name, &e), &e));
    HT_TRY(relay(g, false, name, ht_sidecar_check_shape(s, name, &e), &e));
    struct ht_qpart part;
    for (size_t i = 0; ht_sidecar_part(s, i, &part); i++) {
        HT_TRY(take(g, w, &part));
    }
    g->packed[w].has_side = true;
    return ht_sidecar_check(s, source->n_maps == 1 ? source->map_paths[0] : source->path, name, g->err);
}

/* Codes of a scheme, or blocks of a format of the table. */
static ht_status read_codes(struct gather *g, size_t w, const char *format) {
    struct ht_tensor *t = &g->weights[w];
    struct ht_packed *p = &g->packed[w];
    struct ht_qpart part;
    t->format = ht_format_find(format);
    if (t->format != NULL && t->format->kind != HT_KIND_CODE && t->format->kind != HT_KIND_INT) {
        void *data = NULL;
        uint64_t row_bytes = ht_format_row_bytes(t->format, t->ne[0]);
        part = (struct ht_qpart){"codes", ht_format_find("u8"), 2, {row_bytes, t->ne[1]}, 0, &data};
        HT_TRY(ht_tensor_check(t, g->config, g->err)); /* the row is whole blocks */
        t->bytes = 0;
        HT_TRY(take(g, w, &part));
        t->data = data;
        return HT_OK;
    }
    struct ht_scheme scheme;
    ht_err e = {0};
    HT_TRY(read_scheme(g, t->name, "format", format, &scheme));
    HT_TRY(relay(g, false, t->name, ht_qtensor_shape(&p->q, &scheme, t->ne[1], t->ne[0], t->name, &e), &e));
    for (size_t i = 0; ht_qtensor_part(&p->q, i, &part); i++) {
        HT_TRY(take(g, w, &part));
    }
    p->has_q = true;
    t->format = scheme.format;
    t->data = p->q.codes;
    return HT_OK;
}

/* "shape": [rows, columns]. */
static ht_status read_shape(const struct gather *g, const json_t *shape, struct ht_tensor *t) {
    const json_t *rows = json_array_get(shape, 0), *cols = json_array_get(shape, 1);
    char text[160];
    if (json_array_size(shape) != 2 || json_integer_value(rows) <= 0 || json_integer_value(cols) <= 0) {
        char found[64] = "numbers of another kind";
        if (!json_is_array(shape)) {
            snprintf(found, sizeof found, "no array");
        } else if (json_array_size(shape) != 2) {
            snprintf(found, sizeof found, "an array of %zu", json_array_size(shape));
        } else if (json_is_integer(rows) && json_is_integer(cols)) {
            snprintf(found, sizeof found, "[%lld, %lld]", (long long)json_integer_value(rows),
                     (long long)json_integer_value(cols));
        }
        snprintf(text, sizeof text, "expected \"shape\": [rows, columns], both integers of at least 1, found %s",
                 found);
        return fail_entry(g, t->name, text);
    }
    t->n_dims = 2;
    t->ne[0] = (uint64_t)json_integer_value(cols);
    t->ne[1] = (uint64_t)json_integer_value(rows);
    t->ne[2] = t->ne[3] = 1;
    return HT_OK;
}

static ht_status read_weight(struct gather *g, size_t w, const json_t *entry) {
    static const char *const known[] = {"format", "shape", "hadamard", "act", "threshold"};
    struct ht_tensor *t = &g->weights[w];
    const char *format = NULL;
    ht_err e = {0};
    if (!json_is_object(entry)) {
        return fail_entry(g, t->name, "expected an object with \"format\" and \"shape\"");
    }
    HT_TRY(check_keys(g, entry, known, sizeof known / sizeof known[0], t->name));
    HT_TRY(relay(g, false, t->name, get_text(entry, "format", &format, &e), &e));
    if (format == NULL) {
        return fail_entry(g, t->name, "expected \"format\" and \"shape\", found no format");
    }
    HT_TRY(read_shape(g, json_object_get(entry, "shape"), t));
    const struct ht_tensor *plain = ht_source_find(g->s, t->name);
    if (plain != NULL) {
        return fail(g, plain, t->name, "it is there both packed and plain");
    }
    HT_TRY(read_codes(g, w, format));
    struct ht_sidecar *s = &g->packed[w].side;
    s->rows = t->ne[1];
    s->cols = t->ne[0];
    return read_side(g, w, entry, s);
}

static ht_status read_weights(struct gather *g, const json_t *weights) {
    const char *name;
    json_t *entry;
    size_t w = 0;
    json_object_foreach((json_t *)(uintptr_t)weights, name, entry) {
        if (strlen(name) > HT_MAX_ST_NAME) {
            char text[96];
            snprintf(text, sizeof text, "expected a name of at most %d bytes, found %zu", HT_MAX_ST_NAME, strlen(name));
            return fail_entry(g, name, text);
        }
        g->weights[w].name = ht_arena_strdup(&g->s->arena, name);
        if (g->weights[w].name == NULL) {
            return ht_fail_nomem(g->err, strlen(name));
        }
        HT_TRY(read_weight(g, w, entry));
        w++;
    }
    return HT_OK;
}

/* ---- what the source shows --------------------------------------------------------------------------------- */

/* Parts become weights, in the place of their codes. */
static ht_status show(struct gather *g) {
    struct ht_source *s = g->s;
    size_t n = 0, all = s->n_tensors;
    s->parts = s->tensors;
    s->part_map = s->tensor_map;
    s->n_parts = all;
    s->n_tensors = 0;
    s->tensors = ht_mem_calloc(all + 1, sizeof *s->tensors);
    s->tensor_map = ht_mem_calloc(all + 1, sizeof *s->tensor_map);
    s->packed = ht_mem_calloc(all + 1, sizeof *s->packed);
    if (s->tensors == NULL || s->tensor_map == NULL || s->packed == NULL) {
        return ht_fail_nomem(g->err, all * sizeof *s->tensors);
    }
    ht_map_deinit(&s->index);
    ht_map_init(&s->index);
    for (size_t i = 0; i < all; i++) {
        size_t w = g->owner[i];
        if (w != 0 && !g->is_codes[i]) {
            continue;
        }
        s->tensors[n] = w != 0 ? g->weights[w - 1] : s->parts[i];
        s->tensor_map[n] = s->part_map[i];
        if (w != 0) {
            s->packed[n] = ht_arena_alloc(&s->arena, sizeof **s->packed);
            if (s->packed[n] == NULL) {
                return ht_fail_nomem(g->err, sizeof **s->packed);
            }
            *s->packed[n] = g->packed[w - 1];
        }
        if (!ht_map_put(&s->index, s->tensors[n].name, strlen(s->tensors[n].name), n, NULL)) {
            return ht_fail_nomem(g->err, strlen(s->tensors[n].name));
        }
        n++;
    }
    s->n_tensors = n;
    return HT_OK;
}

/* How sessions keep keys and values: read by models, refused here. */
static ht_status check_kv(const struct gather *g, const json_t *q) {
    const char *text = NULL;
    struct ht_kv kv;
    ht_err e = {0};
    ht_status status = get_text(q, "kv_cache", &text, &e);
    if (status == HT_OK && (text == NULL || ht_kv_parse(text, &kv, &e) == HT_OK)) {
        return HT_OK;
    }
    return ht_fail(g->err, HT_FORMAT, g->config, HT_NO_POS, "quantization_config.kv_cache: %.100s%s%s",
                   text != NULL ? text : "", text != NULL ? ": " : "", e.msg);
}

static ht_status open_weights(struct ht_source *s, const json_t *q, ht_err *err) {
    static const char *const known[] = {"quant_method", "version", "weights", "kv_cache"};
    struct gather g = {.s = s, .err = err};
    uint64_t version = 0;
    ht_status status;
    size_t len = strlen(s->path) + sizeof "/config.json";
    char *config = ht_arena_alloc(&s->arena, len);
    if (config == NULL) {
        return ht_fail_nomem(err, len);
    }
    snprintf(config, len, "%s/config.json", s->path);
    g.config = config;
    HT_TRY(ht_json_get_u64(q, "version", UINT32_MAX, config, &version, err));
    if (version != HT_HALFTONE_VERSION) {
        return ht_fail(err, HT_UNSUPPORTED, config, HT_NO_POS,
                       "quantization_config: version %llu of halftone's container; this program reads version %d",
                       (unsigned long long)version, HT_HALFTONE_VERSION);
    }
    HT_TRY(check_keys(&g, q, known, sizeof known / sizeof known[0], NULL));
    HT_TRY(check_kv(&g, q));
    const json_t *weights = json_object_get(q, "weights");
    g.n_weights = json_object_size(weights);
    if (!json_is_object(weights) || g.n_weights > s->n_tensors) { /* none: rounded caches alone */
        return ht_fail(err, HT_FORMAT, config, HT_NO_POS,
                       "quantization_config: expected an object \"weights\" with up to %zu entries, found %zu",
                       s->n_tensors, g.n_weights);
    }
    g.owner = ht_mem_calloc(s->n_tensors, sizeof *g.owner);
    g.is_codes = ht_mem_calloc(s->n_tensors, sizeof *g.is_codes);
    g.packed = ht_mem_calloc(g.n_weights + 1, sizeof *g.packed);
    g.weights = ht_mem_calloc(g.n_weights + 1, sizeof *g.weights);
    if (g.owner == NULL || g.is_codes == NULL || g.packed == NULL || g.weights == NULL) {
        status = ht_fail_nomem(err, g.n_weights * sizeof *g.packed);
        goto done;
    }
    HT_TRY_DONE(read_weights(&g, weights));
    HT_TRY_DONE(show(&g));
done:
    ht_mem_free(g.owner);
    ht_mem_free(g.is_codes);
    ht_mem_free(g.packed);
    ht_mem_free(g.weights);
    return status;
}

ht_status ht_halftone_gather(struct ht_source *source, ht_err *err) {
    const json_t *q = quantization(source->config);
    if (q == NULL) {
        return ht_fail(err, HT_FORMAT, source->path, HT_NO_POS, "config.json has no quantization_config of halftone's");
    }
    return open_weights(source, q, err);
}

ht_status ht_halftone_open(const char *path, struct ht_source *source, ht_err *err) {
    HT_TRY(ht_hf_open(path, source, err));
    return ht_halftone_gather(source, err);
}

/* ---- use --------------------------------------------------------------------------------------------------- */

const struct ht_packed *ht_source_packed(const struct ht_source *s, const struct ht_tensor *t) {
    uintptr_t first = (uintptr_t)s->tensors, at = (uintptr_t)t;
    if (s->packed == NULL || at < first || at >= first + s->n_tensors * sizeof *t) {
        return NULL;
    }
    return s->packed[(at - first) / sizeof *t];
}

void ht_packed_rows(const struct ht_tensor *t, const struct ht_packed *p, uint64_t row0, uint64_t n, float *x,
                    float *scratch) {
    if (p != NULL && p->has_q) {
        ht_sidecar_dense(&p->q, p->has_side ? &p->side : NULL, row0, n, x, scratch);
        return;
    }
    uint64_t row_bytes = ht_tensor_row_bytes(t);
    t->format->decode((const unsigned char *)t->data + row0 * row_bytes, x, (size_t)(n * t->ne[0]));
    if (p != NULL && p->has_side) {
        ht_sidecar_apply_rows(&p->side, row0, n, x, scratch);
    }
}

const char *ht_source_format(const struct ht_source *s, const struct ht_tensor *t, char out[HT_SCHEME_TEXT]) {
    const struct ht_packed *p = ht_source_packed(s, t);
    if (p != NULL && p->has_q) {
        return ht_scheme_text(&p->q.scheme, out);
    }
    snprintf(out, HT_SCHEME_TEXT, "%s", t->format->name);
    return out;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

/* Part i of all: blocks or the qtensor's parts, then the sidecar's. */
static bool part_of(const struct ht_pack *p, size_t i, struct ht_qpart *part, void **data) {
    if (p->format != NULL) {
        if (i == 0) {
            *part = (struct ht_qpart){"codes", ht_format_find("u8"), 2,
                                      {ht_format_row_bytes(p->format, p->cols), p->rows}, 0, NULL};
            part->bytes = part->ne[0] * part->ne[1];
            *data = NULL;
            return true;
        }
        i--;
    } else {
        size_t n = 0;
        for (struct ht_qpart q; ht_qtensor_part(p->q, n, &q); n++) {
            if (n == i) {
                *part = q;
                *data = *q.slot;
                return true;
            }
        }
        i -= n;
    }
    if (p->side == NULL || !ht_sidecar_part(p->side, i, part)) {
        return false;
    }
    *data = *part->slot;
    return true;
}

bool ht_pack_part(const struct ht_pack *pack, size_t i, struct ht_tensor *tensor, char *name, ht_status *status,
                  ht_err *err) {
    struct ht_qpart part;
    void *data;
    if (!part_of(pack, i, &part, &data)) {
        return false;
    }
    int n = snprintf(name, HT_MAX_ST_NAME + 1, "%s.%s", pack->name, part.suffix);
    if (n < 0 || n > HT_MAX_ST_NAME) {
        *status = ht_fail(err, HT_LIMIT, pack->name, HT_NO_POS, "its name with .%s has more than %d bytes", part.suffix,
                          HT_MAX_ST_NAME);
        return false;
    }
    *tensor = (struct ht_tensor){.name = name, .format = stored_format(part.format), .n_dims = part.n_dims,
                                 .ne = {part.ne[0], part.ne[1], 1, 1}, .data = data, .bytes = part.bytes};
    return true;
}

json_t *ht_pack_entry(const struct ht_pack *p) {
    char text[HT_SCHEME_TEXT];
    const char *format = p->format != NULL ? p->format->name : ht_scheme_text(&p->q->scheme, text);
    json_t *entry = json_pack("{s:s, s:[I, I]}", "format", format, "shape", (json_int_t)p->rows, (json_int_t)p->cols);
    unsigned leaves = p->side != NULL ? p->side->leaves : 0;
    int failed = entry == NULL;
    if (!failed && (leaves & HT_LEAVES_HADAMARD) != 0) {
        failed |= json_object_set_new(entry, "hadamard", json_integer(p->side->hadamard));
    }
    if (!failed && (leaves & HT_LEAVES_ACT) != 0) {
        failed |= json_object_set_new(entry, "act", json_string(ht_scheme_text(&p->side->act, text)));
    }
    if (!failed && (leaves & HT_LEAVES_THRESHOLD) != 0) {
        failed |= json_object_set_new(entry, "threshold", json_real((double)p->side->threshold));
    }
    if (failed) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}
