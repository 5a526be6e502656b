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

/* The files of a checkpoint that hold tensors; the last only if the run keeps moving averages. */
typedef enum tensor_file { MODEL, OPTIMIZER, AVERAGE, N_FILES } tensor_file;
static const char *const file_names[N_FILES] = {"model.safetensors", "optimizer.safetensors",
                                                "average.safetensors"};

static bool is_in(const dg_tensor_entry *e, tensor_file file)
{
    return e->is_model == (file != OPTIMIZER);
}

/* The name in the store of what the file has for an entry. */
static const char *stored_name(const dg_tensor_entry *e, tensor_file file)
{
    return file == AVERAGE && e->average ? e->average : e->name;
}

static const char *name_in_file(const dg_tensor_entry *e, tensor_file file)
{
    return e->name + (file == OPTIMIZER ? 0 : MODEL_PREFIX);
}

static bool has_averages(const dg_tensor_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (e[i].average) return true;
    return false;
}

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

static dg_tensor_entry *find_entry(dg_tensor_entry *e, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(e[i].name, name) == 0) return &e[i];
    return NULL;
}

static bool has_prefix(const char *name, const char *word)
{
    size_t n = strlen(word);
    return strncmp(name, word, n) == 0 && name[n] == '.';
}

static bool add_leaves(const dg_step *step, const dg_program *p, size_t n_before, dg_tensor_entry **e,
                       size_t *n, size_t *room)
{
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const dg_program_leaf *leaf = &p->leaves[i];
        bool is_model = strncmp(leaf->name, model_prefix, MODEL_PREFIX) == 0;
        bool kept = leaf->kind == DG_LEAF_PARAM || (leaf->kind == DG_LEAF_FROZEN && is_model) ||
                    (leaf->kind == DG_LEAF_STATE && !has_prefix(leaf->name, DG_ACCUMULATED) &&
                     !has_prefix(leaf->name, DG_AVERAGE));
        if (!kept || find_entry(*e, n_before, leaf->name)) continue;
        if (!dg_grow(e, *n, room, sizeof **e)) return false;
        dg_tensor_entry *entry = &(*e)[(*n)++];
        *entry = (dg_tensor_entry){.name = leaf->name,
                                   .type = dg_step_whole_type(step, p, leaf),
                                   .stored = p->values[leaf->value].type,
                                   .is_model = is_model};
        if (leaf->per == DG_PER_RANK) entry->stored.dims[0] *= step->ranks;
        dg_value first = dg_graph_leaf(step->forward, leaf->name);
        const dg_leaf *made = dg_is_value(first) ? dg_graph_node(step->forward, first.node)->leaf : NULL;
        if (made) memcpy(entry->grid, made->grid, sizeof entry->grid);
    }
    return true;
}

static void add_averages(const dg_program *p, dg_tensor_entry *e, size_t n)
{
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const char *name = p->leaves[i].name;
        dg_tensor_entry *of =
            has_prefix(name, DG_AVERAGE) ? find_entry(e, n, name + sizeof DG_AVERAGE) : NULL;
        if (of) of->average = name;
    }
}

dg_status dg_checkpoint_entries(const dg_step *step, dg_tensor_entry **entries, size_t *n, dg_error *err)
{
    size_t room = 0;
    *entries = NULL;
    *n = 0;
    bool ok = add_leaves(step, step->train, 0, entries, n, &room);
    if (ok && step->apply) ok = add_leaves(step, step->apply, *n, entries, n, &room);
    if (ok) add_averages(step->apply ? step->apply : step->train, *entries, *n);
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
                            tensor_file file, dg_error *err)
{
    enum { PART = 16 << 20 };
    uint64_t bytes = (uint64_t)dg_type_bytes(&e->type);
    void *part = dg_calloc(bytes < PART ? (size_t)bytes : PART, 1);
    if (!part) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", e->name);
    dg_status s = DG_OK;
    for (uint64_t at = 0; at < bytes && s == DG_OK; at += PART) {
        uint64_t n = bytes - at < PART ? bytes - at : PART;
        s = state->backend->store_read(state->store, stored_name(e, file), part, at, n, err);
        if (s == DG_OK) s = check_finite(e, part, n, err);
        if (s == DG_OK) s = dg_st_put(w, i, part, (size_t)n, err);
    }
    dg_free(part);
    return s;
}

