"""Flags as keys of the configuration."""

import re
import shutil
from textwrap import TextWrapper
from typing import Any

from jsonargparse import DefaultHelpFormatter

from jaxnas.config import SHORT, flatten, keys, parser, read_yaml
from jaxnas.errors import InputError, unknown

EPILOG = """
Short names set a key in every stage that has it; a stage's own flag goes before:
  --data X           --data.source X          --data-dir DIR  --data.dir DIR
  --max-bad N        --data.max-bad N
  --proxies a,b      --rank.proxies a,b       --sample N      --rank.sample N
  --top N            --train.top N            --repeats N     --rank.repeats N
  --trainer NAME     --train.trainer NAME     --epochs N      --train.epochs and --finish.epochs
  --tuner NAME       --tune.tuner NAME        --stages a,b    --pipeline a,b
  --metric NAME, --loss NAME, --class-weights a,b
                     --objective.*
  --batch-size N, --channels N, --cells N[,N...], --resolution N
                     --rank.*, --train.*, --tune.*, --augment.* and --finish.*
  --config FILE.yaml the same names in YAML; flags go before it

Exit codes: 0, 2 for bad input, 1 otherwise. An interrupted run continues with --resume --out DIR.
"""


def parse(argv: list[str]) -> dict[str, Any] | None:
    """The configuration's keys that the flags set; None when help was asked for.

    `InputError` for a flag that does not exist (with the nearest), one without its value, or a word
    that belongs to no flag.
    """
    if any(arg in ("-h", "--help") for arg in argv):
        return None
    given: dict[str, Any] = {}
    files: list[str] = []
    rest = list(argv)
    while rest:
        name, value = _next_flag(rest)
        if name == "config":
            files.append(value)
        else:
            given[name] = value
    values: dict[str, Any] = {}
    for path in files:
        values |= read_yaml(path)
    return values | flatten(given)


def help_text() -> str:
    """Every flag with its default, made from the dataclasses."""
    made = parser()
    made.formatter_class = _OneLineEach
    text = made.format_help().partition("\n\n")[2]
    text = re.sub(r"\n  --\w+ CONFIG +Path to a configuration file\.", "", text)
    text = re.sub(r"--[\w.]+", lambda flag: flag.group().replace("_", "-"), text)
    text = re.sub(r"\(type: .*, default: (.*)\)$", _default, text, flags=re.MULTILINE)
    width = min(100, shutil.get_terminal_size().columns)
    wrapper = TextWrapper(width, subsequent_indent=" " * 24, break_on_hyphens=False)
    text = "\n".join(wrapper.fill(line) for line in text.split("\n"))
    return f"usage: python -m jaxnas.search [--space NAME] [--data X] [flags]\n\n{text}{EPILOG}"


class _OneLineEach(DefaultHelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **options | {"width": 10_000})


def _default(found: re.Match[str]) -> str:
    value = found[1]
    if value.startswith("("):  # a tuple, as it is given on the command line
        value = value.strip("()").replace("'", "").replace(" ", "")
    return f"(default: {value})"


def _next_flag(rest: list[str]) -> tuple[str, Any]:
    """Take one flag and its value off the front of `rest`."""
    word = rest.pop(0)
    if not word.startswith("--"):
        raise InputError(f"{word!r} belongs to no flag; flags begin with --, as in --space NAME.")
    flag, equals, value = word.partition("=")
    name = flag[2:].replace("-", "_")
    known = [*keys(), *SHORT, "config"]
    if name not in known:
        raise InputError(str(unknown("flag", flag, ["--" + k.replace("_", "-") for k in known])))
    if equals:
        return name, value
    following = rest[0] if rest and not rest[0].startswith("--") else None
    if name == "resume":
        return name, rest.pop(0) if following in ("true", "false") else "true"
    if following is None:
        raise InputError(f"{flag} needs a value.")
    return name, rest.pop(0)
