"""Reads bits, least significant first, and the numbers that JPEG XL makes of them.

(ISO/IEC 18181-1, section 9.2 and annex B.)
"""

from __future__ import annotations


class EndOfData(ValueError):
    """More bits were asked for than there are."""


class BitReader:
    """Bits of `data` from its first byte on; every method raises EndOfData past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = 8 * len(data)
        self.position = 0

    def bits(self, count: int) -> int:
        """The next `count` bits, 0 to 56, as a number."""
        value = self.peek(count)
        self.skip(count)
        return value

    def peek(self, count: int) -> int:
        """The next bits without taking them; zeros follow the end."""
        first = self.position >> 3
        word = int.from_bytes(self._data[first : first + 8], "little")
        return word >> (self.position & 7) & (1 << count) - 1

    def skip(self, count: int) -> None:
        """Pass over any number of bits."""
        self.position += count
        if self.position > self._end:
            raise EndOfData("the data ends too early")

    def flag(self) -> bool:
        """One bit."""
        return self.bits(1) == 1

    def u32(self, *choices: int | tuple[int, int]) -> int:
        """A number by one of four choices: itself, or the number of its bits and an offset."""
        choice = choices[self.bits(2)]
        return choice if isinstance(choice, int) else self.bits(choice[0]) + choice[1]

    def u64(self) -> int:
        """A number of up to 64 bits in a form of varying length."""
        choice = self.bits(2)
        if choice < 3:
            return (0, 1, 17)[choice] + self.bits((0, 4, 8)[choice])
        value, shift = self.bits(12), 12
        while self.flag():
            if shift == 60:
                return value | self.bits(4) << shift
            value |= self.bits(8) << shift
            shift += 8
        return value

    def enum(self) -> int:
        """A value of an enumeration."""
        return self.u32(0, 1, (4, 2), (6, 18))
