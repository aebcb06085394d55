"""The benchmark harness: what is the same for every method and every dataset.

Importing it first makes sure that the project's own top-level package ``datasets`` wins over a
foreign one of the same name.
"""

import importlib.util
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def _guard_datasets() -> None:
    found = importlib.util.find_spec("datasets")
    origin = Path(found.origin).resolve() if found and found.origin else None
    if origin is None or origin.parent.parent != PROJECT:
        raise ImportError(
            f"the package 'datasets' that Python finds is {origin}, not this project's"
            f" {PROJECT / 'datasets'}: run from the project's folder, or uninstall the other"
            " package from this environment"
        )


_guard_datasets()
