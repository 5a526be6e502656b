/* teacher.c - the tokenizer `vit`: recipe keys, what they must agree on with the weights, the computation,
 * and the plugin's entry. */
#include "teacher.h"

enum { WEIGHTS, LAYER, HEADS, NORM, PROJECTED, CLASS_TOKEN, NORMALISE, WIDTH, DEPTH, PATCH, N_PARAMS };

static const char *const weights_words[] = {"random", NULL};
static const char *const normalise_words[] = {"imagenet", "clip", "half", NULL};

/* By normalise_words. `half` is Inception's, of the ViTs that Google trained (Steiner et al., TMLR 2022). */
static const double half[3] = {0.5, 0.5, 0.5};
static const struct {
    const double *mean, *std;
} normalisations[] = {{dg_imagenet_mean, dg_imagenet_std}, {dg_clip_mean, dg_clip_std}, {half, half}};

static const dg_param_spec schema[N_PARAMS] = {
    [WEIGHTS] =
        DG_PARAM(PATH, "weights", NULL, "",
                 "a ViT under timm's names: supervised, MAE, D-iGPT, or a checkpoint of this program "
                 "(.safetensors, .pth, .bin, or a folder); random: seeded random values of the sizes below, "
                 "for comparisons",
                 0, 0, weights_words),
    [LAYER] =
        DG_PARAM(INT, "layer", "0", "blocks", "tokens after this many blocks; 0: after all", 0, 4096, NULL),
    [HEADS] = DG_PARAM(INT, "heads", "0", "", "attention heads, which no file tells; 0: from the width", 0,
                       4096, NULL),
    [NORM] = DG_PARAM(BOOL, "norm", "true", "",
                      "end with the file's final norm (norm or fc_norm), if it has one", 0, 0, NULL),
    [PROJECTED] = DG_PARAM(BOOL, "projected", "false", "",
                           "end with the file's classification head, on every token", 0, 0, NULL),
    [CLASS_TOKEN] = DG_PARAM(BOOL, "class_token", "true", "",
                             "give the class token too, before the grid, if the file has one", 0, 0, NULL),
    [NORMALISE] =
        DG_PARAM(CHOICE, "normalise", "imagenet", "",
                 "mean and deviation of colours that the weights were trained with: ImageNet's, CLIP's, or "
                 "0.5 and 0.5",
                 0, 0, normalise_words),
    [WIDTH] =
        DG_PARAM(INT, "width", "", "", "what the weights must have; of random ones 768", 1, 65536, NULL),
    [DEPTH] =
        DG_PARAM(INT, "depth", "", "blocks", "what the weights must have; of random ones 12", 1, 1024, NULL),
    [PATCH] = DG_PARAM(INTS, "patch", "", "pixels",
                       "what the weights must have, one number or [height, width]; of random ones 16", 1,
                       1024, NULL),
};

#define LL(x) ((long long)(x))
#define NORM_EPS 1e-6 /* as timm, MAE and the official D-iGPT code */
#define MLP_RATIO 4   /* of random weights */

/* Widths whose heads are not 64 wide: ViT-H. */
#define WIDTH_H 1280
#define HEADS_H 16

typedef struct teacher {
    const dg_host *host;
    teacher_file file;
    teacher_sizes sizes;
    int64_t heads, layers; /* layers: blocks that are computed */
    bool norm, projected;
    const double *mean, *std; /* [3]: of colours */
    dg_tokenizer_info info;
} teacher;

/* ---- sizes */

static dg_status random_sizes(const dg_params *params, const dg_tokenizer_env *env, teacher *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    teacher_sizes *t = &s->sizes;
    *t = (teacher_sizes){.width = p[WIDTH].is_set ? p[WIDTH].v.i : 768, /* ViT-B/16 */
                         .depth = p[DEPTH].is_set ? p[DEPTH].v.i : 12,
                         .patch = {16, 16},
                         .class_token = true,
                         .norm = "norm"};
    t->hidden = MLP_RATIO * t->width;
    if (p[PATCH].is_set && !dg_vit_pair(&p[PATCH], t->patch))
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.patch",
                           "patch takes one number or [height, width], not %zu numbers", p[PATCH].v.ints.n);
    if (env->image_h % t->patch[0] || env->image_w % t->patch[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "tokenizer.patch",
            "an image of %lldx%lld pixels cannot be cut into patches of %lldx%lld (height x width)",
            LL(env->image_h), LL(env->image_w), LL(t->patch[0]), LL(t->patch[1]));
    t->position_rows = 1 + env->image_h / t->patch[0] * (env->image_w / t->patch[1]);
    s->host->log(
        2, "tokenizer vit: its weights are random; its tokens mean nothing, use it for comparisons only");
    return DG_OK;
}

