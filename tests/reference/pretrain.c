/* pretrain.c - fixtures A and H: a D-iGPT step with its activations, gradients and three AdamW steps. */
#include "reference.h"

#include <math.h>

#include "base/file.h"

typedef struct fixture {
    reference *r;
    const dg_json *json;
    const char *name; /* "A" */
    session s;
    dg_optimizer optimizer;
    double lr;
    int steps;
    dg_weights *io;
} fixture;

/* ---- comparing */

static void check_output(fixture *f, const char *output, const char *tensor, const char *what)
{
    char title[160];
    int64_t n, m;
    snprintf(title, sizeof title, "%s %s", f->name, tensor);
    const float *want = ref_tensor(f->r, f->io, tensor, &n), *have = session_output(&f->s, output, &m);
    dg_error err = DG_ERROR_INIT;
    if (!want) return;
    if (!have || n != m) {
        dg_fail(&err, DG_ERR_MISMATCH, "the program has no output '%s' of %lld elements", output,
                (long long)n);
        ref_broken(f->r, title, &err);
        return;
    }
    ref_compare(f->r, title, have, want, n, ref_tolerance(f->json, what, 1e-5));
}

/* ---- running */

static void set_scalars(fixture *f, int step)
{
    float *scalars = dg_inputs_buffer(&f->s.inputs, "scalars");
    double t = step + 1;
    if (!scalars) return;
    scalars[0] = (float)f->lr;
    scalars[1] = (float)(1 - pow(f->optimizer.beta1, t));
    scalars[2] = (float)(1 - pow(f->optimizer.beta2, t));
}

static void check_losses(fixture *f, int row, const float *recorded_losses)
{
    static const char *const names[] = {"loss.next", "loss.visible"};
    char title[160];
    for (int i = 0; i < 2; i++) {
        int64_t n;
        const float *loss = session_output(&f->s, names[i], &n);
        double want = recorded_losses[row * 2 + i],
               tol = ref_tolerance(f->json, row ? "losses[1..3]" : "losses[0]", 1e-5);
        if (f->r->compute != DG_F32) tol = 0.01;
        snprintf(title, sizeof title, "%s %s before step %d", f->name, names[i], row + 1);
        ref_verdict(f->r, title, loss ? fabs((double)loss[0] - want) / want : 1, tol);
    }
}

static dg_status run_steps(fixture *f, void (*after_first)(fixture *), dg_error *err)
{
    int64_t n;
    const float *losses = ref_tensor(f->r, f->io, "losses", &n);
    if (!losses) return DG_OK;
    for (int k = 0; k <= f->steps; k++) {
        set_scalars(f, k);
        if (k == f->steps) { /* the parameters first: this run updates them once more */
            char file[64];
            snprintf(file, sizeof file, "%s_after%d.safetensors", f->name, f->steps);
            char *path = dg_path_join(f->r->dir, file);
            dg_weights *after = path && dg_path_is_file(path) ? ref_open(f->r, file) : NULL;
            if (after && f->r->compute == DG_F32)
                ref_after(f->r, &f->s, f->name, after, "after.", f->steps, f->lr, 0.14);
            dg_weights_close(after);
            dg_free(path);
            after =
                f->name[0] == 'H' && f->r->compute == DG_F32 ? ref_open(f->r, "H_checkpoint-3.pth") : NULL;
            if (after) ref_after(f->r, &f->s, f->name, after, "", f->steps, f->lr, 0.14);
            dg_weights_close(after);
        }
        DG_TRY(session_run(&f->s, err));
        check_losses(f, k, losses);
        if (k == 0) after_first(f);
    }
    return DG_OK;
}

static dg_status give_order(fixture *f, dg_error *err)
{
    int64_t n;
    const float *perm = ref_tensor(f->r, f->io, "perm", &n);
    int32_t *order = dg_inputs_buffer(&f->s.inputs, "model.order");
    if (!perm || !order) return dg_fail(err, DG_ERR_NOT_FOUND, "the model has no input 'order'");
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)perm[i];
    return DG_OK;
}

static void read_hyper(fixture *f)
{
    const dg_json *hyper = dg_json_get(f->json, "hyper"), *betas = dg_json_get(hyper, "betas");
    f->lr = ref_number(hyper, "lr", 1e-3);
    f->steps = (int)ref_number(hyper, "steps", 3);
    f->optimizer = (dg_optimizer){betas->v.first->v.number,
                                  betas->v.first->next->v.number,
                                  ref_number(hyper, "eps", 1e-8),
                                  ref_number(hyper, "wd", 0.05),
                                  0,
                                  1};
}

static void common_recipe(const fixture *f, const char *tokenizer, const char *weights, char *out,
                          size_t size)
{
    const dg_json *c = dg_json_get(f->json, "config");
    snprintf(out, size,
             "data: {source: synthetic, image_size: 224, batch: %d}\n%s"
             "model: {name: digpt, size: free, width: %d, depth: %d, heads: %d, decoder_width: %d, "
             "decoder_depth: %d, decoder_heads: %d}\n"
             "loss: {name: cosine}\nbackend: {name: %s}\ntrain: {init_from: '%s'}\n",
             (int)ref_number(c, "batch", 2), tokenizer, (int)ref_number(c, "embed", 0),
             (int)ref_number(c, "depth", 12), (int)ref_number(c, "heads", 0),
             (int)ref_number(c, "dec_embed", 0), (int)ref_number(c, "dec_depth", 2),
             (int)ref_number(c, "dec_heads", 0), f->r->backend, weights);
}

