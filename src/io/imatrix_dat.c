/* Importance in llama.cpp's older layout, little-endian:
 *
 *   i32 n_entries | n_entries x { i32 len, name, i32 ncall, i32 nval, f32[nval] = mean square * ncall }
 *   | i32 chunks | i32 len, name of the text                                   (the last line may be missing)
 *
 * ncall counts chunks, and experts share one count. Source: llama.cpp tools/imatrix. */
#include <math.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "io/bytes.h"
#include "io/imatrix_impl.h"
#include "io/name.h"

#define MIN_ENTRY_BYTES (4 + 1 + 4 + 4 + 4)
#define MAX_DATASET_BYTES 65535

struct cursor {
    const unsigned char *data;
    uint64_t size, at;
    const char *file;
    uint64_t entry;
    ht_err *err;
};

/* Reads an i32 of at least min and tells what it is when it is not there or too small. */
static ht_status read_i32(struct cursor *c, int32_t min, int32_t *v, const char *what) {
    if (c->size - c->at < 4) {
        return ht_fail(c->err, HT_FORMAT, c->file, c->at, "imatrix entry %llu: the file ends before %s",
                       (unsigned long long)c->entry, what);
    }
    *v = (int32_t)ht_le32(c->data + c->at);
    if (*v < min) {
        return ht_fail(c->err, HT_FORMAT, c->file, c->at,
                       "imatrix entry %llu: %s is %d, expected at least %d", (unsigned long long)c->entry,
                       what, *v, min);
    }
    c->at += 4;
    return HT_OK;
}

static ht_status read_bytes(struct cursor *c, uint64_t n, const unsigned char **p, const char *what) {
    if (c->size - c->at < n) {
        return ht_fail(c->err, HT_FORMAT, c->file, c->at,
                       "imatrix entry %llu: %s needs %llu bytes, the file has %llu left",
                       (unsigned long long)c->entry, what, (unsigned long long)n,
                       (unsigned long long)(c->size - c->at));
    }
    *p = c->data + c->at;
    c->at += n;
    return HT_OK;
}

static ht_status read_entry(struct ht_imatrix *m, struct cursor *c) {
    int32_t len = 0, ncall = 0, nval = 0;
    const unsigned char *bytes = NULL;
    char name[HT_MAX_ST_NAME + 1];
    struct ht_imatrix_entry *e;
    uint64_t start = c->at;
    HT_TRY(read_i32(c, 1, &len, "the length of the name"));
    HT_TRY(read_bytes(c, (uint64_t)len, &bytes, "the name"));
    const char *fault = ht_name_fault((const char *)bytes, (size_t)len, HT_MAX_ST_NAME);
    if (fault != NULL) {
        return ht_fail(c->err, HT_FORMAT, c->file, start, "imatrix entry %llu: the name %s",
                       (unsigned long long)c->entry, fault);
    }
    snprintf(name, sizeof name, "%.*s", (int)len, (const char *)bytes);
    if (ht_imatrix_find(m, name) != NULL) {
        return ht_fail(c->err, HT_FORMAT, c->file, start, "imatrix entry %llu: '%s' appears twice",
                       (unsigned long long)c->entry, name);
    }
    HT_TRY(read_i32(c, 0, &ncall, "the number of calls"));
    HT_TRY(read_i32(c, 1, &nval, "the number of values"));
    HT_TRY(read_bytes(c, 4 * (uint64_t)nval, &bytes, "the values"));
    HT_TRY(ht_imatrix_entry(m, name, (uint64_t)nval, 1, &e, c->err));
    for (int32_t i = 0; i < nval; i++) {
        e->sum2[i] = ht_le_f32(bytes + 4 * (size_t)i);
    }
    e->count[0] = (float)ncall;
    return HT_OK;
}

