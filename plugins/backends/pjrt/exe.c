/* exe.c - compiling a program and running it. State is donated: a leaf with an update gives its buffer to the
 * new value, so a step needs no second copy of the parameters. */
#include "pjrt.h"

struct dg_backend_exe {
    const dg_pjrt *self;
    const dg_program *program;
    dg_backend_store *store;
    PJRT_LoadedExecutable *loaded;
    uint32_t n_inputs, n_results;
    dg_pjrt_tensor **tensors; /* [n_leaves]; NULL: an input */
    PJRT_Buffer **arguments;  /* [replicas, n_leaves] */
    PJRT_Buffer **results;    /* [replicas, n_results] outputs, then updates in the order of the leaves */
    PJRT_Event **lent;        /* [replicas, n_leaves] of inputs during a run */
};

/* CompileOptionsProto { executable_build_options { num_replicas: n, num_partitions: 1 } }: the least that XLA
 * takes; with no options at all it aborts the process. n is below 128: one byte. */
size_t dg_pjrt_options(uint32_t n_replicas, char out[DG_PJRT_OPTIONS_SIZE])
{
    const char options[] = {0x1a, 0x04, 0x20, (char)n_replicas, 0x28, 0x01};
    memcpy(out, options, sizeof options);
    return sizeof options;
}

/* ---- compiling */

/* What XLA planned, for whoever looks at the log. */
static void log_memory(const dg_pjrt *self, const dg_program *p, PJRT_Executable *executable)
{
    if (!DG_PJRT_HAS(self->api, PJRT_Executable_GetCompiledMemoryStats)) return;
    char line[256];
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Executable_GetCompiledMemoryStats, args);
    args.executable = executable;
    if (DG_PJRT_CALL(self->api, PJRT_Executable_GetCompiledMemoryStats, args, &none) != DG_OK) return;
    snprintf(line, sizeof line,
             "pjrt: program %s: arguments %.1f MB, outputs %.1f MB of which %.1f MB in place, "
             "temporary %.1f MB",
             p->name, (double)args.argument_size_in_bytes * 1e-6, (double)args.output_size_in_bytes * 1e-6,
             (double)args.alias_size_in_bytes * 1e-6, (double)args.temp_size_in_bytes * 1e-6);
    self->host->log(0, line);
}

/* XLA must return as many results as the run makes room for. */
static dg_status check_results(const dg_backend_exe *exe, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_LoadedExecutable_GetExecutable, get);
    get.loaded_executable = exe->loaded;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_LoadedExecutable_GetExecutable, get, err));
    DG_PJRT_ARGS(PJRT_Executable_NumOutputs, count);
    count.executable = get.executable;
    dg_status status = DG_PJRT_CALL(self->api, PJRT_Executable_NumOutputs, count, err);
    if (status == DG_OK && count.num_outputs != exe->n_results)
        status = dg_fail(err, DG_ERR_INTERNAL, "program %s: XLA returns %zu results instead of %u",
                         exe->program->name, count.num_outputs, exe->n_results);
    if (status == DG_OK) log_memory(self, exe->program, get.executable);
    DG_PJRT_ARGS(PJRT_Executable_Destroy, destroy);
    destroy.executable = get.executable;
    DG_PJRT_CALL(self->api, PJRT_Executable_Destroy, destroy, &none);
    return status;
}

dg_status dg_pjrt_text(const dg_pjrt *self, const dg_program *p, PJRT_Program *out, dg_error *err)
{
    static const char format[] = "mlir";
    dg_text text = {.host = self->host};
    dg_status status = dg_emit_program(p, self->n_replicas, &text, err);
    if (status != DG_OK) {
        dg_text_free(&text);
        return status;
    }
    *out = (PJRT_Program){0};
    out->struct_size = PJRT_Program_STRUCT_SIZE;
    out->code = text.bytes;
    out->code_size = text.length;
    out->format = format;
    out->format_size = strlen(format);
    return DG_OK;
}

