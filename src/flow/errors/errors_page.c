/* The page of inspect --errors: figure, totals, roles, tensors. Names come from files: all of them are escaped. */
#include <math.h>

#include "flow/errors/errors_model.h"
#include "flow/report.h"

static void cell(struct ht_buf *out, double value, const char *format, double scale) {
    if (isfinite(value)) {
        ht_buf_printf(out, "<td data-v=\"%.9g\">", value);
        ht_buf_printf(out, format, value * scale);
        ht_buf_puts(out, "</td>");
    } else {
        ht_buf_puts(out, "<td data-v=\"\"></td>");
    }
}

static void head(struct ht_buf *out, const char *text, const char *hint, bool left) {
    ht_buf_printf(out, "<th data-s%s title=\"%s\">%s</th>", left ? " class=\"l\"" : "", hint, text);
}

static void codec_name(const struct ht_codec *codec, struct ht_buf *out) {
    ht_buf_puts(out, "<td class=\"l\">");
    ht_report_escape(out, codec->name);
    ht_buf_puts(out, "</td><td class=\"l\">");
    ht_report_escape(out, codec->range_name[0] != '\0' ? codec->range_name : codec->whole ? "its own" : "");
    ht_buf_puts(out, "</td>");
}

static void totals(const struct ht_error_report *r, struct ht_buf *out) {
    static const struct {
        const char *text, *hint;
    } heads[] = {{"bits/weight", "scales counted"},
                 {"error", "squared error over the tensor's mean square, mean of all weights"},
                 {"SNR", "the same in dB"},
                 {"above bound", "bits more than any code of a Gaussian with this error needs"},
                 {"SNR &minus; 6.02 b", "C of the law 6.02 b + C"},
                 {"largest error", "over the root mean square of all weights"},
                 {"clipped", "values beyond the last level by more than half a cell"},
                 {"of the error", "what clipped values contribute"},
                 {"cells", "error of the others over Delta^2/12"},
                 {"err~x", "correlation of error and value; 0 in the model of even cells"},
                 {"skipped", "tensors that cannot be stored so"}};
    ht_buf_puts(out, "<h2>Formats</h2>\n<div class=\"scroll\"><table><thead><tr>");
    head(out, "format", "", true);
    head(out, "range", "what sets the scales", true);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        head(out, heads[i].text, heads[i].hint, false);
    }
    ht_buf_puts(out, "</tr></thead><tbody>\n");
    for (size_t c = 0; c < r->n_codecs; c++) {
        struct ht_error_total t;
        struct ht_error_figures f;
        ht_error_total_of(r, c, HT_ROLES, &t);
        ht_error_figures(&t.sums, &f);
        ht_buf_puts(out, "<tr>");
        codec_name(&r->codecs[c], out);
        cell(out, t.bits, "%.4g", 1);
        cell(out, t.relative, "%.4g", 1);
        cell(out, -ht_db(t.relative), "%.2f dB", 1);
        cell(out, ht_gap_bits(t.bits, t.relative), "%.3f bit", 1);
        cell(out, -ht_db(t.relative) - HT_DB_PER_BIT * t.bits, "%+.2f dB", 1);
        cell(out, f.max_sigmas, "%.3g", 1);
        cell(out, f.clipped_share, "%.3f %%", 100);
        cell(out, f.clipped_error, "%.1f %%", 100);
        cell(out, f.model_ratio, "%.3f", 1);
        cell(out, f.correlation, "%+.3f", 1);
        cell(out, (double)t.skipped, "%.0f", 1);
        ht_buf_puts(out, "</tr>\n");
    }
    ht_buf_puts(out, "</tbody></table></div>\n");
}

static bool has_role(const struct ht_error_report *r, int role) {
    for (size_t i = 0; i < r->n_subjects; i++) {
        if ((int)r->subjects[i].role == role) {
            return true;
        }
    }
    return false;
}

