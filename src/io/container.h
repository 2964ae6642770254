/* Containers: files that hold tensors. One row per kind of file; io_table.c lists them. A source is an opened
 * checkpoint of any kind: tensors are views into mapped files, metadata is typed key-values, and a Hugging
 * Face folder also carries its JSON files. Everything is validated when it is opened: after ht_source_open
 * every tensor's bytes lie inside a mapped file. */
#ifndef HT_IO_CONTAINER_H
#define HT_IO_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/file.h"
#include "io/meta.h"
#include "tensor/tensor.h"

struct ht_packed;

struct ht_source {
    const struct ht_container *container;
    char *path;                  /* as opened */
    struct ht_mapping *maps;     /* [n_maps] data files */
    char **map_paths;            /* [n_maps] */
    size_t n_maps;
    struct ht_tensor *tensors;   /* [n_tensors] in file order */
    uint32_t *tensor_map;        /* [n_tensors] index into maps */
    size_t n_tensors;
    struct ht_map index;         /* name -> tensor */
    /* Folders of our own (io/halftone.h), else NULL: the tensors as files hold them, and what each shown one is made
     * of. */
    struct ht_tensor *parts;     /* [n_parts] in file order */
    uint32_t *part_map;          /* [n_parts] index into maps */
    size_t n_parts;
    struct ht_packed **packed;   /* [n_tensors] NULL: a plain tensor */
    struct ht_meta meta;         /* GGUF metadata without split.*; __metadata__ of safetensors as strings */
    uint64_t data_bytes;         /* sum of tensor bytes */
    uint64_t file_bytes;         /* sum of file sizes */
    uint64_t trailing_bytes;     /* behind the data of GGUF files: harmless, ht_verify warns */
    uint64_t missing_pad_bytes;  /* padding that a last tensor lacks: the same */
    /* Hugging Face folder: parsed config.json, or NULL; the other JSON files are read by their users. */
    json_t *config;
    struct ht_arena arena;       /* names */
};

struct ht_container {
    const char *name; /* "gguf", "safetensors", "hf", "halftone" */
    const char *summary;
    const char *source;
    bool (*probe)(const char *path);                                        /* is it of this kind? */
    ht_status (*open)(const char *path, struct ht_source *source, ht_err *err); /* fills *source */
};

size_t ht_container_count(void);
const struct ht_container *ht_container_at(size_t i);

/* Recognizes by content (magic, folder with config.json), not by name. HT_NOTFOUND, HT_FORMAT ... */
ht_status ht_source_open(const char *path, struct ht_source **source, ht_err *err);
void ht_source_close(struct ht_source *source);
const struct ht_tensor *ht_source_find(const struct ht_source *source, const char *name); /* NULL: none */
/* Tensors as files hold them: parts, or tensors. */
static inline const struct ht_tensor *ht_source_stored(const struct ht_source *source, size_t *n) {
    *n = source->parts != NULL ? source->n_parts : source->n_tensors;
    return source->parts != NULL ? source->parts : source->tensors;
}
/* Tells the kernel that the tensor's pages are not needed any more: keeps streaming lean. */
void ht_source_drop(const struct ht_source *source, const struct ht_tensor *tensor);
/* HT_IO when a mapped file was changed in place since it was opened: call it before finishing an output. */
ht_status ht_source_check(const struct ht_source *source, ht_err *err);
/* True when path names one of the files that the source maps, or its folder. */
bool ht_source_is(const struct ht_source *source, const char *path);

#endif
