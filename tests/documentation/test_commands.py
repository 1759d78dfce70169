# SPDX-License-Identifier: Apache-2.0
"""What the pages name exists: config files, options, modules, messages; and their Python runs."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, commands

from custom.files import read_json
from custom.volumes import write_volume
from tools.file_checks import has_key

OF_MONAI = {"config_file", "run_id", "meta_file", "logging_file", "tracking", "net_id", "filepath", "ckpt_file"}


def runs(page: Path) -> list[list[str]]:
    """The arguments of each `monai.bundle run` of this repository's own configs on a page."""
    found = []
    for words in commands(page):
        if "monai.bundle" in words and words[words.index("monai.bundle") + 1] == "run":
            arguments = words[words.index("monai.bundle") + 2 :]
            if "bundles/" in " ".join(arguments):
                found.append(arguments)
    return found


def problems(arguments: list[str]) -> list[str]:
    """Config files that do not exist, and options that are no keys of the config."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    text = options["--config_file"]
    files = [ROOT / name for name in (ast.literal_eval(text) if text.startswith("[") else [text])]
    missing = [f"{file} does not exist" for file in files if not file.is_file()]
    configs = [read_json(file) for file in files if file.is_file()]
    keys = [option.removeprefix("--") for option in options]
    unknown = [key for key in keys if key not in OF_MONAI and not any(has_key(config, key) for config in configs)]
    return missing + [f"{key} is no key of {text}" for key in unknown]


def of_examples(arguments: list[str]) -> bool:
    """Whether a command uses files that docs/extending.md has the reader write (tests/bundles/test_extending.py)."""
    return any(name in " ".join(arguments) for name in ("deblurring.json", "gvsl_seg_kidney", "time_limit.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configs_and_options_exist(page: Path) -> None:
    assert [problem for arguments in runs(page) if not of_examples(arguments) for problem in problems(arguments)] == []


def test_commands_are_found_and_wrong_ones_are_named() -> None:
    assert sum(len(runs(page)) for page in PAGES) > 40
    heart = "bundles/gvsl_seg_heart/configs/train.json"
    assert problems(["--config_file", heart, "--max_epochs", "3", "--train#trainer#max_epochs", "3"]) == []
    assert problems(["--config_file", heart, "--max_epoch", "3"]) == [f"max_epoch is no key of {heart}"]
    wrong = "bundles/gvsl_seg_heart/configs/trains.json"
    assert problems(["--config_file", wrong]) == [f"{ROOT / wrong} does not exist"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_exist(page: Path) -> None:
    modules = {words[words.index("-m") + 1] for words in commands(page) if "python" in words[:1] and "-m" in words}
    own = [module for module in modules if module.startswith(("tools.", "benchmarks."))]
    assert [module for module in own if importlib.util.find_spec(module) is None] == []


def test_the_messages_that_the_questions_explain_exist() -> None:
    headings = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    texts = []
    for path in ROOT.glob("custom/**/*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert len(headings) > 8
    assert [heading for heading in headings if not any(heading in text for text in texts)] == []


def test_the_weights_of_the_method_are_those_of_the_configs() -> None:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*, `(\w+_weight)` \| ([\d.]+) \| ([\d.]+)", page, re.MULTILINE)
    configs = ROOT / "bundles" / "gvsl_pretrain" / "configs"
    train, paper = read_json(configs / "train.json"), read_json(configs / "paper.json")
    ours = train["loss"] | {name: value for name, value in train.items() if name.endswith("_weight")}
    assert len(rows) == 5
    for name, in_train, in_paper in rows:
        assert (float(in_train), float(in_paper)) == (ours[name], paper.get(name, ours[name])), name


def test_the_python_that_computes_features_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "howto" / "features.md").read_text(encoding="utf-8")
    noise = np.random.default_rng(0).normal(0, 300, (30, 33, 20)).astype(np.int16)
    write_volume(tmp_path / "ct.nii.gz", noise, np.diag([3.5, 3.5, 7, 1]))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, names)
    assert names["bottleneck"].shape == (1, 128, 2, 3, 3) and names["local"].shape == (1, 16, 30, 33, 39)
    assert np.allclose(names["volume"].affine.diagonal(), [3.5, 3.5, 3.5, 1])
