/* Statistics files as other commands want them. */
#ifndef HT_FLOW_FLOW_STATS_H
#define HT_FLOW_FLOW_STATS_H

#include "calib/stats_file.h"
#include "io/imatrix.h"

/* The mean squares as an importance matrix. HT_INVAL when the file has none. */
ht_status ht_stats_to_imatrix(const struct ht_stats_file *file, struct ht_imatrix **imatrix, ht_err *err);

#endif
