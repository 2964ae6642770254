/* GGUF parser: bytes in memory to metadata and tensors. Source: ggml's gguf.md specification (v2, v3).
 *
 * Rules, beyond the layout: every count and length is compared with the bytes that are left before anything
 * is allocated; keys and tensor names are unique plain UTF-8; arrays do not nest; bools are 0 or 1; tensors
 * have 0 to 4 dimensions (0: a scalar, as the C reader of ggml takes it), none of them 0, rows of whole
 * blocks, and lie exactly one behind the other in list order, each padded to the alignment, all of it inside
 * the file. Bytes behind the last tensor, and a missing padding of the last tensor, are counted for
 * ht_verify and are no error: no data is lost and stock readers take such files. */
#include <ctype.h>
#include <stdio.h>

#include "base/ckd.h"
#include "base/hash.h"
#include "io/bytes.h"
#include "io/gguf.h"
#include "io/name.h"

#define MIN_KV_BYTES (8 + 1 + 4 + 1)         /* key length, one letter, type, one byte of value */
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 4 + 8) /* name length, one letter, n_dims = 0, type, offset */
#define MIN_ALIGNMENT 8                      /* specification: a multiple of 8 */

struct cursor {
    const unsigned char *data;
    uint64_t size, at;
    const char *file;
    ht_err *err;
    /* What is being read, for messages: "key 3 'general.name'". */
    const char *kind; /* "header", "key", "tensor" */
    uint64_t index;
    const char *name; /* NULL until known */
};

static uint64_t left(const struct cursor *c) {
    return c->size - c->at;
}

static const char *where(const struct cursor *c, char *buf, size_t len) {
    if (c->name != NULL) {
        snprintf(buf, len, "%s %llu '%.200s'", c->kind, (unsigned long long)c->index, c->name);
    } else if (strcmp(c->kind, "header") == 0) {
        snprintf(buf, len, "header");
    } else {
        snprintf(buf, len, "%s %llu", c->kind, (unsigned long long)c->index);
    }
    return buf;
}

/* Fails at the cursor's place: "key 3 'general.name': " and the message. */
static ht_status bad(const struct cursor *c, ht_status code, uint64_t pos, const char *fmt, ...)
    HT_PRINTF(4, 5);

static ht_status bad(const struct cursor *c, ht_status code, uint64_t pos, const char *fmt, ...) {
    char place[256], text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return ht_fail(c->err, code, c->file, pos, "%s: %s", where(c, place, sizeof place), text);
}

static ht_status need(const struct cursor *c, uint64_t n, const char *what) {
    if (n > left(c)) {
        return bad(c, HT_FORMAT, c->at,
                   "%s needs %llu bytes, the file has %llu left; it is cut short or damaged", what,
                   (unsigned long long)n, (unsigned long long)left(c));
    }
    return HT_OK;
}

static ht_status read_u32(struct cursor *c, uint32_t *v, const char *what) {
    HT_TRY(need(c, 4, what));
    *v = ht_le32(c->data + c->at);
    c->at += 4;
    return HT_OK;
}

static ht_status read_u64(struct cursor *c, uint64_t *v, const char *what) {
    HT_TRY(need(c, 8, what));
    *v = ht_le64(c->data + c->at);
    c->at += 8;
    return HT_OK;
}

/* A view into the file, not NUL terminated. */
static ht_status read_str(struct cursor *c, struct ht_str *s, uint64_t max, const char *what) {
    uint64_t start = c->at;
    *s = (struct ht_str){"", 0};
    HT_TRY(read_u64(c, &s->len, what));
    HT_TRY(need(c, s->len, what));
    if (s->len > max) {
        return bad(c, HT_LIMIT, start, "%s has %llu bytes, the limit is %llu", what,
                   (unsigned long long)s->len, (unsigned long long)max);
    }
    s->s = (const char *)c->data + c->at;
    c->at += s->len;
    return HT_OK;
}

/* ---- header ------------------------------------------------------------------------------------------ */

