#include "cmds.h"

struct args {
    bool why, yaml;
};

static const struct option_row options[] = {
    {"why", 0, OPT_FLAG, offsetof(struct args, why), NULL, NULL,
     "also where each part comes from, what its options do, and where ours differs"},
    {"yaml", 0, OPT_FLAG, offsetof(struct args, yaml), NULL, NULL, "the recipe as YAML, to start one's own from"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {"the choices and steps of a method", "halftone show gptq --why",
                                       "a recipe of one's own", "halftone show gptq --yaml > mine.yaml", NULL};

static void show_place(const json_t *d, const char *place) {
    const json_t *o = json_object_get(d, place), *c;
    static const char *const axes[] = {"range", "round", "outlier"};
    size_t i;
    json_t *row;
    if (!json_is_object(o)) {
        printf("%-12s float\n", place);
        return;
    }
    printf("%-12s transform ", place);
    json_array_foreach(json_object_get(o, "transform"), i, row) {
        printf("%s%s", i > 0 ? " + " : "", json_str(row, "text", "?"));
    }
    printf("%s; format %s", json_array_size(json_object_get(o, "transform")) == 0 ? "none" : "",
           json_str(o, "format", "?"));
    for (i = 0; i < sizeof axes / sizeof axes[0]; i++) {
        c = json_object_get(o, axes[i]);
        printf("; %s %s", axes[i], json_str(c, "text", "?"));
    }
    putchar('\n');
}

static void show_options(const json_t *choice) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(choice, "options"), i, row) {
        printf("      %s %s = %g: %s (default %g)\n", json_str(choice, "part", "?"), json_str(row, "name", "?"),
               json_num(row, "value", 0), json_str(row, "help", ""), json_num(row, "default", 0));
    }
}

static void show_both(const struct cli *cli, const json_t *d, bool why) {
    size_t i, k = 0;
    json_t *row;
    (void)cli;
    printf("%s: %s\n", json_str(d, "name", "?"), json_str(d, "summary", ""));
    printf("source: %s\n\n", json_str(d, "source", ""));
    show_place(d, "weights");
    show_place(d, "activations");
    show_place(d, "kv");
    printf("\nOne linear, W [outputs, inputs]:\n");
    json_array_foreach(json_object_get(d, "steps"), i, row) {
        printf("  %zu %-15s %s\n      %s\n", ++k, json_str(row, "step", "?"), json_str(row, "what", ""),
               json_str(row, "formula", ""));
        if (why) {
            printf("      source: %s\n", json_str(row, "source", ""));
        }
    }
    printf("\nneeds: %s; leaves to the run time: %s\n", json_str(d, "needs", "?"), json_str(d, "leaves", "?"));
    const json_t *c = json_object_get(d, "calibration");
    printf("calibration: %.0f tokens in windows of %.0f, %s, drift %g\n", json_num(c, "tokens", 0),
           json_num(c, "window", 0),
           json_is_true(json_object_get(c, "sequential")) ? "each block on the quantized ones before it"
                                                          : "on the unquantized model",
           json_num(c, "drift", 0));
    if (json_num(d, "rules", 0) > 0) {
        printf("rules: %.0f, see --yaml\n", json_num(d, "rules", 0));
    }
    if (why) {
        const json_t *w = json_object_get(d, "weights");
        printf("\nOptions:\n");
        json_array_foreach(json_object_get(w, "transform"), i, row) {
            show_options(row);
        }
        show_options(json_object_get(w, "range"));
        show_options(json_object_get(w, "round"));
        show_options(json_object_get(w, "outlier"));
        if (json_object_get(d, "differs") != NULL) { /* of a method, not of a recipe in a file */
            printf("Where ours differs: %s\n", json_str(d, "differs", "nowhere that we know of"));
        }
    }
}

static void show(const struct cli *cli, const json_t *d) {
    show_both(cli, d, false);
}

static void show_why(const struct cli *cli, const json_t *d) {
    show_both(cli, d, true);
}

static void show_yaml(const struct cli *cli, const json_t *d) {
    (void)cli;
    fputs(json_str(d, "yaml", ""), stdout);
}

static int run(struct cli *cli, void *p) {
    const struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    ht_status status = ht_show(cli->positional[0], &json, &err);
    return finish(cli, status, &err, json, a->yaml ? show_yaml : a->why ? show_why : show);
}

const struct command command_show = {
    .name = "show",
    .summary = "what a method or recipe does: its choices, steps, formulas and sources",
    .usage = "METHOD | RECIPE.yaml",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
