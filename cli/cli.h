/* cli.h - what the commands share: the table of commands, their options, printing, and opening a recipe.
 *
 * A command is one file that defines `const cli_command cmd_NAME`, and a row in commands.c. Help, option
 * parsing, "did you mean" and shell completion all come from that description. Results go to standard output,
 * all else to standard error. */
#ifndef DG_CLI_H
#define DG_CLI_H

#include "base/str.h"
#include "plugin/component.h"
#include "recipe/recipe.h"

/* Exit codes, named in `digpt --help`. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONTINUE = 75 };

typedef struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* the word for its value in help; NULL: a flag */
    const char *help;
} cli_option;

/* For every command that loads plugins. */
#define CLI_PLUGIN_PATH                                                                                      \
    {                                                                                                        \
        "plugin-path", "PATH", "a plugin or a folder of plugins; may be given again"                         \
    }

typedef struct cli_args cli_args;

typedef struct cli_command {
    const char *name;          /* one word, or two: "recipe check" */
    const char *words;         /* "RECIPE [key=value ...]" */
    int least, most;           /* how many words; most -1: any number */
    const char *help;          /* one line */
    const char *more;          /* paragraphs under it in its own help; NULL: none */
    const cli_option *options; /* ended by a NULL name; NULL: none */
    int (*run)(const cli_args *args);
} cli_command;

struct cli_args {
    const cli_command *command;
    int n_words;
    char **words; /* arguments that are no options, in order */
    size_t n_given;
    struct cli_given {
        const char *name, *value; /* value "" of a flag */
    } * given;
};

/* ---- commands.c */
const cli_command *const *cli_commands(size_t *n);

/* ---- options.c */
/* Reads argv after the command's own words and runs it; returns the exit code. */
int cli_run(const cli_command *command, int argc, char **argv);
bool cli_has(const cli_args *args, const char *option);
/* The last value given, or NULL. */
const char *cli_value(const cli_args *args, const char *option);
/* All values of an option that may be given again, as an array to be freed with dg_free; NULL when out of
 * memory. */
const char **cli_values(const cli_args *args, const char *option, size_t *n);
/* A whole number within [least, most]; leaves *out alone if it is not given. False after a message. */
bool cli_number(const cli_args *args, const char *option, int64_t least, int64_t most, int64_t *out);
void cli_help(const cli_command *command);

/* ---- print.c */
/* "digpt: error: ..." and the exit code that belongs to the error. */
int cli_fail(const dg_error *err);
DG_PRINTF(1, 2) int cli_usage(const char *fmt, ...); /* the same for wrong usage; returns CLI_USAGE */
/* Writes a text to standard output and frees it; the exit code. */
int cli_print(dg_str *text);
/* Rows end in newlines, cells in tabs; all columns but the last are padded to their widest cell. */
int cli_table(dg_str *rows);
/* "1.5 GiB" into out, which it returns. */
const char *cli_bytes(double bytes, char *out, size_t size);

/* ---- open.c */
/* Plugins by --plugin-path and the standard places; of files that cannot be used the caller tells. The exit
 * code. */
int cli_registry(const cli_args *args, dg_registry **out);

typedef struct cli_recipe {
    char *path;
    dg_recipe *recipe;
    dg_plugin_source plugins;
    const char **paths;
} cli_recipe;

/* Finds and checks a recipe and loads its plugins; diagnostics are printed. The exit code; on success close
 * it. */
int cli_recipe_open(const cli_args *args, const char *name, char *const *overrides, int n, cli_recipe *out);
void cli_recipe_close(cli_recipe *r);
/* A failure of a later stage, printed at the place of the key that is to blame. The exit code. */
int cli_recipe_fail(const cli_recipe *r, const dg_error *err);

/* ---- crash.c */
/* A crash inside a plugin that is being loaded names the plugin before the process dies of its signal. */
void cli_name_crashes(void);

#endif
