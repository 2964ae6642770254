#include "base/yaml.h"

#include <stdbool.h>
#include <yaml.h> /* defines: yaml_parser_t, yaml_event_t */

#include "base/limits.h"

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one in work */
    bool has_event;
    const char *what;
    struct ht_arena *arena;
    size_t n_nodes;
};

const char *ht_yaml_kind_name(enum ht_yaml_kind kind) {
    static const char *const names[] = {"a value", "a list", "a mapping"};
    return names[kind];
}

static ht_status next(struct reader *r, ht_err *err) {
    if (r->has_event) {
        yaml_event_delete(&r->event);
    }
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->has_event) {
        return HT_OK;
    }
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return ht_fail_nomem(err, 0);
    }
    unsigned long line = (unsigned long)(p->problem_mark.line + 1);
    return ht_fail(err, HT_FORMAT, r->what, p->error == YAML_READER_ERROR ? p->problem_offset : HT_NO_POS,
                   "line %lu: no YAML: %s%s%s", line, p->problem != NULL ? p->problem : "unreadable",
                   p->context != NULL ? " " : "", p->context != NULL ? p->context : "");
}

static unsigned line_of(const struct reader *r) {
    return (unsigned)r->event.start_mark.line + 1;
}

static ht_status refuse(const struct reader *r, const char *thing, ht_err *err) {
    return ht_fail(err, HT_FORMAT, r->what, HT_NO_POS, "line %u: %s; expected plain mappings, lists and values",
                   line_of(r), thing);
}

static ht_status new_node(struct reader *r, enum ht_yaml_kind kind, struct ht_yaml **node, ht_err *err) {
    if (++r->n_nodes > HT_MAX_YAML_NODES) {
        return ht_fail(err, HT_LIMIT, r->what, HT_NO_POS, "line %u: more than %d values (HT_MAX_YAML_NODES)",
                       line_of(r), HT_MAX_YAML_NODES);
    }
    *node = ht_arena_calloc(r->arena, 1, sizeof **node);
    if (*node == NULL) {
        return ht_fail_nomem(err, sizeof **node);
    }
    (*node)->kind = kind;
    (*node)->line = line_of(r);
    return HT_OK;
}

/* The text of the scalar event in work. */
static ht_status take_text(struct reader *r, const char **text, ht_err *err) {
    const char *value = (const char *)r->event.data.scalar.value;
    size_t len = r->event.data.scalar.length;
    if (r->event.data.scalar.anchor != NULL) {
        return refuse(r, "an anchor (&)", err);
    }
    if (r->event.data.scalar.tag != NULL) {
        return refuse(r, "a tag (!)", err);
    }
    if (memchr(value, '\0', len) != NULL) {
        return refuse(r, "a NUL character", err);
    }
    *text = ht_arena_strndup(r->arena, value, len);
    return *text != NULL ? HT_OK : ht_fail_nomem(err, len);
}

static ht_status read_node(struct reader *r, int depth, struct ht_yaml **node, ht_err *err);

static ht_status read_list(struct reader *r, int depth, struct ht_yaml *list, ht_err *err) {
    struct ht_yaml **tail = &list->first;
    HT_TRY(next(r, err));
    while (r->event.type != YAML_SEQUENCE_END_EVENT) {
        HT_TRY(read_node(r, depth + 1, tail, err));
        tail = &(*tail)->next;
        list->n++;
        HT_TRY(next(r, err));
    }
    return HT_OK;
}

static ht_status read_map(struct reader *r, int depth, struct ht_yaml *map, ht_err *err) {
    struct ht_yaml **tail = &map->first;
    HT_TRY(next(r, err));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        const char *key = NULL;
        if (r->event.type != YAML_SCALAR_EVENT) {
            return refuse(r, "a key that is no plain name", err);
        }
        HT_TRY(take_text(r, &key, err));
        for (const struct ht_yaml *m = map->first; m != NULL; m = m->next) {
            if (strcmp(m->key, key) == 0) {
                return ht_fail(err, HT_FORMAT, r->what, HT_NO_POS, "line %u: '%.64s' comes twice, first in line %u",
                               line_of(r), key, m->line);
            }
        }
        HT_TRY(next(r, err));
        HT_TRY(read_node(r, depth + 1, tail, err));
        (*tail)->key = key;
        tail = &(*tail)->next;
        map->n++;
        HT_TRY(next(r, err));
    }
    return HT_OK;
}

/* The node that starts with the event in work; ends on its last event. */
static ht_status read_node(struct reader *r, int depth, struct ht_yaml **node, ht_err *err) {
    if (depth > HT_MAX_YAML_DEPTH) {
        return ht_fail(err, HT_LIMIT, r->what, HT_NO_POS, "line %u: nested deeper than %d (HT_MAX_YAML_DEPTH)",
                       line_of(r), HT_MAX_YAML_DEPTH);
    }
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        HT_TRY(new_node(r, HT_YAML_SCALAR, node, err));
        return take_text(r, &(*node)->text, err);
    case YAML_SEQUENCE_START_EVENT:
        if (r->event.data.sequence_start.anchor != NULL || r->event.data.sequence_start.tag != NULL) {
            return refuse(r, "an anchor (&) or tag (!)", err);
        }
        HT_TRY(new_node(r, HT_YAML_LIST, node, err));
        return read_list(r, depth, *node, err);
    case YAML_MAPPING_START_EVENT:
        if (r->event.data.mapping_start.anchor != NULL || r->event.data.mapping_start.tag != NULL) {
            return refuse(r, "an anchor (&) or tag (!)", err);
        }
        HT_TRY(new_node(r, HT_YAML_MAP, node, err));
        return read_map(r, depth, *node, err);
    default:
        return refuse(r, "an alias (*)", err);
    }
}

static ht_status read_document(struct reader *r, struct ht_yaml **root, ht_err *err) {
    HT_TRY(next(r, err)); /* start of the stream */
    HT_TRY(next(r, err));
    if (r->event.type == YAML_STREAM_END_EVENT) {
        return ht_fail(err, HT_FORMAT, r->what, HT_NO_POS, "it is empty; expected a mapping");
    }
    HT_TRY(next(r, err));
    HT_TRY(read_node(r, 0, root, err));
    HT_TRY(next(r, err)); /* end of the document */
    HT_TRY(next(r, err));
    if (r->event.type != YAML_STREAM_END_EVENT) {
        return refuse(r, "a second document", err);
    }
    return HT_OK;
}

ht_status ht_yaml_parse(const char *data, size_t len, const char *what, struct ht_arena *arena, struct ht_yaml **root,
                        ht_err *err) {
    struct reader r = {.what = what, .arena = arena};
    *root = NULL;
    if (len > HT_MAX_YAML_BYTES) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS, "%zu bytes of YAML; at most %u (HT_MAX_YAML_BYTES)", len,
                       HT_MAX_YAML_BYTES);
    }
    if (!yaml_parser_initialize(&r.parser)) {
        return ht_fail_nomem(err, 0);
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)data, len);
    ht_status status = read_document(&r, root, err);
    if (r.has_event) {
        yaml_event_delete(&r.event);
    }
    yaml_parser_delete(&r.parser);
    if (status != HT_OK) {
        *root = NULL;
    }
    return status;
}
