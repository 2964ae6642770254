#include "quant/recipe_yaml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/nearest.h"
#include "base/yaml.h"

struct source {
    const char *what;
    struct ht_recipe *recipe;
};

/* One key of a mapping: reads its value into *to. */
struct key {
    const char *name;
    ht_status (*read)(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err);
};

static ht_status bad(const struct source *s, const struct ht_yaml *node, const char *expected, ht_err *err) {
    if (node->kind == HT_YAML_SCALAR) {
        return ht_fail(err, HT_FORMAT, s->what, HT_NO_POS, "line %u: %s%sexpected %s, found '%.64s'", node->line,
                       node->key != NULL ? node->key : "", node->key != NULL ? ": " : "", expected, node->text);
    }
    return ht_fail(err, HT_FORMAT, s->what, HT_NO_POS, "line %u: %s%sexpected %s, found %s", node->line,
                   node->key != NULL ? node->key : "", node->key != NULL ? ": " : "", expected,
                   ht_yaml_kind_name(node->kind));
}

/* The same failure with the file and line in front. */
static ht_status at_line(const struct source *s, const struct ht_yaml *node, const ht_err *inner, ht_err *err) {
    return ht_fail(err, inner->code, s->what, HT_NO_POS, "line %u: %s", node->line, inner->msg);
}

static const char *key_at(const void *keys, size_t i) {
    return ((const struct key *)keys)[i].name;
}

static ht_status read_keys(const struct source *s, const struct ht_yaml *map, const struct key *keys, size_t n,
                           void *to, ht_err *err) {
    if (map->kind != HT_YAML_MAP) {
        return bad(s, map, "a mapping", err);
    }
    for (const struct ht_yaml *m = map->first; m != NULL; m = m->next) {
        size_t i = 0;
        while (i < n && strcmp(keys[i].name, m->key) != 0) {
            i++;
        }
        if (i == n) {
            char near[128], known[192] = "";
            size_t used = 0;
            ht_nearest(m->key, key_at, keys, n, near, sizeof near);
            for (i = 0; i < n && used < sizeof known; i++) {
                used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", keys[i].name);
            }
            return ht_fail(err, HT_FORMAT, s->what, HT_NO_POS, "line %u: unknown key '%.64s'%s%s; there are %s",
                           m->line, m->key, near[0] != '\0' ? ", did you mean " : "", near, known);
        }
        HT_TRY(keys[i].read(s, m, to, err));
    }
    return HT_OK;
}

/* ---- values ----------------------------------------------------------------------------------------------- */

static ht_status read_text(const struct source *s, const struct ht_yaml *node, char *out, size_t len, ht_err *err) {
    if (node->kind != HT_YAML_SCALAR || node->text[0] == '\0') {
        return bad(s, node, "a text", err);
    }
    if (strlen(node->text) >= len) {
        return ht_fail(err, HT_LIMIT, s->what, HT_NO_POS, "line %u: %s: %zu bytes; at most %zu", node->line,
                       node->key != NULL ? node->key : "value", strlen(node->text), len - 1);
    }
    snprintf(out, len, "%s", node->text);
    return HT_OK;
}

static ht_status read_number(const struct source *s, const struct ht_yaml *node, double low, double high, bool whole,
                             double *out, ht_err *err) {
    char expected[96], *end = NULL;
    snprintf(expected, sizeof expected, "a %snumber from %.10g to %.10g", whole ? "whole " : "", low, high);
    if (node->kind != HT_YAML_SCALAR || node->text[0] == '\0' ||
        strspn(node->text, "0123456789.eE+-") != strlen(node->text)) {
        return bad(s, node, expected, err);
    }
    *out = strtod(node->text, &end);
    return *end == '\0' && *out >= low && *out <= high && (!whole || *out == floor(*out))
               ? HT_OK
               : bad(s, node, expected, err);
}