static dg_status compile_new(dg_backend_exe *exe, const PJRT_Program *program, const char *options,
                             size_t n_options, dg_error *err)
{
    DG_PJRT_ARGS(PJRT_Client_Compile, args);
    args.client = exe->self->client;
    args.program = program;
    args.compile_options = options;
    args.compile_options_size = n_options;
    if (DG_PJRT_CALL(exe->self->api, PJRT_Client_Compile, args, err) != DG_OK)
        return dg_fail_in(err, "program %s", exe->program->name);
    exe->loaded = args.executable;
    return DG_OK;
}

/* In a child process first if there is a helper, so that the plugin may die of it; here only what such a
 * child cannot hand over. */
static dg_status compile_safely(dg_backend_exe *exe, const dg_pjrt_key *key, const PJRT_Program *program,
                                const char *options, size_t n_options, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    char *bytes = NULL;
    size_t n_bytes = 0;
    dg_error none = DG_ERROR_INIT;
    DG_TRY(dg_pjrt_helper_compile(self, exe->program->name, program, &bytes, &n_bytes, err));
    if (bytes) {
        exe->loaded = dg_pjrt_from_bytes(self, bytes, n_bytes, &none);
        if (exe->loaded) {
            self->host->log(0, "pjrt: a program was compiled in a child process");
            dg_pjrt_cache_keep(self, key, bytes, n_bytes);
        }
        self->host->release(bytes);
    }
    if (exe->loaded) return DG_OK;
    DG_TRY(compile_new(exe, program, options, n_options, err));
    dg_pjrt_cache_save(self, key, exe->loaded);
    return DG_OK;
}

/* From the cache, or by XLA. */
static dg_status compile_text(dg_backend_exe *exe, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    PJRT_Program program;
    dg_pjrt_key key;
    char options[DG_PJRT_OPTIONS_SIZE];
    size_t n_options = dg_pjrt_options(self->n_replicas, options);
    DG_TRY(dg_pjrt_text(self, exe->program, &program, err));
    dg_pjrt_cache_key(self, &program, options, n_options, &key);
    exe->loaded = dg_pjrt_cache_load(self, &key);
    dg_status status = exe->loaded ? DG_OK : compile_safely(exe, &key, &program, options, n_options, err);
    self->host->release(program.code);
    return status;
}

/* Finds or makes the tensor of a leaf that is no input. */
static dg_status bind_state(dg_backend_exe *exe, uint32_t i, dg_error *err)
{
    const dg_program_leaf *leaf = &exe->program->leaves[i];
    const bool split = leaf->per == DG_PER_RANK && exe->self->n_replicas > 1;
    dg_type type = exe->program->values[leaf->value].type;
    if (split) type.dims[0] *= exe->self->n_replicas;
    DG_TRY(dg_pjrt_store_add(exe->store, leaf->name, &type, err));
    dg_pjrt_tensor *t = exe->tensors[i] = dg_pjrt_store_find(exe->store, leaf->name);
    if (split ? t->whole : t->split)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "program %s wants tensor %s %s on each replica, and another program does not",
                       exe->program->name, leaf->name, split ? "in parts" : "whole");
    t->whole = !split;
    return split ? dg_pjrt_store_split(exe->store, t, err) : DG_OK;
}

static dg_status bind_leaves(dg_backend_exe *exe, dg_error *err)
{
    const dg_program *p = exe->program;
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const dg_program_leaf *leaf = &p->leaves[i];
        if (leaf->kind == DG_LEAF_INPUT) {
            if (leaf->update >= 0)
                return dg_fail(err, DG_ERR_UNSUPPORTED, "program %s updates its input %s", p->name,
                               leaf->name);
            exe->n_inputs++;
            continue;
        }
        DG_TRY(bind_state(exe, i, err));
        if (leaf->update >= 0) exe->n_results++;
    }
    return DG_OK;
}

