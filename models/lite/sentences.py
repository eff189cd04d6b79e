"""all-MiniLM-L6-v2 on numpy: sentences into 384 dimensions.

The forward pass of BERT (Devlin et al., 2018, arXiv 1810.04805), six layers, with masked mean
pooling and L2 normalisation as in Sentence-BERT (Reimers and Gurevych, 2019, arXiv 1908.10084). It
is written over numpy because a text query must answer from a cold start: importing torch alone
costs more than loading these weights and encoding a query together. A test holds it equal to
transformers' BertModel.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf
from tokenizers import Tokenizer

from regard.core.errors import ModelError
from regard.core.records import Float32Array, Int64Array
from regard.core.words import is_latin
from regard.models.lite.weights import MINILM_TOKENIZER, MINILM_WEIGHTS

DIMENSION = 384
MAX_TOKENS = 256  # the checkpoint's max_seq_length, [CLS] and [SEP] included
_LAYERS = 6
_HEADS = 12
_UNKNOWN = "[UNK]"
_LEAST_SPELLED = 4
_EPSILON = np.float32(1e-12)
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
    from safetensors.numpy import load

    tensors = load(MINILM_WEIGHTS.read())
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


def _forward(checkpoint: _Checkpoint, tokens: Sequence[Sequence[int]]) -> Float32Array:
    """Token ids of B sentences → (B, 384)."""
    longest = max(len(ids) for ids in tokens)
    ids: Int64Array = np.zeros((len(tokens), longest), dtype=np.int64)  # (B, T)
    mask = np.zeros((len(tokens), longest), dtype=np.float32)  # (B, T)
    for row, sentence in enumerate(tokens):
        ids[row, : len(sentence)] = sentence
        mask[row, : len(sentence)] = 1.0
    hidden = _normalise(checkpoint.words[ids] + checkpoint.positions[:longest], checkpoint.norm)
    bias = ((1.0 - mask) * np.float32(-1e9))[:, None, None, :]  # (B, 1, 1, T)
    for layer in checkpoint.layers:
        hidden = _block(layer, hidden, bias)  # (B, T, 384)
    summed = np.einsum("btc,bt->bc", hidden, mask)  # dividing by the count would cancel below
    return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), dtype=np.float32)


def _block(layer: _Layer, hidden: Float32Array, bias: Float32Array) -> Float32Array:
    batch, length, width = hidden.shape
    qkv = hidden @ layer.qkv + layer.qkv_bias  # (B, T, 1152)
    heads = qkv.reshape(batch, length, 3, _HEADS, width // _HEADS).transpose(2, 0, 3, 1, 4)
    query, key, value = heads[0], heads[1], heads[2]  # (B, H, T, 32) each
    scores = query @ key.transpose(0, 1, 3, 2) * np.float32((width // _HEADS) ** -0.5) + bias
    scores -= scores.max(axis=-1, keepdims=True)  # (B, H, T, T)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed: Float32Array = (scores @ value).transpose(0, 2, 1, 3).reshape(batch, length, width)
    hidden = _normalise(mixed @ layer.attended + layer.attended_bias + hidden, layer.attended_norm)
    wide: Float32Array = hidden @ layer.widen + layer.widen_bias  # (B, T, 1536)
    wide *= np.float32(0.5) * (np.float32(1.0) + erf(wide * np.float32(0.5**0.5)))
    narrowed: Float32Array = wide @ layer.narrow + layer.narrow_bias
    return _normalise(narrowed + hidden, layer.narrow_norm)


def _normalise(values: Float32Array, norm: tuple[Float32Array, Float32Array]) -> Float32Array:
    """Layer normalisation over the last axis."""
    weight, shift = norm
    centred: Float32Array = values - values.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + _EPSILON) * weight + shift, dtype=np.float32)
