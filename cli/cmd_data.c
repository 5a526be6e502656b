/* cmd_data.c - `digpt data check`: counts, broken images, sizes and duplicates of a set of images. */
#include "data.h"

#include <stdlib.h>
#include <xxhash.h>

/* What is found out about one image. */
typedef struct image_facts {
    XXH128_hash_t hash; /* of its bytes */
    uint64_t bytes;
    int32_t label, width, height; /* width 0: it is broken */
    char *name, *why;             /* why: NULL unless it is broken */
} image_facts;

typedef struct survey {
    const dg_source *source;
    int64_t n;
    image_facts *facts; /* [n] */
    dg_sample *samples; /* [threads] */
    int64_t limit;      /* names shown of each kind */
    int64_t n_broken, n_duplicates;
    dg_str *rows, *text; /* the table, and the lists under it */
} survey;

static void look_at(void *user, int thread, int64_t i)
{
    survey *s = user;
    dg_sample *sample = &s->samples[thread];
    image_facts *f = &s->facts[i];
    dg_error err = DG_ERROR_INIT;
    dg_status status = dg_source_read(s->source, i, sample, &err);
    f->label = sample->label;
    f->name = dg_strdup(sample->name);
    if (status == DG_OK) {
        f->bytes = sample->size;
        f->hash = XXH3_128bits(sample->bytes, sample->size);
        status = dg_image_decode(sample->bytes, sample->size, 0, &sample->image, &err);
    }
    if (status != DG_OK) {
        f->why = dg_strdup(err.message);
        return;
    }
    f->width = sample->image.width;
    f->height = sample->image.height;
}

/* ---- the report */

static void report_broken(survey *s)
{
    for (int64_t i = 0; i < s->n; i++) s->n_broken += s->facts[i].width == 0;
    dg_str_printf(s->rows, "broken\t%lld\n", (long long)s->n_broken);
    if (!s->n_broken) return;
    dg_str_puts(s->text, "\nbroken:\n");
    int64_t shown = 0;
    for (int64_t i = 0; i < s->n && shown < s->limit; i++) {
        const image_facts *f = &s->facts[i];
        if (f->width) continue;
        shown++;
        const char *why = f->why ? f->why : "out of memory";
        if (f->name && !strstr(why, f->name))
            dg_str_printf(s->text, "  %s: %s\n", f->name, why);
        else
            dg_str_printf(s->text, "  %s\n", why);
    }
    if (s->n_broken > shown)
        dg_str_printf(s->text, "  ... and %lld more\n", (long long)(s->n_broken - shown));
}

static void report_classes(survey *s)
{
    int32_t n = dg_source_classes(s->source), least = 0, most = 0, empty = 0;
    int64_t *count = dg_calloc((size_t)n + 1, sizeof *count), unlabelled = 0;
    char a[32], b[32];
    for (int64_t i = 0; count && i < s->n; i++) {
        if (s->facts[i].label >= 0 && s->facts[i].label < n)
            count[s->facts[i].label]++;
        else
            unlabelled++;
    }
    for (int32_t c = 0; count && c < n; c++) {
        if (count[c] < count[least]) least = c;
        if (count[c] > count[most]) most = c;
        empty += count[c] == 0;
    }
    dg_str_printf(s->rows, "classes\t%d", n);
    if (count && n && count[least] == count[most])
        dg_str_printf(s->rows, "; %lld image%s each", (long long)count[most], count[most] == 1 ? "" : "s");
    else if (count && n)
        dg_str_printf(s->rows, "; %lld ('%s') to %lld ('%s') images each", (long long)count[least],
                      dg_source_class_name(s->source, least, a, sizeof a), (long long)count[most],
                      dg_source_class_name(s->source, most, b, sizeof b));
    if (empty) dg_str_printf(s->rows, "; %d without an image", empty);
    if (unlabelled) dg_str_printf(s->rows, "; %lld images without a label", (long long)unlabelled);
    dg_str_puts(s->rows, "\n");
    dg_free(count);
}

/* The shorter side decides what an image is good for. */
static void report_sizes(survey *s)
{
    enum { STEPS = 16 }; /* shorter sides of [2^i, 2^(i+1)) */
    int64_t count[STEPS] = {0}, good = 0, most = 0;
    const image_facts *small = NULL, *large = NULL;
    double bytes = 0, pixels = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const image_facts *f = &s->facts[i];
        bytes += (double)f->bytes;
        if (!f->width) continue;
        int32_t side = f->width < f->height ? f->width : f->height;
        int step = 31 - __builtin_clz((unsigned)side);
        int64_t area = (int64_t)f->width * f->height;
        count[step < STEPS ? step : STEPS - 1]++;
        good++;
        pixels += (double)area;
        if (!small || area < (int64_t)small->width * small->height) small = f;
        if (!large || area > (int64_t)large->width * large->height) large = f;
    }
    char total[32], mean[32];
    dg_str_printf(s->rows, "bytes\t%s, %s an image\n", cli_bytes(bytes, total, sizeof total),
                  cli_bytes(s->n ? bytes / (double)s->n : 0, mean, sizeof mean));
    if (!good) return;
    dg_str_printf(s->rows, "pixels\t%d x %d to %d x %d, %.0f on average\n", small->width, small->height,
                  large->width, large->height, pixels / (double)good);
    for (int i = 0; i < STEPS; i++) most = count[i] > most ? count[i] : most;
    dg_str_puts(s->text, "\nshorter side, pixels:\n");
    for (int i = 0; i < STEPS; i++)
        if (count[i])
            dg_str_printf(s->text, "  %5d to %5d  %9lld  %.*s\n", 1 << i, (2 << i) - 1, (long long)count[i],
                          (int)(1 + 39 * count[i] / most), "########################################");
}

