/* pjrt_trap.c - XLA's CPU plugin (the one that the backend would take), but compiling a program that has a
 * vector of 13 ends the process. */
#include <dlfcn.h>
#include <pjrt_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digpt/plugin.h"

static PJRT_Client_Compile *inner;

static PJRT_Error *compile(PJRT_Client_Compile_Args *args)
{
    if (memmem(args->program->code, args->program->code_size, "tensor<13xf32>", 14)) {
        fprintf(stderr, "F0000 00:00:0 1 layout.cc:13] Check failed: unlucky shape\n");
        abort();
    }
    return inner(args);
}

DG_EXPORT const PJRT_Api *GetPjrtApi(void);
DG_EXPORT const PJRT_Api *GetPjrtApi(void)
{
    static _Alignas(PJRT_Api) char table[2 * sizeof(PJRT_Api)]; /* the real one may be newer and longer */
    const char *path = getenv("DIGPT_PJRT_CPU");
    void *object = dlopen(path ? path : DIGPT_PJRT_HOME "/xla_cpu_pjrt.so", RTLD_NOW | RTLD_LOCAL);
    const PJRT_Api *(*get)(void) = NULL;
    if (object) *(void **)&get = dlsym(object, "GetPjrtApi");
    const PJRT_Api *real = get ? get() : NULL;
    if (!real || real->struct_size > sizeof table) return NULL;
    memcpy(table, real, real->struct_size);
    inner = real->PJRT_Client_Compile;
    ((PJRT_Api *)(void *)table)->PJRT_Client_Compile = compile;
    return (const PJRT_Api *)(void *)table;
}
