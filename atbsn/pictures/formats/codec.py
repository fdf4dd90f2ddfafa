"""What every picture format does, and what each can hold."""

from abc import ABC, abstractmethod
from mmap import mmap
from typing import BinaryIO, ClassVar, NamedTuple

from atbsn.pictures.metadata import Decoded, Metadata, RefusedError, Samples


class Holds(NamedTuple):
    """What a format can hold besides grey and RGB of 8 bits.

    Attributes:
        bits: of a sample.
        floats: floating-point samples.
        alpha: transparency.
        extra: samples of no known meaning.
        icc: a colour profile.
        cicp: colours by numbers, which PQ and HLG need.
        xmp: texts: EXIF and XMP.
        side: the longest height or width, pixels; None: any.
    """

    bits: int = 8
    floats: bool = False
    alpha: bool = False
    extra: bool = False
    icc: bool = True
    cicp: bool = False
    texts: bool = True
    side: int | None = None


class Codec(ABC):
    """A picture format. One file of this folder has one, as ``CODEC``; nothing is listed anywhere else.

    Attributes:
        name: as users call it.
        suffixes: in lower case, of files to read; the first is the usual one.
        holds: what it can hold.
        library: the module of an extra that it needs.
        writes: False for formats that are only read.
        states_white: its files may use a part of the range of 16 bits, or be floating-point, so ``white`` applies.
        asked_first: its files pass for another format's by their first bytes.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    holds: ClassVar[Holds] = Holds()
    library: ClassVar[str | None] = None
    writes: ClassVar[bool] = True
    states_white: ClassVar[bool] = False
    asked_first: ClassVar[bool] = False

    @abstractmethod
    def sniff(self, data: bytes | mmap, suffix: str) -> bool:
        """Whether a file is of this format, by its bytes; ``suffix``, in lower case, only where they do not tell."""

    @abstractmethod
    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        """Upright height and width, from the header alone. Raises as ``decode``."""

    @abstractmethod
    def decode(self, data: bytes, page: int | None) -> Decoded:
        """The picture in ``data``, upright.

        Args:
            page: which one of several, from 1; None: the primary one.

        Raises:
            RefusedError: in order, but not for us.
            Exception: of any kind, when the file is damaged.
        """

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """A file of ``samples``, which are only what the format ``holds``. Formats that are only read refuse.

        Args:
            quality: 1 to 100, for formats with losses; None: as the source's.

        Raises:
            RefusedError: a library is missing, or the format is only read.
            OSError, ValueError: it cannot be encoded.
        """
        del samples, picture, quality
        raise RefusedError(f"{self.name} is only read", "name a .tif, .png or .jpg file")