static ht_status check_magic(const struct cursor *c) {
    static const struct {
        char magic[5];
        const char *what;
    } others[] = {
        {"lmgg", "an old GGML file"},
        {"fmgg", "an old GGML file"},
        {"tjgg", "an old GGJT file"},
        {"PK\3\4", "a zip archive (a pickled PyTorch checkpoint?)"},
        {"vers", "a Git LFS pointer; fetch the real file with git lfs pull"},
    };
    HT_TRY(need(c, 4, "the magic"));
    if (memcmp(c->data, "GGUF", 4) == 0) {
        return HT_OK;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (memcmp(c->data, others[i].magic, 4) == 0) {
            return bad(c, HT_FORMAT, 0, "expected a GGUF file, found %s", others[i].what);
        }
    }
    char m[4];
    for (int i = 0; i < 4; i++) {
        m[i] = (char)(isprint(c->data[i]) ? c->data[i] : '.');
    }
    return bad(c, HT_FORMAT, 0, "expected the magic 'GGUF', found '%.4s'", m);
}

static ht_status read_header(struct cursor *c, struct ht_gguf *gguf, uint64_t *n_tensors, uint64_t *n_kv) {
    HT_TRY(check_magic(c));
    c->at = 4;
    HT_TRY(read_u32(c, &gguf->version, "the version"));
    uint32_t v = gguf->version;
    if (v == 0) {
        return bad(c, HT_FORMAT, 4, "version 0; expected 2 or 3");
    }
    if ((v & 0xffff) == 0) {
        return bad(c, HT_UNSUPPORTED, 4,
                   "the file is big-endian (version field %08x); only little-endian "
                   "files are read: convert it with gguf_convert_endian.py of the gguf package",
                   v);
    }
    if (v == 1) {
        return bad(c, HT_UNSUPPORTED, 4,
                   "GGUF version 1 is obsolete (2023); expected 2 or 3: convert the "
                   "original checkpoint again");
    }
    if (v > 3) {
        return bad(c, HT_UNSUPPORTED, 4, "GGUF version %u is newer than this program; expected 2 or 3", v);
    }
    HT_TRY(read_u64(c, n_tensors, "the number of tensors"));
    HT_TRY(read_u64(c, n_kv, "the number of metadata pairs"));
    if (*n_tensors > left(c) / MIN_TENSOR_BYTES) {
        return bad(c, HT_FORMAT, 8, "%llu tensors cannot fit into the %llu bytes that follow",
                   (unsigned long long)*n_tensors, (unsigned long long)left(c));
    }
    if (*n_kv > left(c) / MIN_KV_BYTES) {
        return bad(c, HT_FORMAT, 16, "%llu metadata pairs cannot fit into the %llu bytes that follow",
                   (unsigned long long)*n_kv, (unsigned long long)left(c));
    }
    if (*n_tensors > HT_MAX_TENSORS) {
        return bad(c, HT_LIMIT, 8, "%llu tensors, the limit is %u", (unsigned long long)*n_tensors,
                   HT_MAX_TENSORS);
    }
    if (*n_kv > HT_MAX_KV) {
        return bad(c, HT_LIMIT, 16, "%llu metadata pairs, the limit is %u", (unsigned long long)*n_kv,
                   HT_MAX_KV);
    }
    return HT_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------------- */

static ht_status read_type(struct cursor *c, enum ht_meta_type *type, const char *what) {
    uint32_t t;
    HT_TRY(read_u32(c, &t, what));
    if (t >= HT_META_TYPES) {
        return bad(c, HT_FORMAT, c->at - 4, "%s is %u, expected 0 to %d", what, t, HT_META_TYPES - 1);
    }
    *type = (enum ht_meta_type)t;
    return HT_OK;
}

static ht_status check_bools(struct cursor *c, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (c->data[c->at + i] > 1) {
            return bad(c, HT_FORMAT, c->at + i, "a bool is %u, expected 0 or 1", c->data[c->at + i]);
        }
    }
    return HT_OK;
}

static ht_status read_string_array(struct cursor *c, struct ht_meta_kv *kv, struct ht_str **strings) {
    *strings = ht_mem_alloc_array((size_t)kv->n, sizeof **strings);
    if (*strings == NULL) {
        return ht_fail_nomem(c->err, kv->n * sizeof **strings);
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        HT_TRY(read_str(c, &(*strings)[i], HT_MAX_STRING_BYTES, "a string of the array"));
    }
    kv->elems = *strings;
    return HT_OK;
}

