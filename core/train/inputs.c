/* inputs.c - see inputs.h. */
#include "inputs.h"

#include "base/mem.h"
#include "data/text.h"
#include "train/token_cache.h"

static const char model_prefix[] = "model.";

/* Of the samples of all ranks. */
static size_t bytes_of(const dg_inputs *in, uint32_t k)
{
    size_t one = (size_t)dg_type_bytes(&in->type[k]);
    return in->per[k] == DG_PER_SAMPLE && in->ranks > 1 ? one * in->ranks : one;
}

dg_status dg_inputs_open(const dg_parts *parts, const dg_program *program, dg_inputs *in, dg_error *err)
{
    in->parts = parts;
    in->program = program;
    size_t n = program->n_leaves + 1;
    in->data = dg_calloc(n, sizeof *in->data);
    in->own = dg_calloc(n, sizeof *in->own);
    in->name = dg_calloc(n, sizeof *in->name);
    in->type = dg_calloc(n, sizeof *in->type);
    in->per = dg_calloc(n, sizeof *in->per);
    if (!in->data || !in->own || !in->name || !in->type || !in->per)
        return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; i < program->n_leaves; i++) {
        const dg_program_leaf *leaf = &program->leaves[i];
        if (leaf->kind != DG_LEAF_INPUT) continue;
        uint32_t k = in->n++;
        in->name[k] = leaf->name;
        in->type[k] = program->values[leaf->value].type;
        in->per[k] = leaf->per;
        in->own[k] = dg_alloc_aligned(bytes_of(in, k));
        if (!in->own[k]) return dg_fail(err, DG_ERR_NOMEM, "no memory for the input '%s'", leaf->name);
        memset(in->own[k], 0, bytes_of(in, k));
        in->data[k] = in->own[k];
    }
    return DG_OK;
}

void dg_inputs_close(dg_inputs *in)
{
    for (uint32_t i = 0; i < in->n; i++) dg_free(in->own[i]);
    dg_free(in->data);
    dg_free(in->own);
    dg_free(in->name);
    dg_free(in->type);
    dg_free(in->per);
    memset(in, 0, sizeof *in);
}

void *dg_inputs_buffer(dg_inputs *in, const char *name)
{
    for (uint32_t i = 0; i < in->n; i++)
        if (strcmp(in->name[i], name) == 0) return in->own[i];
    return NULL;
}

/* A model's own input: one call a sample, or one a batch. */
static dg_status fill_model(dg_inputs *in, uint32_t k, const dg_batch *batch, dg_error *err)
{
    const dg_model_interface *model = dg_model_of(in->parts);
    const char *name = in->name[k] + sizeof model_prefix - 1;
    size_t bytes = bytes_of(in, k);
    if (!model->fill)
        return dg_fail(err, DG_ERR_INVALID, "the model declares the input '%s' and cannot fill it", name);
    if (in->per[k] == DG_PER_BATCH)
        return model->fill(in->parts->model.self, name, in->parts->seed, (uint64_t)batch->step, in->own[k],
                           bytes, err);
    size_t share = (size_t)dg_type_bytes(&in->type[k]) / (size_t)in->type[k].dims[0];
    for (int64_t i = 0; i < (int64_t)(bytes / share); i++)
        DG_TRY(model->fill(in->parts->model.self, name, in->parts->seed, (uint64_t)batch->ordinals[i],
                           (char *)in->own[k] + (size_t)i * share, share, err));
    return DG_OK;
}

/* i32 [batch, length]: every sample's caption in the ids of the vocabulary. */
static dg_status fill_captions(dg_inputs *in, uint32_t k, const dg_batch *batch, dg_error *err)
{
    int64_t length = in->type[k].dims[1];
    for (int32_t i = 0; i < batch->size; i++)
        DG_TRY(dg_vocabulary_encode(in->parts->vocabulary, batch->captions[i],
                                    (int32_t *)in->own[k] + i * length, length, err));
    return DG_OK;
}

static dg_status check_labels(const dg_batch *batch, dg_error *err)
{
    for (int32_t i = 0; i < batch->size; i++)
        if (batch->labels[i] < 0)
            return dg_fail(
                err, DG_ERR_MISMATCH,
                "sample %lld has no label, and a classifier is trained with labels: give it one, or "
                "leave it out of the data",
                (long long)batch->ids[i]);
    return DG_OK;
}

dg_status dg_inputs_fill(dg_inputs *in, const dg_batch *batch, const float scalars[3], dg_error *err)
{
    for (uint32_t k = 0; k < in->n; k++) {
        const char *name = in->name[k];
        if (strcmp(name, "scalars") == 0 && scalars) {
            memcpy(in->own[k], scalars, 3 * sizeof *scalars);
            continue;
        }
        const void *from = NULL;
        if (batch && strcmp(name, "image") == 0) from = batch->images;
        if (batch && strcmp(name, "image_tokenizer") == 0) from = batch->second;
        if (batch && strcmp(name, "label") == 0) {
            DG_TRY(check_labels(batch, err));
            from = batch->labels;
        }
        if (from) {
            in->data[k] = from;
        } else if (batch && strncmp(name, model_prefix, sizeof model_prefix - 1) == 0) {
            DG_TRY(fill_model(in, k, batch, err));
        } else if (batch && batch->captions && in->parts->vocabulary && strcmp(name, "caption") == 0) {
            DG_TRY(fill_captions(in, k, batch, err));
        } else if (batch && in->parts->cache && strcmp(name, "tokens") == 0) {
            DG_TRY(dg_token_cache_fill(in->parts->cache, batch, in->own[k], err));
        } else if (batch && in->fill) {
            DG_TRY(in->fill(in->user, name, batch, in->own[k], bytes_of(in, k), err));
        } else {
            return dg_fail(err, DG_ERR_INTERNAL, "nothing fills the input '%s'", name);
        }
    }
    return DG_OK;
}
