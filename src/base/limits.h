/* Every cap on input from outside stands here, with its reason. Raising one is a one-line change; a file
 * beyond a cap is refused with HT_LIMIT and the cap's name. */
#ifndef HT_BASE_LIMITS_H
#define HT_BASE_LIMITS_H

#define HT_MAX_DIMS 4                             /* GGUF: GGML_MAX_DIMS */
#define HT_MAX_TENSORS (1u << 20)                 /* largest MoE checkpoints have about 100,000 */
#define HT_MAX_TENSOR_NAME 63                     /* GGUF: GGML_MAX_NAME - 1 */
#define HT_MAX_ST_NAME 512                        /* safetensors and HF names */
#define HT_MAX_KV (1u << 16)                      /* GGUF metadata pairs */
#define HT_MAX_KEY_BYTES 65535                    /* GGUF specification */
#define HT_MAX_STRING_BYTES (64u << 20)           /* one metadata string; chat templates are below 1 MiB */
#define HT_MAX_ARRAY_ELEMS (1u << 24)             /* largest vocabularies have 262,144 tokens */
#define HT_MAX_ALIGNMENT (64u << 10)
#define HT_MAX_SPLITS 10000                       /* "%05d-of-%05d" */
#define HT_MAX_ST_HEADER_BYTES (100u << 20)       /* safetensors reference implementation */
#define HT_MAX_JSON_BYTES (256u << 20)            /* tokenizer.json of large vocabularies reach 40 MiB */
#define HT_MAX_CONFIG_BYTES (16u << 20)            /* config.json; the largest are below 1 MiB */
#define HT_MAX_JSON_DEPTH 64
#define HT_MAX_YAML_BYTES (1u << 20)              /* a recipe; those that ship are below 4 KiB */
#define HT_MAX_YAML_DEPTH 16
#define HT_MAX_YAML_NODES 65536
#define HT_MAX_JSON_ITEMS (12u << 20)             /* commas and colons: a million safetensors entries have 10 million */
#define HT_MAX_VOCAB (1u << 22)
#define HT_MAX_VOCAB_HOLES (1u << 16)              /* ids without a token; padding stays below 10,000 */
#define HT_MAX_TOKEN_BYTES 4096
#define HT_MAX_END_TOKENS 256                     /* eos_token_id lists have a handful */
#define HT_MAX_TEMPLATE_BYTES (1u << 20)
#define HT_MAX_LAYERS 4096
#define HT_MAX_WIDTH (1u << 20)                   /* hidden, ffn and head widths */
#define HT_MAX_CONTEXT (1u << 26)                 /* declared context length */
#define HT_MAX_THREADS 1024
#define HT_MAX_TEXT_BYTES (1ull << 34)            /* one evaluation or calibration text */

#endif