static ht_status read_array(struct cursor *c, struct ht_meta_kv *kv, struct ht_str **strings) {
    HT_TRY(read_type(c, &kv->elem_type, "the array's element type"));
    if (kv->elem_type == HT_META_ARRAY) {
        return bad(c, HT_UNSUPPORTED, c->at - 4, "an array of arrays; expected scalars or strings");
    }
    uint64_t start = c->at;
    HT_TRY(read_u64(c, &kv->n, "the array's length"));
    size_t elem_bytes = ht_meta_type_bytes(kv->elem_type);
    uint64_t min_bytes = elem_bytes ? elem_bytes : 8;
    if (kv->n > left(c) / min_bytes) {
        return bad(c, HT_FORMAT, start,
                   "an array of %llu elements cannot fit into the %llu bytes that follow",
                   (unsigned long long)kv->n, (unsigned long long)left(c));
    }
    if (kv->n > HT_MAX_ARRAY_ELEMS) {
        return bad(c, HT_LIMIT, start, "an array of %llu elements, the limit is %u",
                   (unsigned long long)kv->n, HT_MAX_ARRAY_ELEMS);
    }
    if (elem_bytes == 0) {
        return read_string_array(c, kv, strings);
    }
    if (kv->elem_type == HT_META_BOOL) {
        HT_TRY(check_bools(c, kv->n));
    }
    kv->elems = c->data + c->at;
    c->at += kv->n * elem_bytes;
    return HT_OK;
}

static ht_status read_value(struct cursor *c, struct ht_meta_kv *kv, struct ht_str **strings) {
    HT_TRY(read_type(c, &kv->type, "the value's type"));
    if (kv->type == HT_META_STRING) {
        return read_str(c, &kv->v.str, HT_MAX_STRING_BYTES, "the string");
    }
    if (kv->type == HT_META_ARRAY) {
        return read_array(c, kv, strings);
    }
    size_t bytes = ht_meta_type_bytes(kv->type);
    HT_TRY(need(c, bytes, "the value"));
    if (kv->type == HT_META_BOOL) {
        HT_TRY(check_bools(c, 1));
    }
    ht_meta_load(kv->type, c->data + c->at, kv);
    c->at += bytes;
    return HT_OK;
}

static ht_status read_kv(struct cursor *c, struct ht_meta *meta) {
    struct ht_meta_kv kv;
    struct ht_str *strings = NULL;
    char name[201];
    ht_status status = HT_OK;
    memset(&kv, 0, sizeof kv);
    uint64_t start = c->at;
    HT_TRY(read_str(c, &kv.key, HT_MAX_KEY_BYTES, "the key"));
    const char *fault = ht_name_fault(kv.key.s, (size_t)kv.key.len, HT_MAX_KEY_BYTES);
    if (fault != NULL) {
        return bad(c, HT_FORMAT, start, "the key %s", fault);
    }
    snprintf(name, sizeof name, "%.*s", (int)(kv.key.len < 200 ? kv.key.len : 200), kv.key.s);
    c->name = name;
    size_t before = meta->n;
    HT_TRY_DONE(read_value(c, &kv, &strings));
    HT_TRY_DONE(ht_meta_set_kv(meta, &kv, c->err));
    if (meta->n == before) {
        status = bad(c, HT_FORMAT, start, "the key appears twice");
    }
done:
    ht_mem_free(strings);
    c->name = NULL;
    return status;
}

static ht_status find_alignment(struct cursor *c, struct ht_gguf *gguf) {
    const struct ht_meta_kv *kv = ht_meta_find(&gguf->meta, "general.alignment");
    gguf->alignment = HT_GGUF_ALIGNMENT;
    if (kv == NULL) {
        return HT_OK;
    }
    c->name = "general.alignment";
    c->index = (uint64_t)(kv - gguf->meta.kv);
    if (kv->type != HT_META_U32) {
        return bad(c, HT_FORMAT, HT_NO_POS, "expected u32, found %s", ht_meta_type_name(kv->type));
    }
    uint64_t a = kv->v.u;
    if (a < MIN_ALIGNMENT || a > HT_MAX_ALIGNMENT || (a & (a - 1)) != 0) {
        return bad(c, HT_FORMAT, HT_NO_POS, "expected a power of two from %d to %u, found %llu",
                   MIN_ALIGNMENT, HT_MAX_ALIGNMENT, (unsigned long long)a);
    }
    gguf->alignment = (uint32_t)a;
    c->name = NULL;
    return HT_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------- */

/* Numbers that the specification gave out and took back, and those of activations inside of programs, which no
 * file has: only for messages. */
static ht_status refuse_type(const struct cursor *c, uint64_t pos, uint32_t type) {
    static const struct {
        uint32_t type;
        const char *name;
        bool removed;
    } known[] = {
        {4, "Q4_2", true},      {5, "Q4_3", true},        {31, "Q4_0_4_4", true},   {32, "Q4_0_4_8", true},
        {33, "Q4_0_8_8", true}, {36, "IQ4_NL_4_4", true}, {37, "IQ4_NL_4_8", true}, {38, "IQ4_NL_8_8", true},
        {9, "Q8_1", false},     {15, "Q8_K", false},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].type == type && known[i].removed) {
            return bad(c, HT_UNSUPPORTED, pos,
                       "type %u (%s) was removed from GGUF; convert the original again", type, known[i].name);
        }
        if (known[i].type == type) {
            return bad(c, HT_UNSUPPORTED, pos, "type %u (%s) is for activations, not for the weights of a file", type,
                       known[i].name);
        }
    }
    return bad(c, HT_FORMAT, pos,
               "unknown tensor type %u; the file is damaged or written by a fork or a newer "
               "program",
               type);
}

