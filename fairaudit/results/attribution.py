"""What an attribution found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from fairaudit.errors import DataError
from fairaudit.results.columns import CONTRAST_COLUMNS, CURVE_COLUMNS, REGION_COLUMNS, SANITY_COLUMNS
from fairaudit.results.files import load_whole, save_whole
from fairaudit.subgroups import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Mean attribution maps per subgroup, how much of the attribution falls where, and how far that may be trusted.

    shares: ATTRIBUTION_COLUMNS (region "centre" or "border"; share of absolute attribution in 0…1; `difference` is
    against everyone else). maps: {(task, by, subgroup): array (h, w), mean absolute attribution of the first method,
    each face scaled to sum 1}; the subgroup `overall` of the axis `overall` is the mean of all. regions:
    REGION_COLUMNS; contrasts: CONTRAST_COLUMNS; sanity: SANITY_COLUMNS; curves: CURVE_COLUMNS; each empty where nothing
    was asked for.
    pictures: {(method, what, task, by, subgroup): array (h, w)}, what: "signed", "absolute" (of the methods after the
    first), "difference" (from everyone else, matched, mean over baselines), "net" (the same minus that of the
    randomized model), "wrong" (wrong minus right predictions). meta keys: method, methods, steps, seed, baseline,
    baselines {name: sentence}, faces {task: n}, sampled (sentence: how many of how many faces), sampled_by (axis),
    target (sentence),
    completeness {task: median relative error, or None}, intervals (sentence), image_size, centre (sentence that defines
    the region), alignment, regions, contrasts (sentences; "" without), images [image that was attributed], unreadable
    [image], checkpoint (hash), warnings [sentence].
    """

    shares: pd.DataFrame
    maps: Mapping[tuple[str, str, str], np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    regions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REGION_COLUMNS)))
    contrasts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CONTRAST_COLUMNS)))
    sanity: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SANITY_COLUMNS)))
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CURVE_COLUMNS)))
    pictures: Mapping[tuple[str, ...], np.ndarray] = field(default_factory=dict)

    def rest_map(self, task: str, by: str, subgroup: str) -> np.ndarray | None:
        """Return the mean map of everyone else on the axis, None where there is no one; `unknown` is in no rest."""
        table = self.shares
        chosen = table[(table["task"] == task) & (table["by"] == by) & (table["region"] == "centre") & (table["n"] > 0)]
        others = chosen[~chosen["subgroup"].isin([subgroup, UNKNOWN])]
        maps = [self.maps[(task, by, other)] for other in others["subgroup"]]
        return np.average(np.stack(maps), axis=0, weights=others["n"].to_numpy()) if maps else None

    def save(self, folder: Path) -> None:
        """Write attribution.json, its five tables as CSV and maps.npz, whole or not at all."""
        keys, shown = sorted(self.maps), sorted(self.pictures)
        arrays = {f"map{i}": np.asarray(self.maps[key], dtype=np.float32) for i, key in enumerate(keys)}
        arrays |= {f"picture{i}": np.asarray(self.pictures[key], dtype=np.float32) for i, key in enumerate(shown)}
        meta = {**self.meta, "maps": [list(key) for key in keys], "pictures": [list(key) for key in shown]}
        tables = {
            "attribution": self.shares,
            "regions": self.regions,
            "contrasts": self.contrasts,
            "sanity": self.sanity,
            "curves": self.curves,
        }
        save_whole(folder, "attribution.json", tables, meta, arrays=arrays)

    @classmethod
    def load(cls, folder: Path) -> "Attribution":
        """Read what `save` wrote."""
        more = ("regions", "contrasts", "sanity", "curves")
        tables, meta = load_whole(folder, "attribution.json", "attribution", ("attribution",), more)
        try:
            with np.load(folder / "maps.npz", allow_pickle=False) as arrays:
                maps = {tuple(key): arrays[f"map{i}"] for i, key in enumerate(meta["maps"])}
                shown = {tuple(key): arrays[f"picture{i}"] for i, key in enumerate(meta.get("pictures", ()))}
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise DataError(f"{folder / 'maps.npz'} cannot be read ({error}); make the attribution again") from None
        found = {name: tables[name] for name in more if name in tables}
        return cls(shares=tables["attribution"], maps=maps, meta=meta, pictures=shown, **found)
