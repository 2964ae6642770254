/* verify: everything that can be wrong with a file without running it. Opening checks the structure; here come the
 * values of every tensor, the stored checksums, the architecture's list of tensors, and the tokenizer. */
#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"
#include "flow/checksums.h"
#include "flow/flow.h"
#include "flow/flow_doc.h"
#include "flow/flow_finish.h"
#include "flow/flow_paths.h"
#include "flow/flow_stream.h"
#include "io/bytes.h"
#include "io/gguf.h"
#include "model/model.h"

#define PIECE_ELEMS 16384u         /* decoded at once: 64 KiB, stays in the first caches */
#define TASK_BYTES (1u << 20)      /* of stored data per task */

struct task { /* rows of one tensor, or (rows == 0) its checksum */
    size_t tensor;
    uint64_t row, rows;
    uint64_t n_nonfinite, hash;
};

struct scan {
    struct ht_context *ctx;
    const struct ht_verify_options *o;
    struct ht_source *source;
    struct ht_tensor *stored; /* [n_stored] as files hold them; blocks of packed weights with their format */
    size_t n_stored;
    struct task *tasks;
    size_t n_tasks;
    float *scratch; /* [threads, scratch_elems] */
    uint64_t scratch_elems;
    struct ht_sums sums; /* stored checksums of the tensors */
    size_t n_compared;   /* checksums */
    bool foreign; /* the checksums are of another file */
    size_t n_bad_headers;
    char bad_header[400]; /* what to say of the first of them */
    size_t first;                  /* of the tasks in work */
    struct ht_doc doc;
    json_t *findings;
    ht_status worst;
    ht_err first_err;
};

/* The status that says most: what is broken in the structure before damaged bytes before NaN. */
static int rank(ht_status s) {
    return s == HT_OK ? 0 : s == HT_NUMERIC ? 1 : s == HT_CHECKSUM ? 2 : 3;
}

static void found(struct scan *s, ht_status code, const char *kind, const char *tensor, const char *text) {
    json_t *o = json_object();
    ht_doc_set(&s->doc, o, "severity", json_string(code == HT_OK ? "warning" : "error"));
    ht_doc_set(&s->doc, o, "kind", json_string(kind));
    ht_doc_set(&s->doc, o, "tensor", tensor != NULL ? ht_doc_text(tensor, strlen(tensor)) : json_null());
    ht_doc_set(&s->doc, o, "message", ht_doc_text(text, strlen(text)));
    ht_doc_append(&s->doc, s->findings, o);
    if (rank(code) > rank(s->worst)) {
        s->worst = code;
        ht_err_clear(&s->first_err);
        ht_fail(&s->first_err, code, tensor != NULL ? tensor : s->source != NULL ? s->source->path : NULL, HT_NO_POS,
                "%s", text);
    }
}

/* ---- the data ---------------------------------------------------------------------------------------- */

static void pool_task(void *ctx, size_t i, int thread) {
    struct scan *s = ctx;
    struct task *k = &s->tasks[s->first + i];
    const struct ht_tensor *t = &s->stored[k->tensor];
    const unsigned char *data = t->data;
    if (k->rows == 0) {
        k->hash = ht_hash_xxh3(data, t->bytes);
        return;
    }
    float *x = s->scratch + (uint64_t)thread * s->scratch_elems;
    uint64_t row_bytes = ht_tensor_row_bytes(t), step = s->scratch_elems / t->ne[0];
    for (uint64_t r = 0; r < k->rows; r += step) {
        uint64_t rows = k->rows - r < step ? k->rows - r : step;
        t->format->decode(data + (k->row + r) * row_bytes, x, rows * t->ne[0]);
        k->n_nonfinite += ht_count_nonfinite(x, rows * t->ne[0]);
    }
}

