/* schema.c - the sections of a recipe and the rows of the fixed ones. See schema.h.
 *
 * Defaults are those of D-iGPT's pretraining on ImageNet (Ren et al., "Rejuvenating image-GPT as Strong
 * Visual Representation Learners", ICML 2024, and its code): AdamW 0.9, 0.95, weight decay 0.05, 1.5e-4 x
 * batch/256, 40 of 300 epochs of warm-up, cosine to 0; crops of 0.2 to 1 of the area, flipped half of the
 * time. */
#include "recipe/recipe.h"

#include <math.h>

static const char *const tasks[] = {"pretrain", "finetune", "probe", "knn", "evaluate", "segment", NULL};
static const char *const sources[] = {"folder", "tar", "list", "synthetic", NULL};
static const char *const decoders[] = {"exact", "fast", NULL};
static const char *const vocabulary_kinds[] = {"words", "byte_pairs", NULL};
static const char *const on_bad_image[] = {"skip", "fail", NULL};
static const char *const precisions[] = {"auto", "f32", "bf16", NULL};
static const char *const optimizers[] = {"adamw", NULL};
static const char *const schedules[] = {"cosine", NULL};

static const dg_param_spec top[] = {
    DG_PARAM(CHOICE, "task", "pretrain", "", "what the run does", 0, 0, tasks),
    DG_PARAM(STRING, "name", "", "", "name of the run; not set: the recipe's file name", 0, 0, NULL),
    DG_PARAM(INT, "seed", "0", "", "of everything that is random", 0, 9007199254740992.0, NULL),
    DG_PARAM(PATH, "output", "runs", "", "folder in which the run's folder is made", 0, 0, NULL),
    DG_PARAM(PATHS, "plugins", "[]", "", "plugin files, and folders of them, searched first", 0, 0, NULL),
};

static const dg_param_spec data[] = {
    DG_PARAM(CHOICE, "source", "folder", "", "class folders, tar shards, a list file, or rendered shapes", 0,
             0, sources),
    DG_PARAM(PATHS, "path", "", "", "images to train on; shards may have {000..146} and * in their names", 0,
             0, NULL),
    DG_PARAM(PATHS, "val_path", "", "", "images to evaluate on", 0, 0, NULL),
    DG_PARAM_LIST(INTS, "image_size", "[224, 224]", "pixels", "height and width; one number stands for both",
                  8, 4096, 1, 2),
    DG_PARAM(INT, "batch", "64", "images", "images a step, of all ranks together", 1, 65536, NULL),
    DG_PARAM(INT, "limit", "0", "images", "use the first so many only; 0: all", 0, 1e15, NULL),
    DG_PARAM(BOOL, "shuffle", "true", "", "a new order every epoch", 0, 0, NULL),
    DG_PARAM(INT, "workers", "0", "threads", "threads that decode, of each process; 0: as many as there are cores, shared among a machine's ranks", 0, 256,
             NULL),
    DG_PARAM(INT, "prefetch", "3", "batches", "batches made ahead, the one in use included", 2, 64, NULL),
    DG_PARAM(INT, "views", "0", "", "different crops an image has over the run; 0: a new one every epoch", 0,
             1000000, NULL),
    DG_PARAM_LIST(FLOATS, "crop_scale", "[0.2, 1.0]", "",
                  "share of the image's area that a crop takes, least and most", 1e-6, 1, 2, 2),
    DG_PARAM_LIST(FLOATS, "crop_ratio", "[0.75, 1.3333333333333333]", "",
                  "width / height of a crop, least and most", 0.01, 100, 2, 2),
    DG_PARAM(FLOAT, "eval_crop", "0.875", "", "evaluation: side of the central crop over the side that an image is resized to",
             0.05, 1, NULL),
    DG_PARAM(FLOAT, "flip", "0.5", "", "probability of a horizontal flip", 0, 1, NULL),
    DG_PARAM(CHOICE, "decode", "exact", "", "exact: the whole image, as Pillow; fast: of JPEGs to train on, the crop alone, scaled while decoding", 0, 0,
             decoders),
    DG_PARAM(CHOICE, "on_bad_image", "skip", "", "an image that cannot be read, or lacks the caption that is to be read: take the next one, or stop",
             0, 0, on_bad_image),
    DG_PARAM(INT, "caption_length", "0", "tokens", "length of captions for models that read them; 0: not read", 0,
             4096, NULL),
    DG_PARAM(PATH, "vocabulary", "", "",
             "words of captions, one a line, or CLIP's byte pairs (bpe_simple_vocab_16e6.txt.gz, merges.txt); not set: made from the captions",
             0, 0, NULL),
    DG_PARAM(CHOICE, "vocabulary_kind", "words", "", "of a vocabulary that is made: words, or byte pairs as CLIP's", 0, 0,
             vocabulary_kinds),
    DG_PARAM(INT, "vocabulary_size", "4096", "ids", "most ids of a vocabulary that is made", 8, 1 << 24, NULL),
    DG_PARAM(INT, "synthetic_images", "10000", "images", "source synthetic: how many there are", 1, 1e12,
             NULL),
    DG_PARAM(INT, "synthetic_val_images", "1000", "images", "source synthetic: how many others to evaluate on", 1,
             1e12, NULL),
    DG_PARAM(INT, "synthetic_classes", "10", "", "source synthetic: number of classes", 1, 80, NULL),
    DG_PARAM_LIST(INTS, "synthetic_size", "[256, 256]", "pixels",
                  "source synthetic: height and width before the crop; one number stands for both", 8, 4096,
                  1, 2),
    DG_PARAM_LIST(FLOATS, "synthetic_radius", "[0.14, 0.42]", "",
                  "source synthetic: radius of the main object over the shorter side, least and most", 0.05,
                  0.5, 2, 2),
    DG_PARAM(FLOAT, "synthetic_turn", "180", "degrees",
             "source synthetic: objects are turned by so much at most, either way", 0, 180, NULL),
    DG_PARAM(FLOAT, "synthetic_clutter", "1", "",
             "source synthetic: 0: a bright object, alone and whole, before dark grey; more: coloured backgrounds, up "
             "to three other objects, noise, objects cut by the border",
             0, 1, NULL),
};

