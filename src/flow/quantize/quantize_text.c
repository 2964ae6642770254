/* How much calibration text a run will see, before it runs. Texts are read as the run will read them, filters and all;
 * of long ones a piece tells how many tokens a byte is worth, and what the model itself would write is not written. */
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "calib/data.h"
#include "flow/quantize/quantize.h"

#define READ_BYTES (32ull << 20) /* of texts that are read whole */
#define PIECE_BYTES (1ull << 20)

static bool ends_in(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcasecmp(s + n - m, suffix) == 0;
}

static ht_status bytes_of(const char *path, uint64_t *bytes, ht_err *err) {
    struct ht_mapping map;
    HT_TRY(ht_map_file(path, &map, err));
    *bytes = map.size;
    ht_unmap_file(&map);
    return HT_OK;
}

/* Tokens of a long text, by its first piece; arrays of ids have mostly 4 bytes each. */
static ht_status guess_one(const struct ht_model *model, const char *path, uint64_t *tokens, ht_err *err) {
    struct ht_mapping map;
    struct ht_ids ids = {0};
    HT_TRY(ht_map_file(path, &map, err));
    uint64_t len = map.size < PIECE_BYTES ? map.size : PIECE_BYTES;
    ht_status status = HT_OK;
    *tokens = map.size / 4;
    if (!ends_in(path, ".npy") && !ends_in(path, ".safetensors") && len > 0) {
        status = ht_tokenizer_encode(model->tokenizer, (const char *)map.data, (size_t)len, false, &ids, NULL, err);
        *tokens = (uint64_t)((double)ids.n * (double)map.size / (double)len);
    }
    ht_mem_free(ids.ids);
    ht_unmap_file(&map);
    return status;
}

static ht_status guess(struct ht_context *ctx, struct ht_quant_job *j, const struct ht_model *model, uint64_t bytes,
                       ht_err *err) {
    const ht_quantize_options *o = j->o;
    uint64_t all = j->tokens;
    for (size_t i = 0; i < o->n_calib && j->tokens == 0; i++) {
        uint64_t tokens;
        HT_TRY(guess_one(model, o->calib[i], &tokens, err));
        all += tokens;
    }
    j->calib_tokens = all / j->window * j->window;
    if (j->tokens == 0) {
        j->tokens_guessed = true;
        ht_quant_warn(ctx, j,
                      "%.1f MiB of calibration text were not read to the end: memory and seconds are for about %llu "
                      "tokens",
                      (double)bytes / (1u << 20), (unsigned long long)j->calib_tokens);
    }
    return HT_OK;
}

ht_status ht_quant_plan_text(struct ht_context *ctx, struct ht_quant_job *j, const struct ht_model *model,
                             struct ht_calib_windows *windows, ht_err *err) {
    const ht_quantize_options *o = j->o;
    uint64_t all = 0;
    bool self = false;
    *windows = (struct ht_calib_windows){NULL, 0, j->window};
    for (size_t i = 0; i < o->n_calib; i++) {
        uint64_t bytes = 0;
        bool written = strcmp(o->calib[i], HT_CALIB_SELF) == 0;
        HT_TRY(written ? HT_OK : bytes_of(o->calib[i], &bytes, err));
        self |= written;
        all += bytes;
    }
    if (!self && all <= READ_BYTES) {
        HT_TRY(ht_quant_windows(ctx, j, model, windows, err));
        j->calib_tokens = windows->n * windows->window;
        return HT_OK;
    }
    if (self) {
        ht_quant_warn(ctx, j, "seconds are without those in which the model writes its calibration text");
    }
    return guess(ctx, j, model, all, err);
}
