/* main.c - `digpt COMMAND ...`: finds the command in the table and runs it. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>

static const char after_commands[] =
    "\n"
    "digpt COMMAND --help says more. A RECIPE is a file, or a name that `digpt recipe list` shows.\n"
    "\n"
    "Exit codes: 0 done; 1 failed; 2 wrong usage; 75 stopped in good order by a signal or a time limit:\n"
    "the same command with --resume goes on.\n";

static void general_help(void)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    dg_str rows = {0};
    for (size_t i = 0; i < n; i++) dg_str_printf(&rows, "  %s\t%s\n", commands[i]->name, commands[i]->help);
    printf("digpt %s - pretrains vision transformers by predicting semantic tokens\n\n"
           "usage: digpt COMMAND [options]\n       digpt --version\n\ncommands:\n",
           DIGPT_VERSION);
    cli_table(&rows);
    fputs(after_commands, stdout);
}

/* How many words of argv the command's name takes, 0 if it is another one. */
static int matches(const cli_command *c, int argc, char **argv)
{
    const char *space = strchr(c->name, ' ');
    if (!space) return argc > 1 && !strcmp(argv[1], c->name) ? 1 : 0;
    size_t first = (size_t)(space - c->name);
    return argc > 2 && strlen(argv[1]) == first && !strncmp(argv[1], c->name, first) &&
                   !strcmp(argv[2], space + 1)
               ? 2
               : 0;
}

/* `digpt recipe`, `digpt recipe --help`, `digpt recipe shwo`: the commands of a group. */
static int group(const char *word, const char *next)
{
    size_t n, n_names = 0, length = strlen(word);
    const cli_command *const *commands = cli_commands(&n);
    const char *names[64];
    dg_str rows = {0};
    for (size_t i = 0; i < n && n_names < 64; i++)
        if (!strncmp(commands[i]->name, word, length) && commands[i]->name[length] == ' ') {
            names[n_names++] = commands[i]->name + length + 1;
            dg_str_printf(&rows, "  digpt %s %s\t%s\n", commands[i]->name, commands[i]->words,
                          commands[i]->help);
        }
    if (n_names == 0) {
        dg_str_free(&rows);
        return -1;
    }
    if (next && (!strcmp(next, "--help") || !strcmp(next, "-h"))) return cli_table(&rows);
    dg_str_free(&rows);
    if (!next) return cli_usage("'digpt %s' needs one more word; see digpt %s --help", word, word);
    const char *nearest = dg_nearest(next, names, n_names);
    return cli_usage("there is no command '%s %s'%s%s%s See digpt %s --help", word, next,
                     nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ".", word);
}

static int unknown(const char *word)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    char names[64][32];
    const char *list[64];
    for (size_t i = 0; i < n && i < 64; i++) {
        snprintf(names[i], sizeof names[i], "%.*s", (int)strcspn(commands[i]->name, " "), commands[i]->name);
        list[i] = names[i];
    }
    const char *nearest = dg_nearest(word, list, n < 64 ? n : 64);
    return cli_usage("there is no %s '%s'%s%s%s See digpt --help", word[0] == '-' ? "option" : "command",
                     word, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : ".");
}

static int dispatch(int argc, char **argv)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    if (argc < 2) {
        general_help();
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        general_help();
        return CLI_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("digpt %s (plugin ABI %d.%d)\n", DIGPT_VERSION, DG_ABI_MAJOR, DG_ABI_MINOR);
        return CLI_OK;
    }
    for (size_t i = 0; i < n; i++) {
        int taken = matches(commands[i], argc, argv);
        if (taken) return cli_run(commands[i], argc - taken, argv + taken);
    }
    int code = group(argv[1], argc > 2 ? argv[2] : NULL);
    return code >= 0 ? code : unknown(argv[1]);
}

int main(int argc, char **argv)
{
    /* gcc's OpenMP, which backends bring along later, spins for milliseconds at a barrier. On cores that are
     * shared with the loader's threads or other processes that made a step five to ten times slower; a short
     * spin costs nothing measurable on idle ones. */
    setenv("GOMP_SPINCOUNT", "1000", 0);
    cli_name_crashes();
    int code = dispatch(argc, argv);
    /* A full disk or a closed pipe shows itself only here. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno != EPIPE)
            fprintf(stderr, "digpt: error: cannot write to standard output: %s\n", strerror(errno));
        if (code == CLI_OK) code = CLI_FAILED;
    }
    return code;
}
