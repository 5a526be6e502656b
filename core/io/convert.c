/* convert.c - see convert.h. */
#include "convert.h"

#include <stdlib.h>

#include "safetensors.h"

const char *const dg_convert_words[DG_CONVERT_WORDS] = {"official", "timm", "huggingface", "mae", "openclip"};
static const dg_naming namings[DG_CONVERT_WORDS] = {DG_NAMING_OFFICIAL, DG_NAMING_TIMM, DG_NAMING_HF_VIT,
                                                    DG_NAMING_MAE, DG_NAMING_OPENCLIP};

enum { MOST_LISTED = 12 }; /* names of one kind in the report */

#define MASK(NAMING) (1u << DG_NAMING_##NAMING)

/* What a model of a naming has, and a file made from another kind of model may lack. */
static const struct {
    const char *begins; /* of our names */
    uint32_t namings;
    const char *unless; /* this is there in its place */
} expected[] = {
    {"cls_token", ~0u, NULL},
    {"pos_embed", ~0u, NULL},
    {"norm_pre.", MASK(OPENCLIP) | MASK(HF_CLIP), NULL},
    {"norm.", MASK(MAE) | MASK(HF_VIT) | MASK(OPENCLIP) | MASK(HF_CLIP), NULL},
    {"norm.", MASK(TIMM), "fc_norm."},
    {"head.", MASK(OPENCLIP) | MASK(HF_CLIP), NULL},
};

/* One tensor of the source with its place in the target. */
typedef struct planned {
    const dg_name_match *match;
    const dg_wanted *ours;
    dg_name_place place;
    size_t first; /* number of its first tensor in the written file */
} planned;

typedef struct conversion {
    const dg_weights *w;
    dg_arena arena;
    const char *word;
    dg_naming naming;
    dg_wanted *known; /* [n] */
    dg_names names;
    planned *list; /* [n] */
    dg_st_tensor *tensors;
    size_t n, n_tensors;
    dg_str *report;
    dg_error *err;
} conversion;

/* ---- what there is */

static bool has(const conversion *c, const char *begins)
{
    size_t length = strlen(begins);
    for (size_t i = 0; i < c->n; i++)
        if (!strncmp(c->known[i].name, begins, length)) return true;
    return false;
}

static bool has_name(const conversion *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->known[i].name, name)) return true;
    return false;
}

static dg_status check_block(const conversion *c, const char *name)
{
    char before[512], *rest;
    if (strncmp(name, "blocks.", 7) != 0) return DG_OK;
    long number = strtol(name + 7, &rest, 10);
    if (number <= 0) return DG_OK;
    snprintf(before, sizeof before, "blocks.%ld%s", number - 1, rest);
    if (has_name(c, before)) return DG_OK;
    return dg_fail(c->err, DG_ERR_FORMAT,
                   "'%.200s' is there and '%.200s' is not: the file has holes; is it one of several shards?",
                   name, before);
}

/* Every tensor whole, and every block with the tensors of the next. */
static dg_status check_whole(const conversion *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const dg_name_match *m = &c->names.matches[i];
        if (!m->n_parts)
            return dg_fail(c->err, DG_ERR_FORMAT,
                           "of '%.200s', which is stored in three parts, one or two are missing",
                           c->known[i].name);
        if (!m->same_shape)
            return dg_fail(
                c->err, DG_ERR_FORMAT,
                "'%.200s' has a shape that cannot become '%.200s', or parts that do not go together",
                m->parts[0]->name, c->known[i].name);
        DG_TRY(check_block(c, c->known[i].name));
    }
    return DG_OK;
}

static dg_status choose_naming(conversion *c, int32_t to)
{
    bool is_clip = has(c, "norm_pre.");
    c->word = dg_convert_words[to];
    c->naming = namings[to];
    if (c->naming == DG_NAMING_HF_VIT && is_clip) c->naming = DG_NAMING_HF_CLIP;
    if (c->naming == DG_NAMING_OPENCLIP && !is_clip)
        return dg_fail(
            c->err, DG_ERR_MISMATCH,
            "it holds a vision transformer without a norm before its blocks (ln_pre), which OpenCLIP's "
            "towers have: it cannot become one; timm, huggingface, mae and official are possible");
    if (c->naming == DG_NAMING_MAE && is_clip)
        return dg_fail(
            c->err, DG_ERR_MISMATCH,
            "it holds a CLIP tower, with a norm before its blocks, which MAE's models lack: it cannot "
            "become one; timm, huggingface, openclip and official are possible");
    return DG_OK;
}

