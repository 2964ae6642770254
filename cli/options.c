#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "cli.h"

#define CLI_OFFSET(field) offsetof(struct cli, field)

const struct option_row common_options[] = {
    {"threads", 't', OPT_U32, CLI_OFFSET(threads), "N", NULL, "threads; 0: all CPUs this process may use [0]"},
    {"json", 0, OPT_FLAG, CLI_OFFSET(json), NULL, NULL, "print the full result as JSON on stdout"},
    {"quiet", 'q', OPT_FLAG, CLI_OFFSET(quiet), NULL, NULL, "no progress, notes or warnings"},
    {"verbose", 'v', OPT_COUNT, CLI_OFFSET(verbose), NULL, NULL, "more messages; twice for debugging"},
    {"color", 0, OPT_STR, CLI_OFFSET(color), "WHEN", "auto|always|never", "colour on terminals [auto]"},
    {"help", 'h', OPT_FLAG, CLI_OFFSET(help), NULL, NULL, "show this help"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

const struct option_row *common_options_of(const struct command *command) {
    const struct option_row *own = command->options;
    while (own != NULL && own->name != NULL && strcmp(own->name, common_options[0].name) != 0) {
        own++;
    }
    return common_options + (own != NULL && own->name != NULL);
}

int usage_error(const struct command *command, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "halftone %s: ", command->name);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\nSee 'halftone %s --help'.\n", command->name);
    va_end(args);
    return EXIT_USAGE;
}

static const struct option_row *find_in(const struct option_row *rows, const char *name, size_t len,
                                        char letter) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        if (letter != 0 ? rows->letter == letter
                        : strlen(rows->name) == len && memcmp(rows->name, name, len) == 0) {
            return rows;
        }
    }
    return NULL;
}

/* Names of the command's options, then of the common ones; "" past the end. */
static const char *row_name(const void *table, size_t i) {
    const struct option_row *const *both = table;
    for (int t = 0; t < 2; t++) {
        for (const struct option_row *row = both[t]; row != NULL && row->name != NULL; row++) {
            if (i-- == 0) {
                return row->name;
            }
        }
    }
    return "";
}

/* "json, quiet" -> "--json, --quiet": what one types. */
static void add_dashes(const char *names, char *out, size_t len) {
    size_t used = 0;
    while (*names != '\0' && used < len) {
        size_t n = strcspn(names, ", "), skip = strspn(names + n, ", ");
        int w = snprintf(out + used, len - used, "--%.*s%s", (int)n, names, skip != 0 ? ", " : "");
        used += w > 0 ? (size_t)w : len;
        names += n + skip;
    }
}

static int unknown_option(const struct command *command, const char *text) {
    const struct option_row *both[2] = {command->options, common_options};
    size_t n = 0;
    while (row_name(both, n)[0] != '\0') {
        n++;
    }
    char name[64], near[200], dashed[220];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
    if (ht_nearest(name, row_name, both, n, near, sizeof near)[0] != '\0') {
        add_dashes(near, dashed, sizeof dashed);
        return usage_error(command, "unknown option --%s; did you mean: %s?", name, dashed);
    }
    return usage_error(command, "unknown option --%s", name);
}

static bool in_choices(const char *choices, const char *value) {
    size_t len = strlen(value);
    for (const char *p = choices; *p != '\0';) {
        size_t n = strcspn(p, "|");
        if (n == len && strncasecmp(p, value, n) == 0) {
            return true;
        }
        p += n + (p[n] == '|');
    }
    return false;
}

static bool parse_u64(const char *s, uint64_t max, uint64_t *out) {
    char *end;
    if (*s < '0' || *s > '9') {
        return false;
    }
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0' || v > max) {
        return false;
    }
    *out = v;
    return true;
}

static bool parse_bytes(const char *s, uint64_t *out) {
    static const struct {
        const char *suffix;
        double factor;
    } rows[] = {{"", 1},     {"B", 1},   {"K", 1e3},    {"KB", 1e3},       {"M", 1e6},
                {"MB", 1e6}, {"G", 1e9}, {"GB", 1e9},   {"T", 1e12},       {"TB", 1e12},
                {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}};
    char *end;
    if (*s < '0' || *s > '9') {
        return false;
    }
    double v = strtod(s, &end);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcasecmp(end, rows[i].suffix) == 0 && v * rows[i].factor >= 1 && v * rows[i].factor < 1e18) {
            *out = (uint64_t)(v * rows[i].factor);
            return true;
        }
    }
    return false;
}

static bool add_item(struct strlist *list, const char *value) {
    const char **items = ht_mem_realloc_array(list->items, list->n + 1, sizeof *items);
    if (items == NULL) {
        return false;
    }
    list->items = items;
    list->items[list->n++] = value;
    return true;
}

static bool parse_u32s(const char *s, struct u32list *out) {
    char item[16];
    uint64_t u;
    for (out->n = 0; out->n < U32LIST_MAX; s++) {
        size_t n = strcspn(s, ",");
        snprintf(item, sizeof item, "%.*s", (int)(n < sizeof item ? n : sizeof item), s);
        if (!parse_u64(item, UINT32_MAX, &u)) {
            return false;
        }
        out->items[out->n++] = (uint32_t)u;
        s += n;
        if (*s == '\0') {
            return true;
        }
    }
    return false;
}

