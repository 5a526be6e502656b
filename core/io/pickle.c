/* pickle.c - see pickle.h. */
#include "pickle.h"

#include <stdlib.h>

enum { MAX_PICKLE = 64 << 20, MAX_MEMO = 8 << 20, MAX_OPAQUE_TEXT = 4096 };
#define MAX_VALUES ((size_t)1 << 30)

typedef struct machine {
    const unsigned char *start, *p, *end;
    const char *where;
    dg_arena *arena;
    size_t spent; /* bytes of values */
    dg_pk **stack;
    size_t depth, stack_capacity;
    dg_pk *storages;
    dg_pk **memo;
    size_t n_memo, memo_capacity; /* n_memo: the next index of MEMOIZE */
    dg_pickle *out;
    dg_error *err;
} machine;

/* The constant after dg_fail tells the compiler that failing is not DG_OK. */
static dg_status wrong(const machine *m, const char *what)
{
    dg_fail(m->err, DG_ERR_FORMAT, "%s: damaged pickle at byte %zu: %s", m->where, (size_t)(m->p - m->start),
            what);
    return DG_ERR_FORMAT;
}

static void *allocate(machine *m, size_t size)
{
    if (size > MAX_VALUES - m->spent) return NULL;
    m->spent += size;
    return dg_arena_alloc(m->arena, size);
}

static dg_status no_memory(const machine *m)
{
    dg_fail(m->err, DG_ERR_NOMEM, "%s: its pickle needs more memory than there is, or than 1 GiB", m->where);
    return DG_ERR_NOMEM;
}

/* ---- stack and memo */

static dg_status push(machine *m, dg_pk *v)
{
    if (!dg_grow(&m->stack, m->depth, &m->stack_capacity, sizeof *m->stack)) return no_memory(m);
    m->stack[m->depth++] = v;
    return DG_OK;
}

static dg_status push_new(machine *m, dg_pk value)
{
    dg_pk *v = allocate(m, sizeof *v);
    if (!v) return no_memory(m);
    *v = value;
    return push(m, v);
}

static dg_status pop(machine *m, dg_pk **v)
{
    if (m->depth == 0 || m->stack[m->depth - 1]->kind == DG_PK_MARK) return wrong(m, "its stack is empty");
    *v = m->stack[--m->depth];
    return DG_OK;
}

static dg_status top(const machine *m, dg_pk **v)
{
    if (m->depth == 0 || m->stack[m->depth - 1]->kind == DG_PK_MARK) return wrong(m, "its stack is empty");
    *v = m->stack[m->depth - 1];
    return DG_OK;
}

/* Items above the last mark: *items points at them on the stack, which is cut below the mark. */
static dg_status pop_mark(machine *m, dg_pk ***items, size_t *n)
{
    size_t at = m->depth;
    while (at > 0 && m->stack[at - 1]->kind != DG_PK_MARK) at--;
    if (at == 0) return wrong(m, "a mark is missing");
    *items = m->stack + at;
    *n = m->depth - at;
    m->depth = at - 1;
    return DG_OK;
}

static dg_status memo_put(machine *m, uint64_t index)
{
    dg_pk *v;
    DG_TRY(top(m, &v));
    if (index >= MAX_MEMO) return wrong(m, "a memo index beyond 8 million");
    if (index >= m->memo_capacity) {
        size_t want = m->memo_capacity * 2 > index + 1024 ? m->memo_capacity * 2 : (size_t)index + 1024;
        dg_pk **grown = dg_realloc(m->memo, want * sizeof *grown);
        if (!grown) return no_memory(m);
        memset(grown + m->memo_capacity, 0, (want - m->memo_capacity) * sizeof *grown);
        m->memo = grown;
        m->memo_capacity = want;
    }
    if (!m->memo[index]) m->n_memo++; /* MEMOIZE numbers by how many there are */
    m->memo[index] = v;
    return DG_OK;
}

static dg_status memo_get(machine *m, uint64_t index)
{
    if (index >= m->memo_capacity || !m->memo[index]) return wrong(m, "a memo index that was never stored");
    return push(m, m->memo[index]);
}

