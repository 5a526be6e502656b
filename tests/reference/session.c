/* session.c - a training step from a recipe's text to its outputs (reference.h). */
#include "reference.h"

static dg_status load_recipe(const char *text, session *s, dg_error *err)
{
    static const char *const tests_own[] = {DIGPT_REFERENCE_PLUGINS};
    dg_diagnostics diags = {0};
    s->plugins.option_paths = tests_own;
    s->plugins.n_option = 1;
    s->schemas = dg_plugin_schemas(&s->plugins);
    dg_status status =
        dg_recipe_parse(text, strlen(text), "reference.yaml", NULL, 0, &s->schemas, &s->recipe, &diags);
    if (status != DG_OK) {
        dg_str out = {0};
        dg_diagnostics_print(&diags, &out);
        dg_fail(err, status, "%s", out.text ? out.text : "the recipe is wrong");
        dg_str_free(&out);
    }
    dg_diagnostics_free(&diags);
    return status;
}

dg_status session_build(reference *r, const char *recipe, const dg_optimizer *optimizer,
                        const dg_classify_spec *classify, int64_t batch, session *s, dg_error *err)
{
    memset(s, 0, sizeof *s);
    dg_step_spec spec = {.batch = batch,
                         .accumulate = 1,
                         .compute = r->compute,
                         .taps = true,
                         .gradients = true,
                         .optimizer = *optimizer,
                         .classify = classify};
    DG_TRY(load_recipe(recipe, s, err));
    DG_TRY(dg_parts_open(s->recipe, s->plugins.registry, true, &s->parts, err));
    return dg_step_build(&s->parts, &spec, &s->step, err);
}

dg_status session_fill(session *s, dg_error *err)
{
    DG_TRY(dg_state_open(&s->parts, &s->state, err));
    DG_TRY(dg_state_init(&s->state, s->step.forward, s->parts.seed, false, err));
    if (dg_recipe_is_set(s->recipe, "train.init_from"))
        DG_TRY(dg_state_init_from(&s->state, s->step.forward, dg_recipe_string(s->recipe, "train.init_from"),
                                  err));
    return DG_OK;
}

dg_status session_open(reference *r, const char *recipe, const dg_optimizer *optimizer,
                       const dg_classify_spec *classify, int64_t batch, session *s, dg_error *err)
{
    DG_TRY(session_build(r, recipe, optimizer, classify, batch, s, err));
    DG_TRY(session_fill(s, err));
    DG_TRY(dg_inputs_open(&s->parts, s->step.train, &s->inputs, err));
    DG_TRY(dg_backend_of(&s->parts)->compile(s->parts.backend.self, s->step.train, s->state.store, &s->exe,
                                             err));
    const dg_program *p = s->step.train;
    s->outputs = dg_calloc(p->n_outputs + 1, sizeof *s->outputs);
    for (uint32_t i = 0; s->outputs && i < p->n_outputs; i++) {
        s->outputs[i] = dg_calloc((size_t)dg_type_count(&p->values[p->outputs[i].value].type), sizeof(float));
        if (!s->outputs[i]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    return s->outputs ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

/* Narrow outputs are widened in place. */
static void widen(const dg_program *p, uint32_t i, void *data)
{
    const dg_type *t = &p->values[p->outputs[i].value].type;
    if (t->dtype != DG_BF16) return;
    uint16_t *narrow = data;
    float *wide = data;
    for (int64_t k = dg_type_count(t) - 1; k >= 0; k--) wide[k] = dg_bf16_to_f32(narrow[k]);
}

dg_status session_run(session *s, dg_error *err)
{
    const dg_program *p = s->step.train;
    dg_run io = {(uint32_t)sizeof io, s->inputs.n, s->inputs.data, p->n_outputs, 0, s->outputs};
    DG_TRY(dg_backend_of(&s->parts)->run(s->exe, &io, err));
    for (uint32_t i = 0; i < p->n_outputs; i++) widen(p, i, s->outputs[i]);
    return DG_OK;
}

void session_close(session *s)
{
    for (uint32_t i = 0; s->outputs && i < s->step.train->n_outputs; i++) dg_free(s->outputs[i]);
    dg_free(s->outputs);
    if (s->exe) dg_backend_of(&s->parts)->release(s->exe);
    dg_inputs_close(&s->inputs);
    dg_state_close(&s->state);
    dg_step_destroy(&s->step);
    dg_parts_close(&s->parts);
    dg_recipe_free(s->recipe);
    dg_registry_destroy(s->plugins.registry);
    memset(s, 0, sizeof *s);
}

const float *session_output(const session *s, const char *name, int64_t *n)
{
    const dg_program *p = s->step.train;
    for (uint32_t i = 0; i < p->n_outputs; i++)
        if (strcmp(p->outputs[i].name, name) == 0) {
            *n = dg_type_count(&p->values[p->outputs[i].value].type);
            return s->outputs[i];
        }
    *n = 0;
    return NULL;
}
