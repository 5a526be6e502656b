/* knn.c - see knn.h. */
#include "knn.h"

#include <math.h>

#include "base/mem.h"
#include "train/state.h"

enum { PIECE = 65536, QUERIES = 256 }; /* rows of the bank, and queries, of one run of the program */

static const char bank_leaf[] = "knn.bank";

/* The program, its buffers, and the state that holds a piece of the bank. */
typedef struct search {
    const dg_parts *parts;
    int64_t width, rows, queries, k;
    dg_program *program;
    dg_state state;
    dg_inputs inputs;
    dg_backend_exe *exe;
    float *piece;   // [rows, width]
    float *cosine;  // [queries, k]
    int32_t *index; // [queries, k]
} search;

static dg_status build_graph(const search *s, dg_graph *g, dg_error *err)
{
    dg_value bank = dg_frozen(g, bank_leaf, DG_LIST(s->rows, s->width), dg_init_value(DG_INIT_CONSTANT, 0));
    dg_value query = dg_input(g, "query", DG_F32, DG_LIST(s->queries, s->width), DG_PER_BATCH);
    dg_value used = dg_input(g, "used", DG_I32, DG_LIST(1), DG_PER_BATCH);
    dg_value cosine = dg_matmul(g, query, bank, false, true, DG_F32); // [queries, rows]
    dg_value there = dg_lt(g, dg_iota(g, DG_I32, DG_LIST(1, s->rows), 1), used);
    dg_value best = dg_top_k(g, dg_select(g, there, cosine, dg_fill(g, DG_F32, NULL, 0, -2)), s->k);
    dg_graph_output(g, best, "cosine");
    dg_graph_output(g, dg_output(best, 1), "index");
    return dg_graph_error(g, err);
}

static dg_status open_search(search *s, dg_error *err)
{
    dg_graph *g = dg_graph_create();
    const dg_type type = dg_make_type(DG_F32, DG_LIST(s->rows, s->width));
    dg_status st = g ? build_graph(s, g, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (st == DG_OK) st = dg_finish_program(g, s->parts, "neighbours", false, &s->program, err);
    dg_graph_destroy(g);
    DG_TRY(st);
    s->piece = dg_calloc((size_t)s->rows, (size_t)s->width * sizeof *s->piece);
    s->cosine = dg_calloc((size_t)(s->queries * s->k), sizeof *s->cosine);
    s->index = dg_calloc((size_t)(s->queries * s->k), sizeof *s->index);
    if (!s->piece || !s->cosine || !s->index)
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the neighbours");
    DG_TRY(dg_state_open(s->parts, &s->state, err));
    DG_TRY(dg_state_write_f32(&s->state, bank_leaf, &type, s->piece, err));
    DG_TRY(dg_inputs_open(s->parts, s->program, &s->inputs, err));
    return dg_backend_of(s->parts)->compile(s->parts->backend.self, s->program, s->state.store, &s->exe, err);
}

static void close_search(search *s)
{
    if (s->exe) dg_backend_of(s->parts)->release(s->exe);
    dg_inputs_close(&s->inputs);
    dg_state_close(&s->state);
    dg_program_destroy(s->program);
    dg_free(s->piece);
    dg_free(s->cosine);
    dg_free(s->index);
}

/* rows vectors from x [.., width], each over its length. */
static void normalise(const float *x, int64_t rows, int64_t width, float *out)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < width; i++) sum += (double)x[r * width + i] * (double)x[r * width + i];
        double scale = sum > 0 ? 1 / sqrt(sum) : 0;
        for (int64_t i = 0; i < width; i++) out[r * width + i] = (float)((double)x[r * width + i] * scale);
    }
}

/* The k best of those known and those of a later piece of the bank, both in order; `first` is the piece's
 * place. */
static void merge(const search *s, int64_t query, int64_t first, int64_t used, float *cosine, int64_t *index,
                  float *old_cosine, int64_t *old_index)
{
    const float *new_cosine = s->cosine + query * s->k;
    const int32_t *new_index = s->index + query * s->k;
    memcpy(old_cosine, cosine, (size_t)s->k * sizeof *cosine);
    memcpy(old_index, index, (size_t)s->k * sizeof *index);
    for (int64_t i = 0, a = 0, b = 0; i < s->k; i++) {
        bool late = b < s->k && new_index[b] < used && (old_index[a] < 0 || new_cosine[b] > old_cosine[a]);
        cosine[i] = late ? new_cosine[b] : old_cosine[a];
        index[i] = late ? first + new_index[b] : old_index[a];
        if (late)
            b++;
        else
            a++;
    }
}

