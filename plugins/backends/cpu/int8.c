/* int8.c - linear_int8: products of 8-bit integers by oneDNN.
 *
 * The result is cut into tiles of rows, each done by one thread: the rows are quantized into the worker's
 * room, multiplied into f32 sums there, scaled, biased and written. So bits do not depend on the number of
 * threads. The integers of a frozen weight are made once, in oneDNN's order; those of another value in every
 * run. */
#include "cpu.h"

enum { ROWS = 64 /* of a tile: its sums stay in the second-level cache */ };

/* One tile's view of the worker's room. */
typedef struct room {
    int8_t *q;      // [rows, k]
    float *sums;    // [rows, n]
    float *scale;   // [rows]
    int32_t *count; // [rows]
    int32_t *ids;   // [rows, most]
    float *rests;   // [rows, most]
    void *kernels;  /* scratch of the kernels, and of oneDNN */
} room;

typedef struct tile {
    dnnl_memory_t memory[4]; /* src, dst, weights, scratchpad */
} tile;

typedef struct dg_cpu_int8 {
    struct dg_cpu_int8 *next;
    dg_cpu *cpu;
    int64_t m, n, k, tiles, most;
    bool frozen;
    float outlier;
    int32_t in, out, bias_dtype;
    const char *x, *w;
    const void *bias;
    char *y;
    float *w_scale; // [n]
    int8_t *plain;  // [n, k], NULL where it is made for the time of packing
    void *packed;
    dnnl_memory_desc_t src[2], dst[2], weights, pad[2]; /* of a whole tile and of the last one */
    dnnl_primitive_t primitives[2];
    tile *calls; // [tiles]
} dg_cpu_int8;

static int64_t up(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Lays out the worker's room; returns its bytes. */
static int64_t lay_out(const dg_cpu_int8 *q, char *at, room *r)
{
    const int64_t pads = (int64_t)largest((int64_t)dnnl_memory_desc_get_size(&q->pad[0]),
                                          (int64_t)dnnl_memory_desc_get_size(&q->pad[1]));
    const int64_t kernels = largest(2 * q->k, 2 * q->n + ROWS) * (int64_t)sizeof(float);
    struct {
        void *pointer;
        int64_t bytes;
    } parts[] = {
        {&r->q, ROWS * q->k},
        {&r->sums, ROWS * q->n * 4},
        {&r->scale, ROWS * 4},
        {&r->count, ROWS * 4},
        {&r->ids, ROWS * q->most * 4},
        {&r->rests, ROWS * q->most * 4},
        {&r->kernels, largest(kernels, pads)},
    };
    int64_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char *p = at ? at + total : NULL;
        memcpy(parts[i].pointer, &p, sizeof p);
        total += up(parts[i].bytes);
    }
    return total;
}

/* ---- making */

static dnnl_status_t describe(dg_cpu_int8 *q, int kind, int64_t rows, dnnl_primitive_desc_t *out)
{
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_dims_t a = {rows, q->k}, b = {q->k, q->n}, c = {rows, q->n};
    dnnl_memory_desc_t any;
    dnnl_memory_desc_init_by_tag(&q->src[kind], 2, a, dnnl_s8, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&any, 2, b, dnnl_s8, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&q->dst[kind], 2, c, dnnl_f32, dnnl_ab);
    dnnl_status_t s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_matmul_desc_init(&op, &q->src[kind], kind ? &q->weights : &any, NULL, &q->dst[kind]);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(out, &op, attr, q->cpu->engine, NULL);
    if (s == dnnl_success) {
        q->pad[kind] = *dnnl_primitive_desc_query_md(*out, dnnl_query_scratchpad_md, 0);
        if (!kind) q->weights = *dnnl_primitive_desc_query_md(*out, dnnl_query_weights_md, 0);
    }
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* All tiles have the order of weights that the first one likes. */
static dnnl_status_t describe_all(dg_cpu_int8 *q, dnnl_primitive_desc_t pd[2])
{
    int64_t rest = q->m - (q->tiles - 1) * ROWS;
    dnnl_status_t s = describe(q, 0, q->tiles > 1 ? ROWS : rest, &pd[0]);
    return s == dnnl_success ? describe(q, 1, rest, &pd[1]) : s;
}

static dnnl_status_t make_tiles(dg_cpu_int8 *q, dnnl_primitive_desc_t pd[2])
{
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < 2 && s == dnnl_success; i++) s = dnnl_primitive_create(&q->primitives[i], pd[i]);
    for (int64_t t = 0; t < q->tiles && s == dnnl_success; t++) {
        int kind = t == q->tiles - 1;
        const dnnl_memory_desc_t *d[4] = {&q->src[kind], &q->dst[kind], &q->weights, &q->pad[kind]};
        for (int i = 0; i < 4 && s == dnnl_success; i++)
            s = dnnl_memory_create(&q->calls[t].memory[i], d[i], q->cpu->engine,
                                   i == 2 ? q->packed : DNNL_MEMORY_NONE);
    }
    return s;
}

