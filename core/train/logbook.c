/* logbook.c - reading the folder of a run. See logbook.h. */
#include "logbook.h"

#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/file.h"
#include "io/json.h"
#include "recipe/schema.h"

enum {
    MOST_LOG = 1 << 30,     /* bytes of a log */
    MOST_SERIES = 256,      /* columns of a log; further ones are passed over */
    MOST_RUNS_DEEP = 8,     /* runs whose weights come from runs whose weights come from ... */
    MOST_FOLDERS_ABOVE = 4, /* a file of a run lies at most so deep in its folder */
};

/* ---- logs */

static dg_series *column(dg_series_list *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->items[i].name, name) == 0) return &t->items[i];
    if (t->n == MOST_SERIES || !dg_grow(&t->items, t->n, &t->room, sizeof *t->items)) return NULL;
    dg_series *s = &t->items[t->n++];
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

static bool add_point(dg_series *s, double step, double value)
{
    if (!dg_grow(&s->step, s->n, &s->room, sizeof *s->step) ||
        !dg_grow(&s->value, s->n, &s->value_room, sizeof *s->value))
        return false;
    s->step[s->n] = step;
    s->value[s->n++] = value;
    return true;
}

/* Numbers, and the words that stand for what JSON has no numbers for. */
static bool number(const dg_json *v, double *out)
{
    if (!v) return false;
    if (v->type == DG_JSON_INT) *out = (double)v->v.integer;
    if (v->type == DG_JSON_FLOAT) *out = v->v.number;
    if (v->type == DG_JSON_INT || v->type == DG_JSON_FLOAT) return true;
    if (v->type != DG_JSON_STRING) return false;
    const char *word = v->v.text;
    *out = strcmp(word, "inf") == 0 ? INFINITY : strcmp(word, "-inf") == 0 ? -INFINITY : NAN;
    return isinf(*out) || strcmp(word, "nan") == 0;
}

/* A row of the task knn is one k: its numbers are named as those of a look at the features while training. */
static void name_of(const dg_json *row, const char *key, char *out, size_t size)
{
    double k;
    if (strncmp(key, "knn_", 4) == 0 && number(dg_json_get(row, "k"), &k))
        snprintf(out, size, "knn%.0f_%s", k, key + 4);
    else
        snprintf(out, size, "%s", key);
}

static dg_status add_row(dg_series_list *t, const char *line, size_t size, const char *where, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *row;
    double step = 0, value;
    char name[64];
    dg_status s = dg_json_parse(line, size, where, &arena, &row, err);
    if (s == DG_OK && row->type != DG_JSON_OBJECT)
        s = dg_fail(err, DG_ERR_FORMAT, "%s: a line is no object", where);
    if (s == DG_OK) number(dg_json_get(row, "step"), &step);
    for (const dg_json *v = s == DG_OK ? row->v.first : NULL; v && s == DG_OK; v = v->next) {
        if (strcmp(v->key, "step") == 0 || strcmp(v->key, "k") == 0 || !number(v, &value)) continue;
        name_of(row, v->key, name, sizeof name);
        dg_series *c = column(t, name);
        if (c && !add_point(c, step, value)) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    dg_arena_free(&arena);
    return s;
}

static dg_status read_log(const char *dir, const char *name, dg_series_list *t, dg_error *err)
{
    char *path = dg_path_join(dir, name), *bytes = NULL;
    size_t size = 0;
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_path_is_file(path) ? dg_file_read(path, MOST_LOG, &bytes, &size, err) : DG_OK;
    for (char *at = bytes, *end; s == DG_OK && at && (end = memchr(at, '\n', (size_t)(bytes + size - at)));
         at = end + 1)
        s = add_row(t, at, (size_t)(end - at), path, err);
    dg_free(bytes);
    dg_free(path);
    return s;
}

static void free_list(dg_series_list *t)
{
    for (size_t i = 0; i < t->n; i++) {
        dg_free(t->items[i].step);
        dg_free(t->items[i].value);
    }
    dg_free(t->items);
}

/* ---- facts */

static dg_status read_facts(dg_logbook *b, dg_error *err)
{
    const dg_json *root = NULL;
    char *path = dg_path_join(b->dir, "run.json");
    dg_status s = path ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && dg_path_is_file(path)) s = dg_json_read_file(path, 1 << 20, &b->arena, &root, err);
    dg_free(path);
    if (s != DG_OK || !root || root->type != DG_JSON_OBJECT) return s;
    b->facts = dg_arena_alloc(&b->arena, (root->count + 1) * sizeof *b->facts);
    if (!b->facts) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (const dg_json *v = root->v.first; v; v = v->next) {
        char text[40];
        double x = 0;
        if (v->type == DG_JSON_STRING)
            b->facts[b->n_facts].value = v->v.text;
        else if (number(v, &x)) {
            snprintf(text, sizeof text, "%.17g", x);
            b->facts[b->n_facts].value = dg_arena_strdup(&b->arena, text);
            if (!b->facts[b->n_facts].value) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        } else
            continue;
        b->facts[b->n_facts++].key = v->key;
    }
    return DG_OK;
}