/* ---- reading arguments */

static dg_status take(machine *m, uint64_t n, const unsigned char **bytes)
{
    if (n > (uint64_t)(m->end - m->p)) return wrong(m, "it is cut short");
    *bytes = m->p;
    m->p += n;
    return DG_OK;
}

/* An unsigned little-endian integer of n bytes. */
static dg_status take_uint(machine *m, int n, uint64_t *out)
{
    const unsigned char *b;
    DG_TRY(take(m, (uint64_t)n, &b));
    *out = 0;
    for (int i = n - 1; i >= 0; i--) *out = *out << 8 | b[i];
    return DG_OK;
}

/* Up to a newline, which is taken and not returned. */
static dg_status take_line(machine *m, const char **p, size_t *n)
{
    const unsigned char *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!nl) return wrong(m, "a line without its end");
    *p = (const char *)m->p;
    *n = (size_t)(nl - m->p);
    m->p = nl + 1;
    return DG_OK;
}

static dg_status take_number_line(machine *m, char text[64])
{
    const char *p;
    size_t n;
    DG_TRY(take_line(m, &p, &n));
    if (n >= 64) return wrong(m, "a number of more than 63 characters");
    memcpy(text, p, n);
    text[n] = 0;
    return DG_OK;
}

/* ---- containers */

static dg_status append(machine *m, dg_pk *to, dg_pk *item)
{
    if (to->v.items.n == to->v.items.capacity) {
        size_t want = to->v.items.capacity ? to->v.items.capacity * 2 : 4;
        dg_pk **grown = allocate(m, want * sizeof *grown);
        if (!grown) return no_memory(m);
        if (to->v.items.n) memcpy(grown, to->v.items.p, to->v.items.n * sizeof *grown);
        to->v.items.p = grown;
        to->v.items.capacity = want;
    }
    to->v.items.p[to->v.items.n++] = item;
    return DG_OK;
}

static dg_status push_items(machine *m, dg_pk_kind kind, dg_pk **items, size_t n)
{
    dg_pk value = {.kind = kind};
    value.v.items.p = allocate(m, (n + 1) * sizeof *items);
    if (!value.v.items.p) return no_memory(m);
    if (n) memcpy(value.v.items.p, items, n * sizeof *items);
    value.v.items.n = value.v.items.capacity = n;
    return push_new(m, value);
}

/* Appends items to the container below them; what an opaque object is given is dropped. */
static dg_status extend(machine *m, dg_pk_kind kind, dg_pk **items, size_t n)
{
    dg_pk *to;
    DG_TRY(top(m, &to));
    if (to->kind == DG_PK_OPAQUE) return DG_OK;
    if (to->kind != kind) return wrong(m, "items for what is not such a container");
    if (kind == DG_PK_DICT && n % 2) return wrong(m, "a key without its value");
    for (size_t i = 0; i < n; i++) DG_TRY(append(m, to, items[i]));
    return DG_OK;
}

static dg_status pop_tuple(machine *m, size_t n)
{
    dg_pk *items[3];
    for (size_t i = n; i > 0; i--) DG_TRY(pop(m, &items[i - 1]));
    return push_items(m, DG_PK_TUPLE, items, n);
}

/* ---- classes and functions */

/* Modules and names ("" for any) that are refused: their only use in a pickle is to run something. */
static const struct {
    const char *module, *name;
} refused[] = {
    {"os", ""},
    {"posix", ""},
    {"nt", ""},
    {"subprocess", ""},
    {"sys", ""},
    {"pty", ""},
    {"shutil", ""},
    {"socket", ""},
    {"runpy", ""},
    {"importlib", ""},
    {"webbrowser", ""},
    {"ctypes", ""},
    {"pickle", ""},
    {"timeit", ""},
    {"commands", ""},
    {"builtins", "eval"},
    {"builtins", "exec"},
    {"builtins", "execfile"},
    {"builtins", "compile"},
    {"builtins", "open"},
    {"builtins", "breakpoint"},
    {"builtins", "apply"},
    {"builtins", "__import__"},
};

