/* product.c - matmul and linear by oneDNN.
 *
 * Results do not depend on the number of threads. oneDNN 2.6 lets threads share the sum over k when the left
 * operand is transposed; such products (of weight gradients) are cut into tiles here, each done by one thread
 * with a primitive made for one thread (tests/backends/test_cpu_threads.c compares the bits).
 *
 * Native are f32 and, where the processor has the instructions, bf16 with bf16 or f32 results. The rest goes
 * through f32 copies of what is not.
 *
 * The right operand of a large bf16 product is first put into the order in which the kernel reads it: once
 * for all runs where it is a frozen weight, else by a pass of its own, which costs less than what oneDNN does
 * about it on its own in every thread and for every tile. */
#include "cpu.h"

/* c [batch, m, n] = a [batch, m, k] b [batch, k, n] + bias [n]; ta, tb: stored the other way round. */
typedef struct shape {
    int64_t batch, m, n, k;
    bool ta, tb;
    int32_t in, out, bias; /* dtypes; bias DG_NONE: none */
    bool packed;           /* b is in the order of PACKED */
} shape;

/* bf16 [k, n] in blocks of 32 x PACKED_COLUMNS, those of the same columns one after the other, padded to
 * whole blocks; so a range of columns that begins with a block is a packed matrix itself. */
#define PACKED dnnl_BA16a64b2a
enum { PACKED_COLUMNS = 64, PACKED_ROWS = 32, LEAST_ROWS = 256 /* of a, for which packing b pays */ };

typedef struct call {
    dnnl_primitive_t primitive; /* one of the product's */
    dnnl_memory_t memory[5];    /* src, weights, dst, bias, scratchpad */
    dnnl_exec_arg_t args[5];
    int n;
} call;

enum { N_KINDS = 4 }; /* of tiles: whole, in the last row, in the last column, in the corner */

/* A whole product, or the packing of an operand, is one call by all threads; tiles are calls by one thread
 * each. */
typedef struct dg_cpu_product {
    struct dg_cpu_product *next;
    dg_cpu *cpu;
    dnnl_primitive_t primitives[N_KINDS];
    call *calls;
    int64_t n_calls;
    bool alone; /* calls are done by one thread each */
} dg_cpu_product;

static dnnl_data_type_t data_type(int32_t dtype)
{
    return dtype == DG_BF16 ? dnnl_bf16 : dnnl_f32;
}

static void fail(dg_cpu_plan *c, dnnl_status_t s, const char *what)
{
    if (c->status != DG_OK) return;
    const char *op = c->p->nodes[c->time].op, *scope = c->p->nodes[c->time].scope;
    c->status = dg_fail(c->err, s == dnnl_out_of_memory ? DG_ERR_NOMEM : DG_ERR_INTERNAL,
                        "oneDNN could not make the %s of '%s' in '%s' (status %d)", what, op, scope, (int)s);
}

/* [batch, rows, columns] out of matrices [whole_rows, whole_columns], which are stored as such or transposed.
 */
static dnnl_memory_desc_t matrix(int64_t batch, int64_t rows, int64_t columns, int64_t whole_rows,
                                 int64_t whole_columns, bool transposed, int32_t dtype)
{
    dnnl_memory_desc_t d;
    int64_t row = transposed ? 1 : whole_columns, column = transposed ? whole_rows : 1;
    dnnl_dims_t two = {rows, columns}, two_strides = {row, column}; /* oneDNN's better tested paths */
    dnnl_dims_t three = {batch, rows, columns}, three_strides = {whole_rows * whole_columns, row, column};
    if (batch == 1)
        dnnl_memory_desc_init_by_strides(&d, 2, two, data_type(dtype), two_strides);
    else
        dnnl_memory_desc_init_by_strides(&d, 3, three, data_type(dtype), three_strides);
    return d;
}

static dnnl_memory_desc_t packed_matrix(int64_t rows, int64_t columns)
{
    dnnl_memory_desc_t d;
    dnnl_dims_t dims = {rows, columns};
    dnnl_memory_desc_init_by_tag(&d, 2, dims, dnnl_bf16, PACKED);
    return d;
}

typedef struct descs {
    dnnl_memory_desc_t a, b, c, bias;
} descs;

