/* crash.c - names the plugin whose code was being loaded when the process gets a deadly signal. */
#include "cli.h"

#include <signal.h>
#include <unistd.h>

static void tell(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

/* Only what is safe in a signal handler. */
static void on_crash(int number)
{
    const char *path = dg_plugin_loading();
    if (path) {
        tell("\ndigpt: error: the plugin '");
        tell(path);
        tell("' crashed while it was being loaded; move it away, or ask its author\n");
    }
    raise(number); /* SA_RESETHAND: now the default, death by this signal */
}

void cli_name_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    static char room[65536]; /* a stack of its own: the other may be what overflowed */
    stack_t stack = {0};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, NULL);
    struct sigaction action = {0};
    action.sa_handler = on_crash;
    action.sa_flags = SA_RESETHAND | SA_ONSTACK | SA_NODEFER;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, NULL);
}
