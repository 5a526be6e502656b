/* no_entry.c - a shared object that is no plugin. */
#include "digpt/plugin.h"

DG_EXPORT int something_else(void);
int something_else(void)
{
    return 1;
}
