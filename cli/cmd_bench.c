#include "cmds.h"

struct args {
    ht_bench_options o;
    struct u32list threads;
    bool markdown;
};

#define AT(field) offsetof(struct args, o.field)

static const struct option_row options[] = {
    {"prompt", 'p', OPT_U32, AT(prompt), "N", NULL, "tokens of the prompt; 0: none [512]"},
    {"gen", 'n', OPT_U32, AT(gen), "N", NULL, "tokens generated; 0: none [128]"},
    {"depth", 0, OPT_U32, AT(depth), "N", NULL, "tokens in the cache when generation starts [0]"},
    {"repeat", 'r', OPT_U32, AT(repeat), "N", NULL, "rounds; figures are medians [5]"},
    {"threads", 't', OPT_U32S, offsetof(struct args, threads), "LIST", NULL,
     "thread counts, such as 1,2,4 [1 and all CPUs]"},
    {"exact", 0, OPT_FLAG, AT(exact), NULL, NULL, "f32 activations instead of the fast 8-bit path"},
    {"markdown", 0, OPT_FLAG, offsetof(struct args, markdown), NULL, NULL, "tables in Markdown"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "how fast is this model here, and how near to what the memory gives?",
    "halftone bench model-Q4_K_M.gguf",
    "several models, one and two threads, as a table for a page",
    "halftone bench model-Q4_K_M.gguf model-f16.gguf --threads 1,2 --markdown",
    NULL,
};

static void defaults(void *p) {
    struct args *a = p;
    ht_bench_options_defaults(&a->o);
}

static void print_table(const struct cli *cli, struct text_table *t) {
    const struct args *a = cli->args;
    if (a->markdown) {
        table_print_markdown(t, stdout);
    } else {
        table_print(t, cli, stdout);
    }
    putchar('\n');
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

/* "median (low-high)", scaled. */
static void spread(struct text_table *t, const json_t *run, const char *key, double factor, int digits) {
    const json_t *s = json_at(run, key);
    if (s == NULL) {
        table_cell(t, "%s", "-");
        return;
    }
    table_cell(t, "%.*f (%.*f-%.*f)", digits, factor * json_num(s, "median", 0), digits,
               factor * json_num(s, "low", 0), digits, factor * json_num(s, "high", 0));
}

static void show_speed(const struct cli *cli, const json_t *models) {
    static const char *const headers[] = {"model",       "threads",        "TTFT, ms",       "prompt, tokens/s",
                                          "GFLOP/s",     "of GEMM, %",     "gen, tokens/s",  "GB/s",
                                          "of memory, %", "CPU, %"};
    struct text_table *t = table_new(headers, 10, "lrrrrrrrrr");
    size_t i, k;
    const json_t *model, *run;
    bool cached = false;
    json_array_foreach(models, i, model) {
        json_array_foreach(json_at(model, "runs"), k, run) {
            table_cell(t, "%s", base_name(json_str(model, "path", "?")));
            table_cell(t, "%.0f", json_num(run, "threads", 0));
            spread(t, run, "ttft_s", 1e3, 1);
            spread(t, run, "prefill_tokens_per_s", 1, 1);
            spread(t, run, "prefill_flops", 1e-9, 0);
            spread(t, run, "prefill_gemm_share", 100, 0);
            spread(t, run, "decode_tokens_per_s", 1, 1);
            spread(t, run, "decode_bytes_per_s", 1e-9, 1);
            spread(t, run, "decode_read_share", 100, 0);
            cached |= json_num(run, "decode_read_share.median", 0) > 1.05;
            spread(t, run, "cpu_share", 100, 0);
        }
    }
    print_table(cli, t);
    if (cached) {
        note(cli, "of memory above 100 %%: part of the weights stays in the CPU's cache between tokens");
    }
}

static void show_memory(const struct cli *cli, const json_t *models) {
    static const char *const headers[] = {"model", "file",          "bits/weight", "read/token", "load, ms",
                                          "peak",  "beside the file", "% of file"};
    struct text_table *t = table_new(headers, 8, "lrrrrrrr");
    size_t i;
    const json_t *m;
    char b[32];
    json_array_foreach(models, i, m) {
        table_cell(t, "%s", base_name(json_str(m, "path", "?")));
        table_cell(t, "%s", human_bytes(json_num(m, "file_bytes", 0), b));
        table_cell(t, "%.3f", json_num(m, "bits_per_weight", 0));
        table_cell(t, "%s", human_bytes(json_num(m, "per_token.weight_bytes", 0), b));
        table_cell(t, "%.0f", 1e3 * json_num(m, "load_s", 0));
        table_cell(t, "%s", human_bytes(json_num(m, "memory.peak_bytes", 0), b));
        table_cell(t, "%s", human_bytes(json_num(m, "memory.own_bytes", 0), b));
        table_cell(t, "%.1f", 100 * json_num(m, "memory.growth_over_file", 0));
    }
    print_table(cli, t);
}

static void show_machine(const struct cli *cli, const json_t *d) {
    static const char *const headers[] = {"ceilings", "threads", "read, GB/s", "f32 GEMM, GFLOP/s",
                                          "int8 GEMM, GOP/s"};
    struct text_table *t = table_new(headers, 5, "lrrrr");
    size_t i, k;
    const json_t *model, *run;
    json_array_foreach(json_at(d, "models"), i, model) {
        json_array_foreach(json_at(model, "runs"), k, run) {
            table_cell(t, "beside %s", base_name(json_str(model, "path", "?")));
            table_cell(t, "%.0f", json_num(run, "threads", 0));
            spread(t, run, "read_bytes_per_s", 1e-9, 1);
            spread(t, run, "gemm_f32_flops", 1e-9, 0);
            spread(t, run, "gemm_int8_flops", 1e-9, 0);
        }
    }
    print_table(cli, t);
    printf("%s, %.0f CPUs, kernels %s, %s activations; load %.1f before, %.1f after\n",
           json_str(d, "machine.cpu", "?"), json_num(d, "machine.cpus", 0), json_str(d, "machine.kernels", "?"),
           strcmp(json_str(d, "math", ""), "exact") == 0 ? "f32" : "8-bit", json_num(d, "machine.load_before", -1),
           json_num(d, "machine.load_after", -1));
    printf("prompt %.0f, generated %.0f behind %.0f tokens; median (lowest-highest) of %.0f rounds\n",
           json_num(d, "prompt", 0), json_num(d, "gen", 0), json_num(d, "depth", 0), json_num(d, "repeat", 0));
}

static void show(const struct cli *cli, const json_t *d) {
    show_speed(cli, json_at(d, "models"));
    show_memory(cli, json_at(d, "models"));
    show_machine(cli, d);
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {0};
    char *json = NULL;
    int counts[U32LIST_MAX];
    a->o.models = cli->positional;
    a->o.n_models = cli->n_positional;
    a->o.threads = counts;
    a->o.n_threads = a->threads.n;
    for (size_t i = 0; i < a->threads.n; i++) {
        counts[i] = a->threads.items[i] > 1000000 ? 1000000 : (int)a->threads.items[i];
    }
    ht_status status = ht_bench(cli->ctx, &a->o, &json, &err);
    return finish(cli, status, &err, json, show);
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure speed and memory beside what this machine can do",
    .usage = "MODEL... [OPTIONS]",
    .description =
        "Every round measures, for each thread count, the bytes per second that memory gives, a generation, our own "
        "matrix products on operands in the cache, and a prompt. 'of memory': weights read per second over what "
        "memory gave in the same round. 'of GEMM': the time our matrix products would take at their best over the "
        "time taken. 'CPU': how much of the time the threads had a CPU; below 95 % other programs were in the way. "
        "TTFT is the time from a prompt to the first token, with the model loaded and warm.",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .defaults = defaults,
    .min_positional = 1,
    .max_positional = 64,
    .positional_choices = "@file",
    .needs_context = true,
    .run = run,
};
