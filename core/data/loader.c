/* loader.c - the ring of batches and the workers that fill it. See loader.h.
 *
 * Step s lives in slot (s - first_step) mod depth. Workers take places in order, (step, place) after (step,
 * place); a step may be begun once the step that had its slot is released. All counters are under one lock;
 * the work itself is done without it. */
#include "loader.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/mem.h"
#include "loader_parts.h"

#define MAX_BATCH (1 << 20)
#define MAX_SIDE 4096

typedef struct slot {
    dg_batch batch;
    dg_caption *captions; /* [B] or NULL */
    int32_t pending;      /* places not yet filled */
    int32_t bad_place;    /* the first place that failed; what `err` is about */
    dg_error err;
} slot;

struct dg_loader {
    dg_fill_plan plan;
    slot *slots; /* [depth] */
    pthread_t *threads;
    int32_t thread_count; /* started */
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* a slot became free; a batch became full */
    bool stop;
    int64_t fill_step; /* the next place to be taken */
    int32_t fill_place;
    int64_t handed;   /* the next step that the caller gets */
    int64_t released; /* the oldest step that the caller may still hold */
    dg_error failed;  /* code 0: nothing has */
    double first_call;
    dg_loader_stats stats;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static slot *slot_of(const dg_loader *l, int64_t step)
{
    return &l->slots[(step - l->plan.config.first_step) % l->plan.config.depth];
}

/* ---- workers */

static bool may_fill(const dg_loader *l)
{
    const dg_loader_config *c = &l->plan.config;
    return (c->last_step < 0 || l->fill_step < c->last_step) && l->fill_step - l->released < c->depth;
}

/* Takes the next place; the lock is held. */
static slot *take_place(dg_loader *l, int32_t *place)
{
    slot *s = slot_of(l, l->fill_step);
    *place = l->fill_place++;
    if (*place == 0) {
        s->batch.step = l->fill_step;
        s->batch.epoch = l->fill_step / dg_sampler_steps(&l->plan.sampler);
        s->pending = s->bad_place = l->plan.config.batch;
        s->err = (dg_error)DG_ERROR_INIT;
    }
    if (l->fill_place == l->plan.config.batch) {
        l->fill_place = 0;
        l->fill_step++;
    }
    return s;
}

static void *run_worker(void *user)
{
    dg_loader *l = user;
    dg_filler filler = {0};
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->stop && !may_fill(l)) pthread_cond_wait(&l->work, &l->lock);
        if (l->stop) break;
        int32_t place;
        slot *s = take_place(l, &place);
        const bool skip = s->err.code != 0 && s->bad_place < place; /* the batch has failed already */
        pthread_mutex_unlock(&l->lock);
        dg_error err = DG_ERROR_INIT;
        const dg_status r =
            skip ? DG_OK : dg_fill_place(&l->plan, &filler, &s->batch, s->captions, place, &err);
        pthread_mutex_lock(&l->lock);
        if (r != DG_OK && place < s->bad_place) {
            s->err = err;
            s->bad_place = place;
        }
        if (--s->pending == 0) pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    dg_filler_free(&filler);
    return NULL;
}

/* Signals are for the main thread: workers are started with all of them blocked. */
static dg_status start_workers(dg_loader *l, dg_error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = 0;
    while (r == 0 && l->thread_count < l->plan.config.threads) {
        r = pthread_create(&l->threads[l->thread_count], NULL, run_worker, l);
        if (r == 0) l->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r == 0 ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "cannot start a loader thread: %s", strerror(r));
}

/* ---- opening and closing */

static dg_status check_sides(const char *what, int32_t height, int32_t width, dg_error *err)
{
    if (height >= 1 && width >= 1 && height <= MAX_SIDE && width <= MAX_SIDE) return DG_OK;
    return dg_fail(err, DG_ERR_INVALID, "the %s image is %d x %d; a side has 1 to %d pixels", what, height,
                   width, MAX_SIDE);
}

