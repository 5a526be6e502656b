/* captions.h - the text side of a run: the vocabulary that its captions are written in. */
#ifndef DG_TRAIN_CAPTIONS_H
#define DG_TRAIN_CAPTIONS_H

#include "data/source.h"
#include "data/text.h"
#include "train/parts.h"

/* Captions that a vocabulary is made from: the first so many samples. */
#define DG_CAPTIONS_READ 4096

/* The vocabulary of a recipe whose data.caption_length is set (else *out is NULL): data.vocabulary, or
 * RUN/vocabulary.txt if it is there, or made from the source's captions and written there. At most
 * data.vocabulary_size ids. */
dg_status dg_captions_open(const dg_recipe *recipe, const dg_source *source, const char *run_dir,
                           dg_vocabulary **out, dg_error *err);

#endif
