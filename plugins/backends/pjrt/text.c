/* text.c - see text.h. */
#include "text.h"

/* Room for n more characters and the NUL. */
static bool reserve(dg_text *t, size_t n)
{
    if (t->failed) return false;
    if (n < t->capacity - t->length && t->bytes) return true;
    size_t capacity = t->capacity ? t->capacity : 4096;
    while (capacity - t->length <= n && capacity < SIZE_MAX / 2) capacity *= 2;
    char *bytes = capacity - t->length > n ? t->host->allocate(capacity) : NULL;
    if (!bytes) {
        t->failed = true;
        return false;
    }
    if (t->bytes) {
        memcpy(bytes, t->bytes, t->length);
        t->host->release(t->bytes);
    }
    t->bytes = bytes;
    t->capacity = capacity;
    return true;
}

void dg_text_bytes(dg_text *t, const char *bytes, size_t n)
{
    if (!reserve(t, n)) return;
    memcpy(t->bytes + t->length, bytes, n);
    t->length += n;
    t->bytes[t->length] = 0;
}

void dg_text_puts(dg_text *t, const char *s)
{
    dg_text_bytes(t, s, strlen(s));
}

void dg_text_printf(dg_text *t, const char *fmt, ...)
{
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    dg_text_puts(t, line);
}

void dg_text_hex(dg_text *t, const void *bytes, size_t n)
{
    static const char digit[] = "0123456789ABCDEF";
    if (n > SIZE_MAX / 4 || !reserve(t, 2 * n)) return;
    char *at = t->bytes + t->length;
    for (const unsigned char *b = bytes, *end = b + n; b < end; b++) {
        *at++ = digit[*b >> 4];
        *at++ = digit[*b & 15];
    }
    *at = 0;
    t->length += 2 * n;
}

void dg_text_free(dg_text *t)
{
    if (t->bytes) t->host->release(t->bytes);
    *t = (dg_text){.host = t->host};
}
