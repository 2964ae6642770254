/* What the tests of flow and api share: a context, a scratch folder, the tiny model. */
#ifndef HT_TESTS_FLOW_TEST_H
#define HT_TESTS_FLOW_TEST_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/container.h"

#define TINY HT_MODEL_DIR "/tiny"

struct fixture {
    ht_context *ctx;
    char dir[64];
};

static inline int setup(void **state) {
    static struct fixture f;
    snprintf(f.dir, sizeof f.dir, "/tmp/ht-flow-XXXXXX");
    if (mkdtemp(f.dir) == NULL) {
        return -1;
    }
    f.ctx = make_context(2, NULL, NULL);
    *state = &f;
    return 0;
}

/* Removes a folder of at most two levels. */
static inline void remove_tree(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            char *path = ht_path_join(dir, e->d_name);
            struct stat s;
            if (lstat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
                remove_tree(path);
            } else {
                unlink(path);
            }
            ht_mem_free(path);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    rmdir(dir);
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    ht_context_free(f->ctx);
    remove_tree(f->dir);
    return 0;
}

static inline size_t count_files(const char *dir) {
    DIR *d = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

/* Path of a name in the scratch folder; the last 32 stay valid. */
static inline const char *in_dir(const struct fixture *f, const char *name) {
    static char paths[32][256];
    static int next;
    char *p = paths[next++ % 32];
    snprintf(p, sizeof paths[0], "%s/%s", f->dir, name);
    return p;
}

static inline json_t *parse(char *text) {
    json_t *json;
    ht_err err = {0};
    assert_non_null(text);
    ASSERT_OK(ht_json_parse(text, strlen(text), 0, "record", &json, &err), &err);
    ht_string_free(text);
    return json;
}

static inline struct ht_source *open_source(const char *path) {
    struct ht_source *s;
    ht_err err = {0};
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    return s;
}

/* The row of one tensor in a record of quantize or inspect. */
static inline const json_t *tensor_row(const json_t *record, const char *name) {
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(record, "tensors"), i, row) {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) {
            return row;
        }
    }
    fail_msg("the record has no tensor %s", name);
    return NULL;
}

static inline uint64_t file_size(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 ? (uint64_t)s.st_size : 0;
}

#endif
