/* Byte-pair encoding: the bytes of one piece to ids, by merging the pair of lowest rank, leftmost first,
 * until none is left. Knows ids, not texts. Source: Sennrich et al. 2016 (arXiv 1508.07909, section 3.2);
 * the order of merges and the handling of bytes without a token equal Hugging Face tokenizers'. */
#ifndef HT_TOKEN_BPE_H
#define HT_TOKEN_BPE_H

#include "token/tokenizer.h"

struct ht_bpe_slot;

struct ht_bpe {                /* read-only once filled; shared by threads */
    struct ht_bpe_slot *slots; /* open addressing on (left id, right id) */
    size_t mask, n;
    uint64_t seed;
    int32_t *merged;      /* [n_merges] id that the merge of this rank makes */
    int32_t byte_id[256]; /* -1: no token */
    int32_t unk;          /* for bytes without a token; -1: they are dropped */
};

struct ht_bpe_scratch { /* one per thread and call; init with {0} */
    void *symbols, *heap;
    size_t symbols_cap, heap_cap;
};

ht_status ht_bpe_init(struct ht_bpe *bpe, uint32_t n_merges, ht_err *err);
void ht_bpe_deinit(struct ht_bpe *bpe);
/* A pair that is there already takes the later rank (HF). */
void ht_bpe_add(struct ht_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged);

void ht_bpe_scratch_deinit(struct ht_bpe_scratch *scratch);
/* Appends the ids of piece: len bytes. *n_dropped grows by the bytes without a token. O(len log len). */
ht_status ht_bpe_encode(const struct ht_bpe *bpe, struct ht_bpe_scratch *scratch, const char *piece,
                        size_t len, struct ht_ids *out, uint64_t *n_dropped, ht_err *err);

#endif
