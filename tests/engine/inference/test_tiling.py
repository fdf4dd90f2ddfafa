"""Tiles are seamless, the eight orientations are averaged upright."""

import random
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from atbsn.engine.inference.layout import context
from atbsn.engine.inference.tiling import Tiler, lay, self_ensemble
from atbsn.utils.errors import UserError


def picture(height: int, width: int, batch: int = 1, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=generator) * 255


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.fixture
def network() -> nn.Sequential:
    """Three zero-padded 3x3 convolutions: looks 3 pixels around."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 2, 3, padding=1),
    ]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("seed", range(60))
def test_identity_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    tile = rng.randint(1, 24)
    overlap = 0 if seed % 4 == 0 else rng.randint(0, tile // 2)
    x = picture(rng.randint(1, 80), rng.randint(1, 80), batch=rng.randint(1, 2), seed=seed)
    tiler = Tiler(tile, overlap, batch_size=rng.randint(1, 5))
    assert same_bits(tiler(lambda tiles: tiles, x), x)


@pytest.mark.parametrize("size", [(61, 90), (32, 70), (20, 90), (64, 33), (31, 9)])
def test_equals_the_untiled_result(network: nn.Module, size: tuple[int, int]) -> None:
    """Everywhere, the borders of the picture included, since 3 <= 12 // 4."""
    x = picture(*size, batch=2)
    with torch.no_grad():
        expected = network(x)
    assert torch.allclose(Tiler(32, 12, batch_size=3)(network, x), expected, atol=1e-4)


def test_too_little_overlap_is_seen(network: nn.Module) -> None:
    x = picture(61, 90)
    with torch.no_grad():
        expected = network(x)
    assert not torch.allclose(Tiler(32, 0)(network, x), expected, atol=0.1)


def test_neighbours_fade_linearly() -> None:
    """Tiles at 0 and 36 share 28 columns: 7 of the first, 14 of both, 7 of the second."""
    calls = iter(range(2))
    out = Tiler(64, 24)(lambda tiles: torch.full_like(tiles, next(calls)), picture(64, 100))
    fade = (torch.arange(14) + 0.5) / 14
    expected = torch.cat([torch.zeros(43), fade, torch.ones(43)])
    assert torch.allclose(out, expected.expand_as(out), atol=1e-6)


@pytest.mark.parametrize("dim", [-1, -2])
def test_learning_goes_through_tiles_that_were_laid_before_without(dim: int) -> None:
    """The weights of a fade are kept; the gradient of a tile is its weight at every place."""
    overlap = 22
    margin = context(overlap)
    fade = overlap - 2 * margin
    size = (1, 1, 5, 40) if dim == -1 else (1, 1, 40, 5)
    with torch.inference_mode():
        lay(torch.zeros(size), torch.ones(size).narrow(dim, 0, 30), 10, 10 + overlap, dim)
    canvas, tile = torch.zeros(size), torch.ones(size).narrow(dim, 0, 30).clone().requires_grad_()
    assert lay(canvas, tile, 10, 10 + overlap, dim) == 40
    canvas.sum().backward()
    ramp = torch.cat([torch.zeros(margin), (torch.arange(fade) + 0.5) / fade, torch.ones(30 - margin - fade)])
    expected = ramp.view(-1, 1) if dim == -2 else ramp
    assert fade > 2 and torch.equal(canvas.narrow(dim, 10, 30), expected.expand_as(tile))
    assert not canvas.narrow(dim, 0, 10).any() and torch.equal(tile.grad, expected.expand_as(tile))


def test_teachers_and_channels() -> None:
    """(K, B, C', H, W) of (B, C, H, W)."""
    x = picture(40, 70, batch=2)

    def teachers(tiles: torch.Tensor) -> torch.Tensor:
        return torch.stack([tiles[:, :2], 3 * tiles[:, 1:], -tiles[:, :2]])

    out = Tiler(16, 4, batch_size=4)(teachers, x)
    assert out.shape == (3, 2, 2, 40, 70)
    assert torch.equal(out, teachers(x))


def test_every_batch_has_one_shape() -> None:
    """(40, 20) in tiles of (16, 16) is 4 x 2 tiles: batches of three, the last one filled up."""
    seen = []

    def spy(tiles: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(tiles.shape))
        return tiles

    Tiler(16, 8, batch_size=3)(spy, picture(40, 20))
    assert seen == [(3, 3, 16, 16)] * 3
    seen.clear()
    Tiler(16, 8, batch_size=100)(spy, picture(40, 20))
    assert seen == [(8, 3, 16, 16)]


@pytest.mark.parametrize(("tile", "size"), [(None, (70, 50)), (70, (70, 50)), (512, (70, 50))])
def test_a_small_picture_is_done_in_one_go(tile: int | None, size: tuple[int, int]) -> None:
    seen = []

    def spy(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[-2:]))
        return x + 1

    x = picture(*size)
    assert torch.equal(Tiler(tile, 8)(spy, x), x + 1)
    assert seen == [size]


