/* clip.c - the tokenizer `clip`: recipe keys, architectures, what they must agree on with the weights, and
 * the plugin's entry. */
#include "clip.h"

enum { WEIGHTS, ARCH, ACTIVATION, LAYER, PROJECTED, HEADS, NORMALISE, N_PARAMS };

static const char *const weights_words[] = {"random", NULL};
static const char *const arch_words[] = {"auto",     "ViT-B/32", "ViT-B/16", "ViT-L/14",
                                         "ViT-H/14", "ViT-g/14", NULL};
static const char *const activation_words[] = {"auto", "gelu", "quick_gelu", NULL}; /* as enum activation */

static const char *const normalise_words[] = {"clip", "imagenet", "half", NULL};

/* By normalise_words. `half` is Inception's, with which OpenCLIP trained LAION-2B's ViT-L/14. */
static const double half[3] = {0.5, 0.5, 0.5};
static const struct {
    const double *mean, *std;
} normalisations[] = {{dg_clip_mean, dg_clip_std}, {dg_imagenet_mean, dg_imagenet_std}, {half, half}};

/* Sizes as OpenAI and OpenCLIP trained them, at 224x224 pixels; by arch_words without `auto`. */
static const tower archs[] = {
    {.width = 768, .layers = 12, .heads = 12, .hidden = 3072, .patch_h = 32, .patch_w = 32, .out = 512},
    {.width = 768, .layers = 12, .heads = 12, .hidden = 3072, .patch_h = 16, .patch_w = 16, .out = 512},
    {.width = 1024, .layers = 24, .heads = 16, .hidden = 4096, .patch_h = 14, .patch_w = 14, .out = 768},
    {.width = 1280, .layers = 32, .heads = 16, .hidden = 5120, .patch_h = 14, .patch_w = 14, .out = 1024},
    {.width = 1408, .layers = 40, .heads = 16, .hidden = 6144, .patch_h = 14, .patch_w = 14, .out = 1024},
};
#define N_ARCHS (sizeof archs / sizeof archs[0])
#define ARCH_IMAGE 224

/* Widths whose heads are not 64 wide. */
static const struct {
    int64_t width, heads;
} head_table[] = {{1280, 16}, {1408, 16}, {1664, 16}};

static const dg_param_spec schema[N_PARAMS] = {
    [WEIGHTS] = DG_PARAM(
        PATH, "weights", NULL, "",
        "OpenAI, OpenCLIP or Hugging Face CLIP weights (.safetensors, .pt, .pth, .bin, or a folder); "
        "random: seeded random ones, for benchmarks",
        0, 0, weights_words),
    [ARCH] = DG_PARAM(CHOICE, "arch", "auto", "",
                      "what the weights must be; auto: whatever they are; needed for weights: random", 0, 0,
                      arch_words),
    [ACTIVATION] = DG_PARAM(
        CHOICE, "activation", "auto", "",
        "GELU that the weights were trained with: OpenAI's with quick_gelu, most of OpenCLIP's with "
        "gelu; auto: from config.json or open_clip_config.json beside the file, OpenAI's archives, or "
        "'quickgelu' or 'openai' in its name, else an error",
        0, 0, activation_words),
    [LAYER] =
        DG_PARAM(INT, "layer", "0", "blocks", "tokens after this many blocks; 0: after all", 0, 4096, NULL),
    [PROJECTED] =
        DG_PARAM(BOOL, "projected", "true", "",
                 "true: final norm and projection to the space shared with text, on every token; false: the "
                 "final norm only",
                 0, 0, NULL),
    [HEADS] = DG_PARAM(INT, "heads", "0", "", "attention heads, which no file tells; 0: from the width", 0,
                       4096, NULL),
    [NORMALISE] = DG_PARAM(CHOICE, "normalise", "clip", "",
                           "mean and deviation of colours that the weights were trained with: CLIP's, "
                           "ImageNet's, or 0.5 and 0.5",
                           0, 0, normalise_words),
};

