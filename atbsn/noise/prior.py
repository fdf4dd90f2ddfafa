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
    """The distributions that cameras, their settings and what they do to pictures are drawn from.

    Every field can be given in an option file:
    ``model: {type: RenoiseModel, camera: {shot_noise: [3e-4, 4e-2], processed: 0}}``.

    A range [low, high] is drawn from uniformly, or log-uniformly where this is said. A share is the part of the
    pictures that something happens to, 0 to 1. Raw values lie in [0, 1]; white is 1. Numbers without a source were
    chosen by hand, by looking at photographs.

    kind: ``camera``: the noise of a photograph, with everything below. ``sensor``: Poisson and Gaussian noise alone,
    for any number of channels; only the fields that ``RandomSensor`` names are used. ``auto``: ``camera`` for three
    channels and ``sensor`` for other numbers of channels.

    Light and sensor:
        exposure: factor on the linear picture, log-uniform. A factor below 1 makes an underexposed picture.
        light: factors on linear red and on linear blue, log-uniform: the colour of the light changes.
        balance: white balance gains of red and of blue, log-uniform, from tungsten light to shade. Brooks et al.
            (arXiv 1811.11127) give 1.9 to 2.4 and 1.5 to 1.9 for daylight.
        matrix_mean, matrix_std: mean and standard deviation of the elements off the diagonal of the camera's colour
            matrix, which are Gaussian. The matrix takes camera RGB to linear sRGB, and its rows sum to 1. The numbers
            are those of 583 cameras in LibRaw's table. Only the deviation of element 02 is larger, 0.2 where the table
            has 0.123, since phones have positive values there (Samsung Galaxy S6: 0.32).
        shot_noise: a, log-uniform. The raw noise has variance a x + b at the raw value x (Foi et al., IEEE TIP 2008).
        read_slope, read_offset, read_spread: b follows a: ln b = slope ln a + offset + spread z, with z standard
            normal. The three are fitted to 8,048 noise profiles of 433 cameras (the ansel-denoise collection).
        clipped: share of cameras that clip negative raw values to 0 before demosaicing.
        banding: share of cameras with row noise or column noise: each row, or each column, has an offset of its own.
        banding_level: standard deviation of these offsets, divided by that of the noise at a raw value of 0.1.
        hot_pixels: share of cameras with hot pixels.
        hot_density: hot pixels divided by all pixels, log-uniform.

    Development:
        demosaicing: shares of the four ways: bilinear; edge-directed with Laplacian correction; Malvar et al. (ICASSP
            2004); none (three sensors, or a picture that was made much smaller).
        toned: share of cameras with a tone curve after sRGB's gamma. The others have the gamma alone, as SIDD's
            renderer.
        tone_exponent: exponent on the sRGB value v.
        tone_contrast: weight of the S-curve v^2 (3 - 2 v) against v itself.
        processed: share of cameras that smooth their noise.
        luma_smoothing: standard deviation, pixels, of the Gaussian that smooths the noise's luma.
        colour_smoothing: the same for its colour, in pixels of half the resolution.
        anisotropy: largest relative difference between the smoothing along rows and along columns. For a Canon 5D
            Mark II of PolyU it would be up to 0.4 (lag-1 correlation 0.67 along rows, 0.56 along columns).
        luma_alone: share of all pictures whose noise has hardly any colour, as cameras leave it that reduce colour
            noise. PolyU and CC15 have correlations between channels of up to 0.86.
        blotches: share of pictures with colour noise of low frequency.
        blotch_level: its standard deviation, divided by that of the noise.
        enlarged: share of pictures that are enlarged together with their noise.
        enlargement: factor of the enlargement, log-uniform.
        compressed: share of pictures that are saved as JPEG.
        quality: quality of libjpeg; high qualities are drawn more often.

    Pictures:
        softened: share of pictures that are blurred before the noise. A picture that was made smaller is sharper than
            lens and demosaicing leave one at full size.
        softness: standard deviation of that blur, pixels.
        recoloured: share of pictures whose channels change places and whose saturation and contrast change, down to
            no contrast at all.
        noiseless: share of pictures that get no noise, so that the network learns to leave clean pictures as they are.
        grey: share of pictures in black and white, noise included.
        patterned: share of pictures that get a fine regular pattern on a part of them (``regular_pattern``).
        target: what counts as clean. ``mean``: the mean of what this camera shows of the scene, so that flat colours
            do not shift. ``scene``: the scene as it would be shown without noise.

    Raises:
        ValidationError: a number is out of its range, a range ends below its beginning, or all shares of
            ``demosaicing`` are 0.
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
"""Names of the fields that are ranges [low, high]."""
