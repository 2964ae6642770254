/* Levels fitted to a histogram of normalized values. */
#include <math.h>

#include "base/mem.h"
#include "format/levels.h"

void ht_hist_add(struct ht_hist *h, const float *x, const float *weight, double times, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], w = weight != NULL ? (double)weight[i] * times : times;
        v = v > -1.0 ? v < 1.0 ? v : 1.0 : -1.0;
        int bin = (int)((v + 1.0) * (HT_HIST_BINS / 2));
        bin = bin < HT_HIST_BINS ? bin : HT_HIST_BINS - 1;
        h->w[bin] += w;
        h->wx[bin] += w * v;
        h->wxx[bin] += w * v * v;
    }
}

double ht_hist_error(const struct ht_hist *h, const float *levels, int n) {
    double error = 0;
    int c = 0;
    for (int b = 0; b < HT_HIST_BINS; b++) {
        if (h->w[b] <= 0) {
            continue;
        }
        double mean = h->wx[b] / h->w[b];
        while (c + 1 < n && mean > 0.5 * ((double)levels[c] + (double)levels[c + 1])) {
            c++;
        }
        double l = (double)levels[c];
        error += h->wxx[b] - 2 * l * h->wx[b] + l * l * h->w[b];
    }
    return error;
}

/* ---- one parameter: a grid of exponents, then the interval around the best is thinned out ------------------ */

typedef void rule_fn(int L, double parameter, float *levels);

struct search {
    const struct ht_hist *h;
    rule_fn *rule;
    int L;
    double best, error; /* log2 of the parameter */
};

static void try_at(struct search *s, double exponent) {
    float levels[HT_LEVELS_MAX];
    s->rule(s->L, exp2(exponent), levels);
    double e = ht_hist_error(s->h, levels, 2 * s->L + 1);
    if (e < s->error) {
        s->error = e;
        s->best = exponent;
    }
}

static double search_parameter(struct search *s, double from, double to, double step) {
    s->error = INFINITY;
    s->best = to;
    for (double v = from; v <= to; v += step) {
        try_at(s, v);
    }
    for (; step > 1e-3; step /= 4) {
        double middle = s->best;
        for (int i = -3; i <= 3; i++) {
            try_at(s, middle + step / 4 * i);
        }
    }
    return exp2(s->best);
}

/* ---- k-means in one dimension ------------------------------------------------------------------------------ */

/* Bins that hold something, as prefix sums: sum over bins i..j - 1 is [j] - [i]. */
struct prefix {
    int n;
    double w[HT_HIST_BINS + 1], wx[HT_HIST_BINS + 1], wxx[HT_HIST_BINS + 1];
};

struct partition {
    struct prefix sums;
    double before[HT_HIST_BINS + 1], now[HT_HIST_BINS + 1]; /* least error of the first j bins */
    uint16_t start[HT_LEVELS_MAX][HT_HIST_BINS + 1];        /* where the last of k + 1 clusters begins */
};

/* Error of one level for bins i..j - 1: their spread about the mean. */
static double spread(const struct prefix *p, int i, int j) {
    double w = p->w[j] - p->w[i], wx = p->wx[j] - p->wx[i], e = p->wxx[j] - p->wxx[i] - (w > 0 ? wx * wx / w : 0);
    return e > 0 ? e : 0;
}

/* now[j] for lo <= j <= hi; the best start rises with j, so it is between those of the neighbours done before. */
static void fill(struct partition *d, int k, int lo, int hi, int from, int to) {
    if (lo > hi) {
        return;
    }
    int j = (lo + hi) / 2, best = from;
    d->now[j] = INFINITY;
    for (int i = from; i <= to && i < j; i++) {
        double e = d->before[i] + spread(&d->sums, i, j);
        if (e < d->now[j]) {
            d->now[j] = e;
            best = i;
        }
    }
    d->start[k][j] = (uint16_t)best;
    fill(d, k, lo, j - 1, from, best);
    fill(d, k, j + 1, hi, best, to);
}

/* Bins of less than 2^-40 of all weight would vanish in the sums (groups count by the square of their scale): they
 * count so much. */
static void prefix_of(const struct ht_hist *h, struct prefix *p) {
    double total = 0;
    for (int b = 0; b < HT_HIST_BINS; b++) {
        total += h->w[b];
    }
    p->n = 0;
    p->w[0] = p->wx[0] = p->wxx[0] = 0;
    for (int b = 0; b < HT_HIST_BINS; b++) {
        if (h->w[b] > 0) {
            int j = p->n++;
            double raise = h->w[b] < total * 0x1p-40 ? total * 0x1p-40 / h->w[b] : 1;
            p->w[j + 1] = p->w[j] + h->w[b] * raise;
            p->wx[j + 1] = p->wx[j] + h->wx[b] * raise;
            p->wxx[j + 1] = p->wxx[j] + h->wxx[b] * raise;
        }
    }
}

/* At most one cluster per bin that holds something; levels that are not needed repeat the last. */
static void best_partition(struct partition *d, int n_levels, float *levels) {
    int n = d->sums.n, k_max = n_levels < n ? n_levels : n;
    for (int j = 1; j <= n; j++) {
        d->before[j] = spread(&d->sums, 0, j);
        d->start[0][j] = 0;
    }
    for (int k = 1; k < k_max; k++) {
        fill(d, k, k + 1, n, k, n - 1);
        for (int j = k + 1; j <= n; j++) {
            d->before[j] = d->now[j];
        }
    }
    int end = n;
    for (int k = k_max - 1; k >= 0; k--) {
        int begin = d->start[k][end];
        double w = d->sums.w[end] - d->sums.w[begin], wx = d->sums.wx[end] - d->sums.wx[begin];
        levels[k] = (float)(wx / w);
        end = begin;
    }
    for (int k = k_max; k < n_levels; k++) {
        levels[k] = levels[k_max - 1];
    }
}

static ht_status fit_kmeans(const struct ht_hist *h, int n_levels, float *levels, ht_err *err) {
    struct partition *d = ht_mem_calloc(1, sizeof *d);
    if (d == NULL) {
        return ht_fail_nomem(err, sizeof *d);
    }
    prefix_of(h, &d->sums);
    if (d->sums.n > 0) {
        best_partition(d, n_levels, levels);
    } else {
        for (int c = 0; c < n_levels; c++) {
            levels[c] = (float)(2 * c + 1 - n_levels) / (float)n_levels;
        }
    }
    ht_mem_free(d);
    return HT_OK;
}

ht_status ht_levels_fit(const struct ht_format *f, const struct ht_hist *h, float *levels, double *parameter,
                        ht_err *err) {
    const struct ht_code *c = f->code;
    struct search s = {.h = h, .L = c->hi};
    if (c->fitted == HT_FITTED_KMEANS) {
        return fit_kmeans(h, c->hi + 1, levels, err);
    }
    bool is_log = c->fitted == HT_FITTED_LOG;
    s.rule = is_log ? ht_levels_log : ht_levels_pow;
    double found = is_log ? search_parameter(&s, -12, 4, 0.5) : search_parameter(&s, -3, 0.5, 0.25);
    s.rule(s.L, found, levels);
    if (parameter != NULL) {
        *parameter = found;
    }
    return HT_OK;
}
