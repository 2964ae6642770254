/* The page. Every string that comes from a record or a caller goes through ht_report_escape. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "flow/report.h"

/* Text for element content and for quoted attributes alike. Control characters, which HTML forbids, become
 * U+FFFD; bytes that are not UTF-8 cannot come here: JSON's strings are, and ht_flow_report checks the title. */
void ht_report_escape(struct ht_buf *out, const char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        switch (c) {
        case '&': ht_buf_puts(out, "&amp;"); break;
        case '<': ht_buf_puts(out, "&lt;"); break;
        case '>': ht_buf_puts(out, "&gt;"); break;
        case '"': ht_buf_puts(out, "&quot;"); break;
        case '\'': ht_buf_puts(out, "&#39;"); break;
        default:
            if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f) {
                ht_buf_puts(out, "&#65533;");
            } else {
                ht_buf_putc(out, (char)c);
            }
        }
    }
}

/* A name from outside, kept from reordering the text around it (right-to-left overrides). */
void ht_report_name(struct ht_buf *out, const char *s) {
    ht_buf_puts(out, "<bdi>");
    ht_report_escape(out, s);
    ht_buf_puts(out, "</bdi>");
}

/* ---- at a glance ------------------------------------------------------------------------------------- */

static const struct ht_report_row *reference_of(const struct ht_report *report) {
    return report->n_rows > 0 && report->rows[0].reference ? &report->rows[0] : NULL;
}

/* ", part" after the first part of a sentence. */
static void part(struct ht_buf *out, bool *first) {
    ht_buf_puts(out, *first ? "" : ", ");
    *first = false;
}

static void size_parts(const struct ht_report_row *row, const struct ht_report_row *ref, struct ht_buf *out,
                       bool *first) {
    char size[32];
    if (ref != NULL && ref->bytes > 0 && !isnan(row->bytes)) {
        part(out, first);
        ht_buf_printf(out, "%.0f %% of the size", 100.0 * row->bytes / ref->bytes);
    } else if (!isnan(row->bytes)) {
        part(out, first);
        ht_report_size(size, sizeof size, row->bytes);
        ht_buf_puts(out, size);
    }
    if (!isnan(row->bits)) {
        part(out, first);
        ht_buf_printf(out, "%.2f bits/weight", row->bits);
    }
}

static void loss_parts(const struct ht_report_row *row, struct ht_buf *out, bool *first) {
    char text[32];
    if (!isnan(row->kld.mean)) {
        part(out, first);
        ht_report_format(text, sizeof text, row->kld.mean, row->kld.mean, 3);
        ht_buf_printf(out, "KL divergence %s", row->kld.mean == 0 ? "0" : text);
    }
    if (!isnan(row->same_top.mean)) {
        part(out, first);
        ht_buf_printf(out, "same first choice %.1f %%", 100.0 * row->same_top.mean);
    }
    if (!isnan(row->ratio.mean)) {
        part(out, first);
        double change = 100.0 * (row->ratio.mean - 1.0);
        ht_buf_printf(out, "perplexity %+.*f %%", fabs(change) < 10 ? 2 : 1, change);
    } else if (!isnan(row->perplexity.mean)) {
        part(out, first);
        ht_report_format(text, sizeof text, row->perplexity.mean, row->perplexity.mean, 4);
        ht_buf_printf(out, "perplexity %s", text);
    }
}

static void verdict(const struct ht_report_row *row, const struct ht_report_row *ref, struct ht_buf *out) {
    int level;
    const char *word = ht_report_verdict(row, &level);
    bool first = true;
    ht_buf_printf(out, "<li class=\"v%d\"><b>", level);
    ht_report_name(out, row->name);
    ht_buf_printf(out, "</b><span class=\"tag\">%s</span><span>", level >= 0 ? word : "loss not measured");
    size_parts(row, ref, out, &first);
    loss_parts(row, out, &first);
    if (row->beaten_by != NULL) {
        ht_buf_puts(out, " <span class=\"beats\">(");
        ht_report_name(out, row->beaten_by->name);
        ht_buf_puts(out, " is both smaller and closer to the reference)</span>");
    }
    ht_buf_puts(out, "</span></li>\n");
}

