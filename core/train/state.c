/* state.c - see state.h. */
#include "state.h"

#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "digpt/philox.h"
#include "io/weights.h"
#include "train/positions.h"

/* Random values are drawn in pieces of their own streams, so that they could be drawn in any order. */
enum { PIECE = 4096 };

dg_status dg_state_open(const dg_parts *parts, dg_state *state, dg_error *err)
{
    state->backend = dg_backend_of(parts);
    return state->backend->store_create(parts->backend.self, &state->store, err);
}

void dg_state_close(dg_state *state)
{
    if (state->store) state->backend->store_destroy(state->store);
    memset(state, 0, sizeof *state);
}

static uint64_t hash_name(const char *s)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a: part of the format of a run */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static double draw(dg_rng *rng, const dg_init *init, double bound)
{
    if (init->kind == DG_INIT_XAVIER_UNIFORM) return (2 * dg_rng_uniform(rng) - 1) * bound;
    double x = dg_rng_normal(rng) * init->value;
    while (init->kind == DG_INIT_TRUNC_NORMAL && (x < -2 || x > 2)) x = dg_rng_normal(rng) * init->value;
    return x;
}

static void random_values(const dg_leaf *leaf, uint64_t seed, int64_t n, float *out)
{
    int64_t rows = leaf->type.rank ? leaf->type.dims[0] : 1;
    double bound = sqrt(6.0 / ((double)rows + (double)(n / rows))); /* Glorot and Bengio, 2010 */
    uint64_t name = hash_name(leaf->name);
    for (int64_t at = 0; at < n; at += PIECE) {
        dg_rng rng = dg_rng_make(seed, DG_RNG_INIT, name, (uint64_t)(at / PIECE));
        for (int64_t i = at; i < n && i < at + PIECE; i++) out[i] = (float)draw(&rng, &leaf->init, bound);
    }
}

/* rows x cols to cols x rows. */
static void transpose(const float *in, int64_t rows, int64_t cols, float *out)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
}

static dg_status file_values(const dg_leaf *leaf, int64_t n, float *out, dg_error *err)
{
    const dg_init *init = &leaf->init;
    bool turned = init->flags & DG_INIT_TRANSPOSE;
    float *raw = turned ? dg_calloc((size_t)n, sizeof *raw) : out;
    if (!raw) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", leaf->name);
    int64_t at = 0;
    dg_status s = DG_OK;
    for (int i = 0; i < 4 && init->names[i] && s == DG_OK; i++) {
        const dg_weight *w = NULL;
        s = dg_weights_need(init->weights, init->names[i], &w, err);
        if (s == DG_OK && w->count > n - at)
            s = dg_fail(err, DG_ERR_MISMATCH,
                        "'%s' of the weights file has %lld elements, more than '%s' takes", init->names[i],
                        (long long)w->count, leaf->name);
        if (s == DG_OK) s = dg_weight_read_f32(w, raw + at, (size_t)(n - at), err);
        if (s == DG_OK) at += w->count;
    }
    if (s == DG_OK && at != n)
        s = dg_fail(err, DG_ERR_MISMATCH, "the weights file has %lld of the %lld elements of '%s'",
                    (long long)at, (long long)n, leaf->name);
    if (s == DG_OK && turned) transpose(raw, n / leaf->type.dims[0], leaf->type.dims[0], out);
    if (turned) dg_free(raw);
    return s;
}

dg_status dg_init_values(const dg_leaf *leaf, uint64_t seed, float *out, dg_error *err)
{
    int64_t n = dg_type_count(&leaf->type);
    switch (leaf->init.kind) {
    case DG_INIT_CONSTANT:
        for (int64_t i = 0; i < n; i++) out[i] = (float)leaf->init.value;
        return DG_OK;
    case DG_INIT_NORMAL:
    case DG_INIT_TRUNC_NORMAL:
    case DG_INIT_XAVIER_UNIFORM:
        random_values(leaf, seed, n, out);
        return DG_OK;
    case DG_INIT_DATA:
        memcpy(out, leaf->init.data, (size_t)n * sizeof *out);
        return DG_OK;
    case DG_INIT_WEIGHTS:
        return file_values(leaf, n, out, err);
    default:
        return dg_fail(err, DG_ERR_INVALID, "'%s' asks for an unknown kind of first value, %u", leaf->name,
                       leaf->init.kind);
    }
}

