"""Execute the notebooks that have changed, and store their outputs.

A notebook remembers, in its metadata, a checksum of the code it was executed with. Run
by ``make notebooks``; ``--all`` executes every notebook. The new file replaces the old
one only if every cell ran.
"""

import argparse
import hashlib
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).parent
os.environ["PYTHONPATH"] = str(BOOK.parent)


def checksum(notebook: nbformat.NotebookNode) -> str:
    """Return a checksum of the notebook's code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def execute(path: Path) -> None:
    """Run a notebook from a clean kernel and write it back without traces of when."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
        # The section of solutions stays closed when the notebook is opened in Colab.
        "colab": {"collapsed_sections": ["solutions"]},
        "unet_edu": {
            **notebook.metadata.get("unet_edu", {}),
            "executed": checksum(notebook),
        },
    }
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    os.replace(partial, path)
    seconds, size = time.perf_counter() - started, path.stat().st_size / 1e6
    print(f"{path.name}: {seconds:.0f} s, {size:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="even those unchanged")
    parser.add_argument("names", nargs="*", help="notebooks; all of them if not given")
    options = parser.parse_args()
    paths = [BOOK / name for name in options.names] or sorted(BOOK.glob("*.ipynb"))
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        known = notebook.metadata.get("unet_edu", {}).get("executed")
        if options.all or known != checksum(notebook):
            execute(path)


if __name__ == "__main__":
    main()
