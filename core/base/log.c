/* log.c - see log.h. */
#include "log.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dg_log_level least = DG_LOG_INFO;
static void (*sink_function)(void *, dg_log_level, const char *);
static void *sink_user;

void dg_log_set_level(dg_log_level level)
{
    least = level;
}

void dg_log_set_sink(void (*sink)(void *, dg_log_level, const char *), void *user)
{
    pthread_mutex_lock(&lock);
    sink_function = sink;
    sink_user = user;
    pthread_mutex_unlock(&lock);
}

void dg_logf(dg_log_level level, const char *fmt, ...)
{
    static const char *const prefix[] = {"debug: ", "", "warning: ", "error: "};
    if (level < least) return;
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&lock);
    if (sink_function)
        sink_function(sink_user, level, line);
    else
        fprintf(stderr, "%s%s\n", prefix[level], line);
    pthread_mutex_unlock(&lock);
}
