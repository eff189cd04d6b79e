"""all-MiniLM-L6-v2 on numpy: sentences into 384 dimensions.

The forward pass of BERT (Devlin et al., 2018, arXiv 1810.04805), six layers, with masked mean
pooling and L2 normalisation as in Sentence-BERT (Reimers and Gurevych, 2019, arXiv 1908.10084). It
is written over numpy because a text query must answer from a cold start: importing torch alone
costs more than loading these weights and encoding a query together. A test holds it equal to
transformers' BertModel.

Tokens are columns, so that each product is a weight, as it lies in the file, times them. For the
few tokens of a query BLAS then takes two thirds of the time of tokens in rows, and the weights
stay mapped: processes share them.
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
_MEAN = np.full((1, DIMENSION), 1 / DIMENSION, np.float32)
# Columns that BLAS multiplies at once.
_COLUMNS_AT_ONCE = 4
# Half of 1 - erf(x / sqrt(2)) is exp(-x² / 2) times a polynomial of 1 / (1 + scale · x) for x ≥ 0.
_ERF_SCALE = np.float32(0.3275911 * 0.5**0.5)
_ERF_TERMS = np.asarray(
    [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592], np.float32
) / np.float32(2)
# Padded tokens of one batch: past this a batch's activations leave the cache and it only gets
# slower.
_BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class _Linear:
    """A linear layer: weight (o, i) and bias (o, 1)."""

    weight: Float32Array
    bias: Float32Array

    def __call__(self, columns: Float32Array) -> Float32Array:
        """Columns (i, N) → (o, N)."""
        outputs: Float32Array = self.weight @ columns
        outputs += self.bias
        return outputs


@dataclass(frozen=True, slots=True)
class _Norm:
    """A layer normalisation: weight and bias (384, 1)."""

    weight: Float32Array
    bias: Float32Array

    def __call__(self, columns: Float32Array) -> Float32Array:
        """Normalise each column (384, N), in place."""
        # `mean` takes twice as long for a few columns.
        columns -= _MEAN @ columns
        variance = _MEAN @ np.square(columns)
        columns /= np.sqrt(variance + _EPSILON)
        columns *= self.weight
        columns += self.bias
        return columns


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer block."""

    query: _Linear
    key: _Linear
    value: _Linear
    attended: _Linear
    attended_norm: _Norm
    widen: _Linear  # to 1536
    narrow: _Linear
    narrow_norm: _Norm


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    tokenizer: Tokenizer
    words: Float32Array  # (30522, 384)
    positions: Float32Array  # (512, 384), with token type 0 added: there is only one segment
    norm: _Norm
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
    tensors = _tensors(MINILM_WEIGHTS.map())
    tokenizer = Tokenizer.from_str(MINILM_TOKENIZER.read().decode("utf-8"))
    # The published tokenizer pads everything to 128 tokens and cuts there; the model itself takes
    # 256.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MAX_TOKENS)

    def linear(name: str) -> _Linear:
        return _Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"][:, None])

    def norm(name: str) -> _Norm:
        return _Norm(tensors[f"{name}.weight"][:, None], tensors[f"{name}.bias"][:, None])

    def layer(prefix: str) -> _Layer:
        return _Layer(
            query=linear(f"{prefix}.attention.self.query"),
            key=linear(f"{prefix}.attention.self.key"),
            value=linear(f"{prefix}.attention.self.value"),
            attended=linear(f"{prefix}.attention.output.dense"),
            attended_norm=norm(f"{prefix}.attention.output.LayerNorm"),
            widen=linear(f"{prefix}.intermediate.dense"),
            narrow=linear(f"{prefix}.output.dense"),
            narrow_norm=norm(f"{prefix}.output.LayerNorm"),
        )

    try:
        return _Checkpoint(
            tokenizer=tokenizer,
            words=tensors["embeddings.word_embeddings.weight"],
            positions=tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0],
            norm=norm("embeddings.LayerNorm"),
            layers=tuple(layer(f"encoder.layer.{i}") for i in range(_LAYERS)),
        )
    except KeyError as error:
        raise ModelError(f"{MINILM_WEIGHTS.path} lacks the tensor {error.args[0]}") from error


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
    # One column for each token, and zeros: BLAS takes longer for 7 columns than for 8.
    width = -(-count // _COLUMNS_AT_ONCE) * _COLUMNS_AT_ONCE
    columns = np.zeros((DIMENSION, width), np.float32)  # (384, N)
    embedded = checkpoint.words[np.concatenate(tokens)] + checkpoint.positions[positions]
    columns[:, :count] = embedded.T
    columns = checkpoint.norm(columns)
    for layer in checkpoint.layers:
        columns = _block(layer, columns, is_token)
    # Dividing by the count would cancel below.
    summed = np.add.reduceat(columns[:, :count], np.cumsum(lengths) - lengths, axis=1).T
    return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), dtype=np.float32)


def _block(layer: _Layer, columns: Float32Array, is_token: BoolArray) -> Float32Array:
    """One transformer block over the columns (384, N) of all tokens of B sentences."""
    mixed = np.zeros_like(columns)
    mixed[:, : is_token.sum()] = _attend(layer, columns, is_token)
    attended = layer.attended(mixed)
    attended += columns
    columns = layer.attended_norm(attended)
    narrowed = layer.narrow(_gelu(layer.widen(columns)))
    narrowed += columns
    return layer.narrow_norm(narrowed)


def _attend(layer: _Layer, columns: Float32Array, is_token: BoolArray) -> Float32Array:
    """Mix each token's values with those of its sentence: columns (384, N) → (384, n)."""

    def heads(projection: _Linear) -> Float32Array:
        padded = np.zeros((DIMENSION, *is_token.shape), np.float32)
        padded[:, is_token] = projection(columns)[:, : is_token.sum()]
        return padded.reshape(_HEADS, -1, *is_token.shape).transpose(2, 0, 1, 3)

    query, key, value = heads(layer.query), heads(layer.key), heads(layer.value)  # (B, H, 32, T)
    scores = query.swapaxes(2, 3) @ key  # (B, H, T, T)
    scores *= np.float32((DIMENSION // _HEADS) ** -0.5)
    scores += np.where(is_token, np.float32(0), np.float32(-1e9))[:, None, None, :]
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed: Float32Array = (value @ scores.swapaxes(2, 3)).transpose(1, 2, 0, 3)  # (H, 32, B, T)
    return mixed.reshape(DIMENSION, *is_token.shape)[:, is_token]


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
