/* halftone: make large language models smaller and say what was lost.
 *
 * The only header that callers need. Everything is reached through opaque handles.
 *
 * Ownership: a handle from *_open or *_new is yours until *_close or *_free; every pointer reached through
 * a handle is a view that lives as long as the handle. Functions keep no pointer that you pass.
 * Errors: functions return ht_status and fill *err (which may be NULL); the first error wins. The library
 * never exits, aborts, prints or changes global state.
 * Threads: an ht_context owns one thread pool and may be used by one thread at a time; an ht_model is
 * read-only and may be shared by contexts' sessions; an ht_session belongs to one thread at a time.
 * Options structs start with their size: fill them with the matching *_defaults function, then change fields.
 */
#ifndef HALFTONE_H
#define HALFTONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HT_VERSION_MAJOR 0
#define HT_VERSION_MINOR 1
#define HT_VERSION_PATCH 0

#if defined(__GNUC__)
#define HT_API __attribute__((visibility("default")))
#else
#define HT_API
#endif

/* ---- status and errors ------------------------------------------------------------------------------- */

/* X(name, code, exit code of the program, text) */
#define HT_STATUS_LIST(X)                                                \
    X(OK, 0, 0, "ok")                                                    \
    X(NOMEM, -1, 6, "out of memory")                                     \
    X(IO, -2, 1, "input/output error")                                   \
    X(FORMAT, -3, 3, "malformed input")                                  \
    X(UNSUPPORTED, -4, 3, "not supported")                               \
    X(INVAL, -5, 2, "invalid argument")                                  \
    X(NUMERIC, -6, 3, "numeric failure")                                 \
    X(CANCELLED, -7, 130, "cancelled")                                   \
    X(DEVICE, -8, 1, "device failure")                                   \
    X(NOTFOUND, -9, 4, "not found")                                      \
    X(EXISTS, -10, 2, "already exists")                                  \
    X(NOSPACE, -11, 7, "no space left")                                  \
    X(CHECKSUM, -12, 8, "checksum mismatch")                             \
    X(LIMIT, -13, 3, "limit exceeded")                                   \
    X(GATE, -14, 9, "quality gate failed")                               \
    X(BUSY, -15, 10, "in use by another process")                        \
    X(INTERNAL, -16, 1, "internal error")

typedef enum ht_status {
#define HT_STATUS_ENUM(name, code, exit_code, text) HT_##name = code,
    HT_STATUS_LIST(HT_STATUS_ENUM)
#undef HT_STATUS_ENUM
} ht_status;

#define HT_NO_POS UINT64_MAX

typedef struct ht_err {
    ht_status code;
    uint64_t pos;   /* byte offset in `what`, or HT_NO_POS */
    char what[128]; /* file, tensor or option the error is about; may be empty */
    char msg[512];  /* what was expected, what was found, the way out */
} ht_err;

HT_API const char *ht_status_text(ht_status status);
HT_API int ht_status_exit_code(ht_status status);
HT_API const char *ht_version(void); /* "0.1.0" */

/* ---- context ----------------------------------------------------------------------------------------- */

typedef struct ht_context ht_context;

typedef enum ht_log_level { HT_LOG_ERROR, HT_LOG_WARN, HT_LOG_INFO, HT_LOG_DEBUG } ht_log_level;
typedef void ht_log_fn(void *user, ht_log_level level, const char *msg);

typedef struct ht_progress {
    const char *stage;      /* "quantize", "evaluate", ... */
    const char *item;       /* tensor or file in work, may be NULL */
    uint64_t done, total;   /* in `unit` */
    const char *unit;       /* "tensors", "bytes", "tokens" */
    uint64_t bytes;         /* bytes read or written so far */
    double elapsed_s, eta_s; /* eta_s < 0: unknown */
} ht_progress;
typedef int ht_progress_fn(void *user, const ht_progress *progress); /* nonzero cancels: HT_CANCELLED */

typedef struct ht_context_options {
    size_t size;
    int threads; /* 0: all CPUs this process may use */
    ht_log_fn *log;
    ht_progress_fn *progress;
    void *user; /* handed to both callbacks */
} ht_context_options;

HT_API void ht_context_options_defaults(ht_context_options *options);
/* options may be NULL. */
HT_API ht_status ht_context_new(const ht_context_options *options, ht_context **ctx, ht_err *err);
HT_API void ht_context_free(ht_context *ctx);