/* ---- running */

static void run_tiles(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_int8 *q = args;
    const dg_cpu_kernels *kernels = q->cpu->kernels;
    room r;
    lay_out(q, scratch, &r);
    int threads = dg_cpu_threads_begin(1);
    for (int64_t t = begin; t < end; t++) {
        const int64_t first = t * ROWS, rows = first + ROWS < q->m ? ROWS : q->m - first;
        const int64_t in = (int64_t)dg_dtype_size((dg_dtype)q->in),
                      out = (int64_t)dg_dtype_size((dg_dtype)q->out);
        const dnnl_memory_t *m = q->calls[t].memory;
        const dg_cpu_quantize a = {q->x + first * q->k * in,
                                   q->in,
                                   q->k,
                                   q->outlier,
                                   r.q,
                                   r.scale,
                                   r.count,
                                   r.ids,
                                   r.rests,
                                   q->most};
        kernels->quantize(&a, r.kernels, 0, rows);
        dnnl_memory_set_data_handle(m[0], r.q);
        dnnl_memory_set_data_handle(m[1], r.sums);
        dnnl_memory_set_data_handle(m[3], r.kernels);
        const dnnl_exec_arg_t list[4] = {{DNNL_ARG_SRC, m[0]},
                                         {DNNL_ARG_DST, m[1]},
                                         {DNNL_ARG_WEIGHTS, m[2]},
                                         {DNNL_ARG_SCRATCHPAD, m[3]}};
        dnnl_primitive_execute(q->primitives[t == q->tiles - 1], q->cpu->stream, 4, list);
        const dg_cpu_dequantize b = {r.sums,  r.scale, q->w_scale, q->bias, q->bias_dtype,
                                     q->in,   q->out,  q->w,       r.count, r.ids,
                                     r.rests, q->most, q->k,       q->n,    q->y + first * q->n * out};
        kernels->dequantize(&b, r.kernels, 0, rows);
    }
    dg_cpu_threads_end(threads);
}

/* The integers of w into `plain` and from there into oneDNN's order; scratch: 2 k floats. */
static dnnl_status_t pack(const dg_cpu_int8 *q, int8_t *plain, void *scratch)
{
    const dg_cpu_quantize a = {.x = q->w, .dtype = q->in, .width = q->k, .q = plain, .scale = q->w_scale};
    dnnl_memory_desc_t from;
    dnnl_dims_t dims = {q->k, q->n};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t m[2] = {NULL, NULL};
    q->cpu->kernels->quantize(&a, scratch, 0, q->n);
    dnnl_memory_desc_init_by_tag(&from, 2, dims, dnnl_s8, dnnl_ba);
    dnnl_status_t s =
        dnnl_reorder_primitive_desc_create(&pd, &from, q->cpu->engine, &q->weights, q->cpu->engine, NULL);
    if (s == dnnl_success) s = dnnl_primitive_create(&p, pd);
    if (s == dnnl_success) s = dnnl_memory_create(&m[0], &from, q->cpu->engine, plain);
    if (s == dnnl_success) s = dnnl_memory_create(&m[1], &q->weights, q->cpu->engine, q->packed);
    const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, m[0]}, {DNNL_ARG_TO, m[1]}};
    if (s == dnnl_success) s = dnnl_primitive_execute(p, q->cpu->stream, 2, args);
    for (int i = 0; i < 2; i++)
        if (m[i]) dnnl_memory_destroy(m[i]);
    if (p) dnnl_primitive_destroy(p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return s;
}

static void pack_again(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_int8 *q = args;
    (void)begin, (void)end;
    pack(q, q->plain, scratch);
}

