/* Completion scripts for bash, zsh and fish, from the command tables. Registries ("@formats") are asked of
 * the program itself when the user presses tab, so the script never grows stale. */
#include "base/mem.h"
#include "cli.h"

/* Words of a choices text: "a|b" as they are, "@file" and "@dir" left to the shell, "@name" asked. */
static void bash_choices(FILE *out, const char *choices) {
    bool files = false;
    fputs("words=\"", out);
    for (const char *p = choices; *p != '\0';) {
        size_t n = strcspn(p, " |");
        if (n > 5 && strncmp(p, "@file", 5) != 0 && p[0] == '@') {
            fprintf(out, "$(_halftone_names %.*s) ", (int)n - 1, p + 1);
        } else if (p[0] == '@') {
            files = true;
        } else {
            fprintf(out, "%.*s ", (int)n, p);
        }
        p += n + (p[n] != '\0');
    }
    fprintf(out, "\"%s", files ? "; files=1" : "");
}

static void bash_values(FILE *out, const struct option_row *rows) {
    for (; rows->name != NULL; rows++) {
        if (rows->arg == NULL) {
            continue;
        }
        fputs("            ", out);
        if (rows->letter != 0) {
            fprintf(out, "-%c|", rows->letter);
        }
        fprintf(out, "--%s) value=1; ", rows->name);
        bash_choices(out, rows->choices != NULL ? rows->choices : "");
        fputs(";;\n", out);
    }
}

static void option_words(FILE *out, const struct option_row *rows) {
    for (; rows->name != NULL; rows++) {
        fprintf(out, "--%s ", rows->name);
    }
}

static void bash(FILE *out) {
    fputs("# bash completion for halftone; source it or install it as "
          ".../bash-completion/completions/halftone\n"
          "_halftone_names() { halftone list \"$1\" --json 2>/dev/null | sed -n 's/^ *\"name\": "
          "\"\\([^\"]*\\)\".*/\\1/p'; }\n"
          "_halftone() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= files= value=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        words=\"",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "%s ", command_at(i)->name);
    }
    fputs("--help --version\"\n        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n        "
          "return\n    fi\n"
          "    case ${COMP_WORDS[1]} in\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        fprintf(out, "    %s)\n        case $prev in\n", c->name);
        bash_values(out, c->options);
        bash_values(out, common_options_of(c));
        fputs("        esac\n        if [ -z \"$value\" ]; then\n            case $cur in\n            -*) "
              "words=\"",
              out);
        option_words(out, c->options);
        option_words(out, common_options_of(c));
        fputs("\" ;;\n            *) ", out);
        bash_choices(out, c->positional_choices != NULL ? c->positional_choices : "");
        fputs(" ;;\n            esac\n        fi\n        ;;\n", out);
    }
    fputs("    esac\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\"; [ -n \"$files\" ] && compgen -f "
          "-- \"$cur\")\n"
          "}\n"
          "complete -o filenames -F _halftone halftone\n",
          out);
}

/* zsh and fish describe each option; quotes are doubled away by using none in help texts' place. */
static void quoted(FILE *out, const char *s, const char *specials) {
    for (; *s != '\0'; s++) {
        if (*s == '\'') {
            fputs("'\\''", out);
            continue;
        }
        if (strchr(specials, *s) != NULL) {
            fputc('\\', out);
        }
        fputc(*s, out);
    }
}

static void zsh_action(FILE *out, const char *choices) {
    if (choices == NULL) {
        fputs(": :", out);
    } else if (choices[0] == '@') {
        if (strncmp(choices, "@file", 5) == 0 || strcmp(choices, "@dir") == 0) {
            fputs("_files", out);
        } else {
            fprintf(out, "{compadd -- ");
            for (const char *p = choices; *p != '\0';) {
                size_t n = strcspn(p, " ");
                fprintf(out, "$(_halftone_names %.*s) ", (int)n - 1, p + 1);
                p += n + (p[n] != '\0');
            }
            fputs("}", out);
        }
    } else {
        fputc('(', out);
        for (const char *p = choices; *p != '\0' && *p != '@'; p++) {
            fputc(*p == '|' ? ' ' : *p, out);
        }
        fputc(')', out);
    }
}

static void zsh_options(FILE *out, const struct option_row *rows) {
    for (; rows->name != NULL; rows++) {
        fprintf(out, "            '%s--%s%s[", rows->type == OPT_LIST ? "*" : "", rows->name,
                rows->arg ? "=" : "");
        quoted(out, rows->help, "[]:\\");
        fputc(']', out);
        if (rows->arg != NULL) {
            fprintf(out, ":%s:", rows->arg);
            zsh_action(out, rows->choices);
        }
        fputs("' \\\n", out);
    }
}

static void zsh(FILE *out) {
    fputs("#compdef halftone\n"
          "_halftone_names() { halftone list \"$1\" --json 2>/dev/null | sed -n 's/^ *\"name\": "
          "\"\\([^\"]*\\)\".*/\\1/p' }\n"
          "_halftone() {\n    local -a commands\n    commands=(\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        fprintf(out, "        '%s:", command_at(i)->name);
        quoted(out, command_at(i)->summary, ":\\");
        fputs("'\n", out);
    }
    fputs(
        "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
        "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n",
        out);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        fprintf(out, "    %s)\n        _arguments \\\n", c->name);
        zsh_options(out, c->options);
        zsh_options(out, common_options_of(c));
        fputs("            '*:argument:", out);
        zsh_action(out, c->positional_choices);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n}\n_halftone \"$@\"\n", out);
}

static void fish_options(FILE *out, const char *command, const struct option_row *rows) {
    for (; rows->name != NULL; rows++) {
        fputs("complete -c halftone", out);
        if (command != NULL) {
            fprintf(out, " -n '__fish_seen_subcommand_from %s'", command);
        }
        fprintf(out, " -l %s", rows->name);
        if (rows->letter != 0) {
            fprintf(out, " -s %c", rows->letter);
        }
        if (rows->arg != NULL) {
            fputs(" -r", out);
            if (rows->choices != NULL && rows->choices[0] != '@') {
                fputs(" -f -a '", out);
                for (const char *p = rows->choices; *p != '\0'; p++) {
                    fputc(*p == '|' ? ' ' : *p, out);
                }
                fputc('\'', out);
            } else if (rows->choices != NULL && strncmp(rows->choices, "@file", 5) != 0 &&
                       strcmp(rows->choices, "@dir") != 0) {
                fprintf(out, " -f -a '(__halftone_names %s)'", rows->choices);
            }
        }
        fputs(" -d '", out);
        quoted(out, rows->help, "\\");
        fputs("'\n", out);
    }
}

static void fish(FILE *out) {
    fputs("function __halftone_names\n    for r in $argv\n"
          "        halftone list (string trim -c @ $r) --json 2>/dev/null | string match -rg '^ *\"name\": "
          "\"([^\"]*)\"'\n"
          "    end\nend\n",
          out);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        fprintf(out, "complete -c halftone -n __fish_use_subcommand -f -a %s -d '", c->name);
        quoted(out, c->summary, "\\");
        fputs("'\n", out);
        fish_options(out, c->name, c->options);
    }
    fish_options(out, NULL, common_options);
}

int complete_write(const char *shell, FILE *out) {
    static const struct {
        const char *name;
        void (*write)(FILE *out);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        if (strcmp(shell, shells[i].name) == 0) {
            shells[i].write(out);
            return 0;
        }
    }
    return EXIT_USAGE;
}
