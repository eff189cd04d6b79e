"""all-MiniLM-L6-v2 on numpy: sentences into 384 dimensions.

The forward pass of BERT (Devlin et al., 2018, arXiv 1810.04805), six layers, with masked mean
pooling and L2 normalisation as in Sentence-BERT (Reimers and Gurevych, 2019, arXiv 1908.10084). It
is written over numpy because a text query must answer from a cold start: importing torch alone
costs more than loading these weights and encoding a query together. A test holds it equal to
transformers' BertModel.
"""

from __future__ import annotations

import json
import math
import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from regard.core.errors import ModelError
from regard.core.records import BoolArray, Float32Array
from regard.core.words import is_latin
from regard.models.lite.weights import MINILM_TOKENIZER, MINILM_WEIGHTS

DIMENSION = 384
MAX_TOKENS = 256  # the checkpoint's max_seq_length, [CLS] and [SEP] included
_LAYERS = 6
_HEADS = 12
_UNKNOWN = "[UNK]"
_LEAST_SPELLED = 4
_EPSILON = np.float32(1e-12)
_MEAN = np.full((DIMENSION, 1), 1 / DIMENSION, np.float32)
# Rows that BLAS multiplies at once.
_ROWS_AT_ONCE = 4
# Half of 1 - erf(x / sqrt(2)) is exp(-x² / 2) times a polynomial of 1 / (1 + scale · x) for x ≥ 0.
_ERF_SCALE = np.float32(0.3275911 * 0.5**0.5)
_ERF_TERMS = np.asarray(
    [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592], np.float32
) / np.float32(2)
# Padded tokens of one batch: past this a batch's activations leave the cache and it only gets
# slower.
_BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer block; the three attention projections stand side by side in `qkv`."""

    qkv: Float32Array  # (384, 1152)
    qkv_bias: Float32Array
    attended: Float32Array  # (384, 384)
    attended_bias: Float32Array
    attended_norm: tuple[Float32Array, Float32Array]
    widen: Float32Array  # (384, 1536)
    widen_bias: Float32Array
    narrow: Float32Array  # (1536, 384)
    narrow_bias: Float32Array
    narrow_norm: tuple[Float32Array, Float32Array]


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    tokenizer: Tokenizer
    words: Float32Array  # (30522, 384)
    positions: Float32Array  # (512, 384), with token type 0 added: there is only one segment
    norm: tuple[Float32Array, Float32Array]
    layers: tuple[_Layer, ...]


class SentenceEncoder:
    """Sentences → float32 (n, 384), rows L2-normalised.

    A sentence encoded in a batch equals itself encoded alone within 1e-5 in every component. Text
    beyond 256 tokens is cut off. Safe to call from several threads; the weights load on first use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two first callers must not read 90 MB twice
        self._loaded: _Checkpoint | None = None

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Embed each text, shape (n, 384); an empty text gives the vector of "[CLS] [SEP]"."""
        rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        if not texts:
            return rows
        checkpoint = self._checkpoint()
        tokens = [encoding.ids for encoding in checkpoint.tokenizer.encode_batch(list(texts))]
        # Neighbours in length share a batch, so that little of it is padding.
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order):
                if (stop + 1 - start) * len(tokens[order[stop]]) > _BATCH_TOKENS:
                    break
                stop += 1
            chosen = order[start:stop]
            rows[chosen] = _forward(checkpoint, [tokens[i] for i in chosen])
            start = stop
        return rows

    def knows(self, word: str) -> bool:
        """Whether a word is one of the model's language, English, or like one.

        Other scripts are unknown tokens to it, or single letters without a meaning.
        """
        letters = [letter for letter in word if letter.isalnum()]
        if not letters or not all(map(is_latin, letters)):
            return False
        pieces = self._checkpoint().tokenizer.encode(word, add_special_tokens=False).tokens
        if _UNKNOWN in pieces:
            return False
        # Longer ones of single letters are typing errors or codes; short ones abbreviations.
        return word.isdigit() or len(pieces) < max(len(letters), _LEAST_SPELLED)

    def _checkpoint(self) -> _Checkpoint:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load()
            return self._loaded


def _load() -> _Checkpoint:
    content = MINILM_WEIGHTS.map()
    tensors = _tensors(content)
    tokenizer = Tokenizer.from_str(MINILM_TOKENIZER.read().decode("utf-8"))
    # The published tokenizer pads everything to 128 tokens and cuts there; the model itself takes
    # 256.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MAX_TOKENS)

    def matrix(name: str) -> Float32Array:
        return np.ascontiguousarray(tensors[f"{name}.weight"].T)

    def norm(name: str) -> tuple[Float32Array, Float32Array]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def layer(prefix: str) -> _Layer:
        attention = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        return _Layer(
            qkv=np.ascontiguousarray(np.hstack([matrix(name) for name in attention])),
            qkv_bias=np.concatenate([tensors[f"{name}.bias"] for name in attention]),
            attended=matrix(f"{prefix}.attention.output.dense"),
            attended_bias=tensors[f"{prefix}.attention.output.dense.bias"],
            attended_norm=norm(f"{prefix}.attention.output.LayerNorm"),
            widen=matrix(f"{prefix}.intermediate.dense"),
            widen_bias=tensors[f"{prefix}.intermediate.dense.bias"],
            narrow=matrix(f"{prefix}.output.dense"),
            narrow_bias=tensors[f"{prefix}.output.dense.bias"],
            narrow_norm=norm(f"{prefix}.output.LayerNorm"),
        )

    try:
        checkpoint = _Checkpoint(
            tokenizer=tokenizer,
            words=tensors["embeddings.word_embeddings.weight"],
            positions=tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0],
            norm=norm("embeddings.LayerNorm"),
            layers=tuple(layer(f"encoder.layer.{i}") for i in range(_LAYERS)),
        )
    except KeyError as error:
        raise ModelError(f"{MINILM_WEIGHTS.path} lacks the tensor {error.args[0]}") from error
    # The layers are copied, and few words occur in queries.
    content.madvise(mmap.MADV_DONTNEED)
    return checkpoint


def _tensors(content: mmap.mmap) -> dict[str, Float32Array]:
    """Views of the float32 tensors of a safetensors file, by name; its own reader copies them."""
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if entry.get("dtype") == "F32":
            shape, first = entry["shape"], start + entry["data_offsets"][0]
            values = np.frombuffer(content, "<f4", math.prod(shape), first)
            tensors[name] = values.reshape(shape)
    return tensors


def _forward(checkpoint: _Checkpoint, tokens: Sequence[Sequence[int]]) -> Float32Array:
    """Token ids of B sentences → (B, 384)."""
    lengths = np.asarray([len(ids) for ids in tokens])
    count, longest = int(lengths.sum()), int(lengths.max())
    is_token = np.arange(longest) < lengths[:, None]  # (B, T)
    positions = np.nonzero(is_token)[1]
    # One row for each token, and rows of zeros: BLAS is a third slower with 7 rows than with 8.
    rows = np.zeros((-(-count // _ROWS_AT_ONCE) * _ROWS_AT_ONCE, DIMENSION), np.float32)  # (N, 384)
    rows[:count] = checkpoint.words[np.concatenate(tokens)] + checkpoint.positions[positions]
    rows = _normalise(rows, checkpoint.norm)
    for layer in checkpoint.layers:
        rows = _block(layer, rows, is_token)
    # Dividing by the count would cancel below.
    summed = np.add.reduceat(rows[:count], np.cumsum(lengths) - lengths)
    return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), dtype=np.float32)


def _block(layer: _Layer, rows: Float32Array, is_token: BoolArray) -> Float32Array:
    """One transformer block over the rows (N, 384) of all tokens of B sentences."""
    mixed = np.zeros_like(rows)
    qkv = rows @ layer.qkv + layer.qkv_bias  # (N, 1152)
    mixed[: is_token.sum()] = _attend(qkv, is_token)
    rows = _normalise(mixed @ layer.attended + layer.attended_bias + rows, layer.attended_norm)
    wide = _gelu(rows @ layer.widen + layer.widen_bias)  # (N, 1536)
    return _normalise(wide @ layer.narrow + layer.narrow_bias + rows, layer.narrow_norm)


def _attend(qkv: Float32Array, is_token: BoolArray) -> Float32Array:
    """Mix each token's values with those of its sentence: rows (N, 1152) → (n, 384)."""
    batch, length = is_token.shape
    padded = np.zeros((batch, length, 3 * DIMENSION), np.float32)
    padded[is_token] = qkv[: is_token.sum()]
    heads = padded.reshape(batch, length, 3, _HEADS, -1).transpose(2, 0, 3, 1, 4)
    query, key, value = heads[0], heads[1], heads[2]  # (B, H, T, 32) each
    scores = query @ key.transpose(0, 1, 3, 2)  # (B, H, T, T)
    scores *= np.float32((DIMENSION // _HEADS) ** -0.5)
    scores += np.where(is_token, np.float32(0), np.float32(-1e9))[:, None, None, :]
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed: Float32Array = (scores @ value).transpose(0, 2, 1, 3).reshape(batch, length, DIMENSION)
    return mixed[is_token]


def _gelu(values: Float32Array) -> Float32Array:
    """The Gaussian error linear unit, in place.

    The error function is that of Abramowitz and Stegun (1964, 7.1.26), as exact as float32 and a
    quarter of the time of SciPy's.
    """
    size = np.abs(values)
    share = size * _ERF_SCALE
    share += np.float32(1)
    np.reciprocal(share, out=share)
    tail = share * _ERF_TERMS[0]
    for term in _ERF_TERMS[1:]:
        tail += term
        tail *= share
    np.square(size, out=share)
    share *= np.float32(-0.5)
    np.exp(share, out=share)
    tail *= share
    tail *= size
    np.maximum(values, np.float32(0), out=values)
    values -= tail
    return values


def _normalise(values: Float32Array, norm: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Layer normalisation over the last axis, in place."""
    weight, shift = norm
    # `mean` takes twice as long for a few rows.
    values -= values @ _MEAN
    variance = np.square(values) @ _MEAN
    values /= np.sqrt(variance + _EPSILON)
    values *= weight
    values += shift
    return values
