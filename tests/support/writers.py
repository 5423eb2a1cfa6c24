"""Models that write, for the tests of decoding on each device."""

from tinygrad_lite import Generator
from transformer.config import GPTConfig
from transformer.model import GPT
from transformer.sampling import generate

SIZES = dict(vocab_size=30, block_size=12, heads=4, channels=32, tied=False)
MODELS = {
    "gpt2": dict(layers=1, dropout=0.2),
    "llama": dict(layers=2, positions="rope", norm="rmsnorm", mlp="swiglu", kv_heads=2, bias=False, window=5),
}


def writer(name="gpt2", seed=3) -> GPT:
    """A model whose weights are so large that each token changes what follows."""
    model = GPT(GPTConfig(**SIZES, **MODELS[name]), Generator(seed))
    for p in model.parameters():
        p.data[...] *= 8.0 if p.ndim == 2 else 1.0
    return model


def write(model, prompt=(1, 2, 3), count=12, **settings):
    """The most likely tokens."""
    return list(generate(model, prompt, count, temperature=0.0, **settings))
