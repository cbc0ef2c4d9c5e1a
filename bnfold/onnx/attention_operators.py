"""onnxruntime's operators of transformers for the float64 run, as its docs/ContribOperators.md has them.

In all of them `y = softmax(scale * q @ k.T + mask) @ v` for each head, with scale 1/sqrt(size of a head) unless it is
said. What is masked is no -infinity: a number is added, so that a row of which all is masked counts evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.net import Array
from bnfold.onnx.fused_operators import standardised
from bnfold.onnx.reference_operators import MicrosoftOperator, softmax, total

FILTERED = -10000.0  # what is added where a mask is 0
LOWEST = float(np.finfo(np.float32).min)  # what is added to what comes later, where that is left out
AXES = 4  # of what is given by heads: (N, heads, length, size)
UNSAID = {"do_rotary": 0, "past_present_share_buffer": 0}
"""Attributes of which other values have no form here."""


class Attention(MicrosoftOperator):
    """Of `q, k, v = x @ W + b`; with what was there before, the keys and values of all."""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        past: Array | None = None,
        added: Array | None = None,
        _length: Any = None,
        *,
        num_heads: int,
        qkv_hidden_sizes: Sequence[int] = (),
        scale: float = 0.0,
        unidirectional: int = 0,
        mask_filter_value: float = FILTERED,
        **given: Any,
    ) -> tuple[Array, ...]:
        if any(given.get(name, value) != value for name, value in UNSAID.items()):
            raise NotImplementedError("Attention turns what it reads, or shares memory with its past")
        product = total(x @ weight, bias)
        sizes = qkv_hidden_sizes or [product.shape[2] // 3] * 3
        q, k, v = (_heads(one, num_heads) for one in np.split(product, np.cumsum(sizes)[:2], axis=2))
        if past is not None:
            k, v = np.concatenate([past[0], k], axis=2), np.concatenate([past[1], v], axis=2)
        shift = _masked(mask, len(x), k.shape[2], mask_filter_value)
        y = attention(q, k, v, scale, [*shift, added], later=LOWEST if unidirectional else 0.0)[0]
        return (y, np.stack([k, v])) if q.shape[3] == v.shape[3] else (y,)


class EmbedLayerNormalization(MicrosoftOperator):
    """The norm of the sum of rows of two or three tables; how many words there are, and the sum."""

    def _run(
        self,
        words: Array,
        segments: Array | None,
        word_table: Array,
        place_table: Array,
        segment_table: Array | None,
        scale: Array,
        shift: Array,
        mask: Array | None = None,
        places: Array | None = None,
        epsilon: float = 1e-12,
        **_: Any,
    ) -> tuple[Array, ...]:
        of_places = place_table[np.arange(words.shape[1])[np.newaxis] if places is None else places]
        of_segments = None if segments is None or segment_table is None else segment_table[segments]
        z = total(word_table[words], of_places, of_segments)
        y, *_rest = standardised(z, scale, shift, epsilon)
        count = np.zeros(len(words), np.int32) if mask is None else (mask == 1).sum(axis=1).astype(np.int32)
        return y, count, z  # mask_index_type is for inferring shapes


class MultiHeadAttention(MicrosoftOperator):
    """Of q, k and v; with the keys and values of all, and the scores."""

    def _run(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        bias: Array | None = None,
        mask: Array | None = None,
        added: Array | None = None,
        past_key: Array | None = None,
        past_value: Array | None = None,
        *more: Any,
        num_heads: int,
        scale: float = 0.0,
        unidirectional: int = 0,
        mask_filter_value: float = FILTERED,
    ) -> tuple[Array, ...]:
        if key is None or value is None or any(one is not None for one in more):
            raise NotImplementedError("MultiHeadAttention has keys and values in one, or shares memory with its past")
        is_made = key.ndim == AXES  # of another network, by heads
        k, v = (key, value) if is_made else (_heads(key, num_heads), _heads(value, num_heads))
        q, k, v = _with_bias(_heads(query, num_heads), k, v, bias, is_made)
        if past_key is not None and past_value is not None:
            k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        before = 0 if past_key is None else past_key.shape[2]
        if unidirectional and k.shape[2] != before + q.shape[2]:
            raise NotImplementedError("MultiHeadAttention hides later keys, which are not as many as its queries")
        shift = _masked(mask, len(q), k.shape[2], mask_filter_value)
        y, scores = attention(q, k, v, scale, [*shift, added], later=LOWEST if unidirectional else 0.0)
        return y, k, v, scores


class RotaryEmbedding(MicrosoftOperator):
    """`(x1*cos - x2*sin, x1*sin + x2*cos)` of halves, or of each pair, by the angle of a place."""

    def _run(
        self,
        x: Array,
        places: Array,
        cos: Array,
        sin: Array,
        interleaved: int = 0,
        num_heads: int = 0,
        rotary_embedding_dim: int = 0,
        is_packed_batching: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        if is_packed_batching:
            raise NotImplementedError("RotaryEmbedding reads samples of other lengths one behind another")
        turned = rotary_embedding_dim or 2 * cos.shape[1]
        if x.ndim == 3:  # (N, length, heads * size)
            heads = num_heads if rotary_embedding_dim else x.shape[2] // turned
            y = x.reshape(*x.shape[:2], heads, -1)
        else:
            y = np.swapaxes(x, 1, 2)
        length = y.shape[1]
        rows = places if places.ndim > 1 else places.reshape(-1)[:1, np.newaxis] + np.arange(length)
        c, s = cos[rows][:, :, np.newaxis], sin[rows][:, :, np.newaxis]
        part, rest = y[..., :turned], y[..., turned:]
        x1, x2 = (part[..., 0::2], part[..., 1::2]) if interleaved else np.split(part, 2, axis=-1)
        pair = x1 * c - x2 * s, x1 * s + x2 * c
        part = np.stack(pair, axis=-1).reshape(part.shape) if interleaved else np.concatenate(pair, axis=-1)
        y = np.concatenate([part, rest], axis=-1)
        return (y.reshape(x.shape) if x.ndim == 3 else np.swapaxes(y, 1, 2),)


def attention(
    q: Array, k: Array, v: Array, scale: float, shifts: Sequence[Array | None], later: float
) -> tuple[Array, Array]:
    """What all heads give, side by side, and their scores before the softmax.

    Args:
        q, k, v: (N, heads, length, size).
        scale: 0 for the usual one.
        shifts: what is added to the scores.
        later: what is added where a key comes behind its query.
    """
    scores = (scale or 1 / np.sqrt(q.shape[3])) * (q @ np.swapaxes(k, 2, 3))
    scores = total(scores, *shifts)
    length, keys = scores.shape[2:]
    if later:
        scores = scores + np.where(np.arange(keys) > np.arange(length)[:, np.newaxis] + keys - length, later, 0.0)
    y = softmax(scores, axis=-1) @ v
    return np.swapaxes(y, 1, 2).reshape(len(y), length, -1), scores


def _heads(x: Array, heads: int) -> Array:
    """(N, length, heads * size) as (N, heads, length, size)."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _with_bias(q: Array, k: Array, v: Array, bias: Array | None, is_made: bool) -> tuple[Array, Array, Array]:
    """What is given by heads with one bias for all three; keys and values that are made already have theirs."""
    if bias is None:
        return q, k, v
    ends = np.cumsum([q.shape[1] * q.shape[3], k.shape[1] * k.shape[3]])
    q_bias, k_bias, v_bias = (one.reshape(q.shape[1], 1, -1) for one in np.split(bias, ends))
    return (q + q_bias, k, v) if is_made else (q + q_bias, k + k_bias, v + v_bias)


def _masked(mask: Array | None, count: int, keys: int, value: float) -> list[Array]:
    """What a mask adds: `value` where it is 0, or before the start and from the end on that it says of each sample."""
    if mask is None:
        return []
    if mask.ndim == 1:
        places = np.arange(keys)
        kept = places < mask[:count, np.newaxis]
        if len(mask) == 2 * count:
            kept = kept & (places >= mask[count:, np.newaxis])
        elif len(mask) != count:
            raise NotImplementedError("the mask has the ends of samples that are one behind another")
    else:
        kept = mask > 0
    # Of each sample and head, each query.
    return [np.where(kept.reshape(count, *[1] * (AXES - kept.ndim), *kept.shape[1:]), 0.0, value)]


ATTENTION_OPERATORS: tuple[type[OpRun], ...] = (
    Attention, EmbedLayerNormalization, MultiHeadAttention, RotaryEmbedding,
)  # fmt: skip
