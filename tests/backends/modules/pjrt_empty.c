/* pjrt_empty.c - a PJRT plugin whose GetPjrtApi has nothing to give. */
#include <stddef.h>

#include "digpt/plugin.h"

DG_EXPORT const void *GetPjrtApi(void);
DG_EXPORT const void *GetPjrtApi(void)
{
    return NULL;
}
