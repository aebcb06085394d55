"""From a study file and ``key=value`` on the command line to one checked Study.

A study is put together from layers, each over the one before: the keys of another study that it
names by ``base: NAME`` (presets included), the file's own, those of its preset, and the command
line's. study_file.py reads their text, settings.py has the keys, checks.py the values that are
legal.

Every mistake (a misspelt study, key or name, a wrong type, a value out of range) is one UserError
that names the nearest valid one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness import PROJECT
from harness.errors import UserError, nearest, unknown
from harness.errors.credentials import remember
from harness.registry import METHODS
from harness.study.checks import check_settings, checked_folder, checked_name, checked_texts
from harness.study.places import check_places
from harness.study.seed_rounds import SeedRounds, read_seed_rounds
from harness.study.settings import (
    AUTO,
    DEFAULT_STUDY,
    SEEDS,
    DatasetConfig,
    ResourcesConfig,
    Study,
    leaves,
)
from harness.study.study_file import (
    ARCHIVE,
    UNREADABLE,
    Layer,
    first_line,
    method_files,
    read_argument,
    read_study_file,
    shielded,
    unshielded,
)

__all__ = [
    "AUTO",
    "DEFAULT_STUDY",
    "STUDIES",
    "DatasetConfig",
    "ResourcesConfig",
    "Study",
    "leaves",
    "load_study",
    "study_files",
]

STUDIES = PROJECT / "studies"
HEX = "dataset.fingerprint"
FILE_KEYS = ("name", "presets")
"""Keys that only a study file has; the name is the file's own."""

NAMED_BLOCKS = ("dataset", "backbone")
"""Blocks whose ``name`` says what their other keys are about; ``dataset=NAME`` is short for it."""

OWN_KEYS = ("description", "published_table", "views")
"""What a study does not take over from its base: they say what one study asks and what it is
compared with.
"""