static ht_status read_tensor(struct cursor *c, struct ht_gguf *gguf, struct ht_map *names,
                             struct ht_tensor *t, uint64_t *offset) {
    struct ht_str name;
    uint64_t start = c->at;
    uint32_t n_dims, type;
    bool existed;
    HT_TRY(read_str(c, &name, HT_MAX_KEY_BYTES, "the name"));
    const char *fault = ht_name_fault(name.s, (size_t)name.len, HT_MAX_TENSOR_NAME);
    if (fault != NULL) {
        return bad(c, HT_FORMAT, start, "the name of %llu bytes %s; expected 1 to %d bytes",
                   (unsigned long long)name.len, fault, HT_MAX_TENSOR_NAME);
    }
    t->name = ht_arena_strndup(&gguf->arena, name.s, (size_t)name.len);
    if (t->name == NULL || !ht_map_put(names, name.s, (size_t)name.len, c->index, &existed)) {
        return ht_fail_nomem(c->err, name.len);
    }
    c->name = t->name;
    if (existed) {
        return bad(c, HT_FORMAT, start, "the name appears twice");
    }
    HT_TRY(read_u32(c, &n_dims, "the number of dimensions"));
    if (n_dims > HT_MAX_DIMS) {
        return bad(c, HT_FORMAT, c->at - 4, "%u dimensions, expected 0 to %d", n_dims, HT_MAX_DIMS);
    }
    t->n_dims = (int)n_dims;
    uint64_t dims_at = c->at;
    for (uint32_t i = 0; i < n_dims; i++) {
        HT_TRY(read_u64(c, &t->ne[i], "a dimension"));
    }
    HT_TRY(read_u32(c, &type, "the type"));
    t->format = ht_format_by_gguf(type);
    if (t->format == NULL) {
        return refuse_type(c, c->at - 4, type);
    }
    HT_TRY(read_u64(c, offset, "the offset"));
    ht_status status = ht_tensor_check(t, c->file, c->err);
    if (status != HT_OK && c->err != NULL) {
        c->err->pos = dims_at;
    }
    return status;
}

/* Offsets follow each other in list order; sets the data pointers. *end: where the padding of the last ends. */
static ht_status place_tensors(struct cursor *c, struct ht_gguf *gguf, const uint64_t *offsets,
                               uint64_t *end) {
    uint64_t expected = 0;
    uint64_t room = gguf->data_offset <= c->size ? c->size - gguf->data_offset : 0;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        struct ht_tensor *t = &gguf->tensors[i];
        uint64_t stop;
        c->index = i;
        c->name = t->name;
        if (offsets[i] % gguf->alignment != 0) {
            return bad(c, HT_FORMAT, HT_NO_POS, "offset %llu is not a multiple of the alignment %u",
                       (unsigned long long)offsets[i], gguf->alignment);
        }
        if (offsets[i] != expected) {
            return bad(c, HT_FORMAT, HT_NO_POS,
                       "offset %llu, expected %llu: tensors must lie one behind the other",
                       (unsigned long long)offsets[i], (unsigned long long)expected);
        }
        if (gguf->data_offset > c->size || ht_ckd_add(&stop, expected, t->bytes) || stop > room) {
            return bad(
                c, HT_FORMAT, HT_NO_POS,
                "%llu bytes of data from byte %llu on, but the file ends at byte %llu; it is cut short",
                (unsigned long long)t->bytes, (unsigned long long)(gguf->data_offset + expected),
                (unsigned long long)c->size);
        }
        t->data = c->data + gguf->data_offset + expected;
        if (ht_ckd_align(&expected, stop, gguf->alignment)) {
            return bad(c, HT_FORMAT, HT_NO_POS, "the sizes of the tensors overflow 64 bits");
        }
    }
    *end = gguf->data_offset + expected;
    return HT_OK;
}

