/* Labels of a plot that do not overlap: candidates around the point at growing distance, the first free one
 * wins. Greedy, in the order of the calls; good for a few dozen labels. */
#include <math.h>

#include "flow/report.h"

static double overlap(const struct ht_box *a, const struct ht_box *b) {
    double w = fmin(a->x1, b->x1) - fmax(a->x0, b->x0), h = fmin(a->y1, b->y1) - fmax(a->y0, b->y0);
    return w > 0 && h > 0 ? w * h : 0.0;
}

static double outside(const struct ht_box *area, const struct ht_box *b) {
    double size = (b->x1 - b->x0) * (b->y1 - b->y0);
    return size - overlap(area, b);
}

bool ht_label_place(struct ht_label_plan *plan, double x, double y, double width, double height,
                    struct ht_box *out, bool *far) {
    /* Directions: which way the label lies from its point; right first, as people expect. */
    static const struct {
        double dx, dy;
    } ways[] = {{1, 0}, {1, -0.8}, {1, 0.8}, {-1, 0}, {-1, -0.8}, {-1, 0.8}, {0, -1}, {0, 1}};
    static const double distances[] = {9, 20, 34, 50, 70, 95, 125, 160};
    double best = INFINITY;
    for (size_t d = 0; d < sizeof distances / sizeof distances[0]; d++) {
        for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
            double cx = x + ways[k].dx * (distances[d] * (ways[k].dy != 0 ? 0.8 : 1) + width / 2);
            double cy = y + ways[k].dy * (distances[d] + (ways[k].dx == 0 ? height / 2 : 0));
            struct ht_box b = {cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2};
            double cost = 10 * outside(&plan->area, &b);
            for (size_t i = 0; i < plan->n_taken; i++) {
                cost += overlap(&b, &plan->taken[i]);
            }
            if (cost < best) {
                best = cost;
                *out = b;
                *far = d > 0;
            }
            if (cost == 0.0) {
                plan->taken[plan->n_taken++] = b;
                return true;
            }
        }
    }
    plan->taken[plan->n_taken++] = *out;
    return false;
}
