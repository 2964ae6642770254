#include "calib_options.h"
#include "cmds.h"

struct args {
    ht_stats_options o;
    struct calib_args text;
    struct strlist methods;
};

#define AT(field) offsetof(struct args, o.field)

static const struct option_row options[] = {
    {"output", 'o', OPT_STR, AT(output), "FILE", "@file", "collect, merge: safetensors file to write"},
    CALIB_SOURCE_ROW("collect: "),
    {"calib-tokens", 0, OPT_U64, AT(tokens), "N", NULL, "collect: calibration tokens; 0: all of the text [65536]"},
    {"ctx", 0, OPT_U32, AT(ctx), "N", NULL, "collect: calibration window [512]"},
    CALIB_ROWS("collect: "),
    {"method", 'm', OPT_LIST, offsetof(struct args, methods), "M", "@methods",
     "collect: what this method, or this recipe file, needs; may be repeated [all but gram]"},
    {"gram", 0, OPT_FLAG, AT(gram), NULL, NULL,
     "collect: second moments of all pairs of inputs too, which gptq and awq need: cols^2 / 2 numbers each"},
    {"memory", 0, OPT_BYTES, AT(memory_bytes), "SIZE", NULL,
     "collect: keep hidden states in a file when more memory would be taken"},
    {"seed", 0, OPT_U64, AT(seed), "N", NULL, "collect: of sampling and of what the model writes [0]"},
    {"allow-nonfinite", 0, OPT_FLAG, AT(allow_nonfinite), NULL, NULL,
     "collect: NaN and Inf weights become 0, counted"},
    {"force", 0, OPT_FLAG, AT(force), NULL, NULL, "replace an existing output"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "one pass for several methods",
    "halftone stats collect model-f16.gguf --calib train.txt -m gptq -m awq -o stats.safetensors",
    "use it",
    "halftone quantize model-f16.gguf -o out.gguf --format Q4_K_M --method gptq --stats stats.safetensors",
    "two texts, collected apart",
    "halftone stats merge a.safetensors b.safetensors -o both.safetensors",
    NULL,
};

static void defaults(void *p) {
    ht_stats_options_defaults(&((struct args *)p)->o);
}

static void show_groups(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"inputs of", "number", "mean square", "largest", "always 0"};
    struct text_table *t = table_new(headers, 5, "lrrrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(d, "inputs_of"), i, row) {
        const json_t *linears = json_object_get(row, "linears");
        char name[128];
        snprintf(name, sizeof name, "%s%s", json_string_value(json_array_get(linears, 0)),
                 json_array_size(linears) > 1 ? " ..." : "");
        table_cell(t, "%s", name);
        table_cell(t, "%.0f", json_num(row, "cols", 0));
        table_cell(t, json_is_number(json_at(row, "mean_square")) ? "%.4g" : "-", json_num(row, "mean_square", 0));
        table_cell(t, json_is_number(json_at(row, "absmax")) ? "%.4g" : "-", json_num(row, "absmax", 0));
        table_cell(t, json_is_number(json_at(row, "dead_inputs")) ? "%.0f" : "-", json_num(row, "dead_inputs", 0));
    }
    table_print(t, cli, stdout);
    putchar('\n');
}

static void show(const struct cli *cli, const json_t *d) {
    char b[32];
    size_t runs = json_array_size(json_object_get(d, "runs"));
    if (json_is_array(json_object_get(d, "inputs_of"))) {
        show_groups(cli, d);
    }
    printf("%s: %s of %.0f tokens, %s\n", json_str(d, "output", json_str(d, "path", "?")),
           json_str(d, "statistics", "?"), json_num(d, "tokens", 0), human_bytes(json_num(d, "bytes", 0), b));
    printf("of %s (%s), inputs of %.0f groups of linears, %zu run%s\n", json_str(d, "model.name", "?"),
           json_str(d, "model.architecture", "?"), json_num(d, "groups", 0), runs,
           runs == 1 ? "" : "s");
}

static int collect(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    struct args *a = p;
    if (cli->n_positional != 2 || a->text.calib.n == 0) {
        return usage_error(cli->command, "collect needs one MODEL and --calib TEXT");
    }
    if (a->o.output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    a->o.model = cli->positional[1];
    CALIB_TAKE(&a->o, &a->text);
    a->o.methods = a->methods.items;
    a->o.n_methods = a->methods.n;
    *status = ht_stats_collect(cli->ctx, &a->o, json, err);
    return 0;
}

static int merge(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    const struct args *a = p;
    if (a->o.output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    *status = ht_stats_merge(cli->ctx, cli->positional + 1, cli->n_positional - 1, a->o.output, a->o.force, json, err);
    return 0;
}

static int show_file(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    (void)p;
    if (cli->n_positional != 2) {
        return usage_error(cli->command, "show takes one FILE");
    }
    *status = ht_stats_show(cli->ctx, cli->positional[1], json, err);
    return 0;
}

static const struct action actions[] = {
    {"collect", NULL, collect},
    {"merge", "output force", merge},
    {"show", "", show_file},
    {NULL, NULL, NULL},
};

static int run(struct cli *cli, void *args) {
    return action_run(cli, actions, args, show);
}

const struct command command_stats = {
    .name = "stats",
    .summary = "calibration statistics, collected once for many methods",
    .usage = "collect MODEL --calib TEXT -o FILE | merge FILE... -o FILE | show FILE",
    .description =
        "Holds what methods want to know of the inputs of every linear layer, as seen by the unquantized model: "
        "'quantize --stats FILE' then needs no calibration pass. Files of one model add up. docs/calibration.md tells "
        "what is in the file.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 2,
    .max_positional = 1000,
    .positional_choices = "collect|merge|show @file",
    .needs_context = true,
    .run = run,
};