static dg_status check(const dg_loader_config *c, const dg_source *source, dg_error *err)
{
    if (c->batch > MAX_BATCH)
        return dg_fail(err, DG_ERR_INVALID, "a batch of %d: at most %d", c->batch, MAX_BATCH);
    if (c->first_step < 0) return dg_fail(err, DG_ERR_INVALID, "the first step is negative");
    if (c->threads < 1 || c->threads > 256)
        return dg_fail(err, DG_ERR_INVALID, "%d loader threads: 1 to 256 are possible", c->threads);
    if (c->depth < 2 || c->depth > 64)
        return dg_fail(err, DG_ERR_INVALID, "a ring of %d batches: 2 to 64 are possible", c->depth);
    DG_TRY(check_sides("student's", c->height, c->width, err));
    if (c->second_height || c->second_width)
        DG_TRY(check_sides("tokenizer's", c->second_height, c->second_width, err));
    if (!(c->scale[0] > 0 && c->scale[0] <= c->scale[1] && c->scale[1] <= 1))
        return dg_fail(err, DG_ERR_INVALID, "crop scale [%g, %g]: shares of the area, 0 < low <= high <= 1",
                       c->scale[0], c->scale[1]);
    if (!(c->ratio[0] > 0 && c->ratio[0] <= c->ratio[1] && c->ratio[1] <= 1000))
        return dg_fail(err, DG_ERR_INVALID, "crop ratio [%g, %g]: 0 < low <= high", c->ratio[0], c->ratio[1]);
    if (!(c->fraction > 0.05 && c->fraction <= 1))
        return dg_fail(err, DG_ERR_INVALID, "crop fraction %g: more than 0.05, at most 1", c->fraction);
    if (c->masks && !dg_source_has_masks(source))
        return dg_fail(err, DG_ERR_MISMATCH, "masks are asked for, and the source has none (%s)",
                       dg_source_describe(source));
    if (c->masks && c->randaugment)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "RandAugment moves the picture and not its mask: leave out one of them");
    return DG_OK;
}

static dg_status make_augmenter(const dg_loader_config *c, dg_augmenter *augmenter, dg_error *err)
{
    *augmenter = (dg_augmenter){.jitter = c->jitter};
    if (c->randaugment) DG_TRY(dg_randaugment_parse(c->randaugment, &augmenter->randaugment, err));
    return dg_colour_jitter_check(&c->jitter, err);
}

static dg_status allocate_slot(const dg_loader_config *c, slot *s, dg_error *err)
{
    const size_t n = (size_t)c->batch, first = (size_t)c->height * (size_t)c->width;
    const size_t second = (size_t)c->second_height * (size_t)c->second_width;
    dg_batch *b = &s->batch;
    b->size = c->batch;
    b->images = dg_alloc_aligned(n * first * 3);
    if (second) b->second = dg_alloc_aligned(n * second * 3);
    if (c->masks) b->masks = dg_alloc_aligned(n * first);
    b->labels = dg_calloc(n, sizeof *b->labels);
    b->ids = dg_calloc(n, sizeof *b->ids);
    b->ordinals = dg_calloc(n, sizeof *b->ordinals);
    b->valid = dg_calloc(n, sizeof *b->valid);
    if (c->captions) {
        b->captions = dg_calloc(n, sizeof *b->captions);
        s->captions = dg_calloc(n, sizeof *s->captions);
    }
    if (!b->images || (second && !b->second) || (c->masks && !b->masks) || !b->labels || !b->ids ||
        !b->ordinals || !b->valid || (c->captions && (!b->captions || !s->captions)))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for %d batches of %d images of %d x %d", c->depth,
                       c->batch, c->height, c->width);
    return DG_OK;
}

static void free_slot(slot *s)
{
    dg_batch *b = &s->batch;
    for (int32_t i = 0; s->captions && i < b->size; i++) dg_free(s->captions[i].text);
    dg_free(s->captions);
    dg_free(b->captions);
    dg_free(b->images);
    dg_free(b->second);
    dg_free(b->masks);
    dg_free(b->labels);
    dg_free(b->ids);
    dg_free(b->ordinals);
    dg_free(b->valid);
}

static dg_status set_up(dg_loader *l, dg_error *err)
{
    const dg_loader_config *c = &l->plan.config;
    l->slots = dg_calloc((size_t)c->depth, sizeof *l->slots);
    l->threads = dg_calloc((size_t)c->threads, sizeof *l->threads);
    if (!l->slots || !l->threads) return dg_fail(err, DG_ERR_NOMEM, "no memory for the loader");
    for (int32_t i = 0; i < c->depth; i++) DG_TRY(allocate_slot(c, &l->slots[i], err));
    return start_workers(l, err);
}

