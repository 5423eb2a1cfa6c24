"""The page in a browser: without a network, with the engine's numbers, and quick with ten thousand nodes."""

import re
import shutil

import numpy as np
import pytest
from support.view_models import checkpoint, ids

from transformer.view import page
from transformer.view.collect import collect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]

DONE = "html[data-ready=yes]"
# of [name, number of an array] the values by name
VALUES = "((all) => Object.fromEntries(all.filter(([, g]) => g != null).map(([k, g]) => [k, Array.from(view.arrays.get(g).data)])))"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def seen():
    source = checkpoint(step=7)
    return collect(source, ids(source))


@pytest.fixture(scope="module")
def file(seen, tmp_path_factory):
    earlier = checkpoint(step=0, seed=5)
    path = tmp_path_factory.mktemp("page") / "step.html"
    page.write(path, page.build(seen, [collect(earlier, ids(earlier))]))
    return path


@pytest.fixture
def opened(browser, file):
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme="light")
    tab = context.new_page()
    tab.problems, tab.asked = [], []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("console", lambda said: tab.problems.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.context.route(re.compile("^https?:"), lambda route: route.abort())
    tab.goto(file.as_uri())
    tab.wait_for_selector(DONE)
    yield tab
    assert tab.problems == []
    context.close()


def shown(tab, name):
    """The rows of the map, as text."""
    return [row.inner_text().replace("\n", " ") for row in tab.locator(f".row:not([hidden]) {name}").all()]


def node(tab, condition):
    return tab.evaluate(f"view.tree.nodes.find((n) => {condition}).id")


def test_the_page_loads_without_a_network_and_shows_the_engines_numbers(opened, seen):
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.inner_text("#loss") == f"{seen.loss:.4f}"
    parity = opened.inner_text("#parity")
    mine, engines = re.search(r"computes a loss of (\d+\.\d+); the engine's is (\d+\.\d+)", parity).groups()
    assert float(mine) == pytest.approx(seen.loss, abs=2e-6) and engines == f"{seen.loss:.6f}"
    assert "the same in every bit" in parity
    logits = np.array(opened.evaluate("Array.from(view.arrays.get(view.meta.logits).data)")).reshape(seen.logits.shape)
    assert np.abs(logits - seen.update.logits).max() < 1e-5
    shown = opened.evaluate(f"{VALUES}(view.tree.nodes.filter((n) => n.kind === 'op').map((n) => [n.event, n.g]))")
    for number, step in seen.by_event.items():
        exact = np.asarray(step.g).reshape(-1)
        g = np.array(shown[str(number)])
        assert np.abs(g - exact).max() <= 2.0**-11 * np.abs(exact).max(), seen.trace[number]


@pytest.mark.slow
def test_every_parameters_gradient_and_update_is_the_engines(opened, seen):
    get = "{}(view.tree.nodes.filter((n) => n.kind === 'param').map((n) => [n.path, n.{}]))".format
    gradients, updates = (opened.evaluate(get(VALUES, which)) for which in ("g", "d"))
    assert gradients.keys() == seen.update.changes.keys()
    for name, change in seen.update.changes.items():
        moved, norm = (change.after - change.before).reshape(-1), np.linalg.norm(change.before)
        assert np.abs(gradients[name] - change.gradient.reshape(-1)).max() <= 2.0**-11 * np.abs(change.gradient).max()
        assert np.abs(updates[name] - moved).max() <= 2.0**-4 * np.abs(moved).max()
        if norm:  # biases begin at zero
            opened.evaluate(f"view.select(view.tree.nodes.find((n) => n.kind === 'param' && n.path === '{name}').id)")
            ratio = float(opened.inner_text(".facts div:last-child dd"))
            assert ratio == pytest.approx(np.linalg.norm(moved) / norm, rel=6e-3)


@pytest.mark.slow
def test_modules_fold_and_unfold_down_to_one_op(opened):
    assert "Block" in " ".join(shown(opened, ".kind")) and opened.locator(".row.op:not([hidden])").count() > 0
    before = opened.locator(".row:not([hidden])").count()
    block = node(opened, "n.path === 'blocks.1'")
    for condition in (
        "n.path === 'blocks.1'",
        "n.path === 'blocks.1.attention'",
        "n.op === 'attention_qkv' && n.path === 'blocks.1.attention'",
    ):
        opened.click(f".row[data-id='{node(opened, condition)}'] .fold")
    assert "attention weights" in " ".join(shown(opened, ".label"))
    opened.click(f".row[data-id='{block}'] .fold")
    assert opened.locator(".row:not([hidden])").count() == before


@pytest.mark.slow
def test_a_chosen_op_says_its_shape_source_line_formula_and_neighbours(opened, seen):
    opened.evaluate("view.select(view.tree.nodes.find((n) => n.op === 'attention_qkv').id)")
    text = opened.inner_text("#detail")
    assert "1×12×16" in text and "transformer/attention.py" in text and "F.attention_qkv(" in text
    opened.click("#detail summary")
    assert "xp.attention(q, k, v" in opened.inner_text("#detail pre")
    assert opened.locator("#detail .head canvas").count() == 4  # two heads: weights and their gradients
    opened.click("#detail .edges button >> nth=0")
    assert opened.inner_text("#detail h2").startswith("linear")
    event = next(e for e in seen.trace if e.op.name == "linear")
    rms = float(np.sqrt(np.mean(event.out.numpy().astype(np.float64) ** 2)))
    assert f"rms {float(f'{rms:.3g}'):g}" in opened.inner_text("#detail")


@pytest.mark.slow
def test_search_the_keyboard_and_the_theme(opened):
    opened.keyboard.press("/")
    opened.keyboard.type("mlp weight 64x16")
    assert {"up", "weight"} <= set(" ".join(shown(opened, ".name")).split())
    opened.keyboard.press("Enter")
    assert opened.inner_text("#detail h2").startswith("weight")
    opened.keyboard.press("Escape")
    opened.keyboard.press("Home")
    assert opened.inner_text("#detail h2").startswith("GPT")
    opened.keyboard.press("ArrowDown")
    assert opened.evaluate("view.store.state.selected") == 1
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("view.store.state.open.has(1)")
    light = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.keyboard.press("t")
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark and opened.evaluate("document.documentElement.dataset.theme") == "dark"
    opened.keyboard.press("?")
    assert opened.is_visible("#keys")
    opened.keyboard.press("Escape")


@pytest.mark.slow
def test_a_search_that_finds_nothing_says_so(opened):
    opened.keyboard.press("/")
    opened.keyboard.type("zzz<b>")
    assert "matches “zzz<b>”" in opened.inner_text("#scroll")
    opened.keyboard.press("Escape")
    assert "matches" not in opened.inner_text("#scroll")


@pytest.mark.slow
def test_a_model_with_a_nan_says_so_in_its_rows(browser, tmp_path):
    broken, earlier = checkpoint(step=7), checkpoint(step=0)
    broken.model.blocks[1].mlp.up.weight.data[3, 2] = np.nan
    path = tmp_path / "nan.html"
    page.write(path, page.build(collect(broken, ids(broken)), [collect(earlier, ids(earlier))]))
    tab = browser.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda said: problems.append(said.text))
    tab.goto(path.as_uri())
    tab.wait_for_selector(DONE)
    figures = lambda path: tab.evaluate(
        f"String(Object.values(view.figures(view.tree.nodes.find((n) => n.path === '{path}'))).slice(0, 3))"
    )
    assert figures("blocks.1.mlp") == "NaN,NaN,NaN" and figures("blocks.0").startswith("0.")
    tab.evaluate("view.select(view.tree.nodes.find((n) => n.path === 'blocks.1.mlp.up.weight').id)")
    detail = tab.inner_text("#detail")
    assert "update / weight NaN" in detail and "|gradient| NaN" in detail
    moved = [row.split("\t") for row in tab.inner_text("#detail table tbody").splitlines()]
    assert all(row[3] == "NaN" for row in moved if "NaN" in (row[1], row[4]))
    tab.evaluate("view.select(0)")
    assert "<0.1%" not in tab.inner_text("#detail")
    tab.evaluate("view.frame(0)")
    assert figures("blocks.1.mlp").count("NaN") == 0
    tab.close()
    assert problems == []


