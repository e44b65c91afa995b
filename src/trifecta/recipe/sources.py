"""Presets, YAML, `key.path=value` and flags -> one tree -> one recipe."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from trifecta.errors import RecipeError, RecipeErrors, did_you_mean
from trifecta.recipe import presets, validate
from trifecta.recipe.aliases import canonical
from trifecta.recipe.keys import components
from trifecta.recipe.names import slug
from trifecta.recipe.schema import Recipe
from trifecta.recipe.tree import DEFAULT, Node, Origin, Rank, Scalar, clip, empty, find, plain
from trifecta.recipe.yaml_nodes import MAX_CHARACTERS, parse, parse_scalar

COMMAND_LINE = "command line"
SETTINGS = "settings"
"""Where flags come from that were never typed: a program's own settings."""


@dataclass(frozen=True)
class Facts:
    """What the automatic preset sizes itself by: characters of text, and the device (`cpu`, `cuda:0`, `mps`)."""

    characters: int
    device: str


@dataclass(frozen=True)
class Resolved:
    """A recipe, the keys that the user wrote himself, and where each key that was written anywhere is written."""

    recipe: Recipe
    written: frozenset[str]
    origins: Mapping[str, Origin]


@dataclass(frozen=True)
class Tree:
    """Everything that was written, by precedence, not yet checked against the schema.

    Args:
        preset: its name, `auto`, or the name of the recipe's file where no preset is asked for.
        base: the preset's own tree; None for the automatic one, which needs facts.
        layers: the user's sources with canonical keys, the last of which wins.
    """

    preset: str
    base: Node | None
    layers: tuple[Node, ...]

    def resolve(self, facts: Facts | None = None) -> Resolved:
        """The recipe.

        Args:
            facts: needed by the automatic preset; without them it takes the first tier that fits what is written.

        Raises:
            RecipeErrors: with everything that is wrong.
        """
        errors: list[RecipeError] = []
        for base in [self.base] if self.base is not None else _tiers_for(self.preset, facts):
            merged = base
            for layer in self.layers:
                merged = merge(merged, layer)
            recipe, origins, errors = validate.check(merged)
            if recipe is not None:
                written = frozenset(key for key, origin in origins.items() if origin.rank > Rank.PRESET)
                return Resolved(recipe, written, origins)
        raise RecipeErrors(errors)


def collect(
    *, config: str | FilePath | None = None, preset: str | None = None, overrides: Sequence[str] = (),
    flags: Mapping[str, tuple[str, Any]] | None = None, base: Mapping[str, Any] | None = None,
) -> Tree:  # fmt: skip
    """Reads every source, merges them and checks the result.

    Args:
        config: a YAML file or a preset's name.
        preset: what everything else is laid over. Without one: the schema's defaults under a file, else `auto`.
        overrides: `key.path=value`, the value in YAML. flags: canonical key -> (flag as typed, value).
        base: canonical key -> value, instead of a preset below a file and everything else.

    Raises:
        RecipeErrors: with every error of every source.
    """
    file = None if config is None or str(config) in presets.preset_names() else FilePath(config)
    if config is not None and file is None:
        if preset not in (None, str(config)):
            raise RecipeErrors([_two_presets(str(config), str(preset))])
        preset = str(config)
    errors: list[RecipeError] = []
    sources = []
    if file is not None:
        root = _read_file(file, errors)
        if root is None:
            raise RecipeErrors(errors)
        sources.append(root)
    sources += [_read_overrides(overrides, errors), _read_flags(flags or {})]
    layers = []
    for source in sources:
        layer, problems = canonical(source)
        layers.append(layer)
        errors += problems
    below = None if base is None else _read_base(base)
    name = preset or (presets.AUTO if file is None else slug(file.stem))
    arch = _wanted_type(layers)
    if below is not None:
        name = "finetune" if preset is None else name
    elif name == presets.AUTO:
        name = presets.AUTOS.get(arch or "gpt", name)
    elif preset and (fault := _other_architecture(preset, arch)):
        errors.append(fault)
    try:
        under = (
            below
            if below is not None
            else None
            if name in presets.AUTOS.values()
            else _preset(preset)
            if preset
            else empty(DEFAULT)
        )
    except RecipeError as error:
        raise RecipeErrors([error, *errors]) from None
    layers[-2:] = [merge(layers[-2], layers[-1], partial=True)]
    tree = Tree(name, under, tuple(layers))
    try:
        tree.resolve()
    except RecipeErrors as problem:
        errors += problem.errors
    if errors:
        raise RecipeErrors(errors)
    return tree


