/* bind.c - lays the schema over the tree: an entry for every key that the recipe could say, linked to what it
 * says; what the schema does not know is reported. */
#include "recipe/internal.h"

static dg_status add_entry(dg_recipe *r, recipe_section *s, dg_param_spec spec, const dg_yaml_node *map)
{
    if (!dg_grow(&r->entries, r->n_entries, &r->capacity, sizeof *r->entries)) return DG_ERR_NOMEM;
    recipe_entry *e = &r->entries[r->n_entries];
    memset(e, 0, sizeof *e);
    e->key = s->schema->name[0] ? recipe_text(&r->arena, "%s.%s", s->schema->name, spec.key) : spec.key;
    e->spec = spec;
    e->item = dg_yaml_find(map, spec.key);
    if (!e->key) return DG_ERR_NOMEM;
    r->n_entries++;
    s->n++;
    return DG_OK;
}

/* Entries of all rows, and a complaint for every key of `map` that has none. */
static dg_status bind_rows(dg_recipe *r, recipe_section *s, const dg_param_spec *specs, size_t n,
                           const dg_yaml_node *map, const char *label, const char *const *more, size_t n_more)
{
    for (size_t i = 0; i < n; i++) DG_TRY(add_entry(r, s, dg_spec_at(specs, i), map));
    for (size_t k = 0; map && map->kind == DG_YAML_MAP && k < map->n; k++) {
        const char *key = map->items[k].key;
        bool known = false;
        for (size_t i = 0; i < n && !known; i++) known = strcmp(dg_spec_at(specs, i).key, key) == 0;
        for (size_t i = 0; i < n_more && !known; i++) known = strcmp(more[i], key) == 0;
        if (known) continue;
        if (dg_unknown_key(r->diags, map->items[k].key_pos, label, key, specs, n, more, n_more) ==
            DG_ERR_NOMEM)
            return DG_ERR_NOMEM;
    }
    return DG_OK;
}

/* The map of a section, or NULL when the recipe has none; anything else than a map is reported. */
static const dg_yaml_node *section_map(dg_recipe *r, recipe_section *s)
{
    const dg_yaml_node *value = s->item ? s->item->value : NULL;
    if (!value || dg_yaml_is_null(value)) return NULL;
    if (value->kind == DG_YAML_MAP) return value;
    char got[128];
    dg_yaml_describe(value, got, sizeof got);
    s->unchecked = true;
    if (!s->schema->specs && value->kind == DG_YAML_SCALAR)
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, value->pos, "'%s' is a map: write '%s: {name: %.60s}'",
                    s->schema->name, s->schema->name, value->text);
    else
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, value->pos, "'%s' is a map of keys, found %s",
                    s->schema->name, got);
    return NULL;
}

/* A key of the top level that belongs into a section: the usual slip. Says whether it complained. */
static bool belongs_to_section(dg_recipe *r, const dg_yaml_item *item)
{
    for (size_t i = 0; i < r->n_sections; i++) {
        const dg_section *s = r->sections[i].schema;
        for (size_t k = 0; s->name[0] && k < s->n; k++)
            if (strcmp(s->specs[k].key, item->key) == 0) {
                dg_diagnose(r->diags, DG_SEVERITY_ERROR, item->key_pos,
                            "unknown key '%s' at the top level; did you mean '%s.%s'?", item->key, s->name,
                            item->key);
                return true;
            }
    }
    return false;
}

/* Top-level keys; those that name no section and no row are reported. */
static dg_status bind_top(dg_recipe *r, recipe_section *s)
{
    const char *names[DG_RECIPE_MAX_SECTIONS + 1];
    size_t n = 0;
    names[n++] = "extends";
    for (size_t i = 0; i < r->n_sections; i++)
        if (r->sections[i].schema->name[0]) names[n++] = r->sections[i].schema->name;
    dg_yaml_node rest = {.kind = DG_YAML_MAP}; /* the root without what is reported here */
    for (size_t k = 0; k < r->root->n; k++) {
        const dg_yaml_item *item = &r->root->items[k];
        bool known = false;
        for (size_t i = 0; i < s->schema->n && !known; i++)
            known = strcmp(s->schema->specs[i].key, item->key) == 0;
        for (size_t i = 0; i < n && !known; i++) known = strcmp(names[i], item->key) == 0;
        if (!known && belongs_to_section(r, item)) continue;
        if (!dg_yaml_add(&r->arena, &rest, *item)) return DG_ERR_NOMEM;
    }
    dg_yaml_node *kept = dg_arena_alloc(&r->arena, sizeof *kept);
    if (!kept) return DG_ERR_NOMEM;
    *kept = rest;
    return bind_rows(r, s, s->schema->specs, s->schema->n, kept, "", names, n);
}

