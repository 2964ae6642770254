#include "quant/round/round.h"

void ht_round_defaults(struct ht_round_options *options) {
    *options = (struct ht_round_options){.damping = 0.01, .descents = 4};
}
