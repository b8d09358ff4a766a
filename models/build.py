"""From a name and a few options to a model, or to a model with its objective."""

from collections.abc import Mapping
from typing import Any

from models.backbones.base import BACKBONES, Backbone, Mixers
from models.block import Block
from models.channels.base import CHANNELS
from models.heads.base import HEADS
from models.mixers.base import MIXERS
from models.model import Model
from models.necks.base import NECKS, Neck
from models.objectives.base import OBJECTIVES, Objective
from models.presets.base import SECTIONS, presets, resolve
from models.recentre import recentre
from models.registry import Registry, options_of, split_part, suggest
from models.stems.base import STEMS, Stem

REGISTRIES: dict[str, Registry[Any]] = {"stem": STEMS, "backbone": BACKBONES, "neck": NECKS, "head": HEADS}


def list_models(modality: str | None = None) -> list[str]:
    """Names of all presets, or of those for one kind of data."""
    return sorted(name for name in presets() if modality in (None, resolve(name)["modality"]))


def create_model(
    name: str, *, num_classes: int | None = None, in_chans: int | None = None, **options: Any
) -> Model:
    """Model `name`. `num_classes` outputs (0: pooled features), `in_chans` channels or point features.

    `options` change the preset: `{"backbone.drop_path": 0.1}`, or `drop_path=0.1` where only one part takes
    it; `window=4` changes every mixer that takes it; `head="segmentation"` takes another part.
    """
    spec = resolve(name)
    if num_classes is not None:
        spec["num_outputs"] = num_classes
    if in_chans is not None:
        spec["in_chans"] = in_chans
    return assemble(change(spec, options))


def create_task(
    task: str, *, model: str, inputs: Mapping[str, str], num_outputs: int, **options: Any
) -> Objective:
    """Model `model` with the head and the loss of `task`: classification, regression, segmentation or masked.

    `inputs` maps the model's arguments to fields of a batch: {"x": "features", "coords": "points"}. `options`
    are those of the objective (`target`, `mask_ratio`, ...) or of `create_model`. A masked task has as many
    outputs as its tokens have values, whatever `num_outputs` says.
    """
    objective = OBJECTIVES[task]
    own = {key: options.pop(key) for key in list(options) if key in options_of(objective)}
    spec = change(resolve(model), {"head": objective.head})
    spec["num_outputs"] = num_outputs
    if "in_chans" in options:
        spec["in_chans"] = options.pop("in_chans")
    return OBJECTIVES.create(task, assemble(change(spec, options)), inputs, **own)


def assemble(spec: Mapping[str, Any]) -> Model:
    """The model that a resolved preset describes."""
    stem_class = STEMS[spec["stem"]]
    options = section(spec, "block")
    if unknown := options.keys() - set(options_of(Block)):
        raise LookupError(f"a block takes no {sorted(unknown)}; it takes {options_of(Block)}")
    backbone = BACKBONES.create(
        spec["backbone"], stem_class.axes, spec["mixers"], options, **section(spec, "backbone")
    )
    stem = STEMS.create(spec["stem"], spec["in_chans"], backbone.dims[0], **section(spec, "stem"))
    neck = neck_of(spec, stem, backbone)
    cells = stem.cells if neck is None else stem.cells // neck.finer**2
    outputs = {"sample": spec["num_outputs"], "cell": spec["num_outputs"] * cells, "value": stem.values}
    head = HEADS.create(
        spec["head"],
        backbone.dims if neck is None else neck.dims,
        outputs[HEADS[spec["head"]].per],
        **section(spec, "head"),
    )
    model = Model(stem, backbone, head, neck=neck, init_std=spec.get("init_std"))
    return model if spec.get("norms") is None else recentre(model, spec["norms"])


