/* names.c - see names.h. */
#include "names.h"

#include <stdlib.h>

#include "base/mem.h"

/* Words that training wrappers and larger models put before a vision transformer's names; up to two of them.
 */
static const char *const words[] = {"module.", "model.", "visual.",  "encoder.", "backbone.",    "vit.",
                                    "trunk.",  "clip.",  "student.", "teacher.", "vision_model."};

/* A file's encoder is where this is: text towers have blocks of the same names, and none of these. */
static const char anchor[] = "patch_embed.proj.weight";

#define BIT(NAMING) (1u << DG_NAMING_##NAMING)

/* Our names: official, and timm's and MAE's as far as their models have them. '#' is a number, '*' the rest
 * of the name. */
static const struct {
    const char *name;
    uint32_t namings;
    bool outer;   /* a head or a decoder */
    bool decoder; /* of MAE; some of these names are D-iGPT's too, where they are official only */
} ours_table[] = {
    {"cls_token", BIT(TIMM) | BIT(MAE), false, false},
    {"pos_embed", BIT(TIMM) | BIT(MAE), false, false},
    {"patch_embed.proj.*", BIT(TIMM) | BIT(MAE), false, false},
    {"norm_pre.*", BIT(TIMM), false, false},
    {"blocks.#.*", BIT(TIMM) | BIT(MAE), false, false},
    {"norm.*", BIT(TIMM) | BIT(MAE), false, false},
    {"fc_norm.*", BIT(TIMM) | BIT(MAE), false, false},
    {"head.*", BIT(TIMM) | BIT(MAE), true, false},
    {"mask_token", BIT(MAE), true, true},
    {"decoder_*", BIT(MAE), true, true},
    {"ar_*", 0, true, false},
    {"kd_*", 0, true, false},
    {"mask", 0, true, false},
};

/* Their names and ours, and how they are stored: part 1..3 of `parts` follow along axis 0; `lead` axes of 1
 * are ours alone. Of Hugging Face: ViTModel, ViTForImageClassification, ViTMAEForPreTraining; CLIPModel. */
