/* captions.c - see captions.h. */
#include "captions.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

static dg_status gather(const dg_source *source, dg_vocabulary *v, dg_error *err)
{
    int64_t n = dg_source_count(source) < DG_CAPTIONS_READ ? dg_source_count(source) : DG_CAPTIONS_READ;
    dg_sample sample = {0};
    dg_status s = DG_OK;
    for (int64_t i = 0; s == DG_OK && i < n; i++) {
        s = dg_source_read(source, i, &sample, err);
        if (s == DG_OK) s = dg_vocabulary_add(v, sample.caption ? sample.caption : "", err);
    }
    dg_sample_free(&sample);
    return s;
}

/* A word may come once. A pair of bytes that comes once is better not learnt: it is one caption's own. */
static dg_status make(const dg_recipe *recipe, const dg_source *source, const char *path, dg_vocabulary **out,
                      dg_error *err)
{
    dg_text_kind kind = (dg_text_kind)dg_recipe_choice(recipe, "data.vocabulary_kind");
    DG_TRY(dg_vocabulary_create(kind, out, err));
    DG_TRY(gather(source, *out, err));
    dg_status s = dg_vocabulary_choose(*out, dg_recipe_int(recipe, "data.vocabulary_size"),
                                       kind == DG_TEXT_PAIRS ? 2 : 1, err);
    if (s != DG_OK && err && !err->key[0])
        snprintf(err->key, sizeof err->key, "data.%s", kind == DG_TEXT_PAIRS ? "vocabulary_size" : "source");
    DG_TRY(s);
    DG_TRY(dg_vocabulary_save(*out, path, err));
    dg_logf(DG_LOG_INFO, "vocabulary of %lld ids from the captions, in '%s'",
            (long long)dg_vocabulary_size(*out), path);
    return DG_OK;
}

/* A model that reads captions says how many ids it has rows for by its parameter `vocabulary`. */
static dg_status check_room(const dg_recipe *recipe, const dg_vocabulary *v, const char *from, dg_error *err)
{
    const dg_param_value *rows = dg_recipe_get(recipe, "model.vocabulary");
    int64_t ids = dg_vocabulary_size(v);
    if (!rows || rows->type != DG_PARAM_INT || !rows->is_set || rows->v.i >= ids) return DG_OK;
    return dg_fail_key(err, DG_ERR_MISMATCH, "model.vocabulary",
                       "the vocabulary '%s' has %lld ids and the model '%s' has rows for %lld: set "
                       "model.vocabulary to %lld, or take a smaller vocabulary",
                       from, (long long)ids, dg_recipe_component(recipe, "model", NULL), (long long)rows->v.i,
                       (long long)ids);
}

static dg_status open_vocabulary(const dg_recipe *recipe, const dg_source *source, const char *run_dir,
                                 dg_vocabulary **out, dg_error *err)
{
    const char *given = dg_recipe_string(recipe, "data.vocabulary");
    if (given) {
        dg_status s = dg_vocabulary_load(given, out, err);
        if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "data.vocabulary");
        return s == DG_OK ? check_room(recipe, *out, given, err) : s;
    }
    char *path = dg_path_join(run_dir, "vocabulary.txt");
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s =
        dg_path_is_file(path) ? dg_vocabulary_load(path, out, err) : make(recipe, source, path, out, err);
    if (s == DG_OK) s = check_room(recipe, *out, path, err);
    dg_free(path);
    return s;
}

dg_status dg_captions_open(const dg_recipe *recipe, const dg_source *source, const char *run_dir,
                           dg_vocabulary **out, dg_error *err)
{
    *out = NULL;
    if (dg_recipe_int(recipe, "data.caption_length") == 0) return DG_OK;
    if (!dg_source_has_captions(source))
        return dg_fail_key(err, DG_ERR_MISMATCH, "data.caption_length",
                           "the model reads captions and the data has none (%s): take tar shards with .txt "
                           "members, or a list with a third column",
                           dg_source_describe(source));
    dg_status s = open_vocabulary(recipe, source, run_dir, out, err);
    if (s != DG_OK) {
        dg_vocabulary_free(*out);
        *out = NULL;
    }
    return s;
}
