/* Speed of the small slots of the kernel table, every level of this machine. The matrix product:
 * bench_kernel.c.
 *
 *     bench_kernel_ops [LEVEL|all]
 *
 * Only levels with a version of their own. Rows of 4,096 elements, which stay in the first two cache levels;
 * attention: 512 keys of 128 elements in f16, one query and 64 queries. GB/s counts every operand once;
 * GFLOP/s only where multiplications and additions are what the slot is about. Each figure is the best of
 * many short runs. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "format/half.h"
#include "kernel/slots.h"

enum { N = 4096, KEYS = 512, HEAD = 128, QUERIES = 64 };

struct data {
    float *x, *y, *z; /* [N] */
    uint16_t *h;      /* [N] halves */
    int8_t *q;        /* [N] */
    float *d;         /* [N / 32] */
    int32_t *sum16;   /* [N / 16] */
    float *packed;    /* [N, HT_GEMM_TOKENS] */
    float *queries;   /* [QUERIES, HEAD] */
    float *out;       /* likewise */
    uint16_t *k, *v;  /* [KEYS + QUERIES, HEAD] halves */
    void *scratch;
    volatile double sink;
};

typedef void run_fn(const struct ht_kernel_table *t, struct data *d);

static void dot_f32(const struct ht_kernel_table *t, struct data *d) {
    d->sink = (double)t->ops.dot_f32(d->x, d->y, N);
}

static void dot_f32_f16(const struct ht_kernel_table *t, struct data *d) {
    d->sink = (double)t->ops.dot_f32_f16(d->x, d->h, N);
}

static void axpy_f32(const struct ht_kernel_table *t, struct data *d) {
    t->ops.axpy_f32(1e-6f, d->x, d->y, N);
}

static void axpy_f16(const struct ht_kernel_table *t, struct data *d) {
    t->ops.axpy_f16(1e-6f, d->h, d->y, N);
}

static void f16_from_f32(const struct ht_kernel_table *t, struct data *d) {
    t->ops.f16_from_f32(d->x, d->h, N);
}

static void f32_from_f16(const struct ht_kernel_table *t, struct data *d) {
    t->ops.f32_from_f16(d->h, d->z, N);
}

static void rms_norm(const struct ht_kernel_table *t, struct data *d) {
    t->ops.rms_norm(d->x, d->y, 1e-5f, d->z, N);
}

static void softmax(const struct ht_kernel_table *t, struct data *d) {
    t->ops.softmax(d->z, N);
}

static void silu_mul(const struct ht_kernel_table *t, struct data *d) {
    t->ops.silu_mul(d->x, d->y, d->z, N);
}

static void log_sum_exp(const struct ht_kernel_table *t, struct data *d) {
    d->sink = t->ops.log_sum_exp(d->x, N, NULL);
}

static void quantize_q8(const struct ht_kernel_table *t, struct data *d) {
    t->quantize_q8(d->x, N, d->q, d->d, d->sum16);
}

static void pack_f32(const struct ht_kernel_table *t, struct data *d) {
    t->pack_f32(d->x, N / HT_GEMM_TOKENS, HT_GEMM_TOKENS, N / HT_GEMM_TOKENS, d->packed);
}

static void attend(const struct ht_kernel_table *t, struct data *d, size_t n_q) {
    struct ht_attention a = {
        .q = d->queries,
        .k = d->k,
        .v = d->v,
        .out = d->out,
        .n_q = n_q,
        .head_dim = HEAD,
        .q_stride = HEAD,
        .k_stride = HEAD,
        .v_stride = HEAD,
        .out_stride = HEAD,
        .first_keys = KEYS,
        .keys_step = 1,
        .f16 = true,
        .scale = 0.0884f,
    };
    t->ops.attention(&a, d->scratch);
}

static void attention_1(const struct ht_kernel_table *t, struct data *d) {
    attend(t, d, 1);
}

static void attention_64(const struct ht_kernel_table *t, struct data *d) {
    attend(t, d, QUERIES);
}

#define OP(slot) offsetof(struct ht_kernel_table, slot)
static const struct {
    const char *name;
    run_fn *run;
    size_t offset;       /* of the slot in the table */
    double bytes, flops; /* of one call; 0: not shown */
} slots[] = {
    {"dot_f32", dot_f32, OP(ops.dot_f32), 8.0 * N, 2.0 * N},
    {"dot_f32_f16", dot_f32_f16, OP(ops.dot_f32_f16), 6.0 * N, 2.0 * N},
    {"axpy_f32", axpy_f32, OP(ops.axpy_f32), 12.0 * N, 2.0 * N},
    {"axpy_f16", axpy_f16, OP(ops.axpy_f16), 10.0 * N, 2.0 * N},
    {"f16_from_f32", f16_from_f32, OP(ops.f16_from_f32), 6.0 * N, 0},
    {"f32_from_f16", f32_from_f16, OP(ops.f32_from_f16), 6.0 * N, 0},
    {"rms_norm", rms_norm, OP(ops.rms_norm), 12.0 * N, 4.0 * N},
    {"softmax", softmax, OP(ops.softmax), 8.0 * N, 0},
    {"silu_mul", silu_mul, OP(ops.silu_mul), 12.0 * N, 0},
    {"log_sum_exp", log_sum_exp, OP(ops.log_sum_exp), 4.0 * N, 0},
    {"quantize_q8", quantize_q8, OP(quantize_q8), 5.375 * N, 0},
    {"pack_f32", pack_f32, OP(pack_f32), 8.0 * N, 0},
    {"attention, 1 query", attention_1, OP(ops.attention), 4.0 * KEYS *HEAD, 4.0 * KEYS *HEAD},
    {"attention, 64 queries", attention_64, OP(ops.attention), 0,
     4.0 * QUERIES *(KEYS + (QUERIES - 1) / 2.0) * HEAD},
};

