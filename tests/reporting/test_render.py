import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ltgc_local.reporting import Report, render, summarize
from ltgc_local.reporting.render import duration, number, whole
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.logs import worker_logs
from tests.reporting.conftest import gather_run, write_and_gather
from tests.reporting.run_on_disk import list_corpus, make_recipe, shipped_corpus

VOID = {"meta", "img", "br", "link", "input", "rect", "circle", "line", "polyline"}


class Page(HTMLParser):
    """Collects the tags of a page and checks that each that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def addresses(self) -> Iterator[str]:
        for _, attrs in self.tags:
            yield from (value or "" for name, value in attrs.items() if name in ("src", "href", "srcset", "action"))


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(render(report))


def test_the_page_needs_no_other_file_no_network_and_no_script(page: Page, report: Report) -> None:
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses())
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    style = re.search(r"<style>.*?</style>", render(report), re.DOTALL)
    assert style and "url(" not in style[0] and "@import" not in style[0]


def test_the_figures_of_the_main_table_appear_with_the_best_marked(page: Page, report: Report) -> None:
    html = render(report)
    for value in ("55.2", "75.5", "66.9"):
        assert f'<td class="n">{value}</td>' in html
    for value in ("81.7", "82.6", "81.2", "88.6"):
        assert f"<strong>{value}</strong>" in html
    assert "+21.7" in page.text and "−3.4" in page.text
    assert "LoRA, balanced sampling, no generated data" in page.text


def test_the_banner_and_the_verdict_come_first(report: Report) -> None:
    html = render(report)
    order = ("the machinery works", "does better than its control", "The head loses", "<table")
    places = [html.index(words) for words in order]
    assert places == sorted(places)


def test_every_image_has_an_alternative_text_and_every_header_cell_a_scope(page: Page) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert images and all(attrs.get("alt") for attrs in images)
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")


def test_names_and_texts_with_markup_are_escaped(tmp_path: Path) -> None:
    name = """<script>alert("x")</script> & 'co'"""
    report = write_and_gather(tmp_path, make_recipe(), list_corpus([name, "two"], [5, 120]))
    html = render(report)
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#39;co&#39;" in html
    page = Page(html)
    assert any(name in (attrs.get("alt") or "") for tag, attrs in page.tags if tag == "img")


def test_warnings_of_the_steps_are_repeated_at_the_top_and_in_the_summary(tmp_path: Path, report: Report) -> None:
    assert "Warnings" not in Page(render(report)).text and summarize(report)["warnings"] == []
    recipe, corpus = make_recipe(), shipped_corpus()
    write_and_gather(tmp_path, recipe, corpus)
    run, text = RunDirectory(tmp_path), "extend: found nothing for 1 of 2 classes: '<i>coat</i>' 0"
    with worker_logs(run.folder("extend"), 0, "error"):
        logging.getLogger("ltgc_local.methods.ltgc.stages.extend").warning(text)
    manifest = run.manifest("extend")
    assert manifest is not None
    run.write_manifest("extend", manifest.fingerprint, 1, 2.0)
    found = gather_run(run, recipe, corpus)
    assert summarize(found)["warnings"] == [{"step": "extend", "text": text}]
    words = Page(render(found)).text
    assert words.index(f"Warnings {text} (step extend)") < words.index("Accuracy Percentage of test images")


def test_empty_groups_are_dashes(tmp_path: Path) -> None:
    recipe = make_recipe(train={"control": False})
    report = write_and_gather(tmp_path, recipe, list_corpus(["one", "two"], [120, 60]), arms=("ltgc",))
    text = Page(render(report)).text
    assert "0 classes" in text and "There are no tail classes" in text and "No images were scored" in text


def test_a_run_without_assessment_has_no_acceptance(tmp_path: Path) -> None:
    recipe = make_recipe(assess={"enabled": False})
    text = Page(render(write_and_gather(tmp_path, recipe, shipped_corpus()))).text
    assert "Acceptance" not in text and "Excluded" not in text
    assert "did not assess its images" in text


def test_a_class_without_any_accepted_image_is_shown_with_its_failures(tmp_path: Path) -> None:
    report = write_and_gather(tmp_path, make_recipe(), shipped_corpus(), accept_rate=0.0)
    text = Page(render(report)).text
    assert "No generated image was accepted" in text and "No image of this class trains." in text
    assert "excluded after 3 images" in text and "accepted after" not in text
    assert all(gallery.num_chains == gallery.row.num_excluded for gallery in report.galleries)


def test_a_thousand_classes_stay_a_page_that_opens(tmp_path: Path) -> None:
    sizes = [max(5, round(1280 * (5 / 1280) ** (i / 999))) for i in range(1000)]
    recipe = make_recipe(report={"images_per_class": 100}, extend={"max_descriptions": 12})
    report = write_and_gather(tmp_path, recipe, list_corpus([f"class {i}" for i in range(1000)], sizes, size_px=66))
    html = render(report)
    page = Page(html)
    assert len(report.galleries) == 24 and f"{len(report.tail) - 24} are left out" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) <= 900
    assert len(html) < 15_000_000
    assert "All 1000 classes" in page.text


def test_numbers_are_written_for_people() -> None:
    assert (number(None), number(-1.25, 2), whole(12345)) == ("–", "−1.25", "12\u202f345")
    assert [duration(s) for s in (8.44, 185, 7800)] == ["8.4 s", "3 min 05 s", "2 h 10 min"]
