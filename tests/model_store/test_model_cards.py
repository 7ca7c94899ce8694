"""Model cards: what is read, what is refused, and where weights are looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltgc_local.backends.registry import BACKENDS
from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import find_card, list_cards, read_card
from ltgc_local.model_store.folders import check_model_folder, model_folder
from tests.backends.tiny_models import LANGUAGE_MODELS, VISION_LANGUAGE_MODELS

SHIPPED = {card.name: card for card in list_cards(Path(__file__).resolve().parents[2] / "model_cards")}
#: Families of which a tiny model is loaded and answers in tests/backends.
ANSWERING = {"vlm": VISION_LANGUAGE_MODELS, "llm": LANGUAGE_MODELS}

FRONT = """\
name: tiny-clip
role: clip
family: open_clip
path: weights/tiny-clip
evidence: miniature
license: MIT
source: miniatures/train_clip.py
"""


def write_card(folder: Path, front: str = FRONT, name: str = "tiny-clip") -> Path:
    path = folder / f"{name}.md"
    path.write_text(f"---\n{front}---\n# Tiny\nProse.\n")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_card(path)
    assert caught.value.exit_code == 3
    return str(caught.value).replace(str(path), "CARD")


def test_a_card_is_read_with_its_file_and_defaults(tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path))
    assert (card.name, card.role, card.family, card.evidence) == ("tiny-clip", "clip", "open_clip", "miniature")
    assert card.file == tmp_path / "tiny-clip.md"
    assert (card.license_note, card.image_size_px, card.dtype, card.sha256) == (None, None, None, {})


def test_every_key_is_read(tmp_path: Path) -> None:
    more = (
        "license_note: ask first\nimage_size_px: 32\ndtype: bfloat16\nparameters_millions: 4\n"
        f"sha256:\n  model.safetensors: {'a' * 64}\n"
    )
    card = read_card(write_card(tmp_path, FRONT + more))
    assert (card.license_note, card.image_size_px, card.dtype, card.parameters_millions) == (
        "ask first",
        32,
        "bfloat16",
        4,
    )
    assert card.sha256 == {"model.safetensors": "a" * 64}


def test_a_distilled_models_card_says_how_to_draw_with_it(tmp_path: Path) -> None:
    more = "few_step:\n  steps: [4, 8]\n  scheduler: euler\n  lora: loras/tiny lora.safetensors\n"
    found = read_card(write_card(tmp_path, FRONT + more)).few_step
    assert found is not None
    assert (found.steps, found.guidance, found.scheduler, found.timestep_spacing) == ([4, 8], 0, "euler", None)
    assert found.lora == "loras/tiny lora.safetensors"


@pytest.mark.parametrize("lora", ["/etc/x.safetensors", "../x.safetensors", "a/../x.safetensors", "x.bin"])
def test_a_lora_is_a_safetensors_file_of_the_models_own_folder(tmp_path: Path, lora: str) -> None:
    told = refusal(write_card(tmp_path, FRONT + f"few_step:\n  steps: [4]\n  lora: {lora}\n"))
    assert told.startswith("CARD:9: few_step.lora: ") and lora in told


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "role: clip",
            "role: clip\nfew_step:\n  steps: []\n  scheduler: heun",
            [
                "CARD:4: few_step.scheduler: expected 'euler', 'euler_ancestral', 'ddim' or 'lcm'; found 'heun'",
                "CARD:4: few_step.steps: List should have at least 1 item after validation, not 0; found []",
            ],
        ),
        (
            "role: clip",
            "rolle: clip",
            ["CARD:1: missing key 'role'", "CARD:3: unknown key 'rolle'; did you mean 'role'?"],
        ),
        (
            "role: clip",
            "role: eyes",
            ["CARD:3: role: expected 'vlm', 'llm', 't2i', 'clip' or 'backbone'; found 'eyes'"],
        ),
        ("license: MIT", "license: no", ["CARD:7: license: expected a valid string; found False"]),
        (
            "license: MIT",
            "licence: MIT",
            ["CARD:1: missing key 'license'", "CARD:7: unknown key 'licence'; did you mean 'license'?"],
        ),
        ("name: tiny-clip", "name: other", ["CARD:2: name 'other' is not the file's; expected 'tiny-clip'"]),
        ("license: MIT", "role: clip", ["CARD:7: key 'role' appears twice; the first is in line 3"]),
        ("role: clip", "role: 'clip", ["CARD:3: not valid YAML: a quote that is never closed"]),
        (
            "role: clip",
            "role: eyes\nimage_size_px: 0",
            [
                "CARD:3: role: expected 'vlm', 'llm', 't2i', 'clip' or 'backbone'; found 'eyes'",
                "CARD:4: image_size_px: expected greater than or equal to 1; found 0",
            ],
        ),
    ],
)
def test_wrong_front_matter_says_line_and_key(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    found = refusal(write_card(tmp_path, FRONT.replace(old, new))).split("\n")
    assert found == expected


@pytest.mark.parametrize("text", ["", "# Tiny\n", "---\nname: x\n", "text\n---\nname: x\n---\n"])
def test_a_card_without_front_matter_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny-clip.md"
    path.write_text(text)
    assert refusal(path) == "CARD:1: expected front matter: YAML between two lines '---', then prose"


@pytest.mark.parametrize("front", ["", "- a\n", "just text\n"])
def test_front_matter_without_keys_is_refused(tmp_path: Path, front: str) -> None:
    assert refusal(write_card(tmp_path, front)) == "CARD:1: expected front matter with keys such as 'name:' and 'role:'"


def test_yaml_tags_build_nothing(tmp_path: Path) -> None:
    front = FRONT.replace("license: MIT", "license: !!python/object/apply:os.getcwd []")
    told = refusal(write_card(tmp_path, front))
    assert told == "CARD:7: license: YAML tag '!!python/object/apply:os.getcwd' is not used in model cards; remove it"


def test_a_card_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.md") == "CARD: no such model card"
    (tmp_path / "bad.md").write_bytes(b"---\n\xff\n---\n")
    assert refusal(tmp_path / "bad.md").startswith("CARD: cannot be read as UTF-8 text: ")


def test_cards_are_listed_by_name_without_the_readme(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("How to write a card.\n")
    for name in ("b", "a"):
        write_card(tmp_path, FRONT.replace("name: tiny-clip", f"name: {name}"), name)
    assert [card.name for card in list_cards(tmp_path)] == ["a", "b"]
    with pytest.raises(ModelError, match="no such folder of model cards"):
        list_cards(tmp_path / "none")


def test_a_card_is_found_by_name_and_role(tmp_path: Path) -> None:
    write_card(tmp_path)
    assert find_card(tmp_path, "tiny-clip", "clip").name == "tiny-clip"
    with pytest.raises(ModelError, match=r"no model card 'tiny-clp' in [^ ]*; did you mean 'tiny-clip'\?"):
        find_card(tmp_path, "tiny-clp", "clip")
    with pytest.raises(ModelError, match=r"no model card 'zzz' in [^ ]*; cards there: tiny-clip"):
        find_card(tmp_path, "zzz", "clip")
    with pytest.raises(ModelError, match="role is clip, expected vlm"):
        find_card(tmp_path, "tiny-clip", "vlm")


def test_cards_are_looked_for_in_ltgc_cards_after_the_recipes_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, first, second = (tmp_path / name for name in ("own", "first", "second"))
    for folder, names in ((own, "a"), (first, "ab"), (second, "abc")):
        folder.mkdir()
        (folder / "README.md").write_text("Not a card.\n")
        for name in names:
            write_card(folder, FRONT.replace("name: tiny-clip", f"name: {name}"), name)
    monkeypatch.setenv("LTGC_CARDS", os.pathsep.join(map(str, (first, tmp_path / "gone", second, ""))))
    assert [card.file for card in list_cards(own)] == [own / "a.md", first / "b.md", second / "c.md"]
    assert [find_card(own, name, "clip").file.parent for name in "abc"] == [own, first, second]
    with pytest.raises(ModelError) as caught:
        find_card(own, "d", "clip")
    assert str(caught.value) == (
        f"no model card 'd' in {own}, nor by $LTGC_CARDS in {first} or {tmp_path}/gone (no such folder) or {second}; "
        "cards there: a, b, c"
    )


def test_weights_are_in_the_first_folder_of_ltgc_models_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(write_card(tmp_path))
    monkeypatch.setenv("LTGC_MODELS", os.pathsep.join(str(tmp_path / name) for name in ("one", "two", "three")))
    for name in ("three", "two"):
        (tmp_path / name / "weights/tiny-clip").mkdir(parents=True)
        assert model_folder(card) == tmp_path / name / "weights/tiny-clip"


def test_weights_are_in_ltgc_models_if_there_else_beside_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(write_card(tmp_path))
    monkeypatch.delenv("LTGC_MODELS", raising=False)
    assert model_folder(card) == tmp_path / "weights/tiny-clip"
    monkeypatch.setenv("LTGC_MODELS", str(tmp_path / "big"))
    assert model_folder(card) == tmp_path / "weights/tiny-clip"
    (tmp_path / "big/weights/tiny-clip").mkdir(parents=True)
    assert model_folder(card) == tmp_path / "big/weights/tiny-clip"


def test_a_path_that_climbs_is_beside_the_card_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cards").mkdir()
    (tmp_path / "big/sub").mkdir(parents=True)
    (tmp_path / "big/data").mkdir()
    monkeypatch.setenv("LTGC_MODELS", str(tmp_path / "big/sub"))
    card = read_card(write_card(tmp_path / "cards", FRONT.replace("weights/tiny-clip", "../data")))
    assert model_folder(card) == tmp_path / "data"
    with pytest.raises(ModelError, match=r"put the folder at [^ ]*/data; source: miniatures"):
        check_model_folder(card)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_cards_family_has_a_backend(name: str) -> None:
    card = SHIPPED[name]
    if card.role in ANSWERING:
        assert card.family in ANSWERING[card.role]
    elif card.role == "clip":
        assert ("clip", card.family) in BACKENDS
    else:
        assert (card.role, card.family) in {("t2i", "sdxl"), ("backbone", "timm")}


def test_every_family_of_text_model_has_a_card_of_real_weights() -> None:
    for role, families in ANSWERING.items():
        real = {card.family for card in SHIPPED.values() if card.role == role and card.evidence == "real"}
        assert real == set(families)


@pytest.mark.parametrize("name", [name for name, card in SHIPPED.items() if card.evidence == "real"])
def test_a_card_of_weights_that_nobody_here_ran_says_so(name: str) -> None:
    prose = " ".join(SHIPPED[name].file.read_text("utf-8").split("---", 2)[2].split())
    assert "was not run by the authors of this card" in prose
    assert "This card lists no sha256" in prose or SHIPPED[name].sha256


@pytest.mark.parametrize("role", ANSWERING)
def test_a_publishers_folder_fits_the_card_of_its_family_and_no_other(role: str, tmp_path: Path) -> None:
    cards = [card for card in SHIPPED.values() if card.role == role and card.evidence == "real"]
    for family, save in ANSWERING[role].items():
        save(tmp_path / family)
    for card in cards:
        text = card.file.read_text("utf-8")
        for family in ANSWERING[role]:
            (tmp_path / card.file.name).write_text(text.replace(f"path: {card.path}\n", f"path: {family}\n"))
            copied = read_card(tmp_path / card.file.name)
            if family == card.family:
                assert check_model_folder(copied) == tmp_path / family
            else:
                with pytest.raises(ModelError, match="model_type is"):
                    check_model_folder(copied)
