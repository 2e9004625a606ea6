"""The web page in a real browser: Debian's Chromium, driven by Playwright."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the web page's tests need playwright")
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect, sync_playwright

from fusion_classifier import FusionClassifier
from fusion_classifier.serving.model import ServedModel

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EXAMPLE = "I opened the door and there they all were, even my sister from Lisbon."
TEXT = "After the long meeting on Tuesday I was so grateful 🙏 to the driver."
KEY = "a-key-of-the-tests"
Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium (make test does)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def url(demo_classifier: FusionClassifier, served: Served) -> Iterator[str]:
    with served(ServedModel(demo_classifier, "demo-emotions"), payload_limit=50_000, example=[EXAMPLE]) as found:
        yield found


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; anything that the browser complains of, or that goes elsewhere, fails the test."""
    yield from opened(browser, url)


def opened(browser: Browser, url: str, **context: object) -> Iterator[Page]:
    found = browser.new_page(reduced_motion="reduce", **context)  # type: ignore[arg-type]
    complaints: list[str] = []
    asked: list[str] = []
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on(
        "console",
        # An answer that is an error is logged by the browser itself.
        lambda said: complaints.append(said.text) if said.type == "error" and "status of" not in said.text else None,
    )
    found.on("request", lambda request: asked.append(request.url))
    found.goto(url)
    yield found
    found.close()
    assert [one for one in complaints if "ERR_INTERNET_DISCONNECTED" not in one] == []
    assert asked
    assert all(one.startswith((f"{url}/", f"blob:{url}/")) for one in asked)


def classify(page: Page, text: str) -> None:
    page.get_by_label("Your text").fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.locator("#words")).to_be_visible()
    expect(page.locator("#words")).not_to_have_class(re.compile("waiting"))


def shown(page: Page) -> list[tuple[str, float]]:
    """Labels and percentages of all bars."""
    rows = page.locator("#bars label")
    names = rows.locator(".name").all_text_contents()
    return list(
        zip(names, [float(f.partition("%")[0]) for f in rows.locator(".figure").all_text_contents()], strict=True)
    )


def test_a_typed_text_gets_the_classifiers_own_answer_and_words(
    page: Page, demo_classifier: FusionClassifier
) -> None:
    classify(page, TEXT)
    row = demo_classifier.predict_proba([TEXT])[0]
    expected = sorted(zip(demo_classifier.classes_.tolist(), (100 * row).tolist(), strict=True), key=lambda x: -x[1])
    found = shown(page)
    assert dict(found) == pytest.approx(dict(expected), abs=1.5)  # bfloat16, and one decimal
    assert found == sorted(found, key=lambda x: -x[1])
    assert page.locator("#best").text_content() == expected[0][0] == "gratitude"
    assert page.locator("#bars label:visible").count() == 6
    page.get_by_role("button", name="Show all 10 labels").click()
    assert page.locator("#bars label:visible").count() == 10

    words = demo_classifier.explain(TEXT).words
    greatest = max(words, key=lambda word: word.weight)
    assert page.locator("#weights tr").count() == len(words)
    assert page.locator("#weights td").first.text_content() == greatest.text == "grateful"
    assert page.locator("#reading").text_content() == TEXT  # with marks around words, the emoji before them or not
    expect(page.locator("#finding")).to_contain_text("Without “grateful” the odds of gratitude would be")
    colours = page.locator("#reading mark.for").evaluate_all(
        "marks => marks.map(m => [m.textContent, parseInt(/(\\d+)%/.exec(m.style.backgroundColor)?.[1] ?? 0)])"
    )
    assert max(colours, key=lambda one: one[1])[0] == "grateful"


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    press = page.keyboard.press

    def tab_to(selector: str, most: int = 12) -> None:
        for _ in range(most):
            press("Tab")
            visible = page.evaluate(
                """() => { for (let e = document.activeElement; e && e !== document.body; e = e.parentElement) {
                    const { outlineStyle, outlineWidth } = getComputedStyle(e);
                    if (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2) return true;
                } return false; }"""
            )
            assert visible, page.evaluate("document.activeElement.outerHTML")
            if page.locator(selector).evaluate("e => e === document.activeElement"):
                return
        raise AssertionError(f"{selector} can't be reached")

    press("Tab")
    assert page.locator(".skip").evaluate("e => e === document.activeElement && e.getBoundingClientRect().top >= 0")
    press("Enter")
    page.locator("#text").focus()
    page.keyboard.type(TEXT)
    press("Control+Enter")
    expect(page.locator("#weights tr")).not_to_have_count(0)
    expect(page.locator("#said")).to_contain_text("gratitude")
    tab_to("#bars input:checked")
    press("ArrowDown")
    second = page.locator("#bars input:checked").get_attribute("value")
    assert second != "gratitude"
    expect(page.locator("#words-label")).to_have_text(second or "")
    tab_to("#more")
    press("Enter")
    assert page.locator("#bars label:visible").count() == 10
    tab_to("#file")
    page.locator("summary").focus()
    press("Enter")
    expect(page.locator("#weights")).to_be_visible()
    page.locator("#examples button").first.focus()
    press("Enter")
    expect(page.locator("#reading")).to_contain_text("Lisbon")
    expect(page.locator("#headline")).to_have_text("Which one of 10 labels?")


