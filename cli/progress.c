/* Progress on stderr: a bar with rate and time to go on terminals, a plain line every 30 seconds elsewhere.
 * The first SIGINT or SIGTERM lets the library stop cleanly; a second one ends the process at once. */
#include <signal.h>
#include <unistd.h>

#include "base/sys.h"
#include "cli.h"

#define PLAIN_EVERY_S 30.0
#define BAR_AFTER_S 0.2 /* a stage that is done before would only flicker */

static struct {
    const struct cli *cli;
    bool shown; /* a bar stands on the current line */
    double plain_s;
} g;

static volatile sig_atomic_t g_signal;

static void on_signal(int sig) {
    g_signal = sig;
    signal(sig, SIG_DFL);
}

int signal_received(void) {
    return g_signal;
}

void progress_clear(void) {
    if (g.shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        g.shown = false;
    }
}

static void draw(const ht_progress *p) {
    char left[32], rate[64] = "", bar[25];
    double share = p->total != 0 ? (double)p->done / (double)p->total : 0.0;
    for (int i = 0; i < 24; i++) {
        bar[i] = i < (int)(share * 24) ? '#' : '.';
    }
    bar[24] = '\0';
    if (p->bytes != 0 && p->elapsed_s > 0.2) {
        char b[32];
        snprintf(rate, sizeof rate, "  %s/s", human_bytes((double)p->bytes / p->elapsed_s, b));
    } else if (p->elapsed_s > 0.2) {
        snprintf(rate, sizeof rate, "  %.0f %.16s/s", (double)p->done / p->elapsed_s, p->unit);
    }
    if (g.cli->tty_err && !g.shown && p->elapsed_s < BAR_AFTER_S) {
        return;
    }
    if (g.cli->tty_err) {
        fprintf(stderr, "\r\033[K%-10.16s [%s] %3.0f%%%s  %s left  %.36s", p->stage, bar, 100 * share, rate,
                human_time(p->eta_s, left), p->item != NULL ? p->item : "");
        fflush(stderr);
        g.shown = true;
        if (p->done == p->total) {
            progress_clear();
        }
    } else if (ht_sys_now() - g.plain_s >= PLAIN_EVERY_S) {
        g.plain_s = ht_sys_now();
        fprintf(stderr, "%s: %llu of %llu %s (%.0f%%)%s, %s left\n", p->stage, (unsigned long long)p->done,
                (unsigned long long)p->total, p->unit, 100 * share, rate, human_time(p->eta_s, left));
    }
}

static int on_progress(void *user, const ht_progress *p) {
    (void)user;
    if (!g.cli->quiet) {
        draw(p);
    }
    return g_signal != 0;
}

static void on_log(void *user, ht_log_level level, const char *msg) {
    (void)user;
    bool wanted = level == HT_LOG_ERROR || (level == HT_LOG_WARN && !g.cli->quiet) ||
                  g.cli->verbose >= (level == HT_LOG_INFO ? 1 : 2);
    if (wanted) {
        progress_clear();
        fprintf(stderr, "%shalftone: %s%s%s\n",
                term_color(g.cli, true, level <= HT_LOG_WARN ? "\033[33m" : ""),
                level == HT_LOG_WARN ? "warning: " : "", term_color(g.cli, true, "\033[0m"), msg);
    }
}

void progress_setup(struct cli *cli, ht_context_options *options) {
    struct sigaction action = {.sa_handler = on_signal};
    g.cli = cli;
    g.plain_s = ht_sys_now();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit shows as an error of write instead: exit 7, nothing left */
    options->log = on_log;
    options->progress = on_progress;
}
