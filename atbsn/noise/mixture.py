"""A mixture of blocks with and without texture, whose parameters are fitted to the energies of the blocks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from atbsn.noise.model import KNOTS

_CURVATURE_STD, _SLOPE_STD, _COLOUR_STD = 0.25, 1.0, 0.25
"""Prior standard deviations of the log variances at the knots: of second and of first differences between neighbouring
knots, and of first differences of a channel against the mean of the channels. Chosen by hand; they matter only where
there are few blocks."""
_USUAL_EXCESS, _EXCESS_STD = 1.5, 0.5
"""Prior of the mean of what texture adds to the log variance of a block: its centre, and the standard deviation of its
logarithm. Chosen by hand."""
_USUAL_SAMPLING_STD, _SAMPLING_STD_STD = 0.2, 0.5
"""Prior of the sampling standard deviation of a log energy: its centre, and the standard deviation of its logarithm.
Chosen by hand; 0.2 is near that of white noise."""
_SHARE_STD = 3.0
"""Prior standard deviation of the log odds of the share of blocks without texture. Chosen by hand: nearly flat."""
_GAIN_STD = 1.0
"""Prior standard deviation of the log variance of a picture against all pictures. Chosen by hand."""
_LOG_OUTLIER = math.log(1e-3 / 10)
"""Log density of a channel's log energy in a block that the model does not explain: one block in a thousand, spread
evenly over ten units of log energy. Chosen by hand."""
_MAX_STEPS, _MEMORY = 150, 20
"""Most steps of L-BFGS, and how many of them it remembers. Chosen by hand."""
_START_QUANTILE = 0.3
"""Quantile of the log energies at which the fit begins: below most texture, above rare flat blocks. Chosen by hand."""


@dataclass(frozen=True)
class MixtureFit:
    """The parameters that maximise the likelihood, and what they say of the blocks.

    Attributes:
        knots: (C, KNOTS) median log energy of a block without texture.
        gains: (pictures,) log energy of a picture against all pictures; their mean is 0.
        sampling_std: standard deviation of the log energy of a block without texture.
        expected: (N, C) median log energy that each block would have without texture.
        flat: (N,) probability that a block has no texture.
    """

    knots: Tensor
    gains: Tensor
    sampling_std: float
    expected: Tensor
    flat: Tensor


class Mixture:
    """The mixture model of ``estimate``: log energies of blocks with texture and of blocks without.

    Args:
        observed: (N, C) log energies, NaN where a channel is black or white.
        means: (N, C) intensities.
        owner: (N,) index of the picture of each block.
        pictures: number of pictures, each with a block or more.
        usual_std: centre of the prior of the sampling standard deviation.
        is_known: whether ``usual_std`` is not only the centre but the value itself.
    """

    def __init__(
        self,
        observed: Tensor,
        means: Tensor,
        owner: Tensor,
        pictures: int,
        usual_std: float = _USUAL_SAMPLING_STD,
        is_known: bool = False,
    ) -> None:
        self.owner, self.valid = owner, observed.isfinite()
        self.observed = torch.where(self.valid, observed, 0.0)
        self.log_usual_std, self.std_std = math.log(usual_std), 1e-3 if is_known else _SAMPLING_STD_STD
        position = (means.double().clamp(0, 255) * ((KNOTS - 1) / 255)).clamp(max=KNOTS - 1.001)
        self.left = position.long()
        self.part = position - self.left
        start = observed.nanquantile(_START_QUANTILE, dim=0)
        above = (observed - start).nanmean(1)
        starts = [above[owner == picture].nanquantile(_START_QUANTILE) for picture in range(pictures)]
        first = torch.stack(starts)
        self.knots = start[:, None].repeat(1, KNOTS).requires_grad_()
        self.gains = (first - first.mean()).requires_grad_()
        log_excess = math.log(_USUAL_EXCESS)
        self.shape = torch.tensor([0.0, log_excess, self.log_usual_std], dtype=torch.float64).requires_grad_()
        """Log odds of the share without texture, log of the mean excess of texture, log of the sampling deviation."""

    def expected(self) -> Tensor:
        """(N, C) median log energy of the blocks if they had no texture."""
        curve = self.knots.T
        level = curve.gather(0, self.left) * (1 - self.part) + curve.gather(0, self.left + 1) * self.part
        return level + self.gains[self.owner, None]

    def log_likelihoods(self) -> tuple[Tensor, Tensor]:
        """(N,) joint log density of the energies of each block and of having no texture; and of having some.

        Without texture: Gaussian. With texture: Gaussian plus exponential (exponentially modified Gaussian).
        """
        log_odds, log_excess, log_std = self.shape
        share = torch.nn.functional.logsigmoid(torch.stack([log_odds, -log_odds]))
        rate, std = torch.exp(-log_excess), log_std.exp()
        off = self.observed - self.expected()
        flat = -((off / std) ** 2) / 2 - log_std - math.log(math.sqrt(2 * math.pi))
        textured = -log_excess - rate * off + (rate * std) ** 2 / 2
        textured = textured + torch.special.log_ndtr(off / std - rate * std)
        return share[0] + (flat * self.valid).sum(1), share[1] + (textured * self.valid).sum(1)

    def objective(self) -> Tensor:
        """The negative log posterior, up to a constant."""
        both = torch.logaddexp(torch.logaddexp(*self.log_likelihoods()), _LOG_OUTLIER * self.valid.sum(1))
        log_odds, log_excess, log_std = self.shape
        slopes = self.knots.diff(dim=1)
        deviations = (
            (slopes.diff(dim=1) / _CURVATURE_STD),
            (slopes / _SLOPE_STD),
            ((slopes - slopes.mean(0)) / _COLOUR_STD),
            (self.gains / _GAIN_STD),
            ((log_excess - math.log(_USUAL_EXCESS)) / _EXCESS_STD),
            ((log_std - self.log_usual_std) / self.std_std),
            (log_odds / _SHARE_STD),
        )
        prior = sum((deviation.square().sum() for deviation in deviations), start=both.new_zeros(()))
        return prior / 2 - both.sum()

    def fit(self) -> MixtureFit:
        """Maximise the posterior by L-BFGS."""
        optimizer = torch.optim.LBFGS(
            [self.knots, self.gains, self.shape],
            max_iter=_MAX_STEPS,
            history_size=_MEMORY,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.objective()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        with torch.no_grad():
            flat, textured = self.log_likelihoods()
            self.knots += self.gains.mean()
            self.gains -= self.gains.mean()
            return MixtureFit(
                self.knots.detach(),
                self.gains.detach(),
                float(self.shape[2].exp()),
                self.expected(),
                torch.sigmoid(flat - textured),
            )