/* What goes beside the tensors: [*n] rows in the arena, or NULL. */
static dg_st_meta *list_meta(dg_arena *arena, const dg_progress *progress, const dg_tensor_entry *e,
                             size_t n_entries, tensor_file file, size_t *n)
{
    const bool model = file != OPTIMIZER;
    dg_st_meta *meta = dg_arena_alloc(arena, (n_entries + 5) * sizeof *meta);
    char key[700], value[48];
    if (!meta) return NULL;
    *n = 0;
    snprintf(value, sizeof value, "%lld", (long long)progress->step);
    meta[(*n)++] = (dg_st_meta){"format", "digpt"};
    meta[(*n)++] = (dg_st_meta){"role", model ? "full" : "optimizer"};
    meta[(*n)++] = (dg_st_meta){"step", dg_arena_strdup(arena, value)};
    if (model) meta[(*n)++] = (dg_st_meta){"recipe", progress->recipe};
    if (file == AVERAGE) meta[(*n)++] = (dg_st_meta){"weights", "moving averages"};
    for (size_t i = 0; model && i < n_entries; i++) {
        if (!e[i].is_model || !e[i].grid[0]) continue;
        snprintf(key, sizeof key, "grid.%s", e[i].name + MODEL_PREFIX);
        snprintf(value, sizeof value, "%lldx%lld", (long long)e[i].grid[0], (long long)e[i].grid[1]);
        meta[(*n)++] = (dg_st_meta){dg_arena_strdup(arena, key), dg_arena_strdup(arena, value)};
    }
    for (size_t i = 0; i < *n; i++)
        if (!meta[i].key || !meta[i].value) return NULL;
    return meta;
}

static dg_status write_tensors(const char *path, const dg_progress *progress, const dg_state *state,
                               const dg_tensor_entry *e, size_t n, tensor_file file, dg_error *err)
{
    dg_arena arena = {0};
    size_t n_meta = 0, m = 0;
    dg_st_meta *meta = list_meta(&arena, progress, e, n, file, &n_meta);
    dg_st_tensor *tensors = dg_arena_alloc(&arena, (n + 1) * sizeof *tensors);
    dg_st_writer *w = NULL;
    dg_status s = meta && tensors ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n && s == DG_OK; i++) {
        if (!is_in(&e[i], file)) continue;
        dg_st_tensor *t = &tensors[m++];
        t->name = name_in_file(&e[i], file);
        t->dtype = dg_stored_from_dtype((dg_dtype)e[i].type.dtype);
        t->rank = e[i].type.rank;
        memcpy(t->dims, e[i].type.dims, sizeof t->dims);
    }
    if (s == DG_OK) s = dg_st_create(path, tensors, m, meta, n_meta, &w, err);
    m = 0;
    for (size_t i = 0; i < n && s == DG_OK; i++)
        if (is_in(&e[i], file)) s = put_tensor(w, m++, state, &e[i], file, err);
    if (s == DG_OK)
        s = dg_st_finish(w, err);
    else
        dg_st_abandon(w);
    dg_arena_free(&arena);
    return s;
}

