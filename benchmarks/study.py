"""What does studying cost a training step that nobody studies, and one in anomaly mode?

    python -m benchmarks.study [--preset quick] [--rounds 20] [--steps 5]

Forward, backward and update of the model that `tgl train --preset` trains, on random tokens, each way in a process of
its own, in turns:

    plain      the study code not imported
    loaded     imported, and off
    run        as plain, but no step is recorded and replayed: what a GPU, dropout or a large model has
    anomaly    detect_anomaly() on, which sees the engine's ops and so runs too

The shares are medians over the rounds, of the least time of one way over the other's in the same round. The goals:
loaded over plain at most 1.01, anomaly over plain at most 1.5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import nullcontext

import numpy as np

from .pair import Side, take_turns
from .report import Times, last_line, table

WAYS = ("plain", "loaded", "run", "anomaly")
WARM = 6  # the first steps compile, record and prove


def make_step(way: str, preset_name: str):
    """step(seed) of one way, which returns the loss."""
    from transformer import GPT
    from transformer.gradient_step import GradientStep
    from transformer.presets import preset
    from transformer.trainer import build_optimizer

    watch = nullcontext()
    if way in ("loaded", "anomaly"):
        from tinygrad_lite import study

        watch = study.detect_anomaly(None) if way == "anomaly" else watch
    config = preset(preset_name)
    model = GPT(config.gpt_config(config.vocab_size if config.tokenizer == "bpe" else 65))
    optimizer = build_optimizer(model, config)
    gradients = GradientStep(model, optimizer, enabled=way in ("plain", "loaded"))
    shape = (config.accumulate, config.batch_size, model.config.block_size + 1)

    def step(seed: int) -> float:
        ids = np.random.default_rng(seed).integers(0, model.config.vocab_size, shape)
        with watch:
            loss = gradients(ids[..., :-1], ids[..., 1:])
        optimizer.step(grad_scale=1.0)
        assert way != "plain" or not any(name.startswith("tinygrad_lite.study") for name in sys.modules)
        return loss

    return step


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="of each way in a round")
    args = parser.parse_args()
    sides = {way: Side(make_step, way, args.preset) for way in WAYS}
    warm = take_turns(sides, [list(range(WARM))])
    rounds = [list(range(WARM + i * args.steps, WARM + (i + 1) * args.steps)) for i in range(args.rounds)]
    answers = take_turns(sides, rounds)
    for side in sides.values():
        side.close()
    losses = {way: [loss for part in (warm[way] + answers[way]) for _, loss in part] for way in WAYS}
    # In one round every way has the machine within the same second; the least of a round is the least disturbed.
    least = {way: [min(ms for ms, _ in part) for part in answers[way]] for way in WAYS}
    times = {way: Times.of([ms for part in answers[way] for ms, _ in part]) for way in WAYS}

    def share(a, b):
        return statistics.median(x / y for x, y in zip(least[a], least[b], strict=True))

    rows = [[way, str(times[way]), times[way].least, share(way, "plain"), share(way, "run")] for way in WAYS]
    table(["", "ms a step (8 in 10)", "least", "over plain", "over run"], rows)
    same = all(losses[way] == losses["plain"] for way in WAYS)
    print(f"\nLosses of all ways are {'the same in every bit' if same else 'NOT the same'}.")
    last_line(
        preset=args.preset, plain_ms=round(times["plain"].median, 2), run_ms=round(times["run"].median, 2),
        loaded_over_plain=round(share("loaded", "plain"), 4), anomaly_over_run=round(share("anomaly", "run"), 3),
        anomaly_over_plain=round(share("anomaly", "plain"), 3), losses_same=same,
    )  # fmt: skip


if __name__ == "__main__":
    main()
