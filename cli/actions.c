/* Commands whose first word says what they do. One table of options serves all actions of a command, so an option that
 * the action at hand has no use for must be refused: nothing that was asked for is dropped without a word. */
#include "base/nearest.h"
#include "cli.h"

static const char *action_name(const void *table, size_t i) {
    return ((const struct action *)table)[i].name;
}

/* "collect, merge or show" */
static const char *all_names(const struct action *actions, size_t n, char *out, size_t len) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && used < len; i++) {
        const char *between = i == 0 ? "" : i + 1 == n ? " or " : ", ";
        used += (size_t)snprintf(out + used, len - used, "%s%s", between, actions[i].name);
    }
    return out;
}

static bool has_word(const char *words, const char *word) {
    size_t len = strlen(word);
    for (const char *p = words; *p != '\0';) {
        size_t n = strcspn(p, " ");
        if (n == len && memcmp(p, word, n) == 0) {
            return true;
        }
        p += n + (p[n] == ' ');
    }
    return false;
}

static bool takes(const struct action *a, const char *option) {
    return a->options == NULL || has_word(a->options, option);
}

static int check_options(const struct cli *cli, const struct action *actions, size_t n, const struct action *a) {
    const struct option_row *row = cli->command->options;
    for (size_t i = 0; row[i].name != NULL; i++) {
        if ((cli->given >> i & 1) == 0 || takes(a, row[i].name)) {
            continue;
        }
        size_t k = 0;
        while (k < n && !takes(&actions[k], row[i].name)) {
            k++;
        }
        return usage_error(cli->command, "--%s says how to %s and has no effect on %s; leave it away", row[i].name,
                           k < n ? actions[k].name : "do otherwise", a->name);
    }
    return 0;
}

int action_run(struct cli *cli, const struct action *actions, void *args,
               void (*show)(const struct cli *cli, const json_t *document)) {
    ht_err err = {0};
    char *json = NULL, near[64], names[128];
    ht_status status = HT_OK;
    size_t n = 0, i = 0;
    while (actions[n].name != NULL) {
        n++;
    }
    while (i < n && strcmp(cli->positional[0], actions[i].name) != 0) {
        i++;
    }
    if (i == n) {
        ht_nearest(cli->positional[0], action_name, actions, n, near, sizeof near);
        return usage_error(cli->command, "expected %s, found '%s'%s%s%s", all_names(actions, n, names, sizeof names),
                           cli->positional[0], near[0] != '\0' ? "; did you mean: " : "", near,
                           near[0] != '\0' ? "?" : "");
    }
    int rc = check_options(cli, actions, n, &actions[i]);
    rc = rc != 0 ? rc : actions[i].run(cli, args, &json, &err, &status);
    return rc != 0 ? rc : finish(cli, status, &err, json, show);
}
