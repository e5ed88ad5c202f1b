"""Training with Optax: run once as it is, under JAX, and once under ``python -m velax``. Prints the losses
and parameters as JSON.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

rng = np.random.default_rng(0)
inputs = rng.standard_normal((64, 4)).astype(np.float32)
targets = np.sin(inputs @ np.array([1.0, -2.0, 0.5, 0.3], np.float32))[:, None]
start = {
    "hidden": {"w": 0.5 * rng.standard_normal((4, 16)).astype(np.float32), "b": np.zeros(16, np.float32)},
    "out": {"w": 0.5 * rng.standard_normal((16, 1)).astype(np.float32), "b": np.zeros(1, np.float32)},
}


def loss_fn(params, x, y):
    h = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return optax.l2_loss(h @ params["out"]["w"] + params["out"]["b"], y).mean()


def train(optimizer, steps=25):
    params = jax.tree_util.tree_map(jnp.asarray, start)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        loss, gradients = jax.value_and_grad(loss_fn)(params, inputs, targets)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses, float(optax.global_norm(params))


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "sgd with momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "clipped adamw, warm-up and cosine decay": optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 3e-2, 5, 25), weight_decay=1e-3),
    ),
    "rmsprop, exponential decay": optax.rmsprop(optax.exponential_decay(1e-2, 10, 0.5)),
    "lion": optax.lion(1e-3),
    "accumulated adagrad": optax.MultiSteps(optax.adagrad(0.1), every_k_schedule=2),
}

if __name__ == "__main__":
    json.dump(
        {"library": type(jnp.zeros(1)).__module__, "runs": {name: train(o) for name, o in OPTIMIZERS.items()}},
        sys.stdout,
    )