static const struct {
    const char *from, *to;
    dg_naming naming;
    int32_t part, parts, lead;
    bool transpose;
} rules[DG_NAME_RULES] = {
#define ROW(NAMING, FROM, TO)                                                                                \
    {                                                                                                        \
        FROM, TO, DG_NAMING_##NAMING, 1, 1, 0, false                                                         \
    }
#define PART(NAMING, FROM, TO, PART)                                                                         \
    {                                                                                                        \
        FROM, TO, DG_NAMING_##NAMING, PART, 3, 0, false                                                      \
    }
#define LEAD(NAMING, FROM, TO, AXES)                                                                         \
    {                                                                                                        \
        FROM, TO, DG_NAMING_##NAMING, 1, 1, AXES, false                                                      \
    }
    ROW(HF_VIT, "embeddings.cls_token", "cls_token"),
    ROW(HF_VIT, "embeddings.position_embeddings", "pos_embed"),
    ROW(HF_VIT, "embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
    ROW(HF_VIT, "encoder.layer.#.layernorm_before.*", "blocks.#.norm1.*"),
    ROW(HF_VIT, "encoder.layer.#.layernorm_after.*", "blocks.#.norm2.*"),
    PART(HF_VIT, "encoder.layer.#.attention.attention.query.*", "blocks.#.attn.qkv.*", 1),
    PART(HF_VIT, "encoder.layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", 2),
    PART(HF_VIT, "encoder.layer.#.attention.attention.value.*", "blocks.#.attn.qkv.*", 3),
    ROW(HF_VIT, "encoder.layer.#.attention.output.dense.*", "blocks.#.attn.proj.*"),
    ROW(HF_VIT, "encoder.layer.#.intermediate.dense.*", "blocks.#.mlp.fc1.*"),
    ROW(HF_VIT, "encoder.layer.#.output.dense.*", "blocks.#.mlp.fc2.*"),
    ROW(HF_VIT, "layernorm.*", "norm.*"),
    ROW(HF_VIT, "classifier.*", "head.*"),
    ROW(HF_VIT, "decoder.mask_token", "mask_token"),
    ROW(HF_VIT, "decoder.decoder_pos_embed", "decoder_pos_embed"),
    ROW(HF_VIT, "decoder.decoder_embed.*", "decoder_embed.*"),
    ROW(HF_VIT, "decoder.decoder_norm.*", "decoder_norm.*"),
    ROW(HF_VIT, "decoder.decoder_pred.*", "decoder_pred.*"),
    ROW(HF_VIT, "decoder.decoder_layers.#.layernorm_before.*", "decoder_blocks.#.norm1.*"),
    ROW(HF_VIT, "decoder.decoder_layers.#.layernorm_after.*", "decoder_blocks.#.norm2.*"),
    PART(HF_VIT, "decoder.decoder_layers.#.attention.attention.query.*", "decoder_blocks.#.attn.qkv.*", 1),
    PART(HF_VIT, "decoder.decoder_layers.#.attention.attention.key.*", "decoder_blocks.#.attn.qkv.*", 2),
    PART(HF_VIT, "decoder.decoder_layers.#.attention.attention.value.*", "decoder_blocks.#.attn.qkv.*", 3),
    ROW(HF_VIT, "decoder.decoder_layers.#.attention.output.dense.*", "decoder_blocks.#.attn.proj.*"),
    ROW(HF_VIT, "decoder.decoder_layers.#.intermediate.dense.*", "decoder_blocks.#.mlp.fc1.*"),
    ROW(HF_VIT, "decoder.decoder_layers.#.output.dense.*", "decoder_blocks.#.mlp.fc2.*"),
    LEAD(OPENCLIP, "class_embedding", "cls_token", 2),
    LEAD(OPENCLIP, "positional_embedding", "pos_embed", 1),
    ROW(OPENCLIP, "conv1.*", "patch_embed.proj.*"),
    ROW(OPENCLIP, "ln_pre.*", "norm_pre.*"),
    ROW(OPENCLIP, "ln_post.*", "norm.*"),
    {"proj", "head.weight", DG_NAMING_OPENCLIP, 1, 1, 0, true},
    ROW(OPENCLIP, "transformer.resblocks.#.ln_1.*", "blocks.#.norm1.*"),
    ROW(OPENCLIP, "transformer.resblocks.#.ln_2.*", "blocks.#.norm2.*"),
    ROW(OPENCLIP, "transformer.resblocks.#.attn.in_proj_weight", "blocks.#.attn.qkv.weight"),
    ROW(OPENCLIP, "transformer.resblocks.#.attn.in_proj_bias", "blocks.#.attn.qkv.bias"),
    ROW(OPENCLIP, "transformer.resblocks.#.attn.out_proj.*", "blocks.#.attn.proj.*"),
    ROW(OPENCLIP, "transformer.resblocks.#.mlp.c_fc.*", "blocks.#.mlp.fc1.*"),
    ROW(OPENCLIP, "transformer.resblocks.#.mlp.c_proj.*", "blocks.#.mlp.fc2.*"),
    LEAD(HF_CLIP, "embeddings.class_embedding", "cls_token", 2),
    LEAD(HF_CLIP, "embeddings.position_embedding.weight", "pos_embed", 1),
    ROW(HF_CLIP, "embeddings.patch_embedding.*", "patch_embed.proj.*"),
    ROW(HF_CLIP, "pre_layrnorm.*", "norm_pre.*"), /* their spelling */
    ROW(HF_CLIP, "post_layernorm.*", "norm.*"),
    ROW(HF_CLIP, "visual_projection.weight", "head.weight"),
    ROW(HF_CLIP, "encoder.layers.#.layer_norm1.*", "blocks.#.norm1.*"),
    ROW(HF_CLIP, "encoder.layers.#.layer_norm2.*", "blocks.#.norm2.*"),
    PART(HF_CLIP, "encoder.layers.#.self_attn.q_proj.*", "blocks.#.attn.qkv.*", 1),
    PART(HF_CLIP, "encoder.layers.#.self_attn.k_proj.*", "blocks.#.attn.qkv.*", 2),
    PART(HF_CLIP, "encoder.layers.#.self_attn.v_proj.*", "blocks.#.attn.qkv.*", 3),
    ROW(HF_CLIP, "encoder.layers.#.self_attn.out_proj.*", "blocks.#.attn.proj.*"),
    ROW(HF_CLIP, "encoder.layers.#.mlp.*", "blocks.#.mlp.*"),
};

/* What one name of the file means. */
typedef struct meaning {
    size_t wanted; /* index */
    int32_t part, parts;
    int32_t rule; /* -1: the name is ours */
} meaning;

#define PREFIX_SIZE sizeof((dg_names *)0)->prefix

typedef struct matcher {
    const dg_weights *w;
    const dg_wanted *wanted;  /* NULL: everything that is one of ours */
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

/* The rule that `name` fits, read from theirs to ours or from ours to theirs, and what it becomes; -1: none.
 */
static int32_t apply_rule(int32_t i, bool backwards, const char *name, char *out, size_t size)
{
    char number[12];
    const char *rest;
    if (!fits(backwards ? rules[i].to : rules[i].from, name, number, &rest)) return -1;
    rename_to(backwards ? rules[i].from : rules[i].to, number, rest, out, size);
    return i;
}

/* The row of ours_table, or -1. */
static int find_ours(const char *name)
{
    char number[12];
    const char *rest;
    for (size_t i = 0; i < sizeof ours_table / sizeof *ours_table; i++)
        if (fits(ours_table[i].name, name, number, &rest)) return (int)i;
    return -1;
}

static bool is_wanted(const matcher *m, const char *ours, size_t *index)
{
    return m->wanted ? find_wanted(m, ours, index) : find_ours(ours) >= 0;
}

/* What a name without its prefix means, and how it is called by us. */
static bool understand(const matcher *m, const char *name, meaning *out, char ours[512])
{
    *out = (meaning){0, 1, 1, -1};
    if (strlen(name) >= 512) return false;
    snprintf(ours, 512, "%s", name);
    if (is_wanted(m, name, &out->wanted)) return true;
    for (int32_t i = 0; i < DG_NAME_RULES; i++) {
        if (apply_rule(i, false, name, ours, 512) < 0) continue;
        *out = (meaning){0, rules[i].part, rules[i].parts, i};
        return is_wanted(m, ours, &out->wanted);
    }
    return false;
}

/* How many names of the file that begin with the prefix mean something without it; far more if one of them
 * is the anchor. */
static size_t count_matches(const matcher *m, const char *prefix)
{
    size_t length = strlen(prefix), n = 0;
    bool has_anchor = false;
    char ours[512];
    meaning x;
    for (size_t i = 0; i < dg_weights_count(m->w); i++) {
        const char *name = dg_weights_at(m->w, i)->name;
        if (strncmp(name, prefix, length) != 0 || !understand(m, name + length, &x, ours)) continue;
        has_anchor |= !strcmp(ours, anchor);
        n++;
    }
    return has_anchor ? n + SIZE_MAX / 2 : n;
}

/* The prefix of none, one or two words with the most matches; the shorter of equals. */
static void choose_prefix(const matcher *m, char *chosen, size_t size)
{
    enum { N = sizeof words / sizeof *words };
    size_t best = count_matches(m, "");
    chosen[0] = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k <= N; k++) {
            char prefix[PREFIX_SIZE];
            snprintf(prefix, sizeof prefix, "%s%s", words[i], k ? words[k - 1] : "");
            size_t n = count_matches(m, prefix);
            if (n < best || (n == best && (best == 0 || strlen(prefix) >= strlen(chosen)))) continue;
            best = n;
            snprintf(chosen, size, "%s", prefix);
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
    if (x->rule < 0) return DG_OK;
    match->lead = rules[x->rule].lead;
    match->transpose = rules[x->rule].transpose;
    m->out->rule_uses[x->rule]++;
    return DG_OK;
}

/* First the names with the prefix, then those without it for what is still missing, but for blocks: they
 * would be another tower's. */
static dg_status place_all(const matcher *m)
{
    size_t length = strlen(m->out->prefix);
    char ours[512];
    meaning x;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < dg_weights_count(m->w); i++) {
            const char *name = dg_weights_at(m->w, i)->name;
            bool has = !strncmp(name, m->out->prefix, length);
            if (has != (pass == 0) || !understand(m, name + (has ? length : 0), &x, ours)) continue;
            if (pass == 1 && !strncmp(ours, "blocks.", 7)) continue;
            DG_TRY(place(m, i, &x, pass == 1));
        }
    return DG_OK;
}

/* The shape, in our layout, of parts that follow each other along axis 0. False if they do not go together.
 */
static bool shape_of(const dg_weight *const *parts, int32_t n_parts, int32_t lead, bool transpose,
                     dg_wanted *out)
{
    const dg_weight *first = parts[0];
    if (first->rank + lead > DG_MAX_RANK || (n_parts > 1 && first->rank + lead == 0)) return false;
    if (transpose && first->rank != 2) return false;
    out->rank = first->rank + lead;
    for (int32_t i = 0; i < lead; i++) out->dims[i] = 1;
    for (int32_t i = 0; i < first->rank; i++)
        out->dims[lead + i] = first->dims[transpose ? first->rank - 1 - i : i];
    for (int32_t k = 1; k < n_parts; k++) {
        if (parts[k]->rank != first->rank) return false;
        for (int32_t d = 1; d < first->rank; d++)
            if (parts[k]->dims[d] != first->dims[d]) return false;
        if (__builtin_add_overflow(out->dims[0], parts[k]->dims[0], &out->dims[0])) return false;
    }
    return true;
}

static bool same_shape(const dg_name_match *match, const dg_wanted *wanted)
{
    dg_wanted have;
    if (!shape_of(match->parts, match->n_parts, match->lead, match->transpose, &have)) return false;
    if (have.rank != wanted->rank) return false;
    for (int32_t d = 0; d < have.rank; d++)
        if (have.dims[d] != wanted->dims[d]) return false;
    return true;
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
        choose_prefix(&m, out->prefix, sizeof out->prefix);
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

/* ---- what a file has, without a model */

typedef struct found {
    const char *ours;
    const dg_weight *weight;
    meaning meaning;
} found;

static int by_ours(const void *a, const void *b)
{
    const found *x = a, *y = b;
    int c = strcmp(x->ours, y->ours);
    return c ? c : (x->meaning.part > y->meaning.part) - (x->meaning.part < y->meaning.part);
}

/* The tensors under the prefix, and heads and decoders beside it. */
static dg_status find_all(const matcher *m, const char *prefix, dg_arena *arena, found *list, size_t *n)
{
    size_t length = strlen(prefix);
    char ours[512];
    for (size_t i = 0; i < dg_weights_count(m->w); i++) {
        const dg_weight *t = dg_weights_at(m->w, i);
        bool has = !strncmp(t->name, prefix, length);
        found f = {.weight = t};
        if (!understand(m, t->name + (has ? length : 0), &f.meaning, ours)) continue;
        if (!has && !dg_names_is_outer(ours)) continue;
        f.ours = dg_arena_strdup(arena, ours);
        if (!f.ours) return dg_fail(m->err, DG_ERR_NOMEM, "out of memory while matching names");
        list[(*n)++] = f;
    }
    return DG_OK;
}

/* The tensor of ours that list[0..n), all of one name, make up: as far as they go together. */
static dg_wanted gather(const found *list, size_t n)
{
    const dg_weight *parts[3];
    size_t k = 0;
    for (; k < n && k < 3; k++) parts[k] = list[k].weight;
    int32_t rule = list[0].meaning.rule;
    int32_t lead = rule < 0 ? 0 : rules[rule].lead;
    bool transpose = rule >= 0 && rules[rule].transpose;
    dg_wanted out = {.name = list[0].ours};
    if (!shape_of(parts, (int32_t)k, lead, transpose, &out)) shape_of(parts, 1, 0, false, &out);
    return out;
}

dg_status dg_names_known(const dg_weights *w, dg_arena *arena, dg_wanted **known, size_t *n, dg_error *err)
{
    size_t count = dg_weights_count(w), n_found = 0;
    matcher m = {.w = w, .err = err};
    char prefix[PREFIX_SIZE];
    found *list = dg_calloc(count, sizeof *list);
    dg_wanted *out = dg_arena_alloc(arena, (count + 1) * sizeof *out);
    bool has_anchor = false;
    *n = 0;
    *known = out;
    dg_status s =
        list && out ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory for the names of %zu tensors", count);
    if (s == DG_OK) {
        choose_prefix(&m, prefix, sizeof prefix);
        s = find_all(&m, prefix, arena, list, &n_found);
    }
    if (s == DG_OK && n_found) qsort(list, n_found, sizeof *list, by_ours);
    for (size_t i = 0, k; s == DG_OK && i < n_found; i = k) {
        for (k = i + 1; k < n_found && !strcmp(list[i].ours, list[k].ours); k++) continue;
        has_anchor |= !strcmp(list[i].ours, anchor);
        out[(*n)++] = gather(&list[i], k - i);
    }
    if (!has_anchor) *n = 0;
    dg_free(list);
    return s;
}

/* ---- the way back */

bool dg_names_is_outer(const char *ours)
{
    int row = find_ours(ours);
    return row >= 0 && ours_table[row].outer;
}

static const char *prefix_of(dg_naming naming, const char *ours, bool whole)
{
    switch (naming) {
    case DG_NAMING_OPENCLIP:
        return "visual.";
    case DG_NAMING_HF_CLIP:
        return dg_names_is_outer(ours) ? "" : "vision_model.";
    case DG_NAMING_HF_VIT:
        return whole && !dg_names_is_outer(ours) ? "vit." : "";
    default:
        return "";
    }
}

dg_name_place dg_names_place(dg_naming naming, const char *ours, bool decoder, bool whole)
{
    dg_name_place out = {.rules = {-1, -1, -1}};
    int row = find_ours(ours);
    if (row < 0 || strlen(ours) >= sizeof out.names[0]) return out;
    if (naming != DG_NAMING_OFFICIAL && ours_table[row].decoder && !decoder) return out;
    if (naming == DG_NAMING_OFFICIAL || ours_table[row].namings & (1u << naming)) {
        out.n_parts = 1;
        snprintf(out.names[0], sizeof out.names[0], "%s", ours);
        return out;
    }
    for (int32_t i = 0; i < DG_NAME_RULES; i++) {
        char name[512];
        if (rules[i].naming != naming || apply_rule(i, true, ours, name, sizeof name) < 0) continue;
        int n = snprintf(out.names[rules[i].part - 1], sizeof out.names[0], "%s%s",
                         prefix_of(naming, ours, whole), name);
        if (n < 0 || (size_t)n >= sizeof out.names[0]) return (dg_name_place){.n_parts = 0};
        out.rules[rules[i].part - 1] = i;
        out.n_parts = rules[i].parts;
        out.lead = rules[i].lead;
        out.transpose = rules[i].transpose;
    }
    return out;
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

void dg_names_print_rule(int32_t i, dg_str *out)
{
    dg_str_printf(out, "%s -> %s", rules[i].from, rules[i].to);
    if (rules[i].parts > 1) dg_str_printf(out, " (part %d of %d)", rules[i].part, rules[i].parts);
    if (rules[i].transpose) dg_str_puts(out, " (transposed)");
}

void dg_names_report(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out)
{
    dg_str_printf(out, "%zu of %zu tensors found\n", names->n_found, names->n);
    if (names->prefix[0]) dg_str_printf(out, "prefix '%s' stripped\n", names->prefix);
    for (int i = 0; i < DG_NAME_RULES; i++) {
        if (!names->rule_uses[i]) continue;
        dg_str_puts(out, "rule ");
        dg_names_print_rule(i, out);
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
        dg_names_print_rule(i, out);
        dg_str_puts(out, "\n");
    }
}

/* ---- values */

void dg_transpose_bytes(const void *in, size_t rows, size_t columns, size_t size, void *out)
{
    const unsigned char *from = in;
    unsigned char *to = out;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            memcpy(to + (c * rows + r) * size, from + (r * columns + c) * size, size);
}

/* What was read into out, [rows, columns] as in the file, becomes [columns, rows]. */
static dg_status turn(const dg_weight *t, size_t size, void *out, dg_error *err)
{
    void *copy = dg_calloc((size_t)t->count, size);
    if (!copy) return dg_fail(err, DG_ERR_NOMEM, "no memory to transpose '%s'", t->name);
    memcpy(copy, out, (size_t)t->count * size);
    dg_transpose_bytes(copy, (size_t)t->dims[0], (size_t)t->dims[1], size, out);
    dg_free(copy);
    return DG_OK;
}

dg_status dg_name_match_read_f32(const dg_name_match *m, float *out, size_t room, dg_error *err)
{
    float *at = out;
    for (int k = 0; k < m->n_parts; k++) {
        DG_TRY(dg_weight_read_f32(m->parts[k], at, room, err));
        at += m->parts[k]->count;
        room -= (size_t)m->parts[k]->count;
    }
    return m->transpose && m->parts[0]->rank == 2 ? turn(m->parts[0], sizeof *out, out, err) : DG_OK;
}

dg_status dg_name_match_read_raw(const dg_name_match *m, void *out, size_t room, dg_error *err)
{
    unsigned char *at = out;
    for (int k = 0; k < m->n_parts; k++) {
        const dg_weight *t = m->parts[k];
        if (t->dtype != m->parts[0]->dtype)
            return dg_fail(
                err, DG_ERR_MISMATCH, "'%.200s' is %s and '%.200s' is %s: they cannot become one tensor",
                m->parts[0]->name, dg_stored_name(m->parts[0]->dtype), t->name, dg_stored_name(t->dtype));
        DG_TRY(dg_weight_read_raw(t, at, room, err));
        at += t->bytes;
        room -= t->bytes;
    }
    return m->transpose && m->parts[0]->rank == 2
               ? turn(m->parts[0], dg_stored_size(m->parts[0]->dtype), out, err)
               : DG_OK;
}
