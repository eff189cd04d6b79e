"""Find photographs, and the things in them, by text and by image."""

import pkgutil

# In a checkout, this folder stands beside those of the subpackages (`package-dir` in pyproject.toml). Python
# run from there imports it from the current directory, and finds the subpackages where they are installed.
__path__ = pkgutil.extend_path(__path__, __name__)
