/* file.c - a vision transformer in a weights file: under which prefix, its sizes, the shape of every tensor.
 */
#include "teacher.h"

/* A name and its shape. A letter is a size: W width, Q 3 width, H MLP, P rows of positions, N outputs of the
 * head, C colours, Y, X patch height and width, I one. */
typedef struct row {
    const char *name, *shape;
} row;

static const row top_rows[] = {
    {"patch_embed.proj.weight", "WCYX"}, {"patch_embed.proj.bias", "W"}, {"pos_embed", "IPW"}};
static const row class_rows[] = {{"cls_token", "IIW"}};
static const row head_rows[] = {{"head.weight", "NW"}, {"head.bias", "N"}};
static const row block_rows[] = {
    {"norm1.weight", "W"},      {"norm1.bias", "W"},     {"attn.qkv.weight", "QW"}, {"attn.qkv.bias", "Q"},
    {"attn.proj.weight", "WW"}, {"attn.proj.bias", "W"}, {"norm2.weight", "W"},     {"norm2.bias", "W"},
    {"mlp.fc1.weight", "HW"},   {"mlp.fc1.bias", "H"},   {"mlp.fc2.weight", "WH"},  {"mlp.fc2.bias", "W"},
};
#define COUNT(ROWS) (sizeof(ROWS) / sizeof(ROWS)[0])
#define MOST_DEPTH 4096

/* What training wrappers and larger models put before the names. */
static const char *const prefixes[] = {"", "model.", "module.", "encoder.", "backbone.", "visual.trunk."};

/* Beside the blocks, what would change the tokens and is not computed here. */
static const char *const not_known[] = {"reg_token", "norm_pre.weight", "dist_token"};

static int64_t size_of(const teacher_sizes *s, char letter)
{
    switch (letter) {
    case 'W':
        return s->width;
    case 'Q':
        return 3 * s->width;
    case 'H':
        return s->hidden;
    case 'P':
        return s->position_rows;
    case 'N':
        return s->classes;
    case 'C':
        return 3;
    case 'Y':
        return s->patch[0];
    case 'X':
        return s->patch[1];
    default:
        return 1;
    }
}

/* ---- tensors */

#define FAIL(CODE, ...) dg_fail_key(err, CODE, "tokenizer.weights", __VA_ARGS__)

typedef struct look {
    const dg_host *host;
    const teacher_file *file;
    const char *path;
    dg_error *err;
} look;

static bool find(const look *l, const char *name, dg_tensor_info *info)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s", l->file->prefix, name);
    return l->host->weights_find(l->file->weights, full, info);
}

static dg_status need(const look *l, const char *name, dg_tensor_info *info)
{
    dg_error *err = l->err;
    if (find(l, name, info)) return DG_OK;
    return FAIL(DG_ERR_FORMAT,
                "%s: the tensor '%s%s' is missing; the file may be cut short, or hold another kind of model",
                l->path, l->file->prefix, name);
}

/* `before`: "" or "blocks.3.". */
static dg_status check_rows(const look *l, const teacher_sizes *s, const char *before, const row *rows,
                            size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[128], want_text[96], have_text[96];
        dg_tensor_info info;
        dg_error *err = l->err;
        dg_type want = {DG_NONE, (int32_t)strlen(rows[i].shape), {0}};
        for (int32_t k = 0; k < want.rank; k++) want.dims[k] = size_of(s, rows[i].shape[k]);
        snprintf(name, sizeof name, "%s%s", before, rows[i].name);
        DG_TRY(need(l, name, &info));
        dg_type have = dg_make_type(DG_NONE, info.dims, (size_t)info.rank);
        if (!dg_same_dims(&want, &have))
            return FAIL(DG_ERR_FORMAT, "%s: the tensor '%s%s' is %s; the rest of the transformer needs %s",
                        l->path, l->file->prefix, name,
                        strchr(dg_type_text(&have, have_text, sizeof have_text), '['),
                        strchr(dg_type_text(&want, want_text, sizeof want_text), '['));
    }
    return DG_OK;
}

/* Layer scale, norms of queries and the like: named, not dropped. */
static dg_status refuse_unknown(const look *l)
{
    dg_error *err = l->err;
    dg_tensor_info info;
    char block[64];
    size_t n = (size_t)snprintf(block, sizeof block, "%sblocks.0.", l->file->prefix);
    for (size_t i = 0; l->host->weights_at(l->file->weights, i, &info); i++) {
        bool known = strncmp(info.name, block, n) != 0;
        for (size_t k = 0; !known && k < COUNT(block_rows); k++)
            known = strcmp(info.name + n, block_rows[k].name) == 0;
        if (!known)
            return FAIL(
                DG_ERR_UNSUPPORTED,
                "%s: the blocks have a part that tokenizer vit does not compute: '%s'; it takes plain "
                "pre-norm transformers",
                l->path, info.name);
    }
    for (size_t i = 0; i < COUNT(not_known); i++)
        if (find(l, not_known[i], &info))
            return FAIL(DG_ERR_UNSUPPORTED, "%s: tokenizer vit does not compute '%s'", l->path, info.name);
    return DG_OK;
}

