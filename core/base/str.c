/* str.c - see str.h. */
#include "str.h"
#include "mem.h"

static bool reserve(dg_str *s, size_t more)
{
    if (s->failed) return false;
    if (more > SIZE_MAX / 2 - s->length) s->failed = true;
    if (!s->failed && s->length + more + 1 > s->capacity) {
        size_t want = s->capacity ? s->capacity * 2 : 64;
        while (want < s->length + more + 1) want *= 2;
        char *p = dg_realloc(s->text, want);
        if (p) {
            s->text = p;
            s->capacity = want;
        } else
            s->failed = true;
    }
    return !s->failed;
}

void dg_str_bytes(dg_str *s, const void *bytes, size_t n)
{
    if (!reserve(s, n)) return;
    if (n) memcpy(s->text + s->length, bytes, n);
    s->length += n;
    s->text[s->length] = 0;
}

void dg_str_puts(dg_str *s, const char *text)
{
    dg_str_bytes(s, text, strlen(text));
}

void dg_str_printf(dg_str *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(s, (size_t)n)) {
        s->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(s->text + s->length, (size_t)n + 1, fmt, ap);
    va_end(ap);
    s->length += (size_t)n;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *p)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : (p[0] & 0xf0) == 0xe0       ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))) return 0;
    if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))) return 0;
    return n;
}

void dg_str_json(dg_str *s, const char *text)
{
    dg_str_puts(s, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = utf8_length(p);
        if (n == 0) {
            dg_str_puts(s, "\\ufffd");
            n = 1;
        } else if (*p == '"' || *p == '\\')
            dg_str_printf(s, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            dg_str_printf(s, "\\u%04x", *p);
        else
            dg_str_bytes(s, p, n);
        p += n;
    }
    dg_str_puts(s, "\"");
}

void dg_str_free(dg_str *s)
{
    dg_free(s->text);
    memset(s, 0, sizeof *s);
}

dg_status dg_str_check(const dg_str *s, dg_error *err)
{
    return s->failed
               ? dg_fail(err, DG_ERR_NOMEM, "out of memory while writing a text of %zu bytes", s->length)
               : DG_OK;
}

size_t dg_edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), row[65];
    if (n > 64 || m > 64) return n > m ? n : m;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *dg_nearest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t limit = strlen(word) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = dg_edit_distance(word, names[i]);
        if (d <= limit) {
            best = names[i];
            limit = d;
            if (d == 0) break;
            limit = d - 1;
        }
    }
    return best;
}
