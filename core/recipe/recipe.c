/* recipe.c - loading a recipe, and asking it for values and positions. See recipe.h. */
#include "recipe/internal.h"

#include <limits.h>
#include <unistd.h>

char *recipe_text(dg_arena *arena, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n < 0 ? NULL : dg_arena_alloc(arena, (size_t)n + 1);
    if (!text) return NULL;
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return text;
}

/* ---- loading */

static char *file_stem(dg_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".yaml") == 0)
        n -= 5;
    else if (n > 4 && strcmp(base + n - 4, ".yml") == 0)
        n -= 4;
    return recipe_text(arena, "%.*s", (int)n, base);
}

/* Resolves and reads one entry; what is wrong is in the diagnostics. Only DG_ERR_NOMEM stops. */
static dg_status read_entry(dg_recipe *r, recipe_section *s, recipe_entry *e)
{
    dg_status status = recipe_resolve(r, e);
    if (status == DG_OK)
        status = dg_param_read(&e->spec, e->key, e->node, recipe_section_pos(r, s), &r->arena, &e->value,
                               r->diags);
    return status == DG_ERR_NOMEM ? status : DG_OK;
}

/* The source learns of the recipe's plugins before it is asked for a component. */
static dg_status announce_plugins(dg_recipe *r)
{
    recipe_entry *e = recipe_find(r, "plugins");
    DG_TRY(read_entry(r, &r->sections[0], e));
    if (!r->source->plugins || !e->value.is_set) return DG_OK;
    dg_error err = DG_ERROR_INIT;
    dg_status s = r->source->plugins(r->source->user, e->value.v.paths.items, e->value.v.paths.n, &err);
    if (s == DG_OK || s == DG_ERR_NOMEM) return s;
    dg_diagnose(r->diags, DG_SEVERITY_ERROR, dg_recipe_where(r, "plugins"), "plugins: %s", err.message);
    return DG_OK;
}

static dg_status read_section(dg_recipe *r, recipe_section *s)
{
    size_t errors = r->diags->n_errors;
    for (size_t i = 0; i < s->n; i++) {
        recipe_entry *e = &r->entries[s->first + i];
        if (strcmp(e->key, "plugins") != 0) DG_TRY(read_entry(r, s, e));
    }
    s->unchecked |= r->diags->n_errors != errors;
    if (!s->component) return DG_OK;
    size_t n = s->n - 1 - s->schema->n_shared; /* without its name and what all have */
    dg_param_value *values = dg_arena_alloc(&r->arena, (n ? n : 1) * sizeof *values);
    if (!values) return DG_ERR_NOMEM;
    for (size_t i = 0; i < n; i++) values[i] = r->entries[s->first + 1 + i].value;
    s->params = (dg_params){(uint32_t)sizeof s->params, (uint32_t)n, values};
    return DG_OK;
}

static dg_status check_all(dg_recipe *r)
{
    DG_TRY(recipe_bind_fixed(r));
    DG_TRY(announce_plugins(r));
    DG_TRY(recipe_bind_components(r));
    for (size_t i = 0; i < r->n_sections; i++) DG_TRY(read_section(r, &r->sections[i]));
    for (size_t i = 0; i < r->n_sections; i++) {
        const recipe_section *s = &r->sections[i];
        if (s->schema->check && !s->unchecked) s->schema->check(r, r->diags);
    }
    return DG_OK;
}

/* A run without a name is called after its recipe. */
static dg_status name_after_file(dg_recipe *r)
{
    recipe_entry *e = recipe_find(r, "name");
    if (e->value.is_set) return DG_OK;
    e->value.text = e->value.v.s = file_stem(&r->arena, r->path);
    e->value.is_set = 1;
    return e->value.text ? DG_OK : DG_ERR_NOMEM;
}

static dg_status load(const char *bytes, size_t size, const char *path, const char *const *overrides,
                      size_t n, const dg_schema_source *source, dg_recipe **recipe, dg_diagnostics *diags)
{
    size_t errors = diags->n_errors;
    char cwd[PATH_MAX];
    *recipe = NULL;
    dg_recipe *r = dg_calloc(1, sizeof *r);
    if (!r) return DG_ERR_NOMEM;
    r->diags = diags;
    r->source = source;
    r->path = dg_arena_strdup(&r->arena, path);
    r->cwd = dg_arena_strdup(&r->arena, getcwd(cwd, sizeof cwd) ? cwd : "/");
    dg_status s = r->path && r->cwd ? recipe_compose(r, bytes, size, overrides, n) : DG_ERR_NOMEM;
    if (s == DG_OK) s = check_all(r);
    if (s == DG_OK) s = name_after_file(r);
    if (diags->out_of_memory) s = DG_ERR_NOMEM;
    if (s == DG_OK && diags->n_errors != errors) s = DG_ERR_INVALID;
    r->diags = NULL;
    dg_diagnostics_sort(diags);
    if (s != DG_OK) {
        dg_recipe_free(r);
        return s == DG_ERR_NOMEM ? s : DG_ERR_INVALID;
    }
    *recipe = r;
    return DG_OK;
}

dg_status dg_recipe_load(const char *path, const char *const *overrides, size_t n,
                         const dg_schema_source *source, dg_recipe **recipe, dg_diagnostics *diags)
{
    return load(NULL, 0, path, overrides, n, source, recipe, diags);
}

