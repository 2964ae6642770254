#include "base/file.h"
#include "calib_options.h"
#include "cmds.h"

struct args {
    ht_quantize_options o;
    struct calib_args text;
    struct strlist rules;
};

#define AT(field) offsetof(struct args, o.field)

static const struct option_row options[] = {
    {"output", 'o', OPT_STR, AT(output), "FILE", "@file",
     "GGUF file to write; schemes (int4:g64) go to a folder of our own"},
    {"format", 'f', OPT_STR, AT(format), "F", "@formats @presets",
     "a format (q4_0), a scheme (int4:g64) or a preset (Q4_K_M); see 'halftone list presets' [the recipe's, else "
     "Q4_K_M]"},
    {"method", 'm', OPT_STR, AT(method), "M", "@methods",
     "a published method, as 'halftone list methods' shows them [imatrix with importance, else rtn]"},
    {"recipe", 0, OPT_STR, AT(recipe), "FILE", "@file", "recipe in YAML in place of a method; see 'halftone show'"},
    {"range", 0, OPT_STR, AT(range), "PART", "@ranges",
     "where the weights' grids sit, in place of the recipe's part: minmax, percentile:99.9, as 'halftone list ranges' "
     "has them for weights"},
    {"imatrix", 0, OPT_STR, AT(imatrix), "FILE", "@file", "importance matrix, GGUF or .dat"},
    CALIB_SOURCE_ROW(""),
    {"stats", 0, OPT_STR, AT(stats), "FILE", "@file",
     "statistics of 'halftone stats collect' in place of a calibration pass"},
    {"calib-tokens", 0, OPT_U64, AT(calib_tokens), "N", NULL,
     "calibration tokens; 0: all of the text [the recipe's, else 65536]"},
    {"ctx", 0, OPT_U32, AT(ctx), "N", NULL, "calibration window [the recipe's, else 512]"},
    CALIB_ROWS(""),
    {"tensor", 0, OPT_LIST, offsetof(struct args, rules), "ROLE=F", NULL,
     "format of one role (ffn_down=q6_k); may be repeated, later ones win"},
    {"embd", 0, OPT_STR, AT(embd), "F", "@formats", "format of the token embedding"},
    {"head", 0, OPT_STR, AT(head), "F", "@formats", "format of the output head"},
    {"pure", 0, OPT_FLAG, AT(pure), NULL, NULL, "the preset's base format for every tensor"},
    {"pre", 0, OPT_STR, AT(pre), "NAME", "@pretokenizers", "pre-tokenizer, where the input does not tell"},
    {"seed", 0, OPT_U64, AT(seed), "N", NULL, "seed, recorded in the file [0]"},
    {"shard-size", 0, OPT_BYTES, AT(shard_bytes), "SIZE", NULL, "split the output into files of this size"},
    {"allow-requantize", 0, OPT_FLAG, AT(allow_requantize), NULL, NULL,
     "accept an input that is quantized already"},
    {"allow-nonfinite", 0, OPT_FLAG, AT(allow_nonfinite), NULL, NULL,
     "NaN and Inf weights become 0, counted"},
    {"dry-run", 'n', OPT_FLAG, AT(dry_run), NULL, NULL,
     "only print the plan: formats, size, memory, time; with -v each tensor"},
    {"memory", 0, OPT_BYTES, AT(memory_bytes), "SIZE", NULL,
     "keep calibration's hidden states in a file when more memory would be taken"},
    {"restart", 0, OPT_FLAG, AT(restart), NULL, NULL, "do not go on from what an interrupted run has left"},
    {"no-record", 0, OPT_UNFLAG, AT(record), NULL, NULL,
     "do not write FILE.record.json and FILE.record.html beside the output"},
    {"force", 0, OPT_FLAG, AT(force), NULL, NULL, "replace an existing output"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "4-bit mix with importance from a text",
    "halftone quantize model/ -o model-Q4_K_M.gguf --format Q4_K_M --calib train.txt",
    "error feedback: slower, nearer to the original at the same size",
    "halftone quantize model-f16.gguf -o out.gguf --format IQ4_XS --method gptq --calib train.txt",
    "what would it be?",
    "halftone quantize model-f16.gguf --format IQ4_XS --dry-run",
    "one format for all, better down projections",
    "halftone quantize model-f16.gguf -o out.gguf --format q4_0 --tensor ffn_down=q6_k",
    NULL,
};

static void defaults(void *p) {
    struct args *a = p;
    ht_quantize_options_defaults(&a->o);
    a->o.record = true;
}

static void decibel_cell(struct text_table *t, const json_t *db) {
    if (json_is_number(db)) {
        table_cell(t, "%.1f dB", json_number_value(db));
    } else {
        table_cell(t, "%s", "");
    }
}

/* Errors of the weights where these were compared, and of the matrix's output where calibration saw its inputs. */
static void show_tensors(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"tensor", "format", "wanted", "size", "error", "of output"};
    struct text_table *t = table_new(headers, 6, "lllrrr");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(d, "tensors"), i, row) {
        char b[32];
        table_cell(t, "%s", json_str(row, "name", "?"));
        table_cell(t, "%s", json_str(row, "format", "?"));
        table_cell(t, "%s", json_str(row, "wanted", ""));
        table_cell(t, "%s", human_bytes(json_num(row, "bytes", 0), b));
        decibel_cell(t, json_at(row, "rel_error_db"));
        decibel_cell(t, json_at(row, "round.output_error_db"));
    }
    table_print(t, cli, stdout);
    putchar('\n');
}