/* Whether the module is `prefix` or within it. */
static bool in_module(const char *module, const char *prefix)
{
    size_t n = strlen(prefix);
    return !strncmp(module, prefix, n) && (module[n] == 0 || module[n] == '.');
}

static dg_status push_global(machine *m, const char *module, size_t n_module, const char *name, size_t n_name)
{
    if (n_module > 512 || n_name > 512 || memchr(module, 0, n_module) || memchr(name, 0, n_name))
        return wrong(m, "a class name that is none");
    char *text = allocate(m, n_module + n_name + 2);
    if (!text) return no_memory(m);
    memcpy(text, module, n_module);     /* for now ended by NUL */
    if (!strcmp(text, "__builtin__")) { /* Python 2 */
        memcpy(text, "builtins", sizeof "builtins");
        n_module = strlen("builtins");
    }
    memcpy(text + n_module + 1, name, n_name);
    text[n_module + 1 + n_name] = 0;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (in_module(text, refused[i].module) &&
            (!refused[i].name[0] || !strcmp(refused[i].name, text + n_module + 1)))
            return dg_fail(m->err, DG_ERR_UNSUPPORTED,
                           "%s: byte %zu of its pickle asks to run %s.%s: refused, nothing was executed; "
                           "this is no honest "
                           "checkpoint, do not load it with other programs",
                           m->where, (size_t)(m->p - m->start), text, text + n_module + 1);
    text[n_module] = '.';
    return push_new(m, (dg_pk){.kind = DG_PK_GLOBAL, .v.name = text});
}

static dg_status stack_global(machine *m)
{
    dg_pk *name, *module;
    DG_TRY(pop(m, &name));
    DG_TRY(pop(m, &module));
    if (name->kind != DG_PK_STR || module->kind != DG_PK_STR) return wrong(m, "a class name that is no text");
    return push_global(m, module->v.text.p, module->v.text.n, name->v.text.p, name->v.text.n);
}

static bool named_already(const dg_str *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list->text; p && (p = strstr(p, name)); p += n)
        if ((p == list->text || p[-1] == ' ') && (p[n] == ',' || p[n] == 0)) return true;
    return false;
}

/* An opaque value in place of what a callable would have made; its name is noted. */
static dg_status push_opaque(machine *m, const dg_pk *callable)
{
    const char *name =
        callable->kind == DG_PK_GLOBAL || callable->kind == DG_PK_OPAQUE ? callable->v.name : "?";
    dg_str *list = &m->out->opaque;
    if (list->length < MAX_OPAQUE_TEXT && !named_already(list, name)) {
        if (list->length) dg_str_puts(list, ", ");
        dg_str_puts(list, name);
    }
    return push_new(m, (dg_pk){.kind = DG_PK_OPAQUE, .v.name = name});
}

typedef enum action {
    MAKE_TENSOR,  /* keep the arguments */
    FIRST_TENSOR, /* the first argument, if it is a tensor */
    FIRST_ITEMS,  /* the first argument, if it is a tuple or list; an empty list without arguments */
    FIRST_ANY,    /* the first argument */
    MAKE_DICT,    /* a dict: of the pairs in the first argument, if there is one */
    MAKE_OBJECT   /* a dict that takes its state as attributes */
} action;

static const struct {
    const char *name;
    action what;
} allowed[] = {
    {"torch._utils._rebuild_tensor_v2", MAKE_TENSOR},
    {"torch._utils._rebuild_tensor_v3", MAKE_TENSOR},
    {"torch._utils._rebuild_tensor", MAKE_TENSOR},
    {"torch._utils._rebuild_parameter", FIRST_TENSOR},
    {"torch._utils._rebuild_parameter_with_state", FIRST_TENSOR},
    {"torch.nn.parameter.Parameter", FIRST_TENSOR},
    {"torch.Size", FIRST_ITEMS},
    {"torch.device", FIRST_ANY},
    {"torch.jit._pickle.build_intlist", FIRST_ITEMS},
    {"torch.jit._pickle.build_doublelist", FIRST_ITEMS},
    {"torch.jit._pickle.build_boollist", FIRST_ITEMS},
    {"torch.jit._pickle.build_tensorlist", FIRST_ITEMS},
    {"torch.jit._pickle.restore_type_tag", FIRST_ANY},
    {"builtins.set", FIRST_ITEMS},
    {"builtins.frozenset", FIRST_ITEMS},
    {"builtins.list", FIRST_ITEMS},
    {"builtins.tuple", FIRST_ITEMS},
    {"builtins.dict", MAKE_DICT},
    {"collections.OrderedDict", MAKE_DICT},
    {"collections.defaultdict", MAKE_DICT},
    {"argparse.Namespace", MAKE_OBJECT},
    {"types.SimpleNamespace", MAKE_OBJECT},
};

