#include "cmds.h"

struct args {
    char unused;
};

static const struct option_row options[] = {{NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL}};

static const char *const examples[] = {"presets of this build", "halftone list presets", "formats as JSON",
                                       "halftone list formats --json", NULL};

/* Columns of the table: the first object's scalar members but "summary", then the summary. */
static void show(const struct cli *cli, const json_t *rows) {
    const char *headers[16], *key;
    char alignment[17];
    size_t n = 0, i;
    json_t *v, *row;
    json_object_foreach(json_array_get(rows, 0), key, v) {
        if (n < 15 && strcmp(key, "summary") != 0 && !json_is_object(v) && !json_is_array(v)) {
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
            const json_t *cell = json_object_get(row, headers[c]);
            if (json_is_string(cell)) {
                table_cell(t, "%s", json_string_value(cell));
            } else if (json_is_number(cell)) {
                table_cell(t, "%.10g", json_number_value(cell));
            } else {
                table_cell(t, "%s", json_is_true(cell) ? "yes" : json_is_false(cell) ? "no" : "");
            }
        }
    }
    table_print(t, cli, stdout);
}

static int run(struct cli *cli, void *p) {
    ht_err err = {0};
    char *json = NULL;
    (void)p;
    ht_status status = ht_list(cli->positional[0], &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_list = {
    .name = "list",
    .summary = "what this build knows: formats, methods, presets, architectures ...",
    .usage = "formats | methods | ranges | presets | architectures | containers | pretokenizers | chats",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "formats|methods|ranges|presets|architectures|containers|pretokenizers|chats",
    .run = run,
};
