/* finetune.c - fixture B: a fine-tuning step: logits, loss of soft targets, gradients, two AdamW steps with
 * layer-wise learning rates. */
#include "reference.h"

#include <math.h>

typedef struct fixture {
    reference *r;
    const dg_json *json;
    session s;
    dg_weights *io;
    dg_optimizer optimizer;
    double lr;
    int steps;
} fixture;

/* The recorded table of every parameter's learning-rate scale and weight decay, against the program's adamw
 * nodes. */
static void check_groups(fixture *f)
{
    const dg_json *table = dg_json_get(f->json, "per_param_lr_scale_and_weight_decay");
    const dg_program *p = f->s.step.train;
    double worst = 0;
    int found = 0, updates = 0;
    for (uint32_t i = 0; i < p->n_nodes && table; i++) {
        const dg_program_node *n = &p->nodes[i];
        if (strcmp(n->op, "adamw") != 0) continue;
        updates++;
        const char *name = p->leaves[p->values[n->in[0]].leaf].name;
        const dg_json *row = dg_json_get(table, name + strlen("model."));
        const dg_json *scale = row ? row->v.first : NULL;
        if (!scale) continue;
        double want = scale->type == DG_JSON_INT ? (double)scale->v.integer : scale->v.number;
        double decay =
            scale->next->type == DG_JSON_INT ? (double)scale->next->v.integer : scale->next->v.number;
        worst = fmax(worst, fabs(dg_attr_float(n->attrs, n->n_attrs, "lr_scale") - want));
        worst = fmax(worst, fabs(dg_attr_float(n->attrs, n->n_attrs, "decay") - decay));
        found++;
    }
    if (table && !updates) { /* the parameters after the steps tell then */
        ref_skip(f->r, "B learning-rate scales and decays", "this backend has adamw lowered");
        return;
    }
    if (found == 0) { /* a backend that takes no composites: the numbers are in other nodes */
        ref_skip(f->r, "B learning-rate scales and decays", "the backend has no adamw of its own");
        return;
    }
    char title[96];
    snprintf(title, sizeof title, "B learning-rate scales and decays (%d parameters)", found);
    ref_verdict(f->r, title, table && found == (int)table->count ? worst : 1, 1e-12);
}

static void check_first(fixture *f)
{
    int64_t n, m;
    const float *want = ref_tensor(f->r, f->io, "logits", &n), *have = session_output(&f->s, "logits", &m);
    if (f->r->compute == DG_F32 && want && have && n == m)
        ref_compare(f->r, "B logits", have, want, n, ref_tolerance(f->json, "logits", 3e-6));
    if (f->r->compute == DG_F32)
        ref_activations(f->r, &f->s, "B", f->io, "act.", ref_tolerance(f->json, "activations", 2e-5));
    dg_weights *grads = ref_open(f->r, "B_grads.safetensors");
    if (grads) ref_gradients(f->r, &f->s, "B", grads, ref_tolerance(f->json, "gradients", 2e-5));
    dg_weights_close(grads);
    check_groups(f);
}

static void check_after(fixture *f)
{
    dg_weights *after = f->r->compute == DG_F32 ? ref_open(f->r, "B_after2.safetensors") : NULL;
    if (after) ref_after(f->r, &f->s, "B", after, "after.", f->steps, f->lr, 0.1);
    dg_weights_close(after);
}

static dg_status run_steps(fixture *f, dg_error *err)
{
    int64_t n, m;
    const float *losses = ref_tensor(f->r, f->io, "losses", &n);
    float *scalars = dg_inputs_buffer(&f->s.inputs, "scalars");
    for (int k = 0; losses && scalars && k <= f->steps; k++) {
        char title[64];
        scalars[0] = (float)f->lr;
        scalars[1] = (float)(1 - pow(f->optimizer.beta1, k + 1));
        scalars[2] = (float)(1 - pow(f->optimizer.beta2, k + 1));
        if (k == f->steps) check_after(f); /* this run updates once more */
        DG_TRY(session_run(&f->s, err));
        const float *loss = session_output(&f->s, "loss", &m);
        snprintf(title, sizeof title, "B loss before step %d", k + 1);
        /* Adam turns rounding of small gradients into whole steps: in bf16 only what comes before the first
         * one. */
        if (f->r->compute != DG_F32 && k > 0) continue;
        ref_verdict(f->r, title, fabs((double)loss[0] - (double)losses[k]) / (double)losses[k],
                    f->r->compute == DG_F32 ? ref_tolerance(f->json, "losses", 1e-5) : 0.01);
        if (k == 0) check_first(f);
    }
    return DG_OK;
}

/* The pictures of fixture A, the labels, and a mix that touches the targets only. */
static void give_inputs(fixture *f)
{
    int64_t n, m;
    dg_weights *a = ref_open(f->r, "A_io.safetensors");
    const float *pixels = a ? ref_tensor(f->r, a, "input_u8", &n) : NULL,
                *labels = ref_tensor(f->r, f->io, "labels", &m);
    uint8_t *image = dg_inputs_buffer(&f->s.inputs, "image");
    int32_t *label = dg_inputs_buffer(&f->s.inputs, "label");
    float *mix = dg_inputs_buffer(&f->s.inputs, "mix");
    for (int64_t i = 0; pixels && image && i < n; i++) image[i] = (uint8_t)pixels[i];
    for (int64_t i = 0; labels && label && i < m; i++) label[i] = (int32_t)labels[i];
    mix[DG_MIX_INSIDE] = mix[DG_MIX_OUTSIDE] = 1;
    mix[DG_MIX_LABEL] = (float)ref_number(f->json, "lam", 0.3);
    dg_weights_close(a);
}

void ref_finetune(reference *r, const dg_json *json)
{
    fixture f = {.r = r, .json = json, .io = ref_open(r, "B_io.safetensors")};
    const char *weights = ref_expand(r, "B_weights.safetensors", "");
    const dg_json *c = dg_json_get(json, "config"), *hyper = dg_json_get(json, "hyper"),
                  *betas = dg_json_get(hyper, "betas");
    dg_error err = DG_ERROR_INIT;
    char recipe[1024];
    if (!f.io || !weights) return;
    f.lr = ref_number(hyper, "lr", 1e-3);
    f.steps = (int)ref_number(hyper, "steps", 2);
    f.optimizer = (dg_optimizer){betas->v.first->v.number,
                                 betas->v.first->next->v.number,
                                 ref_number(hyper, "eps", 1e-8),
                                 ref_number(hyper, "wd", 0.05),
                                 0,
                                 ref_number(hyper, "layer_decay", 0.65)};
    snprintf(recipe, sizeof recipe,
             "task: finetune\ndata: {source: synthetic, image_size: 224, batch: 2}\n"
             "model: {name: digpt, size: free, width: %d, depth: %d, heads: %d}\nbackend: {name: %s}\ntrain: "
             "{init_from: '%s'}\n",
             (int)ref_number(c, "embed", 0), (int)ref_number(c, "depth", 4), (int)ref_number(c, "heads", 3),
             r->backend, weights);
    dg_classify_spec classify = {
        .classes = (int64_t)ref_number(c, "classes", 10), .smoothing = 0.1, .head_std = 2e-5, .mix = true};
    dg_status s = session_open(r, recipe, &f.optimizer, &classify, 2, &f.s, &err);
    if (s == DG_OK) give_inputs(&f);
    if (s == DG_OK) s = run_steps(&f, &err);
    if (s != DG_OK) ref_broken(r, "B", &err);
    session_close(&f.s);
    dg_weights_close(f.io);
    ref_load_pretrained(r, json);
}
