"""Train a character-level GPT on the text of Python's own standard library and sample from it.

    python gpt.py [--steps N] [--layers L] [--width D] [--seed S]

A decoder-only transformer (Radford et al., "Language models are unsupervised multitask learners", 2019):
pre-norm blocks of causal self-attention and an MLP, learned positions, Adam with warm-up and cosine decay.
"""

import argparse
import pathlib
import sys
import sysconfig
import time

import numpy as np

import velax as jax
import velax.inspect
import velax.numpy as jnp

CONTEXT = 96


def load_text(limit=2_000_000):
    """Modules of the standard library, one after the other, in ASCII."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(root.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore").encode("ascii", "ignore").decode()
        parts.append(text)
        size += len(text)
        if size > limit:
            break
    return "".join(parts)[:limit]


def init_params(key, vocabulary, layers, width):
    def dense(key, m, n, scale=1.0):
        return {"w": jax.random.normal(key, (m, n)) * (scale / m**0.5), "b": jnp.zeros(n)}

    def norm():
        return {"gain": jnp.ones(width), "bias": jnp.zeros(width)}

    keys = iter(jax.random.split(key, 4 * layers + 2))
    blocks = [
        {
            "norm1": norm(), "qkv": dense(next(keys), width, 3 * width), "out": dense(next(keys), width, width, layers**-0.5),
            "norm2": norm(), "up": dense(next(keys), width, 4 * width), "down": dense(next(keys), 4 * width, width, layers**-0.5),
        }
        for _ in range(layers)
    ]  # fmt: skip
    return {
        "embedding": 0.1 * jax.random.normal(next(keys), (vocabulary, width)),
        "position": 0.1 * jax.random.normal(next(keys), (CONTEXT, width)),
        "blocks": blocks,
        "norm": norm(),
    }


def dense(p, x):
    return x @ p["w"] + p["b"]


def layer_norm(p, x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.var(x, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["gain"] + p["bias"]


def attention(p, x, heads):
    length, width = x.shape
    q, k, v = (t.reshape(length, heads, width // heads) for t in jnp.split(dense(p["qkv"], x), 3, axis=-1))
    scores = jnp.einsum("qhd,khd->hqk", q, k) * (width // heads) ** -0.5
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e9))
    return dense(p["out"], jnp.einsum("hqk,khd->qhd", weights, v).reshape(length, width))


def forward(params, tokens, heads=4):
    """Logits of the next token at each position of one text."""
    x = params["embedding"][tokens] + params["position"][: len(tokens)]
    for block in params["blocks"]:
        x = x + attention(block, layer_norm(block["norm1"], x), heads)
        x = x + dense(block["down"], jax.nn.gelu(dense(block["up"], layer_norm(block["norm2"], x))))
    return layer_norm(params["norm"], x) @ params["embedding"].T


def loss_fn(params, tokens):
    logits = jax.vmap(forward, in_axes=(None, 0))(params, tokens[:, :-1])
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))


@jax.jit
def train_step(params, m, v, t, tokens, rate):
    loss, grads = jax.value_and_grad(loss_fn)(params, tokens)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, v, grads)
    scale = rate * jnp.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    params = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + 1e-8), params, m, v)
    return params, m, v, loss


@jax.jit
def sample(params, key, prompt, temperature):
    """Continue a text of CONTEXT tokens by three times as many, one loop compiled as a whole."""

    def step(window, key):
        logits = forward(params, window)[-1]
        token = jax.random.categorical(key, logits / temperature).astype(jnp.int32)
        return jnp.concatenate([window[1:], token[None]]), token

    return jax.lax.scan(step, prompt, jax.random.split(key, 3 * CONTEXT))[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    text = load_text()
    alphabet = sorted(set(text))
    encode = {c: i for i, c in enumerate(alphabet)}
    data = np.array([encode[c] for c in text], np.int32)
    rng = np.random.default_rng(args.seed)
    print(f"{len(data):,} characters of {len(alphabet)} kinds")

    start = time.perf_counter()
    with velax.inspect.compile_log() as log:
        key = jax.random.key(args.seed)
        params = init_params(key, len(alphabet), args.layers, args.width)
        m = v = jax.tree.map(jnp.zeros_like, params)
        n_params = sum(p.size for p in jax.tree.leaves(params))
        print(f"{n_params:,} parameters")
        smooth = None
        for step in range(1, args.steps + 1):
            starts = rng.integers(0, len(data) - CONTEXT - 1, args.batch)
            tokens = np.stack([data[i : i + CONTEXT + 1] for i in starts])
            rate = args.rate * min(step / 50, 0.5 * (1 + np.cos(np.pi * step / args.steps)))
            params, m, v, loss = train_step(params, m, v, float(step), tokens, rate)
            smooth = float(loss) if smooth is None else 0.95 * smooth + 0.05 * float(loss)
            if step % max(1, args.steps // 20) == 0:
                print(f"step {step:4d}/{args.steps}  loss {smooth:.3f} nats a character", flush=True)
        prompt = ("\n" * CONTEXT + "def main():\n    ")[-CONTEXT:]
        window = jnp.array([encode.get(c, 0) for c in prompt])
        tokens = sample(params, jax.random.fold_in(key, 1), window, 0.8)
    print("\nwhat was compiled:")
    print(velax.inspect.summary(log, limit=4))
    print(f"\na sample, after {time.perf_counter() - start:.1f} s in all:\n")
    print("def main():\n    " + "".join(alphabet[int(t)] for t in np.asarray(tokens)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
