/* What the parts of calibration data share. Internal to src/calib. */
#ifndef HT_CALIB_DATA_IMPL_H
#define HT_CALIB_DATA_IMPL_H

#include "base/buf.h"
#include "base/file.h"
#include "calib/data.h"
#include "calib/sketch.h"
#include "token/chat.h"

/* X(NAME, key in the record) */
#define HT_DROP_LIST(X) X(SHORT, "short") X(NO_TEXT, "no_text") X(REPEATED, "repeated") X(DUPLICATE, "duplicate") \
    X(OVERLAP, "overlap")
enum ht_drop {
#define HT_DROP_ENUM(name, key) HT_DROP_##name,
    HT_DROP_LIST(HT_DROP_ENUM)
#undef HT_DROP_ENUM
    HT_DROPS,
    HT_KEPT = HT_DROPS
};
extern const char *const ht_drop_keys[HT_DROPS];

#define HT_NOT_IN_SHARE 0.05     /* of a window's, above which it overlaps */
#define HT_REPEATED_GRAM 4u
#define HT_REPEATED_SHARE 0.5    /* of a window's, that stood in it before */
#define HT_NO_TEXT_SHARE 0.01    /* of a window's characters */
#define HT_INVALID_SHARE 0.05    /* of a file's bytes: it is no UTF-8 text */
#define HT_SHORT_TOKENS 8u       /* of a row */
#define HT_POOL_WINDOWS 65536u   /* candidates of one source */

struct ht_data_source {
    const char *path;
    const char *kind;     /* "text", "jsonl", "npy", "safetensors", "self" */
    uint64_t want;        /* windows, if it has them; "self" writes no more */
    int32_t *ids;         /* [n, window] candidates that passed */
    uint64_t n, cap;
    uint64_t bytes, documents, tokens, invalid, windows, dropped[HT_DROPS], rest; /* rest: tokens of no window */
    uint64_t taken;
    uint64_t first_overlap; /* the window, from 0 */
    bool stopped;         /* enough before the end */
    char sha256[65];
};

struct ht_data {
    struct ht_context *ctx;
    const struct ht_model *model;
    const struct ht_calib_data_options *o;
    struct ht_data_source *sources;
    uint64_t most;        /* candidates that a source need not exceed */
    struct ht_map seen;   /* hashes of windows */
    uint64_t *grams;      /* [n_grams] rising: of the texts that must stay unseen */
    uint64_t n_grams, n_not_in_tokens;
    uint32_t gram;        /* tokens of each */
    json_t *not_in;       /* array for the record */
    struct ht_buf text;
    struct ht_buf default_system;
    struct ht_chat chat;
    bool has_chat;
};

/* data_source.c: fills s->ids with what passes. */
ht_status ht_data_read(struct ht_data *d, struct ht_data_source *s, ht_err *err);
/* One candidate, ids [window]; *full: the source has given enough. */
ht_status ht_data_window(struct ht_data *d, struct ht_data_source *s, const int32_t *ids, bool *full, ht_err *err);
/* data_tokens.c */
ht_status ht_data_read_npy(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map, ht_err *err);
ht_status ht_data_read_safetensors(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map,
                                   ht_err *err);
/* data_self.c */
ht_status ht_data_write_self(struct ht_data *d, struct ht_data_source *s, ht_err *err);

/* data_filter.c */
ht_status ht_data_filter(struct ht_data *d, const int32_t *ids, enum ht_drop *why, ht_err *err);
ht_status ht_data_load_not_in(struct ht_data *d, ht_err *err);
/* The text of a file and its hash; HT_FORMAT for binary data, and for much that is not UTF-8. */
ht_status ht_data_check_text(const struct ht_mapping *map, const char *path, ht_err *err);
ht_status ht_data_hash(const void *data, uint64_t size, char hex[65], ht_err *err);

#endif
