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

/* What to print, as text of its own: a shell's script, a command's page, the program's page. */
struct page {
    const char *shell;
    const struct command *command;
};

static char *page_text(const struct page *page, size_t *len) {
    char *text = NULL;
    FILE *memory = open_memstream(&text, len);
    if (memory == NULL) {
        return NULL;
    }
    if (page->shell != NULL) {
        (void)complete_write(page->shell, memory);
    } else if (page->command != NULL) {
        man_command(page->command, memory);
    } else {
        man_program(memory);
    }
    bool ok = !ferror(memory);
    if (fclose(memory) != 0 || !ok) {
        ht_mem_free(text);
        return NULL;
    }
    return text;
}

/* Prints doc and frees it. */
static int print_document(json_t *doc) {
    int code = doc != NULL && json_dumpf(doc, stdout, JSON_INDENT(1)) == 0 ? 0 : ht_status_exit_code(HT_NOMEM);
    putchar('\n');
    json_decref(doc);
    return code;
}

/* command NULL: the program's own page. */
static int write_page(struct cli *cli, const char *dir, const struct command *command, json_t *files) {
    char name[64];
    ht_err err = {0};
    snprintf(name, sizeof name, "halftone%s%s.1", command != NULL ? "-" : "",
             command != NULL ? command->name : "");
    size_t len = 0;
    char *path = ht_path_join(dir, name), *text = page_text(&(struct page){NULL, command}, &len);
    int code = 0;
    if (path == NULL || text == NULL) {
        code = ht_status_exit_code(HT_NOMEM);
    } else if (ht_write_file(path, text, len, true, &err) != HT_OK) {
        code = report_error(cli, &err);
    } else {
        json_array_append_new(files, json_string(name));
    }
    ht_mem_free(text);
    ht_mem_free(path);
    return code;
}

static int write_pages(struct cli *cli, const char *dir) {
    ht_err err = {0};
    if (ht_make_dirs(dir, &err) != HT_OK) {
        return report_error(cli, &err);
    }
    json_t *files = json_array();
    int code = write_page(cli, dir, NULL, files);
    for (size_t i = 0; i < command_count() && code == 0; i++) {
        code = write_page(cli, dir, command_at(i), files);
    }
    if (code == 0 && cli->json) {
        return print_document(json_pack("{s:s, s:s, s:s, s:o}", "schema", "halftone.completion/1", "version",
                                        ht_version(), "dir", dir, "files", files));
    }
    json_decref(files);
    return code;
}

static bool known(const char *what) {
    static const char *const names[] = {"bash", "zsh", "fish", "man"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(what, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int run(struct cli *cli, void *p) {
    const struct args *a = p;
    const char *what = cli->positional[0];
    bool man = strcmp(what, "man") == 0;
    if (!known(what)) {
        return usage_error(cli->command, "expected bash, zsh, fish or man, found '%s'", what);
    }
    if (a->dir != NULL) {
        return man ? write_pages(cli, a->dir) : usage_error(cli->command, "--dir belongs to man, not to %s", what);
    }
    size_t len = 0;
    char *text = page_text(&(struct page){man ? NULL : what, NULL}, &len);
    int code = 0;
    if (text == NULL) {
        code = ht_status_exit_code(HT_NOMEM);
    } else if (cli->json) {
        code = print_document(json_pack("{s:s, s:s, s:s, s:s}", "schema", "halftone.completion/1", "version",
                                        ht_version(), "kind", what, "text", text));
    } else {
        fwrite(text, 1, len, stdout);
    }
    ht_mem_free(text);
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
