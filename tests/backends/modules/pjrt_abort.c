/* pjrt_abort.c - a PJRT plugin that ends its process, as XLA does when something it takes for granted is not
 * so: when it starts. */
#include <pjrt_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "digpt/plugin.h"

static PJRT_Error *initialize(PJRT_Plugin_Initialize_Args *args)
{
    (void)args;
    fprintf(stderr, "F0000 00:00:0 1 device.cc:7] Check failed: options.size() > 0 (0 vs. 0)\n"
                    "*** Check failure stack trace: ***\n    @ 0x7f  (unknown)\n");
    abort();
}

/* Every other function of the table; none is reached. */
static void never(void)
{
    _exit(3);
}

DG_EXPORT const PJRT_Api *GetPjrtApi(void);
DG_EXPORT const PJRT_Api *GetPjrtApi(void)
{
    static PJRT_Api table = {
        .struct_size = PJRT_Api_STRUCT_SIZE,
        .pjrt_api_version = {.major_version = PJRT_API_MAJOR, .minor_version = PJRT_API_MINOR},
    };
    void (*stop)(void) = never;
    for (size_t at = offsetof(PJRT_Api, PJRT_Error_Destroy); at + sizeof stop <= sizeof table;
         at += sizeof stop)
        memcpy((char *)&table + at, &stop, sizeof stop);
    table.PJRT_Plugin_Initialize = initialize;
    return &table;
}
