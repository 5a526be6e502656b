/* build.c - the computation of the model `mae`. Parameters have the names of the official code, so that its
 * checkpoints load. */
#include "mae.h"

/* Features of the kept patches after the final norm, class token first: [batch, 1 + n_keep, width]. */
static dg_value encode_kept(const mae *s, dg_graph *g, dg_value image, dg_value keep)
{
    const dg_encoder *e = &s->encoder;
    int64_t batch = dg_dim(g, image, 0);
    dg_vit v = dg_encoder_vit(g, e->heads, e->hidden, 0);
    dg_value pos = dg_encoder_positions(e, g, "pos_embed", e->width, false);
    dg_value rows = dg_reshape(g, dg_vit_rows(g, pos, 1, 1 + s->n_patches), DG_LIST(s->n_patches, e->width));
    dg_value x = dg_vit_patches(g, image, e->patch[0], e->patch[1], dg_imagenet_mean, dg_imagenet_std, false);
    x = dg_gather(g, x, keep, true); // [batch, n_keep, 3 ph pw]
    x = dg_vit_patch_embed(&v, x, e->patch[0], e->patch[1], e->width, true);
    x = dg_add(g, x, dg_gather(g, rows, keep, false));
    dg_value token = dg_add(g, dg_vit_token(&v, "cls_token", e->width), dg_vit_rows(g, pos, 0, 1));
    token = dg_broadcast(g, token, DG_LIST(batch, 1, e->width));
    x = dg_tap(g, dg_concat(g, (dg_value[]){token, x}, 2, 1), "enc_in");
    for (int64_t i = 0; i < e->depth; i++) {
        v.layer = (int32_t)i + 1;
        dg_push(g, "blocks.%d", (int)i);
        x = dg_tap(g, dg_vit_block(&v, x, DG_VIT_ALL, DG_NO_VALUE), "enc_block.%d", (int)i);
        dg_pop(g);
    }
    return dg_tap(g, dg_vit_norm(&v, x, "norm", DG_ENCODER_EPS), "latent");
}

/* Predictions for all patches: [batch, n_patches, target_width]. mask f32 [batch, n_patches] is 1 where a
 * patch was removed. */
static dg_value decode(const mae *s, dg_graph *g, dg_value latent, dg_value keep, dg_value mask)
{
    int64_t batch = dg_dim(g, latent, 0), width = s->decoder_width;
    dg_vit v = dg_encoder_vit(g, s->decoder_heads, s->decoder_hidden, -1);
    dg_value x = dg_vit_linear(&v, latent, "decoder_embed", width, true); // [batch, 1 + n_keep, width]
    dg_value class_token = dg_vit_rows(g, x, 0, 1);
    /* Each back to its place, the learned token where nothing is put. */
    x = dg_scatter_add(g, keep, dg_vit_rows(g, x, 1, 1 + s->n_keep), s->n_patches, true);
    dg_value holes = dg_reshape(g, mask, DG_LIST(batch, s->n_patches, 1));
    x = dg_add(g, x, dg_mul(g, holes, dg_vit_token(&v, "mask_token", width)));
    x = dg_concat(g, (dg_value[]){class_token, x}, 2, 1);
    x = dg_add(g, x, dg_encoder_positions(&s->encoder, g, "decoder_pos_embed", width, false));
    dg_tap(g, x, "dec_in"); // [batch, 1 + n_patches, width]
    for (int64_t i = 0; i < s->decoder_depth; i++) {
        dg_push(g, "decoder_blocks.%d", (int)i);
        x = dg_tap(g, dg_vit_block(&v, x, DG_VIT_ALL, DG_NO_VALUE), "dec_block.%d", (int)i);
        dg_pop(g);
    }
    x = dg_vit_norm(&v, x, "decoder_norm", DG_ENCODER_EPS);
    x = dg_vit_linear(&v, dg_vit_rows(g, x, 1, 1 + s->n_patches), "decoder_pred", s->target_width, true);
    return dg_tap(g, x, "pred");
}

/* The tokens of all patches: [batch, n_patches, width], or ids [batch, n_patches]. */
static dg_value targets(const mae *s, dg_graph *g, dg_value tokens)
{
    int64_t batch = dg_dim(g, tokens, 0), n = s->n_patches;
    if (!s->target_class) return tokens;
    return s->target_discrete ? dg_slice(g, tokens, DG_LIST(0, 1), DG_LIST(batch, 1 + n))
                              : dg_vit_rows(g, tokens, 1, 1 + n);
}

dg_status mae_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out, dg_error *err)
{
    const mae *s = self;
    if (!s->target_width)
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "tokenizer",
            "model mae predicts tokens, and the recipe has no tokenizer; add one (pixels, clip, ...)");
    dg_value keep = dg_input(g, "keep", DG_I32, DG_LIST(batch->batch, s->n_keep), DG_PER_SAMPLE);
    dg_value kept = dg_fill(g, DG_F32, DG_LIST(batch->batch, s->n_keep), 1);
    dg_value seen = dg_scatter_add(g, keep, kept, s->n_patches, true); // [batch, n_patches]
    dg_value mask = dg_tap(g, dg_sub(g, dg_fill(g, DG_F32, NULL, 0, 1), seen), "mask");
    dg_value latent = encode_kept(s, g, dg_batch_field(batch, "image"), keep);
    out->n_predictions = 1;
    out->predictions[0] = (dg_prediction){
        .name = "removed",
        .prediction = decode(s, g, latent, keep, mask),
        .target = targets(s, g, batch->tokens),
        .weight = mask,
        .scale = 1,
    };
    return dg_graph_error(g, err);
}