dg_status recipe_bind_fixed(dg_recipe *r)
{
    size_t n;
    const dg_section *schema = dg_schema_sections(&n);
    for (; r->n_sections < n && r->n_sections < DG_RECIPE_MAX_SECTIONS; r->n_sections++) {
        r->sections[r->n_sections].schema = &schema[r->n_sections];
        r->sections[r->n_sections].item = dg_yaml_find(r->root, schema[r->n_sections].name);
    }
    for (size_t i = 0; i < r->n_sections; i++) {
        recipe_section *s = &r->sections[i];
        if (!s->schema->specs) continue;
        s->first = r->n_entries;
        if (!s->schema->name[0])
            DG_TRY(bind_top(r, s));
        else
            DG_TRY(
                bind_rows(r, s, s->schema->specs, s->schema->n, section_map(r, s), s->schema->name, NULL, 0));
    }
    return DG_OK;
}

/* The component's name, or NULL after a complaint, or when there is none and needs to be none. */
static const char *component_name(dg_recipe *r, recipe_section *s, const dg_yaml_node *map)
{
    const dg_yaml_item *item = dg_yaml_find(map, "name");
    const char *section = s->schema->name;
    if (item) {
        char got[128];
        const dg_yaml_node *node = item->value;
        if (node->kind == DG_YAML_SCALAR && !dg_yaml_is_null(node) && node->text[0] &&
            !strstr(node->text, "${"))
            return node->text;
        s->unchecked = true;
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, node->pos,
                    "%s.name: expected the name of a component, found %s", section,
                    dg_yaml_describe(node, got, sizeof got));
    } else if (s->schema->default_name)
        return s->schema->default_name;
    else if (map) {
        s->unchecked = true;
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, s->item->key_pos,
                    "'%s' has no 'name', which says what it is", section);
    } else if (s->schema->required && !s->unchecked)
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, (dg_pos){r->path, 0, 0}, "the section '%s' is required (%s)",
                    section, s->schema->help);
    return NULL;
}

static dg_status bind_component(dg_recipe *r, recipe_section *s)
{
    const char *more[1 + DG_RECIPE_MAX_SHARED] = {"name"};
    size_t n_more = 1;
    s->first = r->n_entries;
    const dg_yaml_node *map = section_map(r, s);
    if (s->unchecked) return DG_OK;
    const char *name = component_name(r, s, map);
    if (!name) return DG_OK;
    dg_param_spec row = DG_PARAM(STRING, "name", NULL, "", "which component", 0, 0, NULL);
    row.def = s->schema->default_name;
    DG_TRY(add_entry(r, s, row, map));
    const dg_param_spec *specs = NULL;
    size_t n = 0;
    dg_error err = DG_ERROR_INIT;
    dg_status status = r->source->component(r->source->user, s->schema->name, name, &specs, &n, &err);
    if (status == DG_ERR_NOMEM) return status;
    if (status != DG_OK) {
        const recipe_entry *e = &r->entries[s->first];
        s->unchecked = true;
        dg_diagnose(r->diags, DG_SEVERITY_ERROR, e->item ? e->item->value->pos : recipe_section_pos(r, s),
                    "%s.name: %s", s->schema->name, err.message);
        return DG_OK;
    }
    s->component = name;
    char label[160];
    snprintf(label, sizeof label, "%s: %.100s", s->schema->name, name);
    for (size_t i = 0; i < s->schema->n_shared && i < DG_RECIPE_MAX_SHARED; i++)
        more[n_more++] = s->schema->shared[i].key;
    DG_TRY(bind_rows(r, s, specs, n, map, label, more, n_more));
    for (size_t i = 0; i + 1 < n_more; i++) DG_TRY(add_entry(r, s, s->schema->shared[i], map));
    return DG_OK;
}

dg_status recipe_bind_components(dg_recipe *r)
{
    for (size_t i = 0; i < r->n_sections; i++)
        if (!r->sections[i].schema->specs) DG_TRY(bind_component(r, &r->sections[i]));
    return DG_OK;
}
