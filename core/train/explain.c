/* explain.c - see explain.h. */
#include "explain.h"


static void say_count(dg_str *out, const char *label, double n)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    int u = 0;
    while (n >= 1000 && u < 5) {
        n /= 1000;
        u++;
    }
    dg_str_printf(out, "%-22s %.4g %s\n", label, n, units[u]);
}

static void say_bytes(dg_str *out, const char *label, uint64_t bytes)
{
    if (bytes >= (uint64_t)1 << 30)
        dg_str_printf(out, "%-22s %.2f GiB\n", label, (double)bytes / (1 << 30));
    else
        dg_str_printf(out, "%-22s %.1f MiB\n", label, (double)bytes / (1 << 20));
}

static void say_tokens(const dg_parts *p, dg_str *out)
{
    const dg_tokenizer_info *t = &p->tokens;
    dg_str_printf(out, "%-22s %lld x %lld\n", "image", (long long)p->image_h, (long long)p->image_w);
    if (!t->struct_size) {
        dg_str_printf(out, "%-22s none\n", "tokenizer");
        return;
    }
    dg_str_printf(out, "%-22s %s: %s\n", "tokenizer", p->tokenizer.ref.factory->name, t->summary);
    dg_str_printf(out, "%-22s %lld x %lld%s of ", "tokens", (long long)t->grid_h, (long long)t->grid_w, t->class_token ? " and a class token" : "");
    if (t->discrete)
        dg_str_printf(out, "%lld ids", (long long)t->vocabulary);
    else
        dg_str_printf(out, "%lld numbers", (long long)t->width);
    dg_str_printf(out, ", from %lld x %lld pixels\n", (long long)t->image_h, (long long)t->image_w);
}

/* Predictions, by the taps of their position-wise losses. */
static void say_predictions(const dg_parts *p, const dg_step *step, dg_str *out)
{
    for (uint32_t i = 0; i < step->n_predictions; i++) {
        char tap[64], shape[96];
        snprintf(tap, sizeof tap, "loss_tokens.%s", step->prediction_names[i]);
        dg_value v = dg_graph_tap(step->forward, tap);
        dg_type t = dg_type_of(step->forward, v);
        dg_str_printf(out, "%-22s %s: loss %s of %s\n", i ? "" : "predictions", step->prediction_names[i], p->loss.ref.factory->name,
                      dg_type_text(&t, shape, sizeof shape));
    }
}

static void say_plan(const dg_parts *p, const dg_run_plan *plan, dg_str *out)
{
    dg_str_printf(out, "%-22s %lld x %lld = %lld images a step\n", "batch", (long long)plan->batch, (long long)plan->accumulate,
                  (long long)(plan->batch * plan->accumulate));
    dg_str_printf(out, "%-22s %s on %s\n", "precision", dg_dtype_name(plan->compute), p->backend.ref.factory->name);
    dg_str_printf(out, "%-22s %.4g at the peak, after %.0f steps\n", "learning rate", plan->lr, plan->warmup_steps);
    if (plan->images > 0)
        dg_str_printf(out, "%-22s %lld (%lld an epoch of %lld images)\n", "steps", (long long)plan->steps, (long long)plan->steps_per_epoch,
                      (long long)plan->images);
    if (plan->images > 0 && plan->warmup_steps >= (double)plan->steps)
        dg_str_printf(out, "%-22s the warm-up is as long as the run: the peak is never reached\n", "warning");
}

dg_status dg_explain(const dg_parts *parts, int64_t images, dg_str *out, dg_error *err)
{
    dg_run_plan plan;
    dg_step step = {0};
    dg_memory_need need = {.struct_size = (uint32_t)sizeof need};
    DG_TRY(dg_run_make_plan(parts, images, &plan, err));
    dg_step_spec spec = {.batch = plan.batch, .accumulate = (int32_t)plan.accumulate, .compute = plan.compute, .optimizer = plan.optimizer};
    dg_status s = dg_step_build(parts, &spec, &step, err);
    if (s == DG_OK) s = dg_backend_of(parts)->memory(parts->backend.self, step.train, &need, err);
    if (s == DG_OK) {
        dg_cost c = dg_program_cost(step.train);
        say_tokens(parts, out);
        dg_str_printf(out, "%-22s %s\n", "model", parts->model.ref.factory->name);
        say_predictions(parts, &step, out);
        say_count(out, "parameters", (double)c.parameters);
        if (c.frozen) say_count(out, "frozen parameters", (double)c.frozen);
        dg_str_printf(out, "%-22s %.4g GFLOP\n", "an image takes", 1e-9 * c.flops / (double)plan.batch);
        dg_str_printf(out, "%-22s %u nodes, %u leaves\n", "program", step.train->n_nodes, step.train->n_leaves);
        say_bytes(out, "memory", need.state + need.temporary + need.packed);
        say_bytes(out, "  state", need.state);
        say_bytes(out, "  during a step", need.temporary);
        if (need.packed) say_bytes(out, "  packed weights", need.packed);
        say_plan(parts, &plan, out);
        s = dg_str_check(out, err);
    }
    dg_step_destroy(&step);
    return s;
}