/* `batch` products of m rows and n columns out of those of s. */
static dnnl_status_t describe(const dg_cpu *cpu, const shape *s, int64_t batch, int64_t m, int64_t n,
                              descs *d, dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_dims_t dims = {1, n}, strides = {n, 1};
    d->a = matrix(batch, m, s->k, s->m, s->k, s->ta, s->in);
    d->b = s->packed ? packed_matrix(s->k, n) : matrix(batch, s->k, n, s->k, s->n, s->tb, s->in);
    d->c = matrix(batch, m, n, s->m, s->n, false, s->out);
    if (s->bias) dnnl_memory_desc_init_by_strides(&d->bias, 2, dims, data_type(s->bias), strides);
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&op, &d->a, &d->b, s->bias ? &d->bias : NULL, &d->c);
    if (status == dnnl_success) status = dnnl_primitive_desc_create(out, &op, attr, cpu->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

static const dnnl_memory_desc_t *scratchpad(const_dnnl_primitive_desc_t pd)
{
    return dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
}

static const char *implementation(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return name;
}

bool dg_cpu_is_native(const dg_cpu *cpu, int32_t in, int32_t out)
{
    shape s = {1, 64, 64, 64, false, true, in, out, DG_NONE, false};
    descs d;
    dnnl_primitive_desc_t pd = NULL;
    if (describe(cpu, &s, 1, s.m, s.n, &d, &pd) != dnnl_success) return false;
    bool fast = strncmp(implementation(pd), "ref", 3) != 0;
    dnnl_primitive_desc_destroy(pd);
    return fast;
}

/* ---- making */

typedef struct operands {
    const char *a, *b, *bias;
    char *c;
} operands;

static dnnl_status_t add_memory(const dg_cpu *cpu, call *to, int arg, const dnnl_memory_desc_t *d,
                                const void *at)
{
    dnnl_status_t s = dnnl_memory_create(&to->memory[to->n], d, cpu->engine, (void *)at);
    if (s == dnnl_success) {
        to->args[to->n] = (dnnl_exec_arg_t){arg, to->memory[to->n]};
        to->n++;
    }
    return s;
}

static dnnl_status_t set_call(const dg_cpu *cpu, call *to, const descs *d, const_dnnl_primitive_desc_t pd,
                              operands x, const shape *s, void *pad)
{
    const dnnl_memory_desc_t *room = scratchpad(pd);
    dnnl_status_t status = add_memory(cpu, to, DNNL_ARG_SRC, &d->a, x.a);
    if (status == dnnl_success) status = add_memory(cpu, to, DNNL_ARG_WEIGHTS, &d->b, x.b);
    if (status == dnnl_success) status = add_memory(cpu, to, DNNL_ARG_DST, &d->c, x.c);
    if (status == dnnl_success && s->bias) status = add_memory(cpu, to, DNNL_ARG_BIAS, &d->bias, x.bias);
    /* Last, so that a tile can be given its worker's room. */
    if (status == dnnl_success && dnnl_memory_desc_get_size(room))
        status = add_memory(cpu, to, DNNL_ARG_SCRATCHPAD, room, pad);
    return status;
}

static dg_cpu_product *new_product(dg_cpu_plan *c, int64_t n_calls)
{
    dg_cpu_product *p = dg_cpu_pool_take(&c->pool, sizeof *p);
    call *calls = dg_cpu_pool_take(&c->pool, (uint64_t)n_calls * sizeof *calls);
    if (!p || !calls) {
        dg_cpu_nomem(c, (uint64_t)n_calls * sizeof *calls, "a product");
        return NULL;
    }
    p->cpu = c->cpu;
    p->calls = calls;
    p->n_calls = n_calls;
    p->next = c->products;
    c->products = p;
    return p;
}

static bool is_brgemm(const_dnnl_primitive_desc_t pd)
{
    return strncmp(implementation(pd), "brg", 3) == 0;
}

/* One call for all threads; false when its bits could depend on their number. */
static bool emit_whole(dg_cpu_plan *c, const shape *s, operands x)
{
    descs d;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = s->ta ? dnnl_unimplemented : describe(c->cpu, s, s->batch, s->m, s->n, &d, &pd);
    if (status != dnnl_success || !is_brgemm(pd)) {
        if (pd) dnnl_primitive_desc_destroy(pd);
        return false;
    }
    void *pad = dg_cpu_scratch(c, dnnl_memory_desc_get_size(scratchpad(pd)));
    dg_cpu_product *p = c->dry ? NULL : new_product(c, 1);
    if (p) {
        status = dnnl_primitive_create(&p->primitives[0], pd);
        p->calls[0].primitive = p->primitives[0];
        if (status == dnnl_success) status = set_call(c->cpu, &p->calls[0], &d, pd, x, s, pad);
        if (status != dnnl_success) fail(c, status, "primitive");
        dg_cpu_add_product(c, p, 0);
    }
    dnnl_primitive_desc_destroy(pd);
    return true;
}

/* Tiles of the result: their size, how many there are, and the primitive of each kind. */
typedef struct tiling {
    int64_t height, width, rows, columns;
    descs d[N_KINDS];
    dnnl_primitive_desc_t pd[N_KINDS];
} tiling;

/* High tiles waste least on packing; their number should suit any number of threads, and an even one. */
static tiling tiling_of(const shape *s)
{
    tiling t = {.height = s->m < 512 ? 64 : s->m % 512 ? 128 : 256, .width = s->n};
    if (t.height > s->m) t.height = s->m;
    t.rows = (s->m + t.height - 1) / t.height;
    if (t.rows < 12 && s->n >= 2048) t.width = 1024;
    int64_t unit = s->packed ? PACKED_COLUMNS : 16;
    if (t.rows < 4 && s->n >= 192 && s->n < 2048) t.width = (s->n / 2 + unit - 1) / unit * unit;
    t.columns = (s->n + t.width - 1) / t.width;
    return t;
}

static int kind_of(const tiling *t, int64_t row, int64_t column)
{
    return (row == t->rows - 1) + 2 * (column == t->columns - 1);
}

/* Descriptions of the kinds that there are, and the room that the hungriest needs. */
static dnnl_status_t describe_tiles(const dg_cpu *cpu, const shape *s, tiling *t, int64_t *bytes)
{
    dnnl_status_t status = dnnl_success;
    for (int k = 0; k < N_KINDS && status == dnnl_success; k++) {
        int64_t m = k & 1 ? s->m - (t->rows - 1) * t->height : t->height;
        int64_t n = k & 2 ? s->n - (t->columns - 1) * t->width : t->width;
        if ((!(k & 1) && t->rows == 1) || (!(k & 2) && t->columns == 1)) continue;
        status = describe(cpu, s, 1, m, n, &t->d[k], &t->pd[k]);
        int64_t need = status == dnnl_success ? (int64_t)dnnl_memory_desc_get_size(scratchpad(t->pd[k])) : 0;
        *bytes = need > *bytes ? need : *bytes;
    }
    return status;
}

/* Elements from b's start to its column n. */
static int64_t column_offset(const shape *s, int64_t n)
{
    if (s->packed) return n * ((s->k + PACKED_ROWS - 1) / PACKED_ROWS * PACKED_ROWS);
    return s->tb ? n * s->k : n;
}

static dnnl_status_t set_tiles(dg_cpu_plan *c, dg_cpu_product *p, const shape *s, operands x, const tiling *t)
{
    int64_t in = (int64_t)dg_dtype_size((dg_dtype)s->in), out = (int64_t)dg_dtype_size((dg_dtype)s->out);
    dnnl_status_t status = dnnl_success;
    for (int k = 0; k < N_KINDS && status == dnnl_success; k++)
        if (t->pd[k]) status = dnnl_primitive_create(&p->primitives[k], t->pd[k]);
    for (int64_t i = 0; i < p->n_calls && status == dnnl_success; i++) {
        int64_t b = i / (t->rows * t->columns), row = i / t->columns % t->rows, column = i % t->columns;
        int64_t m = row * t->height, n = column * t->width;
        int kind = kind_of(t, row, column);
        operands part = {x.a + (b * s->m * s->k + (s->ta ? m : m * s->k)) * in,
                         x.b + (b * s->k * s->n + column_offset(s, n)) * in,
                         s->bias ? x.bias + n * (int64_t)dg_dtype_size((dg_dtype)s->bias) : NULL,
                         x.c + ((b * s->m + m) * s->n + n) * out};
        p->calls[i].primitive = p->primitives[kind];
        status = set_call(c->cpu, &p->calls[i], &t->d[kind], t->pd[kind], part, s, NULL);
    }
    return status;
}

static void emit_tiles(dg_cpu_plan *c, const shape *s, operands x)
{
    tiling t = tiling_of(s);
    int64_t bytes = 0;
    int threads = dg_cpu_threads_begin(1);
    dnnl_status_t status = describe_tiles(c->cpu, s, &t, &bytes);
    dg_cpu_product *p =
        c->dry || status != dnnl_success ? NULL : new_product(c, s->batch * t.rows * t.columns);
    if (p) {
        p->alone = true;
        status = set_tiles(c, p, s, x, &t);
    }
    if (status != dnnl_success) fail(c, status, "tiles");
    dg_cpu_threads_end(threads);
    dg_cpu_add_product(c, p, bytes);
    for (int k = 0; k < N_KINDS; k++)
        if (t.pd[k]) dnnl_primitive_desc_destroy(t.pd[k]);
}

static void add_recode(dg_cpu_plan *c, dg_cpu_kernel kernel, const void *x, void *y, int64_t count)
{
    dg_cpu_recode a = {x, y, count};
    DG_CPU_STEP(c, kernel, a, (count + DG_CPU_BLOCK - 1) / DG_CPU_BLOCK, 32, 0);
}

/* A copy in f32 of bf16 elements. */
static const char *widened(dg_cpu_plan *c, const char *x, int64_t count)
{
    float *y = dg_cpu_scratch(c, (uint64_t)count * sizeof *y);
    add_recode(c, c->cpu->kernels->widen, x, y, count);
    return (const char *)y;
}

/* ---- packing b */

/* Would all primitives of the packed product be brgemm's? */
static bool packs(const dg_cpu *cpu, const shape *s)
{
    tiling t = {0};
    int64_t bytes = 0;
    bool ok;
    if (s->ta) {
        int threads = dg_cpu_threads_begin(1);
        t = tiling_of(s);
        ok = describe_tiles(cpu, s, &t, &bytes) == dnnl_success;
        dg_cpu_threads_end(threads);
    } else {
        descs d;
        ok = describe(cpu, s, 1, s->m, s->n, &d, &t.pd[0]) == dnnl_success;
    }
    for (int k = 0; k < N_KINDS; k++) {
        if (!t.pd[k]) continue;
        ok = ok && is_brgemm(t.pd[k]);
        dnnl_primitive_desc_destroy(t.pd[k]);
    }
    return ok;
}

/* A step that copies b [k, n] into room of its own. */
static const char *packed_copy(dg_cpu_plan *c, const shape *s, const char *b)
{
    dnnl_memory_desc_t from = matrix(1, s->k, s->n, s->k, s->n, s->tb, s->in), to = packed_matrix(s->k, s->n);
    void *room = dg_cpu_scratch(c, dnnl_memory_desc_get_size(&to));
    dnnl_primitive_desc_t pd = NULL;
    dg_cpu_product *p = c->dry ? NULL : new_product(c, 1);
    if (!p) return NULL;
    call *whole = &p->calls[0];
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&pd, &from, c->cpu->engine, &to, c->cpu->engine, NULL);
    if (status == dnnl_success) status = dnnl_primitive_create(&p->primitives[0], pd);
    whole->primitive = p->primitives[0];
    if (status == dnnl_success) status = add_memory(c->cpu, whole, DNNL_ARG_FROM, &from, b);
    if (status == dnnl_success) status = add_memory(c->cpu, whole, DNNL_ARG_TO, &to, room);
    if (status != dnnl_success) fail(c, status, "packing");
    dg_cpu_add_product(c, p, 0);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return room;
}