static const dg_param_spec train[] = {
    DG_PARAM(INT, "epochs", "300", "epochs", "length of the run", 1, 1000000, NULL),
    DG_PARAM(INT, "steps", "", "steps", "length of the run in optimizer steps; goes before epochs", 1, 1e12,
             NULL),
    DG_PARAM(INT, "accumulate", "1", "", "batches that one optimizer step takes together", 1, 65536, NULL),
    DG_PARAM(INT, "effective_batch", "0", "images",
             "batch that the learning rate is scaled by; 0: batch x accumulate", 0, 1e9, NULL),
    DG_PARAM(CHOICE, "precision", "auto", "", "auto: bf16 where the hardware has it, else f32", 0, 0,
             precisions),
    DG_PARAM(FLOAT, "ema_decay", "0", "",
             "share of a moving average of the weights that a step keeps, such as 0.9999; evaluations and the best weights are then the average's; 0: none",
             0, 0.9999999, NULL),
    DG_PARAM(FLOAT, "time_limit", "", "minutes", "stop after this time, with a checkpoint to resume from",
             0.01, INFINITY, NULL),
    DG_PARAM(INT, "log_every", "10", "steps", "between two lines of metrics", 1, 1e9, NULL),
    DG_PARAM(INT, "checkpoint_every", "1000", "steps",
             "between two checkpoints; the last step always has one", 1, 1e12, NULL),
    DG_PARAM(INT, "keep_last", "2", "", "newest checkpoints that are kept", 1, 1000000, NULL),
    DG_PARAM(INT, "keep_every", "", "steps", "checkpoints at multiples of this are kept for good", 1, 1e12,
             NULL),
    DG_PARAM(INT, "pictures", "4", "images",
             "that the report shows with what the model sees and predicts; 0: none", 0, 64, NULL),
    DG_PARAM(PATH, "init_from", "", "", "weights to start from: a checkpoint or a weights file", 0, 0, NULL),
    DG_PARAM(INT, "probe_every", "", "epochs",
             "task pretrain: between two looks at the features: neighbours (section knn), effective rank, spread", 1, 1000000,
             NULL),
    DG_PARAM(INT, "probe_limit", "5000", "images", "of each data that such a look takes, drawn by the seed; 0: all", 0, 1e12,
             NULL),
};

static const dg_param_spec optimizer[] = {
    DG_PARAM(CHOICE, "name", "adamw", "", "AdamW (Loshchilov and Hutter, 2019)", 0, 0, optimizers),
    DG_PARAM(FLOAT, "lr", "", "", "peak learning rate; not set: base_lr x effective batch / 256", 0, INFINITY,
             NULL),
    DG_PARAM(FLOAT, "base_lr", "1.5e-4", "", "peak learning rate for a batch of 256", 0, INFINITY, NULL),
    DG_PARAM_LIST(FLOATS, "betas", "[0.9, 0.95]", "", "decay of the two moments", 0, 0.9999999, 2, 2),
    DG_PARAM(FLOAT, "eps", "1e-8", "", "added to the root of the second moment", 1e-30, 1, NULL),
    DG_PARAM(FLOAT, "weight_decay", "0.05", "", "decoupled; not for biases and norms", 0, 1000, NULL),
    DG_PARAM(FLOAT, "warmup_epochs", "40", "epochs", "linear warm-up", 0, 1000000, NULL),
    DG_PARAM(INT, "warmup_steps", "", "steps", "linear warm-up in steps; goes before warmup_epochs", 0, 1e12,
             NULL),
    DG_PARAM(FLOAT, "min_lr", "0", "", "learning rate at the end of the schedule", 0, INFINITY, NULL),
    DG_PARAM(CHOICE, "schedule", "cosine", "", "of the learning rate after the warm-up, set every step", 0, 0,
             schedules),
    DG_PARAM(FLOAT, "clip_norm", "", "", "greatest norm of the whole gradient; not set: no clipping", 1e-12,
             INFINITY, NULL),
    DG_PARAM(BOOL, "shard", "false", "",
             "with several ranks (backend.replicas): each keeps a part of the moments and makes that part of the update",
             0, 0, NULL),
};

