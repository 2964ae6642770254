#include "io/source.h"

#include "base/mem.h"

void ht_source_close(struct ht_source *source) {
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; i < source->n_maps; i++) {
        ht_unmap_file(&source->maps[i]);
        ht_mem_free(source->map_paths[i]);
    }
    ht_mem_free(source->maps);
    ht_mem_free(source->map_paths);
    ht_mem_free(source->tensors);
    ht_mem_free(source->tensor_map);
    ht_mem_free(source->parts);
    ht_mem_free(source->part_map);
    ht_mem_free(source->packed);
    ht_mem_free(source->path);
    ht_map_deinit(&source->index);
    ht_meta_deinit(&source->meta);
    ht_arena_deinit(&source->arena);
    json_decref(source->config);
    ht_mem_free(source);
}

static const struct ht_container *recognize(const char *path) {
    for (size_t i = 0; i < ht_container_count(); i++) {
        if (ht_container_at(i)->probe(path)) {
            return ht_container_at(i);
        }
    }
    return NULL;
}

/* Nobody knows the content: say what it is, as far as one can tell. */
static ht_status refuse(const char *path, ht_err *err) {
    struct ht_mapping map;
    if (ht_path_is_dir(path)) {
        return ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                       "expected a Hugging Face folder with config.json and *.safetensors, found neither");
    }
    HT_TRY(ht_map_file(path, &map, err));
    const char *hint = "";
    if (map.size == 0) {
        hint = "; the file is empty";
    } else if (map.size >= 4 && memcmp(map.data, "PK\3\4", 4) == 0) {
        hint =
            "; this is a zip archive, perhaps a pickled PyTorch checkpoint: convert it to safetensors first";
    } else if (map.size >= 7 && memcmp(map.data, "version", 7) == 0) {
        hint = "; this is a Git LFS pointer: fetch the real file with git lfs pull";
    } else if (map.data[0] == '{') {
        hint = "; this is JSON: give the folder that it lies in";
    }
    ht_unmap_file(&map);
    return ht_fail(err, HT_FORMAT, path, 0, "neither a GGUF nor a safetensors file%s", hint);
}

ht_status ht_source_open(const char *path, struct ht_source **source, ht_err *err) {
    *source = NULL;
    if (!ht_path_exists(path)) {
        return ht_fail(err, HT_NOTFOUND, path, HT_NO_POS, "no such file or folder");
    }
    const struct ht_container *container = recognize(path);
    if (container == NULL) {
        return refuse(path, err);
    }
    struct ht_source *s = ht_mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return ht_fail_nomem(err, sizeof *s);
    }
    ht_map_init(&s->index);
    ht_meta_init(&s->meta);
    ht_arena_init(&s->arena, 0);
    s->container = container;
    s->path = ht_mem_strdup(path);
    ht_status status = s->path != NULL ? container->open(path, s, err) : ht_fail_nomem(err, strlen(path));
    if (status != HT_OK) {
        ht_source_close(s);
        return status;
    }
    *source = s;
    return HT_OK;
}

ht_status ht_source_map(struct ht_source *source, const char *path, ht_err *err) {
    size_t n = source->n_maps;
    struct ht_mapping *maps = ht_mem_realloc_array(source->maps, n + 1, sizeof *maps);
    if (maps != NULL) {
        source->maps = maps;
    }
    char **paths = ht_mem_realloc_array(source->map_paths, n + 1, sizeof *paths);
    if (paths != NULL) {
        source->map_paths = paths;
    }
    char *copy = ht_mem_strdup(path);
    if (maps == NULL || paths == NULL || copy == NULL) {
        ht_mem_free(copy);
        return ht_fail_nomem(err, (n + 1) * sizeof *maps);
    }
    ht_status status = ht_map_file(path, &maps[n], err);
    if (status != HT_OK) {
        ht_mem_free(copy);
        return status;
    }
    paths[n] = copy;
    source->n_maps++;
    source->file_bytes += maps[n].size;
    return HT_OK;
}

