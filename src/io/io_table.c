/* The containers that can be opened, in the order in which they are asked. */
#include "io/container.h"
#include "io/gguf.h"
#include "io/halftone.h"
#include "io/safetensors.h"

static const struct ht_container table[] = {
    {"gguf", "one file, or splits, with metadata and tokenizer (llama.cpp)",
     "ggml docs/gguf.md, version 2 and 3", ht_gguf_probe, ht_gguf_open},
    {"halftone", "Hugging Face folder with codes, scales and what recipes leave beside them (this program only)",
     "docs/container.md", ht_halftone_probe, ht_halftone_open},
    {"hf", "folder of config.json, safetensors and tokenizer files (transformers)",
     "Hugging Face hub, transformers save_pretrained", ht_hf_probe, ht_hf_open},
    {"safetensors", "one file of named tensors", "safetensors format specification", ht_safetensors_probe,
     ht_safetensors_open},
};

size_t ht_container_count(void) {
    return sizeof table / sizeof table[0];
}

const struct ht_container *ht_container_at(size_t i) {
    return &table[i];
}
