/* Manual pages in roff (man macros), from the command tables. */
#include "cli.h"

static void text(FILE *out, const char *s) {
    bool line_start = true;
    for (; *s != '\0'; s++) {
        if (line_start && (*s == '.' || *s == '\'')) {
            fputs("\\&", out);
        }
        if (*s == '\\') {
            fputs("\\e", out);
        } else if (*s == '-') {
            fputs("\\-", out);
        } else {
            fputc(*s, out);
        }
        line_start = *s == '\n';
    }
}

static void head(FILE *out, const char *title) {
    fprintf(out, ".TH \"%s\" 1 \"\" \"halftone %s\" \"User Commands\"\n.SH NAME\n", title, ht_version());
}

static void option_list(FILE *out, const struct option_row *rows) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        fputs(".TP\n", out);
        if (rows->letter != 0) {
            fprintf(out, "\\fB\\-%c\\fR, ", rows->letter);
        }
        fputs("\\fB\\-\\-", out);
        text(out, rows->name);
        fputs("\\fR", out);
        if (rows->arg != NULL) {
            fprintf(out, " \\fI%s\\fR", rows->arg);
        }
        fputc('\n', out);
        text(out, rows->help);
        if (rows->choices != NULL && rows->choices[0] != '@') {
            fputs(" (", out);
            text(out, rows->choices);
            fputc(')', out);
        }
        fputc('\n', out);
    }
}

static void exit_codes(FILE *out) {
    static const struct {
        int code;
        const char *text;
    } extra[] = {{0, "success"}, {2, "usage error"}, {128, "plus the number of a signal"}};
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        fprintf(out, ".TP\n%d\n%s\n", extra[i].code, extra[i].text);
    }
#define ROW(name, status, exit_code, words)                        \
    if (exit_code != 0 && exit_code != 2 && exit_code < 100) {     \
        fprintf(out, ".TP\n%d\n%s\n", exit_code, words);           \
    }
    HT_STATUS_LIST(ROW)
#undef ROW
}

void man_program(FILE *out) {
    head(out, "HALFTONE");
    fputs("halftone \\- makes large language models smaller and says what was lost\n"
          ".SH SYNOPSIS\n\\fBhalftone\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH COMMANDS\n", out);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        fprintf(out, ".TP\n\\fBhalftone\\-%s\\fR(1)\n", c->name);
        text(out, c->summary);
        fputc('\n', out);
    }
    fputs(".SH COMMON OPTIONS\n", out);
    option_list(out, common_options);
    exit_codes(out);
}

void man_command(const struct command *c, FILE *out) {
    char title[64];
    snprintf(title, sizeof title, "HALFTONE-%s", c->name);
    for (char *p = title; *p != '\0'; p++) {
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
    }
    head(out, title);
    fprintf(out, "halftone\\-%s \\- ", c->name);
    text(out, c->summary);
    fprintf(out, "\n.SH SYNOPSIS\n\\fBhalftone %s\\fR ", c->name);
    text(out, c->usage);
    fputc('\n', out);
    if (c->description != NULL) {
        fputs(".SH DESCRIPTION\n", out);
        text(out, c->description);
        fputc('\n', out);
    }
    if (c->options->name != NULL) {
        fputs(".SH OPTIONS\n", out);
        option_list(out, c->options);
    }
    fputs(".SH COMMON OPTIONS\n", out);
    option_list(out, common_options_of(c));
    if (c->examples != NULL) {
        fputs(".SH EXAMPLES\n", out);
        for (const char *const *e = c->examples; e[0] != NULL; e += 2) {
            fputs(".TP\n", out);
            text(out, e[0]);
            fputs("\n.nf\n", out);
            text(out, e[1]);
            fputs("\n.fi\n", out);
        }
    }
    exit_codes(out);
    fputs(".SH SEE ALSO\n\\fBhalftone\\fR(1)\n", out);
}