def study_files() -> dict[str, Path]:
    """Every shipped study's name and file."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}


def load_study(arguments: Sequence[str]) -> Study:
    """The study that ``study=NAME key=value ...`` describes, complete and checked."""
    given = _arguments(arguments)
    _check_no_file_keys(given)
    name, path = _find_study(given.pop("study", DEFAULT_STUDY))
    command = _normalised(given, "the command line")
    body = _with_base(read_study_file(path), path, others_named="methods" in command)
    merged = _merged(body, command)
    # Before anything is said of the address: what is printed from here on hides its password.
    remember(str(merged.get("tracking", {}).get("uri", "")))
    rounds = _seed_rounds(merged)
    if rounds is not None:
        merged[SEEDS] = list(range(rounds.first))
    study = _typed(merged | {"name": checked_name(name)})
    study.seed_rounds = rounds
    study.output = checked_folder("output", study.output)
    check_settings(study)
    checked_texts(study.description, plain(study))
    data = study.dataset
    check_places(
        {"output": study.output, "dataset.root": data.root}
        | {"dataset.manifest": data.manifest, "dataset.cache": data.cache}
    )
    return study


def plain(study: Study) -> Layer:
    """What of a study is written to its store, by key."""
    return {
        "methods": study.methods,
        "dataset.options": study.dataset.options,
        "backbone": study.backbone,
        "hparams": study.hparams,
        "search": study.search.space,
    }


# ---------------------------------------------------------------------- the command line


def _arguments(arguments: Sequence[str]) -> Layer:
    """All arguments as one layer; of two that set the same key, the later one counts."""
    parsed: Layer = {}
    for argument in arguments:
        key, separator, _ = argument.partition("=")
        if not separator or not key:
            hint = f"; did you mean study={argument}?" if argument in study_files() else ""
            raise UserError(f"'{argument}' is not of the form key=value{hint}")
        parsed = _merge(parsed, _shorthand(read_argument(_quoted(argument))))
    return parsed


def _quoted(argument: str) -> str:
    """Hexadecimal digits are text, also where they look like a number: 0012 or 12e4."""
    key, _, value = argument.partition("=")
    return f"{key}='{value}'" if key == HEX and value != "null" else argument


def _check_no_file_keys(given: Layer) -> None:
    """UserError for keys on the command line that mean something in a file alone."""
    if "base" in given:
        raise UserError(
            f"base={given['base']} belongs into a study file; on the command line"
            f" study={given['base']} names the study"
        )
    for key in FILE_KEYS:
        if key in given:
            raise UserError(f"{key} belongs into a study file; a study is called like its file")


# ---------------------------------------------------------------------- the file, its base


def _find_study(name: object) -> tuple[str, Path]:
    if not isinstance(name, str):
        raise UserError(f"study={name} must be the name of a study or a file")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if "\0" in name or not path.is_file():
            raise UserError(f"the study file {name} does not exist")
        return path.stem, path
    if name not in study_files():
        raise unknown("study", name, study_files())
    return name, study_files()[name]


def _with_base(body: Layer, path: Path, others_named: bool) -> Layer:
    """The file's keys over those of the study that its ``base`` names.

    A base has none itself, so there are no cycles. ``others_named``: the methods are not the
    file's own.
    """
    own = dict(body)
    name = own.pop("base", None)
    if own.get("name", path.stem) != path.stem:
        raise UserError(f"{path}: name={own['name']}: a study is called like its file; rename that")
    _check_archive(own, path, others_named)
    own = _normalised(own, path.name)
    _check_own_files(own, own)
    if name is None:
        return own
    below = _base_file(str(name), path)
    base = read_study_file(below)
    if "base" in base:
        itself = below.resolve() == path.resolve()
        whose = "itself" if itself else f"a study that has the base {base['base']}"
        raise UserError(
            f"{path.name}: base={name} is {whose}; a base must be a study without a base"
        )
    _check_archive(base, below, others_named or "methods" in own)
    base = _normalised(base, below.name)
    taken_over = {key: value for key, value in base.items() if key not in OWN_KEYS}
    return _merge(taken_over, own)


def _base_file(name: str, path: Path) -> Path:
    """A shipped study's file, or a file whose name is taken from the folder of the study that names
    it.
    """
    is_file = Path(name).suffix in {".yaml", ".yml"}
    try:
        _, found = _find_study(str(path.parent / name) if is_file else name)
    except UserError as error:
        raise UserError(f"{path.name}: base={name}: {error}") from error
    return found


def _check_archive(content: Layer, path: Path, others_named: bool) -> None:
    """UserError where a study that came in an archive would run a file of this machine.

    Its key is taken out of the content.
    """
    came_in = content.pop(ARCHIVE, None)
    files = method_files(content)
    if came_in is None or others_named or not files:
        return
    own = Path(files[0]).name
    raise UserError(
        f"{path} came in an archive, and what an archive holds is data: its method file"
        f" {files[0]} is not run; if you have that file, name all rows that {path.name} lists, with"
        f" your own copy, such as methods=[sf_md,{{method: PATH/{own}, label: ...}}]"
    )


# ---------------------------------------------------------------------- layers over layers


def _merged(body: Layer, command: Layer) -> Layer:
    """The file's keys, those of the preset that is asked for over them, the command line's on top.

    The preset may be named by the file or by the command line, which may also switch it off:
    ``preset=null``.
    """
    preset = command.get("preset", body.get("preset"))
    layers = [body, command]
    if preset is not None:
        layers.insert(1, _preset(body, preset))
    merged: Layer = {}
    for layer in layers:
        merged = _merge(merged, layer)
        # Layer by layer: a file of the user's that the command line names gets no values that
        # the study below has for a built-in method of that name.
        _check_own_files(layer, merged)
    return merged


def _preset(body: Layer, preset: object) -> Layer:
    presets = body.get("presets") or {}
    if not isinstance(preset, str) or preset not in presets:
        raise unknown("preset", str(preset), presets)
    changes = presets[preset] or {}
    if not isinstance(changes, dict):
        raise UserError(f"preset {preset} must be a block of keys, and is {changes}")
    return _normalised(changes, f"preset {preset}")


def _merge(base: Layer, change: Layer) -> Layer:
    """``change`` over ``base``: blocks are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if not isinstance(old, dict) or not isinstance(value, dict):
            merged[key] = value
        elif key in NAMED_BLOCKS and _is_another(old, value):
            # The options of the old dataset or backbone do not concern the new one.
            merged[key] = value
        else:
            merged[key] = _merge(old, value)
    return merged


