#!/usr/bin/env python3
"""The training step of recipes/quickstart.yaml in JAX, for comparison with `digpt bench`.

D-iGPT with pixel tokens: 64x64 images, patch 8, segments 2x2, width 192, 4 blocks, two decoders of one block, mean
squared error, AdamW. The same shapes and products; parameters are drawn anew, so that losses are not the same.

    peer_digpt_jax.py [--precision f32|bf16] [--steps N] [--batch N]     prints a line of JSON
"""
import argparse
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, DEPTH, HEADS, PATCH, SIDE = 192, 4, 3, 8, 8
SEGMENT, TARGET = 16, 3 * 8 * 8
TAPS = (2, 3, 4)
VISIBLE = 3 * SEGMENT
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

options = argparse.ArgumentParser()
options.add_argument("--precision", default="f32", choices=["f32", "bf16"])
options.add_argument("--steps", type=int, default=10)
options.add_argument("--batch", type=int, default=64)
options = options.parse_args()
COMPUTE = jnp.bfloat16 if options.precision == "bf16" else jnp.float32


def product(equation, a, b):
    return jnp.einsum(equation, a.astype(COMPUTE), b.astype(COMPUTE), preferred_element_type=jnp.float32)


def linear(p, name, x):
    return product("...i,oi->...o", x, p[name + ".w"]) + p[name + ".b"]


def norm(p, name, x, eps=1e-6):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + eps) * p[name + ".w"] + p[name + ".b"]


def heads(x):
    return x.reshape(x.shape[0], x.shape[1], HEADS, -1).transpose(0, 2, 1, 3)