def neck_of(spec: Mapping[str, Any], stem: Stem, backbone: Backbone) -> Neck | None:
    """The neck that a preset names, if it fits the stem and the head."""
    if spec.get("neck") is None:
        return None
    neck = NECKS.create(spec["neck"], backbone.dims, **section(spec, "neck"))
    if stem.patch % neck.finer:
        raise ValueError(
            f"neck {spec['neck']!r} divides the side of a patch by {neck.finer}, got patch={stem.patch}"
        )
    if HEADS[spec["head"]].per == "value":
        raise ValueError(
            f"head {spec['head']!r} predicts the stem's tokens, which no neck can; take neck=None"
        )
    return neck


def section(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options of one part: {"stem.patch": 4} -> {"patch": 4}."""
    prefix = f"{name}."
    return {key[len(prefix) :]: value for key, value in spec.items() if key.startswith(prefix)}


def change(spec: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The preset with options set; those that no part takes, or that two take, are a LookupError."""
    spec = dict(spec)
    for key in sorted(options, key=lambda key: key not in SECTIONS):  # parts before their options
        value = options[key]
        if key in SECTIONS:
            if spec.get(key) != value:
                spec = {k: v for k, v in spec.items() if not k.startswith(f"{key}.")} | {key: value}
        elif key in ("mixers", "init_std", "norms"):
            spec[key] = value
        else:
            known = choices(spec)
            places = [place for place in known if key in (place, place.partition(".")[2])]
            if len(places) != 1:
                names = known | {place.partition(".")[2] for place in known}
                raise LookupError(
                    f"{key!r} is an option of {len(places)} parts of this model, it must be one; "
                    f"did you mean one of {sorted(places) or suggest(key, names)}?"
                )
            part, _, option = places[0].partition(".")
            if part in ("mixers", "channel"):
                spec = with_option(spec, part, option, value)
            else:
                spec[places[0]] = value
    return spec


def choices(spec: Mapping[str, Any]) -> set[str]:
    """Every option that the parts of this model take, as "part.option"."""
    parts = {part: spec[part] for part in SECTIONS if spec.get(part) is not None}
    taken = {f"{part}.{o}" for part, name in parts.items() for o in options_of(REGISTRIES[part][name])}
    taken |= {f"block.{o}" for o in options_of(Block) if o != "drop_path"}  # the backbone ramps it
    channels = [spec.get("block.channel", "mlp")]
    for mixer in each_mixer(spec["mixers"]):
        if mixer["name"] is not None:
            taken |= {f"mixers.{o}" for o in options_of(MIXERS[mixer["name"]])}
        channels.append(mixer.get("block", {}).get("channel"))
    names = {split_part(channel)[0] for channel in channels if channel is not None}
    return taken | {f"channel.{o}" for name in names for o in options_of(CHANNELS[name])}


def each_mixer(mixers: Mixers) -> list[Mapping[str, Any]]:
    """The mixers of all stages in one list."""
    return [m for item in mixers for m in ([item] if isinstance(item, Mapping) else item)]


def with_option(spec: Mapping[str, Any], part: str, option: str, value: Any) -> dict[str, Any]:
    """The preset with one option set in all mixers, or in all channel mixers, that take it."""

    def channel(given: Any) -> Any:
        name, own = (None, {}) if given is None else split_part(given)
        return (
            given
            if name is None or option not in options_of(CHANNELS[name])
            else {"name": name, **own, option: value}
        )

    def mixer(given: Any) -> Any:
        if not isinstance(given, Mapping):
            return tuple(mixer(one) for one in given)
        if part == "channel":
            block = given.get("block", {})
            if "channel" not in block:
                return given
            return {**given, "block": {**block, "channel": channel(block["channel"])}}
        takes = given["name"] is not None and option in options_of(MIXERS[given["name"]])
        return {**given, option: value} if takes else given

    changed = {**spec, "mixers": tuple(mixer(one) for one in spec["mixers"])}
    if part == "channel":
        changed["block.channel"] = channel(spec.get("block.channel", "mlp"))
    return changed
