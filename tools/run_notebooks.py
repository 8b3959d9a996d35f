"""Run every notebook and write its outputs back."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def run(path: Path) -> None:
    """Execute one notebook in place; consecutive pieces of a printed text become one."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata = {}
        joined: list = []
        for output in cell.get("outputs", []):
            printed = output.output_type == "stream"
            if printed and joined and joined[-1].output_type == "stream":
                joined[-1]["text"] += output["text"]
            else:
                joined.append(output)
        if "outputs" in cell:
            cell.outputs = joined
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for found in sorted(FOLDER.glob("*.ipynb")):
        run(found)
        print(found.name)