/* Best seconds of one call: runs of about 50 us, for 20 ms. */
static double seconds(run_fn *run, const struct ht_kernel_table *t, struct data *d) {
    double start = ht_sys_now(), best = 1e30;
    run(t, d);
    double first = ht_sys_now() - start;
    size_t calls = first < 50e-6 ? (size_t)(50e-6 / (first + 1e-9)) + 1 : 1;
    for (double total = 0; total < 20e-3;) {
        start = ht_sys_now();
        for (size_t i = 0; i < calls; i++) {
            run(t, d);
        }
        double s = ht_sys_now() - start;
        total += s;
        best = s / (double)calls < best ? s / (double)calls : best;
    }
    return best;
}

static bool data_init(struct data *d) {
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    size_t cache = (KEYS + QUERIES) * (size_t)HEAD;
    d->x = ht_mem_alloc_array(N, 4), d->y = ht_mem_alloc_array(N, 4), d->z = ht_mem_alloc_array(N, 4);
    d->h = ht_mem_alloc_array(N, 2), d->q = ht_mem_alloc(N), d->d = ht_mem_alloc_array(N / 32, 4);
    d->sum16 = ht_mem_alloc_array(N / 16, 4), d->packed = ht_mem_alloc_array(N * HT_GEMM_TOKENS, 4);
    d->queries = ht_mem_alloc_array(QUERIES * HEAD, 4), d->out = ht_mem_alloc_array(QUERIES * HEAD, 4);
    d->k = ht_mem_alloc_array(cache, 2), d->v = ht_mem_alloc_array(cache, 2);
    d->scratch = ht_mem_alloc_aligned(ht_attention_scratch_bytes(KEYS + QUERIES, HEAD), 1);
    if (!d->x || !d->y || !d->z || !d->h || !d->q || !d->d || !d->sum16 || !d->packed || !d->queries ||
        !d->out || !d->k || !d->v || !d->scratch) {
        return false;
    }
    for (size_t i = 0; i < N; i++) {
        d->x[i] = (float)ht_rng_normal(&rng), d->y[i] = (float)ht_rng_normal(&rng), d->z[i] = d->x[i];
    }
    for (size_t i = 0; i < QUERIES * HEAD; i++) {
        d->queries[i] = (float)ht_rng_normal(&rng);
    }
    for (size_t i = 0; i < cache; i++) {
        d->k[i] = ht_f16_from_f32((float)ht_rng_normal(&rng)),
        d->v[i] = ht_f16_from_f32((float)ht_rng_normal(&rng));
    }
    ht_f16_from_f32_ref(d->x, d->h, N);
    return true;
}

/* Whether the level has a version of its own: neither none nor the one of the level below. */
static bool serves(const struct ht_kernel_table *t, const struct ht_kernel_table *below, size_t offset) {
    static const struct ht_kernel_table none;
    const size_t bytes = sizeof(void (*)(void));
    const char *slot = (const char *)t + offset;
    return memcmp(slot, (const char *)&none + offset, bytes) != 0 &&
           (below == NULL || memcmp(slot, (const char *)below + offset, bytes) != 0);
}

int main(int argc, char **argv) {
    const char *level = argc > 1 ? argv[1] : "all";
    static struct data d; /* the system takes it back */
    if (!data_init(&d)) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    char cpu[128];
    printf("%s, one thread\n", ht_cpu_model(cpu, sizeof cpu));
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        const struct ht_kernel_table *below = NULL;
        for (int l = 0; l < HT_CPU_LEVELS; l++) {
            const struct ht_kernel_table *t = ht_kernel_table_at((enum ht_cpu_level)l);
            const char *name = ht_cpu_level_name((enum ht_cpu_level)l);
            bool shown = t != NULL && serves(t, below, slots[i].offset);
            below = t != NULL ? t : below;
            if (!shown || (strcmp(level, "all") != 0 && strcmp(level, name) != 0)) {
                continue;
            }
            double s = seconds(slots[i].run, t, &d);
            printf("%-22s %-10s", slots[i].name, name);
            if (slots[i].bytes > 0) {
                printf(" %8.2f GB/s", slots[i].bytes / s / 1e9);
            }
            if (slots[i].flops > 0) {
                printf(" %8.2f GFLOP/s", slots[i].flops / s / 1e9);
            }
            printf("\n");
        }
    }
    return 0;
}
