/* Moments of a density on a grid of cells that grow towards the tails: x = SPREAD * u / (1 - u^2), u even in (-1, 1).
 * Each cell is integrated by Simpson's rule, sums from the left give every moment of every interval. */
#include "quant/error_model.h"

#include <math.h>
#include <strings.h>

#include "base/mem.h"

#define PI 3.14159265358979323846
#define CELLS 40000 /* even: one border lies at 0, where Laplace's density has its edge */
#define SPREAD 3.0

/* ---- sources ------------------------------------------------------------------------------------------ */

static double gaussian(double x) {
    return exp(-0.5 * x * x) / sqrt(2 * PI);
}

static double laplace(double x) {
    return exp(-sqrt(2) * fabs(x)) / sqrt(2);
}

static double laplace_draw(struct ht_rng *rng) {
    double u = ht_rng_uniform(rng) - 0.5, sign = u < 0 ? -1 : 1;
    return -sign * log(1 - 2 * fabs(u)) / sqrt(2);
}

/* Five degrees of freedom, scaled by sqrt(3 / 5) to variance 1: t = x sqrt(5 / 3),
 * density 8 / (3 pi sqrt 5) (1 + t^2 / 5)^-3 sqrt(5 / 3). */
static double student(double x) {
    double q = 1 + x * x / 3;
    return 8 / (3 * PI * sqrt(3)) / (q * q * q);
}

static double student_draw(struct ht_rng *rng) {
    double z = ht_rng_normal(rng), chi = 0;
    for (int i = 0; i < 5; i++) {
        double v = ht_rng_normal(rng);
        chi += v * v;
    }
    return z * sqrt(3 / chi);
}

static const struct ht_density densities[] = {
    {"gaussian", "normal distribution", gaussian, ht_rng_normal},
    {"laplace", "two-sided exponential: sharper peak, heavier tails", laplace, laplace_draw},
    {"student-t", "Student's t, 5 degrees of freedom: tails as of trained weights", student, student_draw},
};
enum { N_DENSITIES = sizeof densities / sizeof densities[0] };

size_t ht_density_count(void) {
    return N_DENSITIES;
}

const struct ht_density *ht_density_at(size_t i) {
    return i < N_DENSITIES ? &densities[i] : NULL;
}

const struct ht_density *ht_density_find(const char *name) {
    for (size_t i = 0; i < N_DENSITIES; i++) {
        if (strcasecmp(densities[i].name, name) == 0) {
            return &densities[i];
        }
    }
    return NULL;
}

const char *ht_density_name_at(const void *unused, size_t i) {
    (void)unused;
    return i < N_DENSITIES ? densities[i].name : NULL;
}

/* ---- moments ------------------------------------------------------------------------------------------ */

struct node {
    double x;
    double m0, m1, m2; /* integrals of p, x p, x^2 p from the left up to x */
    double third;      /* of p^(1/3) */
};

struct ht_density_table {
    double entropy; /* nats */
    struct node node[CELLS + 1];
};

static double place(double i) {
    double u = (2 * i - CELLS) / (CELLS + 2.0); /* the ends stay finite */
    return SPREAD * u / (1 - u * u);
}

ht_status ht_density_table_new(const struct ht_density *density, struct ht_density_table **table, ht_err *err) {
    struct ht_density_table *t = ht_mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return ht_fail_nomem(err, sizeof *t);
    }
    t->node[0].x = place(0);
    for (int i = 0; i < CELLS; i++) {
        struct node *a = &t->node[i], *b = a + 1;
        b->x = place(i + 1);
        double x[3] = {a->x, 0.5 * (a->x + b->x), b->x}, w = (b->x - a->x) / 6;
        *b = (struct node){b->x, a->m0, a->m1, a->m2, a->third};
        for (int k = 0; k < 3; k++) {
            double p = density->at(x[k]), wk = k == 1 ? 4 * w : w;
            b->m0 += wk * p;
            b->m1 += wk * p * x[k];
            b->m2 += wk * p * x[k] * x[k];
            b->third += wk * cbrt(p);
            t->entropy -= p > 0 ? wk * p * log(p) : 0;
        }
    }
    *table = t;
    return HT_OK;
}

void ht_density_table_free(struct ht_density_table *t) {
    ht_mem_free(t);
}