static dg_status find_prefix(const look *l, teacher_file *file)
{
    dg_error *err = l->err;
    dg_tensor_info info;
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        snprintf(file->prefix, sizeof file->prefix, "%s", prefixes[i]);
        if (find(l, "patch_embed.proj.weight", &info) && find(l, "blocks.0.norm1.weight", &info))
            return DG_OK;
    }
    bool any = l->host->weights_at(file->weights, 0, &info);
    return FAIL(
        DG_ERR_FORMAT,
        "%s holds no vision transformer under timm's names: 'patch_embed.proj.weight' and "
        "'blocks.0.norm1.weight' are not among its %zu tensors%s%.100s%s; CLIP's image towers are read by "
        "tokenizer clip",
        l->path, l->host->weights_count(file->weights), any ? ", such as '" : "", any ? info.name : "",
        any ? "'" : "");
}

static dg_status read_sizes(const look *l, teacher_sizes *s)
{
    dg_error *err = l->err;
    dg_tensor_info info;
    char name[64];
    DG_TRY(need(l, "patch_embed.proj.weight", &info));
    if (info.rank != 4 || info.dims[1] != 3 || info.dims[0] < 1 || info.dims[2] < 1 || info.dims[3] < 1)
        return FAIL(DG_ERR_FORMAT,
                    "%s: the tensor '%s' is no convolution of 3 colours [width, 3, height, width]", l->path,
                    info.name);
    *s = (teacher_sizes){.width = info.dims[0], .patch = {info.dims[2], info.dims[3]}};
    DG_TRY(need(l, "pos_embed", &info));
    s->position_rows = info.rank == 3 ? info.dims[1] : 0;
    do snprintf(name, sizeof name, "blocks.%lld.norm1.weight", (long long)s->depth);
    while (find(l, name, &info) && ++s->depth < MOST_DEPTH);
    DG_TRY(need(l, "blocks.0.mlp.fc1.weight", &info));
    s->hidden = info.rank == 2 ? info.dims[0] : 0;
    s->class_token = find(l, "cls_token", &info);
    s->norm = find(l, "norm.weight", &info) ? "norm" : find(l, "fc_norm.weight", &info) ? "fc_norm" : NULL;
    if (find(l, "head.weight", &info) && info.rank == 2) s->classes = info.dims[0];
    return DG_OK;
}

dg_status teacher_find(const dg_host *host, teacher_file *file, const char *path, teacher_sizes *s,
                       dg_error *err)
{
    const look l = {host, file, path, err};
    char name[32];
    DG_TRY(find_prefix(&l, file));
    DG_TRY(read_sizes(&l, s));
    DG_TRY(refuse_unknown(&l));
    DG_TRY(check_rows(&l, s, "", top_rows, COUNT(top_rows)));
    if (s->class_token) DG_TRY(check_rows(&l, s, "", class_rows, COUNT(class_rows)));
    if (s->classes) DG_TRY(check_rows(&l, s, "", head_rows, COUNT(head_rows)));
    if (s->norm) {
        const row norm_rows[] = {{"weight", "W"}, {"bias", "W"}};
        snprintf(name, sizeof name, "%s.", s->norm);
        DG_TRY(check_rows(&l, s, name, norm_rows, COUNT(norm_rows)));
    }
    for (int64_t i = 0; i < s->depth; i++) {
        snprintf(name, sizeof name, "blocks.%lld.", (long long)i);
        DG_TRY(check_rows(&l, s, name, block_rows, COUNT(block_rows)));
    }
    return DG_OK;
}

/* ---- counting */

static int64_t count_rows(const teacher_sizes *s, const row *rows, size_t n)
{
    int64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t count = 1;
        for (const char *c = rows[i].shape; *c; c++) count *= size_of(s, *c);
        total += count;
    }
    return total;
}

int64_t teacher_count(const teacher_sizes *s, int64_t depth, bool norm, bool head)
{
    return count_rows(s, top_rows, COUNT(top_rows)) + depth * count_rows(s, block_rows, COUNT(block_rows)) +
           (s->class_token ? s->width : 0) + (norm ? 2 * s->width : 0) +
           (head ? count_rows(s, head_rows, COUNT(head_rows)) : 0);
}