static void glance(const struct ht_report *report, struct ht_buf *out) {
    bool measured = false;
    for (size_t i = 0; i < report->n_rows; i++) {
        measured |= !isnan(report->rows[i].kld.mean);
    }
    if (!measured) {
        ht_buf_puts(out, "<p class=\"note\">The loss was not measured: a record of <code>halftone eval FILE "
                         "--reference MODEL --text TEXT --json</code> would say it here.</p>\n");
        return;
    }
    ht_buf_puts(out, "<h2>At a glance</h2>\n<ul class=\"verdicts\">\n");
    for (size_t i = 0; i < report->n_rows; i++) {
        if (!report->rows[i].reference) {
            verdict(&report->rows[i], reference_of(report), out);
        }
    }
    ht_buf_puts(out, "</ul>\n<p class=\"note\">Words go by the mean KL divergence: nearly lossless below 0.005, very "
                     "small loss below 0.02, small loss below 0.05, moderate loss below 0.15, heavy loss below 0.5. "
                     "They order files; what a loss costs depends on the task.</p>\n");
}

static void warnings(const struct ht_report *report, struct ht_buf *out) {
    if (report->n_warnings == 0) {
        return;
    }
    ht_buf_puts(out, "<section class=\"warnings\"><h2>Fallbacks and warnings</h2><ul>\n");
    for (size_t i = 0; i < report->n_warnings; i++) {
        const struct ht_report_warning *w = &report->warnings[i];
        ht_buf_puts(out, "<li>");
        if (w->about != NULL) {
            ht_buf_puts(out, "<b>");
            ht_report_name(out, w->about);
            ht_buf_puts(out, "</b>: ");
        }
        ht_report_escape(out, w->text);
        ht_buf_puts(out, "</li>\n");
    }
    ht_buf_puts(out, "</ul></section>\n");
}

/* ---- tables ------------------------------------------------------------------------------------------ */

static void summary_table(const struct ht_report *report, struct ht_buf *out) {
    const struct ht_report_column *room[16];
    size_t n;
    const struct ht_report_column *const *columns = ht_report_columns(report, &n, room);
    ht_buf_puts(out, "<h2>Summary <small>small print: 95 % intervals</small></h2>\n<div class=\"scroll\"><table>"
                     "<thead><tr><th class=\"l\" data-s>File</th>");
    for (size_t c = 0; c < n; c++) {
        ht_buf_printf(out, "<th%s data-s title=\"%s\">%s</th>", columns[c]->left ? " class=\"l\"" : "",
                      columns[c]->hint, columns[c]->head);
    }
    ht_buf_puts(out, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        ht_buf_puts(out, row->reference ? "<tr class=\"ref\">" : "<tr>");
        ht_buf_puts(out, "<td class=\"l\" title=\"");
        ht_report_escape(out, row->path);
        ht_buf_puts(out, "\">");
        ht_report_name(out, row->name);
        ht_buf_puts(out, row->reference ? "<small>reference</small></td>" : "</td>");
        for (size_t c = 0; c < n; c++) {
            char main[HT_REPORT_CELL], sub[HT_REPORT_CELL], value[32] = "";
            columns[c]->cell(row, main, sub);
            ht_buf_puts(out, columns[c]->left ? "<td class=\"l\"" : "<td");
            if (columns[c]->sort != NULL) {
                double v = columns[c]->sort(row);
                snprintf(value, sizeof value, isfinite(v) ? "%.9g" : "", v);
                ht_buf_printf(out, " data-v=\"%s\"", value);
            }
            ht_buf_putc(out, '>');
            ht_report_escape(out, main);
            if (sub[0] != 0) {
                ht_buf_puts(out, "<small>");
                ht_report_escape(out, sub);
                ht_buf_puts(out, "</small>");
            }
            ht_buf_puts(out, "</td>");
        }
        ht_buf_puts(out, "</tr>\n");
    }
    ht_buf_puts(out, "</tbody></table></div>\n");
}

void ht_report_number_cell(struct ht_buf *out, double v, int digits) {
    char text[32];
    if (isnan(v)) {
        ht_buf_puts(out, "<td data-v=\"\"></td>");
        return;
    }
    ht_report_format(text, sizeof text, v, v, digits);
    ht_buf_printf(out, "<td data-v=\"%.9g\">%s</td>", v, text);
}

static void number_cell(struct ht_buf *out, const json_t *o, const char *estimate, const char *key, double factor,
                        int digits) {
    ht_report_number_cell(out, ht_report_number(estimate ? json_object_get(o, estimate) : o, key) * factor, digits);
}

