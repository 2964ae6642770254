#include "cmds.h"

struct args {
    char unused;
};

static const struct option_row options[] = {{NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL}};

static const char *const examples[] = {"who serves each kernel", "halftone cpu", "the plain C reference",
                                       "HT_CPU=ref halftone cpu",
                                       "each format of each kernel", "halftone cpu -v", NULL};

/* "rows_q8 q4_0" is slot rows_q8 for one format: such rows are told as a whole, level by level. */
static void show_groups(const struct cli *cli, const json_t *kernels) {
    static const char *const headers[] = {"kernel", "served by (formats)"};
    struct text_table *t = table_new(headers, 2, "ll");
    json_t *groups = json_object(), *row, *levels, *count;
    const char *name, *level;
    size_t i;
    json_array_foreach(kernels, i, row) {
        const char *slot = json_str(row, "slot", "?");
        int len = (int)strcspn(slot, " ");
        char key[64];
        snprintf(key, sizeof key, "%.*s%s", len, slot, slot[len] != '\0' ? ", by format" : "");
        if (json_object_get(groups, key) == NULL) {
            json_object_set_new(groups, key, json_object());
        }
        levels = json_object_get(groups, key);
        level = json_str(row, "level", "?");
        json_object_set_new(levels, level, json_integer(json_integer_value(json_object_get(levels, level)) + 1));
    }
    json_object_foreach(groups, name, levels) {
        struct ht_buf text;
        ht_buf_init(&text, 4096);
        json_object_foreach(levels, level, count) {
            if (strcmp(level, "-") == 0) {
                continue; /* formats that have no such product */
            }
            ht_buf_puts(&text, text.len > 0 ? ", " : "");
            ht_buf_puts(&text, level);
            if (strchr(name, ' ') != NULL) {
                ht_buf_printf(&text, " (%lld)", (long long)json_integer_value(count));
            }
        }
        table_cell(t, "%s", name);
        table_cell(t, "%.*s", (int)text.len, text.len > 0 ? text.data : "");
        ht_buf_deinit(&text);
    }
    json_decref(groups);
    table_print(t, cli, stdout);
}

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
    if (cli->verbose > 0) {
        t = table_new(slot_headers, 2, "ll");
        json_array_foreach(json_object_get(d, "kernels"), i, row) {
            table_cell(t, "%s", json_str(row, "slot", "?"));
            table_cell(t, "%s", json_str(row, "level", "?"));
        }
        table_print(t, cli, stdout);
    } else {
        show_groups(cli, json_object_get(d, "kernels"));
    }
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
