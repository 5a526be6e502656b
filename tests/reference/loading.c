/* loading.c - parts of the fixtures B, E and F: what a fine-tuning starts from, and its layers' rates. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

/* The fine-tuning of a ViT as a built session; `model` as the recipe says it. */
static dg_status build_finetune(reference *r, const char *model, int image_size, const char *init_from,
                                const dg_classify_spec *classify, double layer_decay, session *s,
                                dg_error *err)
{
    const dg_optimizer optimizer = {0.9, 0.999, 1e-8, 0.05, 0, layer_decay};
    char recipe[1024];
    snprintf(recipe, sizeof recipe,
             "task: finetune\ndata: {source: synthetic, image_size: %d, batch: 1}\n"
             "model: {name: digpt, %s}\nbackend: {name: %s}\n%s%s%s",
             image_size, model, r->backend, init_from ? "train: {init_from: '" : "",
             init_from ? init_from : "", init_from ? "'}\n" : "");
    return session_build(r, recipe, &optimizer, classify, 1, s, err);
}

/* ---- B: a pretraining checkpoint */

static bool has_text(const dg_json *list, const char *text)
{
    for (const dg_json *e = list ? list->v.first : NULL; e; e = e->next)
        if (strcmp(e->v.text, text) == 0) return true;
    return false;
}

/* How many tensors were found, missing or left over other than recorded. */
static double count_differences(const dg_names *names, const dg_wanted *wanted, const dg_json *record,
                                const dg_json *left_over)
{
    const dg_json *missing = dg_json_get(record, "missing");
    double wrong = fabs((double)names->n_found - ref_number(record, "matched_count", -1)) +
                   fabs((double)names->n_missing - (double)missing->count) +
                   fabs((double)names->n_left_over - (double)left_over->count);
    for (size_t i = 0; i < names->n; i++)
        wrong += (names->matches[i].n_parts == 0) != has_text(missing, wanted[i].name);
    for (size_t i = 0; i < names->n_left_over; i++) wrong += !has_text(left_over, names->left_over[i]->name);
    return wrong;
}

static void check_load(reference *r, const char *kind, dg_pool pool, const char *model, const dg_weights *w,
                       const dg_json *record, const dg_json *left_over)
{
    const dg_classify_spec classify = {.classes = 10, .pool = pool, .head_std = 2e-5};
    session s = {0};
    dg_names names = {0};
    dg_error err = DG_ERROR_INIT;
    char title[96];
    size_t n = 0;
    dg_status st = build_finetune(r, model, 224, NULL, &classify, 0.65, &s, &err);
    dg_wanted *wanted = st == DG_OK ? dg_state_wanted(s.step.forward, &n) : NULL;
    if (wanted) st = dg_names_match(w, wanted, n, &names, &err);
    snprintf(title, sizeof title, "B what is loaded of a pretraining, %s", kind);
    if (wanted && st == DG_OK)
        ref_verdict(r, title, count_differences(&names, wanted, record, left_over), 0);
    else
        ref_broken(r, title, &err);
    dg_names_free(&names);
    dg_free(wanted);
    session_close(&s);
}

void ref_load_pretrained(reference *r, const dg_json *fixture)
{
    const dg_json *record = dg_json_get(fixture, "load_pretrained"),
                  *a = dg_json_get(dg_json_get(r->fixtures, "A"), "config"),
                  *pool = dg_json_get(record, "global_pool"), *class = dg_json_get(record, "cls_token");
    const char *path = record ? ref_expand(r, "A_weights.safetensors", "") : NULL;
    dg_weights *w = NULL;
    dg_error err = DG_ERROR_INIT;
    char model[128];
    if (!path) return;
    if (!pool || !class || dg_weights_open(path, &w, &err) != DG_OK) {
        ref_broken(r, "B what is loaded of a pretraining", &err);
        return;
    }
    snprintf(model, sizeof model, "size: free, width: %d, depth: %d, heads: %d",
             (int)ref_number(a, "embed", 0), (int)ref_number(a, "depth", 0), (int)ref_number(a, "heads", 0));
    const dg_json *left_over = dg_json_get(pool, "unexpected");
    check_load(r, "mean of tokens", DG_POOL_MEAN, model, w, pool, left_over);
    check_load(r, "class token", DG_POOL_CLASS, model, w, class, left_over);
    dg_weights_close(w);
}