def attention(q, k, v, mask):
    q, k, v = heads(q), heads(k), heads(v)
    scores = product("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), -1)
    x = product("bhqk,bhkd->bhqd", weights, v).transpose(0, 2, 1, 3)
    return x.reshape(x.shape[0], x.shape[1], -1)


def mlp(p, name, x):
    return linear(p, name + ".fc2", jax.nn.gelu(linear(p, name + ".fc1", x), approximate=False))


def block(p, name, x, mask):
    qkv = linear(p, name + ".qkv", norm(p, name + ".norm1", x))
    x = x + linear(p, name + ".proj", attention(*jnp.split(qkv, 3, -1), mask))
    return x + mlp(p, name, norm(p, name + ".norm2", x))


def cross_block(p, name, x, memory, mask, memory_mask):
    qkv = linear(p, name + ".qkv", norm(p, name + ".norm1", x))
    x = x + linear(p, name + ".proj", attention(*jnp.split(qkv, 3, -1), mask))
    q = linear(p, name + ".q", norm(p, name + ".norm2", x))
    kv = linear(p, name + ".kv", norm(p, name + ".norm_memory", memory))
    x = x + linear(p, name + ".cross_proj", attention(q, *jnp.split(kv, 2, -1), memory_mask))
    return x + mlp(p, name, norm(p, name + ".norm3", x))


def parameters(key):
    p = {}

    def add_linear(name, i, o):
        nonlocal key
        key, own = jax.random.split(key)
        p[name + ".w"] = jax.random.uniform(own, (o, i), minval=-1, maxval=1) * (6 / (i + o)) ** 0.5
        p[name + ".b"] = jnp.zeros(o)

    def add_norm(name):
        p[name + ".w"], p[name + ".b"] = jnp.ones(WIDTH), jnp.zeros(WIDTH)

    def add_block(name, cross):
        add_linear(name + ".qkv", WIDTH, 3 * WIDTH)
        add_linear(name + ".proj", WIDTH, WIDTH)
        add_linear(name + ".fc1", WIDTH, 4 * WIDTH)
        add_linear(name + ".fc2", 4 * WIDTH, WIDTH)
        for n in ("norm1", "norm2") + (("norm3", "norm_memory") if cross else ()):
            add_norm(name + "." + n)
        if cross:
            add_linear(name + ".q", WIDTH, WIDTH)
            add_linear(name + ".kv", WIDTH, 2 * WIDTH)
            add_linear(name + ".cross_proj", WIDTH, WIDTH)

    add_linear("embed", TARGET, WIDTH)
    p["cls"] = jnp.zeros(WIDTH)
    for i in range(DEPTH):
        add_block(f"block{i}", False)
    for d in ("next", "visible"):
        add_norm(d + ".tap_norm")
        add_linear(d + ".enc2dec", len(TAPS) * WIDTH, WIDTH)
        p[d + ".token"] = jnp.zeros(WIDTH)
        add_block(d + ".block", True)
        add_norm(d + ".norm")
        add_linear(d + ".pred", WIDTH, TARGET)
    return p


def positions():
    quarter = WIDTH // 4
    omega = 1.0 / 10000 ** (np.arange(quarter) / quarter)
    y, x = np.mgrid[0:SIDE, 0:SIDE].reshape(2, -1)
    parts = [f(np.outer(c, omega)) for c in (x, y) for f in (np.sin, np.cos)]
    return jnp.asarray(np.concatenate(parts, 1), jnp.float32)


POSITIONS = positions()
PATCHES_OF = jnp.asarray(
    [[(sy * 4 + y) * SIDE + sx * 4 + x for y in range(4) for x in range(4)] for sy in range(2) for sx in range(2)])
GROUPS = np.arange(VISIBLE) // SEGMENT
WITH_CLASS = np.append(GROUPS, 2)


def mask_of(q, k):
    return jnp.asarray(q[:, None] >= k[None, :])


def loss_of(p, image, order):
    batch = image.shape[0]
    patches = image.reshape(batch, SIDE, PATCH, SIDE, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    patches = patches.reshape(batch, SIDE * SIDE, 3, PATCH * PATCH).astype(jnp.float32) / 255
    seen = ((patches - MEAN[:, None]) / STD[:, None]).reshape(batch, SIDE * SIDE, TARGET).astype(jnp.float32)
    target = patches.reshape(batch, SIDE * SIDE, TARGET)
    target = (target - target.mean(-1, keepdims=True)) * jax.lax.rsqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    ids = PATCHES_OF[order].reshape(batch, -1)  # [batch, 4 x 16]
    first, second = ids[:, :VISIBLE], ids[:, SEGMENT:]
    x = linear(p, "embed", jnp.take_along_axis(seen, first[..., None], 1)) + POSITIONS[first]
    x = jnp.concatenate([x, jnp.broadcast_to(p["cls"], (batch, 1, WIDTH))], 1)
    taps = []
    for i in range(DEPTH):
        x = block(p, f"block{i}", x, mask_of(WITH_CLASS, WITH_CLASS))
        if i + 1 in TAPS:
            taps.append(x)
    loss = 0
    for d, where in (("next", second), ("visible", first)):
        memory = jnp.concatenate([norm(p, d + ".tap_norm", t, 1e-5) for t in taps], -1)
        memory = linear(p, d + ".enc2dec", memory)
        y = POSITIONS[where] + p[d + ".token"]
        y = cross_block(p, d + ".block", y, memory, mask_of(GROUPS, GROUPS), mask_of(GROUPS, WITH_CLASS))
        y = linear(p, d + ".pred", norm(p, d + ".norm", y))
        loss = loss + ((y - jnp.take_along_axis(target, where[..., None], 1)) ** 2).mean()
    return loss


def step(state, image, order, lr, t):
    p, m, v = state
    loss, grads = jax.value_and_grad(loss_of)(p, image, order)
    b1, b2 = 0.9, 0.95
    m = {k: b1 * m[k] + (1 - b1) * g for k, g in grads.items()}
    v = {k: b2 * v[k] + (1 - b2) * g * g for k, g in grads.items()}

    def update(k):
        decay = 0.05 if p[k].ndim > 1 else 0.0
        return p[k] - lr * (m[k] / (1 - b1**t) / (jnp.sqrt(v[k] / (1 - b2**t)) + 1e-8) + decay * p[k])

    return ({k: update(k) for k in p}, m, v), loss


p = parameters(jax.random.PRNGKey(0))
state = (p, {k: jnp.zeros_like(x) for k, x in p.items()}, {k: jnp.zeros_like(x) for k, x in p.items()})
random = np.random.default_rng(0)
image = random.integers(0, 256, (options.batch, 64, 64, 3), dtype=np.uint8)
order = np.stack([random.permutation(4) for _ in range(options.batch)]).astype(np.int32)
begin = time.perf_counter()
compiled = jax.jit(step, donate_argnums=0).lower(state, image, order, np.float32(1e-3), np.float32(1)).compile()
compile_seconds = time.perf_counter() - begin
ms, losses = [], []
for t in range(options.steps + 2):
    if t == 2:
        used = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    state, loss = compiled(state, image, order, np.float32(1e-3), np.float32(t + 1))
    losses.append(float(loss))
    if t >= 2:
        ms.append(1e3 * (time.perf_counter() - begin))
now = resource.getrusage(resource.RUSAGE_SELF)
cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
print(json.dumps({"jax": jax.__version__, "precision": options.precision, "ms_per_step": sorted(ms)[len(ms) // 2],
                  "cpu_ms_per_step": 1e3 * cpu / options.steps, "compile_seconds": compile_seconds,
                  "images_per_second": 1e3 * options.batch / sorted(ms)[len(ms) // 2],
                  "parameters": sum(x.size for x in p.values()), "losses": [losses[0], losses[-1]]}))