@pytest.mark.slow
def test_on_a_telephone_every_column_is_in_sight(opened):
    opened.set_viewport_size({"width": 420, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 420
    right = opened.evaluate(
        "document.querySelector('.row:not([hidden])').lastElementChild.getBoundingClientRect().right"
    )
    assert right <= 420


@pytest.mark.slow
def test_a_dark_system_gets_a_dark_page(browser, file):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(file.as_uri())
    tab.wait_for_selector(DONE)
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.close()


@pytest.mark.slow
def test_the_step_goes_forward_back_and_through_the_update_in_the_engines_order(opened, seen):
    total = opened.evaluate("view.stepper.steps.length")
    assert total == len(seen.trace) + len(seen.walk) + len(seen.update.changes)
    opened.keyboard.press(".")
    assert "forward 1 of" in opened.inner_text("#says") and "embedding" in opened.inner_text("#says")
    assert opened.locator(".row.now-out:not([hidden])").count() == 1
    opened.evaluate(f"view.stepper.go({len(seen.trace)})")
    assert "backward 1 of" in opened.inner_text("#says") and "linear_cross_entropy" in opened.inner_text("#says")
    order = opened.evaluate(
        "view.stepper.steps.filter((s) => s.pass === 'backward').map((s) => view.tree.nodes[s.node].event ?? null)"
    )
    assert order == [None if s.event is None else s.event.index for s in seen.walk]
    opened.keyboard.press(",")
    assert f"forward {len(seen.trace)} of" in opened.inner_text("#says")
    opened.evaluate(f"view.stepper.go({total - 1})")
    assert "update" in opened.inner_text("#says") and "moves by" in opened.inner_text("#says")


@pytest.mark.slow
def test_the_slider_shows_an_earlier_checkpoint(opened, seen):
    newest = opened.inner_text("#loss")
    opened.keyboard.press("[")
    assert "step 0" in opened.inner_text("#frames output") and opened.inner_text("#loss") != newest
    assert opened.locator(".strip.stale:not(.empty)").count() == 0  # ops have small pictures of every checkpoint
    opened.evaluate("view.select(view.tree.nodes.find((n) => n.path === 'blocks.0.attention.qkv.weight').id)")
    assert opened.locator(".row.selected .strip.stale").count() == 2  # weights have none
    opened.keyboard.press("]")
    assert opened.inner_text("#loss") == newest and opened.locator(".strip.stale").count() == 0


@pytest.mark.slow
def test_folding_and_selecting_among_ten_thousand_nodes_takes_less_than_a_tenth_of_a_second(browser, tmp_path):
    source = checkpoint(layers=110, channels=4, block_size=6)
    path = tmp_path / "deep.html"
    page.write(path, page.build(collect(source, ids(source, 6))))
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    tab.goto(path.as_uri())
    tab.wait_for_selector(DONE)
    took = tab.evaluate("""async () => {
        const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        const time = async (act) => { await frame(); const t = performance.now(); act(); document.body.offsetHeight; return performance.now() - t; };
        const blocks = view.tree.nodes.find((n) => n.path === "blocks").id, n = view.tree.nodes.length, best = { nodes: n };
        view.select(0); view.openAll(true);
        const acts = { fold: () => view.toggle(blocks), select: () => view.select(1000 + Math.floor(Math.random() * (n - 1000))) };
        for (const [name, act] of Object.entries(acts)) { const all = []; for (let i = 0; i < 8; i++) all.push(await time(act)); best[name] = all.sort((a, b) => a - b)[3]; }
        return best; }""")
    tab.close()
    assert took["nodes"] >= 10_000
    assert took["fold"] < 100 and took["select"] < 100, took
