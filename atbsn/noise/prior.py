"""The population of cameras that ``RandomCamera`` draws from."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, model_validator

from atbsn.utils.types import Fraction, NonNegativeFloat, PositiveFloat

Variance = Annotated[float, Gt(0), Le(1)]
Contrast = Annotated[float, Ge(-1), Le(1)]
Quality = Annotated[float, Ge(1), Le(100)]
Six = tuple[float, float, float, float, float, float]
"""The elements of a 3 x 3 matrix off its diagonal, row by row: 01, 02, 10, 12, 20, 21."""


class CameraPrior(BaseModel):
    """The distributions that a camera, its settings and its pictures are drawn from. Every field can be given in an
    option file: ``model: {type: RenoiseModel, camera: {shot_noise: [3e-4, 4e-2], processed: 0}}``.

    A range [low, high] is drawn uniformly, or log-uniformly where it says so. A share is the part of the pictures, 0 to
    1. Raw values lie in [0, 1], white is 1. Where no source is named, the number was chosen by looking at photographs.

    kind: ``camera``: a photograph's, with all of the below; ``sensor``: Poisson and Gaussian noise alone, for any
    number of channels, for which only the fields count that ``RandomSensor`` names; ``auto``: ``camera`` for three
    channels, ``sensor`` for others.

    Light and sensor:
        exposure: factor on the linear picture, log-uniform. Below 1 is an underexposed picture.
        light: factor on linear red and on blue, log-uniform: light of other colours than the photograph's.
        balance: white balance gains of red and of blue, log-uniform: tungsten light to shade. Daylight gains of
            Brooks et al. (arXiv 1811.11127) are 1.9 to 2.4 and 1.5 to 1.9.
        matrix_mean, matrix_std: of the camera's colour matrix (its RGB to linear sRGB, rows sum to 1), the elements off
            the diagonal, Gaussian. 583 cameras of LibRaw's table; the deviation of 02 is 0.2 in place of 0.123, since
            phones have positive ones (Samsung Galaxy S6: 0.32).
        shot_noise: a of the raw noise's variance a x + b at a raw value x (Foi et al., IEEE TIP 2008), log-uniform.
        read_slope, read_offset, read_spread: ln b = slope ln a + offset + spread z with Gaussian z. A fit to 8,048
            noise profiles of 433 cameras (the ansel-denoise collection).
        clipped: share of cameras that cut negative raw values off, before demosaicing.
        banding: share whose rows or columns have offsets of their own; banding_level: their standard deviation as a
            part of that of the noise at a raw value of 0.1.
        hot_pixels: share with defective sensor pixels; hot_density: their part of all pixels, log-uniform.

    Development:
        demosaicing: shares of bilinear, along edges (Laplacian correction), Malvar et al. (ICASSP 2004), and none
            (three sensors, or a picture that was made much smaller).
        toned: share with a tone curve on top of sRGB's gamma; the others have that gamma alone, as SIDD's renderer.
        tone_exponent, tone_contrast: an exponent on the sRGB value, and how much of the S-curve v^2 (3 - 2 v).
        processed: share of cameras that smooth their noise.
        luma_smoothing: standard deviation of the Gaussian on its luma, pixels; colour_smoothing: on its colour, pixels
            of half the resolution.
        anisotropy: by how much the smoothing across and along rows may differ, as a part. 0 to 0.4 on a Canon 5D
            Mark II of PolyU (lag-1 correlation 0.67 across, 0.56 down).
        luma_alone: share of all pictures whose noise has hardly a colour: what cameras leave that reduce colour noise.
            PolyU and CC15 have correlations between channels up to 0.86.
        blotches: share with colour noise of low frequency; blotch_level: its standard deviation as a part of the
            noise's.
        enlarged: share of pictures that were made larger, noise and all; enlargement: by which factor.
        compressed: share that is saved as JPEG; quality: of libjpeg, drawn towards the high end.

    Pictures:
        softened: share that is blurred before the noise; softness: standard deviation of that blur, pixels. A reduced
            picture is sharper than lens and demosaicing leave one at full size.
        recoloured: share whose colours are exchanged, made stronger or weaker, and that lose contrast, down to flat.
        noiseless: share without noise, so that a clean picture comes back as it is.
        grey: share in black and white, noise and all.
        patterned: share with a fine regular pattern over a part of them (``regular_pattern``).
        target: what counts as clean: the mean of what this camera shows, so that flat colours stay where they are; or
            the scene without noise.

    Raises:
        ValidationError: a number out of its range, a range whose end is below its beginning, shares that are all 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["auto", "camera", "sensor"] = "auto"

    exposure: tuple[PositiveFloat, PositiveFloat] = (0.25, 1.5)
    light: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    balance: tuple[PositiveFloat, PositiveFloat] = (1.2, 2.6)
    matrix_mean: Six = (-0.476, -0.150, -0.167, -0.407, 0.013, -0.474)
    matrix_std: tuple[
        NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat
    ] = (0.322, 0.2, 0.088, 0.108, 0.032, 0.131)
    shot_noise: tuple[Variance, Variance] = (7e-5, 3e-2)
    read_slope: NonNegativeFloat = 1.23
    read_offset: float = -3.42
    read_spread: NonNegativeFloat = 1.05
    clipped: Fraction = 0.33
    banding: Fraction = 0.15
    banding_level: tuple[NonNegativeFloat, NonNegativeFloat] = (0.05, 0.4)
    hot_pixels: Fraction = 0.05
    hot_density: tuple[Variance, Variance] = (1e-5, 1e-3)

    demosaicing: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (0.08, 0.36, 0.46, 0.1)
    toned: Fraction = 0.7
    tone_exponent: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.2)
    tone_contrast: tuple[Contrast, Contrast] = (0.0, 0.6)
    processed: Fraction = 0.5
    luma_smoothing: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 1.2)
    colour_smoothing: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 2.4)
    anisotropy: Fraction = 0.4
    luma_alone: Fraction = 0.1
    blotches: Fraction = 0.1
    blotch_level: tuple[NonNegativeFloat, NonNegativeFloat] = (0.1, 0.5)
    enlarged: Fraction = 0.08
    enlargement: tuple[Annotated[float, Ge(1), Le(4)], Annotated[float, Ge(1), Le(4)]] = (1.2, 4.0)
    compressed: Fraction = 0.5
    quality: tuple[Quality, Quality] = (75.0, 100.0)

    softened: Fraction = 0.6
    softness: tuple[NonNegativeFloat, NonNegativeFloat] = (0.4, 1.6)
    recoloured: Fraction = 0.3
    noiseless: Fraction = 0.08
    grey: Fraction = 0.1
    patterned: Fraction = 0.15
    target: Literal["mean", "scene"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> "CameraPrior":
        for name in _RANGES:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} {[low, high]}: its end is below its beginning; exchange the two")
        if not sum(self.demosaicing):
            raise ValueError("demosaicing: all shares are 0; give one of them a positive number")
        return self


_RANGES = tuple(
    name
    for name, field in CameraPrior.model_fields.items()
    if name not in ("matrix_mean", "matrix_std", "demosaicing") and isinstance(field.default, tuple)
)
