/* One row per subcommand, each in its cmd_*.c. */
#ifndef HT_CLI_CMDS_H
#define HT_CLI_CMDS_H

#include "cli.h"

extern const struct command command_quantize, command_eval, command_run, command_inspect, command_convert,
    command_verify, command_imatrix, command_report, command_list, command_cpu, command_completion,
    command_version, command_bench, command_show, command_stats;

#endif
