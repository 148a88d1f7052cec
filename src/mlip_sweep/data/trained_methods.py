"""Reference methods that are themselves trained potentials, whose weights come inside their packages.

Their labels are smooth and cheap, and no more exact than they are. They have never seen an isolated atom.
SevenNet-0: Park et al., J. Chem. Theory Comput. 20 (2024) 4857, doi:10.1021/acs.jctc.4c00190 (PBE; MIT).
CHGNet 0.3.0: Deng et al., Nat. Mach. Intell. 5 (2023) 1031, doi:10.1038/s42256-023-00716-3 (PBE and PBE + U; BSD).
"""

import io
import warnings
from contextlib import redirect_stdout
from functools import cache

from ase.calculators.calculator import Calculator

from mlip_sweep.errors import InputError

PACKAGES = {"SevenNet-0": ("sevenn", "sevennet"), "CHGNet": ("chgnet", "chgnet")}  # and their extras


@cache
def trained_calculator(method: str) -> Calculator:
    """The calculator of a trained potential; one for all atoms, since it takes seconds to read.

    Args:
        method: One of `PACKAGES`.

    Raises:
        InputError: Its package is not installed.
    """
    package, extra = PACKAGES[method]
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):  # news of GPUs and TorchScript
            return _sevennet() if method == "SevenNet-0" else _chgnet()
    except ImportError as error:
        raise InputError(f"{method} needs {package}: pip install 'mlip-sweep[{extra}]'") from error


def _sevennet() -> Calculator:
    from sevenn.calculator import SevenNetCalculator  # an extra that few need, and slow to import

    calculator: Calculator = SevenNetCalculator("7net-0", device="cpu")
    return calculator


def _chgnet() -> Calculator:
    from chgnet.model import CHGNet  # likewise
    from chgnet.model.dynamics import CHGNetCalculator

    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    calculator: Calculator = CHGNetCalculator(model, use_device="cpu", on_isolated_atoms="ignore")
    return calculator
