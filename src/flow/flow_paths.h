/* Checks before any work starts: is the output a different thing than the input, may it be written, is there
 * room on the disk. */
#ifndef HT_FLOW_FLOW_PATHS_H
#define HT_FLOW_FLOW_PATHS_H

#include "io/container.h"

/* Last part of a path without trailing slashes; empty for "/", "." and "..". Records hold only these. */
void ht_flow_base_name(const char *path, char *buf, size_t len);

/* What needs no input to be known. HT_INVAL: a folder stands where a file is to be, or the reverse, or a special
 * file. HT_EXISTS: the file is there already and replace is off; a folder may be there. HT_NOTFOUND: the folder
 * that is to hold it does not exist. */
ht_status ht_flow_check_place(const char *output, bool folder, bool replace, ht_err *err);
/* The folder that is to hold it may be written by this user: HT_IO. */
ht_status ht_flow_check_writable(const char *output, ht_err *err);
/* HT_INVAL when output is the input, also through links, or the folder that holds it. */
ht_status ht_flow_check_output(const struct ht_source *source, const char *output, ht_err *err);

/* Each file NAME-0000i-of-0000n.gguf of a split output: HT_INVAL when the source maps it, HT_EXISTS when it is there
 * already and replace is off. */
ht_status ht_flow_check_shards(const struct ht_source *source, const char *output, uint32_t n_files, bool replace,
                               ht_err *err);
/* The output is none of the other files that the command reads (NULL entries are skipped). */
ht_status ht_flow_check_inputs(const char *output, const char *const *inputs, size_t n, ht_err *err);
/* HT_NOSPACE with both figures when the file system of output has less than bytes free. */
ht_status ht_flow_check_space(const char *output, uint64_t bytes, ht_err *err);

/* Folder of path ("." when it has none); free with ht_mem_free, NULL when memory is out. */
char *ht_flow_parent(const char *path);

#endif