static dg_status needs_float(const char *name, const dg_type *type, dg_error *err)
{
    if (type->dtype == DG_F32 || type->dtype == DG_BF16) return DG_OK;
    return dg_fail(err, DG_ERR_UNSUPPORTED,
                   "'%s' is stored as %s, which has no conversion from and to f32 here", name,
                   dg_dtype_name((dg_dtype)type->dtype));
}

dg_status dg_state_write_f32(const dg_state *state, const char *name, const dg_type *type, const float *in,
                             dg_error *err)
{
    int64_t n = dg_type_count(type);
    DG_TRY(needs_float(name, type, err));
    DG_TRY(state->backend->store_add(state->store, name, type, err));
    if (type->dtype == DG_F32)
        return state->backend->store_write(state->store, name, in, 0, (uint64_t)n * 4, err);
    uint16_t *narrow = dg_calloc((size_t)n, sizeof *narrow);
    if (!narrow) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", name);
    for (int64_t i = 0; i < n; i++) narrow[i] = dg_f32_to_bf16(in[i]);
    dg_status s = state->backend->store_write(state->store, name, narrow, 0, (uint64_t)n * 2, err);
    dg_free(narrow);
    return s;
}

dg_status dg_state_read_f32(const dg_state *state, const char *name, const dg_type *type, float *out,
                            dg_error *err)
{
    int64_t n = dg_type_count(type);
    DG_TRY(needs_float(name, type, err));
    if (type->dtype == DG_F32)
        return state->backend->store_read(state->store, name, out, 0, (uint64_t)n * 4, err);
    uint16_t *narrow = dg_calloc((size_t)n, sizeof *narrow);
    if (!narrow) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", name);
    dg_status s = state->backend->store_read(state->store, name, narrow, 0, (uint64_t)n * 2, err);
    for (int64_t i = 0; s == DG_OK && i < n; i++) out[i] = dg_bf16_to_f32(narrow[i]);
    dg_free(narrow);
    return s;
}

static const char model_prefix[] = "model.";

static bool is_model_leaf(const dg_leaf *leaf)
{
    return leaf && (leaf->kind == DG_LEAF_PARAM || leaf->kind == DG_LEAF_FROZEN) &&
           strncmp(leaf->name, model_prefix, sizeof model_prefix - 1) == 0;
}

dg_status dg_state_init(dg_state *state, const dg_graph *forward, uint64_t seed, bool only_frozen,
                        dg_error *err)
{
    float *values = NULL;
    int64_t room = 0;
    dg_status s = DG_OK;
    for (int32_t i = 0; i < dg_graph_count(forward) && s == DG_OK; i++) {
        const dg_leaf *leaf = dg_graph_node(forward, i)->leaf;
        if (!leaf || !(leaf->kind == DG_LEAF_FROZEN || (leaf->kind == DG_LEAF_PARAM && !only_frozen)))
            continue;
        int64_t n = dg_type_count(&leaf->type);
        if (n > room) {
            dg_free(values);
            values = dg_calloc((size_t)n, sizeof *values);
            room = values ? n : 0;
            if (!values)
                s = dg_fail(err, DG_ERR_NOMEM, "no memory for the %lld elements of '%s'", (long long)n,
                            leaf->name);
        }
        if (s == DG_OK) s = dg_init_values(leaf, seed, values, err);
        if (s == DG_OK) s = dg_state_write_f32(state, leaf->name, &leaf->type, values, err);
        if (s == DG_OK && leaf->kind == DG_LEAF_FROZEN && !is_model_leaf(leaf))
            state->frozen = XXH3_64bits_withSeed(values, (size_t)n * sizeof *values,
                                                 state->frozen ^ hash_name(leaf->name));
    }
    dg_free(values);
    return s;
}

/* ---- moving averages */

