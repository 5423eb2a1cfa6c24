"""The GPU's benchmark, rehearsed: what it counts, what it keeps, and each of its parts on the emulated device."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from kernels.checks import ROOT

from benchmarks.bound import step_products
from benchmarks.gpu import attention, cases, correct, generate, kernels, probe, step, train
from benchmarks.gpu.__main__ import PARTS, main, show
from benchmarks.gpu.results import Options, Part, Results, WorkerError, plain
from benchmarks.gpu.worker import Worker
from tinygrad_lite import Generator
from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cuda.emulator import unavailable
from tinygrad_lite.kernels.cuda.launch import cupy
from transformer.model import GPT

EMULATED = os.environ.get("TGL_CUDA") == "emulate"
needs_cuda = pytest.mark.skipif(EMULATED and unavailable() is not None, reason=str(unavailable()))


def test_parts_that_run_one_by_one_are_merged_in_one_file(tmp_path):
    file = tmp_path / "results.json"
    first, second = Results(file), Results(file, {"note": "toy"})
    first.keep("probe", "copy", {"tb_per_s": np.float64(3.1234567)})
    first.keep("probe", "device", {"found": "a card"})
    second.keep("probe", "copy", {"tb_per_s": 2})
    second.keep("step", "B=32", {"agree": np.bool_(True), "spread": (1.0, float("nan"))})
    expected = {
        "probe": {"copy": {"tb_per_s": 2, "note": "toy"}, "device": {"found": "a card"}},
        "step": {"B=32": {"agree": True, "spread": [1.0, "nan"], "note": "toy"}},
    }
    assert json.loads(file.read_text()) == expected == second.read()
    assert first.parts["probe"]["copy"] == {"tb_per_s": 3.1235} and list(tmp_path.iterdir()) == [file]


def test_what_json_cannot_hold_is_text():
    found = plain({"a": [np.inf, np.float32(0.1), np.int64(3)], 4: None})
    assert found == {"a": ["inf", 0.1, 3], "4": None} and json.loads(json.dumps(found, allow_nan=False))


def test_a_row_that_fails_says_why_and_the_rest_goes_on(capsys):
    part = Part("p", Options(only="a"), Results())

    def fail():
        raise MemoryError("no room\nfor more")

    part.measure("a1", fail)
    part.measure("b", fail)
    part.measure("a2", lambda: {"ms": 1.0})
    part.began -= 1000
    part.measure("a3", fail)
    assert list(part.rows) == ["a1", "a2", "a3"] and part.rows["a1"] == {"error": "MemoryError: no room"}
    assert part.rows["a2"] == {"ms": 1.0} and "left out" in part.rows["a3"]["error"]
    show(part.rows, {"ms": "ms"})
    assert "a1: MemoryError: no room" in capsys.readouterr().out


def make_moody():
    """What a worker is given here."""
    calls = []

    def answer(request):
        calls.append(request)
        if request == "raise":
            raise ValueError("broken")
        if request == "die":
            os._exit(3)
        if request == "sleep":
            time.sleep(60)
        return len(calls)

    return answer


@pytest.mark.slow
def test_a_worker_that_fails_dies_or_hangs_is_replaced():
    with Worker("moody", make_moody) as worker:
        assert [worker.ask("x"), worker.ask("x")] == [1, 2]
        for request, said in (("raise", "ValueError: broken"), ("die", "exit code 3"), ("sleep", "no answer in 1 s")):
            with pytest.raises(WorkerError, match=said):
                worker.ask(request, seconds=1.0 if request == "sleep" else 60.0)
            assert worker.ask("x") == 1
        process = worker.side.process
    assert not process.is_alive()


@needs_cuda
@pytest.mark.parametrize(
    "name, count", [("layer_norm", 3), ("rms_norm", 2), ("gelu", 1), ("bias_gelu", 2), ("swiglu", 1)]
)
def test_bytes_are_those_of_the_arrays_that_a_kernel_reads_and_writes(name, count):
    s = kernels.TOY
    width = {"gelu": s.f, "bias_gelu": s.f, "swiglu": 2 * s.g}.get(name, s.c)
    arrays = [cupy().asarray(np.ones(shape, bfloat16)) for shape in [(s.n, width), (width,), (width,)][:count]]
    params = {"eps": 1e-5} if "norm" in name else {"approximate": "tanh"} if "gelu" in name else {}
    out, saved = lookup("cuda", name).forward(*arrays, **params)
    kept = [x for x in saved if not any(x is a for a in arrays)]
    jobs = kernels.jobs(s)
    assert jobs[f"{name} forward"].bytes == sum(x.nbytes for x in (*arrays, out, *kept))
    g = cupy().asarray(np.ones(out.shape, bfloat16))
    grads = lookup("cuda", name).backward(g, saved, (True,) * count, (None,) * count, **params)
    assert jobs[f"{name} backward"].bytes == sum(x.nbytes for x in (g, *saved, *grads))


def test_bytes_of_gpt_2_by_hand():
    jobs, mb = kernels.jobs(kernels.Sizes()), 32768 * 768 * 2 / 1e6
    assert jobs["dropout forward"].bytes / 1e6 == 2 * mb == pytest.approx(100.7, abs=0.1)
    assert jobs["layer_norm backward and residual"].bytes / 1e6 == pytest.approx(4 * mb, rel=2e-3)
    assert jobs["adamw, float32 master"].bytes == 28 * 124_475_904
    assert jobs["cross_entropy in place"].bytes == pytest.approx(2 * 32768 * 50304 * 2, rel=1e-4)


def test_operations_of_a_step_are_six_a_token_and_weight_and_attentions_causal_half():
    setup = step.TOY_SETUPS["GPT-2 B=64"]
    named = GPT(setup.model, Generator(0)).named_parameters()
    weights = sum(p.size for n, p in named if p.ndim == 2 and "positions" not in n)
    c, t, tokens = setup.model.channels, setup.model.block_size, setup.batch * setup.model.block_size
    assert step.step_flops(setup) == 6 * weights * tokens + 6 * setup.model.layers * tokens * t * c
    full = step.SETUPS["GPT-2 B=32"]
    assert sum(n * p.flops for p, n in step_products(full.model, 32)[0].items()) == pytest.approx(24.4e12, rel=0.02)


def test_the_probes_best_product_is_the_bounds():
    rows = {"bfloat16 up dx": {"tflops": 600.0}, "bfloat16 up dw": {"tflops": 650.0}, "float32 up dx": {"tflops": 900.0},
            "bfloat16 head dx": {"error": "no memory"}}  # fmt: skip
    assert step.products_per_ms(rows) == 650.0e9 and step.products_per_ms({}) is None


@needs_cuda
def test_a_wrong_result_fails_and_a_nan_is_never_missed():
    x = np.linspace(0, 1, 7)
    good = cases.compare(lambda: [cases.device(x.astype(float32))], [x], float32, 1)
    bad = cases.compare(lambda: [cases.device((x + 1e-4).astype(float32))], [x], float32, 1)
    nan = cases.compare(lambda: [cases.device(np.full(7, np.nan, float32)), cases.device(x)], [x, x], float32, 1)
    drawn = iter(np.random.default_rng(0).random(3) * 1e-6)
    moved = cases.compare(lambda: [cases.device((x + next(drawn)).astype(float32))], [x], float32, 1)
    assert good["right"] and not (bad["right"] or nan["right"] or moved["right"]) and not moved["repeats"]
    assert np.isnan(nan["error_eps"]) and nan["array"] == "result 0"
    said = correct.wrong({"good": good, "bad": bad, "broken": {"error": "illegal access"}})
    assert [text.split(":")[0] for text in said] == ["bad", "broken"]


@needs_cuda
@pytest.mark.parametrize("name", ["rms_norm bfloat16 3 x 31", "gemm bfloat16 one-hot", "attention float16 one-hot",
                                  "column_sums float32 70 x 33", "adamw bfloat16 2049"])  # fmt: skip
def test_a_check_of_a_right_kernel_is_right(name):
    row = correct.make_checker(toy=True)(name)
    assert row["right"], row


@needs_cuda
def test_every_kernel_is_checked_and_timed():
    folder = os.path.dirname(lookup("cuda", "softmax").__file__)
    ops = {f[:-3] for f in os.listdir(folder) if f.endswith(".py") and hasattr(lookup("cuda", f[:-3]), "forward")}
    ops -= {"attention_core", "norm"}
    checked, timed = (
        {n.split(" ")[0] for n in cases.cases(toy=False)},
        {n.split(" ")[0] for n in kernels.jobs(kernels.TOY)},
    )
    assert ops - checked == set(), "part correct checks them"
    elsewhere = {"attention", "attention_qkv", "gelu_mlp", "linear", "linear_cross_entropy", "log_softmax"}
    assert ops - timed - elsewhere == set(), "part kernels times them"


@needs_cuda
@pytest.mark.parametrize(
    "request_", ["gelu forward", "layer_norm backward and residual", "column sums", "sum of squares", ("qkv", "dw")]
)
def test_kernels_are_timed(request_):
    row = kernels.make_timer(toy=True)(request_)
    assert row["ours_ms"] > 0 and ("share" in row) != ("ratio" in row)


@needs_cuda
@pytest.mark.parametrize("request_", [
    "device", "copy", "launch", "graph", ("bfloat16", "qkv", "dx"), *(("bfloat16", *ask) for ask in probe.WITH_GELU),
])  # fmt: skip
def test_the_probe_answers(request_):
    answer = probe.make_probe(toy=True)(request_)
    assert answer == "emulator" or not EMULATED or all(x > 0 for x in answer.values())


@needs_cuda
def test_attention_equals_pytorchs():
    pytest.importorskip("torch", reason="the peer whose results are compared is not installed")
    shape = attention.TOY_SHAPES[0]
    ours, theirs = attention.make_ours(True)(("results", shape, True)), attention.make_torch(True, "cpu")
    assert attention._agreement(ours, theirs(("MATH", shape, "results")))["agree"]
    assert len(theirs(("MATH", shape, True))) == attention.CALLS


@pytest.mark.slow
@needs_cuda
@pytest.mark.parametrize("setup", step.TOY_SETUPS.values(), ids=step.TOY_SETUPS)
@pytest.mark.parametrize("mode, weights", [("eager", "autocast"), ("eager", "bfloat16"), ("compile", "autocast")])
def test_pytorchs_step_is_ours(setup, mode, weights):
    pytest.importorskip("torch", reason="the peer whose losses are compared is not installed")
    answers = {"ours": step.make_ours(setup), "peer": step.make_torch(setup, mode, weights, "cpu")}
    found = {side: answer(("first", 4)) for side, answer in answers.items()}
    ms, losses = ({side: x[key] for side, x in found.items()} for key in ("ms", "losses"))
    ms, memory = (
        {side: [x] for side, x in ms.items()},
        {side: answer(("memory", 0)) for side, answer in answers.items()},
    )
    row = step.row_of(setup, (mode, weights), ms, losses, memory, None, 1e9)
    assert row["losses_agree"] and row["ratio"] > 0 and row["over_bound"] > 0 and mode in row["peer"]


@pytest.mark.slow
@needs_cuda
@pytest.mark.parametrize("cache", generate.CACHES)
def test_hugging_face_writes_our_tokens(cache):
    pytest.importorskip("transformers", reason="the peer whose tokens are compared is not installed")
    ours, theirs = generate.make_ours(generate.TOY, True), generate.make_huggingface(generate.TOY, cache, "cpu")
    prompt = [3, 1, 4, 1]
    assert ours((prompt, 4))[1] == theirs((prompt, 4))[1]


@pytest.mark.slow
@needs_cuda
@pytest.mark.parametrize("part", PARTS)
def test_each_part_runs_at_toy_size(part, tmp_path, capsys):
    data, out = tmp_path / "text.txt", tmp_path / "out.json"
    data.write_text("To be, or not to be.\n" * 200)
    status = main(["--part", part, "--toy", "--data", str(data), "--out", str(out), "--seconds", "3000"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == 0 and line["toy"] and line["parts"] == json.loads(out.read_text())
    rows = line["parts"][part]
    assert rows and all("error" not in row for row in rows.values()), rows


@needs_cuda
def test_the_last_line_has_what_other_runs_have_found_too(tmp_path, capsys):
    out = tmp_path / "out.json"
    for row in ("device", "launch in a graph"):
        assert main(["--part", "probe", "--toy", "--only", row, "--out", str(out)]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(line["parts"]["probe"]) == ["device", "launch in a graph"]


@needs_cuda
def test_who_interrupts_it_sees_what_was_found(capsys, monkeypatch):
    def run(part):
        part.keep("copy", {"tb_per_s": 2.5})
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "run", run)
    assert main(["--part", "probe", "kernels", "--toy"]) == 130
    *_, last = output = capsys.readouterr().out.splitlines()
    assert json.loads(last)["parts"]["probe"]["copy"]["tb_per_s"] == 2.5
    assert any(line.startswith("copy ") and "2.5" in line for line in output) and kernels.TITLE not in output


@needs_cuda
def test_a_name_that_no_row_has_is_said(capsys):
    assert main(["--part", "probe", "--toy", "--only", "no such row"]) == 0
    assert "no row's name contains 'no such row'" in capsys.readouterr().out


@pytest.mark.parametrize("text, says", [(None, "there is no folder"), ("{", "no JSON"), ("[]", "holds no results")])
def test_a_file_that_cannot_be_added_to_is_refused_at_once(text, says, tmp_path, capsys):
    out = tmp_path / "folder" / "out.json"
    if text is not None:
        out.parent.mkdir()
        out.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["--part", "probe", "--toy", "--out", str(out)])
    assert ended.value.code == 2 and says in capsys.readouterr().err


def test_without_a_device_nothing_is_begun(tmp_path):
    """Without g++, say: one line in place of one for each of some 300 rows."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", "correct", "--toy"]
    environment = {**os.environ, "TGL_CUDA": "emulate", "PATH": str(tmp_path), "TGL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("benchmarks.gpu: the CUDA emulator ")


@needs_cuda
def test_our_estimator_is_the_mean_loss_and_leaves_training_on():
    config = train.configuration(toy=True).gpt_config(9)
    model = GPT(config, Generator(0))
    found = train.estimate(model, np.arange(500) % 9, 4, 3, np.random.default_rng(0))
    assert found == pytest.approx(np.log(9), abs=0.1) and model.training


@needs_cuda
def test_training_needs_a_text(capsys):
    assert main(["--part", "train", "--toy"]) == 0
    assert "--data FILE is not given" in capsys.readouterr().out
