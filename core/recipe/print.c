/* print.c - a resolved recipe as YAML, and what two of them have different. See recipe.h. */
#include "recipe/internal.h"

#define ORIGIN_COLUMN 44

static void write_entry(const recipe_entry *e, size_t indent, bool origins, dg_str *out)
{
    size_t start = out->length;
    dg_str_printf(out, "%*s%s: ", (int)indent, "", e->spec.key);
    dg_param_write(&e->value, out);
    if (origins) {
        char pos[1024];
        dg_pos_text(e->item ? e->item->key_pos : (dg_pos){NULL, 0, 0}, pos, sizeof pos);
        for (char *p = pos; *p; p++)
            if ((unsigned char)*p < 0x20)
                *p = '?'; /* a file's name may hold anything, and this is one line */
        size_t used = out->length - start;
        dg_str_printf(out, "%*s # %s", used < ORIGIN_COLUMN ? (int)(ORIGIN_COLUMN - used) : 0, "", pos);
    }
    dg_str_puts(out, "\n");
}

void dg_recipe_print(const dg_recipe *recipe, bool origins, dg_str *out)
{
    for (size_t i = 0; i < recipe->n_sections; i++) {
        const recipe_section *s = &recipe->sections[i];
        bool top = !s->schema->name[0];
        if (s->n == 0) {
            /* Said, so that a recipe which extends this one starts from nothing here. */
            dg_str_printf(out, "\n%s: null\n", s->schema->name);
            continue;
        }
        if (!top) dg_str_printf(out, "\n%s:\n", s->schema->name);
        for (size_t k = 0; k < s->n; k++)
            write_entry(&recipe->entries[s->first + k], top ? 0 : 2, origins, out);
    }
}

/* The value as YAML in the arena; NULL without an entry, or when out of memory. */
static const char *value_text(const recipe_entry *e, dg_arena *arena)
{
    dg_str text = {0};
    if (!e) return NULL;
    dg_param_write(&e->value, &text);
    const char *copy = text.failed ? NULL : dg_arena_strdup(arena, text.text ? text.text : "");
    dg_str_free(&text);
    return copy;
}

typedef struct differences {
    dg_arena *arena;
    dg_recipe_difference *items; /* room for the entries of both recipes */
    size_t n;
} differences;

/* Either side may be NULL. */
static dg_status compare(differences *d, const recipe_entry *a, const recipe_entry *b)
{
    static const dg_pos nowhere = {NULL, 0, 0};
    if (a && b && dg_param_same(&a->value, &b->value)) return DG_OK;
    dg_recipe_difference *x = &d->items[d->n++];
    x->key = a ? a->key : b->key;
    x->a = value_text(a, d->arena);
    x->b = value_text(b, d->arena);
    x->a_pos = a && a->item ? a->item->key_pos : nowhere;
    x->b_pos = b && b->item ? b->item->key_pos : nowhere;
    return (a && !x->a) || (b && !x->b) ? DG_ERR_NOMEM : DG_OK;
}

static dg_status compare_sections(differences *d, const dg_recipe *a, const dg_recipe *b, size_t i)
{
    const recipe_section *sa = &a->sections[i], *sb = &b->sections[i];
    for (size_t k = 0; k < sa->n; k++) {
        const recipe_entry *e = &a->entries[sa->first + k];
        DG_TRY(compare(d, e, recipe_find(b, e->key)));
    }
    for (size_t k = 0; k < sb->n; k++) {
        const recipe_entry *e = &b->entries[sb->first + k];
        if (!recipe_find(a, e->key)) DG_TRY(compare(d, NULL, e));
    }
    return DG_OK;
}

dg_status dg_recipe_diff(const dg_recipe *a, const dg_recipe *b, dg_arena *arena,
                         dg_recipe_difference **items, size_t *n, dg_error *err)
{
    differences d = {arena, NULL, 0};
    d.items = dg_arena_alloc(arena, (a->n_entries + b->n_entries) * sizeof *d.items);
    dg_status s = d.items ? DG_OK : DG_ERR_NOMEM;
    for (size_t i = 0; s == DG_OK && i < a->n_sections; i++) s = compare_sections(&d, a, b, i);
    if (s != DG_OK) return dg_fail(err, s, "out of memory while comparing two recipes");
    *items = d.items;
    *n = d.n;
    return DG_OK;
}
