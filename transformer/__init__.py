"""A GPT by hand: attention, embeddings, training, sampling, and the command line `tgl`."""

from .config import GPTConfig
from .evaluation import evaluate
from .model import GPT
from .presets import TrainConfig, preset
from .sampling import generate
from .trainer import Trainer
