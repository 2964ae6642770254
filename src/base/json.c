#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define BINARY_SNIFF 64u /* a zero byte among the first of a file: no text */

/* jansson recurses per level and takes about 100 bytes per item; the scan bounds its stack and its memory before
 * it runs. Strings are skipped with their escapes. */
static ht_status scan(const char *s, size_t len, unsigned max_depth, const char *what, ht_err *err) {
    unsigned depth = 0, items = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"') {
            for (i++; i < len && s[i] != '"'; i++) {
                if (s[i] == '\\') {
                    i++;
                }
            }
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > max_depth) {
                return ht_fail(err, HT_LIMIT, what, i, "JSON nests deeper than %u levels", max_depth);
            }
        } else if (s[i] == '}' || s[i] == ']') {
            depth -= depth > 0;
        } else if ((s[i] == ',' || s[i] == ':') && ++items > HT_MAX_JSON_ITEMS) {
            return ht_fail(err, HT_LIMIT, what, i, "JSON with more than %u items", HT_MAX_JSON_ITEMS);
        }
    }
    return HT_OK;
}

ht_status ht_json_parse(const char *data, size_t len, unsigned max_depth, const char *what, json_t **json,
                        ht_err *err) {
    *json = NULL;
    max_depth = max_depth ? max_depth : HT_MAX_JSON_DEPTH;
    HT_TRY(scan(data, len, max_depth, what, err));
    json_error_t e;
    *json = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (*json == NULL) {
        if (json_error_code(&e) == json_error_out_of_memory) {
            return ht_fail_nomem(err, len);
        }
        return ht_fail(err, HT_FORMAT, what, e.position >= 0 ? (uint64_t)e.position : HT_NO_POS,
                       "not valid JSON, line %d: %s", e.line, e.text);
    }
    return HT_OK;
}

ht_status ht_json_load_file(const char *path, uint64_t max_bytes, json_t **json, ht_err *err) {
    char *data;
    size_t len;
    *json = NULL;
    HT_TRY(ht_read_file(path, max_bytes, &data, &len, err));
    if (memchr(data, 0, len < BINARY_SNIFF ? len : BINARY_SNIFF) != NULL) {
        ht_mem_free(data);
        return ht_fail(err, HT_FORMAT, path, HT_NO_POS, "expected JSON text, found a binary file");
    }
    ht_status status = ht_json_parse(data, len, 0, path, json, err);
    ht_mem_free(data);
    return status;
}

static const json_t *get(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return v != NULL && json_is_null(v) ? NULL : v;
}

static const char *type_name(const json_t *v) {
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a real",    "true",     "false",    "null"};
    return names[json_typeof(v)];
}

static ht_status wrong(const char *key, const json_t *v, const char *expected, const char *what,
                       ht_err *err) {
    return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "key '%s': expected %s, found %s", key, expected,
                   type_name(v));
}

ht_status ht_json_get_u64(const json_t *object, const char *key, uint64_t max, const char *what, uint64_t *out,
                          ht_err *err) {
    const json_t *v = get(object, key);
    if (v == NULL) {
        return HT_OK;
    }
    if (!json_is_integer(v)) {
        return wrong(key, v, "an integer", what, err);
    }
    json_int_t n = json_integer_value(v);
    if (n < 0 || (uint64_t)n > max) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "key '%s': expected 0 to %llu, found %lld", key,
                       (unsigned long long)max, (long long)n);
    }
    *out = (uint64_t)n;
    return HT_OK;
}

ht_status ht_json_get_f64(const json_t *object, const char *key, const char *what, double *out, ht_err *err) {
    const json_t *v = get(object, key);
    if (v == NULL) {
        return HT_OK;
    }
    if (!json_is_number(v)) {
        return wrong(key, v, "a number", what, err);
    }
    *out = json_number_value(v);
    return HT_OK;
}

ht_status ht_json_get_bool(const json_t *object, const char *key, const char *what, bool *out, ht_err *err) {
    const json_t *v = get(object, key);
    if (v == NULL) {
        return HT_OK;
    }
    if (!json_is_boolean(v)) {
        return wrong(key, v, "true or false", what, err);
    }
    *out = json_is_true(v);
    return HT_OK;
}

ht_status ht_json_get_str(const json_t *object, const char *key, const char *what, const char **out,
                          ht_err *err) {
    const json_t *v = get(object, key);
    if (v == NULL) {
        return HT_OK;
    }
    if (!json_is_string(v)) {
        return wrong(key, v, "a string", what, err);
    }
    *out = json_string_value(v);
    return HT_OK;
}

static int append_piece(const char *data, size_t len, void *user) {
    struct ht_buf *buf = user;
    ht_buf_append(buf, data, len);
    return ht_buf_ok(buf) ? 0 : -1;
}

ht_status ht_json_text(const json_t *root, char **text, ht_err *err) {
    struct ht_buf buf;
    ht_buf_init(&buf, 0);
    *text = NULL;
    if (root == NULL ||
        json_dump_callback(root, append_piece, &buf, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) != 0 ||
        (*text = ht_buf_take(&buf)) == NULL) {
        ht_buf_deinit(&buf);
        return ht_fail_nomem(err, 0);
    }
    return HT_OK;
}

json_t *ht_json_real(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *ht_json_u64(uint64_t v) {
    if (v <= INT64_MAX) {
        return json_integer((json_int_t)v);
    }
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, v);
    return json_string(digits);
}

json_t *ht_json_str(const char *s, size_t len) {
    json_t *v = json_stringn(s, len);
    if (v != NULL) {
        return v;
    }
    char *copy = ht_mem_strndup(s, len); /* not UTF-8, or out of memory */
    if (copy == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)copy[i] >= 0x80) {
            copy[i] = '?';
        }
    }
    v = json_stringn(copy, len);
    ht_mem_free(copy);
    return v;
}