static void text_table(const struct ht_report *report, struct ht_buf *out) {
    size_t most = 0;
    for (size_t i = 0; i < report->n_rows; i++) {
        size_t n = json_array_size(json_object_get(report->rows[i].eval, "texts"));
        most = n > most ? n : most;
    }
    if (most < 2) {
        return;
    }
    ht_buf_puts(out, "<h2>Per text</h2>\n<div class=\"scroll\"><table><thead><tr><th class=\"l\" data-s>File</th>"
                     "<th class=\"l\" data-s>Text</th><th data-s>Windows</th><th data-s>Perplexity</th>"
                     "<th data-s>KL divergence</th><th data-s>low</th><th data-s>high</th><th data-s>99 %</th>"
                     "<th data-s>Max</th><th data-s>Same top, %</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < report->n_rows; i++) {
        size_t k;
        const json_t *t;
        json_array_foreach(json_object_get(report->rows[i].eval, "texts"), k, t) {
            ht_buf_puts(out, "<tr><td class=\"l\">");
            ht_report_name(out, report->rows[i].name);
            ht_buf_puts(out, "</td><td class=\"l\">");
            ht_report_name(out, ht_path_base(ht_report_text(t, "path") ? ht_report_text(t, "path") : "?"));
            ht_buf_puts(out, "</td>");
            number_cell(out, t, NULL, "windows", 1, 0);
            number_cell(out, t, "perplexity", "mean", 1, 4);
            number_cell(out, t, "kld", "mean", 1, 3);
            number_cell(out, t, "kld", "low", 1, 3);
            number_cell(out, t, "kld", "high", 1, 3);
            number_cell(out, t, "kld", "p99", 1, 3);
            number_cell(out, t, "kld", "max", 1, 3);
            number_cell(out, t, "same_top", "mean", 100, 3);
            ht_buf_puts(out, "</tr>\n");
        }
    }
    ht_buf_puts(out, "</tbody></table></div>\n");
}

/* ---- figures ----------------------------------------------------------------------------------------- */

static void figures(const struct ht_report *report, struct ht_buf *out) {
    struct ht_buf svg;
    ht_buf_init(&svg, 0);
    ht_report_scatter(report, &svg);
    out->failed |= svg.failed;
    if (svg.len > 0 && ht_buf_ok(&svg)) {
        ht_buf_puts(out, "<h2>Divergence against size</h2>\n<figure>");
        ht_buf_append(out, svg.data, svg.len);
        ht_buf_puts(out, "<figcaption>Lower left is better. Bars: 95 % intervals. Filled points lie on the dashed line "
                         "of the best trade: no smaller file is closer to the reference.</figcaption></figure>\n"
                         "<h2>Mean KL divergence</h2>\n<figure>");
        ht_report_bars(report, out);
        ht_buf_puts(out, "<figcaption>Linear scale, from the largest file to the smallest.</figcaption></figure>\n");
    }
    ht_buf_deinit(&svg);
}

/* ---- provenance -------------------------------------------------------------------------------------- */

/* A field as the record has it: text, number or truth value. */
static void scalar(struct ht_buf *out, const json_t *v) {
    if (json_is_string(v)) {
        ht_report_name(out, json_string_value(v));
    } else if (json_is_integer(v)) {
        ht_buf_printf(out, "%lld", (long long)json_integer_value(v));
    } else if (json_is_real(v)) {
        ht_buf_printf(out, "%.4g", json_real_value(v));
    } else {
        ht_buf_puts(out, json_is_true(v) ? "yes" : "no");
    }
}

/* A key as words. */
static void label(struct ht_buf *out, const char *key) {
    char words[64];
    snprintf(words, sizeof words, "%s", key);
    for (char *c = words; *c; c++) {
        *c = *c == '_' ? ' ' : *c;
    }
    ht_report_escape(out, words);
}

/* Names and values of the given keys that the record has. */
static void fields(struct ht_buf *out, const json_t *o, const char *const *keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, keys[i]);
        v = json_is_object(v) ? json_object_get(v, "path") : v; /* a file */
        if (v == NULL || json_is_null(v) || json_is_object(v) || json_is_array(v)) {
            continue;
        }
        size_t len = strlen(keys[i]);
        bool bytes = len >= 5 && strcmp(keys[i] + len - 5, "bytes") == 0;
        ht_buf_puts(out, "<span><i>");
        label(out, keys[i]);
        ht_buf_puts(out, "</i> ");
        if (bytes && json_is_number(v)) {
            char size[32];
            ht_report_size(size, sizeof size, json_number_value(v));
            ht_buf_puts(out, size);
        } else {
            scalar(out, v);
        }
        ht_buf_puts(out, "</span> ");
    }
}