/* ---- documents --------------------------------------------------------------------------------------- */

/* Commands give their full result as one JSON text (object with "schema": "halftone.NAME/1"), the same that
 * the program prints with --json. Each `json` argument may be NULL; free with ht_string_free. */
HT_API void ht_string_free(char *s);

/* Tables of this build: "formats", "methods", "parts", "ranges", "presets", "architectures", "containers",
 * "pretokenizers", "chats". The JSON is an array of objects with at least "name" and "summary". Unknown: HT_INVAL. */
HT_API ht_status ht_list(const char *registry, char **json, ht_err *err);
/* A method by name, or a recipe's YAML file: choices per place, steps with formulas, sources, the recipe as YAML. */
HT_API ht_status ht_show(const char *method, char **json, ht_err *err);

typedef struct ht_curve_options {
    size_t size;
    const char *const *formats; /* names or schemes; none: all that weights are stored in */
    size_t n_formats;
    const char *range;   /* range part of schemes' scales; NULL: "mse" */
    const char *source;  /* "gaussian", "laplace", "student-t"; NULL: all */
    const char *output;  /* SVG file; NULL: none */
    uint64_t seed;
    uint32_t rows;       /* of 4,096 values per source, default 32 */
    bool force;
} ht_curve_options;

HT_API void ht_curve_options_defaults(ht_curve_options *options);
/* The error of number formats on rows of known distributions, beside the least error that theory allows. */
HT_API ht_status ht_curve(ht_context *ctx, const ht_curve_options *options, char **json, ht_err *err);

typedef struct ht_errors_options {
    size_t size;
    const char *path;           /* model, as ht_inspect */
    const char *const *formats; /* names or schemes; none: a choice of usual ones */
    size_t n_formats;
    const char *const *ranges;  /* range parts to compare in schemes; none: minmax, percentile:99.9, entropy, mse */
    size_t n_ranges;
    const char *output;         /* .svg: the figure; .html: a page with tables; NULL: none */
    uint32_t rows;              /* at most so many of each tensor, evenly spread; 0: all; default 1,024 */
    bool force;
} ht_errors_options;

HT_API void ht_errors_options_defaults(ht_errors_options *options);
/* What each number format would do to a model's weight matrices: error, clipping, distance to theory. */
HT_API ht_status ht_errors(ht_context *ctx, const ht_errors_options *options, char **json, ht_err *err);

/* CPU model, kernel levels found and used, and who serves each kernel slot. */
HT_API ht_status ht_cpu(char **json, ht_err *err);

/* Metadata, tensors, roles, bits per weight, sizes of a GGUF file (or its first split), a safetensors file or
 * a Hugging Face folder. */
HT_API ht_status ht_inspect(ht_context *ctx, const char *path, char **json, ht_err *err);

typedef struct ht_verify_options {
    size_t size;
    bool data;      /* also scan every tensor's values for NaN/Inf (default true) */
    bool checksums; /* compare stored checksums where the file has them (default true) */
} ht_verify_options;

HT_API void ht_verify_options_defaults(ht_verify_options *options);
/* HT_OK when sound; HT_CHECKSUM, HT_NUMERIC (NaN/Inf) or HT_FORMAT with *json listing every finding. */
HT_API ht_status ht_verify(ht_context *ctx, const char *path, const ht_verify_options *options, char **json,
                           ht_err *err);

/* ---- convert and quantize ---------------------------------------------------------------------------- */

typedef struct ht_convert_options {
    size_t size;
    const char *input;  /* GGUF file, safetensors file or Hugging Face folder */
    const char *output; /* file (gguf) or folder (hf) */
    const char *to;     /* "gguf", "hf"; NULL: by the output's name (.gguf, else hf) */
    const char *dtype;  /* "f32", "f16", "bf16"; NULL: the input's float type, f16 for quantized input */
    const char *pre;    /* pre-tokenizer name where the input does not tell; NULL: detect */
    uint64_t shard_bytes; /* largest size of one output file; 0: one file */
    bool force;         /* replace an existing output */
    bool dry_run;
} ht_convert_options;

HT_API void ht_convert_options_defaults(ht_convert_options *options);
HT_API ht_status ht_convert(ht_context *ctx, const ht_convert_options *options, char **json, ht_err *err);

