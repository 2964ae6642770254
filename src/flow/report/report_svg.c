/* The figures, as inline SVG. Colours come from classes, so that the page's light and dark styles hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "flow/report.h"

#define CHAR_WIDTH 6.7 /* of a 12 px sans-serif character, on average */
#define LABEL_CHARS 30

struct plot {
    double x0, y0, x1, y1;             /* pixels of the area; y0 is the top */
    double from_x, to_x, from_y, to_y; /* values; y as log10 */
};

static double px(const struct plot *p, double x) {
    return p->x0 + (x - p->from_x) / (p->to_x - p->from_x) * (p->x1 - p->x0);
}

static double py(const struct plot *p, double kld) {
    return p->y1 - (log10(kld) - p->from_y) / (p->to_y - p->from_y) * (p->y1 - p->y0);
}

/* ---- text -------------------------------------------------------------------------------------------- */

static size_t count_chars(const char *s) {
    size_t n = 0;
    for (; *s; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

static const char *skip_chars(const char *s, size_t n) {
    while (*s && n > 0) {
        s++;
        while (((unsigned char)*s & 0xc0) == 0x80) {
            s++;
        }
        n--;
    }
    return s;
}

/* A name of at most max characters: long ones lose their middle. Returns the characters shown. */
static size_t put_name(struct ht_buf *out, const char *name, size_t max) {
    size_t n = count_chars(name);
    if (n <= max) {
        ht_report_escape(out, name);
        return n;
    }
    size_t head = max * 6 / 10, tail = max - 1 - head;
    char *first = ht_mem_strndup(name, (size_t)(skip_chars(name, head) - name));
    out->failed |= first == NULL;
    ht_report_escape(out, first != NULL ? first : "");
    ht_mem_free(first);
    ht_buf_puts(out, "&#8230;");
    ht_report_escape(out, skip_chars(name, n - tail));
    return max;
}

static void text_at(struct ht_buf *out, const char *class, double x, double y, const char *anchor, const char *s) {
    ht_buf_printf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    ht_report_escape(out, s);
    ht_buf_puts(out, "</text>\n");
}

static void line(struct ht_buf *out, const char *class, double x0, double y0, double x1, double y1) {
    ht_buf_printf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x0, y0, x1, y1);
}

static void tooltip(struct ht_buf *out, const struct ht_report_row *row) {
    ht_buf_puts(out, "<title>");
    ht_report_escape(out, row->name);
    ht_buf_printf(out, ": KL divergence %.4g [%.4g, %.4g]</title>", row->kld.mean, row->kld.low, row->kld.high);
}

/* ---- divergence against size ------------------------------------------------------------------------- */

/* What an axis can hold: sizes, and divergences on a log scale, so far from the ends of double that ranges and their
 * margins stay finite. Records come from outside and say anything. */
static bool drawable(double v) {
    return v > 1e-300 && v < 1e300;
}

static bool plotted(const struct ht_report_row *row) {
    return drawable(row->kld.mean) && !row->reference;
}

/* Bits per weight when every row has them, else megabytes. */
static bool uses_bits(const struct ht_report *report) {
    bool bits = true;
    for (size_t i = 0; i < report->n_rows; i++) {
        bits &= !plotted(&report->rows[i]) || drawable(report->rows[i].bits);
    }
    return bits;
}

static double value_x(const struct ht_report_row *row, bool bits) {
    return bits ? row->bits : row->bytes / 1e6;
}

static bool has_interval(const struct ht_report_row *row) {
    return drawable(row->kld.low) && drawable(row->kld.high) && row->kld.low <= row->kld.high;
}

struct range {
    double lo, hi;
};

static void widen(struct range *r, double v) {
    r->lo = fmin(r->lo, v);
    r->hi = fmax(r->hi, v);
}

/* The rows that make points, and the ranges they span: mean and interval, which need not hold the mean. */
static size_t scale(const struct ht_report *report, bool bits, struct plot *p) {
    struct range rx = {INFINITY, 0}, ry = {INFINITY, 0};
    size_t n = 0;
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        double x = value_x(row, bits);
        if (!plotted(row) || !drawable(x)) {
            continue;
        }
        widen(&rx, x);
        widen(&ry, row->kld.mean);
        if (has_interval(row)) {
            widen(&ry, row->kld.low);
            widen(&ry, row->kld.high);
        }
        n++;
    }
    double pad = fmax(0.08 * (rx.hi - rx.lo), 0.04 * rx.hi);
    p->from_x = fmax(0.0, rx.lo - pad);
    p->to_x = rx.hi + pad;
    p->from_y = log10(ry.lo) - 0.12;
    p->to_y = log10(ry.hi) + 0.12;
    return n;
}

