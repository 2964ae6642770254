/* How choices are written and read, and the names of what they speak of. */
#include "quant/part.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"

/* ---- names --------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *what;
} axes[] = {
#define AXIS_ROW(name, text, what) {text, what},
    HT_AXIS_LIST(AXIS_ROW)
#undef AXIS_ROW
}, places[] = {
#define PLACE_ROW(name, key, text) {key, text},
    HT_PLACE_LIST(PLACE_ROW)
#undef PLACE_ROW
}, needs_rows[] = {
    {"mean square", NULL}, {"gram", NULL}, {"absmax", NULL}, {"minmax", NULL}, {"mean magnitude", NULL},
    {"mean", NULL}, {"sample of inputs", NULL}, {"moments with the unquantized inputs", NULL}, {"gradients", NULL},
}, leaves_rows[] = {
#define LEAVES_ROW(name, text, what) {what, NULL},
    HT_LEAVES_LIST(LEAVES_ROW)
#undef LEAVES_ROW
};

const char *ht_axis_name(enum ht_axis axis) {
    return axes[axis].name;
}

const char *ht_place_name(enum ht_place place) {
    return places[place].name;
}

const char *ht_place_text(enum ht_place place) {
    return places[place].what;
}

static const char *bits_text(unsigned bits, const char *(*name)(size_t bit), size_t n, char *out, size_t len) {
    size_t used = 0;
    snprintf(out, len, "nothing");
    for (size_t i = 0; i < n && used < len; i++) {
        if ((bits & (1u << i)) != 0) {
            used += (size_t)snprintf(out + used, len - used, "%s%s", used > 0 ? ", " : "", name(i));
        }
    }
    return out;
}

static const char *needs_name(size_t bit) {
    return needs_rows[bit].name;
}

static const char *leaves_name(size_t bit) {
    return leaves_rows[bit].name;
}

const char *ht_part_needs_text(unsigned needs, char *out, size_t len) {
    return bits_text(needs, needs_name, sizeof needs_rows / sizeof needs_rows[0], out, len);
}

const char *ht_part_leaves_text(unsigned leaves, char *out, size_t len) {
    return bits_text(leaves, leaves_name, sizeof leaves_rows / sizeof leaves_rows[0], out, len);
}

const char *ht_part_places_text(const struct ht_part *part, char *out, size_t len) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < HT_PLACES && used < len; i++) {
        unsigned on = 1u << i;
        if ((part->places & on) != 0) {
            used += (size_t)snprintf(out + used, len - used, "%s%s%s", used > 0 ? ", " : "", places[i].name,
                                     (part->places & HT_SINGLE(on)) != 0 ? ":tensor" : "");
        }
    }
    return out;
}

/* ---- choices ------------------------------------------------------------------------------------------- */

static size_t option_count(const struct ht_part *part) {
    size_t n = 0;
    while (n < HT_PART_OPTIONS && part->options[n].name != NULL) {
        n++;
    }
    return n;
}

void ht_choice_defaults(struct ht_choice *choice, const struct ht_part *part) {
    *choice = (struct ht_choice){.part = part};
    for (size_t i = 0, n = option_count(part); i < n; i++) {
        choice->options[i] = part->options[i].value;
    }
}

/* The place of a word in "a|b|c", -1: none. */
static int word_index(const char *words, const char *text) {
    size_t len = strlen(text);
    for (int i = 0; len > 0; i++) {
        size_t n = strcspn(words, "|");
        if (n == len && strncasecmp(words, text, n) == 0) {
            return i;
        }
        if (words[n] == '\0') {
            break;
        }
        words += n + 1;
    }
    return -1;
}

static bool value_of(const struct ht_part_option *o, const char *text, double *value) {
    static const char flags[] = "false|true";
    char *end;
    if (o->type == HT_OPTION_WORD || (o->type == HT_OPTION_FLAG && word_index(flags, text) >= 0)) {
        *value = word_index(o->type == HT_OPTION_WORD ? o->words : flags, text);
        return *value >= 0;
    }
    if (text[0] == '\0' || strspn(text, "0123456789.eE+-") != strlen(text)) {
        return false;
    }
    *value = strtod(text, &end);
    return *end == '\0' && *value >= o->low && *value <= o->high &&
           (o->type == HT_OPTION_REAL || *value == floor(*value));
}

static ht_status set_option(const struct ht_part *part, size_t at, const char *text, double *options, ht_err *err) {
    const struct ht_part_option *o = &part->options[at];
    if (value_of(o, text, &options[at])) {
        return HT_OK;
    }
    if (o->type == HT_OPTION_WORD || o->type == HT_OPTION_FLAG) {
        return ht_fail(err, HT_INVAL, ht_axis_name(part->axis), HT_NO_POS, "%s: %s is %s, one of %s; found '%s'",
                       part->name, o->name, o->help, o->type == HT_OPTION_WORD ? o->words : "false|true", text);
    }
    return ht_fail(err, HT_INVAL, ht_axis_name(part->axis), HT_NO_POS, "%s: %s is %s, %sfrom %g to %g; found '%s'",
                   part->name, o->name, o->help, o->type == HT_OPTION_WHOLE ? "a whole number " : "", o->low, o->high,
                   text);
}

static const char *option_name(const void *part, size_t i) {
    return ((const struct ht_part *)part)->options[i].name;
}

static ht_status find_option(const struct ht_part *part, const char *name, size_t *at, ht_err *err) {
    size_t n = option_count(part), used = 0;
    for (*at = 0; *at < n; (*at)++) {
        if (strcasecmp(part->options[*at].name, name) == 0) {
            return HT_OK;
        }
    }
    char near[128], known[192] = "none";
    ht_nearest(name, option_name, part, n, near, sizeof near);
    for (size_t i = 0; i < n && used < sizeof known; i++) {
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", part->options[i].name);
    }
    return ht_fail(err, HT_INVAL, ht_axis_name(part->axis), HT_NO_POS, "%s has no option '%s'%s%s; it has %s",
                   part->name, name, near[0] != '\0' ? ", did you mean " : "", near, known);
}