/* Makes s and x those of a product with packed b, where that is possible and pays; w: the value that b is, or
 * -1. */
static void pack(dg_cpu_plan *c, shape *s, operands *x, int32_t w)
{
    shape p = *s;
    p.packed = true;
    if (s->in != DG_BF16 || s->batch != 1 || s->n < PACKED_COLUMNS || !packs(c->cpu, &p)) return;
    dnnl_memory_desc_t plain = matrix(1, s->k, s->n, s->k, s->n, s->tb, s->in),
                       packed = packed_matrix(s->k, s->n);
    bool same_size = dnnl_memory_desc_get_size(&packed) == (size_t)(s->k * s->n) * sizeof(uint16_t);
    bool kept = w >= 0 && same_size && dg_cpu_is_frozen(c, w);
    if (!kept && s->m < LEAST_ROWS) return;
    if (kept)
        dg_cpu_frozen_layout(c, w, &plain, &packed);
    else
        x->b = packed_copy(c, s, x->b);
    *s = p;
}

/* w: the value that b is as a whole, or -1. */
static void emit_product(dg_cpu_plan *c, shape s, operands x, int32_t w)
{
    char *result = x.c;
    int64_t count = s.batch * s.m * s.n;
    bool narrow = false;
    if ((s.in == DG_BF16 ? !c->cpu->bf16 : s.out != DG_F32)) {
        if (s.in == DG_BF16) {
            x.a = widened(c, x.a, s.batch * s.m * s.k);
            x.b = widened(c, x.b, s.batch * s.k * s.n);
        }
        if (s.bias == DG_BF16) {
            x.bias = widened(c, x.bias, s.n);
            s.bias = DG_F32;
        }
        narrow = s.out == DG_BF16;
        if (narrow) x.c = dg_cpu_scratch(c, (uint64_t)count * sizeof(float));
        s.in = s.out = DG_F32;
    }
    pack(c, &s, &x, w);
    if (!emit_whole(c, &s, x)) emit_tiles(c, &s, x);
    if (narrow) add_recode(c, c->cpu->kernels->narrow, x.c, result, count);
}

