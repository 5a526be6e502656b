/* names.c - see names.h. */
#include "names.h"

#include <stdlib.h>

#include "base/mem.h"

/* Words that training wrappers and larger models put before a vision transformer's names; up to two of them.
 */
static const char *const words[] = {"module.", "model.", "visual.",  "encoder.", "backbone.",
                                    "vit.",    "trunk.", "student.", "teacher."};

/* '#' is a number, '*' the rest of the name. Official, timm and MAE names need no row: they are ours. The
 * rows are Hugging Face's ViTModel, ViTMAEModel and ViTForImageClassification. part 1..3 of `parts` follow
 * along axis 0. */
static const struct {
    const char *from, *to;
    int32_t part, parts;
} rules[DG_NAME_RULES] = {
    {"embeddings.cls_token", "cls_token", 1, 1},
    {"embeddings.position_embeddings", "pos_embed", 1, 1},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.proj.*", 1, 1},
    {"encoder.layer.#.layernorm_before.*", "blocks.#.norm1.*", 1, 1},
    {"encoder.layer.#.layernorm_after.*", "blocks.#.norm2.*", 1, 1},
    {"encoder.layer.#.attention.attention.query.*", "blocks.#.attn.qkv.*", 1, 3},
    {"encoder.layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", 2, 3},
    {"encoder.layer.#.attention.attention.value.*", "blocks.#.attn.qkv.*", 3, 3},
    {"encoder.layer.#.attention.output.dense.*", "blocks.#.attn.proj.*", 1, 1},
    {"encoder.layer.#.intermediate.dense.*", "blocks.#.mlp.fc1.*", 1, 1},
    {"encoder.layer.#.output.dense.*", "blocks.#.mlp.fc2.*", 1, 1},
    {"layernorm.*", "norm.*", 1, 1},
    {"classifier.*", "head.*", 1, 1},
};

/* What one name of the file means. */
typedef struct meaning {
    size_t wanted; /* index */
    int32_t part, parts;
    int32_t rule; /* -1: the name is ours */
} meaning;

typedef struct matcher {
    const dg_weights *w;
    const dg_wanted *wanted;
    const dg_wanted **sorted; /* [n] by name */
    size_t n;
    bool *used; /* [weights] */
    dg_names *out;
    dg_error *err;
} matcher;

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const dg_wanted *const *)a)->name, (*(const dg_wanted *const *)b)->name);
}

static bool find_wanted(const matcher *m, const char *name, size_t *index)
{
    dg_wanted probe = {.name = name};
    const dg_wanted *key = &probe;
    const dg_wanted *const *hit = m->n ? bsearch(&key, m->sorted, m->n, sizeof key, by_name) : NULL;
    if (hit) *index = (size_t)(*hit - m->wanted);
    return hit != NULL;
}

/* Whether `name` is of the form `from`; then *number and *rest are what '#' and '*' stand for. */
static bool fits(const char *from, const char *name, char number[12], const char **rest)
{
    number[0] = 0;
    *rest = "";
    for (; *from; from++) {
        if (*from == '*') {
            *rest = name;
            return *name != 0;
        }
        if (*from == '#') {
            size_t n = strspn(name, "0123456789");
            if (n == 0 || n > 11) return false;
            memcpy(number, name, n);
            number[n] = 0;
            name += n;
        } else if (*from != *name++) {
            return false;
        }
    }
    return *name == 0;
}

/* Puts number and rest into `to`. */
static void rename_to(const char *to, const char *number, const char *rest, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (; *to && n < size; to++)
        n += (size_t)snprintf(out + n, size - n,
                              *to == '#'   ? "%s"
                              : *to == '*' ? "%s"
                                           : "%.1s",
                              *to == '#'   ? number
                              : *to == '*' ? rest
                                           : to);
}

static bool understand(const matcher *m, const char *name, meaning *out)
{
    *out = (meaning){0, 1, 1, -1};
    if (find_wanted(m, name, &out->wanted)) return true;
    for (int32_t i = 0; i < DG_NAME_RULES; i++) {
        char number[12], ours[512];
        const char *rest;
        if (!fits(rules[i].from, name, number, &rest)) continue;
        rename_to(rules[i].to, number, rest, ours, sizeof ours);
        *out = (meaning){0, rules[i].part, rules[i].parts, i};
        return find_wanted(m, ours, &out->wanted);
    }
    return false;
}

