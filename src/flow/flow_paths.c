#include "flow/flow_paths.h"

#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"

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

ht_status ht_flow_check_output(const struct ht_source *source, const char *output, bool replace, ht_err *err) {
    if (ht_source_is(source, output)) {
        return ht_fail(err, HT_INVAL, output, HT_NO_POS,
                       "the output is the input or the folder that holds it; choose another path");
    }
    if (ht_path_exists(output) && !replace) {
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