static ht_status list_stored(struct scan *s, ht_err *err) {
    const struct ht_source *src = s->source;
    const struct ht_tensor *all = ht_source_stored(src, &s->n_stored);
    s->stored = ht_mem_alloc_array(s->n_stored + 1, sizeof *s->stored);
    if (s->stored == NULL) {
        return ht_fail_nomem(err, s->n_stored * sizeof *s->stored);
    }
    memcpy(s->stored, all, s->n_stored * sizeof *s->stored);
    struct ht_map at;
    bool ok = true;
    ht_map_init(&at);
    for (size_t i = 0; src->packed != NULL && i < s->n_stored && ok; i++) {
        ok = ht_map_put(&at, &all[i].data, sizeof all[i].data, i, NULL);
    }
    for (size_t i = 0; src->packed != NULL && i < src->n_tensors && ok; i++) {
        const struct ht_tensor *t = &src->tensors[i];
        uint64_t k;
        const struct ht_packed *p = src->packed[i];
        if (p == NULL) {
            continue;
        }
        if (!p->has_q && ht_map_get(&at, &t->data, sizeof t->data, &k)) {
            s->stored[k].format = t->format;
            memcpy(s->stored[k].ne, t->ne, sizeof t->ne);
        } else if (p->has_q && ht_map_get(&at, &p->q.scales, sizeof p->q.scales, &k)) {
            s->stored[k].format = p->q.scheme.scale; /* e8m0 is stored as bytes */
        }
    }
    ht_map_deinit(&at);
    return ok ? HT_OK : ht_fail_nomem(err, s->n_stored);
}

static ht_status make_tasks(struct scan *s, ht_err *err) {
    uint64_t n = 0;
    s->scratch_elems = PIECE_ELEMS;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (size_t i = 0; i < s->n_stored; i++) {
            const struct ht_tensor *t = &s->stored[i];
            uint64_t rows = ht_tensor_rows(t), step = TASK_BYTES / ht_tensor_row_bytes(t);
            step = step > 0 ? step : 1;
            s->scratch_elems = t->ne[0] > s->scratch_elems ? t->ne[0] : s->scratch_elems;
            for (uint64_t r = 0; s->o->data && t->format->kind != HT_KIND_INT && r < rows; r += step, n++) {
                if (pass == 1) {
                    s->tasks[n] = (struct task){.tensor = i, .row = r, .rows = rows - r < step ? rows - r : step};
                }
            }
            if (s->sums.want != NULL && s->sums.has[i]) {
                if (pass == 1) {
                    s->tasks[n] = (struct task){.tensor = i};
                }
                n++;
            }
        }
        if (pass == 0 && (s->tasks = ht_mem_alloc_array(n + 1, sizeof *s->tasks)) == NULL) {
            return ht_fail_nomem(err, n * sizeof *s->tasks);
        }
    }
    s->n_tasks = n;
    s->scratch_elems = (s->scratch_elems + 15) & ~15ull;
    s->scratch = ht_mem_alloc_aligned((size_t)ht_pool_threads(s->ctx->pool), s->scratch_elems * sizeof(float));
    return s->scratch == NULL ? ht_fail_nomem(err, s->scratch_elems) : HT_OK;
}

/* Runs the tasks tensor by tensor, in groups that keep the pool busy, and drops pages behind. */
static ht_status run_tasks(struct scan *s, ht_err *err) {
    struct ht_meter meter;
    uint64_t done = 0;
    size_t all;
    size_t group = (size_t)ht_pool_threads(s->ctx->pool) * 8;
    ht_meter_init(&meter, s->ctx, "verify", "bytes", s->source->data_bytes);
    for (s->first = 0; s->first < s->n_tasks; s->first += group) {
        size_t n = s->n_tasks - s->first < group ? s->n_tasks - s->first : group;
        ht_pool_run(s->ctx->pool, n, pool_task, s);
        for (size_t i = s->first; i < s->first + n; i++) {
            bool last = i + 1 == s->n_tasks || s->tasks[i + 1].tensor != s->tasks[i].tensor;
            if (last) {
                const struct ht_tensor *t = &s->stored[s->tasks[i].tensor];
                done += t->bytes;
                ht_source_drop(s->source, &ht_source_stored(s->source, &all)[s->tasks[i].tensor]);
                HT_TRY(ht_meter_tell(&meter, done, done, t->name, err));
            }
        }
    }
    return HT_OK;
}