def _is_another(old: Layer, new: Layer) -> bool:
    """Whether a block names another dataset or backbone than the block below it does."""
    return "name" in new and "name" in old and old["name"] != new["name"]


def _check_own_files(layer: Layer, merged: Layer) -> None:
    """UserError where a layer gives hyperparameters to a method file by the name of a built-in.

    ``hparams.NAME`` is of the built-in method: a shipped study's values for it are none of a
    user's file that is called like it.
    """
    given = layer.get("hparams") or {}
    stems = {Path(file).stem: file for file in method_files(merged)}
    for name in given if isinstance(given, Mapping) else ():
        if name not in stems or name not in METHODS.names() or _names(merged, name):
            continue
        raise UserError(
            f"hparams.{name} is of the built-in method; give values to your file in its entry:"
            f" {{method: {stems[name]}, hparams: {{...}}}}"
        )


def _names(merged: Layer, method: str) -> bool:
    """Whether the methods of a study name a built-in one."""
    for entry in merged["methods"]:
        name = entry.get("method") if isinstance(entry, dict) else entry
        if isinstance(name, str) and name.partition(":")[0] == method:
            return True
    return False


# ---------------------------------------------------------------------- keys and types


def _normalised(layer: Layer, source: str) -> Layer:
    """A layer with its short forms written out; UserError for keys that do not exist."""
    layer = _shorthand(layer)
    _check_keys(layer, Study, "", source)
    return layer


def _shorthand(layer: Layer) -> Layer:
    """``dataset: NAME`` and ``methods: NAME`` written out as the block and the list they mean."""
    blocks = {key: {"name": layer[key]} for key in NAMED_BLOCKS if isinstance(layer.get(key), str)}
    single = {"methods": [layer["methods"]]} if isinstance(layer.get("methods"), str) else {}
    return layer | blocks | single


def _check_keys(layer: Mapping[str, Any], node: type, prefix: str, source: str) -> None:
    """UserError for a key that the settings ``node`` do not have, or a value of another form.

    It is asked of each layer, not of what they make together, so that the sentence can say where
    the key stands (``source``).
    """
    defaults = node()
    known = [f.name for f in fields(node) if not f.metadata.get("derived")]
    for key, value in layer.items():
        full = f"{prefix}{key}"
        if key not in known:
            # At the top any key may be meant: `lr` is train.lr.
            every = [name for name, _, _ in leaves(Study())]
            candidates = [f"{prefix}{name}" for name in known] if prefix else every
            raise UserError(f"{source}: unknown key '{full}'{nearest(full, candidates)}")
        if full == SEEDS and isinstance(value, Mapping):
            continue  # rounds, which are read when all layers are known
        default = getattr(defaults, key)
        form = _missed_form(full, value, default)
        if form is not None:
            raise UserError(f"{source}: {full}={value} must be {form}")
        if is_dataclass(default):
            _check_keys(value, type(default), f"{full}.", source)


def _missed_form(key: str, value: object, default: object) -> str | None:
    """What a value would have to be, in words, judged by the key's default; None where it is."""
    if is_dataclass(default) and not isinstance(value, Mapping):
        return f"a block of keys, such as {key}.{fields(default)[0].name}=..."
    if isinstance(default, dict) and not isinstance(value, Mapping):
        return f"a block of keys, such as {key}.NAME=..."
    if isinstance(default, list) and not isinstance(value, list):
        return "a list" if isinstance(value, Mapping) else f"a list, such as {key}=[{value}]"
    # OmegaConf itself would take yes, 1 and 2 for true.
    if isinstance(default, bool) and not isinstance(value, bool):
        return "true or false"
    return None


def _seed_rounds(merged: Layer) -> SeedRounds | None:
    given = merged.get(SEEDS)
    return read_seed_rounds(given) if isinstance(given, Mapping) else None


def _typed(layer: Layer) -> Study:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Study), shielded(layer))
        study: Study = unshielded(OmegaConf.to_object(merged))
        return study
    except UNREADABLE as error:
        key = getattr(error, "full_key", "") or "study"
        raise UserError(f"{key}: {first_line(error)}") from error