/* All plain fields of an object of the record, on a line of their own. */
static void object_of(struct ht_buf *out, const json_t *record, const char *key) {
    json_t *o = json_object_get(record, key), *v;
    const char *k;
    if (json_object_size(o) == 0) {
        return;
    }
    ht_buf_printf(out, "<br><b>%s</b> ", key);
    json_object_foreach(o, k, v) {
        if (json_is_object(v)) { /* a file; others have figures of their own elsewhere */
            v = json_object_get(v, "path");
        }
        if (v == NULL || json_is_null(v) || json_is_array(v) || json_is_object(v)) {
            continue;
        }
        ht_buf_puts(out, "<span><i>");
        label(out, k);
        ht_buf_puts(out, "</i> ");
        scalar(out, v);
        ht_buf_puts(out, "</span> ");
    }
}

static void texts_of(struct ht_buf *out, const json_t *texts) {
    size_t i;
    const json_t *t;
    json_array_foreach(texts, i, t) {
        const char *path = json_is_string(t) ? json_string_value(t) : ht_report_text(t, "path");
        static const char *const keys[] = {"bytes", "tokens", "windows", "tokens_scored", "sha256"};
        ht_buf_puts(out, "<br><span><i>text</i> ");
        ht_report_name(out, path != NULL ? path : "?");
        ht_buf_puts(out, "</span> ");
        fields(out, t, keys, sizeof keys / sizeof keys[0]);
    }
}

static double sum_of(const json_t *o) {
    const char *k;
    json_t *v;
    double sum = 0;
    json_object_foreach((json_t *)o, k, v) {
        sum += json_number_value(v);
    }
    return sum;
}

/* What calibration saw: how windows were chosen, and of each text which share, how many windows, which file it was. */
static void data_of(struct ht_buf *out, const json_t *data) {
    static const char *const how[] = {"sampling", "seed",    "windows", "window",
                                      "tokens",   "filters", "not_in",  "windows_xxh3"};
    static const char *const keys[] = {"kind", "tokens", "sha256"};
    const json_t *sources = json_object_get(data, "sources"), *t;
    double weights = 0;
    size_t i;
    if (!json_is_object(data)) {
        return;
    }
    json_array_foreach(sources, i, t) {
        weights += json_number_value(json_object_get(t, "weight"));
    }
    ht_buf_puts(out, "<br><b>calibration data</b> ");
    fields(out, data, how, sizeof how / sizeof how[0]);
    json_array_foreach(sources, i, t) {
        double dropped = sum_of(json_object_get(t, "dropped"));
        ht_buf_puts(out, "<br><span><i>text</i> ");
        ht_report_name(out, ht_report_text(t, "path") != NULL ? ht_report_text(t, "path") : "?");
        ht_buf_printf(out, "</span> <span><i>share</i> %.0f of %.0f</span> <span><i>windows</i> %.0f of %.0f</span> ",
                      json_number_value(json_object_get(t, "weight")), weights,
                      json_number_value(json_object_get(t, "taken")), json_number_value(json_object_get(t, "windows")));
        fields(out, t, keys, sizeof keys / sizeof keys[0]);
        if (dropped > 0) {
            ht_buf_printf(out, "<span><i>dropped</i> %.0f</span> ", dropped);
        }
    }
}

/* Of this run, or of those that a statistics file came from. */
static void calibration_of(struct ht_buf *out, const json_t *record) {
    const json_t *c = json_object_get(record, "calibration"), *run;
    size_t i;
    object_of(out, record, "calibration");
    texts_of(out, json_object_get(c, "texts"));
    data_of(out, json_object_get(c, "data"));
    json_array_foreach(json_object_get(c, "runs"), i, run) {
        data_of(out, run);
    }
}

static void hash_of(struct ht_buf *out, const char *what, const json_t *file) {
    static const char *const kinds[] = {"sha256", "xxh3"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const char *hash = ht_report_text(file, kinds[i]);
        if (hash != NULL) {
            ht_buf_printf(out, "<br><span><i>%s %s</i> ", what, kinds[i]);
            ht_report_escape(out, hash);
            ht_buf_puts(out, "</span>");
        }
    }
}

