import math

import pytest
from PIL import Image

from ltgc_local.reporting.accuracy import ClassRow
from ltgc_local.reporting.charts import draw_classes, draw_panel, nice_ticks
from ltgc_local.reporting.pictures import data_address, spread


def row(class_id: int, num_train: int, num_generated: int = 0) -> ClassRow:
    return ClassRow(class_id, f"class {class_id}", num_train, "many", num_generated, 0, False, {"ltgc": 50.0}, "ltgc")


def test_bars_are_in_percent_of_the_longest_on_a_linear_scale() -> None:
    chart = draw_classes([row(0, 200), row(1, 20, 30)], [])
    assert chart.scale == "linear" and chart.rows[1].bar == (10.0, 25.0)
    assert [tick.label for tick in chart.ticks] == ["0", "50", "100", "150", "200"]


def test_a_long_tail_without_generated_images_is_on_a_logarithmic_scale() -> None:
    chart = draw_classes([row(0, 1000), row(1, 1)], [])
    assert chart.scale == "logarithmic" and chart.rows[0].bar[1] == 100
    # one image lies log(1 / 0.5) of log(1000 / 0.5) to the right
    assert chart.rows[1].bar[0] == pytest.approx(100 * math.log(2) / math.log(2000))
    assert [tick.label for tick in chart.ticks] == ["1", "10", "100", "1000"]


def test_a_thousand_classes_make_forty_rows_of_neighbours() -> None:
    chart = draw_classes([row(i, 1000 - i) for i in range(1000)], [])
    assert len(chart.rows) == 40 and chart.classes_per_row == 25
    assert chart.rows[0].label == "1000–976" and chart.rows[0].originals == 988


def test_a_class_without_any_image_has_an_empty_bar() -> None:
    assert draw_classes([row(0, 100), row(1, 0)], []).rows[1].bar[1] == 0


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1000, [0, 250, 500, 750, 1000]), (70.2, 84.9, [70, 75, 80, 85]), (3, 3, [3, 4])]
)
def test_ticks_are_round_numbers_around_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_curves_fill_their_box_and_missing_values_make_no_panel() -> None:
    panel = draw_panel("loss", {"ltgc": [4.0, 2.0, 0.0], "control": [None, None, None]})
    assert panel is not None and panel.num_epochs == 3
    assert panel.lines[0].points == "0.00,0.00 50.00,50.00 100.00,100.00"
    assert draw_panel("few", {"ltgc": [None]}) is None


def test_one_epoch_is_a_level_line() -> None:
    panel = draw_panel("loss", {"ltgc": [2.0]})
    assert panel is not None and len(panel.lines[0].points.split()) == 2


def test_a_selection_is_spread_from_first_to_last() -> None:
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]
    assert spread([1, 2, 3], 1) == [1]


def test_small_images_are_lossless_and_enlarged_whole_and_large_ones_are_thumbnails() -> None:
    address, is_small, width = data_address(Image.new("L", (28, 28)))
    assert address.startswith("data:image/png;base64,") and is_small and width == 3 * 28
    address, is_small, width = data_address(Image.effect_noise((1024, 512), 90).convert("RGB"))
    assert address.startswith("data:image/jpeg;base64,") and not is_small and width == 96
    assert len(address) < 20_000
