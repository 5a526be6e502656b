/* checkpoint.c - see checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "io/weights.h"

enum { FORMAT = 1 };
static const char model_prefix[] = "model.";
enum { MODEL_PREFIX = sizeof model_prefix - 1 };

void dg_progress_free(dg_progress *p)
{
    dg_free(p->recipe);
    dg_free(p->backend);
    dg_free(p->data);
    dg_free(p->precision);
    dg_free(p->plugins);
    dg_free(p->weights);
    memset(p, 0, sizeof *p);
}

/* ---- which tensors */

static bool has_entry(const dg_tensor_entry *e, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(e[i].name, name) == 0) return true;
    return false;
}

static bool add_leaves(const dg_program *p, size_t n_before, dg_tensor_entry **e, size_t *n, size_t *room)
{
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const dg_program_leaf *leaf = &p->leaves[i];
        bool is_model = strncmp(leaf->name, model_prefix, MODEL_PREFIX) == 0;
        bool kept = leaf->kind == DG_LEAF_PARAM || (leaf->kind == DG_LEAF_FROZEN && is_model) ||
                    (leaf->kind == DG_LEAF_STATE &&
                     strncmp(leaf->name, DG_ACCUMULATED ".", sizeof DG_ACCUMULATED) != 0);
        if (!kept || has_entry(*e, n_before, leaf->name)) continue;
        if (!dg_grow(e, *n, room, sizeof **e)) return false;
        (*e)[(*n)++] = (dg_tensor_entry){leaf->name, p->values[leaf->value].type, is_model};
    }
    return true;
}

dg_status dg_checkpoint_entries(const dg_step *step, dg_tensor_entry **entries, size_t *n, dg_error *err)
{
    size_t room = 0;
    *entries = NULL;
    *n = 0;
    bool ok = add_leaves(step->train, 0, entries, n, &room);
    if (ok && step->apply) ok = add_leaves(step->apply, *n, entries, n, &room);
    return ok ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

/* ---- writing */

/* What is spoilt must not take the place of a good checkpoint. */
static dg_status check_finite(const dg_tensor_entry *e, const void *part, uint64_t bytes, dg_error *err)
{
    const float *x = part;
    if (!e->is_model || e->type.dtype != DG_F32) return DG_OK;
    for (uint64_t i = 0; i < bytes / sizeof *x; i++)
        if (!isfinite(x[i]))
            return dg_fail(err, DG_ERR_NOT_FINITE,
                           "'%s' is not finite: a gradient was not, while the loss was. clip_norm, a lower "
                           "learning rate or f32 may help",
                           e->name);
    return DG_OK;
}

/* Sends one tensor of the store to file tensor i. */
static dg_status put_tensor(dg_st_writer *w, size_t i, const dg_state *state, const dg_tensor_entry *e,
                            dg_error *err)
{
    enum { PART = 16 << 20 };
    uint64_t bytes = (uint64_t)dg_type_bytes(&e->type);
    void *part = dg_calloc(bytes < PART ? (size_t)bytes : PART, 1);
    if (!part) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", e->name);
    dg_status s = DG_OK;
    for (uint64_t at = 0; at < bytes && s == DG_OK; at += PART) {
        uint64_t n = bytes - at < PART ? bytes - at : PART;
        s = state->backend->store_read(state->store, e->name, part, at, n, err);
        if (s == DG_OK) s = check_finite(e, part, n, err);
        if (s == DG_OK) s = dg_st_put(w, i, part, (size_t)n, err);
    }
    dg_free(part);
    return s;
}

static dg_status write_tensors(const char *path, const dg_progress *progress, const dg_state *state,
                               const dg_tensor_entry *e, size_t n, bool model, dg_error *err)
{
    char step[32];
    snprintf(step, sizeof step, "%lld", (long long)progress->step);
    const dg_st_meta meta[] = {{"format", "digpt"},
                               {"role", model ? "full" : "optimizer"},
                               {"step", step},
                               {"recipe", progress->recipe}};
    dg_st_tensor *tensors = dg_calloc(n + 1, sizeof *tensors);
    dg_st_writer *w = NULL;
    size_t m = 0;
    if (!tensors) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (e[i].is_model != model) continue;
        dg_st_tensor *t = &tensors[m++];
        t->name = e[i].name + (model ? MODEL_PREFIX : 0);
        t->dtype = dg_stored_from_dtype((dg_dtype)e[i].type.dtype);
        t->rank = e[i].type.rank;
        memcpy(t->dims, e[i].type.dims, sizeof t->dims);
    }
    dg_status s = dg_st_create(path, tensors, m, meta, model ? 4 : 3, &w, err);
    m = 0;
    for (size_t i = 0; i < n && s == DG_OK; i++)
        if (e[i].is_model == model) s = put_tensor(w, m++, state, &e[i], err);
    if (s == DG_OK)
        s = dg_st_finish(w, err);
    else
        dg_st_abandon(w);
    dg_free(tensors);
    return s;
}