static const char *store_number(enum option_type type, void *at, const char *value) {
    uint64_t u;
    char *end;
    double d;
    switch (type) {
    case OPT_U32:
        if (!parse_u64(value, UINT32_MAX, &u)) {
            return "a whole number from 0 to 4294967295";
        }
        *(uint32_t *)at = (uint32_t)u;
        return NULL;
    case OPT_U32S:
        return parse_u32s(value, at) ? NULL : "a whole number, or up to 16 such as 1,2,4";
    case OPT_U64:
        return parse_u64(value, UINT64_MAX, (uint64_t *)at) ? NULL : "a whole number of at least 0";
    case OPT_BYTES:
        return parse_bytes(value, (uint64_t *)at) ? NULL : "a size of at least one byte, such as 2G, 500M or 64MiB";
    default:
        d = strtod(value, &end);
        if (end == value || *end != '\0' || !isfinite(d)) {
            return "a number";
        }
        if (type == OPT_F32) {
            *(float *)at = (float)d;
        } else {
            *(double *)at = d;
        }
        return NULL;
    }
}

/* Stores one value; NULL when fine, else what was expected. */
static const char *store(const struct option_row *row, void *base, const char *value) {
    void *at = (char *)base + row->offset;
    switch (row->type) {
    case OPT_FLAG:
    case OPT_UNFLAG:
        *(bool *)at = row->type == OPT_FLAG;
        return NULL;
    case OPT_COUNT:
        ++*(int *)at;
        return NULL;
    case OPT_STR:
        *(const char **)at = value;
        return NULL;
    case OPT_LIST:
        return add_item((struct strlist *)at, value) ? NULL : "free memory";
    default:
        return store_number(row->type, at, value);
    }
}

static bool takes_value(const struct option_row *row) {
    return row->type != OPT_FLAG && row->type != OPT_UNFLAG && row->type != OPT_COUNT;
}

static int apply(struct cli *cli, const struct command *command, void *args, const struct option_row *row,
                 const char *value) {
    bool common = find_in(common_options, row->name, strlen(row->name), 0) == row;
    if (takes_value(row) && row->choices != NULL && row->choices[0] != '@' &&
        !in_choices(row->choices, value)) {
        return usage_error(command, "--%s: expected one of %s, found '%s'", row->name, row->choices, value);
    }
    const char *expected = store(row, common ? (void *)cli : args, value);
    if (expected != NULL) {
        return usage_error(command, "--%s: expected %s, found '%s'", row->name, expected, value);
    }
    if (!common) {
        cli->given |= 1ull << (row - command->options);
    }
    return 0;
}

static const struct option_row *find_row(const struct command *command, const char *name, size_t len,
                                         char letter) {
    const struct option_row *row = find_in(command->options, name, len, letter);
    return row != NULL ? row : find_in(common_options, name, len, letter);
}

/* "-qo FILE": letters may be joined; a letter with a value takes the rest or the next word. */
static int parse_letters(struct cli *cli, const struct command *command, void *args, int argc, char **argv,
                         int *i) {
    for (const char *p = argv[*i] + 1; *p != '\0'; p++) {
        const struct option_row *row = find_row(command, NULL, 0, *p);
        if (row == NULL) {
            return usage_error(command, "unknown option -%c", *p);
        }
        if (takes_value(row)) {
            const char *value = p[1] != '\0' ? p + 1 : ++*i < argc ? argv[*i] : NULL;
            return value != NULL ? apply(cli, command, args, row, value)
                                 : usage_error(command, "-%c needs a value (%s)", *p, row->arg);
        }
        int rc = apply(cli, command, args, row, NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int parse_word(struct cli *cli, const struct command *command, void *args, int argc, char **argv,
                      int *i) {
    const char *text = argv[*i] + 2;
    size_t len = strcspn(text, "=");
    const struct option_row *row = find_row(command, text, len, 0);
    if (row == NULL) {
        return unknown_option(command, text);
    }
    const char *value = text[len] == '=' ? text + len + 1 : NULL;
    if (!takes_value(row)) {
        return value != NULL ? usage_error(command, "--%s takes no value", row->name)
                             : apply(cli, command, args, row, NULL);
    }
    if (value == NULL && ++*i < argc) {
        value = argv[*i];
    }
    if (value == NULL) {
        return usage_error(command, "--%s needs a value (%s)", row->name, row->arg);
    }
    return apply(cli, command, args, row, value);
}

int options_parse(struct cli *cli, const struct command *command, void *args, int argc, char **argv) {
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        int rc = 0;
        if (only_positional || a[0] != '-' || a[1] == '\0') {
            cli->positional[cli->n_positional++] = a;
        } else if (strcmp(a, "--") == 0) {
            only_positional = true;
        } else if (a[1] == '-') {
            rc = parse_word(cli, command, args, argc, argv, &i);
        } else {
            rc = parse_letters(cli, command, args, argc, argv, &i);
        }
        if (rc != 0) {
            return rc;
        }
    }
    if (cli->help) {
        return 0;
    }
    if (cli->n_positional < command->min_positional) {
        return usage_error(command, "missing argument; usage: halftone %s %s", command->name, command->usage);
    }
    if (cli->n_positional > command->max_positional) {
        return usage_error(command, "unexpected argument '%s'; usage: halftone %s %s",
                           cli->positional[command->max_positional], command->name, command->usage);
    }
    return 0;
}

void options_release(const struct command *command, void *args) {
    for (const struct option_row *row = command->options; row != NULL && row->name != NULL; row++) {
        if (row->type == OPT_LIST) {
            void *at = (char *)args + row->offset;
            ht_mem_free(((struct strlist *)at)->items);
        }
    }
}