/* Moments up to x, linear within a cell. */
static struct node up_to(const struct ht_density_table *t, double x) {
    int lo = 0, hi = CELLS;
    if (x <= t->node[0].x || x >= t->node[CELLS].x) {
        return t->node[x <= t->node[0].x ? 0 : CELLS];
    }
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (t->node[mid].x <= x) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    const struct node *a = &t->node[lo], *b = a + 1;
    double u = (x - a->x) / (b->x - a->x);
    return (struct node){x, a->m0 + u * (b->m0 - a->m0), a->m1 + u * (b->m1 - a->m1), a->m2 + u * (b->m2 - a->m2), 0};
}

double ht_density_power(const struct ht_density_table *t) {
    return exp(2 * t->entropy) / (2 * PI * exp(1));
}

double ht_density_panter_dite(const struct ht_density_table *t) {
    double c = t->node[CELLS].third;
    return c * c * c / 12;
}

/* ---- scalar quantizers -------------------------------------------------------------------------------- */

/* Error of levels y[n], ascending; each y becomes the mean of its cell in next when not NULL. */
static double error_of(const struct ht_density_table *t, const double *y, double *next, int n) {
    struct node a = t->node[0];
    double sum = 0;
    for (int k = 0; k < n; k++) {
        struct node b = k + 1 < n ? up_to(t, 0.5 * (y[k] + y[k + 1])) : t->node[CELLS];
        double m0 = b.m0 - a.m0, m1 = b.m1 - a.m1, m2 = b.m2 - a.m2;
        sum += m2 - 2 * y[k] * m1 + y[k] * y[k] * m0;
        if (next != NULL) {
            next[k] = m0 > 0 ? m1 / m0 : y[k];
        }
        a = b;
    }
    return sum;
}

/* Levels at the quantiles of p^(1/3): where the best ones lie when there are many (Panter and Dite). */
static void compand(const struct ht_density_table *t, double *y, int n) {
    double total = t->node[CELLS].third;
    int i = 0;
    for (int k = 0; k < n; k++) {
        while (i + 1 < CELLS && t->node[i + 1].third < total * (k + 0.5) / n) {
            i++;
        }
        y[k] = 0.5 * (t->node[i].x + t->node[i + 1].x);
    }
}

ht_status ht_density_lloyd_max(const struct ht_density_table *t, int n, double *mse, ht_err *err) {
    double *y = ht_mem_alloc_array(2 * (size_t)n, sizeof *y), *next = y + n;
    if (y == NULL) {
        return ht_fail_nomem(err, 2 * (size_t)n * sizeof *y);
    }
    compand(t, y, n);
    double before = INFINITY;
    *mse = error_of(t, y, next, n);
    for (int i = 0; i < 5000 && before - *mse > 1e-10 * *mse; i++) {
        before = *mse;
        memcpy(y, next, (size_t)n * sizeof *y);
        *mse = error_of(t, y, next, n);
    }
    ht_mem_free(y);
    return HT_OK;
}

static double uniform_error(const struct ht_density_table *t, int n, double step) {
    struct node a = t->node[0];
    double sum = 0;
    for (int k = 0; k < n; k++) {
        double y = (k - 0.5 * (n - 1)) * step;
        struct node b = k + 1 < n ? up_to(t, y + 0.5 * step) : t->node[CELLS];
        sum += b.m2 - a.m2 - 2 * y * (b.m1 - a.m1) + y * y * (b.m0 - a.m0);
        a = b;
    }
    return sum;
}

double ht_density_uniform(const struct ht_density_table *t, int n, double *step) {
    double a = 0, b = 12.0 / n + 1e-3, g = 0.6180339887498949; /* one minimum in between */
    b = n < 6 ? 4 : b * 4;
    double c = b - g * (b - a), d = a + g * (b - a);
    double at_c = uniform_error(t, n, c), at_d = uniform_error(t, n, d);
    for (int i = 0; i < 60; i++) {
        if (at_c < at_d) {
            b = d;
            d = c;
            at_d = at_c;
            c = b - g * (b - a);
            at_c = uniform_error(t, n, c);
        } else {
            a = c;
            c = d;
            at_c = at_d;
            d = a + g * (b - a);
            at_d = uniform_error(t, n, d);
        }
    }
    *step = 0.5 * (a + b);
    return uniform_error(t, n, *step);
}

/* ---- laws --------------------------------------------------------------------------------------------- */

double ht_db(double ratio) {
    return 10 * log10(ratio);
}

double ht_law_constant(double peak) {
    return ht_db(3 / (peak * peak));
}

double ht_gap_bits(double rate, double relative_error) {
    return rate + 0.5 * log2(relative_error);
}
