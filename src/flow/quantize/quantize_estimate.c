/* What a run will cost, measured rather than guessed: each pair of input and output format that the plan holds is
 * timed on rows of its largest tensor, in one thread; the sum over all tensors divided by the threads is the
 * prediction. Reading from a cold disk and writing to a slow one come on top. */
#include "base/mem.h"
#include "base/sys.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize.h"

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

ht_status ht_quant_estimate(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct pair pairs[MAX_PAIRS];
    size_t n = 0;
    int threads = ht_pool_threads(ctx->pool);
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        if (j->plan->tensors[i].in != NULL && ht_plan_is_weight(&j->plan->tensors[i])) {
            add_to_pair(pairs, &n, &j->plan->tensors[i]);
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
    return HT_OK;
}