static dg_status start_average(dg_state *state, const char *name, const dg_type *type, dg_error *err)
{
    float *values = dg_calloc((size_t)dg_type_count(type), sizeof *values);
    if (!values) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", name);
    dg_status s = dg_state_read_f32(state, name + sizeof DG_AVERAGE, type, values, err);
    if (s == DG_OK) s = dg_state_write_f32(state, name, type, values, err);
    dg_free(values);
    return s;
}

dg_status dg_state_start_averages(dg_state *state, const dg_step *step, dg_error *err)
{
    const dg_program *programs[] = {step->train, step->apply};
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; programs[k] && i < programs[k]->n_leaves; i++) {
            const dg_program_leaf *leaf = &programs[k]->leaves[i];
            if (leaf->kind == DG_LEAF_STATE && strncmp(leaf->name, DG_AVERAGE ".", sizeof DG_AVERAGE) == 0)
                DG_TRY(start_average(state, leaf->name, &programs[k]->values[leaf->value].type, err));
        }
    return DG_OK;
}

/* ---- weights of another run */

dg_wanted *dg_state_wanted(const dg_graph *g, size_t *n)
{
    dg_wanted *list = dg_calloc((size_t)dg_graph_count(g) + 1, sizeof *list);
    *n = 0;
    for (int32_t i = 0; list && i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (!is_model_leaf(leaf)) continue;
        dg_wanted *w = &list[(*n)++];
        w->name = leaf->name + sizeof model_prefix - 1;
        w->rank = leaf->type.rank;
        memcpy(w->dims, leaf->type.dims, sizeof w->dims);
    }
    return list;
}

static const dg_leaf *model_leaf(const dg_graph *g, const char *name)
{
    char full[700];
    snprintf(full, sizeof full, "%s%s", model_prefix, name);
    return dg_graph_node(g, dg_graph_leaf(g, full).node)->leaf;
}

/* Whether the match is a table of positions that the leaf has over another grid; then *from is the file's
 * grid. */
static bool is_other_grid(const dg_weights *w, const dg_name_match *m, const dg_leaf *leaf, int64_t from[2])
{
    char key[256];
    const int64_t *to = leaf->grid;
    const dg_weight *t = m->parts[0];
    int32_t axis = leaf->type.rank - 2; /* of the rows */
    if (m->n_parts != 1 || m->transpose || to[0] < 1 || axis < 0 || t->rank < 2 ||
        t->rank + m->lead != leaf->type.rank)
        return false;
    for (int32_t i = 0; i < leaf->type.rank; i++) {
        int64_t have = i < m->lead ? 1 : t->dims[i - m->lead];
        if (i != axis && (have != leaf->type.dims[i] || (i < axis && have != 1))) return false;
    }
    snprintf(key, sizeof key, "grid.%s", t->name);
    const char *text = dg_weights_meta(w, key);
    int64_t rows = t->dims[t->rank - 2], n_before = leaf->type.dims[axis] - to[0] * to[1];
    if (!text && rows == leaf->type.dims[axis]) return false;
    return dg_positions_grid(rows, n_before, text, from) && (from[0] != to[0] || from[1] != to[1]);
}

/* Reads a match as the leaf has it, [dg_type_count(&leaf->type)]; interpolated from another grid. */
static dg_status read_match(const dg_weights *w, const dg_name_match *m, const dg_leaf *leaf, float *out,
                            dg_error *err)
{
    int64_t from[2];
    if (!is_other_grid(w, m, leaf, from))
        return dg_name_match_read_f32(m, out, (size_t)dg_type_count(&leaf->type), err);
    const int64_t *to = leaf->grid, width = leaf->type.dims[leaf->type.rank - 1],
                  n_before = dg_type_count(&leaf->type) / width - to[0] * to[1];
    float *theirs = dg_calloc((size_t)m->parts[0]->count, sizeof *theirs);
    if (!theirs) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", leaf->name);
    dg_status s = dg_name_match_read_f32(m, theirs, (size_t)m->parts[0]->count, err);
    if (s == DG_OK) s = dg_positions_resize(theirs, from, to, n_before, width, out, err);
    if (s == DG_OK)
        dg_logf(DG_LOG_INFO, "'%s' is interpolated from a grid of %lldx%lld tokens to %lldx%lld",
                m->parts[0]->name, (long long)from[0], (long long)from[1], (long long)to[0],
                (long long)to[1]);
    dg_free(theirs);
    return s;
}

