"""`tgl lens` on a run's directory: tables, a PNG and an HTML file, and errors that say the way out."""

import base64
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from tokenizer import BPETokenizer
from transformer.cli.app import app
from transformer.cli.lens import _end_of
from transformer.cli.lens_shared import names_of
from transformer.lens import head_scores
from transformer.lens.induction import induction_config, induction_trainer, repeated_text
from transformer.lens.page import write_page
from transformer.lens.panels import Attention, Bars, Curves, by_head

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TEXT = "abcdefgabcd"


def tgl(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def lens(*args):
    result = tgl("lens", *args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("lens") / "run"
    induction_trainer(out, induction_config(steps=1), letters=3000).save()  # untrained: what is said is not looked at
    return out


CALLS = {
    "attention": ("--text", TEXT),
    "logit-lens": ("--text", TEXT),
    "attribution": ("--text", TEXT, "--target", "e", "--versus", "f"),
    "patch": ("--clean", TEXT, "--corrupted", "abcdxfgabcd", "--answer", "e", "--wrong", "x"),
    "heads": (),
    "edit": ("--prompt", TEXT, "--target", "z", "--subject", "abc", "--also", "qwe"),
    "induction": (),
}
SAID = {
    "attention": ("1.3", "the one before", "nats"),
    "logit-lens": ("blocks.1.resid_post", "rank of the final choice"),
    "attribution": ("The parts add up to", "blocks.1.mlp"),
    "patch": ("Lead of e over x", "layer 1, 4 e/x"),
    "heads": ("Best induction head: ", "even attention: 0.03"),
    "edit": ("MLP of layer 0, key of token 9 c", "before", "in memory only"),
    "induction": ("Best previous-token head: ",),
}


@pytest.mark.slow  # matplotlib is loaded and lays out: a second each
@pytest.mark.parametrize("command", CALLS)
def test_each_command_says_what_it_found_and_writes_png_and_html(run, command, tmp_path):
    if command == "edit":
        (tmp_path / "text.txt").write_text(repeated_text(3000))
    more = ("--data", tmp_path / "text.txt") if command == "edit" else ()
    said = lens(command, "--from", run, *CALLS[command], *more, "--out", tmp_path / "out")
    for words in SAID[command]:
        assert words in said, said
    assert (tmp_path / "out" / f"{command}.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / f"{command}.html").read_text(encoding="utf-8")
    assert "http" not in page and "{{" not in page  # nothing is fetched, nothing left to fill in
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{command}.html", f"{command}.png"]


def test_a_page_holds_every_kind_of_panel_whole_and_numbers_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    patterns = rng.random((2, 3, 4, 4)).astype(np.float32)
    panels = [
        Attention("a </script> <!--<script> & b", list("wxyz"), patterns, head=(1, 2)),
        by_head("scores", np.array([[0.25, -0.001]])),
        Bars("bars", ["p", "q"], np.array([1.0, -2.0])),
        Curves("curves", [1, 2], {"loss": [0.5, float("nan")]}, "step"),
    ]
    write_page(panels, tmp_path / "page.html", "A <title>", ["x < y {{DATA}}"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>A &lt;title&gt;</title>" in page and "<p>x &lt; y {{DATA}}</p>" in page
    assert page.count("</script>") == page.count("<script") == 2 and "<!--" not in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [panel["kind"] for panel in data] == ["attention", "heat", "bars", "curves"]
    assert np.array_equal(np.frombuffer(base64.b64decode(data[0]["patterns"]["base64"]), "<f4"), patterns.ravel())
    assert data[0]["title"] == "a </script> <!--<script> & b" and data[1]["texts"] == [["0.25", "0.00"]]
    assert data[3]["lines"] == {"loss": [0.5, None]}
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.slow
def test_without_a_text_the_model_reads_its_own_sample(run, tmp_path):
    assert "its own sample: '" in lens("attention", "--from", run, "--out", tmp_path)


@pytest.mark.parametrize("call, named", [
    (("attention", "--text", "É"), "--text: character 'É'"),
    (("attention", "--text", "a"), "--text has 1 token and needs 2"),
    (("attribution", "--text", TEXT, "--target", "ab"), r"--target must be one token, 'ab' is 2: 'a', 'b'"),
    (("attribution", "--text", TEXT, "--position", 11), "--position 11 is outside the 11 tokens"),
    (("patch", "--clean", "abc", "--corrupted", "ab"), "--clean has 3 .a b c., --corrupted 2 .a b."),
    (("patch", "--clean", "abc", "--corrupted", "abc"), "both prompts are answered by"),
    (("patch", "--clean", "abc", "--corrupted", "abd", "--answer", "e", "--wrong", "f", "--site", "q"), "no value is named"),
    (("attribution", "--text", TEXT, "--target", "e", "--versus", "e"), "--target and --versus are the same token"),
    (("edit", "--prompt", TEXT, "--target", "z", "--also", "É"), "--also: character 'É'"),
    (("edit", "--prompt", TEXT, "--target", "z", "--layer", 2), "--layer must be from 0 to 1, got 2"),
    (("edit", "--prompt", TEXT, "--target", "z", "--subject", "xyz"), "--subject 'xyz' is not in"),
    (("induction", "--train", "--from", __file__), "is a file: a run needs a directory"),
    (("heads", "--period", 40), "period must be from 2 to 32"),
])  # fmt: skip
def test_mistakes_are_named_and_nothing_is_written(run, call, named, tmp_path):
    result = tgl("lens", call[0], "--from", run, *call[1:], "--out", tmp_path / "out")
    with pytest.raises(ValueError, match=named):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_pictures_directory_is_named(run, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file: name a directory"):
        raise tgl("lens", "heads", "--from", run, "--out", tmp_path / "out").exception


def test_without_a_run_induction_names_its_own_way_to_train_one(tmp_path):
    with pytest.raises(ValueError, match="no run here: add --train"):
        raise tgl("lens", "induction", "--from", tmp_path / "run", "--out", tmp_path / "out").exception


def test_tokens_that_are_no_text_or_all_blanks_have_names_and_a_subject_ends_with_its_last_byte():
    tok = BPETokenizer.train([" " * 8], 259)
    assert names_of(tok, tok.encode("é x\n")) == ["\\xC3", "\\xA9", "·", "x", "↵"]
    assert names_of(tok, tok.encode(" " * 8)) == ["·×8"] and names_of(tok, tok.encode("×")) == ["\\xC3", "\\x97"]
    assert _end_of(tok, tok.encode("a é日 x"), "é") == 3 and _end_of(tok, tok.encode("a é日 x"), "日") == 6


def test_repeated_text_is_random_letters_four_times_over():
    text = repeated_text(2000, seed=3)
    assert len(text) >= 2000 and text == repeated_text(2000, seed=3) != repeated_text(2000, seed=4)
    period = next(n for n in range(6, 25) if text[:n] * 4 == text[: 4 * n])
    assert len(set(text)) == 26 and period


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
def test_the_page_shows_the_right_numbers_in_a_browser(run, tmp_path):
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
    )
    lens("induction", "--from", run, "--out", tmp_path)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        problems, asked = [], []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((tmp_path / "induction.html").as_uri())
        from transformer.cli.inspect import load_model

        scores = head_scores(load_model(run)[0]).induction
        shown = tab.locator("section", has=tab.get_by_text("Induction score")).locator("td").all_text_contents()
        assert shown == [f"{v + 0.0:.2f}" for v in np.round(scores, 2).ravel()]
        tab.get_by_role("button", name="layer 0, head 2").click()
        assert tab.get_by_role("button", name="layer 0, head 2").get_attribute("aria-pressed") == "true"
        words = tab.locator(".words span")
        words.nth(3).click()
        words.nth(0).hover()
        assert tab.locator("#tell").inner_text().startswith("head 0.2: 3 ")
        words.nth(3).press("ArrowRight")
        assert "from token 4" in tab.locator("section").last.inner_text()
        browser.close()
    assert problems == [] and all(url.startswith("file:") for url in asked)


@pytest.mark.slow
def test_a_model_trained_on_the_spot_shows_induction_heads(tmp_path):
    said = lens("induction", "--train", "--from", tmp_path / "run", "--out", tmp_path / "out")
    assert "Trained 1,500 steps" in said
    from transformer.cli.inspect import load_model

    scores = head_scores(load_model(tmp_path / "run")[0])
    layer, head, best = scores.best("induction")
    assert layer == 1 and best >= 0.5 and scores.best("previous")[0] == 0
    assert f"Best induction head: {layer}.{head}, score {best:.2f}" in said


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_any_other(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    result = tgl("train", "--resume", "--out", tmp_path / "run")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "Continuing" in result.output and "step      1" in result.output
