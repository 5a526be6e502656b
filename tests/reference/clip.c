/* clip.c - fixture C: CLIP image towers from each naming, both GELUs: tokens after ln_post, after the
 * projection. */
#include "reference.h"

#include "base/file.h"

/* The tower's program: its input is the picture, its outputs are the taps. */
typedef struct tower {
    dg_registry *registry;
    dg_component tokenizer, backend;
    dg_graph *g, *narrow;
    dg_program *p;
    dg_state state;
    dg_backend_exe *exe;
} tower;

static dg_status build_tower(reference *r, const dg_component *tokenizer, int64_t batch,
                             const dg_tokenizer_info *info, tower *t, dg_error *err)
{
    dg_value tokens;
    t->g = dg_graph_create();
    if (!t->g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_value image =
        dg_input(t->g, "image", DG_U8, DG_LIST(batch, info->image_h, info->image_w, 3), DG_PER_SAMPLE);
    const dg_tokenizer_interface *i = tokenizer->ref.factory->interface;
    dg_push(t->g, "tokenizer");
    DG_TRY(i->build(tokenizer->self, t->g, image, &tokens, err));
    dg_graph_output(t->g, tokens, "tokens");
    DG_TRY(dg_graph_error(t->g, err));
    dg_parts parts = {.backend = t->backend};
    DG_TRY(dg_pass_precision(t->g, r->compute, &t->narrow, err));
    DG_TRY(dg_finish_program(t->narrow, &parts, "tokenize", true, &t->p, err));
    DG_TRY(dg_state_open(&parts, &t->state, err));
    DG_TRY(dg_state_init(&t->state, t->narrow, 0, false, err));
    const dg_backend_interface *b = t->backend.ref.factory->interface;
    return b->compile(t->backend.self, t->p, t->state.store, &t->exe, err);
}

static dg_status run_tower(tower *t, const uint8_t *image, float **out, int64_t *n, dg_error *err)
{
    const dg_backend_interface *b = t->backend.ref.factory->interface;
    const void *inputs[] = {image};
    dg_run io = {(uint32_t)sizeof io, 1, inputs, t->p->n_outputs, 0, (void *const *)out};
    for (uint32_t i = 0; i < t->p->n_outputs; i++) {
        n[i] = dg_type_count(&t->p->values[t->p->outputs[i].value].type);
        out[i] = dg_calloc((size_t)n[i], sizeof **out);
        if (!out[i]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    return b->run(t->exe, &io, err);
}

static void close_tower(tower *t)
{
    if (t->exe) ((const dg_backend_interface *)t->backend.ref.factory->interface)->release(t->exe);
    dg_state_close(&t->state);
    dg_program_destroy(t->p);
    dg_graph_destroy(t->narrow);
    dg_graph_destroy(t->g);
    dg_component_destroy(&t->tokenizer);
    dg_component_destroy(&t->backend);
}

static void check_tower(reference *r, const dg_json *c, const char *key, const char *naming, double tol)
{
    char file[64], title[128], settings[4][600];
    snprintf(file, sizeof file, "C_%s_%s.safetensors", key, naming);
    snprintf(title, sizeof title, "C %s %s", key, naming);
    char io_file[64];
    snprintf(io_file, sizeof io_file, "C_%s_io.safetensors", key);
    dg_weights *io = ref_open(r, io_file);
    int64_t n, m;
    const float *pixels = io ? ref_tensor(r, io, "input_u8", &n) : NULL;
    char *path = dg_path_join(r->dir, file);
    tower t = {.registry = r->registry};
    float *out[8] = {0};
    int64_t counts[8] = {0};
    dg_error err = DG_ERROR_INIT;
    if (pixels && path) {
        uint8_t *image = dg_arena_alloc(&r->arena, (size_t)n);
        for (int64_t i = 0; image && i < n; i++) image[i] = (uint8_t)pixels[i];
        int64_t size = (int64_t)ref_number(c, "config.image", 0), batch = n / (size * size * 3);
        const dg_json *act = dg_json_get(dg_json_get(c, "config"), "act");
        snprintf(settings[0], sizeof settings[0], "weights='%s'", path);
        snprintf(settings[1], sizeof settings[1], "activation=%s", act->v.text);
        snprintf(settings[2], sizeof settings[2], "heads=%d", (int)ref_number(c, "config.heads", 1));
        const char *const list[] = {settings[0], settings[1], settings[2]};
        dg_tokenizer_env env = {(uint32_t)sizeof env, 0, size, size, 0};
        dg_tokenizer_info info = {.struct_size = (uint32_t)sizeof info};
        dg_status s =
            dg_component_make(r->registry, DG_BACKEND_INTERFACE, r->backend, NULL, 0, NULL, &t.backend, &err);
        if (s == DG_OK)
            s = dg_component_make(r->registry, DG_TOKENIZER_INTERFACE, "clip", list, 3, &env, &t.tokenizer,
                                  &err);
        if (s == DG_OK)
            s = ((const dg_tokenizer_interface *)t.tokenizer.ref.factory->interface)
                    ->info(t.tokenizer.self, &info, &err);
        if (s == DG_OK) s = build_tower(r, &t.tokenizer, batch, &info, &t, &err);
        if (s == DG_OK) s = run_tower(&t, image, out, counts, &err);
        static const char *const names[][2] = {{"tokens", "proj_tokens"},
                                               {"tokenizer.ln_post", "ln_post_tokens"}};
        for (int k = 0; k < 2 && s == DG_OK; k++)
            for (uint32_t i = 0; i < t.p->n_outputs; i++) {
                if (strcmp(t.p->outputs[i].name, names[k][0]) != 0) continue;
                const float *want = ref_tensor(r, io, names[k][1], &m);
                snprintf(title, sizeof title, "C %s %s %s", key, naming, names[k][1]);
                if (want && m == counts[i]) ref_compare(r, title, out[i], want, m, tol);
            }
        if (s != DG_OK) ref_broken(r, title, &err);
    }
    for (int i = 0; i < 8; i++) dg_free(out[i]);
    close_tower(&t);
    dg_weights_close(io);
    dg_free(path);
}

void ref_clip(reference *r, const dg_json *fixture)
{
    if (r->compute != DG_F32) return;
    double tol = ref_tolerance(fixture, "proj_tokens, ln_post_tokens, pooled", 3e-5);
    for (const dg_json *c = fixture->v.first; c; c = c->next) {
        if (!dg_json_get(c, "config")) continue;
        check_tower(r, c, c->key, "openclip", tol);
        check_tower(r, c, c->key, "hf", tol);
    }
}
