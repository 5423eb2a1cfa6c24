"""Looking inside the model that trains: activations and gradients by name, hooks, attributions, heads, edits."""

from .cache import Activations, run_with_cache
from .hooks import ablate, patch
from .names import names_of
from .taps import hooked

__all__ = ["Activations", "ablate", "hooked", "names_of", "patch", "run_with_cache"]