static bool is_sequence(const dg_pk *v)
{
    return v->kind == DG_PK_TUPLE || v->kind == DG_PK_LIST;
}

static dg_status push_dict(machine *m, const dg_pk *args)
{
    DG_TRY(push_items(m, DG_PK_DICT, NULL, 0));
    dg_pk *dict = m->stack[m->depth - 1];
    const dg_pk *pairs = args->v.items.n ? args->v.items.p[0] : NULL;
    if (!pairs || !is_sequence(pairs)) return DG_OK; /* nothing, or the factory of a defaultdict */
    for (size_t i = 0; i < pairs->v.items.n; i++) {
        const dg_pk *pair = pairs->v.items.p[i];
        if (!is_sequence(pair) || pair->v.items.n != 2) return wrong(m, "a dict from what are no pairs");
        DG_TRY(append(m, dict, pair->v.items.p[0]));
        DG_TRY(append(m, dict, pair->v.items.p[1]));
    }
    return DG_OK;
}

static dg_status push_object(machine *m)
{
    DG_TRY(push_items(m, DG_PK_DICT, NULL, 0));
    m->stack[m->depth - 1]->attributes = true;
    return DG_OK;
}

/* What `callable(*args)` stands for. Nothing is called: this is a table of meanings. */
static dg_status push_made(machine *m, const dg_pk *callable, dg_pk *args)
{
    if (args->kind != DG_PK_TUPLE) return wrong(m, "arguments that are no tuple");
    if (callable->kind != DG_PK_GLOBAL) return push_opaque(m, callable);
    const char *name = callable->v.name;
    dg_pk *first = args->v.items.n ? args->v.items.p[0] : NULL;
    if (!strncmp(name, "__torch__.", 10)) return push_object(m); /* TorchScript */
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        if (strcmp(allowed[i].name, name)) continue;
        switch (allowed[i].what) {
        case MAKE_TENSOR:
            return push_items(m, DG_PK_TENSOR, args->v.items.p, args->v.items.n);
        case MAKE_DICT:
            return push_dict(m, args);
        case MAKE_OBJECT:
            return push_object(m);
        case FIRST_TENSOR:
            if (first && first->kind == DG_PK_TENSOR) return push(m, first);
            break;
        case FIRST_ITEMS:
            if (!first) return push_items(m, DG_PK_LIST, NULL, 0);
            if (is_sequence(first)) return push(m, first);
            break;
        case FIRST_ANY:
            if (first) return push(m, first);
            break;
        }
    }
    return push_opaque(m, callable);
}

static dg_status reduce(machine *m)
{
    dg_pk *args, *callable;
    DG_TRY(pop(m, &args));
    DG_TRY(pop(m, &callable));
    return push_made(m, callable, args);
}

static dg_status newobj_ex(machine *m)
{
    dg_pk *kwargs, *args, *cls;
    DG_TRY(pop(m, &kwargs));
    DG_TRY(pop(m, &args));
    DG_TRY(pop(m, &cls));
    return push_made(m, cls, args);
}

/* An object's state: attributes for those that hold some, dropped for all others (an OrderedDict's _metadata
 * too). */
