"""examples/colab.ipynb from its first cell to its last, with a budget that a test can afford."""

import json
import os
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "colab.ipynb"

EXECUTE = """
import sys
import nbclient
import nbformat

book = nbformat.read(sys.argv[1], as_version=4)
book.cells = [c for c in book.cells if "install" not in c.metadata.get("tags", [])]
nbclient.NotebookClient(book, timeout=900, kernel_name="python3").execute()
nbformat.write(book, sys.argv[2])
"""


def test_it_runs_and_shows_what_was_found(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(tmp_path / "done.ipynb")],
        cwd=tmp_path,
        env=os.environ | {"JAXNAS_BUDGET": "tiny", "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    shown = "".join(
        "".join(output.get("data", {}).get("text/plain", output.get("text", [])))
        for cell in cells
        for output in cell.get("outputs", [])
    )
    assert "nor_conv" in shown or "skip_connect" in shown
    assert "array(" in shown
    assert (tmp_path / "runs" / "colab" / "export" / "model.onnx").is_file()


def test_nothing_that_was_run_is_kept_in_it():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert len(code) > 5
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
