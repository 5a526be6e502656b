/* save_leaves.h - the weights of a graph that runs, as a file. */
#ifndef DG_SAVE_LEAVES_H
#define DG_SAVE_LEAVES_H

#include "plugin_test.h"

#include "io/safetensors.h"

/* Every leaf but inputs as f32 under PREFIX + its name, without the one named `without` (NULL: all), and with
 * a tensor of 8 ones named `extra` (NULL: none). */
static DG_UNUSED void save_leaves(const runner *r, const char *path, const char *prefix, const char *without,
                                  const char *extra)
{
    enum { MOST = 128 };
    static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    dg_error err;
    dg_st_tensor tensors[MOST];
    const void *data[MOST];
    char names[MOST][128];
    float *own[MOST];
    size_t n = 0, n_own = 0;
    for (uint32_t i = 0; i < r->program->n_leaves; i++) {
        const dg_program_leaf *leaf = &r->program->leaves[i];
        if (leaf->kind == DG_LEAF_INPUT || (without && strcmp(without, leaf->name) == 0)) continue;
        assert_true(n + 1 < MOST);
        const dg_type *t = &r->program->values[leaf->value].type;
        const double *from = dg_interp_leaf(r->interp, (int32_t)i);
        int64_t count = dg_type_count(t);
        own[n_own] = dg_calloc((size_t)count, sizeof *own[0]);
        assert_non_null(own[n_own]);
        for (int64_t k = 0; k < count; k++) own[n_own][k] = (float)from[k];
        snprintf(names[n], sizeof names[n], "%s%s", prefix, leaf->name);
        tensors[n] = (dg_st_tensor){.name = names[n], .dtype = DG_STORED_F32, .rank = t->rank};
        memcpy(tensors[n].dims, t->dims, sizeof t->dims);
        data[n++] = own[n_own++];
    }
    if (extra) {
        tensors[n] = (dg_st_tensor){.name = extra, .dtype = DG_STORED_F32, .rank = 1, .dims = {8}};
        data[n++] = ones;
    }
    ASSERT_OK(dg_st_write(path, tensors, data, n, NULL, 0, &err));
    for (size_t i = 0; i < n_own; i++) dg_free(own[i]);
}

#endif