dg_status dg_cpu_int8_pack(dg_cpu_plan *c, dg_error *err)
{
    dg_status s = DG_OK;
    for (const dg_cpu_int8 *q = c->int8s; q && s == DG_OK; q = q->next) {
        if (!q->frozen) continue;
        int8_t *plain = dg_cpu_allocate(c->cpu, (uint64_t)(q->n * q->k));
        float *scratch = dg_cpu_allocate(c->cpu, (uint64_t)q->k * 2 * sizeof *scratch);
        if (!plain || !scratch)
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory for the integers of weights");
        else if (pack(q, plain, scratch) != dnnl_success)
            s = dg_fail(err, DG_ERR_INTERNAL, "oneDNN could not pack the integers of weights");
        dg_cpu_free(c->cpu, plain);
        dg_cpu_free(c->cpu, scratch);
    }
    return s;
}

/* ---- emission */

static void *persistent(dg_cpu_plan *c, int64_t bytes)
{
    void *p = dg_cpu_pool_take(&c->pool, (uint64_t)bytes);
    if (!p) dg_cpu_nomem(c, (uint64_t)bytes, "a product of integers");
    return p;
}

static dg_cpu_int8 *keep(dg_cpu_plan *c, const dg_cpu_int8 *made)
{
    dg_cpu_int8 *q = persistent(c, sizeof *q);
    if (!q) return NULL;
    *q = *made;
    q->w_scale = persistent(c, q->n * (int64_t)sizeof *q->w_scale);
    q->packed = persistent(c, (int64_t)dnnl_memory_desc_get_size(&q->weights));
    q->calls = persistent(c, q->tiles * (int64_t)sizeof *q->calls);
    if (!q->frozen) q->plain = persistent(c, q->n * q->k);
    if (c->status != DG_OK) return NULL;
    q->next = c->int8s;
    c->int8s = q;
    return q;
}

void dg_cpu_emit_linear_int8(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *w = dg_cpu_type(c, n->in[1]), *y = dg_cpu_type(c, n->out);
    dg_cpu_int8 made = {.cpu = c->cpu,
                        .n = w->dims[0],
                        .k = w->dims[1],
                        .outlier = (float)dg_cpu_real(n, "outlier"),
                        .frozen = dg_cpu_is_frozen(c, n->in[1]),
                        .in = w->dtype,
                        .out = y->dtype,
                        .x = dg_cpu_in(c, n->in[0]),
                        .w = dg_cpu_in(c, n->in[1]),
                        .bias = dg_cpu_in(c, n->in[2]),
                        .y = dg_cpu_out(c, n->out)};
    if (n->in[2] >= 0) made.bias_dtype = dg_cpu_type(c, n->in[2])->dtype;
    made.m = dg_type_count(y) / made.n;
    made.tiles = (made.m + ROWS - 1) / ROWS;
    /* Fewer than k / outlier magnitudes can exceed outlier times their mean; rounding may add one. */
    made.most = made.outlier > 0 ? (int64_t)((double)made.k / made.outlier) + 2 : 1;
    if (made.most > made.k + 1) made.most = made.k + 1;
    dnnl_primitive_desc_t pd[2] = {NULL, NULL};
    int threads = dg_cpu_threads_begin(1);
    dnnl_status_t s = describe_all(&made, pd);
    dg_cpu_int8 *q = NULL;
    if (s == dnnl_success && c->dry) c->packed_bytes += dnnl_memory_desc_get_size(&made.weights);
    if (s == dnnl_success && !c->dry) q = keep(c, &made);
    if (q) s = make_tiles(q, pd);
    dg_cpu_threads_end(threads);
    for (int k = 0; k < 2; k++)
        if (pd[k]) dnnl_primitive_desc_destroy(pd[k]);
    if (s != dnnl_success && c->status == DG_OK)
        c->status = dg_fail(c->err, DG_ERR_INTERNAL,
                            "oneDNN could not make 'linear_int8' in '%s' (status %d)", n->scope, (int)s);
    room r;
    if (!made.frozen) dg_cpu_add_step(c, pack_again, q, 1, 1, 2 * made.k * (int64_t)sizeof(float));
    dg_cpu_add_step(c, run_tiles, q, made.tiles, 1, lay_out(&made, NULL, &r));
}

void dg_cpu_int8_free(dg_cpu_plan *c)
{
    for (dg_cpu_int8 *q = c->int8s; q; q = q->next) {
        for (int64_t t = 0; t < q->tiles; t++)
            for (int i = 0; i < 4; i++)
                if (q->calls[t].memory[i]) dnnl_memory_destroy(q->calls[t].memory[i]);
        for (int k = 0; k < 2; k++)
            if (q->primitives[k]) dnnl_primitive_destroy(q->primitives[k]);
    }
    c->int8s = NULL;
}
