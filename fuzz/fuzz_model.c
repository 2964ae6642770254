/* Hostile GGUF files through everything that looks into them: open, architecture, binding, tokenizer, load, and
 * for small models a few tokens of exact and fast math. Input that starts with '{' is a config.json instead; what
 * it says is written back in both forms. Nothing may crash; memory stays bounded. */
#include <sys/mman.h>
#include <unistd.h>

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_PARAMS (1u << 18)
#define MAX_VOCAB 4096u

static void run(const struct ht_model *m, enum ht_math math) {
    static const int32_t ids[] = {0, 0, 0};
    struct ht_run *run = NULL;
    struct ht_run_options options = {.ctx = 4, .math = math};
    float *logits = ht_mem_alloc_array(m->hp.vocab, sizeof *logits);
    if (logits != NULL && ht_run_new(NULL, m, &options, &run, NULL) == HT_OK) {
        ht_run_feed(run, ids, 2, 0, NULL, NULL);
        ht_run_feed(run, ids, 1, 1, logits, NULL);
    }
    ht_run_free(run);
    ht_mem_free(logits);
}

static void use_tokenizer(const struct ht_tokenizer *t) {
    static const char text[] = "Hello, <|im_start|> 12\xc3\xa9\n";
    struct ht_ids ids = {0};
    ht_tokenizer_encode(t, text, sizeof text - 1, true, &ids, NULL, NULL);
    for (size_t i = 0; i < ids.n; i++) {
        const char *bytes;
        size_t len;
        ht_tokenizer_piece(t, ids.ids[i], true, &bytes, &len, NULL);
    }
    ht_mem_free(ids.ids);
}

static void read_config(const char *text, size_t size) {
    struct ht_source source = {.path = (char *)"config.json"};
    const struct ht_arch *arch;
    struct ht_hparams hp;
    struct ht_meta meta;
    json_t *config = NULL;
    ht_meta_init(&meta);
    if (ht_json_parse(text, size, 0, source.path, &source.config, NULL) == HT_OK &&
        ht_arch_read(&source, &arch, &hp, NULL) == HT_OK) {
        ht_arch_meta_from_hparams(arch, &hp, &meta, NULL);
        ht_arch_config_from_hparams(arch, &hp, &config, NULL);
    }
    json_decref(config);
    json_decref(source.config);
    ht_meta_deinit(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    if (size > 0 && data[0] == '{') {
        read_config((const char *)data, size);
        return 0;
    }
    int fd = memfd_create("fuzz_model", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        close(fd);
        return 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct ht_model_options options = {.tokenizer_optional = true};
    struct ht_model *m;
    ht_err err = {0};
    if (ht_model_load_with(path, &options, &m, &err) == HT_OK) {
        if (m->tokenizer != NULL) {
            use_tokenizer(m->tokenizer);
        }
        if (m->n_params <= MAX_PARAMS && m->hp.vocab <= MAX_VOCAB) {
            run(m, HT_MATH_EXACT);
            run(m, HT_MATH_FAST);
        }
        ht_model_unload(m);
    }
    close(fd);
    return 0;
}
