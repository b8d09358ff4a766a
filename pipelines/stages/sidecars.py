"""What rides along with an object, and what becomes of it when the object is cut or changed.

An object that passes keeps everything. Of one that is cut or changed every sample gets the words, for they
speak of the whole; a mask is cut and changed like the picture it belongs to, where the modality knows masks;
the rest is left behind, and named in the sample's metadata as `left_behind`.
"""

from dataclasses import dataclass

from modalities.base import BadSample, Files, Modality, Raw
from pipelines.stages import facts

CLASS = "cls"  # its text is the sample's label; whoever writes the sample writes it
MASK, MASK_FIELD = "seg.png", "segmentation"
_WORDS = ("txt", "json")  # also as the end of a longer extension: "boxes.json"


@dataclass(frozen=True, kw_only=True)
class Riders:
    """Sidecars of one object, told apart."""

    words: Files
    mask: Files
    left: tuple[str, ...]


def riders(sidecars: Files) -> Files:
    """All but the class and the facts of an earlier ingest, which are written anew."""
    earlier = facts.find(sidecars)
    return {
        ext: data for ext, data in sidecars.items() if ext != CLASS and (earlier is None or ext != earlier[0])
    }


def sort(sidecars: Files, modality: Modality) -> Riders:
    """For an object that is cut or changed."""
    all_riders = riders(sidecars)
    words = {ext: data for ext, data in all_riders.items() if ext.rpartition(".")[2] in _WORDS}
    masked = MASK in all_riders and MASK_FIELD in modality.axes
    mask = {MASK: all_riders[MASK]} if masked else {}
    left = tuple(sorted(all_riders.keys() - words.keys() - mask.keys()))
    return Riders(words=words, mask=mask, left=left)


def masked(raw: Raw, mask: Files) -> Raw:
    """The object with its mask beside it, where cuts look for it."""
    beside = {f"mask.{ext}": data for ext, data in mask.items()}
    return raw._replace(companions={**raw.companions, **beside}) if mask else raw


def joined(packed: Files, sidecars: Files) -> Files:
    """Both; BadSample "name-clash" where one would take the other's place."""
    if twice := sorted(packed.keys() & sidecars.keys()):
        raise BadSample("name-clash", f"the object is stored as .{twice[0]}, and another file has that name")
    return {**packed, **sidecars}
