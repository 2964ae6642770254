#include "cmds.h"

static const struct command *const table[] = {
    &command_quantize, &command_eval,   &command_run, &command_inspect, &command_convert,    &command_verify,
    &command_imatrix,  &command_report, &command_list, &command_cpu,    &command_completion, &command_version,
    &command_bench,    &command_show,   &command_stats,
};

size_t command_count(void) {
    return sizeof table / sizeof table[0];
}

const struct command *command_at(size_t i) {
    return table[i];
}
