#include "cmds.h"

struct args {
    char unused;
};

static const struct option_row options[] = {{NULL, 0, OPT_FLAG, 0, NULL, NULL, NULL}};

static int run(struct cli *cli, void *p) {
    (void)p;
    printf(cli->json ? "{\"schema\": \"halftone.version/1\", \"version\": \"%s\"}\n" : "halftone %s\n",
           ht_version());
    return 0;
}

const struct command command_version = {
    .name = "version",
    .summary = "print the version",
    .usage = "",
    .options = options,
    .args_bytes = sizeof(struct args),
    .run = run,
};
