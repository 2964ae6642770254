#include "eval/ceiling.h"

#include "base/mem.h"
#include "base/sys.h"
#include "eval/spread.h"

#define MIN_BYTES (512ull << 20)
#define MAX_BYTES (1024ull << 20)
#define PIECE (1u << 20) /* of memory that one task reads */
#define PASSES 3

/* The matrix product: small enough for the weights to stay in the cache. */
#define ROWS 1024u
#define COLS 1024u
#define TOKENS 512u

/* Ways of reading: how far ahead lines are asked for, 0 leaves it to the CPU. Which one wins depends on the
 * machine, and the ceiling is the best that any program could reach. */
static const size_t ahead[] = {0, 4096, 8192};
#define WAYS (sizeof ahead / sizeof ahead[0])

struct reading {
    const struct ht_ceiling *c;
    size_t ahead;
    uint64_t *sums; /* [tasks], so that the reads are not optimized away */
};

static void read_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct reading *r = ctx;
    const unsigned char *p = r->c->memory + task * PIECE, *end = p + PIECE;
    uint64_t sum[8] = {0};
    for (; p < end; p += 64) {
        uint64_t line[8];
        if (r->ahead != 0) {
            __builtin_prefetch(p + r->ahead, 0, 3);
        }
        memcpy(line, p, sizeof line);
        for (int i = 0; i < 8; i++) {
            sum[i] += line[i];
        }
    }
    r->sums[task] = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static double read_rate(const struct ht_ceiling *c, struct ht_pool *pool, size_t way, double *per_cpu_s) {
    double rates[PASSES], cpu_rates[PASSES];
    struct reading r = {.c = c, .ahead = ahead[way], .sums = (uint64_t *)(void *)c->y};
    for (int i = 0; i < PASSES; i++) {
        double start = ht_sys_now(), cpu = ht_sys_cpu_seconds();
        ht_pool_run(pool, c->bytes / PIECE, read_task, &r);
        rates[i] = (double)c->bytes / (ht_sys_now() - start);
        cpu_rates[i] = (double)c->bytes / (ht_sys_cpu_seconds() - cpu);
    }
    if (per_cpu_s != NULL) {
        *per_cpu_s = ht_spread_of(cpu_rates, PASSES).median;
    }
    return ht_spread_of(rates, PASSES).median;
}

size_t ht_ceiling_best_way(const struct ht_ceiling *c, struct ht_pool *pool) {
    size_t best = 0;
    double most = 0;
    for (size_t way = 0; way < WAYS; way++) {
        double rate = read_rate(c, pool, way, NULL);
        best = rate > most ? way : best;
        most = rate > most ? rate : most;
    }
    return best;
}

double ht_ceiling_read(const struct ht_ceiling *c, struct ht_pool *pool, size_t way, double *per_cpu_s) {
    return read_rate(c, pool, way < WAYS ? way : 0, per_cpu_s);
}

double ht_ceiling_product(const struct ht_ceiling *c, struct ht_pool *pool, enum ht_ceiling_product kind) {
    double rates[PASSES];
    for (int i = 0; i < PASSES; i++) {
        double start = ht_sys_now();
        ht_matmul(pool, &c->product[kind], c->x, TOKENS, c->y, ROWS, HT_MATH_FAST, c->scratch);
        rates[i] = 2.0 * ROWS * COLS * TOKENS / (ht_sys_now() - start);
    }
    return ht_spread_of(rates, PASSES).high; /* the first pass brings the weights into the cache */
}

static ht_status make_product(struct ht_ceiling *c, enum ht_ceiling_product kind, const char *format,
                              ht_err *err) {
    const struct ht_format *f = ht_format_find(format);
    uint64_t row = ht_format_row_bytes(f, COLS);
    c->weights[kind] = ht_mem_alloc_aligned(ROWS, row);
    if (c->weights[kind] == NULL) {
        return ht_fail_nomem(err, ROWS * row);
    }
    for (size_t r = 0; r < ROWS; r++) {
        f->encode(c->x + (r % TOKENS) * COLS, NULL, (char *)c->weights[kind] + r * row, COLS);
    }
    c->product[kind] = (struct ht_mat){f, c->weights[kind], ROWS, COLS, row};
    return HT_OK;
}

ht_status ht_ceiling_init(struct ht_ceiling *c, struct ht_pool *pool, ht_err *err) {
    *c = (struct ht_ceiling){0};
    uint64_t bytes = 16 * ht_sys_last_cache_bytes(), available = ht_sys_mem_available_bytes();
    bytes = bytes < MIN_BYTES ? MIN_BYTES : bytes > MAX_BYTES ? MAX_BYTES : bytes;
    if (available != 0 && bytes > available / 4) {
        bytes = available / 4;
    }
    c->bytes = (size_t)bytes / PIECE * PIECE;
    c->memory = ht_mem_alloc_aligned(c->bytes + PIECE, 1); /* a piece more: reading ahead stays inside */
    c->x = ht_mem_alloc_aligned((size_t)TOKENS * COLS, sizeof *c->x);
    c->y = ht_mem_alloc_aligned((size_t)TOKENS * ROWS, sizeof *c->y);
    if (c->memory == NULL || c->x == NULL || c->y == NULL) {
        ht_ceiling_deinit(c);
        return ht_fail_nomem(err, c->bytes);
    }
    ht_mem_large(c->memory, c->bytes + PIECE);
    memset(c->memory, 1, c->bytes + PIECE); /* pages that were never written are all the same zero page */
    for (size_t i = 0; i < (size_t)TOKENS * COLS; i++) {
        c->x[i] = (float)((i * 2654435761u >> 8) % 2001) / 1000.0f - 1.0f;
    }
    ht_status status = make_product(c, HT_CEILING_F32, "f32", err);
    if (status == HT_OK) {
        status = make_product(c, HT_CEILING_INT8, "q8_0", err);
    }
    size_t scratch = 0;
    for (int kind = 0; status == HT_OK && kind < 2; kind++) {
        size_t need = ht_matmul_scratch_bytes(&c->product[kind], TOKENS, ht_pool_threads(pool));
        scratch = need > scratch ? need : scratch;
    }
    if (status == HT_OK && (c->scratch = ht_mem_alloc_aligned(scratch, 1)) == NULL) {
        status = ht_fail_nomem(err, scratch);
    }
    if (status != HT_OK) {
        ht_ceiling_deinit(c);
    }
    return status;
}

void ht_ceiling_deinit(struct ht_ceiling *c) {
    ht_mem_free_aligned(c->memory);
    ht_mem_free_aligned(c->x);
    ht_mem_free_aligned(c->y);
    ht_mem_free_aligned(c->weights[HT_CEILING_F32]);
    ht_mem_free_aligned(c->weights[HT_CEILING_INT8]);
    ht_mem_free_aligned(c->scratch);
    *c = (struct ht_ceiling){0};
}
