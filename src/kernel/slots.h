/* Inside of kernel/: the whole table, small float slots and matrix product slots, and what the drivers
 * (matmul.c, kernel_table.c) and the kernels of all levels share. Users see kernel.h only.
 *
 * A matrix product has two kinds of slots per format, and two multipliers that serve all formats:
 *
 *     rows   few tokens: dot products straight from the packed blocks, at the speed of memory
 *     panel  many tokens: unpacks a few rows once into a COMPUTE FORM that stays in the cache, and
 *            gemm multiplies it with all tokens
 *
 * rows of the reference level serves every format and any number of tokens; a level without a panel slot
 * uses rows for everything. */
#ifndef HT_KERNEL_SLOTS_H
#define HT_KERNEL_SLOTS_H

#include "kernel/kernel.h"

#define HT_SLOT_FORMATS 128 /* at least ht_format_count() */

/* x [T, K] rounded to 8 bits: element k of token t is q * d of its group of 32. cols is K; the rows of q hold
 * cols_padded (a multiple of 256) codes, zero from cols on. */
struct ht_acts {
    size_t n_tokens, cols, cols_padded;
    int8_t *q;      /* [T, cols_padded] */
    float *d;       /* [T, cols_padded / 32], 0 from cols on */
    int32_t *sum16; /* [T, cols_padded / 16]: sums of q over 16 codes */
    void *
        chunks; /* struct ht_chunk_acts [T, cols_padded / 256] where the format's rows_q8 wants it, or NULL */
    int32_t *corrections; /* [T, cols_padded / group] for gemm_q8 (ht_corrections_fill), or NULL */
};

/* n elements of a row to f32, the same bits as format->decode. */
typedef void ht_decode_fn(const void *src, float *x, size_t n);

/* y [T, rows row0 .. row0 + n_rows) with y pointing at column row0; scratch is the thread's own. Tolerances: those of
 * HT_MATH_EXACT and HT_MATH_FAST; the integer sums of rows_q8 are exact. */
typedef void ht_rows_f32_fn(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x,
                            size_t n_tokens, float *y, size_t y_stride, ht_decode_fn *decode, void *scratch);
typedef void ht_rows_q8_fn(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,
                           float *y, size_t y_stride, void *scratch);

/* Rounds x [n] (n a multiple of 32) to q, d, sum16. A group with Inf or NaN gets d = NaN. Exact. */
typedef void ht_quantize_fn(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16);

/* Tokens side by side for gemm_f32: x [n_tokens <= HT_GEMM_TOKENS, cols] -> [cols, HT_GEMM_TOKENS], 0 beyond.
 */
#define HT_GEMM_TOKENS 32
typedef void ht_pack_f32_fn(const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *packed);

/* y[t, r] (+)= sum over k of w[r, k] * packed[k, t], each sum one chain in order of k; add: y is kept.
 * Tolerance: HT_MATH_EXACT's (a chain may be fused multiply-adds). */
typedef void ht_gemm_f32_fn(const float *w, size_t w_stride, size_t n_rows, size_t cols, const float *packed,
                            size_t n_tokens, float *y, size_t y_stride, bool add);

/* out [32, 32]: out[i, j] = sum over t of a[t, i] * b[t, j], each sum one chain in order of t. a, b [n_tokens, 32]. */
#define HT_SYRK_COLS 32
typedef void ht_syrk_f32_fn(const float *a, const float *b, size_t n_tokens, float *out);

struct ht_chunk_shape; /* kernel/chunk.h */
#define HT_ROWS_Q8_TOKENS 4

/* The compute form of up to HT_PANEL_ROWS rows and HT_PANEL_COLS columns, rows side by side:
 *
 *     codes [cols / 4][HT_PANEL_ROWS][4]     natural order of columns; zero beyond the rows
 *     scale [cols / group][HT_PANEL_ROWS]    and min likewise, for formats that have mins
 *
 * padded to a multiple of 256 columns with scales (and mins) of 0. Whether codes are signed, and how many of a row
 * lie together, is between panel_q8 and gemm_q8 of one level: a level that brings one brings both. Together they give
 * what ht_rows_q8_ref gives, to the tolerance of HT_MATH_FAST. */
#define HT_PANEL_ROWS 32
#define HT_PANEL_COLS 4096
struct ht_panel_q8 {
    HT_ALIGNED(64) uint8_t codes[HT_PANEL_COLS * HT_PANEL_ROWS];
    HT_ALIGNED(64) float scale[HT_PANEL_COLS / 16 * HT_PANEL_ROWS];
    HT_ALIGNED(64) float min[HT_PANEL_COLS / 16 * HT_PANEL_ROWS];
};
typedef void ht_panel_q8_fn(const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,
                            struct ht_panel_q8 *panel);
