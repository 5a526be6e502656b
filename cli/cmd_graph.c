/* cmd_graph.c - `digpt graph RECIPE`: the program of a training step, before or after passes, as text or dot.
 */
#include "cli.h"

#include "train/finetune.h"
#include "train/run.h"

enum { FORWARD, PRECISION, TRAIN, PRIMITIVES, APPLY, N_STAGES };
static const char *const stages[N_STAGES] = {"forward", "precision", "train", "primitives", "apply"};

static int find_stage(const char *name)
{
    for (int i = 0; i < N_STAGES; i++)
        if (!strcmp(name, stages[i])) return i;
    const char *nearest = dg_nearest(name, stages, N_STAGES);
    cli_usage("graph: there is no pass '%s'%s%s%s See digpt graph --help", name,
              nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ".");
    return -1;
}

static dg_status print_program(const dg_program *p, bool dot, dg_str *text, dg_error *err)
{
    if (!p)
        return dg_fail_key(err, DG_ERR_INVALID, "train.accumulate",
                           "without accumulation the program `train` does the update");
    if (dot)
        dg_program_dot(p, text);
    else
        dg_program_print(p, text);
    return DG_OK;
}

static dg_status print_graph(const dg_graph *g, const char *name, bool dot, dg_str *text, dg_error *err)
{
    dg_program *program = NULL;
    DG_TRY(dg_program_make(g, name, true, &program, err));
    dg_status s = print_program(program, dot, text, err);
    dg_program_destroy(program);
    return s;
}

static dg_status print_forward(const dg_parts *parts, const dg_step_spec *spec, bool dot, dg_str *text,
                               dg_error *err)
{
    dg_graph *g = NULL;
    dg_step names = {0};
    DG_TRY(dg_step_forward(parts, spec, &g, &names, err));
    dg_status s = print_graph(g, stages[FORWARD], dot, text, err);
    dg_graph_destroy(g);
    return s;
}

static dg_status print_step(const dg_parts *parts, const dg_step_spec *spec, int stage, bool dot,
                            dg_str *text, dg_error *err)
{
    dg_step step = {0};
    dg_status s = dg_step_build(parts, spec, &step, err);
    if (s == DG_OK)
        s = stage == PRECISION ? print_graph(step.forward, stages[stage], dot, text, err)
                               : print_program(stage == APPLY ? step.apply : step.train, dot, text, err);
    dg_step_destroy(&step);
    return s;
}

static dg_status build_and_print(const cli_recipe *r, int stage, bool dot, dg_str *text, dg_error *err)
{
    dg_parts parts = {0};
    dg_run_plan plan = {0};
    dg_finetune finetune;
    dg_step_spec spec;
    /* Without a backend to ask, every composite is lowered. */
    dg_status s = dg_parts_open(r->recipe, r->plugins.registry, stage != PRIMITIVES, &parts, err);
    if (s == DG_OK) s = dg_run_make_plan(&parts, 0, &plan, err);
    if (s == DG_OK) s = dg_task_spec(&parts, &plan, -1, &finetune, &spec, err);
    if (s == DG_OK)
        s = stage == FORWARD ? print_forward(&parts, &spec, dot, text, err)
                             : print_step(&parts, &spec, stage, dot, text, err);
    dg_parts_close(&parts);
    return s;
}

static int run(const cli_args *args)
{
    int stage = cli_value(args, "pass") ? find_stage(cli_value(args, "pass")) : TRAIN;
    if (stage < 0) return CLI_USAGE;
    cli_recipe r;
    dg_error err = DG_ERROR_INIT;
    dg_str text = {0};
    int code = cli_recipe_open(args, args->words[0], args->words + 1, args->n_words - 1, &r);
    if (code != CLI_OK) return code;
    if (build_and_print(&r, stage, cli_has(args, "dot"), &text, &err) == DG_OK)
        code = cli_print(&text);
    else
        code = cli_recipe_fail(&r, &err);
    cli_recipe_close(&r);
    return code;
}

static const cli_option options[] = {{"pass", "NAME", "which state of the program: see above"},
                                     {"dot", NULL, "for graphviz: digpt graph RECIPE --dot | dot -Tsvg"},
                                     CLI_PLUGIN_PATH,
                                     {NULL, NULL, NULL}};

const cli_command cmd_graph = {
    "graph",
    "RECIPE [key=value ...]",
    1,
    -1,
    "print the program of a training step",
    "Its states, for --pass:\n"
    "  forward     as tokenizer, model and loss built it\n"
    "  precision   the forward pass with operands in the compute dtype\n"
    "  train       what the backend runs: with gradient, optimizer and all passes (the default)\n"
    "  primitives  the same for a backend that takes no composite op\n"
    "  apply       the update, where gradients are accumulated",
    options,
    run};
