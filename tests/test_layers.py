"""Who may import whom: a part of the package knows only what lies below it, and each heavy package has its place.

Imports inside of functions and for types count as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "msfser_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
PYTHON_RECIPES = sorted((ROOT / "recipes").rglob("*.py"))

GROUND = {"background", "errors", "processors", "schemas", "settings"}
BELOW = {
    "background": {"errors"},
    "errors": set[str](),
    "processors": set[str](),
    "schemas": set[str](),
    "settings": {"errors"},
    "languages": set[str](),
    "statistics": GROUND,
    "store": GROUND,
    "tabular": {"store", *GROUND},
    "model_store": {"store", *GROUND},
    "profiles": {"model_store", *GROUND},
    "model": {"statistics", *GROUND},
    "backends": {"model", "model_store", "store", *GROUND},
    "stages": {"backends", "languages", "model", "model_store", "statistics", "store", *GROUND},
    "runs": {"backends", "languages", "model", "model_store", "stages", "statistics", "store", "tabular", *GROUND},
    "evaluation": {"languages", "model", "runs", "statistics", "store", "tabular", *GROUND},
    # The picture and the submission are of an evaluation.
    "exports": {"evaluation", "statistics", "store", *GROUND},
    "training": {"backends", "evaluation", "model", "model_store", "runs", "stages", "statistics", "store", *GROUND},
    # The results of training hold what lies below it: an epoch, an interval.
    "cli": {"evaluation", "exports", "model", "model_store", "profiles", "runs", "statistics", "store", "training", *GROUND},
}
PLACES = {
    # Training is torch from the first batch to the last; no stage needs it. A pickle of weights takes torch to read.
    "torch": ("model/", "backends/", "model_store/pickles.py", "training/"),
    "safetensors": ("model/", "backends/bert.py", "model_store/pickles.py", "training/train.py"),
    "huggingface_hub": ("model_store/models.py", "model_store/fetch.py", "backends/describers/kimi_audio.py"),
    "transformers": ("backends/",),
    "aiohttp": ("backends/",),
    "pyarrow": ("store/", "tabular/", "exports/formats/hf.py"),
    "polars": ("evaluation/", "tabular/", "training/", "exports/formats/submission.py"),
    "matplotlib": ("exports/picture.py",),
    "typer": ("cli/",),
}


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports, each name as its parts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield from ((*(node.module or "").split("."), alias.name) for alias in node.names)


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=inside)
def test_a_part_imports_only_what_lies_below_it(path: Path) -> None:
    part = inside(path).partition("/")[0].removesuffix(".py")
    for name in imports(path):
        if name[0] == "msfser_cli" and name[1] != "__version__":
            assert name[1] == part or name[1] in BELOW[part], ".".join(name)
        elif name[0] in PLACES:
            assert inside(path).startswith(PLACES[name[0]]), ".".join(name)
        elif part in GROUND:
            assert name[0] == "msfser_cli" or name[0] in sys.stdlib_module_names, ".".join(name)


def test_no_file_imports_itself_by_way_of_others() -> None:
    modules = {("msfser_cli", *path.relative_to(PACKAGE).with_suffix("").parts): path for path in FILES}
    modules |= {name[:-1]: path for name, path in modules.items() if name[-1] == "__init__"}
    uses = {path: {of for name in imports(path) if (of := modules.get(name) or modules.get(name[:-1]))} for path in FILES}
    left = set(FILES)
    while done := {path for path in left if not (uses[path] - {path}) & left}:
        left -= done
    while idle := {path for path in left if not any(path in uses[other] for other in left - {path})}:
        left -= idle
    assert sorted(map(inside, left)) == []


@pytest.mark.parametrize("path", PYTHON_RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_recipe_uses_only_what_is_public(path: Path) -> None:
    ours = {name for name in imports(path) if name[0] == "msfser_cli"}
    assert not [name for name in ours if any(part.startswith("_") for part in name)]
    modules = {name[-1] for name in ours}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert not node.attr.startswith("_"), f"{node.value.id}.{node.attr}"
