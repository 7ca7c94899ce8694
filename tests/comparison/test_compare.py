"""What a comparison shows: means over seeds, shared arms once, the change, the 2 x 2, the paper's rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.comparison import Comparison, compare_runs
from ltgc_local.comparison.read import flatten
from ltgc_local.comparison.table import Cell, Table
from ltgc_local.errors import ArtefactError
from ltgc_local.methods.ltgc.comparison import LtgcComparison
from ltgc_local.methods.ltgc.paper import TABLES
from ltgc_local.methods.registry import COMPARISONS
from ltgc_local.recipe import Recipe
from ltgc_local.runs.sealed import write_sealed
from tests.comparison.conftest import WriteRun


def table_of(comparison: Comparison, kind: str) -> Table:
    (found,) = (table for table in comparison.benchmarks[0].tables if table.kind == kind)
    return found


def values(cells: tuple[str | Cell, ...]) -> list[float | None]:
    return [cell.value for cell in cells if isinstance(cell, Cell)]


def test_seeds_are_one_row_with_mean_standard_deviation_and_t_interval(table: Path) -> None:
    (line,) = [each for each in compare_runs([table], COMPARISONS).benchmarks[0].lines if each.label == "balance_mix"]
    assert line.seeds == (0, 1)
    # few: 14 and 16 of 20 are 70 and 80 %: mean 75, sd 7.071, half width 12.706 * 7.071 / sqrt(2) = 63.53
    few = line.cells["few"]
    assert (few.value, few.sd) == (75.0, pytest.approx(7.0711, abs=1e-4))
    assert few.interval == pytest.approx((11.47, 100.0), abs=0.01)
    assert line.cells["many"].sd == 0.0


def test_one_run_has_a_bootstrap_interval_over_its_test_images(table: Path) -> None:
    (line,) = [
        each for each in compare_runs([table], COMPARISONS).benchmarks[0].lines if each.label == "no_balance_mix"
    ]
    few = line.cells["few"]
    assert few.value == 50.0 and few.sd is None and few.interval is not None
    assert few.interval[0] == pytest.approx(28, abs=4) and few.interval[1] == pytest.approx(72, abs=4)
    narrow = compare_runs([table], COMPARISONS, level=0.5).benchmarks[0].lines
    (same,) = [each for each in narrow if each.label == "no_balance_mix"]
    assert same.cells["few"].interval[0] > few.interval[0] + 5  # type: ignore[index]


def test_arms_that_rows_share_appear_once_and_zero_shot_first(table: Path) -> None:
    lines = compare_runs([table], COMPARISONS).benchmarks[0].lines
    assert [(line.label, line.title, line.seeds) for line in lines] == [
        ("", "CLIP zero-shot", ()),
        ("", "LoRA on originals alone, instance sampling, cross-entropy", (0,)),
        ("control of balanced_sampling", "LoRA on originals alone, balanced sampling, cross-entropy", (0,)),
        ("control of balance_mix", "LoRA on originals alone, balanced sampling, cross-entropy", (0, 1)),
        ("no_balance_mix", "originals and generated as one set, instance sampling, cross-entropy", (0,)),
        ("balanced_sampling", "originals and generated as one set, balanced sampling, cross-entropy", (0,)),
        ("balance_mix", "BalanceMix, cross-entropy", (0, 1)),
    ]
    zero_shot = lines[0].cells["all"]
    assert zero_shot.sd is None and zero_shot.interval is not None  # bootstrapped, not over seeds


def test_the_change_is_against_the_rows_own_control_and_paired(table: Path) -> None:
    rows = {str(row[0]): row for row in table_of(compare_runs([table], COMPARISONS), "change").rows}
    # all, many, medium, few of 60, 20, 20 and 20 images
    assert values(rows["no_balance_mix"]) == pytest.approx([10, 0, 0, 30])
    assert values(rows["balance_mix"]) == pytest.approx([(4 + 6) / 120 * 100, -10, 0, 35], abs=1e-3)
    many = rows["no_balance_mix"][3]
    assert isinstance(many, Cell) and many.interval == (0.0, 0.0)  # the two agree on every image of the head


def test_the_two_by_two_holds_data_against_sampler(table: Path) -> None:
    originals, union = table_of(compare_runs([table], COMPARISONS), "two_by_two").rows
    # instance: all, many, few; balanced: all, many, few
    assert values(originals) == pytest.approx([100 * 34 / 60, 90, 20, 100 * 38 / 60, 85, 40])
    assert values(union) == pytest.approx([100 * 40 / 60, 90, 50, 100 * 42 / 60, 85, 60])


def test_there_is_no_two_by_two_of_rows_that_differ_in_more(write_run: WriteRun, tmp_path: Path) -> None:
    right = {"control": (9, 9, 9), "ltgc": (9, 9, 9)}
    write_run("r/a", right, "name=a", "train.mixing=union", "train.sampler=instance")
    write_run("r/b", right, "name=b", "train.mixing=union", "train.lr=0.5")
    assert [g.kind for g in compare_runs([tmp_path / "r"], COMPARISONS).benchmarks[0].tables].count("two_by_two") == 0


def test_the_papers_table_shows_our_rows_that_match_its_own(table: Path) -> None:
    tables = [g for g in compare_runs([table], COMPARISONS).benchmarks[0].tables if g.kind == "paper"]
    assert [g.title.split(":")[0][-7:] for g in tables] == ["Table 1", "Table 2", "Table 5"]
    rows = {str(row[0]): row for row in tables[-1].rows}
    assert rows["without BalanceMix"][3] == "no_balance_mix"
    assert values(rows["without BalanceMix"]) == pytest.approx([58.3, 69.5, 100 * 40 / 60])
    assert rows["Mixup"][3] == "-" and values(rows["Mixup"]) == [73.4, 75.2, None]
    assert "other models and other data" in tables[-1].note


@pytest.mark.parametrize(
    ("overrides", "arm", "expected"),
    [
        ([], "zero_shot", "zero_shot"),
        ([], "ltgc", "ltgc"),
        ([], "control", None),
        (["train.sampler=instance"], "control", "fine_tuned"),
        (["train.loss=logit_adjustment"], "ltgc", None),
        (["assess.enabled=false"], "ltgc", "no_evaluation"),
        (["assess.attempts=1"], "ltgc", "exclusion"),
        (["train.mixing=union", "train.sampler=instance"], "ltgc", "no_balance_mix"),
        (["train.mixing=union"], "ltgc", "balanced_sampling"),
        (["train.mixing=union", "assess.attempts=1"], "ltgc", None),
        (["extend.source=template"], "ltgc", None),
    ],
)
def test_an_arm_matches_a_row_of_the_paper_by_its_settings(
    make_recipe: Callable[..., Recipe], overrides: list[str], arm: str, expected: str | None
) -> None:
    settings = flatten(make_recipe(*overrides).dump())
    assert LtgcComparison().paper_row(settings, arm) == expected


def test_the_papers_figures_are_the_slides() -> None:
    found = {(t.number, row.title): list(row.values.values()) for t in TABLES for row in t.rows}
    assert found[1, "LTGC"] == [70.5, 80.6, 52.1, 54.1] and found[2, "LTGC"] == [77.5, 83.9, 82.6, 82.5]
    assert found[1, "RAC"] == [41.8, 47.2] and found[3, "GPT-4"] == [72.1, 64.3]
    assert found[4, "detection and exclusion"] == [71.5, 77.4] and found[5, "Mixup"] == [73.4, 75.2]
    assert len(found) == 6 + 11 + 5 + 3 + 4


def test_ensembles_of_an_arm_are_lines_of_their_own(write_run: WriteRun) -> None:
    run = write_run("r", {"ltgc": (9, 9, 9), "ltgc.five_crop": (12, 9, 9)})
    lines = compare_runs([run], COMPARISONS).benchmarks[0].lines
    assert [(line.variant, line.cells["many"].value) for line in lines] == [("", 45.0), ("five_crop", 60.0)]
    assert lines[1].title.endswith(", five crops") and lines[1].cells["many"].interval is not None


def test_benchmarks_and_states_of_their_data_are_kept_apart(write_run: WriteRun, tmp_path: Path) -> None:
    for name, digest in (("r/a", "d1"), ("r/b", "d2")):
        write_run(name, {"ltgc": (9, 9, 9)}, digest=digest)
    names = [benchmark.name for benchmark in compare_runs([tmp_path / "r"], COMPARISONS).benchmarks]
    assert names == ["fashion_mnist_lt (data d1)", "fashion_mnist_lt (data d2)"]


def test_rows_of_one_name_are_told_apart_by_what_differs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("r/a", {"ltgc": (9, 9, 9)})
    write_run("r/b", {"ltgc": (8, 9, 9)}, "train.lr=0.5")
    write_run("r/c", {"ltgc": (8, 9, 9)}, "train.lr=0.5", "seed=1", "evaluate.batch_size=8")
    lines = compare_runs([tmp_path / "r"], COMPARISONS).benchmarks[0].lines
    assert [(line.label, line.seeds) for line in lines] == [
        ("plain (train.lr=0.01)", (0,)),
        ("plain (train.lr=0.5)", (0, 1)),
    ]


def test_a_run_named_twice_counts_once_and_an_unfinished_one_is_named(write_run: WriteRun, table: Path) -> None:
    unfinished = table / "mixup/seed-0"
    unfinished.mkdir(parents=True)
    write_sealed(unfinished / "recipe.json", {"name": "x"})
    comparison = compare_runs([table, table / "balance_mix", table / "balance_mix/seed-1"], COMPARISONS)
    assert comparison.unfinished == (unfinished,)
    (line,) = [each for each in comparison.benchmarks[0].lines if each.label == "balance_mix"]
    assert line.seeds == (0, 1)


def test_folders_without_an_evaluated_run_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no run directory here"):
        compare_runs([tmp_path], COMPARISONS)
    write_sealed(tmp_path / "recipe.json", {"name": "x"})
    with pytest.raises(ArtefactError, match="step evaluate is not complete; type: ltgc-local status"):
        compare_runs([tmp_path], COMPARISONS)


def test_a_damaged_recipe_is_an_error_with_what_to_type(write_run: WriteRun) -> None:
    run = write_run("r", {"ltgc": (9, 9, 9)})
    (run / "recipe.json").write_text("{")
    with pytest.raises(ArtefactError, match="damaged"):
        compare_runs([run], COMPARISONS)


def test_a_run_that_stored_no_predictions_has_figures_without_intervals(write_run: WriteRun, tmp_path: Path) -> None:
    from ltgc_local.runs.directory import RunDirectory
    from ltgc_local.runs.files import Json

    root = write_run("r", {"ltgc": (9, 9, 9)})
    run = RunDirectory(root)
    run.supersede(["evaluate"])
    old = {"ltgc": {"all": 50.0, "many": 60.0, "medium": None, "few": 7.5, "per_class": {}}}
    run.write_chunk("evaluate", 0, [Json("metrics", old)], {"items": 1, "seconds": 0, "peak_mib": 0}, numbered=False)
    run.write_manifest("evaluate", {}, 1, 0)
    (line,) = compare_runs([root], COMPARISONS).benchmarks[0].lines
    assert (line.cells["all"], line.cells["worst"], line.cells["medium"]) == (Cell(50.0), Cell(None), Cell(None))


def test_validation_images_are_compared_at_the_kept_epoch_of_runs_that_were_never_tested(
    trained_run: Callable[..., Path], tmp_path: Path
) -> None:
    for seed, few in ((0, (10.0, 30.0, 20.0)), (1, (10.0, 50.0, 20.0))):
        trained_run(f"v/seed-{seed}", {"control": (0.0, 5.0, 9.0), "ltgc": few}, 1, f"seed={seed}")
    (benchmark,) = compare_runs([tmp_path / "v"], COMPARISONS, split="val").benchmarks
    by_arm = {line.arm: line for line in benchmark.lines}
    assert by_arm.keys() == {"control", "ltgc"}
    assert (by_arm["ltgc"].cells["few"].value, by_arm["control"].cells["few"].value) == (40.0, 5.0)
    assert by_arm["ltgc"].cells["few"].sd == pytest.approx(14.1421, abs=1e-4)
    assert [table.title for table in benchmark.tables] == [
        "Accuracy on the validation images",
        "Change against the control",
    ]
    with pytest.raises(ArtefactError, match="step evaluate is not complete"):
        compare_runs([tmp_path / "v"], COMPARISONS)


def test_validation_figures_need_a_training(table: Path) -> None:
    with pytest.raises(ArtefactError, match="step train/ltgc is not complete"):
        compare_runs([table], COMPARISONS, split="val")


def test_comparing_imports_no_torch() -> None:
    code = "import sys, ltgc_local.comparison; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_arm_says_how_pairs_are_mixed_where_that_is_not_the_default(make_recipe: Callable[..., Recipe]) -> None:
    def title(*overrides: str) -> str:
        return ", ".join(LtgcComparison().describe_arm(flatten(make_recipe(*overrides).dump()), "ltgc"))

    assert title() == "BalanceMix, cross-entropy"
    assert title("train.mix_form=mask") == "BalanceMix by masks, cross-entropy"
    assert title("train.mix_alpha=9", "train.mix_beta=1") == "BalanceMix, generated images 10%, cross-entropy"
    replaced = "25% of originals replaced by generated images of their class"
    adjusted = ("train.loss=logit_adjustment", "train.sampler=instance")
    assert title("train.mixing=replace", "train.replace_share=0.25", *adjusted) == (
        f"{replaced}, instance sampling, logit adjustment"
    )
    union = title("train.mixing=union", "train.prior=originals", *adjusted)
    assert union.endswith("one set, instance sampling, logit adjustment by the originals' shares")
    joint = ("train.mixing=joint", "train.replace_share=0.25", "train.mix_prior_scale=0", "train.mix_form=mask")
    assert title(*joint, *adjusted) == (
        f"75% of each batch: {replaced}, instance sampling, logit adjustment, "
        "the rest: BalanceMix by masks, cross-entropy"
    )