typedef struct ht_quantize_options {
    size_t size;
    const char *input;
    const char *output;
    const char *format;  /* a format ("q4_0") or a preset ("Q4_K_M"), matched without case; NULL: the recipe's, else
                          * Q4_K_M */
    const char *method;  /* "rtn", "imatrix", "gptq" (needs calib); NULL: imatrix when there is importance, else rtn */
    const char *imatrix; /* importance file (.gguf or .dat); NULL: none */
    const char *const *calib; /* texts to collect the importance from first */
    size_t n_calib;
    uint64_t calib_tokens; /* 0: all of the texts; UINT64_MAX (default): the recipe's, else 65,536 */
    uint32_t ctx;          /* calibration window; 0 (default): the recipe's, 512 unless it says otherwise */
    const char *const *tensor_rules; /* "ROLE=FORMAT", later ones win */
    size_t n_tensor_rules;
    const char *embd, *head; /* override the embedding's and the head's format; NULL: the preset's */
    const char *pre;
    uint64_t seed;
    uint64_t shard_bytes;
    bool pure;             /* a preset's base type for every tensor */
    bool allow_requantize; /* accept input tensors that are quantized already */
    bool allow_nonfinite;  /* NaN and Inf weights become 0, counted; default: refuse */
    bool force;
    bool dry_run;          /* plan only: types, sizes, predicted time and memory */
    const char *recipe;    /* YAML file in place of method; NULL: none */
    uint64_t memory_bytes; /* hidden states of calibration go to a file when all would take more; 0: no limit */
    bool restart;          /* do not go on from what an interrupted run has left */
    bool record;           /* also write the result as OUTPUT.record.json and, as a page, OUTPUT.record.html */
    const char *stats;     /* file of ht_stats_collect in place of calib; NULL: none */
    /* Calibration data, docs/calibration.md. calib: texts, .jsonl, .npy and .safetensors of ids, "self". */
    const uint32_t *calib_weights; /* share of each of calib; n_calib_weights 0 (default): equal */
    size_t n_calib_weights;
    const char *sampling;       /* "sequential" (default), "random", "diverse" */
    bool no_filters;            /* keep windows that are no text, repetitive, or seen before */
    const char *const *not_in;  /* texts, as for evaluation, that calibration may not share windows with: HT_INVAL */
    size_t n_not_in;
    bool drop_overlap;          /* leave such windows out instead */
    const char *range; /* range part of the weights in place of the recipe's ("percentile:99.9"); NULL: as it is */
} ht_quantize_options;

HT_API void ht_quantize_options_defaults(ht_quantize_options *options);
HT_API ht_status ht_quantize(ht_context *ctx, const ht_quantize_options *options, char **json, ht_err *err);

/* ---- importance matrix ------------------------------------------------------------------------------- */

typedef struct ht_imatrix_options {
    size_t size;
    const char *model;
    const char *output;       /* .dat: llama.cpp's old layout; else GGUF */
    const char *const *texts; /* files */
    size_t n_texts;
    uint64_t tokens; /* 0: all of the text */
    uint32_t ctx;    /* default 512 */
    bool exact;      /* f32 activations (default true) */
    bool force;
    bool allow_nonfinite; /* as in ht_quantize_options */
} ht_imatrix_options;

HT_API void ht_imatrix_options_defaults(ht_imatrix_options *options);
HT_API ht_status ht_imatrix_collect(ht_context *ctx, const ht_imatrix_options *options, char **json,
                                    ht_err *err);
/* Sums several files of the same model into one; with one input this converts between .gguf and .dat. */
HT_API ht_status ht_imatrix_merge(ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                                  bool force, char **json, ht_err *err);

/* ---- calibration statistics ---------------------------------------------------------------------------- */