def test_a_phone_needs_no_scrolling_sideways(browser: Browser, url: str) -> None:
    for page in opened(browser, url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True):
        for text in (None, TEXT + " Donaudampfschifffahrtsgesellschaftskapitänspatentprüfung" * 3 + "a" * 90):
            if text:
                classify(page, text)
                page.locator("summary").click()
            width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width == [360, 360]
        small = page.locator("button:visible, summary").evaluate_all(
            "all => all.filter(e => e.getBoundingClientRect().height < 40).map(e => e.textContent)"
        )
        assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, url: str, scheme: str) -> None:
    def serious(page: Page) -> list[tuple[str, str]]:
        found = Axe().run(page).response["violations"]
        return [(one["id"], str(one["nodes"])[:800]) for one in found if one["impact"] in ("serious", "critical")]

    for page in opened(browser, url, color_scheme=scheme):
        assert serious(page) == []
        classify(page, TEXT)
        page.locator("summary").click()
        page.get_by_role("button", name="Show all").click()
        page.locator("#file").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": b"text\nfine\n"})
        expect(page.locator("#file-options")).to_be_visible()
        assert serious(page) == []
        page.get_by_label("Your text").fill("")
        page.get_by_role("button", name="Classify", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert serious(page) == []


def test_a_file_comes_back_with_labels(page: Page, demo_classifier: FusionClassifier, tmp_path: Path) -> None:
    texts = ["What a day, I won!", "Nobody came to my party.", 'The soup was "warm", they said.'] * 15
    source = tmp_path / "reviews.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "comment"], *([i, text] for i, text in enumerate(texts))])
    page.locator("#file").set_input_files(source)
    expect(page.get_by_label("Column with the texts")).to_have_value("comment")
    page.get_by_role("button", name="Classify the file").click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download reviews-labels.csv").click()
    expect(page.locator("#file-said")).to_have_text("45 texts classified.")
    with Path(downloading.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["comment"] for row in rows] == texts
    assert [row["label"] for row in rows] == demo_classifier.predict(texts).tolist()

    page.locator("#file").set_input_files(
        {"name": "b.jsonl", "mimeType": "", "buffer": b'{"text": "a"}\n{"text": ""}\n'}
    )
    page.get_by_role("button", name="Classify the file").click()
    expect(page.locator("#file-said")).to_have_text("1 text classified.")
    page.locator("#file").set_input_files(
        {"name": "d.csv", "mimeType": "", "buffer": "text\nschön\n".encode("cp1252")}
    )
    expect(page.locator("#file-said")).to_contain_text("not UTF-8")
    page.get_by_label("Encoding").select_option("cp1252")
    page.get_by_role("button", name="Classify the file").click()
    expect(page.locator("#file-said")).to_have_text("1 text classified.")
    page.locator("#file").set_input_files({"name": "c.txt", "mimeType": "", "buffer": b"a\n" * 30_000})
    expect(page.locator("#file-said")).to_have_text("That is more than the server accepts at once. It takes 50 KB.")


def test_every_error_is_said_with_a_way_out(page: Page) -> None:
    alert = page.get_by_role("alert")
    go = page.get_by_role("button", name="Classify", exact=True)
    go.click()
    expect(alert).to_contain_text("write one first")
    page.get_by_label("Your text").fill("very " * 300 + "grateful")
    go.click()
    expect(alert).to_contain_text("longer than the model’s limit (256 tokens, about 180 words)")
    page.get_by_role("button", name="Read its beginning").click()
    expect(page.locator("#answer")).to_be_visible()
    expect(alert).not_to_be_visible()
    page.get_by_label("Your text").fill("x" * 60_000)
    go.click()
    expect(alert).to_contain_text("It takes 50 KB")
    page.get_by_label("Your text").fill(TEXT)
    page.route(
        "**/predict", lambda r: r.fulfill(status=429, json={"error": "o", "error_type": "Overloaded"}), times=1
    )
    go.click()
    expect(alert).to_contain_text("overloaded")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#best")).to_have_text("gratitude")
    page.context.set_offline(True)
    go.click()
    expect(alert).to_contain_text("The server does not answer")


def test_a_key_is_asked_for_only_where_one_is_needed(
    page: Page, browser: Browser, demo_classifier: FusionClassifier, served: Served
) -> None:
    expect(page.locator("#about dd").first).to_have_text("demo-emotions")
    expect(page.locator("#key-form")).not_to_be_visible()
    with served(ServedModel(demo_classifier, "demo-emotions"), api_key=KEY) as locked:
        for other in opened(browser, locked):
            field = other.get_by_label("This server requires a key")
            field.fill("wrong-key-12")
            field.press("Enter")
            expect(other.locator("#key-hint")).to_have_text("The server rejected this key.")
            field.fill(KEY)
            field.press("Enter")
            expect(other.locator("#about dd").first).to_have_text("demo-emotions")
            expect(field).not_to_be_visible()
            classify(other, TEXT)


def test_labels_over_their_threshold_are_given(
    browser: Browser, demo_classifier: FusionClassifier, served: Served
) -> None:
    """A multi-label model: the same head with thresholds."""
    import copy

    several = copy.copy(demo_classifier)
    thresholds = tuple(0.0 if label in ("joy", "pride") else 0.999999 for label in demo_classifier.classes_)
    decision = several.config_.decision.model_copy(update={"thresholds": thresholds})
    several.config_ = several.config_.model_copy(update={"decision": decision})
    several.known_ = None  # as of every multi-label model
    with served(ServedModel(several, "demo-emotions")) as address:
        for page in opened(browser, address):
            expect(page.locator("#about dd").first).to_have_text("demo-emotions")
            assert page.locator("#format option").all_text_contents() == ["JSONL"]
            classify(page, TEXT)
            assert set((page.locator("#best").text_content() or "").split(", ")) == {"joy", "pride"}
            expect(page.locator(".tag")).to_have_count(2)
