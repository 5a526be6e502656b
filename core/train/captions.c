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

static dg_status make(const dg_recipe *recipe, const dg_source *source, const char *path, dg_vocabulary **out,
                      dg_error *err)
{
    DG_TRY(dg_vocabulary_create(out, err));
    DG_TRY(gather(source, *out, err));
    dg_status s = dg_vocabulary_choose(*out, dg_recipe_int(recipe, "data.vocabulary_size"), 1, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "data.source");
    DG_TRY(s);
    DG_TRY(dg_vocabulary_save(*out, path, err));
    dg_logf(DG_LOG_INFO, "vocabulary of %lld ids from the captions, in '%s'",
            (long long)dg_vocabulary_size(*out), path);
    return DG_OK;
}

dg_status dg_captions_open(const dg_recipe *recipe, const dg_source *source, const char *run_dir,
                           dg_vocabulary **out, dg_error *err)
{
    *out = NULL;
    if (dg_recipe_int(recipe, "data.caption_length") == 0) return DG_OK;
    if (!dg_source_has_captions(source))
        return dg_fail_key(err, DG_ERR_MISMATCH, "data.caption_length",
                           "the model reads captions and the data has none (%s)", dg_source_describe(source));
    if (dg_recipe_is_set(recipe, "data.vocabulary")) {
        dg_status s = dg_vocabulary_load(dg_recipe_string(recipe, "data.vocabulary"), out, err);
        if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "data.vocabulary");
        return s;
    }
    char *path = dg_path_join(run_dir, "vocabulary.txt");
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s =
        dg_path_is_file(path) ? dg_vocabulary_load(path, out, err) : make(recipe, source, path, out, err);
    dg_free(path);
    if (s != DG_OK) {
        dg_vocabulary_free(*out);
        *out = NULL;
    }
    return s;
}