typedef struct ht_stats_options {
    size_t size;
    const char *model;
    const char *output;          /* safetensors file (docs/calibration.md) */
    const char *const *calib;    /* texts */
    size_t n_calib;
    uint64_t tokens;             /* 0: all of the texts; UINT64_MAX (default): 65,536 */
    uint32_t ctx;                /* window, default 512 */
    const char *const *methods;  /* methods and recipe files whose needs are collected; none: all but the second moments
                                  * of pairs, which take by far the most room */
    size_t n_methods;
    bool gram;                   /* those too */
    uint64_t memory_bytes;       /* as in ht_quantize_options */
    bool force;
    uint64_t seed;
    const uint32_t *calib_weights; /* share of each of calib; n_calib_weights 0 (default): equal */
    size_t n_calib_weights;
    const char *sampling;       /* "sequential" (default), "random", "diverse" */
    bool no_filters;            /* keep windows that are no text, repetitive, or seen before */
    const char *const *not_in;  /* texts, as for evaluation, that calibration may not share windows with: HT_INVAL */
    size_t n_not_in;
    bool drop_overlap;          /* leave such windows out instead */
    bool allow_nonfinite;       /* as in ht_quantize_options */
} ht_stats_options;

HT_API void ht_stats_options_defaults(ht_stats_options *options);
/* What methods want to know of the inputs of every linear, in one pass, for ht_quantize_options.stats. */
HT_API ht_status ht_stats_collect(ht_context *ctx, const ht_stats_options *options, char **json, ht_err *err);
/* Files of one model as one: as good as one pass over all their texts. */
HT_API ht_status ht_stats_merge(ht_context *ctx, const char *const *inputs, size_t n, const char *output, bool force,
                                char **json, ht_err *err);
HT_API ht_status ht_stats_show(ht_context *ctx, const char *path, char **json, ht_err *err);

/* ---- evaluation -------------------------------------------------------------------------------------- */

typedef struct ht_eval_options {
    size_t size;
    const char *model;
    const char *reference; /* NULL: perplexity only */
    const char *const *texts;
    size_t n_texts;
    uint64_t tokens;     /* per text; 0: all */
    uint32_t ctx;        /* window, default 512 */
    bool windows_all;    /* score every position but the first; default: llama.cpp's second half */
    bool exact;          /* f32 activations; default: the fast path, as a user runs the model */
    uint32_t resamples;  /* block bootstrap, default 2,000 */
    uint64_t seed;
    double fail_if_kld;  /* > 0: HT_GATE when the mean divergence is above */
    const char *kv;      /* cache of the model: "int8", "uint4:g32+hadamard", "none"; NULL: as its file says */
} ht_eval_options;

typedef struct ht_estimate {
    double mean, low, high; /* 95 % interval of the block bootstrap over windows */
} ht_estimate;

typedef struct ht_eval_result {
    uint64_t tokens_scored, windows;
    ht_estimate perplexity;
    bool has_reference;
    ht_estimate reference_perplexity, kld, same_top; /* kld in nats, same_top as a share of 1 */
    double kld_p99, kld_max, kld_median;
    double tokens_per_s;
} ht_eval_result;

HT_API void ht_eval_options_defaults(ht_eval_options *options);
/* result (may be NULL) covers all texts together; the JSON also has one entry per text. */
HT_API ht_status ht_eval(ht_context *ctx, const ht_eval_options *options, ht_eval_result *result, char **json,
                         ht_err *err);

/* Writes one self-contained HTML page (inline SVG, no network) from records of quantize, eval and run. */
HT_API ht_status ht_report(ht_context *ctx, const char *title, const char *const *records, size_t n,
                           const char *output, bool force, char **json, ht_err *err);

/* ---- running a model --------------------------------------------------------------------------------- */

typedef struct ht_model ht_model;
typedef struct ht_session ht_session;

HT_API ht_status ht_model_open(ht_context *ctx, const char *path, ht_model **model, ht_err *err);
HT_API void ht_model_close(ht_model *model);
HT_API uint32_t ht_model_vocab(const ht_model *model);
HT_API uint32_t ht_model_context_length(const ht_model *model); /* trained length */

enum {
    HT_TOKENIZE_SPECIAL = 1, /* special tokens written in the text become their ids */
    HT_TOKENIZE_ADD = 2      /* add BOS/EOS as the model asks */
};

/* *ids is freed with ht_ids_free. text need not be NUL terminated. */
HT_API ht_status ht_tokenize(const ht_model *model, const char *text, size_t len, unsigned flags, int32_t **ids,
                             size_t *n, ht_err *err);
HT_API void ht_ids_free(int32_t *ids);
/* Bytes of the tokens, NUL added behind; may split a UTF-8 character at either end. */
HT_API ht_status ht_detokenize(const ht_model *model, const int32_t *ids, size_t n, bool special, char **text,
                               size_t *len, ht_err *err);

