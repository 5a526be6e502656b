/* options.c - the options of a command: parsed and explained from its table. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

#define MOST_OPTIONS 32

static const cli_option common[] = {{"verbose", NULL, "also print what is of use for finding a fault"},
                                    {"help", NULL, "print this help"},
                                    {NULL, NULL, NULL}};

/* The command's own options, then the common ones. */
static size_t all_options(const cli_command *command, const cli_option *out[MOST_OPTIONS])
{
    size_t n = 0;
    for (const cli_option *o = command->options; o && o->name && n < MOST_OPTIONS - 2; o++) out[n++] = o;
    for (const cli_option *o = common; o->name; o++) out[n++] = o;
    return n;
}

void cli_help(const cli_command *command)
{
    const cli_option *options[MOST_OPTIONS];
    size_t n = all_options(command, options);
    dg_str text = {0}, rows = {0};
    dg_str_printf(&text, "usage: digpt %s%s%s [options]\n\n%s\n", command->name, command->words[0] ? " " : "",
                  command->words, command->help);
    if (command->more) dg_str_printf(&text, "\n%s\n", command->more);
    dg_str_puts(&text, "\noptions:\n");
    cli_print(&text);
    for (size_t i = 0; i < n; i++)
        dg_str_printf(&rows, "  --%s%s%s\t%s\n", options[i]->name, options[i]->value ? " " : "",
                      options[i]->value ? options[i]->value : "", options[i]->help);
    cli_table(&rows);
}

static int wrong_option(const cli_command *command, const char *given, const cli_option **options, size_t n)
{
    const char *names[MOST_OPTIONS];
    char word[64];
    while (*given == '-') given++;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(given, "="), given);
    for (size_t i = 0; i < n; i++) {
        names[i] = options[i]->name;
        if (!strcmp(word, names[i]) && !options[i]->value)
            return cli_usage("%s: the option --%s takes no value", command->name, word);
    }
    const char *nearest = dg_nearest(word, names, n);
    return cli_usage("%s: there is no option '--%s'%s%s%s See digpt %s --help", command->name, word,
                     nearest ? "; did you mean '--" : "", nearest ? nearest : "", nearest ? "'?" : ".",
                     command->name);
}

/* -1: go on and run the command. */
static int parse(cli_args *args, int argc, char **argv)
{
    const cli_option *options[MOST_OPTIONS];
    size_t n = all_options(args->command, options);
    struct option table[MOST_OPTIONS + 1] = {{0}};
    for (size_t i = 0; i < n; i++)
        table[i] = (struct option){options[i]->name, options[i]->value ? required_argument : no_argument,
                                   NULL, 256 + (int)i};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":h", table, NULL)) != -1;) {
        if (c == ':')
            return cli_usage("%s: the option %s needs a value", args->command->name, argv[optind - 1]);
        if (c == '?') return wrong_option(args->command, argv[optind - 1], options, n);
        const cli_option *o = c == 'h' ? options[n - 1] : options[c - 256];
        if (!strcmp(o->name, "help")) {
            cli_help(args->command);
            return CLI_OK;
        }
        if (!strcmp(o->name, "verbose")) dg_log_set_level(DG_LOG_DEBUG);
        args->given[args->n_given].name = o->name;
        args->given[args->n_given++].value = o->value ? optarg : "";
    }
    args->n_words = argc - optind;
    args->words = argv + optind;
    const cli_command *c = args->command;
    if (args->n_words < c->least)
        return cli_usage("%s: too few arguments; usage: digpt %s %s", c->name, c->name, c->words);
    if (c->most >= 0 && args->n_words > c->most)
        return cli_usage("%s: '%s' is one argument too many; usage: digpt %s %s", c->name,
                         args->words[c->most], c->name, c->words);
    return -1;
}

int cli_run(const cli_command *command, int argc, char **argv)
{
    cli_args args = {command, 0, NULL, 0, dg_calloc((size_t)argc + 1, sizeof *args.given)};
    if (!args.given) return CLI_FAILED;
    int code = parse(&args, argc, argv);
    if (code < 0) code = command->run(&args);
    dg_free(args.given);
    return code;
}

bool cli_has(const cli_args *args, const char *option)
{
    return cli_value(args, option) != NULL;
}

const char *cli_value(const cli_args *args, const char *option)
{
    for (size_t i = args->n_given; i-- > 0;)
        if (!strcmp(args->given[i].name, option)) return args->given[i].value;
    return NULL;
}

const char **cli_values(const cli_args *args, const char *option, size_t *n)
{
    const char **values = dg_calloc(args->n_given + 1, sizeof *values);
    *n = 0;
    for (size_t i = 0; values && i < args->n_given; i++)
        if (!strcmp(args->given[i].name, option)) values[(*n)++] = args->given[i].value;
    return values;
}

bool cli_number(const cli_args *args, const char *option, int64_t least, int64_t most, int64_t *out)
{
    const char *text = cli_value(args, option);
    if (!text) return true;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < least || v > most) {
        cli_usage("%s: --%s %s: a whole number from %lld to %lld is needed", args->command->name, option,
                  text, (long long)least, (long long)most);
        return false;
    }
    *out = v;
    return true;
}
