#!/usr/bin/env python3
"""Photographs to 224 x 224 crops on one core by torchvision, for comparison with bench_images.c.

    peer_images.py FOLDER [--way tensor|pillow] [--images N]

tensor: decode_jpeg and RandomResizedCrop on tensors of bytes; pillow: Image.open and RandomResizedCrop, as ImageFolder does.
The files are read into memory first. It speaks as peer_digpt.py does.
"""
import argparse
import io
import json
import pathlib
import sys
import time

import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode, RandomResizedCrop

args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
args.add_argument("folder")
args.add_argument("--way", choices=["tensor", "pillow"], default="tensor")
args.add_argument("--images", type=int, default=4096)
args = args.parse_args()
torch.set_num_threads(1)
torch.manual_seed(0)

paths = sorted(p for p in pathlib.Path(args.folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[: args.images]
files = [p.read_bytes() for p in paths]
tensors = [torch.frombuffer(bytearray(f), dtype=torch.uint8) for f in files]
crop = RandomResizedCrop(224, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True)


def one(i):
    if args.way == "tensor":
        return crop(decode_jpeg(tensors[i], mode=ImageReadMode.RGB))
    return crop(Image.open(io.BytesIO(files[i])).convert("RGB"))


print(json.dumps({"ready": True, "images": len(files)}), flush=True)
for _ in sys.stdin:
    begin = time.perf_counter()
    for i in range(len(files)):
        one(i)
    print(json.dumps({"ms": 1e3 * (time.perf_counter() - begin)}), flush=True)
