/* internal.h - what the files of the recipe room share: a recipe under construction. */
#ifndef DG_RECIPE_INTERNAL_H
#define DG_RECIPE_INTERNAL_H

#include "recipe/recipe.h"

#define DG_RECIPE_MAX_SECTIONS 16
#define DG_RECIPE_MAX_SHARED 4 /* rows that all components of a section have */

/* Where relative paths of a text start. */
typedef struct recipe_file {
    const char *label; /* as positions name it */
    const char *dir;   /* absolute */
} recipe_file;

typedef enum entry_state { ENTRY_NEW, ENTRY_VISITING, ENTRY_DONE, ENTRY_BAD } entry_state;

/* One key of the schema. */
typedef struct recipe_entry {
    const char *key; /* dotted */
    dg_param_spec spec;
    const dg_yaml_item *item; /* NULL: nothing says it, the default holds */
    dg_yaml_node *node;       /* references expanded, paths absolute; NULL until then, and for a default */
    entry_state state;
    dg_param_value value;
} recipe_entry;

typedef struct recipe_section {
    const dg_section *schema;
    const dg_yaml_item *item; /* as written; NULL: not */
    size_t first, n;          /* its entries; a component's first one is its name */
    const char *component;    /* name; NULL: absent, or a fixed section */
    bool unchecked;           /* its rows are not known: the component was not found */
    dg_params params;
} recipe_section;

struct dg_recipe {
    dg_arena arena;
    const char *path;
    const char *stem;      /* the file's name without folder and .yaml */
    const char *cwd;       /* absolute */
    dg_diagnostics *diags; /* while loading */
    const dg_schema_source *source;
    recipe_file files[DG_RECIPE_MAX_FILES];
    size_t n_files;
    dg_yaml_node *root;
    recipe_entry *entries;
    size_t n_entries, capacity;
    recipe_section sections[DG_RECIPE_MAX_SECTIONS];
    size_t n_sections;
};

/* compose.c: reads the files, merges, applies the command line: sets recipe->root. DG_ERR_INVALID: a file
 * could not be read at all, and checking what is there would only mislead. bytes NULL: the file is read. */
dg_status recipe_compose(dg_recipe *r, const char *bytes, size_t size, const char *const *overrides,
                         size_t n);

/* bind.c: makes the entries of the sections from the tree and the schema. */
dg_status recipe_bind_fixed(dg_recipe *r);
dg_status recipe_bind_components(dg_recipe *r);

/* resolve.c: expands references and makes paths absolute; sets entry->node and state. DG_ERR_INVALID: entry
 * is bad. */
dg_status recipe_resolve(dg_recipe *r, recipe_entry *e);

recipe_entry *recipe_find(const dg_recipe *r, const char *key);
recipe_section *recipe_section_of(const dg_recipe *r, const char *key); /* "tokenizer.weights", "tokenizer" */
dg_pos recipe_section_pos(const dg_recipe *r, const recipe_section *s);
/* Formats into the arena; NULL when out of memory. */
DG_PRINTF(2, 3) char *recipe_text(dg_arena *arena, const char *fmt, ...);

#endif
