/* The figure: error against bits, and below it the distance to the bound in bits, where formats that look alike
 * above lie apart. Colours are the page's where there is one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "flow/errors.h"
#include "flow/report.h"

#define WIDTH 1120.0
#define HEIGHT 1010.0
#define CHAR_WIDTH 6.1 /* of an 11 px sans-serif character, on average */
#define FAR_BITS 9.5   /* points with more bits are told, not drawn, when there are others */
#define GROUPS 8
#define MARGIN 0.3     /* bits left and right of the outer points */
#define HIGH_GAP 1.8   /* points farther from the bound stand at the upper edge with their distance in words */

static const char style[] =
    "<style>"
    ".ef{font-family:system-ui,-apple-system,'Segoe UI','Liberation Sans','DejaVu Sans',sans-serif}"
    ".ef text{font-size:12px;fill:var(--ink,#1d1c1a)}.ef .t{fill:var(--soft,#6d685f)}"
    ".ef .h{font-size:14px;font-weight:600}.ef .l{font-size:11px;paint-order:stroke;stroke:var(--card,#fff);"
    "stroke-width:3px;stroke-linejoin:round}"
    ".ef .grid{stroke:var(--line,#e4dfd3)}.ef .axis{stroke:var(--soft,#6d685f)}"
    ".ef .lead{stroke:var(--soft,#6d685f);stroke-opacity:.55;stroke-width:.8}"
    ".ef polyline{fill:none;stroke-width:1.6}.ef .bound{stroke:#b3123f;stroke-width:2.2}"
    ".ef .best{stroke:#6d685f;stroke-dasharray:7 4}.ef .even{stroke:#6d685f;stroke-dasharray:2 3}"
    ".ef .f{fill:var(--ink,#1d1c1a)}.ef .mark{stroke:var(--card,#fff);stroke-width:1.2}"
    ".g0{fill:#007a99}.g1{fill:#c4551d}.g2{fill:#2f7d5b}.g3{fill:#7c4fa0}.g4{fill:#b08a12}.g5{fill:#9f2f6b}"
    ".g6{fill:#4a5fc1}.g7{fill:#7a7f86}"
    ".ef .p0,.ef .p1,.ef .p2,.ef .p3,.ef .p4,.ef .p5,.ef .p6,.ef .p7,.ef .p8{stroke-width:1.8}"
    ".p0{stroke:#007a99}.p1{stroke:#c4551d}.p2{stroke:#2f7d5b}.p3{stroke:#7c4fa0}.p4{stroke:#b08a12}"
    ".p5{stroke:#9f2f6b}.p6{stroke:#1d1c1a}.p7{stroke:#7a7f86;stroke-dasharray:5 3}.p8{stroke:#4a5fc1;"
    "stroke-dasharray:2 3}"
    "</style>\n";

struct panel {
    double x0, y0, x1, y1;             /* pixels; y0 is the top */
    double from_x, to_x, from_y, to_y; /* bits; and log10 of the error, or bits above the bound */
    bool gap;
};

static double px(const struct panel *p, double bits) {
    return p->x0 + (bits - p->from_x) / (p->to_x - p->from_x) * (p->x1 - p->x0);
}

/* What a panel shows at bits and error. */
static double shown(const struct panel *p, double bits, double relative) {
    return p->gap ? ht_gap_bits(bits, relative) : log10(relative);
}

static double py(const struct panel *p, double value) {
    return p->y1 - (value - p->from_y) / (p->to_y - p->from_y) * (p->y1 - p->y0);
}

static void text(struct ht_buf *out, const char *class, double x, double y, const char *anchor, const char *s) {
    ht_buf_printf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    ht_report_escape(out, s);
    ht_buf_puts(out, "</text>\n");
}

static void line(struct ht_buf *out, const char *class, double x0, double y0, double x1, double y1) {
    ht_buf_printf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x0, y0, x1, y1);
}

/* Height of a point's mark; *cut: it would lie above the panel. */
static double mark_y(const struct panel *p, const struct ht_error_point *q, bool *cut) {
    double v = shown(p, q->bits, q->relative);
    *cut = v > p->to_y;
    return *cut ? p->y0 + 7 : py(p, v);
}

static bool drawable(const struct ht_error_point *p) {
    return p->relative > 0 && isfinite(p->relative) && isfinite(p->bits);
}

