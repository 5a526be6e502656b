/* build.c - the computation of the model `digpt`: encoder on the visible
 * segments, decoders, targets. Parameters have the names of the official code,
 * `ar` for next segments and `kd` for visible ones, so that its checkpoints
 * load. */
#include "digpt.h"

#define TAP_EPS 1e-5 /* of the norms of the taps, as the official code */

/* What both decoders share. Groups: the place of a token's segment in the
 * order; the class token counts as the last segment that is seen. */
typedef struct parts {
    const digpt *s;
    dg_graph *g;
    int64_t batch;
    dg_value order;          /* i32 [batch, n_segments]: the segment at each place */
    dg_value patch_table;    /* i32 [n_segments, segment_patches]: patches of a segment */
    dg_value target_table;   /* i32 [n_segments, tokens]: target tokens of a segment */
    dg_vit_groups memory;    /* q: those of decoder queries; k: those of encoder
                                tokens, [1, n_visible + 1] */
    dg_value taps[MAX_TAPS]; /* [batch, n_visible + 1, width] */
} parts;

typedef struct branch {
    const char *name;   /* of the loss */
    const char *own;    /* prefix of the decoder's parameters */
    const char *memory; /* prefix of the norm and projection of the features that
                           it reads */
    int64_t first;      /* place in the order of the first segment that it predicts */
    enum branches only; /* the choice that leaves the other one out */
} branch;

/* The projections are used crosswise: the official encoder returns (kd, ar) and
 * its caller unpacks (ar, kd).
 */
static const branch branch_table[] = {
    {"next", "ar", "kd", 1, BRANCHES_NEXT},
    {"visible", "kd", "ar", 0, BRANCHES_VISIBLE},
};

/* ---- constants */

static dg_value constant_table(const digpt *s, dg_graph *g, int64_t rows, int64_t columns, int32_t offset)
{
    int64_t n = rows * columns;
    int32_t *table = s->encoder.host->allocate((size_t)n * sizeof *table);
    if (!table) return dg_graph_fail(g, DG_ERR_NOMEM, "out of memory");
    digpt_segment_table(s, rows, columns, offset, table);
    dg_value v =
        dg_constant(g, DG_I32, DG_LIST(s->n_segments, n / s->n_segments), table, (size_t)n * sizeof *table);
    s->encoder.host->release(table);
    return v;
}

/* i32 [1, n_visible (+ 1)]: groups of tokens in the order, and of a class token
 * after them. */
static dg_value constant_groups(const digpt *s, dg_graph *g, bool class_token)
{
    int64_t n = s->n_visible + class_token;
    int32_t *groups = s->encoder.host->allocate((size_t)n * sizeof *groups);
    if (!groups) return dg_graph_fail(g, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; i < s->n_visible; i++) groups[i] = (int32_t)(i / s->segment_patches);
    if (class_token) groups[n - 1] = (int32_t)(s->n_segments - 2);
    dg_value v = dg_constant(g, DG_I32, DG_LIST(1, n), groups, (size_t)n * sizeof *groups);
    s->encoder.host->release(groups);
    return v;
}

/* ---- segments */

/* Rows of `table` for all segments of the order but one, from place `first` on:
 * i32 [batch, (n_segments - 1)
 * * m]. */
static dg_value ids_from(const parts *p, dg_value table, int64_t first)
{
    int64_t n = p->s->n_segments - 1;
    dg_value places = dg_slice(p->g, p->order, DG_LIST(0, first), DG_LIST(p->batch, first + n)); // [batch, n]
    dg_value ids = dg_gather(p->g, table, places, false); // [batch, n, m]
    return dg_reshape(p->g, ids, DG_LIST(p->batch, n * dg_dim(p->g, table, 1)));
}

/* The rows of pos [1, 1 + patches, width] for patch ids [batch, n]: [batch, n,
 * width]. */
static dg_value positions_at(dg_graph *g, dg_value pos, dg_value ids)
{
    int64_t n = dg_dim(g, pos, 1);
    dg_value rows = dg_reshape(g, dg_vit_rows(g, pos, 1, n), DG_LIST(n - 1, dg_dim(g, pos, 2)));
    return dg_gather(g, rows, ids, false);
}

/* token [1, 1, width] at the class token's position, for every sample: [batch,
 * 1, width]. */
