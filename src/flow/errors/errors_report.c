/* What was measured of a model, as JSON and as a figure. */
#include <math.h>

#include "base/mem.h"
#include "flow/errors/errors_model.h"
#include "flow/flow_paths.h"

static void add_codec(struct ht_doc *d, const struct ht_error_report *r, size_t c, json_t *array) {
    const struct ht_codec *codec = &r->codecs[c];
    struct ht_error_total total;
    json_t *o = json_object();
    ht_error_total_of(r, c, HT_ROLES, &total);
    ht_doc_set(d, o, "format", json_string(codec->name));
    ht_doc_set(d, o, "range", codec->scaled && !codec->whole ? json_string(codec->range_name) : json_null());
    ht_doc_set(d, o, "family", json_string(ht_codec_group(codec)));
    ht_doc_set(d, o, "bits_per_weight", ht_doc_real(total.bits));
    ht_doc_set(d, o, "tensors", json_integer((json_int_t)total.tensors));
    ht_doc_set(d, o, "tensors_skipped", json_integer((json_int_t)total.skipped));
    ht_doc_set(d, o, "mean_relative_error", ht_doc_real(total.relative));
    ht_doc_set(d, o, "mean_snr_db", ht_doc_real(-ht_db(total.relative)));
    ht_doc_set(d, o, "mean_gap_bits", ht_doc_real(ht_gap_bits(total.bits, total.relative)));
    ht_doc_set(d, o, "all", ht_errors_json(d, &total.sums, total.bits));
    json_t *roles = ht_doc_array(d, o, "roles");
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_error_total t;
        ht_error_total_of(r, c, (enum ht_role)role, &t);
        if (t.tensors == 0) {
            continue;
        }
        json_t *e = json_object();
        ht_doc_set(d, e, "role", json_string(ht_role_name((enum ht_role)role)));
        ht_doc_set(d, e, "tensors", json_integer((json_int_t)t.tensors));
        ht_doc_set(d, e, "tensors_skipped", json_integer((json_int_t)t.skipped));
        ht_doc_set(d, e, "weights", ht_doc_real(t.weights));
        ht_doc_set(d, e, "bits_per_weight", ht_doc_real(t.bits));
        ht_doc_set(d, e, "mean_relative_error", ht_doc_real(t.relative));
        ht_doc_set(d, e, "mean_snr_db", ht_doc_real(-ht_db(t.relative)));
        ht_doc_set(d, e, "mean_gap_bits", ht_doc_real(ht_gap_bits(t.bits, t.relative)));
        ht_doc_set(d, e, "all", ht_errors_json(d, &t.sums, t.bits));
        ht_doc_append(d, roles, e);
    }
    ht_doc_append(d, array, o);
}

static void add_subject(struct ht_doc *d, const struct ht_error_report *r, const struct ht_error_subject *s,
                        json_t *array) {
    json_t *o = json_object();
    double n = (double)s->plain.n, rms = sqrt(s->plain.xx / n);
    ht_doc_set(d, o, "name", ht_doc_text(s->tensor->name, strlen(s->tensor->name)));
    ht_doc_set(d, o, "role", json_string(ht_role_name(s->role)));
    ht_doc_set(d, o, "layer", s->layer >= 0 ? json_integer(s->layer) : json_null());
    ht_doc_set(d, o, "stored_as", json_string(s->tensor->format->name));
    ht_doc_set(d, o, "rows", json_integer((json_int_t)s->rows));
    ht_doc_set(d, o, "cols", json_integer((json_int_t)s->cols));
    ht_doc_set(d, o, "rows_measured", json_integer((json_int_t)s->measured));
    ht_doc_set(d, o, "mean", ht_doc_real(s->plain.x / n));
    ht_doc_set(d, o, "rms", ht_doc_real(rms));
    ht_doc_set(d, o, "max", ht_doc_real(s->plain.max_x));
    ht_doc_set(d, o, "max_sigmas", ht_doc_real(s->plain.max_x / rms));
    json_t *errors = ht_doc_array(d, o, "errors");
    for (size_t c = 0; c < r->n_codecs; c++) {
        const struct ht_codec *codec = &r->codecs[c];
        double bits = ht_codec_bits(codec, s->rows, s->cols);
        json_t *e = s->sums[c].n > 0 ? ht_errors_json(d, &s->sums[c], bits) : json_object();
        ht_doc_set(d, e, "format", json_string(codec->name));
        ht_doc_set(d, e, "range", codec->scaled && !codec->whole ? json_string(codec->range_name) : json_null());
        ht_doc_set(d, e, "bits_per_weight", s->sums[c].n > 0 ? ht_doc_real(bits) : json_null());
        ht_doc_set(d, e, "stored", json_boolean(s->sums[c].n > 0));
        ht_doc_append(d, errors, e);
    }
    ht_doc_append(d, array, o);
}

