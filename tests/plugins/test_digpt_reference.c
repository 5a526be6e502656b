/* The model `digpt` with the loss `cosine` against golden tensors of the official code: fixture H of the
 * folder that DIGPT_REFERENCE names (a model of width 12), in double precision. */
#include "plugin_test.h"

#include "graph/rules.h"

static const char *reference_path(const char *name)
{
    static char ring[4][512];
    static unsigned next;
    char *p = ring[next++ % 4];
    snprintf(p, sizeof ring[0], "%s/%s", getenv("DIGPT_REFERENCE"), name);
    return p;
}

typedef struct fixture {
    dg_weights *weights, *io, *grads;
    dg_component model, loss;
    dg_graph *g;
    runner r;
} fixture;

#define N_MOST 512

/* Builds the step with taps, losses ("loss.next", "loss.visible") and their sum as outputs. */
static void build_step(fixture *f)
{
    dg_error err;
    static const dg_tokenizer_info tokens = {
        .struct_size = sizeof tokens, .grid_h = 16, .grid_w = 16, .class_token = 1, .width = 16};
    dg_model_env env = {.struct_size = sizeof env, .image_h = 224, .image_w = 224, .tokens = &tokens};
    ASSERT_OK(MAKE(&f->model, DG_MODEL_INTERFACE, "digpt", &env, "size=free", "width=12", "heads=3",
                   "depth=12", "decoder_width=8", "decoder_depth=2", "decoder_heads=2"));
    ASSERT_OK(dg_component_make(plugins(), DG_LOSS_INTERFACE, "cosine", NULL, 0, NULL, &f->loss, &err));
    dg_graph *g = f->g = dg_graph_create();
    const dg_field fields[] = {
        {"image", dg_input(g, "image", DG_U8, DG_LIST(2, 224, 224, 3), DG_PER_SAMPLE)}};
    dg_model_batch batch = {.struct_size = sizeof batch, .n_fields = 1, .batch = 2, .fields = fields};
    batch.tokens = dg_input(g, "tokens", DG_F32, DG_LIST(2, 257, 16), DG_PER_SAMPLE);
    dg_model_output out = {.struct_size = sizeof out};
    dg_push(g, "model");
    ASSERT_OK(((const dg_model_interface *)table_of(&f->model))->build(f->model.self, g, &batch, &out, &err));
    dg_pop(g);
    dg_value total = DG_NO_VALUE;
    for (uint32_t i = 0; i < out.n_predictions; i++) {
        char name[32];
        const dg_prediction *p = &out.predictions[i];
        dg_value each = build_loss(&f->loss, g, p->prediction, p->target); // [2, 193]
        dg_value mean = dg_div(g, dg_reduce_sum(g, each, DG_LIST(0, 1), false, DG_F32),
                               dg_fill(g, DG_F32, NULL, 0, 2 * 193));
        snprintf(name, sizeof name, "loss.%s", p->name);
        dg_graph_output(g, mean, name);
        total = i ? dg_add(g, total, mean) : mean;
    }
    dg_graph_output(g, total, "total");
}

static bool has_gradient(void *user, const dg_work *work)
{
    (void)user;
    return dg_grad_rule(work->op) != NULL;
}

/* Adds the gradients of all parameters as outputs "grad.NAME". */
static void add_gradients(fixture *f)
{
    dg_error err;
    dg_graph *g = NULL;
    dg_value total = DG_NO_VALUE, wrt[N_MOST], grads[N_MOST];
    const dg_named_value *outputs;
    size_t n = 0;
    ASSERT_OK(dg_pass_lower(f->g, has_gradient, NULL, &g, &err));
    dg_graph_destroy(f->g);
    f->g = g;
    for (size_t i = dg_graph_outputs(g, &outputs); i-- > 0;)
        if (strcmp(outputs[i].name, "total") == 0) total = outputs[i].value;
    int32_t n_nodes = dg_graph_count(g);
    for (int32_t i = 0; i < n_nodes; i++) {
        const dg_node *node = dg_graph_node(g, i);
        if (node->leaf && node->leaf->kind == DG_LEAF_PARAM && n < N_MOST) wrt[n++] = (dg_value){i, 0};
    }
    ASSERT_OK(dg_gradient(g, total, wrt, n, grads, &err));
    for (size_t i = 0; i < n; i++) {
        char name[160];
        snprintf(name, sizeof name, "grad.%s", dg_graph_node(g, wrt[i].node)->leaf->name + strlen("model."));
        dg_graph_output(g, grads[i], name);
    }
}

