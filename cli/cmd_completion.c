/* cmd_completion.c - `digpt completion SHELL`: completion scripts written from the table of commands. */
#include "cli.h"

/* The first words of all commands, each once; `group` NULL, or the second words of that group. */
static void words(dg_str *out, const char *group)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = commands[i]->name;
        size_t length = strcspn(name, " ");
        if (group) {
            if (name[length] && strlen(group) == length && !strncmp(name, group, length))
                dg_str_printf(out, "%s%s", out->length ? " " : "", name + length + 1);
            continue;
        }
        if (i && !strncmp(commands[i - 1]->name, name, length) &&
            strcspn(commands[i - 1]->name, " ") == length)
            continue;
        dg_str_printf(out, "%s%.*s", out->length ? " " : "", (int)length, name);
    }
}

static void options(dg_str *out, const cli_command *c)
{
    for (const cli_option *o = c->options; o && o->name; o++) dg_str_printf(out, "--%s ", o->name);
    dg_str_puts(out, "--verbose --help");
}

/* One function serves bash and, through bashcompinit, zsh: "command) words" and "command) options" as case
 * arms. */
static void bash(dg_str *out)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    dg_str first = {0};
    words(&first, NULL);
    dg_str_printf(out,
                  "_digpt() {\n"
                  "  local cur=${COMP_WORDS[COMP_CWORD]} one=${COMP_WORDS[1]} two=${COMP_WORDS[2]} words=\n"
                  "  COMPREPLY=()\n"
                  "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                  "    COMPREPLY=($(compgen -W \"%s --help --version\" -- \"$cur\")); return\n"
                  "  fi\n"
                  "  if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
                  "    case $one in\n",
                  first.text ? first.text : "");
    for (size_t i = 0; i < n; i++) {
        const char *space = strchr(commands[i]->name, ' ');
        size_t length = space ? (size_t)(space - commands[i]->name) : 0;
        if (!space || (i && !strncmp(commands[i - 1]->name, commands[i]->name, length + 1))) continue;
        char group[32];
        snprintf(group, sizeof group, "%.*s", (int)length, commands[i]->name);
        dg_str second = {0};
        words(&second, group);
        dg_str_printf(out, "      %s) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n", group,
                      second.text ? second.text : "");
        dg_str_free(&second);
    }
    dg_str_puts(out, "    esac\n  fi\n  case \"$one $two\" in\n");
    for (size_t i = 0; i < n; i++) {
        const cli_command *c = commands[i];
        const char *star = strchr(c->name, ' ') ? "" : " *";
        dg_str_printf(out, "    \"%s\"%s) words=\"", c->name, star[0] ? "\\ *" : "");
        options(out, c);
        dg_str_puts(out, strncmp(c->words, "RECIPE", 6)
                             ? "\" ;;\n"
                             : "\"\n      case $cur in -*) ;; *) words=$(digpt recipe list "
                               "--names 2>/dev/null) ;; esac ;;\n");
    }
    dg_str_puts(out, "  esac\n"
                     "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                     "  case $cur in -*) ;; *) COMPREPLY+=($(compgen -f -- \"$cur\")) ;; esac\n"
                     "}\n"
                     "complete -o filenames -F _digpt digpt\n");
    dg_str_free(&first);
}

static void zsh(dg_str *out)
{
    dg_str_puts(out, "autoload -U +X bashcompinit && bashcompinit\n");
    bash(out);
}

/* In single quotes, as fish reads them. */
static void fish_quoted(dg_str *out, const char *text)
{
    dg_str_puts(out, "'");
    for (; *text; text++) dg_str_printf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    dg_str_puts(out, "'");
}

static void fish_line(dg_str *out, const char *when, const char *what, const char *help)
{
    dg_str_printf(out, "complete -c digpt -n '%s' %s -d ", when, what);
    fish_quoted(out, help);
    dg_str_puts(out, "\n");
}

static void fish(dg_str *out)
{
    size_t n;
    const cli_command *const *commands = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        const cli_command *c = commands[i];
        const char *space = strchr(c->name, ' ');
        char when[128] = "__fish_use_subcommand", what[128];
        int length = (int)strcspn(c->name, " ");
        if (space) {
            dg_str_printf(out, "complete -c digpt -n %s -a %.*s\n", when, length, c->name);
            snprintf(when, sizeof when, "__fish_seen_subcommand_from %.*s", length, c->name);
        }
        snprintf(what, sizeof what, "-a %s", space ? space + 1 : c->name);
        fish_line(out, when, what, c->help);
        snprintf(when, sizeof when, "__fish_seen_subcommand_from %.*s%s%s", length, c->name,
                 space ? "; and __fish_seen_subcommand_from " : "", space ? space + 1 : "");
        for (const cli_option *o = c->options; o && o->name; o++) {
            snprintf(what, sizeof what, "-l %s%s", o->name, o->value ? " -r" : "");
            fish_line(out, when, what, o->help);
        }
        if (!strncmp(c->words, "RECIPE", 6))
            dg_str_printf(out, "complete -c digpt -n '%s' -a '(digpt recipe list --names 2>/dev/null)'\n",
                          when);
    }
}

static const struct shell {
    const char *name;
    void (*write)(dg_str *out);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

static int run(const cli_args *args)
{
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (!strcmp(args->words[0], shells[i].name)) {
            dg_str text = {0};
            shells[i].write(&text);
            return cli_print(&text);
        }
    return cli_usage("completion: there is no script for '%s'; there are bash, zsh, fish", args->words[0]);
}

const cli_command cmd_completion = {
    "completion",
    "bash|zsh|fish",
    1,
    1,
    "print a script that completes digpt's commands and options",
    "For bash: digpt completion bash > ~/.local/share/bash-completion/completions/digpt",
    NULL,
    run};
