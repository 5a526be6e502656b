/* pjrt_old.c - a PJRT plugin of years ago: its table ends before the functions that run programs. */
#include <pjrt_c_api.h>

#include "digpt/plugin.h"

static const PJRT_Api table = {
    .struct_size = offsetof(PJRT_Api, PJRT_Client_Create),
    .pjrt_api_version = {.major_version = PJRT_API_MAJOR, .minor_version = 1},
};

DG_EXPORT const PJRT_Api *GetPjrtApi(void);
DG_EXPORT const PJRT_Api *GetPjrtApi(void)
{
    return &table;
}
