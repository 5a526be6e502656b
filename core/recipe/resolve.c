/* resolve.c - references "${a.b}" and relative paths: what a key's text stands for. See recipe.h. */
#include "recipe/internal.h"

/* The keys that are being resolved, innermost first. */
typedef struct visit {
    recipe_entry *entry;
    const struct visit *above;
} visit;

static dg_status resolve(dg_recipe *r, recipe_entry *e, const visit *above);

static bool is_path_type(const dg_param_spec *spec)
{
    return spec->type == DG_PARAM_PATH || spec->type == DG_PARAM_PATHS;
}

static dg_yaml_node *copy_node(dg_recipe *r, const dg_yaml_node *node)
{
    dg_yaml_node *copy = dg_arena_alloc(&r->arena, sizeof *copy);
    if (copy) *copy = *node;
    return copy;
}

static dg_status in_a_circle(dg_recipe *r, const recipe_entry *e, const visit *v, dg_pos pos)
{
    char loop[512];
    int n = snprintf(loop, sizeof loop, "%s", e->key);
    /* v is whoever refers to e; from there outwards up to e itself, written in the order of reference. */
    const visit *path[64];
    size_t depth = 0;
    for (; v && depth < 64; v = v->above) {
        path[depth++] = v;
        if (v->entry == e) break;
    }
    while (depth-- > 0 && n > 0 && (size_t)n < sizeof loop) {
        const char *next = depth ? path[depth - 1]->entry->key : e->key;
        n += snprintf(loop + n, sizeof loop - (size_t)n, " -> %s", next);
    }
    return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos, "keys refer to each other in a circle: %s", loop);
}

/* The entry that "${key}" at `pos` names, resolved. */
static dg_status follow(dg_recipe *r, const char *key, dg_pos pos, const visit *v, recipe_entry **out)
{
    recipe_entry *target = recipe_find(r, key);
    if (!target) {
        const char **names = dg_calloc(r->n_entries, sizeof *names);
        if (!names) return DG_ERR_NOMEM;
        for (size_t i = 0; i < r->n_entries; i++) names[i] = r->entries[i].key;
        const char *near = dg_nearest(key, names, r->n_entries);
        dg_free(names);
        return dg_diagnose(
            r->diags, DG_SEVERITY_ERROR, pos, "'${%.128s}' refers to a key that does not exist%s%s%s", key,
            near ? "; did you mean '" : ": it is written ${section.key}", near ? near : "", near ? "'?" : "");
    }
    if (target->state == ENTRY_VISITING) return in_a_circle(r, target, v, pos);
    *out = target;
    return resolve(r, target, v);
}

/* Appends the text of `key`. */
static dg_status append_reference(dg_recipe *r, const char *key, dg_pos pos, const visit *v, dg_str *out)
{
    recipe_entry *target;
    DG_TRY(follow(r, key, pos, v, &target));
    if (!target->node || dg_yaml_is_null(target->node))
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos, "'${%s}': '%s' is not set", key, key);
    if (target->node->kind != DG_YAML_SCALAR)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos,
                           "'${%s}': '%s' is a list, which can only be referred to as the whole value", key,
                           key);
    if (out->length + strlen(target->node->text) > DG_YAML_MAX_SCALAR)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos, "the text becomes longer than 65536 bytes");
    dg_str_puts(out, target->node->text);
    return DG_OK;
}

/* Where the reference that opens at p ("${") ends, at its '}'; *key is its text. */
static dg_status read_reference(dg_recipe *r, const char *p, dg_pos pos, const char **end, char **key)
{
    *end = strchr(p, '}');
    if (!*end)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos,
                           "'${' without '}'; a plain '${' is written '$${'");
    *key = recipe_text(&r->arena, "%.*s", (int)(*end - p - 2), p + 2);
    return *key ? DG_OK : DG_ERR_NOMEM;
}

static dg_status expand_text(dg_recipe *r, const dg_yaml_node *node, const visit *v, dg_str *out)
{
    for (const char *p = node->text; *p;) {
        if (p[0] == '$' && p[1] == '$' && p[2] == '{') {
            dg_str_puts(out, "${");
            p += 3;
        } else if (p[0] == '$' && p[1] == '{') {
            const char *end;
            char *key = NULL;
            DG_TRY(read_reference(r, p, node->pos, &end, &key));
            DG_TRY(append_reference(r, key, node->pos, v, out));
            p = end + 1;
        } else
            dg_str_bytes(out, p++, 1);
    }
    return out->failed ? DG_ERR_NOMEM : DG_OK;
}

/* "${a.b}" alone: its value, list or number, as if it were written here. */
static dg_status expand_whole(dg_recipe *r, const dg_yaml_node *node, const char *key, const visit *v,
                              dg_yaml_node **out)
{
    static const dg_yaml_node nothing = {.kind = DG_YAML_SCALAR, .plain = true, .text = ""};
    recipe_entry *target;
    DG_TRY(follow(r, key, node->pos, v, &target));
    *out = copy_node(r, target->node ? target->node : &nothing);
    if (!*out) return DG_ERR_NOMEM;
    (*out)->pos = node->pos;
    return DG_OK;
}

