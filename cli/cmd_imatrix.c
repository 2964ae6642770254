#include "base/nearest.h"
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

static int collect(struct cli *cli, struct args *a, char **json, ht_err *err, ht_status *status) {
    if (cli->n_positional != 2 || a->texts.n == 0) {
        return usage_error(cli->command, "collect needs one MODEL and --text FILE");
    }
    a->o.model = cli->positional[1];
    a->o.texts = a->texts.items;
    a->o.n_texts = a->texts.n;
    a->o.exact = !a->fast;
    *status = ht_imatrix_collect(cli->ctx, &a->o, json, err);
    return 0;
}

static int merge(struct cli *cli, struct args *a, char **json, ht_err *err, ht_status *status) {
    *status = ht_imatrix_merge(cli->ctx, cli->positional + 1, cli->n_positional - 1, a->o.output, a->o.force,
                               json, err);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct cli *, struct args *, char **, ht_err *, ht_status *);
} actions[] = {{"collect", collect}, {"merge", merge}, {"convert", merge}};
enum { N_ACTIONS = sizeof actions / sizeof actions[0] };

static const char *action_name(const void *unused, size_t i) {
    (void)unused;
    return actions[i].name;
}

static int unknown_action(const struct command *command, const char *name) {
    char near[64];
    ht_nearest(name, action_name, NULL, N_ACTIONS, near, sizeof near);
    return usage_error(command, "expected collect, merge or convert, found '%s'%s%s%s", name,
                       near[0] != '\0' ? "; did you mean: " : "", near, near[0] != '\0' ? "?" : "");
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    ht_status status = HT_OK;
    size_t i = 0;
    while (i < N_ACTIONS && strcmp(cli->positional[0], actions[i].name) != 0) {
        i++;
    }
    if (i == N_ACTIONS) {
        return unknown_action(cli->command, cli->positional[0]);
    }
    if (a->o.output == NULL) {
        return usage_error(cli->command, "missing -o FILE");
    }
    int rc = actions[i].run(cli, a, &json, &err, &status);
    return rc != 0 ? rc : finish(cli, status, &err, json, show);
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
