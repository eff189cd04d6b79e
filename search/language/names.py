"""Which names before a colon are fields, and what is said of those that nearly are."""

from __future__ import annotations

from regard.search.language.syntax import Field

LIKE, IMAGE, BOX = "like", "image", "box"
CUSTOM = f"{Field.CUSTOM}."
FIELDS = (*(field.value for field in Field if field is not Field.CUSTOM), LIKE, IMAGE, BOX)

# What the fields are called elsewhere, in regard's own HTTP parameters too.
_OTHER_NAMES = {
    "tags": "tag:", "keyword": "tag:", "keywords": "tag:", "label": "tag:", "not_tag": "-tag:",
    "date": "taken:", "year": "taken:", "month": "taken:", "taken_from": "taken:2024-05..",
    "taken_to": "taken:..2024-06", "before": "taken:<2024-06", "after": "taken:>2024-05",
    "make": "camera:", "model": "camera:", "cam": "camera:",
    "album": "collection:", "folder": "path:", "dir": "path:", "directory": "path:",
    "path_prefix": "path:", "file": "path:", "filename": "path:",
    "gps": "near:52.5,13.4,10km", "geo": "near:52.5,13.4,10km", "gps_near": "near:52.5,13.4,10km",
    "gps_box": "within:", "bbox": "within:", "min_width": "width:>=", "max_width": "width:<=",
    "min_height": "height:>=", "max_height": "height:<=", "is": "has:", "not": "-",
    "similar": "like:", "asset": "like:", "region": "like:", "picture": "image:", "photo": "image:",
}  # fmt: skip
# Names that are shorter are a letter away from too many words.
_SHORTEST = 4


def reads_as_field(name: str, after: str) -> bool:
    """Whether `name` before a colon means a field, by itself and by the two characters after the colon.

    Other words are text, as in 10:30, https://… and "note: dusk". A name that is nearly that of a
    field counts only with a value right after it.
    """
    name = name.lower()
    if name in FIELDS or name.startswith(CUSTOM):
        return True
    return bool(after) and not after[0].isspace() and after != "//" and suggestion(name) is not None


def suggestion(name: str) -> str | None:
    """How to begin what was probably meant by a name that is no field's; None for a mere word."""
    name = name.lower()
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    if name == Field.CUSTOM:
        return "custom.NAME:"
    near = [
        field for field in FIELDS if min(len(field), len(name)) >= _SHORTEST and _near(name, field)
    ]
    return f"{near[0]}:" if near else None


def _near(one: str, other: str) -> bool:
    """Whether a letter more, fewer or other, or two that changed places, make one name the other."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    begin = 0
    while begin < len(one) and one[begin] == other[begin]:
        begin += 1
    rest, other_rest = one[begin:], other[begin:]
    if len(one) < len(other):
        return rest == other_rest[1:]
    is_swapped = rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:]
    return rest[1:] == other_rest[1:] or is_swapped
