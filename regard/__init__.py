"""Find photographs, and the things in them, by text and by image."""

import pkgutil

# In a checkout the subpackages stand beside this folder, and Python run from the checkout imports this
# folder itself. The installed package, further along `sys.path`, has the subpackages.
__path__ = pkgutil.extend_path(__path__, __name__)
