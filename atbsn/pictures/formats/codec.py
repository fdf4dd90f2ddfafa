"""The interface of picture formats, and what each can hold."""

from abc import ABC, abstractmethod
from mmap import mmap
from typing import BinaryIO, ClassVar, NamedTuple

from atbsn.pictures.metadata import Decoded, Metadata, RefusedError, Samples


class Holds(NamedTuple):
    """What a format can hold besides grey and RGB of 8 bits.

    Attributes:
        bits: most bits of a sample.
        floats: floating-point samples.
        alpha: transparency.
        extra: samples of no known meaning.
        icc: a colour profile.
        cicp: colours by numbers of ITU-T H.273, which PQ and HLG need.
        texts: EXIF and XMP.
        side: largest height or width, pixels; None: any.
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
    """A picture format. Each module of this folder has one as ``CODEC``; it is listed nowhere else.

    Attributes:
        name: its name for users.
        suffixes: suffixes of its files, in lower case; the first is the usual one.
        holds: what it can hold.
        library: the module of an extra that it needs; None: none.
        writes: whether it is written; False for formats that are only read.
        states_white: whether the setting ``white`` applies: its files may be floating-point, or use only a part of the
            range of 16 bits.
        asked_first: whether its files begin like those of another format, so that it has to be asked first.
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
        """Whether a file is of this format, by its bytes; if they do not tell, by its ``suffix`` in lower case."""

    @abstractmethod
    def read_size(self, file: BinaryIO, page: int | None) -> tuple[int, int]:
        """Height and width of the upright picture, from the header alone. Raises as ``decode``."""

    @abstractmethod
    def decode(self, data: bytes, page: int | None) -> Decoded:
        """The picture in the file ``data``, upright.

        Args:
            data: the whole file.
            page: number of the picture in a file of several, from 1; None: the primary one.

        Raises:
            RefusedError: the file is not damaged, but cannot be read.
            Exception: any other exception means that the file is damaged.
        """

    def encode(self, samples: Samples, picture: Metadata, quality: int | None) -> bytes:
        """A file of ``samples``, which contain only what the format ``holds``. This base method always refuses.

        Args:
            samples: the samples to write. They may be grey: a format without grey writes three equal channels.
            picture: all metadata of the source, of whatever format it was; the format takes what it can hold.
            quality: 1 to 100, for lossy formats; None: as that of the source.

        Raises:
            RefusedError: a library is missing, or the format is only read.
            OSError, ValueError: it cannot be encoded.
        """
        del samples, picture, quality
        raise RefusedError(f"{self.name} is only read", "name a .tif, .png or .jpg file")