static dg_status build(machine *m)
{
    dg_pk *state, *object;
    DG_TRY(pop(m, &state));
    DG_TRY(top(m, &object));
    if (!object->attributes || state->kind != DG_PK_DICT || object == state) return DG_OK;
    for (size_t i = 0; i < state->v.items.n; i++) DG_TRY(append(m, object, state->v.items.p[i]));
    return DG_OK;
}

static dg_status persistent(machine *m)
{
    dg_pk *id;
    DG_TRY(pop(m, &id));
    if (id->kind != DG_PK_TUPLE || id->v.items.n < 5 || !dg_pk_is(id->v.items.p[0], "storage"))
        return wrong(m, "a persistent id that is no storage");
    DG_TRY(push_items(m, DG_PK_STORAGE, id->v.items.p, id->v.items.n));
    return append(m, m->storages, m->stack[m->depth - 1]);
}

static dg_status global_lines(machine *m)
{
    const char *module, *name;
    size_t n_module, n_name;
    DG_TRY(take_line(m, &module, &n_module));
    DG_TRY(take_line(m, &name, &n_name));
    return push_global(m, module, n_module, name, n_name);
}

/* Class and arguments from a mark on (INST has the class in two lines, OBJ on the stack). */
static dg_status old_object(machine *m, bool class_in_lines)
{
    dg_pk **items, *cls = NULL;
    size_t n;
    if (class_in_lines) {
        DG_TRY(global_lines(m));
        cls = m->stack[--m->depth];
    }
    DG_TRY(pop_mark(m, &items, &n));
    if (!cls && n == 0) return wrong(m, "an object without a class");
    return push_opaque(m, cls ? cls : items[0]);
}

/* ---- constants */

static dg_status push_int(machine *m, int64_t value)
{
    return push_new(m, (dg_pk){.kind = DG_PK_INT, .v.integer = value});
}

static dg_status push_bool(machine *m, bool value)
{
    return push_new(m, (dg_pk){.kind = DG_PK_BOOL, .v.integer = value});
}

static dg_status push_text(machine *m, dg_pk_kind kind, const char *p, size_t n)
{
    return push_new(m, (dg_pk){.kind = kind, .v.text = {p, n}});
}

/* An integer of `size` bytes. */
static dg_status take_int(machine *m, int size, bool is_signed)
{
    uint64_t u;
    DG_TRY(take_uint(m, size, &u));
    return push_int(m, is_signed ? (int32_t)(uint32_t)u : (int64_t)u);
}

/* Text of which `size` bytes say the length. */
static dg_status take_text(machine *m, int size, dg_pk_kind kind)
{
    uint64_t n;
    const unsigned char *b;
    DG_TRY(take_uint(m, size, &n));
    DG_TRY(take(m, n, &b));
    return push_text(m, kind, (const char *)b, (size_t)n);
}

static dg_status take_long(machine *m, int size)
{
    uint64_t n, u = 0;
    const unsigned char *b;
    DG_TRY(take_uint(m, size, &n));
    DG_TRY(take(m, n, &b));
    if (n > 8) return push_text(m, DG_PK_LONG, (const char *)b, (size_t)n);
    if (n && b[n - 1] & 0x80) u = UINT64_MAX; /* the sign */
    for (uint64_t i = n; i > 0; i--) u = u << 8 | b[i - 1];
    return push_int(m, (int64_t)u);
}

static dg_status take_float(machine *m)
{
    const unsigned char *b;
    uint64_t u = 0;
    double d;
    DG_TRY(take(m, 8, &b));
    for (int i = 0; i < 8; i++) u = u << 8 | b[i];
    memcpy(&d, &u, sizeof d);
    return push_new(m, (dg_pk){.kind = DG_PK_FLOAT, .v.number = d});
}

/* Numbers of protocol 0 are a line of text: I, L, F, and the indices of g and p. */
static dg_status line_number(machine *m, unsigned char op)
{
    char text[64], *end;
    DG_TRY(take_number_line(m, text));
    if (op == 'F') {
        double d = strtod(text, &end);
        if (*end || end == text) return wrong(m, "a number that is none");
        return push_new(m, (dg_pk){.kind = DG_PK_FLOAT, .v.number = d});
    }
    if (op == 'I' && (!strcmp(text, "00") || !strcmp(text, "01"))) return push_bool(m, text[1] == '1');
    long long i = strtoll(text, &end, 10);
    if (*end == 'L') end++;
    if (*end || end == text) return wrong(m, "a number that is none");
    if (op != 'g' && op != 'p') return push_int(m, i);
    if (i < 0) return wrong(m, "a negative memo index");
    return op == 'g' ? memo_get(m, (uint64_t)i) : memo_put(m, (uint64_t)i);
}

