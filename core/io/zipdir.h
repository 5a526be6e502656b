/* zipdir.h - the directory of a zip archive in memory: stored members are handed out in place, deflated ones
 * are inflated (PKWARE APPNOTE 6.3.3; zip64 included). Encrypted and split archives are refused.
 *
 * Every offset and size is checked against the archive; of stored members the CRC-32 is not, as it would mean
 * to read all of a file that is mapped. */
#ifndef DG_IO_ZIPDIR_H
#define DG_IO_ZIPDIR_H

#include "base/mem.h"

typedef struct dg_zip_member {
    const char *name;
    const unsigned char *data; /* as it lies in the archive */
    uint64_t packed, size;
    uint32_t crc;
    bool deflated;
    const unsigned char *inflated; /* once asked for */
} dg_zip_member;

typedef struct dg_zip {
    const char *where;
    const unsigned char *bytes;
    uint64_t bytes_size;
    uint64_t
        inflated; /* bytes so far: bounded, so that members that share their data cannot fill the memory */
    dg_zip_member *members; /* [n] by name */
    size_t n;
} dg_zip;

/* Reads the directory; names and inflated members lie in `arena`. */
dg_status dg_zip_open(const void *bytes, size_t size, const char *where, dg_arena *arena, dg_zip *zip,
                      dg_error *err);
/* NULL when there is none. */
dg_zip_member *dg_zip_find(const dg_zip *zip, const char *name);
/* The member's content, [m->size]. A deflated one is checked against its CRC-32. */
dg_status dg_zip_content(dg_zip *zip, dg_zip_member *m, dg_arena *arena, const unsigned char **out,
                         dg_error *err);

#endif
