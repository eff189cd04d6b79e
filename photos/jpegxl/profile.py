"""Reads the ICC profile that a JPEG XL file holds in its own form (ISO/IEC 18181-1, annex E).

The decoder in imagecodecs does not give it. A profile is compressed to numbers by their two
predecessors; these are commands, and the bytes that they place.
"""

from __future__ import annotations

from regard.photos.jpegxl.bits import BitReader
from regard.photos.jpegxl.entropy import DamagedCode, NumberReader

# Pure Python takes about 6 microseconds a byte.
MAX_PROFILE_BYTES = 1 << 19

_CONTEXTS = 41
_HEADER_BYTES = 128
_HEADER = {8: b"\4", 12: b"mntrRGB XYZ ", 36: b"acsp", 70: b"\xf6\xd6\0\1\0\0\0\0\xd3\x2d"}
_MAKERS = {b"A": b"APPL", b"M": b"MSFT", b"SG": b"SGI ", b"SU": b"SUNW"}

_TAG_CURVES, _TAG_COLOURS, _FIRST_TAG = 2, 3, 4
_TAGS = (
    *(b"cprt", b"wtpt", b"bkpt", b"rXYZ", b"gXYZ", b"bXYZ", b"kXYZ", b"rTRC", b"gTRC", b"bTRC"),
    *(b"kTRC", b"chad", b"desc", b"chrm", b"dmnd", b"dmdd", b"lumi"),
)
_POINTS = {b"rXYZ", b"gXYZ", b"bXYZ", b"kXYZ", b"wtpt", b"bkpt", b"lumi"}
_HAS_OFFSET, _HAS_SIZE = 64, 128
_INSERT, _SHUFFLE_2, _SHUFFLE_4, _PREDICT, _POINT, _FIRST_TYPE = 1, 2, 3, 4, 10, 16
_TYPES = (b"XYZ ", b"desc", b"text", b"mluc", b"para", b"curv", b"sf32", b"gbd ")


def read_profile(reader: BitReader) -> bytes | None:
    """The profile that follows, or None if it is damaged, cut short or too large."""
    try:
        size = reader.u64()
        if size > MAX_PROFILE_BYTES:
            return None
        numbers = NumberReader(reader, _CONTEXTS)
        stored = bytearray()
        for index in range(size):
            context = 0 if index <= _HEADER_BYTES else _context(stored[-1], stored[-2])
            stored.append(numbers.number(context) & 255)
        return _Unpacker(bytes(stored)).profile() if numbers.has_ended() else None
    except ValueError:
        return None


def _context(last: int, before: int) -> int:
    return 1 + _KINDS_OF_LAST[last] + 8 * _KINDS_BEFORE[before]


def _kinds(others: tuple[tuple[int, int], ...], rest: int) -> list[int]:
    """The kind of each byte: letters are 0, digits 1; of others, those up to a limit by it."""
    kinds = [next((kind for limit, kind in others if byte <= limit), rest) for byte in range(256)]
    for byte in range(256):
        if chr(byte).isascii() and chr(byte).isalpha():
            kinds[byte] = 0
        elif byte in b"0123456789.,":
            kinds[byte] = 1
    return kinds


_KINDS_OF_LAST = _kinds(((0, 2), (1, 3), (15, 4), (240, 7), (254, 5)), 6)
_KINDS_BEFORE = _kinds(((15, 2), (240, 4)), 3)


