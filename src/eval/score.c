/* One position of an evaluation: what do two rows of logits say about the next token, and of each other?
 *
 *   nll  = log sum_i exp(q_i) - q_target                        q: logits of the model, p: of the reference
 *   kld  = sum_i P_i (log P_i - log Q_i),   P = softmax(p), Q = softmax(q)
 *        = sum_i P_i ((p_i - q_i) - (lse(p) - lse(q)))
 *
 * The last form subtracts equal logits exactly, so that a model compared with itself has divergence 0, not
 * 1e-17. All sums are double. */
#include <math.h>

#include "eval/eval.h"
#include "kernel/kernel.h"

#define CHUNK 512
#define LANES 8

/* e^x for -700 <= x <= 1, relative error below 3e-16: 2^k times a Taylor polynomial on |r| <= ln(2)/2.
 * Written without branches or calls so that compilers vectorize it. */
static inline double exp_small(double x) {
    static const double log2e = 0x1.71547652b82fep+0, ln2_hi = 0x1.62e42fefa3800p-1,
                        ln2_lo = 0x1.ef35793c76730p-45, shift = 0x1.8p52;
    double t = x * log2e + shift; /* the low bits of t hold round(x / ln 2) */
    double k = t - shift;
    double r = (x - k * ln2_hi) - k * ln2_lo;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    union {
        double d;
        uint64_t u;
    } scale = {.d = t};
    scale.u = (scale.u + 1023) << 52;
    return p * scale.d;
}

/* sum_i P_i ((p_i - q_i) - diff), diff = lse(p) - lse(q). A fixed order of summation: LANES partial sums. */
HT_CLONES
static double divergence(const float *q, const float *p, size_t n, double p_lse, double diff) {
    double sum[LANES] = {0}, term[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t len = n - at < CHUNK ? n - at : CHUNK;
        for (size_t i = 0; i < len; i++) {
            double pi = (double)p[at + i];
            double log_p = pi - p_lse;
            log_p = log_p < -700.0 ? -700.0 : log_p;
            term[i] = exp_small(log_p) * ((pi - (double)q[at + i]) - diff);
        }
        for (size_t i = len; i % LANES != 0; i++) {
            term[i] = 0.0;
        }
        for (size_t i = 0; i < len; i += LANES) {
            for (size_t l = 0; l < LANES; l++) {
                sum[l] += term[i + l];
            }
        }
    }
    double total = 0.0;
    for (size_t l = 0; l < LANES; l++) {
        total += sum[l];
    }
    return total;
}

HT_CLONES
static bool all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        union {
            float f;
            uint32_t u;
        } v = {.f = x[i]};
        bad |= (v.u & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}

static size_t first_of(const float *x, size_t n, float value) {
    size_t i = 0;
    while (i + 1 < n && x[i] != value) {
        i++;
    }
    return i;
}

bool ht_score_position(const float *logits, const float *ref, size_t vocab, int32_t target,
                       struct ht_score *score) {
    *score = (struct ht_score){0};
    if (!all_finite(logits, vocab) || (ref != NULL && !all_finite(ref, vocab))) {
        return false;
    }
    const struct ht_kernels *k = ht_kernels();
    float max, ref_max;
    double lse = k->log_sum_exp(logits, vocab, &max);
    score->nll = lse - (double)logits[target];
    if (ref != NULL) {
        double ref_lse = k->log_sum_exp(ref, vocab, &ref_max);
        score->ref_nll = ref_lse - (double)ref[target];
        double kld = divergence(logits, ref, vocab, ref_lse, ref_lse - lse);
        score->kld = kld > 0.0 ? kld : 0.0; /* a divergence is never negative; rounding may be, by 1e-16 */
        score->same_top = first_of(logits, vocab, max) == first_of(ref, vocab, ref_max);
    }
    return true;
}
