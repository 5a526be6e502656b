/* check_values.c - values that a schema allows, plain and strange, and surroundings to create components in;
 * see checks.h. */
#include "checks.h"

#include "digpt/philox.h"

static bool limited(const dg_param_spec *row)
{
    return row->min != 0 || row->max != 0;
}

static int64_t random_int(const dg_param_spec *row, dg_rng *r)
{
    static const int64_t edges[] = {0, 1, -1, 2, 7, 16, 1000, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    if (!limited(row)) return edges[dg_rng_below(r, sizeof edges / sizeof edges[0])];
    /* Doubles of 2^63 and more do not fit an int64. */
    int64_t low = row->min <= -0x1p63 ? INT64_MIN : (int64_t)row->min;
    int64_t high = row->max >= 0x1p63 ? INT64_MAX : (int64_t)row->max;
    uint64_t span = (uint64_t)high - (uint64_t)low;
    uint32_t pick = dg_rng_below(r, 8);
    if (pick == 0) return low;
    if (pick == 1) return high;
    uint64_t step = pick < 6 ? dg_rng_below(r, 17) : ((uint64_t)dg_rng_u32(r) << 32 | dg_rng_u32(r));
    return (int64_t)((uint64_t)low + (span == UINT64_MAX ? step : step % (span + 1)));
}

static double random_float(const dg_param_spec *row, dg_rng *r)
{
    static const double edges[] = {0, -0.0, 1, -1, 0.5, 1e-300, 1e300, -1e300, 3.25};
    if (!limited(row)) return edges[dg_rng_below(r, sizeof edges / sizeof edges[0])];
    uint32_t pick = dg_rng_below(r, 8);
    return pick == 0 ? row->min : pick == 1 ? row->max : row->min + (row->max - row->min) * dg_rng_uniform(r);
}

static const char *random_text(const dg_param_spec *row, dg_rng *r, dg_arena *arena)
{
    static const char *const odd[] = {"",         "a", "%s%n%d", "caf\xc3\xa9 \"'\\", "/", "/no/such/file",
                                      "/dev/null"};
    uint32_t n_words = 0;
    while (row->choices && row->choices[n_words]) n_words++;
    uint32_t pick = dg_rng_below(r, 8);
    if (n_words && pick < 5) return row->choices[dg_rng_below(r, n_words)];
    if (pick < 7) return odd[dg_rng_below(r, sizeof odd / sizeof odd[0])];
    char *text = dg_arena_alloc(arena, 4097);
    if (text) memset(text, 'x', 4096);
    return text;
}

static const char *number_text(dg_arena *arena, const char *fmt, double f, int64_t i)
{
    char text[64];
    if (fmt)
        snprintf(text, sizeof text, fmt, f);
    else
        snprintf(text, sizeof text, "%lld", (long long)i);
    return dg_arena_strdup(arena, text);
}

static bool random_list(const dg_param_spec *row, dg_rng *r, dg_arena *arena, dg_param_value *v)
{
    size_t n = dg_rng_below(r, 9);
    v->text = "[...]";
    if (row->type == DG_PARAM_INTS) {
        int64_t *items = dg_arena_alloc(arena, (n + 1) * sizeof *items);
        for (size_t i = 0; items && i < n; i++) items[i] = random_int(row, r);
        v->v.ints.items = items;
        v->v.ints.n = n;
        return items != NULL;
    }
    double *items = dg_arena_alloc(arena, (n + 1) * sizeof *items);
    for (size_t i = 0; items && i < n; i++) items[i] = random_float(row, r);
    v->v.floats.items = items;
    v->v.floats.n = n;
    return items != NULL;
}

static bool random_value(const dg_param_spec *row, dg_rng *r, dg_arena *arena, dg_param_value *v)
{
    *v = (dg_param_value){.type = row->type, .is_set = 1};
    if (row->def && !row->def[0] && dg_rng_below(r, 3) == 0) {
        v->is_set = 0;
        v->text = "";
        return true;
    }
    switch (row->type) {
    case DG_PARAM_BOOL:
        v->v.i = dg_rng_below(r, 2);
        v->text = v->v.i ? "true" : "false";
        break;
    case DG_PARAM_INT:
        v->v.i = random_int(row, r);
        v->text = number_text(arena, NULL, 0, v->v.i);
        break;
    case DG_PARAM_FLOAT:
        v->v.f = random_float(row, r);
        v->text = number_text(arena, "%.17g", v->v.f, 0);
        break;
    case DG_PARAM_CHOICE: {
        uint32_t n = 0;
        while (row->choices[n]) n++;
        v->v.i = dg_rng_below(r, n);
        v->text = row->choices[v->v.i];
        break;
    }
    case DG_PARAM_STRING:
    case DG_PARAM_PATH:
        v->v.s = v->text = random_text(row, r, arena);
        break;
    default:
        return random_list(row, r, arena, v);
    }
    return v->text != NULL;
}

static bool default_value(const dg_param_spec *row, dg_arena *arena, dg_param_value *v)
{
    dg_diagnostics diags = {0};
    dg_status s = dg_param_read(row, row->key, NULL, (dg_pos){0}, arena, v, &diags);
    dg_diagnostics_free(&diags);
    return s == DG_OK;
}

const dg_params *dg_check_values(const dg_factory *f, uint64_t n, dg_arena *arena)
{
    dg_rng r = dg_rng_make(1, DG_RNG_PLUGIN, n, 0);
    dg_param_value *values = dg_arena_alloc(arena, (f->n_params + 1) * sizeof *values);
    dg_params *params = dg_arena_alloc(arena, sizeof *params);
    if (!values || !params) return NULL;
    /* From nearly all defaults to nearly none, so that both deep and odd places are reached. */
    uint32_t strangeness = n == 0 ? 0 : 1 + (uint32_t)(n % 7);
    for (uint32_t i = 0; i < f->n_params; i++) {
        dg_param_spec row = dg_spec_at(f->params, i);
        /* A file that is required would hide all that comes after it; its special word, if it has one, does
         * not. */
        if (n == 0 && !row.def && row.type == DG_PARAM_PATH && row.choices && row.choices[0]) {
            values[i] = (dg_param_value){
                .type = row.type, .is_set = 1, .v.s = row.choices[0], .text = row.choices[0]};
            continue;
        }
        bool plain = row.def && dg_rng_below(&r, 8) >= strangeness;
        if (!(plain ? default_value(&row, arena, &values[i]) : random_value(&row, &r, arena, &values[i])))
            return NULL;
    }
    *params = (dg_params){(uint32_t)sizeof *params, f->n_params, values};
    return params;
}

void dg_check_values_print(const dg_factory *f, const dg_params *values, dg_str *out)
{
    for (uint32_t i = 0; i < f->n_params; i++) {
        const char *text = values->values[i].text;
        dg_str_printf(out, "%s%s=%.40s", i ? ", " : "", dg_spec_at(f->params, i).key, text ? text : "");
    }
}

const void *dg_check_env_make(const char *interface, unsigned n, dg_check_env *room)
{
    /* The vectors of a CLIP ViT-H/14; vectors without a class token; ids; no tokenizer. */
    static const dg_tokenizer_info kinds[DG_CHECK_ENVS - 1] = {
        {sizeof(dg_tokenizer_info), 0, 224, 224, 16, 16, 1, 0, 1024, 0, "vectors with a class token"},
        {sizeof(dg_tokenizer_info), 0, 224, 224, 14, 14, 0, 0, 768, 0, "vectors"},
        {sizeof(dg_tokenizer_info), 1, 224, 224, 14, 14, 0, 0, 1, 8192, "ids"},
    };
    room->tokenizer = (dg_tokenizer_env){(uint32_t)sizeof room->tokenizer, 0, 224, 224, 1};
    n %= DG_CHECK_ENVS;
    if (n < DG_CHECK_ENVS - 1) room->tokens = kinds[n];
    room->model = (dg_model_env){(uint32_t)sizeof room->model, 0, 224, 224,
                                 n < DG_CHECK_ENVS - 1 ? &room->tokens : NULL};
    if (!strcmp(interface, DG_TOKENIZER_INTERFACE)) return &room->tokenizer;
    return !strcmp(interface, DG_MODEL_INTERFACE) ? &room->model : NULL;
}