static void provenance_of(const struct ht_report_record *r, struct ht_buf *out) {
    static const char *const keys[] = {
        "input", "model", "reference", "output", "format", "method", "imatrix", "convention", "math", "ctx", "windows",
        "tokens", "tokens_scored", "confidence", "resamples", "seed", "threads", "prompt_tokens", "seconds",
        "cpu_seconds", "peak_rss_bytes", "entries", "version",
    };
    const json_t *machine = json_object_get(r->json, "machine");
    ht_buf_puts(out, "<dt>");
    ht_report_escape(out, r->schema);
    ht_buf_puts(out, "</dt><dd>");
    fields(out, r->json, keys, sizeof keys / sizeof keys[0]);
    static const char *const parts[] = {"cpu", "kernels"};
    fields(out, machine, parts, 2);
    texts_of(out, json_object_get(r->json, "texts"));
    texts_of(out, json_object_get(json_object_get(r->json, "imatrix"), "texts"));
    hash_of(out, "input", json_object_get(r->json, "input"));
    hash_of(out, "output", json_object_get(r->json, "output"));
    object_of(out, r->json, "overrides");
    calibration_of(out, r->json);
    object_of(out, r->json, "resumed");
    object_of(out, r->json, "folded");
    if (json_is_string(json_object_get(r->json, "recipe"))) {
        ht_buf_puts(out, "<details><summary>Recipe</summary><pre>");
        ht_report_escape(out, ht_report_text(r->json, "recipe"));
        ht_buf_puts(out, "</pre></details>");
    }
    ht_buf_puts(out, "</dd>\n");
}

static int append_piece(const char *data, size_t len, void *user) {
    char chunk[256];
    while (len > 0) { /* the escape takes strings: pieces hold no NUL, jansson writes \u0000 */
        size_t n = len < sizeof chunk - 1 ? len : sizeof chunk - 1;
        memcpy(chunk, data, n);
        chunk[n] = 0;
        ht_report_escape(user, chunk);
        data += n;
        len -= n;
    }
    return 0;
}

static void provenance(const struct ht_report *report, struct ht_buf *out) {
    ht_buf_puts(out, "<h2>Provenance</h2>\n<details open><summary>Settings of each record</summary><dl>\n");
    for (size_t i = 0; i < report->n_records; i++) {
        provenance_of(&report->records[i], out);
    }
    ht_buf_puts(out, "</dl></details>\n");
    for (size_t i = 0; i < report->n_records; i++) {
        ht_buf_puts(out, "<details><summary>");
        ht_report_name(out, report->records[i].path);
        ht_buf_puts(out, " (JSON)</summary><pre>");
        if (json_dump_callback(report->records[i].json, append_piece, out, JSON_INDENT(1)) != 0) {
            out->failed = true;
        }
        ht_buf_puts(out, "</pre></details>\n");
    }
}

/* ---- the page ---------------------------------------------------------------------------------------- */

static void lead(const struct ht_report *report, struct ht_buf *out) {
    size_t files = 0;
    for (size_t i = 0; i < report->n_rows; i++) {
        files += !report->rows[i].reference;
    }
    ht_buf_printf(out, "<p class=\"lead\">%zu %s", files, files == 1 ? "file" : "files");
    if (reference_of(report) != NULL) {
        ht_buf_puts(out, " measured against ");
        ht_report_name(out, reference_of(report)->name);
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        const json_t *e = report->rows[i].eval;
        const char *text = ht_report_text(json_array_get(json_object_get(e, "texts"), 0), "path");
        if (text != NULL) {
            ht_buf_puts(out, " on ");
            ht_report_name(out, ht_path_base(text));
            size_t more = json_array_size(json_object_get(e, "texts"));
            if (more > 1) {
                ht_buf_printf(out, " and %zu more", more - 1);
            }
            ht_buf_printf(out, ", %.0f windows of %.0f tokens", ht_report_number(e, "windows"),
                          ht_report_number(e, "ctx"));
            break;
        }
    }
    ht_buf_puts(out, ".</p>\n");
}

void ht_report_page(const struct ht_report *report, struct ht_buf *out) {
    ht_buf_puts(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                     "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>");
    ht_report_escape(out, report->title);
    ht_buf_puts(out, "</title>\n<style>\n");
    for (size_t i = 0; ht_report_style[i] != NULL; i++) {
        ht_buf_puts(out, ht_report_style[i]);
    }
    ht_buf_puts(out, "</style>\n</head>\n<body>\n<header>\n");
    ht_report_dots(out);
    ht_buf_puts(out, "<h1>");
    ht_report_escape(out, report->title);
    ht_buf_puts(out, "</h1>\n");
    lead(report, out);
    ht_buf_puts(out, "</header>\n<main>\n");
    warnings(report, out);
    glance(report, out);
    summary_table(report, out);
    figures(report, out);
    text_table(report, out);
    ht_report_tensors(report, out);
    provenance(report, out);
    ht_buf_printf(out, "</main>\n<footer>Made by halftone %s from %zu %s. The page loads nothing from the "
                       "network.</footer>\n<script>%s</script>\n</body>\n</html>\n", ht_version(), report->n_records,
                  report->n_records == 1 ? "record" : "records", ht_report_script);
}
