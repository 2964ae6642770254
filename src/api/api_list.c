/* ht_list and ht_cpu: the tables of this build as JSON. Each registry is a row: how many entries, and how one
 * is told. */
#include <stdio.h>
#include <strings.h>

#include "api/options.h"
#include "base/cpu.h"
#include "base/nearest.h"
#include "flow/flow.h"
#include "flow/flow_doc.h"
#include "format/guide.h"
#include "io/container.h"
#include "kernel/kernel.h"
#include "model/arch.h"
#include "quant/method.h"
#include "quant/mix.h"
#include "quant/range.h"
#include "token/chat.h"
#include "token/pretokenizer.h"

static json_t *entry(struct ht_doc *d, const char *name, const char *summary) {
    json_t *o = json_object();
    ht_doc_set(d, o, "name", json_string(name));
    ht_doc_set(d, o, "summary", json_string(summary));
    return o;
}

static json_t *text(const char *s) {
    return s != NULL ? json_string(s) : json_null();
}

static const char *kind_name(enum ht_format_kind kind) {
    static const char *const names[] = {"float", "int", "block", "kblock", "lut", "lattice", "code"};
    return names[kind];
}

static json_t *format_entry(struct ht_doc *d, size_t i) {
    const struct ht_format *f = ht_format_at(i);
    struct ht_format_span span;
    json_t *o = entry(d, f->name, f->summary);
    ht_format_span(f, &span);
    ht_doc_set(d, o, "source", text(f->source));
    ht_doc_set(d, o, "kind", json_string(kind_name(f->kind)));
    ht_doc_set(d, o, "bits_per_weight", ht_doc_real(ht_format_bits(f)));
    ht_doc_set(d, o, "block", json_integer(f->block_elems));
    ht_doc_set(d, o, "block_bytes", json_integer(f->block_bytes));
    ht_doc_set(d, o, "range", json_string(span.range));
    ht_doc_set(d, o, "levels", ht_doc_real(span.levels));
    ht_doc_set(d, o, "max", ht_doc_real(span.max));
    ht_doc_set(d, o, "min_normal", ht_doc_real(span.min_normal));
    ht_doc_set(d, o, "min_positive", ht_doc_real(span.min_positive));
    ht_doc_set(d, o, "eps", ht_doc_real(span.eps));
    ht_doc_set(d, o, "decades", ht_doc_real(span.decades));
    ht_doc_set(d, o, "dynamic_range_db", ht_doc_real(20 * span.decades));
    ht_doc_set(d, o, "use", json_string(ht_format_use(f)));
    ht_doc_set(d, o, "hardware", json_string(ht_format_hardware(f)));
    ht_doc_set(d, o, "gguf_type", f->gguf_type >= 0 ? json_integer(f->gguf_type) : json_null());
    ht_doc_set(d, o, "safetensors", text(f->st_dtype));
    return o;
}

/* "none", "migrate:alpha=0.5, ..." */
static json_t *transforms_text(const struct ht_place_recipe *p) {
    char out[HT_MAX_TRANSFORMS * HT_CHOICE_TEXT] = "none", one[HT_CHOICE_TEXT];
    size_t used = 0;
    for (size_t i = 0; i < p->n_transforms && used < sizeof out; i++) {
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%s", i > 0 ? ", " : "",
                                 ht_choice_text(&p->transforms[i], one));
    }
    return json_string(out);
}

static json_t *method_entry(struct ht_doc *d, size_t i) {
    const struct ht_method *m = ht_method_at(i);
    json_t *o = entry(d, m->name, m->summary);
    struct ht_recipe recipe;
    char one[HT_CHOICE_TEXT], bits[320];
    if (ht_method_recipe(m, &recipe, NULL) != HT_OK) {
        d->failed = true;
        return o;
    }
    const struct ht_place_recipe *w = &recipe.places[HT_PLACE_WEIGHTS];
    ht_doc_set(d, o, "transform", transforms_text(w));
    ht_doc_set(d, o, "range", json_string(ht_choice_text(&w->range, one)));
    ht_doc_set(d, o, "format", json_string(w->format[0] != '\0' ? w->format : "any"));
    ht_doc_set(d, o, "round", json_string(ht_choice_text(&w->round, one)));
    ht_doc_set(d, o, "outlier", json_string(ht_choice_text(&w->outlier, one)));
    for (int p = HT_PLACE_ACTIVATIONS; p < HT_PLACES; p++) {
        const char *format = recipe.places[p].format;
        ht_doc_set(d, o, ht_place_name((enum ht_place)p), json_string(format[0] != '\0' ? format : "float"));
    }
    ht_doc_set(d, o, "needs", json_string(ht_part_needs_text(ht_recipe_needs(&recipe), bits, sizeof bits)));
    ht_doc_set(d, o, "leaves", json_string(ht_part_leaves_text(ht_recipe_leaves(&recipe), bits, sizeof bits)));
    ht_doc_set(d, o, "source", text(m->source));
    return o;
}