dg_status dg_checkpoint_export(const char *path, const dg_progress *progress, const dg_state *state,
                               const dg_tensor_entry *entries, size_t n, dg_error *err)
{
    return write_tensors(path, progress, state, entries, n, true, err);
}

static const char *window_key(int i)
{
    static const char *const keys[DG_MAX_PREDICTIONS] = {"window_part_0", "window_part_1", "window_part_2",
                                                         "window_part_3", "window_part_4", "window_part_5",
                                                         "window_part_6", "window_part_7"};
    return keys[i];
}

static dg_status write_state(const char *path, const dg_progress *p, dg_error *err)
{
    dg_str row = {0}, text = {0};
    dg_row_int(&row, "format", FORMAT);
    dg_row_int(&row, "step", p->step);
    dg_row_int(&row, "metrics_length", (int64_t)p->metrics_length);
    dg_row_int(&row, "timings_length", (int64_t)p->timings_length);
    dg_row_text(&row, "backend", p->backend);
    dg_row_text(&row, "data", p->data);
    dg_row_text(&row, "precision", p->precision);
    dg_row_text(&row, "plugins", p->plugins);
    dg_row_text(&row, "weights", p->weights);
    dg_row_number(&row, "seconds", p->seconds);
    dg_row_int(&row, "window", p->window);
    dg_row_number(&row, "window_loss", p->window_loss);
    dg_row_number(&row, "window_norm", p->window_norm);
    for (int i = 0; i < DG_MAX_PREDICTIONS; i++) dg_row_number(&row, window_key(i), p->window_parts[i]);
    dg_row_text(&row, "recipe", p->recipe);
    dg_str_printf(&text, "%s}\n", row.text ? row.text : "{");
    dg_status s = dg_str_check(&row, err);
    if (s == DG_OK) s = dg_str_check(&text, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, text.text, text.length, err);
    dg_str_free(&row);
    dg_str_free(&text);
    return s;
}

typedef struct folder {
    int64_t step;
    char name[32];
} folder;

static int by_step(const void *a, const void *b)
{
    int64_t x = ((const folder *)a)->step, y = ((const folder *)b)->step;
    return x < y ? -1 : x > y;
}

/* The checkpoint folders, oldest first; an absent folder has none. */
static dg_status list_folders(const char *dir, folder **list, size_t *n, dg_error *err)
{
    size_t room = 0;
    *list = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT
                   ? DG_OK
                   : dg_fail(err, DG_ERR_IO, "cannot read the folder '%s': %s", dir, strerror(errno));
    dg_status s = DG_OK;
    for (struct dirent *e; s == DG_OK && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, "step-", 5) != 0 || strlen(e->d_name) >= sizeof(*list)->name) continue;
        long long step = strtoll(e->d_name + 5, &end, 10);
        if (*end || step < 0) continue;
        if (!dg_grow(list, *n, &room, sizeof **list)) {
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
            break;
        }
        (*list)[*n].step = step;
        snprintf((*list)[(*n)++].name, sizeof(*list)->name, "%s", e->d_name);
    }
    closedir(d);
    if (*n) qsort(*list, *n, sizeof **list, by_step);
    return s;
}

