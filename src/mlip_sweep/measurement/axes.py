"""How axes of figures are labelled."""

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator


def plain_ticks(axis: Axis) -> None:
    """Numbers such as 0.1 and 20 at the ticks of a logarithmic axis: easier to read than powers of ten.

    For an axis on which everything has been drawn.
    """
    low, high = axis.get_data_interval()
    many = 0.0 < low < high / 200.0  # decades
    axis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
