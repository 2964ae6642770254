/* Aligned text tables. Cells are filled row by row. */
#include "base/mem.h"
#include "cli.h"

struct text_table {
    const char *alignment;
    size_t n_columns, n_cells, cap;
    char **cells; /* headers first */
};

static void add(struct text_table *t, char *text) {
    if (t->n_cells == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        char **cells = ht_mem_realloc_array(t->cells, cap, sizeof *cells);
        if (cells == NULL) {
            ht_mem_free(text);
            return;
        }
        t->cells = cells;
        t->cap = cap;
    }
    t->cells[t->n_cells++] = text;
}

struct text_table *table_new(const char *const *headers, size_t n_columns, const char *alignment) {
    struct text_table *t = ht_mem_calloc(1, sizeof *t);
    if (t != NULL) {
        t->alignment = alignment;
        t->n_columns = n_columns;
        for (size_t i = 0; i < n_columns; i++) {
            add(t, ht_mem_strdup(headers[i]));
        }
    }
    return t;
}

void table_cell(struct text_table *t, const char *fmt, ...) {
    if (t != NULL) {
        char text[256];
        va_list args;
        va_start(args, fmt);
        vsnprintf(text, sizeof text, fmt, args);
        va_end(args);
        add(t, ht_mem_strdup(text));
    }
}

static void table_free(struct text_table *t) {
    for (size_t i = 0; t != NULL && i < t->n_cells; i++) {
        ht_mem_free(t->cells[i]);
    }
    if (t != NULL) {
        ht_mem_free(t->cells);
        ht_mem_free(t);
    }
}

void table_print(struct text_table *t, const struct cli *cli, FILE *out) {
    if (t == NULL) {
        return;
    }
    for (size_t r = 0; r * t->n_columns < t->n_cells; r++) {
        fputs(r == 0 ? term_color(cli, out == stderr, "\033[1m") : "", out);
        for (size_t c = 0; c < t->n_columns && r * t->n_columns + c < t->n_cells; c++) {
            size_t width = 0;
            for (size_t i = c; i < t->n_cells; i += t->n_columns) {
                size_t n = t->cells[i] != NULL ? strlen(t->cells[i]) : 0;
                width = n > width ? n : width;
            }
            const char *cell = t->cells[r * t->n_columns + c];
            bool last = c + 1 == t->n_columns;
            cell = cell != NULL ? cell : "";
            if (t->alignment[c] == 'r') {
                fprintf(out, "%*s", (int)width, cell);
            } else {
                fprintf(out, "%-*s", last ? 0 : (int)width, cell);
            }
            fputs(last ? "" : "  ", out);
        }
        fputs(r == 0 ? term_color(cli, out == stderr, "\033[0m") : "", out);
        fputc('\n', out);
    }
    table_free(t);
}

void table_print_markdown(struct text_table *t, FILE *out) {
    for (size_t i = 0; t != NULL && i < t->n_cells; i++) {
        fprintf(out, "%s%s%s", i % t->n_columns == 0 ? "| " : " | ", t->cells[i] != NULL ? t->cells[i] : "",
                (i + 1) % t->n_columns == 0 ? " |\n" : "");
        if (i + 1 == t->n_columns) {
            for (size_t c = 0; c < t->n_columns; c++) {
                fputs(t->alignment[c] == 'r' ? "|---:" : "|---", out);
            }
            fputs("|\n", out);
        }
    }
    table_free(t);
}