static dg_value class_row(dg_graph *g, dg_value token, dg_value pos, int64_t batch)
{
    dg_value x = dg_add(g, token, dg_vit_rows(g, pos, 0, 1));
    return dg_broadcast(g, x, DG_LIST(batch, 1, dg_dim(g, token, 2)));
}

static dg_value join(dg_graph *g, dg_value a, dg_value b)
{
    return dg_concat(g, (dg_value[]){a, b}, 2, 1);
}

/* ---- encoder */

static void encode_visible(parts *p, dg_value image)
{
    const digpt *s = p->s;
    const dg_encoder *e = &s->encoder;
    dg_graph *g = p->g;
    dg_vit v = dg_encoder_vit(g, e->heads, e->hidden, 0);
    dg_value ids = ids_from(p, p->patch_table, 0); // [batch, n_visible]
    dg_value pos = dg_encoder_positions(&s->encoder, g, "pos_embed", e->width, false);
    dg_value x = dg_vit_patches(g, image, e->patch[0], e->patch[1], dg_imagenet_mean, dg_imagenet_std, false);
    x = dg_gather(g, x, ids, true); // [batch, n_visible, 3 ph pw]
    x = dg_vit_patch_embed(&v, x, e->patch[0], e->patch[1], e->width, true);
    x = dg_add(g, x, positions_at(g, pos, ids));
    x = join(g, x, class_row(g, dg_vit_token(&v, "cls_token", e->width), pos, p->batch));
    dg_tap(g, x, "enc_in"); // [batch, n_visible + 1, width]
    dg_vit_groups groups = {p->memory.k, p->memory.k};
    int64_t n = 0;
    for (int64_t i = 0; i < e->depth; i++) {
        v.layer = (int32_t)i + 1;
        dg_push(g, "blocks.%d", (int)i);
        x = dg_tap(g, dg_vit_block(&v, x, groups, DG_NO_VALUE), "enc_block.%d", (int)i);
        dg_pop(g);
        if (i + 1 == s->taps[n]) p->taps[n++] = x;
    }
}

/* ---- decoders */

/* The features that a decoder's blocks read: [batch, n_visible + 1,
 * decoder_width * decoder_depth], in which the block's index is the fastest.
 * One norm serves all taps. */
static dg_value features(const parts *p, const dg_vit *v, const branch *b)
{
    char name[32];
    dg_value normed[MAX_TAPS];
    snprintf(name, sizeof name, "%s_enc_norm.0", b->memory);
    for (int64_t i = 0; i < p->s->n_taps; i++) normed[i] = dg_vit_norm(v, p->taps[i], name, TAP_EPS);
    dg_value x = dg_concat(p->g, normed, (size_t)p->s->n_taps, 2);
    snprintf(name, sizeof name, "%s_enc2dec", b->memory);
    x = dg_vit_linear(v, x, name, p->s->decoder_width * p->s->decoder_depth, true);
    return dg_tap(p->g, x, "%s", name);
}

/* What block `i` reads of them: [batch, n_visible + 1, decoder_width]. */
static dg_value features_of_block(const parts *p, dg_value x, int64_t i)
{
    int64_t n = p->s->n_visible + 1, width = p->s->decoder_width, depth = p->s->decoder_depth;
    x = dg_reshape(p->g, x, DG_LIST(p->batch, n, width, depth));
    x = dg_slice(p->g, x, DG_LIST(0, 0, 0, i), DG_LIST(p->batch, n, width, i + 1));
    return dg_reshape(p->g, x, DG_LIST(p->batch, n, width));
}

/* The queries: a learned token at the positions to predict, and for the class
 * token if there is one to predict. */
static dg_value queries(const parts *p, const dg_vit *v, const branch *b)
{
    const digpt *s = p->s;
    char name[32];
    snprintf(name, sizeof name, "%s_token", b->own);
    dg_value token = dg_vit_token(v, name, s->decoder_width);
    dg_value pos = dg_encoder_positions(&s->encoder, p->g, "decoder_pos_embed", s->decoder_width, false);
    dg_value x = dg_add(p->g, positions_at(p->g, pos, ids_from(p, p->patch_table, b->first)), token);
    if (s->target_class) x = join(p->g, x, class_row(p->g, token, pos, p->batch));
    return dg_tap(p->g, x, "%s_dec_in", b->own);
}

