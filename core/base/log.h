/* log.h - messages for people, on standard error by default. Libraries log; only the CLI prints results. */
#ifndef DG_BASE_LOG_H
#define DG_BASE_LOG_H

#include "digpt/base.h"

typedef enum dg_log_level { DG_LOG_DEBUG, DG_LOG_INFO, DG_LOG_WARNING, DG_LOG_ERROR } dg_log_level;

DG_PRINTF(2, 3) void dg_logf(dg_log_level level, const char *fmt, ...);
/* What is below `level` is dropped; the default is DG_LOG_INFO. */
void dg_log_set_level(dg_log_level level);
/* Takes every line (no newline at its end); NULL brings standard error back. Called under a lock. */
void dg_log_set_sink(void (*sink)(void *user, dg_log_level level, const char *line), void *user);

#endif
