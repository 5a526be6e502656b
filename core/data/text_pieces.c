/* text_pieces.c - captions as Unicode sees them: normal form, letters, lower case, and CLIP's pieces. See
 * text.h. */
#include "text_parts.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef enum sort { SPACE, LETTER, NUMBER, OTHER } sort;

static bool is_ascii(const char *text)
{
    while (*text && !(*text & 0x80)) text++;
    return !*text;
}

char *dg_text_normal(const char *caption)
{
    utf8proc_uint8_t *out = NULL;
    if (is_ascii(caption)) return (char *)(uintptr_t)caption;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)caption, 0, &out,
                                      UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0) return n == UTF8PROC_ERROR_NOMEM ? NULL : (char *)(uintptr_t)caption;
    return (char *)out;
}

void dg_text_free_normal(char *normal, const char *caption)
{
    if (normal != caption) free(normal); /* utf8proc's own allocation */
}

/* The code point at p, -1 for a byte that is no UTF-8, and the bytes it takes. */
static utf8proc_int32_t read_char(const char *p, size_t *bytes)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)p, -1, &c);
    *bytes = n > 0 ? (size_t)n : 1;
    return n > 0 ? c : -1;
}

/* As Python's \s, \p{L} and \p{N}. */
static sort sort_of(utf8proc_int32_t c)
{
    if (c < 0) return OTHER;
    if ((c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f) || c == 0x85) return SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

/* The length of 's, 't, 're, 've, 'm, 'll or 'd at p in any case, or 0. */
static size_t contraction(const char *p)
{
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t i = 0; *p == '\'' && i < sizeof ends / sizeof ends[0]; i++) {
        size_t n = 0;
        while (ends[i][n] && (p[1 + n] | 0x20) == ends[i][n]) n++;
        if (!ends[i][n]) return 1 + n;
    }
    return 0;
}

/* Appends one code point, or one byte that is none; false when there is no room. */
static bool put_lower(const char *p, utf8proc_int32_t c, char *out, size_t *n)
{
    utf8proc_uint8_t bytes[4] = {(utf8proc_uint8_t)*p};
    size_t m = c < 0 ? 1 : (size_t)utf8proc_encode_char(utf8proc_tolower(c), bytes);
    if (*n + m > DG_TEXT_PIECE) return false;
    memcpy(out + *n, bytes, m);
    *n += m;
    return true;
}

size_t dg_text_piece(const char **text, char out[DG_TEXT_PIECE + 1])
{
    const char *p = *text;
    size_t n = 0, bytes, m;
    utf8proc_int32_t c;
    while (*p && sort_of(c = read_char(p, &bytes)) == SPACE) p += bytes;
    if ((m = contraction(p)) > 0) {
        for (; n < m; n++) out[n] = n ? (char)(p[n] | 0x20) : '\'';
        p += m;
    } else if (*p) {
        const sort first = sort_of(c);
        do {
            if (!put_lower(p, c, out, &n)) break;
            p += bytes;
        } while (first != NUMBER && *p && sort_of(c = read_char(p, &bytes)) == first);
    }
    out[n] = 0;
    *text = p;
    return n;
}