dg_status dg_pjrt_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                          dg_error *err)
{
    const dg_pjrt *pjrt = self;
    const dg_host *host = pjrt->host;
    dg_backend_exe *exe = host->allocate(sizeof *exe);
    if (!exe) return dg_fail(err, DG_ERR_NOMEM, "out of memory for program %s", p->name);
    exe->self = pjrt;
    exe->program = p;
    exe->store = s;
    exe->n_results = p->n_outputs;
    exe->tensors = host->allocate((p->n_leaves + 1) * sizeof *exe->tensors);
    exe->arguments = host->allocate((p->n_leaves + 1) * pjrt->n_replicas * sizeof *exe->arguments);
    exe->lent = host->allocate((p->n_leaves + 1) * pjrt->n_replicas * sizeof *exe->lent);
    dg_status status = exe->tensors && exe->arguments && exe->lent
                           ? bind_leaves(exe, err)
                           : dg_fail(err, DG_ERR_NOMEM, "out of memory for program %s", p->name);
    if (status == DG_OK) {
        exe->results = host->allocate((exe->n_results + 1) * pjrt->n_replicas * sizeof *exe->results);
        if (!exe->results) status = dg_fail(err, DG_ERR_NOMEM, "out of memory for program %s", p->name);
    }
    if (status == DG_OK) status = compile_text(exe, err);
    if (status == DG_OK) status = check_results(exe, err);
    if (status == DG_OK)
        *out = exe;
    else
        dg_pjrt_release(exe);
    return status;
}

void dg_pjrt_release(dg_backend_exe *exe)
{
    if (!exe) return;
    const dg_host *host = exe->self->host;
    if (exe->loaded) {
        dg_error none = DG_ERROR_INIT;
        DG_PJRT_ARGS(PJRT_LoadedExecutable_Destroy, args);
        args.executable = exe->loaded;
        DG_PJRT_CALL(exe->self->api, PJRT_LoadedExecutable_Destroy, args, &none);
    }
    void *parts[] = {exe->tensors, exe->arguments, exe->results, exe->lent, exe};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i]) host->release(parts[i]);
}

/* ---- running */

/* The arguments of one replica. */
static dg_status gather_arguments(dg_backend_exe *exe, const dg_run *run, uint32_t replica, dg_error *err)
{
    const dg_program *p = exe->program;
    PJRT_Buffer **arguments = exe->arguments + replica * p->n_leaves;
    PJRT_Event **lent = exe->lent + replica * p->n_leaves;
    for (uint32_t i = 0, k = 0; i < p->n_leaves; i++) {
        dg_status status;
        if (exe->tensors[i]) {
            status = dg_pjrt_store_settle(exe->store, exe->tensors[i], err);
            arguments[i] = exe->tensors[i]->device[replica];
        } else {
            const dg_type *type = &p->values[p->leaves[i].value].type;
            const char *data = run->inputs[k++];
            if (run->ranks > 1 && p->leaves[i].per == DG_PER_SAMPLE) data += replica * dg_type_bytes(type);
            status = dg_pjrt_lend(exe->self, replica, type, data, &arguments[i], &lent[i], err);
        }
        if (status != DG_OK) return dg_fail_in(err, "program %s, leaf %s", p->name, p->leaves[i].name);
    }
    return DG_OK;
}

/* Takes back the inputs' memory. */
static void return_inputs(dg_backend_exe *exe)
{
    dg_error none = DG_ERROR_INIT;
    uint32_t n = exe->program->n_leaves;
    for (uint32_t i = 0; i < n * exe->self->n_replicas; i++)
        if (!exe->tensors[i % n]) {
            dg_pjrt_free(exe->self, exe->arguments[i]);
            dg_pjrt_await(exe->self, exe->lent[i], "returning an input", &none);
            exe->arguments[i] = NULL;
            exe->lent[i] = NULL;
        }
}