static ht_status read_tail(struct ht_imatrix *m, struct cursor *c) {
    int32_t chunks = 0, len = 0;
    const unsigned char *bytes = NULL;
    char name[MAX_DATASET_BYTES + 1];
    if (c->at == c->size) {
        return HT_OK;
    }
    HT_TRY(read_i32(c, 0, &chunks, "the number of chunks"));
    m->chunk_count = (uint32_t)chunks;
    if (c->at == c->size) {
        return HT_OK;
    }
    uint64_t start = c->at;
    HT_TRY(read_i32(c, 0, &len, "the length of the text's name"));
    HT_TRY(read_bytes(c, (uint64_t)len, &bytes, "the text's name"));
    if (len > MAX_DATASET_BYTES || memchr(bytes, '\0', (size_t)len) != NULL) {
        return ht_fail(c->err, HT_FORMAT, c->file, start,
                       "the name of the text has %d bytes or a NUL among them", len);
    }
    if (c->at != c->size) {
        return ht_fail(c->err, HT_FORMAT, c->file, c->at, "%llu bytes behind the end",
                       (unsigned long long)(c->size - c->at));
    }
    snprintf(name, sizeof name, "%.*s", (int)len, (const char *)bytes);
    return len != 0 ? ht_imatrix_dataset(m, name, c->err) : HT_OK;
}

ht_status ht_imatrix_parse_dat(struct ht_imatrix *m, const void *data, uint64_t size, const char *what,
                               ht_err *err) {
    struct cursor c = {data, size, 0, what, 0, err};
    int32_t n;
    if (size < 4) {
        return ht_fail(err, HT_FORMAT, what, 0, "expected an importance file, found %llu bytes",
                       (unsigned long long)size);
    }
    n = (int32_t)ht_le32(data);
    c.at = 4;
    if (n < 1 || (uint64_t)n > (size - 4) / MIN_ENTRY_BYTES) {
        return ht_fail(
            err, HT_FORMAT, what, 0,
            "expected an importance file (GGUF or .dat); as .dat it would have %d entries in %llu bytes", n,
            (unsigned long long)size);
    }
    for (int32_t i = 0; i < n; i++) {
        c.entry = (uint64_t)i;
        HT_TRY(read_entry(m, &c));
    }
    return read_tail(m, &c);
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static void put(struct ht_buf *b, uint32_t v) {
    unsigned char le[4];
    ht_le_store(le, v, 4);
    ht_buf_append(b, le, 4);
}

static ht_status put_entry(const struct ht_imatrix *m, const struct ht_imatrix_entry *e, struct ht_buf *b,
                           ht_err *err) {
    float most = 0;
    uint64_t total = e->n * e->n_mat;
    for (uint64_t i = 0; i < e->n_mat; i++) {
        most = e->count[i] > most ? e->count[i] : most;
    }
    float chunk = m->chunk_size != 0 ? (float)m->chunk_size : 1.0f;
    float ncall = ceilf(most / chunk);
    if (!(ncall >= 1) || ncall > 2147483520.0f || total > INT32_MAX) {
        return ht_fail(
            err, HT_NUMERIC, NULL, HT_NO_POS,
            "imatrix entry '%.200s': %llu values of %g tokens do not fit the .dat layout; write GGUF",
            e->name, (unsigned long long)total, (double)most);
    }
    put(b, (uint32_t)strlen(e->name));
    ht_buf_puts(b, e->name);
    put(b, (uint32_t)ncall);
    put(b, (uint32_t)total);
    for (uint64_t i = 0; i < total; i++) {
        float count = e->count[i / e->n];
        float v = count > 0 ? e->sum2[i] / count * ncall : ncall; /* no tokens: importance 1 */
        uint32_t u;
        memcpy(&u, &v, sizeof u);
        put(b, u);
    }
    return HT_OK;
}

ht_status ht_imatrix_save_dat(const struct ht_imatrix *m, const struct ht_imatrix_entry **sorted,
                              const char *path, bool overwrite, ht_err *err) {
    struct ht_buf b;
    ht_status status = HT_OK;
    ht_buf_init(&b, 0);
    put(&b, (uint32_t)m->n);
    for (size_t i = 0; i < m->n; i++) {
        HT_TRY_DONE(put_entry(m, sorted[i], &b, err));
    }
    const char *text = m->n_datasets != 0 ? m->datasets[m->n_datasets - 1] : "";
    put(&b, m->chunk_count < INT32_MAX ? m->chunk_count : INT32_MAX);
    put(&b, (uint32_t)strlen(text));
    ht_buf_puts(&b, text);
    if (!ht_buf_ok(&b)) {
        status = ht_fail_nomem(err, b.len);
        goto done;
    }
    status = ht_write_file(path, b.data, b.len, overwrite, err);
done:
    ht_buf_deinit(&b);
    return status;
}
