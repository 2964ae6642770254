/* Schemes as text, and which parts go together. */
#include "format/scheme.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/nearest.h"

static const struct keyword {
    const char *name;
    enum { GRANULARITY, ZERO, NARROW, NESTED } what;
    int value;
} keywords[] = {
    {"tensor", GRANULARITY, HT_PER_TENSOR}, {"channel", GRANULARITY, HT_PER_CHANNEL},
    {"token", GRANULARITY, HT_PER_TOKEN},   {"sym", ZERO, HT_ZERO_NONE},
    {"asym", ZERO, HT_ZERO_CODE},           {"offset", ZERO, HT_ZERO_OFFSET},
    {"narrow", NARROW, 1},                  {"nested", NESTED, 1},
};
enum { N_KEYWORDS = sizeof keywords / sizeof keywords[0] };

static const char *const scale_names[] = {"f16", "bf16", "f32", "e8m0"};
enum { N_SCALES = sizeof scale_names / sizeof scale_names[0] };

static const char *keyword_name(const void *unused, size_t i) {
    (void)unused;
    return keywords[i].name;
}

static bool is_integer(const struct ht_format *f) {
    return f->code->levels == NULL && !f->code->fitted;
}

static bool is_unsigned(const struct ht_format *f) {
    return is_integer(f) && f->code->lo == 0;
}

static const struct ht_format *default_scale(enum ht_granularity granularity) {
    return ht_format_find(granularity == HT_PER_GROUP ? "f16" : "f32");
}

static enum ht_zero default_zero(const struct ht_format *f) {
    return is_unsigned(f) ? HT_ZERO_CODE : HT_ZERO_NONE;
}

static ht_status parse_name(const char *name, struct ht_scheme *s, ht_err *err) {
    s->format = ht_format_find(name);
    if (s->format == NULL) {
        char near[160];
        ht_nearest(name, ht_format_name_at, NULL, ht_format_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                       "unknown format '%s'%s%s; 'halftone list formats' shows all", name,
                       near[0] != '\0' ? ", did you mean " : "", near);
    }
    if (s->format->code == NULL) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                       "%s takes no scales from outside: write it without ':'", s->format->name);
    }
    return HT_OK;
}

/* g and digits. */
static ht_status parse_group(const char *word, struct ht_scheme *s, ht_err *err) {
    char *end;
    unsigned long long n = strtoull(word + 1, &end, 10);
    if (*end != '\0' || n == 0 || n > HT_MAX_GROUP) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "group '%s': expected g1 to g%u, as in g64", word,
                       HT_MAX_GROUP);
    }
    s->granularity = HT_PER_GROUP;
    s->group = (uint32_t)n;
    return HT_OK;
}

static ht_status parse_scale(const char *name, struct ht_scheme *s, ht_err *err) {
    for (int i = 0; i < N_SCALES; i++) {
        if (strcasecmp(scale_names[i], name) == 0) {
            s->scale = ht_format_find(name);
            return HT_OK;
        }
    }
    return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "scale=%s: scales are stored as f16, bf16, f32 or e8m0", name);
}

struct seen {
    bool granularity, zero;
};

static ht_status twice(const char *what, ht_err *err) {
    return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "%s is given twice", what);
}

static ht_status parse_word(const char *word, struct ht_scheme *s, struct seen *seen, ht_err *err) {
    if ((word[0] == 'g' || word[0] == 'G') && word[1] >= '0' && word[1] <= '9') {
        HT_TRY(seen->granularity ? twice("the granularity", err) : HT_OK);
        seen->granularity = true;
        return parse_group(word, s, err);
    }
    if (strncasecmp(word, "scale=", 6) == 0) {
        HT_TRY(s->scale != NULL ? twice("scale=", err) : HT_OK);
        return parse_scale(word + 6, s, err);
    }
    size_t i = 0;
    while (i < N_KEYWORDS && strcasecmp(keywords[i].name, word) != 0) {
        i++;
    }
    if (i == N_KEYWORDS) {
        char near[64];
        ht_nearest(word, keyword_name, NULL, N_KEYWORDS, near, sizeof near);
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                       "unknown part '%s'%s%s; there are gN, channel, token, tensor, sym, asym, offset, narrow, "
                       "nested, scale=f16|bf16|f32|e8m0",
                       word, near[0] != '\0' ? ", did you mean " : "", near);
    }
    switch (keywords[i].what) {
    case GRANULARITY:
        HT_TRY(seen->granularity ? twice("the granularity", err) : HT_OK);
        seen->granularity = true;
        s->granularity = (enum ht_granularity)keywords[i].value;
        break;
    case ZERO:
        HT_TRY(seen->zero ? twice("the zero point", err) : HT_OK);
        seen->zero = true;
        s->zero = (enum ht_zero)keywords[i].value;
        break;
    case NARROW: s->narrow = true; break;
    case NESTED: s->nested = true; break;
    }
    return HT_OK;
}

