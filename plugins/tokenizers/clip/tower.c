/* tower.c - a CLIP image tower in a weights file: which names it uses, its sizes, the shape of every tensor.
 */
#include "clip.h"

/* Our names, theirs, and shapes. A letter is a size: W width, Q 3 width, H MLP, T tokens, O projection, C
 * colours, Y, X patch height and width. */
typedef struct row {
    const char *ours;
    const char *shape;
    const char *open;  /* OpenAI and OpenCLIP */
    const char *hf[3]; /* Hugging Face; three are joined along axis 0 */
} row;

static const row top_rows[] = {
    {"class_embedding", "W", "class_embedding", {"embeddings.class_embedding"}},
    {"positional_embedding", "TW", "positional_embedding", {"embeddings.position_embedding.weight"}},
    {"patch_embed.proj.weight", "WCYX", "conv1.weight", {"embeddings.patch_embedding.weight"}},
    {"norm_pre.weight", "W", "ln_pre.weight", {"pre_layrnorm.weight"}}, /* their spelling */
    {"norm_pre.bias", "W", "ln_pre.bias", {"pre_layrnorm.bias"}},
    {"norm.weight", "W", "ln_post.weight", {"post_layernorm.weight"}},
    {"norm.bias", "W", "ln_post.bias", {"post_layernorm.bias"}},
};

static const row block_rows[] = {
    {"norm1.weight", "W", "ln_1.weight", {"layer_norm1.weight"}},
    {"norm1.bias", "W", "ln_1.bias", {"layer_norm1.bias"}},
    {"attn.qkv.weight",
     "QW",
     "attn.in_proj_weight",
     {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}},
    {"attn.qkv.bias",
     "Q",
     "attn.in_proj_bias",
     {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}},
    {"attn.proj.weight", "WW", "attn.out_proj.weight", {"self_attn.out_proj.weight"}},
    {"attn.proj.bias", "W", "attn.out_proj.bias", {"self_attn.out_proj.bias"}},
    {"norm2.weight", "W", "ln_2.weight", {"layer_norm2.weight"}},
    {"norm2.bias", "W", "ln_2.bias", {"layer_norm2.bias"}},
    {"mlp.fc1.weight", "HW", "mlp.c_fc.weight", {"mlp.fc1.weight"}},
    {"mlp.fc1.bias", "H", "mlp.c_fc.bias", {"mlp.fc1.bias"}},
    {"mlp.fc2.weight", "WH", "mlp.c_proj.weight", {"mlp.fc2.weight"}},
    {"mlp.fc2.bias", "W", "mlp.c_proj.bias", {"mlp.fc2.bias"}},
};

#define N_TOP (sizeof top_rows / sizeof top_rows[0])
#define N_BLOCK (sizeof block_rows / sizeof block_rows[0])
#define MOST_LAYERS 4096
#define PROJECTION "head.weight" /* ours; [O, W], which OpenAI and OpenCLIP store as [W, O] */

static const char *const block_prefix[] = {"transformer.resblocks.", "encoder.layers."}; /* by naming */
static const char *const first_tensor[] = {"conv1.weight", "embeddings.patch_embedding.weight"};
static const char *const class_tensor[] = {"class_embedding", "embeddings.class_embedding"};

/* What may stand before them, with what then stands before Hugging Face's projection. */
static const struct {
    enum naming naming;
    const char *prefix, *outer;
} prefixes[] = {
    {NAMING_OPEN, "visual.", ""},
    {NAMING_OPEN, "module.visual.", ""},
    {NAMING_OPEN, "model.visual.", ""},
    {NAMING_OPEN, "", ""},
    {NAMING_HF, "vision_model.", ""},
    {NAMING_HF, "module.vision_model.", "module."},
    {NAMING_HF, "model.vision_model.", "model."},
    {NAMING_HF, "clip.vision_model.", "clip."},
    {NAMING_HF, "", ""},
};

static int64_t size_of(const tower *t, char letter)
{
    switch (letter) {
    case 'W':
        return t->width;
    case 'Q':
        return 3 * t->width;
    case 'H':
        return t->hidden;
    case 'T':
        return t->grid_h * t->grid_w + 1;
    case 'O':
        return t->out;
    case 'Y':
        return t->patch_h;
    case 'X':
        return t->patch_w;
    default:
        return 3;
    }
}

/* ---- names */