/* How many names of the file that begin with the prefix mean something without it. */
static size_t count_matches(const matcher *m, const char *prefix)
{
    size_t length = strlen(prefix), n = 0;
    meaning x;
    for (size_t i = 0; i < dg_weights_count(m->w); i++) {
        const char *name = dg_weights_at(m->w, i)->name;
        n += !strncmp(name, prefix, length) && understand(m, name + length, &x);
    }
    return n;
}

/* The prefix of none, one or two words with the most matches; the shorter of equals. */
static void choose_prefix(const matcher *m)
{
    enum { N = sizeof words / sizeof *words };
    size_t best = count_matches(m, "");
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k <= N; k++) {
            char prefix[sizeof m->out->prefix];
            snprintf(prefix, sizeof prefix, "%s%s", words[i], k ? words[k - 1] : "");
            size_t n = count_matches(m, prefix);
            if (n < best || (n == best && (best == 0 || strlen(prefix) >= strlen(m->out->prefix)))) continue;
            best = n;
            snprintf(m->out->prefix, sizeof m->out->prefix, "%s", prefix);
        }
}

static dg_status place(const matcher *m, size_t i, const meaning *x, bool fill_only)
{
    const dg_weight *t = dg_weights_at(m->w, i);
    dg_name_match *match = &m->out->matches[x->wanted];
    const dg_weight **slot = &match->parts[x->part - 1];
    if (*slot || (match->n_parts && match->n_parts != x->parts)) {
        if (fill_only) return DG_OK;
        const dg_weight *other = match->parts[0]   ? match->parts[0]
                                 : match->parts[1] ? match->parts[1]
                                                   : match->parts[2];
        return dg_fail(m->err, DG_ERR_MISMATCH, "the tensors '%.200s' and '%.200s' both mean '%.200s'",
                       other->name, t->name, m->wanted[x->wanted].name);
    }
    *slot = t;
    match->n_parts = x->parts;
    m->used[i] = true;
    if (x->rule >= 0) m->out->rule_uses[x->rule]++;
    return DG_OK;
}

/* First the names with the prefix, then those without it for what is still missing. */
static dg_status place_all(const matcher *m)
{
    size_t length = strlen(m->out->prefix);
    meaning x;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < dg_weights_count(m->w); i++) {
            const char *name = dg_weights_at(m->w, i)->name;
            bool has = !strncmp(name, m->out->prefix, length);
            if (has != (pass == 0) || !understand(m, name + (has ? length : 0), &x)) continue;
            DG_TRY(place(m, i, &x, pass == 1));
        }
    return DG_OK;
}

static bool same_shape(const dg_name_match *match, const dg_wanted *wanted)
{
    int64_t rows = 0;
    for (int k = 0; k < match->n_parts; k++) {
        const dg_weight *t = match->parts[k];
        if (t->rank != wanted->rank || (t->rank == 0 && match->n_parts > 1)) return false;
        for (int d = 1; d < t->rank; d++)
            if (t->dims[d] != wanted->dims[d]) return false;
        rows += t->rank ? t->dims[0] : 0;
    }
    return wanted->rank == 0 || rows == wanted->dims[0];
}

static dg_status summarise(const matcher *m)
{
    dg_names *out = m->out;
    size_t count = dg_weights_count(m->w);
    for (size_t i = 0; i < m->n; i++) {
        dg_name_match *match = &out->matches[i];
        bool whole = match->n_parts > 0;
        for (int k = 0; k < match->n_parts; k++) whole = whole && match->parts[k];
        if (!whole) *match = (dg_name_match){.n_parts = 0};
        match->same_shape = whole && same_shape(match, &m->wanted[i]);
        out->n_missing += !whole;
        out->n_found += match->same_shape;
        out->n_other_shape += whole && !match->same_shape;
    }
    out->left_over = dg_calloc(count, sizeof *out->left_over);
    if (!out->left_over) return dg_fail(m->err, DG_ERR_NOMEM, "out of memory while matching names");
    for (size_t i = 0; i < count; i++)
        if (!m->used[i]) out->left_over[out->n_left_over++] = dg_weights_at(m->w, i);
    return DG_OK;
}

dg_status dg_names_match(const dg_weights *w, const dg_wanted *wanted, size_t n, dg_names *out, dg_error *err)
{
    *out = (dg_names){.n = n};
    matcher m = {.w = w, .wanted = wanted, .n = n, .out = out, .err = err};
    out->matches = dg_calloc(n, sizeof *out->matches);
    m.sorted = dg_calloc(n, sizeof *m.sorted);
    m.used = dg_calloc(dg_weights_count(w), sizeof *m.used);
    dg_status s = out->matches && m.sorted && m.used
                      ? DG_OK
                      : dg_fail(err, DG_ERR_NOMEM, "out of memory while matching names");
    if (s == DG_OK) {
        for (size_t i = 0; i < n; i++) m.sorted[i] = &wanted[i];
        qsort(m.sorted, n, sizeof *m.sorted, by_name);
        choose_prefix(&m);
        s = place_all(&m);
    }
    if (s == DG_OK) s = summarise(&m);
    dg_free(m.sorted);
    dg_free(m.used);
    return s;
}