dg_status dg_recipe_parse(const char *bytes, size_t size, const char *path, const char *const *overrides,
                          size_t n, const dg_schema_source *source, dg_recipe **recipe, dg_diagnostics *diags)
{
    return load(bytes ? bytes : "", size, path, overrides, n, source, recipe, diags);
}

void dg_recipe_free(dg_recipe *recipe)
{
    if (!recipe) return;
    dg_free(recipe->entries);
    dg_arena_free(&recipe->arena);
    dg_free(recipe);
}

/* ---- values */

recipe_entry *recipe_find(const dg_recipe *r, const char *key)
{
    for (size_t i = 0; i < r->n_entries; i++)
        if (strcmp(r->entries[i].key, key) == 0) return &r->entries[i];
    return NULL;
}

const dg_param_value *dg_recipe_get(const dg_recipe *recipe, const char *key)
{
    const recipe_entry *e = recipe_find(recipe, key);
    return e ? &e->value : NULL;
}

bool dg_recipe_is_set(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = dg_recipe_get(recipe, key);
    return v && v->is_set;
}

bool dg_recipe_is_given(const dg_recipe *recipe, const char *key)
{
    const recipe_entry *e = recipe_find(recipe, key);
    return e && e->item;
}

/* The value if it is set and of this type. */
static const dg_param_value *typed(const dg_recipe *recipe, const char *key, dg_param_type type)
{
    const dg_param_value *v = dg_recipe_get(recipe, key);
    return v && v->is_set && v->type == (uint32_t)type ? v : NULL;
}

bool dg_recipe_bool(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_BOOL);
    return v && v->v.i;
}

int64_t dg_recipe_int(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_INT);
    return v ? v->v.i : 0;
}

double dg_recipe_float(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_FLOAT);
    return v ? v->v.f : 0;
}

const char *dg_recipe_string(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = dg_recipe_get(recipe, key);
    bool is_text =
        v && (v->type == DG_PARAM_STRING || v->type == DG_PARAM_PATH || v->type == DG_PARAM_CHOICE);
    return is_text && v->is_set ? v->text : NULL;
}

int dg_recipe_choice(const dg_recipe *recipe, const char *key)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_CHOICE);
    return v ? (int)v->v.i : -1;
}

const int64_t *dg_recipe_ints(const dg_recipe *recipe, const char *key, size_t *n)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_INTS);
    *n = v ? v->v.ints.n : 0;
    return v ? v->v.ints.items : NULL;
}

const double *dg_recipe_floats(const dg_recipe *recipe, const char *key, size_t *n)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_FLOATS);
    *n = v ? v->v.floats.n : 0;
    return v ? v->v.floats.items : NULL;
}

const char *const *dg_recipe_paths(const dg_recipe *recipe, const char *key, size_t *n)
{
    const dg_param_value *v = typed(recipe, key, DG_PARAM_PATHS);
    *n = v ? v->v.paths.n : 0;
    return v ? v->v.paths.items : NULL;
}

void dg_recipe_size(const dg_recipe *recipe, const char *key, int64_t *height, int64_t *width)
{
    size_t n;
    const int64_t *size = dg_recipe_ints(recipe, key, &n);
    *height = n ? size[0] : 0;
    *width = n ? size[n - 1] : 0;
}

const char *dg_recipe_component(const dg_recipe *recipe, const char *section, const dg_params **params)
{
    const recipe_section *s = recipe_section_of(recipe, section);
    bool there = s && s->component;
    if (params) *params = there ? &s->params : NULL;
    return there ? s->component : NULL;
}

/* ---- positions */

recipe_section *recipe_section_of(const dg_recipe *r, const char *key)
{
    size_t n = strcspn(key, ".");
    for (size_t i = 0; i < r->n_sections; i++) {
        const char *name = r->sections[i].schema->name;
        if (name[0] && strlen(name) == n && strncmp(name, key, n) == 0)
            return (recipe_section *)&r->sections[i];
    }
    return NULL;
}

dg_pos recipe_section_pos(const dg_recipe *r, const recipe_section *s)
{
    /* A component's name says more than the head of its section: it is what brought the keys in. */
    const dg_yaml_item *name =
        s && !s->schema->specs && s->item ? dg_yaml_find(s->item->value, "name") : NULL;
    if (name) return name->value->pos;
    if (s && s->item) return s->item->key_pos;
    return (dg_pos){r->path, 0, 0};
}

dg_pos dg_recipe_where(const dg_recipe *recipe, const char *key)
{
    const recipe_entry *e = recipe_find(recipe, key);
    if (e && e->item) return e->item->value->pos;
    return recipe_section_pos(recipe, recipe_section_of(recipe, key));
}

void dg_recipe_blame(const dg_recipe *recipe, const dg_error *err, dg_diagnostics *diags)
{
    const char *key = err->key, *line = err->message;
    const dg_pos where = dg_recipe_where(recipe, key);
    bool prefix = key[0] && strncmp(err->message, key, strlen(key)) != 0;
    size_t n = strcspn(line, "\n");
    dg_diagnose(diags, DG_SEVERITY_ERROR, where, "%s%s%.*s", prefix ? key : "", prefix ? ": " : "", (int)n,
                line);
    while (line[n]) { /* a list that the message goes on with */
        line += n + 1;
        n = strcspn(line, "\n");
        if (n) dg_diagnose(diags, DG_SEVERITY_NOTE, where, "%.*s", (int)n, line);
    }
}
