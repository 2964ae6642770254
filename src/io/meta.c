#include "io/meta.h"

#include <math.h>

#include "base/ckd.h"
#include "base/limits.h"
#include "io/bytes.h"

/* One row per type of the specification, by its number. */
static const struct {
    const char *name;
    unsigned char bytes;
    char kind; /* which member of the union holds a scalar: u, i, f; s: string; a: array */
} types[HT_META_TYPES] = {
    [HT_META_U8] = {"u8", 1, 'u'},         [HT_META_I8] = {"i8", 1, 'i'},
    [HT_META_U16] = {"u16", 2, 'u'},       [HT_META_I16] = {"i16", 2, 'i'},
    [HT_META_U32] = {"u32", 4, 'u'},       [HT_META_I32] = {"i32", 4, 'i'},
    [HT_META_F32] = {"f32", 4, 'f'},       [HT_META_BOOL] = {"bool", 1, 'u'},
    [HT_META_STRING] = {"string", 0, 's'}, [HT_META_ARRAY] = {"array", 0, 'a'},
    [HT_META_U64] = {"u64", 8, 'u'},       [HT_META_I64] = {"i64", 8, 'i'},
    [HT_META_F64] = {"f64", 8, 'f'},
};

#define REMOVED UINT64_MAX /* value in the index of a key that was taken out */

size_t ht_meta_type_bytes(enum ht_meta_type type) {
    return types[type].bytes;
}

const char *ht_meta_type_name(enum ht_meta_type type) {
    return types[type].name;
}

void ht_meta_init(struct ht_meta *meta) {
    memset(meta, 0, sizeof *meta);
    ht_arena_init(&meta->arena, 0);
    ht_map_init(&meta->index);
}

void ht_meta_deinit(struct ht_meta *meta) {
    ht_map_deinit(&meta->index);
    ht_arena_deinit(&meta->arena);
    meta->kv = NULL;
    meta->n = meta->cap = 0;
}

static struct ht_meta_kv *find(const struct ht_meta *meta, const char *key, size_t len) {
    uint64_t i;
    return ht_map_get(&meta->index, key, len, &i) && i != REMOVED ? &meta->kv[i] : NULL;
}

const struct ht_meta_kv *ht_meta_find(const struct ht_meta *meta, const char *key) {
    return find(meta, key, strlen(key));
}

/* ---- getters ----------------------------------------------------------------------------------------- */

static ht_status wrong_type(const struct ht_meta_kv *kv, const char *expected, ht_err *err) {
    return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': expected %s, found %s%s", kv->key.s, expected,
                   kv->type == HT_META_ARRAY ? "an array of " : "",
                   types[kv->type == HT_META_ARRAY ? kv->elem_type : kv->type].name);
}

static const struct ht_meta_kv *look_up(const struct ht_meta *meta, const char *key, bool *found) {
    const struct ht_meta_kv *kv = ht_meta_find(meta, key);
    if (found != NULL) {
        *found = kv != NULL;
    }
    return kv;
}

ht_status ht_meta_get_u64(const struct ht_meta *meta, const char *key, uint64_t max, uint64_t *out,
                          bool *found, ht_err *err) {
    const struct ht_meta_kv *kv = look_up(meta, key, found);
    if (kv == NULL) {
        return HT_OK;
    }
    bool is_signed = types[kv->type].kind == 'i';
    if (kv->type == HT_META_BOOL || (types[kv->type].kind != 'u' && !is_signed)) {
        return wrong_type(kv, "an integer", err);
    }
    if (is_signed && kv->v.i < 0) {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': expected 0 to %llu, found %lld", key,
                       (unsigned long long)max, (long long)kv->v.i);
    }
    uint64_t v = is_signed ? (uint64_t)kv->v.i : kv->v.u;
    if (v > max) {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': expected 0 to %llu, found %llu", key,
                       (unsigned long long)max, (unsigned long long)v);
    }
    *out = v;
    return HT_OK;
}

