#include "cmds.h"

struct args {
    bool tensors, metadata;
};

static const struct option_row options[] = {
    {"tensors", 0, OPT_FLAG, offsetof(struct args, tensors), NULL, NULL, "list every tensor"},
    {"metadata", 0, OPT_FLAG, offsetof(struct args, metadata), NULL, NULL, "list every metadata key"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "overview", "halftone inspect model.gguf", "every tensor", "halftone inspect model.gguf --tensors", NULL,
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
        table_cell(t, "%s", json_str(row, "format", "?"));
        table_cell(t, "%s", shape);
        table_cell(t, "%s", human_bytes(json_num(row, "bytes", 0), b));
    }
    table_print(t, cli, stdout);
    putchar('\n');
}

static void show_groups(const struct cli *cli, const json_t *rows,
                        const char *what) { /* rows have a member `what` */
    const char *const headers[] = {what, "tensors", "weights", "size", "bits/weight"};
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

static void show(const struct cli *cli, const json_t *d) {
    const struct args *args = cli->args;
    char b[32];
    printf("%s: %s, %s, %s, %.0f weights in %zu tensors, %.3f bits per weight\n\n", json_str(d, "path", "?"),
           json_str(d, "container", "?"), json_str(d, "architecture", "unknown architecture"),
           human_bytes(json_num(d, "file_bytes", 0), b), json_num(d, "weights", 0),
           json_array_size(json_at(d, "tensors")), json_num(d, "bits_per_weight", 0));
    show_object("Hyper-parameters", json_object_get(d, "hparams"));
    show_object("Tokenizer", json_object_get(d, "tokenizer"));
    if (args->metadata) {
        show_object("Metadata", json_object_get(d, "metadata"));
    }
    show_groups(cli, json_object_get(d, "formats"), "format");
    show_groups(cli, json_object_get(d, "roles"), "role");
    if (args->tensors) {
        show_tensors(cli, d);
    }
}

static int run(struct cli *cli, void *p) {
    ht_err err = {0};
    char *json = NULL;
    (void)p;
    ht_status status = ht_inspect(cli->ctx, cli->positional[0], &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "show what is in a file: metadata, tensors, roles, bits per weight",
    .usage = "MODEL [--tensors] [--metadata]",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
