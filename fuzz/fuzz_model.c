/* Hostile GGUF files through everything that looks into them: open, architecture, binding, tokenizer, load, and
 * for small models a few tokens of exact and fast math. Nothing may crash; memory stays bounded. */
#include <sys/mman.h>
#include <unistd.h>

#include <stdio.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
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
