#include "flow/flow_doc.h"

#include "base/json.h"

void ht_doc_init(struct ht_doc *doc, const char *schema) {
    doc->root = json_object();
    doc->failed = doc->root == NULL;
    ht_doc_set(doc, doc->root, "schema", json_string(schema));
    ht_doc_set(doc, doc->root, "version", json_string(ht_version()));
}

void ht_doc_deinit(struct ht_doc *doc) {
    json_decref(doc->root);
    doc->root = NULL;
}

void ht_doc_set(struct ht_doc *doc, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) { /* also when either is NULL; frees value */
        doc->failed = true;
    }
}

void ht_doc_append(struct ht_doc *doc, json_t *array, json_t *value) {
    if (json_array_append_new(array, value) != 0) {
        doc->failed = true;
    }
}

json_t *ht_doc_object(struct ht_doc *doc, json_t *parent, const char *key) {
    json_t *o = json_object();
    ht_doc_set(doc, parent, key, o);
    return doc->failed ? NULL : o;
}

json_t *ht_doc_array(struct ht_doc *doc, json_t *parent, const char *key) {
    json_t *a = json_array();
    ht_doc_set(doc, parent, key, a);
    return doc->failed ? NULL : a;
}

json_t *ht_doc_real(double x) {
    return ht_json_real(x);
}

json_t *ht_doc_text(const char *s, size_t len) {
    return ht_json_str(s, len);
}

static int add_piece(const char *data, size_t len, void *user) {
    struct ht_buf *buf = user;
    ht_buf_append(buf, data, len);
    return ht_buf_ok(buf) ? 0 : -1;
}

ht_status ht_doc_dump(const json_t *value, int indent, struct ht_buf *buf, ht_err *err) {
    size_t flags = JSON_INDENT((size_t)indent) | JSON_REAL_PRECISION(12) | JSON_ENCODE_ANY;
    return json_dump_callback(value, add_piece, buf, flags) == 0 ? HT_OK : ht_fail_nomem(err, buf->len);
}

ht_status ht_doc_finish(struct ht_doc *doc, char **json, ht_err *err) {
    ht_status status = doc->failed ? ht_fail_nomem(err, 0) : HT_OK;
    if (status == HT_OK && json != NULL) {
        struct ht_buf buf;
        ht_buf_init(&buf, 0);
        status = ht_doc_dump(doc->root, 1, &buf, err);
        if (status == HT_OK && (*json = ht_buf_take(&buf)) == NULL) {
            status = ht_fail_nomem(err, 0);
        }
        ht_buf_deinit(&buf);
    }
    ht_doc_deinit(doc);
    return status;
}
