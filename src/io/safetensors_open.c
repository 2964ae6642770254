/* Opens one safetensors file, or a Hugging Face folder: config.json beside model.safetensors, or beside
 * shards that model.safetensors.index.json names. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/json.h"
#include "base/limits.h"
#include "io/bytes.h"
#include "io/hf.h"
#include "io/name.h"
#include "io/safetensors.h"
#include "io/source.h"

bool ht_safetensors_probe(const char *path) {
    unsigned char head[9];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, head, sizeof head);
    close(fd);
    return got == (ssize_t)sizeof head && head[8] == '{' && ht_le64(head) <= HT_MAX_ST_HEADER_BYTES;
}

static ht_status add_file(struct ht_source *source, const char *path, struct ht_hf_index *index,
                          ht_err *err) {
    struct ht_safetensors st;
    HT_TRY(ht_source_map(source, path, err));
    uint32_t map_no = (uint32_t)(source->n_maps - 1);
    const struct ht_mapping *map = &source->maps[map_no];
    HT_TRY(ht_safetensors_parse(map->data, map->size, path, &st, err));
    ht_status status = HT_OK;
    for (size_t i = 0; i < st.n_tensors && index != NULL; i++) {
        HT_TRY_DONE(ht_hf_index_check(index, st.tensors[i].name, map_no, path, err));
    }
    HT_TRY_DONE(ht_source_add(source, st.tensors, st.n_tensors, map_no, err));
    for (size_t i = 0; i < st.meta.n; i++) {
        if (ht_meta_find(&source->meta, st.meta.kv[i].key.s) == NULL) {
            HT_TRY_DONE(ht_meta_set_kv(&source->meta, &st.meta.kv[i], err));
        }
    }
done:
    ht_safetensors_deinit(&st);
    return status;
}

ht_status ht_safetensors_open(const char *path, struct ht_source *source, ht_err *err) {
    return add_file(source, path, NULL, err);
}

/* ---- index ------------------------------------------------------------------------------------------- */

void ht_hf_index_deinit(struct ht_hf_index *index) {
    ht_map_deinit(&index->tensors);
    ht_map_deinit(&index->shard_numbers);
    ht_arena_deinit(&index->arena);
    ht_mem_free(index->shards);
    ht_mem_free(index->names);
    memset(index, 0, sizeof *index);
}

static ht_status shard_number(struct ht_hf_index *index, const char *name, const char *tensor,
                              const char *what, uint64_t *no, ht_err *err) {
    const char *fault = ht_name_fault(name, strlen(name), 255);
    size_t len = strlen(name);
    if (fault == NULL && (strchr(name, '/') != NULL || strchr(name, '\\') != NULL || name[0] == '.')) {
        fault = "is not a plain file name";
    }
    if (fault == NULL && (len < 13 || strcmp(name + len - 12, ".safetensors") != 0)) {
        fault = "does not end in .safetensors";
    }
    if (fault != NULL) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "weight_map: tensor '%.200s': the file name '%.100s' %s", tensor, name, fault);
    }
    if (ht_map_get_str(&index->shard_numbers, name, no)) {
        return HT_OK;
    }
    if (index->n_shards == HT_MAX_SPLITS) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS, "weight_map names more than %d files", HT_MAX_SPLITS);
    }
    *no = index->n_shards;
    const char *copy = ht_arena_strdup(&index->arena, name);
    if (copy == NULL || !ht_map_put(&index->shard_numbers, name, len, *no, NULL)) {
        return ht_fail_nomem(err, len);
    }
    index->shards[index->n_shards++] = copy;
    return HT_OK;
}

static ht_status read_weight_map(struct ht_hf_index *index, json_t *weight_map, const char *what,
                                 ht_err *err) {
    const char *tensor;
    json_t *file;
    size_t n = json_object_size(weight_map);
    if (!json_is_object(weight_map) || n == 0) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "expected an object \"weight_map\" of tensor to file name");
    }
    if (n > HT_MAX_TENSORS) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS, "weight_map: %zu tensors, the limit is %u", n,
                       HT_MAX_TENSORS);
    }
    index->shards = ht_mem_calloc(n < HT_MAX_SPLITS ? n : HT_MAX_SPLITS, sizeof *index->shards);
    index->names = ht_mem_calloc(n, sizeof *index->names);
    if (index->shards == NULL || index->names == NULL) {
        return ht_fail_nomem(err, n * sizeof *index->names);
    }
    json_object_foreach(weight_map, tensor, file) {
        uint64_t no;
        const char *fault = ht_name_fault(tensor, strlen(tensor), HT_MAX_ST_NAME);
        if (fault != NULL) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "weight_map: the name of entry %zu %s",
                           index->n_tensors, fault);
        }
        if (!json_is_string(file) || strlen(json_string_value(file)) != json_string_length(file)) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "weight_map: tensor '%s': expected a file name",
                           tensor);
        }
        HT_TRY(shard_number(index, json_string_value(file), tensor, what, &no, err));
        index->names[index->n_tensors] = ht_arena_strdup(&index->arena, tensor);
        if (index->names[index->n_tensors] == NULL ||
            !ht_map_put(&index->tensors, tensor, strlen(tensor), no, NULL)) {
            return ht_fail_nomem(err, strlen(tensor));
        }
        index->n_tensors++;
    }
    return HT_OK;
}

ht_status ht_hf_index_parse(const char *data, size_t len, const char *what, struct ht_hf_index *index,
                            ht_err *err) {
    json_t *json = NULL;
    memset(index, 0, sizeof *index);
    ht_map_init(&index->tensors);
    ht_map_init(&index->shard_numbers);
    ht_arena_init(&index->arena, 0);
    ht_status status = ht_json_parse(data, len, 0, what, &json, err);
    if (status == HT_OK) {
        status = read_weight_map(index, json_object_get(json, "weight_map"), what, err);
    }
    json_decref(json);
    if (status != HT_OK) {
        ht_hf_index_deinit(index);
    }
    return status;
}

