/* Which windows are worth calibrating on. Repetition and what is no text: after the rules of Gopher (Rae et
 * al. 2021, arXiv 2112.11446, table A1), on token n-grams. */
#include <stdlib.h> /* qsort */

#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "calib/data_impl.h"
#include "token/utf8.h"

const char *const ht_drop_keys[HT_DROPS] = {
#define HT_DROP_KEY(name, key) key,
    HT_DROP_LIST(HT_DROP_KEY)
#undef HT_DROP_KEY
};

/* ---- files
 * ------------------------------------------------------------------------------------------------- */

ht_status ht_data_hash(const void *data, uint64_t size, char hex[65], ht_err *err) {
    struct ht_sha256 *sha;
    HT_TRY(ht_sha256_new(&sha, err));
    ht_sha256_update(sha, data, (size_t)size);
    ht_sha256_final(sha, hex);
    ht_sha256_free(sha);
    return HT_OK;
}

ht_status ht_data_check_text(const struct ht_mapping *map, const char *path, ht_err *err) {
    const char *s = (const char *)map->data, *zero;
    uint64_t bad = 0, at = 0, first = 0;
    if (map->size == 0) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS, "the file is empty; give a text");
    }
    if (map->size > HT_MAX_TEXT_BYTES) {
        return ht_fail(err, HT_LIMIT, path, HT_NO_POS, "%llu bytes, a text may have %llu (HT_MAX_TEXT_BYTES)",
                       (unsigned long long)map->size, (unsigned long long)HT_MAX_TEXT_BYTES);
    }
    zero = memchr(s, 0, (size_t)map->size);
    if (zero != NULL) {
        return ht_fail(
            err, HT_FORMAT, path, (uint64_t)(zero - s),
            "expected text, found a zero byte: a binary file; token ids come as .npy, .safetensors or "
            ".jsonl");
    }
    while (at < map->size) {
        at += ht_utf8_valid(s + at, (size_t)(map->size - at));
        if (at < map->size) {
            first = bad == 0 ? at : first;
            bad++;
            at++;
        }
    }
    if ((double)bad > HT_INVALID_SHARE * (double)map->size) {
        return ht_fail(err, HT_FORMAT, path, first,
                       "%llu of %llu bytes are not UTF-8; convert the text first", (unsigned long long)bad,
                       (unsigned long long)map->size);
    }
    return HT_OK;
}

/* ---- n-grams
 * ----------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool has_gram(const struct ht_data *d, uint64_t hash) {
    return bsearch(&hash, d->grams, (size_t)d->n_grams, sizeof *d->grams, by_value) != NULL;
}

/* Hashes of all n-grams of ids [n], into room; how many. */
static uint64_t hash_grams(const int32_t *ids, uint64_t n, uint32_t gram, uint64_t *room) {
    uint64_t count = n >= gram ? n - gram + 1 : 0;
    for (uint64_t i = 0; i < count; i++) {
        room[i] = ht_hash_xxh3(ids + i, gram * sizeof *ids);
    }
    return count;
}

static ht_status add_not_in(struct ht_data *d, const char *path, ht_err *err) {
    struct ht_calib_text text;
    struct ht_ids ids = {0};
    HT_TRY(ht_calib_text_read(path, &text, err));
    ht_status status = ht_calib_text_ids(d->model, &text, &ids, NULL, err);
    uint64_t more = ids.n >= d->gram ? ids.n - d->gram + 1 : 0;
    uint64_t *grown = NULL;
    if (status == HT_OK) {
        grown = ht_mem_realloc_array(d->grams, (size_t)(d->n_grams + more) + 1, sizeof *grown);
        status = grown != NULL ? HT_OK : ht_fail_nomem(err, (d->n_grams + more) * sizeof *grown);
    }
    if (status == HT_OK) {
        d->grams = grown;
        d->n_grams += hash_grams(ids.ids, ids.n, d->gram, d->grams + d->n_grams);
        const char *base = ht_path_base(path);
        json_t *o = json_pack("{s:o*, s:s, s:I}", "path", ht_json_str(base, strlen(base)), "sha256",
                              text.sha256, "tokens", (json_int_t)ids.n);
        status = json_array_append_new(d->not_in, o) == 0 ? HT_OK : ht_fail_nomem(err, 0);
    }
    ht_mem_free(ids.ids);
    ht_calib_text_deinit(&text);
    return status;
}

