/* AXIS 3, number formats: which grid, how it is stored. One const row per format; format_table.c lists them.
 *
 * A format cuts a row of weights into blocks of block_elems; a block is block_bytes of the file. Blocks never
 * cross rows, so a row must be a multiple of block_elems. Everything here is plain C, sees one block or row
 * at a time, keeps no state, and may be called from any thread.
 *
 * The work of encoding one block is split so that methods can enter between the steps:
 *
 *     fit    x, importance -> grid      where the grid sits: searched scale and min per sub-block (real values)
 *     snap   grid          -> grid      rounds scales to what the file can store; afterwards scale[] and min[]
 *                                       are bit for bit what decode uses
 *     round  x, grid       -> codes     nearest grid point of each element (an error-feedback method calls
 *                                       ht_grid_nearest per element instead, or round_vector in lattices)
 *     pack   grid, codes   -> bytes     and unpack, its inverse
 *
 * encode does all four for a whole row, possibly going back to fit with what rounding showed. Float formats
 * (kind HT_KIND_FLOAT) have only encode and decode: every element is its own grid.
 *
 * Sources: GGUF block layouts as in ggml's quantization specification; IEEE 754-2019 for floats. */
#ifndef HT_FORMAT_FORMAT_H
#define HT_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HT_BLOCK_MAX 256   /* largest block_elems of any grid format */
#define HT_GRID_MAX_SUB 32 /* sub-blocks of a block */
/* GGUF type numbers from here on are this program's own ("HT"): other programs refuse files that use them. */
#define HT_GGUF_PRIVATE 0x48540000

enum ht_format_kind {
    HT_KIND_FLOAT,  /* each element on its own */
    HT_KIND_INT,    /* plain integers (file types only, not for weights) */
    HT_KIND_BLOCK,  /* integer codes, one scale (and min) per block */
    HT_KIND_KBLOCK, /* integer codes, sub-blocks whose scales are quantized again */
    HT_KIND_LUT,    /* codes index a table of levels */
    HT_KIND_LATTICE, /* codes of neighbours belong together: only some vectors of levels exist */
    HT_KIND_CODE    /* one code per element and no scale of its own: a scheme (format/scheme.h) adds scales */
};

/* The grid of one block. Lattice formats use it, too: levels are the values an element may take, and the format
 * stores only some vectors of them. Element i belongs to sub-block i / sub_len; its value for code c is
 *     scale[s] * level(c) - min[s],   level(c) = levels ? levels[c - lo] : c,   lo <= c <= hi          */
struct ht_grid {
    int n_sub, sub_len; /* n_sub * sub_len == block_elems */
    int lo, hi;
    const float *levels;             /* [hi - lo + 1], ascending; NULL: the integers */
    float scale[HT_GRID_MAX_SUB];    /* may be negative */
    float min[HT_GRID_MAX_SUB];      /* 0 for formats without */
    uint16_t d, dmin;                /* f16 bits of the block's scales, set by snap */
    int8_t q_scale[HT_GRID_MAX_SUB]; /* stored sub-scales and sub-mins, set by snap */
    uint8_t q_min[HT_GRID_MAX_SUB];
};

struct ht_real;
struct ht_code;

struct ht_format {
    const char *name;    /* "q4_k": lower case, unique */
    const char *summary; /* one line for people */
    const char *source;  /* specification */
    enum ht_format_kind kind;
    int32_t gguf_type;    /* number in GGUF files, -1: none */
    const char *st_dtype; /* name in safetensors files, NULL: none */
    uint32_t block_elems, block_bytes;
    uint32_t vector; /* elements that are rounded together, aligned within the block; 0: each on its own */

    /* src: n / block_elems blocks -> x[n]; n is a multiple of block_elems. Any bytes are fine. */
    void (*decode)(const void *src, float *x, size_t n);
    /* x[n] -> blocks. weight: [n] importance >= 0 of each element, or NULL. x must be finite, except for
     * float formats. Deterministic, the same on every machine. */
    void (*encode)(const float *x, const float *weight, void *dst, size_t n);

    /* Grid formats only, one block each; NULL for float formats. */
    void (*fit)(const float *x, const float *weight, struct ht_grid *grid);
    void (*snap)(struct ht_grid *grid);
    void (*round)(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes);
    /* Lattice formats: the best storable codes for the `vector` elements from `at` on, x, weight and codes being
     * those of the whole block. NULL for the others: ht_grid_nearest serves each element. */
    void (*round_vector)(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at, int8_t *codes);
    void (*pack)(const struct ht_grid *grid, const int8_t *codes, void *dst);
    void (*unpack)(const void *src, struct ht_grid *grid, int8_t *codes);

    const struct ht_real *real; /* binary floats: range and precision (format/code.h); NULL for the others */
    const struct ht_code *code; /* HT_KIND_CODE: codes and levels (format/code.h); NULL for the others */
};

/* The table. ht_format_at(i) for i < ht_format_count(). */
size_t ht_format_count(void);
const struct ht_format *ht_format_at(size_t i);
const struct ht_format *ht_format_find(const char *name);        /* without case; NULL: none */
const struct ht_format *ht_format_by_gguf(uint32_t gguf_type);   /* NULL: unknown or removed number */
const struct ht_format *ht_format_by_st(const char *st_dtype);   /* NULL: unknown */
const char *ht_format_name_at(const void *unused, size_t i);     /* for ht_nearest */

static inline double ht_format_bits(const struct ht_format *f) {
    return 8.0 * f->block_bytes / f->block_elems;
}

/* Bytes of one row of n elements; the caller has checked n % block_elems == 0. */
static inline uint64_t ht_format_row_bytes(const struct ht_format *f, uint64_t n) {
    return n / f->block_elems * f->block_bytes;
}

/* Code of the grid point of sub-block s nearest to x. */
int ht_grid_nearest(const struct ht_grid *grid, int s, float x);
/* Value of a code in sub-block s. */
float ht_grid_value(const struct ht_grid *grid, int s, int code);
/* Changes the block's d and dmin by this much, rounded to f16, and with them scale[] and min[]; sub-scales stay.
 * False: nothing would change, or the format's scales are of another form; the grid is then as it was. */
bool ht_grid_move(struct ht_grid *grid, float d, float dmin);

#endif
