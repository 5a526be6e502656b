/* source.c - what the kinds of sources share. See source.h and source_parts.h. */
#include "source_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

dg_status dg_source_new(size_t size, const dg_source_kind *kind, void *source_pp, dg_error *err)
{
    dg_source *s = dg_calloc(1, size);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "no memory for a data source");
    s->kind = kind;
    memcpy(source_pp, &s, sizeof s);
    return DG_OK;
}

void dg_source_close(dg_source *source)
{
    if (!source) return;
    source->kind->close(source);
    dg_arena_free(&source->arena);
    dg_free(source);
}

int64_t dg_source_count(const dg_source *source)
{
    return source->count;
}
int32_t dg_source_classes(const dg_source *source)
{
    return source->classes;
}
bool dg_source_has_captions(const dg_source *source)
{
    return source->has_captions;
}
bool dg_source_has_masks(const dg_source *source)
{
    return source->has_masks;
}
uint64_t dg_source_fingerprint(const dg_source *source)
{
    return source->fingerprint;
}
const char *dg_source_describe(const dg_source *source)
{
    return source->description;
}

const char *dg_source_class_name(const dg_source *source, int32_t label, char *buffer, size_t size)
{
    if (label >= 0 && label < source->classes && source->class_names) return source->class_names[label];
    snprintf(buffer, size, "%d", label);
    return buffer;
}

dg_status dg_source_read(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err)
{
    if (id < 0 || id >= source->count)
        return dg_fail(err, DG_ERR_INVALID, "sample %lld of %lld does not exist", (long long)id,
                       (long long)source->count);
    sample->id = id;
    sample->label = -1;
    sample->is_decoded = sample->has_mask = false;
    sample->name = "";
    sample->size = 0;
    DG_TRY(dg_sample_caption(sample, 0, err));
    dg_status s = source->kind->read(source, id, sample, err);
    /* A network may have stumbled; to take another image for that would make this run another run. */
    if (s == DG_ERR_IO) s = source->kind->read(source, id, sample, err);
    if (s != DG_OK) dg_fail_in(err, "sample %lld, '%s'", (long long)id, sample->name);
    return s;
}

static dg_status decoded(dg_sample *sample, dg_status s, dg_error *err)
{
    if (s != DG_OK) dg_fail_in(err, "sample %lld, '%s'", (long long)sample->id, sample->name);
    sample->is_decoded = s == DG_OK;
    return s;
}

dg_status dg_source_read_image(const dg_source *source, int64_t id, int64_t max_pixels, dg_sample *sample,
                               dg_error *err)
{
    DG_TRY(dg_source_read(source, id, sample, err));
    if (sample->is_decoded) return DG_OK;
    return decoded(sample, dg_image_decode(sample->bytes, sample->size, max_pixels, &sample->image, err), err);
}

dg_status dg_source_read_part(const dg_source *source, int64_t id, int64_t max_pixels, dg_image_choose choose,
                              void *user, dg_sample *sample, dg_image_part *part, dg_error *err)
{
    DG_TRY(dg_source_read(source, id, sample, err));
    *part = (dg_image_part){.scale = 1};
    if (sample->is_decoded) {
        dg_image_want want;
        choose(user, sample->image.height, sample->image.width, &want);
        return DG_OK;
    }
    return decoded(sample,
                   dg_image_decode_part(sample->bytes, sample->size, max_pixels, choose, user, &sample->image,
                                        part, err),
                   err);
}

/* ---- samples */

static dg_status reserve(void *buffer_pp, size_t *capacity, size_t size, dg_error *err)
{
    if (size <= *capacity) return DG_OK;
    void *p;
    memcpy(&p, buffer_pp, sizeof p);
    dg_free(p);
    *capacity = 0;
    p = dg_calloc(size, 1);
    memcpy(buffer_pp, &p, sizeof p);
    if (!p) return dg_fail(err, DG_ERR_NOMEM, "no memory for %zu bytes of a sample", size);
    *capacity = size;
    return DG_OK;
}

dg_status dg_sample_reserve(dg_sample *sample, size_t size, dg_error *err)
{
    return reserve(&sample->bytes, &sample->capacity, size, err);
}

dg_status dg_sample_mask(dg_sample *sample, size_t size, dg_error *err)
{
    return reserve(&sample->mask, &sample->mask_capacity, size, err);
}

dg_status dg_sample_caption(dg_sample *sample, size_t length, dg_error *err)
{
    DG_TRY(reserve(&sample->caption, &sample->caption_capacity, length + 1, err));
    sample->caption[length] = 0;
    return DG_OK;
}

void dg_sample_free(dg_sample *sample)
{
    dg_free(sample->bytes);
    dg_free(sample->mask);
    dg_free(sample->caption);
    dg_image_free(&sample->image);
    *sample = (dg_sample){0};
}

dg_status dg_read_at(int fd, uint64_t at, void *bytes, size_t size, dg_error *err)
{
    unsigned char *p = bytes;
    while (size) {
        const ssize_t n = pread(fd, p, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return dg_fail(err, DG_ERR_IO, "cannot read at byte %llu: %s", (unsigned long long)at,
                           strerror(errno));
        if (n == 0)
            return dg_fail(err, DG_ERR_FORMAT, "the file ends at byte %llu, %zu bytes early",
                           (unsigned long long)at, size);
        p += n;
        at += (uint64_t)n;
        size -= (size_t)n;
    }
    return DG_OK;
}

/* ---- names */

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

dg_status dg_names_add(dg_names *set, dg_arena *arena, const char *name, dg_error *err)
{
    /* Members of one class mostly come one after another. */
    if (set->count && !strcmp(set->names[set->count - 1], name)) return DG_OK;
    const char *copy = dg_arena_strdup(arena, name);
    if (!copy || !dg_grow(&set->names, set->count, &set->capacity, sizeof *set->names))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
    set->names[set->count++] = copy;
    return DG_OK;
}

void dg_names_finish(dg_names *set)
{
    size_t kept = 0;
    if (set->count) qsort(set->names, set->count, sizeof *set->names, compare);
    for (size_t i = 0; i < set->count; i++)
        if (kept == 0 || strcmp(set->names[kept - 1], set->names[i]) != 0) set->names[kept++] = set->names[i];
    set->count = kept;
}

int32_t dg_names_find(const dg_names *set, const char *name)
{
    const char **at = set->count ? bsearch(&name, set->names, set->count, sizeof *set->names, compare) : NULL;
    return at ? (int32_t)(at - set->names) : -1;
}

dg_status dg_names_to_classes(const dg_names *set, dg_source *source, dg_error *err)
{
    const char **copy = dg_arena_alloc(&source->arena, (set->count + 1) * sizeof *copy);
    if (!copy) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
    if (set->count) memcpy(copy, set->names, set->count * sizeof *copy);
    source->class_names = copy;
    source->classes = (int32_t)set->count;
    return DG_OK;
}

bool dg_is_image_name(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png"};
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strrchr(base, '.');
    if (base[0] == '.' || !dot) return false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

int32_t dg_parse_label(const char *text, size_t length)
{
    int32_t v = 0;
    if (length == 0 || length > 7) return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        v = v * 10 + (text[i] - '0');
    }
    return v;
}