static const dg_param_spec tokens[] = {
    DG_PARAM(PATH, "cache", "", "", "folder that `digpt tokenize` wrote: its tokens are read and no tokenizer runs", 0, 0,
             NULL),
};

static const char *const token_precisions[] = {"auto", "int8", NULL};

static const dg_param_spec tokenizer[] = {
    DG_PARAM(CHOICE, "precision", "auto", "",
             "auto: that of the step; int8: most products of the frozen network in 8-bit integers, which is faster "
             "(`digpt bench --token-error` measures what it costs)",
             0, 0, token_precisions),
};

static const char *const pools[] = {"mean", "class", NULL};

/* Defaults are the official fine-tuning's of ViT-B, whose optimizer is set in the recipes. */
static const dg_param_spec finetune[] = {
    DG_PARAM(INT, "classes", "0", "", "classes of the head; 0: as many as the training data has", 0, 1000000, NULL),
    DG_PARAM(CHOICE, "pool", "mean", "", "what the head reads: the mean of the patch tokens, or the class token",
             0, 0, pools),
    DG_PARAM(FLOAT, "layer_decay", "0.65", "", "learning rate of a block over that of the next one", 0.01, 1, NULL),
    DG_PARAM(FLOAT, "drop_path", "0.1", "", "probability of dropping a branch of the last block, less before it", 0,
             0.99, NULL),
    DG_PARAM(FLOAT, "mixup", "0.8", "", "alpha of mixup; 0: none", 0, 100, NULL),
    DG_PARAM(FLOAT, "cutmix", "1.0", "", "alpha of cutmix; 0: none", 0, 100, NULL),
    DG_PARAM(FLOAT, "mix_switch", "0.5", "", "share of cutmix where both are on", 0, 1, NULL),
    DG_PARAM(FLOAT, "mix_probability", "1", "", "share of batches that are mixed", 0, 1, NULL),
    DG_PARAM(FLOAT, "smoothing", "0.1", "", "label smoothing", 0, 0.99, NULL),
    DG_PARAM(STRING, "randaugment", "rand-m9-mstd0.5-inc1", "", "policy as timm writes it; none: \"\"", 0, 0, NULL),
    DG_PARAM(FLOAT, "colour_jitter", "0", "", "strength of brightness, contrast and saturation changes", 0, 1, NULL),
    DG_PARAM(FLOAT, "erase", "0.25", "", "probability of random erasing", 0, 1, NULL),
    DG_PARAM(FLOAT, "head_std", "2e-5", "", "standard deviation of the head's first weights", 0, 1, NULL),
    DG_PARAM(INT, "evaluate_every", "1", "epochs", "between two evaluations on data.val_path", 1, 1000000, NULL),
    DG_PARAM(INT, "evaluate_batch", "0", "images", "batch of an evaluation; 0: data.batch", 0, 65536, NULL),
};

/* Which features, for both sections. */
#define FEATURE_ROWS                                                                                         \
    DG_PARAM(INT, "layer", "0", "blocks", "features after so many blocks; 0: after all", 0, 1024, NULL),     \
        DG_PARAM(CHOICE, "pool", "mean", "", "mean of the patch tokens, or the class token", 0, 0, pools),   \
        DG_PARAM(BOOL, "norm", "true", "", "the encoder's last norm before that; without weights if it has none", 0, 0, NULL), \
        DG_PARAM(BOOL, "cache", "true", "", "keep features in the run's folder", 0, 0, NULL)

/* Defaults are DINO's. */
static const dg_param_spec knn[] = {
    DG_PARAM_LIST(INTS, "k", "[10, 20]", "images", "how many of the nearest training images vote", 1, 65536, 1, 8),
    DG_PARAM(FLOAT, "temperature", "0.07", "", "a vote is exp(cosine / temperature)", 1e-4, 1e4, NULL),
    FEATURE_ROWS,
};

static const char *const probe_optimizers[] = {"sgd", "lars", NULL};

