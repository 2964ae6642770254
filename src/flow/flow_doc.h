/* Records: the JSON documents that commands give back. A builder that remembers failure, so that a caller adds
 * everything and checks once, in ht_doc_finish. Values come from jansson's constructors. */
#ifndef HT_FLOW_FLOW_DOC_H
#define HT_FLOW_FLOW_DOC_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

struct ht_doc {
    json_t *root; /* object with "schema" and "version", or NULL */
    bool failed;  /* out of memory */
};

void ht_doc_init(struct ht_doc *doc, const char *schema); /* "halftone.quantize/1" */
void ht_doc_deinit(struct ht_doc *doc);                   /* fine after finish */

/* The value is taken over, also when this fails. */
void ht_doc_set(struct ht_doc *doc, json_t *object, const char *key, json_t *value);
void ht_doc_append(struct ht_doc *doc, json_t *array, json_t *value);
json_t *ht_doc_object(struct ht_doc *doc, json_t *parent, const char *key); /* new member, borrowed */
json_t *ht_doc_array(struct ht_doc *doc, json_t *parent, const char *key);
json_t *ht_doc_real(double x); /* null when not finite */
/* Bytes from a file: bytes that are not UTF-8 become '?'. */
json_t *ht_doc_text(const char *s, size_t len);

/* Appends the text of a value to buf, indented by `indent` blanks per level. HT_NOMEM. */
ht_status ht_doc_dump(const json_t *value, int indent, struct ht_buf *buf, ht_err *err);

/* Hands the text over (ht_string_free) when json is not NULL, and empties the document. HT_NOMEM. */
ht_status ht_doc_finish(struct ht_doc *doc, char **json, ht_err *err);

#endif
