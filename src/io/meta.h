/* Typed key-value metadata, as in GGUF files: ordered, unique keys. Strings may hold any bytes but are
 * NUL terminated behind their length. */
#ifndef HT_IO_META_H
#define HT_IO_META_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/map.h"

enum ht_meta_type { /* numbers of the GGUF specification */
    HT_META_U8, HT_META_I8, HT_META_U16, HT_META_I16, HT_META_U32, HT_META_I32, HT_META_F32, HT_META_BOOL,
    HT_META_STRING, HT_META_ARRAY, HT_META_U64, HT_META_I64, HT_META_F64, HT_META_TYPES
};

struct ht_str {
    const char *s;
    uint64_t len;
};

struct ht_meta_kv {
    struct ht_str key;
    enum ht_meta_type type; /* ARRAY: see elem_type, n */
    union {
        uint64_t u; /* U8 U16 U32 U64 BOOL */
        int64_t i;  /* I8 I16 I32 I64 */
        double f;   /* F32 F64 */
        struct ht_str str;
    } v;
    enum ht_meta_type elem_type; /* arrays; not ARRAY */
    uint64_t n;
    const void *elems; /* packed little-endian scalars as in the file (unaligned), or struct ht_str[n] */
};

struct ht_meta { /* everything lives in the arena */
    struct ht_arena arena;
    struct ht_meta_kv *kv;
    size_t n, cap;
    struct ht_map index;
};

void ht_meta_init(struct ht_meta *meta);
void ht_meta_deinit(struct ht_meta *meta);

const struct ht_meta_kv *ht_meta_find(const struct ht_meta *meta, const char *key); /* NULL: absent */

/* Typed getters: an absent key leaves *out and returns OK with *found (may be NULL) false; any integer type
 * is accepted where the value fits; a wrong type or range is HT_FORMAT naming the key. */
ht_status ht_meta_get_u64(const struct ht_meta *meta, const char *key, uint64_t max, uint64_t *out,
                          bool *found, ht_err *err);
ht_status ht_meta_get_f64(const struct ht_meta *meta, const char *key, double *out, bool *found, ht_err *err);
ht_status ht_meta_get_bool(const struct ht_meta *meta, const char *key, bool *out, bool *found, ht_err *err);
ht_status ht_meta_get_str(const struct ht_meta *meta, const char *key, const char **out, bool *found,
                          ht_err *err);
/* Element i of a scalar array as a number (i64: floats are cut, u64 beyond int64 saturates). An index beyond
 * the end or the wrong kind of element gives 0 or "". */
double ht_meta_elem_f64(const struct ht_meta_kv *kv, uint64_t i);
int64_t ht_meta_elem_i64(const struct ht_meta_kv *kv, uint64_t i);
struct ht_str ht_meta_elem_str(const struct ht_meta_kv *kv, uint64_t i);

/* Setters replace in place or append; everything is copied. HT_NOMEM or HT_LIMIT. */
ht_status ht_meta_set_u32(struct ht_meta *meta, const char *key, uint32_t v, ht_err *err);
ht_status ht_meta_set_u64(struct ht_meta *meta, const char *key, uint64_t v, ht_err *err);
ht_status ht_meta_set_i32(struct ht_meta *meta, const char *key, int32_t v, ht_err *err);
ht_status ht_meta_set_u16(struct ht_meta *meta, const char *key, uint16_t v, ht_err *err);
ht_status ht_meta_set_f32(struct ht_meta *meta, const char *key, float v, ht_err *err);
ht_status ht_meta_set_bool(struct ht_meta *meta, const char *key, bool v, ht_err *err);
ht_status ht_meta_set_str(struct ht_meta *meta, const char *key, const char *s, size_t len, ht_err *err);
/* elems: packed scalars, or struct ht_str[n]. */
ht_status ht_meta_set_array(struct ht_meta *meta, const char *key, enum ht_meta_type elem_type,
                            const void *elems, uint64_t n, ht_err *err);
ht_status ht_meta_set_kv(struct ht_meta *meta, const struct ht_meta_kv *kv, ht_err *err); /* deep copy */
void ht_meta_remove(struct ht_meta *meta, const char *key);

size_t ht_meta_type_bytes(enum ht_meta_type type); /* 0 for STRING and ARRAY */
const char *ht_meta_type_name(enum ht_meta_type type); /* "u8", "string", ... */
/* Decodes one scalar of a file into kv->v; type is neither STRING nor ARRAY. */
void ht_meta_load(enum ht_meta_type type, const void *p, struct ht_meta_kv *kv);

#endif