static int row_names(const tower_file *f, const row *r, const char *before, char names[3][160])
{
    if (f->naming == NAMING_OPEN) {
        snprintf(names[0], sizeof names[0], "%s%s%s", f->prefix, before, r->open);
        return 1;
    }
    int n = 0;
    for (; n < 3 && r->hf[n]; n++) snprintf(names[n], sizeof names[n], "%s%s%s", f->prefix, before, r->hf[n]);
    return n;
}

static int block_names(const tower_file *f, const row *r, int64_t block, char names[3][160])
{
    char before[64];
    snprintf(before, sizeof before, "%s%lld.", block_prefix[f->naming], (long long)block);
    return row_names(f, r, before, names);
}

static void projection_name(const tower_file *f, char *name, size_t size)
{
    if (f->naming == NAMING_OPEN)
        snprintf(name, size, "%sproj", f->prefix);
    else
        snprintf(name, size, "%svisual_projection.weight", f->outer);
}

int clip_tensor_names(const tower_file *file, const char *name, int64_t block, char names[3][160],
                      bool *transpose)
{
    *transpose = false;
    if (strcmp(name, PROJECTION) == 0) {
        *transpose = file->naming == NAMING_OPEN;
        projection_name(file, names[0], sizeof names[0]);
        return 1;
    }
    for (size_t i = 0; i < N_TOP; i++)
        if (strcmp(name, top_rows[i].ours) == 0) return row_names(file, &top_rows[i], "", names);
    for (size_t i = 0; i < N_BLOCK; i++)
        if (strcmp(name, block_rows[i].ours) == 0) return block_names(file, &block_rows[i], block, names);
    return 0;
}

/* ---- sizes and shapes */

#define FAIL(...) dg_fail_key(err, DG_ERR_FORMAT, "tokenizer.weights", __VA_ARGS__)

static dg_status need(const dg_host *host, const dg_weights *w, const char *path, const char *name,
                      dg_tensor_info *info, dg_error *err)
{
    if (host->weights_find(w, name, info)) return DG_OK;
    return FAIL("%s: the tensor '%s' is missing; the file may be cut short, or hold another kind of model",
                path, name);
}

static dg_status check_tensor(const dg_host *host, const dg_weights *w, const char *path, const char *name,
                              const int64_t *dims, int rank, dg_error *err)
{
    dg_tensor_info info;
    char want_text[96], have_text[96];
    DG_TRY(need(host, w, path, name, &info, err));
    bool same = info.rank == rank;
    for (int i = 0; same && i < rank; i++) same = info.dims[i] == dims[i];
    if (same) return DG_OK;
    dg_type want = dg_make_type(DG_NONE, dims, (size_t)rank),
            have = dg_make_type(DG_NONE, info.dims, (size_t)info.rank);
    return FAIL("%s: the tensor '%s' is %s; the rest of the tower needs %s", path, name,
                strchr(dg_type_text(&have, have_text, sizeof have_text), '['),
                strchr(dg_type_text(&want, want_text, sizeof want_text), '['));
}

static dg_status check_row(const dg_host *host, const tower_file *f, const char *path, const tower *t,
                           const row *r, char names[3][160], int n, dg_error *err)
{
    int64_t dims[DG_MAX_RANK];
    int rank = (int)strlen(r->shape);
    for (int i = 0; i < rank; i++) dims[i] = size_of(t, r->shape[i]);
    dims[0] /= n;
    for (int i = 0; i < n; i++) DG_TRY(check_tensor(host, f->weights, path, names[i], dims, rank, err));
    return DG_OK;
}

static dg_status check_all(const dg_host *host, const tower_file *f, const char *path, const tower *t,
                           dg_error *err)
{
    char names[3][160];
    for (size_t i = 0; i < N_TOP; i++) {
        int n = row_names(f, &top_rows[i], "", names);
        DG_TRY(check_row(host, f, path, t, &top_rows[i], names, n, err));
    }
    for (int64_t b = 0; b < t->layers; b++)
        for (size_t i = 0; i < N_BLOCK; i++) {
            int n = block_names(f, &block_rows[i], b, names);
            DG_TRY(check_row(host, f, path, t, &block_rows[i], names, n, err));
        }
    if (!t->out) return DG_OK;
    const int64_t dims[2] = {f->naming == NAMING_OPEN ? t->width : t->out,
                             f->naming == NAMING_OPEN ? t->out : t->width};
    projection_name(f, names[0], sizeof names[0]);
    return check_tensor(host, f->weights, path, names[0], dims, 2, err);
}

