/* data.c - see data.h. */
#include "data.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

/* ---- sources */

static bool ends_in_tar(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".tar");
}

static bool has_tars(const char *path)
{
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) found = ends_in_tar(e->d_name);
    if (d) closedir(d);
    return found;
}

dg_status cli_source_open(const char *path, dg_source **source, dg_error *err)
{
    if (!dg_path_is_dir(path))
        return ends_in_tar(path) ? dg_source_open_tar(&path, 1, NULL, source, err)
                                 : dg_source_open_list(path, source, err);
    if (!has_tars(path)) return dg_source_open_folder(path, source, err);
    char *pattern = dg_path_join(path, "*.tar");
    dg_status s = pattern ? dg_source_open_tar((const char *const *)&pattern, 1, NULL, source, err)
                          : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(pattern);
    return s;
}

bool cli_threads(const cli_args *args, int *threads)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int64_t n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (!cli_number(args, "threads", 1, 256, &n)) return false;
    *threads = n > 256 ? 256 : (int)n;
    return true;
}

/* ---- how far */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_progress_show(cli_progress *p, int64_t done)
{
    double t = now();
    if (p->begun == 0) p->begun = t;
    if (t - p->shown < 0.2 || !isatty(STDERR_FILENO)) return;
    p->shown = t;
    double rate = t > p->begun ? (double)done / (t - p->begun) : 0;
    fprintf(stderr, "\r\033[K%lld of %lld %s, %.0f/s", (long long)done, (long long)p->total, p->what, rate);
    if (rate > 0) fprintf(stderr, ", %.0f s left", (double)(p->total - done) / rate);
    fflush(stderr);
}

void cli_progress_end(cli_progress *p)
{
    if (p->shown > 0) fputs("\r\033[K", stderr);
    p->shown = 0;
}

/* ---- threads */

typedef struct job {
    void (*work)(void *user, int thread, int64_t i);
    void *user;
    int64_t end;
    atomic_llong next;
    atomic_int running;
} job;

typedef struct worker {
    job *job;
    int number;
    pthread_t thread;
} worker;

static void *run_worker(void *user)
{
    const worker *w = user;
    for (int64_t i; (i = atomic_fetch_add(&w->job->next, 1)) < w->job->end;)
        w->job->work(w->job->user, w->number, i);
    atomic_fetch_sub(&w->job->running, 1);
    return NULL;
}

dg_status cli_each(int threads, int64_t first, int64_t n, void (*work)(void *user, int thread, int64_t i),
                   void *user, cli_progress *p, dg_error *err)
{
    job j = {.work = work, .user = user, .end = first + n};
    worker *w = dg_calloc((size_t)threads, sizeof *w);
    int started = 0;
    atomic_init(&j.next, first);
    atomic_init(&j.running, threads);
    for (; w && started < threads; started++) {
        w[started] = (worker){.job = &j, .number = started};
        if (pthread_create(&w[started].thread, NULL, run_worker, &w[started]) != 0) break;
    }
    atomic_fetch_sub(&j.running, threads - started);
    while (atomic_load(&j.running) > 0) {
        int64_t done = atomic_load(&j.next);
        cli_progress_show(p, done < j.end ? done : j.end);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    for (int i = 0; i < started; i++) pthread_join(w[i].thread, NULL);
    dg_free(w);
    return started ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no thread could be started");
}