static dg_status execute(dg_backend_exe *exe, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    const uint32_t n = self->n_replicas;
    PJRT_ExecuteOptions options = {0};
    options.struct_size = PJRT_ExecuteOptions_STRUCT_SIZE;
    PJRT_Buffer *const *arguments[DG_EMIT_MOST_REPLICAS];
    PJRT_Buffer **results[DG_EMIT_MOST_REPLICAS];
    PJRT_Event *complete[DG_EMIT_MOST_REPLICAS] = {NULL};
    for (uint32_t r = 0; r < n; r++) {
        arguments[r] = exe->arguments + r * exe->program->n_leaves;
        results[r] = exe->results + r * exe->n_results;
    }
    DG_PJRT_ARGS(PJRT_LoadedExecutable_Execute, args);
    args.executable = exe->loaded;
    args.options = &options;
    args.argument_lists = arguments;
    args.num_devices = n;
    args.num_args = exe->program->n_leaves;
    args.output_lists = results;
    args.device_complete_events = complete;
    memset(exe->results, 0, n * exe->n_results * sizeof *exe->results);
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_LoadedExecutable_Execute, args, err));
    dg_status status = DG_OK;
    for (uint32_t r = 0; r < n; r++) { /* all of them, also after a failure: they are to be destroyed */
        dg_error late = DG_ERROR_INIT;
        dg_status s = dg_pjrt_await(self, complete[r], "running", status == DG_OK ? err : &late);
        if (status == DG_OK) status = s;
    }
    return status;
}

/* Puts the new state of a replica into the store, or after a failed run forgets what it took along. */
static void take_updates(dg_backend_exe *exe, uint32_t replica, bool good)
{
    const dg_program *p = exe->program;
    PJRT_Buffer **results = exe->results + replica * exe->n_results;
    for (uint32_t i = 0, k = p->n_outputs; i < p->n_leaves; i++) {
        if (p->leaves[i].update < 0) continue;
        dg_pjrt_tensor *t = exe->tensors[i];
        PJRT_Buffer *result = results[k];
        results[k++] = NULL;
        if (good) {
            dg_pjrt_store_replace(exe->store, t, replica, result);
            continue;
        }
        dg_pjrt_free(exe->self, result);
        if (t->device[replica] && dg_pjrt_is_gone(exe->self, t->device[replica]))
            dg_pjrt_store_replace(exe->store, t, replica, NULL);
    }
}

/* Copies the outputs of a replica if they are wanted, and drops them. */
static dg_status take_outputs(dg_backend_exe *exe, uint32_t replica, void *const *wanted, dg_error *err)
{
    const dg_program *p = exe->program;
    PJRT_Buffer **results = exe->results + replica * exe->n_results;
    dg_status status = DG_OK;
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        if (wanted && status == DG_OK && wanted[k]) {
            status =
                dg_pjrt_download(exe->self, results[k], &p->values[p->outputs[k].value].type, wanted[k], err);
            if (status != DG_OK) dg_fail_in(err, "program %s, output %s", p->name, p->outputs[k].name);
        }
        dg_pjrt_free(exe->self, results[k]);
        results[k] = NULL;
    }
    return status;
}

dg_status dg_pjrt_run(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_program *p = exe->program;
    const uint32_t n = exe->self->n_replicas;
    if (run->n_inputs != exe->n_inputs || run->n_outputs != p->n_outputs)
        return dg_fail(err, DG_ERR_INVALID, "program %s has %u inputs and %u outputs, not %u and %u", p->name,
                       exe->n_inputs, p->n_outputs, run->n_inputs, run->n_outputs);
    if (run->ranks > 1 && run->ranks != n)
        return dg_fail(err, DG_ERR_INVALID, "program %s runs on %u replicas and was given inputs for %u",
                       p->name, n, run->ranks);
    dg_status status = DG_OK;
    for (uint32_t r = 0; r < n && status == DG_OK; r++) status = gather_arguments(exe, run, r, err);
    if (status == DG_OK) {
        status = execute(exe, err);
        if (status != DG_OK) dg_fail_in(err, "program %s", p->name);
        const bool good = status == DG_OK;
        for (uint32_t r = 0; r < n; r++) {
            take_updates(exe, r, good);
            dg_status outputs = take_outputs(exe, r, good && r == 0 ? run->outputs : NULL, err);
            if (status == DG_OK) status = outputs;
        }
    }
    return_inputs(exe);
    return status;
}
