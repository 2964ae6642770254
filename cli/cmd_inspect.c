#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cmds.h"

struct args {
    bool tensors, metadata, errors, force;
    struct strlist formats, ranges;
    const char *output;
    uint32_t rows;
};

static void defaults(void *p) {
    ht_errors_options o;
    ht_errors_options_defaults(&o);
    *(struct args *)p = (struct args){.rows = o.rows};
}

static const struct option_row options[] = {
    {"tensors", 0, OPT_FLAG, offsetof(struct args, tensors), NULL, NULL, "list every tensor"},
    {"metadata", 0, OPT_FLAG, offsetof(struct args, metadata), NULL, NULL, "list every metadata key"},
    {"errors", 0, OPT_FLAG, offsetof(struct args, errors), NULL, NULL,
     "what number formats would do to the weight matrices: error, clipping, distance to theory"},
    {"format", 'f', OPT_LIST, offsetof(struct args, formats), "NAME[,NAME...]", "@formats",
     "errors: these formats and schemes (q4_k, int4:g128, int8:channel, nf4:g64 ...)"},
    {"range", 0, OPT_LIST, offsetof(struct args, ranges), "PART", "@ranges",
     "errors: compare this way to set the scales of schemes; may be repeated (see halftone list ranges)"},
    {"rows", 0, OPT_U32, offsetof(struct args, rows), "N", NULL,
     "errors: measure at most N rows of each matrix, evenly spread; 0: all (default 1024)"},
    {"output", 'o', OPT_STR, offsetof(struct args, output), "FILE", "@file",
     "errors: draw error against bits (.svg), or write a page with tables (.html)"},
    {"force", 0, OPT_FLAG, offsetof(struct args, force), NULL, NULL, "errors: replace an existing output"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "overview", "halftone inspect model.gguf", "every tensor", "halftone inspect model.gguf --tensors",
    "what formats would lose, as a page", "halftone inspect model.gguf --errors --rows 64 -o errors.html", NULL,
};

static void show_object(const char *title, const json_t *object) {
    const char *key;
    json_t *v;
    if (json_object_size(object) == 0) {
        return;
    }
    printf("%s\n", title);
    json_object_foreach((json_t *)(uintptr_t)object, key, v) {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        printf("  %-44s %.120s\n", key, text != NULL ? text : "?");
        ht_string_free(text);
    }
    putchar('\n');
}

static void shape_text(const json_t *shape, char *out, size_t len) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(shape) && used < len; i++) {
        used += (size_t)snprintf(out + used, len - used, "%s%lld", i ? " x " : "",
                                 (long long)json_integer_value(json_array_get(shape, i)));
    }
}

static void show_tensors(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"tensor", "role", "format", "shape", "size"};
    struct text_table *t = table_new(headers, 5, "lllrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(d, "tensors"), i, row) {
        char b[32], shape[96];
        shape_text(json_object_get(row, "shape"), shape, sizeof shape);
        table_cell(t, "%s", json_str(row, "name", "?"));
        table_cell(t, "%s", json_str(row, "role", ""));
        const char *beside = json_str(row, "beside", ""), *act = json_str(row, "activations", "");
        table_cell(t, "%s%s%s%s%s", json_str(row, "format", "?"), beside[0] != '\0' ? " + " : "", beside,
                   act[0] != '\0' ? ", inputs as " : "", act);
        table_cell(t, "%s", shape);
        table_cell(t, "%s", human_bytes(json_num(row, "bytes", 0), b));
    }
    table_print(t, cli, stdout);
    putchar('\n');
}

static void show_groups(const struct cli *cli, const json_t *rows,
                        const char *what) { /* rows have a member `what` */
    const char *const headers[] = {what, "tensors", "weights", "size", "bits/weight"};
    if (json_array_size(rows) == 0) {
        return;
    }
    struct text_table *t = table_new(headers, 5, "lrrrr");
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        char b[32];
        table_cell(t, "%s", json_str(row, what, "?"));
        table_cell(t, "%.0f", json_num(row, "tensors", 0));
        table_cell(t, "%.0f", json_num(row, "weights", 0));
        table_cell(t, "%s", human_bytes(json_num(row, "bytes", 0), b));
        table_cell(t, "%.3f", json_num(row, "bits_per_weight", 0));
    }
    table_print(t, cli, stdout);
    putchar('\n');
}

/* What a file is, where it is no model of a known architecture. */
static const char *kind_of(const json_t *d) {
    const char *kind = json_str(d, "kind", "model");
    kind = strcmp(kind, "imatrix") == 0 ? "importance matrix" : kind;
    return json_str(d, "architecture", strcmp(kind, "model") == 0 ? "unknown architecture" : kind);
}

