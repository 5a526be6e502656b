/* pjrt_major.c - a PJRT plugin of another major version. */
#include <pjrt_c_api.h>

#include "digpt/plugin.h"

static const PJRT_Api table = {
    .struct_size = sizeof(PJRT_Api),
    .pjrt_api_version = {.major_version = PJRT_API_MAJOR + 1, .minor_version = 0},
};

DG_EXPORT const PJRT_Api *GetPjrtApi(void);
DG_EXPORT const PJRT_Api *GetPjrtApi(void)
{
    return &table;
}
