/* compose.c - one tree from a recipe, the files that it extends, and the command line. See recipe.h. */
#include "recipe/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/file.h"

/* The files that are being read, outermost first. */
typedef struct chain {
    const char *label, *real; /* real: without links, to know a file again */
    const struct chain *above;
    int depth;
} chain;

static dg_status merge(dg_recipe *r, dg_yaml_node *base, const dg_yaml_node *over);

static const char *scalar_text(const dg_yaml_node *map, const char *key)
{
    const dg_yaml_node *node = dg_yaml_get(map, key);
    return node && node->kind == DG_YAML_SCALAR ? node->text : NULL;
}

/* `over` on top of the value of one top-level key. */
static dg_status merge_value(dg_recipe *r, dg_yaml_item *base, const dg_yaml_item *over)
{
    const dg_section *section = dg_schema_section(base->key);
    bool maps = base->value->kind == DG_YAML_MAP && over->value->kind == DG_YAML_MAP;
    if (maps && section && !section->specs) {
        const char *old = scalar_text(base->value, "name"), *new = scalar_text(over->value, "name");
        if (new && (!old || strcmp(old, new) != 0))
            maps = false; /* another component: its own parameters only */
    }
    /* A fixed section without keys ("train:") says nothing. */
    if (section && section->specs && dg_yaml_is_null(over->value)) return DG_OK;
    if (over->key_pos.line || !maps) base->key_pos = over->key_pos;
    if (maps) return merge(r, base->value, over->value);
    base->value = over->value;
    return DG_OK;
}

static dg_status merge(dg_recipe *r, dg_yaml_node *base, const dg_yaml_node *over)
{
    for (size_t i = 0; i < over->n; i++) {
        dg_yaml_item *item = dg_yaml_find(base, over->items[i].key);
        if (!item) {
            if (!dg_yaml_add(&r->arena, base, over->items[i])) return DG_ERR_NOMEM;
        } else if (base == r->root)
            DG_TRY(merge_value(r, item, &over->items[i]));
        else
            *item = over->items[i];
    }
    return DG_OK;
}

static dg_status load_file(dg_recipe *r, const char *bytes, size_t size, const chain *link, dg_pos from);

/* What `extends: name` in the file `label` means: beside that file, or a recipe that is known by this name.
 */
static dg_status parent_label(dg_recipe *r, const char *label, const char *name, const char **out)
{
    const char *slash = strrchr(label, '/');
    bool bare = !strchr(name, '/');
    while (name[0] == '.' && name[1] == '/') name += 2;
    const char *beside = name[0] == '/' || !slash
                             ? dg_arena_strdup(&r->arena, name)
                             : recipe_text(&r->arena, "%.*s/%s", (int)(slash - label), label, name);
    if (!beside) return DG_ERR_NOMEM;
    *out = beside;
    if (!bare || dg_path_is_file(beside)) return DG_OK;
    char *stem = dg_strdup(name), *found;
    if (!stem) return DG_ERR_NOMEM;
    size_t n = strlen(stem);
    if (n > 5 && strcmp(stem + n - 5, ".yaml") == 0) stem[n - 5] = 0;
    dg_status s = dg_recipe_find(stem, &found, NULL);
    dg_free(stem);
    if (s == DG_ERR_NOMEM) return s;
    if (s != DG_OK) return DG_OK; /* the reader will say that `beside` is not there */
    *out = dg_arena_strdup(&r->arena, found);
    dg_free(found);
    return *out ? DG_OK : DG_ERR_NOMEM;
}

static dg_status load_parent(dg_recipe *r, const dg_yaml_node *name, const chain *link)
{
    if (name->kind != DG_YAML_SCALAR || dg_yaml_is_null(name) || !name->text[0]) {
        char got[128];
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, name->pos,
                           "extends: expected a file or a list of files, found %s",
                           dg_yaml_describe(name, got, sizeof got));
    }
    chain parent = {NULL, NULL, link, link->depth + 1};
    DG_TRY(parent_label(r, link->label, name->text, &parent.label));
    char real[PATH_MAX];
    parent.real = realpath(parent.label, real) ? real : parent.label;
    for (const chain *c = link; c; c = c->above) {
        if (strcmp(c->real, parent.real) != 0) continue;
        dg_str loop = {0};
        dg_str_printf(&loop, "%s", parent.label);
        for (const chain *d = link; d != c->above; d = d->above) {
            char *rest = loop.text;
            loop = (dg_str){0};
            dg_str_printf(&loop, "%s -> %s", d->label, rest ? rest : "");
            dg_free(rest);
        }
        dg_status s =
            dg_diagnose(r->diags, DG_SEVERITY_ERROR, name->pos,
                        "extends: the files extend each other in a circle: %s", loop.text ? loop.text : "");
        dg_str_free(&loop);
        return s;
    }
    if (parent.depth > DG_RECIPE_MAX_EXTENDS)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, name->pos,
                           "extends: '%s' would be the %dth level; at most %d are read", name->text,
                           parent.depth, DG_RECIPE_MAX_EXTENDS);
    return load_file(r, NULL, 0, &parent, name->pos);
}