ht_status ht_source_add(struct ht_source *source, const struct ht_tensor *tensors, size_t n, uint32_t map,
                        ht_err *err) {
    size_t have = source->n_tensors;
    if (n > HT_MAX_TENSORS - have) {
        return ht_fail(err, HT_LIMIT, source->map_paths[map], HT_NO_POS, "more than %u tensors in all",
                       HT_MAX_TENSORS);
    }
    struct ht_tensor *all = ht_mem_realloc_array(source->tensors, have + n, sizeof *all);
    if (all != NULL) {
        source->tensors = all;
    }
    uint32_t *maps = ht_mem_realloc_array(source->tensor_map, have + n, sizeof *maps);
    if (maps != NULL) {
        source->tensor_map = maps;
    }
    if (all == NULL || maps == NULL) {
        return ht_fail_nomem(err, (have + n) * sizeof *all);
    }
    for (size_t i = 0; i < n; i++) {
        struct ht_tensor *t = &all[have + i];
        bool existed;
        *t = tensors[i];
        t->name = ht_arena_strdup(&source->arena, tensors[i].name);
        if (t->name == NULL || !ht_map_put(&source->index, t->name, strlen(t->name), have + i, &existed)) {
            return ht_fail_nomem(err, strlen(tensors[i].name));
        }
        if (existed) {
            uint64_t first = 0;
            ht_map_get_str(&source->index, t->name, &first);
            return ht_fail(err, HT_FORMAT, source->map_paths[map], HT_NO_POS,
                           "tensor '%s' is in this file and also in %s", t->name,
                           ht_path_base(source->map_paths[maps[first]]));
        }
        maps[have + i] = map;
        source->data_bytes += t->bytes;
        source->n_tensors++;
    }
    return HT_OK;
}

const struct ht_tensor *ht_source_find(const struct ht_source *source, const char *name) {
    uint64_t i;
    return ht_map_get_str(&source->index, name, &i) ? &source->tensors[i] : NULL;
}

static void drop_part(const struct ht_source *source, size_t k) {
    const struct ht_mapping *map = &source->maps[source->part_map[k]];
    const struct ht_tensor *part = &source->parts[k];
    ht_map_drop(map, (uint64_t)((const unsigned char *)part->data - map->data), part->bytes);
}

void ht_source_drop(const struct ht_source *source, const struct ht_tensor *tensor) {
    uintptr_t first = (uintptr_t)source->tensors, at = (uintptr_t)tensor, part = (uintptr_t)source->parts;
    if (source->parts != NULL && at >= part && at < part + source->n_parts * sizeof *tensor) {
        drop_part(source, (at - part) / sizeof *tensor);
        return;
    }
    if (at < first || at >= first + source->n_tensors * sizeof *tensor) {
        return; /* a view of something else */
    }
    size_t i = (at - first) / sizeof *tensor;
    const struct ht_mapping *map = &source->maps[source->tensor_map[i]];
    if (source->packed == NULL || source->packed[i] == NULL) {
        ht_map_drop(map, (uint64_t)((const unsigned char *)tensor->data - map->data), tensor->bytes);
        return;
    }
    size_t len = strlen(tensor->name);
    for (size_t k = 0; k < source->n_parts; k++) { /* all that lie beside its codes */
        const char *name = source->parts[k].name;
        if (strncmp(name, tensor->name, len) == 0 && name[len] == '.') {
            drop_part(source, k);
        }
    }
}

bool ht_source_is(const struct ht_source *source, const char *path) {
    if (ht_path_same(path, source->path)) {
        return true;
    }
    for (size_t i = 0; i < source->n_maps; i++) {
        if (ht_path_same(path, source->map_paths[i])) {
            return true;
        }
    }
    return false;
}

ht_status ht_source_check(const struct ht_source *source, ht_err *err) {
    for (size_t i = 0; i < source->n_maps; i++) {
        HT_TRY(ht_map_check(&source->maps[i], source->map_paths[i], err));
    }
    return HT_OK;
}
