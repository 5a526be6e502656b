/* tokenize.c - see tokenize.h. */
#include "tokenize.h"

dg_status dg_tokenize_build(const dg_parts *p, dg_graph *g, int64_t batch, dg_value *tokens, dg_error *err)
{
    const dg_tokenizer_info *t = &p->tokens;
    bool same = t->image_h == p->image_h && t->image_w == p->image_w;
    dg_value image = dg_input(g, same ? "image" : "image_tokenizer", DG_U8,
                              DG_LIST(batch, t->image_h, t->image_w, 3), DG_PER_SAMPLE);
    dg_push(g, "tokenizer");
    dg_status s = dg_tokenizer_of(p)->build(p->tokenizer.self, g, image, tokens, err);
    dg_pop(g);
    return s;
}

static dg_status build(const dg_parts *p, dg_graph *g, int64_t batch, dg_error *err)
{
    dg_value tokens;
    DG_TRY(dg_tokenize_build(p, g, batch, &tokens, err));
    dg_graph_output(g, p->tokens.discrete ? tokens : dg_convert(g, tokens, DG_F32), "tokens");
    return dg_graph_error(g, err);
}

dg_status dg_tokenize_graph(const dg_parts *p, int64_t batch, dg_dtype compute, dg_graph **graph,
                            dg_error *err)
{
    *graph = NULL;
    if (!p->tokenizer.self)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer", "the recipe has no tokenizer that could be run");
    dg_graph *g = dg_graph_create(), *narrow = NULL;
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = build(p, g, batch, err);
    if (s == DG_OK) s = dg_pass_precision(g, compute, &narrow, err);
    if (s == DG_OK) s = dg_pass_frozen(narrow, graph, err);
    dg_graph_destroy(g);
    dg_graph_destroy(narrow);
    return s;
}
