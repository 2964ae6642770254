/* Levels derived from a distribution or a rule. */
#include "format/levels.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *p, const void *q) {
    float a = *(const float *)p, b = *(const float *)q;
    return (a > b) - (a < b);
}

/* Element i of n + 1 evenly spaced floats from 0.1 to 1, in the arithmetic of torch.linspace: from the nearer end, the
 * product not rounded before the sum. */
static float spaced(int i, int n) {
    double step = (double)((1.0f - 0.1f) / (float)n);
    return i < (n + 1) / 2 ? (float)((double)0.1f + step * i) : (float)(1.0 - step * (n - i));
}

void ht_levels_dynamic(float levels[256]) {
    static const float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1e0f};
    int n = 0;
    for (int e = 0; e < 7; e++) {
        for (int j = 0; j < 1 << e; j++) {
            float v = decades[e] * ((spaced(j, 1 << e) + spaced(j + 1, 1 << e)) / 2.0f);
            levels[n++] = v;
            levels[n++] = -v;
        }
    }
    levels[n++] = 0.0f;
    levels[n++] = 1.0f;
    qsort(levels, 256, sizeof *levels, ascending);
}

double ht_normal_quantile(double p) {
    if (p > 0.5) {
        return -ht_normal_quantile(1.0 - p);
    }
    double t = sqrt(-2.0 * log(p)); /* first guess: Abramowitz and Stegun 26.2.23 */
    double x = -(t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                         (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t));
    for (int i = 0; i < 4; i++) { /* Halley's rule on the distribution function */
        double e = 0.5 * erfc(-x / sqrt(2.0)) - p;
        double u = e * sqrt(2.0 * 3.14159265358979323846) * exp(0.5 * x * x);
        x -= u / (1.0 + 0.5 * x * u);
    }
    return x;
}

void ht_levels_normal(int bits, float *levels) {
    int n = 1 << bits, below = n / 2 - 1, above = n / 2;
    double outermost = 1.0 - 0.5 * (1.0 / (2 * n) + 1.0 / (2 * n - 2));
    double largest = ht_normal_quantile(outermost);
    for (int i = 0; i < below; i++) {
        levels[i] = (float)(-ht_normal_quantile(outermost + (0.5 - outermost) * i / (below + 0.0)) / largest);
    }
    levels[below] = 0.0f;
    for (int i = 0; i < above; i++) {
        levels[n - 1 - i] = (float)(ht_normal_quantile(outermost + (0.5 - outermost) * i / (above + 0.0)) / largest);
    }
}

/* positive [L] ascending -> [2 L + 1] with signs and 0. */
static void mirror(float *levels, int L) {
    for (int c = 1; c <= L; c++) {
        levels[L - c] = -levels[L + c];
    }
    levels[L] = 0.0f;
}

void ht_levels_pot(int bits, float *levels) {
    int L = (1 << (bits - 1)) - 1;
    for (int c = 1; c <= L; c++) {
        levels[L + c] = ldexpf(1.0f, c - 1);
    }
    mirror(levels, L);
}

/* The magnitude has B = bits - 1 bits. The powers of two are dealt to B / 2 sets of three (and, B odd, a set of one);
 * a magnitude is a sum of one member, or nothing, of each set. The sets are those of the paper's published code. */
void ht_levels_apot(int bits, float *levels) {
    /* By B, set and member: which power, counted from the largest, 1; 0 ends a set. */
    static const int8_t place[7][3][3] = {
        [3] = {{1, 2, 4}, {3, 0, 0}, {0, 0, 0}},
        [4] = {{1, 3, 5}, {2, 4, 6}, {0, 0, 0}},
        [5] = {{1, 3, 6}, {2, 4, 7}, {5, 0, 0}},
        [6] = {{1, 4, 7}, {2, 5, 8}, {3, 6, 9}},
    };
    int B = bits - 1, L = (1 << B) - 1, lowest = B / 2 * 3 + B % 2;
    int count = 0;
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 4; b++) {
            for (int c = 0; c < 4; c++) {
                int parts[3] = {a, b, c}, sum = 0, valid = 1;
                for (int s = 0; s < 3; s++) {
                    int at = parts[s] > 0 ? place[B][s][parts[s] - 1] : -1;
                    valid = valid && at != 0;
                    sum += at > 0 ? 1 << (lowest - at) : 0;
                }
                if (valid) {
                    levels[L + count++] = (float)sum;
                }
            }
        }
    }
    qsort(levels + L, (size_t)count, sizeof *levels, ascending);
    mirror(levels, L);
}

void ht_levels_log(int L, double alpha, float *levels) {
    for (int c = 1; c <= L; c++) {
        levels[L + c] = c < L ? (float)(alpha * expm1(log1p(1.0 / alpha) * c / L)) : 1.0f;
    }
    mirror(levels, L);
}

void ht_levels_pow(int L, double p, float *levels) {
    for (int c = 1; c <= L; c++) {
        levels[L + c] = (float)pow((double)c / L, 1.0 / p);
    }
    mirror(levels, L);
}