static dg_status load_parents(dg_recipe *r, const dg_yaml_node *extends, const chain *link)
{
    dg_status status = DG_OK;
    if (extends->kind != DG_YAML_LIST) return load_parent(r, extends, link);
    for (size_t i = 0; i < extends->n && status != DG_ERR_NOMEM; i++) {
        dg_status s = load_parent(r, extends->items[i].value, link);
        if (s != DG_OK) status = s;
    }
    return status;
}

static dg_status add_file(dg_recipe *r, const char *label, dg_pos from)
{
    char real[PATH_MAX];
    if (r->n_files == DG_RECIPE_MAX_FILES)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, from, "extends: more than %d files",
                           DG_RECIPE_MAX_FILES);
    char *dir = dg_path_dir(label);
    if (!dir) return DG_ERR_NOMEM;
    recipe_file *f = &r->files[r->n_files];
    f->label = label;
    f->dir = realpath(dir, real) ? dg_arena_strdup(&r->arena, real)
             : dir[0] == '/'     ? dg_arena_strdup(&r->arena, dir)
                                 : recipe_text(&r->arena, "%s/%s", r->cwd, dir);
    dg_free(dir);
    if (!f->dir) return DG_ERR_NOMEM;
    r->n_files++;
    return DG_OK;
}

/* Merges one file, its parents first, into the root. bytes NULL: it is read. `from`: where it is asked for.
 */
static dg_status load_file(dg_recipe *r, const char *bytes, size_t size, const chain *link, dg_pos from)
{
    char *owned = NULL;
    dg_error err = DG_ERROR_INIT;
    dg_yaml_node *tree;
    DG_TRY(add_file(r, link->label, from));
    if (!bytes) {
        dg_status s = dg_file_read(link->label, DG_YAML_MAX_BYTES, &owned, &size, &err);
        if (s == DG_ERR_NOMEM) return s;
        if (s != DG_OK) return dg_diagnose(r->diags, DG_SEVERITY_ERROR, from, "%s", err.message);
        bytes = owned;
    }
    dg_status status = dg_yaml_parse(bytes, size, link->label, &r->arena, &tree, r->diags);
    dg_free(owned);
    if (status == DG_ERR_NOMEM) return status;
    if (!tree) return DG_ERR_INVALID;
    if (tree->kind != DG_YAML_MAP) {
        char got[128];
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, tree->pos,
                           "a recipe is a map of keys such as 'data:', this one holds %s",
                           dg_yaml_describe(tree, got, sizeof got));
    }
    status = DG_OK;
    dg_yaml_item *extends = dg_yaml_find(tree, "extends");
    if (extends) {
        const dg_yaml_node *parents = extends->value;
        size_t i = (size_t)(extends - tree->items);
        memmove(extends, extends + 1, (--tree->n - i) * sizeof *extends);
        status = load_parents(r, parents, link);
        if (status == DG_ERR_NOMEM) return status;
    }
    DG_TRY(merge(r, r->root, tree));
    return status;
}

/* ---- the command line */

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Splits "a.b" or "a" into its parts; false if it is neither. */
static bool split_key(dg_arena *arena, const char *text, size_t n, const char **section, const char **key,
                      bool *nomem)
{
    const char *dot = memchr(text, '.', n);
    size_t head = dot ? (size_t)(dot - text) : n;
    if (head == 0 || head + 1 == n) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_key_char(text[i]) && i != head) return false;
    *section = recipe_text(arena, "%.*s", (int)head, text);
    *key = dot ? recipe_text(arena, "%.*s", (int)(n - head - 1), dot + 1) : NULL;
    *nomem = !*section || (dot && !*key);
    return true;
}

