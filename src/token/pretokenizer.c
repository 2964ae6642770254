#include "token/pretokenizer.h"

#include <string.h>

#include "base/nearest.h"

/* The regexes as tokenizer.json spells them; splitter.c gives \s, \p{L} and \p{N} their meaning there. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* The step Digits(individual_digits): numbers of Rust's standard library, which is at Unicode 17. */
#define DIGIT "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]"
#define DIGIT_REGEX "\\p{N}" /* the same as a Split step would write it */
#define WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *const gpt2_passes[] = {GPT2, NULL};
static const char *const smollm_passes[] = {DIGIT, GPT2, NULL};
static const char *const llama3_passes[] = {WORDS "\\p{N}{1,3}" REST, NULL};
static const char *const qwen2_passes[] = {WORDS "\\p{N}" REST, NULL};

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}

/* Names and their regexes: stock llama.cpp's table of tokenizer.ggml.pre. Names that share a split but not
 * ignore_merges or the normalizer are rows of their own. The first row of a split is what detection gives. */
static const struct ht_pretokenizer rows[] = {
    {"gpt-2", "GPT-2: words with a leading space, runs of digits", gpt2_passes,
     NAMES("phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum",
           "modern-bert", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling"),
     0, false, false},
    {"llama-bpe", "Llama 3: digits in groups of three", llama3_passes,
     NAMES("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"), 0,
     true, true},
    {"smaug-bpe", "Llama 3's split, merges always applied", llama3_passes, NAMES("dbrx", "chatglm-bpe"), 0,
     false, false},
    {"glm4", "Llama 3's split without BOS", llama3_passes, NAMES("glm5"), 0, true, false},
    {"qwen2", "Qwen 2: digits one by one, NFC", qwen2_passes, NAMES("stablelm2", "megrez", "hunyuan"), 1,
     false, false},
    {"deepseek-r1-qwen", "Qwen 2's split without NFC", qwen2_passes, NAMES("kormo", "f2llmv2", "solar-open"),
     0, false, false},
    {"smollm", "SmolLM, StarCoder: digits one by one, then GPT-2", smollm_passes,
     NAMES("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"), 0, false,
     false},
};

size_t ht_pretokenizer_count(void) {
    return sizeof rows / sizeof *rows;
}

const struct ht_pretokenizer *ht_pretokenizer_at(size_t i) {
    return i < ht_pretokenizer_count() ? &rows[i] : NULL;
}

const struct ht_pretokenizer *ht_pretokenizer_find(const char *name) {
    for (size_t i = 0; i < ht_pretokenizer_count(); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
        for (const char *const *alias = rows[i].aliases; *alias != NULL; alias++) {
            if (strcmp(*alias, name) == 0) {
                return &rows[i];
            }
        }
    }
    return NULL;
}

static const char *name_at(const void *table, size_t i) {
    return ((const struct ht_pretokenizer *)table)[i].name;
}

void ht_pretokenizer_names(struct ht_buf *out) {
    for (size_t i = 0; i < ht_pretokenizer_count(); i++) {
        ht_buf_printf(out, "%s%s", i ? ", " : "", rows[i].name);
    }
}

ht_status ht_pretokenizer_require(const char *name, const char *what, ht_status code,
                                  const struct ht_pretokenizer **row, ht_err *err) {
    *row = ht_pretokenizer_find(name);
    if (*row != NULL) {
        return HT_OK;
    }
    struct ht_buf names;
    char near[96];
    ht_buf_init(&names, 256);
    ht_pretokenizer_names(&names);
    ht_nearest(name, name_at, rows, ht_pretokenizer_count(), near, sizeof near);
    ht_status status =
        ht_fail(err, code, what, HT_NO_POS,
                "unknown pre-tokenizer '%.64s'%s%s; known: %s and their aliases; --pre NAME overrides", name,
                near[0] ? ", did you mean " : "", near, names.data ? names.data : "");
    ht_buf_deinit(&names);
    return status;
}

/* ---- matching tokenizer.json -------------------------------------------------------------------------- */

enum { MAX_PASSES = 8 };

struct split {
    const char *passes[MAX_PASSES];
    size_t n;
    bool byte_level; /* the step that ends every byte-level split */
    bool known;      /* false: a step that no row has */
};

static const char *str(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL ? s : "";
}

static void add_pass(struct split *split, const char *regex) {
    if (split->byte_level || split->n == MAX_PASSES) {
        split->known = false;
        return;
    }
    split->passes[split->n++] = regex;
}

/* Isolated keeps matches and gaps as pieces. Removed with invert keeps the matches alone, which is the same
 * for a regex that leaves no gaps; every regex of the table that a Split step names is such a one. */
static void add_split_step(struct split *split, const json_t *step) {
    const char *behavior = str(step, "behavior");
    bool invert = json_is_true(json_object_get(step, "invert"));
    const char *regex = str(json_object_get(step, "pattern"), "Regex");
    bool keeps_all = strcmp(behavior, "Isolated") == 0 && !invert;
    bool keeps_matches = strcmp(behavior, "Removed") == 0 && invert && strcmp(regex, DIGIT_REGEX) != 0;
    if (regex[0] == '\0' || !(keeps_all || keeps_matches)) {
        split->known = false;
        return;
    }
    add_pass(split, strcmp(regex, DIGIT_REGEX) == 0 ? DIGIT : regex);
}

static void add_step(struct split *split, const json_t *step, unsigned depth) {
    const char *type = str(step, "type");
    if (strcmp(type, "Sequence") == 0 && depth < 8) {
        const json_t *steps = json_object_get(step, "pretokenizers");
        split->known = split->known && json_is_array(steps);
        for (size_t i = 0; i < json_array_size(steps); i++) {
            add_step(split, json_array_get(steps, i), depth + 1);
        }
    } else if (strcmp(type, "Split") == 0) {
        add_split_step(split, step);
    } else if (strcmp(type, "Digits") == 0 && json_is_true(json_object_get(step, "individual_digits"))) {
        add_pass(split, DIGIT);
    } else if (strcmp(type, "ByteLevel") == 0 && !json_is_true(json_object_get(step, "add_prefix_space"))) {
        if (!json_is_false(json_object_get(step, "use_regex"))) {
            add_pass(split, GPT2);
        }
        split->byte_level = true;
    } else {
        split->known = false;
    }
}

/* 0 none, 1 NFC, -1 anything else. */
static int normalizer_kind(const json_t *normalizer) {
    if (normalizer == NULL || json_is_null(normalizer)) {
        return 0;
    }
    const char *type = str(normalizer, "type");
    if (strcmp(type, "NFC") == 0) {
        return 1;
    }
    const json_t *steps = json_object_get(normalizer, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(steps) || json_array_size(steps) > 1) {
        return -1;
    }
    const json_t *only = json_array_get(steps, 0);
    return only == NULL ? 0 : strcmp(str(only, "type"), "NFC") == 0 ? 1 : -1;
}

static bool same_passes(const struct split *split, const struct ht_pretokenizer *row) {
    size_t i = 0;
    while (i < split->n && row->passes[i] != NULL && strcmp(split->passes[i], row->passes[i]) == 0) {
        i++;
    }
    return i == split->n && row->passes[i] == NULL;
}

static const struct ht_pretokenizer *match(const json_t *pre_tokenizer, const json_t *normalizer,
                                           const bool *ignore_merges) {
    struct split split = {.known = true};
    add_step(&split, pre_tokenizer, 0);
    int nfc = normalizer_kind(normalizer);
    for (size_t i = 0; split.known && split.byte_level && i < ht_pretokenizer_count(); i++) {
        if (same_passes(&split, &rows[i]) && rows[i].nfc == nfc &&
            (ignore_merges == NULL || rows[i].ignore_merges == *ignore_merges)) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct ht_pretokenizer *ht_pretokenizer_match(const json_t *pre_tokenizer, const json_t *normalizer) {
    return match(pre_tokenizer, normalizer, NULL);
}

const struct ht_pretokenizer *ht_pretokenizer_match_model(const json_t *pre_tokenizer,
                                                          const json_t *normalizer, bool ignore_merges) {
    return match(pre_tokenizer, normalizer, &ignore_merges);
}