ht_status ht_error_report_json(const struct ht_error_report *r, const char *output, char **json, ht_err *err) {
    struct ht_doc d;
    uint64_t rows = 0, measured = 0, weights = 0;
    for (size_t i = 0; i < r->n_subjects; i++) {
        rows += r->subjects[i].rows;
        measured += r->subjects[i].measured;
        weights += r->subjects[i].rows * r->subjects[i].cols;
    }
    ht_doc_init(&d, "halftone.errors/1");
    ht_doc_set(&d, d.root, "path", ht_doc_text(r->path, strlen(r->path)));
    ht_doc_set(&d, d.root, "architecture", r->arch != NULL ? json_string(r->arch) : json_null());
    ht_doc_set(&d, d.root, "quantized", json_boolean(r->quantized));
    ht_doc_set(&d, d.root, "weights", json_integer((json_int_t)weights));
    ht_doc_set(&d, d.root, "rows", json_integer((json_int_t)rows));
    ht_doc_set(&d, d.root, "rows_measured", json_integer((json_int_t)measured));
    json_t *formats = ht_doc_array(&d, d.root, "formats");
    for (size_t c = 0; c < r->n_codecs; c++) {
        add_codec(&d, r, c, formats);
    }
    json_t *tensors = ht_doc_array(&d, d.root, "tensors");
    for (size_t i = 0; i < r->n_subjects; i++) {
        add_subject(&d, r, &r->subjects[i], tensors);
    }
    ht_doc_set(&d, d.root, "gaussian_limits", ht_error_limits_json(&d, &r->limits));
    if (output != NULL) {
        char name[256];
        ht_flow_base_name(output, name, sizeof name);
        ht_doc_set(&d, d.root, "output", ht_doc_text(name, strlen(name)));
    }
    return ht_doc_finish(&d, json, err);
}

void ht_error_report_figure(const struct ht_error_report *r, bool alone, struct ht_buf *out) {
    struct ht_error_point *points = ht_mem_calloc(r->n_codecs, sizeof *points);
    char(*names)[HT_SCHEME_TEXT + 64] = ht_mem_calloc(r->n_codecs, sizeof *names);
    struct ht_error_line lines[3];
    char title[320];
    if (points == NULL || names == NULL) {
        out->failed = true;
        goto done;
    }
    for (size_t c = 0; c < r->n_codecs; c++) {
        const struct ht_codec *codec = &r->codecs[c];
        struct ht_error_total total;
        ht_error_total_of(r, c, HT_ROLES, &total);
        snprintf(names[c], sizeof names[c], "%s%s%s", codec->name, codec->range_name[0] != '\0' ? " " : "",
                 codec->range_name);
        points[c] = (struct ht_error_point){names[c], ht_codec_group(codec), total.bits, total.relative};
    }
    ht_error_limits_lines(&r->limits, lines);
    snprintf(title, sizeof title, "%s: error of the weights in each format", r->path);
    struct ht_error_plot plot = {title, "squared error over mean square, mean of all weights", points, r->n_codecs,
                                 lines, 3, false};
    ht_errors_figure(&plot, alone, out);
done:
    ht_mem_free(points);
    ht_mem_free(names);
}
