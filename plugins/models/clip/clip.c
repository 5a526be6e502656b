/* clip.c - the model `clip`: its recipe keys and the plugin's entry. */
#include "clip.h"

enum {
    OUT = DG_ENCODER_KEYS,
    TEXT_WIDTH,
    TEXT_DEPTH,
    TEXT_HEADS,
    CONTEXT_LENGTH,
    VOCABULARY,
    ACTIVATION,
    N_PARAMS
};

static const char *const activations[] = {"gelu", "quick_gelu", NULL};

/* Text towers and shared width that OpenCLIP trains with ViT-S, B, L and H. */
static const struct {
    int64_t width, depth, heads, out;
} presets[DG_ENCODER_PRESETS] = {
    {384, 12, 6, 384}, {512, 12, 8, 512}, {768, 12, 12, 768}, {1024, 24, 16, 1024}};

static const dg_param_spec schema[N_PARAMS] = {
    DG_ENCODER_PARAMS,
    [OUT] = DG_PARAM(INT, "out", "", "",
                     "width of the space that images and texts share; not set: that of size", 1, 65536, NULL),
    [TEXT_WIDTH] =
        DG_PARAM(INT, "text_width", "", "", "width of the text tower; not set: that of size", 1, 65536, NULL),
    [TEXT_DEPTH] = DG_PARAM(INT, "text_depth", "", "blocks", "depth of the text tower; not set: that of size",
                            1, 1024, NULL),
    [TEXT_HEADS] = DG_PARAM(INT, "text_heads", "", "",
                            "attention heads of the text tower; not set: that of size", 1, 1024, NULL),
    [CONTEXT_LENGTH] =
        DG_PARAM(INT, "context_length", "77", "tokens",
                 "tokens of a caption, start and end included; longer ones are cut", 3, 4096, NULL),
    [VOCABULARY] =
        DG_PARAM(INT, "vocabulary", "4096", "words",
                 "rows of the table of words; a vocabulary may have at most as many ids", 4, 1 << 24, NULL),
    [ACTIVATION] =
        DG_PARAM(CHOICE, "activation", "gelu", "",
                 "GELU of both towers: exact, or OpenAI's; a tokenizer made of the weights must be told", 0,
                 0, activations),
};

static dg_status read_text(const dg_params *params, clip *s, dg_error *err)
{
    static const int keys[] = {TEXT_WIDTH, TEXT_DEPTH, TEXT_HEADS, OUT};
    int64_t *const to[] = {&s->text.width, &s->text.depth, &s->text.heads, &s->out};
    const dg_param_value *p = params->values;
    int64_t size = p[DG_ENCODER_SIZE].v.i;
    if (size < DG_ENCODER_PRESETS) {
        s->text = (clip_text){
            .width = presets[size].width, .depth = presets[size].depth, .heads = presets[size].heads};
        s->out = presets[size].out;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (p[keys[i]].is_set) *to[i] = p[keys[i]].v.i;
        if (*to[i] == 0)
            return dg_fail_key(err, DG_ERR_INVALID, "model.size", "size: free needs model.%s",
                               schema[keys[i]].key);
    }
    s->text.length = p[CONTEXT_LENGTH].v.i;
    s->text.vocabulary = p[VOCABULARY].v.i;
    DG_TRY(dg_encoder_check_heads("image tower", "model.heads", s->image.width, s->image.heads, err));
    DG_TRY(dg_encoder_check_heads("text tower", "model.text_heads", s->text.width, s->text.heads, err));
    return dg_encoder_hidden(params, s->text.width, &s->text.hidden, err);
}

static dg_status create(const dg_host *host, const dg_params *params, const dg_model_env *env, void **self,
                        dg_error *err)
{
    clip tmp = {.quick = params->values[ACTIVATION].v.i != 0};
    if (env->tokens)
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "tokenizer",
            "model clip learns from captions and predicts no tokens; remove the tokenizer (%s)",
            env->tokens->summary);
    DG_TRY(dg_encoder_read(host, params, env, &tmp.image, err));
    DG_TRY(read_text(params, &tmp, err));
    clip *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *s = tmp;
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    clip *s = self;
    s->image.host->release(s);
}

static const dg_model_interface clip_interface = {
    .struct_size = sizeof clip_interface,
    .create = create,
    .destroy = destroy,
    .build = clip_build,
    .encode = clip_encode,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "clip",
    .help = "contrastive learning of images and captions; its checkpoints are read by tokenizer clip",
    .params = schema,
    .interface = &clip_interface,
}};

DG_PLUGIN("digpt.clip-model", "1.0.0", DG_MODEL_INTERFACE, factories)