static dg_status expand_scalar(dg_recipe *r, dg_yaml_node *node, const visit *v, dg_yaml_node **out)
{
    *out = node;
    const char *text = node->text;
    if (!strstr(text, "${")) return DG_OK;
    const char *end;
    char *key = NULL;
    if (text[0] == '$' && text[1] == '{') {
        DG_TRY(read_reference(r, text, node->pos, &end, &key));
        if (end[1] == 0) return expand_whole(r, node, key, v, out);
    }
    dg_str expanded = {0};
    dg_status s = expand_text(r, node, v, &expanded);
    if (s == DG_OK) {
        *out = copy_node(r, node);
        if (*out) {
            (*out)->plain = false; /* a reference inside a text makes a text */
            (*out)->text = dg_arena_strdup(&r->arena, expanded.text ? expanded.text : "");
        }
        if (!*out || !(*out)->text) s = DG_ERR_NOMEM;
    }
    dg_str_free(&expanded);
    return s;
}

static dg_status expand(dg_recipe *r, dg_yaml_node *node, const visit *v, dg_yaml_node **out)
{
    *out = node;
    if (node->kind == DG_YAML_SCALAR) return expand_scalar(r, node, v, out);
    if (node->kind != DG_YAML_LIST) return DG_OK;
    dg_yaml_node *list = copy_node(r, node);
    if (!list) return DG_ERR_NOMEM;
    list->items = NULL;
    list->n = list->capacity = 0;
    dg_status status = DG_OK;
    for (size_t i = 0; i < node->n; i++) {
        dg_yaml_item item = node->items[i];
        dg_status s =
            item.value->kind == DG_YAML_SCALAR ? expand_scalar(r, item.value, v, &item.value) : DG_OK;
        if (s == DG_ERR_NOMEM || !dg_yaml_add(&r->arena, list, item)) return DG_ERR_NOMEM;
        if (s != DG_OK) status = s;
    }
    *out = list;
    return status;
}

static const char *folder_of(const dg_recipe *r, dg_pos pos)
{
    for (size_t i = 0; pos.line && i < r->n_files; i++)
        if (strcmp(r->files[i].label, pos.file) == 0) return r->files[i].dir;
    return r->cwd; /* the command line and defaults */
}

/* "../x" from the folder /a/b is /a/x: the folder has no links in it, so this is what the system would open.
 */
static char *absolute(dg_recipe *r, const char *path, const char *folder)
{
    size_t n = strlen(folder);
    if (path[0] == '/') return dg_arena_strdup(&r->arena, path);
    for (;;) {
        if (path[0] == '.' && (path[1] == '/' || path[1] == 0))
            path += path[1] ? 2 : 1;
        else if (path[0] == '.' && path[1] == '.' && (path[2] == '/' || path[2] == 0)) {
            path += path[2] ? 3 : 2;
            while (n > 0 && folder[n - 1] != '/') n--;
            while (n > 0 && folder[n - 1] == '/') n--;
        } else if (path[0] == '/')
            path++;
        else
            break;
    }
    if (!path[0]) return recipe_text(&r->arena, "%.*s", n ? (int)n : 1, n ? folder : "/");
    while (n > 0 && folder[n - 1] == '/') n--;
    return recipe_text(&r->arena, "%.*s/%s", (int)n, folder, path);
}

static dg_status make_absolute(dg_recipe *r, const dg_param_spec *spec, dg_yaml_node **node)
{
    if ((*node)->kind != DG_YAML_SCALAR || !(*node)->text[0] || dg_yaml_is_null(*node)) return DG_OK;
    for (size_t i = 0; spec->choices && spec->choices[i]; i++)
        if (strcmp(spec->choices[i], (*node)->text) == 0) return DG_OK;
    dg_yaml_node *copy = copy_node(r, *node);
    if (!copy) return DG_ERR_NOMEM;
    copy->text = absolute(r, copy->text, folder_of(r, copy->pos));
    copy->plain = false;
    *node = copy;
    return copy->text ? DG_OK : DG_ERR_NOMEM;
}

static dg_status make_paths(dg_recipe *r, recipe_entry *e)
{
    if (!is_path_type(&e->spec)) return DG_OK;
    if (e->node->kind != DG_YAML_LIST) return make_absolute(r, &e->spec, &e->node);
    dg_yaml_node *list = copy_node(r, e->node);
    dg_yaml_item *items = dg_arena_alloc(&r->arena, (list && list->n ? list->n : 1) * sizeof *items);
    if (!list || !items) return DG_ERR_NOMEM;
    if (list->n)
        memcpy(items, list->items, list->n * sizeof *items); /* a whole-value reference shares its target's */
    list->items = items;
    list->capacity = list->n;
    for (size_t i = 0; i < list->n; i++) DG_TRY(make_absolute(r, &e->spec, &items[i].value));
    e->node = list;
    return DG_OK;
}

static dg_status resolve_now(dg_recipe *r, recipe_entry *e, const visit *above)
{
    visit v = {e, above};
    if (e->item)
        DG_TRY(expand(r, e->item->value, &v, &e->node));
    else if (e->spec.def && e->spec.def[0]) /* required and unset ones are seen when values are read */
        DG_TRY(dg_param_default(&e->spec, e->key, (dg_pos){"default", 0, 0}, &r->arena, &e->node, r->diags));
    return e->node ? make_paths(r, e) : DG_OK;
}

static dg_status resolve(dg_recipe *r, recipe_entry *e, const visit *above)
{
    if (e->state == ENTRY_DONE) return DG_OK;
    if (e->state == ENTRY_BAD) return DG_ERR_INVALID;
    e->state = ENTRY_VISITING;
    dg_status s = resolve_now(r, e, above);
    e->state = s == DG_OK ? ENTRY_DONE : ENTRY_BAD;
    return s;
}

dg_status recipe_resolve(dg_recipe *r, recipe_entry *e)
{
    return resolve(r, e, NULL);
}
