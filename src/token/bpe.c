#include "token/bpe.h"

#include "base/mem.h"
#include "base/rng.h"

struct ht_bpe_slot {
    int32_t left, right; /* left -1: empty */
    uint32_t rank;
};

#define NO_RANK UINT32_MAX
/* Up to here a scan for the lowest rank beats the heap (docs/measurements/tokenizer.md). */
#define SHORT_PIECE 64

/* Two rounds of multiply and fold: vocabularies come from outside, and the seed is secret, so that ids cannot
 * be chosen to collide. */
static size_t slot_of(const struct ht_bpe *bpe, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ bpe->seed;
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    return (size_t)(h >> 20) & bpe->mask;
}

static uint32_t rank_of(const struct ht_bpe *bpe, int32_t left, int32_t right) {
    for (size_t i = slot_of(bpe, left, right);; i = (i + 1) & bpe->mask) {
        const struct ht_bpe_slot *s = &bpe->slots[i];
        if (s->left == left && s->right == right) {
            return s->rank;
        }
        if (s->left < 0) {
            return NO_RANK;
        }
    }
}

ht_status ht_bpe_init(struct ht_bpe *bpe, uint32_t n_merges, ht_err *err) {
    memset(bpe, 0, sizeof *bpe);
    memset(bpe->byte_id, 0xFF, sizeof bpe->byte_id);
    bpe->unk = -1;
    bpe->seed = ht_rng_entropy();
    size_t cap = 16;
    while (cap < 2 * (size_t)n_merges) {
        cap *= 2;
    }
    bpe->mask = cap - 1;
    bpe->slots = ht_mem_alloc_array(cap, sizeof *bpe->slots);
    bpe->merged = ht_mem_alloc_array(n_merges, sizeof *bpe->merged);
    if (bpe->slots == NULL || bpe->merged == NULL) {
        ht_bpe_deinit(bpe);
        return ht_fail_nomem(err, cap * sizeof *bpe->slots);
    }
    memset(bpe->slots, 0xFF, cap * sizeof *bpe->slots);
    return HT_OK;
}

void ht_bpe_deinit(struct ht_bpe *bpe) {
    ht_mem_free(bpe->slots);
    ht_mem_free(bpe->merged);
    bpe->slots = NULL;
    bpe->merged = NULL;
}

void ht_bpe_add(struct ht_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged) {
    size_t i = slot_of(bpe, left, right);
    while (bpe->slots[i].left >= 0 && (bpe->slots[i].left != left || bpe->slots[i].right != right)) {
        i = (i + 1) & bpe->mask;
    }
    bpe->n += bpe->slots[i].left < 0;
    bpe->slots[i] = (struct ht_bpe_slot){left, right, rank};
    bpe->merged[rank] = merged;
}

void ht_bpe_scratch_deinit(struct ht_bpe_scratch *scratch) {
    ht_mem_free(scratch->symbols);
    ht_mem_free(scratch->heap);
    memset(scratch, 0, sizeof *scratch);
}

static ht_status grow(void **p, size_t *cap, size_t need, size_t size, ht_err *err) {
    if (need <= *cap) {
        return HT_OK;
    }
    size_t more = need + need / 2;
    void *bigger = ht_mem_realloc_array(*p, more, size);
    if (bigger == NULL) {
        return ht_fail_nomem(err, more * size);
    }
    *p = bigger;
    *cap = more;
    return HT_OK;
}

/* ---- short pieces: ids and ranks side by side, scanned for the lowest --------------------------------- */

static size_t merge_short(const struct ht_bpe *bpe, int32_t *ids, size_t n) {
    uint32_t ranks[SHORT_PIECE]; /* of the pair (i, i + 1) */
    for (size_t i = 0; i + 1 < n; i++) {
        ranks[i] = rank_of(bpe, ids[i], ids[i + 1]);
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == NO_RANK) {
            break;
        }
        ids[best] = bpe->merged[ranks[best]];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, (n - best - 1) * sizeof *ranks);
        if (best > 0) {
            ranks[best - 1] = rank_of(bpe, ids[best - 1], ids[best]);
        }
        if (best + 1 < n) {
            ranks[best] = rank_of(bpe, ids[best], ids[best + 1]);
        }
    }
    return n;
}

