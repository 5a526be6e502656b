/* mae.c - fixture G: a masked-autoencoder step: mask, features, predictions, loss, gradients. */
#include "reference.h"

#include <math.h>

static dg_status give_inputs(reference *r, session *s, const dg_weights *w, int64_t batch, dg_error *err)
{
    int64_t n, m;
    const float *pixels = ref_tensor(r, w, "input_u8", &n), *order = ref_tensor(r, w, "ids_shuffle", &m);
    uint8_t *image = dg_inputs_buffer(&s->inputs, "image");
    int32_t *keep = dg_inputs_buffer(&s->inputs, "model.keep");
    dg_type t = dg_type_of(s->step.forward, dg_graph_leaf(s->step.forward, "model.keep"));
    if (!pixels || !order || !image || !keep)
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "the record or the program lacks the pictures or the kept patches");
    for (int64_t i = 0; i < n; i++) image[i] = (uint8_t)pixels[i];
    for (int64_t b = 0; b < batch; b++)
        for (int64_t k = 0; k < t.dims[1]; k++) keep[b * t.dims[1] + k] = (int32_t)order[b * (m / batch) + k];
    return DG_OK;
}

static void check_tap(reference *r, const session *s, const dg_weights *w, const char *name, double tol)
{
    char title[64];
    int64_t n, m;
    dg_error err = DG_ERROR_INIT;
    const float *want = ref_tensor(r, w, name, &n), *have = session_output(s, name, &m);
    snprintf(title, sizeof title, "G %s", name);
    if (want && have && n == m) {
        ref_compare(r, title, have, want, n, tol);
        return;
    }
    dg_fail(&err, DG_ERR_MISMATCH, "the program has no output '%s' of %lld elements", name, (long long)n);
    ref_broken(r, title, &err);
}

static void check_step(reference *r, const dg_json *json, const session *s, const dg_weights *w)
{
    int64_t n, m;
    bool exact = r->compute == DG_F32;
    const float *want = ref_tensor(r, w, "loss", &n), *have = session_output(s, "loss.removed", &m);
    double tol = exact ? ref_tolerance(json, "loss", 1e-5) : 0.01;
    if (want)
        ref_verdict(r, "G loss", have ? fabs((double)have[0] - (double)want[0]) / (double)want[0] : 1, tol);
    check_tap(r, s, w, "mask", 0);
    if (exact) check_tap(r, s, w, "latent", ref_tolerance(json, "pred, latent", 8e-6));
    if (exact) check_tap(r, s, w, "pred", ref_tolerance(json, "pred, latent", 8e-6));
    ref_gradients(r, s, "G", w, ref_tolerance(json, "grad", 3e-5));
}

void ref_mae(reference *r, const dg_json *json)
{
    dg_weights *w = ref_open(r, "G_mae.safetensors");
    const dg_json *c = dg_json_get(json, "config");
    const dg_optimizer optimizer = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.05};
    session s = {0};
    dg_error err = DG_ERROR_INIT;
    char recipe[1024];
    const int64_t batch = 2;
    const char *path = w ? ref_expand(r, "G_mae.safetensors", "w.") : NULL;
    if (!path) {
        dg_weights_close(w);
        return;
    }
    snprintf(recipe, sizeof recipe,
             "data: {source: synthetic, image_size: %d, batch: %d}\ntokenizer: {name: pixels, patch: %d}\n"
             "model: {name: mae, size: free, width: %d, depth: %d, heads: %d, patch: %d, mask_ratio: %g, "
             "decoder_width: %d, decoder_depth: %d, decoder_heads: %d}\n"
             "loss: {name: mse}\nbackend: {name: %s}\ntrain: {init_from: '%s'}\n",
             (int)ref_number(c, "img", 64), (int)batch, (int)ref_number(c, "p", 16),
             (int)ref_number(c, "D", 24), (int)ref_number(c, "depth", 2), (int)ref_number(c, "heads", 3),
             (int)ref_number(c, "p", 16), ref_number(json, "mask_ratio", 0.75), (int)ref_number(c, "d", 16),
             (int)ref_number(c, "dd", 1), (int)ref_number(c, "dh", 2), r->backend, path);
    dg_status st = session_open(r, recipe, &optimizer, NULL, batch, &s, &err);
    if (st == DG_OK) st = give_inputs(r, &s, w, batch, &err);
    if (st == DG_OK) st = session_run(&s, &err);
    if (st == DG_OK) check_step(r, json, &s, w);
    if (st != DG_OK) ref_broken(r, "G", &err);
    session_close(&s);
    dg_weights_close(w);
}
