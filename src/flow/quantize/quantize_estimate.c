/* What a run will cost, measured rather than guessed: each pair of input and output format that the plan holds is
 * timed on rows of its largest tensor, in one thread; the sum over all tensors divided by the threads is the
 * prediction. What is quantized layer by layer is predicted from the first layer, on a few windows of text. Reading
 * from a cold disk and writing to a slow one come on top. */
#include "base/mem.h"
#include "base/sys.h"
#include "calib/calib.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize_learn.h"
#include "model/session.h"

#define MAX_PAIRS 64

struct pair {
    const struct ht_format *in, *out;
    bool weighted;
    struct ht_plan_tensor *largest;
    uint64_t elems;
};

static void add_to_pair(struct pair *pairs, size_t *n, struct ht_plan_tensor *t) {
    struct pair key = {t->in->format, t->out.format, t->importance != NULL, t, 0};
    size_t i = 0;
    while (i < *n && (pairs[i].in != key.in || pairs[i].out != key.out || pairs[i].weighted != key.weighted)) {
        i++;
    }
    if (i == MAX_PAIRS) {
        return;
    }
    if (i == *n) {
        pairs[(*n)++] = key;
    }
    if (ht_tensor_elems(&t->out) > ht_tensor_elems(&pairs[i].largest->out)) {
        pairs[i].largest = t;
    }
    pairs[i].elems += ht_tensor_elems(&t->out);
}

/* Rows from three places of the tensor, read once before the clock starts. */
static ht_status time_pair(const struct pair *p, const struct ht_stream_options *o, double *ns_per_elem, ht_err *err) {
    struct ht_plan_tensor t = *p->largest;
    uint64_t rows = ht_tensor_rows(&t.out), step = HT_TASK_ELEMS / t.out.ne[0];
    step = step == 0 ? 1 : step > rows ? rows : step;
    double total = 0;
    for (uint64_t part = 0; part < 3; part++) {
        uint64_t row = (rows - step) / 2 * part;
        double seconds;
        HT_TRY(ht_stream_sample(&t, row, step, o, &seconds, err));
        HT_TRY(ht_stream_sample(&t, row, step, o, &seconds, err));
        total += seconds;
    }
    *ns_per_elem = total * 1e9 / (double)(3 * step * t.out.ne[0]);
    return HT_OK;
}

/* The source's bytes of the largest layer: pages of layers that are done are given back. */
static uint64_t largest_layer(const struct ht_quant_job *j) {
    uint64_t largest = 0, sum = 0;
    int32_t layer = -1;
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        if (t->layer >= 0 && t->in != NULL) {
            sum = t->layer == layer ? sum + t->in->bytes : t->in->bytes;
            layer = t->layer;
            largest = sum > largest ? sum : largest;
        }
    }
    return largest;
}

uint64_t ht_quant_streams(const struct ht_quant_job *j, const struct ht_model *model, uint64_t tokens) {
    return tokens * ht_act_width(model, HT_ACT_RESIDUAL) * sizeof(float) +
           ht_quant_learn_stream(&j->recipe, model, tokens);
}

bool ht_quant_spills(const struct ht_quant_job *j, uint64_t streams) {
    uint64_t limit = j->o->memory_bytes;
    return limit != 0 && (streams > limit || j->without_streams_bytes > limit - streams);
}

/* What a run of blocks takes beside: a layer of the mapped source, hidden states, statistics of a layer, and the
 * largest linear on its way. */
