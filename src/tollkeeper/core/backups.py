"""What a backup says about itself, and what must be true of a pair of files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tollkeeper.core.errors import StorageMismatch

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class PairState:
    """What the two files hold. `revision` is the main file's migration, `schema` the usage file's."""

    pair_id: str
    usage_pair_id: str
    revision: str
    schema: int
    customers: int
    keys: int
    events: int
    last_seq: int
    rollups: int

    def require_pair(self) -> None:
        """Raises StorageMismatch."""
        if self.pair_id != self.usage_pair_id:
            raise StorageMismatch("The two files do not belong together: their pair ids differ.")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files`: name → {"bytes", "sha256"}. `refolded`: the rollups were compared with the log when the backup was made."""

    version: str
    created_at: str
    state: PairState
    refolded: bool
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, indent=2) + "\n"


def read_manifest(text: str) -> Manifest:
    """Raises StorageMismatch for what is no manifest, or one of a later format."""
    try:
        document = json.loads(text)
        format = document.pop("format")
        if format != FORMAT:
            raise StorageMismatch(f"This backup has format {format}; this version of Tollkeeper reads format {FORMAT}.")
        state = PairState(**document.pop("state"))
        manifest = Manifest(state=state, **document)
        if not all(
            isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int) for entry in manifest.files.values()
        ):
            raise TypeError("files")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageMismatch(f"{MANIFEST} is not the manifest of a backup ({error}).") from None
    return manifest
