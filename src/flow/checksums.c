#include "flow/checksums.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"

#define SCHEMA "halftone.checksums/1"
#define HEX 16 /* digits of a sum */

/* ---- written ----------------------------------------------------------------------------------------- */

void ht_sums_begin(struct ht_doc *doc) {
    ht_doc_init(doc, SCHEMA);
    ht_doc_object(doc, doc->root, "files");
    ht_doc_object(doc, doc->root, "tensors");
}

static json_t *hex_of(uint64_t xxh3) {
    char hex[HEX + 1];
    snprintf(hex, sizeof hex, "%016" PRIx64, xxh3);
    return json_string(hex);
}

void ht_sums_add_file(struct ht_doc *doc, const char *name, uint64_t bytes, uint64_t hashed, uint64_t xxh3) {
    json_t *o = ht_doc_object(doc, json_object_get(doc->root, "files"), name);
    ht_doc_set(doc, o, "bytes", json_integer((json_int_t)bytes));
    ht_doc_set(doc, o, "hashed", json_integer((json_int_t)hashed));
    ht_doc_set(doc, o, "xxh3", hex_of(xxh3));
}

void ht_sums_add_tensor(struct ht_doc *doc, const char *name, uint64_t xxh3) {
    ht_doc_set(doc, json_object_get(doc->root, "tensors"), name, hex_of(xxh3));
}

ht_status ht_sums_write(struct ht_doc *doc, const char *folder, bool overwrite, ht_err *err) {
    struct ht_buf buf;
    char *path = ht_path_join(folder, HT_CHECKSUMS_FILE);
    ht_buf_init(&buf, 0);
    ht_status status = path == NULL || doc->failed ? ht_fail_nomem(err, 0) : ht_doc_dump(doc->root, 1, &buf, err);
    if (status == HT_OK) {
        ht_buf_putc(&buf, '\n');
        status = ht_buf_ok(&buf) ? ht_write_file(path, buf.data, buf.len, overwrite, err)
                                 : ht_fail_nomem(err, buf.len);
    }
    ht_buf_deinit(&buf);
    ht_mem_free(path);
    return status;
}

/* ---- compared ---------------------------------------------------------------------------------------- */

struct check {
    const struct ht_source *folder;
    struct ht_sums *sums;
    ht_sums_finding *fn;
    void *user;
};

static bool parse_hex(const json_t *v, uint64_t *out) {
    *out = 0;
    if (!json_is_string(v) || json_string_length(v) != HEX) {
        return false;
    }
    for (const char *s = json_string_value(v); *s != '\0'; s++) {
        int digit = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : -1;
        if (digit < 0) {
            return false;
        }
        *out = *out << 4 | (uint64_t)digit;
    }
    return true;
}

/* The list is input like any other: a name may not lead out of the folder. */
static bool plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL && strlen(name) < 256;
}

static void compare_bytes(const struct check *c, const char *name, const struct ht_mapping *map, uint64_t bytes,
                          uint64_t hashed, uint64_t want) {
    char text[160];
    if (map->size != bytes || hashed > map->size) {
        snprintf(text, sizeof text, "%" PRIu64 " bytes, expected %" PRIu64 ": the file has changed", map->size, bytes);
        c->fn(c->user, name, text);
        return;
    }
    uint64_t found = ht_hash_xxh3(map->data, hashed);
    if (found != want) {
        snprintf(text, sizeof text, "checksum of the %s %016" PRIx64 ", stored %016" PRIx64 ": it has changed",
                 hashed < bytes ? "header" : "file", found, want);
        c->fn(c->user, name, text);
    }
}

static ht_status compare_file(const struct check *c, const char *name, const json_t *row, ht_err *err) {
    const json_t *bytes = json_object_get(row, "bytes"), *hashed = json_object_get(row, "hashed");
    uint64_t want;
    if (!plain_name(name) || !json_is_integer(bytes) || !json_is_integer(hashed) || json_integer_value(bytes) < 0 ||
        json_integer_value(hashed) < 0 || !parse_hex(json_object_get(row, "xxh3"), &want)) {
        c->fn(c->user, HT_CHECKSUMS_FILE, "an entry of \"files\" is damaged");
        return HT_OK;
    }
    char *path = ht_path_join(c->folder->path, name);
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(name));
    }
    struct ht_mapping map;
    ht_status status = HT_OK;
    if (!ht_path_exists(path)) {
        c->fn(c->user, name, "the file is missing");
    } else if ((status = ht_map_file(path, &map, err)) == HT_OK) {
        compare_bytes(c, name, &map, (uint64_t)json_integer_value(bytes), (uint64_t)json_integer_value(hashed), want);
        ht_unmap_file(&map);
    }
    c->sums->n_files++;
    ht_mem_free(path);
    return status;
}

static ht_status read_tensors(const struct check *c, const json_t *tensors, ht_err *err) {
    size_t n_stored;
    const struct ht_tensor *stored = ht_source_stored(c->folder, &n_stored);
    struct ht_sums *sums = c->sums;
    char text[HT_MAX_ST_NAME + 64];
    size_t n = 0;
    sums->want = ht_mem_calloc(n_stored, sizeof *sums->want);
    sums->has = ht_mem_calloc(n_stored, sizeof *sums->has);
    if (sums->want == NULL || sums->has == NULL) {
        return ht_fail_nomem(err, n_stored * sizeof *sums->want);
    }
    for (size_t i = 0; i < n_stored; i++) {
        const json_t *v = json_object_get(tensors, stored[i].name);
        sums->has[i] = parse_hex(v, &sums->want[i]);
        n += v != NULL;
        if (!sums->has[i]) {
            snprintf(text, sizeof text, "tensor %s has no checksum", stored[i].name);
            c->fn(c->user, HT_CHECKSUMS_FILE, text);
        }
    }
    if (n != json_object_size(tensors)) {
        c->fn(c->user, HT_CHECKSUMS_FILE, "it lists tensors that the folder does not hold");
    }
    return HT_OK;
}

static ht_status compare(const struct check *c, json_t *root, ht_err *err) {
    json_t *files = json_object_get(root, "files"), *row;
    const char *name, *schema = json_string_value(json_object_get(root, "schema"));
    if (schema == NULL || strcmp(schema, SCHEMA) != 0 || !json_is_object(files) ||
        !json_is_object(json_object_get(root, "tensors"))) {
        c->fn(c->user, HT_CHECKSUMS_FILE, "expected \"schema\": \"" SCHEMA "\" with \"files\" and \"tensors\"");
        return HT_OK;
    }
    json_object_foreach(files, name, row) {
        HT_TRY(compare_file(c, name, row, err));
    }
    return read_tensors(c, json_object_get(root, "tensors"), err);
}

ht_status ht_sums_check(const struct ht_source *folder, struct ht_sums *sums, ht_sums_finding *fn, void *user,
                        ht_err *err) {
    struct check c = {folder, sums, fn, user};
    json_t *root = NULL;
    ht_err inner;
    ht_err_clear(&inner);
    *sums = (struct ht_sums){0};
    char *path = ht_path_join(folder->path, HT_CHECKSUMS_FILE);
    if (path == NULL) {
        return ht_fail_nomem(err, 0);
    }
    ht_status status = HT_OK;
    if (ht_path_exists(path)) {
        status = ht_json_load_file(path, HT_MAX_JSON_BYTES, &root, &inner);
        if (status == HT_FORMAT || status == HT_LIMIT) {
            fn(user, HT_CHECKSUMS_FILE, inner.msg);
            status = HT_OK;
        } else if (status != HT_OK && err != NULL) {
            *err = inner;
        } else if (status == HT_OK) {
            status = compare(&c, root, err);
        }
    }
    json_decref(root);
    ht_mem_free(path);
    return status;
}

void ht_sums_deinit(struct ht_sums *sums) {
    ht_mem_free(sums->want);
    ht_mem_free(sums->has);
    *sums = (struct ht_sums){0};
}
