/* What quantizing did to each tensor, as coloured cells: roles down, layers across. One figure per quantity that
 * the record has. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "flow/report.h"

#define HEAT_ROLES 24
#define HEAT_SHADES 10
#define HEAT_SPAN 10.0 /* dB, at least: small differences stay small */
#define HEAT_MAX 7000.0 /* dB; more than any ratio of two doubles has: the field is damaged */

/* NAN: the tensor has none. */
static double weight_error(const json_t *t) {
    return ht_report_number(t, "rel_error_db");
}

static double output_error(const json_t *t) {
    return ht_report_number(json_object_get(t, "round"), "output_error_db");
}

double ht_report_gain_db(const json_t *t) {
    const json_t *r = json_object_get(t, "round");
    double nearest = ht_report_number(r, "loss_nearest"), loss = ht_report_number(r, "loss");
    return nearest > 0 && loss > 0 ? 10.0 * log10(loss / nearest) : NAN;
}

static const struct quantity {
    const char *label, *text;
    double (*value)(const json_t *tensor);
} QUANTITIES[] = {
    {"Relative error of each tensor", "error of the stored weights", weight_error},
    {"Relative error of each product", "error of the outputs on calibration text", output_error},
    {"Error of each product against rounding to nearest", "outputs against rounding to nearest", ht_report_gain_db},
};

struct heat {
    const struct quantity *quantity;
    const char *roles[HEAT_ROLES];
    size_t n_roles, n_cells;
    int n_layers;
    double lo, hi; /* dB */
};

static int layer_of(const json_t *t) {
    double layer = ht_report_number(t, "layer");
    return layer >= 0 && layer < 4096 ? (int)layer : -1;
}

static size_t role_index(const struct heat *h, const char *role) {
    size_t i = 0;
    while (i < h->n_roles && strcmp(h->roles[i], role) != 0) {
        i++;
    }
    return i;
}

/* A cell exists for a tensor that has a role and a value that an error can have. */
static bool cell_of(const struct heat *h, const json_t *t, const char **role, double *db) {
    *role = ht_report_text(t, "role");
    *db = h->quantity->value(t);
    return *role != NULL && fabs(*db) <= HEAT_MAX;
}

static void layout(const json_t *tensors, struct heat *h) {
    const json_t *t;
    const char *role;
    double db;
    size_t i;
    json_array_foreach(tensors, i, t) {
        if (cell_of(h, t, &role, &db)) {
            int layer = layer_of(t);
            h->n_cells++;
            h->lo = fmin(h->lo, db);
            h->hi = fmax(h->hi, db);
            h->n_layers = layer + 1 > h->n_layers ? layer + 1 : h->n_layers;
            if (role_index(h, role) == h->n_roles && h->n_roles < HEAT_ROLES) {
                h->roles[h->n_roles++] = role;
            }
        }
    }
    h->lo = fmin(h->lo, h->hi - HEAT_SPAN);
}

static void tick(struct ht_buf *out, double x, double y, const char *anchor, const char *s) {
    ht_buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    ht_report_escape(out, s);
    ht_buf_puts(out, "</text>\n");
}

static void axes(const struct heat *h, double left, double cell, double row, struct ht_buf *out) {
    char label[32];
    double y = (double)h->n_roles * row + 18, x = left + 340;
    for (size_t r = 0; r < h->n_roles; r++) {
        tick(out, left - 8, (double)r * row + 17, "end", h->roles[r]);
    }
    for (int l = 0; l < h->n_layers; l += cell >= 20 ? 1 : cell >= 8 ? 5 : 20) {
        snprintf(label, sizeof label, "%d", l);
        tick(out, left + (l + 0.5) * cell, y, "middle", label);
    }
    tick(out, left - 8, y, "end", "layer");
    tick(out, left, y + 26, "start", h->quantity->text);
    snprintf(label, sizeof label, "%.1f dB", h->lo);
    tick(out, x - 8, y + 26, "end", label);
    for (int s = 0; s < HEAT_SHADES; s++) {
        ht_buf_printf(out, "<rect class=\"h%d\" x=\"%.1f\" y=\"%.1f\" width=\"21\" height=\"12\"/>\n", s, x + s * 22,
                      y + 16);
    }
    snprintf(label, sizeof label, "%.1f dB", h->hi);
    tick(out, x + HEAT_SHADES * 22 + 8, y + 26, "start", label);
}

static void draw(const struct heat *h, const json_t *tensors, struct ht_buf *out) {
    double left = 120, row = 18, cell = fmin(730.0 / (h->n_layers > 0 ? h->n_layers : 1), 36);
    ht_buf_printf(out, "<svg class=\"plot heat\" viewBox=\"0 0 880 %.0f\" role=\"img\" aria-label=\"%s\">\n",
                  (double)h->n_roles * row + 56, h->quantity->label);
    const json_t *t;
    const char *role;
    double db;
    size_t i;
    json_array_foreach(tensors, i, t) {
        size_t r;
        if (!cell_of(h, t, &role, &db) || (r = role_index(h, role)) == h->n_roles) {
            continue;
        }
        int layer = layer_of(t), shade = (int)((db - h->lo) / (h->hi - h->lo) * (HEAT_SHADES - 0.001));
        ht_buf_printf(out, "<rect class=\"h%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>", shade,
                      left + (layer > 0 ? layer : 0) * cell, (double)r * row + 5, cell - 1, row - 2);
        ht_report_escape(out, ht_report_text(t, "name") ? ht_report_text(t, "name") : role);
        ht_buf_puts(out, ", ");
        ht_report_escape(out, ht_report_text(t, "format") ? ht_report_text(t, "format") : "");
        ht_buf_printf(out, ": %.1f dB</title></rect>\n", db);
    }
    axes(h, left, cell, row, out);
    ht_buf_puts(out, "</svg>\n");
}

void ht_report_heats(const json_t *tensors, struct ht_buf *out) {
    for (size_t i = 0; i < sizeof QUANTITIES / sizeof QUANTITIES[0]; i++) {
        struct heat h = {.quantity = &QUANTITIES[i], .lo = INFINITY, .hi = -INFINITY};
        layout(tensors, &h);
        if (h.n_cells > 1) {
            draw(&h, tensors, out);
        }
    }
}
