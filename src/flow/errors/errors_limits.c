/* What theory allows, as lines of a figure and as JSON. */
#include <math.h>

#include "flow/errors.h"

static const int counts[] = {2, 3, 4, 6, 8, 16, 32, 64, 128, 256, 512};

ht_status ht_error_limits_of(const struct ht_density *density, struct ht_error_limits *out, ht_err *err) {
    struct ht_density_table *t = NULL;
    HT_TRY(ht_density_table_new(density, &t, err));
    *out = (struct ht_error_limits){.power = ht_density_power(t), .panter_dite = ht_density_panter_dite(t)};
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && status == HT_OK; i++) {
        out->levels[i] = counts[i];
        out->bits[i] = log2(counts[i]);
        out->uniform[i] = ht_density_uniform(t, counts[i], &out->step[i]);
        status = ht_density_lloyd_max(t, counts[i], &out->lloyd_max[i], err);
        out->n++;
    }
    out->bound_bits[1] = 10;
    out->bound[0] = out->power;
    out->bound[1] = out->power * pow(4, -10);
    ht_density_table_free(t);
    return status;
}

json_t *ht_error_limits_json(struct ht_doc *doc, const struct ht_error_limits *l) {
    json_t *rows = json_array();
    for (int i = 0; i < l->n; i++) {
        double bound = l->power * pow(4, -l->bits[i]);
        ht_doc_append(doc, rows,
                      json_pack("{s:f, s:i, s:f, s:f, s:f, s:f}", "bits", l->bits[i], "levels", l->levels[i], "bound",
                                bound, "lloyd_max", l->lloyd_max[i], "uniform", l->uniform[i], "uniform_step",
                                l->step[i]));
    }
    return rows;
}

void ht_error_limits_lines(const struct ht_error_limits *l, struct ht_error_line lines[3]) {
    lines[0] = (struct ht_error_line){"Shannon bound", "bound", 2, l->bound_bits, l->bound};
    lines[1] = (struct ht_error_line){"best levels without scales (Lloyd-Max)", "best", (size_t)l->n, l->bits,
                                      l->lloyd_max};
    lines[2] = (struct ht_error_line){"best even levels", "even", (size_t)l->n, l->bits, l->uniform};
}
