"""Which of Hugging Face's model types there are, each a table of names, and what their config.json says of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..config import GPTConfig


@dataclass(frozen=True)
class Place:
    """Where a weight of ours is among theirs: several stand one below the other in ours. transposed: (in, out) there."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False


class Format:
    """One of Hugging Face's types of model.

    name, architecture   as config.json has them
    choices              of GPTConfig's settings, those that all such models made
    prefix               of their names, which a file of the model without its head leaves out
    ignored              names, as an expression, of what is no weight
    lacks_biases         whether a model may have some of its biases only; those that it has not are zeros here
    """

    name: str
    architecture: str
    choices: dict
    prefix: str
    ignored: str
    lacks_biases: bool

    def misfits(self, config: GPTConfig) -> list[str]:
        """What a model has that this type cannot hold."""
        return [f"{k}={getattr(config, k)}" for k, value in self.choices.items() if getattr(config, k) != value]

    def places(self, config: GPTConfig) -> Iterator[Place]:
        """Every weight of a model with biases, but the head's."""
        raise NotImplementedError

    def settings(self, config: GPTConfig) -> dict:
        """What config.json says, beside the type."""
        raise NotImplementedError

    def config(self, settings: dict) -> GPTConfig:
        """The model that config.json says. Raises ValueError for what it asks for and we have not."""
        raise NotImplementedError

    def is_ignored(self, name: str) -> bool:
        """Whether a file's array of this name is no weight."""
        return re.fullmatch(self.ignored, name) is not None


# ours in a block, theirs in a block, transposed?
_GPT2_BLOCK = [
    ("norm1.weight", "ln_1.weight", False),
    ("norm1.bias", "ln_1.bias", False),
    ("attention.qkv.weight", "attn.c_attn.weight", True),
    ("attention.qkv.bias", "attn.c_attn.bias", False),
    ("attention.project.weight", "attn.c_proj.weight", True),
    ("attention.project.bias", "attn.c_proj.bias", False),
    ("norm2.weight", "ln_2.weight", False),
    ("norm2.bias", "ln_2.bias", False),
    ("mlp.up.weight", "mlp.c_fc.weight", True),
    ("mlp.up.bias", "mlp.c_fc.bias", False),
    ("mlp.down.weight", "mlp.c_proj.weight", True),
    ("mlp.down.bias", "mlp.c_proj.bias", False),
]
_GPT2_OUTER = [
    ("tokens.weight", "wte.weight"),
    ("positions.weight", "wpe.weight"),
    ("norm.weight", "ln_f.weight"),
    ("norm.bias", "ln_f.bias"),
]
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")  # one formula, three implementations


class GPT2(Format):
    """GPT-2, Radford et al. 2019. Its linear weights are (in, out), as in the original release; it has all biases."""

    name, architecture, prefix = "gpt2", "GPT2LMHeadModel", "transformer."
    choices = dict(positions="learned", norm="layernorm", mlp="gelu", tied=True)
    ignored = r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias"  # the causal mask, in files of older releases
    lacks_biases = False

    def misfits(self, config):
        other = super().misfits(config)
        other += [f"kv_heads={config.kv_heads}"] if config.kv_heads != config.heads else []
        return other + ([f"window={config.window}"] if config.window is not None else [])

    def places(self, config):
        yield from (Place(ours, (self.prefix + theirs,)) for ours, theirs in _GPT2_OUTER)
        for i in range(config.layers):
            for ours, theirs, transposed in _GPT2_BLOCK:
                yield Place(f"blocks.{i}.{ours}", (f"{self.prefix}h.{i}.{theirs}",), transposed)

    def settings(self, config):
        return {
            "vocab_size": config.vocab_size,
            "n_positions": config.block_size,
            "n_embd": config.channels,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.hidden,
            "activation_function": "gelu_new",  # the tanh form
            "layer_norm_epsilon": config.norm_eps,
            "attn_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "tie_word_embeddings": True,
        }

    def config(self, settings):
        given = _Settings(settings)
        given.refuse("activation_function", "gelu_new", *_TANH_GELU)
        given.refuse("scale_attn_weights", True, True)
        given.refuse("scale_attn_by_inverse_layer_idx", False, False)
        given.refuse("tie_word_embeddings", True, True)
        given.refuse("add_cross_attention", False, False)
        return given.model(
            dict(self.choices), vocab_size=50257, n_positions=1024, n_layer=12, n_head=12, n_embd=768,
            n_inner=None, layer_norm_epsilon=1e-5, resid_pdrop=0.1,
        )  # fmt: skip


_LLAMA_BLOCK = [
    ("norm1.weight", ("input_layernorm.weight",)),
    ("attention.qkv.weight", tuple(f"self_attn.{x}_proj.weight" for x in "qkv")),
    ("attention.qkv.bias", tuple(f"self_attn.{x}_proj.bias" for x in "qkv")),
    ("attention.project.weight", ("self_attn.o_proj.weight",)),
    ("attention.project.bias", ("self_attn.o_proj.bias",)),
    ("norm2.weight", ("post_attention_layernorm.weight",)),
    ("mlp.up.weight", ("mlp.gate_proj.weight", "mlp.up_proj.weight")),
    ("mlp.up.bias", ("mlp.gate_proj.bias", "mlp.up_proj.bias")),
    ("mlp.down.weight", ("mlp.down_proj.weight",)),
    ("mlp.down.bias", ("mlp.down_proj.bias",)),
]


