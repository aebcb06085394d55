"""Folders that users name must be folders: addresses of remote storage are refused.

Called by study/config.py for every study, and by harness/share.py for the folder of an import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import UserError

# One slash is enough: that is what is left of two behind a path's normalisation. A letter alone
# before the colon is a drive.
ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")


def check_places(places: Mapping[str, str | None]) -> None:
    """UserError where a place (by its key) is an address such as s3://bucket/runs."""
    for key, place in places.items():
        found = ADDRESS.match(place or "")
        if found is None:
            continue
        if found[1].lower() == "file":
            raise UserError(f"{key}={place} is an address; give the folder's path alone")
        raise UserError(
            f"{key}={place}: storage behind {found[1]}:// is not supported, for trials lock and"
            " rename files; give a folder, on a cluster one that all nodes share (NFS, Lustre, a"
            " mounted volume), and copy what is finished to where it shall stay"
        )
