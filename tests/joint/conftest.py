"""The toys are those of the tests of differentiable search."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "supernet"))
