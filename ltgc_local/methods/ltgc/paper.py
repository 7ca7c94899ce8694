"""The figures that the paper reports (LTGC, CVPR 2024, the authors' slides, Tables 1 to 5), in percent.

They come from other models (GPT-4V, GPT-4, DALL-E, CLIP ViT-B/32) and other data than a run here, and are always
labelled as the paper's. Several are not the authors' own measurements but taken from works that they cite.
"""

from __future__ import annotations

from ltgc_local.comparison.method_comparison import PaperRow, PaperTable

BENCHMARKS = {"imagenet_lt": "ImageNet-LT", "places_lt": "Places-LT", "inaturalist18": "iNaturalist 2018"}
SOURCE = "LTGC, CVPR 2024; GPT-4V, GPT-4, DALL-E and CLIP ViT-B/32"


def _table(number: int, title: str, columns: tuple[tuple[str, str], ...], rows: str) -> PaperTable:
    """Read rows written "method | title | value value …", with a dash for a missing value."""
    found = []
    for line in rows.strip().splitlines():
        method, name, numbers = (part.strip() for part in line.split("|"))
        values = {c: float(n) for c, n in zip(columns, numbers.split(), strict=True) if n != "-"}
        found.append(PaperRow(method, name, values))
    own = {row.method for row in found} - {""}
    shown_for = frozenset(own - {"ltgc"} if number > 2 else own)  # LTGC's own row is in all of them
    return PaperTable(number, title, SOURCE, BENCHMARKS, columns, tuple(found), shown_for)


_BOTH = (("imagenet_lt", "all"), ("inaturalist18", "all"))

TABLES = (
    _table(
        1,
        "Comparison on ImageNet-LT and Places-LT",
        (("imagenet_lt", "few"), ("imagenet_lt", "all"), ("places_lt", "few"), ("places_lt", "all")),
        """
        zero_shot  | CLIP zero-shot  | 58.6 59.8 40.1 38.0
        fine_tuned | CLIP fine-tuned | 34.5 60.5 22.7 39.7
                   | VL-LTR          | 59.3 77.2 42.0 50.1
                   | RAC             | -    -    41.8 47.2
                   | LPT             | -    -    46.9 50.1
        ltgc       | LTGC            | 70.5 80.6 52.1 54.1
        """,
    ),
    _table(
        2,
        "Comparison on iNaturalist 2018",
        tuple(("inaturalist18", group) for group in ("many", "medium", "few", "all")),
        """
                   | Softmax         | 74.7 66.3 60.0 64.7
                   | LADE            | 64.4 47.7 34.3 52.3
                   | RIDE            | 71.5 70.0 71.6 71.8
                   | PaCo            | 69.5 73.4 73.0 73.0
                   | MDCS            | 76.5 75.5 75.2 75.6
        zero_shot  | CLIP zero-shot  | 6.1  3.3  2.9  3.4
        fine_tuned | CLIP fine-tuned | 76.6 74.1 70.2 72.6
                   | VL-LTR          | -    -    -    76.8
                   | RAC             | 75.9 80.5 81.0 80.2
                   | LPT             | -    -    79.3 76.1
        ltgc       | LTGC            | 77.5 83.9 82.6 82.5
        """,
    ),
    _table(
        3,
        "Comparison with large multimodal models as classifiers",
        _BOTH,
        """
             | LENS        | 69.5 17.4
             | MiniGPT4    | 60.4 20.9
             | MiniGPT4-v2 | 68.5 27.1
        lmm  | GPT-4       | 72.1 64.3
        ltgc | LTGC        | 80.6 82.5
        """,
    ),
    _table(
        4,
        "The iterative evaluation",
        _BOTH,
        """
        no_evaluation | without iterative evaluation | 55.8 64.9
        exclusion     | detection and exclusion      | 71.5 77.4
        ltgc          | LTGC                         | 80.6 82.5
        """,
    ),
    _table(
        5,
        "BalanceMix",
        _BOTH,
        """
        no_balance_mix    | without BalanceMix | 58.3 69.5
        balanced_sampling | balanced sampling  | 63.9 73.8
        mixup             | Mixup              | 73.4 75.2
        ltgc              | BalanceMix         | 80.6 82.5
        """,
    ),
)