typedef struct ht_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} ht_message;

/* Renders a chat in the model's format (or `chat` by name when not NULL) up to where the assistant speaks. */
HT_API ht_status ht_chat_render(const ht_model *model, const char *chat, const ht_message *messages, size_t n,
                                char **text, ht_err *err);

/* The same as token ids, and safe for messages from outside: what they contain never becomes a special token.
 * HT_UNSUPPORTED when the model has no known chat format. *ids is freed with ht_ids_free. */
HT_API ht_status ht_chat_tokenize(const ht_model *model, const char *chat, const ht_message *messages, size_t n,
                                  int32_t **ids, size_t *n_ids, ht_err *err);

typedef struct ht_session_options {
    size_t size;
    uint32_t ctx; /* positions of the KV cache; 0: the model's, at most 4,096 */
    bool exact;   /* f32 activations; default 8-bit (f32 where the weights are floats) */
    bool bf16;    /* inputs of matrix products rounded to bf16, as stock runtimes do for BF16 weights; not with exact */
    const char *kv; /* cache of codes: "int8", "int4", "uint4:g32+hadamard"; "none": floats; NULL: as the file says */
} ht_session_options;

HT_API void ht_session_options_defaults(ht_session_options *options);
/* ctx and model must outlive the session. */
HT_API ht_status ht_session_new(ht_context *ctx, const ht_model *model, const ht_session_options *options,
                                ht_session **session, ht_err *err);
HT_API void ht_session_free(ht_session *session);
HT_API uint32_t ht_session_pos(const ht_session *session);
HT_API void ht_session_rewind(ht_session *session, uint32_t pos); /* forget positions from pos on */
/* Appends n tokens. logits: [n, V] when all, else [V] of the last one; NULL: not wanted.
 * HT_LIMIT when the cache is full, HT_CANCELLED when the context's progress callback says so (stage "prompt"): nothing
 * is appended then. */
HT_API ht_status ht_session_feed(ht_session *session, const int32_t *ids, size_t n, bool all, float *logits,
                                 ht_err *err);

typedef struct ht_generate_options {
    size_t size;
    uint32_t max_tokens;  /* default 128 */
    float temperature;    /* 0: greedy; default 0.8 */
    uint32_t top_k;       /* 0: off; default 40 */
    float top_p, min_p;   /* 1 and 0: off; default 0.95 and 0.05 */
    uint64_t seed;        /* default 0 */
    bool ignore_eos;
} ht_generate_options;

typedef struct ht_generate_result {
    uint32_t prompt_tokens, tokens;
    double prompt_s, decode_s, first_token_s;
    bool stopped; /* at an end token rather than at max_tokens */
} ht_generate_result;

/* Called with whole UTF-8 characters as they become known; nonzero stops (not an error). */
typedef int ht_text_fn(void *user, const char *text, size_t len);

HT_API void ht_generate_options_defaults(ht_generate_options *options);
HT_API ht_status ht_generate(ht_session *session, const int32_t *prompt, size_t n,
                             const ht_generate_options *options, ht_text_fn *text, void *user,
                             ht_generate_result *result, ht_err *err);

/* ---- speed ------------------------------------------------------------------------------------------- */

typedef struct ht_bench_options {
    size_t size;
    const char *const *models;
    size_t n_models;
    uint32_t prompt;    /* tokens of the prompt, default 512; 0: no prefill is measured */
    uint32_t gen;       /* tokens generated, default 128; 0: no generation is measured */
    uint32_t depth;     /* tokens in the cache when generation starts, default 0 */
    uint32_t repeat;    /* rounds, default 5; figures are medians over rounds */
    const int *threads; /* thread counts; NULL: 1 and all CPUs this process may use */
    size_t n_threads;
    bool exact;         /* f32 activations; default 8-bit */
} ht_bench_options;

HT_API void ht_bench_options_defaults(ht_bench_options *options);
/* Measures models on this machine, in rounds that also measure what the machine can do (bytes read per second,
 * operations per second of our own matrix products), so that shares hold on a machine whose speed varies. Makes
 * thread pools of its own; ctx gives progress and cancelling. docs/benchmarks.md explains every figure. */
HT_API ht_status ht_bench(ht_context *ctx, const ht_bench_options *options, char **json, ht_err *err);

#ifdef __cplusplus
}
#endif
#endif