static size_t count_bad_sums(const struct scan *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_tasks; i++) {
        n += s->tasks[i].rows == 0 && s->tasks[i].hash != s->sums.want[s->tasks[i].tensor];
    }
    return n;
}

/* Damage that leaves a header readable leaves most tensors alone. Where the header and most tensors are others, a
 * program has written the model anew (llama-quantize, say) and carried our keys along. */
static void drop_foreign_sums(struct scan *s) {
    if (s->n_bad_headers > 0 && s->sums.want != NULL && 2 * count_bad_sums(s) >= s->n_stored) {
        found(s, HT_OK, "rewritten", NULL,
              "another program has written this file since halftone made its checksums; they do not apply to it");
        for (size_t i = 0; i < s->n_tasks; i++) {
            if (s->tasks[i].rows == 0) {
                s->tasks[i].hash = s->sums.want[s->tasks[i].tensor];
            }
        }
        s->n_bad_headers = 0;
        s->foreign = true;
    }
    if (s->n_bad_headers > 0) {
        found(s, HT_CHECKSUM, "checksum", NULL, s->bad_header);
    }
}

static void report_tasks(struct scan *s) {
    char text[160];
    for (size_t i = 0; i < s->n_tasks;) {
        size_t tensor = s->tasks[i].tensor;
        const struct ht_tensor *t = &s->stored[tensor];
        uint64_t bad = 0;
        for (; i < s->n_tasks && s->tasks[i].tensor == tensor; i++) {
            const struct task *k = &s->tasks[i];
            bad += k->n_nonfinite;
            s->n_compared += k->rows == 0;
            if (k->rows == 0 && k->hash != s->sums.want[tensor]) {
                snprintf(text, sizeof text, "checksum %016llx, stored %016llx: the data have changed",
                         (unsigned long long)k->hash, (unsigned long long)s->sums.want[tensor]);
                found(s, HT_CHECKSUM, "checksum", t->name, text);
            }
        }
        if (bad != 0) {
            snprintf(text, sizeof text, "%llu of %llu values are NaN or Inf", (unsigned long long)bad,
                     (unsigned long long)ht_tensor_elems(t));
            found(s, HT_NUMERIC, "nonfinite", t->name, text);
        }
    }
}

static ht_status check_data(struct scan *s, ht_err *err) {
    HT_TRY(make_tasks(s, err));
    HT_TRY(run_tasks(s, err));
    drop_foreign_sums(s);
    report_tasks(s);
    s->n_compared = s->foreign ? 0 : s->n_compared;
    return HT_OK;
}

/* ---- stored checksums -------------------------------------------------------------------------------- */

/* Metadata and lists of tensors, file by file. Files written with checksums of tensors have one of the header too:
 * without it, damage has hit its name. */
static ht_status check_headers(struct scan *s, ht_err *err) {
    const struct ht_source *src = s->source;
    bool expected = ht_meta_find(&src->meta, HT_KEY_CHECKSUMS) != NULL;
    for (size_t i = 0; i < src->n_maps; i++) {
        struct ht_gguf_header_sum sum;
        const char *name = ht_path_base(src->map_paths[i]);
        HT_TRY(ht_gguf_header_sum(src->maps[i].data, src->maps[i].size, src->map_paths[i], &sum, err));
        s->n_compared += sum.present;
        char text[sizeof s->bad_header] = "";
        if (sum.present && sum.found != sum.stored) {
            snprintf(text, sizeof text,
                     "header of %.200s: checksum %016llx, stored %016llx: metadata or the list of tensors have changed "
                     "since halftone wrote the file (damage, or another program edited it)",
                     name, (unsigned long long)sum.found, (unsigned long long)sum.stored);
        } else if (!sum.present && expected) {
            snprintf(text, sizeof text, "header of %.200s: its checksum is missing", name);
        }
        if (text[0] != '\0' && s->n_bad_headers++ == 0) {
            memcpy(s->bad_header, text, sizeof text);
        }
        expected |= sum.present;
    }
    return HT_OK;
}

