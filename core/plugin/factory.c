/* factory.c - the interfaces that this version knows, and what it asks of a factory; see registry.h. */
#include "registry.h"

#include "digpt/backend.h"
#include "digpt/loss.h"
#include "digpt/model.h"
#include "digpt/tokenizer.h"
#include "recipe/schema.h"

typedef struct dg_need {
    const char *interface;
    const char *function;
    size_t offset;
} dg_need;

#define LEAST(T, LAST) (uint32_t)(offsetof(T, LAST) + sizeof(((T *)0)->LAST))

/* Sizes end at the last member of ABI 1.0: what later minors append may be missing. */
static const dg_interface interfaces[] = {
    {DG_TOKENIZER_INTERFACE, "tokenizer", "tokenizers", LEAST(dg_tokenizer_interface, build)},
    {DG_MODEL_INTERFACE, "model", "models", LEAST(dg_model_interface, encode)},
    {DG_LOSS_INTERFACE, "loss", "losses", LEAST(dg_loss_interface, build)},
    {DG_BACKEND_INTERFACE, "backend", "backends", LEAST(dg_backend_interface, times)},
    {DG_COLLECTIVE_INTERFACE, "collective", "collectives", LEAST(dg_collective_interface, join)},
};

#define NEED(KIND, FUNCTION)                                                                                 \
    {                                                                                                        \
#KIND, #FUNCTION, offsetof(dg_##KIND##_interface, FUNCTION)                                          \
    }

static const dg_need needs[] = {
    NEED(tokenizer, create),     NEED(tokenizer, destroy),     NEED(tokenizer, info),
    NEED(tokenizer, build),      NEED(model, create),          NEED(model, destroy),
    NEED(model, build),          NEED(loss, create),           NEED(loss, destroy),
    NEED(loss, build),           NEED(backend, create),        NEED(backend, destroy),
    NEED(backend, devices),      NEED(backend, fingerprint),   NEED(backend, preferred),
    NEED(backend, supports),     NEED(backend, check),         NEED(backend, memory),
    NEED(backend, store_create), NEED(backend, store_destroy), NEED(backend, store_add),
    NEED(backend, store_write),  NEED(backend, store_read),    NEED(backend, compile),
    NEED(backend, release),      NEED(backend, run),           NEED(backend, profile),
    NEED(backend, times),        NEED(collective, create),     NEED(collective, destroy),
    NEED(collective, describe),  NEED(collective, launched),   NEED(collective, join),
};

size_t dg_interface_count(void)
{
    return sizeof interfaces / sizeof interfaces[0];
}

const dg_interface *dg_interface_at(size_t i)
{
    return i < dg_interface_count() ? &interfaces[i] : NULL;
}

const dg_interface *dg_interface_find(const char *word)
{
    for (size_t i = 0; i < dg_interface_count(); i++)
        if (!strcmp(interfaces[i].name, word) || !strcmp(interfaces[i].section, word)) return &interfaces[i];
    return NULL;
}

static bool is_word(const char *s, const char *letters, size_t most)
{
    return s && *s >= 'a' && *s <= 'z' && strlen(s) <= most && strspn(s, letters) == strlen(s);
}

static bool is_line(const char *s)
{
    return s && *s && !strpbrk(s, "\n\r\t");
}

static dg_status check_default(const dg_param_spec *row, dg_error *err)
{
    if (!row->def) return DG_OK;
    dg_arena arena = {0};
    dg_diagnostics diags = {0};
    dg_param_value value;
    dg_status s = dg_param_read(row, row->key, NULL, (dg_pos){0}, &arena, &value, &diags);
    if (s != DG_OK)
        dg_fail(err, s, "the default '%s' of parameter '%s' breaks its own rules: %s", row->def, row->key,
                diags.n ? diags.items[0].message : "out of memory");
    dg_diagnostics_free(&diags);
    dg_arena_free(&arena);
    return s;
}

