"""The numbers that make a camera for ``RandomCamera``: drawn from a prior, or read from a table."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from atbsn.noise.draw import chance, log_uniform, normal, one_of, uniform
from atbsn.noise.prior import CameraPrior
from atbsn.utils.errors import UserError


@dataclass(frozen=True)
class CameraTable:
    """B cameras, each at one setting.

    Every attribute is a float tensor (B, 1, 1, 1), unless another shape is given.

    Attributes:
        exponent, contrast: the tone curve: an exponent on the sRGB value v, and the weight of v^2 (3 - 2 v) against v.
        balance: (B, 3, 1, 1), white balance gains of red, green (which is 1) and blue.
        matrix: (B, 6, 1, 1), the elements of the colour matrix off its diagonal: 01, 02, 10, 12, 20, 21.
        shot, read: a and b. The raw noise has variance a x + b at a raw value x in [0, 1].
        clipped: 1 if negative raw values are clipped to 0, otherwise 0.
        banding: standard deviation of the offsets of rows, divided by that of the noise at a raw value of 0.1.
        banding_down: 1 if columns have these offsets in place of rows.
        hot_density: hot pixels divided by all pixels.
        demosaicing: 0 bilinear, 1 edge-directed, 2 Malvar, 3 none.
        luma_smoothing: standard deviation, pixels, of the Gaussian that smooths the noise's luma; 0: not smoothed.
        colour_smoothing: the same for its colour, in pixels of half the resolution.
        across, along: factors on ``luma_smoothing``, from left to right and from top to bottom.
        luma_unsmoothed, colour_unsmoothed: weight of the noise before smoothing in what is left, 0 to 1.
        luma_gain, colour_gain: factors on the level of the noise in luma and in colour.
        blotch_level: standard deviation of colour noise of low frequency, divided by that of the noise.
        quality: quality of the JPEG as libjpeg counts it, 1 to 100; 0: no JPEG.
        subsampled: 1 if the colour of that JPEG has half the resolution.
    """

    exponent: Tensor
    contrast: Tensor
    balance: Tensor
    matrix: Tensor
    shot: Tensor
    read: Tensor
    clipped: Tensor
    banding: Tensor
    banding_down: Tensor
    hot_density: Tensor
    demosaicing: Tensor
    luma_smoothing: Tensor
    colour_smoothing: Tensor
    across: Tensor
    along: Tensor
    luma_unsmoothed: Tensor
    colour_unsmoothed: Tensor
    luma_gain: Tensor
    colour_gain: Tensor
    blotch_level: Tensor
    quality: Tensor
    subsampled: Tensor

    def __len__(self) -> int:
        return len(self.shot)

    def __getitem__(self, index: Tensor) -> "CameraTable":
        """The cameras with these indices (N,)."""
        return CameraTable(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @classmethod
    def joined(cls, parts: "list[CameraTable]") -> "CameraTable":
        """The cameras of several tables, one table after another."""
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})

    @classmethod
    def drawn(cls, prior: CameraPrior, like: Tensor) -> "CameraTable":
        """Draw a camera for every picture of ``like`` (B, ...), from PyTorch's generator of its device."""
        one = torch.ones(len(like), 1, 1, 1, device=like.device)
        zero = torch.zeros_like(one)
        toned = chance(one, prior.toned)
        shot = log_uniform(one, *prior.shot_noise)
        read = torch.exp(prior.read_slope * shot.log() + prior.read_offset + prior.read_spread * normal(one))
        smoothed = chance(one, prior.processed)
        less = 1 - uniform(one, 0, prior.anisotropy)
        down = chance(one, 0.5)
        colour_gain = torch.where(smoothed, uniform(one, 0.4, 1.1), one)
        low, high = prior.quality
        return cls(
            exponent=torch.where(toned, uniform(one, *prior.tone_exponent), one),
            contrast=uniform(one, *prior.tone_contrast) * toned,
            balance=torch.cat((log_uniform(one, *prior.balance), one, log_uniform(one, *prior.balance)), dim=1),
            matrix=_matrix(prior, one),
            shot=shot,
            read=read,
            clipped=chance(one, prior.clipped).float(),
            banding=uniform(one, *prior.banding_level) * chance(one, prior.banding),
            banding_down=chance(one, 0.5).float(),
            hot_density=log_uniform(one, *prior.hot_density) * chance(one, prior.hot_pixels),
            demosaicing=one_of(one, prior.demosaicing).float(),
            luma_smoothing=uniform(one, *prior.luma_smoothing) * smoothed,
            colour_smoothing=uniform(one, *prior.colour_smoothing) * smoothed,
            across=torch.where(down, less, one),
            along=torch.where(down, one, less),
            luma_unsmoothed=uniform(one, 0, 1).square() / 2,
            colour_unsmoothed=uniform(one, 0, 1).square() / 2,
            # ``RandomCamera`` keeps the level of the noise while it smooths it, because cameras smooth strong noise
            # more. Only these factors change the level.
            luma_gain=torch.where(smoothed, uniform(one, 0.7, 1.2), one),
            colour_gain=colour_gain * torch.where(chance(one, prior.luma_alone), uniform(one, 0, 0.2), one),
            blotch_level=uniform(one, *prior.blotch_level) * chance(one, prior.blotches),
            quality=torch.where(chance(one, prior.compressed), low + (high - low) * uniform(one, 0, 1).sqrt(), zero),
            subsampled=chance(one, 0.5).float(),
        )

    def colour_matrix(self) -> Tensor:
        """The matrices (B, 3, 3) from camera RGB to linear sRGB. Rows sum to 1, so that white stays white."""
        off = self.matrix.flatten(1).unbind(dim=1)
        zero = torch.zeros_like(off[0])
        matrix = torch.stack((zero, *off[:3], zero, *off[3:], zero), dim=1).unflatten(1, (3, 3))
        return matrix + torch.diag_embed(1 - matrix.sum(dim=2))

    def write(self, path: Path) -> None:
        """Write a JSON file with the list of values of every attribute."""
        table = {name: value.flatten(1).tolist() for name, value in asdict(self).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table) + "\n")

    @classmethod
    def read_from(cls, path: str | Path) -> "CameraTable":
        """Read a file that ``write`` wrote.

        Raises:
            UserError: there is no such file, or it is not a table of cameras.
        """
        remedy = "write it with atbsn noise --cameras"
        names = [field.name for field in fields(cls)]
        try:
            table = json.loads(Path(path).read_text())
            columns = {name: torch.tensor(table[name], dtype=torch.float32) for name in names}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a table of cameras ({error}); {remedy}") from error
        rows = len(columns["shot"]) if columns["shot"].dim() else 0
        for name, column in columns.items():
            shape = (rows, {"balance": 3, "matrix": 6}.get(name, 1))
            if not rows or column.shape != shape or not column.isfinite().all():
                raise UserError(f"{path}: not a table of cameras ({name} is not {shape} numbers); {remedy}")
        return cls(**{name: column[..., None, None] for name, column in columns.items()})


def _matrix(prior: CameraPrior, like: Tensor) -> Tensor:
    """Draw the elements off the diagonals of colour matrices, (B, 6, 1, 1)."""
    # Beyond two standard deviations a matrix may be nearly singular, and no camera of LibRaw's table is there.
    drawn = torch.randn(len(like), 6, device=like.device).clamp(-2, 2).unbind(dim=1)
    off = [mean + std * z for mean, std, z in zip(prior.matrix_mean, prior.matrix_std, drawn, strict=True)]
    return torch.stack(off, dim=1)[..., None, None]
