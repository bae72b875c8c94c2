"""Labels of image files by an exported model: `python -m jaxnas.predict DIR IMAGE...`."""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnas.errors import InputError

if TYPE_CHECKING:
    from jaxnas.classifier import Classifier

CHUNK = 64
"""Files that are decoded and classified together."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 for bad input."""
    args = _parser().parse_args(argv)
    try:
        from jaxnas.classifier import load

        for name, least in (("top", 1), ("max_bad", 0)):
            if getattr(args, name) < least:
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} is {getattr(args, name)}; it must be at least {least}.")
        files = image_files(args.images)
        with warnings.catch_warnings():
            warnings.showwarning = _note
            warnings.simplefilter("always", UserWarning)
            classifier = load(args.directory, space=args.space)
            rows = predictions(classifier, files, top=args.top, max_bad=args.max_bad)
        (_print_json if args.json else _print_table)(rows)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxnas.predict",
        description="Classify image files by an exported model.",
        epilog="Exit codes: 0, 2 for bad input, 1 otherwise.",
    )
    parser.add_argument("directory", metavar="DIR", help="what the stage export wrote")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="image files, or folders of them"
    )
    parser.add_argument("--top", type=int, default=1, help="classes shown of each image (1)")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each image")
    parser.add_argument(
        "--max-bad",
        type=int,
        default=0,
        help="files that may be no images before it is an error (0)",
    )
    parser.add_argument(
        "--space", help="the model's space, where it is code of your own: module:attribute"
    )
    return parser


def image_files(places: Sequence[str]) -> list[Path]:
    """The files among `places`, and the image files in folders among them, at any depth, sorted.

    Raises:
        InputError: a place that does not exist, or a folder without images.
    """
    from jaxnas.data.folder import SUFFIXES
    from jaxnas.data.paths import missing

    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
            inside = [p for p in inside if p.is_file() and not _hidden(p.relative_to(place))]
            if not inside:
                raise InputError(
                    f"{place} holds no images; the suffixes read are {' '.join(sorted(SUFFIXES))}."
                )
            found += inside
        elif place.exists():
            found.append(place)
        else:
            raise missing(place)
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def predictions(
    classifier: "Classifier", files: Sequence[Path], *, top: int = 1, max_bad: int = 0
) -> list[dict[str, Any]]:
    """For each file `{"file", "label", "probability", "top": [[label, probability], ...]}`.

    Files that are no images are named on stderr and left out.

    Raises:
        InputError: more than `max_bad` of them.
    """
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    for start in range(0, len(files), CHUNK):
        good, images = [], []
        for file in files[start : start + CHUNK]:
            try:
                images.append(classifier.decoded(file))
                good.append(file)
            except InputError as error:
                bad.append(str(error))
                _check_bad(bad, max_bad)
                print(f"skipped: {error}", file=sys.stderr)
        if images:
            found = classifier(np.stack(images))
            rows += [_row(classifier, f, p, top) for f, p in zip(good, found, strict=True)]
    return rows


def _check_bad(bad: list[str], max_bad: int) -> None:
    if len(bad) > max_bad:
        allowed = (
            f"; --max-bad {max_bad} allows no more" if max_bad else "; --max-bad N skips up to N"
        )
        raise InputError(f"{bad[-1].rstrip('.')}{allowed}.")


def _row(
    classifier: "Classifier", file: Path, probabilities: np.ndarray, top: int
) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    best = [[classifier.class_names[k], round(float(probabilities[k]), 6)] for k in order]
    return {"file": str(file), "label": best[0][0], "probability": best[0][1], "top": best}


def _print_json(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from jaxnas.console import Screen

    cells = [
        [row["file"] if k == 0 else "", label, f"{probability:.4f}"]
        for row in rows
        for k, (label, probability) in enumerate(row["top"])
    ]
    title = f"{len(rows):,} image{'s' * (len(rows) != 1)}"
    Screen().table(title, ["file", "label", "probability"], cells)


def _note(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
    print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
