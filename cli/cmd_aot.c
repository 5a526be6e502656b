/* cmd_aot.c - `digpt aot`: the training step of a recipe, compiled for devices that are not here. */
#include "cli.h"

#include <stdlib.h>

#include "base/mem.h"
#include "io/jsonl.h"
#include "train/finetune.h"
#include "train/run.h"

#define MOST_PROGRAMS 2

/* What was found out about one program of the step. */
typedef struct compiled {
    const dg_program *program;
    dg_ahead ahead;
    uint64_t elsewhere; /* state that lies on the device and that this program does not take */
} compiled;

typedef struct aot {
    dg_parts parts;
    dg_run_plan plan;
    dg_step step;
    compiled programs[MOST_PROGRAMS];
    int n;
} aot;

/* ---- compiling */

static uint64_t state_bytes(const dg_program *p, const dg_program *but_not)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; p && i < p->n_leaves; i++) {
        bool there = p->leaves[i].kind == DG_LEAF_INPUT;
        for (uint32_t k = 0; but_not && k < but_not->n_leaves && !there; k++)
            there = strcmp(p->leaves[i].name, but_not->leaves[k].name) == 0;
        if (!there) bytes += (uint64_t)dg_type_bytes(&p->values[p->leaves[i].value].type);
    }
    return bytes;
}

static dg_status compile(aot *a, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(&a->parts);
    const dg_program *programs[MOST_PROGRAMS] = {a->step.train, a->step.apply};
    if (!DG_HAS(b, dg_backend_interface, ahead) || !b->ahead)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "backend",
                           "the backend '%s' cannot compile for devices that are not here; give --target",
                           a->parts.backend.ref.factory->name);
    for (int i = 0; i < MOST_PROGRAMS && programs[i]; i++) {
        compiled *c = &a->programs[a->n++];
        c->program = programs[i];
        c->elsewhere = state_bytes(programs[1 - i], programs[i]);
        c->ahead.struct_size = (uint32_t)sizeof c->ahead;
        DG_TRY(b->ahead(a->parts.backend.self, c->program, &c->ahead, err));
    }
    return DG_OK;
}

static dg_status build(aot *a, const cli_recipe *r, dg_error *err)
{
    DG_TRY(dg_parts_open(r->recipe, r->plugins.registry, true, &a->parts, err));
    DG_TRY(dg_run_make_plan(&a->parts, 0, &a->plan, err));
    dg_finetune finetune;
    dg_step_spec spec;
    DG_TRY(dg_task_spec(&a->parts, &a->plan, -1, &finetune, &spec, err));
    DG_TRY(dg_step_build(&a->parts, &spec, &a->step, err));
    return compile(a, err);
}

static uint64_t total(const compiled *c)
{
    return c->ahead.arguments + c->ahead.results + c->ahead.temporary + c->ahead.code + c->elsewhere;
}

static bool fits(const compiled *c)
{
    return c->ahead.fits && (!c->ahead.memory || total(c) <= c->ahead.memory);
}

/* ---- what fills the memory, where it does not fit: our own count of what lives at once */

typedef struct kind {
    const dg_program_node *node; /* the first of its kind */
    dg_type type;
    uint64_t bytes;
    int n;
} kind;

static int by_bytes(const void *a, const void *b)
{
    uint64_t x = ((const kind *)a)->bytes, y = ((const kind *)b)->bytes;
    return x > y ? -1 : x < y;
}

/* Values that a compiler computes again where they are read. */
static bool is_kept(const dg_program *p, uint32_t i)
{
    static const char *const not_kept[] = {"broadcast", "constant", "convert",  "fill",
                                           "iota",      "reshape",  "transpose"};
    const dg_program_value *v = &p->values[i];
    if (v->node < 0 || v->last <= v->node) return false;
    for (size_t k = 0; k < sizeof not_kept / sizeof not_kept[0]; k++)
        if (strcmp(p->nodes[v->node].op, not_kept[k]) == 0) return false;
    return true;
}

/* The node during which most bytes are alive. */
static uint32_t fullest(const dg_program *p, int64_t *change)
{
    int64_t now = 0, most = -1;
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->n_values; i++) {
        if (!is_kept(p, i)) continue;
        int64_t bytes = dg_type_bytes(&p->values[i].type);
        change[p->values[i].node] += bytes;
        change[p->values[i].last + 1] -= bytes;
    }
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        now += change[n];
        if (now > most) {
            most = now;
            at = n;
        }
    }
    return at;
}

