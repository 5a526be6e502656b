/* recipe.h - a recipe, composed, checked and resolved: every key of the schema has a typed value and a known
 * origin.
 *
 * Composition: `extends:` names a file or a list of files, at most three deep; later ones win, the file
 * itself wins over all. Maps merge, lists replace, and a component whose `name` changes drops the parameters
 * of the old one. Then the command line: `a.b=v` (v is YAML) and `~a.b`, which removes what the files say.
 * `${a.b}` is the value of another key, alone or inside a string; `$${` is a plain "${". Relative paths start
 * at the folder of the file that declares them, those of the command line at the working folder. `key: null`
 * means not set, where the key may be. */
#ifndef DG_RECIPE_RECIPE_H
#define DG_RECIPE_RECIPE_H

#include "recipe/schema.h"

#define DG_RECIPE_MAX_EXTENDS 3 /* levels above the recipe itself */
#define DG_RECIPE_MAX_FILES 32  /* read for one recipe */

typedef struct dg_recipe dg_recipe;

/* Reads the file `path` (as dg_recipe_find gave it) and all that it extends, applies overrides[0..n), checks.
 * All that is wrong is in the diagnostics, sorted by place; warnings may be there when it succeeds. `source`
 * must outlive the recipe. DG_ERR_INVALID: see the diagnostics; DG_ERR_NOMEM. */
dg_status dg_recipe_load(const char *path, const char *const *overrides, size_t n,
                         const dg_schema_source *source, dg_recipe **recipe, dg_diagnostics *diags);
/* The same for a text in memory, which is taken to stand in the file `path`. */
dg_status dg_recipe_parse(const char *bytes, size_t size, const char *path, const char *const *overrides,
                          size_t n, const dg_schema_source *source, dg_recipe **recipe,
                          dg_diagnostics *diags);
void dg_recipe_free(dg_recipe *recipe); /* NULL is fine */

/* ---- values, by dotted key: "seed", "optimizer.lr", "tokenizer.weights". Owned by the recipe.
 * A key that is not set, not in the schema or of another type reads as 0, false or NULL. `name` is always
 * set: to the recipe's file name without .yaml when no file says it. */

const dg_param_value *dg_recipe_get(const dg_recipe *recipe, const char *key); /* NULL: no such key */
bool dg_recipe_is_set(const dg_recipe *recipe, const char *key);
/* Whether a file or the command line says it, rather than the schema's default. */
bool dg_recipe_is_given(const dg_recipe *recipe, const char *key);
bool dg_recipe_bool(const dg_recipe *recipe, const char *key);
int64_t dg_recipe_int(const dg_recipe *recipe, const char *key);
double dg_recipe_float(const dg_recipe *recipe, const char *key);
const char *dg_recipe_string(const dg_recipe *recipe, const char *key); /* STRING, PATH, CHOICE */
/* CHOICE: its index in the schema's list; -1 when there is none. */
int dg_recipe_choice(const dg_recipe *recipe, const char *key);
const int64_t *dg_recipe_ints(const dg_recipe *recipe, const char *key, size_t *n);
const double *dg_recipe_floats(const dg_recipe *recipe, const char *key, size_t *n);
const char *const *dg_recipe_paths(const dg_recipe *recipe, const char *key, size_t *n);

/* A list of height and width, where one number stands for both: "data.image_size". */
void dg_recipe_size(const dg_recipe *recipe, const char *key, int64_t *height, int64_t *width);
/* The component of a section: its name, and its values in the order of its factory's schema. NULL: the recipe
 * has none there (and *params is NULL). params may be NULL. */
const char *dg_recipe_component(const dg_recipe *recipe, const char *section, const dg_params **params);

/* ---- positions */

/* Where the value of a key is written; for a default, or a key that does not exist, its section; else the
 * file. */
dg_pos dg_recipe_where(const dg_recipe *recipe, const char *key);
/* A failure of a later stage, at the place of err->key ("tokenizer.weights"; "tokenizer" for a whole
 * section). */
void dg_recipe_blame(const dg_recipe *recipe, const dg_error *err, dg_diagnostics *diags);

/* ---- as text */

/* The resolved recipe as YAML: all values in the order of the schema, paths absolute, nothing left to extend
 * or to refer to; it loads to the same values. With origins, a comment behind each value says where it comes
 * from
 * ("recipes/x.yaml:12:3", "command line, argument 2", "default"). */
void dg_recipe_print(const dg_recipe *recipe, bool origins, dg_str *out);

typedef struct dg_recipe_difference {
    const char *key;     /* "tokenizer.weights"; a component's own name is "tokenizer.name" */
    const char *a, *b;   /* as YAML; NULL: that side has no such key */
    dg_pos a_pos, b_pos; /* where each is written; file NULL: a default, or no such key */
} dg_recipe_difference;

/* What two resolved recipes have different, in the order of the schema; the items live in `arena` and point
 * into both recipes. */
dg_status dg_recipe_diff(const dg_recipe *a, const dg_recipe *b, dg_arena *arena,
                         dg_recipe_difference **items, size_t *n, dg_error *err);

/* ---- where recipes are */

/* What a user means by `name`: a path (it has a slash or ends in .yaml or .yml) that is there, or a bare name
 * that is NAME.yaml in ./recipes, a folder of DIGPT_RECIPE_PATH (colon-separated) or the installed folder.
 * *path is freed with dg_free. DG_ERR_NOT_FOUND: the message has the nearest name, or the folders that were
 * searched. */
dg_status dg_recipe_find(const char *name, char **path, dg_error *err);

typedef struct dg_recipe_entry {
    const char *name; /* without .yaml */
    const char *path;
    const char *help; /* the text of the file's first line if that is a comment, else "" */
} dg_recipe_entry;

/* All recipes that dg_recipe_find knows by a bare name, sorted; of two with one name the one found first. */
dg_status dg_recipe_list(dg_arena *arena, dg_recipe_entry **entries, size_t *n, dg_error *err);

#endif