ht_status ht_data_load_not_in(struct ht_data *d, ht_err *err) {
    d->gram = d->o->window < HT_GRAM + 1 ? d->o->window - 1 : HT_GRAM;
    for (size_t i = 0; i < d->o->n_not_in; i++) {
        HT_TRY(add_not_in(d, d->o->not_in[i], err));
    }
    if (d->n_grams > 1) {
        qsort(d->grams, (size_t)d->n_grams, sizeof *d->grams, by_value);
    }
    return HT_OK;
}

/* ---- one window
 * -------------------------------------------------------------------------------------------- */

/* The first id may be BOS in the place of the text's own: it is left out. */
static bool overlaps(const struct ht_data *d, const int32_t *ids) {
    uint64_t shared = 0, count = d->o->window - 1 >= d->gram ? d->o->window - d->gram : 0;
    for (uint64_t i = 1; d->n_grams > 0 && i <= count; i++) {
        shared += has_gram(d, ht_hash_xxh3(ids + i, d->gram * sizeof *ids));
    }
    return shared > 0 && (double)shared >= HT_NOT_IN_SHARE * (double)count;
}

static ht_status repeats(const int32_t *ids, uint32_t window, bool *yes, ht_err *err) {
    *yes = false;
    if (window < 4 * HT_REPEATED_GRAM) {
        return HT_OK;
    }
    uint64_t *room = ht_mem_alloc_array(window, sizeof *room), again = 0;
    if (room == NULL) {
        return ht_fail_nomem(err, window * sizeof *room);
    }
    uint64_t n = hash_grams(ids, window, HT_REPEATED_GRAM, room);
    qsort(room, (size_t)n, sizeof *room, by_value);
    for (uint64_t i = 1; i < n; i++) {
        again += room[i] == room[i - 1];
    }
    *yes = (double)again > HT_REPEATED_SHARE * (double)n;
    ht_mem_free(room);
    return HT_OK;
}

/* Control characters (but white space) and U+FFFD among the characters. */
static ht_status no_text(struct ht_data *d, const int32_t *ids, bool *yes, ht_err *err) {
    uint64_t all = 0, bad = 0;
    ht_buf_clear(&d->text);
    for (uint32_t i = 0; i < d->o->window; i++) {
        const char *bytes;
        size_t len;
        HT_TRY(ht_tokenizer_piece(d->model->tokenizer, ids[i], false, &bytes, &len, err));
        ht_buf_append(&d->text, bytes, len);
    }
    if (!ht_buf_ok(&d->text)) {
        return ht_fail_nomem(err, d->text.len);
    }
    for (size_t i = 0; i < d->text.len; i++) {
        unsigned char c = (unsigned char)d->text.data[i], next = (unsigned char)d->text.data[i + 1];
        bool control = (c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f') || c == 0x7F;
        bool c1 = c == 0xC2 && next >= 0x80 && next < 0xA0;
        bool broken = c == 0xEF && next == 0xBF && (unsigned char)d->text.data[i + 2] == 0xBD;
        bad += control || c1 || broken;
        all += (c & 0xC0) != 0x80;
    }
    *yes = (double)bad > HT_NO_TEXT_SHARE * (double)all;
    return HT_OK;
}

static ht_status seen_before(struct ht_data *d, const int32_t *ids, bool *yes, ht_err *err) {
    uint64_t hash = ht_hash_xxh3(ids + 1, (d->o->window - 1) * sizeof *ids);
    return ht_map_put(&d->seen, &hash, sizeof hash, 1, yes) ? HT_OK : ht_fail_nomem(err, sizeof hash);
}

ht_status ht_data_filter(struct ht_data *d, const int32_t *ids, enum ht_drop *why, ht_err *err) {
    bool yes = false;
    *why = HT_KEPT;
    if (overlaps(d, ids)) {
        *why = HT_DROP_OVERLAP;
        return HT_OK;
    }
    if (d->o->no_filters) {
        return HT_OK;
    }
    HT_TRY(no_text(d, ids, &yes, err));
    *why = yes ? HT_DROP_NO_TEXT : HT_KEPT;
    if (*why == HT_KEPT) {
        HT_TRY(repeats(ids, d->o->window, &yes, err));
        *why = yes ? HT_DROP_REPEATED : HT_KEPT;
    }
    if (*why == HT_KEPT) {
        HT_TRY(seen_before(d, ids, &yes, err));
        *why = yes ? HT_DROP_DUPLICATE : HT_KEPT;
    }
    return HT_OK;
}
