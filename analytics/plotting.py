"""A report's result as a picture, with matplotlib: the extra `plot`.

Figures are made without pyplot: no window, no state that others share.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from analytics.plot_series import Series, series_of
from analytics.report_header import Plot
from eventlog.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PictureFormat = Literal["png", "svg"]

_SIZE_INCHES = (10.0, 5.6)
_DOTS_PER_INCH = 150
_COLOURS = (
    "#3366aa", "#ee7733", "#44aa99", "#aa3377", "#ddcc77", "#66ccee", "#994433", "#777777",
    "#000000",
)  # fmt: skip
"""Told apart by the colour-blind as well (after Paul Tol's schemes)."""
_MEANINGS = {
    "active": "#3366aa",
    **dict.fromkeys(("ok", "completed", "resolved", "sent"), "#228833"),
    **dict.fromkeys(("errors", "error", "failed", "parked"), "#cc3311"),
    **dict.fromkeys(("pending", "queued", "discarded"), "#999999"),
    **dict.fromkeys(("dormant", "replaying", "retrying"), "#ccaa22"),
}
"""Series that say how something went look the same in every picture."""
_INK, _FAINT = "#222222", "#666666"
_MARKED_POINTS = 80
"""A line with more points is drawn without a mark at each."""
_LABEL_LENGTH = 40
_STYLE: Any = {
    "text.parse_math": False,  # a chat may be called `$x$`
    "svg.fonttype": "none",
    "svg.hashsalt": "eventlog",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "text.color": _INK,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "font.size": 10,
}


def draw(plot: Plot, title: str, subtitle: str, table: pa.Table) -> Figure:
    """Return the figure of a result.

    Raises ConfigurationError without matplotlib; QueryFailed where the result lacks a column of the
    plot, or has no numbers in it.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            f"a picture needs matplotlib ({error}).",
            remedy="Install it with `pip install 'eventlog[plot]'`.",
        ) from None
    data = series_of(plot, table)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        figure.suptitle(_legible(title), x=0.01, ha="left", fontsize=15, fontweight="bold")
        notes = [text for text in (subtitle, data.note) if text]
        axes.set_title(_legible("; ".join(notes), 140), loc="left", fontsize=9.5, color=_FAINT)
        if not data.x:
            _say_empty(axes)
        elif plot.kind in ("line", "points"):
            _over_time(axes, plot, data)
        elif plot.kind == "bars":
            _columns(axes, plot, data)
        else:
            _rows(axes, plot, data)
    return figure


def picture(figure: Figure, picture_format: PictureFormat) -> bytes:
    """Return the figure's file. The same figure gives the same bytes."""
    import matplotlib as mpl

    metadata = {"Date": None} if picture_format == "svg" else {"Software": None}
    file = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A chat's name may be in a script that the font lacks: it shows as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        figure.savefig(file, format=picture_format, dpi=_DOTS_PER_INCH, metadata=metadata)
    return file.getvalue()


def _say_empty(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no rows", ha="center", va="center", fontsize=14, color=_FAINT)


def _over_time(axes: Axes, plot: Plot, data: Series) -> None:
    for number, (name, values) in enumerate(data.y.items()):
        pairs = [(x, y) for x, y in zip(data.x, values, strict=True) if y is not None]
        if plot.is_log:
            pairs = [(x, y) for x, y in pairs if y > 0]
        if not pairs:
            continue
        is_marked = plot.kind == "points" or len(pairs) <= _MARKED_POINTS
        axes.plot(
            [x for x, _ in pairs],
            [y for _, y in pairs],
            linestyle="none" if plot.kind == "points" else "-",
            linewidth=1.6,
            marker="o" if is_marked else "",
            markersize=4,
            alpha=0.7 if plot.kind == "points" else 1.0,
            color=_colour(number, name),
            label=_label(name),
        )
    if isinstance(data.x[0], date):
        _date_axis(axes, data.x)
    else:
        axes.set_xlabel(_heading(plot.x))
    if plot.is_log:
        axes.set_yscale("log")
        _plain_numbers(axes)
    else:
        axes.set_ylim(bottom=0)
        _thousands(axes, "y")
    axes.set_ylabel(plot.unit)
    _legend(axes, data)


def _columns(axes: Axes, plot: Plot, data: Series) -> None:
    places, width = range(len(data.x)), 0.8
    if not plot.is_stacked:
        width /= len(data.y)
    base = [0.0] * len(data.x)
    for number, (name, values) in enumerate(data.y.items()):
        heights = [value or 0.0 for value in values]
        shift = 0.0 if plot.is_stacked else (number - (len(data.y) - 1) / 2) * width
        axes.bar(
            [place + shift for place in places],
            heights,
            width,
            bottom=base if plot.is_stacked else None,
            color=_colour(number, name),
            label=_label(name),
        )
        if plot.is_stacked:
            base = [low + height for low, height in zip(base, heights, strict=True)]
    slant = 45 if max(len(_label(x)) for x in data.x) * len(data.x) > 130 else 0
    axes.set_xticks(
        list(places), [_label(x) for x in data.x], rotation=slant, ha="right" if slant else "center"
    )
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{_heading(plot.x)} (UTC)" if plot.x == "hour" else _heading(plot.x))
    axes.set_ylabel(plot.unit)
    _thousands(axes, "y")
    _legend(axes, data)


def _rows(axes: Axes, plot: Plot, data: Series) -> None:
    base = [0.0] * len(data.x)
    height = 0.75 if plot.is_stacked else 0.75 / len(data.y)
    for number, (name, values) in enumerate(data.y.items()):
        widths = [value or 0.0 for value in values]
        shift = 0.0 if plot.is_stacked else number * height
        axes.barh(
            [place + shift for place in range(len(data.x))],
            widths,
            height,
            left=base if plot.is_stacked else None,
            color=_colour(number, name),
            label=_label(name),
        )
        base = [
            left + width if plot.is_stacked else max(left, width)
            for left, width in zip(base, widths, strict=True)
        ]
    whole = {i for i in range(len(data.x)) if any(v[i] is not None for v in data.y.values())}
    for place, end in enumerate(base):
        text = f"{end:,.10g}" if place in whole else "none"
        axes.annotate(
            text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=9,
            color=_FAINT,
        )  # fmt: skip
    axes.set_yticks(range(len(data.x)), [_label(x) for x in data.x])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    widest = 100.0 if plot.unit == "%" else max(base)
    axes.set_xlim(0, widest * 1.08 or 1)
    axes.set_xlabel(plot.unit)
    _thousands(axes, "x")
    _legend(axes, data)


def _date_axis(axes: Axes, times: Sequence[Any]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    has_time = any(isinstance(time, datetime) for time in times)
    axes.set_xlabel("time (UTC)" if has_time else "day (UTC)")


def _thousands(axes: Axes, which: Literal["x", "y"]) -> None:
    from matplotlib.ticker import FuncFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _plain_numbers(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, data: Series) -> None:
    if len(data.y) > 1:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, borderaxespad=0
        )


def _colour(number: int, name: str) -> str:
    return _MEANINGS.get(name, _COLOURS[number % len(_COLOURS)])


def _label(value: Any) -> str:
    text = _legible(str(value) if value is not None else "(none)", _LABEL_LENGTH)
    # A legend leaves out what begins with an underscore.
    return f" {text}" if text.startswith("_") else text or "(empty)"


def _heading(column: str) -> str:
    return _legible(column.replace("_", " "), _LABEL_LENGTH)


def _legible(text: str, length: int = 120) -> str:
    """Return the text as one bounded line of signs that can be shown."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
