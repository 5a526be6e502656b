/* probe_graph.h - the two programs of a linear probe, which share their state. */
#ifndef DG_TRAIN_PROBE_GRAPH_H
#define DG_TRAIN_PROBE_GRAPH_H

#include "train/probe.h"

#define DG_PROBE_WEIGHT "probe.weight" /* f32 [n classes, width] */
#define DG_PROBE_VARIANCE "probe.running_var"

/* A step. Inputs "x" f32 [batch, width], "label" i32 [batch], "lr" f32 [n]; output "losses" f32 [n]. State:
 * weights and biases, their momenta, the running mean and variance. spec->batch is the batch. */
dg_status dg_probe_train_graph(const dg_probe_spec *spec, int64_t width, dg_graph **out, dg_error *err);
/* Logits with the running statistics. Input "x" f32 [batch, width]; output "logits" f32 [batch, n classes].
 */
dg_status dg_probe_eval_graph(const dg_probe_spec *spec, int64_t width, dg_graph **out, dg_error *err);

#endif