/* ---- E: ViT-B's layers */

/* How many parameters are not in this group as recorded; *n: those seen. */
static double group_differences(const dg_program *p, const dg_json *group, int *seen)
{
    double scale = ref_number(group, "lr_scale", -1), decay = ref_number(group, "weight_decay", -1),
           wrong = 0;
    const dg_json *first = dg_json_get(group, "first"), *names = dg_json_get(group, "names");
    int64_t members = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const dg_program_node *n = &p->nodes[i];
        if (strcmp(n->op, "adamw") != 0) continue;
        const char *name = p->leaves[p->values[n->in[0]].leaf].name + strlen("model.");
        bool in = fabs(dg_attr_float(n->attrs, n->n_attrs, "lr_scale") - scale) <= 1e-12 * scale &&
                  fabs(dg_attr_float(n->attrs, n->n_attrs, "decay") - decay) <= 1e-12;
        members += in;
        if (first && strcmp(first->v.text, name) == 0) wrong += !in;
        if (names && names->type == DG_JSON_ARRAY) wrong += in != has_text(names, name);
    }
    *seen += (int)members;
    return wrong + fabs((double)members - ref_number(group, "n", -1));
}

static void check_decay(reference *r, const dg_json *record)
{
    const dg_classify_spec classify = {.classes = 1000, .head_std = 2e-5};
    const dg_json *groups = dg_json_get(record, "groups");
    session s = {0};
    dg_error err = DG_ERROR_INIT;
    char title[96];
    double wrong = 0;
    int seen = 0;
    snprintf(title, sizeof title, "E layers of ViT-B at a decay of %s", record->key);
    if (!groups || build_finetune(r, "size: B", 224, NULL, &classify, atof(record->key), &s, &err) != DG_OK) {
        ref_broken(r, title, &err);
        session_close(&s);
        return;
    }
    for (const dg_json *g = groups->v.first; g; g = g->next)
        wrong += group_differences(s.step.train, g, &seen);
    if (seen == 0)
        ref_skip(r, title, "this backend has adamw lowered");
    else
        ref_verdict(r, title, wrong, 0);
    session_close(&s);
}

void ref_layer_decay(reference *r, const dg_json *fixture)
{
    const dg_json *tables = dg_json_get(fixture, "vit_base_layer_decay");
    for (const dg_json *t = tables ? tables->v.first : NULL; t; t = t->next) check_decay(r, t);
}

/* ---- F: positions of another grid, as a fine-tuning at another image size starts with them */

static void check_interpolation(reference *r, const dg_weights *w, const dg_weight *t, const char *path,
                                double tol)
{
    const dg_classify_spec classify = {.classes = 10, .head_std = 2e-5};
    session s = {0};
    dg_error err = DG_ERROR_INIT;
    char title[96], model[96];
    int from, to;
    int64_t n, width = t->dims[t->rank - 1];
    if (sscanf(t->name, "interp.%dto%d", &from, &to) != 2) return;
    const float *want = ref_tensor(r, w, t->name, &n);
    float *have = dg_arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *have);
    const dg_type type = dg_make_type(DG_F32, t->dims, (size_t)t->rank);
    if (!want || !have) return;
    snprintf(title, sizeof title, "F %s", t->name);
    snprintf(model, sizeof model, "size: free, width: %d, depth: 1, heads: 1", (int)width);
    dg_status st = build_finetune(r, model, 16 * to, path, &classify, 0.65, &s, &err);
    if (st == DG_OK) st = session_fill(&s, &err);
    if (st == DG_OK) st = dg_state_read_f32(&s.state, "model.pos_embed", &type, have, &err);
    if (st == DG_OK)
        ref_compare(r, title, have, want, n, tol);
    else
        ref_broken(r, title, &err);
    session_close(&s);
}

void ref_interpolation(reference *r, const dg_json *fixture)
{
    dg_weights *w = ref_open(r, "F_pos_embed.safetensors");
    const char *path = w ? ref_expand(r, "F_pos_embed.safetensors", "ckpt_") : NULL;
    for (size_t i = 0; path && i < dg_weights_count(w); i++)
        check_interpolation(r, w, dg_weights_at(w, i), path, ref_tolerance(fixture, "interp", 2e-5));
    dg_weights_close(w);
}
