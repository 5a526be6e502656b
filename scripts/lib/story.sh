# story.sh - the parts of the story as runs: a small CLIP, D-iGPT on its tokens, MAE, and fine-tuning of both and from
# scratch on few labels. Sourced by bash after setup.sh, from the root of the repository.
#
# The caller sets: digpt (the program), story (the folder of the runs), seed, and changes (key=value of every run).

# What the starts of fine-tuning are called in tables.
declare -A start_labels=([scratch]="from scratch" [digpt]="D-iGPT, CLIP tokens" [mae]="MAE" [clip]="CLIP, image tower"
    [random]="D-iGPT, random tokens" [pixels]="D-iGPT, pixel tokens" [labels]="supervised, 20000 labels")

# weights NAME: the newest weights of that run.
weights() {
    local checkpoints=("$story/$1"/checkpoints/step-*)
    echo "${checkpoints[-1]}/model.safetensors"
}

# part NAME RECIPE [key=value ...]: trains it as $story/NAME; what was stopped goes on, what is finished stays.
part() {
    local name=$1 recipe=$2 resume=()
    shift 2
    [ ! -e "$story/$name" ] || resume=(--resume)
    "$digpt" run "recipes/$recipe.yaml" --dir "$story/$name" "seed=$seed" "$@" "${changes[@]}" "${resume[@]}"
}

# The teacher, and what it is worth without a label.
part_clip() {
    part clip story-clip "$@" && "$digpt" zeroshot "$story/clip" "${changes[@]}" | tee "$story/zeroshot.txt"
}

part_digpt() {
    part digpt story-digpt "tokenizer.weights=$(weights clip)" "$@"
}

part_mae() {
    part mae story-mae "$@"
}

# finetune START [key=value ...]: from the weights of the run START, or from scratch.
finetune() {
    local start=$1 init=()
    shift
    [ "$start" = scratch ] || init=("train.init_from=$(weights "$start")")
    part "finetune-$start" story-finetune "${init[@]}" "$@"
}

# compare_starts FILE FOLDERS START...: one table and one page of the runs that were fine-tuned from these starts in all
# FOLDERS (one string), and of the pretraining before them.
compare_starts() {
    local file=$1 folders=$2 start folder runs=() before=()
    shift 2
    for start in "$@"; do
        for folder in $folders; do
            runs+=("${start_labels[$start]}=$folder/finetune-$start")
            [ ! -e "$folder/$start" ] || before+=("${start_labels[$start]}: before=$folder/$start")
        done
    done
    "$digpt" compare "${runs[@]}" "${before[@]}" --out "$file"
}

# The rows of fine-tuned runs of that table, as Markdown.
markdown_table() {
    awk -F '  +' 'NR == 1 || $2 == "finetune" {
        line = "|"; rule = "|"
        for (i = 1; i <= NF; i++) { line = line " " $i " |"; rule = rule " --- |" }
        print line
        if (NR == 1) print rule
    }'
}