static int by_hash(const void *a, const void *b)
{
    const image_facts *x = *(const image_facts *const *)a, *y = *(const image_facts *const *)b;
    int c = XXH128_cmp(&x->hash, &y->hash);
    if (c) return c;
    return (x > y) - (x < y); /* by number */
}

static void report_group(survey *s, image_facts *const *group, int64_t n)
{
    dg_str_puts(s->text, " ");
    for (int64_t i = 0; i < n && i < 8; i++)
        dg_str_printf(s->text, "%s %s", i ? " =" : "", group[i]->name ? group[i]->name : "?");
    dg_str_puts(s->text, n > 8 ? " = ...\n" : "\n");
}

/* Equal bytes; the 128 bits of the hash are taken for the bytes. */
static void report_duplicates(survey *s)
{
    image_facts **order = dg_calloc((size_t)s->n, sizeof *order);
    int64_t m = 0, groups = 0, other_class = 0;
    for (int64_t i = 0; order && i < s->n; i++)
        if (s->facts[i].bytes) order[m++] = &s->facts[i];
    if (m) qsort(order, (size_t)m, sizeof *order, by_hash);
    for (int64_t i = 0, k; i < m; i = k) {
        bool differs = false;
        for (k = i + 1; k < m && XXH128_isEqual(order[i]->hash, order[k]->hash); k++)
            differs |= order[k]->label != order[i]->label;
        if (k == i + 1) continue;
        if (groups == 0) dg_str_puts(s->text, "\nthe same bytes:\n");
        if (groups++ < s->limit) report_group(s, &order[i], k - i);
        s->n_duplicates += k - i - 1;
        other_class += differs;
    }
    if (groups > s->limit) dg_str_printf(s->text, "  ... and %lld more\n", (long long)(groups - s->limit));
    dg_str_printf(s->rows, "duplicates\t%lld", (long long)s->n_duplicates);
    if (groups) dg_str_printf(s->rows, " in %lld groups", (long long)groups);
    if (other_class) dg_str_printf(s->rows, ", %lld of them with different labels", (long long)other_class);
    dg_str_puts(s->rows, "\n");
    dg_free(order);
}

/* ---- the command */

static dg_status check(survey *s, int threads, dg_error *err)
{
    cli_progress progress = {.what = "images", .total = s->n};
    s->facts = dg_calloc((size_t)s->n, sizeof *s->facts);
    s->samples = dg_calloc((size_t)threads, sizeof *s->samples);
    if (!s->facts || !s->samples)
        return dg_fail(err, DG_ERR_NOMEM, "no memory to look at %lld images", (long long)s->n);
    dg_status status = cli_each(threads, 0, s->n, look_at, s, &progress, err);
    cli_progress_end(&progress);
    for (int i = 0; i < threads; i++) dg_sample_free(&s->samples[i]);
    if (status != DG_OK) return status;
    dg_str_printf(s->rows, "source\t%s\nimages\t%lld\n", dg_source_describe(s->source), (long long)s->n);
    report_classes(s);
    report_broken(s);
    report_duplicates(s);
    report_sizes(s);
    return dg_str_check(s->text, err);
}

static int run_check(const cli_args *args)
{
    dg_error err = DG_ERROR_INIT;
    dg_source *source = NULL;
    dg_str rows = {0}, text = {0};
    survey s = {.limit = 20, .rows = &rows, .text = &text};
    int threads, code;
    if (!cli_threads(args, &threads) || !cli_number(args, "limit", 0, 1000000000, &s.limit)) return CLI_USAGE;
    dg_status status = cli_source_open(args->words[0], &source, &err);
    if (status == DG_OK) {
        s.source = source;
        s.n = dg_source_count(source);
        status = check(&s, threads, &err);
    }
    if (status == DG_OK) {
        code = cli_table(&rows);
        if (code == CLI_OK && text.length) code = cli_print(&text);
        if (code == CLI_OK && s.n_broken) code = CLI_FAILED;
    } else {
        dg_str_free(&rows);
        code = cli_fail(&err);
    }
    for (int64_t i = 0; s.facts && i < s.n; i++) {
        dg_free(s.facts[i].name);
        dg_free(s.facts[i].why);
    }
    dg_str_free(&text);
    dg_free(s.facts);
    dg_free(s.samples);
    dg_source_close(source);
    return code;
}

static const cli_option options[] = {
    {"threads", "N", "threads that decode; otherwise as many as there are cores"},
    {"limit", "N", "names shown of each kind (20)"},
    {NULL, NULL, NULL},
};

const cli_command cmd_data_check = {.name = "data check",
                                    .words = "PATH",
                                    .least = 1,
                                    .most = 1,
                                    .help = "count, decode and compare all images of a set",
                                    .more = "PATH is a folder of class folders, a .tar (with {000..146} and "
                                            "* in its name) or a folder of them, or\n"
                                            "a list file. Every image is decoded; those that cannot be are "
                                            "named, and so are files with the same\n"
                                            "bytes. Exit code 1 if an image is broken.",
                                    .options = options,
                                    .run = run_check};
