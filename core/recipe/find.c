/* find.c - recipes by name: ./recipes, the folders of DIGPT_RECIPE_PATH, the folder of
 * this installation, that of the configured one. See recipe.h. */
#include "recipe/recipe.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

#define SUFFIX ".yaml"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* ../share/digpt/recipes beside the program, so that an installation may be moved; NULL when it is not known. */
static const char *beside_program(dg_arena *arena)
{
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return NULL;
    program[n] = 0;
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(program, '/');
        if (!slash) return NULL;
        *slash = 0;
    }
    size_t size = strlen(program) + sizeof "/share/digpt/recipes";
    char *path = dg_arena_alloc(arena, size);
    if (path) snprintf(path, size, "%s/share/digpt/recipes", program);
    return path;
}

/* The folders that are searched, in order. */
static dg_status folders(dg_arena *arena, const char ***out, size_t *n)
{
    const char *env = getenv("DIGPT_RECIPE_PATH");
    char *list = dg_arena_strdup(arena, env ? env : "");
    size_t most = 4;
    for (const char *p = list; p && *p; p++) most += *p == ':';
    const char **all = list ? dg_arena_alloc(arena, most * sizeof *all) : NULL;
    if (!all) return DG_ERR_NOMEM;
    *n = 0;
    all[(*n)++] = "recipes";
    for (char *p = list, *next; p; p = next) {
        next = strchr(p, ':');
        if (next) *next++ = 0;
        if (*p) all[(*n)++] = p;
    }
    const char *beside = beside_program(arena);
    if (beside) all[(*n)++] = beside;
    all[(*n)++] = DIGPT_INSTALLED_RECIPES;
    *out = all;
    return DG_OK;
}

/* The first line of a file if it is a comment, without its mark. */
static dg_status first_comment(dg_arena *arena, const char *path, const char **out)
{
    char line[256] = "";
    FILE *f = fopen(path, "re");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) fclose(f);
    char *text = line;
    text[strcspn(text, "\r\n")] = 0;
    if (*text == '#')
        text += strspn(text, "# \t");
    else
        text = line + strlen(line);
    *out = dg_arena_strdup(arena, text);
    return *out ? DG_OK : DG_ERR_NOMEM;
}

typedef struct listing {
    dg_arena *arena;
    dg_recipe_entry *items;
    size_t n, capacity;
} listing;

static dg_status list_file(listing *l, const char *folder, const char *file)
{
    char *name = dg_arena_strdup(l->arena, file);
    if (!name) return DG_ERR_NOMEM;
    name[strlen(name) - strlen(SUFFIX)] = 0;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i].name, name) == 0) return DG_OK;
    char *joined = dg_path_join(folder, file);
    const char *path = joined ? dg_arena_strdup(l->arena, joined) : NULL;
    dg_free(joined);
    if (!path) return DG_ERR_NOMEM;
    if (!dg_path_is_file(path)) return DG_OK;
    dg_recipe_entry entry = {name, path, NULL};
    DG_TRY(first_comment(l->arena, path, &entry.help));
    if (!dg_grow(&l->items, l->n, &l->capacity, sizeof entry)) return DG_ERR_NOMEM;
    l->items[l->n++] = entry;
    return DG_OK;
}

static dg_status list_folder(listing *l, const char *folder)
{
    DIR *dir = opendir(folder);
    dg_status s = DG_OK;
    if (!dir) return DG_OK; /* none of the folders needs to be there */
    for (struct dirent *e; s == DG_OK && (e = readdir(dir));)
        if (ends_with(e->d_name, SUFFIX)) s = list_file(l, folder, e->d_name);
    closedir(dir);
    return s;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dg_recipe_entry *)a)->name, ((const dg_recipe_entry *)b)->name);
}

dg_status dg_recipe_list(dg_arena *arena, dg_recipe_entry **entries, size_t *n, dg_error *err)
{
    listing l = {.arena = arena};
    const char **all;
    size_t n_folders = 0;
    dg_status s = folders(arena, &all, &n_folders);
    for (size_t i = 0; s == DG_OK && i < n_folders; i++) s = list_folder(&l, all[i]);
    if (l.n) qsort(l.items, l.n, sizeof *l.items, by_name);
    dg_recipe_entry *copy = s == DG_OK ? dg_arena_alloc(arena, (l.n ? l.n : 1) * sizeof *copy) : NULL;
    if (copy && l.n) memcpy(copy, l.items, l.n * sizeof *copy);
    dg_free(l.items);
    if (!copy) return dg_fail(err, DG_ERR_NOMEM, "out of memory while listing recipes");
    *entries = copy;
    *n = l.n;
    return DG_OK;
}

/* "no recipe 'x'", with the nearest name or the folders. */
static dg_status not_found(const char *name, dg_arena *arena, const char *const *all, size_t n_folders,
                           dg_error *err)
{
    dg_recipe_entry *entries;
    size_t n;
    DG_TRY(dg_recipe_list(arena, &entries, &n, err));
    const char **names = dg_arena_alloc(arena, (n ? n : 1) * sizeof *names);
    if (!names) return dg_fail(err, DG_ERR_NOMEM, "out of memory while looking for a recipe");
    for (size_t i = 0; i < n; i++) names[i] = entries[i].name;
    const char *near = dg_nearest(name, names, n);
    if (near)
        return dg_fail(err, DG_ERR_NOT_FOUND, "there is no recipe '%s'; did you mean '%s'?", name, near);
    dg_str where = {0};
    for (size_t i = 0; i < n_folders; i++) dg_str_printf(&where, "%s%s", i ? ", " : "", all[i]);
    dg_fail(err, DG_ERR_NOT_FOUND,
            "there is no recipe '%s' in: %s; give the path of a .yaml file, or one of the names "
            "that 'digpt recipe list' prints",
            name, where.text ? where.text : "");
    dg_str_free(&where);
    return DG_ERR_NOT_FOUND;
}

dg_status dg_recipe_find(const char *name, char **path, dg_error *err)
{
    dg_arena arena = {0};
    const char **all = NULL;
    size_t n = 0;
    *path = NULL;
    if (strchr(name, '/') || ends_with(name, SUFFIX) || ends_with(name, ".yml")) {
        if (!dg_path_is_file(name))
            return dg_fail(err, DG_ERR_NOT_FOUND, "there is no recipe file '%s'", name);
        *path = dg_strdup(name);
        return *path ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    dg_status s = folders(&arena, &all, &n);
    char *file = s == DG_OK ? dg_calloc(strlen(name) + sizeof SUFFIX, 1) : NULL;
    if (file) {
        strcpy(file, name);
        strcat(file, SUFFIX);
    } else
        s = DG_ERR_NOMEM;
    for (size_t i = 0; s == DG_OK && i < n && !*path; i++) {
        char *candidate = dg_path_join(all[i], file);
        if (!candidate)
            s = DG_ERR_NOMEM;
        else if (dg_path_is_file(candidate))
            *path = candidate;
        else
            dg_free(candidate);
    }
    if (s != DG_OK)
        dg_fail(err, s, "out of memory while looking for a recipe");
    else if (!*path)
        s = not_found(name, &arena, all, n, err);
    dg_free(file);
    dg_arena_free(&arena);
    return s;
}
