"""Decodes the numbers that JPEG XL compresses with ANS or prefix codes (ISO/IEC 18181-1, annex C).

Every number has a context, contexts share distributions of symbols, and a symbol stands for a
number alone, for one with more bits, or for a copy of earlier numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from regard.photos.jpegxl.bits import BitReader

_STATE_BITS = 12
_RANGE = 1 << _STATE_BITS
_FINAL_STATE = 0x130000
_WINDOW = 1 << 20
_MAX_PREFIX_BITS = 15
# How a distribution's logarithms, and the lengths of lengths in a prefix code, are written: the
# bits, the first one last, and the value.
_LOGARITHMS = {
    "10001": 0, "1011": 1, "1111": 2, "0011": 3, "1001": 4, "0111": 5, "100": 6, "010": 7,
    "101": 8, "110": 9, "000": 10, "100001": 11, "0000001": 12, "1000001": 13,
}  # fmt: skip
_REPEAT = 13
_LENGTH_BITS = {"00": 0, "0111": 1, "011": 2, "10": 3, "01": 4, "1111": 5}
_LENGTH_ORDER = (1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15)


class DamagedCode(ValueError):
    """A code that the standard does not allow."""


def _table(codes: dict[str, int], width: int) -> list[tuple[int, int]]:
    """Length and value of the code at the end of every number of `width` bits."""
    table = [(0, 0)] * (1 << width)
    for code, value in codes.items():
        for rest in range(1 << width - len(code)):
            table[rest << len(code) | int(code, 2)] = len(code), value
    return table


_LOGARITHM_TABLE = _table(_LOGARITHMS, 7)
_LENGTH_TABLE = _table(_LENGTH_BITS, 4)


@dataclass(frozen=True, slots=True)
class _Split:
    """How symbols from 1 << `exponent` on are numbers with more bits (annex C.3.1)."""

    exponent: int
    high: int
    low: int

    @classmethod
    def read(cls, reader: BitReader, largest: int) -> _Split:
        exponent = reader.bits(largest.bit_length())
        high = low = 0
        if exponent != largest:
            high = reader.bits(exponent.bit_length())
            if high > exponent:
                raise DamagedCode("a number's form is impossible")
            low = reader.bits((exponent - high).bit_length())
        if high + low > exponent:
            raise DamagedCode("a number's form is impossible")
        return cls(exponent, high, low)

    def number(self, reader: BitReader, symbol: int) -> int:
        if symbol < 1 << self.exponent:
            return symbol
        fixed = self.high + self.low
        count = self.exponent - fixed + (symbol - (1 << self.exponent) >> fixed)
        if count > 32:
            raise DamagedCode("a number is too large")
        lowest = symbol & (1 << self.low) - 1
        highest = symbol >> self.low & (1 << self.high) - 1 | 1 << self.high
        return (highest << count | reader.bits(count)) << self.low | lowest


@dataclass(slots=True)
class _Prefix:
    """A prefix code, as a table of the lengths and symbols by the next `width` bits."""

    width: int
    table: list[tuple[int, int]]

    def symbol(self, reader: BitReader) -> int:
        length, symbol = self.table[reader.peek(self.width)]
        reader.skip(length)
        return symbol


@dataclass(slots=True)
class _Alias:
    """A distribution for ANS, as an alias table (annex C.2.6).

    Of each equal part of the range, positions from `cutoffs` on belong to another symbol.
    """

    counts: list[int]
    bits: int
    cutoffs: list[int] = field(init=False)
    others: list[int] = field(init=False)
    offsets: list[int] = field(init=False)

    def __post_init__(self) -> None:
        size, part = 1 << _STATE_BITS - self.bits, 1 << self.bits
        self.counts += [0] * (size - len(self.counts))
        self.others, self.offsets = list(range(size)), [0] * size
        only = [symbol for symbol, count in enumerate(self.counts) if count == _RANGE]
        if only:
            self.cutoffs = [0] * size
            self.others = only * size
            self.offsets = [part * index for index in range(size)]
            return
        self.cutoffs = self.counts.copy()
        over = [index for index, count in enumerate(self.cutoffs) if count > part]
        under = [index for index, count in enumerate(self.cutoffs) if count < part]
        while over:
            full, open_ = over.pop(), under.pop()
            self.cutoffs[full] -= part - self.cutoffs[open_]
            self.others[open_] = full
            self.offsets[open_] = self.cutoffs[full]
            if self.cutoffs[full] < part:
                under.append(full)
            elif self.cutoffs[full] > part:
                over.append(full)
        for index, cutoff in enumerate(self.cutoffs):
            if cutoff == part:
                self.cutoffs[index] = 0
            else:
                self.offsets[index] -= cutoff

    def lookup(self, value: int) -> tuple[int, int]:
        """The symbol at a position of the range, and its offset among those of the symbol."""
        index, place = value >> self.bits, value & (1 << self.bits) - 1
        if place >= self.cutoffs[index]:
            return self.others[index], self.offsets[index] + place
        return index, place


class NumberReader:
    """Reads numbers of some contexts whose codes come first; may raise EndOfData, DamagedCode."""

    def __init__(self, reader: BitReader, contexts: int, *, can_copy: bool = True) -> None:
        self._reader = reader
        self._copies_from = 1 << 32
        if reader.flag():
            if not can_copy:
                raise DamagedCode("copies are not allowed here")
            self._copies_from = reader.u32(224, 512, 4096, (15, 8))
            self._least_copied = reader.u32(3, 4, (2, 5), (8, 9))
            self._lengths = _Split.read(reader, 8)
            contexts += 1
        self._codes_of = _context_map(reader, contexts) if contexts > 1 else [0]
        has_prefixes = reader.flag()
        bits = _MAX_PREFIX_BITS if has_prefixes else 5 + reader.bits(2)
        count = max(self._codes_of) + 1
        self._splits = [_Split.read(reader, bits) for _ in range(count)]
        self._prefixes = _prefixes(reader, count) if has_prefixes else []
        self._aliases: list[_Alias] = []
        self._state = _FINAL_STATE
        if not has_prefixes:
            for _ in range(count):
                counts = _distribution(reader)
                if len(counts) > 1 << bits:
                    raise DamagedCode("a distribution has too many symbols")
                self._aliases.append(_Alias(counts, _STATE_BITS - bits))
            self._state = reader.bits(32)
        self._numbers: list[int] = []
        self._left = self._copied = 0

    def number(self, context: int) -> int:
        """The next number."""
        if self._left == 0:
            code = self._codes_of[context]
            symbol = self._symbol(code)
            if symbol < self._copies_from:
                return self._kept(self._splits[code].number(self._reader, symbol))
            length = self._lengths.number(self._reader, symbol - self._copies_from)
            self._left = length + self._least_copied
            code = self._codes_of[-1]
            distance = 1 + self._splits[code].number(self._reader, self._symbol(code))
            if not self._numbers:
                raise DamagedCode("there is nothing to copy")
            self._copied = len(self._numbers) - min(distance, len(self._numbers), _WINDOW)
        self._left -= 1
        self._copied += 1
        return self._kept(self._numbers[self._copied - 1])

    def has_ended(self) -> bool:
        """Whether the state is the one that ends every sound stream."""
        return self._state == _FINAL_STATE

    def _kept(self, number: int) -> int:
        self._numbers.append(number)
        return number

    def _symbol(self, code: int) -> int:
        if self._prefixes:
            return self._prefixes[code].symbol(self._reader)
        alias = self._aliases[code]
        symbol, offset = alias.lookup(self._state & _RANGE - 1)
        self._state = alias.counts[symbol] * (self._state >> _STATE_BITS) + offset
        if self._state < 1 << 16:
            self._state = self._state << 16 | self._reader.bits(16)
        return symbol


def _context_map(reader: BitReader, contexts: int) -> list[int]:
    """The number of the distribution of each context."""
    if reader.flag():
        bits = reader.bits(2)
        codes = [reader.bits(bits) for _ in range(contexts)]
    else:
        has_moves = reader.flag()
        numbers = NumberReader(reader, 1, can_copy=contexts > 2)
        codes = [numbers.number(0) for _ in range(contexts)]
        if max(codes) > 255 or not numbers.has_ended():
            raise DamagedCode("the map of contexts is damaged")
        order = list(range(256))
        for index, code in enumerate(codes if has_moves else ()):
            codes[index] = order[code]
            order.insert(0, order.pop(code))
    if set(codes) != set(range(max(codes) + 1)):
        raise DamagedCode("a distribution has no context")
    return codes


def _variable(reader: BitReader, width: int) -> int:
    """A number of varying length, with `width` bits for its length."""
    if not reader.flag():
        return 0
    bits = reader.bits(width)
    return 1 << bits | reader.bits(bits)


def _distribution(reader: BitReader) -> list[int]:
    """How many of 4096 positions each symbol has (annex C.2.5)."""
    if reader.flag():
        symbols = [_variable(reader, 3) for _ in range(1 + reader.bits(1))]
        counts = [0] * (max(symbols) + 1)
        if len(set(symbols)) < len(symbols):
            raise DamagedCode("a distribution names a symbol twice")
        if len(symbols) == 2:
            counts[symbols[0]] = reader.bits(_STATE_BITS)
        counts[symbols[-1]] = _RANGE - sum(counts)
        return counts
    if reader.flag():
        size = 1 + _variable(reader, 3)
        return [_RANGE // size + (index < _RANGE % size) for index in range(size)]
    return _detailed_distribution(reader)


def _detailed_distribution(reader: BitReader) -> list[int]:
    ones = 0
    while ones < 3 and reader.flag():
        ones += 1
    precision = (1 << ones | reader.bits(ones)) - 1
    size = 3 + _variable(reader, 3)
    logarithms: list[int | None] = []
    while len(logarithms) < size:
        length, logarithm = _LOGARITHM_TABLE[reader.peek(7)]
        reader.skip(length)
        # None repeats the count before it.
        repeated = 4 + _variable(reader, 3) if logarithm == _REPEAT else 0
        logarithms += [None] * repeated if repeated else [logarithm]
    largest = max((value for value in logarithms if value is not None), default=-1)
    if precision > _STATE_BITS + 1 or largest < 0:
        raise DamagedCode("a distribution is damaged")
    omitted = logarithms.index(largest)
    counts: list[int] = []
    for index, value in enumerate(logarithms[:size]):
        if value is None:
            counts.append(counts[-1] if counts else 0)
        elif index == omitted or value == 0:
            counts.append(0)
        else:
            bits = max(0, min(value - 1, precision - (_STATE_BITS - value + 1 >> 1)))
            counts.append((1 << value - 1) + (reader.bits(bits) << value - 1 - bits))
    counts[omitted] = _RANGE - sum(counts)
    if counts[omitted] <= 0:
        raise DamagedCode("a distribution is damaged")
    return counts


def _prefixes(reader: BitReader, count: int) -> list[_Prefix]:
    sizes = [1 + _variable(reader, 4) for _ in range(count)]
    if max(sizes) > 1 << _MAX_PREFIX_BITS:
        raise DamagedCode("a prefix code has too many symbols")
    return [_prefix(reader, size) for size in sizes]


def _prefix(reader: BitReader, size: int) -> _Prefix:
    """A prefix code of `size` symbols (RFC 7932, section 3)."""
    if size == 1:
        return _Prefix(0, [(0, 0)])
    skipped = reader.bits(2)
    if skipped == 1:
        return _simple_prefix(reader, size)
    lengths = [0] * len(_LENGTH_ORDER)
    space = 32
    for index in _LENGTH_ORDER[skipped:]:
        length, lengths[index] = _LENGTH_TABLE[reader.peek(4)]
        reader.skip(length)
        space -= 32 >> lengths[index] if lengths[index] else 0
        if space <= 0:
            break
    if space != 0 and sum(map(bool, lengths)) != 1:
        raise DamagedCode("a prefix code is damaged")
    return _prefix_of(_prefix_lengths(reader, _prefix_of(lengths), size))


def _simple_prefix(reader: BitReader, size: int) -> _Prefix:
    count = 1 + reader.bits(2)
    symbols = [reader.bits((size - 1).bit_length()) for _ in range(count)]
    if len(set(symbols)) < count or max(symbols) >= size:
        raise DamagedCode("a prefix code is damaged")
    is_deep = count == 4 and reader.flag()
    forms = {1: (0,), 2: (1, 1), 3: (1, 2, 2), 4: (1, 2, 3, 3) if is_deep else (2, 2, 2, 2)}
    lengths = [0] * size
    for symbol, length in zip(symbols, forms[count], strict=True):
        lengths[symbol] = length
    return _Prefix(0, [(0, symbols[0])]) if count == 1 else _prefix_of(lengths)


def _prefix_lengths(reader: BitReader, code: _Prefix, size: int) -> list[int]:
    """The lengths of the codes of all symbols, themselves compressed."""
    lengths: list[int] = []
    previous, repeated, repeats = 8, 0, 0
    space = 1 << _MAX_PREFIX_BITS
    while len(lengths) < size and space > 0:
        symbol = code.symbol(reader)
        if symbol < 16:
            added, repeats = [symbol], 0
            previous = symbol or previous
        else:
            length = previous if symbol == 16 else 0
            before = repeats if length == repeated else 0
            repeated = length
            bits = symbol - 14
            repeats = (before - 2 << bits if before else 0) + reader.bits(bits) + 3
            added = [length] * (repeats - before)
        lengths += added
        space -= sum(1 << _MAX_PREFIX_BITS - length for length in added if length)
        if len(lengths) > size:
            break
    if space != 0 or len(lengths) > size:
        raise DamagedCode("a prefix code is damaged")
    return lengths


def _prefix_of(lengths: Sequence[int]) -> _Prefix:
    """The canonical code; a single symbol takes no bits."""
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    if len(used) == 1:
        return _Prefix(0, [(0, used[0][1])])
    width = used[-1][0]
    table = [(0, 0)] * (1 << width)
    position = 0
    for length, symbol in used:
        first = int(f"{position >> width - length:0{length}b}"[::-1], 2)
        table[first :: 1 << length] = [(length, symbol)] * (1 << width - length)
        position += 1 << width - length
    return _Prefix(width, table)
