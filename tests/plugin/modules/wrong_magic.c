/* wrong_magic.c - a descriptor of something else. */
#include "module.h"

ENTRY(BRACES(0x1234u, sizeof(dg_plugin), DG_ABI_MAJOR, DG_ABI_MINOR, "test.wrong_magic", "1", "", get))