static ht_status read_gguf_sums(struct scan *s, ht_err *err) {
    const struct ht_meta_kv *kv = ht_meta_find(&s->source->meta, HT_KEY_CHECKSUMS);
    size_t n = s->source->n_tensors;
    if (kv == NULL) {
        return HT_OK;
    }
    if (kv->type != HT_META_ARRAY || kv->elem_type != HT_META_U64 || kv->n != n) {
        found(s, HT_FORMAT, "checksum", NULL, "the list of checksums does not fit the list of tensors");
        return HT_OK;
    }
    s->sums.want = ht_mem_calloc(n, sizeof *s->sums.want);
    s->sums.has = ht_mem_calloc(n, sizeof *s->sums.has);
    if (s->sums.want == NULL || s->sums.has == NULL) {
        return ht_fail_nomem(err, n * sizeof *s->sums.want);
    }
    for (size_t i = 0; i < n; i++) {
        s->sums.want[i] = ht_le64((const unsigned char *)kv->elems + 8 * i);
        s->sums.has[i] = true;
    }
    return HT_OK;
}

static void found_in_folder(void *user, const char *file, const char *text) {
    char message[400];
    snprintf(message, sizeof message, "%.100s: %.280s", file, text);
    found(user, HT_CHECKSUM, "checksum", NULL, message);
}

static ht_status check_sums(struct scan *s, ht_err *err) {
    if (!s->o->checksums) {
        return HT_OK;
    }
    const char *kind = s->source->container->name;
    if (strcmp(kind, "gguf") == 0) {
        HT_TRY(check_headers(s, err));
        return read_gguf_sums(s, err);
    }
    if (strcmp(kind, "hf") == 0 || strcmp(kind, "halftone") == 0) {
        HT_TRY(ht_sums_check(s->source, &s->sums, found_in_folder, s, err));
        s->n_compared += s->sums.n_files;
    }
    return HT_OK;
}

/* ---- the model --------------------------------------------------------------------------------------- */

static ht_status check_model(struct scan *s, ht_err *err) {
    const struct ht_source *src = s->source;
    const struct ht_arch *arch;
    struct ht_hparams hp;
    ht_err e;
    ht_err_clear(&e);
    ht_status status = ht_arch_read(src, &arch, &hp, &e);
    if (status == HT_OK) {
        struct ht_binding *bindings = ht_mem_calloc(src->n_tensors + 1, sizeof *bindings);
        status = bindings == NULL ? HT_NOMEM : ht_arch_bind(src, arch, &hp, bindings, &e);
        ht_mem_free(bindings);
    }
    if (status == HT_NOMEM) {
        return ht_fail_nomem(err, 0);
    }
    if (status != HT_OK) {
        found(s, status == HT_UNSUPPORTED ? HT_OK : HT_FORMAT, "architecture", NULL, e.msg);
        return HT_OK;
    }
    struct ht_tokenizer *tokenizer = NULL;
    status = ht_model_tokenizer(src, NULL, &tokenizer, &e);
    if (status == HT_NOMEM) {
        return ht_fail_nomem(err, 0);
    }
    if (status != HT_OK) {
        found(s, status == HT_UNSUPPORTED || status == HT_NOTFOUND ? HT_OK : HT_FORMAT, "tokenizer", NULL, e.msg);
    } else if (ht_tokenizer_vocab(tokenizer)->n_tokens > hp.vocab) {
        found(s, HT_FORMAT, "tokenizer", NULL, "the tokenizer has more tokens than the embedding has rows");
    }
    ht_tokenizer_free(tokenizer);
    return HT_OK;
}