/* ---- what is written */

static dg_status add_tensors(conversion *c, planned *p)
{
    const dg_wanted *ours = p->ours;
    p->first = c->n_tensors;
    for (int32_t k = 0; k < p->place.n_parts; k++) {
        dg_st_tensor *t = &c->tensors[c->n_tensors++];
        t->name = p->place.names[k];
        t->dtype = p->match->parts[0]->dtype;
        t->rank = ours->rank - p->place.lead;
        for (int32_t i = 0; i < t->rank; i++)
            t->dims[i] = ours->dims[p->place.transpose ? ours->rank - 1 - i : p->place.lead + i];
        if (p->place.n_parts > 1) t->dims[0] /= p->place.n_parts;
    }
    return DG_OK;
}

/* Whether the target can hold the shape: leading axes to drop, rows to split, a matrix to transpose. */
static bool shape_fits(const dg_wanted *ours, const dg_name_place *place)
{
    if (ours->rank < place->lead || (place->transpose && ours->rank != 2)) return false;
    for (int32_t i = 0; i < place->lead; i++)
        if (ours->dims[i] != 1) return false;
    return place->n_parts <= 1 || (ours->rank > 0 && ours->dims[0] % place->n_parts == 0);
}

static dg_status plan(conversion *c)
{
    bool decoder = has_name(c, "mask_token"), whole = false;
    for (size_t i = 0; i < c->n; i++) {
        dg_name_place place = dg_names_place(c->naming, c->known[i].name, decoder, true);
        whole |= place.n_parts && dg_names_is_outer(c->known[i].name);
    }
    c->list = dg_arena_alloc(&c->arena, c->n * sizeof *c->list);
    c->tensors = dg_arena_alloc(&c->arena, 3 * c->n * sizeof *c->tensors);
    if (!c->list || !c->tensors)
        return dg_fail(c->err, DG_ERR_NOMEM, "no memory for the names of %zu tensors", c->n);
    for (size_t i = 0; i < c->n; i++) {
        planned *p = &c->list[i];
        *p = (planned){&c->names.matches[i], &c->known[i],
                       dg_names_place(c->naming, c->known[i].name, decoder, whole), 0};
        if (!shape_fits(p->ours, &p->place))
            return dg_fail(c->err, DG_ERR_FORMAT, "'%.200s' has a shape that cannot be stored as '%.200s'",
                           p->match->parts[0]->name, p->place.names[0]);
        DG_TRY(add_tensors(c, p));
    }
    return DG_OK;
}

/* The bits of one tensor, and a second buffer for those of a transposed target. */
static dg_status write_tensor(const conversion *c, const planned *p, dg_st_writer *w)
{
    const dg_stored dtype = p->match->parts[0]->dtype;
    const size_t size = dg_stored_size(dtype);
    size_t count = 1;
    for (int32_t i = 0; i < p->ours->rank; i++) count *= (size_t)p->ours->dims[i]; /* checked by the reader */
    const bool turned = p->place.transpose;
    unsigned char *bytes = dg_calloc(count, size), *other = turned ? dg_calloc(count, size) : NULL;
    dg_status s = bytes && (other || !turned)
                      ? dg_name_match_read_raw(p->match, bytes, count * size, c->err)
                      : dg_fail(c->err, DG_ERR_NOMEM, "no memory for '%s'", p->ours->name);
    if (s == DG_OK && turned)
        dg_transpose_bytes(bytes, (size_t)p->ours->dims[0], (size_t)p->ours->dims[1], size, other);
    const size_t part = count * size / (size_t)p->place.n_parts;
    for (int32_t k = 0; s == DG_OK && k < p->place.n_parts; k++)
        s = dg_st_put(w, p->first + (size_t)k, (turned ? other : bytes) + (size_t)k * part, part, c->err);
    dg_free(bytes);
    dg_free(other);
    return s;
}