#define LL(x) ((long long)(x))

/* ---- the tower */

/* Writes "ViT-H/14", or "ViT of width 160, 3 layers, patch 14". */
static const char *describe(const tower *t, char *out, size_t size)
{
    for (size_t i = 0; i < N_ARCHS; i++) {
        const tower *a = &archs[i];
        if (t->width == a->width && t->layers == a->layers && t->hidden == a->hidden &&
            t->patch_h == a->patch_h && t->patch_w == a->patch_w) {
            snprintf(out, size, "%s", arch_words[i + 1]);
            return out;
        }
    }
    snprintf(out, size, "ViT of width %lld, %lld layers, patch %lld", LL(t->width), LL(t->layers),
             LL(t->patch_h));
    return out;
}

static dg_status random_tower(const dg_params *params, clip *s, dg_error *err)
{
    int64_t arch = params->values[ARCH].v.i;
    char line[160];
    if (arch == 0)
        return dg_fail_key(
            err, DG_ERR_INVALID, "tokenizer.arch",
            "weights: random needs an arch, such as ViT-H/14, since there is no file to read sizes from");
    s->tower = archs[arch - 1];
    s->tower.grid_h = ARCH_IMAGE / s->tower.patch_h;
    s->tower.grid_w = ARCH_IMAGE / s->tower.patch_w;
    snprintf(line, sizeof line,
             "tokenizer clip: %s has random weights; its tokens mean nothing, use it for benchmarks only",
             arch_words[arch]);
    s->host->log(2, line);
    return DG_OK;
}

static dg_status file_tower(const dg_params *params, clip *s, dg_error *err)
{
    const char *path = params->values[WEIGHTS].v.s;
    int64_t arch = params->values[ARCH].v.i;
    char have[96];
    dg_status st = s->host->weights_open(path, &s->file.weights, err);
    if (st != DG_OK) {
        if (err) snprintf(err->key, sizeof err->key, "tokenizer.weights");
        return st;
    }
    DG_TRY(clip_tower_find(s->host, &s->file, path, &s->tower, err));
    describe(&s->tower, have, sizeof have);
    if (arch != 0 && strcmp(have, arch_words[arch]) != 0)
        return dg_fail_key(err, DG_ERR_MISMATCH, "tokenizer.weights",
                           "%s holds a %s, and arch says %s (width %lld, %lld layers, patch %lld)", path,
                           have, arch_words[arch], LL(archs[arch - 1].width), LL(archs[arch - 1].layers),
                           LL(archs[arch - 1].patch_h));
    return DG_OK;
}

static dg_status choose_heads(const dg_params *params, tower *t, dg_error *err)
{
    int64_t given = params->values[HEADS].v.i, heads = given;
    if (!heads) heads = t->width % 64 == 0 ? t->width / 64 : 0;
    for (size_t i = 0; !given && i < sizeof head_table / sizeof head_table[0]; i++)
        if (t->width == head_table[i].width) heads = head_table[i].heads;
    if (!heads)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.heads",
                           "how many heads a tower of width %lld has cannot be told; give tokenizer.heads",
                           LL(t->width));
    if (t->width % heads)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.heads",
                           "a width of %lld cannot be divided among %lld heads", LL(t->width), LL(heads));
    t->heads = heads;
    return DG_OK;
}

