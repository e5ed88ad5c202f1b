"""Train a classifier of handwritten digits (UCI, the 1,797 8x8 images that scikit-learn ships) with jit,
grad, vmap and Adam.

    python digits.py [--epochs N] [--seed S] [--picture FILE]

Prints what was compiled and how long that took, and saves a picture: the learning curve and the misclassified digits.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_digits

import velax as jax
import velax.inspect
import velax.numpy as jnp


def init_params(key, sizes):
    """Weights of a multilayer perceptron, scaled by fan-in."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) * jnp.sqrt(2.0 / m), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def predict(params, image):
    """Logits of one image."""
    x = image
    for layer in params[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


batched_predict = jax.vmap(predict, in_axes=(None, 0))


def loss_fn(params, images, labels):
    log_probs = jax.nn.log_softmax(batched_predict(params, images))
    return -jnp.mean(jnp.sum(jax.nn.one_hot(labels, 10) * log_probs, axis=1))


# Adam: Kingma and Ba, "Adam: a method for stochastic optimization", 2015
def adam_init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros, zeros, 0


def adam_update(params, grads, state, rate, b1=0.9, b2=0.999, eps=1e-8):
    m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, v, grads)
    scale = rate * jnp.sqrt(1 - b2**t) / (1 - b1**t)
    return jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + eps), params, m, v), (m, v, t)


@jax.jit
def train_step(params, state, images, labels, rate):
    loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
    params, state = adam_update(params, grads, state, rate)
    return params, state, loss


@jax.jit
def accuracy(params, images, labels):
    return jnp.mean(jnp.argmax(batched_predict(params, images), axis=1) == labels)


def progress(done, total, text):
    """A progress bar on a terminal, a line now and then elsewhere."""
    if sys.stdout.isatty():
        width = 30
        filled = done * width // total
        print(f"\r[{'#' * filled}{'.' * (width - filled)}] {text}", end="\n" if done == total else "", flush=True)
    elif done == total or done % max(1, total // 10) == 0:
        print(f"{done:4d}/{total} {text}", flush=True)


def draw(path, losses, accuracies, images, labels, predicted):
    """The learning curve, and the digits that were taken for others."""
    import matplotlib  # slow to import: after the training

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # as above; `use` comes first

    wrong = np.flatnonzero(predicted != labels)[:16]
    figure = plt.figure(figsize=(10, 4))
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    axes.plot(losses, color="tab:blue")
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    twin = axes.twinx()
    twin.plot(np.multiply(accuracies, 100), color="tab:orange")
    twin.set(ylabel="test accuracy (%)", ylim=(90, 100))
    right.suptitle(f"{len(np.flatnonzero(predicted != labels))} of {len(labels)} test digits misclassified")
    for cell, i in zip(right.subplots(4, 4).flat, [*wrong, *[None] * (16 - len(wrong))], strict=True):
        cell.axis("off")
        if i is not None:
            cell.imshow(images[i].reshape(8, 8), cmap="gray_r")
            cell.set_title(f"{labels[i]} as {predicted[i]}", fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", default="demo_digits.png")
    args = parser.parse_args()

    start = time.perf_counter()
    digits = load_digits()
    images = (digits.data / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(args.seed).permutation(len(images))
    images, labels = images[order], labels[order]
    n_train = 1437
    x_train, y_train = jnp.array(images[:n_train]), jnp.array(labels[:n_train])
    x_test, y_test = jnp.array(images[n_train:]), jnp.array(labels[n_train:])

    with velax.inspect.compile_log() as log:
        key, init_key = jax.random.split(jax.random.key(args.seed))
        params = init_params(init_key, [64, 256, 128, 10])
        state = adam_init(params)
        steps = n_train // args.batch
        losses, accuracies = [], []
        for epoch in range(args.epochs):
            key, shuffle_key = jax.random.split(key)
            permutation = jax.random.permutation(shuffle_key, n_train)
            rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / args.epochs))
            total = 0.0
            for i in range(steps):
                batch = permutation[i * args.batch : (i + 1) * args.batch]
                params, state, loss = train_step(params, state, x_train[batch], y_train[batch], rate)
                total += float(loss)
            losses.append(total / steps)
            accuracies.append(float(accuracy(params, x_test, y_test)))
            progress(epoch + 1, args.epochs, f"loss {losses[-1]:.4f}  test accuracy {accuracies[-1]:.2%}")
    seconds = time.perf_counter() - start

    print("\nwhat was compiled:")
    print(velax.inspect.summary(log))
    predicted = np.argmax(np.asarray(jax.jit(batched_predict)(params, x_test)), axis=1)
    draw(args.picture, losses, accuracies, np.asarray(x_test), np.asarray(y_test), predicted)
    print(
        f"\ntest accuracy {accuracies[-1]:.2%} after {args.epochs} epochs in {seconds:.1f} s, all compilation "
        f"included; picture: {args.picture}"
    )
    return 0 if accuracies[-1] >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())