/* ---- A */

static void check_pretrain(fixture *f)
{
    if (f->r->compute == DG_F32) {
        check_output(f, "tokens", "teacher_out", "teacher tokens");
        check_output(f, "ar_pred", "ar_pred", "predictions");
        check_output(f, "kd_pred", "kd_pred", "predictions");
        check_output(f, "loss_tokens.next", "ar_loss_tokens", "per-token losses");
        check_output(f, "loss_tokens.visible", "kd_loss_tokens", "per-token losses");
        dg_weights *acts = ref_open(f->r, "A_acts.safetensors");
        if (acts)
            ref_activations(f->r, &f->s, f->name, acts, "act.", ref_tolerance(f->json, "activations", 2e-5));
        dg_weights_close(acts);
    }
    dg_weights *grads = ref_open(f->r, "A_grads.safetensors");
    if (grads) ref_gradients(f->r, &f->s, f->name, grads, ref_tolerance(f->json, "gradients", 3e-5));
    dg_weights_close(grads);
}

void ref_pretrain(reference *r, const dg_json *json)
{
    fixture f = {.r = r, .json = json, .name = "A", .io = ref_open(r, "A_io.safetensors")};
    const char *weights = ref_expand(r, "A_weights.safetensors", ""),
               *teacher = ref_expand(r, "A_teacher.safetensors", "");
    const dg_json *c = dg_json_get(json, "config");
    dg_error err = DG_ERROR_INIT;
    char tokenizer[512], recipe[2048];
    int64_t n;
    if (!f.io || !weights || !teacher) return;
    read_hyper(&f);
    snprintf(tokenizer, sizeof tokenizer,
             "tokenizer: {name: clip, weights: '%s', activation: gelu, heads: %d}\n", teacher,
             (int)ref_number(c, "teacher.heads", ref_number(c, "teacher.width", 160) / 80));
    common_recipe(&f, tokenizer, weights, recipe, sizeof recipe);
    dg_status s = session_open(r, recipe, &f.optimizer, NULL, (int64_t)ref_number(c, "batch", 2), &f.s, &err);
    const float *pixels = s == DG_OK ? ref_tensor(r, f.io, "input_u8", &n) : NULL;
    uint8_t *image = s == DG_OK ? dg_inputs_buffer(&f.s.inputs, "image") : NULL;
    for (int64_t i = 0; pixels && image && i < n; i++) image[i] = (uint8_t)pixels[i];
    if (s == DG_OK) s = give_order(&f, &err);
    if (s == DG_OK) s = run_steps(&f, check_pretrain, &err);
    if (s != DG_OK) ref_broken(r, "A", &err);
    session_close(&f.s);
    dg_weights_close(f.io);
}

/* ---- H */

static void check_mini(fixture *f)
{
    if (f->r->compute == DG_F32)
        ref_activations(f->r, &f->s, f->name, f->io, "", ref_tolerance(f->json, "predictions", 5e-6));
    dg_weights *grads = ref_open(f->r, "H_grads_full.safetensors");
    if (grads) ref_gradients(f->r, &f->s, f->name, grads, ref_tolerance(f->json, "grads full", 7e-5));
    dg_weights_close(grads);
}

/* The 56 x 56 picture, each pixel four times in both directions. */
static void enlarge(const float *small, int64_t batch, uint8_t *image)
{
    for (int64_t b = 0; b < batch; b++)
        for (int64_t y = 0; y < 224; y++)
            for (int64_t x = 0; x < 224; x++)
                for (int64_t c = 0; c < 3; c++)
                    image[((b * 224 + y) * 224 + x) * 3 + c] =
                        (uint8_t)small[((b * 56 + y / 4) * 56 + x / 4) * 3 + c];
}

void ref_mini(reference *r, const dg_json *json)
{
    fixture f = {.r = r, .json = json, .name = "H", .io = ref_open(r, "H_io.safetensors")};
    const dg_json *c = dg_json_get(json, "config");
    dg_error err = DG_ERROR_INIT;
    char tokenizer[512], recipe[2048];
    int64_t n, m, batch = (int64_t)ref_number(c, "batch", 2);
    char *weights = dg_path_join(r->dir, "H_legacy.pth");
    if (!f.io || !weights) return;
    read_hyper(&f);
    snprintf(tokenizer, sizeof tokenizer, "tokenizer: {name: given, width: %d}\n",
             (int)ref_number(c, "pred", 16));
    common_recipe(&f, tokenizer, weights, recipe, sizeof recipe);
    dg_status s = session_open(r, recipe, &f.optimizer, NULL, batch, &f.s, &err);
    if (s == DG_OK) {
        const float *small = ref_tensor(r, f.io, "input_small_u8", &n),
                    *target = ref_tensor(r, f.io, "target", &m);
        uint8_t *image = dg_inputs_buffer(&f.s.inputs, "image");
        float *tokens = dg_inputs_buffer(&f.s.inputs, "tokenizer.given");
        if (small && image) enlarge(small, batch, image);
        if (target && tokens) memcpy(tokens, target, (size_t)m * sizeof *tokens);
        s = give_order(&f, &err);
    }
    if (s == DG_OK) s = run_steps(&f, check_mini, &err);
    if (s != DG_OK) ref_broken(r, "H", &err);
    session_close(&f.s);
    dg_weights_close(f.io);
    dg_free(weights);
}