static dg_status file_sizes(const dg_params *params, teacher *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    const char *path = p[WEIGHTS].v.s;
    int64_t patch[2];
    dg_status st = s->host->weights_open(path, &s->file.weights, err);
    if (st != DG_OK) {
        if (err) snprintf(err->key, sizeof err->key, "tokenizer.weights");
        return st;
    }
    DG_TRY(teacher_find(s->host, &s->file, path, &s->sizes, err));
    const teacher_sizes *t = &s->sizes;
    bool same =
        (!p[WIDTH].is_set || p[WIDTH].v.i == t->width) && (!p[DEPTH].is_set || p[DEPTH].v.i == t->depth);
    if (p[PATCH].is_set)
        same = same && dg_vit_pair(&p[PATCH], patch) && patch[0] == t->patch[0] && patch[1] == t->patch[1];
    if (same) return DG_OK;
    return dg_fail_key(
        err, DG_ERR_MISMATCH, "tokenizer.weights",
        "%s holds a ViT of width %lld, %lld blocks and patches of %lldx%lld, which is not what width, "
        "depth and patch of the recipe say",
        path, LL(t->width), LL(t->depth), LL(t->patch[0]), LL(t->patch[1]));
}

static dg_status choose_heads(const dg_params *params, teacher *s, dg_error *err)
{
    int64_t width = s->sizes.width;
    s->heads = params->values[HEADS].v.i;
    if (!s->heads) s->heads = width == WIDTH_H ? HEADS_H : width % 64 == 0 ? width / 64 : 0;
    if (!s->heads)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.heads",
                           "how many heads a ViT of width %lld has cannot be told; give tokenizer.heads",
                           LL(width));
    if (width % s->heads)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.heads",
                           "a width of %lld cannot be divided among %lld heads", LL(width), LL(s->heads));
    return DG_OK;
}

/* The grid whose patches the positions belong to: the student's, if it has as many patches, or else a square.
 */
static dg_status choose_grid(const dg_tokenizer_env *env, teacher *s, int64_t grid[2], dg_error *err)
{
    const teacher_sizes *t = &s->sizes;
    for (int64_t with_class = t->class_token; with_class >= 0; with_class--) {
        int64_t n = t->position_rows - with_class, side = 0;
        grid[0] = env->image_h / t->patch[0];
        grid[1] = env->image_w / t->patch[1];
        if (n > 0 && grid[0] * grid[1] == n) return DG_OK;
        while (side < 65536 && side * side < n) side++;
        grid[0] = grid[1] = side;
        if (n > 0 && side * side == n) return DG_OK;
    }
    return dg_fail_key(
        err, DG_ERR_MISMATCH, "tokenizer.weights",
        "the positions are %lld rows: neither a square of patches%s, nor those of an image of %lldx%lld "
        "pixels in patches of %lldx%lld",
        LL(t->position_rows), t->class_token ? " and a class token" : "", LL(env->image_h), LL(env->image_w),
        LL(t->patch[0]), LL(t->patch[1]));
}

static dg_status choose_output(const dg_params *params, const dg_tokenizer_env *env, teacher *s,
                               dg_error *err)
{
    const dg_param_value *p = params->values;
    const teacher_sizes *t = &s->sizes;
    int64_t grid[2];
    if (p[LAYER].v.i > t->depth)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.layer",
                           "the transformer has %lld blocks, so there is no layer %lld", LL(t->depth),
                           LL(p[LAYER].v.i));
    DG_TRY(choose_grid(env, s, grid, err));
    s->layers = p[LAYER].v.i ? p[LAYER].v.i : t->depth;
    s->norm = p[NORM].v.i && t->norm;
    s->projected = p[PROJECTED].v.i != 0;
    s->mean = normalisations[p[NORMALISE].v.i].mean;
    s->std = normalisations[p[NORMALISE].v.i].std;
    if (s->projected && !t->classes)
        return dg_fail_key(err, DG_ERR_MISMATCH, "tokenizer.projected",
                           "%s has no classification head; set projected: false", p[WEIGHTS].v.s);
    s->info = (dg_tokenizer_info){
        .struct_size = sizeof s->info,
        .image_h = grid[0] * t->patch[0],
        .image_w = grid[1] * t->patch[1],
        .grid_h = grid[0],
        .grid_w = grid[1],
        .class_token = t->class_token && p[CLASS_TOKEN].v.i,
        .width = s->projected ? t->classes : t->width,
    };
    snprintf(s->info.summary, sizeof s->info.summary,
             "ViT of width %lld, %lld heads, patch %lldx%lld%s, layer %lld of %lld, %s%s, %.1f M parameters",
             LL(t->width), LL(s->heads), LL(t->patch[0]), LL(t->patch[1]), s->file.weights ? "" : " (random)",
             LL(s->layers), LL(t->depth), s->norm ? "final norm" : "no final norm",
             s->projected ? ", head" : "", (double)teacher_count(t, s->layers, s->norm, s->projected) / 1e6);
    return DG_OK;
}

