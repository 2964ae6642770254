/* What happened to each tensor of a file: figures, totals and a table, from a record of quantize. */
#include <math.h>
#include <string.h>

#include "flow/report.h"

static double rounded(const json_t *t, const char *key) {
    return ht_report_number(json_object_get(t, "round"), key);
}

/* ---- totals ------------------------------------------------------------------------------------------ */

/* Counts that deserve a word, summed over tensors; tokens is the most that one saw. */
static const struct {
    const char *key, *text;
} COUNTS[] = {
    {"damping_raised", "damping raised %.0f times"},
    {"rows_kept_nearest", "%.0f rows kept as rounded to nearest, because nothing did better"},
    {"dead_inputs", "%.0f inputs that were never other than 0"},
    {"saturated", "%.0f weights beyond the grid's ends"},
    {"columns_apart", "%.0f columns kept apart"},
    {"weights_apart", "%.0f single weights kept apart"},
    {"weights_pruned", "%.0f weights made 0"},
};

static void totals(const json_t *tensors, struct ht_buf *out) {
    double gain = 0, seconds = 0, tokens = 0;
    size_t n = 0, with_gain = 0, i;
    const json_t *t;
    json_array_foreach(tensors, i, t) {
        if (json_object_get(t, "round") == NULL) {
            continue;
        }
        double db = ht_report_gain_db(t), took = rounded(t, "seconds"), saw = rounded(t, "tokens");
        n++;
        seconds += isnan(took) ? 0 : took;
        tokens = saw > tokens ? saw : tokens;
        if (isfinite(db)) {
            gain += db;
            with_gain++;
        }
    }
    if (n == 0) {
        return;
    }
    ht_buf_printf(out, "<p class=\"note\">%zu matrices, one after the other", n);
    if (with_gain > 0) {
        double mean = gain / (double)with_gain;
        ht_buf_printf(out, ": squared error of their outputs %.2f times that of rounding to nearest (%+.1f dB, mean "
                           "over matrices)", pow(10.0, mean / 10.0), mean);
    }
    if (tokens > 0) {
        ht_buf_printf(out, "; %.0f tokens seen", tokens);
    }
    for (size_t k = 0; k < sizeof COUNTS / sizeof COUNTS[0]; k++) {
        double sum = 0;
        json_array_foreach(tensors, i, t) {
            double v = rounded(t, COUNTS[k].key);
            sum += isnan(v) ? 0 : v;
        }
        if (sum > 0) {
            ht_buf_puts(out, "; ");
            ht_buf_printf(out, COUNTS[k].text, sum);
        }
    }
    ht_buf_printf(out, "; %.1f s of rounding.</p>\n", seconds);
}

/* ---- the table --------------------------------------------------------------------------------------- */

/* A column shows a text of the tensor, a number, a number of its rounding, or what a function makes of it. */
static const struct column {
    const char *head, *hint;
    const char *text, *number, *round;
    double (*value)(const json_t *tensor);
    int digits;
} COLUMNS[] = {
    {.head = "Tensor", .text = "name"},
    {.head = "Role", .text = "role"},
    {.head = "Format", .text = "format"},
    {.head = "Asked for", .text = "wanted"},
    {.head = "Bytes", .number = "bytes"},
    {.head = "Error, dB", .hint = "error energy against the weights' energy", .number = "rel_error_db", .digits = 3},
    {.head = "Output error, dB", .hint = "of the product on calibration text", .round = "output_error_db", .digits = 3},
    {.head = "Against nearest, dB", .hint = "output error against rounding to nearest", .value = ht_report_gain_db,
     .digits = 3},
    {.head = "Nearest", .hint = "squared output error of rounding to nearest", .round = "loss_nearest", .digits = 3},
    {.head = "Loss", .hint = "squared output error of what was written", .round = "loss", .digits = 3},
    {.head = "Tokens", .hint = "that calibration saw", .round = "tokens"},
    {.head = "Damping", .hint = "added to the diagonal, relative to its mean", .round = "damping", .digits = 2},
    {.head = "Raised", .hint = "times damping was raised", .round = "damping_raised"},
    {.head = "Kept nearest", .hint = "rows that nothing did better for", .round = "rows_kept_nearest"},
    {.head = "Dead inputs", .round = "dead_inputs"},
    {.head = "Saturated", .hint = "weights beyond the grid's ends", .round = "saturated"},
    {.head = "Columns apart", .round = "columns_apart"},
    {.head = "Weights apart", .round = "weights_apart"},
    {.head = "Made 0", .round = "weights_pruned"},
    {.head = "Seconds", .round = "seconds", .digits = 2},
};
enum { N_COLUMNS = sizeof COLUMNS / sizeof COLUMNS[0] };

static double value_of(const struct column *c, const json_t *t) {
    return c->value != NULL ? c->value(t) : c->round != NULL ? rounded(t, c->round) : ht_report_number(t, c->number);
}

/* Columns in which nothing happened are left out. */
static bool filled(const struct column *c, const json_t *tensors) {
    const json_t *t;
    size_t i;
    json_array_foreach(tensors, i, t) {
        double v = c->text == NULL ? value_of(c, t) : NAN;
        if (c->text != NULL ? ht_report_text(t, c->text) != NULL : !isnan(v) && v != 0) {
            return true;
        }
    }
    return false;
}

static void table(const json_t *tensors, struct ht_buf *out) {
    const struct column *shown[N_COLUMNS];
    size_t n = 0, i;
    const json_t *t;
    ht_buf_puts(out, "<div class=\"scroll\"><table><thead><tr>");
    for (size_t c = 0; c < N_COLUMNS; c++) {
        if (filled(&COLUMNS[c], tensors)) {
            const struct column *col = shown[n++] = &COLUMNS[c];
            ht_buf_printf(out, "<th%s data-s%s%s%s>%s</th>", col->text != NULL ? " class=\"l\"" : "",
                          col->hint != NULL ? " title=\"" : "", col->hint != NULL ? col->hint : "",
                          col->hint != NULL ? "\"" : "", col->head);
        }
    }
    ht_buf_puts(out, "</tr></thead>\n<tbody>\n");
    json_array_foreach(tensors, i, t) {
        ht_buf_puts(out, "<tr>");
        for (size_t c = 0; c < n; c++) {
            if (shown[c]->text != NULL) {
                const char *s = ht_report_text(t, shown[c]->text);
                ht_buf_puts(out, "<td class=\"l\">");
                ht_report_escape(out, s != NULL ? s : "");
                ht_buf_puts(out, "</td>");
            } else {
                ht_report_number_cell(out, value_of(shown[c], t), shown[c]->digits);
            }
        }
        ht_buf_puts(out, "</tr>\n");
    }
    ht_buf_puts(out, "</tbody></table></div>\n");
}

void ht_report_tensors(const struct ht_report *report, struct ht_buf *out) {
    bool any = false;
    for (size_t i = 0; i < report->n_rows; i++) {
        const json_t *tensors = json_object_get(report->rows[i].quantize, "tensors");
        if (json_array_size(tensors) == 0) {
            continue;
        }
        ht_buf_puts(out, any ? "" : "<h2>Tensors</h2>\n");
        ht_buf_printf(out, "<details%s><summary>", report->n_rows == 1 ? " open" : "");
        any = true;
        ht_report_name(out, report->rows[i].name);
        ht_buf_printf(out, ": %zu tensors</summary>\n", json_array_size(tensors));
        totals(tensors, out);
        ht_report_heats(tensors, out);
        table(tensors, out);
        ht_buf_puts(out, "</details>\n");
    }
}
