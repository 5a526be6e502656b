/* golden.h - for tests: reads tensors of a .safetensors file by name, and computes SHA-256. Trusts its files.
 */
#ifndef DG_TEST_GOLDEN_H
#define DG_TEST_GOLDEN_H

#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "test.h"

typedef struct golden {
    char *bytes;
    size_t size;
} golden;

static DG_UNUSED golden golden_open(const char *path)
{
    dg_error err = DG_ERROR_INIT;
    golden g;
    ASSERT_OK(dg_file_read(path, (size_t)1 << 30, &g.bytes, &g.size, &err));
    return g;
}

/* The tensor's bytes; *size is their number. */
static DG_UNUSED const void *golden_find(const golden *g, const char *name, size_t *size)
{
    uint64_t header;
    char key[128];
    memcpy(&header, g->bytes, 8);
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(g->bytes + 8, key);
    if (!at || !(at = strstr(at, "\"data_offsets\":"))) fail_msg("the golden file has no '%s'", name);
    at += strcspn(at, "[") + 1;
    char *end;
    const unsigned long long from = strtoull(at, &end, 10), to = strtoull(end + 1, NULL, 10);
    *size = (size_t)(to - from);
    return g->bytes + 8 + header + from;
}

static DG_UNUSED void golden_close(golden *g)
{
    dg_free(g->bytes);
}

/* FIPS 180-4. Writes 64 hexadecimal digits and a NUL. */
static DG_UNUSED void sha256_hex(const void *data, size_t size, char out[65])
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const size_t padded = (size + 9 + 63) / 64 * 64;
    uint8_t *m = calloc(padded, 1);
    if (!m) abort();
    memcpy(m, data, size);
    m[size] = 0x80;
    for (int i = 0; i < 8; i++) m[padded - 1 - (size_t)i] = (uint8_t)((uint64_t)size * 8 >> (8 * i));
#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
    for (size_t at = 0; at < padded; at += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = m + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 64; i++) {
            const uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (ROTATE(a, 7) ^ ROTATE(a, 18) ^ a >> 3) +
                   (ROTATE(b, 17) ^ ROTATE(b, 19) ^ b >> 10);
        }
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            const uint32_t t1 = v[7] + (ROTATE(v[4], 6) ^ ROTATE(v[4], 11) ^ ROTATE(v[4], 25)) +
                                ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            const uint32_t t2 = (ROTATE(v[0], 2) ^ ROTATE(v[0], 13) ^ ROTATE(v[0], 22)) +
                                ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
#undef ROTATE
    for (int i = 0; i < 8; i++) snprintf(out + 8 * i, 9, "%08x", h[i]);
    free(m);
}

#endif
