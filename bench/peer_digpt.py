#!/usr/bin/env python3
"""The work of digpt on the CPU in idiomatic PyTorch, for comparison: the same shapes, products and update.

    peer_digpt.py JOB [--batch N] [--attention sdpa|plain] [--compile] [--threads N]

JOB
    step       the whole D-iGPT step: tokens of a ViT-H/14, ViT-B/16 student with two decoders, losses, gradient, AdamW
    student    the same with tokens given
    teacher    the ViT-H/14 alone
    finetune   a step of fine-tuning ViT-B/16 with soft labels and drop path
    inference  ViT-B/16 on whole pictures
    cifar      the D-iGPT step of recipes/digpt-cifar10.yaml: width 192, depth 12, pixels as tokens

bf16 autocast, fused AdamW; the teacher's weights are kept in bf16, which is faster than converting them. Weights are drawn
anew, so that losses are not the same. When ready it prints a line of JSON; then, for each line that it reads, it does one
step and prints its milliseconds (bench/compare.py speaks this, and `digpt bench --paced`).
"""
import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

JOBS = ("step", "student", "teacher", "finetune", "inference", "cifar")
args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
args.add_argument("job", choices=JOBS)
args.add_argument("--batch", type=int, default=8)
args.add_argument("--attention", choices=["sdpa", "plain"], default="sdpa")
args.add_argument("--compile", action="store_true")
args.add_argument("--threads", type=int, default=0)
args = args.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(0)

SEGMENTS = 4
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
CLIP = (torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711]))


class Attention(nn.Module):
    """Self-attention, or attention to `memory` where one is given."""

    def __init__(self, width, heads, cross=False):
        super().__init__()
        self.heads, self.cross = heads, cross
        if cross:
            self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        else:
            self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None, memory=None):
        batch, n, width = x.shape
        if self.cross:
            q = self.q(x)
            k, v = self.kv(memory).chunk(2, -1)
        else:
            q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (t.view(batch, t.shape[1], self.heads, -1).transpose(1, 2) for t in (q, k, v))
        if args.attention == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            y = scores.softmax(-1).to(v.dtype) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, n, width))


def mlp(width):
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    def __init__(self, width, heads, eps=1e-6, cross=False, drop_path=0.0):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps), Attention(width, heads)
        if cross:
            self.norm_q, self.norm_memory = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
            self.cross = Attention(width, heads, cross=True)
        self.norm2, self.mlp = nn.LayerNorm(width, eps), mlp(width)
        self.drop_path = drop_path

    def keep(self, y):
        if not self.drop_path or not self.training:
            return y
        keep = torch.rand(y.shape[0], 1, 1) >= self.drop_path
        return y * (keep / (1 - self.drop_path)).to(y.dtype)

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        x = x + self.keep(self.attn(self.norm1(x), mask))
        if memory is not None:
            x = x + self.cross(self.norm_q(x), memory_mask, self.norm_memory(memory))
        return x + self.keep(self.mlp(self.norm2(x)))


