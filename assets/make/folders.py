"""What lies in a model folder beside the weights: the licence, the attribution, and what the model has seen.

    python -m assets.make.folders

adds them to every finished folder of ``assets/models``; twice is as good as once. The training
commands do so themselves.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from assets.make import glyphs
from assets.make.training import write_json

LICENSE = Path(__file__).resolve().parents[2] / "LICENSE"
ATTRIBUTION = Path(__file__).with_name("ATTRIBUTION.md")
MODELS = Path("assets/models")


def furnish(folder: Path, vocabulary: list[glyphs.Glyph]) -> None:
    """Write ``vocabulary.json``, ``LICENSE`` and ``ATTRIBUTION.md`` for a model that was trained on these glyphs."""
    shutil.copyfile(LICENSE, folder / "LICENSE")
    shutil.copyfile(ATTRIBUTION, folder / "ATTRIBUTION.md")
    seen = [{key: asdict(glyph)[key] for key in ("name", "emoji", "tags", "core")} for glyph in vocabulary]
    write_json(folder / "vocabulary.json", seen)


def read_vocabulary(folder: Path) -> list[glyphs.Glyph]:
    """What a folder's model was trained on; all there is, for a folder of before it was written down."""
    file = folder / "vocabulary.json"
    if not file.exists():
        return glyphs.vocabulary()
    return [glyphs.Glyph(row["emoji"], row["name"], tuple(row["tags"]), row["core"])
            for row in json.loads(file.read_text(encoding="utf-8"))]


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("folders", type=Path, nargs="*", help="default: every folder that has a training.json")
    options = parse.parse_args()
    for folder in options.folders or sorted(file.parent for file in MODELS.glob("*/training.json")):
        furnish(folder, read_vocabulary(folder))
        print(f"{folder}: vocabulary.json, LICENSE, ATTRIBUTION.md")


if __name__ == "__main__":
    main()
