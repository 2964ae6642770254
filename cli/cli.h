/* The program: a thin layer over halftone.h. One table of commands (commands.c), one table of options per
 * command; parsing, --help, man pages and shell completion all come from these tables.
 *
 * stdout carries results, stderr progress and messages. Exit codes: halftone.h HT_STATUS_LIST, 2 for usage,
 * 128 + n for signal n. */
#ifndef HT_CLI_CLI_H
#define HT_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"
#include "halftone.h"

#define EXIT_USAGE 2

struct strlist {
    const char **items;
    size_t n;
};

#define U32LIST_MAX 16
struct u32list {
    uint32_t items[U32LIST_MAX];
    size_t n;
};

enum option_type {
    OPT_FLAG,   /* bool */
    OPT_UNFLAG, /* bool, the option makes it false */
    OPT_STR,    /* const char * */
    OPT_LIST,   /* struct strlist; may be repeated */
    OPT_U32,
    OPT_U32S, /* struct u32list; 1,2,4 */
    OPT_U64,
    OPT_BYTES, /* uint64_t; 2G, 500M, 64KiB */
    OPT_F32,
    OPT_F64,
    OPT_COUNT /* int, counts repetitions */
};

struct option_row {
    const char *name; /* without dashes; NULL ends the table */
    char letter;      /* 0: none */
    enum option_type type;
    size_t offset;       /* into the command's arguments */
    const char *arg;     /* name of the value in help; NULL for flags */
    const char *choices; /* "a|b|c" (checked), "@formats" (registry, completed), "@file", "@dir" or NULL */
    const char *help;
};

struct cli {
    ht_context *ctx; /* made before a command runs that needs it */
    bool json, quiet, help;
    int verbose;
    uint32_t threads;
    const char *color; /* auto, always, never */
    bool color_out, color_err, tty_err;
    const struct command *command;
    const void *args; /* of the command, as parsed */
    uint64_t given;   /* bit i: option i of the command's table, of at most 64, stood on the command line */
    const char **positional;
    size_t n_positional;
};

struct command {
    const char *name, *summary;
    const char *usage;           /* behind "halftone NAME " */
    const char *description;     /* paragraphs */
    const char *const *examples; /* "comment", "command", ..., NULL */
    const struct option_row *options;
    size_t args_bytes;
    void (*defaults)(void *args);
    size_t min_positional, max_positional;
    const char *positional_choices; /* as option_row.choices, for completion */
    bool needs_context;
    int (*run)(struct cli *cli, void *args); /* exit code */
};

size_t command_count(void); /* commands.c */
const struct command *command_at(size_t i);
extern const struct option_row common_options[]; /* the first is --threads */
/* What help and completion show for a command: without --threads where it has one of its own. */
const struct option_row *common_options_of(const struct command *command);

/* options.c: fills args and cli from argv; returns 0 or EXIT_USAGE with a message on stderr. */
int options_parse(struct cli *cli, const struct command *command, void *args, int argc, char **argv);
void options_release(const struct command *command, void *args);
/* "halftone NAME: ..." and where to read more, on stderr; gives EXIT_USAGE. */
int usage_error(const struct command *command, const char *fmt, ...) HT_PRINTF(2, 3);

/* actions.c: a command whose first word says what it does (stats collect ...). */
struct action {
    const char *name;
    const char *options; /* "output force": those that it takes; NULL: all of the command's */
    int (*run)(struct cli *cli, void *args, char **json, ht_err *err, ht_status *status); /* EXIT_USAGE or 0 */
};
/* Runs the action that the first word names and ends as finish does. An unknown word, and an option that the action
 * has no use for, are usage errors. actions: NULL name ends the table. */
int action_run(struct cli *cli, const struct action *actions, void *args,
               void (*show)(const struct cli *cli, const json_t *document));

/* help.c */
void help_program(FILE *out, bool color);
void help_command(const struct command *command, FILE *out, bool color);

/* complete.c and man.c: from the tables. */
int complete_write(const char *shell, FILE *out); /* EXIT_USAGE for an unknown shell */
void man_program(FILE *out);
void man_command(const struct command *command, FILE *out);

/* term.c */
void term_setup(struct cli *cli);
const char *term_color(const struct cli *cli, bool err_stream, const char *code); /* "" when colour is off */
int report_error(const struct cli *cli, const ht_err *err);                       /* prints, returns the exit code */
void print_json(char *json); /* to stdout with a newline; frees */
void note(const struct cli *cli, const char *fmt, ...) HT_PRINTF(2, 3); /* stderr unless quiet */
const char *human_bytes(double bytes, char buf[32]);
const char *human_time(double seconds, char buf[32]);

/* progress.c */
void progress_setup(struct cli *cli, ht_context_options *options);
void progress_clear(void);  /* removes the bar before something else is printed */
int signal_received(void); /* 0 or the signal's number */

/* table.c: aligned columns for people. */
struct text_table;
struct text_table *table_new(const char *const *headers, size_t n_columns, const char *alignment); /* "lrr" */
void table_cell(struct text_table *table, const char *fmt, ...) HT_PRINTF(2, 3);
void table_print(struct text_table *table, const struct cli *cli, FILE *out); /* frees */
void table_print_markdown(struct text_table *table, FILE *out);               /* frees */

/* JSON access by path "a.b"; missing gives the fallback. */
const json_t *json_at(const json_t *object, const char *path);
double json_num(const json_t *object, const char *path, double fallback);
const char *json_str(const json_t *object, const char *path, const char *fallback);

/* Ends a command: prints json when --json (result of a failed status too), else calls show with the parsed
 * document; returns the exit code. */
int finish(const struct cli *cli, ht_status status, const ht_err *err, char *json,
           void (*show)(const struct cli *cli, const json_t *document));

#endif
