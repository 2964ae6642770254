#include "cmds.h"

#define AT(field) offsetof(ht_verify_options, field)

static const struct option_row options[] = {
    {"no-data", 0, OPT_UNFLAG, AT(data), NULL, NULL, "skip the scan of all values for NaN and Inf"},
    {"no-checksums", 0, OPT_UNFLAG, AT(checksums), NULL, NULL, "skip the comparison with stored checksums"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {"is the download whole?", "halftone verify model.gguf", NULL};

static void defaults(void *p) {
    ht_verify_options_defaults(p);
}

static void show(const struct cli *cli, const json_t *d) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(d, "findings"), i, row) {
        printf("%s%s%s: %s%s%s\n", term_color(cli, false, "\033[33m"), json_str(row, "kind", "finding"),
               term_color(cli, false, "\033[0m"), json_str(row, "tensor", ""),
               json_str(row, "tensor", NULL) ? ": " : "", json_str(row, "message", "?"));
    }
    char b[32];
    double sums = json_num(d, "checksums", 0);
    printf("%s: %s; %.0f tensors, %s, values %s, ", json_str(d, "path", "?"),
           json_is_true(json_at(d, "sound")) ? "sound" : "NOT sound", json_num(d, "tensors", 0),
           human_bytes(json_num(d, "file_bytes", 0), b),
           json_is_true(json_at(d, "data_scanned")) ? "scanned" : "not scanned");
    if (sums > 0) {
        printf("%.0f checksums compared\n", sums);
    } else {
        printf("no checksums compared\n");
    }
}

static int run(struct cli *cli, void *p) {
    ht_err err = {0};
    char *json = NULL;
    ht_status status = ht_verify(cli->ctx, cli->positional[0], p, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_verify = {
    .name = "verify",
    .summary = "check structure, checksums and values of a file",
    .usage = "MODEL [--no-data] [--no-checksums]",
    .description =
        "Exit codes: 0 sound, 3 malformed or NaN/Inf among the weights, 8 a checksum does not match.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(ht_verify_options),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