void dg_cpu_emit_matmul(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *a = dg_cpu_type(c, n->in[0]), *y = dg_cpu_type(c, n->out);
    shape s = {
        .ta = dg_cpu_int(n, "ta") != 0, .tb = dg_cpu_int(n, "tb") != 0, .in = a->dtype, .out = y->dtype};
    s.m = y->dims[y->rank - 2];
    s.n = y->dims[y->rank - 1];
    s.k = a->dims[s.ta ? a->rank - 2 : a->rank - 1];
    s.batch = dg_type_count(y) / (s.m * s.n);
    operands x = {dg_cpu_in(c, n->in[0]), dg_cpu_in(c, n->in[1]), NULL, dg_cpu_out(c, n->out)};
    emit_product(c, s, x, -1);
}

void dg_cpu_emit_linear(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *w = dg_cpu_type(c, n->in[1]), *y = dg_cpu_type(c, n->out);
    shape s = {.batch = 1, .n = w->dims[0], .k = w->dims[1], .tb = true, .in = w->dtype, .out = y->dtype};
    s.m = dg_type_count(y) / s.n;
    if (n->in[2] >= 0) s.bias = dg_cpu_type(c, n->in[2])->dtype;
    operands x = {dg_cpu_in(c, n->in[0]), dg_cpu_in(c, n->in[1]), dg_cpu_in(c, n->in[2]),
                  dg_cpu_out(c, n->out)};
    emit_product(c, s, x, n->in[1]);
}

