"""Raw objects where they lie: list them with `list_source`, read one with `open_entry`."""

from pipelines.sources.entry import Entry, Part
from pipelines.sources.listing import Source, find_objects, list_source
from pipelines.sources.names import Listing, Names
from pipelines.sources.opening import open_entry

__all__ = ["Entry", "Listing", "Names", "Part", "Source", "find_objects", "list_source", "open_entry"]
