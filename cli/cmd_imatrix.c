#include "cmds.h"

struct args {
    ht_imatrix_options o;
    struct strlist texts;
    bool fast;
};

#define AT(field) offsetof(struct args, o.field)

static const struct option_row options[] = {
    {"output", 'o', OPT_STR, AT(output), "FILE", "@file", "file to write; .dat gives the older layout"},
    {"text", 0, OPT_LIST, offsetof(struct args, texts), "FILE", "@file",
     "collect: calibration text; may be repeated"},
    {"tokens", 0, OPT_U64, AT(tokens), "N", NULL, "collect: at most this many tokens; 0: all [0]"},
    {"ctx", 0, OPT_U32, AT(ctx), "N", NULL, "collect: window [512]"},
    {"fast", 0, OPT_FLAG, offsetof(struct args, fast), NULL, NULL,
     "collect: 8-bit activations instead of f32"},
    {"allow-nonfinite", 0, OPT_FLAG, AT(allow_nonfinite), NULL, NULL,
     "collect: NaN and Inf weights become 0, counted"},
    {"force", 0, OPT_FLAG, AT(force), NULL, NULL, "replace an existing output"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "collect importance",
    "halftone imatrix collect model-f16.gguf --text train.txt --tokens 65536 -o imatrix.gguf",
    "add several up",
    "halftone imatrix merge a.gguf b.gguf -o both.gguf",
    "older layout",
    "halftone imatrix convert imatrix.gguf -o imatrix.dat",
    NULL,
};

static void defaults(void *p) {
    ht_imatrix_options_defaults(&((struct args *)p)->o);
}

static void show(const struct cli *cli, const json_t *d) {
    (void)cli;
    double ctx = json_num(d, "ctx", 0);
    printf("%s: %.0f entries from %.0f windows", json_str(d, "output", "?"), json_num(d, "entries", 0),
           json_num(d, "windows", 0));
    printf(ctx > 0 ? " of %.0f tokens\n" : " of unknown length\n", ctx); /* a .dat file does not tell */
}

static int collect(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    struct args *a = p;
    if (cli->n_positional != 2 || a->texts.n == 0) {
        return usage_error(cli->command, "collect needs one MODEL and --text FILE");
    }
    if (a->o.output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    a->o.model = cli->positional[1];
    a->o.texts = a->texts.items;
    a->o.n_texts = a->texts.n;
    a->o.exact = !a->fast;
    *status = ht_imatrix_collect(cli->ctx, &a->o, json, err);
    return 0;
}

static int merge(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    const struct args *a = p;
    if (a->o.output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    *status = ht_imatrix_merge(cli->ctx, cli->positional + 1, cli->n_positional - 1, a->o.output, a->o.force,
                               json, err);
    return 0;
}

static int convert(struct cli *cli, void *p, char **json, ht_err *err, ht_status *status) {
    return cli->n_positional == 2 ? merge(cli, p, json, err, status)
                                  : usage_error(cli->command, "convert takes one FILE; merge adds several up");
}

static const struct action actions[] = {
    {"collect", NULL, collect},
    {"merge", "output force", merge},
    {"convert", "output force", convert},
    {NULL, NULL, NULL},
};

static int run(struct cli *cli, void *args) {
    return action_run(cli, actions, args, show);
}

const struct command command_imatrix = {
    .name = "imatrix",
    .summary = "collect, merge and convert importance matrices",
    .usage = "collect MODEL --text FILE -o FILE | merge FILE... -o FILE | convert FILE -o FILE",
    .description =
        "An importance matrix holds, for each linear layer, the mean square of each input over a calibration "
        "text: rounding errors on weights that meet large inputs cost more. Both layouts of llama.cpp are "
        "read and written.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 2,
    .max_positional = 1000,
    .positional_choices = "collect|merge|convert @file",
    .needs_context = true,
    .run = run,
};