/* ---- running */

static void run_tiles(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_product *p = args;
    for (int64_t i = begin; i < end; i++) {
        const call *tile = &p->calls[i];
        if (tile->args[tile->n - 1].arg == DNNL_ARG_SCRATCHPAD)
            dnnl_memory_set_data_handle(tile->memory[tile->n - 1], scratch);
        dnnl_primitive_execute(tile->primitive, p->cpu->stream, tile->n, tile->args);
    }
}

dg_status dg_cpu_product_run(dg_cpu_product *p, char *workers, uint64_t stride, dg_error *err)
{
    if (p->alone && p->n_calls == 1) { /* outside of a parallel region oneDNN would take all threads */
        int threads = dg_cpu_threads_begin(1);
        run_tiles(p, workers, 0, 1);
        dg_cpu_threads_end(threads);
        return DG_OK;
    }
    if (p->alone) {
        dg_cpu_parallel(p->cpu->threads, run_tiles, p, p->n_calls, 1, workers, stride);
        return DG_OK;
    }
    const call *whole = &p->calls[0];
    dnnl_status_t s = dnnl_primitive_execute(whole->primitive, p->cpu->stream, whole->n, whole->args);
    if (s == dnnl_success) return DG_OK;
    return dg_fail(err, s == dnnl_out_of_memory ? DG_ERR_NOMEM : DG_ERR_INTERNAL,
                   "oneDNN failed with status %d", (int)s);
}

void dg_cpu_products_free(dg_cpu_plan *c)
{
    for (dg_cpu_product *p = c->products; p; p = p->next) {
        for (int64_t i = 0; i < p->n_calls; i++)
            for (int k = 0; k < p->calls[i].n; k++) dnnl_memory_destroy(p->calls[i].memory[k]);
        for (int k = 0; k < N_KINDS; k++)
            if (p->primitives[k]) dnnl_primitive_destroy(p->primitives[k]);
    }
    c->products = NULL;
}