static void what_is_alive(const dg_program *p, dg_str *rows)
{
    kind *kinds = dg_calloc(p->n_values + 1, sizeof *kinds);
    int64_t *change = dg_calloc(p->n_nodes + 2, sizeof *change);
    size_t n = 0;
    uint32_t at = kinds && change ? fullest(p, change) : 0;
    for (uint32_t i = 0; kinds && change && i < p->n_values; i++) {
        const dg_program_value *v = &p->values[i];
        if (!is_kept(p, i) || v->node > (int32_t)at || v->last < (int32_t)at) continue;
        const dg_program_node *node = &p->nodes[v->node];
        size_t k = 0;
        while (k < n && !(strcmp(kinds[k].node->op, node->op) == 0 && kinds[k].type.dtype == v->type.dtype &&
                          dg_same_dims(&kinds[k].type, &v->type)))
            k++;
        if (k == n) kinds[n++] = (kind){node, v->type, 0, 0};
        kinds[k].bytes += (uint64_t)dg_type_bytes(&v->type);
        kinds[k].n++;
    }
    if (n) qsort(kinds, n, sizeof *kinds, by_bytes);
    for (size_t k = 0; k < n && k < 5; k++) {
        char bytes[32], type[96];
        dg_str_printf(rows, "%s\t%s: %d x %s, results of %s as in '%s'\n", k ? "" : "  alive at once",
                      cli_bytes((double)kinds[k].bytes, bytes, sizeof bytes), kinds[k].n,
                      dg_type_text(&kinds[k].type, type, sizeof type), kinds[k].node->op,
                      kinds[k].node->scope);
    }
    dg_free(kinds);
    dg_free(change);
}

/* ---- telling */

static void tell_program(const aot *a, const compiled *c, dg_str *rows)
{
    const dg_ahead *x = &c->ahead;
    char s[6][32];
    dg_cost cost = dg_program_cost(c->program);
    dg_str_printf(rows, "program\t%s: %u nodes, compiled in %.1f s\n", c->program->name, c->program->n_nodes,
                  x->seconds);
    if (cost.flops > 0)
        dg_str_printf(rows, "  work\t%.4g GFLOP an image in products\n",
                      1e-9 * cost.flops * a->step.ranks / (double)a->plan.batch);
    if (!x->fits) {
        dg_str_printf(rows, "  memory\tdoes not fit: what lives during a step takes %s, a device has %s\n",
                      cli_bytes((double)x->temporary, s[0], sizeof s[0]),
                      cli_bytes((double)x->memory, s[1], sizeof s[1]));
    } else {
        dg_str_printf(rows, "  counted\t%.4g TFLOP and %s moved a run and device, by the compiler\n",
                      1e-12 * x->flops, cli_bytes(x->bytes, s[0], sizeof s[0]));
        dg_str_printf(
            rows, "  memory\t%s%s of %s: %s of state and inputs, %s during a step, %s of code and results",
            fits(c) ? "fits: " : "does not fit: ", cli_bytes((double)total(c), s[1], sizeof s[1]),
            cli_bytes((double)x->memory, s[2], sizeof s[2]),
            cli_bytes((double)x->arguments, s[3], sizeof s[3]),
            cli_bytes((double)x->temporary, s[4], sizeof s[4]),
            cli_bytes((double)(x->code + x->results), s[5], sizeof s[5]));
        if (c->elsewhere)
            dg_str_printf(rows, ", %s of state for the other program",
                          cli_bytes((double)c->elsewhere, s[0], sizeof s[0]));
        dg_str_puts(rows, "\n");
    }
    if (fits(c)) return;
    what_is_alive(c->program, rows);
    dg_str_printf(rows, "  remedy\tfewer images at a time: data.batch=%lld train.accumulate=%lld\n",
                  (long long)(a->plan.batch / 2), (long long)(a->plan.accumulate * 2));
}

static void tell(const aot *a, const char *recipe, const char *target, dg_str *rows)
{
    char memory[32];
    const dg_ahead *x = &a->programs[0].ahead;
    dg_str_printf(rows, "recipe\t%s\n", recipe);
    dg_str_printf(rows, "target\t%s%s%u x %s, %s each; %u of them used\n", target, *target ? ": " : "",
                  x->devices, x->device, cli_bytes((double)x->memory, memory, sizeof memory), a->step.ranks);
    dg_str_printf(rows, "compiler\t%s\n", x->compiler);
    dg_str_printf(rows, "batch\t%lld images a device in %s\n", (long long)a->plan.batch / a->step.ranks,
                  dg_dtype_name(a->plan.compute));
    for (int i = 0; i < a->n; i++) tell_program(a, &a->programs[i], rows);
}

