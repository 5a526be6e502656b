/* text_pairs.c - byte pairs: the symbols of bytes, and the joins of a piece. See text.h. */
#include "text_parts.h"

#include <stdlib.h>
#include <string.h>

static const char end_mark[] = "</w>";

/* CLIP writes a byte as a character that can be seen: '!'..'~', 0xa1..0xac and 0xae..0xff as themselves, in
 * the order of ids; then the other 68 bytes, as the characters from 256 on. */
enum { SEEN_1 = '~' - '!' + 1, SEEN_2 = SEEN_1 + 0xac - 0xa1 + 1, SEEN = SEEN_2 + 0xff - 0xae + 1 };

int32_t dg_text_byte_id(unsigned char b)
{
    if (b >= '!' && b <= '~') return b - '!';
    if (b >= 0xa1 && b <= 0xac) return SEEN_1 + b - 0xa1;
    if (b >= 0xae) return SEEN_2 + b - 0xae;
    if (b < '!') return SEEN + b;
    return b == 0xad ? 255 : SEEN + '!' + b - 0x7f;
}

/* Its character, in UTF-8. */
static void byte_symbol(unsigned char b, bool ends, char *out, size_t size)
{
    int32_t id = dg_text_byte_id(b);
    unsigned c = id < SEEN ? b : 256u + (unsigned)(id - SEEN);
    char text[3] = {(char)c};
    if (c >= 128) {
        text[0] = (char)(0xc0 | c >> 6);
        text[1] = (char)(0x80 | (c & 0x3f));
    }
    snprintf(out, size, "%s%s", text, ends ? end_mark : "");
}

dg_status dg_text_add_bytes(dg_vocabulary *v, dg_error *err)
{
    unsigned char byte_of[256];
    for (int b = 0; b < 256; b++) byte_of[dg_text_byte_id((unsigned char)b)] = (unsigned char)b;
    for (int i = 0; i < DG_TEXT_BYTES; i++) {
        char symbol[16];
        dg_text_entry *e;
        byte_symbol(byte_of[i % 256], i >= 256, symbol, sizeof symbol);
        DG_TRY(dg_text_entry_of(v, symbol, &e, err));
    }
    return DG_OK;
}

dg_status dg_text_add_pair(dg_vocabulary *v, int32_t left, int32_t right, size_t *capacity, dg_error *err)
{
    char symbol[DG_TEXT_SYMBOL + 1];
    const char *a = v->entries[left].word, *b = v->entries[right].word;
    size_t n = v->n;
    dg_text_entry *e;
    if (snprintf(symbol, sizeof symbol, "%s%s", a, b) > DG_TEXT_SYMBOL)
        return dg_fail(err, DG_ERR_INVALID, "'%.40s...' has more than %d bytes", symbol, DG_TEXT_SYMBOL);
    DG_TRY(dg_text_entry_of(v, symbol, &e, err));
    if (v->n == n) return dg_fail(err, DG_ERR_INVALID, "'%.70s' is there already", symbol);
    if (!dg_grow(&v->pairs, v->n_pairs, capacity, sizeof *v->pairs))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for %zu byte pairs", v->n_pairs);
    v->pairs[v->n_pairs++] = (dg_text_pair){left, right, (int32_t)n};
    return DG_OK;
}

static int by_symbols(const void *x, const void *y)
{
    const dg_text_pair *a = x, *b = y;
    if (a->left != b->left) return a->left < b->left ? -1 : 1;
    return a->right < b->right ? -1 : a->right > b->right;
}

void dg_text_sort_pairs(dg_vocabulary *v)
{
    if (v->n_pairs) qsort(v->pairs, v->n_pairs, sizeof *v->pairs, by_symbols);
}

static const dg_text_pair *pair_of(const dg_vocabulary *v, int32_t left, int32_t right)
{
    const dg_text_pair key = {left, right, 0};
    return v->n_pairs ? bsearch(&key, v->pairs, v->n_pairs, sizeof key, by_symbols) : NULL;
}

int64_t dg_text_join(const dg_vocabulary *v, const char *piece, size_t length, int32_t *ids)
{
    int64_t n = (int64_t)length;
    for (int64_t i = 0; i < n; i++) ids[i] = dg_text_byte_id((unsigned char)piece[i]);
    if (n) ids[n - 1] += 256;
    for (;;) {
        const dg_text_pair *first = NULL; /* of the pairs that are there, the one learnt first */
        for (int64_t i = 0; i + 1 < n; i++) {
            const dg_text_pair *p = pair_of(v, ids[i], ids[i + 1]);
            if (p && (!first || p->made < first->made)) first = p;
        }
        if (!first) return n;
        int64_t m = 0;
        for (int64_t i = 0; i < n; i++) {
            bool joined = i + 1 < n && ids[i] == first->left && ids[i + 1] == first->right;
            ids[m++] = joined ? first->made : ids[i];
            i += joined;
        }
        n = m;
    }
}
