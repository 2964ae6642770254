/* The embedded model for tests, and changed copies of it. Found in the project's models/ folder, else beside
 * the reference models. */
#ifndef HT_TESTS_TINY_MODEL_H
#define HT_TESTS_TINY_MODEL_H

#include <jansson.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "test.h"

static inline const char *tiny_model(void) {
    static char path[512];
    if (ht_path_exists(HT_MODEL_DIR "/tiny/model.safetensors")) {
        return HT_MODEL_DIR "/tiny";
    }
    snprintf(path, sizeof path, "%s/tiny", ref_dir() != NULL ? ref_dir() : "");
    return ref_dir() != NULL && ht_path_exists(path) ? path : NULL;
}

static inline void need_tiny(void) {
    if (tiny_model() == NULL) {
        skip();
    }
}

static const char *const tiny_files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                         "tokenizer_config.json", "model.safetensors"};

/* Copies the model into folder. change (may be NULL) edits the 16-bit weights of one tensor at a time. */
static inline void tiny_copy(const char *folder, void (*change)(const char *name, uint16_t *w, size_t n)) {
    ht_err err = {0};
    for (size_t i = 0; i < sizeof tiny_files / sizeof tiny_files[0]; i++) {
        char *data, *from = ht_path_join(tiny_model(), tiny_files[i]), *to = ht_path_join(folder, tiny_files[i]);
        size_t len;
        ASSERT_OK(ht_read_file(from, 1u << 26, &data, &len, &err), &err);
        if (change != NULL && strcmp(tiny_files[i], "model.safetensors") == 0) {
            uint64_t head;
            memcpy(&head, data, sizeof head);
            json_t *tensors, *t;
            const char *name;
            ASSERT_OK(ht_json_parse(data + 8, (size_t)head, 0, from, &tensors, &err), &err);
            json_object_foreach(tensors, name, t) {
                const json_t *at = json_object_get(t, "data_offsets");
                if (at != NULL) {
                    size_t a = (size_t)json_integer_value(json_array_get(at, 0));
                    size_t b = (size_t)json_integer_value(json_array_get(at, 1)), n = (b - a) / 2;
                    uint16_t *w = ht_mem_alloc_array(n, sizeof *w);
                    memcpy(w, data + 8 + head + a, n * sizeof *w);
                    change(name, w, n);
                    memcpy(data + 8 + head + a, w, n * sizeof *w);
                    ht_mem_free(w);
                }
            }
            json_decref(tensors);
        }
        ASSERT_OK(ht_write_file(to, data, len, true, &err), &err);
        ht_mem_free(to);
        ht_mem_free(from);
        ht_mem_free(data);
    }
}

static inline void tiny_remove(const char *folder) {
    for (size_t i = 0; i < sizeof tiny_files / sizeof tiny_files[0]; i++) {
        char *path = ht_path_join(folder, tiny_files[i]);
        unlink(path);
        ht_mem_free(path);
    }
    rmdir(folder);
}

#endif
