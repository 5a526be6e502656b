/* cmd_run.c - `digpt run`: trains what a recipe says. */
#include "cli.h"

#include <signal.h>

#include "train/probe_task.h"
#include "train/run.h"

static void on_signal(int number)
{
    dg_run_request_stop();
    signal(number, SIG_DFL); /* a second one ends it at once */
}

static void watch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL); /* Slurm's warning before a time limit: --signal=USR1@120 */
}

/* What was typed, for the record: words, then options. */
static void put_command(const cli_args *args, dg_str *line)
{
    dg_str_printf(line, "digpt %s", args->command->name);
    for (int i = 0; i < args->n_words; i++) dg_str_printf(line, " %s", args->words[i]);
    for (size_t i = 0; i < args->n_given; i++)
        dg_str_printf(line, " --%s%s%s", args->given[i].name, args->given[i].value[0] ? " " : "",
                      args->given[i].value);
}

static int run(const cli_args *args)
{
    cli_recipe r;
    int code = cli_recipe_open(args, args->words[0], args->words + 1, args->n_words - 1, &r);
    if (code != CLI_OK) return code;
    dg_schema_source schemas = dg_plugin_schemas(&r.plugins);
    dg_str command = {0};
    put_command(args, &command);
    const dg_run_options options = {cli_value(args, "dir"), cli_has(args, "resume"), cli_has(args, "force"),
                                    &schemas, command.text};
    dg_run_result result;
    dg_error err = DG_ERROR_INIT;
    if (!dg_is_probe_task(r.recipe)) watch_signals(); /* a probe has nothing to save before it ends */
    dg_status s = dg_run_train(r.recipe, r.plugins.registry, &options, &result, &err);
    if (s != DG_OK)
        code = result.silent ? CLI_FAILED : cli_recipe_fail(&r, &err);
    else
        code = result.stopped ? CLI_CONTINUE : CLI_OK;
    if (result.silent)
        ; /* the first rank tells it */
    else if (s == DG_OK && result.stopped)
        printf("stopped at step %lld of %lld with a checkpoint; go on with: digpt run ... --resume\n",
               (long long)result.step, (long long)result.total);
    else if (s == DG_OK && result.summary[0])
        printf("%sreport: %s/report.html\n", result.summary, result.dir);
    else if (s == DG_OK)
        printf("%lld steps done; report: %s/report.html\n", (long long)result.step, result.dir);
    dg_str_free(&command);
    cli_recipe_close(&r);
    return code;
}

static const cli_option options[] = {
    {"dir", "DIR", "the run's folder; otherwise output/name of the recipe"},
    {"resume", NULL, "go on from the newest checkpoint of the folder, or start if it has none"},
    {"force", NULL, "resume although the recipe, backend or data are not the same"},
    CLI_PLUGIN_PATH,
    {NULL, NULL, NULL},
};

const cli_command cmd_run = {
    .name = "run",
    .words = "RECIPE [key=value ...] [~key ...]",
    .least = 1,
    .most = -1,
    .help = "train what a recipe says",
    .more = "Checkpoints, metrics.jsonl, TensorBoard events and report.html go to the run's folder.\n"
            "SIGTERM, SIGINT and SIGUSR1 end the run after the step in progress, with a checkpoint and exit "
            "code 75;\n"
            "the same command with --resume then goes on bit for bit.\n"
            "Started several times by mpirun or srun, it trains in all of these processes together; "
            "docs/distributed.md.",
    .options = options,
    .run = run,
};