static ht_status read_choice(const struct source *s, const struct ht_yaml *node, enum ht_axis axis,
                             struct ht_choice *choice, ht_err *err) {
    ht_err inner = {0};
    if (node->kind == HT_YAML_SCALAR) {
        return ht_choice_parse(axis, node->text, choice, &inner) == HT_OK ? HT_OK : at_line(s, node, &inner, err);
    }
    if (node->kind != HT_YAML_MAP || node->first == NULL || strcmp(node->first->key, "part") != 0 ||
        node->first->kind != HT_YAML_SCALAR) {
        return bad(s, node, "a part's name, or a mapping that starts with 'part: NAME'", err);
    }
    if (strchr(node->first->text, ':') != NULL || ht_choice_parse(axis, node->first->text, choice, &inner) != HT_OK) {
        return inner.msg[0] != '\0' ? at_line(s, node->first, &inner, err) : bad(s, node->first, "a part's name", err);
    }
    for (const struct ht_yaml *m = node->first->next; m != NULL; m = m->next) {
        if (m->kind != HT_YAML_SCALAR) {
            return bad(s, m, "a value", err);
        }
        if (ht_choice_set(choice, m->key, m->text, &inner) != HT_OK) {
            return at_line(s, m, &inner, err);
        }
    }
    return HT_OK;
}

/* ---- a place ---------------------------------------------------------------------------------------------- */

static ht_status place_transform(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    struct ht_place_recipe *p = to;
    bool list = node->kind == HT_YAML_LIST;
    p->n_transforms = 0;
    if (node->kind == HT_YAML_SCALAR && strcmp(node->text, "none") == 0) {
        return HT_OK;
    }
    for (const struct ht_yaml *m = list ? node->first : node; m != NULL; m = list ? m->next : NULL) {
        if (p->n_transforms == HT_MAX_TRANSFORMS) {
            return ht_fail(err, HT_LIMIT, s->what, HT_NO_POS, "line %u: more than %d transforms", m->line,
                           HT_MAX_TRANSFORMS);
        }
        HT_TRY(read_choice(s, m, HT_AXIS_TRANSFORM, &p->transforms[p->n_transforms++], err));
    }
    return HT_OK;
}

static ht_status place_range(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_RANGE, &((struct ht_place_recipe *)to)->range, err);
}

static ht_status place_round(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_ROUND, &((struct ht_place_recipe *)to)->round, err);
}

static ht_status place_outlier(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_OUTLIER, &((struct ht_place_recipe *)to)->outlier, err);
}

static ht_status place_format(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_text(s, node, ((struct ht_place_recipe *)to)->format, HT_RECIPE_FORMAT, err);
}

static ht_status read_place(const struct source *s, const struct ht_yaml *node, enum ht_place place, ht_err *err) {
    static const struct key keys[] = {{"transform", place_transform}, {"range", place_range}, {"format", place_format},
                                      {"round", place_round}, {"outlier", place_outlier}};
    return read_keys(s, node, keys, sizeof keys / sizeof keys[0], &s->recipe->places[place], err);
}

static ht_status read_weights(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    return read_place(s, node, HT_PLACE_WEIGHTS, err);
}

static ht_status read_activations(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    return read_place(s, node, HT_PLACE_ACTIVATIONS, err);
}

static ht_status read_kv(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    return read_place(s, node, HT_PLACE_KV, err);
}

/* ---- rules ------------------------------------------------------------------------------------------------ */

static ht_status rule_role(const struct source *s, const struct ht_yaml *node, struct ht_recipe_rule *rule,
                           ht_err *err) {
    if (node->kind != HT_YAML_SCALAR) {
        return bad(s, node, "a role's name", err);
    }
    enum ht_role role = ht_role_find(node->text);
    if (role == HT_ROLES || !ht_role_quantizable(role)) {
        char near[128];
        ht_nearest(node->text, ht_role_name_at, NULL, HT_ROLES, near, sizeof near);
        return ht_fail(err, HT_FORMAT, s->what, HT_NO_POS, "line %u: '%.64s' is no role of a matrix%s%s", node->line,
                       node->text, role == HT_ROLES && near[0] != '\0' ? ", did you mean " : "",
                       role == HT_ROLES ? near : "");
    }
    rule->roles |= 1ull << role;
    return HT_OK;
}