static dg_status choose_activation(const dg_params *params, clip *s, dg_error *err)
{
    static const char *const text[] = {"", "gelu", "quick_gelu"};
    const char *path = params->values[WEIGHTS].v.s;
    enum activation said = (enum activation)params->values[ACTIVATION].v.i, known = ACTIVATION_GELU;
    char why[128] = "";
    if (s->file.weights)
        known = clip_activation_of(s->host, s->file.weights, path, why, sizeof why);
    else if (said != ACTIVATION_UNKNOWN)
        known = said;
    if (said == ACTIVATION_UNKNOWN && known == ACTIVATION_UNKNOWN)
        return dg_fail_key(
            err, DG_ERR_INVALID, "tokenizer.activation",
            "%s does not tell which GELU it was trained with, and the wrong one would quietly spoil the "
            "tokens: say activation: quick_gelu (OpenAI's, DFN's and MetaCLIP's weights) or gelu (most of "
            "OpenCLIP's, such as LAION-2B's)",
            path);
    if (said != ACTIVATION_UNKNOWN && known != ACTIVATION_UNKNOWN && said != known)
        return dg_fail_key(err, DG_ERR_MISMATCH, "tokenizer.activation",
                           "%s was trained with %s, going by %s; the recipe says %s", path, text[known], why,
                           text[said]);
    s->quick = (said != ACTIVATION_UNKNOWN ? said : known) == ACTIVATION_QUICK_GELU;
    return DG_OK;
}

/* ---- the interface */

static dg_status choose_output(const dg_params *params, clip *s, dg_error *err)
{
    const tower *t = &s->tower;
    int64_t layer = params->values[LAYER].v.i;
    char name[96];
    if (layer > t->layers)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.layer",
                           "the tower has %lld blocks, so there is no layer %lld", LL(t->layers), LL(layer));
    s->layers = layer ? layer : t->layers;
    s->projected = params->values[PROJECTED].v.i != 0;
    s->mean = normalisations[params->values[NORMALISE].v.i].mean;
    s->std = normalisations[params->values[NORMALISE].v.i].std;
    if (s->projected && !t->out)
        return dg_fail_key(err, DG_ERR_MISMATCH, "tokenizer.projected",
                           "%s has no projection to the space shared with text; set projected: false",
                           params->values[WEIGHTS].v.s);
    s->info = (dg_tokenizer_info){
        .struct_size = sizeof s->info,
        .image_h = t->grid_h * t->patch_h,
        .image_w = t->grid_w * t->patch_w,
        .grid_h = t->grid_h,
        .grid_w = t->grid_w,
        .class_token = 1,
        .width = s->projected ? t->out : t->width,
    };
    snprintf(s->info.summary, sizeof s->info.summary,
             "CLIP %s, %s GELU, %.1f M parameters%s, layer %lld of %lld, %s", describe(t, name, sizeof name),
             s->quick ? "quick" : "exact", (double)clip_parameter_count(t, s->layers, s->projected) / 1e6,
             s->file.weights ? "" : " (random)", LL(s->layers), LL(t->layers),
             s->projected ? "projected" : "not projected");
    return DG_OK;
}

static void destroy(void *self)
{
    clip *s = self;
    const dg_host *host = s->host;
    if (s->file.weights) host->weights_close(s->file.weights);
    host->release(s);
}

static dg_status create(const dg_host *host, const dg_params *params, const dg_tokenizer_env *env,
                        void **self, dg_error *err)
{
    (void)env; /* the size of the image is that of the positions, and the core seeds random weights */
    clip *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->host = host;
    bool random = strcmp(params->values[WEIGHTS].v.s, weights_words[0]) == 0;
    dg_status st = random ? random_tower(params, s, err) : file_tower(params, s, err);
    if (st == DG_OK) st = choose_heads(params, &s->tower, err);
    if (st == DG_OK) st = choose_activation(params, s, err);
    if (st == DG_OK) st = choose_output(params, s, err);
    if (st == DG_OK)
        *self = s;
    else
        destroy(s);
    return st;
}

static dg_status info(void *self, dg_tokenizer_info *out, dg_error *err)
{
    (void)err;
    *out = ((const clip *)self)->info;
    return DG_OK;
}

static const dg_tokenizer_interface clip_interface = {
    .struct_size = sizeof clip_interface,
    .create = create,
    .destroy = destroy,
    .info = info,
    .build = clip_build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "clip",
    .help = "tokens of a CLIP image tower, frozen",
    .params = schema,
    .interface = &clip_interface,
}};

DG_PLUGIN("digpt.clip", "1.0.0", DG_TOKENIZER_INTERFACE, factories)
