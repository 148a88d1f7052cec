"""Directions against the demands of the protocol: norms, orthogonality, seeds."""

import pytest
import torch
from samples import TINY, architectures, ethanol_dataset, main_architectures, small_model

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.directions import Directions


def model_of(architecture):
    return small_model(architecture, ethanol_dataset(), dtype="float32")


def flat(directions, n):
    """(n, P) in float64."""
    return torch.stack([torch.cat([part.flatten() for part in directions[k]]) for k in range(n)]).double()


@pytest.mark.parametrize("architecture", architectures())
def test_every_filter_takes_the_norm_of_its_filter(architecture):
    model = model_of(architecture)
    drawn = Directions(model, seed=0)
    for k in range(3):
        for parameter, direction in zip(model.parameters(), drawn[k], strict=True):
            if parameter.dim() == 1:  # the flat weights of e3nn
                torch.testing.assert_close(direction.abs(), parameter.detach().abs())
            else:
                torch.testing.assert_close(direction.flatten(1).norm(dim=1), parameter.detach().flatten(1).norm(dim=1))


def test_layers_and_models_take_the_norm_as_a_whole():
    model = torch.nn.Linear(4, 3)
    layers, whole = (Directions(model, seed=0, normalization=kind)[0] for kind in ("layer", "model"))
    for parameter, direction in zip(model.parameters(), layers, strict=True):
        assert direction.norm() == pytest.approx(parameter.norm().item(), rel=1e-6)
        assert (direction.flatten() / parameter.flatten()).abs().std() > 0.1
    total = torch.cat([p.detach().flatten() for p in model.parameters()]).norm()
    assert torch.cat([d.flatten() for d in whole]).norm() == pytest.approx(total.item(), rel=1e-6)
    assert whole[1].norm() != pytest.approx(model.bias.norm().item(), rel=1e-2)


@pytest.mark.parametrize("architecture", architectures())
def test_directions_are_nearly_orthogonal_and_say_how_nearly(architecture):
    drawn = Directions(model_of(architecture), seed=0)
    values = flat(drawn, 6)
    cosines = values @ values.T / torch.outer(values.norm(dim=1), values.norm(dim=1))
    largest = float((cosines - torch.eye(6)).abs().max())
    assert drawn.max_cosine == pytest.approx(largest, abs=1e-5)
    assert largest < 0.05


def test_directions_are_orthogonal_where_filters_leave_room():
    model = torch.nn.Sequential(torch.nn.Linear(40, 30, bias=False), torch.nn.Linear(30, 20, bias=False))
    drawn = Directions(model, seed=0)
    values = flat(drawn, 10)
    assert (values @ values.T / values.square().sum(dim=1)).fill_diagonal_(0.0).abs().max() < 1e-3
    assert 0 < drawn.max_cosine < 1e-3


def test_a_direction_is_the_same_however_many_follow():
    model = torch.nn.Linear(40, 30)
    one_by_one, at_once = Directions(model, seed=0), Directions(model, seed=0)
    before = [part.clone() for part in one_by_one[0]]
    one_by_one[2]
    at_once[4]
    assert all(torch.equal(a, b) for a, b in zip(before, one_by_one[0], strict=True))
    assert torch.equal(flat(one_by_one, 3), flat(at_once, 3))


def test_directions_depend_on_seed_and_name_alone():
    model = torch.nn.Linear(4, 3)
    torch.manual_seed(1)
    first = Directions(model, seed=5)[0]
    torch.manual_seed(2)
    again, other = Directions(model, seed=5)[0], Directions(model, seed=6)[0]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("normalization", ["filter", "model"])
def test_frozen_parameters_stay(normalization):
    model = torch.nn.Linear(4, 3)
    weight, bias = Directions(model, seed=0, frozen=["bias"], normalization=normalization)[1]
    assert weight.norm() == pytest.approx(model.weight.norm().item(), rel=1e-6)
    assert bias.abs().max() == 0


@pytest.mark.parametrize("architecture", main_architectures())
def test_what_is_trained_in_some_models_may_be_frozen_in_all(architecture):
    dataset = ethanol_dataset()
    trained, fixed = (
        small_model(architecture, dataset, **TINY[architecture] | {"bessel_trainable": trainable})
        for trainable in (True, False)
    )
    names = [name for name, _ in trained.named_parameters()]
    (place,) = (k for k, name in enumerate(names) if "bessel" in name)
    assert Directions(trained, seed=0)[0][place].abs().max() > 0
    direction = Directions(trained, seed=0, frozen=["bessel"])[0]
    assert direction.pop(place).abs().max() == 0
    others = Directions(fixed, seed=0, frozen=["bessel"])[0]
    assert [name for name in names if "bessel" not in name] == [name for name, _ in fixed.named_parameters()]
    assert [len(d) for d in direction] == [len(d) for d in others]


@pytest.mark.parametrize(("pattern", "message"), [("absent", "matches no"), ("(", "regular"), (".", "every parameter")])
def test_a_useless_pattern_is_refused(pattern, message):
    with pytest.raises(InputError, match=message):
        Directions(torch.nn.Linear(4, 3), seed=0, frozen=[pattern])