static double nice_step(double span) {
    double raw = span / 7, mag = pow(10.0, floor(log10(raw)));
    double f = raw / mag;
    return mag * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static void axes(const struct plot *p, bool bits, struct ht_buf *out) {
    char label[48];
    for (int e = (int)floor(p->from_y); e <= (int)ceil(p->to_y); e++) {
        for (int m = 1; m < 10; m++) {
            double v = m * pow(10.0, e), y = py(p, v);
            if (y < p->y0 - 0.5 || y > p->y1 + 0.5) {
                continue;
            }
            bool named = m == 1 || m == 2 || m == 5;
            line(out, named ? "grid" : "grid faint", p->x0, y, p->x1, y);
            if (named) {
                snprintf(label, sizeof label, "%.10g", v);
                text_at(out, "tick", p->x0 - 8, y + 4, "end", label);
            }
        }
    }
    double step = nice_step(p->to_x - p->from_x);
    for (double k = ceil(p->from_x / step); k * step <= p->to_x; k++) {
        double x = px(p, k * step);
        line(out, "grid faint", x, p->y0, x, p->y1);
        snprintf(label, sizeof label, "%.10g", k * step);
        text_at(out, "tick", x, p->y1 + 18, "middle", label);
    }
    line(out, "axis", p->x0, p->y1, p->x1, p->y1);
    text_at(out, "axis-name", (p->x0 + p->x1) / 2, p->y1 + 40, "middle",
            bits ? "bits per weight" : "size of the file, MB");
    ht_buf_printf(out, "<text class=\"axis-name\" transform=\"translate(16 %.1f) rotate(-90)\" "
                       "text-anchor=\"middle\">KL divergence, nats (log scale)</text>\n", (p->y0 + p->y1) / 2);
}

struct point {
    const struct ht_report_row *row;
    double x, y; /* pixels */
    bool best;   /* nothing smaller is closer */
};

static int by_x(const void *a, const void *b) {
    const struct point *p = a, *q = b;
    return p->x != q->x ? (p->x < q->x ? -1 : 1) : (p->y > q->y) - (p->y < q->y);
}

/* The line through the files that no other file beats in both size and divergence. */
static void frontier(struct point *points, size_t n, struct ht_buf *out) {
    double lowest = -INFINITY; /* pixels grow downwards: larger y is a smaller divergence */
    ht_buf_puts(out, "<polyline class=\"frontier\" points=\"");
    for (size_t i = 0; i < n; i++) {
        if (points[i].y > lowest) {
            lowest = points[i].y;
            points[i].best = true;
            ht_buf_printf(out, "%.1f,%.1f ", points[i].x, points[i].y);
        }
    }
    ht_buf_puts(out, "\"/>\n");
}

static struct ht_box around(double x, double y, double rx, double ry) {
    return (struct ht_box){x - rx, y - ry, x + rx, y + ry};
}

static void draw_points(const struct plot *p, const struct point *points, size_t n, struct ht_label_plan *plan,
                        struct ht_buf *out) {
    for (size_t i = 0; i < n; i++) {
        const struct ht_report_row *row = points[i].row;
        ht_buf_puts(out, "<g class=\"mark\">");
        tooltip(out, row);
        if (has_interval(row)) {
            double top = py(p, row->kld.high), bottom = py(p, row->kld.low), x = points[i].x;
            line(out, "error", x, top, x, bottom);
            line(out, "error", x - 4, top, x + 4, top);
            line(out, "error", x - 4, bottom, x + 4, bottom);
            plan->taken[plan->n_taken++] = (struct ht_box){x - 4, top, x + 4, bottom};
        }
        ht_buf_printf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/></g>\n",
                      points[i].best ? "dot" : "dot beaten", points[i].x, points[i].y);
        plan->taken[plan->n_taken++] = around(points[i].x, points[i].y, 6, 6);
    }
}

static void draw_labels(const struct point *points, size_t n, struct ht_label_plan *plan, struct ht_buf *out) {
    for (size_t i = 0; i < n; i++) {
        size_t chars = count_chars(points[i].row->name);
        double width = (double)(chars < LABEL_CHARS ? chars : LABEL_CHARS) * CHAR_WIDTH + 4;
        struct ht_box b;
        bool far = false;
        ht_label_place(plan, points[i].x, points[i].y, width, 15, &b, &far);
        if (far) {
            double nx = fmin(fmax(points[i].x, b.x0), b.x1), ny = fmin(fmax(points[i].y, b.y0), b.y1);
            line(out, "leader", points[i].x, points[i].y, nx, ny);
        }
        ht_buf_printf(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                      (b.x0 + b.x1) / 2, b.y1 - 4);
        put_name(out, points[i].row->name, LABEL_CHARS);
        ht_buf_puts(out, "</text>\n");
    }
}