/* Compares all queries with one piece of the bank. */
static dg_status one_piece(search *s, int64_t first, int64_t used, const dg_feature_set *queries,
                           dg_neighbours *out, void *work, dg_error *err)
{
    float *in = dg_inputs_buffer(&s->inputs, "query"), *old = work;
    int64_t *old_index = (int64_t *)(void *)(old + 2 * s->k);
    void *outputs[] = {s->cosine, s->index};
    const dg_run io = {(uint32_t)sizeof io, s->inputs.n, s->inputs.data, 2, 0, outputs};
    *(int32_t *)dg_inputs_buffer(&s->inputs, "used") = (int32_t)used;
    for (int64_t at = 0; at < queries->n; at += s->queries) {
        int64_t n = queries->n - at < s->queries ? queries->n - at : s->queries;
        normalise(queries->x + at * s->width, n, s->width, in);
        DG_TRY(dg_backend_of(s->parts)->run(s->exe, &io, err));
        for (int64_t i = 0; i < n; i++)
            merge(s, i, first, used, out->cosine + (at + i) * s->k, out->index + (at + i) * s->k, old,
                  old_index);
    }
    return DG_OK;
}

static dg_status all_pieces(search *s, const dg_feature_set *bank, const dg_feature_set *queries,
                            dg_neighbours *out, dg_error *err)
{
    const uint64_t row = (uint64_t)s->width * sizeof(float);
    void *work = dg_calloc((size_t)s->k, 2 * (sizeof(float) + sizeof(int64_t)));
    dg_status st = work ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t first = 0; st == DG_OK && first < bank->n; first += s->rows) {
        int64_t used = bank->n - first < s->rows ? bank->n - first : s->rows;
        normalise(bank->x + first * s->width, used, s->width, s->piece);
        st = s->state.backend->store_write(s->state.store, bank_leaf, s->piece, 0, (uint64_t)s->rows * row,
                                           err);
        if (st == DG_OK) st = one_piece(s, first, used, queries, out, work, err);
    }
    dg_free(work);
    return st;
}

dg_status dg_knn_search(const dg_parts *parts, const dg_feature_set *bank, const dg_feature_set *queries,
                        int64_t k, dg_neighbours *out, dg_error *err)
{
    *out = (dg_neighbours){queries->n, k, NULL, NULL};
    if (bank->width != queries->width)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "features of width %lld are compared with features of width %lld",
                       (long long)queries->width, (long long)bank->width);
    if (k < 1 || k > bank->n || k > PIECE)
        return dg_fail_key(err, DG_ERR_INVALID, "knn.k",
                           "%lld neighbours are asked for and there are %lld images to find them among",
                           (long long)k, (long long)bank->n);
    search s = {.parts = parts, .width = bank->width, .k = k};
    s.rows = bank->n < PIECE ? bank->n : PIECE;
    s.queries = queries->n < QUERIES ? queries->n : QUERIES;
    out->cosine = dg_calloc((size_t)queries->n, (size_t)k * sizeof *out->cosine);
    out->index = dg_calloc((size_t)queries->n, (size_t)k * sizeof *out->index);
    dg_status st =
        out->cosine && out->index ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory for the neighbours");
    for (int64_t i = 0; st == DG_OK && i < queries->n * k; i++) out->index[i] = -1;
    if (st == DG_OK) st = open_search(&s, err);
    if (st == DG_OK) st = all_pieces(&s, bank, queries, out, err);
    for (int64_t i = 0; st == DG_OK && i < queries->n * k; i++)
        if (out->index[i] < 0 || !isfinite(out->cosine[i]))
            st = dg_fail(err, DG_ERR_NOT_FINITE,
                         "the features of sample %lld, or of its neighbours, are not finite",
                         (long long)queries->ids[i / k]);
    close_search(&s);
    return st;
}

void dg_neighbours_free(dg_neighbours *n)
{
    dg_free(n->cosine);
    dg_free(n->index);
    *n = (dg_neighbours){0, 0, NULL, NULL};
}

/* ---- votes */

/* How many classes have more votes than the label; of equal ones the smaller class comes first. */
static int32_t rank_of(const double *votes, int32_t classes, int32_t label)
{
    int32_t before = 0;
    if (!(votes[label] > 0)) return classes;
    for (int32_t c = 0; c < classes; c++)
        before += votes[c] > votes[label] || (votes[c] == votes[label] && c < label);
    return before;
}

dg_status dg_knn_vote(const dg_neighbours *found, const dg_feature_set *bank, const dg_feature_set *queries,
                      int32_t classes, int64_t k, double temperature, dg_knn_score *out, dg_error *err)
{
    int64_t hits = 0, hits5 = 0;
    DG_TRY(dg_features_check_labels(bank, classes, "training", err));
    DG_TRY(dg_features_check_labels(queries, classes, "validation", err));
    double *votes = dg_calloc((size_t)classes, sizeof *votes);
    if (!votes) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t q = 0; q < found->n; q++) {
        const float *cosine = found->cosine + q * found->k;
        const int64_t *index = found->index + q * found->k;
        for (int32_t c = 0; c < classes; c++) votes[c] = 0;
        for (int64_t i = 0; i < k; i++) /* relative to the nearest, so that nothing overflows */
            votes[bank->labels[index[i]]] += exp(((double)cosine[i] - (double)cosine[0]) / temperature);
        int32_t rank = rank_of(votes, classes, queries->labels[q]);
        hits += rank < 1;
        hits5 += rank < 5 && rank < classes;
    }
    dg_free(votes);
    *out = (dg_knn_score){(double)hits / (double)found->n, (double)hits5 / (double)found->n};
    return DG_OK;
}
