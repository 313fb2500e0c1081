"""Charts in a page: a static drawing always, and the one script that makes all of them interactive.

The script is the browser half of vl-convert (Vega and its embedder), taken from the installed wheel: no CDN.
Bundling it costs 1.5 seconds, so it is kept in the user's cache folder; compressed, because every page
carries it.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opslib.run.pictures import shrink_picture

if TYPE_CHECKING:
    from opslib.run.drawer import Drawer

CHART_MIME = "application/vnd.opslib.chart+json"
VEGA_MIME = "application/vnd.vega.v5+json"
VEGALITE_MIME = "application/vnd.opslib.vegalite+json"

# The environment in which `present` leaves compiling and drawing to the report.
CHARTS_LATER = {"OPSLIB_CHARTS": "later"}

# Run as the body of a function, so that the bundle's one-letter names stay out of the page.
BUNDLE_SNIPPET = "globalThis.opslibEmbed = vegaEmbed;"


def load_bundle(folder: Path | None = None) -> str:
    """Give the script that draws charts in a browser, gzipped and in base64.

    Args:
        folder: where to keep it between runs; default the user's cache folder. It need not be writable.
    """
    import vl_convert

    file = (folder or cache_folder()) / f"vega-bundle-{version('vl-convert-python')}.b64"
    with contextlib.suppress(OSError, ValueError, EOFError, zlib.error):
        kept = file.read_text("ascii")
        # A file cut short by a full disk must not become a page without charts.
        if _is_whole(kept):
            return kept
    script = vl_convert.javascript_bundle(BUNDLE_SNIPPET)
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}")
        aside.write_text(packed, "ascii")
        aside.replace(file)
    return packed


def cache_folder() -> Path:
    """The folder for what can be made again: `OPSLIB_CACHE`, or the platform's usual place."""
    if named := os.environ.get("OPSLIB_CACHE"):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(os.devnull)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "opslib"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "opslib"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "opslib"


def warm_up() -> None:
    """Start vl-convert's JavaScript runtime before it is needed."""
    schema = "https://vega.github.io/schema/vega-lite/v6.json"
    draw_chart({"vegalite": {"$schema": schema, "data": {"values": [{}]}, "mark": "point"}})


def draw_svg(spec: Mapping[str, Any]) -> str:
    """Draw a compiled Vega chart as SVG, refusing to load anything that it refers to.

    Raises:
        ValueError: the specification does not draw.
    """
    import vl_convert

    return vl_convert.vega_to_svg(dict(spec), allowed_base_urls=[])


def draw_chart(request: Mapping[str, Any]) -> dict[str, Any]:
    """Compile a chart if it is not compiled yet, and draw it.

    Args:
        request: `{"vegalite": specification}` or `{"vega": compiled specification}`.

    Returns:
        `vega` (compiled), `svg`, and `png` in base64, as notebooks store it.

    Raises:
        ValueError: the specification does not compile or draw.
    """
    import vl_convert

    vega = request.get("vega") or vl_convert.vegalite_to_vega(dict(request["vegalite"]))
    svg = draw_svg(vega)
    return {"vega": vega, "svg": svg, "png": make_picture(svg)}


class Drawings:
    """Charts that are compiled and drawn by another process as soon as they are known, ready when the page is made.

    A notebook that runs for a report leaves its charts as Vega-Lite (`CHARTS_LATER`): one warm compiler for all
    notebooks saves each kernel from starting its own. Without a drawer everything is drawn here when it is asked for.

    >>> Drawings().draw({"$schema": "https://vega.github.io/schema/vega/v6.json", "width": 9, "height": 9})[:4]
    '<svg'
    """

    def __init__(self, drawer: Drawer | None = None) -> None:
        self._drawer = drawer
        self._begun: dict[str, Future[dict[str, Any]]] = {}
        self._svgs: dict[str, str] = {}

    def begin(self, data: Mapping[str, Any]) -> None:
        """Start on the chart in an output's data, if there is one, which `complete` or `draw` will ask for later."""
        if self._drawer is None:
            return
        if VEGALITE_MIME in data:
            self._begun[_key(data[VEGALITE_MIME])] = self._drawer.submit({"vegalite": data[VEGALITE_MIME]})
        elif VEGA_MIME in data:
            self._begun[_key(data[VEGA_MIME])] = self._drawer.submit({"vega": data[VEGA_MIME]})

    def complete(self, data: dict[str, Any]) -> None:
        """Put the compiled chart and its picture in the place of the Vega-Lite in an output's data."""
        spec = data.pop(VEGALITE_MIME, None)
        if spec is None:
            return
        begun = self._begun.get(_key(spec))
        try:
            drawn = begun.result() if begun else draw_chart({"vegalite": spec})
        except ValueError:
            # The page then shows its description and the table behind it.
            return
        data["image/png"], data[VEGA_MIME] = drawn["png"], drawn["vega"]
        self._svgs[_key(drawn["vega"])] = drawn["svg"]

    def draw(self, spec: Mapping[str, Any]) -> str:
        """Give a compiled chart's SVG, drawn ahead or now. Raises ValueError like `draw_svg`."""
        key = _key(spec)
        if key in self._svgs:
            return self._svgs[key]
        begun = self._begun.get(key)
        return begun.result()["svg"] if begun else draw_svg(spec)


def make_picture(svg: str) -> str:
    """Turn an SVG into a small PNG, in base64 as notebooks store it."""
    import vl_convert

    return shrink_picture(base64.b64encode(vl_convert.svg_to_png(svg, scale=1.0)).decode("ascii"))


def to_data_uri(svg: str) -> str:
    """Make an SVG an image's source: there it runs no script, loads nothing, and its ids clash with none."""
    # Percent-encoding only what an attribute cannot hold keeps it a quarter smaller than base64.
    return "data:image/svg+xml," + quote(re.sub(r"\s*\n\s*", " ", svg), safe=" =:/,;'()!*@&?$[]{}|+~")


def size_of(svg: str) -> tuple[int, int]:
    """Width and height of an SVG in pixels; 0, 0 when it does not say.

    >>> size_of('<svg width="640" height="320.5" viewBox="0 0 1 1">')
    (640, 320)
    """
    found = [re.search(rf'<svg[^>]*?\s{side}="([\d.]+)"', svg) for side in ("width", "height")]
    width, height = (int(float(m[1])) if m else 0 for m in found)
    return width, height


def _key(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, default=str)


def _is_whole(packed: str) -> bool:
    script = gzip.decompress(base64.b64decode(packed, validate=True))
    return b"opslibEmbed" in script[-200:]