int64_t dg_loader_count(const dg_loader_config *config, const dg_source *source)
{
    const int64_t n = dg_source_count(source);
    return config->limit > 0 && config->limit < n ? config->limit : n;
}

dg_status dg_loader_open(const dg_loader_config *config, const dg_source *source, dg_loader **loader,
                         dg_error *err)
{
    const dg_sampler sampler = {.seed = config->seed,
                                .count = dg_loader_count(config, source),
                                .batch = config->batch,
                                .rank = config->rank,
                                .world = config->world,
                                .shuffle = config->shuffle,
                                .drop_last = config->drop_last};
    DG_TRY(dg_sampler_check(&sampler, err));
    dg_augmenter augmenter;
    DG_TRY(check(config, source, err));
    DG_TRY(make_augmenter(config, &augmenter, err));
    dg_loader *l = dg_calloc(1, sizeof *l);
    if (!l) return dg_fail(err, DG_ERR_NOMEM, "no memory for the loader");
    l->plan.config = *config;
    l->plan.augmenter = augmenter;
    l->plan.sampler = sampler;
    l->plan.source = source;
    atomic_init(&l->plan.bad_images, 0);
    l->fill_step = l->handed = l->released = config->first_step;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    const dg_status s = set_up(l, err);
    if (s == DG_OK)
        *loader = l;
    else
        dg_loader_close(l);
    return s;
}

void dg_loader_close(dg_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->thread_count; i++) pthread_join(l->threads[i], NULL);
    for (int32_t i = 0; l->slots && i < l->plan.config.depth; i++) free_slot(&l->slots[i]);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    dg_free(l->slots);
    dg_free(l->threads);
    dg_free(l);
}

/* ---- the caller's side */

int64_t dg_loader_steps_per_epoch(const dg_loader *loader)
{
    return dg_sampler_steps(&loader->plan.sampler);
}

/* Waits for the batch of step `handed`; the lock is held. */
static dg_status wait_for_batch(dg_loader *l, const dg_batch **batch, dg_error *err)
{
    const dg_loader_config *c = &l->plan.config;
    if (l->failed.code) return dg_fail(err, (dg_status)l->failed.code, "%s", l->failed.message);
    if (c->last_step >= 0 && l->handed >= c->last_step) return DG_OK;
    if (l->handed - l->released >= c->depth)
        return dg_fail(err, DG_ERR_INVALID, "all %d batches of the loader's ring are held: release one first",
                       c->depth);
    slot *s = slot_of(l, l->handed);
    while (!(l->fill_step > l->handed && s->pending == 0)) pthread_cond_wait(&l->ready, &l->lock);
    if (s->err.code) {
        l->failed = s->err;
        return dg_fail(err, (dg_status)s->err.code, "batch of step %lld: %s", (long long)l->handed,
                       s->err.message);
    }
    s->batch.valid_count = 0;
    for (int32_t i = 0; i < s->batch.size; i++) s->batch.valid_count += s->batch.valid[i] != 0;
    l->handed++;
    l->stats.batches++;
    l->stats.images += s->batch.valid_count;
    *batch = &s->batch;
    return DG_OK;
}

dg_status dg_loader_next(dg_loader *l, const dg_batch **batch, dg_error *err)
{
    const double begin = now();
    *batch = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->first_call == 0) l->first_call = begin;
    const dg_status s = wait_for_batch(l, batch, err);
    const double end = now();
    l->stats.wait_seconds += end - begin;
    l->stats.elapsed_seconds = end - l->first_call;
    pthread_mutex_unlock(&l->lock);
    return s;
}

void dg_loader_release(dg_loader *l, const dg_batch *batch)
{
    if (!batch) return;
    pthread_mutex_lock(&l->lock);
    if (l->released < l->handed && batch == &slot_of(l, l->released)->batch) {
        l->released++;
        pthread_cond_broadcast(&l->work);
    }
    pthread_mutex_unlock(&l->lock);
}

dg_loader_stats dg_loader_get_stats(dg_loader *l)
{
    pthread_mutex_lock(&l->lock);
    dg_loader_stats s = l->stats;
    pthread_mutex_unlock(&l->lock);
    s.bad_images = atomic_load(&l->plan.bad_images);
    return s;
}