ht_status ht_meta_get_f64(const struct ht_meta *meta, const char *key, double *out, bool *found,
                          ht_err *err) {
    const struct ht_meta_kv *kv = look_up(meta, key, found);
    if (kv == NULL) {
        return HT_OK;
    }
    double v = 0;
    switch (kv->type == HT_META_BOOL ? 'b' : types[kv->type].kind) {
    case 'f':
        v = kv->v.f;
        break;
    case 'u':
        v = (double)kv->v.u;
        break;
    case 'i':
        v = (double)kv->v.i;
        break;
    default:
        return wrong_type(kv, "a number", err);
    }
    if (!isfinite(v)) {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': expected a finite number, found %g", key,
                       v);
    }
    *out = v;
    return HT_OK;
}

ht_status ht_meta_get_bool(const struct ht_meta *meta, const char *key, bool *out, bool *found, ht_err *err) {
    const struct ht_meta_kv *kv = look_up(meta, key, found);
    if (kv == NULL) {
        return HT_OK;
    }
    if (kv->type != HT_META_BOOL) {
        return wrong_type(kv, "a bool", err);
    }
    *out = kv->v.u != 0;
    return HT_OK;
}

ht_status ht_meta_get_str(const struct ht_meta *meta, const char *key, const char **out, bool *found,
                          ht_err *err) {
    const struct ht_meta_kv *kv = look_up(meta, key, found);
    if (kv == NULL) {
        return HT_OK;
    }
    if (kv->type != HT_META_STRING) {
        return wrong_type(kv, "a string", err);
    }
    if (memchr(kv->v.str.s, '\0', (size_t)kv->v.str.len) != NULL) {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "key '%s': the string holds a NUL byte", key);
    }
    *out = kv->v.str.s;
    return HT_OK;
}

void ht_meta_load(enum ht_meta_type type, const void *p, struct ht_meta_kv *kv) {
    int bytes = types[type].bytes;
    uint64_t u = 0;
    memset(&kv->v, 0, sizeof kv->v);
    if (type == HT_META_F32) {
        kv->v.f = (double)ht_le_f32(p);
        return;
    }
    if (type == HT_META_F64) {
        kv->v.f = ht_le_f64(p);
        return;
    }
    for (int i = 0; i < bytes; i++) {
        u |= (uint64_t)((const unsigned char *)p)[i] << (8 * i);
    }
    if (types[type].kind == 'i') {
        uint64_t sign = 1ull << (8 * bytes - 1);
        kv->v.i = (int64_t)((u ^ sign) - sign);
    } else {
        kv->v.u = u;
    }
}

static const unsigned char *elem_at(const struct ht_meta_kv *kv, uint64_t i) {
    return (const unsigned char *)kv->elems + i * types[kv->elem_type].bytes;
}

double ht_meta_elem_f64(const struct ht_meta_kv *kv, uint64_t i) {
    struct ht_meta_kv x;
    if (kv->elem_type == HT_META_STRING || i >= kv->n) {
        return 0;
    }
    ht_meta_load(kv->elem_type, elem_at(kv, i), &x);
    char kind = types[kv->elem_type].kind;
    return kind == 'f' ? x.v.f : kind == 'i' ? (double)x.v.i : (double)x.v.u;
}

int64_t ht_meta_elem_i64(const struct ht_meta_kv *kv, uint64_t i) {
    struct ht_meta_kv x;
    if (kv->elem_type == HT_META_STRING || i >= kv->n) {
        return 0;
    }
    ht_meta_load(kv->elem_type, elem_at(kv, i), &x);
    switch (types[kv->elem_type].kind) {
    case 'i':
        return x.v.i;
    case 'u':
        return x.v.u > INT64_MAX ? INT64_MAX : (int64_t)x.v.u;
    default: /* a float: saturates, NaN is 0 */
        if (fabs(x.v.f) < 9.2e18) {
            return (int64_t)x.v.f;
        }
        return x.v.f > 0 ? INT64_MAX : x.v.f < 0 ? INT64_MIN : 0;
    }
}

struct ht_str ht_meta_elem_str(const struct ht_meta_kv *kv, uint64_t i) {
    if (kv->elem_type != HT_META_STRING || i >= kv->n) {
        return (struct ht_str){"", 0};
    }
    return ((const struct ht_str *)kv->elems)[i];
}