class Llama(Format):
    """Llama, arXiv:2302.13971; and Qwen2, arXiv:2407.10671, which has biases on queries, keys and values."""

    name, architecture, prefix = "llama", "LlamaForCausalLM", "model."
    choices = dict(positions="rope", norm="rmsnorm", mlp="swiglu")
    ignored = r"(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq"  # in files of older releases
    lacks_biases = True

    def misfits(self, config):
        return super().misfits(config) + ([f"window={config.window}"] if config.window is not None else [])

    def places(self, config):
        yield Place("tokens.weight", (f"{self.prefix}embed_tokens.weight",))
        yield Place("norm.weight", (f"{self.prefix}norm.weight",))
        for i in range(config.layers):
            for ours, theirs in _LLAMA_BLOCK:
                yield Place(f"blocks.{i}.{ours}", tuple(f"{self.prefix}layers.{i}.{name}" for name in theirs))

    def settings(self, config):
        return {
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.block_size,
            "hidden_size": config.channels,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "intermediate_size": config.hidden,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_base,
            "attention_bias": config.bias,
            "mlp_bias": config.bias,
            "attention_dropout": config.dropout,
            "tie_word_embeddings": config.tied,
        }

    def config(self, settings):
        given = _Settings(settings)
        given.refuse("hidden_act", "silu", "silu", "swish")
        rope = {**(settings.get("rope_scaling") or {}), **(settings.get("rope_parameters") or {})}
        if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
            raise ValueError(f"rope_type {kind!r}: its angles are scaled, which is not supported")
        if rope.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0)) != 1.0:
            raise ValueError("partial_rotary_factor: heads that are turned in part are not supported")
        base = float(rope.get("rope_theta", settings.get("rope_theta", 10000.0)))
        given.refuse("rope_interleaved", False, False)
        given.refuse("use_sliding_window", False, False)  # Qwen2's, in some layers only
        kind = settings.get("model_type")
        choices = dict(
            self.choices, rope_base=base, tied=bool(settings.get("tie_word_embeddings", False)),
            window=settings.get("sliding_window", 4096) if kind == "mistral" else None,  # of Qwen2 unused, see above
            bias=kind == "qwen2" or bool(settings.get("attention_bias") or settings.get("mlp_bias")),
            kv_heads=settings.get("num_key_value_heads"),
        )  # fmt: skip
        found = given.model(
            choices, vocab_size=None, max_position_embeddings=2048, num_hidden_layers=None, num_attention_heads=None,
            hidden_size=None, intermediate_size=None, rms_norm_eps=1e-6, attention_dropout=0.0,
        )  # fmt: skip
        if settings.get("head_dim") not in (None, found.head_size):
            raise ValueError(
                f"head_dim is {settings['head_dim']}: supported are heads that share hidden_size, {found.head_size} each"
            )
        return found


class Mistral(Llama):
    """Mistral, arXiv:2310.06825: a Llama whose tokens see a window; without biases."""

    name, architecture = "mistral", "MistralForCausalLM"

    def misfits(self, config):
        other = Format.misfits(self, config) + (["bias=True"] if config.bias else [])
        return other + (["window=None"] if config.window is None else [])

    def settings(self, config):
        return super().settings(config) | {"sliding_window": config.window}


class _Settings:
    """A config.json that is read."""

    def __init__(self, settings: dict):
        self.settings = settings

    def refuse(self, name, default, *known):
        """Raise ValueError unless a setting is one of those that are known."""
        value = self.settings.get(name, default)
        if value not in known:
            raise ValueError(f"{name} is {value!r}; supported is {' or '.join(map(repr, known))}")

    def model(self, choices: dict, **names) -> GPTConfig:
        """GPTConfig of vocabulary, context, layers, heads, channels, hidden layer, norm's eps and dropout, in this order;
        names: theirs, with what they are where the file says nothing, or None where it must."""
        ours = ("vocab_size", "block_size", "layers", "heads", "channels", "mlp_size", "norm_eps", "dropout")
        found = {}
        for name, (theirs, default) in zip(ours, names.items(), strict=True):
            value = self.settings.get(theirs)
            value = default if value is None else value
            if value is None and theirs != "n_inner":
                raise ValueError(f"{theirs} is missing")
            found[name] = value
        return GPTConfig(**found, **choices)


TYPES = {"gpt2": GPT2(), "llama": Llama(), "mistral": Mistral()}  # that models are written as
READ = TYPES | {"qwen2": TYPES["llama"]}  # by what config.json calls model_type


def format_of(config: GPTConfig) -> Format:
    """The type that holds a model. Raises ValueError that says for each what of the model it has not."""
    reasons = {name: found.misfits(config) for name, found in TYPES.items()}
    for name, misfits in reasons.items():
        if not misfits:
            return TYPES[name]
    said = "; ".join(f"{name} has no {', '.join(misfits)}" for name, misfits in reasons.items())
    raise ValueError(f"no type of Hugging Face's holds this model: {said}")