@pytest.mark.parametrize("tile", [None, 16])
def test_dtype_is_that_of_the_picture_and_no_graph_is_kept(network: nn.Module, tile: int | None) -> None:
    out = Tiler(tile, 4)(lambda tiles: network(tiles).bfloat16(), picture(30, 40))
    assert out.dtype == torch.float32
    assert not out.requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_visit_the_device(network: nn.Module, batch_size: int) -> None:
    x = picture(200, 333)
    with torch.no_grad():
        expected = network(x)
    on_device = network.cuda()
    tiler = Tiler(64, 16, batch_size=batch_size, device="cuda")
    assert same_bits(tiler(lambda tiles: tiles, x), x)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        out = tiler(on_device, x)
    assert out.device.type == "cpu"
    assert torch.allclose(out, expected, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 0, "overlap": 0}, "tile: 0"),
        ({"tile": 32, "overlap": -1}, "overlap: -1"),
        ({"tile": 32, "overlap": 17}, "use 16 or less"),
        ({"tile": 32, "overlap": 4, "batch_size": 0}, "batch_size: 0"),
    ],
)
def test_wrong_values(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tiler(**arguments)


def ramp(x: torch.Tensor) -> torch.Tensor:
    """A function that depends on the position, and so on the orientation."""
    height, width = x.shape[-2:]
    return x * torch.linspace(0, 1, width) + 50 * torch.linspace(0, 1, height).square()[:, None]


def test_self_ensemble_of_the_identity_is_exact() -> None:
    x = picture(9, 14)
    before = x.clone()
    assert same_bits(self_ensemble(lambda turned: turned, x), x)
    assert torch.equal(x, before)


def test_self_ensemble_is_the_mean_over_flips_and_rotations() -> None:
    x = picture(9, 14, batch=2)
    outputs = []
    for turns in range(4):
        outputs.append(torch.rot90(ramp(torch.rot90(x, turns, (2, 3))), -turns, (2, 3)))
        flipped = torch.rot90(x.flip(3), turns, (2, 3))
        outputs.append(torch.rot90(ramp(flipped), -turns, (2, 3)).flip(3))
    assert torch.allclose(self_ensemble(ramp, x), torch.stack(outputs).mean(0), atol=1e-3)


def test_self_ensemble_of_teachers_through_tiles() -> None:
    def teachers(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([ramp(x), ramp(x)[:, [2, 1, 0]]])

    x = picture(40, 23)
    tiler = Tiler(None, 0)
    out = self_ensemble(lambda turned: tiler(teachers, turned), x)
    assert out.shape == (2, 1, 3, 40, 23)
    assert torch.allclose(out[1], self_ensemble(ramp, x)[:, [2, 1, 0]], atol=1e-3)


def test_tiles_need_not_be_square(network: nn.Module) -> None:
    x = picture(61, 90)
    seen = []

    def spy(tiles: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(tiles.shape[-2:]))
        return network(tiles)

    with torch.no_grad():
        assert torch.allclose(Tiler((24, 500), 12)(spy, x), network(x), atol=1e-4)
    assert seen == [(24, 90)] * 5


class Small:
    """A device that has memory for so many pixels of a network at once."""

    def __init__(self, network: nn.Module, pixels: int) -> None:
        self.network, self.pixels, self.refused, self.done = network, pixels, [], []

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        count = tiles[:, 0].numel()
        if count > self.pixels:
            self.refused.append(count)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.done.append(tuple(tiles.shape))
        return self.network(tiles)


@pytest.mark.parametrize("pixels", [5000, 2500, 1100])
@pytest.mark.parametrize("tile", [None, 48])
def test_out_of_memory_halves_the_batch_then_the_tile_and_goes_on(
    network: nn.Module, tile: int | None, pixels: int
) -> None:
    x, said = picture(61, 90, batch=2), []
    small = Small(network, pixels)
    tiler = Tiler(tile, 12, batch_size=4, on_shortage=lambda *what: said.append(what))
    with torch.no_grad():
        expected = network(x)
    assert torch.allclose(tiler(small, x), expected, atol=1e-4)
    assert said and len(said) == len(small.refused)
    assert small.refused == sorted(small.refused, reverse=True), "what was too much once is not tried again"
    assert len(set(small.refused)) == len(small.refused)
    if tile and pixels >= 2304:
        assert all(shape[-2:] == (48, 48) for shape in small.done), "batches first"


def test_a_pixel_too_much_is_an_error(network: nn.Module) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Tiler(64, 16)(Small(network, 100), picture(200, 200))


def test_what_is_counted_is_done(network: nn.Module) -> None:
    told = []
    Tiler(16, 8, batch_size=3, on_tiles=lambda done, tiles: told.append((done, tiles)))(network, picture(40, 20))
    assert told == [(3, 8), (6, 8), (8, 8)]
    told.clear()
    Tiler(None, 8, on_tiles=lambda done, tiles: told.append((done, tiles)))(network, picture(40, 20))
    assert told == [(1, 1)]


@pytest.mark.parametrize(
    ("tile", "columns", "rows"), [((32, 500), 1, 4), ((32, 32), 4, 4), ((500, 32), 4, 1), (None, 1, 1)]
)
def test_launches_of_laying_tiles_together(tile: tuple[int, int] | None, columns: int, rows: int) -> None:
    """Beside the function: one to gather a batch, two to lay a tile, two to lay a row. Whole pictures: none.

    Operators that only make views start nothing on a device.
    """
    views = ("slice", "select", "narrow", "unflatten", "view", "split", "expand", "alias", "detach", "empty", "squeeze")
    x, tiler = picture(4 * 32 - 3 * 8, 4 * 32 - 3 * 8), Tiler(tile, 8, batch_size=1)
    tiler(lambda tiles: tiles, x)  # the weights of fading are made once
    with Operators() as launched:
        tiler(lambda tiles: tiles, x)
    names = [name for name in launched.names if not any(view in name for view in views)]
    tiles = columns * rows
    most = (tiles > 1) * tiles + (columns > 1) * 2 * tiles + (rows > 1) * 2 * rows
    assert len(names) <= most, names


class Operators(TorchDispatchMode):
    """The names of the operators that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))
