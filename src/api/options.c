#include "api/options.h"

ht_status ht_options_take(void *full, size_t size, const void *given, ht_err *err) {
    if (given == NULL) {
        return HT_OK;
    }
    size_t have;
    memcpy(&have, given, sizeof have);
    if (have < sizeof have || have > size) {
        return ht_fail(
            err, HT_INVAL, "options", HT_NO_POS,
            "size field says %zu bytes, expected at most %zu; fill options with the *_defaults function",
            have, size);
    }
    memcpy(full, given, have);
    return HT_OK;
}

ht_status ht_need(const void *argument, const char *name, ht_err *err) {
    return argument != NULL ? HT_OK : ht_fail(err, HT_INVAL, name, HT_NO_POS, "the argument is NULL");
}

ht_status ht_need_text(const char *argument, const char *name, ht_err *err) {
    if (argument == NULL || argument[0] == '\0') {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS, "it must be given");
    }
    return HT_OK;
}

void ht_verify_options_defaults(ht_verify_options *o) {
    *o = (ht_verify_options){.size = sizeof *o, .data = true, .checksums = true};
}

void ht_curve_options_defaults(ht_curve_options *o) {
    *o = (ht_curve_options){.size = sizeof *o, .rows = 32};
}

void ht_errors_options_defaults(ht_errors_options *o) {
    *o = (ht_errors_options){.size = sizeof *o, .rows = 1024};
}

void ht_convert_options_defaults(ht_convert_options *o) {
    *o = (ht_convert_options){.size = sizeof *o};
}

void ht_quantize_options_defaults(ht_quantize_options *o) {
    *o = (ht_quantize_options){.size = sizeof *o, .calib_tokens = UINT64_MAX};
}

void ht_imatrix_options_defaults(ht_imatrix_options *o) {
    *o = (ht_imatrix_options){.size = sizeof *o, .ctx = 512, .exact = true};
}

void ht_stats_options_defaults(ht_stats_options *o) {
    *o = (ht_stats_options){.size = sizeof *o, .tokens = UINT64_MAX, .ctx = 512};
}

void ht_eval_options_defaults(ht_eval_options *o) {
    *o = (ht_eval_options){.size = sizeof *o, .ctx = 512, .resamples = 2000};
}

void ht_bench_options_defaults(ht_bench_options *o) {
    *o = (ht_bench_options){.size = sizeof *o, .prompt = 512, .gen = 128, .repeat = 5};
}

void ht_session_options_defaults(ht_session_options *o) {
    *o = (ht_session_options){.size = sizeof *o};
}

void ht_generate_options_defaults(ht_generate_options *o) {
    *o = (ht_generate_options){.size = sizeof *o,
                               .max_tokens = 128,
                               .temperature = 0.8f,
                               .top_k = 40,
                               .top_p = 0.95f,
                               .min_p = 0.05f};
}