/* The plan, one line for all tensors of one role that share a format. */
static void show_roles(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"role", "from", "format", "wanted", "tensors", "size"};
    struct text_table *t = table_new(headers, 6, "llllrr");
    const json_t *all = json_object_get(d, "tensors");
    json_t *groups = json_object(), *row, *group;
    size_t i;
    const char *key;
    json_array_foreach(all, i, row) {
        char name[160];
        snprintf(name, sizeof name, "%s %s %s %s", json_str(row, "role", "?"), json_str(row, "from", "-"),
                 json_str(row, "format", "?"), json_str(row, "wanted", ""));
        group = json_object_get(groups, name);
        if (group == NULL) {
            group = json_pack("{s:O, s:i, s:f}", "like", row, "tensors", 0, "bytes", 0.0);
            json_object_set_new(groups, name, group);
        }
        json_object_set_new(group, "tensors", json_integer((json_int_t)json_num(group, "tensors", 0) + 1));
        json_object_set_new(group, "bytes", json_real(json_num(group, "bytes", 0) + json_num(row, "bytes", 0)));
    }
    json_object_foreach(groups, key, group) {
        char b[32];
        const json_t *like = json_object_get(group, "like");
        table_cell(t, "%s", json_str(like, "role", "?"));
        table_cell(t, "%s", json_str(like, "from", "-"));
        table_cell(t, "%s", json_str(like, "format", "?"));
        table_cell(t, "%s", json_str(like, "wanted", ""));
        table_cell(t, "%.0f", json_num(group, "tensors", 0));
        table_cell(t, "%s", human_bytes(json_num(group, "bytes", 0), b));
    }
    json_decref(groups);
    table_print(t, cli, stdout);
    putchar('\n');
}

static void show(const struct cli *cli, const json_t *d) {
    char b[32], b2[32], t[32];
    size_t i;
    json_t *row;
    bool dry = json_is_true(json_at(d, "dry_run"));
    if (cli->verbose > 0) {
        show_tensors(cli, d);
    } else if (dry) {
        show_roles(cli, d);
    }
    json_array_foreach(json_object_get(d, "fallbacks"), i, row) {
        printf("fallback: %.0f tensors %s -> %s (rows that the block does not divide)\n",
               json_num(row, "count", 0), json_str(row, "from", "?"), json_str(row, "to", "?"));
    }
    double from = json_num(d, "input.bytes", 0), to = json_num(d, "bytes", 0);
    double files = json_num(d, "output.files", 1);
    char more[40] = "";
    const char *are = json_str(d, "predicted.bytes_are", "exact"); /* "at most": data decides */
    bool exact = !dry || strcmp(are, "exact") == 0;
    if (files > 1) {
        snprintf(more, sizeof more, " and %.0f more files", files - 1);
    }
    printf("%s%s%s: %s%s%s, %.3f bits per weight, %.1f %% of %s\n", dry ? "would write " : "",
           json_str(d, "output.path", "?"), more, exact ? "" : are, exact ? "" : " ", human_bytes(to, b),
           json_num(d, "bits_per_weight", 0), from > 0 ? 100 * to / from : 0.0, human_bytes(from, b2));
    if (dry) {
        printf("predicted: %s, peak memory %s\n", human_time(json_num(d, "predicted.seconds", -1), t),
               human_bytes(json_num(d, "predicted.peak_rss_bytes", 0), b));
    } else {
        printf("%s, %.1f CPU seconds, peak memory %s\n", human_time(json_num(d, "seconds", -1), t),
               json_num(d, "cpu_seconds", 0), human_bytes(json_num(d, "peak_rss_bytes", 0), b));
    }
    if (json_object_get(d, "resumed") != NULL) {
        printf("%.0f of %.0f layers were taken over from the work file of an earlier run\n",
               json_num(d, "resumed.layers", 0), json_num(d, "resumed.of", 0));
    }
    const json_t *records = json_object_get(d, "record_files");
    if (json_array_size(records) == 2) {
        printf("record: %s and %s beside it\n", json_string_value(json_array_get(records, 0)),
               json_string_value(json_array_get(records, 1)));
    }
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {0};
    char *json = NULL, planned[512];
    a->o.input = cli->positional[0];
    CALIB_TAKE(&a->o, &a->text);
    a->o.tensor_rules = a->rules.items;
    a->o.n_tensor_rules = a->rules.n;
    if (a->o.output == NULL && !a->o.dry_run) {
        return usage_error(cli->command, "missing -o FILE (or --dry-run for the plan only)");
    }
    if (a->o.output == NULL) { /* a plan needs a name to speak of */
        snprintf(planned, sizeof planned, "%s-quantized", ht_path_base(a->o.input));
        a->o.output = planned;
    }
    ht_status status = ht_quantize(cli->ctx, &a->o, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_quantize = {
    .name = "quantize",
    .summary = "make a model smaller",
    .usage = "MODEL -o FILE [--format F] [--calib TEXT | --stats FILE | --imatrix FILE] [OPTIONS]",
    .description =
        "Reads a GGUF file or a Hugging Face folder and writes a GGUF file that llama.cpp and this program "
        "run. The output gets its name only when it is complete; the input is never touched. With "
        "importance (--imatrix or --calib) rounding errors go where the model feels them least.",
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
