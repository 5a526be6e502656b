/* checks.h - what the checks of check.h share: the component at hand, instances of it, and running small
 * programs. */
#ifndef DG_PLUGIN_CHECKS_H
#define DG_PLUGIN_CHECKS_H

#include "digpt/loss.h"
#include "digpt/model.h"
#include "digpt/tokenizer.h"
#include "graph/graph.h"
#include "plugin/check.h"
#include "plugin/component.h"

typedef struct dg_checked {
    const dg_plugin_file *file;
    const dg_component_ref *ref; /* NULL: the file itself */
    dg_str *detail;              /* what to say beside the verdict */
} dg_checked;

typedef struct dg_check {
    const char *name;
    const char *interface; /* of the components it is for; NULL: the file; "": every component */
    dg_verdict (*run)(const dg_checked *c);
} dg_check;

extern const dg_check dg_file_checks[], dg_create_checks[], dg_loss_checks[], dg_model_checks[],
    dg_backend_checks[];
/* Ended by a row without a name. */

/* Writes the detail and returns DG_CHECK_FAIL. */
DG_PRINTF(2, 3) dg_verdict dg_check_fail(const dg_checked *c, const char *fmt, ...);

/* ---- the host that counts (check_host.c) */
const dg_host *dg_check_host(void);
/* Sets all counts to 0; fail_at: the n-th allocation from now fails, and all after it; 0: none. */
void dg_check_host_reset(size_t fail_at);
size_t dg_check_host_live(void);  /* blocks allocated and not released */
size_t dg_check_host_total(void); /* allocations asked for */
size_t dg_check_host_wrong(void); /* releases of what allocate never gave */

/* ---- values (check_values.c) */
/* The n-th set of values that the schema allows: 0 the defaults, with something plausible for what is
 * required; then pseudo-random ones, edges included. Lives in the arena; NULL when out of memory. */
const dg_params *dg_check_values(const dg_factory *f, uint64_t n, dg_arena *arena);
/* "depth=3, order=random". */
void dg_check_values_print(const dg_factory *f, const dg_params *values, dg_str *out);

/* Surroundings for a component's create: image and tokens of the n-th kind; returned as create wants it. */
typedef struct dg_check_env {
    dg_tokenizer_env tokenizer;
    dg_model_env model;
    dg_tokenizer_info tokens;
} dg_check_env;
enum { DG_CHECK_ENVS = 4 };
const void *dg_check_env_make(const char *interface, unsigned n, dg_check_env *room);

/* ---- instances (check_create.c) */
/* One that could be created, by the defaults or by the first random values that do; false, and *verdict set
 * with a detail, if none could. Destroyed by dg_component_destroy; *env is what it was made
 * in. */
bool dg_check_instance(const dg_checked *c, dg_component *out, dg_check_env *env, dg_verdict *verdict);

/* ---- programs (check_run.c) */
/* Values for the input `name` of a program: as many as its type has elements, exact in its dtype. */
typedef void (*dg_check_filler)(void *user, const char *name, const dg_type *type, double *out);
/* Pseudo-random N(0, 1) for floats, 0..*ids-1 for integers, ids an int64_t *; the same for the same name. */
void dg_check_fill(void *ids, const char *name, const dg_type *type, double *out);
/* Runs the graph on a backend: outputs as doubles, one array after the other, in *out (dg_free).
 * DG_ERR_UNSUPPORTED: the backend refuses a node. */
dg_status dg_check_run(const dg_component *backend, const dg_graph *g, dg_check_filler fill, void *user,
                       double **out, size_t *n, dg_error *err);

#endif
