"""Looking inside the model that trains: activations and gradients by name, hooks, attributions, heads, edits."""

from .attribution import Attribution, Reading, direct_logit_attribution, logit_lens
from .cache import Activations, run_with_cache
from .heads import HeadScores, head_scores, repeated_tokens
from .hooks import ablate, patch
from .names import names_of
from .patching import PatchResult, answer_lead, patch_heads, patch_positions
from .taps import hooked

__all__ = [
    "Activations", "Attribution", "HeadScores", "PatchResult", "Reading", "ablate", "answer_lead",
    "direct_logit_attribution", "head_scores", "hooked", "logit_lens", "names_of", "patch", "patch_heads",
    "patch_positions", "repeated_tokens", "run_with_cache",
]  # fmt: skip