static void show(const struct cli *cli, const json_t *d) {
    const struct args *args = cli->args;
    char b[32];
    printf("%s: %s, %s, %s, %.0f weights in %zu tensors, %.3f bits per weight\n\n", json_str(d, "path", "?"),
           json_str(d, "container", "?"), kind_of(d),
           human_bytes(json_num(d, "file_bytes", 0), b), json_num(d, "weights", 0),
           json_array_size(json_at(d, "tensors")), json_num(d, "bits_per_weight", 0));
    show_object("Hyper-parameters", json_object_get(d, "hparams"));
    show_object("Tokenizer", json_object_get(d, "tokenizer"));
    if (args->metadata) {
        show_object("Metadata", json_object_get(d, "metadata"));
    }
    show_groups(cli, json_object_get(d, "formats"), "format");
    show_groups(cli, json_object_get(d, "roles"), "role");
    if (json_at(d, "kv_cache") != NULL) {
        printf("keys and values are cached as %s\n\n", json_str(d, "kv_cache", "?"));
    }
    if (args->tensors) {
        show_tensors(cli, d);
    }
}

/* ---- errors ------------------------------------------------------------------------------------------- */

static void figure(struct text_table *t, const json_t *row, const char *path, const char *format, double scale) {
    double v = json_num(row, path, NAN);
    char text[40] = "";
    if (isfinite(v)) {
        snprintf(text, sizeof text, format, v * scale);
    }
    table_cell(t, "%s", text);
}

static void show_error_formats(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"format",  "range",      "bits/weight", "error", "SNR",   "above bound",
                                          "largest", "clipped", "of error",    "cells", "err~x", "skipped"};
    struct text_table *t = table_new(headers, sizeof headers / sizeof headers[0], "llrrrrrrrrrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(d, "formats"), i, row) {
        table_cell(t, "%s", json_str(row, "format", "?"));
        table_cell(t, "%s", json_str(row, "range", ""));
        figure(t, row, "bits_per_weight", "%.4f", 1);
        figure(t, row, "mean_relative_error", "%.4g", 1);
        figure(t, row, "mean_snr_db", "%.2f dB", 1);
        figure(t, row, "mean_gap_bits", "%.3f bit", 1);
        figure(t, row, "all.max_error_sigmas", "%.3g sigma", 1);
        figure(t, row, "all.clipped_share", "%.3f %%", 100);
        figure(t, row, "all.clipped_error_share", "%.1f %%", 100);
        figure(t, row, "all.model_ratio", "%.3f", 1);
        figure(t, row, "all.error_signal_correlation", "%+.3f", 1);
        figure(t, row, "tensors_skipped", "%.0f", 1);
    }
    table_print(t, cli, stdout);
}

/* Rows are formats, columns roles: SNR in dB. */
static void show_error_roles(const struct cli *cli, const json_t *d) {
    const json_t *formats = json_object_get(d, "formats"), *longest = NULL;
    const char *headers[26] = {"format", "range"};
    char alignment[27] = "ll";
    size_t n = 2, i, k;
    json_t *row, *role;
    json_array_foreach(formats, i, row) { /* a format may skip every tensor of a role */
        const json_t *roles = json_object_get(row, "roles");
        longest = json_array_size(roles) > json_array_size(longest) ? roles : longest;
    }
    json_array_foreach(longest, i, role) {
        if (n < 26) {
            alignment[n] = 'r';
            headers[n++] = json_str(role, "role", "?");
        }
    }
    alignment[n] = '\0';
    struct text_table *t = table_new(headers, n, alignment);
    json_array_foreach(formats, i, row) {
        table_cell(t, "%s", json_str(row, "format", "?"));
        table_cell(t, "%s", json_str(row, "range", ""));
        for (size_t c = 2; c < n; c++) {
            const json_t *found = NULL;
            json_array_foreach(json_object_get(row, "roles"), k, role) {
                found = strcmp(json_str(role, "role", ""), headers[c]) == 0 ? role : found;
            }
            figure(t, found, "mean_snr_db", "%.2f", 1);
        }
    }
    printf("\nSignal-to-noise ratio by role, dB\n");
    table_print(t, cli, stdout);
}

