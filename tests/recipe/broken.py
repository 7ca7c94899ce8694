"""Broken recipes and the problems reported for each; data for test_broken_recipes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOO_MUCH = (
    "too many values, or nested too deeply "
    "(a recipe has at most 2000 values, 20 levels deep, aliases counted each time)"
)
SEED = f"expected a whole number from 0 to {2**63 - 1}"
NAME = "a name (letters, digits, '-', '_' and '.', 100 at most)"
COMMAND = "python data/make_fashion_mnist_lt.py"

#: What follows the nine lines of good.yaml -> the problems, each after "recipes/x.yaml:"; line 10 is the first here.
APPENDED: dict[str, tuple[str, list[str]]] = {
    "a typo in a key": (
        "assess:\n  treshold: 0.7\n",
        ["11: assess: unknown key 'treshold'; did you mean 'threshold'?"],
    ),
    "a typo in a block": ("asses:\n  threshold: 0.7\n", ["10: unknown block 'asses'; did you mean 'assess'?"]),
    "two problems at once": (
        "train:\n  epochs: 2.5\nassess:\n  attempts: 0\n",
        [
            "11: train.epochs: expected a whole number from 1 to 100000; found 2.5",
            "13: assess.attempts: expected a whole number from 1 to 20; found 0",
        ],
    ),
    "a key at the top": ("lr: 0.1\n", ["10: unknown key 'lr'; it belongs in 'train'"]),
    "a key in the wrong block": (
        "draw:\n  temperature: 1\n",
        ["11: draw: unknown key 'temperature'; it belongs in 'extend'"],
    ),
    "a key of several blocks": (
        "report:\n  max_new_tokens: 9\n",
        ["11: report: unknown key 'max_new_tokens'; it belongs in 'describe' or in 'extend'"],
    ),
    "a top key in a block": (
        "train:\n  seed: 3\n",
        ["11: train: unknown key 'seed'; it belongs at the top, outside any block"],
    ),
    "a dotted key": ("train.lr: 0.1\n", ["10: unknown key 'train.lr'; write 'train:' and under it 'lr:'"]),
    "the paper's symbol": ("assess:\n  mu: 0.6\n", ["11: assess: unknown key 'mu'; did you mean 'threshold'?"]),
    "the paper's symbol elsewhere": ("K_y: 100\n", ["10: unknown key 'K_y'; did you mean 'extend.max_descriptions'?"]),
    "a key of two lines": (
        'report:\n  "z\\nz": 1\n',
        ["11: report: unknown key 'z; z'; the keys of 'report' are images_per_class, leak_pairs, tensorboard"],
    ),
    "a key like no other": (
        "report:\n  zz: 1\n",
        ["11: report: unknown key 'zz'; the keys of 'report' are images_per_class, leak_pairs, tensorboard"],
    ),
    "text for a number": (
        "train:\n  lr: fast\n",
        ["11: train.lr: expected a number above 0, at most 10; found the text 'fast'"],
    ),
    "a number in quotes": (
        "train:\n  lr: '3e-4'\n",
        ["11: train.lr: expected a number above 0, at most 10; found the text '3e-4' (remove the quotes)"],
    ),
    "a truth value for a number": (
        "train:\n  epochs: yes\n",
        ["11: train.epochs: expected a whole number from 1 to 100000; found 'yes', which means true"],
    ),
    "a number for a truth value": ("train:\n  control: 1\n", ["11: train.control: expected true or false; found 1"]),
    "nothing for a text": (
        "draw:\n  negative_prompt:\n",
        ['11: draw.negative_prompt: expected text; found nothing ("" is the empty text)'],
    ),
    "not a number": (
        "train:\n  momentum: .nan\n",
        ["11: train.momentum: expected a number from 0 to below 1; found .nan"],
    ),
    "out of range": ("seed: -1\n", [f"10: seed: {SEED}; found -1"]),
    "not a multiple": (
        "draw:\n  size_px: 30\n",
        ["11: draw.size_px: expected a whole number from 8 to 4096, a multiple of 8; found 30"],
    ),
    "out of range where null is allowed": (
        "train:\n  head_lr: 0\n",
        ["11: train.head_lr: expected a number above 0, at most 10 (or null); found 0"],
    ),
    "two scorers that say the same": (
        "assess:\n  scorer: offset+cosine\n",
        [
            "11: assess.scorer: expected one of 'offset', 'cosine', 'percentile', 'margin', 'offset+percentile', "
            "'offset+margin', 'cosine+percentile', 'cosine+margin', 'percentile+margin', 'offset+percentile+margin', "
            "'cosine+percentile+margin'; found the text 'offset+cosine'; did you mean 'offset+margin'?"
        ],
    ),
    "the rank's old name": (
        "assess:\n  require_rank: 3\n",
        ["11: assess: unknown key 'require_rank'; did you mean 'margin_rank'?"],
    ),
    "a cosine that no image has": (
        "assess:\n  scorer: cosine\n  threshold: 1.1\n",
        ["12: assess.threshold: 1.1 refuses every image: scorer 'cosine' gives 1 at most"],
    ),
    "img2img of less than a step": (
        "draw:\n  steps: 10\n  img2img_strength: 0.05\n",
        ["12: draw.img2img_strength: 0.05 of 10 steps is less than one step; raise it or steps"],
    ),
    "a wrong choice": (
        "train:\n  precision: fp16\n",
        ["11: train.precision: expected one of 'fp32', 'bf16'; found the text 'fp16'; did you mean 'bf16'?"],
    ),
    "a choice that YAML reads as false": (
        "train:\n  mixing: no\n",
        [
            "11: train.mixing: expected one of 'balance_mix', 'mixup', 'union', 'replace', 'joint', 'none'; "
            "found 'no', which means false; did you mean 'none'?"
        ],
    ),
    "a block for a value": ("seed: {a: 1}\n", [f"10: seed: {SEED}; found a block of keys"]),
    "a value for a block": (
        "train: fast\n",
        ["10: train: expected a block of keys, such as control, epochs, batch_size; found 'fast'"],
    ),
    "a list for a block": (
        "draw:\n- size_px\n",
        ["10: draw: expected a block of keys, such as size_px, steps, guidance; found a list"],
    ),
    "a key twice": (
        "train:\n  lr: 1\n  epochs: 3\n  lr: 2\n",
        ["13: train: key 'lr' appears twice; the first is in line 11"],
    ),
    "a block twice": (
        "train:\n  lr: 1\ntrain:\n  epochs: 3\n",
        ["12: key 'train' appears twice; the first is in line 10"],
    ),
    "a tab": ("train:\n\tlr: 1\n", ["11: not valid YAML: a tab where YAML wants spaces"]),
    "no space after a colon": (
        "seed:1\ntrain:\n  lr: 1\n",
        ["10: not valid YAML: a line without ': ' (a space must follow the colon)"],
    ),
    "an open quote": ("draw:\n  negative_prompt: 'a\n", ["11: not valid YAML: a quote that is never closed"]),
    "an open bracket": ("train: {lr: 1\n", ["10: not valid YAML: a bracket that is never closed"]),
    "a wrong indentation": (
        "train:\n    lr: 1\n  epochs: 1\n",
        ["12: not valid YAML: the indentation does not match the lines above"],
    ),
    "two documents": ("---\nseed: 1\n", ["10: not valid YAML: a second '---'; a recipe is one document"]),
    "a control character": ("seed: \x07\n", ["10: a character that YAML does not allow: U+0007"]),
    "a tag": (
        "seed: !!int '3'\n",
        [
            "10: seed: YAML tag '!!int' is not used in recipes; remove it",
            f"10: seed: {SEED}; found the text '3' (remove the quotes)",
        ],
    ),
    "a merge key": ("<<: {seed: 1}\n", ["10: merge keys ('<<') are not used in recipes; use 'base:'"]),
    "a key that is a list": ("[a, b]: 1\n", ["10: a key must be a word"]),
    "guidance that ends before it starts": (
        "draw:\n  guidance_from: 0.8\n  guidance_until: 0.2\n",
        ["11: draw.guidance_from: 0.8 is not before guidance_until, 0.2"],
    ),
    "an interval of no guidance": (
        "draw:\n  guidance: 0\n  guidance_until: 0.5\n",
        ["12: draw.guidance_until: has no effect at guidance 0; raise guidance above 1 or remove it"],
    ),
    "an interval that keeps every step": (
        "draw:\n  cache_interval: 1\n",
        ["11: draw.cache_interval: expected a whole number from 2 to 10 (or null); found 1"],
    ),
    "a compiler's mode": (
        "draw:\n  compile: max-autotune\n",
        ["11: draw.compile: expected one of 'none', 'regional', 'full' (or null); found the text 'max-autotune'"],
    ),
    "two ways through the UNet, and one of them compiled": (
        "draw:\n  cache_interval: 2\n  compile: full\n",
        ["11: draw.cache_interval: cannot be combined with compile 'full'; write 'compile: regional' or remove it"],
    ),
    "features of images that nobody scores": (
        "draw:\n  clip_features: true\nassess:\n  enabled: false\n",
        ["11: draw.clip_features: has no effect where assess.enabled is false: nothing is scored; remove it"],
    ),
    "an image larger than drawn": (
        "draw:\n  stored_size_px: 2048\n",
        ["11: draw.stored_size_px: 2048 is larger than size_px, 1024; images only shrink"],
    ),
    "what has no effect on this loss or mixing": (
        "train:\n  mixing: union\n  mix_form: mask\n  mix_beta: 2\n  prior: counts\n  prior_scale: 0.5\n",
        [
            "12: train.mix_form: 'mask' has no effect on mixing 'union', which mixes nothing; remove it",
            "13: train.mix_beta: has no effect on mixing 'union', which mixes nothing; remove it",
            "14: train.prior: 'counts' has no effect on loss 'cross_entropy'; remove it or write "
            "'loss: logit_adjustment'",
            "15: train.prior_scale: has no effect on loss 'cross_entropy'; remove it or write 'loss: logit_adjustment'",
        ],
    ),
    "what mixes in a training that mixes nothing": (
        "train:\n  mixing: replace\n  mix_form: mask\n  mix_alpha: 2\n  mix_beta: 2\n  prior: originals\n",
        [
            "12: train.mix_form: 'mask' has no effect on mixing 'replace', which mixes nothing; remove it",
            "13: train.mix_alpha: has no effect on mixing 'replace', which mixes nothing; remove it",
            "14: train.mix_beta: has no effect on mixing 'replace', which mixes nothing; remove it",
            "15: train.prior: 'originals' has no effect on loss 'cross_entropy'; remove it or write "
            "'loss: logit_adjustment'",
        ],
    ),
    "shares of another mixing": (
        "train:\n  mixing: union\n  replace_share: 0.25\n  joint_share: 0.5\n  mix_prior_scale: 0\n",
        [
            "12: train.replace_share: has no effect on mixing 'union'; remove it or write 'mixing: replace'",
            "13: train.joint_share: has no effect on mixing 'union'; remove it or write 'mixing: joint'",
            "14: train.mix_prior_scale: has no effect on mixing 'union'; remove it or write 'mixing: joint'",
            "14: train.mix_prior_scale: has no effect on loss 'cross_entropy'; remove it or write "
            "'loss: logit_adjustment'",
        ],
    ),
    "a joint batch of one part": (
        "train:\n  mixing: joint\n  batch_size: 4\n  joint_share: 0.9\n",
        ["13: train.joint_share: 0.9 is 4 of 4 images, so the batch has one part; write a number nearer to 0.5"],
    ),
    "more epochs of the last layer than on originals, and of a frozen one": (
        "train:\n  head: frozen_text\n  last_layer_epochs: 2\n  real_epochs: 1\n",
        [
            "12: train.last_layer_epochs: 2 is more than real_epochs, 1; the head trains on originals",
            "12: train.last_layer_epochs: head 'frozen_text' does not train; remove it or write 'head: text'",
        ],
    ),
    "more parts than pairs": (
        "train:\n  batch_size: 4\n  accumulation_steps: 5\n",
        ["12: train.accumulation_steps: 5 parts of 4 pairs; write fewer"],
    ),
    "two conflicts in a block": (
        "train:\n  head: frozen_text\n  head_lr: 0.1\n  real_epochs: 10\n",
        [
            "12: train.head_lr: has no effect on head 'frozen_text'; remove it or write 'head: text'",
            "13: train.real_epochs: 10 of 10 epochs on originals leave none for generated images; write at most 9",
        ],
    ),
    "a control that is trained twice": (
        "train:\n  mixing: none\n",
        ["11: train.mixing: 'none' trains the control twice; write 'control: false' or another mixing"],
    ),
    "a prompt without effect": (
        "draw:\n  guidance: 1\n  negative_prompt: blur\n",
        ["12: draw.negative_prompt: has no effect at guidance 1; raise guidance above 1 or remove it"],
    ),
    "descriptions that cannot be reached": (  # 300 - 99 = 201 to extend by 8 per ask: 26 asks
        "extend:\n  max_asks: 2\n",
        [
            "10: extend.max_descriptions: 300 cannot be reached: at most 99 existing and max_asks x per_ask "
            "= 16 extended; write 'max_asks: 26' or more"
        ],
    ),
}

#: (what to replace in good.yaml, by what) -> the problems.
REPLACED: dict[str, tuple[tuple[str, str], list[str]]] = {
    "a name with a slash": (("good", "../x"), [f"1: name: expected {NAME}; found the text '../x'"]),
    "a name that is a number": (("good", "007"), [f"1: name: expected {NAME}; found 007 (in quotes it is text)"]),
    "no name": (("name: good\n", ""), ["1: missing key 'name'; write for example 'name: my_run'"]),
    "no block of data": (
        ("data:\n  root: ../data\n", ""),
        ["1: missing block 'data'; write 'data:' and under it 'root'"],
    ),
    "no card for a role": (("  t2i: draw\n", ""), ["4: models: missing key 't2i'; write for example 't2i: tiny-t2i'"]),
    "no such data": (
        ("../data", "../dta"),
        [f"3: data.root: no folder {{root}}/dta; its files are made by: {COMMAND}"],
    ),
    "a benchmark that has a name like it": (
        ("data:\n", "data:\n  benchmark: imagenet\n"),
        [
            "3: data.benchmark: expected one of 'fashion_mnist_lt', 'imagenet_lt', 'places_lt', 'inaturalist18', "
            "'cifar10_lt', 'cifar100_lt', 'dior', 'fgsc23', 'dota', 'anno_lists', 'image_folder', 'list_files', 'csv', "
            "'parquet', 'datasets'; found the text 'imagenet'; "
            "did you mean 'imagenet_lt'?"
        ],
    ),
    "keys of data that have no effect": (
        ("data:\n", "data:\n  benchmark: imagenet_lt\n  imbalance: 50\n  label_column: fine\n"),
        [
            "4: data.imbalance: has no effect on imagenet_lt; only cifar10_lt, cifar100_lt use it: remove it",
            "5: data.label_column: has no effect on imagenet_lt; only csv, parquet, datasets use it: remove it",
        ],
    ),
    "no such lists and class names": (
        ("data:\n", "data:\n  benchmark: list_files\n  lists: ../no\n  class_names: ../no.txt\n"),
        [
            f"4: data.lists: no folder {{root}}/no; {ROOT}/data/README.md says what belongs there",
            f"5: data.class_names: no file {{root}}/no.txt; {ROOT}/data/README.md says what belongs there",
        ],
    ),
    "an empty path": (("../data", "''"), ["3: data.root: expected the path of a folder; found the text ''"]),
    "no such folder of cards": (
        ("../cards", "../crds"),
        ["5: models.cards: no folder {root}/crds; give the folder of model cards, such as 'cards: ../model_cards'"],
    ),
    "no such card": (
        ("vlm: see", "vlm: sea"),
        ["6: models.vlm: no card 'sea' in {root}/cards; cards of role vlm: see; did you mean 'see'?"],
    ),
    "a card of another role": (
        ("clip: score", "clip: see"),
        ["9: models.clip: card 'see' has role vlm, not clip; cards of role clip: score"],
    ),
    "a backend that there is not": (
        ("  vlm: see", "  backend: transformer\n  vlm: see"),
        [
            "6: models.backend: expected one of 'auto', 'vllm', 'transformers'; found the text 'transformer'; "
            "did you mean 'transformers'?"
        ],
    ),
    "an alias without its anchor": (
        ("vlm: see", "vlm: *see"),
        ["6: not valid YAML: an alias ('*name') without its anchor ('&name') above"],
    ),
}

#: A whole file -> the problems, word for word.
WHOLE: dict[str, tuple[bytes, list[str]]] = {
    "an empty file": (b"# later\n", ["recipes/x.yaml: empty; a recipe has at least 'name:', 'data:' and 'models:'"]),
    "a list": (b"- name\n", ["recipes/x.yaml:1: expected keys such as 'name:' and 'data:'; found no key at all"]),
    "not UTF-8": (b"name: a\n# caf\xe9\n", ["recipes/x.yaml:2: not UTF-8 text (byte 0xe9); save it as UTF-8"]),
    "deep nesting": (b"a: " + b"[" * 5000, [f"recipes/x.yaml: {TOO_MUCH}"]),
    "a recursive alias": (b"a: &a [*a]\n", [f"recipes/x.yaml: {TOO_MUCH}"]),
    "a bomb of aliases": (
        b"a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
        b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]\n",
        [f"recipes/x.yaml: {TOO_MUCH}"],
    ),
    "too large": (b"#" * 1_000_001, ["recipes/x.yaml: cannot be read: 1000001 bytes, but at most 1000000 are read"]),
    "no base": (
        b"name: x\nbase: god.yaml\n",
        ["recipes/x.yaml:2: base recipes/god.yaml: no such file; did you mean 'good.yaml'?"],
    ),
    "a base that is a number": (
        b"base: 3\n",
        ["recipes/x.yaml:1: base: expected the path of another recipe, such as 'base: other.yaml'"],
    ),
    "a base that has a base": (
        b"name: x\nbase: x.yaml\n",
        [
            "recipes/x.yaml:2: base: a base has no base of its own, "
            "and recipes/x.yaml is based on this file; join the two"
        ],
    ),
    "a base's name": (b"base: good.yaml\n", ["recipes/x.yaml:1: missing key 'name'; write for example 'name: my_run'"]),
}

OVERRIDES: dict[str, tuple[list[str], list[str]]] = {
    "no value": (["train.lr"], ["--set train.lr: expected key=value, such as --set train.lr=3e-4"]),
    "too many dots": (["a.b.c=1"], ["--set a.b.c=1: expected key=value, such as --set train.lr=3e-4"]),
    "no block": (["lr=1"], ["--set lr=1: unknown key 'lr'; it belongs in 'train'"]),
    "a typo": (["train.epoch=1"], ["--set train.epoch=1: train: unknown key 'epoch'; did you mean 'epochs'?"]),
    "out of range": (["train.lr=-1"], ["--set train.lr=-1: train.lr: expected a number above 0, at most 10; found -1"]),
    "a list": (["seed=[1]"], ["--set seed=[1]: seed: expected one value; put a text that contains ': ' in quotes"]),
    "bad YAML": (["name='x"], ["--set name='x: not valid YAML: a quote that is never closed"]),
    "base": (["base=a.yaml"], ["--set base=a.yaml: 'base' can only be written in the recipe"]),
    "two": (
        ["seed=x", "draw.steps=0"],
        [
            f"--set seed=x: seed: {SEED}; found the text 'x'",
            "--set draw.steps=0: draw.steps: expected a whole number from 1 to 1000; found 0",
        ],
    ),
}
