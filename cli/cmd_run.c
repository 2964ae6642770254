#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "cmds.h"

struct args {
    ht_generate_options g;
    ht_session_options s;
    const char *prompt, *system, *template_name;
    bool chat, special;
};

#define GEN(field) offsetof(struct args, g.field)

static const struct option_row options[] = {
    {"prompt", 'p', OPT_STR, offsetof(struct args, prompt), "TEXT", NULL,
     "text to continue; '-' reads stdin"},
    {"chat", 0, OPT_FLAG, offsetof(struct args, chat), NULL, NULL,
     "talk in the model's chat format: one turn with --prompt, else line by line from stdin"},
    {"system", 0, OPT_STR, offsetof(struct args, system), "TEXT", NULL, "chat: system message [the model's]"},
    {"chat-format", 0, OPT_STR, offsetof(struct args, template_name), "NAME", "@chats",
     "chat format [the model's]"},
    {"special", 0, OPT_FLAG, offsetof(struct args, special), NULL, NULL,
     "special tokens written in the prompt count"},
    {"max-tokens", 'n', OPT_U32, GEN(max_tokens), "N", NULL, "tokens to generate [128]"},
    {"temp", 0, OPT_F32, GEN(temperature), "X", NULL,
     "temperature; 0 always takes the likeliest token [0.8]"},
    {"top-k", 0, OPT_U32, GEN(top_k), "N", NULL, "keep the N likeliest; 0: all [40]"},
    {"top-p", 0, OPT_F32, GEN(top_p), "X", NULL, "keep the likeliest that sum to X [0.95]"},
    {"min-p", 0, OPT_F32, GEN(min_p), "X", NULL, "drop what is below X times the likeliest [0.05]"},
    {"seed", 0, OPT_U64, GEN(seed), "N", NULL, "seed [0]"},
    {"ignore-eos", 0, OPT_FLAG, GEN(ignore_eos), NULL, NULL, "go on behind end tokens"},
    {"ctx", 0, OPT_U32, offsetof(struct args, s.ctx), "N", NULL,
     "positions kept [the model's, at most 4096]"},
    {"exact", 0, OPT_FLAG, offsetof(struct args, s.exact), NULL, NULL,
     "f32 activations instead of 8-bit ones"},
    {"bf16", 0, OPT_FLAG, offsetof(struct args, s.bf16), NULL, NULL,
     "activations rounded to bf16, as stock runtimes do for BF16 weights"},
    {"kv", 0, OPT_STR, offsetof(struct args, s.kv), "F", NULL,
     "keys and values of the cache as codes (int8, uint4:g32, int4+hadamard), or none [as the file says]"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "continue a text",
    "halftone run model.gguf -p 'Once upon a time' -n 64",
    "one answer",
    "halftone run model.gguf --chat -p 'Why is the sky blue?'",
    "a conversation",
    "halftone run model.gguf --chat",
    NULL,
};

static void defaults(void *p) {
    struct args *a = p;
    ht_generate_options_defaults(&a->g);
    ht_session_options_defaults(&a->s);
}

struct sink {
    struct ht_buf text;
    bool stream;
    const char *echo; /* [echo_len] the prompt, printed in front of the first text; NULL: none, or done */
    size_t echo_len;
};

/* Not before generation has begun: options may still be refused and the prompt may not fit. */
static void print_echo(struct sink *sink) {
    if (sink->stream && sink->echo != NULL) {
        fwrite(sink->echo, 1, sink->echo_len, stdout);
    }
    sink->echo = NULL;
}

static int on_text(void *user, const char *text, size_t len) {
    struct sink *sink = user;
    ht_buf_append(&sink->text, text, len);
    print_echo(sink);
    if (sink->stream) {
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
    return signal_received() != 0 || !ht_buf_ok(&sink->text);
}

static double rate(double n, double seconds) {
    return seconds > 0 ? n / seconds : 0.0;
}

static int print_run_json(const struct cli *cli, const struct args *a, const ht_generate_result *r,
                           const struct sink *sink) {
    const char *model = cli->positional[0];
    json_t *text = ht_json_str(sink->text.data != NULL ? sink->text.data : "", sink->text.len);
    json_t *d =
        json_pack("{ss so si si sf sf sf sb so sb so}", "schema", "halftone.run/1", "model",
                  ht_json_str(model, strlen(model)), "prompt_tokens", (int)r->prompt_tokens, "tokens", (int)r->tokens,
                  "prefill_tokens_per_s", rate(r->prompt_tokens, r->prompt_s), "decode_tokens_per_s",
                  rate(r->tokens > 1 ? r->tokens - 1 : 0, r->decode_s), "first_token_s", r->first_token_s,
                  "stopped", r->stopped, "seed", ht_json_u64(a->g.seed), "exact", a->s.exact, "text", text);
    char *json = d != NULL ? json_dumps(d, JSON_INDENT(2) | JSON_REAL_PRECISION(8)) : NULL;
    json_decref(d);
    if (json == NULL) {
        ht_err err = {.code = HT_NOMEM, .pos = HT_NO_POS};
        return report_error(cli, &err);
    }
    print_json(json);
    return 0;
}

static void print_stats(const struct cli *cli, const ht_generate_result *r) {
    note(cli, "%sprompt %u tokens, %.1f tokens/s; generated %u tokens, %.1f tokens/s%s",
         term_color(cli, true, "\033[2m"), r->prompt_tokens, rate(r->prompt_tokens, r->prompt_s), r->tokens,
         rate(r->tokens > 1 ? r->tokens - 1 : 0, r->decode_s), term_color(cli, true, "\033[0m"));
}

/* Feeds ids from where they differ from what the session has seen, then generates. */
static ht_status generate(ht_session *session, struct ht_buf *seen, const int32_t *ids, size_t n,
                          const ht_generate_options *g, struct sink *sink, ht_generate_result *r,
                          ht_err *err) {
    size_t have = seen->len / sizeof *ids, same = 0;
    const char *old = seen->data;
    while (same < have && same + 1 < n && memcmp(old + same * sizeof *ids, &ids[same], sizeof *ids) == 0) {
        same++;
    }
    if (same > ht_session_pos(session)) {
        same = ht_session_pos(session);
    }
    ht_session_rewind(session, (uint32_t)same);
    ht_buf_clear(seen);
    ht_buf_append(seen, ids, n * sizeof *ids);
    return ht_generate(session, ids + same, n - same, g, on_text, sink, r, err);
}

/* Reads all of stdin (cap: HT_MAX_STRING_BYTES). */
static bool read_stdin(struct ht_buf *out) {
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        ht_buf_append(out, chunk, n);
    }
    return ht_buf_ok(out) && !ferror(stdin);
}

struct talk { /* a conversation; strings are owned */
    ht_message *messages;
    size_t n;
};

static bool talk_add(struct talk *t, const char *role, const char *content, size_t len) {
    ht_message *m = ht_mem_realloc_array(t->messages, t->n + 1, sizeof *m);
    if (m == NULL) {
        return false;
    }
    t->messages = m;
    m[t->n] = (ht_message){role, ht_mem_strndup(content, len)};
    return m[t->n].content != NULL && ++t->n != 0;
}

static void talk_free(struct talk *t) {
    for (size_t i = 0; i < t->n; i++) {
        ht_mem_free((char *)(uintptr_t)t->messages[i].content);
    }
    ht_mem_free(t->messages);
}

/* One turn: the user's content in, the answer streamed and kept. */
static ht_status turn(const struct args *a, const ht_model *model, ht_session *session, struct ht_buf *seen,
                      struct talk *talk, const char *content, size_t len, struct sink *sink,
                      ht_generate_result *r, ht_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (!talk_add(talk, "user", content, len)) {
        err->code = HT_NOMEM;
        return HT_NOMEM;
    }
    ht_status status = ht_chat_tokenize(model, a->template_name, talk->messages, talk->n, &ids, &n, err);
    if (status == HT_OK) {
        ht_buf_clear(&sink->text);
        status = generate(session, seen, ids, n, &a->g, sink, r, err);
    }
    ht_ids_free(ids);
    if (status == HT_OK &&
        !talk_add(talk, "assistant", sink->text.data != NULL ? sink->text.data : "", sink->text.len)) {
        err->code = HT_NOMEM;
        status = HT_NOMEM;
    }
    return status;
}

static ht_status converse(const struct cli *cli, const struct args *a, const ht_model *model,
                          ht_session *session, struct ht_buf *seen, struct talk *talk, struct sink *sink,
                          ht_generate_result *r, ht_err *err) {
    char *line = NULL;
    size_t cap = 0;
    ht_status status = HT_OK;
    bool tty = isatty(STDIN_FILENO);
    note(cli, "one line is one message; an empty line or end of input stops");
    for (;;) {
        if (tty) {
            fprintf(stderr, "%s>%s ", term_color(cli, true, "\033[1;36m"), term_color(cli, true, "\033[0m"));
        }
        ssize_t n = getline(&line, &cap, stdin);
        if (n > 0 && line[n - 1] == '\n') {
            n--;
        }
        if (n <= 0 || signal_received() != 0) {
            break;
        }
        status = turn(a, model, session, seen, talk, line, (size_t)n, sink, r, err);
        putchar('\n');
        if (status != HT_OK) {
            break;
        }
        print_stats(cli, r);
    }
    ht_mem_free(line);
    return status;
}

static ht_status complete(const struct args *a, const ht_model *model, ht_session *session,
                          struct ht_buf *seen, const char *text, size_t len, struct sink *sink,
                          ht_generate_result *r, ht_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    ht_status status = ht_tokenize(model, text, len,
                                   HT_TOKENIZE_ADD | (a->special ? HT_TOKENIZE_SPECIAL : 0u), &ids, &n, err);
    if (status == HT_OK && n == 0) {
        err->code = status = HT_INVAL;
        snprintf(err->msg, sizeof err->msg, "the prompt is empty and the model has no start token");
    }
    if (status == HT_OK) {
        sink->echo = text;
        sink->echo_len = len;
        status = generate(session, seen, ids, n, &a->g, sink, r, err);
        if (status == HT_OK) {
            print_echo(sink);
        }
    }
    ht_ids_free(ids);
    return status;
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    ht_err err = {.pos = HT_NO_POS};
    ht_model *model = NULL;
    ht_session *session = NULL;
    ht_generate_result r = {0};
    int record = 0; /* exit code of printing it */
    struct talk talk = {0};
    struct sink sink = {.stream = !cli->json};
    struct ht_buf seen, input;
    ht_buf_init(&seen, 0);
    ht_buf_init(&sink.text, HT_MAX_STRING_BYTES);
    ht_buf_init(&input, HT_MAX_STRING_BYTES);
    if (a->prompt == NULL && (!a->chat || cli->json)) {
        return usage_error(cli->command, "missing --prompt TEXT%s",
                           cli->json ? "" : " (or --chat to talk line by line)");
    }
    ht_status status = ht_model_open(cli->ctx, cli->positional[0], &model, &err);
    if (status == HT_OK) {
        status = ht_session_new(cli->ctx, model, &a->s, &session, &err);
    }
    if (status == HT_OK && a->prompt != NULL && strcmp(a->prompt, "-") == 0) {
        if (!read_stdin(&input)) {
            err.code = status = HT_IO;
            snprintf(err.msg, sizeof err.msg, "cannot read the prompt from standard input");
        }
    } else if (a->prompt != NULL) {
        ht_buf_puts(&input, a->prompt);
    }
    if (status == HT_OK && a->system != NULL && !talk_add(&talk, "system", a->system, strlen(a->system))) {
        err.code = status = HT_NOMEM;
    }
    const char *text = input.data != NULL ? input.data : "";
    if (status == HT_OK && a->chat && a->prompt == NULL) {
        status = converse(cli, a, model, session, &seen, &talk, &sink, &r, &err);
    } else if (status == HT_OK) {
        status = a->chat ? turn(a, model, session, &seen, &talk, text, input.len, &sink, &r, &err)
                         : complete(a, model, session, &seen, text, input.len, &sink, &r, &err);
        if (status == HT_OK && cli->json) {
            record = print_run_json(cli, a, &r, &sink);
        } else if (status == HT_OK) {
            putchar('\n');
            print_stats(cli, &r);
        }
    }
    int code = status != HT_OK          ? report_error(cli, &err)
               : signal_received() != 0 ? 128 + signal_received()
                                        : record;
    talk_free(&talk);
    ht_buf_deinit(&seen);
    ht_buf_deinit(&input);
    ht_buf_deinit(&sink.text);
    ht_session_free(session);
    ht_model_close(model);
    return code;
}

const struct command command_run = {
    .name = "run",
    .summary = "generate text, or chat",
    .usage = "MODEL -p TEXT | MODEL --chat [-p TEXT]",
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