static void show_error_tensors(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"tensor", "role", "rms", "peak", "format", "range", "SNR", "above bound",
                                          "largest", "clipped", "cells"};
    struct text_table *t = table_new(headers, sizeof headers / sizeof headers[0], "llrrllrrrrr");
    size_t i, k;
    json_t *tensor, *e;
    json_array_foreach(json_object_get(d, "tensors"), i, tensor) {
        json_array_foreach(json_object_get(tensor, "errors"), k, e) {
            table_cell(t, "%s", k == 0 ? json_str(tensor, "name", "?") : "");
            table_cell(t, "%s", k == 0 ? json_str(tensor, "role", "") : "");
            figure(t, k == 0 ? tensor : NULL, "rms", "%.4g", 1);
            figure(t, k == 0 ? tensor : NULL, "max_sigmas", "%.1f sigma", 1);
            table_cell(t, "%s", json_str(e, "format", "?"));
            table_cell(t, "%s", json_str(e, "range", ""));
            figure(t, e, "snr_db", "%.2f dB", 1);
            figure(t, e, "gap_bits", "%.3f bit", 1);
            figure(t, e, "max_error_sigmas", "%.3g sigma", 1);
            figure(t, e, "clipped_share", "%.3f %%", 100);
            figure(t, e, "model_ratio", "%.3f", 1);
        }
    }
    putchar('\n');
    table_print(t, cli, stdout);
}

static void show_errors(const struct cli *cli, const json_t *d) {
    const struct args *args = cli->args;
    printf("%s: %s, %zu weight matrices, %.0f of %.0f rows measured%s\n\n", json_str(d, "path", "?"),
           json_str(d, "architecture", "unknown architecture"), json_array_size(json_object_get(d, "tensors")),
           json_num(d, "rows_measured", 0), json_num(d, "rows", 0),
           json_is_true(json_object_get(d, "quantized")) ? "; some are quantized already: errors are against those"
                                                          : "");
    show_error_formats(cli, d);
    show_error_roles(cli, d);
    if (args->tensors) {
        show_error_tensors(cli, d);
    }
    printf("\nerror: squared error over the tensor's mean square, mean of all weights; above bound: bits more than\n"
           "the Shannon bound of a Gaussian; cells: error of values that are not clipped over Delta^2/12; err~x:\n"
           "correlation of error and value; skipped: tensors that cannot be stored so, or whose scales cover fewer\n"
           "than 2,048 values (entropy)\n");
}

/* "a,b" given once or more -> one name each. *text owns the letters. */
static bool split(const struct strlist *given, struct strlist *out, char ***text) {
    size_t room = 0;
    for (size_t i = 0; i < given->n; i++) {
        room += strlen(given->items[i]) + 1;
    }
    *text = ht_mem_calloc(given->n + 1, sizeof **text);
    out->items = ht_mem_calloc(room + 1, sizeof *out->items);
    bool ok = *text != NULL && out->items != NULL;
    for (size_t i = 0; ok && i < given->n; i++) {
        char *p = (*text)[i] = ht_mem_strdup(given->items[i]);
        ok = p != NULL;
        while (ok && p != NULL) {
            char *comma = strchr(p, ',');
            out->items[out->n++] = p;
            if (comma != NULL) {
                *comma++ = '\0';
            }
            p = comma;
        }
    }
    return ok;
}

static int run_errors(struct cli *cli, const struct args *a) {
    ht_err err = {.pos = HT_NO_POS};
    char *json = NULL, **text = NULL;
    struct strlist formats = {0};
    ht_errors_options o;
    ht_status status = HT_NOMEM;
    ht_errors_options_defaults(&o);
    if (split(&a->formats, &formats, &text)) {
        o.path = cli->positional[0];
        o.formats = formats.items;
        o.n_formats = formats.n;
        o.ranges = a->ranges.items;
        o.n_ranges = a->ranges.n;
        o.output = a->output;
        o.rows = a->rows;
        o.force = a->force;
        status = ht_errors(cli->ctx, &o, &json, &err);
    } else {
        err.code = HT_NOMEM;
    }
    if (status == HT_OK && a->output != NULL) {
        note(cli, "wrote %s", a->output);
    }
    for (size_t i = 0; text != NULL && i < a->formats.n; i++) {
        ht_mem_free(text[i]);
    }
    ht_mem_free(text);
    ht_mem_free(formats.items);
    return finish(cli, status, &err, json, show_errors);
}

static int run(struct cli *cli, void *p) {
    const struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    if (a->errors) {
        return run_errors(cli, a);
    }
    if (a->formats.n > 0 || a->ranges.n > 0 || a->output != NULL) {
        ht_err usage = {.code = HT_INVAL, .pos = HT_NO_POS};
        snprintf(usage.msg, sizeof usage.msg, "%s goes with --errors only",
                 a->formats.n > 0 ? "--format" : a->ranges.n > 0 ? "--range" : "--output");
        return report_error(cli, &usage);
    }
    ht_status status = ht_inspect(cli->ctx, cli->positional[0], &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "show what is in a file: metadata, tensors, roles, bits per weight",
    .usage = "MODEL [--tensors] [--metadata] [--errors]",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
