#include <math.h>
#include <string.h>

#include "cmds.h"

struct args {
    bool curve, force;
    struct strlist formats;
    const char *range, *source, *output;
    uint32_t rows;
    uint64_t seed;
};

static void defaults(void *p) {
    ht_curve_options o;
    ht_curve_options_defaults(&o);
    *(struct args *)p = (struct args){.rows = o.rows, .seed = o.seed};
}

static const struct option_row options[] = {
    {"curve", 0, OPT_FLAG, offsetof(struct args, curve), NULL, NULL,
     "formats: measure the error of each on rows of known distributions, beside the least that theory allows"},
    {"format", 'f', OPT_LIST, offsetof(struct args, formats), "NAME", "@formats",
     "curve: measure this format or scheme only; may be repeated"},
    {"range", 0, OPT_STR, offsetof(struct args, range), "PART", "@ranges",
     "curve: how the scales of schemes are found (default mse; see halftone list ranges)"},
    {"source", 0, OPT_STR, offsetof(struct args, source), "NAME", "gaussian|laplace|student-t",
     "curve: rows of this distribution only (default all)"},
    {"rows", 0, OPT_U32, offsetof(struct args, rows), "N", NULL, "curve: rows of 4,096 values (default 32)"},
    {"seed", 0, OPT_U64, offsetof(struct args, seed), "N", NULL, "curve: seed of the rows (default 0)"},
    {"output", 'o', OPT_STR, offsetof(struct args, output), "FILE", "@file", "curve: draw the figure as SVG"},
    {"force", 0, OPT_FLAG, offsetof(struct args, force), NULL, NULL, "curve: replace an existing figure"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {"presets of this build", "halftone list presets", "formats as JSON",
                                       "halftone list formats --json", "error against bits, with the Shannon bound",
                                       "halftone list formats --curve -o curve.svg", NULL};

/* ---- any list ----------------------------------------------------------------------------------------- */

static void cell_of(struct text_table *t, const json_t *cell) {
    if (json_is_string(cell)) {
        table_cell(t, "%s", json_string_value(cell));
    } else if (json_is_number(cell)) {
        table_cell(t, "%.10g", json_number_value(cell));
    } else {
        table_cell(t, "%s", json_is_true(cell) ? "yes" : json_is_false(cell) ? "no" : "");
    }
}

/* Long to read and seldom looked for: with -v, in --json, and by 'halftone show'. */
static bool is_detail(const char *key) {
    static const char *const details[] = {"source", "formula", "needs", "leaves", "options"};
    for (size_t i = 0; i < sizeof details / sizeof details[0]; i++) {
        if (strcmp(key, details[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Columns of the table: the first object's scalar members but "summary", then the summary. */
static void show(const struct cli *cli, const json_t *rows) {
    const char *headers[16], *key;
    char alignment[17];
    size_t n = 0, i;
    json_t *v, *row;
    json_object_foreach(json_array_get(rows, 0), key, v) {
        if (n < 15 && strcmp(key, "summary") != 0 && (cli->verbose > 0 || !is_detail(key)) && !json_is_object(v) &&
            !json_is_array(v)) {
            alignment[n] = json_is_number(v) ? 'r' : 'l';
            headers[n++] = key;
        }
    }
    alignment[n] = 'l';
    headers[n++] = "summary";
    alignment[n] = '\0';
    struct text_table *t = table_new(headers, n, alignment);
    json_array_foreach(rows, i, row) {
        for (size_t c = 0; c < n; c++) {
            cell_of(t, json_object_get(row, headers[c]));
        }
    }
    table_print(t, cli, stdout);
}

/* ---- formats ------------------------------------------------------------------------------------------ */

static void figure(struct text_table *t, const json_t *row, const char *key, const char *format, double scale) {
    double v = json_num(row, key, NAN);
    if (isfinite(v)) {
        char text[40];
        snprintf(text, sizeof text, format, v * scale);
        table_cell(t, "%s", text);
    } else {
        table_cell(t, "%s", "");
    }
}

static void show_formats(const struct cli *cli, const json_t *rows) {
    static const char *const headers[] = {"name",      "bits/weight", "block", "bytes", "range", "max",
                                          "min normal", "eps",        "use",   "hardware"};
    struct text_table *t = table_new(headers, sizeof headers / sizeof headers[0], "lrrrlrrrll");
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        table_cell(t, "%s", json_str(row, "name", "?"));
        figure(t, row, "bits_per_weight", "%.6g", 1);
        figure(t, row, "block", "%.0f", 1);
        figure(t, row, "block_bytes", "%.0f", 1);
        table_cell(t, "%s", json_str(row, "range", ""));
        figure(t, row, "max", "%.5g", 1);
        figure(t, row, "min_normal", "%.4g", 1);
        figure(t, row, "eps", "%.3g", 1);
        table_cell(t, "%s", json_str(row, "use", ""));
        table_cell(t, "%s", json_str(row, "hardware", ""));
    }
    table_print(t, cli, stdout);
}

/* ---- curve -------------------------------------------------------------------------------------------- */

static void show_theory(const struct cli *cli, const json_t *source) {
    static const char *const headers[] = {"bits", "levels", "bound", "Lloyd-Max", "above bound", "even levels",
                                          "above bound"};
    struct text_table *t = table_new(headers, sizeof headers / sizeof headers[0], "rrrrrrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(source, "limits"), i, row) {
        double bits = json_num(row, "bits", NAN), lloyd = json_num(row, "lloyd_max", NAN);
        double even = json_num(row, "uniform", NAN);
        figure(t, row, "bits", "%.3f", 1);
        figure(t, row, "levels", "%.0f", 1);
        figure(t, row, "bound", "%.6f", 1);
        table_cell(t, "%.6f", lloyd);
        table_cell(t, "%.3f bit", bits + 0.5 * log2(lloyd));
        table_cell(t, "%.6f", even);
        table_cell(t, "%.3f bit", bits + 0.5 * log2(even));
    }
    printf("%s (%s): mean squared error over variance, and bits above the Gaussian bound\n",
           json_str(source, "name", "?"), json_str(source, "summary", ""));
    table_print(t, cli, stdout);
    printf("many levels: %.3f x 4^-bits; bound %.4f x 4^-bits\n\n", json_num(source, "panter_dite", NAN),
           json_num(source, "bound_factor", NAN));
}

static void show_source(const struct cli *cli, const json_t *document, const char *name) {
    static const char *const headers[] = {"format", "bits/weight", "error",  "SNR",   "above bound", "SNR - 6.02 b",
                                          "clipped", "of error",   "cells",  "err~x"};
    struct text_table *t = table_new(headers, sizeof headers / sizeof headers[0], "lrrrrrrrrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(document, "formats"), i, row) {
        const json_t *f = json_object_get(row, name);
        table_cell(t, "%s", json_str(row, "name", "?"));
        figure(t, row, "bits_per_weight", "%.6g", 1);
        figure(t, f, "relative_error", "%.4g", 1);
        figure(t, f, "snr_db", "%.2f dB", 1);
        figure(t, f, "gap_bits", "%.3f bit", 1);
        figure(t, f, "law_constant_db", "%+.2f dB", 1);
        figure(t, f, "clipped_share", "%.3f %%", 100);
        figure(t, f, "clipped_error_share", "%.1f %%", 100);
        figure(t, f, "model_ratio", "%.3f", 1);
        figure(t, f, "error_signal_correlation", "%+.3f", 1);
    }
    printf("Formats on %s rows (error: over the mean square; cells: measured over Delta^2/12, that of even cells)\n",
           name);
    table_print(t, cli, stdout);
    putchar('\n');
}

static void show_curve(const struct cli *cli, const json_t *document) {
    size_t i;
    json_t *source, *law;
    json_array_foreach(json_object_get(document, "sources"), i, source) {
        show_theory(cli, source);
        show_source(cli, document, json_str(source, "name", "?"));
    }
    printf("Laws of b bits without clipping:");
    json_array_foreach(json_object_get(document, "laws"), i, law) {
        printf("%s 6.02 b %+.2f dB (%s)", i > 0 ? "," : "", json_num(law, "constant_db", NAN),
               json_str(law, "input", "?"));
    }
    printf("\n%.0f rows of %.0f values per source, seed %.0f\n", json_num(document, "rows", NAN),
           json_num(document, "cols", NAN), json_num(document, "seed", NAN));
}

static int run_curve(struct cli *cli, const struct args *a) {
    ht_err err = {0};
    char *json = NULL;
    ht_curve_options o;
    ht_curve_options_defaults(&o);
    o.formats = a->formats.items;
    o.n_formats = a->formats.n;
    o.range = a->range;
    o.source = a->source;
    o.output = a->output;
    o.rows = a->rows;
    o.seed = a->seed;
    o.force = a->force;
    ht_status status = ht_curve(cli->ctx, &o, &json, &err);
    if (status == HT_OK && a->output != NULL) {
        note(cli, "wrote %s", a->output);
    }
    return finish(cli, status, &err, json, show_curve);
}

static int run(struct cli *cli, void *p) {
    const struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    bool formats = strcmp(cli->positional[0], "formats") == 0;
    if (a->curve && formats) {
        return run_curve(cli, a);
    }
    if (a->curve || a->formats.n > 0 || a->source != NULL || a->output != NULL) {
        ht_err usage = {.code = HT_INVAL, .pos = HT_NO_POS};
        snprintf(usage.msg, sizeof usage.msg, "%s goes with 'list formats --curve' only",
                 a->curve ? "--curve" : a->formats.n > 0 ? "--format" : a->source != NULL ? "--source" : "--output");
        return report_error(cli, &usage);
    }
    ht_status status = ht_list(cli->positional[0], &json, &err);
    return finish(cli, status, &err, json, formats ? show_formats : show);
}

const struct command command_list = {
    .name = "list",
    .summary = "what this build knows: formats, methods, presets, architectures ...",
    .usage = "formats | methods | parts | ranges | presets | architectures | containers | pretokenizers | chats",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "formats|methods|parts|ranges|presets|architectures|containers|pretokenizers|chats",
    .needs_context = true,
    .run = run,
};
