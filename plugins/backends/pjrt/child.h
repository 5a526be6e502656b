/* child.h - work in a process of its own, for plugins that may abort, hang, or leave much behind. */
#ifndef DG_PJRT_CHILD_H
#define DG_PJRT_CHILD_H

#include "digpt/plugin.h"

/* Fills *result, which starts as the caller's. */
typedef dg_status (*dg_child_work)(void *user, void *result, dg_error *err);

/* Forks, does the work there, and copies its result of `size` bytes (as far as it got), its status and its
 * error back. What the child writes to standard output and error is kept from the terminal. If it dies
 * instead of returning, or takes more than `limit` seconds, the error is DG_ERR_UNSUPPORTED and says so with
 * the child's last words; `what` begins the message. Other threads of this process do not exist in the child.
 */
dg_status dg_child_run(const char *what, double limit, dg_child_work work, void *user, void *result,
                       size_t size, dg_error *err);

#endif
