/* commands.c - the table of commands, in the order of `digpt --help`. */
#include "cli.h"

extern const cli_command cmd_run, cmd_bench, cmd_recipe_list, cmd_recipe_copy, cmd_recipe_check,
    cmd_recipe_show, cmd_recipe_diff, cmd_recipe_reference, cmd_graph, cmd_plugins, cmd_check, cmd_doctor,
    cmd_completion, cmd_data_check, cmd_data_pack, cmd_data_import, cmd_weights, cmd_convert, cmd_tokenize,
    cmd_zeroshot, cmd_aot, cmd_eval, cmd_features, cmd_visualize, cmd_compare;

const cli_command *const *cli_commands(size_t *n)
{
    static const cli_command *const commands[] = {
        &cmd_run,         &cmd_bench,        &cmd_tokenize,    &cmd_zeroshot,    &cmd_eval,
        &cmd_features,    &cmd_visualize,    &cmd_visualize,   &cmd_compare,     &cmd_recipe_list,
        &cmd_recipe_copy, &cmd_recipe_check, &cmd_recipe_show, &cmd_recipe_diff, &cmd_recipe_reference,
        &cmd_graph,       &cmd_plugins,      &cmd_check,       &cmd_data_check,  &cmd_data_pack,
        &cmd_data_import, &cmd_weights,      &cmd_convert,     &cmd_aot,         &cmd_doctor,
        &cmd_completion,
    };
    *n = sizeof commands / sizeof commands[0];
    return commands;
}
