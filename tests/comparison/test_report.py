"""The report: one page that holds the answer, the tables and the figures, and needs nothing from elsewhere."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from recorded_runs import record_run

from mlip_sweep import cli
from mlip_sweep.comparison import report
from mlip_sweep.comparison.compare import REPORT, compare
from mlip_sweep.comparison.findings import findings
from mlip_sweep.comparison.interactive import POINTS, thinned
from mlip_sweep.comparison.report import _command, _runs_rows
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.time_to_failure import SURVIVAL_FRACTION
from mlip_sweep.tracking import store
from mlip_sweep.tracking.read import stored_bytes
from mlip_sweep.tracking.run import RunRecord, record
from mlip_sweep.tracking.sweep import CONFIG_NAME, OVERRIDES
from mlip_sweep.training.metrics import VALIDATION_FORCES, VALIDATION_LOSS

# model: error at the minimum (eV/Å), width of the valley, scale of the times to failure (ps)
MODELS = {"stable": (0.02, 3.0, 20.0), "accurate": (0.01, 2.0, 6.0), "<b>poor</b>": (0.08, 1.0, 0.5)}
SEEDS = (0, 1)
EPOCHS = 1000
FIGURES = {
    "survival",
    "time_to_failure_loss_entropy",
    "time_to_failure_rmse_forces_high_T_meV_A",
    "landscape_energy",
    "landscape_forces",
    "errors_forces",
    "learning_validation_rmse_forces_meV_A",
    "learning_validation_loss",
}
VOID = {"meta", "br", "link", "img", "input", "hr", "line", "rect", "path", "circle"}


class Page(HTMLParser):
    """What a browser would see: texts by tag, rows of tables by class, links, and figures by name."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.links, self.figures, self.texts = [], {}, [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]
        if tag not in VOID:
            self.open.append((tag, attrs))
        if tag == "table":
            self.tables.setdefault(attrs.get("class", ""), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag  # each is closed where it was opened

    def handle_data(self, data):
        tag, attrs = self.open[-1] if self.open else ("", {})
        if tag == "script" and attrs.get("type") == "application/json":
            name = next(attrs["data-name"] for tag, attrs in reversed(self.open) if tag == "figure")
            self.figures.setdefault(name, []).append(json.loads(data))
        elif tag not in ("script", "style"):
            self.texts.append(" ".join(data.split()))
            if any(tag in ("td", "th") for tag, _ in self.open):
                self._table[-1][-1] += data

    @property
    def _table(self):
        return self.tables[next(attrs.get("class", "") for tag, attrs in reversed(self.open) if tag == "table")]


def decoded(values):
    """Numbers of a trace: a list, or Plotly's base64 of an array."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    return np.array(values, float)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('reported')}/mlflow.db")


def train(uri, run_id, experiment_id):
    """Learning curves as a training records them, every third optimiser step an epoch."""
    rec = RunRecord(uri, experiment_id, run_id)
    for name, scale in ((VALIDATION_FORCES, 100.0), (VALIDATION_LOSS, 1.0)):
        for epoch in (0, 1, EPOCHS - 1):
            rec.metrics({name: scale / (1 + epoch)}, step=3 * epoch + 2)


@pytest.fixture(scope="module")
def parent(uri):
    tags = {"kind": "sweep", CONFIG_NAME: "quickstart", OVERRIDES: "model=a,b dataset.tests={300K: a.xyz} ~averaging"}
    with record(uri=uri, experiment="sweep", name="search", tags=tags) as sweep:
        for seed in SEEDS:
            for name, (error, width, scale) in MODELS.items():
                times = scale * (1 + 0.1 * seed) * np.linspace(0.05, 1.5, 12)
                params = {"model": name, "seed": seed, "seeds.model": seed, "measurement.landscape.split": "train"}
                run = record_run(uri, "sweep", f"{name} · s{seed}", error, width, times, sweep.run_id, params, seed)
                train(uri, run, sweep.experiment_id)
        lost = record(
            uri=uri,
            experiment="sweep",
            name="lost",
            parent_run_id=sweep.run_id,
            params={"model": "stable", "seed": 2, "measurement.landscape.split": "train"},
        )
        with pytest.raises(RuntimeError), lost:
            raise RuntimeError("loss is not <finite>")
    return sweep.run_id


@pytest.fixture(scope="module")
def found(uri, parent, tmp_path_factory):
    return compare(uri, "sweep", parent, tmp_path_factory.mktemp("report"), report=True)


@pytest.fixture(scope="module")
def text(found):
    assert found.files[-1].name == REPORT
    return found.files[-1].read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_answer_and_all_findings_stand_on_the_page(page, found):
    (verdict,) = found.verdicts
    for line in findings(verdict):
        assert line in page.texts
    assert page.texts.index(findings(verdict)[0]) < page.texts.index("Choices")


def test_the_tables_have_a_row_for_each_choice_and_each_run(page, found):
    (verdict,) = found.verdicts
    heading, *rows = page.tables["choices sortable"]
    assert [row[0] for row in rows] == ["1=", "1=", "3"]
    assert [row[1].strip() for row in rows] == [choice.label for choice in verdict.choices]
    assert "F high-T\nmeV/Å" in heading and "to failure\nps [95 %]" in heading
    heading, *rows = page.tables["runs sortable"]
    assert {row[3] for row in rows} == set(found.runs["run_id"])
    assert "model" in heading and "measurement.landscape.split" not in heading
    (lost,) = [row for row in rows if row[4].startswith("FAILED")]
    assert "loss is not <finite>" in lost[4]


def test_all_figures_are_there_with_every_choice(page, found):
    (verdict,) = found.verdicts
    assert set(page.figures) == FIGURES
    keys = {choice.key for choice in verdict.choices}
    for name, (figure,) in page.figures.items():
        assert {trace["legendgroup"] for trace in figure["data"]} == keys, name
    for trace in page.figures["learning_validation_loss"][0]["data"]:  # by epochs, not by steps
        assert decoded(trace["x"]).tolist() == [1, 2, 3]
        np.testing.assert_allclose(decoded(trace["y"]), [1.0, 0.5, 1 / EPOCHS])


def test_survival_on_the_page_is_what_was_measured(page, found):
    (verdict,) = found.verdicts
    for choice in verdict.choices:
        curve, _ = [one for one in page.figures["survival"][0]["data"] if one["legendgroup"] == choice.key]
        assert decoded(curve["y"])[-1] == pytest.approx(choice.runs[SURVIVAL_FRACTION].mean())


def test_the_page_needs_nothing_from_elsewhere_and_is_small(page, text):
    assert [link for link in page.links if not link.startswith("#")] == []  # the store has no address to link to
    assert "plotly.js v" in text[-6_000_000:]
    assert len(text.encode()) < 6e6


def test_words_of_a_run_are_not_taken_for_markup(text, page):
    assert "<b>poor</b>" not in text
    assert any("<b>poor</b>" in one for one in page.texts)


def test_runs_are_linked_to_their_pages_on_a_server(found):
    served = replace(found, uri="http://mlflow.example:5000")
    stored = {run.run_id: run for run in found.stored}
    rows = _runs_rows(found.verdicts[0], served, stored)["rows"]
    assert len(rows) == len(found.stored)
    for row in rows:
        experiment = stored[row["id"]].experiment_id
        assert row["page"].startswith(f"http://mlflow.example:5000/#/experiments/{experiment}/runs/{row['id']}?")


def test_the_password_of_a_server_is_not_on_the_page(found, monkeypatch):
    monkeypatch.setattr(report, "_histories", lambda found: {})  # there is no such server to ask
    monkeypatch.setattr(report, "_commands", lambda found: [])
    page = report.report_page(replace(found, uri="https://ada:s3cret@host:5000"))
    assert "s3cret" not in page and "ada:***@host:5000" in page


def test_the_page_says_how_to_repeat_and_how_to_use(page, found, parent):
    words = "\n".join(page.texts)
    assert f'load_calculator("runs:/{found.verdicts[0].run_id}", tracking_uri="{found.uri}")' in words
    typed = "mlip-sweep --multirun --config-name=quickstart model=a,b 'dataset.tests={300K: a.xyz}' '~averaging'"
    assert typed in words


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("none", ""),
        ("seed=0,1 +x.y=[1, 2]", " seed=0,1 '+x.y=[1, 2]'"),
        ("a='b c' ~loss hydra/launcher=joblib", """ 'a='"'"'b c'"'"'' '~loss' hydra/launcher=joblib"""),
    ],
)
def test_the_command_is_fit_for_a_shell(typed, expected):
    sweep = SimpleNamespace(tags={CONFIG_NAME: "run", OVERRIDES: typed})
    assert _command(sweep) == "mlip-sweep --multirun" + expected


def test_the_report_of_a_sweep_is_kept_with_its_run(uri, parent, text, found):
    assert stored_bytes(uri, parent, REPORT).decode() == text


def test_groups_stand_one_after_the_other(uri, tmp_path):
    for split in ("train", "validation"):
        for name, (error, width, scale) in list(MODELS.items())[:2]:
            params = {"model": name, "seed": 0, "measurement.landscape.split": split}
            record_run(
                uri, "groups", f"{name} · {split}", error, width, scale * np.linspace(0.05, 1.5, 12), None, params
            )
    found = compare(uri, "groups", output=tmp_path, report=True)
    page = Page((tmp_path / REPORT).read_text())
    assert len(found.verdicts) == 2
    places = [page.texts.index(findings(verdict)[0], 20) for verdict in found.verdicts]
    assert places == sorted(places)
    for verdict in found.verdicts:
        assert verdict.title in page.texts
    assert all(len(figures) == 2 for figures in page.figures.values())  # each group has its own


def test_runs_with_little_to_compare_have_a_page_all_the_same(uri, tmp_path):
    for seed in range(2):
        with record(uri=uri, experiment="bare", name=f"s{seed}", params={"seed": seed}) as rec:
            rec.metrics({VALIDATION_FORCES: 12.5})
    compare(uri, "bare", output=tmp_path, report=True)
    page = Page((tmp_path / REPORT).read_text())
    assert page.figures == {}
    assert len(page.tables["runs sortable"]) == 3


def test_claims_predictors_and_published_numbers_have_their_tables(uri, tmp_path):
    for name, rescaling, scale in (("nequip_baseline", "none", 0.5), ("nequip_rescaling", "forces_rms", 2.0)):
        for seed in range(3):
            params = {"model": "nequip", "published": name, "rescaling": rescaling, "seed": seed, "seeds.model": seed}
            times = scale * (1 + 0.1 * seed) * np.linspace(0.5, 1.5, 12)
            error = 0.04 / scale * (1 + 0.01 * seed)
            record_run(uri, "claims", f"{name} · s{seed}", error, scale, times, params=params, seed=seed)
    for k in range(4):
        params = {"model": "nequip", "optimizer.lr": 0.1 * k, "rescaling": "forces_rms", "seed": 0, "seeds.model": 0}
        times = (1 + 0.1 * k) * np.linspace(0.5, 1.5, 12)
        record_run(uri, "claims", f"lr {k}", 0.02 + 0.01 * k, 1.0 + k, times, params=params)
    found = compare(uri, "claims", output=tmp_path, report=True, published=True)
    page = Page((tmp_path / REPORT).read_text())
    assert [row[:3] for row in page.tables["claims"][1:]] == [
        ["rescaling helps", words, "supported"] for words in ("time to failure", "forces error, high T", "S")
    ]
    predictors = page.tables["predictors sortable"]
    assert {row[0] for row in predictors} >= {"loss entropy S", "high-T forces RMSE"}
    assert [row[0] for row in page.tables["published sortable"][1:]] == ["nequip_baseline", "nequip_rescaling"]
    names = {file.name for file in found.files}
    assert {"claims.csv", "predictors.csv", "predictors.png", "published.csv", "published_times.png"} <= names
    assert any("claim: rescaling helps – supported by" in line for line in found.findings)
    with pytest.raises(InputError, match="--published: none of these runs"):
        compare(uri, "bare", output=tmp_path, published=True)


def test_a_thinned_curve_keeps_its_ends_and_its_lowest_point():
    values = 2.0 + np.sin(np.arange(5000.0))
    values[1234] = 0.5
    kept = thinned(values, POINTS)
    assert len(kept) <= POINTS
    assert {0, 1234, 4999} <= set(kept.tolist())
    assert thinned(values[:10], POINTS).tolist() == list(range(10))


def test_the_command_writes_the_page_and_says_where(uri, parent, tmp_path, capsys):
    assert cli.compare(["--uri", uri, "--experiment", "sweep", "--output", str(tmp_path), "--report", parent[:8]]) == 0
    assert f"report: {tmp_path / REPORT}\n" in capsys.readouterr().out
    assert (tmp_path / REPORT).stat().st_size > 1e6
