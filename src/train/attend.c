/* Causal attention of one window, per head, with s = 1 / sqrt(D):
 *
 *     P = softmax(s Q K^T),  O = P V
 *     dV = P^T dO,  dP = dO V^T,  dS = P * (dP - rowsum(dP * P)),  dQ = s dS K,  dK = s dS^T Q
 *
 * rowsum(dP * P) = rowsum(dO * O), so that P need not be kept: a row of it is computed again from Q and K
 * (FlashAttention, Dao et al. 2022, arXiv 2205.14135, section 3.1). Query heads of one group share keys and values,
 * whose gradients are summed head by head within one task. */
#include <math.h>

#include "base/mem.h"
#include "train/steps.h"

#define QUERIES 64u /* of a forward task */

static size_t heads_per_group(const struct ht_train_block *b) {
    return b->hp.n_heads / b->hp.n_kv_heads;
}

static float scale_of(const struct ht_train_block *b) {
    return 1.0f / sqrtf((float)b->hp.head_dim);
}

size_t ht_train_attend_bytes(size_t tokens, size_t head_dim) {
    size_t forward = ht_attention_scratch_bytes(tokens, head_dim), backward = 2 * tokens * sizeof(float);
    return forward > backward ? forward : backward;
}

static void *scratch_of(const struct ht_train_block *b, int thread) {
    return (char *)b->scratch + (size_t)thread * b->attend_bytes;
}

static size_t query_blocks(const struct ht_train_block *b) {
    return (b->tokens + QUERIES - 1) / QUERIES;
}

static void forward_task(void *ctx, size_t task, int thread) {
    const struct ht_step_job *j = ctx;
    const struct ht_train_block *b = j->block;
    size_t D = b->hp.head_dim, blocks = query_blocks(b), head = task / blocks % b->hp.n_heads;
    size_t window = task / blocks / b->hp.n_heads, from = task % blocks * QUERIES, kv = head / heads_per_group(b);
    size_t row = window * b->tokens, left = b->tokens - from;
    struct ht_attention a = {
        .q = j->x[0] + (row + from) * j->width[0] + head * D,
        .k = j->x[1] + row * j->width[1] + kv * D,
        .v = j->x[2] + row * j->width[2] + kv * D,
        .out = j->y + (row + from) * j->y_width + head * D,
        .n_q = left < QUERIES ? left : QUERIES,
        .head_dim = D,
        .q_stride = j->width[0],
        .k_stride = j->width[1],
        .v_stride = j->width[2],
        .out_stride = j->y_width,
        .first_keys = from + 1,
        .keys_step = 1,
        .scale = scale_of(b),
    };
    ht_kernels()->attention(&a, scratch_of(b, thread));
}

void ht_train_attend_forward(const struct ht_step_job *j) {
    struct ht_step_job job = *j;
    const struct ht_train_block *b = j->block;
    ht_pool_run(b->pool, b->windows * b->hp.n_heads * query_blocks(b), forward_task, &job);
}

/* ---- backward ---------------------------------------------------------------------------------------------- */

/* One head of one window; pointers at its first row. d[k] NULL: not wanted. */
struct head {
    const float *x[3], *o, *dy;
    float *d[3];
    size_t width[3], o_width, D, tokens;
    float scale;
    float *p, *ds; /* [tokens] */
};

static void backward_query(const struct head *h, size_t i) {
    const struct ht_kernels *k = ht_kernels();
    const float *q = h->x[0] + i * h->width[0], *dy = h->dy + i * h->o_width;
    for (size_t t = 0; t <= i; t++) {
        h->p[t] = h->scale * k->dot_f32(q, h->x[1] + t * h->width[1], h->D);
    }
    k->softmax(h->p, i + 1);
    float sum = k->dot_f32(dy, h->o + i * h->o_width, h->D);
    for (size_t t = 0; t <= i; t++) {
        h->ds[t] = h->scale * h->p[t] * (k->dot_f32(dy, h->x[2] + t * h->width[2], h->D) - sum);
    }
    for (size_t t = 0; t <= i; t++) {
        if (h->d[0] != NULL) {
            k->axpy_f32(h->ds[t], h->x[1] + t * h->width[1], h->d[0] + i * h->width[0], h->D);
        }
        if (h->d[1] != NULL) {
            k->axpy_f32(h->ds[t], q, h->d[1] + t * h->width[1], h->D);
        }
        if (h->d[2] != NULL) {
            k->axpy_f32(h->p[t], dy, h->d[2] + t * h->width[2], h->D);
        }
    }
}

static void clear(float *x, size_t stride, size_t n, size_t rows) {
    for (size_t t = 0; t < rows; t++) {
        memset(x + t * stride, 0, n * sizeof *x);
    }
}

/* All heads of one group of one window. */
static void backward_task(void *ctx, size_t task, int thread) {
    const struct ht_step_job *j = ctx;
    const struct ht_train_block *b = j->block;
    size_t D = b->hp.head_dim, group = heads_per_group(b), kv = task % b->hp.n_kv_heads;
    size_t row = task / b->hp.n_kv_heads * b->tokens;
    float *scratch = scratch_of(b, thread);
    for (size_t i = 0; i < group; i++) {
        size_t head = kv * group + i;
        struct head h = {.o = j->y + row * j->y_width + head * D, .dy = j->dy + row * j->y_width + head * D,
                         .o_width = j->y_width, .D = D, .tokens = b->tokens, .scale = scale_of(b), .p = scratch,
                         .ds = scratch + b->tokens};
        for (int k = 0; k < 3; k++) {
            size_t at = row * j->width[k] + (k == 0 ? head : kv) * D;
            h.x[k] = j->x[k] + at;
            h.d[k] = j->dx[k] != NULL ? j->dx[k] + at : NULL;
            h.width[k] = j->width[k];
            if (h.d[k] != NULL && !j->add[k] && (k == 0 || i == 0)) {
                clear(h.d[k], h.width[k], D, h.tokens);
            }
        }
        for (size_t q = 0; q < h.tokens; q++) {
            backward_query(&h, q);
        }
    }
}

void ht_train_attend_backward(const struct ht_step_job *j) {
    struct ht_step_job job = *j;
    ht_pool_run(j->block->pool, j->block->windows * j->block->hp.n_kv_heads, backward_task, &job);
}
