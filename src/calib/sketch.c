#include "calib/sketch.h"

#include "base/hash.h"
#include "io/bytes.h"

void ht_sketch_init(struct ht_sketch *s) {
    memset(s->hashes, 0xFF, sizeof s->hashes);
    s->n = 0;
}

/* Place of the first hash that is not below h. */
static uint32_t place_of(const struct ht_sketch *s, uint64_t h) {
    uint32_t low = 0, high = s->n;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->hashes[middle] < h) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool has(const struct ht_sketch *s, uint64_t h) {
    uint32_t at = place_of(s, h);
    return at < s->n && s->hashes[at] == h;
}

static void put(struct ht_sketch *s, uint64_t h) {
    if (s->n == HT_SKETCH && h >= s->hashes[HT_SKETCH - 1]) {
        return;
    }
    uint32_t at = place_of(s, h);
    if (at < s->n && s->hashes[at] == h) {
        return;
    }
    s->n += s->n < HT_SKETCH;
    memmove(s->hashes + at + 1, s->hashes + at, (s->n - 1 - at) * sizeof *s->hashes);
    s->hashes[at] = h;
}

static uint64_t hash_at(const int32_t *ids) {
    return ht_hash_xxh3(ids, HT_GRAM * sizeof *ids) >> 1;
}

void ht_sketch_add(struct ht_sketch *s, const int32_t *ids, uint64_t n) {
    for (uint64_t i = 0; i + HT_GRAM <= n; i++) {
        put(s, hash_at(ids + i));
    }
}

void ht_sketch_merge(struct ht_sketch *into, const struct ht_sketch *other) {
    for (uint32_t i = 0; i < other->n; i++) {
        put(into, other->hashes[i]);
    }
}

double ht_sketch_share(const struct ht_sketch *s, const int32_t *ids, uint64_t n, uint64_t *looked, uint64_t *shared) {
    uint64_t last = s->n == HT_SKETCH ? s->hashes[HT_SKETCH - 1] : UINT64_MAX; /* a short text is there as a whole */
    *looked = *shared = 0;
    for (uint64_t i = 0; s->n > 0 && i + HT_GRAM <= n; i++) {
        uint64_t h = hash_at(ids + i);
        *looked += h <= last;
        *shared += h <= last && has(s, h);
    }
    return *looked > 0 ? (double)*shared / (double)*looked : 0;
}

/* ---- in files ---------------------------------------------------------------------------------------------- */

json_t *ht_sketch_json(const struct ht_sketch *s) {
    json_t *array = json_array();
    for (uint32_t i = 0; array != NULL && i < s->n; i++) {
        if (json_array_append_new(array, json_integer((json_int_t)s->hashes[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static bool append(struct ht_sketch *s, int64_t h) {
    if (h < 0 || s->n == HT_SKETCH || (s->n > 0 && (uint64_t)h <= s->hashes[s->n - 1])) {
        return false;
    }
    s->hashes[s->n++] = (uint64_t)h;
    return true;
}

bool ht_sketch_from_json(const json_t *array, struct ht_sketch *s) {
    size_t i;
    json_t *v;
    ht_sketch_init(s);
    json_array_foreach(array, i, v) {
        if (!json_is_integer(v) || !append(s, json_integer_value(v))) {
            ht_sketch_init(s);
            return false;
        }
    }
    return s->n > 0;
}

ht_status ht_sketch_to_meta(const struct ht_sketch *s, struct ht_meta *meta, ht_err *err) {
    unsigned char le[HT_SKETCH * 8] = {0};
    for (uint32_t i = 0; s != NULL && i < HT_SKETCH; i++) {
        ht_le_store(le + 8 * i, s->hashes[i], 8);
    }
    ht_meta_remove(meta, HT_SKETCH_KEY);
    return ht_meta_set_array(meta, HT_SKETCH_KEY, HT_META_U64, le, HT_SKETCH, err);
}

bool ht_sketch_from_meta(const struct ht_meta *meta, struct ht_sketch *s) {
    const struct ht_meta_kv *kv = ht_meta_find(meta, HT_SKETCH_KEY);
    ht_sketch_init(s);
    if (kv == NULL || kv->type != HT_META_ARRAY || kv->elem_type != HT_META_U64 || kv->n != HT_SKETCH) {
        return false;
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        uint64_t h = ht_le64((const unsigned char *)kv->elems + 8 * i);
        if (h == UINT64_MAX) {
            break;
        }
        if (h > INT64_MAX || !append(s, (int64_t)h)) {
            ht_sketch_init(s);
            return false;
        }
    }
    return s->n > 0;
}
