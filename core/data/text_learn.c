/* text_learn.c - byte pairs from captions: again and again the most frequent pair of neighbours becomes one
 * symbol (Sennrich et al., 2016). How often each pair comes is kept up to date, not counted anew. */
#include "text_parts.h"

#include <string.h>

typedef struct counted {
    int32_t left, right;
    int64_t count;
    bool used; /* a place of the table is taken */
    bool no;   /* what it makes is there already */
} counted;

typedef struct learner {
    dg_vocabulary *v;
    size_t n_words;
    int64_t *counts; // [n_words]
    int64_t *first;  // [n_words + 1] where a word begins in `ids`
    int32_t *length; // [n_words] symbols that it has now
    int32_t *ids;    // [first[n_words]]
    counted *table;  // [n_table] a power of two
    size_t n_table, n_pairs;
} learner;

static counted *place(counted *table, size_t n, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 32) & (n - 1);
    while (table[i].used && (table[i].left != left || table[i].right != right)) i = (i + 1) & (n - 1);
    return &table[i];
}

static dg_status grow_table(learner *l, dg_error *err)
{
    size_t n = l->n_table ? 2 * l->n_table : 4096;
    counted *table = dg_calloc(n, sizeof *table);
    if (!table) return dg_fail(err, DG_ERR_NOMEM, "no memory to count %zu pairs", l->n_pairs);
    for (size_t i = 0; i < l->n_table; i++)
        if (l->table[i].used) *place(table, n, l->table[i].left, l->table[i].right) = l->table[i];
    dg_free(l->table);
    l->table = table;
    l->n_table = n;
    return DG_OK;
}

/* Adds to the counts of all pairs of a word. */
static dg_status count_word(learner *l, size_t w, int64_t sign, dg_error *err)
{
    const int32_t *ids = l->ids + l->first[w];
    for (int32_t i = 0; i + 1 < l->length[w]; i++) {
        if (2 * (l->n_pairs + 1) > l->n_table) DG_TRY(grow_table(l, err));
        counted *c = place(l->table, l->n_table, ids[i], ids[i + 1]);
        if (!c->used) {
            *c = (counted){.left = ids[i], .right = ids[i + 1], .used = true};
            l->n_pairs++;
        }
        c->count += sign * l->counts[w];
    }
    return DG_OK;
}

/* Takes the pieces out of the table of words, as symbols of bytes. */
static dg_status take_words(learner *l, dg_error *err)
{
    dg_vocabulary *v = l->v;
    int64_t total = 0;
    l->n_words = v->n;
    l->counts = dg_calloc(v->n, sizeof *l->counts);
    l->first = dg_calloc(v->n + 1, sizeof *l->first);
    l->length = dg_calloc(v->n, sizeof *l->length);
    if (!l->counts || !l->first || !l->length) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t w = 0; w < v->n; w++) {
        l->counts[w] = (int64_t)v->entries[w].count;
        l->length[w] = (int32_t)strlen(v->entries[w].word);
        l->first[w + 1] = total += l->length[w];
    }
    l->ids = dg_calloc((size_t)total, sizeof *l->ids);
    if (!l->ids) return dg_fail(err, DG_ERR_NOMEM, "no memory for %lld bytes", (long long)total);
    for (size_t w = 0; w < v->n; w++) { /* no pair is known yet, so nothing is joined */
        dg_text_join(v, v->entries[w].word, (size_t)l->length[w], l->ids + l->first[w]);
        DG_TRY(count_word(l, w, 1, err));
    }
    DG_TRY(dg_text_clear(v, err));
    return dg_text_add_bytes(v, err);
}

static counted *most_frequent(const learner *l)
{
    counted *best = NULL;
    for (size_t i = 0; i < l->n_table; i++) {
        counted *c = &l->table[i];
        if (!c->used || c->no) continue;
        if (!best || c->count > best->count ||
            (c->count == best->count &&
             (c->left < best->left || (c->left == best->left && c->right < best->right))))
            best = c;
    }
    return best;
}

/* Makes one symbol of the pair wherever it stands. */
static dg_status join_everywhere(learner *l, int32_t left, int32_t right, int32_t made, dg_error *err)
{
    for (size_t w = 0; w < l->n_words; w++) {
        int32_t *ids = l->ids + l->first[w], n = l->length[w], m = 0;
        bool there = false;
        for (int32_t i = 0; i + 1 < n && !there; i++) there = ids[i] == left && ids[i + 1] == right;
        if (!there) continue;
        DG_TRY(count_word(l, w, -1, err));
        for (int32_t i = 0; i < n; i++) {
            bool joined = i + 1 < n && ids[i] == left && ids[i + 1] == right;
            ids[m++] = joined ? made : ids[i];
            i += joined;
        }
        l->length[w] = m;
        DG_TRY(count_word(l, w, 1, err));
    }
    return DG_OK;
}

static dg_status learn(learner *l, size_t most_pairs, int64_t least, dg_error *err)
{
    dg_vocabulary *v = l->v;
    size_t capacity = 0;
    while (v->n_pairs < most_pairs) {
        counted *best = most_frequent(l);
        if (!best || best->count < least) break;
        int32_t left = best->left, right = best->right, made = (int32_t)v->n;
        dg_error why = DG_ERROR_INIT;
        dg_status s = dg_text_add_pair(v, left, right, &capacity, &why);
        best->no = s == DG_ERR_INVALID;
        if (best->no) continue;
        if (s != DG_OK) return dg_fail(err, s, "%s", why.message);
        DG_TRY(join_everywhere(l, left, right, made, err));
    }
    dg_text_sort_pairs(v);
    return DG_OK;
}

dg_status dg_text_learn(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err)
{
    learner l = {.v = v};
    int64_t room = most_ids - DG_TEXT_BYTES - 2;
    if (room < 0)
        return dg_fail(err, DG_ERR_INVALID,
                       "a vocabulary of byte pairs needs room for %d ids at least, of all bytes and of start "
                       "and end; there is room for %lld",
                       DG_TEXT_BYTES + 2, (long long)most_ids);
    dg_status s = take_words(&l, err);
    if (s == DG_OK) s = learn(&l, room < DG_TEXT_MOST_PAIRS ? (size_t)room : DG_TEXT_MOST_PAIRS, least, err);
    dg_free(l.counts);
    dg_free(l.first);
    dg_free(l.length);
    dg_free(l.ids);
    dg_free(l.table);
    return s;
}
