"""The commands `mlip-sweep`, `mlip-compare`, `mlip-measure` and `mlip-export`.

Each says what begins before it imports torch, MLflow and Lightning, which takes many seconds.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from mlip_sweep.bars import TerminalHandler, no_bars
from mlip_sweep.config import DEFAULT_URI, config_folder, parse
from mlip_sweep.data.sources import check_sources
from mlip_sweep.errors import InputError, conceal_passwords, without_passwords
from mlip_sweep.models.library_files import LIBRARIES, check_library

log = logging.getLogger(__name__)


def sweep() -> int:
    """One run, or the jobs of a multirun, as `sys.argv` asks for them.

    Raises:
        KeyboardInterrupt: Ctrl-C; the message says what to type to go on.
    """
    try:
        job()
    except KeyboardInterrupt as interrupt:
        from mlip_sweep.multirun.parent import close_interrupted

        raise KeyboardInterrupt(str(interrupt) or close_interrupted()) from None
    return 0


@hydra.main(config_path=str(config_folder("conf")), config_name="run", version_base="1.3")
def job(cfg: DictConfig) -> float | list[float]:
    """One run, or one job of a multirun."""
    try:
        parse(cfg)  # refuses what it can before torch, MLflow and the rest are imported
        check_sources(cfg.dataset)  # so does this
        from mlip_sweep.multirun import opening, trials
        from mlip_sweep.multirun.folder import parent_of
        from mlip_sweep.multirun.names import choices, run_name
        from mlip_sweep.multirun.progress import shares_terminal

        hydra_cfg = HydraConfig.get()
        folder, name = Path(hydra_cfg.runtime.output_dir), run_name(hydra_cfg)
        log.info("%s: %s", name, opening.of_run(cfg, folder))
        from mlip_sweep.run.run import run
        from optuna_async.reporting import search_of

        with no_bars() if shares_terminal(hydra_cfg) else nullcontext():
            return run(
                cfg,
                folder,
                name=name,
                choices=choices(hydra_cfg),
                parent_run_id=parent_of(hydra_cfg),
                tags=trials.tags(hydra_cfg),
                take_over=bool(trials.tags(hydra_cfg)),
                trial=search_of(hydra_cfg) if cfg.pruning else None,
            )
    except KeyboardInterrupt:
        if HydraConfig.get().mode == RunMode.RUN:
            output = HydraConfig.get().runtime.output_dir
            raise KeyboardInterrupt(f"the same command with hydra.run.dir={output} goes on") from None
        raise
    except InputError as error:
        line = f"mlip-sweep: {error}"
        if HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(line) from None
        raise CompactHydraException(line) from None  # costs this job only; Hydra shows the line without a traceback
    except Exception as error:
        conceal_passwords(error)
        raise


def compare(argv: Sequence[str] | None = None) -> int:
    """Read the runs of a sweep back, and put them side by side."""
    parser = argparse.ArgumentParser(
        prog="mlip-compare",
        description="Put recorded runs side by side: which potential to trust, a table of the choices, and figures of "
        "landscapes, times to failure and what predicts them.",
        epilog="Examples:  mlip-compare                        the last sweep in ./mlflow.db\n"
        "           mlip-compare --all                  every run of the experiment\n"
        "           mlip-compare 3f2a91 77b0c4          two sweeps, or runs, by the beginnings of their ids\n"
        "           mlip-compare --where model=mace --where 'optimizer.lr<=0.01' --sort rmse_forces_high_T_meV_A\n"
        "           mlip-compare --report               all of it on one page, with figures to hover over\n"
        "           mlip-compare --published            beside the published numbers of the same models",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "ids",
        nargs="*",
        metavar="ID",
        help="MLflow's id of a sweep's run or of a single run, or six characters or more that it begins with; the "
        "last sweep where none is given",
    )
    parser.add_argument("--all", action="store_true", help="every run of the experiment, whatever its sweep")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only runs for which it holds: NAME=VALUE, NAME!=VALUE, or NAME with <, <=, > or >= and a number; NAME is "
        "a parameter as it is typed (model, optimizer.lr, seed) or a metric (loss_entropy); may be given several times",
    )
    parser.add_argument(
        "--sort", default="", metavar="METRIC", help="sort the choices by a metric, the better first; ranks stay"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write report.html too; that of one whole sweep is also kept with the sweep's run in MLflow",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="put the published numbers of doi:10.1088/2632-2153/acf115 beside the runs of its models (published=NAME)",
    )
    parser.add_argument("--uri", default=DEFAULT_URI, help="tracking store (default: %(default)s)")
    parser.add_argument(
        "--experiment", default="mlip-sweep", help="name of the experiment, where no ID is given (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("comparison"), help="folder for tables and figures (default: %(default)s)"
    )
    chosen = parser.parse_args(argv)
    if chosen.all and chosen.ids:
        parser.error("--all compares every run of the experiment: leave it out, or the ids")

    def command() -> None:
        which = f"all runs of {chosen.experiment}" if chosen.all else " ".join(chosen.ids) or "the last sweep"
        print(f"mlip-compare: {which}, in {without_passwords(chosen.uri)}", file=sys.stderr, flush=True)
        from mlip_sweep.comparison.compare import compare as compare_runs
        from mlip_sweep.comparison.runs import last_parent
        from mlip_sweep.tracking.outbox import send_kept
        from mlip_sweep.tracking.store import existing

        uri = existing(chosen.uri)
        send_kept(uri, Path.cwd())
        parent = None if chosen.all or chosen.ids else last_parent(uri, chosen.experiment)
        found = compare_runs(
            uri,
            experiment=chosen.experiment,
            parent=parent,
            output=chosen.output,
            ids=chosen.ids,
            where=chosen.where,
            sort=chosen.sort,
            report=chosen.report,
            published=chosen.published,
        )
        found.show()

    return _reporting_mistakes(parser.prog, command)


def measure(argv: Sequence[str] | None = None) -> int:
    """Measure a finished run again, with other settings; or a potential that another program has trained."""
    parser = argparse.ArgumentParser(
        prog="mlip-measure",
        usage="mlip-measure RUN [overrides ...] [options]\n"
        "       mlip-measure --model FILE --unpickle mace|nequip --train FILE [--test LABEL=FILE ...] [overrides ...]",
        description="Measure a finished run again, with other settings: the new numbers become a run of their own, "
        "filed under the measured one. Or measure a potential that MACE's or NequIP's own programs have trained: it "
        "becomes a run beside those of the experiment, for mlip-compare.",
        epilog="Examples:  mlip-measure RUN_ID measurement=paper\n"
        "           mlip-measure models:/ID measurement.landscape.directions=20 measurement.landscape.split=1200K\n"
        "           mlip-measure outputs/DATE/model '~measurement.stability'\n"
        "           mlip-measure models:/NAME@committee                       the seeds of the best choice together\n"
        "           mlip-measure --model my.model --unpickle mace --train train.xyz --test 600K=b.xyz \\\n"
        "                        dataset.temperature=300 measurement=paper\n"
        "           mlip-measure --model best.ckpt --unpickle nequip dataset=3bpa",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="RUN, overrides",
        help="MLflow's id of a run or six characters or more that it begins with, a models:/ or runs:/ URI, or the "
        "folder of a model or committee, not with --model; then Hydra overrides of the group `measurement`, and with "
        "--model of `dataset` and `seeds` too",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a potential that exists already: a .model of MACE, or a .nequip.zip or .ckpt of NequIP",
    )
    parser.add_argument(
        "--unpickle",
        choices=LIBRARIES,
        help="which library wrote FILE. It is a pickle, and opening a pickle runs whatever code it holds: say this of "
        "files that you trust only",
    )
    parser.add_argument("--train", metavar="FILE", help="with --model: the frames that it was trained on")
    parser.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="LABEL=FILE",
        help="with --model: a test set, such as 600K=b.xyz, which needs dataset.temperature; may be repeated",
    )
    parser.add_argument("--uri", default=DEFAULT_URI, help="tracking store (default: %(default)s)")
    parser.add_argument(
        "--experiment", default="mlip-sweep", help="with --model: where the run is filed (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="where to measure: cpu or cuda (default: %(default)s)")
    parser.add_argument("--other-data", action="store_true", help="measure although the data has changed since then")
    parser.add_argument("--compile", action="store_true", help="by torch.compile first: pays for long dynamics")
    chosen = parser.parse_intermixed_args(argv)
    if chosen.model is None and not chosen.arguments:
        parser.error("give a run, or --model FILE")
    if chosen.model is None and (chosen.train or chosen.test or chosen.unpickle):
        parser.error("--train, --test and --unpickle go with --model FILE; a run knows its own data")
    run, overrides = ("", chosen.arguments) if chosen.model else (chosen.arguments[0], chosen.arguments[1:])

    def command() -> None:
        how = " ".join(overrides) or ("as measurement=quick" if chosen.model else "with the same settings")
        print(
            f"mlip-measure: {chosen.model or f'{run} again'}, {how}, in {without_passwords(chosen.uri)}",
            file=sys.stderr,
            flush=True,
        )
        if chosen.model:
            check_library(chosen.model, chosen.unpickle)
        logging.basicConfig(
            level=logging.INFO, format="%(levelname)s %(message)s", handlers=[TerminalHandler(sys.stderr)]
        )
        if chosen.model is None:
            from mlip_sweep.run.remeasure import remeasure

            remeasure(
                run,
                overrides,
                uri=chosen.uri,
                device=chosen.device,
                compiled=chosen.compile,
                other_data=chosen.other_data,
            )
            return
        from mlip_sweep.run.measure_file import file_overrides, measure_file

        measure_file(
            chosen.model,
            chosen.unpickle,
            [*file_overrides(chosen.train, chosen.test), *overrides],
            uri=chosen.uri,
            experiment=chosen.experiment,
            device=chosen.device,
            compiled=chosen.compile,
        )

    return _reporting_mistakes(parser.prog, command)


def export(argv: Sequence[str] | None = None) -> int:
    """Write the potential of a run for the programs of its library."""
    parser = argparse.ArgumentParser(
        prog="mlip-export",
        description="Write the potential of a run as a file that the programs of its library take: a .model of MACE, "
        "or a package of NequIP. Scale and shifts are in the file; energies are in eV, lengths in Å.",
        epilog="Examples:  mlip-export RUN_ID --to mace                   RUN_ID.model, for MACECalculator and LAMMPS\n"
        "           mlip-export models:/NAME@best --to nequip --output best.nequip.zip\n"
        "           mlip-export outputs/DATE/model --to mace --dtype float32 --output small.model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run",
        help="MLflow's id of a run or six characters or more that it begins with, a models:/ or runs:/ URI, or the "
        "folder of a model",
    )
    parser.add_argument("--to", choices=LIBRARIES, required=True, help="whose programs take the file")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: named after the run, .model or .nequip.zip"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the network in the file (default: %(default)s: MACE adds energies of isolated atoms in it)",
    )
    parser.add_argument("--uri", default=DEFAULT_URI, help="tracking store (default: %(default)s)")
    chosen = parser.parse_args(argv)

    def command() -> None:
        print(f"mlip-export: {chosen.run} to {chosen.to}", file=sys.stderr, flush=True)
        from mlip_sweep.run.export import export as export_run

        print(export_run(chosen.run, chosen.to, chosen.output, uri=chosen.uri, dtype=chosen.dtype))

    return _reporting_mistakes(parser.prog, command)


def _reporting_mistakes(name: str, command: Callable[[], None]) -> int:
    """Run the command of a name; a user's mistake becomes one line and exit status 2."""
    try:
        command()
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        conceal_passwords(error)
        raise
    return 0
