/* show: a method or recipe told in full: five choices per place, six steps with their formulas, sources. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/nearest.h"
#include "flow/flow.h"
#include "flow/flow_doc.h"
#include "quant/method.h"
#include "quant/mix.h"
#include "quant/recipe_yaml.h"

ht_status ht_flow_find_recipe(const char *name, struct ht_recipe *recipe, ht_err *err) {
    const struct ht_method *method = ht_method_find(name);
    size_t len = strlen(name);
    if (method != NULL) {
        return ht_method_recipe(method, recipe, err);
    }
    if (strchr(name, '/') != NULL || (len > 5 && strcmp(name + len - 5, ".yaml") == 0)) {
        return ht_recipe_load(name, recipe, err);
    }
    char near[128];
    if (ht_mix_find(name) != NULL || ht_format_find(name) != NULL) {
        return ht_fail(err, HT_INVAL, "method", HT_NO_POS,
                       "%s is a %s, not a method: --format %s; 'halftone list methods' shows methods", name,
                       ht_mix_find(name) != NULL ? "preset of formats" : "format", name);
    }
    ht_nearest(name, ht_method_name_at, NULL, ht_method_count(), near, sizeof near);
    return ht_fail(err, HT_INVAL, "method", HT_NO_POS,
                   "unknown method '%s'%s%s; 'halftone list methods' shows all", name,
                   near[0] != '\0' ? ", did you mean " : "", near);
}

/* ---- one choice -------------------------------------------------------------------------------------------- */

static json_t *choice_doc(struct ht_doc *d, const struct ht_choice *c) {
    char text[HT_CHOICE_TEXT], bits[320];
    const struct ht_part *p = c->part;
    json_t *o = json_object();
    ht_doc_set(d, o, "part", json_string(p->name));
    ht_doc_set(d, o, "text", json_string(ht_choice_text(c, text)));
    ht_doc_set(d, o, "summary", json_string(p->summary));
    ht_doc_set(d, o, "formula", json_string(p->formula));
    ht_doc_set(d, o, "source", json_string(p->source));
    ht_doc_set(d, o, "needs", json_string(ht_part_needs_text(p->needs, bits, sizeof bits)));
    ht_doc_set(d, o, "leaves", json_string(ht_part_leaves_text(p->leaves, bits, sizeof bits)));
    json_t *options = ht_doc_array(d, o, "options");
    for (size_t i = 0; i < HT_PART_OPTIONS && p->options[i].name != NULL; i++) {
        const struct ht_part_option *q = &p->options[i];
        ht_doc_append(d, options, json_pack("{s:s, s:f, s:f, s:s}", "name", q->name, "value", c->options[i],
                                            "default", q->value, "help", q->help));
    }
    return o;
}

static void add_place(struct ht_doc *d, enum ht_place place, const struct ht_place_recipe *p) {
    json_t *o = ht_doc_object(d, d->root, ht_place_name(place));
    json_t *transforms = ht_doc_array(d, o, "transform");
    for (size_t i = 0; i < p->n_transforms; i++) {
        ht_doc_append(d, transforms, choice_doc(d, &p->transforms[i]));
    }
    ht_doc_set(d, o, "range", choice_doc(d, &p->range));
    ht_doc_set(d, o, "format", json_string(p->format[0] != '\0' ? p->format : "any, chosen by --format"));
    ht_doc_set(d, o, "round", choice_doc(d, &p->round));
    ht_doc_set(d, o, "outlier", choice_doc(d, &p->outlier));
}

/* ---- the six steps ------------------------------------------------------------------------------------------ */

static void add_step(struct ht_doc *d, json_t *steps, const char *name, const char *what, const char *formula,
                     const char *source) {
    ht_doc_append(d, steps, json_pack("{s:s, s:s, s:s, s:s}", "step", name, "what", what, "formula", formula, "source",
                                      source));
}

static void add_part_step(struct ht_doc *d, json_t *steps, const char *name, const struct ht_choice *c) {
    add_step(d, steps, name, c->part->summary, c->part->formula, c->part->source);
}

static void add_steps(struct ht_doc *d, const struct ht_place_recipe *w) {
    json_t *steps = ht_doc_array(d, d->root, "steps");
    struct ht_choice none;
    ht_choice_defaults(&none, ht_part_find(HT_AXIS_TRANSFORM, "none"));
    for (size_t i = 0; i < w->n_transforms; i++) {
        add_part_step(d, steps, "transform", &w->transforms[i]);
    }
    if (w->n_transforms == 0) {
        add_part_step(d, steps, "transform", &none);
    }
    add_part_step(d, steps, "split outliers", &w->outlier);
    add_part_step(d, steps, "fit the range", &w->range);
    add_step(d, steps, "snap", "scales and zeros become what the format can store, before any code is chosen",
             "s <- store(s), z <- store(z)", "docs/formats.md");
    add_part_step(d, steps, "round", &w->round);
    add_step(d, steps, "encode", "codes and scales become bytes; then the error of the output is measured",
             "|X W - X W^|^2", "docs/formats.md, docs/codes.md");
}

ht_status ht_flow_show(const char *name, char **json, ht_err *err) {

    struct ht_recipe r;
    struct ht_doc d;
    struct ht_buf yaml;
    char bits[320];
    HT_TRY(ht_flow_find_recipe(name, &r, err));
    const struct ht_method *method = ht_method_find(name); /* NULL: a file */
    ht_doc_init(&d, "halftone.show/1");
    ht_doc_set(&d, d.root, "name", json_string(r.name));
    ht_doc_set(&d, d.root, "summary", ht_doc_text(r.summary, strlen(r.summary)));
    ht_doc_set(&d, d.root, "source", ht_doc_text(r.source, strlen(r.source)));
    if (method != NULL) {
        ht_doc_set(&d, d.root, "differs", method->differs != NULL ? json_string(method->differs) : json_null());
    }
    for (int p = 0; p < HT_PLACES; p++) {
        if (p == HT_PLACE_WEIGHTS || r.places[p].format[0] != '\0') {
            add_place(&d, (enum ht_place)p, &r.places[p]);
        } else {
            ht_doc_set(&d, d.root, ht_place_name((enum ht_place)p), json_null());
        }
    }
    add_steps(&d, &r.places[HT_PLACE_WEIGHTS]);
    ht_doc_set(&d, d.root, "rules", json_integer((json_int_t)r.n_rules));
    json_t *c = ht_doc_object(&d, d.root, "calibration");
    ht_doc_set(&d, c, "tokens", json_integer((json_int_t)r.calibration.tokens));
    ht_doc_set(&d, c, "window", json_integer(r.calibration.window));
    ht_doc_set(&d, c, "sequential", json_boolean(r.calibration.sequential));
    ht_doc_set(&d, c, "drift", json_real(r.calibration.drift));
    ht_doc_set(&d, d.root, "needs", json_string(ht_part_needs_text(ht_recipe_needs(&r), bits, sizeof bits)));
    ht_doc_set(&d, d.root, "leaves", json_string(ht_part_leaves_text(ht_recipe_leaves(&r), bits, sizeof bits)));
    ht_buf_init(&yaml, 0);
    ht_recipe_write(&r, &yaml);
    ht_doc_set(&d, d.root, "yaml", ht_buf_ok(&yaml) ? ht_doc_text(yaml.data, yaml.len) : NULL);
    ht_buf_deinit(&yaml);
    return ht_doc_finish(&d, json, err);
}