static void tell_json(const aot *a, const char *target, dg_str *out)
{
    for (int i = 0; i < a->n; i++) {
        const compiled *c = &a->programs[i];
        dg_str row = {0};
        dg_row_text(&row, "target", target);
        dg_row_text(&row, "device", c->ahead.device);
        dg_row_text(&row, "compiler", c->ahead.compiler);
        dg_row_text(&row, "program", c->program->name);
        dg_row_int(&row, "nodes", c->program->n_nodes);
        dg_row_int(&row, "images_per_device", a->plan.batch / a->step.ranks);
        dg_row_int(&row, "replicas", a->step.ranks);
        dg_row_text(&row, "precision", dg_dtype_name(a->plan.compute));
        dg_row_number(&row, "compile_seconds", c->ahead.seconds);
        dg_row_text(&row, "fits", fits(c) ? "yes" : "no");
        dg_row_int(&row, "device_bytes", (int64_t)c->ahead.memory);
        dg_row_int(&row, "argument_bytes", (int64_t)c->ahead.arguments);
        dg_row_int(&row, "result_bytes", (int64_t)c->ahead.results);
        dg_row_int(&row, "temporary_bytes", (int64_t)c->ahead.temporary);
        dg_row_int(&row, "code_bytes", (int64_t)c->ahead.code);
        dg_row_int(&row, "other_state_bytes", (int64_t)c->elsewhere);
        dg_row_number(&row, "gflop_per_image",
                      1e-9 * dg_program_cost(c->program).flops * a->step.ranks / (double)a->plan.batch);
        dg_row_number(&row, "compiler_flops", c->ahead.flops);
        dg_row_number(&row, "compiler_bytes", c->ahead.bytes);
        if (row.failed) out->failed = true;
        dg_str_printf(out, "%s}\n", row.text ? row.text : "{");
        dg_str_free(&row);
    }
}

/* ---- the command */

/* One target, NULL: the recipe's own. */
static int one(const cli_args *args, const char *target)
{
    char option[256];
    char *overrides[66] = {(char *)(uintptr_t) "backend.name=pjrt", option};
    int n = target ? 2 : 0;
    cli_recipe r;
    aot a = {0};
    dg_error err = DG_ERROR_INIT;
    dg_str text = {0};
    snprintf(option, sizeof option, "backend.target=%s", target ? target : "");
    for (int i = 1; i < args->n_words; i++) {
        if (n == 66) return cli_usage("aot: too many values on the command line");
        overrides[n++] = args->words[i];
    }
    int code = cli_recipe_open(args, args->words[0], overrides, n, &r);
    if (code != CLI_OK) return code;
    if (build(&a, &r, &err) != DG_OK) {
        code = cli_recipe_fail(&r, &err);
    } else if (cli_has(args, "json")) {
        tell_json(&a, target ? target : "", &text);
        code = cli_print(&text);
    } else {
        tell(&a, r.path, target ? target : "", &text);
        code = cli_table(&text);
    }
    for (int i = 0; code == CLI_OK && i < a.n; i++)
        if (!fits(&a.programs[i])) code = CLI_FAILED;
    dg_step_destroy(&a.step);
    dg_parts_close(&a.parts);
    cli_recipe_close(&r);
    return code;
}

static int run(const cli_args *args)
{
    size_t n = 0;
    int code = CLI_OK;
    const char **targets = cli_values(args, "target", &n);
    if (n == 0) code = one(args, NULL);
    for (size_t i = 0; targets && i < n; i++) {
        int this = one(args, targets[i]);
        if (this > code) code = this;
        fflush(stdout);
        if (i + 1 < n && !cli_has(args, "json")) puts("");
    }
    dg_free(targets);
    return code;
}

static const cli_option options[] = {
    {"target", "NAME",
     "devices to compile for, such as v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2; may be given again"},
    {"json", NULL, "one line of JSON a program"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_aot = {
    .name = "aot",
    .words = "RECIPE [key=value ...]",
    .least = 1,
    .most = -1,
    .help = "compile a recipe's training step for devices that are not here",
    .more =
        "Needs no such device and no data: Google's TPU compiler (scripts/fetch-pjrt tpu) says whether the "
        "step "
        "fits the\nmemory of a device, and why not. --target is short for backend.name=pjrt "
        "backend.target=...; "
        "backend.replicas=N\nshares data.batch among N devices. A step that does not fit gives exit code 1.",
    .options = options,
    .run = run,
};