static dg_status drop_old(const char *dir, int64_t keep_last, int64_t keep_every, dg_error *err)
{
    folder *list;
    size_t n;
    dg_status s = list_folders(dir, &list, &n, err);
    for (size_t i = 0; s == DG_OK && keep_last > 0 && i + (size_t)keep_last < n; i++) {
        if (keep_every > 0 && list[i].step % keep_every == 0) continue;
        char *path = dg_path_join(dir, list[i].name);
        s = path ? dg_dir_remove(path, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_free(path);
    }
    dg_free(list);
    return s;
}

static dg_status write_folder(const char *tmp, const dg_progress *progress, const dg_state *state,
                              const dg_tensor_entry *entries, size_t n, dg_error *err)
{
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "state.json"};
    DG_TRY(dg_dir_remove(tmp, err));
    DG_TRY(dg_dir_make(tmp, err));
    for (int i = 0; i < 3; i++) {
        char *path = dg_path_join(tmp, files[i]);
        if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_status s = i < 2 ? write_tensors(path, progress, state, entries, n, i == 0, err)
                            : write_state(path, progress, err);
        dg_free(path);
        DG_TRY(s);
    }
    return DG_OK;
}

dg_status dg_checkpoint_save(const char *run_dir, const dg_progress *progress, const dg_state *state,
                             const dg_tensor_entry *entries, size_t n, int64_t keep_last, int64_t keep_every,
                             dg_error *err)
{
    char name[32];
    snprintf(name, sizeof name, "step-%010lld", (long long)progress->step);
    char *dir = dg_path_join(run_dir, "checkpoints"), *tmp = dir ? dg_path_join(dir, "writing") : NULL;
    char *path = dir ? dg_path_join(dir, name) : NULL;
    dg_status s = tmp && path ? dg_dir_make(dir, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = write_folder(tmp, progress, state, entries, n, err);
    if (s == DG_OK && dg_path_is_dir(path)) s = dg_dir_remove(path, err); /* one that was passed over */
    if (s == DG_OK && rename(tmp, path) != 0)
        s = dg_fail(err, DG_ERR_IO, "cannot rename '%s' to '%s': %s", tmp, path, strerror(errno));
    if (s == DG_OK) s = dg_dir_sync(dir, err);
    if (s != DG_OK) {
        if (tmp) dg_dir_remove(tmp, NULL);
        s = dg_fail_in(err, "the checkpoint of step %lld was not written (earlier ones are as they were)",
                       (long long)progress->step);
    } else {
        dg_error why = DG_ERROR_INIT;
        if (drop_old(dir, keep_last, keep_every, &why) != DG_OK)
            dg_logf(DG_LOG_WARNING, "an old checkpoint stays: %s", why.message);
    }
    dg_free(dir);
    dg_free(tmp);
    dg_free(path);
    return s;
}

/* ---- reading */

static dg_status parse_state(const dg_json *root, const char *where, dg_progress *p, dg_error *err)
{
    int64_t format, metrics, timings;
    const char *recipe, *backend, *data, *precision, *plugins, *weights;
    DG_TRY(dg_json_need_int(root, "format", where, &format, err));
    if (format != FORMAT)
        return dg_fail(err, DG_ERR_VERSION, "'%s' has format %lld; this digpt reads %d", where,
                       (long long)format, FORMAT);
    DG_TRY(dg_json_need_int(root, "step", where, &p->step, err));
    DG_TRY(dg_json_need_int(root, "metrics_length", where, &metrics, err));
    DG_TRY(dg_json_need_int(root, "timings_length", where, &timings, err));
    DG_TRY(dg_json_need_text(root, "backend", where, &backend, err));
    DG_TRY(dg_json_need_text(root, "data", where, &data, err));
    DG_TRY(dg_json_need_text(root, "precision", where, &precision, err));
    DG_TRY(dg_json_need_text(root, "plugins", where, &plugins, err));
    DG_TRY(dg_json_need_text(root, "weights", where, &weights, err));
    DG_TRY(dg_json_need_number(root, "seconds", where, &p->seconds, err));
    DG_TRY(dg_json_need_int(root, "window", where, &p->window, err));
    DG_TRY(dg_json_need_number(root, "window_loss", where, &p->window_loss, err));
    DG_TRY(dg_json_need_number(root, "window_norm", where, &p->window_norm, err));
    for (int i = 0; i < DG_MAX_PREDICTIONS; i++)
        DG_TRY(dg_json_need_number(root, window_key(i), where, &p->window_parts[i], err));
    DG_TRY(dg_json_need_text(root, "recipe", where, &recipe, err));
    if (p->step < 0 || metrics < 0 || timings < 0 || p->window < 0)
        return dg_fail(err, DG_ERR_FORMAT, "'%s' has a negative step or length", where);
    p->metrics_length = (uint64_t)metrics;
    p->timings_length = (uint64_t)timings;
    p->recipe = dg_strdup(recipe);
    p->backend = dg_strdup(backend);
    p->data = dg_strdup(data);
    p->precision = dg_strdup(precision);
    p->plugins = dg_strdup(plugins);
    p->weights = dg_strdup(weights);
    return p->recipe && p->backend && p->data && p->precision && p->plugins && p->weights
               ? DG_OK
               : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static dg_status read_state(const char *folder_path, dg_progress *p, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root;
    char *path = dg_path_join(folder_path, "state.json");
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_json_read_file(path, 64 << 20, &arena, &root, err);
    if (s == DG_OK) s = parse_state(root, path, p, err);
    dg_arena_free(&arena);
    dg_free(path);
    if (s != DG_OK) dg_progress_free(p);
    return s;
}

/* Can all of it be opened? A file that was cut is found by its header. */
static dg_status try_folder(const char *path, dg_progress *progress, dg_error *err)
{
    DG_TRY(read_state(path, progress, err));
    dg_status s = DG_OK;
    for (int i = 0; i < 2 && s == DG_OK; i++) {
        dg_weights *w = NULL;
        char *file = dg_path_join(path, i ? "optimizer.safetensors" : "model.safetensors");
        s = file ? dg_weights_open(file, &w, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_weights_close(w);
        dg_free(file);
    }
    if (s != DG_OK) dg_progress_free(progress);
    return s;
}

dg_status dg_checkpoint_latest(const char *run_dir, char **path, dg_progress *progress, dg_error *err)
{
    folder *list;
    size_t n;
    *path = NULL;
    memset(progress, 0, sizeof *progress);
    char *dir = dg_path_join(run_dir, "checkpoints");
    if (!dir) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = list_folders(dir, &list, &n, err);
    for (size_t i = n; s == DG_OK && i-- > 0 && !*path;) {
        dg_error why = DG_ERROR_INIT;
        char *candidate = dg_path_join(dir, list[i].name);
        if (!candidate)
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        else if (try_folder(candidate, progress, &why) == DG_OK)
            *path = candidate;
        else
            dg_logf(DG_LOG_WARNING, "passing over a broken checkpoint: %s", why.message);
        if (!*path) dg_free(candidate);
    }
    dg_free(list);
    dg_free(dir);
    return s;
}

static dg_status load_tensor(const dg_weights *w, const char *name, const dg_state *state,
                             const dg_tensor_entry *e, dg_error *err)
{
    const dg_weight *t;
    DG_TRY(dg_weights_need(w, name, &t, err));
    dg_type found = {(int32_t)dg_stored_to_dtype(t->dtype), t->rank, {0}};
    memcpy(found.dims, t->dims, sizeof found.dims);
    char a[96], b[96];
    if (found.dtype != e->type.dtype || !dg_same_dims(&found, &e->type))
        return dg_fail(err, DG_ERR_MISMATCH, "'%s' is %s in the checkpoint and %s in the recipe", name,
                       dg_type_text(&found, a, sizeof a), dg_type_text(&e->type, b, sizeof b));
    DG_TRY(state->backend->store_add(state->store, e->name, &e->type, err));
    return state->backend->store_write(state->store, e->name, t->data, 0, t->bytes, err);
}

dg_status dg_checkpoint_load(const char *path, const dg_state *state, const dg_tensor_entry *entries,
                             size_t n, dg_error *err)
{
    for (int model = 0; model < 2; model++) {
        char *file = dg_path_join(path, model ? "model.safetensors" : "optimizer.safetensors");
        dg_weights *w = NULL;
        if (!file) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_status s = dg_weights_open(file, &w, err);
        for (size_t i = 0; i < n && s == DG_OK; i++)
            if (entries[i].is_model == (model == 1))
                s = load_tensor(w, entries[i].name + (model ? MODEL_PREFIX : 0), state, &entries[i], err);
        if (s != DG_OK) s = dg_fail_in(err, "cannot resume from '%s'", path);
        dg_weights_close(w);
        dg_free(file);
        DG_TRY(s);
    }
    return DG_OK;
}
