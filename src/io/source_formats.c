/* What a source's tensors are stored as: formats in the order of their table, then schemes as they come. */
#include <stdio.h>

#include "base/mem.h"
#include "io/halftone.h"

static bool is_scheme(const struct ht_source *s, size_t i) {
    return s->packed != NULL && s->packed[i] != NULL && s->packed[i]->has_q;
}

static void add(struct ht_format_sums *row, const struct ht_tensor *t) {
    row->tensors++;
    row->weights += ht_tensor_elems(t);
    row->bytes += t->bytes;
}

static ht_status add_schemes(const struct ht_source *s, struct ht_format_sums *rows, size_t *n, ht_err *err) {
    struct ht_map names;
    ht_status status = HT_OK;
    ht_map_init(&names);
    for (size_t i = 0; i < s->n_tensors && status == HT_OK; i++) {
        char text[HT_SCHEME_TEXT];
        uint64_t at;
        if (!is_scheme(s, i)) {
            continue;
        }
        ht_scheme_text(&s->packed[i]->q.scheme, text);
        if (!ht_map_get_str(&names, text, &at)) {
            at = *n;
            snprintf(rows[at].name, sizeof rows[at].name, "%s", text);
            status = ht_map_put(&names, text, strlen(text), at, NULL) ? HT_OK : ht_fail_nomem(err, sizeof text);
            ++*n;
        }
        rows[at].quantized = true;
        add(&rows[at], &s->tensors[i]);
    }
    ht_map_deinit(&names);
    return status;
}

ht_status ht_source_formats(const struct ht_source *s, struct ht_format_sums **out, size_t *n, ht_err *err) {
    size_t schemes = 0;
    *out = NULL;
    *n = 0;
    for (size_t i = 0; i < s->n_tensors; i++) {
        schemes += is_scheme(s, i);
    }
    struct ht_format_sums *rows = ht_mem_calloc(ht_format_count() + schemes, sizeof *rows);
    if (rows == NULL) {
        return ht_fail_nomem(err, schemes * sizeof *rows);
    }
    for (size_t f = 0; f < ht_format_count(); f++) {
        struct ht_format_sums *row = &rows[*n];
        for (size_t i = 0; i < s->n_tensors; i++) {
            if (s->tensors[i].format == ht_format_at(f) && !is_scheme(s, i)) {
                add(row, &s->tensors[i]);
            }
        }
        if (row->tensors > 0) {
            snprintf(row->name, sizeof row->name, "%s", ht_format_at(f)->name);
            row->quantized = ht_format_at(f)->fit != NULL;
            ++*n;
        }
    }
    ht_status status = add_schemes(s, rows, n, err);
    if (status != HT_OK) {
        ht_mem_free(rows);
        return status;
    }
    *out = rows;
    return HT_OK;
}