def merge(base: Node, over: Node, path: str = "", *, partial: bool = False) -> Node:
    """`over` laid over `base`: leaves and lists are replaced, sections merged, components too if their type stays.

    partial: base leaves things out, so keys of a component without a type are of the type that `over` has:
    `--optimizer sgd training.optimizer.momentum=0.5`.
    """
    below, above = base.mapping, over.mapping
    if below is None or above is None:
        return over
    component = components().get(path)
    if component is not None and "type" in above and ("type" in below or not partial):
        before = plain(below["type"]) if "type" in below else component.default
        if plain(above["type"]) != before:
            return over
    entries = dict(below)
    for name, child in above.items():
        key = f"{path}.{name}" if path else name
        entries[name] = merge(entries[name], child, key, partial=partial) if name in entries else child
    return Node(entries, over.origin, over.key_origin)


def _read_file(path: FilePath, errors: list[RecipeError]) -> Node | None:
    """A recipe file's tree, or None where there is none to go on with; what is wrong with it goes to `errors`."""
    try:
        text = _read_text(path)
    except RecipeError as error:
        errors.append(error)
        return None
    root, problems = parse(text, str(path), Rank.FILE)
    errors += problems
    if root is None and not problems:
        fix = "write at least one key, such as training: {epochs: 3}"
        errors.append(RecipeError("the recipe is empty", where=str(path), fix=fix))
    elif root is not None and root.mapping is None:
        what = "a recipe is a mapping of sections, such as training: {epochs: 3}"
        errors.append(RecipeError(what, where=root.origin.where, excerpt=root.origin.excerpt,
                                  fix="give text to train on as DATA, a recipe as --config"))  # fmt: skip
    return root if root is not None and root.mapping is not None else None


def _read_text(path: FilePath) -> str:
    where = str(path)
    try:
        kind = "" if path.is_file() or not path.exists() else "a folder" if path.is_dir() else "not a regular file"
        content = b"" if kind else _read_bytes(path)
    except OSError as error:
        what = "no such file" if error.errno == errno.ENOENT else (error.strerror or str(error)).lower()
        raise RecipeError(what, where=clip(where, 200), fix=_instead(path)) from None
    except ValueError:
        raise RecipeError("a path can't hold a NUL character", where=clip(where, 200)) from None
    if kind:
        raise RecipeError(f"{kind}; a recipe is a YAML file", where=where, fix=_instead(path))
    if len(content) > 4 * MAX_CHARACTERS:
        what = f"larger than {4 * MAX_CHARACTERS:,} bytes; a recipe is a short YAML file"
        raise RecipeError(what, where=where, fix="give text to train on as DATA, a recipe as --config")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{content[error.start]:02X} is not UTF-8"
        raise RecipeError(what, where=f"{where}:{line}", fix="save the recipe as UTF-8") from None


def _read_bytes(path: FilePath) -> bytes:
    """At most a byte more than a recipe may have."""
    with path.open("rb") as file:
        return file.read(4 * MAX_CHARACTERS + 1)


def _instead(path: FilePath) -> str:
    """What the user may have meant: a preset, or a file of nearly that name."""
    if path.stem in presets.preset_names():
        return f"the preset of that name is --config {path.stem}"
    try:
        near = [str(other) for ending in ("*.yaml", "*.yml") for other in sorted(path.parent.glob(ending))]
    except (OSError, ValueError):
        near = []
    hint = did_you_mean(str(path), near)
    return hint or f"give a YAML file or a preset: {', '.join(presets.preset_names())}"


def _read_overrides(overrides: Sequence[str], errors: list[RecipeError]) -> Node:
    """Each `key.path=value` under its dotted key, as a file would have it."""
    root = empty(Origin(COMMAND_LINE, Rank.OVERRIDE))
    entries = root.mapping
    assert entries is not None
    for argument in overrides:
        key, equals, text = argument.partition("=")
        key = key.strip()
        origin = Origin(COMMAND_LINE, Rank.OVERRIDE, text=argument, caret=1)
        if not equals or not all(key.split(".")):
            errors.append(RecipeError(f"{clip(argument)!r} is not key.path=value", where=COMMAND_LINE,
                                      fix="write it like training.learning_rate=1e-3"))  # fmt: skip
            continue
        at_value = replace(origin, caret=len(argument) - len(text.lstrip()) + 1)
        value = _override_value(text.strip(), at_value, errors)
        if key in entries:
            errors.append(RecipeError(f"{key} is given twice: {clip(entries[key].origin.text or '')} and "
                                      f"{clip(argument)}", where=COMMAND_LINE, fix="keep one of them"))  # fmt: skip
        elif value is not None:
            entries[key] = replace(value, key_origin=origin)
    return root