ht_status ht_scheme_parse(const char *text, struct ht_scheme *s, ht_err *err) {
    char copy[HT_SCHEME_TEXT];
    struct seen seen = {false, false};
    memset(s, 0, sizeof *s);
    if (strlen(text) >= sizeof copy) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "a text of %zu bytes is no format such as int4:g64",
                       strlen(text));
    }
    memcpy(copy, text, strlen(text) + 1);
    char *rest = copy, *word = rest;
    rest = strchr(word, ':');
    if (rest != NULL) {
        *rest++ = '\0';
    }
    HT_TRY(parse_name(word, s, err));
    s->zero = default_zero(s->format);
    while (rest != NULL) {
        word = rest;
        rest = strchr(word, ':');
        if (rest != NULL) {
            *rest++ = '\0';
        }
        HT_TRY(parse_word(word, s, &seen, err));
    }
    if (!seen.granularity) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                       "%s has no scales of its own: say what shares one, as in %s:g64, %s:channel or %s:tensor",
                       s->format->name, s->format->name, s->format->name, s->format->name);
    }
    if (s->scale == NULL) {
        s->scale = default_scale(s->granularity);
    }
    return ht_scheme_check(s, err);
}

static ht_status refuse(const struct ht_scheme *s, const char *why, ht_err *err) {
    return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "%s: %s", s->format->name, why);
}

ht_status ht_scheme_check(const struct ht_scheme *s, ht_err *err) {
    const struct ht_format *f = s->format;
    if (f == NULL || f->code == NULL || s->scale == NULL) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "the scheme names no code format and scale precision");
    }
    bool known = false;
    for (int i = 0; i < N_SCALES; i++) {
        known = known || strcmp(scale_names[i], s->scale->name) == 0;
    }
    if (!known) {
        return refuse(s, "scales are stored as f16, bf16, f32 or e8m0", err);
    }
    if ((s->granularity == HT_PER_GROUP) != (s->group > 0) || s->group > HT_MAX_GROUP ||
        (unsigned)s->granularity > HT_PER_GROUP || (unsigned)s->zero > HT_ZERO_OFFSET) {
        return refuse(s, "the granularity is none", err);
    }
    if (strcmp(f->name, "e8m0") == 0) {
        return refuse(s, "it has no zero and no signs: it stores scales (scale=e8m0), not weights", err);
    }
    if (s->zero != HT_ZERO_NONE && !is_integer(f)) {
        return refuse(s, "asym and offset need integer codes, as in uint4", err);
    }
    if (s->zero == HT_ZERO_NONE && is_unsigned(f)) {
        return refuse(s, "sym needs signed codes: take intN, or leave sym away", err);
    }
    if (s->narrow && (!is_integer(f) || is_unsigned(f) || s->zero != HT_ZERO_NONE)) {
        return refuse(s, "narrow is for symmetric intN", err);
    }
    if (is_integer(f) && f->code->bits == 1 && s->zero == HT_ZERO_NONE) {
        return refuse(s, "symmetric levels in one bit are those of binary", err);
    }
    if (s->zero == HT_ZERO_OFFSET && strcmp(s->scale->name, "e8m0") == 0) {
        return refuse(s, "scale=e8m0 cannot store the offset's min; take f16 or f32", err);
    }
    if (s->nested && (s->zero != HT_ZERO_NONE || s->granularity == HT_PER_TENSOR)) {
        return refuse(s, "nested stores many scales in 8 bits: it goes with sym and gN, channel or token", err);
    }
    if (s->nested && strcmp(s->scale->name, default_scale(s->granularity)->name) != 0) {
        return refuse(s, "nested scales are 8-bit codes: leave scale= away", err);
    }
    return HT_OK;
}

const char *ht_scheme_text(const struct ht_scheme *s, char out[HT_SCHEME_TEXT]) {
    static const char *const granularities[] = {"tensor", "channel", "token"};
    static const char *const zeros[] = {"sym", "asym", "offset"};
    char group[16];
    snprintf(group, sizeof group, "g%u", s->group);
    snprintf(out, HT_SCHEME_TEXT, "%s:%s%s%s%s%s%s%s", s->format->name,
             s->granularity == HT_PER_GROUP ? group : granularities[s->granularity],
             s->zero != default_zero(s->format) ? ":" : "", s->zero != default_zero(s->format) ? zeros[s->zero] : "",
             s->narrow ? ":narrow" : "", s->nested ? ":nested" : "",
             s->scale != default_scale(s->granularity) ? ":scale=" : "",
             s->scale != default_scale(s->granularity) ? s->scale->name : "");
    return out;
}

int32_t ht_scheme_lo(const struct ht_scheme *s) {
    return s->format->code->lo + (s->narrow ? 1 : 0);
}

int32_t ht_scheme_hi(const struct ht_scheme *s) {
    return s->format->code->hi;
}

uint64_t ht_scheme_run(const struct ht_scheme *s, uint64_t cols) {
    return s->granularity == HT_PER_GROUP && s->group < cols ? s->group : cols;
}

uint64_t ht_scheme_groups(const struct ht_scheme *s, uint64_t cols) {
    uint64_t run = ht_scheme_run(s, cols);
    return cols / run + (cols % run != 0);
}