static dg_status check_row(const dg_param_spec *row, uint32_t i, dg_error *err)
{
    if (!is_word(row->key, "abcdefghijklmnopqrstuvwxyz0123456789_", 63))
        return dg_fail(err, DG_ERR_INVALID,
                       "parameter %u: its key '%.64s' is not snake_case of at most 63 letters", i,
                       row->key ? row->key : "(null)");
    if (!strcmp(row->key, "name"))
        return dg_fail(err, DG_ERR_INVALID,
                       "parameter %u: 'name' is the word by which recipes choose a component", i);
    if (row->type < DG_PARAM_BOOL || row->type > DG_PARAM_FLOATS)
        return dg_fail(err, DG_ERR_INVALID, "parameter '%s' has the unknown type %u", row->key, row->type);
    if (!is_line(row->help) || !row->unit)
        return dg_fail(err, DG_ERR_INVALID,
                       "parameter '%s' needs one line of help and a unit (\"\" for none)", row->key);
    if (!(row->min <= row->max))
        return dg_fail(err, DG_ERR_INVALID, "parameter '%s' has the empty range %g to %g", row->key, row->min,
                       row->max);
    bool words = row->choices && row->choices[0];
    if (row->type == DG_PARAM_CHOICE && !words)
        return dg_fail(err, DG_ERR_INVALID, "parameter '%s' is a choice among no words", row->key);
    if (row->choices && row->type != DG_PARAM_CHOICE && row->type != DG_PARAM_PATH)
        return dg_fail(err, DG_ERR_INVALID, "parameter '%s' has choices, which its type cannot have",
                       row->key);
    return check_default(row, err);
}

static dg_status check_schema(const dg_factory *f, dg_error *err)
{
    if (f->n_params > 1000 || (f->n_params && !f->params))
        return dg_fail(err, DG_ERR_INVALID, "it announces %u parameters and %s", f->n_params,
                       f->params ? "at most 1000 are allowed" : "has no table of them");
    for (uint32_t i = 0; i < f->n_params; i++) {
        if (f->params[0].struct_size < LEAST(dg_param_spec, choices))
            return dg_fail(err, DG_ERR_INVALID,
                           "rows of its parameters have %u bytes, at least %u are needed: use DG_PARAM",
                           f->params[0].struct_size, LEAST(dg_param_spec, choices));
        dg_param_spec row = dg_spec_at(f->params, i);
        DG_TRY(check_row(&row, i, err));
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(dg_spec_at(f->params, k).key, row.key))
                return dg_fail(err, DG_ERR_INVALID, "parameter '%s' is there twice", row.key);
    }
    return DG_OK;
}

static dg_status check_functions(const dg_interface *interface, const void *table, dg_error *err)
{
    uint32_t size;
    if (!table) return dg_fail(err, DG_ERR_INVALID, "it has no interface");
    memcpy(&size, table, sizeof size);
    if (size < interface->least_size)
        return dg_fail(err, DG_ERR_INVALID,
                       "its interface has %u bytes, %s needs at least %u: set struct_size", size,
                       interface->name, interface->least_size);
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        static const unsigned char null[sizeof(void (*)(void))];
        if (strcmp(needs[i].interface, interface->section)) continue;
        if (!memcmp((const char *)table + needs[i].offset, null, sizeof null))
            return dg_fail(err, DG_ERR_INVALID, "its interface lacks the function %s", needs[i].function);
    }
    return DG_OK;
}

dg_status dg_factory_check(const dg_interface *interface, const dg_factory *f, dg_error *err)
{
    if (f->struct_size < LEAST(dg_factory, interface))
        return dg_fail(err, DG_ERR_INVALID, "a factory has %u bytes, at least %u are needed: set struct_size",
                       f->struct_size, LEAST(dg_factory, interface));
    if (!is_word(f->name, "abcdefghijklmnopqrstuvwxyz0123456789_-.", 63))
        return dg_fail(err, DG_ERR_INVALID,
                       "the name '%.64s' is not a word of small letters, digits, '_', '-' and '.'",
                       f->name ? f->name : "(null)");
    if (!is_line(f->help)) return dg_fail(err, DG_ERR_INVALID, "it needs one line of help");
    DG_TRY(check_functions(interface, f->interface, err));
    const dg_loss_interface *loss = f->interface;
    if (!strcmp(interface->name, DG_LOSS_INTERFACE) &&
        (!loss->targets || loss->targets & ~(uint32_t)(DG_TARGET_CONTINUOUS | DG_TARGET_DISCRETE)))
        return dg_fail(err, DG_ERR_INVALID,
                       "its targets are %#x: continuous (1), discrete (2) or both (3) are known",
                       loss->targets);
    return check_schema(f, err);
}