static dg_status find_naming(const dg_host *host, tower_file *f, const char *path, dg_error *err)
{
    char name[160];
    dg_tensor_info info;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        enum naming naming = prefixes[i].naming;
        snprintf(name, sizeof name, "%s%s", prefixes[i].prefix, first_tensor[naming]);
        if (!host->weights_find(f->weights, name, &info)) continue;
        snprintf(name, sizeof name, "%s%s", prefixes[i].prefix, class_tensor[naming]);
        if (!host->weights_find(f->weights, name, &info)) continue;
        f->naming = naming;
        snprintf(f->prefix, sizeof f->prefix, "%s", prefixes[i].prefix);
        snprintf(f->outer, sizeof f->outer, "%s", prefixes[i].outer);
        return DG_OK;
    }
    bool any = host->weights_at(f->weights, 0, &info);
    return FAIL("%s holds no CLIP vision transformer: neither 'visual.conv1.weight' with "
                "'visual.class_embedding' (OpenAI, "
                "OpenCLIP) nor 'vision_model.embeddings.patch_embedding.weight' (Hugging Face) is among its "
                "%zu tensors%s%.100s%s",
                path, host->weights_count(f->weights), any ? ", such as '" : "", any ? info.name : "",
                any ? "'" : "");
}

/* The side of a square of n patches; 0 if n is no square. */
static int64_t square_side(int64_t n)
{
    int64_t side = 0;
    while (side * side < n) side++;
    return side * side == n ? side : 0;
}

static dg_status read_sizes(const dg_host *host, const tower_file *f, const char *path, tower *t,
                            dg_error *err)
{
    char names[3][160];
    bool transpose;
    dg_tensor_info info;
    clip_tensor_names(f, "patch_embed.proj.weight", 0, names, &transpose);
    DG_TRY(need(host, f->weights, path, names[0], &info, err));
    if (info.rank != 4 || info.dims[1] != 3 || info.dims[0] < 1 || info.dims[2] < 1 || info.dims[3] < 1)
        return FAIL("%s: the tensor '%s' is no convolution of 3 colours [width, 3, height, width]", path,
                    names[0]);
    *t = (tower){.width = info.dims[0], .patch_h = info.dims[2], .patch_w = info.dims[3]};

    clip_tensor_names(f, "positional_embedding", 0, names, &transpose);
    DG_TRY(need(host, f->weights, path, names[0], &info, err));
    int64_t tokens = info.rank == 2 ? info.dims[0] : 0;
    t->grid_h = t->grid_w = tokens > 1 && tokens < (1 << 20) ? square_side(tokens - 1) : 0;
    if (!t->grid_h)
        return FAIL("%s: the tensor '%s' has %lld rows, which is not a square of patches and a class token",
                    path, names[0], (long long)tokens);

    do {
        clip_tensor_names(f, "norm1.weight", t->layers, names, &transpose);
    } while (host->weights_find(f->weights, names[0], &info) && ++t->layers < MOST_LAYERS);
    if (!t->layers) return FAIL("%s: the tower has no blocks: there is no tensor '%s'", path, names[0]);

    clip_tensor_names(f, "mlp.fc1.weight", 0, names, &transpose);
    DG_TRY(need(host, f->weights, path, names[0], &info, err));
    t->hidden = info.rank == 2 ? info.dims[0] : 0;

    projection_name(f, names[0], sizeof names[0]);
    if (host->weights_find(f->weights, names[0], &info) && info.rank == 2)
        t->out = info.dims[f->naming == NAMING_OPEN ? 1 : 0];
    return DG_OK;
}

dg_status clip_tower_find(const dg_host *host, tower_file *file, const char *path, tower *t, dg_error *err)
{
    DG_TRY(find_naming(host, file, path, err));
    DG_TRY(read_sizes(host, file, path, t, err));
    return check_all(host, file, path, t, err);
}

/* ---- counting */

static int64_t count_rows(const tower *t, const row *rows, size_t n)
{
    int64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t count = 1;
        for (const char *c = rows[i].shape; *c; c++) count *= size_of(t, *c);
        total += count;
    }
    return total;
}

int64_t clip_parameter_count(const tower *t, int64_t layers, bool projected)
{
    return count_rows(t, top_rows, N_TOP) + layers * count_rows(t, block_rows, N_BLOCK) +
           (projected ? t->out * t->width : 0);
}