static bool remove_key(dg_yaml_node *map, const char *key)
{
    dg_yaml_item *item = dg_yaml_find(map, key);
    if (!item) return false;
    size_t i = (size_t)(item - map->items);
    memmove(item, item + 1, (--map->n - i) * sizeof *item);
    return true;
}

/* Removes from a tree; false when nothing was there. */
static bool remove_from(dg_yaml_node *root, const char *section, const char *key)
{
    return key ? remove_key(dg_yaml_get(root, section), key) : remove_key(root, section);
}

static dg_status set_in(dg_arena *arena, dg_yaml_node *map, const char *key, dg_pos pos, dg_yaml_node *value)
{
    dg_yaml_item item = {key, pos, value}, *old = dg_yaml_find(map, key);
    if (old)
        *old = item;
    else if (!dg_yaml_add(arena, map, item))
        return DG_ERR_NOMEM;
    return DG_OK;
}

/* Sets `layer`[section][key]; key NULL: the whole of layer[section]. */
static dg_status set_key(dg_recipe *r, dg_yaml_node *layer, const char *section, const char *key, dg_pos pos,
                         dg_yaml_node *value)
{
    if (!key) return set_in(&r->arena, layer, section, pos, value);
    dg_yaml_node *map = dg_yaml_get(layer, section);
    if (!map || map->kind != DG_YAML_MAP) {
        map = dg_arena_alloc(&r->arena, sizeof *map);
        if (!map) return DG_ERR_NOMEM;
        *map = (dg_yaml_node){.kind = DG_YAML_MAP, .pos = pos};
        DG_TRY(set_in(&r->arena, layer, section, pos, map));
    }
    return set_in(&r->arena, map, key, pos, value);
}

static dg_status take_removal(dg_recipe *r, dg_yaml_node *layer, const char *text, dg_pos pos)
{
    const char *section, *key;
    bool nomem = false;
    if (!split_key(&r->arena, text, strlen(text), &section, &key, &nomem))
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos, "'~%s' does not name a key: write ~section.key",
                           text);
    if (nomem) return DG_ERR_NOMEM;
    bool was_there = remove_from(r->root, section, key);
    was_there |= remove_from(layer, section, key);
    if (!was_there)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos,
                           "nothing sets '%s', so there is nothing to remove", text);
    return DG_OK;
}

static dg_status take_override(dg_recipe *r, dg_yaml_node *layer, const char *text, dg_pos pos)
{
    const char *equals = strchr(text, '='), *section, *key;
    bool nomem = false;
    dg_yaml_node *value;
    if (text[0] == '~') return take_removal(r, layer, text + 1, pos);
    if (!equals)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos, "'%.80s' is neither key=value nor ~key", text);
    if (!split_key(&r->arena, text, (size_t)(equals - text), &section, &key, &nomem))
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos,
                           "'%.*s' does not name a key: write section.key=value",
                           (int)(equals - text > 80 ? 80 : equals - text), text);
    if (nomem) return DG_ERR_NOMEM;
    if (!key && strcmp(section, "extends") == 0)
        return dg_diagnose(r->diags, DG_SEVERITY_ERROR, pos,
                           "extends cannot be given on the command line: write a recipe that extends both");
    dg_status s = dg_yaml_parse_value(equals + 1, pos, &r->arena, &value, r->diags);
    return s == DG_OK ? set_key(r, layer, section, key, pos, value) : s;
}

/* All arguments make one layer, so that their order does not matter to what a new component name drops. */
static dg_status apply_overrides(dg_recipe *r, const char *const *overrides, size_t n)
{
    dg_yaml_node layer = {.kind = DG_YAML_MAP};
    for (size_t i = 0; i < n; i++) {
        dg_pos pos = {recipe_text(&r->arena, "command line, argument %zu", i + 1), 0, 0};
        if (!pos.file || take_override(r, &layer, overrides[i], pos) == DG_ERR_NOMEM) return DG_ERR_NOMEM;
    }
    return merge(r, r->root, &layer);
}

dg_status recipe_compose(dg_recipe *r, const char *bytes, size_t size, const char *const *overrides, size_t n)
{
    char real[PATH_MAX];
    r->root = dg_arena_alloc(&r->arena, sizeof *r->root);
    if (!r->root) return DG_ERR_NOMEM;
    r->root->kind = DG_YAML_MAP;
    chain link = {r->path, realpath(r->path, real) ? real : r->path, NULL, 0};
    DG_TRY(load_file(r, bytes, size, &link, (dg_pos){r->path, 0, 0}));
    return apply_overrides(r, overrides, n);
}
