/* run.c - a step: inputs to the device on the copy stream, then all kernels as one graph on the compute
 * stream, then outputs. The first run goes kernel by kernel, which loads all code; the second one captures
 * the graph. */
#include "cuda.h"

static const char running[] = "running the step";

static dg_status fail_at(const dg_backend_exe *exe, const dg_cuda_step *step, cudaError_t e, dg_error *err)
{
    const dg_program_node *n = step->node < exe->plan.p->n_nodes ? &exe->plan.p->nodes[step->node] : NULL;
    dg_status status = dg_cuda_check(e, running, err);
    dg_fail_in(err, "program %s, node %u, %s in '%s'", exe->plan.p->name, step->node, n ? n->op : "update",
               n && n->scope ? n->scope : "");
    return status;
}

static dg_status launch_all(dg_backend_exe *exe, dg_error *err)
{
    const dg_cuda_plan *c = &exe->plan;
    for (uint32_t i = 0; i < c->n_steps; i++) {
        if (exe->marks) DG_TRY(dg_cuda_check(cudaEventRecord(exe->marks[i], c->cuda->compute), running, err));
        cudaError_t e = c->steps[i].launch(c->steps[i].args, c->cuda->compute);
        if (e != cudaSuccess) return fail_at(exe, &c->steps[i], e, err);
    }
    if (exe->marks)
        DG_TRY(dg_cuda_check(cudaEventRecord(exe->marks[c->n_steps], c->cuda->compute), running, err));
    return DG_OK;
}

static dg_status capture(dg_backend_exe *exe, dg_error *err)
{
    cudaStream_t stream = exe->plan.cuda->compute;
    cudaGraph_t graph = NULL;
    static const char what[] = "capturing the step as a graph";
    DG_TRY(dg_cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), what, err));
    dg_status status = launch_all(exe, err);
    cudaError_t e = cudaStreamEndCapture(stream, &graph);
    if (status == DG_OK) status = dg_cuda_check(e, what, err);
    if (status == DG_OK) status = dg_cuda_check(cudaGraphInstantiate(&exe->graph, graph, 0), what, err);
    if (graph) cudaGraphDestroy(graph);
    return status;
}

static dg_status upload_inputs(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_cuda_plan *c = &exe->plan;
    for (uint32_t k = 0; k < c->n_inputs; k++)
        if (c->inputs[k])
            DG_TRY(dg_cuda_upload(c->cuda, c->inputs[k], run->inputs[k], c->input_bytes[k], err));
    DG_TRY(dg_cuda_check(cudaEventRecord(c->cuda->copied, c->cuda->copy), running, err));
    return dg_cuda_check(cudaStreamWaitEvent(c->cuda->compute, c->cuda->copied, 0), running, err);
}

static dg_status add_times(dg_backend_exe *exe, dg_error *err)
{
    const dg_cuda_plan *c = &exe->plan;
    for (uint32_t i = 0; i < c->n_steps; i++) {
        float milliseconds = 0;
        uint32_t node = c->steps[i].node;
        DG_TRY(dg_cuda_check(cudaEventElapsedTime(&milliseconds, exe->marks[i], exe->marks[i + 1]),
                             "timing a step", err));
        if (node < c->p->n_nodes) exe->times[node].seconds += milliseconds * 1e-3;
    }
    for (uint32_t n = 0; n < c->p->n_nodes; n++) exe->times[n].runs++;
    return DG_OK;
}

dg_status dg_cuda_run(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_cuda_plan *c = &exe->plan;
    dg_cuda *cuda = c->cuda;
    if (run->n_inputs != c->n_inputs || run->n_outputs != c->p->n_outputs)
        return dg_fail(err, DG_ERR_INVALID, "program %s has %u inputs and %u outputs, not %u and %u",
                       c->p->name, c->n_inputs, c->p->n_outputs, run->n_inputs, run->n_outputs);
    DG_TRY(dg_cuda_check(cudaSetDevice(cuda->device), running, err));
    bool by_graph = !cuda->eager && !exe->marks && exe->runs > 0 && c->n_steps > 0;
    if (by_graph && !exe->graph) DG_TRY(capture(exe, err));
    DG_TRY(upload_inputs(exe, run, err));
    if (by_graph)
        DG_TRY(dg_cuda_check(cudaGraphLaunch(exe->graph, cuda->compute), running, err));
    else
        DG_TRY(launch_all(exe, err));
    DG_TRY(dg_cuda_check(cudaStreamSynchronize(cuda->compute), running, err));
    exe->runs++;
    for (uint32_t k = 0; k < c->p->n_outputs; k++)
        if (run->outputs[k])
            DG_TRY(dg_cuda_download(cuda, run->outputs[k], c->outputs[k],
                                    (uint64_t)dg_type_bytes(&c->p->values[c->p->outputs[k].value].type),
                                    err));
    return exe->marks ? add_times(exe, err) : DG_OK;
}

/* ---- times of nodes: an event before each step, so these runs go kernel by kernel */

static void free_marks(dg_backend_exe *exe)
{
    for (uint32_t i = 0; exe->marks && i <= exe->plan.n_steps; i++)
        if (exe->marks[i]) cudaEventDestroy(exe->marks[i]);
    exe->plan.cuda->host->release(exe->marks);
    exe->marks = NULL;
}

void dg_cuda_profile(dg_backend_exe *exe, bool on)
{
    const dg_cuda_plan *c = &exe->plan;
    free_marks(exe);
    if (!on) return;
    for (uint32_t n = 0; n < c->p->n_nodes; n++) exe->times[n] = (dg_node_time){n, 0, 0};
    exe->marks = c->cuda->host->allocate((c->n_steps + 1) * sizeof *exe->marks);
    for (uint32_t i = 0; exe->marks && i <= c->n_steps; i++)
        if (cudaEventCreate(&exe->marks[i]) != cudaSuccess) {
            free_marks(exe);
            return;
        }
}

dg_status dg_cuda_times(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err)
{
    (void)err;
    *n = exe->plan.p->n_nodes;
    for (uint32_t i = 0; i < room && i < *n; i++) out[i] = exe->times[i];
    return DG_OK;
}
