"""Calibrations of relevance as JSON: a profile's in `NAME.relevance.json` beside its file, a library's
in the catalog.

They are not part of a pipeline, because refitting changes no stored vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from regard.core.errors import UsageError
from regard.core.records import Target
from regard.core.relevance import Calibration, Calibrations, Form, LogisticModel


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Logistic(_Table):
    constant: FiniteFloat
    weights: dict[str, FiniteFloat]

    def model(self) -> LogisticModel:
        return LogisticModel(self.weights, self.constant)


class _OfTarget(_Table):
    hit: _Logistic
    presence: _Logistic
    cut_off: Annotated[float, Field(ge=0, le=1)]

    def calibration(self, spaces: frozenset[str]) -> Calibration:
        return Calibration(spaces, self.hit.model(), self.presence.model(), self.cut_off)


class _OfForm(_Table):
    spaces: list[str]
    image: _OfTarget | None = None
    region: _OfTarget | None = None


class _Document(_Table):
    """The top level holds the calibration of text queries; other query forms have sections."""

    space: str
    image: _OfTarget | None = None
    region: _OfTarget | None = None
    forms: dict[Form, _OfForm] = Field(default_factory=dict)


def calibration_file(profile_file: Path) -> Path:
    """Return the path of a profile's calibration, which may not exist."""
    return profile_file.with_suffix(".relevance.json")


def read_calibrations(path: Path) -> Calibrations | None:
    """Read calibrations, None without a file; raises UsageError naming an invalid field."""
    try:
        return parse_calibrations(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the calibration {path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"the calibration {path} is wrong at {where}: {first['msg']}",
            remedy="fit it again with: regard evaluate relevance --fit",
        ) from error


def parse_calibrations(text: str | bytes) -> Calibrations:
    """Read the JSON of calibrations; raises ValidationError."""
    document = _Document.model_validate_json(text)
    of_texts = _OfForm(spaces=[document.space], image=document.image, region=document.region)
    return {
        (form, target): table.calibration(frozenset(of_form.spaces))
        for form, of_form in {**document.forms, Form.TEXT: of_texts}.items()
        for target, table in ((Target.IMAGE, of_form.image), (Target.REGION, of_form.region))
        if table is not None
    }


def write_calibrations(path: Path, calibrations: Calibrations) -> None:
    """Write a file for `read_calibrations`; raises OSError, and ValueError as `to_json` does."""
    path.write_text(to_json(calibrations), encoding="utf-8")


def to_json(calibrations: Calibrations) -> str:
    """Calibrations as JSON for `parse_calibrations`, with 5 digits after the point.

    Raises ValueError without a calibration of texts.
    """

    def table(model: LogisticModel) -> _Logistic:
        weights = {name: round(weight, 5) for name, weight in model.weights.items()}
        return _Logistic(constant=round(model.constant, 5), weights=weights)

    def section(form: Form) -> _OfForm:
        found = {target: one for (of, target), one in calibrations.items() if of is form}
        spaces = frozenset[str]().union(*(one.spaces for one in found.values()))
        return _OfForm(
            spaces=sorted(spaces),
            **{
                target.value: _OfTarget(
                    hit=table(one.hit), presence=table(one.presence), cut_off=round(one.cut_off, 4)
                )
                for target, one in found.items()
            },
        )

    texts = section(Form.TEXT)
    if len(texts.spaces) != 1:
        raise ValueError("a calibration says what one space is worth to texts")
    (space,) = texts.spaces
    others = [
        form for form in Form if form is not Form.TEXT and form in {of for of, _ in calibrations}
    ]
    document = _Document(
        space=space,
        image=texts.image,
        region=texts.region,
        forms={form: section(form) for form in others},
    )
    return document.model_dump_json(indent=2, exclude_none=True) + "\n"