static ht_status rule_roles(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    bool list = node->kind == HT_YAML_LIST;
    if (list && node->first == NULL) {
        return bad(s, node, "at least one role", err);
    }
    for (const struct ht_yaml *m = list ? node->first : node; m != NULL; m = list ? m->next : NULL) {
        HT_TRY(rule_role(s, m, to, err));
    }
    return HT_OK;
}

/* "3" or "0-3". */
static ht_status rule_layers(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    struct ht_recipe_rule *rule = to;
    unsigned long v[2] = {0, 0};
    const char *p = node->kind == HT_YAML_SCALAR ? node->text : "";
    int n = 0;
    for (bool more = true; more && n < 2; n++) {
        size_t digits = strspn(p, "0123456789");
        if (digits == 0 || digits > 6) {
            return bad(s, node, "layers as in 3 or 0-3", err);
        }
        v[n] = strtoul(p, NULL, 10);
        p += digits;
        more = *p == '-';
        p += more;
    }
    v[1] = n == 1 ? v[0] : v[1];
    if (*p != '\0' || (n == 2 && p[-1] == '-') || v[1] < v[0] || v[1] >= HT_MAX_LAYERS) {
        return bad(s, node, "layers as in 3 or 0-3", err);
    }
    rule->first = (uint32_t)v[0];
    rule->last = (uint32_t)v[1];
    rule->all_layers = false;
    return HT_OK;
}

static ht_status rule_format(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_text(s, node, ((struct ht_recipe_rule *)to)->format, HT_RECIPE_FORMAT, err);
}

static ht_status rule_activations(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_text(s, node, ((struct ht_recipe_rule *)to)->activations, HT_RECIPE_FORMAT, err);
}

static ht_status rule_range(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_RANGE, &((struct ht_recipe_rule *)to)->range, err);
}

static ht_status rule_round(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_ROUND, &((struct ht_recipe_rule *)to)->round, err);
}

static ht_status rule_outlier(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_choice(s, node, HT_AXIS_OUTLIER, &((struct ht_recipe_rule *)to)->outlier, err);
}

static ht_status read_rules(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    static const struct key keys[] = {{"roles", rule_roles}, {"layers", rule_layers}, {"format", rule_format},
                                      {"activations", rule_activations}, {"range", rule_range},
                                      {"round", rule_round}, {"outlier", rule_outlier}};
    (void)to;
    if (node->kind != HT_YAML_LIST) {
        return bad(s, node, "a list of rules", err);
    }
    for (const struct ht_yaml *m = node->first; m != NULL; m = m->next) {
        if (s->recipe->n_rules == HT_MAX_RULES) {
            return ht_fail(err, HT_LIMIT, s->what, HT_NO_POS, "line %u: more than %d rules (HT_MAX_RULES)", m->line,
                           HT_MAX_RULES);
        }
        struct ht_recipe_rule *rule = &s->recipe->rules[s->recipe->n_rules++];
        *rule = (struct ht_recipe_rule){.all_layers = true};
        HT_TRY(read_keys(s, m, keys, sizeof keys / sizeof keys[0], rule, err));
        if (rule->format[0] == '\0' && rule->range.part == NULL && rule->round.part == NULL &&
            rule->outlier.part == NULL && rule->activations[0] == '\0') {
            return bad(s, m, "a rule that changes format, activations, range, round or outlier", err);
        }
    }
    return HT_OK;
}

/* ---- calibration and the rest ------------------------------------------------------------------------------ */

static ht_status calib_tokens(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    double v = 0;
    HT_TRY(read_number(s, node, 0, 1e12, true, &v, err));
    ((struct ht_recipe_calibration *)to)->tokens = (uint64_t)v;
    return HT_OK;
}

