/* trained.h - what `RUN|RECIPE` means to commands that use a trained model: its recipe, and its weights. */
#ifndef DG_CLI_TRAINED_H
#define DG_CLI_TRAINED_H

#include "cli.h"

/* For every such command. */
#define CLI_WEIGHTS                                                                                          \
    {                                                                                                        \
        "weights", "best|last|FILE",                                                                         \
            "of the run: those that did best (if it has them), the newest "                                  \
            "checkpoint's, or a file of weights"                                                             \
    }

typedef struct cli_trained {
    cli_recipe recipe;
    char *weights; /* a file */
    char *classes; /* the run's list of classes; NULL: it has none */
} cli_trained;

/* RUN is a folder that `digpt run` made; RECIPE is a recipe, whose run lies in output/name, or else whose
 * train.init_from has the weights. `encoder`: tokenizer and loss are left out, which may need files that are
 * no longer there. The exit code; on success close it. */
int cli_trained_open(const cli_args *args, const char *word, char *const *overrides, int n, bool encoder,
                     cli_trained *out);
void cli_trained_close(cli_trained *t);

#endif