/* y [T, n_rows] (+)= acts columns col0 .. col0 + cols - 1 times the panel; acts->corrections is set. */
typedef void ht_gemm_q8_fn(const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,
                           const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,
                           bool add);

/* ---- qtensors (kernel/qform.h): one slot each for all code formats -------------------------------------------- */

struct ht_qform;
struct ht_qgrids;

/* Columns col0 .. col0 + n - 1 of a row to f32, the same bits as ht_qtensor_decode; g holds their groups. col0 is a
 * multiple of 40 (whole bytes in every format). */
typedef void ht_q_decode_fn(const struct ht_qform *f, const struct ht_qgrids *g, uint64_t row, uint64_t col0, size_t n,
                            float *x);
/* As ht_rows_q8_fn and ht_panel_q8_fn, for forms that has_bytes; acts->chunks in the form's shape, up to
 * HT_ROWS_Q8_TOKENS tokens. col0 is a multiple of HT_PANEL_COLS. scratch: ht_q_scratch_bytes(w). */
typedef void ht_q_rows_q8_fn(const struct ht_qform *f, uint64_t row0, size_t n_rows, const struct ht_acts *acts,
                             float *y, size_t y_stride, void *scratch);
typedef void ht_q_panel_q8_fn(const struct ht_qform *f, uint64_t row0, size_t n_rows, uint64_t col0, size_t cols,
                              struct ht_panel_q8 *panel, void *scratch);
struct ht_qtensor; /* tensor/qtensor.h */
size_t ht_q_scratch_bytes(const struct ht_qtensor *w);

/* ---- codes times codes (kernel/intmul.h) ----------------------------------------------------------------------- */

struct ht_int_piece {
    uint32_t from, to;       /* columns */
    uint32_t group, segment; /* of the weight, of the activations */
    uint32_t at;             /* where column `from` lies in q; a multiple of 4 */
};

struct ht_int_acts {
    size_t n_tokens, cols, width, n_pieces; /* width: bytes of a row of q, a multiple of 64 */
    struct ht_int_piece *pieces;
    bool natural; /* at == from in all pieces */
    bool vectors; /* and pieces begin at multiples of 64 */
    bool zeros;   /* the weight or the activations have zero points */
    int32_t shift;
    int8_t *q;      /* [T, width], 0 where no column lies */
    int8_t *ones;   /* [width], with zeros: 1 at every column */
    int32_t *sum;   /* [T, n_pieces] sums of q; without zeros times the weight's lowest code */
    float *scale;   /* [T, n_pieces] */
    int32_t *zero;  /* [T, n_pieces] zero point - shift */
};

/* y [T, n_rows) for rows row0 .. row0 + n_rows - 1 with y at column row0; scratch is the thread's own. Bit for bit what
 * kernel/intmul.h says. Levels other than ref take forms of kind HT_Q_INTEGER; int_rows up to HT_ROWS_Q8_TOKENS tokens
 * and `vectors`, int_tile up to HT_PANEL_ROWS rows. */
typedef void ht_int_fn(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows, float *y,
                       size_t y_stride, void *scratch);

struct ht_kernel_table {
    struct ht_kernels ops;
    ht_quantize_fn *quantize_q8;
    ht_pack_f32_fn *pack_f32;
    ht_gemm_f32_fn *gemm_f32;
    ht_syrk_f32_fn *syrk_f32;
    ht_decode_fn *decode[HT_SLOT_FORMATS];
    ht_rows_f32_fn *rows_f32[HT_SLOT_FORMATS]; /* by ht_format_at index */
    ht_rows_q8_fn *rows_q8[HT_SLOT_FORMATS];   /* NULL: format without grid */
    ht_gemm_q8_fn *gemm_q8;
    ht_panel_q8_fn *panel_q8[HT_SLOT_FORMATS]; /* NULL: rows_q8 serves any number of tokens */
    /* Set: rows_q8 wants acts->chunks in this shape and takes up to HT_ROWS_Q8_TOKENS tokens at a time. */
    const struct ht_chunk_shape *shape[HT_SLOT_FORMATS];
    const struct ht_chunk_shape *panel_shape[HT_SLOT_FORMATS]; /* of what panel_q8 makes; NULL: shape */
    ht_q_decode_fn *q_decode;
    ht_q_rows_q8_fn *q_rows_q8;   /* NULL: FAST is EXACT on rounded activations */
    ht_q_panel_q8_fn *q_panel_q8; /* set where q_rows_q8 is */
    ht_int_fn *int_rows, *int_tile;
    int q_unsigned_bits;          /* widest fields these two take as unsigned bytes; 8 bits may be signed (-128) */
};

