"""Filters of equivariant layers against e3nn's own views of their weights."""

import pytest
import torch
from samples import architectures, ethanol_dataset, small_model

from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.models.filters import filters


def labels_of(model, normalization):
    """Name of a parameter -> numbers of its filters, in its shape."""
    parameters = dict(model.named_parameters())
    parts = filters(model, normalization).split([p.numel() for p in parameters.values()])
    return {name: part.view(p.shape) for (name, p), part in zip(parameters.items(), parts, strict=True)}


def direction_of(model, normalization="irreps"):
    return dict(
        zip(dict(model.named_parameters()), Directions(model, seed=3, normalization=normalization)[0], strict=True)
    )


def same_norms(direction, parameter, axes):
    """Norms over `axes` are those of the parameter, and the elements are not all fixed."""
    norms = [x.detach().double().square().sum(dim=axes).sqrt() for x in (direction, parameter)]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-5, atol=1e-6)


# The architectures whose layers these tests know by name.
KNOWN = [parameter for parameter in architectures() if parameter.values[0] in ("nequip", "mace")]


@pytest.mark.parametrize("architecture", KNOWN)
def test_every_output_channel_of_every_path_has_its_norm(architecture):
    model = small_model(architecture, ethanol_dataset())
    direction, seen = direction_of(model), 0
    for name, module in model.named_modules():
        if hasattr(module, "weight_views") and f"{name}.weight" in direction:
            flat = direction[f"{name}.weight"]
            for mine, theirs in zip(module.weight_views(flat), module.weight_views(), strict=True):
                same_norms(mine, theirs, tuple(range(mine.dim() - 1)))
                seen += mine.shape[-1]
    labels = labels_of(model, "irreps")
    flats = [name for name, p in model.named_parameters() if p.dim() == 1 and name.endswith(".weight")]
    assert seen == sum(len(labels[name].unique()) for name in flats) > 20


def test_paths_of_one_output_are_filters_of_their_own():
    o3 = pytest.importorskip("e3nn.o3")
    linear = o3.Linear("2x0e+3x0e+2x1o", "4x0e+5x1o")  # three paths: 2->4, 3->4, 2->5
    labels = labels_of(linear, "irreps")["weight"]
    assert len(labels) == 8 + 12 + 10
    assert labels[:8].view(2, 4).tolist() == [[0, 1, 2, 3]] * 2
    assert labels[8:20].view(3, 4).tolist() == [[4, 5, 6, 7]] * 3
    assert labels[20:].view(2, 5).tolist() == [[8, 9, 10, 11, 12]] * 2
    product = o3.FullyConnectedTensorProduct("2x0e", "3x0e", "4x0e")
    assert labels_of(product, "irreps")["weight"].view(2, 3, 4).unique(dim=0).unique(dim=1).tolist() == [[[0, 1, 2, 3]]]


@pytest.mark.parametrize("way", ["uvw", "uvu", "uvv", "uuw", "uuu", "uvuv"])
def test_an_output_depends_on_its_filter_alone(way):
    """The weights of one filter move the output channels of no other: seen from the layer's own output."""
    o3 = pytest.importorskip("e3nn.o3")
    first, second = ("2x0e", "2x0e") if way in ("uuw", "uuu") else ("2x0e", "3x0e")
    out = {"uvw": 4, "uvu": 2, "uvv": 3, "uuw": 4, "uuu": 2, "uvuv": 6}[way]
    torch.manual_seed(0)
    product = o3.TensorProduct(first, second, f"{out}x0e", [(0, 0, 0, way, True)], internal_weights=True)
    labels = labels_of(product, "irreps")["weight"]
    inputs = torch.randn(5, 2), torch.randn(5, int(second[0]))
    moved = []
    for one in labels.unique():
        weight = torch.where(labels == one, product.weight + 1.0, product.weight)
        change = (product(*inputs, weight) - product(*inputs)).abs().sum(dim=0)
        moved.append(tuple((change > 1e-6).nonzero().flatten().tolist()))
    assert sorted(moved) == [(k,) for k in range(out)]


@pytest.mark.parametrize("architecture", KNOWN)
def test_radial_networks_and_contractions(architecture):
    model = small_model(architecture, ethanol_dataset())
    direction, parameters = direction_of(model), dict(model.named_parameters())
    radial = [name for name, p in parameters.items() if p.dim() == 2 and ("mlp" in name or "conv_tp" in name)]
    contractions = [name for name, p in parameters.items() if p.dim() == 3]
    assert len(radial) >= 4
    assert bool(contractions) == (architecture == "mace")
    for name in (*radial, *contractions):  # columns of (in, out); (path, channel) of (element, path, channel)
        same_norms(direction[name], parameters[name], (0,))
    scaled = [direction[name].abs() / parameters[name].detach().abs() for name in (*radial, *contractions)]
    assert all(ratio.std() > 0.1 for ratio in scaled if ratio.shape[0] > 1)


@pytest.mark.parametrize("architecture", [p for p in architectures() if p.values[0] == "allegro"])
def test_paths_to_one_irrep_of_a_product_of_pairs_are_one_filter(architecture):
    """Seen from the product's own output: a filter moves one channel of one irrep, and no other filter does."""
    model = small_model(architecture, ethanol_dataset(), l_max=2, parity=True)
    labels, sizes = labels_of(model, "irreps"), []
    for name, product in model.named_modules():
        if f"{name}.weights" not in labels:
            continue
        of = labels[f"{name}.weights"]
        inputs = [torch.randn(5, product.mul, dim).double() for dim in (product.base_dim1, product.base_dim2)]
        before, own = product(*inputs, torch.arange(5)).detach(), product.weights.detach().clone()
        moved = torch.zeros(before.shape[1:], dtype=torch.int64)  # by how many filters
        for one in of.unique():
            product.weights.data = torch.where(of == one, own + 1.0, own)
            channels, components = ((product(*inputs, torch.arange(5)) - before).abs().amax(dim=0) > 1e-9).nonzero().T
            moved[channels, components] += 1
            assert len(channels.unique()) == 1
            assert any({*range(s.start, s.stop)} == set(components.tolist()) for s in product.irreps_out.slices())
            sizes.append(int((of == one).sum()))
        assert (moved == 1).all()
    assert max(sizes) > 1


@pytest.mark.parametrize("architecture", architectures())
def test_other_normalizations_count_as_they_say(architecture):
    model = small_model(architecture, ethanol_dataset())
    parameters = list(model.parameters())
    assert filters(model, "model").max() == 0
    assert filters(model, "layer").max() + 1 == len(parameters)
    assert filters(model, "filter").max() + 1 == sum(p.shape[0] for p in parameters)
