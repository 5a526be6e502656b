/* vector_width.h - a function compiled once for each width of vector registers; the dynamic linker picks.
 * Results do not differ: nothing is contracted or reordered. Not under sanitizers, whose own start comes
 * after the picking. */
#ifndef DG_DATA_VECTOR_WIDTH_H
#define DG_DATA_VECTOR_WIDTH_H

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                           \
    !defined(__SANITIZE_THREAD__)
#define FOR_EACH_VECTOR_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_VECTOR_WIDTH
#endif

#endif
