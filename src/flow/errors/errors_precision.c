/* Precision against magnitude: how large the error of a single value can be, at every distance below the format's
 * largest value. Floats draw terraces that end at their subnormals, integers fall 6 dB per halving. Scales do not
 * matter: they move both the value and the largest one. */
#include <math.h>
#include <string.h>

#include "flow/errors.h"
#include "flow/report.h"
#include "format/guide.h"

#define PER_OCTAVE 4     /* points of a curve */
#define PROBES 32        /* values tried per point */
#define X0 78.0
#define X1 1044.0
#define HEIGHT 330.0     /* of the panel */
#define SHOWN_DB 150.0   /* below the largest value */
#define SHOWN_SNR 80.0

static const char *const names[] = {"f16",      "bf16",     "fp8_e4m3", "fp8_e5m2", "fp6_e3m2",
                                    "fp4_e2m1", "int8",     "int4",     "nf4"};
enum { N_NAMES = sizeof names / sizeof names[0] };

/* The value that is stored for x, without scales. */
static float stored(const struct ht_format *f, float x) {
    unsigned char bytes[16];
    float y = 0;
    if (f->code != NULL) {
        return ht_code_level(f, ht_code_nearest(f, x));
    }
    f->encode(&x, NULL, bytes, 1);
    f->decode(bytes, &y, 1);
    return y;
}

/* Largest relative error of values within one step below `top`. */
static double worst(const struct ht_format *f, double top) {
    double most = 0;
    for (int i = 0; i < PROBES; i++) {
        float x = (float)(top * exp2(-(i + 0.5) / (PROBES * PER_OCTAVE)));
        if (x > 0) {
            most = fmax(most, fabs((double)stored(f, x) - x) / x);
        }
    }
    return most;
}

double ht_precision_db(const struct ht_format *f, double below_db) {
    struct ht_format_span span;
    ht_format_span(f, &span);
    double e = worst(f, span.max * pow(10, -below_db / 20));
    return e > 0 ? -20 * log10(e) : INFINITY;
}

static double step_db(void) {
    return 20 * log10(2.0) / PER_OCTAVE;
}

void ht_precision_json(struct ht_doc *d) {
    json_t *all = ht_doc_array(d, d->root, "precision");
    for (size_t i = 0; i < N_NAMES; i++) {
        const struct ht_format *f = ht_format_find(names[i]);
        struct ht_format_span span;
        ht_format_span(f, &span);
        json_t *o = json_pack("{s:s, s:f}", "format", f->name, "dynamic_range_db", 20 * span.decades);
        json_t *points = ht_doc_array(d, o, "points");
        for (double x = 0; x <= SHOWN_DB; x += step_db()) {
            double p = ht_precision_db(f, x);
            ht_doc_append(d, points, json_pack("[f, o]", x, ht_doc_real(p)));
            if (p <= 0) {
                break; /* all rounds to 0 from here on */
            }
        }
        ht_doc_append(d, all, o);
    }
}

/* ---- the panel -------------------------------------------------------------------------------------------- */

static double px(double below_db) {
    return X0 + below_db / SHOWN_DB * (X1 - X0);
}

static double py(double y0, double snr) {
    return y0 + HEIGHT - fmin(fmax(snr, 0), SHOWN_SNR) / SHOWN_SNR * HEIGHT;
}

static void axes(double y0, struct ht_buf *out) {
    ht_buf_printf(out, "<text class=\"h\" x=\"%.0f\" y=\"%.1f\">Precision of one value against its size</text>\n", X0,
                  y0 - 38);
    for (int db = 0; db <= (int)SHOWN_DB; db += 10) {
        ht_buf_printf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", px(db), y0, px(db),
                      y0 + HEIGHT);
        ht_buf_printf(out, "<text class=\"t\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d</text>\n", px(db),
                      y0 + HEIGHT + 18, -db);
    }
    for (int db = 0; db <= (int)SHOWN_SNR; db += 10) {
        double y = py(y0, db);
        ht_buf_printf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", X0, y, X1, y);
        ht_buf_printf(out, "<text class=\"t\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%d dB</text>\n", X0 - 8,
                      y + 4, db);
    }
    ht_buf_printf(out, "<text class=\"t\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">magnitude, dB below the largest "
                       "value of the format</text>\n", (X0 + X1) / 2, y0 + HEIGHT + 38);
    ht_buf_printf(out, "<text class=\"t\" text-anchor=\"middle\" transform=\"translate(14 %.1f) rotate(-90)\">value "
                       "over largest error</text>\n", y0 + HEIGHT / 2);
}

void ht_precision_panel(double y0, struct ht_buf *out) {
    double legend_x = X0;
    axes(y0, out);
    for (size_t i = 0; i < N_NAMES; i++) {
        const struct ht_format *f = ht_format_find(names[i]);
        ht_buf_printf(out, "<g><title>%s</title><polyline class=\"p%zu\" points=\"", f->name, i);
        for (double x = 0; x <= SHOWN_DB; x += step_db()) {
            double p = ht_precision_db(f, x);
            ht_buf_printf(out, "%.1f,%.1f ", px(x), py(y0, p));
            if (p <= 0) {
                break;
            }
        }
        ht_buf_puts(out, "\"/></g>\n");
        ht_buf_printf(out, "<line class=\"p%zu\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", i, legend_x,
                      y0 - 17, legend_x + 22, y0 - 17);
        ht_buf_printf(out, "<text class=\"f\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", legend_x + 28, y0 - 13, f->name);
        legend_x += 48 + 7.2 * (double)strlen(f->name);
    }
}
