/* check.h - conformance checks of one plugin: what `digpt check` runs in a child process.
 *
 * Checks have fixed numbers for one file: first those of the file, then those of each component. A check that
 * takes the process down is simply the last that began: a new process goes on with the next number. */
#ifndef DG_PLUGIN_CHECK_H
#define DG_PLUGIN_CHECK_H

#include "digpt/base.h"

typedef enum dg_verdict { DG_CHECK_PASS, DG_CHECK_FAIL, DG_CHECK_SKIP } dg_verdict;

typedef struct dg_check_sink {
    void *user;
    /* subject: "loss 'cosine'", or "" for the file. */
    void (*begin)(void *user, size_t number, const char *subject, const char *check);
    void (*end)(void *user, size_t number, dg_verdict verdict, const char *detail);
} dg_check_sink;

/* Runs the checks numbered from `first` on; a file that does not load has only number 0. */
void dg_plugin_check(const char *path, size_t first, const dg_check_sink *sink);

#endif