/* [batch, n_visible (+ 1), target_width], on the grid of patches. */
static dg_value decode(const parts *p, const branch *b)
{
    const digpt *s = p->s;
    char name[32];
    dg_vit v = dg_encoder_vit(p->g, s->decoder_heads, s->decoder_hidden, -1);
    dg_value memory = features(p, &v, b), x = queries(p, &v, b);
    dg_vit_groups self = {p->memory.q, p->memory.q};
    for (int64_t i = 0; i < s->decoder_depth; i++) {
        dg_push(p->g, "%s_blocks.%d", b->own, (int)i);
        x = dg_vit_cross_block(&v, x, features_of_block(p, memory, i), self, p->memory);
        dg_tap(p->g, x, "%s_dec_block.%d", b->own, (int)i);
        dg_pop(p->g);
    }
    snprintf(name, sizeof name, "%s_norm", b->own);
    x = dg_vit_norm(&v, x, name, DG_ENCODER_EPS);
    snprintf(name, sizeof name, "%s_pred", b->own);
    return dg_tap(p->g, dg_vit_linear(&v, x, name, s->target_width, true), "%s", name);
}

/* Predictions on the grid of patches, resized segment by segment to the grid of
 * tokens: [batch, (n_segments - 1) * tokens (+ 1), target_width]. */
static dg_value to_target_grid(const parts *p, dg_value x)
{
    const digpt *s = p->s;
    int64_t h = s->encoder.grid[0] / s->segments[0], w = s->encoder.grid[1] / s->segments[1],
            n = s->n_segments - 1;
    int64_t th = s->target_grid[0], tw = s->target_grid[1];
    if (h == th && w == tw) return x;
    dg_value y = dg_vit_rows(p->g, x, 0, s->n_visible);
    y = dg_reshape(p->g, y, DG_LIST(p->batch * n, h, w, s->target_width));
    y = dg_resize(p->g, y, th, tw, false);
    y = dg_reshape(p->g, y, DG_LIST(p->batch, n * th * tw, s->target_width));
    return s->target_class ? join(p->g, y, dg_vit_rows(p->g, x, s->n_visible, s->n_visible + 1)) : y;
}

/* The tokens that answer them: [batch, positions, width] or ids [batch,
 * positions]. */
static dg_value targets(const parts *p, dg_value tokens, const branch *b)
{
    dg_value ids = ids_from(p, p->target_table, b->first);
    if (p->s->target_class) ids = join(p->g, ids, dg_fill(p->g, DG_I32, DG_LIST(p->batch, 1), 0));
    return dg_gather(p->g, tokens, ids, true);
}

dg_status digpt_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out,
                      dg_error *err)
{
    const digpt *s = self;
    if (!s->target_width)
        return dg_fail_key(err, DG_ERR_MISMATCH, "tokenizer",
                           "model digpt predicts tokens, and the recipe has no "
                           "tokenizer; add one (clip, pixels, ...)");
    int64_t rows = s->target_grid[0] * s->segments[0], columns = s->target_grid[1] * s->segments[1];
    parts p = {.s = s, .g = g, .batch = batch->batch};
    p.order = dg_input(g, "order", DG_I32, DG_LIST(batch->batch, s->n_segments), DG_PER_SAMPLE);
    p.patch_table = constant_table(s, g, s->encoder.grid[0], s->encoder.grid[1], 0);
    p.target_table = constant_table(s, g, rows, columns, s->target_class ? 1 : 0);
    p.memory.q = constant_groups(s, g, s->target_class);
    p.memory.k = constant_groups(s, g, true);
    encode_visible(&p, dg_batch_field(batch, "image"));
    out->n_predictions = 0;
    for (size_t i = 0; i < sizeof branch_table / sizeof branch_table[0]; i++) {
        const branch *b = &branch_table[i];
        if (s->branches != BRANCHES_BOTH && s->branches != b->only) continue;
        out->predictions[out->n_predictions++] = (dg_prediction){
            .name = b->name,
            .prediction = to_target_grid(&p, decode(&p, b)),
            .target = targets(&p, batch->tokens, b),
            .weight = DG_NO_VALUE,
            .scale = 1,
        };
    }
    return dg_graph_error(g, err);
}
