"""Which files of a folder form a stack, by their names, kinds, cameras and times."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.stacks import FileKind, Stack, StackFile, find_stacks

_NOON = datetime.datetime(2024, 5, 1, 12)
_RAWS, _VIDEOS = {"cr2", "dng", "nef"}, {"mov", "mp4"}


def _file(
    name: str, number: int, seconds: float | None = 0.0, camera: str | None = "Canon R5"
) -> StackFile:
    suffix = name.rpartition(".")[2].lower()
    kind = FileKind.RAW if suffix in _RAWS else FileKind.PICTURE
    if suffix in _VIDEOS:
        kind = FileKind.VIDEO
    taken_at = None if seconds is None else _NOON + datetime.timedelta(seconds=seconds)
    return StackFile(number, name, kind, camera, taken_at)


def _names(files: Sequence[StackFile]) -> dict[str, set[str]]:
    """The stacks by the name of their cover."""
    names = {file.id: file.name for file in files}
    return {
        names[stack.cover]: {names[member] for member in stack.members}
        for stack in find_stacks(files)
    }


def _stacked(*names: str, **facts: float | str | None) -> dict[str, set[str]]:
    """The stacks of files with the same facts."""
    return _names([_file(name, number, **facts) for number, name in enumerate(names, 1)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cover", "others"),
    [
        ("IMG_1.JPG", ["img_1.cr2"]),
        ("IMG_1.HEIC", ["IMG_1.MOV"]),
        ("IMG_1.CR2", ["IMG_1.mov"]),
        ("IMG_1.HEIC", ["IMG_1.JPG"]),
        ("IMG_E0012.HEIC", ["IMG_0012.HEIC", "IMG_0012.MOV", "IMG_E0012.MOV"]),
        ("IMG_1-edited.jpg", ["IMG_1.jpg"]),
        ("IMG_1_edited.jpg", ["IMG_1.dng"]),
        ("IMG_1~3.jpg", ["IMG_1.jpg", "IMG_1~2.jpg"]),
        ("IMG_1-Edit-2.tif", ["IMG_1.cr2", "IMG_1-Edit.tif", "IMG_1.jpg"]),
        ("IMG_1.jpg", ["IMG_1.dng", "IMG_1-Enhanced-NR.dng"]),
        ("IMG_1.jpg", ["IMG_1 (1).jpg", "IMG_1-2.jpg", "IMG_1 copy.jpg", "IMG_1 copy 2.jpg"]),
        (
            "PXL_20231220_170358366.RAW-01.COVER.jpg",
            ["PXL_20231220_170358366.RAW-02.ORIGINAL.dng"],
        ),
        ("PXL_20231026_205755225.MP.jpg", ["PXL_20231026_205755225.dng"]),
        (
            "00100lPORTRAIT_00100_BURST20190101120000000_COVER.jpg",
            ["00000PORTRAIT_00000_BURST20190101120000000.jpg"],
        ),
        (
            "IMG_20231014_183246_BURST002_COVER.jpg",
            ["IMG_20231014_183246_BURST001.jpg", "IMG_20231014_183246_BURST003.jpg"],
        ),
        ("20231207_101605_001.jpg", ["20231207_101605_002.jpg"]),
        ("DSC_0001_BURST20230709220904977.JPG", ["DSC_0002_BURST20230709220904977.JPG"]),
    ],
)
def test_usual_names_form_a_stack_with_the_expected_cover(cover: str, others: list[str]) -> None:
    assert _stacked(*others, cover) == {cover: {cover, *others}}


@pytest.mark.parametrize(
    "names",
    [
        ("IMG_1.jpg", "IMG_2.jpg"),
        ("IMG_1.jpg", "IMG_10.mov"),
        ("holiday-1.jpg", "holiday-2.jpg"),
        ("DSC_1.jpg", "DSC_12.jpg", "DSC_30.jpg"),
        ("PXL_20231220_170358366.jpg", "PXL_20231220_170358367.jpg"),
        ("IMG_20231014_183246_BURST001.jpg", "IMG_20231014_183247_BURST001.jpg"),
        ("20231207_101605.jpg", "20231207_101606_001.jpg"),
    ],
)
def test_other_names_form_no_stack(names: tuple[str, ...]) -> None:
    assert _stacked(*names) == {}


def test_names_alone_join_kinds_but_neither_copies_nor_bursts() -> None:
    nothing: dict[str, float | str | None] = {"seconds": None, "camera": None}
    assert _stacked("a.jpg", "a.cr2", "a.mov", **nothing) == {"a.jpg": {"a.jpg", "a.cr2", "a.mov"}}
    assert _stacked("a.jpg", "a.png", **nothing) == {}
    assert _stacked("a.jpg", "a-edited.jpg", **nothing) == {}
    assert _stacked("i1.jpg", "i2.jpg", "i3.jpg", **nothing) == {}


@pytest.mark.parametrize(
    ("other", "is_joined"),
    [
        (_file("a.cr2", 2, 0.9), True),
        (_file("a.cr2", 2, 3), False),
        (_file("a.cr2", 2, 0, "Nikon Z8"), False),
        (_file("a.cr2", 2, None, None), True),
        (_file("a.mov", 2, 4, None), True),
        (_file("a.mov", 2, 20, None), False),
        # The clock of the video is in UTC, or that of another zone.
        (_file("a.mp4", 2, -7200 + 3, None), True),
        (_file("a.mp4", 2, 20_700 - 3, None), True),
        (_file("a.mp4", 2, 5 * 86_400, None), False),
        (_file("a-edited.jpg", 2, 0.4), True),
        (_file("a-edited.jpg", 2, 2), False),
        (_file("a-edited.jpg", 2, 0, None), False),
        (_file("a~2.jpg", 2, None), False),
    ],
)
def test_metadata_that_contradicts_a_name_parts_a_stack(other: StackFile, is_joined: bool) -> None:
    assert bool(find_stacks([_file("a.jpg", 1), other])) is is_joined


@pytest.mark.parametrize(
    ("one", "other", "is_joined"),
    [
        ({"document_id": "d"}, {"derived_from_id": "d"}, True),
        ({"document_id": "d"}, {"derived_from_id": "e"}, False),
        ({"document_id": "d"}, {"document_id": "d"}, False),
        ({"derived_from_id": "d"}, {"derived_from_id": "d"}, False),
        ({"name": "Old.NEF"}, {"raw_name": "old.nef"}, True),
        ({"name": "old.nef"}, {"raw_name": "old.dng"}, False),
        ({"live_photo_id": "l"}, {"live_photo_id": "l"}, True),
        ({"live_photo_id": "l"}, {"live_photo_id": "m"}, False),
    ],
)
def test_metadata_that_names_another_file_links_files_of_any_names(
    one: dict[str, str], other: dict[str, str], is_joined: bool
) -> None:
    first = replace(_file("x.jpg", 1, None, None), **one)
    made = replace(_file("y.jpg", 2, None, None), **other)
    assert bool(find_stacks([made, first])) is is_joined
    # What was derived from the other is in front.
    if is_joined and "live_photo_id" not in one:
        assert [stack.cover for stack in find_stacks([first, made])] == [2]


def test_what_names_another_file_is_no_edit_of_it_if_its_time_or_camera_differs() -> None:
    original = replace(_file("x.jpg", 1), document_id="d")
    for seconds, camera, is_joined in (
        *((0.5, "Canon R5", True), (None, None, True)),
        *((60, "Canon R5", False), (0, "Nikon Z8", False)),
    ):
        edited = replace(_file("y.jpg", 2, seconds, camera), derived_from_id="d")
        assert bool(find_stacks([original, edited])) is is_joined
    # An id of fifty and more files names none of them.
    many = [replace(_file(f"x{n}x.jpg", n, None), document_id="d") for n in range(3, 60)]
    assert find_stacks([*many, replace(_file("y.jpg", 2), derived_from_id="d")]) == []


def test_three_numbers_in_a_row_a_second_apart_are_a_burst_without_a_name() -> None:
    burst = [_file(f"DSC_{number:04}.NEF", number, number * 0.9) for number in range(7, 11)]
    assert _names(burst) == {"DSC_0007.NEF": {file.name for file in burst}}
    assert _names(burst[:2]) == {}
    with_pictures = [*burst, *(_file(f"DSC_{n:04}.JPG", 100 + n, n * 0.9) for n in range(7, 11))]
    assert _names(with_pictures) == {"DSC_0007.JPG": {file.name for file in with_pictures}}
    # Two frames with a RAW each are not three.
    assert len(_names([*burst[:2], *with_pictures[4:6]])) == 2


def test_a_burst_ends_at_a_pause_a_gap_another_camera_or_another_series() -> None:
    def stacks(**changed: StackFile) -> int:
        frames = {f"i{number}": _file(f"i{number}.jpg", number, number) for number in range(1, 7)}
        return len(find_stacks((frames | changed).values()))

    assert stacks() == 1
    assert stacks(i4=_file("i4.jpg", 4, 90)) == 1
    assert len(find_stacks([_file(f"i{n}.jpg", n, n + (n > 3)) for n in range(1, 7)])) == 2
    assert stacks(i3=_file("i3.jpg", 3, 3, "Nikon Z8"), i5=_file("j5.jpg", 5, 5)) == 0
    assert stacks(i3=_file("i3.mov", 3, 3), i5=_file("i05.jpg", 5, 5)) == 0


@pytest.mark.parametrize(
    ("frames", "seconds_apart", "is_burst"),
    [(11, 1.0, True), (12, 1.0, False), (300, 1.0, False), (40, 0.75, False), (41, 0.5, True),
     (180, 0.05, True), (900, 1 / 15, True)],
)  # fmt: skip
def test_a_long_run_of_frames_is_a_burst_at_two_frames_a_second(
    frames: int, seconds_apart: float, is_burst: bool
) -> None:
    run = [
        _file(f"G{number:04}.JPG", number, number * seconds_apart)
        for number in range(1, frames + 1)
    ]
    assert [len(stack.members) for stack in find_stacks(run)] == ([frames] if is_burst else [])
    # RAW and JPEG of each frame belong together all the same.
    raws = [_file(f"G{file.id:04}.CR2", 1000 + file.id, file.id * seconds_apart) for file in run]
    assert len(find_stacks([*run, *raws])) == (1 if is_burst else frames)


def test_what_people_chose_overrides_the_rules_for_the_chosen_files_alone() -> None:
    def chosen(**numbers: int) -> dict[str, set[str]]:
        names = [*(f"i{number}.jpg" for number in range(1, 6)), "z.png"]
        files = [_file(name, place, place) for place, name in enumerate(names, 1)]
        return _names([replace(one, chosen=numbers.get(one.stem)) for one in files])

    frames = {f"i{number}.jpg" for number in range(1, 6)}
    assert chosen() == {"i1.jpg": frames}
    # The others stay together, though only the one that was taken out links them.
    assert chosen(i3=0) == {"i1.jpg": frames - {"i3.jpg"}}
    assert chosen(i3=0, i4=0) == {"i1.jpg": {"i1.jpg", "i2.jpg", "i5.jpg"}}
    assert chosen(i3=7, z=7) == {"i1.jpg": frames - {"i3.jpg"}, "i3.jpg": {"i3.jpg", "z.png"}}
    assert chosen(i3=7) == {"i1.jpg": frames - {"i3.jpg"}}


def test_an_edited_picture_of_a_burst_is_its_cover() -> None:
    names = ["x_BURST001_COVER.jpg", "x_BURST002.jpg", "x_BURST003.jpg"]
    assert set(_stacked(*names, "x_BURST002-edited.jpg")) == {"x_BURST002-edited.jpg"}


_STEMS = [
    *("img_0001", "IMG_0002", "img_0003", "img_0004", "IMG_E0001", "img_0001-edited"),
    *("img_0002~2", "img_0001-Edit", "img_0001-Edit-2", "img_0003 (1)", "img_0001-2", "img_0002-1"),
    *("b_BURST001", "b_BURST002_COVER", "20240501_120000_001", "20240501_120000_002"),
    *("PXL_20240501_120000000", "PXL_20240501_120000000.MP", "", "."),
]
_files = st.lists(
    st.builds(
        _file,
        st.builds(
            "{}.{}".format, st.sampled_from(_STEMS), st.sampled_from(["JPG", "jpg", "cr2", "mov"])
        ),
        st.just(0),
        st.sampled_from([None, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 60.0]),
        st.sampled_from([None, "Canon R5", "Nikon Z8"]),
    ).flatmap(
        lambda file: st.builds(
            replace,
            st.just(file),
            document_id=st.sampled_from([None, None, "d", "e"]),
            derived_from_id=st.sampled_from([None, None, "d", "e"]),
            raw_name=st.sampled_from([None, None, "img_0001.cr2"]),
            live_photo_id=st.sampled_from([None, None, None, "l"]),
        )
    ),
    max_size=25,
    unique_by=lambda file: file.name,
).map(lambda files: [replace(file, id=number) for number, file in enumerate(files, 1)])


@given(_files, st.randoms(use_true_random=False))
def test_stacks_are_apart_whole_and_the_same_in_any_order(
    files: list[StackFile], random: st.DataObject
) -> None:
    stacks = find_stacks(files)
    members = [member for stack in stacks for member in stack.members]
    assert len(members) == len(set(members)) <= len(files)
    assert all(stack.cover in stack.members and len(stack.members) > 1 for stack in stacks)
    random.shuffle(files)  # type: ignore[attr-defined]
    assert set(find_stacks(files)) == set(stacks)


@given(_files, st.sampled_from(_STEMS), st.sampled_from([None, 0.0, 1.0, 60.0]))
def test_another_file_changes_only_the_stack_that_it_joins(
    files: list[StackFile], stem: str, seconds: float | None
) -> None:
    new = _file(f"{stem}.HEIC", 1000, seconds)
    before, after = set(find_stacks(files)), set(find_stacks([*files, new]))
    with_new = {stack for stack in after if new.id in stack.members}
    # A third frame makes a burst of two others without being linked to both.
    touched = {member for stack in with_new for member in stack.members}
    untouched = {stack for stack in before if not stack.members & touched}
    assert after - with_new == untouched
    assert all(stack.members <= touched for stack in before - untouched)


def test_thousands_of_files_take_no_time_to_speak_of() -> None:
    files = [
        _file(f"i{number:04}.{kind}", number * 2 + (kind == "jpg"), number / 2)
        for number in range(5000)
        for kind in ("jpg", "cr2")
    ]
    (stack,) = find_stacks(files)
    assert isinstance(stack, Stack)
    assert len(stack.members) == 10_000
