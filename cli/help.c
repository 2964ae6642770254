#include "cli.h"

#define COLUMN 28 /* where the explanations start */
#define WIDTH 100

static void paint(FILE *out, bool color, const char *text) {
    fprintf(out, color ? "\033[1m%s\033[0m\n" : "%s\n", text);
}

/* Wraps text to WIDTH, continuing lines at the given column; '\n' starts a new line. */
static void wrap(FILE *out, const char *text, size_t column) {
    size_t at = column;
    while (*text != '\0') {
        size_t word = strcspn(text, " \n");
        if (at + word > WIDTH && at > column) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        fwrite(text, 1, word, out);
        at += word;
        text += word;
        if (*text == '\n') {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
            text++;
        } else if (*text == ' ') {
            text++;
            if (at + 1 + strcspn(text, " \n") <= WIDTH) {
                fputc(' ', out);
                at++;
            } else {
                fprintf(out, "\n%*s", (int)column, "");
                at = column;
            }
        }
    }
    fputc('\n', out);
}

static void option_lines(FILE *out, const struct option_row *rows) {
    for (; rows != NULL && rows->name != NULL; rows++) {
        char head[80], letter[8] = "    ", text[600];
        if (rows->letter != 0) {
            snprintf(letter, sizeof letter, "-%c, ", rows->letter);
        }
        int n = snprintf(head, sizeof head, "  %s--%s%s%s", letter, rows->name, rows->arg ? " " : "",
                         rows->arg ? rows->arg : "");
        fputs(head, out);
        if (n >= COLUMN - 1) {
            fprintf(out, "\n%*s", COLUMN, "");
        } else {
            fprintf(out, "%*s", COLUMN - n, "");
        }
        bool list = rows->choices != NULL && rows->choices[0] != '@';
        snprintf(text, sizeof text, list ? "%s (%s)" : "%s", rows->help, rows->choices);
        wrap(out, text, COLUMN);
    }
}

void help_program(FILE *out, bool color) {
    fprintf(out, "halftone %s: makes large language models smaller and says what was lost\n\n", ht_version());
    fprintf(out, "usage: halftone COMMAND [OPTIONS]\n\n");
    paint(out, color, "Commands");
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "  %-14s%s\n", command_at(i)->name, command_at(i)->summary);
    }
    fputc('\n', out);
    paint(out, color, "Start here");
    fprintf(out, "  halftone quantize MODEL -o model-Q4_K_M.gguf --format Q4_K_M --calib text.txt\n"
                 "  halftone eval model-Q4_K_M.gguf --reference MODEL --text test.txt\n"
                 "  halftone run model-Q4_K_M.gguf --chat\n\n"
                 "MODEL is a GGUF file or a Hugging Face folder. 'halftone COMMAND --help' tells more.\n");
}

void help_command(const struct command *command, FILE *out, bool color) {
    fprintf(out, "halftone %s: %s\n\nusage: halftone %s %s\n\n", command->name, command->summary,
            command->name, command->usage);
    if (command->examples != NULL) {
        paint(out, color, "Examples");
        for (const char *const *e = command->examples; e[0] != NULL; e += 2) {
            fprintf(out, "  # %s\n  %s\n", e[0], e[1]);
        }
        fputc('\n', out);
    }
    if (command->description != NULL) {
        wrap(out, command->description, 0);
        fputc('\n', out);
    }
    if (command->options != NULL && command->options->name != NULL) {
        paint(out, color, "Options");
        option_lines(out, command->options);
        fputc('\n', out);
    }
    paint(out, color, "Common options");
    option_lines(out, common_options_of(command));
}
