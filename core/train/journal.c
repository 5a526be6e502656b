/* journal.c - see journal.h. */
#include "journal.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/events.h"
#include "io/jsonl.h"

/* The line that stands under the log on a terminal. Every thread may log, so it has a lock of its own. */
typedef struct bar {
    pthread_mutex_t lock;
    char text[256]; /* what stands there; "" before the first */
} bar;

struct dg_journal {
    dg_jsonl *metrics, *timings;
    dg_events *events;
    const dg_step *step;
    int64_t first_step, total;
    bool terminal;
    bar bar;
    double opened, last_tick;
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the bar */

/* A line of the log: above the bar, which is drawn again. */
static void log_above(void *user, dg_log_level level, const char *line)
{
    static const char *const prefix[] = {"debug: ", "", "warning: ", "error: "};
    bar *b = user;
    pthread_mutex_lock(&b->lock);
    fprintf(stderr, "\r\033[K%s%s\n%s", prefix[level], line, b->text);
    fflush(stderr);
    pthread_mutex_unlock(&b->lock);
}

static void put_bar(bar *b, const char *text)
{
    struct winsize size;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
    pthread_mutex_lock(&b->lock);
    snprintf(b->text, sizeof b->text, "%.*s", columns, text); /* a line that wraps could not be taken back */
    fprintf(stderr, "\r\033[K%s", b->text);
    fflush(stderr);
    pthread_mutex_unlock(&b->lock);
}

static void open_bar(dg_journal *j)
{
    pthread_mutex_init(&j->bar.lock, NULL);
    j->terminal = isatty(STDERR_FILENO);
    if (j->terminal) dg_log_set_sink(log_above, &j->bar);
}

static void close_bar(dg_journal *j)
{
    if (j->terminal) dg_log_set_sink(NULL, NULL);
    if (j->bar.text[0]) fputs("\r\033[K", stderr);
    pthread_mutex_destroy(&j->bar.lock);
}

/* ---- the files */

static dg_status open_lines(const char *dir, const char *name, uint64_t keep, dg_jsonl **out, dg_error *err)
{
    char *path = dg_path_join(dir, name);
    dg_status s = path ? dg_jsonl_open(path, keep, out, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(path);
    return s;
}

dg_status dg_journal_open(const char *run_dir, const dg_step *step, int64_t first_step, int64_t total,
                          uint64_t metrics_keep, uint64_t timings_keep, dg_journal **out, dg_error *err)
{
    dg_journal *j = *out = dg_calloc(1, sizeof *j);
    char *events = dg_path_join(run_dir, "events");
    dg_status s = j && events ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) {
        j->step = step;
        j->first_step = first_step;
        j->total = total;
        j->opened = now(CLOCK_MONOTONIC);
        open_bar(j);
        s = open_lines(run_dir, "metrics.jsonl", metrics_keep, &j->metrics, err);
    }
    if (s == DG_OK) s = open_lines(run_dir, "timings.jsonl", timings_keep, &j->timings, err);
    if (s == DG_OK)
        s = dg_events_open(events, first_step > 0 ? first_step : -1, now(CLOCK_REALTIME), &j->events, err);
    dg_free(events);
    if (s != DG_OK) {
        dg_journal_close(j);
        *out = NULL;
    }
    return s;
}

void dg_journal_close(dg_journal *j)
{
    if (!j) return;
    close_bar(j);
    dg_jsonl_close(j->metrics);
    dg_jsonl_close(j->timings);
    dg_events_close(j->events);
    dg_free(j);
}

static dg_status write_events(dg_journal *j, const dg_record *r, dg_error *err)
{
    double t = now(CLOCK_REALTIME);
    char tag[64];
    DG_TRY(dg_events_scalar(j->events, "train/loss", r->step, t, (float)r->loss, err));
    for (uint32_t i = 0; i < j->step->n_predictions; i++) {
        snprintf(tag, sizeof tag, "train/loss_%s", j->step->prediction_names[i]);
        DG_TRY(dg_events_scalar(j->events, tag, r->step, t, (float)r->parts[i], err));
    }
    if (r->grad_norm >= 0)
        DG_TRY(dg_events_scalar(j->events, "train/grad_norm", r->step, t, (float)r->grad_norm, err));
    DG_TRY(dg_events_scalar(j->events, "train/lr", r->step, t, (float)r->lr, err));
    DG_TRY(
        dg_events_scalar(j->events, "speed/images_per_second", r->step, t, (float)r->images_per_second, err));
    DG_TRY(dg_events_scalar(j->events, "speed/data_wait", r->step, t, (float)r->data_wait, err));
    return dg_events_flush(j->events, err);
}

/* "1:02:03" */
static const char *clock_text(double seconds, char *out, size_t size)
{
    long s = seconds > 0 && seconds < 1e9 ? (long)seconds : 0;
    snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return out;
}

static void show(dg_journal *j, const dg_record *r)
{
    char eta[32], parts[256] = "";
    for (uint32_t i = 0; i < j->step->n_predictions && j->step->n_predictions > 1; i++) {
        size_t n = strlen(parts);
        snprintf(parts + n, sizeof parts - n, "%s%s %.4f", i ? ", " : " (", j->step->prediction_names[i],
                 r->parts[i]);
    }
    if (parts[0]) strncat(parts, ")", sizeof parts - strlen(parts) - 1);
    dg_logf(DG_LOG_INFO,
            "step %lld/%lld  epoch %.2f  loss %.4f%s  lr %.3g  %.3g images/s  data wait %.0f %%  left %s",
            (long long)r->step, (long long)j->total, r->epoch, r->loss, parts, r->lr, r->images_per_second,
            100 * r->data_wait, clock_text(r->eta, eta, sizeof eta));
}

dg_status dg_journal_write(dg_journal *j, const dg_record *r, dg_error *err)
{
    dg_str row = {0};
    char key[64];
    dg_row_int(&row, "step", r->step);
    dg_row_number(&row, "epoch", r->epoch);
    dg_row_number(&row, "loss", r->loss);
    for (uint32_t i = 0; i < j->step->n_predictions; i++) {
        snprintf(key, sizeof key, "loss_%s", j->step->prediction_names[i]);
        dg_row_number(&row, key, r->parts[i]);
    }
    if (r->grad_norm >= 0) dg_row_number(&row, "grad_norm", r->grad_norm);
    dg_row_number(&row, "lr", r->lr);
    dg_status s = dg_jsonl_append(j->metrics, &row, err);
    if (s == DG_OK) {
        dg_row_int(&row, "step", r->step);
        dg_row_number(&row, "images_per_second", r->images_per_second);
        dg_row_number(&row, "data_wait", r->data_wait);
        dg_row_int(&row, "bad_images", r->bad_images);
        s = dg_jsonl_append(j->timings, &row, err);
    }
    dg_str_free(&row);
    if (s == DG_OK) s = write_events(j, r, err);
    if (s == DG_OK) show(j, r);
    return s;
}

void dg_journal_tick(dg_journal *j, int64_t step, double loss, int64_t images_a_step)
{
    enum { WIDTH = 30 };
    char dots[WIDTH + 1], left[32], text[256];
    double t = now(CLOCK_MONOTONIC), span = t - j->opened, steps = (double)(step - j->first_step);
    if (!j->terminal || t - j->last_tick < 0.2) return;
    j->last_tick = t;
    int done = (int)(WIDTH * step / (j->total > 0 ? j->total : 1));
    for (int i = 0; i < WIDTH; i++) dots[i] = i < done ? '#' : '.';
    dots[WIDTH] = 0;
    snprintf(text, sizeof text, "[%s] %lld/%lld  loss %.4f  %.3g images/s  left %s", dots, (long long)step,
             (long long)j->total, loss, steps * (double)images_a_step / span,
             clock_text(span / steps * (double)(j->total - step), left, sizeof left));
    put_bar(&j->bar, text);
}

dg_status dg_journal_evaluation(dg_journal *j, int64_t step, double epoch, double top1, double top5,
                                double loss, dg_error *err)
{
    dg_str row = {0};
    double t = now(CLOCK_REALTIME);
    dg_row_int(&row, "step", step);
    dg_row_number(&row, "epoch", epoch);
    dg_row_number(&row, "val_top1", top1);
    dg_row_number(&row, "val_top5", top5);
    dg_row_number(&row, "val_loss", loss);
    dg_status s = dg_jsonl_append(j->metrics, &row, err);
    dg_str_free(&row);
    DG_TRY(s);
    DG_TRY(dg_events_scalar(j->events, "val/top1", step, t, (float)top1, err));
    DG_TRY(dg_events_scalar(j->events, "val/top5", step, t, (float)top5, err));
    DG_TRY(dg_events_scalar(j->events, "val/loss", step, t, (float)loss, err));
    dg_logf(DG_LOG_INFO, "evaluated after step %lld: top-1 %.2f %%, top-5 %.2f %%, loss %.4f",
            (long long)step, 100 * top1, 100 * top5, loss);
    return dg_events_flush(j->events, err);
}

dg_status dg_journal_probe(dg_journal *j, int64_t step, double epoch, const dg_named_number *v, size_t n,
                           dg_error *err)
{
    dg_str row = {0}, line = {0};
    char tag[96];
    double t = now(CLOCK_REALTIME);
    dg_row_int(&row, "step", step);
    dg_row_number(&row, "epoch", epoch);
    for (size_t i = 0; i < n; i++) {
        dg_row_number(&row, v[i].name, v[i].value);
        dg_str_printf(&line, "%s%s %.4g", i ? ", " : "", v[i].name, v[i].value);
    }
    dg_status s = dg_jsonl_append(j->metrics, &row, err);
    for (size_t i = 0; i < n && s == DG_OK; i++) {
        snprintf(tag, sizeof tag, "probe/%s", v[i].name);
        s = dg_events_scalar(j->events, tag, step, t, (float)v[i].value, err);
    }
    if (s == DG_OK)
        dg_logf(DG_LOG_INFO, "probed after step %lld: %s", (long long)step, line.text ? line.text : "");
    dg_str_free(&row);
    dg_str_free(&line);
    return s == DG_OK ? dg_events_flush(j->events, err) : s;
}

dg_status dg_journal_sync(dg_journal *j, uint64_t *metrics_length, uint64_t *timings_length, dg_error *err)
{
    DG_TRY(dg_jsonl_sync(j->metrics, err));
    DG_TRY(dg_jsonl_sync(j->timings, err));
    *metrics_length = dg_jsonl_length(j->metrics);
    *timings_length = dg_jsonl_length(j->timings);
    return DG_OK;
}
