#include "cmds.h"

#define AT(field) offsetof(ht_convert_options, field)

static const struct option_row options[] = {
    {"output", 'o', OPT_STR, AT(output), "OUT", "@file", "GGUF file, or folder for --to hf"},
    {"to", 0, OPT_STR, AT(to), "KIND", "gguf|hf", "kind of output [by its name: .gguf, else hf]"},
    {"dtype", 0, OPT_STR, AT(dtype), "T", "f32|f16|bf16",
     "type of the weights [the input's; f16 when quantized]"},
    {"pre", 0, OPT_STR, AT(pre), "NAME", "@pretokenizers", "pre-tokenizer, where the input does not tell"},
    {"shard-size", 0, OPT_BYTES, AT(shard_bytes), "SIZE", NULL, "split the output into files of this size"},
    {"dry-run", 'n', OPT_FLAG, AT(dry_run), NULL, NULL, "only print what would be written"},
    {"force", 0, OPT_FLAG, AT(force), NULL, NULL, "replace an existing output"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "Hugging Face folder to GGUF",
    "halftone convert model/ -o model-f16.gguf --dtype f16",
    "and back, for transformers",
    "halftone convert model-Q4_K_M.gguf -o model-hf/ --dtype bf16",
    NULL,
};

static void defaults(void *p) {
    ht_convert_options_defaults(p);
}

static void show(const struct cli *cli, const json_t *d) {
    char b[32], t[32];
    size_t i;
    json_t *row;
    (void)cli;
    json_array_foreach(json_object_get(d, "warnings"), i, row) {
        printf("warning: %s\n", json_is_string(row) ? json_string_value(row) : "?");
    }
    printf("%s%s: %s, %zu tensors, %s, %s\n", json_is_true(json_at(d, "dry_run")) ? "would write " : "",
           json_str(d, "output.path", json_str(d, "output", "?")), json_str(d, "dtype", "?"),
           json_is_array(json_at(d, "tensors")) ? json_array_size(json_at(d, "tensors"))
                                                : (size_t)json_num(d, "tensors", 0),
           human_bytes(json_num(d, "output.bytes", 0), b), human_time(json_num(d, "seconds", -1), t));
}

static int run(struct cli *cli, void *p) {
    ht_convert_options *o = p;
    ht_err err = {0};
    char *json = NULL;
    o->input = cli->positional[0];
    if (o->output == NULL) {
        return usage_error(cli->command, "missing -o OUT");
    }
    ht_status status = ht_convert(cli->ctx, o, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_convert = {
    .name = "convert",
    .summary = "Hugging Face folder to GGUF, GGUF to folder, or change the float type",
    .usage = "IN -o OUT [--to gguf|hf] [--dtype T] [OPTIONS]",
    .description =
        "Streams tensor by tensor. Names, metadata, tokenizer and chat template come along as llama.cpp and "
        "transformers expect them; quantized input is decoded.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(ht_convert_options),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