static dg_status line_text(machine *m, bool quoted)
{
    const char *p;
    size_t n;
    DG_TRY(take_line(m, &p, &n));
    if (quoted && (n < 2 || p[0] != p[n - 1])) return wrong(m, "a string without quotes");
    return push_text(m, DG_PK_STR, p + quoted, n - 2 * (size_t)quoted);
}

static dg_status memo_index(machine *m, int size, bool put)
{
    uint64_t index;
    DG_TRY(take_uint(m, size, &index));
    return put ? memo_put(m, index) : memo_get(m, index);
}

static dg_status marked(machine *m, dg_pk_kind kind)
{
    dg_pk **items;
    size_t n;
    DG_TRY(pop_mark(m, &items, &n));
    if (kind == DG_PK_DICT && n % 2) return wrong(m, "a key without its value");
    return push_items(m, kind, items, n);
}

static dg_status extend_marked(machine *m, dg_pk_kind kind)
{
    dg_pk **items;
    size_t n;
    DG_TRY(pop_mark(m, &items, &n));
    return extend(m, kind, items, n);
}

static dg_status extend_by(machine *m, dg_pk_kind kind, size_t n)
{
    dg_pk *items[2];
    for (size_t i = n; i > 0; i--) DG_TRY(pop(m, &items[i - 1]));
    return extend(m, kind, items, n);
}

static dg_status protocol(machine *m)
{
    uint64_t version;
    DG_TRY(take_uint(m, 1, &version));
    return version <= 5 ? DG_OK : wrong(m, "a protocol newer than 5");
}

static dg_status frame(machine *m)
{
    uint64_t length;
    DG_TRY(take_uint(m, 8, &length));
    return length <= (uint64_t)(m->end - m->p) ? DG_OK : wrong(m, "it is cut short");
}

static dg_status drop(machine *m)
{
    if (m->depth == 0) return wrong(m, "its stack is empty");
    m->depth--;
    return DG_OK;
}

static dg_status duplicate(machine *m)
{
    dg_pk *v;
    DG_TRY(top(m, &v));
    return push(m, v);
}

/* The opcodes in three groups; each hands on what it does not know. */
static dg_status run_object(machine *m, unsigned char op)
{
    switch (op) {
    case 'h':
        return memo_index(m, 1, false);
    case 'j':
        return memo_index(m, 4, false);
    case 'q':
        return memo_index(m, 1, true);
    case 'r':
        return memo_index(m, 4, true);
    case 0x94:
        return memo_put(m, m->n_memo);
    case 'c':
        return global_lines(m);
    case 0x93:
        return stack_global(m);
    case 'i':
        return old_object(m, true);
    case 'o':
        return old_object(m, false);
    case 'R':
    case 0x81:
        return reduce(m); /* cls.__new__(cls, *args) means the same here */
    case 0x92:
        return newobj_ex(m);
    case 'b':
        return build(m);
    case 'Q':
        return persistent(m);
    default:
        break;
    }
    m->p--;
    return wrong(m, "an opcode that is not known, or that no checkpoint needs");
}

