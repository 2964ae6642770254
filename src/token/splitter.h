/* Runs a pre-tokenizer's regexes over text. The compiled splitter is read-only and shared by threads; each
 * call of ht_split_run_begin takes its own match data. */
#ifndef HT_TOKEN_SPLITTER_H
#define HT_TOKEN_SPLITTER_H

#include "token/pretokenizer.h"

struct ht_splitter;

ht_status ht_splitter_new(const struct ht_pretokenizer *row, struct ht_splitter **splitter, ht_err *err);
void ht_splitter_free(struct ht_splitter *splitter);

struct ht_split_run;
ht_status ht_split_run_begin(const struct ht_splitter *splitter, struct ht_split_run **run, ht_err *err);
void ht_split_run_end(struct ht_split_run *run);

/* Calls piece for each piece of text in order; pieces cover all of it. text is well-formed UTF-8. */
typedef ht_status ht_piece_fn(void *user, const char *piece, size_t len, ht_err *err);
ht_status ht_split_run_text(struct ht_split_run *run, const char *text, size_t len, ht_piece_fn *piece,
                            void *user, ht_err *err);

#endif
