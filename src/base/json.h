/* JSON glue over jansson: strict parsing with size and depth caps checked before the parser runs, duplicate
 * keys refused, and typed getters whose errors name the key. */
#ifndef HT_BASE_JSON_H
#define HT_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* Parses exactly len bytes. max_depth 0: HT_MAX_JSON_DEPTH. what names the source in errors.
 * Caller releases with json_decref. */
ht_status ht_json_parse(const char *data, size_t len, unsigned max_depth, const char *what, json_t **json,
                        ht_err *err);
ht_status ht_json_load_file(const char *path, uint64_t max_bytes, json_t **json, ht_err *err);

/* Getters on an object: key absent or null leaves *out as it was and returns OK; a wrong type or an
 * out-of-range value is HT_FORMAT. */
ht_status ht_json_get_u64(const json_t *object, const char *key, uint64_t max, const char *what, uint64_t *out,
                          ht_err *err);
ht_status ht_json_get_f64(const json_t *object, const char *key, const char *what, double *out, ht_err *err);
ht_status ht_json_get_bool(const json_t *object, const char *key, const char *what, bool *out, ht_err *err);
ht_status ht_json_get_str(const json_t *object, const char *key, const char *what, const char **out,
                          ht_err *err); /* *out lives as long as object */

/* Value as indented text, reals with 12 digits; *text is freed with ht_mem_free. root NULL, as jansson's
 * constructors give when memory is out: HT_NOMEM. Does not release root. */
ht_status ht_json_text(const json_t *root, char **text, ht_err *err);
json_t *ht_json_real(double x);   /* null when not finite: JSON has no infinity */
json_t *ht_json_u64(uint64_t v); /* jansson's integers are signed: a string of digits above 2^63 - 1 */
/* Bytes from outside, such as names of files: bytes that are not UTF-8 become '?'. NULL when memory is out. */
json_t *ht_json_str(const char *s, size_t len);

#endif
