/* exe.c - compiling a program and running it. State is donated: a leaf with an update gives its buffer to the
 * new value, so a step needs no second copy of the parameters. */
#include "emit.h"
#include "pjrt.h"

struct dg_backend_exe {
    const dg_pjrt *self;
    const dg_program *program;
    dg_backend_store *store;
    PJRT_LoadedExecutable *loaded;
    uint32_t n_inputs, n_results;
    dg_pjrt_tensor **tensors; /* [n_leaves]; NULL: an input */
    PJRT_Buffer **arguments;  /* [n_leaves] */
    PJRT_Buffer **results;    /* [n_results] outputs, then updates in the order of the leaves */
    PJRT_Event **lent;        /* [n_leaves] of inputs during a run */
};

/* CompileOptionsProto { executable_build_options { num_replicas: 1, num_partitions: 1 } }: the least that XLA
 * takes; with no options at all it aborts the process. */
static const char compile_options[] = {0x1a, 0x04, 0x20, 0x01, 0x28, 0x01};

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

static dg_status compile_text(dg_backend_exe *exe, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    static const char format[] = "mlir";
    dg_text text = {.host = self->host};
    dg_status status = dg_emit_program(exe->program, &text, err);
    if (status == DG_OK) {
        PJRT_Program program = {0};
        program.struct_size = PJRT_Program_STRUCT_SIZE;
        program.code = text.bytes;
        program.code_size = text.length;
        program.format = format;
        program.format_size = strlen(format);
        DG_PJRT_ARGS(PJRT_Client_Compile, args);
        args.client = self->client;
        args.program = &program;
        args.compile_options = compile_options;
        args.compile_options_size = sizeof compile_options;
        status = DG_PJRT_CALL(self->api, PJRT_Client_Compile, args, err);
        if (status == DG_OK)
            exe->loaded = args.executable;
        else
            dg_fail_in(err, "program %s", exe->program->name);
    }
    dg_text_free(&text);
    return status;
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
        DG_TRY(dg_pjrt_store_add(exe->store, leaf->name, &p->values[leaf->value].type, err));
        exe->tensors[i] = dg_pjrt_store_find(exe->store, leaf->name);
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
    exe->arguments = host->allocate((p->n_leaves + 1) * sizeof *exe->arguments);
    exe->lent = host->allocate((p->n_leaves + 1) * sizeof *exe->lent);
    dg_status status = exe->tensors && exe->arguments && exe->lent
                           ? bind_leaves(exe, err)
                           : dg_fail(err, DG_ERR_NOMEM, "out of memory for program %s", p->name);
    if (status == DG_OK) {
        exe->results = host->allocate((exe->n_results + 1) * sizeof *exe->results);
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

static dg_status gather_arguments(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_program *p = exe->program;
    for (uint32_t i = 0, k = 0; i < p->n_leaves; i++) {
        dg_status status;
        if (exe->tensors[i]) {
            status = dg_pjrt_store_settle(exe->store, exe->tensors[i], err);
            exe->arguments[i] = exe->tensors[i]->device;
        } else
            status = dg_pjrt_lend(exe->self, &p->values[p->leaves[i].value].type, run->inputs[k++],
                                  &exe->arguments[i], &exe->lent[i], err);
        if (status != DG_OK) return dg_fail_in(err, "program %s, leaf %s", p->name, p->leaves[i].name);
    }
    return DG_OK;
}

/* Takes back the inputs' memory. */
static void return_inputs(dg_backend_exe *exe)
{
    dg_error none = DG_ERROR_INIT;
    for (uint32_t i = 0; i < exe->program->n_leaves; i++)
        if (!exe->tensors[i]) {
            dg_pjrt_free(exe->self, exe->arguments[i]);
            dg_pjrt_await(exe->self, exe->lent[i], "returning an input", &none);
            exe->arguments[i] = NULL;
            exe->lent[i] = NULL;
        }
}

static dg_status execute(dg_backend_exe *exe, dg_error *err)
{
    const dg_pjrt *self = exe->self;
    PJRT_ExecuteOptions options = {0};
    options.struct_size = PJRT_ExecuteOptions_STRUCT_SIZE;
    PJRT_Buffer *const *arguments[1] = {exe->arguments};
    PJRT_Buffer **results[1] = {exe->results};
    PJRT_Event *complete[1] = {NULL};
    DG_PJRT_ARGS(PJRT_LoadedExecutable_Execute, args);
    args.executable = exe->loaded;
    args.options = &options;
    args.argument_lists = arguments;
    args.num_devices = 1;
    args.num_args = exe->program->n_leaves;
    args.output_lists = results;
    args.device_complete_events = complete;
    memset(exe->results, 0, exe->n_results * sizeof *exe->results);
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_LoadedExecutable_Execute, args, err));
    return dg_pjrt_await(self, complete[0], "running", err);
}

/* Puts the new state into the store, or after a failed run forgets what it took along. */
static void take_updates(dg_backend_exe *exe, bool good)
{
    const dg_program *p = exe->program;
    for (uint32_t i = 0, k = p->n_outputs; i < p->n_leaves; i++) {
        if (p->leaves[i].update < 0) continue;
        dg_pjrt_tensor *t = exe->tensors[i];
        PJRT_Buffer *result = exe->results[k];
        exe->results[k++] = NULL;
        if (good) {
            dg_pjrt_store_replace(exe->store, t, result);
            continue;
        }
        dg_pjrt_free(exe->self, result);
        if (t->device && dg_pjrt_is_gone(exe->self, t->device)) dg_pjrt_store_replace(exe->store, t, NULL);
    }
}

static dg_status take_outputs(dg_backend_exe *exe, const dg_run *run, bool good, dg_error *err)
{
    const dg_program *p = exe->program;
    dg_status status = DG_OK;
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        if (good && status == DG_OK && run->outputs[k]) {
            status = dg_pjrt_download(exe->self, exe->results[k], &p->values[p->outputs[k].value].type,
                                      run->outputs[k], err);
            if (status != DG_OK) dg_fail_in(err, "program %s, output %s", p->name, p->outputs[k].name);
        }
        dg_pjrt_free(exe->self, exe->results[k]);
        exe->results[k] = NULL;
    }
    return status;
}

dg_status dg_pjrt_run(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_program *p = exe->program;
    if (run->n_inputs != exe->n_inputs || run->n_outputs != p->n_outputs)
        return dg_fail(err, DG_ERR_INVALID, "program %s has %u inputs and %u outputs, not %u and %u", p->name,
                       exe->n_inputs, p->n_outputs, run->n_inputs, run->n_outputs);
    dg_status status = gather_arguments(exe, run, err);
    if (status == DG_OK) {
        status = execute(exe, err);
        if (status != DG_OK) dg_fail_in(err, "program %s", p->name);
        take_updates(exe, status == DG_OK);
        dg_status outputs = take_outputs(exe, run, status == DG_OK, err);
        if (status == DG_OK) status = outputs;
    }
    return_inputs(exe);
    return status;
}
