/* safetensors parser: u64 header length, JSON header, data. Source: the format's specification.
 *
 *   {"NAME": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, ..., "__metadata__": {"k":
 * "v"}}
 *
 * Rules: a header of at most 100 MB inside the file that begins with '{'; strict JSON without duplicate keys;
 * known dtypes; sizes that match shapes; data without holes or overlaps from 0 to the end of the file. Beyond
 * the specification: names are plain text of at most 512 bytes, at most 4 dimensions, no tensor without
 * elements. Data need not be aligned to the element size: readers of tensors take any address. */
#include <stdio.h>
#include <stdlib.h> /* qsort */

#include "base/ckd.h"
#include "base/json.h"
#include "io/bytes.h"
#include "io/name.h"
#include "io/safetensors.h"

#define LENGTH_BYTES 8
#define HEADER_DEPTH 4

struct parse {
    const char *file;
    struct ht_safetensors *st;
    const unsigned char *data; /* first byte behind the header */
    uint64_t data_bytes;
    ht_err *err;
};

/* Valid dtypes of the specification that no format of this build stands for: only for the message. */
static bool known_dtype(const char *dtype) {
    static const char *const known[] = {"BOOL",    "F4",      "F6_E2M3", "F6_E3M2",     "U8",          "I8",
                                        "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",
                                        "U16",     "F16",     "BF16",    "I32",         "U32",         "F32",
                                        "C64",     "F64",     "I64",     "U64"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i], dtype) == 0) {
            return true;
        }
    }
    return false;
}

static ht_status read_dtype(struct parse *p, const char *name, const json_t *entry, struct ht_tensor *t) {
    const json_t *v = json_object_get(entry, "dtype");
    if (!json_is_string(v)) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "tensor '%s': expected a string \"dtype\"",
                       name);
    }
    const char *dtype = json_string_value(v);
    t->format = ht_format_by_st(dtype);
    if (t->format != NULL) {
        return HT_OK;
    }
    if (known_dtype(dtype)) {
        return ht_fail(p->err, HT_UNSUPPORTED, p->file, HT_NO_POS,
                       "tensor '%s': dtype %s is not supported; expected a checkpoint in F32, F16 or BF16",
                       name, dtype);
    }
    return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "tensor '%s': unknown dtype '%.40s'", name, dtype);
}

/* PyTorch's [out, in] becomes ne = {in, out}. */
static ht_status read_shape(struct parse *p, const char *name, const json_t *entry, struct ht_tensor *t) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "tensor '%s': expected an array \"shape\"",
                       name);
    }
    size_t n = json_array_size(shape);
    if (n > HT_MAX_DIMS) {
        return ht_fail(p->err, HT_UNSUPPORTED, p->file, HT_NO_POS,
                       "tensor '%s': %zu dimensions, at most %d are supported", name, n, HT_MAX_DIMS);
    }
    t->n_dims = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0) {
            return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                           "tensor '%s': dimension %zu of the shape is no whole number", name, i);
        }
        if (json_integer_value(d) == 0) {
            return ht_fail(p->err, HT_UNSUPPORTED, p->file, HT_NO_POS,
                           "tensor '%s': dimension %zu is 0; tensors without elements are not supported",
                           name, i);
        }
        t->ne[n - 1 - i] = (uint64_t)json_integer_value(d);
    }
    return HT_OK;
}

static ht_status read_offsets(struct parse *p, const char *name, const json_t *entry, struct ht_tensor *t) {
    const json_t *o = json_object_get(entry, "data_offsets");
    const json_t *b = json_array_get(o, 0), *e = json_array_get(o, 1);
    if (json_array_size(o) != 2 || !json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
        json_integer_value(e) < 0) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                       "tensor '%s': expected \"data_offsets\": [begin, end] of whole numbers", name);
    }
    uint64_t begin = (uint64_t)json_integer_value(b), end = (uint64_t)json_integer_value(e);
    if (begin > end || end > p->data_bytes) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                       "tensor '%s': data_offsets [%llu, %llu] do not lie in the file's %llu bytes of data%s",
                       name, (unsigned long long)begin, (unsigned long long)end,
                       (unsigned long long)p->data_bytes, begin > end ? "" : "; it is cut short or damaged");
    }
    if (end - begin != t->bytes) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                       "tensor '%s': data_offsets span %llu bytes, dtype and shape need %llu", name,
                       (unsigned long long)(end - begin), (unsigned long long)t->bytes);
    }
    t->data = p->data + begin;
    return HT_OK;
}

static ht_status read_entry(struct parse *p, const char *name, const json_t *entry, struct ht_tensor *t) {
    const char *fault = ht_name_fault(name, strlen(name), HT_MAX_ST_NAME);
    if (fault != NULL) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "tensor %zu of the header: the name %s",
                       p->st->n_tensors, fault);
    }
    if (!json_is_object(entry)) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                       "tensor '%s': expected an object with dtype, shape, data_offsets", name);
    }
    if (json_object_size(entry) != 3) {
        return ht_fail(
            p->err, HT_FORMAT, p->file, HT_NO_POS,
            "tensor '%s': expected dtype, shape, data_offsets and no other field, found %zu fields", name,
            json_object_size(entry));
    }
    t->name = ht_arena_strdup(&p->st->arena, name);
    if (t->name == NULL) {
        return ht_fail_nomem(p->err, strlen(name));
    }
    HT_TRY(read_dtype(p, name, entry, t));
    HT_TRY(read_shape(p, name, entry, t));
    HT_TRY(ht_tensor_check(t, p->file, p->err));
    return read_offsets(p, name, entry, t);
}

