/* pth.h - PyTorch files (.pth, .pt, .bin) without Python: the zip kind of torch >= 1.6 (TorchScript archives
 * too) and the legacy kind before it.
 *
 * The pickle inside is run by pickle.h, which knows tensors and plain containers and calls nothing. The state
 * dict is the first of the keys model, state_dict, model_state_dict, model_state, module, model_ema that
 * holds a tensor, else the top level itself. Names are the path of keys joined by '.'. Several names may
 * share one storage; views keep their strides. Files written on big-endian machines are refused.
 *
 * A file whose pickle names a function that no honest checkpoint needs (os.system, eval, ...) is refused with
 * its name, although nothing would have been executed: the user should not hand it to another program. */
#ifndef DG_IO_PTH_H
#define DG_IO_PTH_H

#include "digpt/base.h"

struct dg_weights_builder; /* weights_build.h */

/* Adds the state dict's tensors and the scalars beside it to b. bytes[0..size) must outlive what is built. */
dg_status dg_pth_parse(const void *bytes, size_t size, const char *where, struct dg_weights_builder *b,
                       dg_error *err);

#endif
