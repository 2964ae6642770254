#include "cmds.h"

struct args {
    ht_eval_options o;
    struct strlist texts;
    const char *windows;
};

#define AT(field) offsetof(struct args, o.field)

static const struct option_row options[] = {
    {"reference", 'r', OPT_STR, AT(reference), "MODEL", "@file",
     "the original; adds KL divergence and same-top"},
    {"text", 0, OPT_LIST, offsetof(struct args, texts), "FILE", "@file", "text to score; may be repeated"},
    {"tokens", 0, OPT_U64, AT(tokens), "N", NULL, "tokens per text; 0: all [0]"},
    {"ctx", 0, OPT_U32, AT(ctx), "N", NULL, "window [512]"},
    {"windows", 0, OPT_STR, offsetof(struct args, windows), "W", "llama|all",
     "score the second half of each window as llama.cpp does, or all of it [llama]"},
    {"exact", 0, OPT_FLAG, AT(exact), NULL, NULL, "f32 activations instead of the fast 8-bit path"},
    {"kv", 0, OPT_STR, AT(kv), "F", NULL,
     "keys and values of the model's cache as codes (int8, uint4:g32, int4+hadamard), or none: floats"
     " [as its file says]"},
    {"resamples", 0, OPT_U32, AT(resamples), "N", NULL, "bootstrap resamples [2000]"},
    {"seed", 0, OPT_U64, AT(seed), "N", NULL, "seed of the bootstrap [0]"},
    {"fail-if-kld", 0, OPT_F64, AT(fail_if_kld), "X", NULL,
     "exit 9 when the mean divergence is above X nats"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "perplexity",
    "halftone eval model.gguf --text wiki.test.raw",
    "what did quantization cost?",
    "halftone eval model-Q4_K_M.gguf --reference model-f16.gguf --text wiki.test.raw --tokens 12288",
    NULL,
};

static void defaults(void *p) {
    struct args *a = p;
    ht_eval_options_defaults(&a->o);
    a->windows = "llama";
}

static void interval(struct text_table *t, const json_t *row, const char *key, double factor, int digits) {
    char mean[32], low[32], high[32];
    const json_t *e = json_at(row, key);
    if (e == NULL) {
        table_cell(t, "%s", "-");
        return;
    }
    snprintf(mean, sizeof mean, "%.*f", digits, factor * json_num(e, "mean", 0));
    if (!json_is_number(json_at(e, "low")) || !json_is_number(json_at(e, "high"))) {
        table_cell(t, "%s [-]", mean); /* too few windows for an interval */
        return;
    }
    snprintf(low, sizeof low, "%.*f", digits, factor * json_num(e, "low", 0));
    snprintf(high, sizeof high, "%.*f", digits, factor * json_num(e, "high", 0));
    table_cell(t, "%s [%s, %s]", mean, low, high);
}

static void show_row(struct text_table *t, const json_t *row, const char *name, bool reference) {
    table_cell(t, "%s", name);
    table_cell(t, "%.0f", json_num(row, "tokens_scored", 0));
    interval(t, row, "perplexity", 1, 3);
    if (reference) {
        interval(t, row, "kld", 1, 5);
        table_cell(t, json_at(row, "kld") ? "%.4f" : "-", json_num(row, "kld.p99", 0));
        table_cell(t, json_at(row, "kld") ? "%.3f" : "-", json_num(row, "kld.max", 0));
        interval(t, row, "same_top", 100, 2);
    }
}

static void show(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"text",    "scored",  "perplexity [95 %]", "KLD mean, nats [95 %]",
                                          "KLD 99 %", "KLD max", "same top, % [95 %]"};
    bool reference = json_at(d, "kld") != NULL; /* without one, columns of the comparison would stay empty */
    struct text_table *t = table_new(headers, reference ? 7 : 3, "lrrrrrr");
    const json_t *texts = json_object_get(d, "texts");
    size_t i;
    json_t *row;
    json_array_foreach(texts, i, row) {
        show_row(t, row, json_str(row, "name", json_str(row, "path", "?")), reference);
    }
    if (json_array_size(texts) != 1) {
        show_row(t, d, "all", reference);
    }
    table_print(t, cli, stdout);
    json_array_foreach(json_object_get(d, "warnings"), i, row) {
        printf("warning: %s\n", json_is_string(row) ? json_string_value(row) : "?");
    }
    printf("%.0f windows of %.0f tokens (%s), %s activations, %.0f tokens/s\n", json_num(d, "windows", 0),
           json_num(d, "ctx", 0), json_str(d, "convention", "?"),
           strcmp(json_str(d, "math", ""), "exact") == 0 ? "f32" : "8-bit", json_num(d, "tokens_per_s", 0));
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    a->o.model = cli->positional[0];
    a->o.texts = a->texts.items;
    a->o.n_texts = a->texts.n;
    a->o.windows_all = strcmp(a->windows, "all") == 0;
    if (a->texts.n == 0) {
        return usage_error(cli->command, "missing --text FILE");
    }
    ht_status status = ht_eval(cli->ctx, &a->o, NULL, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_eval = {
    .name = "eval",
    .summary = "measure perplexity, and what was lost against a reference",
    .usage = "MODEL [--reference MODEL] --text FILE [OPTIONS]",
    .description =
        "With a reference both models read the text in lock-step and their predictions are compared at "
        "every scored position: KL divergence (nats; 0 is lossless), and how often both put the same token "
        "first. Intervals are 95 % block bootstraps over windows.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