static void roles(const struct ht_error_report *r, struct ht_buf *out) {
    ht_buf_puts(out, "<h2>Roles <small>signal-to-noise ratio, dB</small></h2>\n"
                     "<div class=\"scroll\"><table><thead><tr>");
    head(out, "format", "", true);
    head(out, "range", "what sets the scales", true);
    for (int role = 0; role < HT_ROLES; role++) {
        if (has_role(r, role)) {
            head(out, ht_role_name((enum ht_role)role), "", false);
        }
    }
    ht_buf_puts(out, "</tr></thead><tbody>\n");
    for (size_t c = 0; c < r->n_codecs; c++) {
        ht_buf_puts(out, "<tr>");
        codec_name(&r->codecs[c], out);
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_error_total t;
            if (has_role(r, role)) {
                ht_error_total_of(r, c, (enum ht_role)role, &t);
                cell(out, -ht_db(t.relative), "%.2f", 1);
            }
        }
        ht_buf_puts(out, "</tr>\n");
    }
    ht_buf_puts(out, "</tbody></table></div>\n");
}

static void tensors(const struct ht_error_report *r, struct ht_buf *out) {
    ht_buf_printf(out, "<h2>Tensors</h2>\n<details><summary>%zu tensors: signal-to-noise ratio in each format, dB"
                       "</summary><div class=\"scroll\"><table><thead><tr>", r->n_subjects);
    head(out, "tensor", "", true);
    head(out, "rms", "root mean square of its values", false);
    head(out, "peak", "largest magnitude over the root mean square", false);
    for (size_t c = 0; c < r->n_codecs; c++) {
        ht_buf_puts(out, "<th data-s>");
        ht_report_escape(out, r->codecs[c].name);
        ht_buf_puts(out, "<small>");
        ht_report_escape(out, r->codecs[c].range_name);
        ht_buf_puts(out, "</small></th>");
    }
    ht_buf_puts(out, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_subjects; i++) {
        const struct ht_error_subject *s = &r->subjects[i];
        double rms = sqrt(s->plain.xx / (double)s->plain.n);
        ht_buf_puts(out, "<tr><td class=\"l\"><bdi>");
        ht_report_escape(out, s->tensor->name);
        ht_buf_puts(out, "</bdi></td>");
        cell(out, rms, "%.4g", 1);
        cell(out, s->plain.max_x / rms, "%.1f", 1);
        for (size_t c = 0; c < r->n_codecs; c++) {
            struct ht_error_figures f;
            ht_error_figures(&s->sums[c], &f);
            cell(out, f.snr_db, "%.2f", 1);
        }
        ht_buf_puts(out, "</tr>\n");
    }
    ht_buf_puts(out, "</tbody></table></div></details>\n");
}

void ht_error_report_page(const struct ht_error_report *r, struct ht_buf *out) {
    uint64_t rows = 0, measured = 0;
    for (size_t i = 0; i < r->n_subjects; i++) {
        rows += r->subjects[i].rows;
        measured += r->subjects[i].measured;
    }
    ht_buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
    ht_report_escape(out, r->path);
    ht_buf_puts(out, ": errors of formats</title>\n<style>");
    for (size_t i = 0; ht_report_style[i] != NULL; i++) {
        ht_buf_puts(out, ht_report_style[i]);
    }
    ht_buf_puts(out, "</style></head><body>\n<header><h1><bdi>");
    ht_report_escape(out, r->path);
    ht_buf_printf(out, "</bdi></h1><p class=\"lead\">What each number format does to the weights: %zu matrices, "
                       "%llu of %llu rows measured%s.</p></header>\n<main>\n<figure>",
                  r->n_subjects, (unsigned long long)measured, (unsigned long long)rows,
                  r->quantized ? "; some are quantized already, errors are against what they hold" : "");
    ht_error_report_figure(r, false, out);
    ht_buf_puts(out, "<figcaption>Upper panel: mean over all weights of squared error over the tensor's mean square. "
                     "Lower panel: how many bits more than the Shannon bound of a Gaussian. The dashed and dotted "
                     "lines are scalar quantizers of a Gaussian that need no scales. Weights are not Gaussian and "
                     "rows differ in size: formats with scales can gain from that, and lie below the lines."
                     "</figcaption></figure>\n");
    totals(r, out);
    roles(r, out);
    tensors(r, out);
    ht_buf_printf(out, "</main><footer>halftone %s; the figures are explained in docs/errors.md</footer>\n<script>%s"
                       "</script></body></html>\n", ht_version(), ht_report_script);
}