/* What a level serves of one format; NULL: left as it is. shape goes with rows_q8, panel_shape with panel_q8. */
struct ht_slot_row {
    const char *format;
    ht_decode_fn *decode;
    ht_rows_f32_fn *rows_f32;
    ht_rows_q8_fn *rows_q8;
    const struct ht_chunk_shape *shape;
    ht_panel_q8_fn *panel_q8;
    const struct ht_chunk_shape *panel_shape;
};
/* Overwrites the slots of the formats named in n rows; later rows replace earlier ones. */
void ht_slots_set(struct ht_kernel_table *t, const struct ht_slot_row *rows, size_t n);

/* Each level's file: overwrites the slots it serves. */
void ht_kernels_init_ref(struct ht_kernel_table *t);
void ht_kernels_init_avx2(struct ht_kernel_table *t);
void ht_kernels_init_avxvnni(struct ht_kernel_table *t);
void ht_kernels_init_avx512(struct ht_kernel_table *t);
void ht_kernels_init_avx512vnni(struct ht_kernel_table *t);
void ht_kernels_init_avx512bf16(struct ht_kernel_table *t);
void ht_kernels_init_neon(struct ht_kernel_table *t);
void ht_kernels_init_dotprod(struct ht_kernel_table *t);
void ht_kernels_init_i8mm(struct ht_kernel_table *t);

const struct ht_kernel_table *ht_kernel_table_at(enum ht_cpu_level level); /* NULL: not on this machine */
const struct ht_kernel_table *ht_kernel_table(void);                       /* best level */

/* Index of a format in the slots. */
size_t ht_format_slot(const struct ht_format *format);

/* ht_matmul with the table of a level. */
void ht_matmul_with(const struct ht_kernel_table *table, struct ht_pool *pool, const struct ht_mat *w,
                    const float *x, size_t n_tokens, float *y, size_t y_stride, enum ht_math math,
                    void *scratch);

/* ht_qmatmul with the table of a level. */
void ht_qmatmul_with(const struct ht_kernel_table *table, struct ht_pool *pool, const struct ht_qtensor *w,
                     const float *x, size_t n_tokens, float *y, size_t y_stride, enum ht_math math, void *scratch);

void ht_syrk_with(const struct ht_kernel_table *table, struct ht_pool *pool, const float *x, size_t x_stride,
                  size_t n_tokens, size_t cols, float *h, size_t h_stride, void *scratch);

void ht_product_with(const struct ht_kernel_table *table, struct ht_pool *pool, struct ht_side a, struct ht_side b,
                     size_t m, size_t n, size_t k, float *y, size_t y_stride, bool add, void *scratch);

/* The reference level's slots, one file per family. */
float ht_dot_f32_ref(const float *a, const float *b, size_t n);
float ht_dot_f32_f16_ref(const float *a, const uint16_t *b, size_t n);
void ht_axpy_f32_ref(float s, const float *x, float *y, size_t n);
void ht_axpy_f16_ref(float s, const uint16_t *x, float *y, size_t n);
void ht_f16_from_f32_ref(const float *x, uint16_t *y, size_t n);
void ht_f32_from_f16_ref(const uint16_t *x, float *y, size_t n);
void ht_rms_norm_ref(const float *x, const float *w, float eps, float *y, size_t n);
void ht_softmax_ref(float *x, size_t n);
void ht_silu_mul_ref(const float *gate, const float *up, float *y, size_t n);
double ht_log_sum_exp_ref(const float *x, size_t n, float *max);
void ht_attention_ref(const struct ht_attention *a, void *scratch);
void ht_quantize_q8_ref(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16);
ht_pack_f32_fn ht_pack_f32_ref;
ht_gemm_f32_fn ht_gemm_f32_ref;
ht_syrk_f32_fn ht_syrk_f32_ref;
ht_rows_f32_fn ht_rows_f32_ref;
ht_rows_q8_fn ht_rows_q8_ref;
ht_q_decode_fn ht_q_decode_ref;
ht_int_fn ht_int_ref;

/* Elements decoded at a time by rows_f32 into its thread's scratch: 4 KiB, a multiple of every block length.
 * Partial sums of this length are added up, so a token's result does not depend on how many tokens there are.
 */
#define HT_DECODE_ELEMS 1024

#endif