/* Weights, the small images enlarged four times by repetition, orders and target tokens. */
static void load_inputs(fixture *f)
{
    int64_t n;
    for (uint32_t i = 0; i < f->r.program->n_leaves; i++) {
        const dg_program_leaf *leaf = &f->r.program->leaves[i];
        if (leaf->kind == DG_LEAF_INPUT) continue;
        int64_t count;
        double *to = runner_leaf(&f->r, leaf->name, &count),
               *from = tensor_of(f->weights, leaf->name + strlen("model."), &n);
        assert_int_equal(n, count);
        memcpy(to, from, (size_t)n * sizeof *to);
        dg_free(from);
    }
    static const char *const names[][2] = {{"tokens", "target"}, {"model.order", "perm"}};
    for (int k = 0; k < 2; k++) {
        double *from = tensor_of(f->io, names[k][1], &n);
        memcpy(runner_leaf(&f->r, names[k][0], NULL), from, (size_t)n * sizeof *from);
        dg_free(from);
    }
    double *small = tensor_of(f->io, "input_small_u8", NULL), *image = runner_leaf(&f->r, "image", NULL);
    for (int b = 0; b < 2; b++)
        for (int y = 0; y < 224; y++)
            for (int x = 0; x < 224; x++)
                for (int c = 0; c < 3; c++)
                    image[((b * 224 + y) * 224 + x) * 3 + c] = small[((b * 56 + y / 4) * 56 + x / 4) * 3 + c];
    dg_free(small);
}

static int start(void **state)
{
    fixture *f = dg_calloc(1, sizeof *f);
    dg_error err;
    *state = f;
    if (!f || !getenv("DIGPT_REFERENCE")) return f ? 0 : -1;
    ASSERT_OK(dg_weights_open(reference_path("H_legacy.pth"), &f->weights, &err));
    ASSERT_OK(dg_weights_open(reference_path("H_io.safetensors"), &f->io, &err));
    ASSERT_OK(dg_weights_open(reference_path("H_grads_full.safetensors"), &f->grads, &err));
    build_step(f);
    add_gradients(f);
    runner_start(&f->r, f->g);
    load_inputs(f);
    runner_run(&f->r);
    return 0;
}

static int stop(void **state)
{
    fixture *f = *state;
    if (f->g) {
        runner_end(&f->r);
        dg_graph_destroy(f->g);
        dg_component_destroy(&f->model);
        dg_component_destroy(&f->loss);
        dg_weights_close(f->weights);
        dg_weights_close(f->io);
        dg_weights_close(f->grads);
    }
    dg_free(f);
    return 0;
}

static void predictions_are_the_official_ones(void **state)
{
    fixture *f = *state;
    if (!f->g) skip();
    static const char *const names[] = {"ar_pred", "kd_pred"};
    for (int k = 0; k < 2; k++) {
        char sample[32];
        int64_t n, count;
        snprintf(sample, sizeof sample, "%s::sample", names[k]);
        double *want = tensor_of(f->io, sample, &n), have[2048];
        const double *all = runner_output(&f->r, names[k], &count);
        assert_true(n <= 2048);
        for (int64_t i = 0; i < n; i++) have[i] = all[(uint32_t)((uint64_t)i * 2654435761u) % count];
        assert_close(names[k], have, want, n, 5e-6);
        dg_free(want);
    }
}

static void losses_are_the_official_ones(void **state)
{
    fixture *f = *state;
    if (!f->g) skip();
    double *want = tensor_of(f->io, "losses", NULL); /* [4, 2]: next, visible */
    assert_close("loss.next", runner_output(&f->r, "loss.next", NULL), &want[0], 1, 1e-5);
    assert_close("loss.visible", runner_output(&f->r, "loss.visible", NULL), &want[1], 1, 1e-5);
    dg_free(want);
}

static void gradients_are_the_official_ones(void **state)
{
    fixture *f = *state;
    if (!f->g) skip();
    size_t n_grads = 0;
    for (uint32_t i = 0; i < f->r.program->n_outputs; i++) {
        const char *name = f->r.program->outputs[i].name;
        int64_t n, count;
        if (strncmp(name, "grad.", 5) != 0) continue;
        n_grads++;
        double *want = tensor_of(f->grads, name, &n);
        const double *have = runner_output(&f->r, name, &count);
        assert_int_equal(n, count);
        assert_close(name, have, want, n, 7e-5);
        dg_free(want);
    }
    assert_int_equal(n_grads, dg_weights_count(f->grads)); /* every official parameter, and no other */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predictions_are_the_official_ones),
        cmocka_unit_test(losses_are_the_official_ones),
        cmocka_unit_test(gradients_are_the_official_ones),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