/* Points within FAR_BITS, or all when none is. */
static double last_bits(const struct ht_error_plot *plot) {
    double near = 0, all = 0;
    for (size_t i = 0; i < plot->n_points; i++) {
        if (drawable(&plot->points[i])) {
            all = fmax(all, plot->points[i].bits);
            near = plot->points[i].bits <= FAR_BITS ? fmax(near, plot->points[i].bits) : near;
        }
    }
    return near > 0 ? near : all;
}

/* Index of a family among those drawn; name NULL: how many there are. */
static size_t group_of(const struct ht_error_plot *plot, double last, const char *name, const char *names[GROUPS]) {
    size_t n = 0;
    for (size_t i = 0; i < plot->n_points; i++) {
        size_t k = 0;
        if (!drawable(&plot->points[i]) || plot->points[i].bits > last) {
            continue;
        }
        while (k < n && strcmp(names[k], plot->points[i].group) != 0) {
            k++;
        }
        if (k == n && n < GROUPS) {
            names[n++] = plot->points[i].group;
        }
        if (name != NULL && strcmp(plot->points[i].group, name) == 0) {
            return k < GROUPS ? k : GROUPS - 1;
        }
    }
    return n;
}

/* ---- axes --------------------------------------------------------------------------------------------- */

static void bits_axis(const struct panel *p, bool named, struct ht_buf *out) {
    char label[16];
    for (int b = (int)ceil(p->from_x); b <= (int)floor(p->to_x); b++) {
        line(out, "grid", px(p, b), p->y0, px(p, b), p->y1);
        if (named) {
            snprintf(label, sizeof label, "%d", b);
            text(out, "t", px(p, b), p->y1 + 18, "middle", label);
        }
    }
    line(out, "axis", p->x0, p->y1, p->x1, p->y1);
    if (named) {
        text(out, "t", (p->x0 + p->x1) / 2, p->y1 + 38, "middle", "bits per weight, scales included");
    }
}

static void side_name(double x, double y, const char *name, struct ht_buf *out) {
    ht_buf_printf(out, "<text class=\"t\" text-anchor=\"middle\" transform=\"translate(%.1f %.1f) rotate(-90)\">",
                  x, y);
    ht_report_escape(out, name);
    ht_buf_puts(out, "</text>\n");
}

static void error_axis(const struct panel *p, const char *name, struct ht_buf *out) {
    char label[32];
    for (int e = (int)ceil(p->from_y); e <= (int)floor(p->to_y + 1e-9); e++) {
        line(out, "grid", p->x0, py(p, e), p->x1, py(p, e));
        snprintf(label, sizeof label, e < -4 ? "1e%d" : "%.*f", e < -4 ? e : e < 0 ? -e : 0, pow(10, e));
        text(out, "t", p->x0 - 8, py(p, e) + 4, "end", label);
        snprintf(label, sizeof label, "%d dB", -10 * e);
        text(out, "t", p->x1 + 8, py(p, e) + 4, "start", label);
    }
    side_name(14, (p->y0 + p->y1) / 2, name, out);
    side_name(WIDTH - 10, (p->y0 + p->y1) / 2, "signal-to-noise ratio", out);
}

static void gap_axis(const struct panel *p, struct ht_buf *out) {
    char label[16];
    double step = p->to_y - p->from_y > 2.5 ? 0.5 : p->to_y - p->from_y > 1 ? 0.2 : 0.1;
    for (double k = ceil(p->from_y / step); k * step <= p->to_y + 1e-9; k++) {
        double v = k * step;
        line(out, "grid", p->x0, py(p, v), p->x1, py(p, v));
        snprintf(label, sizeof label, "%.1f", fabs(v) < 1e-9 ? 0.0 : v);
        text(out, "t", p->x0 - 8, py(p, v) + 4, "end", label);
    }
    side_name(14, (p->y0 + p->y1) / 2, "bits above the bound", out);
}

/* ---- content ------------------------------------------------------------------------------------------ */

