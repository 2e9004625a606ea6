"""`fec report` on real runs: what the page shows, that it needs nothing but itself, and what it does without data."""

import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from command import fec
from typer.testing import CliRunner

from fusion_classifier.cli.main import app
from fusion_classifier.commands.report import write_report
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.predictions import read_predictions
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.pipeline import run
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

EVIL = "<script>alert(1)</script>"
WORDS = {"joy": "we won", "anger": "he broke it", "fear": "it is dark", EVIL: 'they & <b>"you"</b> <img src=x>'}
VOID = ("meta",)  # all else is closed, by its own tag or at once


@dataclass
class Page(HTMLParser):
    """What stands in a page: tags with attributes, texts, all and by section; tags that do not match are an error."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    code: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in ("script", "style"):
            self.code[self.stack[-1]] = data
        elif data.strip():
            self.texts.append(data.strip())
            self.sections.setdefault(self.section, []).append(data.strip())

    def words(self, section: str) -> str:
        return " ".join(self.sections[section])


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert not page.stack
    return page


def trained(folder: Path, task: TaskConfig, bert: Path) -> Path:
    config = RunConfig(
        task=task,
        encoders=parse_encoders([str(bert)]),
        head=parse_head("llmembed", width=16),
        training=recipe("default", "llmembed", max_epochs=2, batch_size=16),
        seeds=(0, 1),
    )
    work = RunContext(FeatureStore(folder / "store"), torch.device("cpu"), QUIET)
    return run(config, load_task(task), folder / "run", work).out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """A run on a folder with a label tree; a test text also stands in train; its store is gone."""
    folder = tmp_path_factory.mktemp("single")
    data = folder / "moods"
    data.mkdir()
    for split, rows in {"train": 60, "valid": 24, "test": 40}.items():
        lines = [
            {"text": f"{list(WORDS.values())[i % 4]} {split} {i}", "label": list(WORDS)[i % 4]} for i in range(rows)
        ]
        if split == "test":
            lines.append({"text": "WE WON train 0!", "label": "fear"})
        (data / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (data / "label_tree.tsv").write_text(
        f"good\troot\njoy\tgood\nbad\troot\nanger\tbad\nfear\tbad\n{EVIL}\tbad", "utf-8"
    )
    out = trained(folder, TaskConfig(name=str(data)), bert_folder)
    shutil.rmtree(folder / "store")
    write_report(out)
    return out


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """A multi-label run."""
    folder = tmp_path_factory.mktemp("several")
    sets = [("joy",), ("anger",), ("fear", EVIL), ("anger", "joy"), ()]
    rows = [{"text": f"{' '.join(WORDS[w] for w in sets[i % 5])} {i}", "label": sets[i % 5]} for i in range(150)]
    (folder / "moods.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return trained(folder, TaskConfig(name=str(folder / "moods.jsonl"), multilabel=True), bert_folder)


def metrics_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def test_page_loads_nothing_and_runs_only_its_script(finished: Path) -> None:
    page = parsed(finished / "report.html")
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "action", "data"):
                assert (value or "").startswith("#")
    text = (finished / "report.html").read_text("utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?://", text) == []
    policy = next(a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_labels_and_texts_are_escaped(finished: Path, several: Path) -> None:
    for path in (finished / "report.html", write_report(several)):
        page = parsed(path)
        assert "alert(1)" not in page.code["script"]
        assert any(EVIL in text for text in page.texts)
        assert any('they & <b>"you"</b> <img src=x>' in text for text in page.texts)


def test_its_figures_are_those_of_the_metrics(finished: Path) -> None:
    page, metrics = parsed(finished / "report.html"), metrics_of(finished)
    accuracy, overlap = metrics["test"]["accuracy"], metrics["test_without_overlap"]["weighted_f1"]
    summary, results = page.words("summary"), page.words("results")
    assert f"{100 * accuracy['mean']:.2f} % ± {100 * accuracy['std']:.2f}" in summary
    low, high = accuracy["ci95"]
    assert f"{100 * low:.1f}–{100 * high:.1f}" in summary
    assert "test without overlap 40 texts" in results
    assert f"{100 * overlap['mean']:.2f}" in results
    for value in accuracy["values"]:
        assert f"{100 * value:.2f}" in results
    labels = page.sections["labels"]
    for name, row in metrics["per_class"]["test"].items():
        place = labels.index(name)
        cells = [f"{row['support']:.0f}", *(f"{100 * row[key]:.1f}" for key in ("f1", "precision", "recall"))]
        assert labels[place + 1 : place + 5] == cells
    for row in metrics["risk_coverage"]["test"]:
        assert f"{100 * row['accuracy']:.1f}" in page.sections["confidence"]


def test_it_says_what_was_run_and_what_it_took(finished: Path) -> None:
    page = parsed(finished / "report.html")
    config = (finished / "config.yaml").read_text()
    what = page.words("what")
    for sha in re.findall(r"sha256: (\w{16})", config):
        assert sha in what
    for word in ("Head llmembed", "small-bert", "transformers", "60 rows", "learning rate"):
        assert word in what
    stages = json.loads((finished / "stages.json").read_text())
    assert json.loads((finished / "metrics.json").read_text())["stages"] == stages
    assert list(stages) == ["extract", "train", "baselines", "evaluate"]
    cost = page.sections["cost"]
    assert f"{stages['extract']['encoded']:,}" == cost[cost.index("extract") + 3]
    assert all(
        f"{stage['peak_memory'] / 1e6:.1f} MB" in cost or stage["peak_memory"] >= 1e9 for stage in stages.values()
    )


def test_confusion_matrix_has_the_order_of_the_tree(finished: Path) -> None:
    text = (finished / "report.html").read_text("utf-8")
    svg = text[text.index('aria-label="Confusion matrix of 4') :].partition("</svg>")[0]
    rows = re.findall(r'<text class="name" x="-6"[^>]*>([^<]+)<', svg)
    assert [row.replace("&lt;", "<").replace("&gt;", ">")[:5] for row in rows] == ["joy", "anger", "fear", EVIL[:5]]
    counts = [float(count) for count in re.findall(r"\(([\d.]+) of \d+\)</title>", svg)]
    assert sum(counts) == pytest.approx(41, abs=0.4)  # rounded to a tenth each
    assert "order of their tree" in text


def test_pairs_and_mistakes_are_wrong_answers(finished: Path) -> None:
    page = parsed(finished / "report.html")
    part = read_predictions(finished / "predictions.parquet")["test"]
    texts = load_task(TaskConfig(name=str(finished.parent / "moods"))).split("test").texts
    mean = sum(part.by_seed.values()) / 2
    wrong = {texts[i] for i in range(len(texts)) if mean[i].argmax() != part.labels[i]}  # type: ignore[index]
    shown = [text for text in page.sections["mistakes"] if text in texts]
    assert len(shown) == min(12, len(wrong))
    assert set(shown) <= wrong
    some_wrong = {texts[i] for i in range(len(texts)) for p in part.answers.values() if p[i] != part.labels[i]}
    examples = {text for text in page.sections["pairs"] if text in texts}
    assert examples
    assert examples <= some_wrong


def test_style_has_light_dark_phone_and_print(finished: Path) -> None:
    style = parsed(finished / "report.html").code["style"]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    assert "@media (max-width: 560px)" in style
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("@media", 2)[:2])
    assert light == dark
    used = set(re.findall(r"var\((--[\w-]+)\)", (finished / "report.html").read_text("utf-8")))
    assert used <= light


def test_it_is_the_same_every_time(finished: Path, tmp_path: Path) -> None:
    assert write_report(finished, out=tmp_path / "again.html").read_bytes() == (finished / "report.html").read_bytes()


def test_without_texts_none_stands_in_it(finished: Path, tmp_path: Path) -> None:
    path = write_report(finished, out=tmp_path / "deep" / "private.html", texts=False)
    text = path.read_text("utf-8")
    assert "we won" not in text
    assert "This report shows no texts, as requested" in text
    assert "order of their tree" in text


def test_without_its_data_the_rest_is_shown(finished: Path, tmp_path: Path) -> None:
    moved = finished.parent / "elsewhere"
    (finished.parent / "moods").rename(moved)
    try:
        path = write_report(finished, out=tmp_path / "r.html")
    finally:
        moved.rename(finished.parent / "moods")
    page = parsed(path)
    assert "could not be loaded again" in page.words("summary")
    assert "hierarchical clustering" in page.words("confusion")
    assert not any("we won" in text for text in page.texts)
    assert page.words("labels") == parsed(finished / "report.html").words("labels")


def test_texts_of_other_data_are_not_shown(finished: Path, tmp_path: Path) -> None:
    data, kept = finished.parent / "moods" / "test.jsonl", tmp_path / "test.jsonl"
    shutil.copy(data, kept)
    lines = kept.read_text("utf-8").splitlines()
    changed = [json.dumps(json.loads(line) | {"text": f"changed {i}"}) for i, line in enumerate(lines[:-3])]
    try:
        data.write_text("\n".join([*changed, *lines[-3:]]), "utf-8")
        page = parsed(write_report(finished, out=tmp_path / "r.html"))
    finally:
        shutil.copy(kept, data)
    assert "38 of the texts are no longer in the data" in page.words("summary")
    assert not any("changed" in text for text in page.texts)


def test_validation_can_be_asked_for(finished: Path, tmp_path: Path) -> None:
    page = parsed(write_report(finished, out=tmp_path / "r.html", split="valid"))
    assert "24 validation texts" in page.words("summary")
    assert f"{100 * metrics_of(finished)['valid']['accuracy']['mean']:.2f} %" in page.words("summary")


def test_report_leaves_out_what_is_missing(finished: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    metrics = json.loads((old / "metrics.json").read_text())
    for name in ("betas", "temperatures", "risk_coverage", "per_class", "parameters"):
        metrics.pop(name)
    (old / "metrics.json").write_text(json.dumps(metrics))
    (old / "stages.json").unlink()
    shutil.rmtree(old / "seeds")
    shutil.rmtree(old / "model")
    page = parsed(write_report(old))
    assert "no training history" in page.words("training")
    assert page.words("labels") == parsed(finished / "report.html").words("labels")


def test_multilabel_run_has_curves_and_thresholds(several: Path) -> None:
    page, metrics = parsed(write_report(several)), metrics_of(several)
    assert "confusion" not in page.sections
    assert "Accuracy by coverage" not in page.words("confidence")
    assert f"{100 * metrics['test']['map']['mean']:.2f} %" in page.words("summary")
    records = [json.loads((several / "seeds" / str(seed) / "config.json").read_text()) for seed in (0, 1)]
    labels = page.sections["labels"]
    names = read_predictions(several / "predictions.parquet", multilabel=True)["test"].names
    for i, name in enumerate(names):
        threshold = sum(record["decision"]["thresholds"][i] for record in records) / 2
        assert f"{threshold:.2f}" == labels[labels.index(name) + 6]
        assert name in page.sections["curves"]


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda run: (run / "metrics.json").unlink(), FecError, "has no metrics.json"),
        (lambda run: (run / "metrics.json").write_text("{"), FecError, "metrics.json can't be read"),
        (lambda run: (run / "predictions.parquet").unlink(), DataError, "predictions.parquet: no such file"),
        (lambda run: (run / "config.yaml").unlink(), FecError, "config.yaml can't be read"),
        (
            lambda run: (run / "metrics.json").write_text(
                (run / "metrics.json").read_text().replace('"seeds": [', '"seeds": [7, ')
            ),
            FecError,
            "belong to different runs",
        ),
        (
            lambda run: (run / "metrics.json").write_text(
                (run / "metrics.json").read_text().replace('"stages"', '"other"')
            ),
            FecError,
            "is not as `fec run` writes it",
        ),
    ],
)
def test_a_damaged_run_is_one_sentence(
    finished: Path, tmp_path: Path, damage: object, error: type, said: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(finished, broken)
    (broken / "report.html").unlink()
    damage(broken)  # type: ignore[operator]
    with pytest.raises(error, match=said):
        write_report(broken)
    assert not (broken / "report.html").exists()


def test_a_bug_is_not_blamed_on_the_files(finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: object) -> str:
        raise NotImplementedError("a bug")

    monkeypatch.setattr("fusion_classifier.commands.report.page", broken)
    with pytest.raises(NotImplementedError, match="a bug"):
        write_report(finished, out=tmp_path / "r.html")


def test_wrong_arguments_are_one_sentence(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FecError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(FecError, match="is a model folder"):
        write_report(finished / "model")
    with pytest.raises(UsageError, match="`split`: 'train'"):
        write_report(finished, split="train")
    with pytest.raises(UsageError, match=r"`out`: .*is a folder"):
        write_report(finished, out=tmp_path)


def test_fec_run_ends_with_a_report(tmp_path: Path, bert_folder: Path) -> None:
    lines = ["text,label", *(f"{WORDS[label]} {i},{label}" for i in range(20) for label in ("joy", "anger", "fear"))]
    (tmp_path / "moods.csv").write_text("\n".join(lines), "utf-8")
    command = ["run", str(tmp_path / "moods.csv"), "-e", str(bert_folder), "--head", "linear", "--epochs", "1"]
    command += ["--no-cross-validate", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "run")]
    without = CliRunner().invoke(app, [*command, "--no-report"])
    assert without.exit_code == 0, without.output
    assert not (tmp_path / "run" / "report.html").exists()
    done = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(done.stdout)["rows"]["test"] == 6
    assert "6 test texts" in parsed(tmp_path / "run" / "report.html").words("summary")
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())
    assert {stage["calls"] for stage in stages.values()} == {2}
    assert stages["extract"]["encoded"] == 63  # of the first call: the rows, and the names of the labels


def test_the_command_writes_where_it_is_told(finished: Path, tmp_path: Path) -> None:
    done = fec("report", finished, "--out", "page.html", "--no-texts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"page\.html: [\d.]+ KB\n", done.stdout)
    assert (tmp_path / "page.html").is_file()


@pytest.mark.browser
def test_browser_shows_the_page(finished: Path, several: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here (make test installs it)")
    complaints: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for folder in (finished, several):
            path = write_report(folder)
            for width, scheme in ((1280, "light"), (390, "dark")):
                view = {"width": width, "height": 900}
                # The page's policy lets no other script in; axe has to come in all the same.
                page = browser.new_page(viewport=view, color_scheme=scheme, bypass_csp=True)
                page.on("console", lambda message: complaints.append(message.text))
                page.on("pageerror", lambda error: complaints.append(str(error)))
                page.on("dialog", lambda dialog: complaints.append(dialog.message))
                page.on("request", lambda request: asked.append(request.url))
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                backgrounds = page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", backgrounds)[:3])) > 380) == (scheme == "light")
                first = "#labels tbody tr:first-child td:nth-child(3)"
                best = float(page.inner_text(first))
                page.click("#labels th button:has-text('F1')")  # from the greatest down
                page.click("#labels th button:has-text('F1')")
                assert float(page.inner_text(first)) <= best
                page.hover("#map circle >> nth=0", force=True)
                assert page.is_visible(".tip")
                findings = axe.run(page).response["violations"]
                assert [one["id"] for one in findings if one["impact"] in ("serious", "critical")] == []
                page.close()
        browser.close()
    assert complaints == []
    assert all(url.startswith("file:") for url in asked)