static ht_status read_metadata(struct parse *p, json_t *meta) {
    const char *key;
    json_t *v;
    if (!json_is_object(meta)) {
        return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "__metadata__: expected an object of strings");
    }
    if (json_object_size(meta) > HT_MAX_KV) {
        return ht_fail(p->err, HT_LIMIT, p->file, HT_NO_POS, "__metadata__: %zu keys, the limit is %u",
                       json_object_size(meta), HT_MAX_KV);
    }
    json_object_foreach(meta, key, v) {
        const char *fault = ht_name_fault(key, strlen(key), HT_MAX_KEY_BYTES);
        if (fault != NULL) {
            return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS, "__metadata__: a key %s", fault);
        }
        if (!json_is_string(v)) {
            return ht_fail(p->err, HT_FORMAT, p->file, HT_NO_POS,
                           "__metadata__: key '%.200s': expected a string", key);
        }
        HT_TRY(ht_meta_set_str(&p->st->meta, key, json_string_value(v), json_string_length(v), p->err));
    }
    return HT_OK;
}

static int by_address(const void *a, const void *b) {
    const struct ht_tensor *x = a, *y = b;
    return (x->data > y->data) - (x->data < y->data);
}

/* Sorted by offset, the tensors must fill the data section: no hole, no overlap, no rest. */
static ht_status check_cover(struct parse *p) {
    struct ht_safetensors *st = p->st;
    const unsigned char *expected = p->data;
    if (st->n_tensors > 1) {
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_address);
    }
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct ht_tensor *t = &st->tensors[i];
        const unsigned char *at = t->data;
        if (at != expected) {
            return ht_fail(
                p->err, HT_FORMAT, p->file, HT_NO_POS,
                "tensor '%s' begins at offset %llu, expected %llu: tensors must lie one behind the other",
                t->name, (unsigned long long)(at - p->data), (unsigned long long)(expected - p->data));
        }
        expected += t->bytes;
    }
    uint64_t covered = (uint64_t)(expected - p->data);
    if (covered != p->data_bytes) {
        return ht_fail(p->err, HT_FORMAT, p->file, st->data_offset + covered,
                       "the tensors end at offset %llu, the data at %llu: bytes without a tensor",
                       (unsigned long long)covered, (unsigned long long)p->data_bytes);
    }
    return HT_OK;
}

static ht_status read_tensors(struct parse *p, json_t *header) {
    const char *name;
    json_t *entry;
    struct ht_safetensors *st = p->st;
    size_t n = json_object_size(header);
    if (n > HT_MAX_TENSORS) {
        return ht_fail(p->err, HT_LIMIT, p->file, HT_NO_POS, "%zu tensors, the limit is %u", n,
                       HT_MAX_TENSORS);
    }
    st->tensors = ht_mem_calloc(n, sizeof *st->tensors);
    if (st->tensors == NULL) {
        return ht_fail_nomem(p->err, n * sizeof *st->tensors);
    }
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            HT_TRY(read_metadata(p, entry));
        } else {
            HT_TRY(read_entry(p, name, entry, &st->tensors[st->n_tensors]));
            st->n_tensors++;
        }
    }
    return check_cover(p);
}

static ht_status header_length(const unsigned char *data, uint64_t size, const char *what, uint64_t *len,
                               ht_err *err) {
    if (size < LENGTH_BYTES) {
        return ht_fail(err, HT_FORMAT, what, 0, "expected a safetensors file, found %llu bytes",
                       (unsigned long long)size);
    }
    *len = ht_le64(data);
    if (*len > HT_MAX_ST_HEADER_BYTES) {
        return ht_fail(err, HT_LIMIT, what, 0, "the header's length is %llu bytes, the limit is %u",
                       (unsigned long long)*len, HT_MAX_ST_HEADER_BYTES);
    }
    if (*len > size - LENGTH_BYTES) {
        return ht_fail(
            err, HT_FORMAT, what, 0,
            "the header's length is %llu bytes, the file has %llu left; it is cut short or damaged",
            (unsigned long long)*len, (unsigned long long)(size - LENGTH_BYTES));
    }
    if (*len < 2 || data[LENGTH_BYTES] != '{') {
        return ht_fail(err, HT_FORMAT, what, LENGTH_BYTES, "expected a JSON header that begins with '{'");
    }
    return HT_OK;
}

ht_status ht_safetensors_parse(const void *data, uint64_t size, const char *what, struct ht_safetensors *st,
                               ht_err *err) {
    uint64_t len = 0;
    json_t *header = NULL;
    const unsigned char *bytes = data;
    ht_status status = HT_OK;
    memset(st, 0, sizeof *st);
    ht_meta_init(&st->meta);
    ht_arena_init(&st->arena, 0);
    HT_TRY_DONE(header_length(bytes, size, what, &len, err));
    st->data_offset = LENGTH_BYTES + len;
    HT_TRY_DONE(
        ht_json_parse((const char *)bytes + LENGTH_BYTES, (size_t)len, HEADER_DEPTH, what, &header, err));
    struct parse p = {what, st, bytes + st->data_offset, size - st->data_offset, err};
    HT_TRY_DONE(read_tensors(&p, header));
done:
    json_decref(header);
    if (status != HT_OK) {
        ht_safetensors_deinit(st);
    }
    return status;
}

void ht_safetensors_deinit(struct ht_safetensors *st) {
    ht_meta_deinit(&st->meta);
    ht_arena_deinit(&st->arena);
    ht_mem_free(st->tensors);
    memset(st, 0, sizeof *st);
}