/* The parts of a polyline that lie inside the panel, cut at its borders. */
static void curve(const struct panel *p, const struct ht_error_line *l, struct ht_buf *out) {
    bool open = false;
    for (size_t i = 0; i + 1 < l->n; i++) {
        double x[2], y[2], a = 0, b = 1;
        for (int k = 0; k < 2; k++) {
            x[k] = l->bits[i + (size_t)k];
            y[k] = shown(p, x[k], l->relative[i + (size_t)k]);
        }
        const double from[2] = {x[0], y[0]}, step[2] = {x[1] - x[0], y[1] - y[0]};
        const double low[2] = {p->from_x, p->from_y}, high[2] = {p->to_x, p->to_y};
        for (int k = 0; k < 2; k++) {
            if (step[k] != 0) {
                double u = (low[k] - from[k]) / step[k], v = (high[k] - from[k]) / step[k];
                a = fmax(a, fmin(u, v));
                b = fmin(b, fmax(u, v));
            } else if (from[k] < low[k] || from[k] > high[k]) {
                b = -1;
            }
        }
        if (a >= b) {
            continue;
        }
        if (!open) {
            ht_buf_printf(out, "<polyline class=\"%s\" points=\"", l->style);
            open = true;
        }
        ht_buf_printf(out, "%.1f,%.1f %.1f,%.1f ", px(p, from[0] + a * step[0]), py(p, from[1] + a * step[1]),
                      px(p, from[0] + b * step[0]), py(p, from[1] + b * step[1]));
    }
    ht_buf_puts(out, open ? "\"/>\n" : "");
}

static void mark(const struct panel *p, const struct ht_error_plot *plot, double last,
                 const struct ht_error_point *q, struct ht_label_plan *plan, struct ht_buf *out) {
    const char *names[GROUPS];
    bool cut;
    double x = px(p, q->bits), y = mark_y(p, q, &cut);
    ht_buf_puts(out, "<g><title>");
    ht_report_escape(out, q->name);
    ht_buf_printf(out, ": %.4g bits, relative error %.4g (%.2f dB), %.3f bits above the bound", q->bits, q->relative,
                  -ht_db(q->relative), ht_gap_bits(q->bits, q->relative));
    ht_buf_puts(out, "</title>");
    size_t group = group_of(plot, last, q->group, names);
    if (cut) {
        ht_buf_printf(out, "<path class=\"mark g%zu\" d=\"M%.1f %.1fl5.5 10h-11z\"/></g>\n", group, x, y - 6);
    } else {
        ht_buf_printf(out, "<circle class=\"mark g%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/></g>\n", group, x, y);
    }
    plan->taken[plan->n_taken++] = (struct ht_box){x - 5, y - 5, x + 5, y + 5};
}

static void label(const struct panel *p, const struct ht_error_point *q, struct ht_label_plan *plan,
                  struct ht_buf *out) {
    bool cut, far = false;
    double x = px(p, q->bits), y = mark_y(p, q, &cut);
    struct ht_box b;
    char name[160];
    if (cut) {
        snprintf(name, sizeof name, "%s (%.2f)", q->name, ht_gap_bits(q->bits, q->relative));
    } else {
        snprintf(name, sizeof name, "%s", q->name);
    }
    if (!ht_label_place(plan, x, y, (double)strlen(name) * CHAR_WIDTH + 4, 13, &b, &far)) {
        plan->n_taken--; /* nowhere free: the tooltip has the name */
        return;
    }
    if (far) {
        line(out, "lead", x, y, fmin(fmax(x, b.x0), b.x1), fmin(fmax(y, b.y0), b.y1));
    }
    text(out, "l", (b.x0 + b.x1) / 2, b.y1 - 3, "middle", name);
}

static void content(const struct panel *p, const struct ht_error_plot *plot, double last, struct ht_buf *out) {
    struct ht_label_plan plan = {.area = {p->x0, p->y0, p->x1, p->y1}};
    plan.taken = ht_mem_calloc(2 * plot->n_points + 1, sizeof *plan.taken);
    if (plan.taken == NULL) {
        out->failed = true;
        return;
    }
    for (size_t i = plot->n_lines; i-- > 0;) {
        curve(p, &plot->lines[i], out);
    }
    for (size_t i = 0; i < plot->n_points; i++) {
        if (drawable(&plot->points[i]) && plot->points[i].bits <= last) {
            mark(p, plot, last, &plot->points[i], &plan, out);
        }
    }
    for (size_t i = 0; i < plot->n_points; i++) {
        if (drawable(&plot->points[i]) && plot->points[i].bits <= last) {
            label(p, &plot->points[i], &plan, out);
        }
    }
    ht_mem_free(plan.taken);
}

