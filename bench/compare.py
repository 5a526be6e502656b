#!/usr/bin/env python3
"""Times digpt against PyTorch, job by job, in turns in one run; bench/README.md says how.

    compare.py [--digpt PROGRAM] [--images PROGRAM] [--teacher FILE] [--photographs FOLDER] [--rounds N] [JOB ...]

Both programs of a job are started and warmed up; then they do one step each in turn, the other one waiting. Prints a
Markdown table of medians, spreads (least to most) and ratios.
"""
import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
args.add_argument("jobs", nargs="*", metavar="JOB")
args.add_argument("--digpt", default=str(HERE.parent / "build/bin/digpt"))
args.add_argument("--images", default=str(HERE.parent / "build/bin/bench_images"))
args.add_argument("--teacher", default="random", help="OpenCLIP ViT-H/14 weights, or random")
args.add_argument("--photographs", help="a folder of JPEG files")
args.add_argument("--rounds", type=int, default=5)
args = args.parse_args()

SYNTHETIC = ["data.source=synthetic", "data.synthetic_images=64", "train.accumulate=1", "train.precision=bf16"]
STEP = ["digpt-vit-b16-in1k", *SYNTHETIC, f"tokenizer.weights={args.teacher}", "tokenizer.activation=gelu",
        "tokenizer.arch=ViT-H/14", "data.batch=8"]
FINETUNE = ["finetune-vit-b16-in1k", "data.source=synthetic", "data.synthetic_images=64", "train.precision=bf16",
            "data.synthetic_classes=10", "finetune.classes=1000", "finetune.randaugment=''"]
CIFAR = ["digpt-cifar10", "data.source=synthetic", "data.synthetic_images=512", "data.synthetic_size=32",
         "train.precision=bf16"]
INT8 = ["tokenizer.precision=int8"]


def bench(*words):
    return [args.digpt, "bench", "--paced", *words]


def torch(job, *more):
    return [sys.executable, str(HERE / "peer_digpt.py"), job, *more]


# Of the peer's options the fastest on this kind of machine: see bench/README.md.
PLAIN = ["--attention", "plain"]
JOBS = {  # name: (what, images a step, digpt, peer)
    "step": ("full step, ViT-B, teacher ViT-H/14, batch 8", 8, bench(*STEP), torch("step", *PLAIN)),
    "step-int8": ("the same, int8 teacher", 8, bench(*STEP, *INT8), torch("step", *PLAIN)),
    "student": ("student step, batch 8", 8, None, torch("student", *PLAIN)),
    "teacher": ("teacher forward, batch 8", 8, bench(*STEP, "--part", "tokenizer"), torch("teacher", *PLAIN)),
    "teacher-int8": ("the same, int8", 8, bench(*STEP, *INT8, "--part", "tokenizer"), torch("teacher", *PLAIN)),
    "finetune": ("fine-tuning ViT-B, batch 8", 8, bench(*FINETUNE, "data.batch=8"), torch("finetune", *PLAIN)),
    "inference": ("inference ViT-B, batch 16", 16, bench(*FINETUNE,
                  "data.batch=16", "--part", "encoder"), torch("inference", "--batch", "16")),
    "cifar-128": ("CIFAR recipe, batch 128", 128, bench(*CIFAR, "data.batch=128"), torch("cifar", "--batch", "128", *PLAIN)),
    "cifar-16": ("CIFAR recipe, batch 16", 16, bench(*CIFAR, "data.batch=16"), torch("cifar", "--batch", "16", *PLAIN)),
}
if args.photographs:
    for mode in ("exact", "fast"):
        JOBS[f"decode-{mode}"] = (f"photograph to 224 crop, one core, decode: {mode}", 200,
                                  [args.images, args.photographs, mode, "200"],
                                  [sys.executable, str(HERE / "peer_images.py"), args.photographs, "--images", "200"])


class Program:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.line().get("ready"):
            raise SystemExit(f"compare.py: {command[0]} did not start: {' '.join(command)}")

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit("compare.py: a program ended early; see its message above")
        return json.loads(text)

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self.line()["ms"]

    def finish(self):
        self.process.stdin.close()
        memory = 0
        for text in self.process.stdout:
            memory = json.loads(text).get("peak_rss_bytes", memory)
        self.process.wait()
        return memory


def cache_tokens(folder):
    """The student's step alone reads tokens that were made before."""
    words = [*STEP, "data.views=1", "data.limit=8"]
    subprocess.run([args.digpt, "tokenize", *words, "--out", folder], check=True, stdout=subprocess.DEVNULL)
    return bench(*words, f"tokens.cache={folder}")


def spread(values):
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


print(f"{platform.machine()}, {args.rounds} rounds of one step each, in turns\n")
print("| job | digpt, images/s | PyTorch, images/s | ratio of medians | memory, GiB |\n| --- | --- | --- | --- | --- |")
with tempfile.TemporaryDirectory() as folder:
    for name in args.jobs or JOBS:
        what, images, ours, peer = JOBS[name]
        a = Program(ours or cache_tokens(folder + "/tokens"))
        b = Program(peer)
        a.step(), b.step()
        times = [(a.step(), b.step()) for _ in range(args.rounds)]
        x, y = ([1e3 * images / t[k] for t in times] for k in (0, 1))
        memory = " / ".join(f"{m / 2**30:.1f}" if m else "-" for m in (a.finish(), b.finish()))
        print(f"| {what} | {spread(x)} | {spread(y)} | {statistics.median(x) / statistics.median(y):.2f} | {memory} |",
              flush=True)
