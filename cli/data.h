/* data.h - what the `digpt data` commands share: opening what a path means, threads over many images, and how
 * far they are. */
#ifndef DG_CLI_DATA_H
#define DG_CLI_DATA_H

#include "cli.h"

#include "data/source.h"

/* A folder of class folders, a folder of .tar files, a .tar (with {..} and * in its name), else a list file.
 */
dg_status cli_source_open(const char *path, dg_source **source, dg_error *err);

/* --threads, or as many as this process may use. False after a message. */
bool cli_threads(const cli_args *args, int *threads);

/* A line on standard error while something takes its time, if that is a terminal. Starts as {0} with `what`
 * and `total` set. */
typedef struct cli_progress {
    const char *what; /* "images" */
    int64_t total;
    double begun, shown; /* seconds of the monotonic clock */
} cli_progress;

void cli_progress_show(cli_progress *p, int64_t done);
/* Removes the line. */
void cli_progress_end(cli_progress *p);

/* Calls work(user, thread, i) for every i in [first, first + n) on `threads` threads, in no order; the line
 * shows i of p->total. DG_ERR_NOMEM if no thread could be started. */
dg_status cli_each(int threads, int64_t first, int64_t n, void (*work)(void *user, int thread, int64_t i),
                   void *user, cli_progress *p, dg_error *err);

#endif
