"""Dot-product attention."""

from __future__ import annotations

import numpy as np

import velax.numpy as jnp
from velax import lax
from velax._lang import dtypes
from velax._lang.trace import get_aval
from velax.lax._structural import convert_type
from velax.nn._normalization import softmax
from velax.scipy.special import logsumexp

__all__ = ["dot_product_attention"]


def dot_product_attention(
    query, key, value, bias=None, mask=None, *, scale: float | None = None, is_causal: bool = False, query_seq_lengths=None,
    key_value_seq_lengths=None, local_window_size: int | tuple[int, int] | None = None, implementation: str | None = None,
    return_residual: bool = False,
):  # fmt: skip
    """Scaled dot-product attention, ``softmax(scale * query @ key.T + bias) @ value``, with grouped heads.

    ``B`` is the batch, ``T`` and ``S`` the lengths of queries and of keys, ``N`` the heads of the queries,
    ``K`` those of keys and values (``N`` a multiple of it: neighbouring query heads share one), ``H`` the
    size of a head. ``B`` may be left out of query, key and value.

    Args:
      query: (B, T, N, H).
      key, value: (B, S, K, H).
      bias: added to the logits; broadcasts to (B, N, T, S).
      mask: booleans that broadcast to (B, N, T, S); False excludes.
      scale: factor of the logits, by default ``1 / sqrt(H)``.
      is_causal: whether a query sees keys at its own and earlier positions only.
      query_seq_lengths, key_value_seq_lengths: int32 (B,), the true lengths of padded sequences;
        results past a query's length are 0.
      local_window_size: how many positions to the left and to the right a query sees, one number or
        two.
      implementation: "xla" or None: this one.
      return_residual: whether to return the log-sum-exp of the logits too.

    Returns:
      (B, T, N, H); with ``return_residual`` a pair with an array (B, T, N).

    Raises:
      ValueError: for shapes and dtypes that do not fit.

    Example:
      >>> import velax.numpy as jnp
      >>> from velax import nn
      >>> q = k = v = jnp.ones((2, 5, 4, 8))
      >>> nn.dot_product_attention(q, k, v, is_causal=True).shape
      (2, 5, 4, 8)
    """
    if implementation == "cudnn":
        raise RuntimeError("cuDNN is not detected: there is no GPU; leave `implementation` None.")
    if implementation not in (None, "xla"):
        raise ValueError(f"Unsupported implementation option: {implementation}")
    query, key, value = map(jnp.asarray, (query, key, value))
    out_shape = query.shape
    lead = lambda x: None if x is None else jnp.asarray(x).reshape((1,) * max(0, 4 - np.ndim(x)) + np.shape(x))
    query, key, value, bias, mask = map(lead, (query, key, value, bias, mask))
    B, S, K, H = key.shape
    _check("value", value, [B, S, K, H], key.dtype)
    _check("query", query, [B, -1, -1, H], key.dtype)
    _check("mask", mask, [-1] * 4, np.dtype("bool"))
    _check("bias", bias, [-1] * 4, None)
    query_seq_lengths = None if query_seq_lengths is None else jnp.asarray(query_seq_lengths)
    key_value_seq_lengths = None if key_value_seq_lengths is None else jnp.asarray(key_value_seq_lengths)
    _check("query_seq_lengths", query_seq_lengths, [B], np.dtype("int32"))
    _check("key_value_seq_lengths", key_value_seq_lengths, [B], np.dtype("int32"))
    N = query.shape[2]
    if N % K:
        raise ValueError(f"The number of query heads must be a multiple of key/value heads, but got {N} vs {K}")
    scale = 1 / np.sqrt(H) if scale is None else scale
    window = (local_window_size, local_window_size) if isinstance(local_window_size, int) else local_window_size
    out, residual = _attend(
        query,
        key,
        value,
        bias,
        mask,
        scale,
        is_causal,
        query_seq_lengths,
        key_value_seq_lengths,
        window,
        return_residual,
    )
    out = out.reshape(out_shape)
    return (out, residual.reshape(out_shape[:-1])) if return_residual else out


def _check(name: str, x, shape, dtype) -> None:
    if x is None:
        return
    have = x.shape
    if len(have) != len(shape):
        raise ValueError(f"{name} ndim should be {len(shape)}, but got {len(have)}")
    if dtype is not None and x.dtype != dtype:
        raise ValueError(f"{name} dtype should be {dtype}, but got {x.dtype}")
    if any(want not in (-1, n) for want, n in zip(shape, have, strict=True)):
        raise ValueError(f"{name} shape should be {shape}: but got {have}")


def _attend(query, key, value, bias, mask, scale, is_causal, q_lengths, kv_lengths, window, with_residual):
    B, T, N, H = query.shape
    S, K = key.shape[1:3]
    G = N // K
    grouped = query.reshape(B, T, K, G, H)
    logit_dtype = (
        np.promote_types(query.dtype, np.float32)
        if dtypes.is_floating(query.dtype) and query.dtype.itemsize >= 4
        else np.dtype("float32")
    )
    # (B, K, T, G, S), then (B, K, G, T, S)
    logits = lax.dot_general(grouped, key, (((4,), (3,)), ((0, 2), (0, 2))), preferred_element_type=logit_dtype)
    logits = lax.transpose(logits * jnp.asarray(scale, logit_dtype), (0, 1, 3, 2, 4))
    if bias is not None:
        logits = convert_type(logits + _grouped(bias, K, G), logit_dtype)
    visible = _visible(mask, is_causal, q_lengths, kv_lengths, window, T, S, K, G)
    if visible is not None:
        logits = jnp.where(visible, logits, jnp.asarray(-0.7 * float(dtypes.finfo(logit_dtype).max), logit_dtype))
    weights = convert_type(softmax(logits, axis=-1), key.dtype)
    # (B, K, G, T, S) with (B, S, K, H): (B, K, G, T, H), then (B, T, K, G, H)
    out = lax.dot_general(weights, value, (((4,), (1,)), ((0, 1), (0, 2))), preferred_element_type=value.dtype)
    out = lax.transpose(out, (0, 3, 1, 2, 4))
    if q_lengths is not None:
        inside = lax.lt(lax.broadcasted_iota("int32", (B, T), 1), jnp.broadcast_to(q_lengths[:, None], (B, T)))
        out = out * convert_type(inside, get_aval(out).dtype)[:, :, None, None, None]
    residual = jnp.transpose(logsumexp(logits, axis=-1), (0, 3, 1, 2)).reshape(B, T, N) if with_residual else None
    return out, residual


def _grouped(x, K: int, G: int):
    """(B, N, T, S) as (B, K, G, T, S); an axis of heads of size 1 stays."""
    b, n, t, s = x.shape
    return x.reshape(b, 1, 1, t, s) if n == 1 else x.reshape(b, K, G, t, s)


def _visible(mask, is_causal, q_lengths, kv_lengths, window, T, S, K, G):
    """What queries see, as booleans that broadcast to (B, K, G, T, S); None: everything."""
    parts = [] if mask is None else [_grouped(mask, K, G)]
    row, column = (lax.broadcasted_iota("int32", (T, S), d) for d in (0, 1))
    if is_causal:
        parts.append(row >= column)
    if window is not None:
        left, right = window
        parts.append((row <= column + left) & (row >= column - right))
    if q_lengths is not None:
        parts.append((row < q_lengths[:, None, None])[:, None, None])
    if kv_lengths is not None:
        parts.append((column < kv_lengths[:, None, None])[:, None, None])
    if not parts:
        return None
    visible = parts[0]
    for part in parts[1:]:
        visible = visible & part
    return visible
