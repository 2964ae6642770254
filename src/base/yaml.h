/* YAML glue over libyaml: a document as a tree with line numbers. The plain part of YAML only: one document of
 * mappings, lists and scalars. Anchors, aliases, tags, several documents, keys that are no scalars and keys that come
 * twice are refused, size and depth are capped. Scalars stay text: what they mean is the reader's matter. */
#ifndef HT_BASE_YAML_H
#define HT_BASE_YAML_H

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

enum ht_yaml_kind { HT_YAML_SCALAR, HT_YAML_LIST, HT_YAML_MAP };

struct ht_yaml {
    enum ht_yaml_kind kind;
    unsigned line;         /* from 1 */
    const char *key;       /* of a member of a mapping, else NULL */
    const char *text;      /* scalar, NUL terminated, without NUL inside */
    struct ht_yaml *first; /* list and mapping: members in order */
    struct ht_yaml *next;  /* the next member of the same parent */
    size_t n;              /* members */
};

/* Exactly len bytes. The tree lives in arena. what names the source; errors carry the line in their text. HT_FORMAT,
 * HT_LIMIT, HT_NOMEM. */
ht_status ht_yaml_parse(const char *data, size_t len, const char *what, struct ht_arena *arena, struct ht_yaml **root,
                        ht_err *err);
const char *ht_yaml_kind_name(enum ht_yaml_kind kind); /* "a value", "a list", "a mapping" */

#endif