class _Stream:
    """Bytes that are taken from the front; raises DamagedCode past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def is_empty(self) -> bool:
        return self._position >= len(self._data)

    def take(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise DamagedCode("a profile ends too early")
        return self._data[start : self._position]

    def number(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise DamagedCode("a number is too large")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._position)


class _Unpacker:
    """Makes the profile of stored commands and bytes."""

    def __init__(self, stored: bytes) -> None:
        stream = _Stream(stored)
        self._size = stream.number()
        if self._size > MAX_PROFILE_BYTES:
            raise DamagedCode("a profile is too large")
        self._commands = _Stream(stream.take(stream.number()))
        self._bytes = _Stream(stream.rest())
        self._profile = bytearray()

    def profile(self) -> bytes:
        """The profile; raises DamagedCode."""
        self._place_header()
        if len(self._profile) < self._size:
            self._place_tags()
            while not self._commands.is_empty and len(self._profile) <= self._size:
                self._place_content(*self._commands.take(1))
        if len(self._profile) != self._size:
            raise DamagedCode("a profile has another size than it declares")
        return bytes(self._profile)

    def _place_header(self) -> None:
        expected = bytearray(_HEADER_BYTES)
        expected[:4] = self._size.to_bytes(4, "big")
        for start, text in _HEADER.items():
            expected[start : start + len(text)] = text
        profile = self._profile
        for index in range(min(_HEADER_BYTES, self._size)):
            if index == 8:
                expected[80:84] = profile[4:8]
            elif index in {41, 42}:
                maker = _MAKERS.get(bytes(profile[40:index]))
                if maker is not None:
                    expected[index:44] = maker[index - 40 :]
            profile.append(self._bytes.take(1)[0] + expected[index] & 255)

    def _place_tags(self) -> None:
        """The list of tags: names, offsets and sizes."""
        count = self._commands.number() - 1
        if count < 0:
            return
        self._place_number(count)
        start, size = _HEADER_BYTES + 12 * count, 0
        while not self._commands.is_empty and len(self._profile) <= self._size:
            (command,) = self._commands.take(1)
            code = command & 63
            if code == 0:
                return
            names = self._tag_names(code)
            start += size
            size = 20 if names[0] in _POINTS else size
            if command & _HAS_OFFSET:
                start = self._commands.number()
            if command & _HAS_SIZE:
                size = self._commands.number()
            for index, name in enumerate(names):
                self._profile += name
                self._place_number(start + (size * index if code == _TAG_COLOURS else 0))
                self._place_number(size)

    def _tag_names(self, code: int) -> tuple[bytes, ...]:
        if code == 1:
            return (self._bytes.take(4),)
        if code == _TAG_CURVES:
            return b"rTRC", b"gTRC", b"bTRC"
        if code == _TAG_COLOURS:
            return b"rXYZ", b"gXYZ", b"bXYZ"
        if code - _FIRST_TAG >= len(_TAGS):
            raise DamagedCode("a profile has an unknown tag")
        return (_TAGS[code - _FIRST_TAG],)

    def _place_number(self, number: int) -> None:
        if number >= 1 << 32:
            raise DamagedCode("a number is too large")
        self._profile += number.to_bytes(4, "big")

    def _place_content(self, command: int) -> None:
        if command == _INSERT:
            self._profile += self._bytes.take(self._commands.number())
        elif command in {_SHUFFLE_2, _SHUFFLE_4}:
            stored = self._bytes.take(self._commands.number())
            self._profile += _interleaved(stored, 2 if command == _SHUFFLE_2 else 4)
        elif command == _PREDICT:
            self._place_predicted()
        elif command == _POINT:
            self._profile += b"XYZ \0\0\0\0" + self._bytes.take(12)
        elif _FIRST_TYPE <= command < _FIRST_TYPE + len(_TYPES):
            self._profile += _TYPES[command - _FIRST_TYPE] + bytes(4)
        else:
            raise DamagedCode("a profile has an unknown command")

    def _place_predicted(self) -> None:
        """Differences from integers that earlier ones predict, at a distance of `stride` bytes."""
        (flags,) = self._commands.take(1)
        width, order = (flags & 3) + 1, flags >> 2 & 3
        stride = self._commands.number() if flags & 16 else width
        if width == 3 or order == 3 or not width <= stride < (len(self._profile) + 3) // 4:
            raise DamagedCode("a profile's prediction is impossible")
        stored = _interleaved(self._bytes.take(self._commands.number()), width)
        profile = self._profile
        for index in range(0, len(stored), width):
            place = len(profile)
            starts = (place - distance * stride for distance in (1, 2, 3))
            one, two, three = (int.from_bytes(profile[at : at + width], "big") for at in starts)
            expected = (one, 2 * one - two, 3 * one - 3 * two + three)[order]
            for byte, part in enumerate(stored[index : index + width]):
                profile.append(part + (expected >> 8 * (width - 1 - byte)) & 255)


def _interleaved(data: bytes, width: int) -> bytes:
    """`data` as `width` rows, read by columns; the last rows may be shorter or missing."""
    columns = -(-len(data) // width)
    rows = [data[start : start + columns] for start in range(0, len(data), columns or 1)]
    return bytes(row[column] for column in range(columns) for row in rows if column < len(row))