/* ---- the recipe */

static dg_status open_at(const char *dir, int depth, bool logs, dg_logbook *book, dg_error *err);

/* If the path lies in the folder of a run: what it is called ("digpt/best.safetensors"), and as what it
 * counts. */
static bool of_run(const char *path, int depth, dg_str *shown, dg_str *identity)
{
    char dir[1024];
    bool found = false;
    if (path[0] != '/' || depth >= MOST_RUNS_DEEP || strlen(path) >= sizeof dir) return false;
    snprintf(dir, sizeof dir, "%s", path);
    for (int i = 0; i < MOST_FOLDERS_ABOVE && !found; i++) {
        char *slash = strrchr(dir, '/'), recipe[1100];
        if (!slash || slash == dir) break;
        *slash = 0;
        snprintf(recipe, sizeof recipe, "%s/recipe.yaml", dir);
        if (!dg_path_is_file(recipe)) continue;
        dg_logbook other = {0};
        dg_error ignored = DG_ERROR_INIT;
        found = open_at(dir, depth + 1, false, &other, &ignored) == DG_OK;
        if (found) {
            dg_str_printf(shown, "%s%s", other.name, path + strlen(dir));
            dg_str_printf(identity, "run %016llx%s", (unsigned long long)other.identity, path + strlen(dir));
        }
        dg_logbook_close(&other);
    }
    return found;
}

/* A value as text, "[1, 2]" for a list. */
static void put_value(const dg_yaml_node *node, int depth, dg_str *shown, dg_str *identity)
{
    if (node->kind == DG_YAML_SCALAR) {
        if (of_run(node->text, depth, shown, identity)) return;
        dg_str_puts(shown, node->text);
        dg_str_puts(identity, node->text);
        return;
    }
    dg_str_puts(shown, "[");
    dg_str_puts(identity, "[");
    for (size_t i = 0; i < node->n; i++) {
        if (i) dg_str_puts(shown, ", ");
        if (i) dg_str_puts(identity, ", ");
        put_value(node->items[i].value, depth, shown, identity);
    }
    dg_str_puts(shown, "]");
    dg_str_puts(identity, "]");
}

static dg_status add_entry(dg_logbook *b, size_t *room, const char *section, const char *key,
                           const dg_yaml_node *value, int depth, dg_error *err)
{
    char dotted[256];
    dg_str shown = {0}, identity = {0};
    snprintf(dotted, sizeof dotted, "%s%s%s", section ? section : "", section ? "." : "", key);
    put_value(value, depth, &shown, &identity);
    dg_status s = dg_str_check(&shown, err);
    if (s == DG_OK) s = dg_str_check(&identity, err);
    if (s == DG_OK && !dg_grow(&b->recipe, b->n_recipe, room, sizeof *b->recipe))
        s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) {
        dg_entry *e = &b->recipe[b->n_recipe++];
        e->key = dg_arena_strdup(&b->arena, dotted);
        e->value = dg_arena_strdup(&b->arena, shown.text ? shown.text : "");
        e->identity = dg_arena_strdup(&b->arena, identity.text ? identity.text : "");
        if (!e->key || !e->value || !e->identity) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    dg_str_free(&shown);
    dg_str_free(&identity);
    return s;
}

/* A component that is absent has the name null: so it differs from one that is there in its name alone. */
static dg_status flatten(dg_logbook *b, const dg_yaml_node *root, int depth, dg_error *err)
{
    size_t room = 0;
    for (size_t i = 0; i < root->n; i++) {
        const dg_yaml_item *item = &root->items[i];
        const dg_section *section = dg_schema_section(item->key);
        if (item->value->kind != DG_YAML_MAP) {
            bool absent = section && !section->specs && dg_yaml_is_null(item->value);
            DG_TRY(add_entry(b, &room, absent ? item->key : NULL, absent ? "name" : item->key, item->value,
                             depth, err));
            continue;
        }
        for (size_t k = 0; k < item->value->n; k++)
            DG_TRY(add_entry(b, &room, item->key, item->value->items[k].key, item->value->items[k].value,
                             depth, err));
    }
    return DG_OK;
}