static dg_status write_match(const dg_state *state, const dg_graph *g, const dg_weights *w, const char *name,
                             const dg_name_match *m, dg_error *err)
{
    const dg_leaf *leaf = model_leaf(g, name);
    float *values = dg_calloc((size_t)dg_type_count(&leaf->type), sizeof *values);
    if (!values) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", leaf->name);
    dg_status s = read_match(w, m, leaf, values, err);
    if (s == DG_OK) s = dg_state_write_f32(state, leaf->name, &leaf->type, values, err);
    dg_free(values);
    return s;
}

/* Positions of another grid are not of another shape here. */
static void accept_other_grids(const dg_graph *g, const dg_weights *w, const dg_wanted *wanted,
                               dg_names *names)
{
    int64_t from[2];
    for (size_t i = 0; i < names->n; i++) {
        dg_name_match *m = &names->matches[i];
        if (m->n_parts == 0 || m->same_shape || !is_other_grid(w, m, model_leaf(g, wanted[i].name), from))
            continue;
        m->same_shape = true;
        names->n_other_shape--;
        names->n_found++;
    }
}

/* The first wanted tensor that the file lacks, or NULL. */
static const char *first_missing(const dg_names *names, const dg_wanted *wanted, size_t n,
                                 const char *optional)
{
    for (size_t i = 0; i < n; i++)
        if (!names->matches[i].n_parts &&
            !(optional && strncmp(wanted[i].name, optional, strlen(optional)) == 0))
            return wanted[i].name;
    return NULL;
}

static dg_status take_weights(dg_state *state, const dg_graph *forward, const char *path, bool whole,
                              const char *optional, dg_error *err)
{
    dg_weights *w = NULL;
    dg_names names = {0};
    size_t n = 0;
    DG_TRY(dg_weights_open(path, &w, err));
    dg_wanted *wanted = dg_state_wanted(forward, &n);
    dg_status s =
        wanted ? dg_names_match(w, wanted, n, &names, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) accept_other_grids(forward, w, wanted, &names);
    if (s == DG_OK && names.n_other_shape) {
        dg_str report = {0};
        dg_names_report(&names, wanted, 4, &report);
        s = dg_fail(err, DG_ERR_MISMATCH, "'%s' does not fit this model:\n%s", path,
                    report.text ? report.text : "");
        dg_str_free(&report);
    }
    if (s == DG_OK && names.n_found == 0)
        s = dg_fail(err, DG_ERR_MISMATCH, "'%s' has no tensor of this model", path);
    const char *missing = s == DG_OK && whole ? first_missing(&names, wanted, n, optional) : NULL;
    if (missing)
        s = dg_fail(
            err, DG_ERR_MISMATCH,
            "'%s' has no tensor '%s' (%zu of %zu are missing): it is not a checkpoint of this model and task",
            path, missing, names.n_missing, n);
    for (size_t i = 0; i < n && s == DG_OK; i++)
        if (names.matches[i].n_parts)
            s = write_match(state, forward, w, wanted[i].name, &names.matches[i], err);
    if (s == DG_OK) {
        dg_str report = {0};
        dg_names_report(&names, wanted, 8, &report);
        dg_logf(DG_LOG_INFO, "weights from '%s':\n%s", path, report.text ? report.text : "");
        dg_str_free(&report);
    }
    dg_names_free(&names);
    dg_free(wanted);
    dg_weights_close(w);
    return s;
}

dg_status dg_state_init_from(dg_state *state, const dg_graph *forward, const char *path, dg_error *err)
{
    dg_status s = take_weights(state, forward, path, false, NULL, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "train.init_from");
    return s;
}

dg_status dg_state_load(dg_state *state, const dg_graph *forward, const char *path, const char *optional,
                        dg_error *err)
{
    return take_weights(state, forward, path, true, optional, err);
}
