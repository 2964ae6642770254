/* What the terminal can do, colours, messages, human-readable units. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli.h"

static bool wants_color(const struct cli *cli, int fd) {
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE");
    if (strcmp(cli->color, "auto") != 0) {
        return strcmp(cli->color, "always") == 0;
    }
    if (no != NULL && *no != '\0') {
        return false;
    }
    if (force != NULL && *force != '\0' && strcmp(force, "0") != 0) {
        return true;
    }
    return isatty(fd) && (term == NULL || strcmp(term, "dumb") != 0);
}

void term_setup(struct cli *cli) {
    const char *term = getenv("TERM");
    cli->color_out = wants_color(cli, STDOUT_FILENO);
    cli->color_err = wants_color(cli, STDERR_FILENO);
    cli->tty_err = isatty(STDERR_FILENO) && (term == NULL || strcmp(term, "dumb") != 0);
}

const char *term_color(const struct cli *cli, bool err_stream, const char *code) {
    return (err_stream ? cli->color_err : cli->color_out) ? code : "";
}

int report_error(const struct cli *cli, const ht_err *err) {
    int sig = signal_received();
    progress_clear();
    if (err->code == HT_CANCELLED && sig != 0) {
        fprintf(stderr, "halftone: stopped by signal %d\n", sig);
        return 128 + sig;
    }
    fprintf(stderr, "%shalftone: error:%s ", term_color(cli, true, "\033[1;31m"),
            term_color(cli, true, "\033[0m"));
    if (err->what[0] != '\0') {
        fprintf(stderr, "%s: ", err->what);
        if (err->pos != HT_NO_POS && err->pos != 0) {
            fprintf(stderr, "at byte %llu: ", (unsigned long long)err->pos);
        }
    }
    fprintf(stderr, "%s\n", err->msg[0] != '\0' ? err->msg : ht_status_text(err->code));
    return ht_status_exit_code(err->code);
}

void print_json(char *json) {
    if (json != NULL) {
        fputs(json, stdout);
        fputc('\n', stdout);
        ht_string_free(json);
    }
}

void note(const struct cli *cli, const char *fmt, ...) {
    if (!cli->quiet) {
        va_list args;
        va_start(args, fmt);
        progress_clear();
        vfprintf(stderr, fmt, args);
        fputc('\n', stderr);
        va_end(args);
    }
}

const char *human_bytes(double bytes, char buf[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t u = 0;
    while (bytes >= 1024 && u + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, 32, u == 0 ? "%.0f %s" : bytes < 100 ? "%.2f %s" : "%.1f %s", bytes, units[u]);
    return buf;
}

const char *human_time(double seconds, char buf[32]) {
    if (seconds < 0 || !isfinite(seconds)) {
        snprintf(buf, 32, "-");
    } else if (seconds < 60) {
        snprintf(buf, 32, "%.1f s", seconds);
    } else if (seconds < 3600) {
        snprintf(buf, 32, "%d:%02d min", (int)seconds / 60, (int)seconds % 60);
    } else {
        snprintf(buf, 32, "%d:%02d h", (int)(seconds / 3600), (int)(seconds / 60) % 60);
    }
    return buf;
}

const json_t *json_at(const json_t *object, const char *path) {
    char key[64];
    while (object != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        object = json_object_get(object, key);
        path += n + (path[n] == '.');
    }
    return object;
}

double json_num(const json_t *object, const char *path, double fallback) {
    const json_t *v = json_at(object, path);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

const char *json_str(const json_t *object, const char *path, const char *fallback) {
    const json_t *v = json_at(object, path);
    return json_is_string(v) ? json_string_value(v) : fallback;
}

int finish(const struct cli *cli, ht_status status, const ht_err *err, char *json,
           void (*show)(const struct cli *cli, const json_t *document)) {
    int code = 0;
    progress_clear();
    if (json != NULL && cli->json) {
        print_json(json);
    } else if (json != NULL) {
        json_t *document;
        ht_err e = {0};
        if (ht_json_parse(json, strlen(json), 0, "result", &document, &e) == HT_OK) {
            show(cli, document);
            json_decref(document);
        } else {
            code = report_error(cli, &e);
        }
        ht_string_free(json);
    }
    return status != HT_OK ? report_error(cli, err) : code;
}
