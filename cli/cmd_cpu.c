#include "cmds.h"

struct args {
    char unused;
};

static const struct option_row options[] = {{NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL}};

static const char *const examples[] = {"who serves each kernel", "halftone cpu", "the plain C reference",
                                       "HT_CPU=ref halftone cpu", NULL};

static void show(const struct cli *cli, const json_t *d) {
    static const char *const level_headers[] = {"level", "found", "used", "needs"};
    static const char *const slot_headers[] = {"kernel", "served by"};
    size_t i;
    json_t *row;
    printf("%s, %.0f CPUs\n\n", json_str(d, "model", "?"), json_num(d, "cpus", 0));
    struct text_table *t = table_new(level_headers, 4, "llll");
    json_array_foreach(json_object_get(d, "levels"), i, row) {
        table_cell(t, "%s", json_str(row, "name", "?"));
        table_cell(t, "%s", json_is_true(json_object_get(row, "found")) ? "yes" : "no");
        table_cell(t, "%s", json_is_true(json_object_get(row, "used")) ? "yes" : "no");
        table_cell(t, "%s", json_str(row, "needs", ""));
    }
    table_print(t, cli, stdout);
    putchar('\n');
    t = table_new(slot_headers, 2, "ll");
    json_array_foreach(json_object_get(d, "kernels"), i, row) {
        table_cell(t, "%s", json_str(row, "slot", "?"));
        table_cell(t, "%s", json_str(row, "level", "?"));
    }
    table_print(t, cli, stdout);
}

static int run(struct cli *cli, void *p) {
    ht_err err = {0};
    char *json = NULL;
    (void)p;
    ht_status status = ht_cpu(&json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_cpu = {
    .name = "cpu",
    .summary = "CPU levels found and used, and who serves each kernel",
    .usage = "",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .run = run,
};