static ht_status calib_window(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    double v = 0;
    HT_TRY(read_number(s, node, 1, HT_MAX_CONTEXT, true, &v, err));
    ((struct ht_recipe_calibration *)to)->window = (uint32_t)v;
    return HT_OK;
}

static ht_status calib_sequential(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    bool yes = node->kind == HT_YAML_SCALAR && strcmp(node->text, "true") == 0;
    if (!yes && (node->kind != HT_YAML_SCALAR || strcmp(node->text, "false") != 0)) {
        return bad(s, node, "true or false", err);
    }
    ((struct ht_recipe_calibration *)to)->sequential = yes;
    return HT_OK;
}

static ht_status calib_drift(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    return read_number(s, node, 0, 1, false, &((struct ht_recipe_calibration *)to)->drift, err);
}

static ht_status read_calibration(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    static const struct key keys[] = {{"tokens", calib_tokens}, {"window", calib_window},
                                      {"sequential", calib_sequential}, {"drift", calib_drift}};
    (void)to;
    return read_keys(s, node, keys, sizeof keys / sizeof keys[0], &s->recipe->calibration, err);
}

static ht_status read_name(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    HT_TRY(read_text(s, node, s->recipe->name, sizeof s->recipe->name, err));
    size_t good = strspn(node->text, "abcdefghijklmnopqrstuvwxyz0123456789+._-");
    return node->text[good] == '\0' ? HT_OK : bad(s, node, "lower-case letters, digits and +._-", err);
}

static ht_status read_summary(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    return read_text(s, node, s->recipe->summary, sizeof s->recipe->summary, err);
}

static ht_status read_source(const struct source *s, const struct ht_yaml *node, void *to, ht_err *err) {
    (void)to;
    return read_text(s, node, s->recipe->source, sizeof s->recipe->source, err);
}

ht_status ht_recipe_parse(const char *data, size_t len, const char *what, struct ht_recipe *recipe, ht_err *err) {
    static const struct key keys[] = {{"name", read_name}, {"summary", read_summary}, {"source", read_source},
                                      {"weights", read_weights}, {"activations", read_activations}, {"kv", read_kv},
                                      {"rules", read_rules}, {"calibration", read_calibration}};
    const struct source s = {what, recipe};
    struct ht_arena arena;
    struct ht_yaml *root;
    ht_err inner = {0};
    ht_recipe_defaults(recipe);
    ht_arena_init(&arena, 0);
    ht_status status = ht_yaml_parse(data, len, what, &arena, &root, err);
    if (status == HT_OK) {
        status = read_keys(&s, root, keys, sizeof keys / sizeof keys[0], recipe, err);
    }
    if (status == HT_OK && recipe->name[0] == '\0') {
        status = ht_fail(err, HT_FORMAT, what, HT_NO_POS, "the recipe has no name: start it with 'name: my-recipe'");
    }
    if (status == HT_OK && ht_recipe_check(recipe, &inner) != HT_OK) {
        status = ht_fail(err, inner.code, what, HT_NO_POS, "%s: %s", inner.what, inner.msg);
    }
    ht_arena_deinit(&arena);
    return status;
}

ht_status ht_recipe_load(const char *path, struct ht_recipe *recipe, ht_err *err) {
    char *data;
    size_t len;
    HT_TRY(ht_read_file(path, HT_MAX_YAML_BYTES, &data, &len, err));
    ht_status status = ht_recipe_parse(data, len, ht_path_base(path), recipe, err);
    ht_mem_free(data);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* Always quoted: what a text means to YAML then never depends on what it says. */
static void put_text(struct ht_buf *out, const char *key, const char *text) {
    ht_buf_printf(out, "%s: \"", key);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            ht_buf_putc(out, '\\');
        }
        ht_buf_putc(out, *p == '\n' || *p == '\t' ? ' ' : *p);
    }
    ht_buf_puts(out, "\"");
}