dg_status dg_checkpoint_export(const char *path, const dg_progress *progress, const dg_state *state,
                               const dg_tensor_entry *entries, size_t n, dg_error *err)
{
    return write_tensors(path, progress, state, entries, n, has_averages(entries, n) ? AVERAGE : MODEL, err);
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
    dg_row_int(&row, "ranks", p->ranks);
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
    const int n_files = has_averages(entries, n) ? N_FILES : AVERAGE;
    DG_TRY(dg_dir_remove(tmp, err));
    DG_TRY(dg_dir_make(tmp, err));
    for (int i = 0; i <= n_files; i++) {
        char *path = dg_path_join(tmp, i < n_files ? file_names[i] : "state.json");
        if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_status s = i < n_files ? write_tensors(path, progress, state, entries, n, (tensor_file)i, err)
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
    const dg_json *ranks = dg_json_get(root, "ranks"); /* checkpoints of early versions have none */
    p->ranks = ranks && ranks->type == DG_JSON_INT ? ranks->v.integer : 0;
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
    for (int i = 0; i < N_FILES && s == DG_OK; i++) {
        dg_weights *w = NULL;
        char *file = dg_path_join(path, file_names[i]);
        if (!file)
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        else if (i != AVERAGE || dg_path_is_file(file))
            s = dg_weights_open(file, &w, err);
        dg_weights_close(w);
        dg_free(file);
    }
    if (s != DG_OK) dg_progress_free(progress);
    return s;
}

/* What is broken may be passed over. What this machine cannot read now may be sound: then an older checkpoint
 * would be the wrong one. */
static bool is_broken(dg_status s)
{
    return s != DG_ERR_IO && s != DG_ERR_NOMEM;
}

/* The newest of list[0..n) that can be opened. */
static dg_status find_sound(const char *dir, const folder *list, size_t n, char **path, dg_progress *progress,
                            dg_error *err)
{
    dg_error why = DG_ERROR_INIT;
    for (size_t i = n; i-- > 0;) {
        char *candidate = dg_path_join(dir, list[i].name);
        if (!candidate) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_status s = try_folder(candidate, progress, &why);
        if (s == DG_OK) {
            *path = candidate;
            return DG_OK;
        }
        if (is_broken(s)) {
            dg_logf(DG_LOG_WARNING, "passing over a broken checkpoint: %s", why.message);
        } else {
            dg_fail(err, s,
                    "cannot read the newest checkpoint: %s. Move '%s' away to go on from an older one",
                    why.message, candidate);
        }
        dg_free(candidate);
        if (!is_broken(s)) return s;
    }
    return n ? dg_fail(
                   err, DG_ERR_FORMAT,
                   "every checkpoint in '%s' is broken; the oldest: %s. Move the folder away to begin anew",
                   dir, why.message)
             : DG_OK;
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
    if (s == DG_OK) s = find_sound(dir, list, n, path, progress, err);
    dg_free(list);
    dg_free(dir);
    return s;
}

static dg_status load_tensor(const dg_weights *w, const dg_state *state, const dg_tensor_entry *e,
                             tensor_file file, dg_error *err)
{
    const dg_weight *t;
    const char *name = name_in_file(e, file), *store = stored_name(e, file);
    DG_TRY(dg_weights_need(w, name, &t, err));
    dg_type found = {(int32_t)dg_stored_to_dtype(t->dtype), t->rank, {0}};
    memcpy(found.dims, t->dims, sizeof found.dims);
    char a[96], b[96];
    if (found.dtype != e->type.dtype || !dg_same_dims(&found, &e->type))
        return dg_fail(err, DG_ERR_MISMATCH, "'%s' is %s in the checkpoint and %s in the recipe", name,
                       dg_type_text(&found, a, sizeof a), dg_type_text(&e->type, b, sizeof b));
    DG_TRY(state->backend->store_add(state->store, store, &e->stored, err));
    return state->backend->store_write(state->store, store, t->data, 0, t->bytes, err);
}

dg_status dg_checkpoint_load(const char *path, const dg_state *state, const dg_tensor_entry *entries,
                             size_t n, dg_error *err)
{
    const int n_files = has_averages(entries, n) ? N_FILES : AVERAGE;
    for (int k = 0; k < n_files; k++) {
        char *file = dg_path_join(path, file_names[k]);
        dg_weights *w = NULL;
        if (!file) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        dg_status s = dg_weights_open(file, &w, err);
        for (size_t i = 0; i < n && s == DG_OK; i++)
            if (is_in(&entries[i], (tensor_file)k) && (k != AVERAGE || entries[i].average))
                s = load_tensor(w, state, &entries[i], (tensor_file)k, err);
        if (s != DG_OK) s = dg_fail_in(err, "cannot resume from '%s'", path);
        dg_weights_close(w);
        dg_free(file);
        DG_TRY(s);
    }
    return DG_OK;
}