static void check_ends(struct scan *s) {
    char text[96];
    if (s->source->trailing_bytes != 0) {
        snprintf(text, sizeof text, "%llu bytes behind the data", (unsigned long long)s->source->trailing_bytes);
        found(s, HT_OK, "trailing", NULL, text);
    }
    if (s->source->missing_pad_bytes != 0) {
        snprintf(text, sizeof text, "the last tensor lacks %llu bytes of padding",
                 (unsigned long long)s->source->missing_pad_bytes);
        found(s, HT_OK, "padding", NULL, text);
    }
}

static void add_summary(struct scan *s, double seconds) {
    const struct ht_source *src = s->source;
    ht_doc_set(&s->doc, s->doc.root, "sound", json_boolean(s->worst == HT_OK));
    ht_doc_set(&s->doc, s->doc.root, "status", json_string(ht_status_text(s->worst)));
    if (src != NULL) {
        bool read = s->n_tasks > 0;
        ht_doc_set(&s->doc, s->doc.root, "container", json_string(src->container->name));
        ht_doc_set(&s->doc, s->doc.root, "tensors", json_integer((json_int_t)src->n_tensors));
        ht_doc_set(&s->doc, s->doc.root, "file_bytes", json_integer((json_int_t)src->file_bytes));
        ht_doc_set(&s->doc, s->doc.root, "data_scanned", json_boolean(s->o->data));
        ht_doc_set(&s->doc, s->doc.root, "checksums", json_integer((json_int_t)s->n_compared));
        ht_doc_set(&s->doc, s->doc.root, "bytes_per_second",
                   ht_doc_real(read && seconds > 0 ? (double)src->data_bytes / seconds : 0));
    }
    ht_doc_set(&s->doc, s->doc.root, "seconds", ht_doc_real(seconds));
}

ht_status ht_flow_verify(struct ht_context *ctx, const char *path, const ht_verify_options *options, char **json,
                         ht_err *err) {
    double start = ht_sys_now();
    struct scan s = {.ctx = ctx, .o = options};
    char name[256];
    ht_err e;
    ht_err_clear(&e);
    ht_err_clear(&s.first_err);
    ht_flow_base_name(path, name, sizeof name);
    ht_doc_init(&s.doc, "halftone.verify/1");
    ht_doc_set(&s.doc, s.doc.root, "path", ht_doc_text(name, strlen(name)));
    s.findings = ht_doc_array(&s.doc, s.doc.root, "findings");
    ht_status status = ht_source_open(path, &s.source, &e);
    if (status == HT_FORMAT || status == HT_LIMIT || status == HT_UNSUPPORTED) {
        found(&s, status, "structure", NULL, e.msg);
        s.first_err = e; /* with the place */
        status = HT_OK;
    } else if (status == HT_OK) {
        check_ends(&s);
        status = list_stored(&s, err);
        if (status == HT_OK) {
            status = check_model(&s, err);
        }
        if (status == HT_OK) {
            status = check_sums(&s, err);
        }
        if (status == HT_OK) {
            status = check_data(&s, err);
        }
    } else if (err != NULL) {
        *err = e;
    }
    if (status == HT_OK) {
        add_summary(&s, ht_sys_now() - start);
        status = ht_doc_finish(&s.doc, json, err);
        if (status == HT_OK && s.worst != HT_OK) {
            status = s.worst;
            if (err != NULL) {
                *err = s.first_err;
            }
        }
    }
    ht_doc_deinit(&s.doc);
    ht_sums_deinit(&s.sums);
    ht_mem_free(s.tasks);
    ht_mem_free(s.stored);
    ht_mem_free_aligned(s.scratch);
    ht_source_close(s.source);
    return status;
}