/* ---- setters ----------------------------------------------------------------------------------------- */

static bool copy_str(struct ht_arena *arena, struct ht_str in, struct ht_str *out) {
    out->len = in.len;
    out->s = ht_arena_strndup(arena, in.s != NULL ? in.s : "", (size_t)in.len);
    return out->s != NULL;
}

static bool copy_elems(struct ht_arena *arena, const struct ht_meta_kv *in, struct ht_meta_kv *out) {
    if (in->elem_type != HT_META_STRING) {
        size_t bytes = (size_t)in->n * types[in->elem_type].bytes;
        void *p = ht_arena_alloc(arena, bytes);
        if (p != NULL && bytes != 0) {
            memcpy(p, in->elems, bytes);
        }
        out->elems = p;
        return p != NULL;
    }
    struct ht_str *strings = ht_arena_calloc(arena, (size_t)in->n, sizeof *strings);
    out->elems = strings;
    if (strings == NULL) {
        return false;
    }
    for (uint64_t i = 0; i < in->n; i++) {
        if (!copy_str(arena, ((const struct ht_str *)in->elems)[i], &strings[i])) {
            return false;
        }
    }
    return true;
}

/* The place for key: the one it has, or a new one at the end. *fresh tells which. */
static ht_status place(struct ht_meta *meta, struct ht_str key, struct ht_meta_kv **kv, bool *fresh,
                       ht_err *err) {
    *kv = find(meta, key.s, (size_t)key.len);
    *fresh = *kv == NULL;
    if (*kv != NULL) {
        return HT_OK;
    }
    if (meta->n == meta->cap) {
        size_t cap = meta->cap ? meta->cap * 2 : 64;
        struct ht_meta_kv *bigger = ht_arena_calloc(&meta->arena, cap, sizeof *bigger);
        if (bigger == NULL) {
            return ht_fail_nomem(err, cap * sizeof *bigger);
        }
        if (meta->n != 0) {
            memcpy(bigger, meta->kv, meta->n * sizeof *bigger);
        }
        meta->kv = bigger;
        meta->cap = cap;
    }
    *kv = &meta->kv[meta->n];
    memset(*kv, 0, sizeof **kv);
    return HT_OK;
}

static ht_status check_kv(const struct ht_meta_kv *in, const struct ht_meta *meta, ht_err *err) {
    if (in->key.len == 0 || in->key.len > HT_MAX_KEY_BYTES || memchr(in->key.s, '\0', (size_t)in->key.len)) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS,
                       "a metadata key has %llu bytes; expected 1 to %d without a NUL byte",
                       (unsigned long long)in->key.len, HT_MAX_KEY_BYTES);
    }
    if (meta->n >= HT_MAX_KV) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "more than %u metadata keys", HT_MAX_KV);
    }
    uint64_t len = in->type == HT_META_STRING ? in->v.str.len : 0;
    if (in->type == HT_META_ARRAY && in->n > HT_MAX_ARRAY_ELEMS) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "key '%.*s': %llu array elements, the limit is %u",
                       (int)in->key.len, in->key.s, (unsigned long long)in->n, HT_MAX_ARRAY_ELEMS);
    }
    if (in->type == HT_META_ARRAY && in->elem_type == HT_META_STRING) {
        for (uint64_t i = 0; i < in->n; i++) {
            uint64_t l = ((const struct ht_str *)in->elems)[i].len;
            len = l > len ? l : len;
        }
    }
    if (len > HT_MAX_STRING_BYTES) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "key '%.*s': a string of %llu bytes, the limit is %u",
                       (int)in->key.len, in->key.s, (unsigned long long)len, HT_MAX_STRING_BYTES);
    }
    return HT_OK;
}

