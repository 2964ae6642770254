/* The container of our own: a Hugging Face folder whose config.json says
 *
 *     "quantization_config": {"quant_method": "halftone", "version": 1, "weights": {NAME: {...}, ...}}
 *
 * and whose safetensors hold NAME.codes, NAME.scales ... in the place of the tensors NAME: docs/container.md, byte by
 * byte. Opening checks everything (shapes, indices, permutations, scales of inputs), so that users of a source can
 * compute with what they find.
 *
 * A source of this kind shows each packed weight as ONE tensor NAME [cols, rows], in its place among the others:
 *     GGUF types     format and data are those of the blocks, as in a GGUF file
 *     schemes        format is the code format, data are the codes; only the packed part knows the values
 * bytes counts all parts. The tensors as files hold them are source->parts. */
#ifndef HT_IO_HALFTONE_H
#define HT_IO_HALFTONE_H

#include "base/buf.h"
#include "io/container.h"
#include "tensor/sidecar.h"

#define HT_HALFTONE_METHOD "halftone"
#define HT_HALFTONE_VERSION 1

/* What stands for one weight: views of mapped files. */
struct ht_packed {
    bool has_q;    /* codes of a scheme; else blocks of a format of the table */
    bool has_side;
    struct ht_qtensor q;
    struct ht_sidecar side;
};

bool ht_halftone_probe(const char *path);
ht_status ht_halftone_open(const char *path, struct ht_source *source, ht_err *err);

/* The second half of opening: source holds the config and the tensors of a folder. For the fuzz target. */
ht_status ht_halftone_gather(struct ht_source *source, ht_err *err);

/* The packed part of a tensor of the source; NULL: a plain one. */
const struct ht_packed *ht_source_packed(const struct ht_source *source, const struct ht_tensor *tensor);
/* Values of rows row0 .. row0 + n - 1 of a tensor, as they act on inputs: x [n, ne[0]]; scratch [ne[0]]. packed NULL:
 * a plain one, of any dimensions. */
void ht_packed_rows(const struct ht_tensor *tensor, const struct ht_packed *packed, uint64_t row0, uint64_t n, float *x,
                    float *scratch);
/* "int4:g64", "q4_k", "f16". Returns out. */
const char *ht_source_format(const struct ht_source *source, const struct ht_tensor *tensor, char out[HT_SCHEME_TEXT]);

/* Tensors of a source by what they are stored as. */
struct ht_format_sums {
    char name[HT_SCHEME_TEXT]; /* as ht_source_format gives it */
    bool quantized;
    uint64_t tensors, weights, bytes; /* bytes: everything counted */
};
/* *rows: [n], for ht_mem_free. HT_NOMEM. */
ht_status ht_source_formats(const struct ht_source *source, struct ht_format_sums **rows, size_t *n, ht_err *err);

/* ---- writing ----------------------------------------------------------------------------------------------- */

/* A weight to be stored: format of the table, or codes. q and side with their sizes; memory may be missing. */
struct ht_pack {
    const char *name;
    uint64_t rows, cols;
    const struct ht_format *format; /* of the table; NULL: q */
    struct ht_qtensor *q;
    struct ht_sidecar *side; /* or NULL */
};
/* Tensor i that stands for it in files: its name is written to name [HT_MAX_ST_NAME + 1], data to what is in memory or
 * NULL. False past the end. HT_LIMIT for a name that is too long sets *status. */
bool ht_pack_part(const struct ht_pack *pack, size_t i, struct ht_tensor *tensor, char *name, ht_status *status,
                  ht_err *err);
/* Its entry in quantization_config; a new object, NULL when memory is out. */
json_t *ht_pack_entry(const struct ht_pack *pack);

#endif
