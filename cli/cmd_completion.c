#include "cmds.h"

#include "base/file.h"
#include "base/mem.h"

struct args {
    const char *dir;
};

static const struct option_row options[] = {
    {"dir", 0, OPT_STR, offsetof(struct args, dir), "DIR", "@dir",
     "man: write one page per command into this folder"},
    {NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL},
};

static const char *const examples[] = {
    "for this shell",      "source <(halftone completion bash)",
    "all manual pages",    "halftone completion man --dir ~/.local/share/man/man1", NULL,
};

/* command NULL: the program's own page. */
static int write_page(struct cli *cli, const char *dir, const struct command *command) {
    char name[64];
    ht_err err = {0};
    snprintf(name, sizeof name, "halftone%s%s.1", command != NULL ? "-" : "",
             command != NULL ? command->name : "");
    char *path = ht_path_join(dir, name), *text = NULL;
    size_t len = 0;
    FILE *memory = open_memstream(&text, &len);
    int code = 0;
    if (path == NULL || memory == NULL) {
        code = ht_status_exit_code(HT_NOMEM);
    } else {
        if (command != NULL) {
            man_command(command, memory);
        } else {
            man_program(memory);
        }
        fclose(memory);
        if (ht_write_file(path, text, len, true, &err) != HT_OK) {
            code = report_error(cli, &err);
        }
    }
    ht_mem_free(text);
    ht_mem_free(path);
    return code;
}

static int write_pages(struct cli *cli, const char *dir) {
    int code = write_page(cli, dir, NULL);
    for (size_t i = 0; i < command_count() && code == 0; i++) {
        code = write_page(cli, dir, command_at(i));
    }
    return code;
}

static int run(struct cli *cli, void *p) {
    struct args *a = p;
    const char *what = cli->positional[0];
    if (strcmp(what, "man") == 0) {
        if (a->dir != NULL) {
            return write_pages(cli, a->dir);
        }
        man_program(stdout);
        return 0;
    }
    int code = complete_write(what, stdout);
    if (code != 0) {
        fprintf(stderr, "halftone completion: expected bash, zsh, fish or man, found '%s'\n", what);
    }
    return code;
}

const struct command command_completion = {
    .name = "completion",
    .summary = "print a completion script, or the manual pages",
    .usage = "bash | zsh | fish | man [--dir DIR]",
    .examples = examples,
    .options = options,
    .args_bytes = sizeof(struct args),
    .min_positional = 1,
    .max_positional = 1,
    .positional_choices = "bash|zsh|fish|man",
    .run = run,
};
