/* ranks.h - the processes that train one run together, and how they keep in step.
 *
 * What a launcher has started is read from the environment (Open MPI's, MPICH's and Slurm's variables, or
 * RANK and WORLD_SIZE); the process joins through the engine that knows the launcher (digpt/collective.h). A
 * process that nothing has started is alone, and then all of this costs nothing.
 *
 * Ranks stay together by one rule: whatever they do together begins with dg_ranks_agree, to which each brings
 * its own status. So a rank that fails between two of them brings its error to the next, where all others
 * learn of it and end with the same message. Who fails where others wait inside a program cannot do that, and
 * gives up instead. */
#ifndef DG_TRAIN_RANKS_H
#define DG_TRAIN_RANKS_H

#include "data/loader.h"
#include "plugin/component.h"
#include "train/parts.h"

#include "digpt/collective.h"

typedef struct dg_ranks {
    dg_component engine; /* ref.factory NULL: this process is alone */
    dg_collective all;   /* rank 0 of 1 when it is alone */
    int32_t *votes;      // [world, 2]
    bool failed;         /* all ranks know of a failure */
    bool lost;           /* this one can't speak with the others any more */
} dg_ranks;

/* Starts as {0}; ends with dg_ranks_close, also after a failure. With more than one rank, lines of the log
 * are from rank 0, and warnings of the others say whose they are. */
dg_status dg_ranks_open(const dg_registry *registry, dg_ranks *r, dg_error *err);
/* Waits for the others first, unless something went wrong that they do not know of. */
void dg_ranks_close(dg_ranks *r);

/* How many processes the environment announces, 1 when it says nothing; *launcher: by whom. DG_ERR_INVALID
 * for numbers that cannot be. */
dg_status dg_ranks_announced(int64_t *rank, int64_t *world, const char **launcher, dg_error *err);

static inline bool dg_ranks_first(const dg_ranks *r)
{
    return r->all.rank == 0;
}
static inline bool dg_ranks_alone(const dg_ranks *r)
{
    return r->all.world <= 1;
}

/* After a failure: do all ranks have the same error, so that one of them should tell it? */
static inline bool dg_ranks_told(const dg_ranks *r)
{
    return r->failed || !r->engine.self;
}

/* Waits for all ranks. DG_OK if every one brings that; otherwise all get the first one's error, which says
 * whose it is. Further calls after that return `mine` at once. */
dg_status dg_ranks_agree(dg_ranks *r, dg_status mine, dg_error *err);
/* The same, and *flag becomes true on all if it is on one. */
dg_status dg_ranks_any(dg_ranks *r, dg_status mine, bool *flag, dg_error *err);
/* The same, and values [n] become their sums. */
dg_status dg_ranks_sum(dg_ranks *r, dg_status mine, void *values, uint64_t n, dg_sum_type type,
                       dg_error *err);
/* The same, and all [world, bytes] becomes what each has in `one`. */
dg_status dg_ranks_gather(dg_ranks *r, dg_status mine, const void *one, void *all, uint64_t bytes,
                          dg_error *err);
/* All must have the same n texts; `names` says what each is. DG_ERR_MISMATCH names the first rank that
 * differs from rank 0, and in what. */
dg_status dg_ranks_same(dg_ranks *r, const char *const *names, const char *const *texts, size_t n,
                        dg_error *err);

/* Tells the backend of the ranks; DG_ERR_UNSUPPORTED if it cannot train in several processes. *r must outlive
 * it. */
dg_status dg_ranks_join_backend(const dg_ranks *r, const dg_parts *parts, dg_error *err);

/* This rank has failed where others wait for it, with this error: the message says which one it was, and the
 * launcher ends the others when this process ends. */
dg_status dg_ranks_give_up(dg_ranks *r, dg_status mine, dg_error *err);

/* A loader of this rank's share of the samples: of every batch, or, with `whole`, batches of the same size,
 * of which each rank takes its turn. Threads that the recipe leaves open are shared with the other ranks of
 * the machine. */
void dg_ranks_loader(const dg_ranks *r, const dg_recipe *recipe, bool whole, dg_loader_config *c);

#endif
