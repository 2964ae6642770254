/* The rows of every axis, and how a choice is written. */
#include "quant/part.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"
#include "quant/range.h"

#define NO_OPTIONS {{NULL, 0, 0, 0, NULL, HT_OPTION_REAL, NULL}}

static const struct ht_part transforms[] = {
    {"none", HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_NOTHING, HT_LEAVES_NOTHING,
     "the tensor as it is", "W' = W", "-", NO_OPTIONS},
};

/* Ranges that belong to the format itself; those that any code grid can have follow from range_table.c. */
static const struct ht_part own_ranges[] = {
    {"own", HT_AXIS_RANGE, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_NOTHING, HT_LEAVES_NOTHING,
     "what the format does by itself: GGUF types search the least squared error, codes cover the smallest to the "
     "largest value", "scale = argmin_s sum_j (w_j - s q_j)^2", "Jacob et al. 2017, arXiv 1712.05877", NO_OPTIONS},
    {"weighted", HT_AXIS_RANGE, HT_ON_WEIGHTS, HT_GRIDS_BLOCK, HT_NEEDS_MEAN_SQUARE, HT_LEAVES_NOTHING,
     "the format's own search, each column weighted by the mean square of its input",
     "scale = argmin_s sum_j E[x_j^2] (w_j - s q_j)^2", "llama.cpp, pull request 4861", NO_OPTIONS},
};

static const struct ht_part rounds[] = {
    {"nearest", HT_AXIS_ROUND, HT_ON_WEIGHTS | HT_ON_ACTIVATIONS | HT_ON_KV, HT_GRIDS_ALL, HT_NEEDS_NOTHING,
     HT_LEAVES_NOTHING, "each value takes the nearest point of its grid", "q = argmin_q |w - s q|",
     "Jacob et al. 2017, arXiv 1712.05877", NO_OPTIONS},
    {"feedback", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_BLOCK, HT_NEEDS_GRAM, HT_LEAVES_NOTHING,
     "columns one after the other, each making up for the errors before it; then descent and refit",
     "w_j <- w_j + sum_{i<j} e_i R_ij / R_jj,  H = R R^T", "Frantar et al. 2022, arXiv 2210.17323",
     {{"damping", 0.01, 0, 10, "added to the diagonal of H, times its mean", HT_OPTION_REAL, NULL},
      {"natural", 0, 0, 1, "columns in their own order instead of by falling diag(H)", HT_OPTION_FLAG, NULL},
      {"descents", 4, 0, 64, "sweeps of coordinate descent behind the feedback", HT_OPTION_WHOLE, NULL}}},
};

static const struct ht_part outliers[] = {
    {"none", HT_AXIS_OUTLIER, HT_ON_WEIGHTS | HT_ON_ACTIVATIONS | HT_ON_KV, HT_GRIDS_ALL, HT_NEEDS_NOTHING,
     HT_LEAVES_NOTHING, "every weight stays on the grid", "W'' = W'", "-", NO_OPTIONS},
};

static const struct ht_part *range_at(size_t i) {
    return &ht_range_at(i)->part;
}

/* Pieces of the table, axis after axis. */
static const struct {
    const struct ht_part *rows; /* NULL: at */
    size_t n;
    size_t (*count)(void);
    const struct ht_part *(*at)(size_t i);
} pieces[] = {
    {transforms, sizeof transforms / sizeof transforms[0], NULL, NULL},
    {own_ranges, sizeof own_ranges / sizeof own_ranges[0], NULL, NULL},
    {NULL, 0, ht_range_count, range_at},
    {rounds, sizeof rounds / sizeof rounds[0], NULL, NULL},
    {outliers, sizeof outliers / sizeof outliers[0], NULL, NULL},
};
enum { N_PIECES = sizeof pieces / sizeof pieces[0] };

size_t ht_part_count(void) {
    size_t n = 0;
    for (size_t i = 0; i < N_PIECES; i++) {
        n += pieces[i].rows != NULL ? pieces[i].n : pieces[i].count();
    }
    return n;
}

const struct ht_part *ht_part_at(size_t i) {
    for (size_t p = 0; p < N_PIECES; p++) {
        size_t n = pieces[p].rows != NULL ? pieces[p].n : pieces[p].count();
        if (i < n) {
            return pieces[p].rows != NULL ? &pieces[p].rows[i] : pieces[p].at(i);
        }
        i -= n;
    }
    return NULL;
}

const struct ht_part *ht_part_find(enum ht_axis axis, const char *name) {
    const struct ht_part *part;
    for (size_t i = 0; (part = ht_part_at(i)) != NULL; i++) {
        if (part->axis == axis && strcasecmp(part->name, name) == 0) {
            return part;
        }
    }
    return NULL;
}

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

const char *ht_axis_what(enum ht_axis axis) {
    return axes[axis].what;
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
    return snprintf(out, len, "%.9g", value);
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
