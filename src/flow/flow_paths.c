#include "flow/flow_paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h> /* defines: faccessat */

#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "io/gguf.h"

void ht_flow_base_name(const char *path, char *buf, size_t len) {
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    snprintf(buf, len, "%.*s", (int)(end - start), path + start);
    if (strcmp(buf, ".") == 0 || strcmp(buf, "..") == 0) {
        buf[0] = '\0';
    }
}

char *ht_flow_parent(const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    while (end > 0 && path[end - 1] != '/') {
        end--;
    }
    return end == 0 ? ht_mem_strdup(".") : ht_mem_strndup(path, end);
}

ht_status ht_flow_check_place(const char *output, bool folder, bool replace, ht_err *err) {
    struct stat st;
    bool exists = stat(output, &st) == 0;
    if (exists && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return ht_fail(err, HT_INVAL, output, HT_NO_POS, "the output exists and is no regular file");
    }
    if (exists && folder != S_ISDIR(st.st_mode)) {
        return ht_fail(err, HT_INVAL, output, HT_NO_POS, "expected the name of a %s, but a %s of this name exists",
                       folder ? "folder" : "file", folder ? "file" : "folder");
    }
    if (!folder && !replace && ht_path_exists(output)) {
        return ht_fail(err, HT_EXISTS, output, HT_NO_POS, "the output exists already; --force replaces it");
    }
    char *parent = ht_flow_parent(output);
    if (parent == NULL) {
        return ht_fail_nomem(err, 0);
    }
    ht_status status = HT_OK;
    if (!ht_path_is_dir(parent)) {
        status = ht_fail(err, HT_NOTFOUND, output, HT_NO_POS, "the folder '%s' does not exist; create it first",
                         parent);
    }
    ht_mem_free(parent);
    return status;
}

ht_status ht_flow_check_writable(const char *output, ht_err *err) {
    char *parent = ht_flow_parent(output);
    if (parent == NULL) {
        return ht_fail_nomem(err, 0);
    }
    ht_status status = HT_OK;
    if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) != 0) {
        status = ht_fail_errno(err, errno, output, "write in its folder");
    }
    ht_mem_free(parent);
    return status;
}

/* A folder that holds a file of the input: an output in there would mix with it. */
static ht_status holds_input(const struct ht_source *source, const char *output, bool *holds, ht_err *err) {
    *holds = false;
    for (size_t i = 0; i < source->n_maps && !*holds; i++) {
        char *parent = ht_flow_parent(source->map_paths[i]);
        if (parent == NULL) {
            return ht_fail_nomem(err, strlen(source->map_paths[i]));
        }
        *holds = ht_path_same(output, parent);
        ht_mem_free(parent);
    }
    return HT_OK;
}

ht_status ht_flow_check_output(const struct ht_source *source, const char *output, ht_err *err) {
    bool holds;
    HT_TRY(holds_input(source, output, &holds, err));
    if (holds || ht_source_is(source, output)) {
        return ht_fail(err, HT_INVAL, output, HT_NO_POS,
                       "the output is the input or the folder that holds it; choose another path");
    }
    return HT_OK;
}

ht_status ht_flow_check_shards(const struct ht_source *source, const char *output, uint32_t n_files, bool replace,
                               ht_err *err) {
    ht_status status = HT_OK;
    for (uint32_t i = 0; i < n_files && status == HT_OK; i++) {
        char *path = ht_gguf_shard_path(output, i, n_files);
        if (path == NULL) {
            return ht_fail(err, HT_INVAL, output, HT_NO_POS, "the name of a split output must end in .gguf");
        }
        if (ht_source_is(source, path)) {
            status = ht_fail(err, HT_INVAL, path, HT_NO_POS,
                             "a file of the output is one of the input; choose another path");
        } else if (!replace && ht_path_exists(path)) {
            status = ht_fail(err, HT_EXISTS, path, HT_NO_POS,
                             "a file of the output exists already; --force replaces it");
        }
        ht_mem_free(path);
    }
    return status;
}

ht_status ht_flow_check_inputs(const char *output, const char *const *inputs, size_t n, ht_err *err) {
    for (size_t i = 0; i < n; i++) {
        if (inputs[i] != NULL && ht_path_same(output, inputs[i])) {
            return ht_fail(err, HT_INVAL, output, HT_NO_POS, "the output is also an input; choose another path");
        }
    }
    return HT_OK;
}

ht_status ht_flow_check_space(const char *output, uint64_t bytes, ht_err *err) {
    char *parent = ht_flow_parent(output);
    if (parent == NULL) {
        return ht_fail_nomem(err, 0);
    }
    uint64_t available = ht_sys_disk_free_bytes(parent);
    ht_mem_free(parent);
    if (available != 0 && available < bytes) {
        return ht_fail(err, HT_NOSPACE, output, HT_NO_POS,
                       "the output needs %llu bytes, the disk has %llu bytes free; free space or choose another "
                       "disk",
                       (unsigned long long)bytes, (unsigned long long)available);
    }
    return HT_OK;
}