/* Defaults are MAE's, but for its batch of 16384 and its optimizer, lars. */
static const dg_param_spec probe[] = {
    DG_PARAM(INT, "epochs", "90", "epochs", "length of the training", 1, 1000000, NULL),
    DG_PARAM(INT, "batch", "256", "images", "features a step; never more than there are", 2, 65536, NULL),
    DG_PARAM_LIST(FLOATS, "base_lr", "[0.1]", "", "learning rates for a batch of 256; several are trained side by side", 0, INFINITY, 1, 16),
    DG_PARAM(FLOAT, "warmup_epochs", "10", "epochs", "linear warm-up; a cosine to 0 follows", 0, 1000000, NULL),
    DG_PARAM(CHOICE, "optimizer", "sgd", "", "sgd: with momentum; lars: scaled by the weights' norm besides, for large batches", 0, 0,
             probe_optimizers),
    DG_PARAM(FLOAT, "momentum", "0.9", "", "of either", 0, 0.9999999, NULL),
    FEATURE_ROWS,
};

static void check_probe(const dg_recipe *r, dg_diagnostics *diags)
{
    double warmup = dg_recipe_float(r, "probe.warmup_epochs"), epochs = (double)dg_recipe_int(r, "probe.epochs");
    if (warmup >= epochs)
        dg_diagnose(diags, DG_SEVERITY_ERROR, dg_recipe_where(r, "probe.warmup_epochs"),
                    "probe.warmup_epochs: %.10g leaves nothing of the %.10g epochs", warmup, epochs);
}

static void check_top(const dg_recipe *r, dg_diagnostics *diags)
{
    const char *task = dg_recipe_string(r, "task");
    if (strcmp(task, "evaluate") == 0)
        dg_diagnose(diags, DG_SEVERITY_ERROR, dg_recipe_where(r, "task"),
                    "task: a run is evaluated with its own recipe: digpt eval RUN");
    if (strcmp(task, "segment") == 0)
        dg_diagnose(diags, DG_SEVERITY_ERROR, dg_recipe_where(r, "task"),
                    "task: 'segment' is not there yet in this version; pretrain, finetune, probe and knn are");
}

/* Two numbers, the least and the most. */
static void check_order(const dg_recipe *r, const char *key, dg_diagnostics *diags)
{
    const double *v = dg_recipe_floats(r, key, &(size_t){0});
    if (v[0] > v[1])
        dg_diagnose(diags, DG_SEVERITY_ERROR, dg_recipe_where(r, key),
                    "%s: the least comes first, and %.10g is more than %.10g", key, v[0], v[1]);
}

static void check_data(const dg_recipe *r, dg_diagnostics *diags)
{
    const char *source = dg_recipe_string(r, "data.source");
    size_t n;
    dg_recipe_paths(r, "data.path", &n);
    if (strcmp(source, "synthetic") != 0 && n == 0)
        dg_diagnose(diags, DG_SEVERITY_ERROR, dg_recipe_where(r, "data.path"),
                    "'data.path' is required when data.source is '%s'", source);
    check_order(r, "data.crop_scale", diags);
    check_order(r, "data.crop_ratio", diags);
    check_order(r, "data.synthetic_radius", diags);
}

#define ROWS(TABLE) TABLE, sizeof(TABLE) / sizeof(TABLE)[0]

static const dg_section sections[] = {
    {"", "the run", ROWS(top), false, NULL, check_top, NULL, 0},
    {"data", "images, and what is done to them before they reach the program", ROWS(data), false, NULL,
     check_data, NULL, 0},
    {"tokenizer", "what makes the tokens that are predicted", NULL, 0, false, NULL, NULL, ROWS(tokenizer)},
    {"tokens", "tokens that were made before the run", ROWS(tokens), false, NULL, NULL, NULL, 0},
    {"model", "what is trained", NULL, 0, true, NULL, NULL, NULL, 0},
    {"loss", "how far a prediction is from its token", NULL, 0, false, NULL, NULL, NULL, 0},
    {"backend", "what runs the program", NULL, 0, false, "cpu", NULL, NULL, 0},
    {"train", "length, precision, logs and checkpoints of the run", ROWS(train), false, NULL, NULL, NULL, 0},
    {"finetune", "classification on the encoder; task finetune", ROWS(finetune), false, NULL, NULL, NULL, 0},
    {"knn", "nearest neighbours; task knn, and train.probe_every", ROWS(knn), false, NULL, NULL, NULL, 0},
    {"probe", "a linear classifier on frozen features; task probe", ROWS(probe), false, NULL, check_probe, NULL, 0},
    {"optimizer", "how weights are updated", ROWS(optimizer), false, NULL, NULL, NULL, 0},
};

const dg_section *dg_schema_sections(size_t *n)
{
    *n = sizeof sections / sizeof sections[0];
    return sections;
}

const dg_section *dg_schema_section(const char *name)
{
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (strcmp(sections[i].name, name) == 0) return &sections[i];
    return NULL;
}
