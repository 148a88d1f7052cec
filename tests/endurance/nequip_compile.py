"""A package that `mlip-export` writes, through nequip's own compiler: the compiled model gives the potential's numbers.

python tests/endurance/nequip_compile.py

It takes minutes, most of them a C++ compiler's.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase.build import molecule

sys.path.insert(0, str(Path(__file__).parents[1]))
from samples import ethanol_dataset, small_model

from mlip_sweep.models import nequip_file
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.calculator import PotentialCalculator


def main() -> None:
    model = small_model("nequip", ethanol_dataset(), **nequip_file.NequIP.smallest)
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        package, compiled = (str(Path(folder) / f"our.nequip.{kind}") for kind in ("zip", "pt2"))
        nequip_file.write(model, Path(package))
        with build_context(0, "float64"):  # as nequip has it
            from nequip.integrations.ase import NequIPCalculator
            from nequip.scripts.compile import main as nequip_compile

            quick = ["--inductor-configs", "aot_inductor.compile_wrapper_opt_level=O0"]
            nequip_compile([package, compiled, "--mode", "aotinductor", "--device", "cpu", "--target", "ase", *quick])
            theirs = NequIPCalculator.from_compiled_model(
                compiled, device="cpu", chemical_species_to_atom_type_map=True
            )
            forces, energy = theirs.get_forces(atoms), theirs.get_potential_energy(atoms)
    ours = PotentialCalculator(model)
    np.testing.assert_allclose(forces, ours.get_forces(atoms), atol=1e-6)
    np.testing.assert_allclose(energy, ours.get_potential_energy(atoms), atol=1e-6)
    print("the same energy and forces, to 1e-6")


if __name__ == "__main__":
    main()
