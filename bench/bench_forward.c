/* Speed of the forward pass: prefill and decode in tokens per second of wall time and of CPU time (which a busy
 * machine disturbs less), and where the time goes by kind of step.
 *   bench_forward MODEL [THREADS [exact|fast [PROMPT [DECODE]]]]      default: all CPUs, fast, 512, 64        */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/sys.h"
#include "model/session.h"

#define REPEATS 3

struct bench {
    struct ht_model *model;
    struct ht_run *run;
    double seconds[HT_STEPS];
    float *logits;
    int32_t *ids;
    uint32_t prompt, decode;
};

static void shares(const char *what, double *seconds) {
    double total = 0;
    for (int k = 0; k < HT_STEPS; k++) {
        total += seconds[k];
    }
    printf("%-8s", what);
    for (int k = 0; k < HT_STEPS; k++) {
        printf(" %s %.1f%%", ht_step_name((enum ht_step_kind)k), 100 * seconds[k] / total);
        seconds[k] = 0;
    }
    printf("\n");
}

struct clock {
    double wall, cpu;
};

static struct clock now(void) {
    return (struct clock){ht_sys_now(), ht_sys_cpu_seconds()};
}

struct rate {
    double wall, cpu; /* tokens per second */
    double seconds[HT_STEPS];
};

/* Keeps the best of the repeats; shares are sums over all. */
static void add(struct bench *b, struct rate *r, uint32_t n, struct clock from, struct clock to) {
    r->wall = n / (to.wall - from.wall) > r->wall ? n / (to.wall - from.wall) : r->wall;
    r->cpu = n / (to.cpu - from.cpu) > r->cpu ? n / (to.cpu - from.cpu) : r->cpu;
    for (int k = 0; k < HT_STEPS; k++) {
        r->seconds[k] += b->seconds[k];
        b->seconds[k] = 0;
    }
}

static ht_status measure(struct bench *b, ht_err *err) {
    struct rate prefill = {0}, decode = {0};
    for (int r = 0; r < REPEATS; r++) {
        ht_run_rewind(b->run, 0);
        struct clock t0 = now();
        HT_TRY(ht_run_feed(b->run, b->ids, b->prompt, 1, b->logits, err));
        struct clock t1 = now();
        add(b, &prefill, b->prompt, t0, t1);
        for (uint32_t i = 0; i < b->decode; i++) {
            HT_TRY(ht_run_feed(b->run, b->ids + i % b->prompt, 1, 1, b->logits, err));
        }
        add(b, &decode, b->decode, t1, now());
    }
    printf("prefill %.1f tokens/s, %.1f per CPU second\n", prefill.wall, prefill.cpu);
    printf("decode  %.1f tokens/s, %.1f per CPU second; %.2f GB/s of weights per CPU second\n", decode.wall,
           decode.cpu, decode.cpu * (double)b->model->weight_bytes / 1e9);
    shares("prefill:", prefill.seconds);
    shares("decode:", decode.seconds);
    return HT_OK;
}

int main(int argc, char **argv) {
    struct bench b = {.prompt = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 512,
                      .decode = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 64};
    struct ht_model_options mo = {.tokenizer_optional = true};
    struct ht_pool *pool = NULL;
    ht_err err = {0};
    int threads = argc > 2 ? atoi(argv[2]) : ht_cpu_count();
    bool exact = argc > 3 && strcmp(argv[3], "exact") == 0;
    if (argc < 2 || b.prompt == 0) {
        fprintf(stderr, "usage: bench_forward MODEL [THREADS [exact|fast [PROMPT [DECODE]]]]\n");
        return 2;
    }
    ht_status status = ht_model_load_with(argv[1], &mo, &b.model, &err);
    if (status == HT_OK) {
        status = ht_pool_new(threads, &pool, &err);
    }
    if (status == HT_OK) {
        struct ht_run_options o = {.ctx = b.prompt + b.decode,
                                   .math = exact ? HT_MATH_EXACT : HT_MATH_FAST,
                                   .step_seconds = b.seconds};
        b.logits = ht_mem_alloc_array(b.model->hp.vocab, sizeof *b.logits);
        b.ids = ht_mem_alloc_array(b.prompt, sizeof *b.ids);
        for (uint32_t i = 0; b.ids != NULL && i < b.prompt; i++) {
            b.ids[i] = (int32_t)((i * 7919ull + 13) % b.model->hp.vocab);
        }
        printf("%s, %s, %d threads, prompt %u, decode %u\n", argv[1], exact ? "exact" : "fast", threads,
               b.prompt, b.decode);
        status = b.logits == NULL || b.ids == NULL ? HT_NOMEM : ht_run_new(pool, b.model, &o, &b.run, &err);
    }
    if (status == HT_OK) {
        status = measure(&b, &err);
    }
    if (status != HT_OK) {
        fprintf(stderr, "%s: %s\n", ht_status_text(status), err.msg);
    }
    ht_run_free(b.run);
    ht_mem_free(b.ids);
    ht_mem_free(b.logits);
    ht_pool_free(pool);
    ht_model_unload(b.model);
    return status == HT_OK ? 0 : 1;
}
