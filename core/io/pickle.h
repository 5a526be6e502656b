/* pickle.h - a reader of Python pickles that executes nothing: a fixed interpreter of the opcodes of
 * protocols 0 to 4 (Lib/pickletools.py) that builds plain values.
 *
 * What it knows: None, bool, int, float, str, bytes, tuple, list, dict, sets, torch storages and tensors, and
 * the few containers of the allowlist in pickle.c (OrderedDict, argparse.Namespace, torch.Size, TorchScript
 * objects). Any other class or function becomes an opaque value under its name: it is never called, and
 * nothing is read from it. Names that no honest checkpoint holds (os.system, eval, ...) end the reading with
 * an error.
 *
 * Bounds: 64 MB of pickle, 1 GiB of values, memo indices below 8 million. The values may refer to each other
 * in circles: whoever walks them bounds the depth. */
#ifndef DG_IO_PICKLE_H
#define DG_IO_PICKLE_H

#include "base/mem.h"
#include "base/str.h"

typedef enum dg_pk_kind {
    DG_PK_NONE,
    DG_PK_BOOL,    /* integer */
    DG_PK_INT,     /* integer */
    DG_PK_LONG,    /* text: more than 64 bits, little-endian two's complement */
    DG_PK_FLOAT,   /* number */
    DG_PK_STR,     /* text, UTF-8 unless the file lies */
    DG_PK_BYTES,   /* text */
    DG_PK_TUPLE,   /* items */
    DG_PK_LIST,    /* items; sets too */
    DG_PK_DICT,    /* items: key, value, key, value, ...; objects that hold attributes too */
    DG_PK_GLOBAL,  /* name: a class or function, "torch.FloatStorage" */
    DG_PK_STORAGE, /* items of the persistent id: 'storage', type, key, location, elements[, view] */
    DG_PK_TENSOR, /* items: the arguments of torch._utils._rebuild_tensor*: storage, offset, size, stride, ...
                   */
    DG_PK_OPAQUE, /* name of what was not executed */
    DG_PK_MARK    /* internal */
} dg_pk_kind;

typedef struct dg_pk {
    dg_pk_kind kind;
    bool attributes; /* a DICT that stands for an object: its state is added to it */
    union {
        int64_t integer;
        double number;
        struct {
            const char *p; /* in the pickle; no NUL at its end */
            size_t n;
        } text;
        const char *name;
        struct {
            struct dg_pk **p;
            size_t n, capacity;
        } items;
    } v;
} dg_pk;

typedef struct dg_pickle {
    const dg_pk *root;
    const dg_pk *storages; /* LIST: every STORAGE in the order of its making */
    size_t used;           /* bytes, up to and with STOP */
    dg_str opaque;         /* names of what was not executed, joined by ", " */
} dg_pickle;

/* Reads one pickle from the beginning of bytes, which must outlive the values, as must `arena`. `where` names
 * the source in messages. Free out->opaque with dg_str_free, on failure too. */
dg_status dg_pickle_read(const unsigned char *bytes, size_t size, const char *where, dg_arena *arena,
                         dg_pickle *out, dg_error *err);

/* True if v is a str of exactly this text. */
bool dg_pk_is(const dg_pk *v, const char *text);
/* The value under a key of a dict (the last, if it is there twice), or NULL. */
const dg_pk *dg_pk_get(const dg_pk *dict, const char *key);

#endif