/* One "name=value" or, as the first, "value". */
static ht_status parse_option(const struct ht_part *part, const char *text, size_t len, bool first, double *options,
                              ht_err *err) {
    char name[64], value[64];
    const char *equals = memchr(text, '=', len);
    size_t at = 0;
    if (equals == NULL && !first) {
        return ht_fail(err, HT_INVAL, ht_axis_name(part->axis), HT_NO_POS, "%s: expected NAME=VALUE, found '%.*s'",
                       part->name, (int)(len < 64 ? len : 64), text);
    }
    const char *number = equals != NULL ? equals + 1 : text;
    size_t name_len = equals != NULL ? (size_t)(equals - text) : 0, value_len = len - (size_t)(number - text);
    if (name_len >= sizeof name || value_len >= sizeof value) {
        return ht_fail(err, HT_INVAL, ht_axis_name(part->axis), HT_NO_POS, "%s: '%.40s...' is too long", part->name,
                       text);
    }
    snprintf(name, sizeof name, "%.*s", (int)name_len, text);
    snprintf(value, sizeof value, "%.*s", (int)value_len, number);
    if (equals != NULL || option_count(part) == 0) {
        HT_TRY(find_option(part, equals != NULL ? name : value, &at, err));
    }
    return set_option(part, at, value, options, err);
}

ht_status ht_part_parse_options(const struct ht_part *part, const char *text, double *options, ht_err *err) {
    bool first = true;
    for (const char *p = text;; first = false) {
        size_t n = strcspn(p, ",");
        HT_TRY(parse_option(part, p, n, first, options, err));
        if (p[n] == '\0') {
            return HT_OK;
        }
        p += n + 1;
    }
}

struct named {
    const char *names[64];
    size_t n;
};

static const char *named_at(const void *table, size_t i) {
    return ((const struct named *)table)->names[i];
}

static ht_status unknown_part(enum ht_axis axis, const char *name, ht_err *err) {
    struct named of_axis = {.n = 0};
    char near[128], known[320] = "";
    const struct ht_part *part;
    size_t used = 0;
    for (size_t i = 0; (part = ht_part_at(i)) != NULL && of_axis.n < 64; i++) {
        if (part->axis == axis) {
            if (used < sizeof known) {
                used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", of_axis.n > 0 ? ", " : "",
                                         part->name);
            }
            of_axis.names[of_axis.n++] = part->name;
        }
    }
    ht_nearest(name, named_at, &of_axis, of_axis.n, near, sizeof near);
    return ht_fail(err, HT_INVAL, ht_axis_name(axis), HT_NO_POS, "no %s part is called '%.64s'%s%s; there are %s",
                   ht_axis_name(axis), name, near[0] != '\0' ? ", did you mean " : "", near, known);
}

ht_status ht_choice_parse(enum ht_axis axis, const char *text, struct ht_choice *choice, ht_err *err) {
    char name[64];
    size_t len = strcspn(text, ":");
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), text);
    const struct ht_part *part = len < sizeof name ? ht_part_find(axis, name) : NULL;
    if (part == NULL) {
        return unknown_part(axis, name, err);
    }
    ht_choice_defaults(choice, part);
    return text[len] == ':' ? ht_part_parse_options(part, text + len + 1, choice->options, err) : HT_OK;
}

ht_status ht_choice_set(struct ht_choice *choice, const char *name, const char *value, ht_err *err) {
    size_t at;
    HT_TRY(find_option(choice->part, name, &at, err));
    return set_option(choice->part, at, value, choice->options, err);
}

double ht_choice_value(const struct ht_choice *choice, const char *name) {
    size_t at = 0;
    while (at < HT_PART_OPTIONS && choice->part->options[at].name != NULL &&
           strcmp(choice->part->options[at].name, name) != 0) {
        at++;
    }
    return at < HT_PART_OPTIONS ? choice->options[at] : 0;
}

int ht_real_text(double value, char *out, size_t len) {
    int used = snprintf(out, len, "%.9g", value);
    return used > 0 && (size_t)used < len && strtod(out, NULL) == value ? used : snprintf(out, len, "%.17g", value);
}

static int option_text(const struct ht_part_option *o, double value, char *out, size_t len) {
    if (o->type == HT_OPTION_FLAG) {
        return snprintf(out, len, "%s", value != 0 ? "true" : "false");
    }
    if (o->type == HT_OPTION_WORD) {
        const char *word = o->words;
        for (int i = 0; i < (int)value; i++) {
            word += strcspn(word, "|") + 1;
        }
        return snprintf(out, len, "%.*s", (int)strcspn(word, "|"), word);
    }
    return ht_real_text(value, out, len);
}

const char *ht_choice_text(const struct ht_choice *choice, char out[HT_CHOICE_TEXT]) {
    size_t used = (size_t)snprintf(out, HT_CHOICE_TEXT, "%s", choice->part->name);
    bool any = false;
    for (size_t i = 0; i < option_count(choice->part) && used < HT_CHOICE_TEXT; i++) {
        const struct ht_part_option *o = &choice->part->options[i];
        if (choice->options[i] != o->value) {
            used += (size_t)snprintf(out + used, HT_CHOICE_TEXT - used, "%c%s=", any ? ',' : ':', o->name);
            any = true;
            if (used < HT_CHOICE_TEXT) {
                used += (size_t)option_text(o, choice->options[i], out + used, HT_CHOICE_TEXT - used);
            }
        }
    }
    return out;
}