static const char *option_type(enum ht_option_type type) {
    static const char *const names[] = {"number", "whole number", "flag", "word"};
    return names[type];
}

static void add_options(struct ht_doc *d, json_t *o, const struct ht_part *p) {
    char options[HT_CHOICE_TEXT] = "";
    json_t *help = json_array();
    size_t used = 0;
    for (const struct ht_part_option *q = p->options; q->name != NULL; q++) {
        if (used < sizeof options) {
            used += (size_t)snprintf(options + used, sizeof options - used, "%s%s=%g", used > 0 ? "," : "", q->name,
                                     q->value);
        }
        json_t *row = json_pack("{s:s, s:s, s:f, s:f, s:f, s:s}", "name", q->name, "type", option_type(q->type),
                                "default", q->value, "low", q->low, "high", q->high, "help", q->help);
        if (q->words != NULL) {
            ht_doc_set(d, row, "words", json_string(q->words));
        }
        ht_doc_append(d, help, row);
    }
    ht_doc_set(d, o, "options", json_string(options));
    ht_doc_set(d, o, "option_help", help);
}

/* Where it may stand, for people and for programs. */
static void add_places(struct ht_doc *d, json_t *o, const struct ht_part *p) {
    char where[96];
    ht_doc_set(d, o, "for", json_string(ht_part_places_text(p, where, sizeof where)));
    json_t *places = ht_doc_array(d, o, "places");
    for (int place = 0; place < HT_PLACES; place++) {
        if ((p->places & (1u << place)) != 0) {
            ht_doc_append(d, places, json_string(ht_place_name((enum ht_place)place)));
        }
    }
}

static json_t *range_entry(struct ht_doc *d, size_t i) {
    const struct ht_part *p = &ht_range_at(i)->part;
    json_t *o = entry(d, p->name, p->summary);
    add_places(d, o, p);
    add_options(d, o, p);
    ht_doc_set(d, o, "source", text(p->source));
    return o;
}

static json_t *part_entry(struct ht_doc *d, size_t i) {
    const struct ht_part *p = ht_part_at(i);
    char bits[320];
    json_t *o = entry(d, p->name, p->summary);
    ht_doc_set(d, o, "axis", json_string(ht_axis_name(p->axis)));
    add_places(d, o, p);
    add_options(d, o, p);
    ht_doc_set(d, o, "needs", json_string(ht_part_needs_text(p->needs, bits, sizeof bits)));
    ht_doc_set(d, o, "leaves", json_string(ht_part_leaves_text(p->leaves, bits, sizeof bits)));
    ht_doc_set(d, o, "formula", text(p->formula));
    ht_doc_set(d, o, "source", text(p->source));
    ht_doc_set(d, o, "gguf_types", json_boolean((p->grids & HT_GRIDS_BLOCK) != 0));
    ht_doc_set(d, o, "schemes", json_boolean((p->grids & HT_GRIDS_CODE) != 0));
    return o;
}

static json_t *preset_entry(struct ht_doc *d, size_t i) {
    const struct ht_mix *m = ht_mix_at(i);
    json_t *o = entry(d, ht_mix_name(m), ht_mix_summary(m));
    ht_doc_set(d, o, "alias", text(ht_mix_alias(m)));
    ht_doc_set(d, o, "base", json_string(ht_mix_base(m)->name));
    ht_doc_set(d, o, "file_type", json_integer(ht_mix_file_type(m)));
    return o;
}

static json_t *arch_entry(struct ht_doc *d, size_t i) {
    const struct ht_arch *a = ht_arch_at(i);
    json_t *o = entry(d, a->name, a->summary);
    ht_doc_set(d, o, "source", text(a->source));
    ht_doc_set(d, o, "hf_class", text(a->hf_class));
    return o;
}

