"""The training loop: batches, backward, clipping, the optimiser's step, evaluation, checkpoints.

What decides the weights is the config, the seed and the step number alone; a run that is interrupted and
continued writes the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinygrad_lite import Generator, default_generator, enable_grad, optim
from tinygrad_lite.autograd.mode import TRACE, mode
from tinygrad_lite.config import settings

from . import checkpoint
from .data import DataError, Loader
from .evaluation import Evaluation, evaluate
from .gradient_step import GradientStep
from .log import JsonLines, layer_report
from .model import GPT
from .optimizer_state import arrays_of, plain_of, restore_optimizer
from .presets import FREE_ON_RESUME, TrainConfig

DECAY_SHARE = 0.4  # of a wsd run's steps: a long decay suits a short run, arXiv:2405.18392
LEAST_SCALE = 1.0  # of the loss in float16: gradients that overflow even then do diverge


class _Stopped(Exception):
    """An evaluation is left half way, since `stop_requested` was set."""


class NonFiniteLoss(RuntimeError):
    """The loss or a gradient is NaN or infinite: nothing that follows would mean anything."""


@dataclass
class Progress:
    """Where a run stands: what a checkpoint keeps beside weights, moments and configs."""

    step: int = 0
    tokens_seen: int = 0
    clipped: int = 0
    first_loss: float | None = None
    loss: float | None = None
    evaluations: list = field(default_factory=list)


class Trainer:
    """Trains a GPT on token arrays.

    train, val: integer arrays of token ids; tokenizer: for bits a byte and samples; out: the run's directory, or
    None to keep nothing; initial: arrays to begin with in place of random ones, and marks, as checkpoint.marks, of the run
    that they are of. `report(kind, values)` is told of "calibrated", "settled", "step", "eval", "evaluating", "save"
    and "warning". Raises ValueError naming every setting that cannot be.
    """

    def __init__(self, config: TrainConfig, train, val, tokenizer, out=None, source: str = "", report=None, initial=None,
                 marks=None):  # fmt: skip
        config.check()
        if len(val) < 2:
            raise DataError(f"the held-out text has {len(val)} tokens, and a loss needs two: give more text")
        out = None if out is None else Path(out)
        self.config, self.tokenizer, self.out, self.source = config, tokenizer, out, source
        self.report = report or (lambda kind, values: None)
        self.marks = checkpoint.marks(marks or {})
        self.val = val
        model_config = config.gpt_config(tokenizer.vocab_size)
        self.model = GPT(model_config, Generator(config.seed))
        if initial is not None:
            checkpoint.put_weights(self.model, initial, config.init_from)
        self.model.to(config.device).to(config.dtype)
        self.parameters = list(self.model.parameters())
        self.loader = Loader(train, config.batch_size, model_config.block_size, config.seed)
        self.optimizer = build_optimizer(self.model, config)
        self.device_step = build_device_step(self.model, self.optimizer, config)
        self.gradient_step = GradientStep(self.model, self.optimizer, enabled=settings.use_graph)
        self.scaler = optim.LossScaler(enabled=config.dtype == "float16")
        self.progress = Progress()
        self.log = JsonLines(None if out is None else out / "log.jsonl")
        self.stop_requested = self.warned = False
        self.timing_s = None  # spent on timing steps, until their number is settled for good
        self.saved_step = None  # of the newest checkpoint that this run wrote or began with
        default_generator.manual_seed(config.seed ^ 0x5851F42D4C957F2D)  # dropout's stream, apart from the weights'

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimiser step learns from."""
        return self.config.batch_size * self.config.accumulate * self.model.config.block_size

    # -- one step -----------------------------------------------------------------------------------------
    def train_step(self, step: int) -> dict:
        """Forward, backward, clip, update. Returns loss (nats a token), gradient norm and learning rate.

        In float16 a step whose gradients overflow is left out ("skipped"), and the loss is scaled less from then on.
        """
        c, lr, scale = self.config, self.schedule(step), self.scaler.scale
        batches = [self.loader.batch(step, micro, c.accumulate) for micro in range(c.accumulate)]
        self.optimizer.set_lr(lr)
        # A graph is one launch: whoever traces, to find where a NaN began say, sees the engine's ops instead.
        device_step = self.device_step if mode.state != TRACE else None
        if device_step is not None:
            total, norm = device_step(*map(np.stack, zip(*batches)), scale)
        else:
            total = self._gradients(*map(np.stack, zip(*batches)), scale)
            norm = optim.grad_norm(self.parameters) / scale
        finite = self.scaler.update(norm)
        if not finite and self.scaler.enabled and math.isfinite(total) and self.scaler.scale > LEAST_SCALE:
            return {"loss": total, "grad_norm": float(norm), "lr": lr, "clipped": False, "skipped": True}
        for name, value in (("loss", total), ("gradient's norm", norm)):
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"step {step + 1}: the {name} is {value}; nothing of this step was kept. {self._way_out()}"
                )
        if device_step is None:
            # Clipping is a factor on the way into the update: no pass of its own over the gradients.
            coefficient = optim.clip_coefficient(norm, c.clip) if c.clip > 0 else 1.0
            self.optimizer.step(grad_scale=coefficient / scale)
        return {"loss": total, "grad_norm": float(norm), "lr": lr, "clipped": 0 < c.clip < norm}

    def _gradients(self, inputs, targets, scale) -> float:
        """The mean loss; gradients are left in .grad. Where a scaled loss overflows, a tracer's error is no end."""
        drawn = default_generator.get_state()
        try:
            return self.gradient_step(inputs, targets, scale)
        except RuntimeError as error:  # detect_anomaly's has an `origin`; its class is not loaded here
            origin = getattr(error, "origin", None)
            if getattr(origin, "kind", None) != "infinity" or origin.phase != "backward" or scale <= LEAST_SCALE:
                raise
        default_generator.set_state(drawn)
        with enable_grad():  # once more, not looked at: the scale will be lowered
            return self.gradient_step(inputs, targets, scale)

    def _way_out(self) -> str:
        hint = "Try a lower --lr or a longer --warmup"
        if mode.state == TRACE:  # every result was finite: it is the sum of squares that overflows
            return hint
        if self.saved_step is None:
            return f"To find the op where it began, train again with --detect-anomaly. {hint}"
        began = f"--resume --detect-anomaly, from step {self.saved_step}, which is kept"
        return f"To find the op where it began: {began}. {hint}"

    def schedule(self, step: int) -> float:
        """The learning rate of a step."""
        if self._schedule is None:
            self._schedule = build_schedule(self.config)
        return self._schedule(step)

    _schedule = None

    # -- the run ------------------------------------------------------------------------------------------
    def settle_steps(self) -> int:
        """Turn max_seconds into a number of steps, by timing some and putting everything back.

        Unless the schedule is "cosine", whose rate depends on the end all along, `run` settles it again half way.
        """
        c = self.config
        if c.steps is None:
            before, generator = self._snapshot(), default_generator.get_state()
            scaler = self.scaler.state_dict()
            c.steps, self._schedule, times = 10**9, None, []
            # Until 2 % of the time is spent, since the first seconds are slower (85 ms a step where later ones took 60).
            while (
                len(times) < 4
                or (len(times) < 9 or sum(times) < 0.02 * c.max_seconds)
                and sum(times) < 0.1 * c.max_seconds
            ):
                began = time.perf_counter()
                self.train_step(len(times))
                times.append(time.perf_counter() - began)
            seconds = float(np.median(times[len(times) // 2 :]))  # the first ones compile kernels and warm caches
            spent = sum(times[2:])
            left = c.max_seconds * 0.96 - spent
            c.steps, self._schedule = max(1, int(left / seconds)), None
            self._restore(*before)
            default_generator.set_state(generator)
            self.scaler.load_state_dict(scaler)
            self.timing_s = spent if c.schedule != "cosine" else None
            self.report("calibrated", {"step_ms": seconds * 1e3, "steps": c.steps, "again": self.timing_s is not None})
        return c.steps

    def _settle_again(self, elapsed_s: float) -> bool:
        """Once half of the time is spent, or half of the steps: their number by what they took so far, not in one moment.

        The rates so far are those of the new number too, so that a run of so many steps repeats this one.
        """
        c, p = self.config, self.progress
        if self.timing_s is None or (self.timing_s + elapsed_s < c.max_seconds / 2 and p.step < c.steps / 2):
            return False
        before, seconds = c.steps, elapsed_s / p.step
        steps = p.step + int((c.max_seconds * 0.96 - self.timing_s - elapsed_s) / seconds)
        steps = max(steps, math.ceil(p.step / (1.0 - DECAY_SHARE)))  # else the rate would have begun to fall before now
        schedule = build_schedule(replace(c, steps=steps))
        if all(schedule(i) == self.schedule(i) for i in range(p.step)):  # or else the warm-up was cut, in a tiny run
            c.steps, self._schedule = steps, schedule
        self.timing_s = None
        self.report("settled", {"step_ms": seconds * 1e3, "steps": c.steps, "before": before})
        return True

    @property
    def finished(self) -> bool:
        """Whether every step is taken and the last evaluation made."""
        return self.progress.step == self.config.steps and not self._evaluation_due()

    def run(self) -> Progress:
        """Train to the last step, or until `stop_requested`; saves before every evaluation and at the end.

        A stop cuts an evaluation short too: `finished` is then false, and the run that resumes makes up for it.
        """
        c, p = self.config, self.progress
        self.settle_steps()
        self.log.truncate(p.step, {e["step"] for e in p.evaluations})
        if c.init_from and self.saved_step is None:
            self.save()  # before the evaluation of what it begins with
        if (
            (p.step or c.init_from) and self._evaluation_due() and self._evaluate_now() is None
        ):  # cut short after the save before it
            return p
        if p.step:  # the time before is not known
            self.timing_s = None
        began = window = time.perf_counter()
        window_tokens = 0  # of the steps since `window`; began: so long ago as all steps together have taken
        while p.step < c.steps and not self.stop_requested:
            logged = p.step % c.log_every == 0 or p.step == c.steps - 1
            before = layer_report.weights(self.model) if logged else None
            values = self.train_step(p.step)
            p.step += 1
            p.tokens_seen += self.tokens_per_step
            p.clipped += values["clipped"]
            p.loss = values["loss"]
            p.first_loss = p.loss if p.first_loss is None else p.first_loss
            self._watch_divergence()
            window_tokens += self.tokens_per_step
            if logged:
                now = time.perf_counter()
                values |= {"tokens_per_s": window_tokens / (now - window), "clipped_share": p.clipped / p.step}
                self.log.write({"step": p.step, **values, **layer_report.compare(self.model, before)})
                window, window_tokens = time.perf_counter(), 0
            self.report("step", {"step": p.step, **values})
            settled = self._settle_again(time.perf_counter() - began)
            due, aside = self._evaluation_due(), time.perf_counter()
            if due or settled or (c.save_every and p.step % c.save_every == 0):
                self.save()  # before the evaluation: a run killed there loses nothing
            if due:
                if self._evaluate_now() is None:
                    return p  # saved already
                window, window_tokens = time.perf_counter(), 0
            began += time.perf_counter() - aside  # the time is for training: not for evaluations and saving
        if self.out is not None:
            self.save()
        return p

    def _watch_divergence(self):
        p, guess = self.progress, math.log(self.tokenizer.vocab_size)
        if p.loss > guess + 1.0 and not self.warned:
            self.warned = True
            text = f"step {p.step}: the loss {p.loss:.2f} is far above a uniform guess's {guess:.2f}: it diverges. "
            self.report("warning", {"text": text + "Try a lower --lr or a longer --warmup."})

    def _evaluation_due(self) -> bool:
        c, p = self.config, self.progress
        return (p.step % c.eval_every == 0 or p.step == c.steps) and all(e["step"] != p.step for e in p.evaluations)

    def _evaluate_now(self) -> Evaluation | None:
        c = self.config
        return self.evaluate(c.eval_windows if self.progress.step < c.steps else c.final_windows)

    def evaluate(self, limit=None) -> Evaluation | None:
        """Held-out loss now, logged as val_loss and bits a byte; None if `stop_requested` was set before its end."""

        def show(done, of):
            self.report("evaluating", {"done": done, "of": of})
            if self.stop_requested and done < of:
                raise _Stopped

        if self.stop_requested:
            return None
        try:
            result = evaluate(self.model, self.val, self.tokenizer, limit=limit, progress=show)
        except _Stopped:
            return None
        if not math.isfinite(result.loss):
            raise NonFiniteLoss(
                f"step {self.progress.step}: the held-out loss is {result.loss}, with weights that this step made. "
                "Try a lower --lr or a longer --warmup; --keep keeps the checkpoints before"
            )
        entry = {"step": self.progress.step, "val_loss": result.loss, "bits_per_byte": result.bits_per_byte}
        entry["val_tokens"] = result.tokens
        self.progress.evaluations.append(entry)
        self.log.write(entry)
        self.report("eval", entry)
        return result

    # -- saving -------------------------------------------------------------------------------------------
    def save(self):
        """Write a checkpoint of everything that the rest of the run depends on."""
        if self.out is None:
            return
        optimizer = self.optimizer.state_dict()
        state = {
            "version": 1,
            "train": self.config.to_dict(),
            "model": self.model.config.to_dict(),
            "tokenizer": self.tokenizer.to_dict(),
            "source": self.source,
            "text_sha256": self._text_sha256(),
            "progress": self.progress.__dict__,
            "generator": list(default_generator.get_state()),
            "scaler": self.scaler.state_dict(),
            "optimizer": plain_of(optimizer),
            **self.marks,
        }
        weights = {name: p.float().numpy() for name, p in self.model.named_parameters()}  # a half's values, exactly
        moments = dict(arrays_of(optimizer, "optimizer"))
        path = checkpoint.save(self.out, self.progress.step, weights, moments, state, self.config.keep)
        self.saved_step = self.progress.step
        self.report("save", {"step": self.progress.step, "path": str(path)})

    def resume(self, out) -> None:
        """Continue from the newest checkpoint of a run.

        Raises ValueError if a setting that decides what is learned, or the text, is not the run's.
        """
        weights, moments, state = checkpoint.load_to_resume(out)
        stored = TrainConfig.from_dict(state["train"])
        if self.config.steps is None:
            self.config.steps = stored.steps
        mine, theirs = self.config.to_dict(), stored.to_dict()
        changed = [
            f"{k} was {theirs[k]}, is {mine[k]}" for k in theirs if k not in FREE_ON_RESUME and mine[k] != theirs[k]
        ]
        if state["text_sha256"] != self._text_sha256():
            changed.append("the text or its tokens are not those it was trained on")
        if changed:
            raise ValueError(
                f"resume: {out} holds another run: {'; '.join(changed)}: start a new one with another --out"
            )
        progress = Progress(**state["progress"])
        if self.config.steps < progress.step:
            raise ValueError(f"resume: {out} is at step {progress.step} already, beyond --steps {self.config.steps}")
        self.progress, self._schedule, self.saved_step = progress, None, progress.step
        self.marks = checkpoint.marks(state)
        self._restore(weights, moments, state["optimizer"])
        default_generator.set_state(state["generator"])
        self.scaler.load_state_dict(state.get("scaler", self.scaler.state_dict()))

    def _text_sha256(self) -> str:
        if self._sha is None:
            sha = hashlib.sha256(np.ascontiguousarray(self.loader.tokens).tobytes())
            sha.update(np.ascontiguousarray(self.val).tobytes())
            self._sha = sha.hexdigest()
        return self._sha

    _sha = None

    def _snapshot(self):
        """(weights, moments, the optimiser's plain state): copies of all that a step changes."""
        weights = {name: p.float().numpy().copy() for name, p in self.model.named_parameters()}
        state = self.optimizer.state_dict()
        return weights, dict(arrays_of(state, "optimizer")), plain_of(state)

    def _restore(self, weights, moments, plain):
        checkpoint.put_weights(self.model, weights, self.out)
        restore_optimizer(self.optimizer, moments, plain)


def build_optimizer(model: GPT, config: TrainConfig) -> optim.Optimizer:
    """AdamW for all, or Muon for the hidden matrices with AdamW for the rest. Matrices decay, vectors do not."""
    named = list(model.named_parameters())
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamw":
        groups = optim.decay_groups(named, config.weight_decay)
        return optim.AdamW(groups, lr=config.lr, betas=betas, stochastic_rounding=config.stochastic_rounding)
    groups = optim.muon_groups(
        named, config.weight_decay, hidden=lambda name, p: p.ndim == 2 and name.startswith("blocks.")
    )
    for group in groups:
        group |= (
            {"lr": config.muon_lr, "lr_scale": config.muon_lr / config.lr}
            if group["use_muon"]
            else {"lr": config.lr, "betas": betas}
        )
    return optim.MuonAdamW(groups)


def build_device_step(model: GPT, optimizer: optim.Optimizer, config: TrainConfig):
    """The step as one CUDA graph, or None where there is none: on the CPU, for Muon, with TGL_FUSED=0."""
    if config.device != "cuda" or config.optimizer != "adamw" or not settings.use_fused:
        return None
    from .device_step import DeviceStep  # with it comes CuPy

    return DeviceStep(model, optimizer, config.clip, default_generator)


def build_schedule(config: TrainConfig) -> optim.Schedule:
    """The learning rate over the run's steps, as the config names it."""
    warmup = min(config.warmup, config.steps // 4)
    if config.schedule == "constant":
        return optim.Constant(config.lr)
    if config.schedule == "cosine":
        return optim.WarmupCosine(config.lr, warmup, config.steps, config.min_lr)
    decay = int(config.steps * DECAY_SHARE)
    return optim.WSD(config.lr, warmup, config.steps - warmup - decay, decay, config.min_lr)
