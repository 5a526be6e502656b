/* print.c - texts, tables and failures for people. */
#include "cli.h"

#define MOST_COLUMNS 16

int cli_fail(const dg_error *err)
{
    if (err->code == DG_ERR_STOPPED) {
        fprintf(stderr, "digpt: %s\n", err->message);
        return CLI_CONTINUE;
    }
    fprintf(stderr, "digpt: error: %s\n", err->message);
    return CLI_FAILED;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    fputs("digpt: error: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    return CLI_USAGE;
}

int cli_print(dg_str *text)
{
    dg_error err = DG_ERROR_INIT;
    int code = CLI_OK;
    if (dg_str_check(text, &err) != DG_OK)
        code = cli_fail(&err);
    else if (text->length)
        fwrite(text->text, 1, text->length, stdout);
    dg_str_free(text);
    return code;
}

/* Columns that a UTF-8 text takes on a terminal, were all its characters narrow. */
static size_t columns(const char *p, size_t n)
{
    size_t c = 0;
    for (size_t i = 0; i < n; i++) c += ((unsigned char)p[i] & 0xc0) != 0x80;
    return c;
}

int cli_table(dg_str *rows)
{
    size_t widest[MOST_COLUMNS] = {0};
    dg_str out = {0};
    if (!rows->text && !rows->failed) return CLI_OK;
    for (int writing = 0; writing < 2 && !rows->failed; writing++)
        for (const char *p = rows->text; *p;) {
            const char *end = p + strcspn(p, "\n");
            for (size_t column = 0; p <= end; column++) {
                size_t n = strcspn(p, "\t\n"), width = columns(p, n);
                bool last = p[n] != '\t' || column + 1 == MOST_COLUMNS;
                if (last) n = (size_t)(end - p);
                if (writing) {
                    dg_str_bytes(&out, p, n);
                    if (!last) dg_str_printf(&out, "%*s", (int)(widest[column] - width + 2), "");
                } else if (!last && width > widest[column])
                    widest[column] = width;
                p += n + 1;
            }
            if (writing) dg_str_puts(&out, "\n");
            if (p[-1] == 0) break;
        }
    out.failed |= rows->failed;
    dg_str_free(rows);
    return cli_print(&out);
}

const char *cli_bytes(double bytes, char *out, size_t size)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    for (; bytes >= 1024 && u < 5; u++) bytes /= 1024;
    snprintf(out, size, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return out;
}
