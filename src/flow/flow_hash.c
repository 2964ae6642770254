#include "flow/flow_hash.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"

static ht_status hash_map(struct ht_xxh3 *xxh3, const struct ht_mapping *map, const char *name,
                          struct ht_meter *meter, uint64_t *done, ht_err *err) {
    const uint64_t step = 4u << 20;
    for (uint64_t at = 0; at < map->size; at += step) {
        uint64_t n = map->size - at < step ? map->size - at : step;
        ht_xxh3_update(xxh3, map->data + at, n);
        ht_map_drop(map, at, n);
        *done += n;
        HT_TRY(ht_meter_tell(meter, *done, *done, name, err));
    }
    return HT_OK;
}

ht_status ht_flow_hash_files(struct ht_context *ctx, const char *name, const struct ht_mapping *maps, size_t n,
                             char hex[17], ht_err *err) {
    struct ht_xxh3 *xxh3;
    struct ht_meter meter;
    uint64_t total = 0, done = 0;
    ht_status status = HT_OK;
    HT_TRY(ht_xxh3_new(&xxh3, err));
    for (size_t i = 0; i < n; i++) {
        total += maps[i].size;
    }
    ht_meter_init(&meter, ctx, "hash", "bytes", total);
    for (size_t i = 0; i < n && status == HT_OK; i++) {
        status = hash_map(xxh3, &maps[i], name, &meter, &done, err);
    }
    if (status == HT_OK) {
        snprintf(hex, 17, "%016llx", (unsigned long long)ht_xxh3_final(xxh3));
    }
    ht_xxh3_free(xxh3);
    return status;
}

static ht_status hash_norm(const struct ht_tensor *t, const struct ht_binding *b, uint64_t *sum, ht_err *err) {
    uint64_t n = t->ne[0], place[2] = {(uint64_t)b->role, (uint64_t)(int64_t)b->layer};
    float *x = ht_mem_alloc_array(n, sizeof *x);
    struct ht_xxh3 *xxh3 = NULL;
    ht_status status = x != NULL ? ht_xxh3_new(&xxh3, err) : ht_fail_nomem(err, n * sizeof *x);
    if (status == HT_OK) {
        t->format->decode(t->data, x, n);
        ht_xxh3_update(xxh3, place, sizeof place);
        ht_xxh3_update(xxh3, x, n * sizeof *x);
        *sum += ht_xxh3_final(xxh3); /* files order their tensors as they like */
    }
    ht_xxh3_free(xxh3);
    ht_mem_free(x);
    return status;
}

ht_status ht_flow_hash_norms(const struct ht_source *source, const struct ht_binding *bindings, char hex[17],
                             ht_err *err) {
    uint64_t sum = 0;
    for (size_t i = 0; i < source->n_tensors; i++) {
        const struct ht_binding *b = &bindings[i];
        const struct ht_tensor *t = &source->tensors[i];
        bool norm = b->role == HT_ROLE_ATTN_NORM || b->role == HT_ROLE_FFN_NORM || b->role == HT_ROLE_OUTPUT_NORM;
        if (norm && t->n_dims == 1 && t->format->decode != NULL) {
            HT_TRY(hash_norm(t, b, &sum, err));
        }
    }
    snprintf(hex, 17, "%016llx", (unsigned long long)sum);
    return HT_OK;
}