static dg_status read_recipe(dg_logbook *b, int depth, dg_error *err)
{
    char *path = dg_path_join(b->dir, "recipe.yaml"), *bytes = NULL;
    size_t size = 0;
    dg_diagnostics diags = {0};
    dg_yaml_node *root = NULL;
    dg_status s = path ? dg_file_read(path, DG_YAML_MAX_BYTES, &bytes, &size, err)
                       : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && (s = dg_yaml_parse(bytes, size, path, &b->arena, &root, &diags)) != DG_OK) {
        dg_str text = {0};
        dg_diagnostics_print(&diags, &text);
        dg_fail(err, s, "%s", text.text ? text.text : "out of memory");
        dg_str_free(&text);
    }
    if (s == DG_OK && root->kind != DG_YAML_MAP)
        s = dg_fail(err, DG_ERR_FORMAT, "'%s' is no recipe: it is no map of keys", path);
    if (s == DG_OK) s = flatten(b, root, depth, err);
    dg_diagnostics_free(&diags);
    dg_free(bytes);
    dg_free(path);
    return s;
}

bool dg_logbook_is_label(const char *key)
{
    return strcmp(key, "name") == 0 || strcmp(key, "output") == 0 || strcmp(key, "seed") == 0;
}

static dg_status identify(dg_logbook *b, dg_error *err)
{
    dg_str all = {0};
    for (size_t i = 0; i < b->n_recipe; i++)
        if (!dg_logbook_is_label(b->recipe[i].key))
            dg_str_printf(&all, "%s: %s\n", b->recipe[i].key, b->recipe[i].identity);
    dg_status s = dg_str_check(&all, err);
    if (s == DG_OK) b->identity = XXH3_64bits(all.text ? all.text : "", all.length);
    dg_str_free(&all);
    return s;
}

/* ---- the folder */

static dg_status open_at(const char *dir, int depth, bool logs, dg_logbook *b, dg_error *err)
{
    char recipe[1100];
    if (!dg_path_is_dir(dir)) return dg_fail(err, DG_ERR_NOT_FOUND, "there is no folder '%s'", dir);
    if (snprintf(recipe, sizeof recipe, "%s/recipe.yaml", dir) >= (int)sizeof recipe)
        return dg_fail(err, DG_ERR_INVALID, "the path '%.80s...' is too long", dir);
    if (!dg_path_is_file(recipe))
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "'%s' is no run: it has no recipe.yaml, which `digpt run` writes into a run's folder",
                       dir);
    b->dir = dg_arena_strdup(&b->arena, dir);
    if (!b->dir) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t n = strlen(b->dir); n > 1 && b->dir[n - 1] == '/'; n--) b->dir[n - 1] = 0;
    b->name = strrchr(b->dir, '/') ? strrchr(b->dir, '/') + 1 : b->dir;
    DG_TRY(read_recipe(b, depth, err));
    if (strcmp(b->name, ".") == 0 && dg_logbook_recipe(b, "name")) b->name = dg_logbook_recipe(b, "name");
    b->task = dg_logbook_recipe(b, "task");
    b->seed = dg_logbook_recipe(b, "seed");
    if (!b->task) b->task = "pretrain";
    if (!b->seed) b->seed = "";
    DG_TRY(identify(b, err));
    if (!logs) return DG_OK;
    DG_TRY(read_facts(b, err));
    DG_TRY(read_log(dir, "metrics.jsonl", &b->metrics, err));
    return read_log(dir, "timings.jsonl", &b->timings, err);
}

dg_status dg_logbook_open(const char *dir, dg_logbook *book, dg_error *err)
{
    return open_at(dir, 0, true, book, err);
}

void dg_logbook_close(dg_logbook *b)
{
    free_list(&b->metrics);
    free_list(&b->timings);
    dg_free(b->recipe);
    dg_arena_free(&b->arena);
    memset(b, 0, sizeof *b);
}

static const char *find(const dg_entry *e, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(e[i].key, key) == 0) return e[i].value;
    return NULL;
}

const char *dg_logbook_recipe(const dg_logbook *b, const char *key)
{
    return find(b->recipe, b->n_recipe, key);
}

const char *dg_logbook_fact(const dg_logbook *b, const char *key)
{
    return find(b->facts, b->n_facts, key);
}

const dg_series *dg_series_find(const dg_series_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i].name, name) == 0) return &list->items[i];
    return NULL;
}

bool dg_series_repeats_loss(const dg_series_list *list, const dg_series *series)
{
    const dg_series *loss = dg_series_find(list, "loss");
    if (!loss || strncmp(series->name, "loss_", 5) != 0 || loss->n != series->n) return false;
    return memcmp(loss->value, series->value, loss->n * sizeof *loss->value) == 0;
}

bool dg_series_is_share(const char *name)
{
    return strstr(name, "top1") || strstr(name, "top5") || strcmp(name, "data_wait") == 0;
}
