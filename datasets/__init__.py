"""One file per dataset.

The file's name is the dataset's registry name (see harness/dataset.py for the contract).
"""


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"this is the benchmark harness' package 'datasets', which has no '{name}'; "
        "for the library of the same name use another environment"
    )
