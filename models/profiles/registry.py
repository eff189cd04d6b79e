"""Finds profiles by name, among the shipped ones and the user's, or by path.

The user's folder is `REGARD_PROFILES`, else `profiles` in the platform's configuration folder. A
file there overrides the shipped one of the same name. A name that ends in `.toml` is a path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from regard.core.errors import UsageError
from regard.models.profiles.calibration import calibration_file
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.definition import read_definition

DEFAULT_PROFILE = "lite"
FOLDER_VARIABLE = "REGARD_PROFILES"
_SHIPPED = Path(__file__).parent / "shipped"
_SUFFIX = ".toml"


def profile_files() -> Mapping[str, Path]:
    """Return every profile's file by name, the default first, then in alphabetical order."""
    found = {path.stem: path for folder in (_SHIPPED, user_folder()) for path in _files(folder)}
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_PROFILE, item[0])))


def user_folder() -> Path:
    """Return the folder of the user's profiles, which may not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    return Path(platformdirs.user_config_path("regard", appauthor=False)) / "profiles"


def profile_file(name: str) -> Path:
    """Return a profile's file; raises UsageError, listing the names, for an unknown one."""
    if name.endswith(_SUFFIX):
        # Unlike pathlib, os.path leaves `~NAME` of an unknown user unexpanded instead of raising.
        path = Path(os.path.abspath(os.path.expanduser(name)))
        if not path.is_file():
            raise UsageError(
                f"there is no profile at {path}", remedy="give --profile a name or a TOML file"
            )
        return path
    files = profile_files()
    if name not in files:
        raise UsageError(
            f"there is no profile named {name!r}",
            remedy=f"choose one of: {', '.join(files)} (see: regard profiles)",
        )
    return files[name]


def load_profile(name: str) -> ComposedProfile:
    """Load a profile by name or path; raises UsageError for an unknown or invalid one."""
    path = profile_file(name)
    return ComposedProfile(
        str(path) if name.endswith(_SUFFIX) else name,
        read_definition(path),
        path.parent,
        calibration_file(path),
    )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []
