/* finish.c - the last passes from a graph to a program that the backend has agreed to run. */
#include "step.h"

static bool takes(void *user, const dg_work *work)
{
    const dg_parts *p = user;
    return dg_backend_of(p)->supports(p->backend.self, work);
}

/* Runs one pass and drops its input unless it is the caller's. */
static dg_status next(const dg_graph *keep, dg_graph **g,
                      dg_status (*pass)(const dg_graph *, dg_graph **, dg_error *), dg_error *err)
{
    dg_graph *made;
    DG_TRY(pass(*g, &made, err));
    if (*g != keep) dg_graph_destroy(*g);
    *g = made;
    return DG_OK;
}

typedef struct complaints {
    const dg_program *program;
    dg_str text;
    int n;
} complaints;

static void complain(void *user, uint32_t node, const char *reason)
{
    complaints *c = user;
    const dg_program_node *n = &c->program->nodes[node];
    if (++c->n <= 8) dg_str_printf(&c->text, "\n  %s in '%s': %s", n->op, n->scope, reason);
}

static dg_status ask_backend(const dg_program *p, const dg_parts *parts, dg_error *err)
{
    complaints c = {.program = p};
    dg_status s = dg_backend_of(parts)->check(parts->backend.self, p, complain, &c, err);
    if (s != DG_OK && c.n)
        s = dg_fail_key(err, s, "backend", "the backend '%s' cannot run %d nodes of the program '%s':%s%s",
                        parts->backend.ref.factory->name, c.n, p->name, c.text.text ? c.text.text : "",
                        c.n > 8 ? "\n  ..." : "");
    dg_str_free(&c.text);
    return s;
}

/* Patch embedding and first block, last block and projection stay in the compute dtype: five products at
 * either end (errors: bench/results/int8-teacher-2026-11-24.md). */
enum { SPARED = 5 };

static bool wants_int8(const dg_parts *parts)
{
    return parts->recipe /* parts may be put together without one */ &&
           dg_recipe_component(parts->recipe, "tokenizer", NULL) &&
           strcmp(dg_recipe_string(parts->recipe, "tokenizer.precision"), "int8") == 0;
}

static dg_status quantize(const dg_graph *from, dg_graph **to, dg_error *err)
{
    return dg_pass_quantize(from, "tokenizer.", SPARED, to, err);
}

dg_status dg_finish_program(const dg_graph *start, const dg_parts *parts, const char *name, bool taps,
                            dg_program **out, dg_error *err)
{
    return dg_finish_tokens(start, parts, name, taps, wants_int8(parts), out, err);
}

dg_status dg_finish_tokens(const dg_graph *start, const dg_parts *parts, const char *name, bool taps,
                           bool int8, dg_program **out, dg_error *err)
{
    dg_graph *g = (dg_graph *)(uintptr_t)start, *lowered;
    *out = NULL;
    if (int8) DG_TRY(next(start, &g, quantize, err));
    dg_status s =
        dg_pass_lower(g, parts->backend.self ? takes : NULL, (void *)(uintptr_t)parts, &lowered, err);
    if (g != start) dg_graph_destroy(g);
    DG_TRY(s);
    g = lowered;
    s = next(start, &g, dg_pass_fold, err);
    if (s == DG_OK) s = next(start, &g, dg_pass_cse, err);
    if (s == DG_OK) s = dg_program_make(g, name, taps, out, err);
    dg_graph_destroy(g);
    if (s == DG_OK && parts->backend.self) s = ask_backend(*out, parts, err);
    if (s != DG_OK) {
        dg_program_destroy(*out);
        *out = NULL;
    }
    return s;
}