/* "format": what transformers asks for. A PyTorch file's scalars are the training script's business. */
static size_t gather_texts(const conversion *c, dg_st_meta *meta)
{
    size_t n = 0;
    meta[n++] = (dg_st_meta){"format", "pt"};
    if (dg_weights_meta(c->w, "pytorch.state_dict")) return n;
    for (size_t i = 0; i < dg_weights_meta_count(c->w); i++) {
        const char *key, *value;
        dg_weights_meta_at(c->w, i, &key, &value);
        if (strcmp(key, "format") != 0) meta[n++] = (dg_st_meta){key, value};
    }
    return n;
}

static dg_status write_file(conversion *c, const char *path)
{
    dg_st_writer *w = NULL;
    dg_st_meta *meta = dg_arena_alloc(&c->arena, (dg_weights_meta_count(c->w) + 1) * sizeof *meta);
    if (!meta) return dg_fail(c->err, DG_ERR_NOMEM, "out of memory");
    DG_TRY(dg_st_create(path, c->tensors, c->n_tensors, meta, gather_texts(c, meta), &w, c->err));
    dg_status s = DG_OK;
    for (size_t i = 0; i < c->n && s == DG_OK; i++)
        if (c->list[i].place.n_parts) s = write_tensor(c, &c->list[i], w);
    if (s == DG_OK) return dg_st_finish(w, c->err);
    dg_st_abandon(w);
    return s;
}

/* ---- for people */

static void report_rules(const conversion *c)
{
    uint32_t uses[DG_NAME_RULES] = {0};
    for (size_t i = 0; i < c->n; i++)
        for (int32_t k = 0; k < c->list[i].place.n_parts; k++)
            if (c->list[i].place.rules[k] >= 0) uses[c->list[i].place.rules[k]]++;
    for (int32_t i = 0; i < DG_NAME_RULES; i++) {
        if (!uses[i]) continue;
        dg_str_puts(c->report, "written by ");
        dg_names_print_rule(i, c->report);
        dg_str_printf(c->report, ", backwards: %u tensors\n", uses[i]);
    }
}

static void report_left_out(const conversion *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) n += !c->list[i].place.n_parts;
    if (!n) return;
    dg_str_printf(c->report, "left out, since %s has no place for them: %zu\n", c->word, n);
    size_t shown = 0;
    for (size_t i = 0; i < c->n && shown < MOST_LISTED; i++)
        if (!c->list[i].place.n_parts && ++shown) dg_str_printf(c->report, "  %s\n", c->known[i].name);
    if (n > shown) dg_str_printf(c->report, "  ... and %zu more\n", n - shown);
}

static void report_expected(const conversion *c)
{
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        if (!(expected[i].namings & (1u << c->naming)) || has(c, expected[i].begins)) continue;
        if (expected[i].unless && has(c, expected[i].unless)) continue;
        dg_str_printf(c->report, "missing in the source: %s%s, which a model of %s has\n", expected[i].begins,
                      expected[i].begins[strlen(expected[i].begins) - 1] == '.' ? "*" : "", c->word);
    }
}

static dg_status run(conversion *c, int32_t to, const char *path)
{
    DG_TRY(dg_names_known(c->w, &c->arena, &c->known, &c->n, c->err));
    if (c->n == 0)
        return dg_fail(
            c->err, DG_ERR_FORMAT,
            "no vision transformer is in it: among its %zu tensors no patch embedding has a name of "
            "D-iGPT, timm, MAE, Hugging Face or OpenCLIP",
            dg_weights_count(c->w));
    DG_TRY(dg_names_match(c->w, c->known, c->n, &c->names, c->err));
    DG_TRY(check_whole(c));
    DG_TRY(choose_naming(c, to));
    DG_TRY(plan(c));
    DG_TRY(write_file(c, path));
    dg_names_report(&c->names, c->known, MOST_LISTED, c->report);
    report_rules(c);
    report_left_out(c);
    report_expected(c);
    dg_str_printf(c->report, "%zu tensors written\n", c->n_tensors);
    return dg_str_check(c->report, c->err);
}

dg_status dg_convert(const dg_weights *w, int32_t to, const char *path, dg_str *report, dg_error *err)
{
    conversion c = {.w = w, .report = report, .err = err};
    dg_status s = run(&c, to, path);
    dg_names_free(&c.names);
    dg_arena_free(&c.arena);
    return s;
}
