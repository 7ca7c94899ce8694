"""The leak guard's section: counts, the nearest pairs side by side, and nothing where the recipe leaves it out."""

from __future__ import annotations

from pathlib import Path

from ltgc_local.reporting import Report, render, summarize
from tests.reporting.conftest import write_and_gather
from tests.reporting.run_on_disk import make_recipe, shipped_corpus


def test_the_most_serious_pairs_come_first_and_equal_images_first_of_all(report: Report) -> None:
    # The fixture's "generated" images are test images, so the guard must report them.
    assert report.leaks is not None
    first, second, third = report.leaks.groups
    assert (first.count.images, first.count.among) == ("generated", "test")
    assert (second.count.among, third.count.images) == ("train", "train")
    assert first.count.equal > 0 and not report.leaks.is_clean
    assert len(first.pairs) == report.recipe.report.leak_pairs < first.num_pairs
    assert first.pairs[0].fact == "equal · cosine 1.000"
    left, right = first.pairs[0].pictures
    assert left.address == right.address and left.caption.startswith("generated: ")
    assert right.caption.startswith("test: ") and right.fact.startswith("test/")


def test_the_page_and_the_summary_have_the_counts(report: Report) -> None:
    assert report.leaks is not None
    page = render(report)
    section = page.split('<section id="leaks">')[1].split("</section>")[0]
    assert '<a href="#leaks">Leaks</a>' in page
    assert "Generated images with a duplicate among test images" in section
    assert section.count('<li class="chain">') == sum(len(group.pairs) for group in report.leaks.groups)
    assert "no duplicate was found" not in section.lower()
    summary = summarize(report)["leaks"]
    assert summary[0]["equal"] == report.leaks.groups[0].count.equal


def test_a_recipe_without_the_guard_has_no_section(tmp_path: Path) -> None:
    report = write_and_gather(tmp_path, make_recipe(leaks={"enabled": False}), shipped_corpus())
    assert report.leaks is None
    page = render(report)
    assert "leaks" not in page.split("<details>")[0].split("</style>")[1] and 'id="leaks"' not in page
    assert summarize(report)["leaks"] is None