static void put_choice(struct ht_buf *out, const char *key, const struct ht_choice *choice) {
    char text[HT_CHOICE_TEXT];
    ht_buf_puts(out, "  ");
    put_text(out, key, ht_choice_text(choice, text));
    ht_buf_puts(out, "\n");
}

static void put_place(struct ht_buf *out, enum ht_place place, const struct ht_place_recipe *p) {
    char text[HT_CHOICE_TEXT];
    ht_buf_printf(out, "%s:\n", ht_place_name(place));
    if (p->n_transforms > 0) {
        ht_buf_puts(out, "  transform: [");
        for (size_t i = 0; i < p->n_transforms; i++) {
            ht_buf_printf(out, "%s\"%s\"", i > 0 ? ", " : "", ht_choice_text(&p->transforms[i], text));
        }
        ht_buf_puts(out, "]\n");
    }
    put_choice(out, "range", &p->range);
    if (p->format[0] != '\0') {
        ht_buf_puts(out, "  ");
        put_text(out, "format", p->format);
        ht_buf_puts(out, "\n");
    }
    put_choice(out, "round", &p->round);
    put_choice(out, "outlier", &p->outlier);
}

static void put_rule(struct ht_buf *out, const struct ht_recipe_rule *r) {
    char text[HT_CHOICE_TEXT];
    const struct ht_choice *choices[] = {&r->range, &r->round, &r->outlier};
    bool any = false;
    ht_buf_puts(out, "  - {");
    if (r->roles != 0) {
        ht_buf_puts(out, "roles: [");
        for (int role = 0; role < HT_ROLES; role++) {
            if ((r->roles & (1ull << role)) != 0) {
                ht_buf_printf(out, "%s%s", any ? ", " : "", ht_role_name((enum ht_role)role));
                any = true;
            }
        }
        ht_buf_puts(out, "], ");
    }
    if (!r->all_layers) {
        ht_buf_printf(out, "layers: %u-%u, ", r->first, r->last);
    }
    any = false;
    if (r->format[0] != '\0') {
        put_text(out, "format", r->format);
        any = true;
    }
    if (r->activations[0] != '\0') {
        ht_buf_puts(out, any ? ", " : "");
        put_text(out, "activations", r->activations);
        any = true;
    }
    for (size_t i = 0; i < 3; i++) {
        if (choices[i]->part != NULL) {
            ht_buf_puts(out, any ? ", " : "");
            put_text(out, ht_axis_name(choices[i]->part->axis), ht_choice_text(choices[i], text));
            any = true;
        }
    }
    ht_buf_puts(out, "}\n");
}

void ht_recipe_write(const struct ht_recipe *r, struct ht_buf *out) {
    const struct ht_recipe_calibration *c = &r->calibration;
    struct ht_recipe plain;
    char drift[32];
    const char *const texts[3][2] = {{"name", r->name}, {"summary", r->summary}, {"source", r->source}};
    for (int i = 0; i < 3; i++) {
        if (texts[i][1][0] != '\0') {
            put_text(out, texts[i][0], texts[i][1]);
            ht_buf_puts(out, "\n");
        }
    }
    /* A place without a format still says how: rules may give it one. */
    ht_recipe_defaults(&plain);
    for (int i = 0; i < HT_PLACES; i++) {
        if (i == HT_PLACE_WEIGHTS || !ht_place_recipe_equal(&r->places[i], &plain.places[i])) {
            put_place(out, (enum ht_place)i, &r->places[i]);
        }
    }
    if (r->n_rules > 0) {
        ht_buf_puts(out, "rules:\n");
    }
    for (size_t i = 0; i < r->n_rules; i++) {
        put_rule(out, &r->rules[i]);
    }
    ht_real_text(c->drift, drift, sizeof drift);
    ht_buf_printf(out, "calibration: {tokens: %llu, window: %u, sequential: %s, drift: %s}\n",
                  (unsigned long long)c->tokens, c->window, c->sequential ? "true" : "false", drift);
}