static json_t *container_entry(struct ht_doc *d, size_t i) {
    const struct ht_container *c = ht_container_at(i);
    json_t *o = entry(d, c->name, c->summary);
    ht_doc_set(d, o, "source", text(c->source));
    return o;
}

static json_t *pre_entry(struct ht_doc *d, size_t i) {
    const struct ht_pretokenizer *p = ht_pretokenizer_at(i);
    json_t *o = entry(d, p->name, p->summary);
    json_t *aliases = ht_doc_array(d, o, "aliases");
    for (const char *const *a = p->aliases; a != NULL && *a != NULL; a++) {
        ht_doc_append(d, aliases, json_string(*a));
    }
    return o;
}

static json_t *chat_entry(struct ht_doc *d, size_t i) {
    return entry(d, ht_chat_at(i)->name, ht_chat_at(i)->summary);
}

static const struct registry {
    const char *name;
    size_t (*count)(void);
    json_t *(*entry)(struct ht_doc *d, size_t i);
} registries[] = {
    {"formats", ht_format_count, format_entry},
    {"methods", ht_method_count, method_entry},
    {"parts", ht_part_count, part_entry},
    {"ranges", ht_range_count, range_entry},
    {"presets", ht_mix_count, preset_entry},
    {"architectures", ht_arch_count, arch_entry},
    {"containers", ht_container_count, container_entry},
    {"pretokenizers", ht_pretokenizer_count, pre_entry},
    {"chats", ht_chat_count, chat_entry},
};
enum { N_REGISTRIES = sizeof registries / sizeof registries[0] };

static const char *registry_name(const void *unused, size_t i) {
    (void)unused;
    return registries[i].name;
}

ht_status ht_list(const char *registry, char **json, ht_err *err) {
    ht_err_clear(err);
    if (json != NULL) {
        *json = NULL;
    }
    HT_TRY(ht_need_text(registry, "registry", err));
    for (size_t r = 0; r < N_REGISTRIES; r++) {
        if (strcasecmp(registries[r].name, registry) == 0) {
            struct ht_doc d = {json_array(), false};
            for (size_t i = 0; i < registries[r].count(); i++) {
                ht_doc_append(&d, d.root, registries[r].entry(&d, i));
            }
            return ht_doc_finish(&d, json, err);
        }
    }
    char near[128];
    ht_nearest(registry, registry_name, NULL, N_REGISTRIES, near, sizeof near);
    return ht_fail(err, HT_INVAL, "registry", HT_NO_POS,
                   "no list of '%s'%s%s; there are formats, methods, parts, ranges, presets, architectures, "
                   "containers, pretokenizers, chats",
                   registry, near[0] != '\0' ? ", did you mean " : "", near);
}

ht_status ht_show(const char *method, char **json, ht_err *err) {
    ht_err_clear(err);
    if (json != NULL) {
        *json = NULL;
    }
    HT_TRY(ht_need_text(method, "method", err));
    return ht_flow_show(method, json, err);
}

ht_status ht_cpu(char **json, ht_err *err) {
    ht_err_clear(err);
    if (json != NULL) {
        *json = NULL;
    }
    char model[128];
    struct ht_doc d;
    ht_doc_init(&d, "halftone.cpu/1");
    ht_cpu_model(model, sizeof model);
    ht_doc_set(&d, d.root, "model", ht_doc_text(model, strlen(model)));
    ht_doc_set(&d, d.root, "cpus", json_integer(ht_cpu_count()));
    ht_doc_set(&d, d.root, "best", json_string(ht_cpu_level_name(ht_cpu_best())));
    json_t *levels = ht_doc_array(&d, d.root, "levels");
    for (int i = 0; i < HT_CPU_LEVELS; i++) {
        enum ht_cpu_level l = (enum ht_cpu_level)i;
        ht_doc_append(&d, levels,
                      json_pack("{s:s, s:s, s:b, s:b}", "name", ht_cpu_level_name(l), "needs",
                                ht_cpu_level_needs(l), "found", ht_cpu_found(l), "used", ht_cpu_has(l)));
    }
    json_t *slots = ht_doc_array(&d, d.root, "kernels");
    const char *level, *name;
    for (size_t i = 0; (name = ht_kernel_slot(i, &level)) != NULL; i++) {
        ht_doc_append(&d, slots, json_pack("{s:s, s:s}", "slot", name, "level", level));
    }
    return ht_doc_finish(&d, json, err);
}
