"""How choices look: one colour, dash and marker each, by their place in the verdict, in every figure alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from mlip_sweep.comparison.verdict import Choice

# Okabe & Ito's palette without its yellow, which is too light for lines. Neighbours have different dashes too, so that
# of two curves that coincide both are seen; since 7 and 3 have no common factor, 21 choices look each their own.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES: Final = (("-", "solid", ""), ((0, (5, 2)), "dash", "8 3"), ((0, (1.2, 1.4)), "dot", "2 2"))
MARKERS: Final = (("o", "circle"), ("s", "square"), ("^", "triangle-up"))
NAMED: Final = len(COLOURS) * len(DASHES)  # choices after these are drawn in grey, without a name
OTHERS: Final = "#B8B8B8"


@dataclass(frozen=True)
class Style:
    """The look of one choice.

    Attributes:
        colour: of lines and markers.
        dashes: in Matplotlib's words.
        dash: in Plotly's words.
        strokes: lengths of strokes and gaps, in SVG's words.
        marker: in Matplotlib's words.
        symbol: in Plotly's words.
        named: whether legends name the choice.
    """

    colour: str = OTHERS
    dashes: object = "-"
    dash: str = "solid"
    strokes: str = ""
    marker: str = "."
    symbol: str = "circle"
    named: bool = False


def styles_of(choices: Sequence[Choice]) -> Mapping[str, Style]:
    """The look of each choice, by its key.

    Args:
        choices: all choices of a verdict, in its order.
    """
    return {choice.key: _style(place) for place, choice in enumerate(choices)}


def line_width(style: Style, place: int) -> float:
    """Later lines lie on top and are thinner, so that of two that coincide both are seen.

    Args:
        style: of the choice.
        place: of the line among those that are drawn.
    """
    return max(1.2, 2.6 - 0.25 * place) if style.named else 0.8


def plain(axes: Axes) -> None:
    """Axes with a faint grid and no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def logarithmic(axes: Axes, *names: Literal["x", "y"], at: Sequence[int] = (1, 2, 5)) -> None:
    """Make axes logarithmic, with plain numbers.

    Args:
        axes: which hold them.
        names: which of the two.
        at: the multiples of powers of ten that have a number; 1 alone for many decades.
    """
    for name in names:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(subs=at))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())


def _style(place: int) -> Style:
    if place >= NAMED:
        return Style()
    dashes, dash, strokes = DASHES[place % len(DASHES)]
    marker, symbol = MARKERS[place % len(MARKERS)]
    return Style(COLOURS[place % len(COLOURS)], dashes, dash, strokes, marker, symbol, named=True)
