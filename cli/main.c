#include <errno.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "cli.h"

static const char *command_name(const void *unused, size_t i) {
    (void)unused;
    return command_at(i)->name;
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < command_count(); i++) {
        if (strcmp(command_at(i)->name, name) == 0) {
            return command_at(i);
        }
    }
    return NULL;
}

static int unknown_command(const char *name) {
    char near[128];
    fprintf(stderr, "halftone: unknown command '%s'", name);
    if (ht_nearest(name, command_name, NULL, command_count(), near, sizeof near)[0] != '\0') {
        fprintf(stderr, "; did you mean: %s?", near);
    }
    fprintf(stderr, "\nSee 'halftone --help'.\n");
    return EXIT_USAGE;
}

/* A full disk or a closed pipe behind stdout must not look like success. */
static int close_stdout(int code) {
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno == 0) { /* an earlier write failed, its reason is forgotten: one more byte brings it back */
            clearerr(stdout);
            putchar('\n');
            (void)fflush(stdout);
        }
        ht_err err = {.pos = HT_NO_POS};
        ht_status status = ht_fail_errno(&err, errno != 0 ? errno : EIO, "standard output", "write");
        fprintf(stderr, "halftone: error: %s: %s\n", err.what, err.msg);
        return code != 0 ? code : ht_status_exit_code(status);
    }
    return code;
}

static int run_command(const struct command *command, int argc, char **argv) {
    struct cli cli = {.command = command, .color = "auto"};
    ht_err err = {0};
    int code;
    void *args = ht_mem_calloc(1, command->args_bytes);
    cli.positional = ht_mem_calloc((size_t)argc + 1, sizeof *cli.positional);
    if (args == NULL || cli.positional == NULL) {
        code = ht_status_exit_code(HT_NOMEM);
        goto done;
    }
    cli.args = args;
    if (command->defaults != NULL) {
        command->defaults(args);
    }
    code = options_parse(&cli, command, args, argc, argv);
    if (code != 0) {
        goto done;
    }
    term_setup(&cli);
    if (cli.help) {
        help_command(command, stdout, cli.color_out);
        goto done;
    }
    if (command->needs_context) {
        ht_context_options options;
        ht_context_options_defaults(&options);
        options.threads = (int)(cli.threads > 100000 ? 100000 : cli.threads);
        progress_setup(&cli, &options);
        if (ht_context_new(&options, &cli.ctx, &err) != HT_OK) {
            code = report_error(&cli, &err);
            goto done;
        }
    }
    code = command->run(&cli, args);
done:
    if (args != NULL) {
        options_release(command, args);
    }
    ht_context_free(cli.ctx);
    ht_mem_free(cli.positional);
    ht_mem_free(args);
    return close_stdout(code);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        help_program(stderr, false);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        const struct command *about = argc > 2 ? find_command(argv[2]) : NULL;
        if (argc > 2 && about == NULL) {
            return unknown_command(argv[2]);
        }
        if (about != NULL) {
            help_command(about, stdout, false);
        } else {
            help_program(stdout, false);
        }
        return close_stdout(0);
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const char *mask = ht_cpu_unknown_mask();
    if (mask != NULL) {
        fprintf(stderr, "halftone: HT_CPU=%s names no level and masks nothing; 'halftone cpu' shows the levels\n",
                mask);
    }
    const struct command *command = find_command(name);
    return command != NULL ? run_command(command, argc - 2, argv + 2) : unknown_command(name);
}