/* ---- computation */

/* The name that a dg_init points to until the leaf is made. */
typedef struct source {
    const teacher_file *file;
    char name[160];
} source;

/* Parameters of block i are made with v->layer = i; others with -1. */
static dg_init from_file(const dg_vit *v, const char *name, dg_init usual)
{
    source *src = v->user;
    if (!src->file->weights) return usual;
    if (v->layer < 0)
        snprintf(src->name, sizeof src->name, "%s%s", src->file->prefix, name);
    else
        snprintf(src->name, sizeof src->name, "%sblocks.%d.%s", src->file->prefix, (int)v->layer, name);
    return (dg_init){.struct_size = sizeof(dg_init),
                     .kind = DG_INIT_WEIGHTS,
                     .weights = src->file->weights,
                     .names = {src->name}};
}

/* Patches and class token with their positions: [batch, n, width]. */
static dg_value embed(const teacher *s, const dg_vit *v, dg_value image)
{
    const teacher_sizes *t = &s->sizes;
    dg_graph *g = v->g;
    int64_t batch = dg_dim(g, image, 0), n = s->info.grid_h * s->info.grid_w;
    dg_value pos = dg_vit_leaf(v, "pos_embed", DG_LIST(1, t->position_rows, t->width),
                               dg_init_value(DG_INIT_NORMAL, 0.02));
    dg_value x = dg_vit_patches(g, image, t->patch[0], t->patch[1], s->mean, s->std, false);
    x = dg_vit_patch_embed(v, x, t->patch[0], t->patch[1], t->width, true); // [batch, n, width]
    if (t->position_rows == n) x = dg_add(g, x, pos);                       /* of patches only */
    if (!t->class_token) return x;
    dg_value token = dg_broadcast(g, dg_vit_token(v, "cls_token", t->width), DG_LIST(batch, 1, t->width));
    x = dg_concat(g, (dg_value[]){token, x}, 2, 1);
    return t->position_rows == n ? x : dg_add(g, x, pos);
}

static dg_status build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err)
{
    const teacher *s = self;
    source src = {.file = &s->file};
    dg_vit v = {.g = g,
                .kind = DG_LEAF_FROZEN,
                .layer = -1,
                .heads = s->heads,
                .hidden = s->sizes.hidden,
                .eps = NORM_EPS,
                .init = from_file,
                .user = &src};
    dg_value x = embed(s, &v, image);
    for (int64_t i = 0; i < s->layers; i++) {
        v.layer = (int32_t)i;
        dg_push(g, "blocks.%d", (int)i);
        x = dg_vit_block(&v, x, DG_VIT_ALL, DG_NO_VALUE);
        dg_pop(g);
    }
    v.layer = -1;
    if (s->sizes.class_token && !s->info.class_token) x = dg_vit_rows(g, x, 1, dg_dim(g, x, 1));
    if (s->norm) x = dg_vit_norm(&v, x, s->sizes.norm, NORM_EPS);
    if (s->projected) x = dg_vit_linear(&v, x, "head", s->sizes.classes, true);
    *tokens = x; // [batch, token count, width]
    return dg_graph_error(g, err);
}

/* ---- the interface */

static void destroy(void *self)
{
    teacher *s = self;
    const dg_host *host = s->host;
    if (s->file.weights) host->weights_close(s->file.weights);
    host->release(s);
}

static dg_status create(const dg_host *host, const dg_params *params, const dg_tokenizer_env *env,
                        void **self, dg_error *err)
{
    teacher *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->host = host;
    bool random = strcmp(params->values[WEIGHTS].v.s, weights_words[0]) == 0;
    dg_status st = random ? random_sizes(params, env, s, err) : file_sizes(params, s, err);
    if (st == DG_OK) st = choose_heads(params, s, err);
    if (st == DG_OK) st = choose_output(params, env, s, err);
    if (st == DG_OK)
        *self = s;
    else
        destroy(s);
    return st;
}

static dg_status info(void *self, dg_tokenizer_info *out, dg_error *err)
{
    (void)err;
    *out = ((const teacher *)self)->info;
    return DG_OK;
}

static const dg_tokenizer_interface vit_interface = {
    .struct_size = sizeof vit_interface,
    .create = create,
    .destroy = destroy,
    .info = info,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "vit",
    .help = "tokens of a ViT, frozen: supervised, MAE, D-iGPT, or a checkpoint of this program",
    .params = schema,
    .interface = &vit_interface,
}};

DG_PLUGIN("digpt.vit", "1.0.0", DG_TOKENIZER_INTERFACE, factories)