void dg_names_free(dg_names *names)
{
    dg_free(names->matches);
    dg_free(names->left_over);
    *names = (dg_names){0};
}

/* ---- for people */

static void put_shape(dg_str *out, int rank, const int64_t *dims)
{
    dg_str_puts(out, "[");
    for (int i = 0; i < rank; i++) dg_str_printf(out, i ? ",%lld" : "%lld", (long long)dims[i]);
    dg_str_puts(out, "]");
}

static void put_more(dg_str *out, size_t n, size_t limit)
{
    if (n > limit) dg_str_printf(out, "  ... and %zu more\n", n - limit);
}

static void report_missing(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out)
{
    size_t shown = 0;
    if (names->n_missing) dg_str_printf(out, "missing in the file: %zu\n", names->n_missing);
    for (size_t i = 0; i < names->n; i++) {
        if (names->matches[i].n_parts || shown++ >= limit) continue;
        dg_str_printf(out, "  %s ", wanted[i].name);
        put_shape(out, wanted[i].rank, wanted[i].dims);
        dg_str_puts(out, "\n");
    }
    put_more(out, names->n_missing, limit);
}

static void report_shapes(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out)
{
    size_t shown = 0;
    if (names->n_other_shape) dg_str_printf(out, "of another shape: %zu\n", names->n_other_shape);
    for (size_t i = 0; i < names->n; i++) {
        const dg_name_match *m = &names->matches[i];
        if (!m->n_parts || m->same_shape || shown++ >= limit) continue;
        dg_str_printf(out, "  %s wants ", wanted[i].name);
        put_shape(out, wanted[i].rank, wanted[i].dims);
        for (int k = 0; k < m->n_parts; k++) {
            dg_str_printf(out, "%s %s ", k ? " +" : ", the file has", m->parts[k]->name);
            put_shape(out, m->parts[k]->rank, m->parts[k]->dims);
        }
        dg_str_puts(out, "\n");
    }
    put_more(out, names->n_other_shape, limit);
}

static void put_rule(dg_str *out, int i)
{
    dg_str_printf(out, "%s -> %s", rules[i].from, rules[i].to);
    if (rules[i].parts > 1) dg_str_printf(out, " (part %d of %d)", rules[i].part, rules[i].parts);
}

void dg_names_report(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out)
{
    dg_str_printf(out, "%zu of %zu tensors found\n", names->n_found, names->n);
    if (names->prefix[0]) dg_str_printf(out, "prefix '%s' stripped\n", names->prefix);
    for (int i = 0; i < DG_NAME_RULES; i++) {
        if (!names->rule_uses[i]) continue;
        dg_str_puts(out, "rule ");
        put_rule(out, i);
        dg_str_printf(out, ": %u tensors\n", names->rule_uses[i]);
    }
    report_missing(names, wanted, limit, out);
    report_shapes(names, wanted, limit, out);
    if (names->n_left_over) dg_str_printf(out, "left over in the file: %zu\n", names->n_left_over);
    for (size_t i = 0; i < names->n_left_over && i < limit; i++) {
        dg_str_printf(out, "  %s ", names->left_over[i]->name);
        put_shape(out, names->left_over[i]->rank, names->left_over[i]->dims);
        dg_str_puts(out, "\n");
    }
    put_more(out, names->n_left_over, limit);
}

void dg_names_print_rules(dg_str *out)
{
    dg_str_puts(out, "prefixes, up to two:");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) dg_str_printf(out, " %s", words[i]);
    dg_str_puts(out, "\n");
    for (int i = 0; i < DG_NAME_RULES; i++) {
        put_rule(out, i);
        dg_str_puts(out, "\n");
    }
}

dg_status dg_name_match_read_f32(const dg_name_match *m, float *out, size_t room, dg_error *err)
{
    for (int k = 0; k < m->n_parts; k++) {
        DG_TRY(dg_weight_read_f32(m->parts[k], out, room, err));
        out += m->parts[k]->count;
        room -= (size_t)m->parts[k]->count;
    }
    return DG_OK;
}
