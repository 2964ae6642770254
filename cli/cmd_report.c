#include "cmds.h"

struct args {
    const char *output, *title;
    bool force;
};

static const struct option_row options[] = {
    {"output", 'o', OPT_STR, offsetof(struct args, output), "FILE", "@file", "HTML page to write"},
    {"title", 0, OPT_STR, offsetof(struct args, title), "TEXT", NULL, "title of the page"},
    {"force", 0, OPT_FLAG, offsetof(struct args, force), NULL, NULL, "replace an existing page"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "one page from the records of quantize and eval",
    "halftone report q4.quantize.json q4.eval.json q8.quantize.json q8.eval.json -o report.html",
    NULL,
};

static void defaults(void *p) {
    ((struct args *)p)->title = "halftone report";
}

static void show(const struct cli *cli, const json_t *d) {
    const json_t *columns = json_at(d, "table.columns"), *rows = json_at(d, "table.rows");
    size_t n = json_array_size(columns), i, j;
    json_t *row, *cell;
    const char *headers[16];
    char alignment[17] = "lrrrrrrrrrrrrrrr";
    if (n > 0 && n <= 16) {
        for (i = 0; i < n; i++) {
            headers[i] = json_string_value(json_array_get(columns, i));
            headers[i] = headers[i] != NULL ? headers[i] : "";
        }
        struct text_table *t = table_new(headers, n, alignment);
        json_array_foreach(rows, i, row) {
            json_array_foreach(row, j, cell) {
                table_cell(t, "%s", json_is_string(cell) ? json_string_value(cell) : "");
            }
        }
        table_print(t, cli, stdout);
    }
    note(cli, "wrote %s", json_str(d, "output", "?"));
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    if (a->output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    ht_status status =
        ht_report(cli->ctx, a->title, cli->positional, cli->n_positional, a->output, a->force, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_report = {
    .name = "report",
    .summary = "one HTML page and a table from the records of quantize, eval and run",
    .usage = "RECORD.json... -o FILE.html [--title TEXT]",
    .description =
        "Records are what quantize, eval, imatrix and run print with --json. The page needs no network.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1000,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
