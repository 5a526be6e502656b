/* schema.h - what a recipe may say: the fixed sections as tables, the component sections by a callback, the
 * reading of one value by its row, and both as help text and as the recipe reference.
 *
 * A recipe is two levels deep: top-level keys, and sections of keys. A new fixed section is a new table in
 * schema.c. */
#ifndef DG_RECIPE_SCHEMA_H
#define DG_RECIPE_SCHEMA_H

#include "digpt/params.h"
#include "recipe/yaml.h"

struct dg_recipe;

typedef struct dg_section {
    const char *name; /* "data"; "" for the top-level keys */
    const char *help;
    const dg_param_spec *specs; /* [n]; NULL: a component, whose rows come from its factory */
    size_t n;
    bool required;            /* component: the recipe must have it */
    const char *default_name; /* component: what it is when the recipe does not say; NULL: absent */
    /* Rules between keys; called when every value was read without an error. May be NULL. */
    void (*check)(const struct dg_recipe *recipe, dg_diagnostics *diags);
    /* component: rows that every one of this section has besides its own; not among its dg_params. */
    const dg_param_spec *shared; /* [n_shared] */
    size_t n_shared;
} dg_section;

/* All sections, in the order in which recipes are printed; the first is the top level. */
const dg_section *dg_schema_sections(size_t *n);
const dg_section *dg_schema_section(const char *name); /* or NULL */

/* Where the rows of components come from. */
typedef struct dg_schema_source {
    void *user;
    /* Told the recipe's `plugins` (absolute paths) once, before the first component is asked for. May be
     * NULL. On failure the message is attached to the position of `plugins`. */
    dg_status (*plugins)(void *user, const char *const *paths, size_t n, dg_error *err);
    /* The rows of component `name` of section "tokenizer", "model", "loss" or "backend"; they must outlive
     * the recipe. DG_ERR_NOT_FOUND: the message lists the known names; it is attached to the position of
     * `name`. */
    dg_status (*component)(void *user, const char *section, const char *name, const dg_param_spec **specs,
                           size_t *n, dg_error *err);
} dg_schema_source;

/* Row i of a table that may have been compiled with an older or newer dg_param_spec: rows are struct_size
 * apart, and members that it lacks read as 0. */
dg_param_spec dg_spec_at(const dg_param_spec *specs, size_t i);

/* Reads one value by its row. `key` names it in messages ("optimizer.lr"). node NULL: the row's default; if
 * the key is required that is an error at `pos`. A null node is "not set" where the default is "". Texts and
 * lists live in `arena` and in the node's. Paths are taken as they are. DG_ERR_INVALID: see the diagnostics;
 * DG_ERR_NOMEM. */
dg_status dg_param_read(const dg_param_spec *spec, const char *key, const dg_yaml_node *node, dg_pos pos,
                        dg_arena *arena, dg_param_value *out, dg_diagnostics *diags);
/* The node of a row's default, a null scalar when that is ""; an error at `pos` if the key is required. */
dg_status dg_param_default(const dg_param_spec *spec, const char *key, dg_pos pos, dg_arena *arena,
                           dg_yaml_node **node, dg_diagnostics *diags);
/* Complains about a key that neither specs[0..n) nor more[0..n_more) has, with the nearest that they have. */
dg_status dg_unknown_key(dg_diagnostics *diags, dg_pos pos, const char *section, const char *key,
                         const dg_param_spec *specs, size_t n, const char *const *more, size_t n_more);
/* Equal as values: 1e-4 and 0.0001 are. */
bool dg_param_same(const dg_param_value *a, const dg_param_value *b);
/* The value as YAML that reads back the same; "null" when not set. */
void dg_param_write(const dg_param_value *value, dg_str *out);

/* The values of a component without a recipe, from "key=value" texts (the value is YAML), defaults for the
 * rest; for tests, benchmarks and tools. Relative paths stay relative. Everything lives in `arena`. The
 * message lists all that is wrong. */
dg_status dg_params_from_text(const dg_param_spec *specs, size_t n, const char *const *assignments,
                              size_t n_assignments, dg_arena *arena, const dg_params **out, dg_error *err);

/* Rows as aligned help text for a terminal. */
void dg_schema_help(const dg_param_spec *specs, size_t n, dg_str *out);
/* Rows as a Markdown table. */
void dg_schema_markdown(const dg_param_spec *specs, size_t n, dg_str *out);
/* Help, or the Markdown reference with one heading a section, of all fixed sections and the component
 * sections' own line; the tables of components are appended by the caller, who knows the factories. */
void dg_schema_help_all(dg_str *out);
void dg_schema_markdown_all(dg_str *out);

#endif