/* ---- long pieces: linked symbols and a binary heap of candidate pairs --------------------------------- */

struct symbol {
    int32_t id;          /* -1: merged into an earlier one */
    uint32_t prev, next; /* NONE at the ends */
};

struct pair {
    uint64_t order;      /* rank << 32 | position: the heap's key, lowest first */
    int32_t left, right; /* what stood there when it was pushed; stale when changed */
};

#define NONE UINT32_MAX

static void heap_push(struct pair *heap, size_t *n, struct pair p) {
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2].order > p.order) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = p;
}

static struct pair heap_pop(struct pair *heap, size_t *n) {
    struct pair top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *n) {
            break;
        }
        child += child + 1 < *n && heap[child + 1].order < heap[child].order;
        if (heap[child].order >= last.order) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void push_pair(const struct ht_bpe *bpe, const struct symbol *s, uint32_t at, struct pair *heap,
                      size_t *n) {
    if (at == NONE || s[at].next == NONE) {
        return;
    }
    int32_t left = s[at].id, right = s[s[at].next].id;
    uint32_t rank = rank_of(bpe, left, right);
    if (rank != NO_RANK) {
        heap_push(heap, n, (struct pair){(uint64_t)rank << 32 | at, left, right});
    }
}

static ht_status merge_long(const struct ht_bpe *bpe, struct ht_bpe_scratch *scratch, int32_t *ids, size_t *n,
                            ht_err *err) {
    /* n - 1 pairs at first and two new ones for each of at most n - 1 merges. */
    HT_TRY(grow(&scratch->symbols, &scratch->symbols_cap, *n, sizeof(struct symbol), err));
    HT_TRY(grow(&scratch->heap, &scratch->heap_cap, 3 * *n, sizeof(struct pair), err));
    struct symbol *s = scratch->symbols;
    struct pair *heap = scratch->heap;
    size_t n_heap = 0;
    for (size_t i = 0; i < *n; i++) {
        s[i] = (struct symbol){ids[i], i ? (uint32_t)i - 1 : NONE, i + 1 < *n ? (uint32_t)i + 1 : NONE};
    }
    for (size_t i = 0; i < *n; i++) {
        push_pair(bpe, s, (uint32_t)i, heap, &n_heap);
    }
    while (n_heap > 0) {
        struct pair p = heap_pop(heap, &n_heap);
        uint32_t at = (uint32_t)p.order, next = s[at].next;
        if (s[at].id != p.left || next == NONE || s[next].id != p.right) {
            continue;
        }
        s[at].id = bpe->merged[p.order >> 32];
        s[at].next = s[next].next;
        if (s[at].next != NONE) {
            s[s[at].next].prev = at;
        }
        s[next].id = -1;
        push_pair(bpe, s, s[at].prev, heap, &n_heap);
        push_pair(bpe, s, at, heap, &n_heap);
    }
    size_t out = 0;
    for (uint32_t i = 0; i != NONE; i = s[i].next) {
        ids[out++] = s[i].id;
    }
    *n = out;
    return HT_OK;
}

ht_status ht_bpe_encode(const struct ht_bpe *bpe, struct ht_bpe_scratch *scratch, const char *piece,
                        size_t len, struct ht_ids *out, uint64_t *n_dropped, ht_err *err) {
    if (len > INT32_MAX) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "a piece of %llu bytes without a split; at most %d",
                       (unsigned long long)len, INT32_MAX);
    }
    void *ids = out->ids;
    HT_TRY(grow(&ids, &out->cap, out->n + len, sizeof *out->ids, err));
    out->ids = ids;
    int32_t *symbols = out->ids + out->n;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int32_t id = bpe->byte_id[(unsigned char)piece[i]];
        if (id < 0 && bpe->unk < 0) {
            ++*n_dropped;
            continue;
        }
        symbols[n++] = id < 0 ? bpe->unk : id;
    }
    if (n > SHORT_PIECE) {
        HT_TRY(merge_long(bpe, scratch, symbols, &n, err));
    } else if (n > 1) {
        n = merge_short(bpe, symbols, n);
    }
    out->n += n;
    return HT_OK;
}