static ht_status blocks_memory(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct ht_model_options options = {.pre = j->o->pre, .tokenizer_optional = true};
    struct ht_model *model;
    uint64_t largest = 0, widest = 0, mapped = largest_layer(j), calib = 0, streams = 0;
    uint64_t tokens = j->calib_tokens != 0 ? j->calib_tokens : j->tokens;
    int threads = ht_pool_threads(ctx->pool);
    HT_TRY(ht_model_load_with(j->o->input, &options, &model, err));
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        uint64_t elems = ht_plan_is_weight(t) && t->layer >= 0 ? ht_tensor_elems(&t->out) : 0;
        largest = elems > largest ? elems : largest;
        widest = elems > 0 && t->out.ne[0] > widest ? t->out.ne[0] : widest;
    }
    if (ht_recipe_needs(&j->recipe) != HT_NEEDS_NOTHING && j->stats == NULL) {
        calib = ht_calib_layers_memory(model, 0, j->window, threads) +
                ht_quant_learn_memory(&j->recipe, model, j->window, threads);
        streams = ht_quant_streams(j, model, tokens);
    }
    /* weights, copies before and after, targets, errors; rounding that looks across columns has their products, the
     * factor, and room for both */
    bool gram = (ht_recipe_needs(&j->recipe) & HT_NEEDS_GRAM) != 0;
    j->predicted_rss_bytes += mapped + calib + (5 * largest + (gram ? 4 * widest * widest : 0)) * sizeof(float);
    j->without_streams_bytes = j->predicted_rss_bytes;
    j->predicted_rss_bytes += ht_quant_spills(j, streams) ? 0 : streams;
    ht_model_unload(model);
    return HT_OK;
}

/* What collecting importance takes beside: the mapped source, a run of one window, and the text. */
static ht_status collect_memory(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct ht_model_options options = {.pre = j->o->pre, .tokenizer_optional = true};
    struct ht_run_options run = {.ctx = j->window, .math = HT_MATH_EXACT, .f32_cache = true};
    struct ht_model *model;
    uint64_t kv;
    HT_TRY(ht_model_load_with(j->o->input, &options, &model, err));
    j->predicted_rss_bytes += ht_run_bytes(&kv, model, &run, ht_pool_threads(ctx->pool));
    j->predicted_rss_bytes += kv + j->calib_tokens * sizeof(int32_t) + j->plan->source->file_bytes;
    ht_model_unload(model);
    return HT_OK;
}

ht_status ht_quant_check_memory(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const double mib = 1u << 20;
    uint64_t limit = j->o->memory_bytes;
    if (limit == 0 || !ht_quant_wants_blocks(j)) {
        return HT_OK;
    }
    if (j->predicted_rss_bytes == 0) {
        j->predicted_rss_bytes = ht_sys_peak_rss_bytes() + ht_stream_memory(j->plan, ht_pool_threads(ctx->pool));
        HT_TRY(blocks_memory(ctx, j, err));
    }
    if (j->predicted_rss_bytes > limit) {
        ht_quant_warn(ctx, j,
                      "memory %.1f MiB is not enough for what has to be there at once (one layer, its statistics, "
                      "windows in work, a layer of the source): about %.1f MiB will be taken",
                      (double)limit / mib, (double)j->predicted_rss_bytes / mib);
    }
    return HT_OK;
}

ht_status ht_quant_estimate(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct pair pairs[MAX_PAIRS];
    size_t n = 0;
    int threads = ht_pool_threads(ctx->pool);
    bool blocks = ht_quant_wants_blocks(j);
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        struct ht_plan_tensor *t = &j->plan->tensors[i];
        if (t->in != NULL && ht_plan_is_weight(t) && !(blocks && t->layer >= 0)) {
            add_to_pair(pairs, &n, t);
        }
    }
    const struct ht_stream_options options = {.measure = true, .allow_nonfinite = j->o->allow_nonfinite};
    double seconds = 0;
    for (size_t i = 0; i < n; i++) {
        double ns;
        HT_TRY(time_pair(&pairs[i], &options, &ns, err));
        seconds += ns * 1e-9 * (double)pairs[i].elems;
        ht_source_drop(j->plan->source, pairs[i].largest->in);
    }
    j->predicted_s = seconds / threads + (ht_sys_now() - j->started_s);
    j->predicted_rss_bytes = ht_sys_peak_rss_bytes() + ht_stream_memory(j->plan, threads);
    if (blocks || j->o->n_calib > 0) {
        HT_TRY(ht_quant_rehearse(ctx, j, &seconds, err));
        j->predicted_s += seconds;
    }
    return blocks ? blocks_memory(ctx, j, err) : j->o->n_calib > 0 ? collect_memory(ctx, j, err) : HT_OK;
}