def _override_value(text: str, origin: Origin, errors: list[RecipeError]) -> Node | None:
    """A value: YAML where it begins like a list, mapping, quoted text or tag, else one plain scalar, colons and all."""
    if not text.startswith(("[", "{", '"', "'", "!")):
        try:
            return Node(parse_scalar(text), origin, origin)
        except ValueError as error:
            errors.append(RecipeError(str(error), where=COMMAND_LINE, fix="write a smaller number"))
            return None
    root, problems = parse(text, COMMAND_LINE, Rank.OVERRIDE)
    errors += [RecipeError(error.what, where=COMMAND_LINE, excerpt=origin.excerpt, fix=error.fix) for error in problems]
    return _placed(root, origin) if root is not None else None


def _placed(node: Node, origin: Origin) -> Node:
    """The same values, all at one place."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _placed(child, origin) for name, child in value.items()}
    elif isinstance(value, list):
        value = [_placed(child, origin) for child in value]
    return Node(value, origin, origin)


def _read_flags(flags: Mapping[str, tuple[str, Any]]) -> Node:
    root = empty(Origin(COMMAND_LINE, Rank.FLAG))
    entries = root.mapping
    assert entries is not None
    for key, (flag, value) in flags.items():
        shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        from_python = flag == SETTINGS
        name = f"{key} =" if from_python else flag
        origin = Origin(
            SETTINGS if from_python else COMMAND_LINE, Rank.FLAG, text=f"{name} {shown}", caret=len(name) + 2
        )
        entries[key] = replace(_node(value, origin), key_origin=replace(origin, caret=1))
    return root


def _read_base(settings: Mapping[str, Any]) -> Node:
    root = empty(DEFAULT)
    assert root.mapping is not None
    origin = Origin("fine-tuning's defaults", Rank.PRESET)
    for key, value in settings.items():
        root.mapping[key] = _node(value, origin)
    return _canonical_preset(root)


def _node(value: Any, origin: Origin) -> Node:
    if isinstance(value, (list, tuple)):
        return Node([_node(item, origin) for item in value], origin, origin)
    if isinstance(value, Mapping):
        return Node({str(name): _node(item, origin) for name, item in value.items()}, origin, origin)
    scalar: Scalar = value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
    return Node(scalar, origin, origin)


@cache
def _preset(name: str) -> Node:
    return _canonical_preset(_parse_preset(name))


def _parse_preset(name: str) -> Node:
    root, errors = parse(presets.preset_text(name), f"preset {name}", Rank.PRESET)
    assert root is not None, name
    assert not errors, errors
    return root


def _canonical_preset(node: Node) -> Node:
    tree, errors = canonical(node)
    assert not errors, errors
    return tree


@cache
def _tiers(name: str) -> list[tuple[str, float, Node]]:
    """An automatic preset's tiers: device class (`cpu` or `accelerator`), most characters, and tree."""
    auto = _parse_preset(name).mapping
    assert auto is not None
    base = _preset(str(plain(auto["base"])))
    tiers = auto["tiers"].value
    assert isinstance(tiers, list)
    found = []
    for tier in tiers:
        entries = tier.mapping
        assert entries is not None
        limit = plain(entries["characters"])
        assert isinstance(limit, (int, float)), limit
        found.append((str(plain(entries["device"])), limit, merge(base, _canonical_preset(entries["recipe"]))))
    return found


def _tiers_for(name: str, facts: Facts | None) -> list[Node]:
    """The tier of these facts, or all of them where there are none."""
    if facts is None:
        return [tree for _, _, tree in _tiers(name)]
    device = "cpu" if facts.device.startswith("cpu") else "accelerator"
    return [tree for class_, limit, tree in _tiers(name) if class_ == device and facts.characters <= limit][:1]


def _wanted_type(layers: Sequence[Node]) -> str | None:
    """The architecture that the user's last source names, if one does."""
    for layer in reversed(layers):
        found = find(layer, ("model", "type"))
        if found is not None and isinstance(found.value, str):
            return found.value
    return None


def _other_architecture(preset: str, arch: str | None) -> RecipeError | None:
    """A preset's sizes mean nothing to another architecture, so they aren't taken over."""
    if arch is None or preset not in presets.preset_names() or preset in presets.AUTOS.values():
        return None
    found = find(_preset(preset), ("model", "type"))
    own = "gpt" if found is None else str(found.value)
    if own == arch:
        return None
    return RecipeError(f"the preset {preset} is of the architecture {own}, and {arch} is asked for", where=COMMAND_LINE,
                       fix=f"leave --preset out, or choose one of: {', '.join(_presets_of(arch))}")  # fmt: skip


def _presets_of(arch: str) -> list[str]:
    return [name for name in presets.preset_names() if name.startswith((f"{arch}-", f"auto-{arch}"))] or [presets.AUTO]


def _two_presets(config: str, preset: str) -> RecipeError:
    return RecipeError(f"--config {config} and --preset {preset} name two presets", where=COMMAND_LINE,
                       fix="keep one of them")  # fmt: skip