ht_status ht_meta_set_kv(struct ht_meta *meta, const struct ht_meta_kv *in, ht_err *err) {
    struct ht_meta_kv *kv, fresh = *in;
    bool is_new;
    HT_TRY(check_kv(in, meta, err));
    bool copied = true;
    if (in->type == HT_META_STRING) {
        copied = copy_str(&meta->arena, in->v.str, &fresh.v.str);
    } else if (in->type == HT_META_ARRAY) {
        copied = copy_elems(&meta->arena, in, &fresh);
    } else {
        fresh.elems = NULL;
        fresh.n = 0;
    }
    if (!copied) {
        return ht_fail_nomem(err, in->n);
    }
    HT_TRY(place(meta, in->key, &kv, &is_new, err));
    if (is_new) {
        if (!copy_str(&meta->arena, in->key, &fresh.key) ||
            !ht_map_set(&meta->index, fresh.key.s, (size_t)fresh.key.len, meta->n)) {
            return ht_fail_nomem(err, in->key.len);
        }
        meta->n++;
    } else {
        fresh.key = kv->key;
    }
    *kv = fresh;
    return HT_OK;
}

static struct ht_meta_kv scalar(const char *key, enum ht_meta_type type) {
    struct ht_meta_kv kv;
    memset(&kv, 0, sizeof kv);
    kv.key = (struct ht_str){key, strlen(key)};
    kv.type = type;
    return kv;
}

static ht_status set_u(struct ht_meta *meta, const char *key, enum ht_meta_type type, uint64_t v,
                       ht_err *err) {
    struct ht_meta_kv kv = scalar(key, type);
    kv.v.u = v;
    return ht_meta_set_kv(meta, &kv, err);
}

ht_status ht_meta_set_u16(struct ht_meta *meta, const char *key, uint16_t v, ht_err *err) {
    return set_u(meta, key, HT_META_U16, v, err);
}

ht_status ht_meta_set_u32(struct ht_meta *meta, const char *key, uint32_t v, ht_err *err) {
    return set_u(meta, key, HT_META_U32, v, err);
}

ht_status ht_meta_set_u64(struct ht_meta *meta, const char *key, uint64_t v, ht_err *err) {
    return set_u(meta, key, HT_META_U64, v, err);
}

ht_status ht_meta_set_bool(struct ht_meta *meta, const char *key, bool v, ht_err *err) {
    return set_u(meta, key, HT_META_BOOL, v, err);
}

ht_status ht_meta_set_i32(struct ht_meta *meta, const char *key, int32_t v, ht_err *err) {
    struct ht_meta_kv kv = scalar(key, HT_META_I32);
    kv.v.i = v;
    return ht_meta_set_kv(meta, &kv, err);
}

ht_status ht_meta_set_f32(struct ht_meta *meta, const char *key, float v, ht_err *err) {
    struct ht_meta_kv kv = scalar(key, HT_META_F32);
    kv.v.f = (double)v;
    return ht_meta_set_kv(meta, &kv, err);
}

ht_status ht_meta_set_str(struct ht_meta *meta, const char *key, const char *s, size_t len, ht_err *err) {
    struct ht_meta_kv kv = scalar(key, HT_META_STRING);
    kv.v.str = (struct ht_str){s, len};
    return ht_meta_set_kv(meta, &kv, err);
}

ht_status ht_meta_set_array(struct ht_meta *meta, const char *key, enum ht_meta_type elem_type,
                            const void *elems, uint64_t n, ht_err *err) {
    struct ht_meta_kv kv = scalar(key, HT_META_ARRAY);
    if (elem_type == HT_META_ARRAY) {
        return ht_fail(err, HT_INVAL, NULL, HT_NO_POS, "key '%s': arrays of arrays cannot be stored", key);
    }
    kv.elem_type = elem_type;
    kv.n = n;
    kv.elems = elems;
    return ht_meta_set_kv(meta, &kv, err);
}

void ht_meta_remove(struct ht_meta *meta, const char *key) {
    struct ht_meta_kv *kv = find(meta, key, strlen(key));
    if (kv == NULL) {
        return;
    }
    size_t at = (size_t)(kv - meta->kv);
    ht_map_set(&meta->index, key, strlen(key), REMOVED); /* existing keys: cannot fail */
    memmove(kv, kv + 1, (meta->n - at - 1) * sizeof *kv);
    meta->n--;
    for (size_t i = at; i < meta->n; i++) {
        ht_map_set(&meta->index, meta->kv[i].key.s, (size_t)meta->kv[i].key.len, i);
    }
}