static dg_status run_container(machine *m, unsigned char op)
{
    static dg_pk mark = {.kind = DG_PK_MARK};
    dg_pk **items;
    size_t n;
    switch (op) {
    case '(':
        return push(m, &mark);
    case '0':
        return drop(m);
    case '1':
        return pop_mark(m, &items, &n);
    case '2':
        return duplicate(m);
    case ']':
    case 0x8f:
        return push_items(m, DG_PK_LIST, NULL, 0);
    case '}':
        return push_items(m, DG_PK_DICT, NULL, 0);
    case ')':
        return push_items(m, DG_PK_TUPLE, NULL, 0);
    case 'l':
    case 0x91:
        return marked(m, DG_PK_LIST);
    case 'd':
        return marked(m, DG_PK_DICT);
    case 't':
        return marked(m, DG_PK_TUPLE);
    case 0x85:
        return pop_tuple(m, 1);
    case 0x86:
        return pop_tuple(m, 2);
    case 0x87:
        return pop_tuple(m, 3);
    case 'a':
        return extend_by(m, DG_PK_LIST, 1);
    case 'e':
    case 0x90:
        return extend_marked(m, DG_PK_LIST);
    case 's':
        return extend_by(m, DG_PK_DICT, 2);
    case 'u':
        return extend_marked(m, DG_PK_DICT);
    default:
        return run_object(m, op);
    }
}

static dg_status run_op(machine *m, unsigned char op)
{
    switch (op) {
    case 0x80:
        return protocol(m);
    case 0x95:
        return frame(m);
    case 'N':
        return push_new(m, (dg_pk){.kind = DG_PK_NONE});
    case 0x88:
        return push_bool(m, true);
    case 0x89:
        return push_bool(m, false);
    case 'J':
        return take_int(m, 4, true);
    case 'K':
        return take_int(m, 1, false);
    case 'M':
        return take_int(m, 2, false);
    case 0x8a:
        return take_long(m, 1);
    case 0x8b:
        return take_long(m, 4);
    case 'G':
        return take_float(m);
    case 'I':
    case 'L':
    case 'F':
    case 'g':
    case 'p':
        return line_number(m, op);
    case 'S':
        return line_text(m, true);
    case 'V':
        return line_text(m, false);
    case 'T': /* str of Python 2, as U */
    case 'X':
        return take_text(m, 4, DG_PK_STR);
    case 'U':
    case 0x8c:
        return take_text(m, 1, DG_PK_STR);
    case 0x8d:
        return take_text(m, 8, DG_PK_STR);
    case 'B':
        return take_text(m, 4, DG_PK_BYTES);
    case 'C':
        return take_text(m, 1, DG_PK_BYTES);
    case 0x8e:
    case 0x96:
        return take_text(m, 8, DG_PK_BYTES);
    default:
        return run_container(m, op);
    }
}

dg_status dg_pickle_read(const unsigned char *bytes, size_t size, const char *where, dg_arena *arena,
                         dg_pickle *out, dg_error *err)
{
    size_t limit = size < MAX_PICKLE ? size : MAX_PICKLE;
    machine m = {.start = bytes,
                 .p = bytes,
                 .end = bytes + limit,
                 .where = where,
                 .arena = arena,
                 .out = out,
                 .err = err};
    *out = (dg_pickle){0};
    dg_pk *root = NULL;
    dg_status s = push_items(&m, DG_PK_LIST, NULL, 0);
    if (s == DG_OK) m.storages = m.stack[--m.depth];
    for (bool stop = false; s == DG_OK && !stop;) {
        const unsigned char *op;
        s = take(&m, 1, &op);
        stop = s == DG_OK && *op == '.';
        if (s == DG_OK) s = stop ? pop(&m, &root) : run_op(&m, *op);
    }
    if (s == DG_OK) s = dg_str_check(&out->opaque, err);
    out->root = root;
    out->storages = m.storages;
    out->used = (size_t)(m.p - bytes);
    dg_free(m.stack);
    dg_free(m.memo);
    return s;
}

/* ---- asking */

bool dg_pk_is(const dg_pk *v, const char *text)
{
    size_t n = strlen(text);
    return v->kind == DG_PK_STR && v->v.text.n == n && !memcmp(v->v.text.p, text, n);
}

const dg_pk *dg_pk_get(const dg_pk *dict, const char *key)
{
    for (size_t i = dict->kind == DG_PK_DICT ? dict->v.items.n : 0; i >= 2; i -= 2)
        if (dg_pk_is(dict->v.items.p[i - 2], key)) return dict->v.items.p[i - 1];
    return NULL;
}