ht_status ht_hf_index_check(const struct ht_hf_index *index, const char *tensor, uint64_t shard,
                            const char *file, ht_err *err) {
    uint64_t no;
    if (!ht_map_get_str(&index->tensors, tensor, &no)) {
        return ht_fail(err, HT_FORMAT, file, HT_NO_POS, "tensor '%s' is not in " HT_HF_INDEX, tensor);
    }
    if (no != shard) {
        return ht_fail(err, HT_FORMAT, file, HT_NO_POS,
                       "tensor '%s' lies here, but " HT_HF_INDEX " says in %s", tensor, index->shards[no]);
    }
    return HT_OK;
}

/* ---- folder ------------------------------------------------------------------------------------------ */

/* Without the heap: when memory is out, "not there" would be the wrong answer. */
static bool has(const char *folder, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && ht_path_exists(path);
}

bool ht_hf_probe(const char *path) {
    return ht_path_is_dir(path) &&
           (has(path, "config.json") || has(path, "model.safetensors") || has(path, HT_HF_INDEX));
}

/* Pickles run code when they are loaded: they are named in the message and never opened. */
static ht_status refuse_folder(const char *folder, ht_err *err) {
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".pkl", ".ckpt"};
    char found[128] = "";
    DIR *d = opendir(folder);
    for (struct dirent *e; d != NULL && found[0] == '\0' && (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
            size_t n = strlen(pickles[i]);
            if (len > n && strcmp(e->d_name + len - n, pickles[i]) == 0 &&
                ht_name_fault(e->d_name, len, sizeof found - 1) == NULL) {
                memcpy(found, e->d_name, len + 1);
            }
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    if (found[0] != '\0') {
        return ht_fail(
            err, HT_UNSUPPORTED, folder, HT_NO_POS,
            "found only pickled weights (%s), which can run code when loaded and are never read; convert "
            "them to safetensors first (transformers: save_pretrained(..., safe_serialization=True))",
            found);
    }
    return ht_fail(err, HT_NOTFOUND, folder, HT_NO_POS,
                   "no weights: expected model.safetensors or " HT_HF_INDEX " beside config.json");
}

ht_status ht_hf_config_parse(const char *data, size_t len, const char *what, json_t **config, ht_err *err) {
    HT_TRY(ht_json_parse(data, len, 0, what, config, err));
    if (!json_is_object(*config)) {
        json_decref(*config);
        *config = NULL;
        return ht_fail(err, HT_FORMAT, what, 0, "expected a JSON object");
    }
    return HT_OK;
}

static ht_status load_config(const char *folder, struct ht_source *source, ht_err *err) {
    char *path = ht_path_join(folder, "config.json"), *data = NULL;
    size_t len;
    ht_status status = HT_OK;
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(folder));
    }
    if (!ht_path_exists(path)) {
        status = ht_fail(err, HT_NOTFOUND, path, HT_NO_POS, "a Hugging Face folder needs its config.json");
        goto done;
    }
    HT_TRY_DONE(ht_read_file(path, HT_MAX_CONFIG_BYTES, &data, &len, err));
    HT_TRY_DONE(ht_hf_config_parse(data, len, path, &source->config, err));
done:
    ht_mem_free(data);
    ht_mem_free(path);
    return status;
}

static ht_status open_shards(const char *folder, const char *index_path, struct ht_source *source,
                             ht_err *err) {
    struct ht_hf_index index;
    char *data = NULL, *path = NULL;
    size_t len;
    HT_TRY(ht_read_file(index_path, HT_MAX_ST_HEADER_BYTES, &data, &len, err));
    ht_status status = ht_hf_index_parse(data, len, index_path, &index, err);
    ht_mem_free(data);
    HT_TRY(status);
    for (size_t i = 0; i < index.n_shards; i++) {
        path = ht_path_join(folder, index.shards[i]);
        if (path == NULL) {
            status = ht_fail_nomem(err, strlen(folder));
            goto done;
        }
        if (!ht_path_exists(path)) {
            status = ht_fail(err, HT_NOTFOUND, path, HT_NO_POS,
                             "file %zu of %zu named by " HT_HF_INDEX " is missing", i + 1, index.n_shards);
            goto done;
        }
        HT_TRY_DONE(add_file(source, path, &index, err));
        ht_mem_free(path);
        path = NULL;
    }
    for (size_t i = 0; i < index.n_tensors; i++) {
        if (ht_source_find(source, index.names[i]) == NULL) {
            uint64_t no = 0;
            ht_map_get_str(&index.tensors, index.names[i], &no);
            status = ht_fail(err, HT_FORMAT, index_path, HT_NO_POS,
                             "tensor '%s' should lie in %s but does not", index.names[i], index.shards[no]);
            goto done;
        }
    }
done:
    ht_mem_free(path);
    ht_hf_index_deinit(&index);
    return status;
}

ht_status ht_hf_open(const char *path, struct ht_source *source, ht_err *err) {
    HT_TRY(load_config(path, source, err));
    /* transformers' order: one file wins over an index. */
    bool single = has(path, "model.safetensors");
    if (!single && !has(path, HT_HF_INDEX)) {
        return refuse_folder(path, err);
    }
    char *file = ht_path_join(path, single ? "model.safetensors" : HT_HF_INDEX);
    if (file == NULL) {
        return ht_fail_nomem(err, strlen(path));
    }
    ht_status status = single ? add_file(source, file, NULL, err) : open_shards(path, file, source, err);
    ht_mem_free(file);
    return status;
}
