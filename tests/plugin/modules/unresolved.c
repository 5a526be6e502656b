/* unresolved.c - needs a symbol that nobody has. */
#include "module.h"

int a_function_that_nobody_has(void);
static const dg_factory losses[] = {PLAIN("lost", &good_loss)};
static dg_status lost(void)
{
    return (dg_status)a_function_that_nobody_has();
}
DG_EXPORT dg_status (*const keep)(void);
dg_status (*const keep)(void) = lost;
DG_PLUGIN("test.unresolved", "1.0.0", DG_LOSS_INTERFACE, losses)