/* ---- legend ------------------------------------------------------------------------------------------- */

static double entry_width(const char *name) {
    return (double)strlen(name) * 6.6 + 52;
}

static void legend(const struct ht_error_plot *plot, double last, double y, struct ht_buf *out) {
    const char *names[GROUPS];
    size_t n = group_of(plot, last, NULL, names);
    double x = 78;
    for (size_t i = 0; i < n; i++) {
        ht_buf_printf(out, "<circle class=\"mark g%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n", i, x + 5, y - 4);
        text(out, "f", x + 16, y, "start", names[i]);
        x += entry_width(names[i]) - 14;
    }
    x = 78;
    for (size_t i = 0; i < plot->n_lines; i++) {
        ht_buf_printf(out, "<polyline class=\"%s\" points=\"%.1f,%.1f %.1f,%.1f\"/>\n", plot->lines[i].style, x, y + 18,
                      x + 28, y + 18);
        text(out, "f", x + 36, y + 22, "start", plot->lines[i].name);
        x += entry_width(plot->lines[i].name) + 6;
    }
}

static void told(const struct ht_error_plot *plot, double last, double y, struct ht_buf *out) {
    struct ht_buf names;
    ht_buf_init(&names, 512);
    size_t n = 0;
    for (size_t i = 0; i < plot->n_points; i++) {
        if (!drawable(&plot->points[i]) || plot->points[i].bits > last) {
            ht_buf_puts(&names, n++ > 0 ? ", " : "Not drawn (not measured, exact, or too many bits): ");
            ht_buf_puts(&names, plot->points[i].name);
        }
    }
    if (n > 0) {
        text(out, "t", 78, y, "start",
             ht_buf_ok(&names) ? names.data : "Not drawn: formats not measured, exact, or with too many bits");
    }
    ht_buf_deinit(&names);
}

void ht_errors_figure(const struct ht_error_plot *plot, bool alone, struct ht_buf *out) {
    double last = last_bits(plot), first = INFINITY, lo = INFINITY, hi = -INFINITY, gap_lo = 0, gap_hi = 0.3;
    for (size_t i = 0; i < plot->n_points; i++) {
        const struct ht_error_point *q = &plot->points[i];
        if (drawable(q) && q->bits <= last) {
            first = fmin(first, q->bits);
            lo = fmin(lo, log10(q->relative));
            hi = fmax(hi, log10(q->relative));
            gap_lo = fmin(gap_lo, ht_gap_bits(q->bits, q->relative));
            gap_hi = fmax(gap_hi, ht_gap_bits(q->bits, q->relative));
        }
    }
    if (!isfinite(first)) {
        return;
    }
    gap_hi = fmin(gap_hi, HIGH_GAP);
    struct panel a = {78, 116, WIDTH - 76, 520, fmax(0, first - MARGIN), last + MARGIN, 0, 0, false}, b = a;
    a.from_y = fmin(floor(lo), hi - 0.5);
    a.to_y = fmax(ceil(hi), lo + 0.5);
    b.gap = true;
    b.y0 = 566;
    b.y1 = 936;
    b.from_y = gap_lo - 0.05 * (gap_hi - gap_lo);
    b.to_y = gap_hi + 0.06 * (gap_hi - gap_lo);
    double height = HEIGHT + (plot->precision ? HT_PRECISION_HEIGHT : 0);
    ht_buf_printf(out, "<svg class=\"ef%s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                       "aria-label=\"Error against bits\"", alone ? "" : " plot", WIDTH, height);
    if (alone) {
        ht_buf_printf(out, " xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\"", WIDTH, height);
    }
    ht_buf_puts(out, ">\n");
    ht_buf_puts(out, style);
    if (alone) {
        ht_buf_printf(out, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/>\n", WIDTH, height);
    }
    text(out, "h", 78, 28, "start", plot->title);
    legend(plot, last, 58, out);
    bits_axis(&a, false, out);
    error_axis(&a, plot->error, out);
    content(&a, plot, last, out);
    bits_axis(&b, true, out);
    gap_axis(&b, out);
    content(&b, plot, last, out);
    told(plot, last, HEIGHT - 14, out);
    if (plot->precision) {
        ht_precision_panel(HEIGHT + 58, out);
    }
    ht_buf_puts(out, "</svg>\n");
}
