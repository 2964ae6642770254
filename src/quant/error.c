#include "quant/error.h"

#include <float.h>
#include <math.h>

static size_t bin_of(double e, double cell) {
    double at = floor((e / cell + 0.5) * HT_ERROR_BINS);
    return at < 0 ? 0 : at >= HT_ERROR_BINS ? HT_ERROR_BINS - 1 : (size_t)at;
}

static void add_cell(struct ht_error_sums *s, double e, double cell) {
    if (cell < 0) {
        s->n_clipped++;
        s->clipped += e * e;
    } else if (cell > 0) {
        s->n_model++;
        s->model += cell * cell / 12;
        s->modelled += e * e;
        s->bin[bin_of(e, cell)]++;
    }
}

void ht_error_add(struct ht_error_sums *s, const float *x, const float *y, const float *cell, size_t n) {
    double before = 0;
    for (size_t i = 0; i < n; i++) {
        double v = x[i], e = (double)y[i] - v;
        s->x += v;
        s->xx += v * v;
        s->e += e;
        s->ee += e * e;
        s->xe += v * e;
        s->lag += before * e;
        before = e;
        s->max_x = fmax(s->max_x, fabs(v));
        s->max_e = fmax(s->max_e, fabs(e));
        if (cell != NULL) {
            add_cell(s, e, cell[i]);
        }
    }
    s->n += n;
}

void ht_error_merge(struct ht_error_sums *a, const struct ht_error_sums *b) {
    a->n += b->n;
    a->x += b->x;
    a->xx += b->xx;
    a->e += b->e;
    a->ee += b->ee;
    a->xe += b->xe;
    a->lag += b->lag;
    a->max_x = fmax(a->max_x, b->max_x);
    a->max_e = fmax(a->max_e, b->max_e);
    a->n_clipped += b->n_clipped;
    a->clipped += b->clipped;
    a->n_model += b->n_model;
    a->model += b->model;
    a->modelled += b->modelled;
    for (int i = 0; i < HT_ERROR_BINS; i++) {
        a->bin[i] += b->bin[i];
    }
}

static double evenness(const struct ht_error_sums *s) {
    double below = 0, worst = 0;
    for (int i = 0; i < HT_ERROR_BINS; i++) {
        below += (double)s->bin[i] / (double)s->n_model;
        worst = fmax(worst, fabs(below - (i + 1.0) / HT_ERROR_BINS));
    }
    return worst;
}

void ht_error_figures(const struct ht_error_sums *s, struct ht_error_figures *f) {
    *f = (struct ht_error_figures){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    if (s->n == 0) {
        return;
    }
    double n = (double)s->n, power = s->xx;
    double var_x = s->xx / n - s->x / n * (s->x / n), var_e = s->ee / n - s->e / n * (s->e / n);
    double yy = s->xx + 2 * s->xe + s->ee;
    f->mse = s->ee / n;
    f->max_error = s->max_e;
    f->mean_error = s->e / n;
    if (power > 0) {
        f->relative = s->ee / power;
        f->snr_db = s->ee > 0 ? 10 * log10(power / s->ee) : INFINITY;
        f->max_sigmas = s->max_e / sqrt(power / n);
        f->cosine = yy > 0 ? (s->xx + s->xe) / sqrt(power * yy) : 0;
    }
    if (s->n_model + s->n_clipped > 0) {
        f->clipped_share = (double)s->n_clipped / (double)(s->n_model + s->n_clipped);
        f->clipped_error = s->ee > 0 ? s->clipped / s->ee : 0;
    }
    if (s->n_model > 0 && s->model > 0) {
        f->model_db = power > 0 ? 10 * log10(power / n * (double)s->n_model / s->model) : NAN;
        f->model_ratio = s->modelled / s->model;
        f->evenness = evenness(s);
    }
    if (var_e > 0) {
        f->correlation = var_x > 0 ? (s->xe / n - s->x / n * (s->e / n)) / sqrt(var_x * var_e) : NAN;
        f->lag = s->lag / s->ee;
    }
}

/* ---- cells -------------------------------------------------------------------------------------------- */

float ht_error_width(const float *levels, int n, int k) {
    if (k == 0) {
        return levels[1] - levels[0];
    }
    return k + 1 == n ? levels[k] - levels[k - 1] : 0.5f * (levels[k + 1] - levels[k - 1]);
}

float ht_error_cell(float x, float value, float width, bool first, bool last) {
    double beyond = last && x > value ? (double)x - value : first && x < value ? (double)value - x : 0;
    if (width <= 0) { /* a scale of 0: everything but 0 is out of reach */
        return x != value ? -FLT_MIN : 0;
    }
    return beyond > 0.5 * width * (1 + 1e-5) ? -width : width;
}

bool ht_error_knows_cells(const struct ht_format *f) {
    return f->real != NULL || (f->unpack != NULL && f->kind != HT_KIND_LATTICE && f->vector == 0);
}

/* The distance of neighbours at the rounded value: 2^(exponent - mantissa bits). */
static void float_cells(const struct ht_format *f, const void *src, const float *x, size_t n, float *cell) {
    float y[256];
    const unsigned char *p = src;
    double least = f->real->min_normal;
    for (size_t done = 0; done < n; done += 256) {
        size_t part = n - done < 256 ? n - done : 256;
        f->decode(p + ht_format_row_bytes(f, done), y, part);
        for (size_t i = 0; i < part; i++) {
            int exponent;
            double size = fmax(fabs((double)y[i]), least);
            frexp(size, &exponent);
            double width = ldexp(1, exponent - 1 - f->real->mantissa_bits);
            bool end = fabs((double)y[i]) >= f->real->max;
            cell[done + i] = ht_error_cell(x[done + i], y[i], (float)width, end && y[i] < 0, end && y[i] > 0);
        }
    }
}

static void block_cells(const struct ht_grid *g, const int8_t *codes, const float *x, float *cell) {
    for (int s = 0; s < g->n_sub; s++) {
        float scale = fabsf(g->scale[s]);
        bool flipped = g->scale[s] < 0;
        for (int i = s * g->sub_len; i < (s + 1) * g->sub_len; i++) {
            int c = codes[i];
            float width = scale * (g->levels != NULL ? ht_error_width(g->levels, g->hi - g->lo + 1, c - g->lo) : 1);
            bool even = g->levels == NULL; /* an encoder may leave outer codes alone: distance alone decides */
            bool first = even || c == (flipped ? g->hi : g->lo), last = even || c == (flipped ? g->lo : g->hi);
            cell[i] = ht_error_cell(x[i], ht_grid_value(g, s, c), width, first, last);
        }
    }
}

void ht_error_cells(const struct ht_format *f, const void *src, const float *x, size_t n, float *cell) {
    if (f->real != NULL) {
        float_cells(f, src, x, n, cell);
        return;
    }
    const unsigned char *p = src;
    struct ht_grid g;
    int8_t codes[HT_BLOCK_MAX];
    for (size_t i = 0; i < n; i += f->block_elems, p += f->block_bytes) {
        f->unpack(p, &g, codes);
        block_cells(&g, codes, x + i, cell + i);
    }
}