def normalised(image, statistics):
    mean, std = statistics
    return ((image.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def patches(image, patch):
    """[batch, 3, h, w] -> [batch, tokens, 3 patch patch]"""
    return F.unfold(image, patch, stride=patch).transpose(1, 2)


class Teacher(nn.Module):
    """The image tower of OpenCLIP's ViT-H/14, every token projected."""

    def __init__(self, width=1280, depth=32, heads=16, patch=14, out=1024):
        super().__init__()
        self.conv = nn.Conv2d(3, width, patch, patch, bias=False)
        self.token, self.positions = nn.Parameter(torch.randn(width) * 0.02), nn.Parameter(torch.randn(257, width) * 0.02)
        self.norm_pre, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, 1e-5) for _ in range(depth))
        self.head = nn.Linear(width, out, bias=False)

    def forward(self, image):
        x = self.conv(normalised(image, CLIP).to(self.conv.weight.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.positions
        x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).float()


class Student(nn.Module):
    """D-iGPT: an encoder of the visible segments and two decoders."""

    def __init__(self, side, patch, width, depth, heads, taps, decoder_width, decoder_depth, decoder_heads, target, class_query):
        super().__init__()
        self.side, self.patch, self.taps, self.class_query = side, patch, taps, class_query
        self.decoder_width, self.decoder_depth = decoder_width, decoder_depth
        self.embed, self.token = nn.Linear(3 * patch * patch, width), nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", torch.randn(side * side, width))
        self.register_buffer("decoder_positions", torch.randn(side * side, decoder_width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.decoders = nn.ModuleList()
        for _ in range(2):
            d = nn.Module()
            d.tap_norm = nn.LayerNorm(width, 1e-5)
            d.project = nn.Linear(len(taps) * width, decoder_width * decoder_depth)
            d.token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
            d.blocks = nn.ModuleList(Block(decoder_width, decoder_heads, cross=True) for _ in range(decoder_depth))
            d.norm, d.predict = nn.LayerNorm(decoder_width, 1e-6), nn.Linear(decoder_width, target)
            self.decoders.append(d)
        half = side // 2
        self.register_buffer("segment_patches", torch.arange(side * side).view(2, half, 2, half).permute(0, 2, 1, 3).reshape(4, -1))
        groups = torch.arange(3).repeat_interleave(half * half)
        with_class = torch.cat([groups, torch.tensor([2])])
        queries = with_class if class_query else groups
        self.register_buffer("mask", with_class[:, None] >= with_class[None, :])
        self.register_buffer("query_mask", queries[:, None] >= queries[None, :])
        self.register_buffer("memory_mask", queries[:, None] >= with_class[None, :])

    def forward(self, image, order):
        """Predictions of the next and of the visible segments: two of [batch, 3 segments (+ 1), target]."""
        batch = len(image)
        ids = self.segment_patches[order].flatten(1)
        visible = ids[:, : 3 * (self.side // 2) ** 2]
        x = patches(normalised(image, IMAGENET), self.patch)
        x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
        x = self.embed(x) + self.positions[visible]
        x = torch.cat([x, self.token.expand(batch, 1, -1)], 1)
        taps = []
        for i, block in enumerate(self.blocks):
            x = block(x, self.mask)
            if i + 1 in self.taps:
                taps.append(x)
        out = []
        for d, first in zip(self.decoders, (1, 0)):
            memory = d.project(torch.cat([d.tap_norm(t) for t in taps], -1))
            memory = memory.view(batch, -1, self.decoder_width, self.decoder_depth)
            where = ids[:, first * (self.side // 2) ** 2 :][:, : visible.shape[1]]
            y = self.decoder_positions[where] + d.token
            if self.class_query:
                y = torch.cat([y, d.token.expand(batch, 1, -1)], 1)
            for i, block in enumerate(d.blocks):
                y = block(y, self.query_mask, memory[..., i], self.memory_mask)
            out.append(d.predict(d.norm(y)))
        return out


def target_ids(side, order, first, class_token):
    half = side // 2
    table = torch.arange(side * side).view(2, half, 2, half).permute(0, 2, 1, 3).reshape(4, -1) + class_token
    ids = table[order[:, first : first + 3]].flatten(1)
    return F.pad(ids, (0, 1)) if class_token else ids


def cosine_loss(prediction, tokens, order, first):
    """Each segment of 7 x 7 predictions is resized to 8 x 8; 2 - 2 cos, mean over tokens."""
    batch, _, width = prediction.shape
    grid = prediction[:, :-1].reshape(batch * 3, 7, 7, width).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, (8, 8), mode="bilinear", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).reshape(batch, 192, width)
    y = torch.cat([grid, prediction[:, -1:].float()], 1)
    ids = target_ids(16, order, first, 1)
    target = tokens.gather(1, ids[..., None].expand(-1, -1, width))
    return (2 - 2 * F.cosine_similarity(y, target, dim=-1)).mean()


def pixel_loss(prediction, tokens, order, first):
    ids = target_ids(8, order, first, 0)
    target = tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
    return ((prediction.float() - target) ** 2).mean()


class Classifier(nn.Module):
    def __init__(self, width=768, depth=12, heads=12, patch=16, classes=1000, drop_path=0.1):
        super().__init__()
        self.patch, self.embed = patch, nn.Linear(3 * patch * patch, width)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(197, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, drop_path=drop_path * i / (depth - 1)) for i in range(depth))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, classes) if classes else nn.Identity()

    def forward(self, image):
        x = self.embed(patches(normalised(image, IMAGENET), self.patch))
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 1:].mean(1)))


def adamw(model, betas=(0.9, 0.95)):
    groups = [{"params": [p for p in model.parameters() if (p.ndim > 1) == decayed], "weight_decay": 0.05 * decayed}
              for decayed in (True, False)]
    return torch.optim.AdamW(groups, lr=1e-6, betas=betas, eps=1e-8, fused=True)


def pretraining(teacher, student, side, given, pixels):
    """A function that does one step on (image, order)."""
    optimizer = adamw(student)
    loss_of = pixel_loss if pixels else cosine_loss

    def step(image, order):
        if pixels:
            tokens = patches(image.float().permute(0, 3, 1, 2) / 255, side)
            tokens = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, keepdim=True) + 1e-6).sqrt()
        elif given is not None:
            tokens = given
        else:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                tokens = teacher(image)
            tokens = tokens.clone()
        with torch.autocast("cpu", torch.bfloat16):
            predictions = student(image, order)
        loss = sum(loss_of(p, tokens, order, first) for p, first in zip(predictions, (1, 0)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def make():
    compiled = torch.compile if args.compile else (lambda f: f)
    batch, side = args.batch, 32 if args.job == "cifar" else 224
    image = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    order = torch.stack([torch.randperm(SEGMENTS) for _ in range(batch)])
    if args.job in ("step", "teacher"):
        teacher = compiled(Teacher().to(torch.bfloat16).eval())
    if args.job == "teacher":
        def run():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                return teacher(image).sum().item()
        return run
    if args.job == "inference":
        model = compiled(Classifier(classes=0).to(torch.bfloat16).eval())
        def run():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                return model(image).float().sum().item()
        return run
    if args.job == "finetune":
        model = Classifier().train()
        optimizer, forward = adamw(model, (0.9, 0.999)), compiled(model)
        labels = torch.softmax(torch.randn(batch, 1000), -1)
        def run():
            with torch.autocast("cpu", torch.bfloat16):
                logits = forward(image)
            loss = -(labels * F.log_softmax(logits.float(), -1)).sum(-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()
        return run
    if args.job == "cifar":
        student = Student(8, 4, 192, 12, 3, (6, 8, 10, 12), 192, 1, 3, 48, False)
        step = pretraining(None, compiled(student), 4, None, True)
    else:
        student = Student(14, 16, 768, 12, 12, (6, 8, 10, 12), 1024, 2, 32, 1024, True)
        given = torch.randn(batch, 257, 1024) if args.job == "student" else None
        step = pretraining(None if args.job == "student" else teacher, compiled(student), 16, given, False)
    return lambda: step(image, order)


run = make()
for _ in range(2):
    run()
print(json.dumps({"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for _ in sys.stdin:
    begin = time.perf_counter()
    run()
    print(json.dumps({"ms": 1e3 * (time.perf_counter() - begin)}), flush=True)
print(json.dumps({"peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)
