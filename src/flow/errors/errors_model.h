/* Inside flow/errors/ only: what was measured of a model. */
#ifndef HT_FLOW_ERRORS_MODEL_H
#define HT_FLOW_ERRORS_MODEL_H

#include "flow/errors.h"
#include "model/arch.h"

/* A tensor that is measured. */
struct ht_error_subject {
    const struct ht_tensor *tensor;
    enum ht_role role;
    int32_t layer;
    uint64_t rows, cols, measured;  /* rows measured, evenly spread over all */
    struct ht_error_sums *sums;     /* [n_codecs]; n 0: the codec cannot store it */
    struct ht_error_sums plain;     /* the values alone */
};

struct ht_error_report {
    const char *path; /* last part of the name */
    const char *arch; /* NULL: unknown */
    bool quantized;   /* some input is quantized already */
    struct ht_codec *codecs;
    size_t n_codecs;
    struct ht_error_subject *subjects;
    size_t n_subjects;
    struct ht_error_limits limits; /* Gaussian */
};

/* A codec over many tensors. relative and gap are means over weights, each tensor by its own mean square: what a
 * layer's output feels; sums are those of the values as they are. */
struct ht_error_total {
    struct ht_error_sums sums;
    uint64_t tensors, skipped;
    double weights, bits, relative;
};
/* role HT_ROLES: all. */
void ht_error_total_of(const struct ht_error_report *report, size_t codec, enum ht_role role,
                       struct ht_error_total *out);

ht_status ht_error_report_json(const struct ht_error_report *report, const char *output, char **json, ht_err *err);
void ht_error_report_figure(const struct ht_error_report *report, bool alone, struct ht_buf *out);
void ht_error_report_page(const struct ht_error_report *report, struct ht_buf *out);

#endif
