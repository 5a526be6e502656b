/* rundir.c - see rundir.h. */
#include "rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/jsonl.h"
#include "train/classes.h"

dg_status dg_rundir_path(const dg_recipe *recipe, const char *dir, char *out, size_t size, dg_error *err)
{
    int n = dir ? snprintf(out, size, "%s", dir)
                : snprintf(out, size, "%s/%s", dg_recipe_string(recipe, "output"),
                           dg_recipe_string(recipe, "name"));
    return n > 0 && (size_t)n < size
               ? DG_OK
               : dg_fail_key(err, DG_ERR_INVALID, "output", "the run's folder has too long a path");
}

dg_status dg_rundir_lock(const char *dir, int *lock, dg_error *err)
{
    dg_error why = DG_ERROR_INIT;
    char *path = dg_path_join(dir, "lock");
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_dir_make(dir, &why);
    *lock = s == DG_OK ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (s == DG_OK && *lock < 0) s = dg_fail(&why, DG_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    if (s != DG_OK)
        s = dg_fail(err, s, "%s. The run's folder is --dir, or else output/name of the recipe", why.message);
    else if (flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) /* some file systems have none */
        s = dg_fail(err, DG_ERR_INVALID,
                    "another process is training in '%s'; wait for it, or take another folder with --dir or "
                    "name=...",
                    dir);
    if (s != DG_OK) dg_rundir_unlock(lock);
    dg_free(path);
    return s;
}

void dg_rundir_unlock(int *lock)
{
    if (*lock >= 0) close(*lock);
    *lock = -1;
}

static dg_status write_text(const char *dir, const char *name, dg_str *text, dg_error *err)
{
    char *path = dg_path_join(dir, name);
    dg_status s = path ? dg_str_check(text, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = dg_file_write_atomic(path, text->text ? text->text : "", text->length, err);
    dg_free(path);
    dg_str_free(text);
    return s;
}

static void put_component(dg_str *row, const char *kind, const dg_component *c)
{
    if (!c->ref.factory) return;
    const dg_plugin_file *f = c->ref.file;
    char text[1600];
    snprintf(text, sizeof text, "%s, plugin %s %s (%s), %s, hash %s", c->ref.factory->name, f->plugin->id,
             f->plugin->version, f->plugin->build ? f->plugin->build : "", f->path,
             f->hash[0] ? f->hash : "built in");
    dg_row_text(row, kind, text);
}

dg_status dg_rundir_describe(const char *dir, const dg_parts *parts, const dg_run_plan *plan,
                             const dg_source *source, const char *command, dg_error *err)
{
    dg_str text = {0}, row = {0};
    struct utsname machine;
    char when[64], fingerprint[256] = "";
    time_t t = time(NULL);
    struct tm utc;
    dg_recipe_print(parts->recipe, false, &text);
    DG_TRY(write_text(dir, "recipe.yaml", &text, err));
    dg_recipe_print(parts->recipe, true, &text);
    DG_TRY(write_text(dir, "origins.yaml", &text, err));
    DG_TRY(dg_classes_write(dir, source, err));
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    dg_backend_of(parts)->fingerprint(parts->backend.self, fingerprint, sizeof fingerprint);
    dg_row_text(&row, "digpt", DIGPT_VERSION);
    dg_row_text(&row, "started", when);
    dg_row_text(&row, "command", command ? command : "");
    dg_row_int(&row, "seed", (int64_t)parts->seed);
    dg_row_text(&row, "precision", dg_dtype_name(plan->compute));
    dg_row_text(&row, "data", dg_source_describe(source));
    put_component(&row, "tokenizer", &parts->tokenizer);
    if (parts->tokens.struct_size) dg_row_text(&row, "tokens", parts->tokens.summary);
    put_component(&row, "model", &parts->model);
    put_component(&row, "loss", &parts->loss);
    put_component(&row, "backend", &parts->backend);
    dg_row_text(&row, "backend_fingerprint", fingerprint);
    if (uname(&machine) == 0) {
        dg_row_text(&row, "machine", machine.nodename);
        dg_row_text(&row, "system", machine.release);
    }
    dg_row_int(&row, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    text.failed = row.failed;
    dg_str_printf(&text, "%s}\n", row.text ? row.text : "{");
    dg_str_free(&row);
    return write_text(dir, "run.json", &text, err);
}

dg_status dg_rundir_weights(const char *dir, bool best, char **path, dg_error *err)
{
    dg_progress progress = {0};
    char *newest = NULL;
    *path = dg_path_join(dir, "best.safetensors");
    if (!*path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (best && dg_path_is_file(*path)) return DG_OK;
    dg_free(*path);
    *path = NULL;
    DG_TRY(dg_checkpoint_latest(dir, &newest, &progress, err));
    dg_progress_free(&progress);
    if (!newest) return DG_OK;
    *path = dg_path_join(newest, "average.safetensors");
    if (*path && !dg_path_is_file(*path)) {
        dg_free(*path);
        *path = dg_path_join(newest, "model.safetensors");
    }
    dg_free(newest);
    return *path ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static char *hexadecimal(uint64_t x)
{
    char text[32];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)x);
    return dg_strdup(text);
}

/* "pixels of digpt.pixels 1.0.0, ..." */
static void list_plugins(const dg_parts *parts, dg_str *out)
{
    const dg_component *all[] = {&parts->tokenizer, &parts->model, &parts->loss, &parts->backend};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i]->ref.factory)
            dg_str_printf(out, "%s%s of %s %s", out->length ? ", " : "", all[i]->ref.factory->name,
                          all[i]->ref.file->plugin->id, all[i]->ref.file->plugin->version);
}

dg_status dg_progress_describe(dg_progress *p, const dg_parts *parts, const dg_run_plan *plan,
                               const dg_source *source, const dg_state *state, dg_error *err)
{
    dg_str recipe = {0}, plugins = {0};
    char fingerprint[256] = "";
    dg_recipe_print(parts->recipe, false, &recipe);
    list_plugins(parts, &plugins);
    dg_backend_of(parts)->fingerprint(parts->backend.self, fingerprint, sizeof fingerprint);
    p->recipe = recipe.text;
    p->plugins = plugins.text;
    p->backend = dg_strdup(fingerprint);
    p->data = hexadecimal(dg_source_fingerprint(source));
    p->weights = hexadecimal(state->frozen);
    p->precision = dg_strdup(dg_dtype_name(plan->compute));
    DG_TRY(dg_str_check(&recipe, err));
    DG_TRY(dg_str_check(&plugins, err));
    return p->backend && p->data && p->weights && p->precision ? DG_OK
                                                               : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

/* ---- may this run go on from that checkpoint? */

static bool harmless(const char *key)
{
    static const char *const keys[] = {"name",
                                       "output",
                                       "plugins",
                                       "data.workers",
                                       "data.prefetch",
                                       "data.val_path",
                                       "train.time_limit",
                                       "train.log_every",
                                       "train.checkpoint_every",
                                       "train.keep_last",
                                       "train.keep_every",
                                       "train.pictures",
                                       "backend.threads",
                                       "backend.cache",
                                       "backend.trial"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

static dg_status compare_recipes(const char *then, const dg_recipe *now, const dg_schema_source *schemas,
                                 dg_str *out, dg_error *err)
{
    dg_recipe *old = NULL;
    dg_diagnostics diags = {0};
    dg_arena arena = {0};
    dg_recipe_difference *items = NULL;
    size_t n = 0;
    dg_status s =
        dg_recipe_parse(then, strlen(then), "the checkpoint's recipe", NULL, 0, schemas, &old, &diags);
    if (s != DG_OK) {
        dg_str_puts(out,
                    "\n  the checkpoint's recipe is not valid for this version of digpt and its plugins");
        s = DG_OK;
    } else {
        s = dg_recipe_diff(old, now, &arena, &items, &n, err);
    }
    for (size_t i = 0; s == DG_OK && i < n; i++)
        if (!harmless(items[i].key))
            dg_str_printf(out, "\n  %s: %s then, %s now", items[i].key, items[i].a ? items[i].a : "not there",
                          items[i].b ? items[i].b : "not there");
    dg_arena_free(&arena);
    dg_recipe_free(old);
    dg_diagnostics_free(&diags);
    return s;
}

static void compare_text(dg_str *out, const char *what, const char *then, const char *now)
{
    if (strcmp(then, now) != 0) dg_str_printf(out, "\n  %s: %s then, %s now", what, then, now);
}

dg_status dg_rundir_compare(const dg_progress *then, const dg_progress *now, const dg_recipe *recipe,
                            const dg_schema_source *schemas, bool force, dg_error *err)
{
    dg_str list = {0};
    dg_status s = compare_recipes(then->recipe, recipe, schemas, &list, err);
    compare_text(&list, "backend", then->backend, now->backend);
    compare_text(&list, "precision", then->precision, now->precision);
    compare_text(&list, "plugins", then->plugins, now->plugins);
    compare_text(&list, "fingerprint of the data", then->data, now->data);
    compare_text(&list, "fingerprint of the tokenizer's weights", then->weights, now->weights);
    if (s == DG_OK) s = list.failed ? dg_fail(err, DG_ERR_NOMEM, "out of memory") : DG_OK;
    if (s == DG_OK && list.length && force)
        dg_logf(DG_LOG_WARNING, "resuming although this differs:%s", list.text);
    if (s == DG_OK && list.length && !force)
        s = dg_fail(err, DG_ERR_MISMATCH,
                    "this would not be the same run; take the old values, another run folder, or --force:%s",
                    list.text);
    dg_str_free(&list);
    return s;
}