static ht_status read_tensors(struct cursor *c, struct ht_gguf *gguf, uint64_t n) {
    ht_status status = HT_OK;
    struct ht_map names;
    uint64_t *offsets = ht_mem_alloc_array((size_t)n, sizeof *offsets), end = 0;
    gguf->tensors = ht_mem_calloc((size_t)n, sizeof *gguf->tensors);
    ht_map_init(&names);
    if (offsets == NULL || gguf->tensors == NULL) {
        status = ht_fail_nomem(c->err, n * (sizeof *offsets + sizeof *gguf->tensors));
        goto done;
    }
    gguf->n_tensors = (size_t)n;
    c->kind = "tensor";
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        c->index = i;
        c->name = NULL;
        HT_TRY_DONE(read_tensor(c, gguf, &names, &gguf->tensors[i], &offsets[i]));
    }
    gguf->data_offset = (c->at + gguf->alignment - 1) & ~(uint64_t)(gguf->alignment - 1);
    HT_TRY_DONE(place_tensors(c, gguf, offsets, &end));
    gguf->trailing_bytes = c->size > end ? c->size - end : 0;
    gguf->missing_pad_bytes = n != 0 && end > c->size ? end - c->size : 0;
done:
    ht_map_deinit(&names);
    ht_mem_free(offsets);
    return status;
}

ht_status ht_gguf_parse(const void *data, uint64_t size, const char *what, struct ht_gguf *gguf,
                        ht_err *err) {
    struct cursor c = {.data = data, .size = size, .file = what, .err = err, .kind = "header"};
    uint64_t n_tensors, n_kv;
    ht_status status = HT_OK;
    memset(gguf, 0, sizeof *gguf);
    ht_meta_init(&gguf->meta);
    ht_arena_init(&gguf->arena, 0);
    HT_TRY_DONE(read_header(&c, gguf, &n_tensors, &n_kv));
    c.kind = "key";
    for (uint64_t i = 0; i < n_kv; i++) {
        c.index = i;
        HT_TRY_DONE(read_kv(&c, &gguf->meta));
        const struct ht_meta_kv *kv = &gguf->meta.kv[gguf->meta.n - 1];
        if (kv->type == HT_META_U64 && strcmp(kv->key.s, HT_GGUF_HEADER_SUM) == 0) {
            gguf->header_sum_at = c.at - 8;
        }
    }
    HT_TRY_DONE(find_alignment(&c, gguf));
    HT_TRY_DONE(read_tensors(&c, gguf, n_tensors));
done:
    if (status != HT_OK) {
        ht_gguf_deinit(gguf);
    }
    return status;
}

void ht_gguf_deinit(struct ht_gguf *gguf) {
    ht_meta_deinit(&gguf->meta);
    ht_arena_deinit(&gguf->arena);
    ht_mem_free(gguf->tensors);
    memset(gguf, 0, sizeof *gguf);
}

ht_status ht_gguf_header_sum(const void *data, uint64_t size, const char *what, struct ht_gguf_header_sum *sum,
                             ht_err *err) {
    static const unsigned char zeros[8];
    const unsigned char *p = data;
    struct ht_gguf gguf;
    struct ht_xxh3 *xxh3;
    *sum = (struct ht_gguf_header_sum){0};
    HT_TRY(ht_gguf_parse(data, size, what, &gguf, err));
    uint64_t at = gguf.header_sum_at, end = gguf.data_offset < size ? gguf.data_offset : size;
    ht_gguf_deinit(&gguf);
    if (at == 0) {
        return HT_OK;
    }
    HT_TRY(ht_xxh3_new(&xxh3, err));
    ht_xxh3_update(xxh3, p, at);
    ht_xxh3_update(xxh3, zeros, sizeof zeros);
    ht_xxh3_update(xxh3, p + at + 8, end - at - 8);
    *sum = (struct ht_gguf_header_sum){true, ht_le64(p + at), ht_xxh3_final(xxh3)};
    ht_xxh3_free(xxh3);
    return HT_OK;
}