void ht_report_scatter(const struct ht_report *report, struct ht_buf *out) {
    struct plot p = {.x0 = 74, .y0 = 12, .x1 = 866, .y1 = 392};
    bool bits = uses_bits(report);
    size_t n = scale(report, bits, &p), at = 0;
    if (n == 0) {
        return;
    }
    struct point *points = ht_mem_calloc(n, sizeof *points);
    struct ht_label_plan plan = {.area = {p.x0, p.y0, p.x1, p.y1}, .taken = ht_mem_calloc(3 * n, sizeof *plan.taken)};
    if (points == NULL || plan.taken == NULL) {
        out->failed = true;
        goto done;
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        if (plotted(row) && drawable(value_x(row, bits))) {
            points[at++] = (struct point){row, px(&p, value_x(row, bits)), py(&p, row->kld.mean), false};
        }
    }
    qsort(points, n, sizeof *points, by_x);
    ht_buf_puts(out, "<svg class=\"plot\" viewBox=\"0 0 880 440\" role=\"img\" "
                     "aria-label=\"KL divergence against size\">\n");
    axes(&p, bits, out);
    frontier(points, n, out);
    draw_points(&p, points, n, &plan, out);
    draw_labels(points, n, &plan, out);
    ht_buf_puts(out, "</svg>\n");
done:
    ht_mem_free(plan.taken);
    ht_mem_free(points);
}

/* ---- divergence as bars ------------------------------------------------------------------------------ */

void ht_report_bars(const struct ht_report *report, struct ht_buf *out) {
    double max = 0;
    size_t n = 0;
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        if (plotted(row)) {
            max = fmax(max, has_interval(row) ? fmax(row->kld.high, row->kld.mean) : row->kld.mean);
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    double left = 230, right = 790, step = 28, y = 8;
    ht_buf_printf(out, "<svg class=\"plot\" viewBox=\"0 0 880 %.0f\" role=\"img\" aria-label=\"KL divergence of each "
                       "file\">\n", (double)n * step + 14);
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        if (!plotted(row)) {
            continue;
        }
        int level;
        ht_report_verdict(row, &level);
        double w = row->kld.mean / max * (right - left), mid = y + step / 2, end = left + w;
        ht_buf_puts(out, "<g class=\"mark\">");
        tooltip(out, row);
        ht_buf_printf(out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 10, mid + 4);
        put_name(out, row->name, LABEL_CHARS);
        ht_buf_printf(out, "</text>\n<rect class=\"bar v%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                           "rx=\"2\"/>\n", level, left, y + 5, fmax(w, 1.0), step - 10);
        if (has_interval(row)) {
            double a = left + row->kld.low / max * (right - left), b = left + row->kld.high / max * (right - left);
            line(out, "error", a, mid, b, mid);
            line(out, "error", a, mid - 4, a, mid + 4);
            line(out, "error", b, mid - 4, b, mid + 4);
            end = b;
        }
        char value[32];
        ht_report_format(value, sizeof value, row->kld.mean, row->kld.mean, 3);
        text_at(out, "value", end + 8, mid + 4, "start", value);
        ht_buf_puts(out, "</g>\n");
        y += step;
    }
    line(out, "axis", left, 6, left, y + 2);
    ht_buf_puts(out, "</svg>\n");
}

/* ---- ornament ---------------------------------------------------------------------------------------- */

/* Dots that grow from left to right: a grey ramp as a printer makes it. */
void ht_report_dots(struct ht_buf *out) {
    ht_buf_puts(out, "<svg class=\"dots\" viewBox=\"0 0 240 40\" aria-hidden=\"true\">");
    for (int c = 0; c < 24; c++) {
        for (int r = 0; r < 4; r++) {
            double radius = 0.5 + 4.6 * pow((c + 0.5 * (r % 2)) / 24.0, 1.3);
            ht_buf_printf(out, "<circle cx=\"%.1f\" cy=\"%d\" r=\"%.2f\"/>", c * 10 + 5 + (r % 2) * 5.0, r * 10 + 5,
                          radius);
        }
    }
    ht_buf_puts(out, "</svg>\n");
}
