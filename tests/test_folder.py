"""A folder of pictures and masks: what is found in it, and what is said of it."""

import io
import logging
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from unet_edu.checkpoints import NoRoom
from unet_edu.data import folder as folders
from unet_edu.data import pictures
from unet_edu.data.folder import Folder, check_unchanged, prepare, read_plan, scan
from unet_edu.data.masks import Stored, Table, check_known, find_table
from unet_edu.data.pairs import find_pairs, groups_of, pictures_in, split_groups
from unet_edu.data.pictures import FolderError


def touch(folder: Path, names: str) -> Path:
    """Make empty files: pairs are found by their names alone."""
    for name in names.split():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def save(file: Path, array: np.ndarray, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)
    return file


def gray(seed: int = 0, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def disc(
    values=(0, 255), size: tuple[int, int] = (24, 32), radius: int = 8
) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = (rows - size[0] // 2) ** 2 + (columns - size[1] // 2) ** 2 < radius**2
    return np.where(inside, values[1], values[0]).astype(np.uint8)


def make(folder: Path, n: int = 6, mask=disc, image=gray, kind: str = "png") -> Path:
    """Write n pictures and masks, in images/ and masks/."""
    for i in range(n):
        save(folder / f"images/{i}.{kind}", image(i))
        save(folder / f"masks/{i}.png", mask())
    return folder


# --- Which file is whose mask.

LAYOUTS = {
    "equal names": ("images/a.jpg images/b.jpg masks/a.png masks/b.png", "a b"),
    "other words": ("JPEGImages/a.jpg SegmentationClass/a.png", "a"),
    "img, gt": ("img/a.bmp GT/a.tif", "a"),
    "x, y": ("x/a.png y/a.png", "a"),
    "suffix in a folder": ("images/a.jpg masks/a_mask.png", "a"),
    "prefix in a folder": ("images/img_1.jpg masks/mask_1.png", "1"),
    "images/ and top": ("a.jpg b.jpg masks/a.png masks/b.png", "a b"),
    "beside: _mask": ("a.jpg a_mask.png b.jpg b_mask.png", "a b"),
    "beside: -label": ("a.png a-label.png", "a"),
    "beside: _gt": ("a.png a_gt.png", "a"),
    "beside: mask_": ("a.png mask_a.png", "a"),
    "beside: 1stHO": ("Image_01L.jpg Image_01L_1stHO.png", "Image_01L"),
    "beside: two words": ("a_image.png a_seg.png", "a"),
    "beside, in images/": ("images/a.png images/a_mask.png", "a"),
    "own affix": ("images/a1.jpg images/a2.jpg masks/a1_v2x.png masks/a2_v2x.png", "a"),
    "longer picture": ("img/a_rgb8.png img/b_rgb8.png gt/a.png gt/b.png", "a b"),
    "beside: other suffix": ("a.bmp a.png b.bmp b.png", "a b"),
    "train_masks": ("train/a.jpg train_masks/a_mask.png", "a"),
    "patients": ("p1/img/01.png p1/mask/01.png p2/img/01.png p2/mask/01.png", "01"),
    "patients beside": ("p1/01.png p1/01_mask.png p2/01.png p2/01_mask.png", "01"),
}


@pytest.mark.parametrize(("names", "stems"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, names, stems):
    found = find_pairs(touch(tmp_path, names))
    assert len(found.pairs) == len(names.split()) // 2
    assert not found.without_mask
    assert not found.without_image
    paths = [path for pair in found.pairs for path in (pair.image, pair.mask)]
    assert sorted(paths) == sorted(names.split())
    for pair in found.pairs:
        # The picture is the first of the two in each table entry.
        assert names.split().index(pair.image) < names.split().index(pair.mask)
        assert any(stem in pair.image and stem in pair.mask for stem in stems.split())
    for said in (f"{len(found.pairs)} pair", str(tmp_path), found.pairs[0].mask):
        assert said in str(found)


@pytest.mark.parametrize(
    "names",
    [
        "train/images/a.png train/masks/a.png val/images/b.png val/masks/b.png "
        "test/images/c.png test/masks/c.png",
        "images/train/a.png masks/train/a.png images/valid/b.png masks/valid/b.png "
        "images/test/c.png masks/test/c.png",
        "train/a.png train/a_mask.png validation/b.png validation/b_mask.png "
        "test/c.png test/c_mask.png",
    ],
)
def test_folders_that_say_the_split_are_respected(tmp_path, names):
    found = find_pairs(touch(tmp_path, names))
    parts = {Path(pair.image).stem: pair.part for pair in found.pairs}
    assert parts == {"a": "train", "b": "val", "c": "held_out"}
    given = [pair.part for pair in found.pairs]
    assert split_groups(["a", "b", "c"], given) == given


def test_files_without_a_partner_are_named(tmp_path):
    found = find_pairs(
        touch(tmp_path, "images/a.png images/b.png masks/a.png masks/z.png")
    )
    assert (found.without_mask, found.without_image) == (
        ["images/b.png"],
        ["masks/z.png"],
    )
    assert "1 picture without a mask, left out: images/b.png" in str(found)
    assert "1 mask without a picture, left out: masks/z.png" in str(found)


def test_patterns_by_hand(tmp_path):
    touch(
        tmp_path, "p1/shot7.png p1/truth7x.png p2/shot8.png p2/truth8x.png p2/shot9.png"
    )
    found = find_pairs(tmp_path, "*/shot*.png", "*/truth*x.png")
    assert [(p.image, p.mask) for p in found.pairs] == [
        ("p1/shot7.png", "p1/truth7x.png"),
        ("p2/shot8.png", "p2/truth8x.png"),
    ]
    assert found.without_mask == ["p2/shot9.png"]


def test_the_patterns_that_are_said_are_patterns_to_give(tmp_path):
    touch(
        tmp_path, "p1/img/1_a.png p1/gt/1_a_mask.png p2/img/2_a.png p2/gt/2_a_mask.png"
    )
    found = find_pairs(tmp_path)
    ((images, masks, n),) = found.layouts
    assert n == 2
    assert find_pairs(tmp_path, images, masks).pairs == found.pairs


ILL_LAYOUTS = {
    "two masks": (
        "images/a.png masks/a.png masks/a_mask.png",
        ["more than one mask", "masks/a.png, masks/a_mask.png", "images='*.jpg'"],
    ),
    "two folders of masks": (
        "images/a.png masks/a.png labels/a.png",
        ["more than one mask", "labels/a.png"],
    ),
    "two pictures": (
        "a.jpg a.png a_mask.png",
        ["a_mask.png fits 2 pictures", "a.jpg, a.png"],
    ),
    "two observers": (
        "a.jpg a_1stHO.png a_2ndHO.png",
        ["more than one mask", "a_1stHO.png, a_2ndHO.png"],
    ),
    "no masks": (
        "a.jpg b.jpg",
        ["No picture", "2 pictures (a.jpg, b.jpg)", "a_mask.png"],
    ),
    "other names": (
        "images/a.jpg masks/1.png",
        [
            "No picture",
            "1 picture (images/a.jpg) and 1 mask (masks/1.png)",
            "1 in images/, 1 in masks/",
        ],
    ),
    "nothing": ("notes.txt", ["holds no picture", "png, jpg"]),
}


@pytest.mark.parametrize(("names", "parts"), ILL_LAYOUTS.values(), ids=ILL_LAYOUTS)
def test_ill_layouts(tmp_path, names, parts):
    with pytest.raises(FolderError) as error:
        find_pairs(touch(tmp_path, names))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("images", "masks", "part"),
    [
        ("*.png", None, "Patterns come in pairs"),
        ("*.png", "*_*.png", "the same number of stars"),
        ("a.png", "a_mask.png", "at least one"),
        ("a.*", "a_mask.*", "any ending, and no such star"),
        ("*.gif", "*_mask.png", "no file fits '*.gif'. Patterns are relative"),
        ("x/*", "y/*", "no file fits 'x/*' or 'y/*'"),
        ("x/*", "y/*", "Files are, for example, a.png, a.tif, a_mask.png"),
        ("*.tif", "a_*.png", "no two have the same text where the stars are"),
        ("*.*", "*_mask.*", "'*.*' fits both a.png and a.tif"),
    ],
)
def test_ill_patterns(tmp_path, images, masks, part):
    with pytest.raises(FolderError, match=re.escape(part)):
        find_pairs(touch(tmp_path, "a.png a.tif a_mask.png"), images, masks)


def test_a_pattern_for_any_ending(tmp_path):
    touch(tmp_path, "in/1.jpg in/2.PNG out/1.tif out/2.png")
    found = find_pairs(tmp_path, "in/*.*", "out/*.*")
    assert [(p.image, p.mask) for p in found.pairs] == [
        ("in/1.jpg", "out/1.tif"),
        ("in/2.PNG", "out/2.png"),
    ]


@pytest.mark.parametrize(
    "names",
    [
        "fluor/1.jpg fluor/2.jpg truth/1.png truth/2.png",
        "fluor/1.png fluor/2.tif truth/1.png truth/2.png",
        "scan/s_1.tif scan/s_2.tif drawn_labels/o_1x.png drawn_labels/o_2x.png",
        "p1/fl/a1.tif p1/truth/a1.tif p2/fl/a2.tif p2/truth/a2.tif",
        "1.jpg 2.jpg 3.jpg truth/1.png truth/2.png truth/3.png",
    ],
    ids=["endings", "mixed endings", "affixes", "patients", "top"],
)
def test_two_unknown_folders_give_patterns_that_work(tmp_path, names):
    with pytest.raises(FolderError) as error:
        find_pairs(touch(tmp_path, names))
    images, masks = re.search(
        "Perhaps images='(.+?)', masks='(.+?)'", str(error.value)
    ).groups()
    found = find_pairs(tmp_path, images, masks)
    assert len(found.pairs) == len(names.split()) // 2
    assert not found.without_mask + found.without_image
    assert all("truth" in p.mask or "labels" in p.mask for p in found.pairs)


def test_files_that_are_not_read_are_said(tmp_path):
    touch(tmp_path, "images/a.png images/b.gif notes.txt outlines.json c.GIF")
    touch(tmp_path, "masks/a.png masks/classes.txt")
    said = str(find_pairs(tmp_path))
    assert "3 files of other kinds left out: .gif, .json." in said
    assert "classes.txt in masks/ is not read: put it at the top of the folder" in said
    touch(tmp_path, "classes.txt")
    assert "is not read" not in str(find_pairs(tmp_path, "images/*", "masks/*"))
    with pytest.raises(FolderError, match=r"no picture.* 1 file of other kinds.*gif"):
        find_pairs(touch(tmp_path / "gifs", "a.gif"))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(FolderError, match="There is no folder"):
        find_pairs(tmp_path / "nothing")


def test_hidden_files_are_no_pictures(tmp_path):
    # macOS leaves ._a.png beside a.png on foreign disks.
    touch(tmp_path, "a.png a_mask.png ._a.png .cache/b.png __MACOSX/a.png")
    assert len(find_pairs(tmp_path).pairs) == 1


def test_pictures_to_predict_are_not_masks(tmp_path):
    touch(tmp_path, "images/a.png masks/a.png out/a-mask.png out/a-overlay.png b.png")
    assert pictures_in(tmp_path, but_not=tmp_path / "out") == (
        ["b.png", "images/a.png"],
        ["masks/a.png"],
    )
    with pytest.raises(FolderError, match="holds no picture"):
        pictures_in(tmp_path / "masks" / "..", but_not=tmp_path)


# --- What belongs together.


def groups(tmp_path, names: str, pattern: str | None = None) -> tuple[list[str], str]:
    return groups_of(find_pairs(touch(tmp_path, names)).pairs, pattern)


def beside(*stems: str) -> str:
    return " ".join(f"{stem}.png {stem}_mask.png" for stem in stems)


@pytest.mark.parametrize(
    ("stems", "expected", "part"),
    [
        (
            ["p1/1", "p1/2", "p2/1", "p3/1"],
            ["p1", "p1", "p2", "p3"],
            "one a sub-folder",
        ),
        (
            ["a_1", "a_2", "b_1", "b_2", "c1_1", "c1_2"],
            ["a", "a", "b", "b", "c1", "c1"],
            "before its last number",
        ),
        # One series: nothing says that neighbours belong together, so it is asked.
        (["s1", "s2", "s3"], ["s1.png", "s2.png", "s3.png"], "--group"),
        (["ill/a1", "well/b1"], ["ill/a1.png", "well/b1.png"], "each picture its own"),
    ],
)
def test_groups(tmp_path, stems, expected, part):
    found, said = groups(tmp_path, beside(*stems))
    assert found == expected
    assert part in said


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        # specimen_date_number: the date is no specimen.
        (
            "plantA_0501_1 plantA_0501_2 plantA_0502_1 plantA_0502_2 plantB_0501_1 "
            "plantB_0501_2 plantB_0503_1",
            ["plantA"] * 4 + ["plantB"] * 3,
        ),
        ("a-x1-1 a-x1-2 a-x2-1 a-x2-2 b-x1-1 b-x1-2", ["a"] * 4 + ["b"] * 2),
        ("a_x a_y b_x", ["a", "a", "b"]),
        ("my_data/a_x my_data/a_y my_data/b_x", ["a", "a", "b"]),
        ("a_1/1 a_1/2 a_2/1 b_1/1", ["a", "a", "a", "b"]),
    ],
)
def test_groups_that_begin_alike_are_said(tmp_path, stems, expected):
    found, said = groups(tmp_path, beside(*stems.split()))
    assert f"{len(set(found))} groups have {len(set(expected))} beginnings" in said
    assert f"such as {expected[0]}. " in said
    pattern = re.search("--group '(.+)'", said)[1]
    assert groups(tmp_path, beside(*stems.split()), pattern)[0] == expected


@pytest.mark.parametrize(
    "stems", ["img_1 img_2 img_3", "a_1 a_2 b_1 b_2 c_1 c_2", "_a_1 _a_2 _b_1 b", "a b"]
)
def test_groups_that_begin_each_its_own_way_are_not_doubted(tmp_path, stems):
    assert "beginnings" not in groups(tmp_path, beside(*stems.split()))[1]


def test_groups_by_hand(tmp_path):
    names = beside("day1-x-cat", "day1-y-cat", "day2-x-dog")
    found, said = groups(tmp_path, names, r"^(day\d)")
    assert found == ["day1", "day1", "day2"]
    assert "2 groups" in said
    assert groups(tmp_path, names, "cat|dog")[0] == ["cat", "cat", "dog"]


@pytest.mark.parametrize(
    ("pattern", "part"), [("(", "no regular expression"), ("bird", "is not found in")]
)
def test_ill_groups(tmp_path, pattern, part):
    with pytest.raises(FolderError, match=part):
        groups(tmp_path, beside("a", "b"), pattern)


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_split(seed):
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in rng.integers(0, rng.integers(5, 30), 60)]
    parts = split_groups(names, [None] * 60, seed)
    by_group: dict[str, set[str]] = {}
    for name, part in zip(names, parts, strict=True):
        by_group.setdefault(name, set()).add(part)
    assert all(len(found) == 1 for found in by_group.values())
    assert set(parts) == {"train", "val", "held_out"}
    assert parts == split_groups(names, [None] * 60, seed)
    share = sum(found == {"train"} for found in by_group.values()) / len(by_group)
    assert 0.5 <= share <= 0.7


def test_seeds_split_differently():
    names = [str(i) for i in range(30)]
    splits = {tuple(split_groups(names, [None] * 30, seed)) for seed in range(5)}
    assert len(splits) == 5


@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_groups_give_each_part_one(n):
    assert sorted(split_groups(list("abcde")[:n], [None] * n)) == sorted(
        ["train"] * (n - 2) + ["val", "held_out"]
    )


def test_a_missing_part_is_cut_from_what_trains():
    given = ["train"] * 10 + ["held_out"] * 3
    parts = split_groups([str(i) for i in range(13)], given)
    assert parts[10:] == ["held_out"] * 3
    assert (parts[:10].count("val"), parts[:10].count("train")) == (2, 8)


def test_too_few_groups():
    with pytest.raises(
        FolderError, match=r"Only 2 groups to share.* a, b.*--group '.\+'"
    ):
        split_groups(["a", "a", "b"], [None] * 3)


# --- Which value is which class.


def table_of(*arrays: np.ndarray, names=None, above=None) -> tuple[Table, list[str]]:
    stored = {}
    for i, array in enumerate(arrays):
        values, n = np.unique(array, return_counts=True)
        counts = dict(zip(values.tolist(), n.tolist(), strict=True))
        stored[f"{i}.png"] = Stored("values", counts)
    return find_table(stored, names, above)


@pytest.mark.parametrize(
    ("values", "expected", "classes"),
    [
        ([0, 255], {0: 0, 255: 1}, ("background", "object")),
        ([0, 1], {0: 0, 1: 1}, ("background", "object")),
        ([17, 40], {17: 0, 40: 1}, ("background", "object")),
        ([0, 1, 2, 3], {0: 0, 1: 1, 2: 2, 3: 3}, ("0", "1", "2", "3")),
        ([0, 128, 255], {0: 0, 128: 1, 255: 2}, ("0", "1", "2")),
    ],
)
def test_values_become_classes(values, expected, classes):
    array = np.array(values * 4)
    table, said = table_of(array)
    assert (table.values, table.classes, said) == (expected, classes, [])
    mask = table.to_classes(array.reshape(4, -1, 1).astype(np.uint8))
    assert mask.tolist() == [list(range(len(values)))] * 4
    assert table.to_values(mask).ravel().tolist() == values * 4
    again = Table.from_json(table.to_json())
    assert again == table
    assert "25.0 %" in str(table) or len(values) != 4


@pytest.mark.parametrize(
    ("values", "classes"), [([0, 254], 2), ([0, 85, 170, 255], 4), ([0, 1, 2, 3], 4)]
)
def test_few_values_are_classes(values, classes):
    assert len(table_of(np.array(values))[0].classes) == classes


def test_a_class_without_a_name_is_its_number():
    assert "-> 1   " in str(table_of(np.array([0, 1, 2]))[0])


def test_objects_that_are_numbered_are_doubted(tmp_path):
    make(tmp_path, n=8)
    for i in range(8):
        save(tmp_path / f"masks/{i}.png", (gray(i) % (3 + i % 3)).astype(np.uint8))
    said = warnings_of(tmp_path)
    assert "objects were numbered one by one" in said
    assert "--mask-above 0" in said
    assert "numbered" not in warnings_of(tmp_path, mask_above=0)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    assert "numbered" not in warnings_of(tmp_path)


def test_a_blurred_mask_among_clean_ones_is_explained():
    table, _ = table_of(np.array([0, 255]))
    stored = Stored("values", dict.fromkeys(range(0, 60), 3))
    with pytest.raises(
        FolderError, match=r"a.jpg holds 60 values, .*held 0, 255.*JPEG"
    ):
        check_known(table, stored, "a.jpg")
    with pytest.raises(FolderError, match=r"a.png holds 7, not seen in training"):
        check_known(table, Stored("values", {0: 1, 7: 1}), "a.png")


def test_a_value_that_no_training_mask_had_is_named():
    table, _ = table_of(np.array([0, 255]))
    with pytest.raises(FolderError, match=r"holds 7, not seen.*Known are 0, 255"):
        table.to_classes(np.array([[[0], [7]]], np.uint8))


def test_names_of_classes():
    four = np.array([0, 1, 254, 255])
    assert table_of(four, names=list("abcd"))[0].values == {0: 0, 1: 1, 254: 2, 255: 3}
    assert table_of(np.array([0, 9]), names=["soil", "root"])[0].classes == (
        "soil",
        "root",
    )
    # Indices already, and one of the three never occurs.
    table, _ = table_of(np.array([0, 2]), names=["soil", "root", "leaf"])
    assert table.values == {0: 0, 1: 1, 2: 2}
    with pytest.raises(FolderError, match="names 2 classes"):
        table_of(np.array([0, 1, 2]), names=["soil", "root"])


def test_values_above():
    table, said = table_of(np.arange(1000), above=499)
    assert table.to_classes(np.array([[[499], [500]]])).tolist() == [[0, 1]]
    assert "above 499" in said[0]
    assert "above 499" in str(table)
    with pytest.raises(FolderError, match="No values of the masks are above 1000"):
        table_of(np.arange(1000), above=1000)


ILL_VALUES = {
    "one value": ([np.zeros(9)], ["one value, 0"]),
    "ignore": (
        [np.array([0, 1, 2, 255])],
        ["up to 2 and 255", "mask[mask == 255] = 0"],
    ),
    "instances": ([np.arange(60)], ["60 values, from 0 to 59", "--mask-above 0"]),
    "a few near the ends": (
        [np.array([0] * 60 + [1, 2] + [254] * 38)],
        ["4 values: 0 (60 %), 1 (1 %), 2", "254 (38 %)", "classes.txt", "above 127"],
    ),
    "off by one": ([np.array([0, 0, 1, 254, 255])], ["4 values: 0 (40 %)"]),
    "white off by one": ([np.array([0, 0, 254, 255])], ["254 (25 %)"]),
    "few instances": (
        [np.arange(5), np.arange(12), np.arange(8)],
        ["12 values", "its own number", "classes.txt"],
    ),
}


@pytest.mark.parametrize(("arrays", "parts"), ILL_VALUES.values(), ids=ILL_VALUES)
def test_ill_values(arrays, parts):
    with pytest.raises(FolderError) as error:
        table_of(*arrays)
    for part in parts:
        assert part in str(error.value)


def test_many_classes_are_no_instances_if_they_have_names():
    names = [f"c{i}" for i in range(40)]
    assert table_of(np.arange(40), names=names)[0].classes[-1] == "c39"


@pytest.mark.parametrize("quality", [60, 90])
def test_fringes_of_jpeg_are_recognised(tmp_path, quality):
    for i in range(6):
        save(tmp_path / f"images/{i}.png", gray(i, (64, 64)))
        mask = disc(size=(64, 64), radius=20)
        save(tmp_path / f"masks/{i}.jpg", mask, quality=quality)
    plan = prepare(tmp_path, progress=False)
    assert plan.table.threshold == 127
    assert "nearly all close to 0 or to 255" in str(plan)
    for x, y in Folder(plan, plan.part("train")):
        assert x.shape == (1, 64, 64)
        wrong = (y.numpy() != (mask > 0)).mean()
        assert wrong < 0.01
        assert set(y.unique().tolist()) == {0, 1}


def test_three_values_saved_as_jpeg_are_refused(tmp_path):
    for i in range(4):
        save(tmp_path / f"images/{i}.png", gray(i, (64, 64)))
        mask = disc((0, 128), (64, 64), 24) + disc((0, 127), (64, 64), 12)
        save(tmp_path / f"masks/{i}.jpg", mask, quality=70)
    with pytest.raises(FolderError, match="values, from 0"):
        prepare(tmp_path, progress=False)


COLOURS = np.array([[0, 0, 0], [0, 160, 0], [255, 200, 0]], np.uint8)


def test_colours_become_classes(tmp_path):
    index = disc((0, 1)) + disc((0, 1), radius=4)
    make(tmp_path, mask=lambda: COLOURS[index])
    plan = prepare(tmp_path, progress=False)
    assert plan.table.values == {0x000000: 0, 0x00A000: 1, 0xFFC800: 2}
    _, y = Folder(plan, plan.files)[0]
    assert np.array_equal(y, index)
    assert np.array_equal(plan.table.to_values(y.numpy()), COLOURS[index])
    assert "#ffc800" in str(plan)


def test_palettes_become_classes(tmp_path):
    index = disc((0, 2))
    for i in range(6):
        image = Image.fromarray(index)
        image.putpalette([0, 0, 0, 9, 9, 9, 200, 10, 10])
        save(tmp_path / f"images/{i}.png", gray(i))
        (tmp_path / "masks").mkdir(exist_ok=True)
        image.save(tmp_path / f"masks/{i}.png")
    plan = prepare(tmp_path, progress=False)
    assert (plan.table.kind, plan.table.values) == ("palette", {0: 0, 2: 1})
    assert "2 (#c80a0a)" in str(plan)
    _, y = Folder(plan, plan.files)[0]
    assert np.array_equal(y, disc((0, 1)))


def test_palettes_that_disagree_are_read_by_their_colours(tmp_path):
    for i in range(6):
        # In every second file the two indices are exchanged.
        image = Image.fromarray(disc((i % 2, 1 - i % 2)))
        image.putpalette([0, 0, 0, 255, 0, 0] if i % 2 == 0 else [255, 0, 0, 0, 0, 0])
        save(tmp_path / f"images/{i}.png", gray(i))
        (tmp_path / "masks").mkdir(exist_ok=True)
        image.save(tmp_path / f"masks/{i}.png")
    plan = prepare(tmp_path, progress=False)
    assert plan.table.values == {0: 0, 0xFF0000: 1}
    for _, y in Folder(plan, plan.files):
        assert np.array_equal(y, disc((0, 1)))


def test_gray_stored_as_colour_is_gray(tmp_path):
    stacked = lambda array: np.stack([array] * 3, -1)  # noqa: E731
    make(tmp_path, mask=lambda: stacked(disc()), image=lambda i: stacked(gray(i)))
    plan = prepare(tmp_path, progress=False)
    assert (plan.channels, plan.table.values) == (1, {0: 0, 255: 1})
    x, y = Folder(plan, plan.files)[0]
    np.testing.assert_allclose(x[0] * 255, gray(0), atol=1e-4)
    assert np.array_equal(y, disc((0, 1)))


# --- What a picture is.


@pytest.mark.parametrize("bits", [8, 16])
def test_a_picture_of_any_depth_is_read_from_0_to_1(tmp_path, bits):
    # Electron micrographs often have 16 bits; clipped to 8 they would be white.
    kind = {8: np.uint8, 16: np.uint16}[bits]
    array = np.linspace(0, 2**bits - 1, 64).reshape(8, 8).astype(kind)
    for name in ("a.png", "a.tif"):
        read = pictures.read(save(tmp_path / name, array)).values
        assert read.shape == (1, 8, 8, 1)
        x = pictures.scaled(read, pictures.WHOLE)
        np.testing.assert_allclose(x[0, ..., 0], array / (2**bits - 1), atol=1e-6)


def save_16_bits(file: Path, values: np.ndarray) -> None:
    """Write a PNG that Pillow can read and not write: (H, W, channels) uint16."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    height, width, n = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[n]  # gray, with transparency, colour, with it
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_16_bits_are_kept_or_refused(tmp_path, n):
    # Pillow would keep the upper eight: of a camera of 12 bits, 16 levels are left.
    values = np.random.default_rng(0).integers(0, 4096, (8, 9, n)).astype(np.uint16)
    save_16_bits(tmp_path / "a.png", values)
    if n == 1:
        assert np.array_equal(pictures.read(tmp_path / "a.png").values[0], values)
        return
    with pytest.raises(FolderError, match=r"16 bits in each of.*as a TIFF without"):
        pictures.read(tmp_path / "a.png")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bits_of_a_coloured_tiff_are_kept(tmp_path, compression):
    values = np.random.default_rng(0).integers(0, 4096, (8, 9, 3)).astype(np.uint16)
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, values, photometric="rgb", compression=compression)
    assert np.array_equal(pictures.read(file).values[0], values)
    # Of compressions that only Pillow knows it would keep eight.
    with pytest.raises(FolderError, match="16 bits in each of several channels"):
        pictures._read_with_pillow(file, mask=False)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_other_depths_are_scaled_by_what_trains(tmp_path, kind):
    for i in range(6):
        # A camera of 12 bits in a file of 16, as microscopes write it.
        array = 200 + 3800 * gray(i).astype(float) / 255
        file = tmp_path / f"images/{i}.tif"
        file.parent.mkdir(exist_ok=True)
        tifffile.imwrite(file, array.astype(kind))
        save(tmp_path / f"masks/{i}.png", disc())
    plan = prepare(tmp_path, progress=False)
    (low, high) = plan.scaling[kind]
    assert 195 < low < 260
    assert 3950 < high < 4005
    assert "percentiles 0.1 and 99.9" in str(plan)
    x, _ = Folder(plan, plan.files)[0]
    assert (x.min(), x.max()) == (0, 1)
    assert 0.4 < x.mean() < 0.6


def test_gray_pictures_among_colour_get_three_channels(tmp_path):
    make(tmp_path, n=4)
    rng = np.random.default_rng(0)
    save(tmp_path / "images/0.png", rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    plan = prepare(tmp_path, progress=False)
    assert plan.channels == 3
    assert "1 picture in colour, 3 are gray" in str(plan)
    assert all(x.shape == (3, 24, 32) for x, _ in Folder(plan, plan.files))


def test_transparency_is_dropped_and_said(tmp_path):
    rng = np.random.default_rng(0)
    make(tmp_path, image=lambda i: rng.integers(0, 255, (24, 32, 4), dtype=np.uint8))
    plan = prepare(tmp_path, progress=False)
    assert plan.channels == 3
    assert "transparency dropped: images/0.png" in str(plan)


DYES = {
    "two": ((24, 32, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
    "two planes": (
        (2, 24, 32),
        {"photometric": "minisblack", "planarconfig": "separate"},
    ),
    "four": ((24, 32, 4), {"photometric": "minisblack", "planarconfig": "contig"}),
    "colour and one": ((24, 32, 4), {"photometric": "rgb", "extrasamples": (0,)}),
    "of ImageJ": ((2, 24, 32), {"imagej": True, "metadata": {"axes": "CYX"}}),
}


@pytest.mark.parametrize(("shape", "options"), DYES.values(), ids=DYES)
def test_no_channel_is_lost_as_transparency(tmp_path, shape, options):
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, np.uint8), **options)
    n = 4 if 4 in shape else 2
    with pytest.raises(FolderError, match=f"It has {n} channels, and does not say.*as"):
        pictures.read(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(24, 32, 2), (24, 32, 4)], ids=str)
def test_marked_transparency_of_a_tiff_is_dropped(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    kind = "rgb" if shape[-1] == 4 else "minisblack"
    options = {"photometric": kind, "extrasamples": (2,), "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    found = pictures.read(tmp_path / "a.tif")
    assert np.array_equal(found.values[0], array[..., :-1])
    assert found.notes == ("transparency dropped",)


def test_inks_of_a_printer_become_colours(tmp_path):
    inks = np.zeros((24, 32, 4), np.uint8)
    inks[..., 1] = 255  # magenta
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    values = pictures.read(tmp_path / "a.tif").values
    assert values.shape == (1, 24, 32, 3)
    assert values[0, 0, 0].tolist() == [255, 0, 255]


def test_exif_orientation_is_applied_and_said(tmp_path):
    make(tmp_path)
    turned = Image.fromarray(np.rot90(gray(0)).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "images/0.jpg", exif=exif, quality=95)
    (tmp_path / "images/0.png").unlink()
    plan = prepare(tmp_path, progress=False)
    assert "EXIF orientation says: images/0.jpg" in str(plan)
    (file,) = [file for file in plan.files if file.pair.image == "images/0.jpg"]
    x, _ = Folder(plan, [file])[0]
    assert x.shape == (1, 24, 32)
    assert np.corrcoef(x.ravel(), gray(0).ravel())[0, 1] > 0.9


def test_pages_are_samples_of_one_group(tmp_path):
    for i in range(4):
        for name, array in [("images", gray(i)), ("masks", disc())]:
            file = tmp_path / f"{name}/{i}.tif"
            file.parent.mkdir(exist_ok=True)
            tifffile.imwrite(file, np.stack([array] * 5), photometric="minisblack")
    plan = prepare(tmp_path, progress=False)
    assert all(file.facts.pages == 5 for file in plan.files)
    data = Folder(plan, plan.part("val"))
    assert len(data) == 5
    assert torch.equal(data[0][0], data[4][0])


def test_pages_of_picture_and_mask_must_agree(tmp_path):
    make(tmp_path)
    (tmp_path / "images/0.png").unlink()
    tifffile.imwrite(
        tmp_path / "images/0.tif", np.stack([gray()] * 3), photometric="minisblack"
    )
    with pytest.raises(
        FolderError, match=r"images/0.tif has 3 pages.*masks/0.png has 1"
    ):
        prepare(tmp_path, progress=False)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_compressed_tiffs_are_read(tmp_path, compression):
    flat = np.full((24, 32), 77, np.uint8)
    file = save(tmp_path / "a.tif", flat, compression=compression)
    values = pictures.read(file).values
    assert np.abs(values[0, ..., 0].astype(int) - 77).max() <= 1


def test_a_tiff_that_pillow_alone_can_read_must_fit(tmp_path, monkeypatch):
    file = save(tmp_path / "a.tif", gray(), compression="tiff_lzw")
    if "imagecodecs" in sys.modules:
        pytest.skip("imagecodecs decodes it")
    monkeypatch.setattr(pictures, "MOST", 100)
    with pytest.raises(FolderError, match="without compression"):
        pictures.read(file)


def test_large_pictures_are_cut_into_windows(tmp_path):
    make(tmp_path, n=3)
    plan = prepare(tmp_path, progress=False)
    whole, cut = (
        Folder(plan, plan.part("val")),
        Folder(plan, plan.part("val"), window=10),
    )
    assert (len(whole), len(cut)) == (1, 3 * 4)
    image = whole[0][0]
    rows = [torch.cat([cut[r * 4 + c][0] for c in range(4)], -1) for r in range(3)]
    assert torch.equal(torch.cat(rows, -2), image)


@pytest.mark.parametrize("memory", [0, 2**30])
def test_what_is_kept_in_memory_changes_nothing(tmp_path, memory):
    plan = prepare(make(tmp_path), progress=False)
    data = Folder(plan, plan.files, memory=memory)
    for _ in range(2):
        for i, (x, _) in enumerate(data):
            np.testing.assert_allclose(x[0] * 255, gray(i), atol=1e-4)
    assert len(data._kept) == (6 if memory else 1)


LARGE = """
import resource, sys
from pathlib import Path
import numpy as np, torch, tifffile
from unet_edu import UNet, runs
from unet_edu.data.folder import Folder, prepare
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
model = UNet(1, 2, base_channels=1, depth=1, padding=1)
runs.LARGE, runs.TILE = 1000, 512
eye = runs.Eye({"uint8": [0.0, 255.0]}, None)
# What is loaded once, libraries and their buffers, is loaded before the limit.
prepare(folder / "small", progress=False, seed=seed)
runs.predict_file(model, eye, folder / "small/images/a_1.tif", folder / "out/warm")
lines = open("/proc/self/status").read().splitlines()
used = int(next(line for line in lines if "VmData" in line).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 200 * 2**20,) * 2)
try:
    tifffile.imread(folder / "large/images/a_1.tif")
    print("the limit does not bite")
except MemoryError:
    print("too large to be read whole")
data = Folder(*(lambda plan: (plan, plan.part("train")))(
    prepare(folder / "large", progress=False, seed=seed)))
assert len(data) == 100
for i in (0, 57, 99):
    x, y = data[i]
    assert x.shape == (1, 2000, 2000) and y.max() == 1
tall = runs.predict_file(model, eye, folder / "tall.tif", folder / "out/tall")
print(tifffile.memmap(tall.mask, mode="r").shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_tiff_larger_than_memory(tmp_path):
    """A picture of 400 MB trains and one of 45 MB is predicted with 200 MiB to spare.

    Whole, the one to predict would take 180 MB as float32, and more in a network.
    """
    for size, side, step in [("small", 1200, 100), ("large", 20000, 2000)]:
        for name in ("a_1", "a_2", "a_3"):
            for kind in ("images", "masks"):
                file = tmp_path / size / kind / f"{name}.tif"
                file.parent.mkdir(exist_ok=True, parents=True)
                side, step = (side, step) if name == "a_1" else (300, 100)
                out = tifffile.memmap(file, shape=(side, side), dtype=np.uint8)
                # Sparse: something in each of its windows, nothing elsewhere.
                out[5::step, 5::step] = 255 if kind == "masks" else int(name[-1]) * 60
                out.flush()
    tall = tifffile.memmap(tmp_path / "tall.tif", shape=(9000, 5000), dtype=np.uint8)
    tall[::100] = 3
    tall.flush()
    del tall, out
    # The large picture shall train: it is the first of three.
    first = (split_groups(list("abc"), [None] * 3, seed)[0] for seed in range(99))
    seed = list(first).index("train")
    command = [sys.executable, "-c", LARGE, tmp_path, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.splitlines() == ["too large to be read whole", "(9000, 5000)"]


def test_a_full_disk_is_an_error_with_a_sentence(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no room for 1 MiB.*No space left.*TMPDIR"):
        pictures.temporary((1024, 1024), np.uint8)


@pytest.mark.parametrize("where", ["images", "masks"])
def test_a_full_disk_is_no_fault_of_a_picture(monkeypatch, tmp_path, where):
    make(tmp_path)
    whole = pictures.read

    def read(path: Path, mask: bool = False):
        if where in str(path):
            raise NoRoom(28, "There is no room")
        return whole(path, mask=mask)

    monkeypatch.setattr(pictures, "read", read)
    with pytest.raises(NoRoom, match="There is no room"):
        prepare(tmp_path, on_error="skip", progress=False)


# --- What is broken, and what is suspicious.


def broken(kind: str, file: Path) -> None:
    whole = save(file, gray()).read_bytes()
    content = {
        "cut": whole[: len(whole) // 2],
        "text": b"this is no picture",
        "empty": b"",
        "page": b"<!DOCTYPE html><title>404</title>",
    }
    file.write_bytes(content[kind])


REASONS = {
    "cut": "truncated",
    "text": "cannot identify image file",
    "empty": "it has no bytes",
    "page": "cannot identify image file",
}


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("where", ["images/3.png", "masks/3.png"])
def test_a_corrupt_file_is_named(tmp_path, kind, where):
    make(tmp_path, n=8)
    broken(kind, tmp_path / where)
    with pytest.raises(FolderError) as error:
        prepare(tmp_path, progress=False)
    for part in ("1 of 8 pairs", where, REASONS[kind], "--on-error skip"):
        assert part in str(error.value)
    plan = prepare(tmp_path, on_error="skip", progress=False)
    assert len(plan.files) == 7
    assert "images/3.png" not in [file.pair.image for file in plan.files]
    (line,) = plan.skipped
    assert line.startswith(where)
    assert "1 pair skipped" in str(plan)
    assert where in str(plan)


def test_more_than_half_broken_is_too_much_to_skip(tmp_path):
    make(tmp_path, n=6)
    for i in range(4):
        broken("text", tmp_path / f"images/{i}.png")
    with pytest.raises(FolderError, match=r"4 of 6 .*too many to skip"):
        prepare(tmp_path, on_error="skip", progress=False)


def test_one_corrupt_tiff_and_one_cut_jpeg(tmp_path):
    make(tmp_path, n=6)
    (tmp_path / "images/0.png").unlink()
    (tmp_path / "images/1.png").unlink()
    (tmp_path / "images/0.tif").write_bytes(b"II*\x00 and no more")
    jpeg = save(tmp_path / "images/1.jpg", gray(1))
    jpeg.write_bytes(jpeg.read_bytes()[:300])
    plan = prepare(tmp_path, on_error="skip", progress=False)
    assert [line.split(":")[0] for line in plan.skipped] == [
        "images/0.tif",
        "images/1.jpg",
    ]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_what_a_format_does_not_check_is_not_found(tmp_path, kind):
    # PNG has a checksum. JPEG has none: what can be decoded counts as a picture.
    file = save(tmp_path / f"a.{kind}", gray(size=(200, 200)))
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(range(100, 160))
    file.write_bytes(data)
    if kind == "png":
        with pytest.raises((OSError, SyntaxError)):
            pictures.read(file)
    else:
        damaged = pictures.read(file).values[0, ..., 0]
        memory = io.BytesIO()
        Image.fromarray(gray(size=(200, 200))).save(memory, "JPEG")
        assert not np.array_equal(damaged, np.asarray(Image.open(memory)))


def test_a_damaged_tiff_is_said_once(tmp_path, caplog):
    file = tmp_path / "a.tif"
    file.write_bytes(b"II*\x00 and no more")
    with caplog.at_level(logging.DEBUG, "tifffile"):
        with pytest.raises(FolderError, match="damaged: no picture"):
            pictures.read(file)
        assert not caplog.records
        tifffile.TiffFile(file).close()
        assert caplog.records  # elsewhere it may say what it likes


def test_on_error_is_stop_or_skip(tmp_path):
    with pytest.raises(ValueError, match="on_error must be one of stop, skip"):
        scan(find_pairs(make(tmp_path)), "ignore")


def test_sizes_must_agree(tmp_path):
    make(tmp_path)
    save(tmp_path / "masks/2.png", disc(size=(32, 24)))
    with pytest.raises(
        FolderError, match=r"images/2.png is 32x24 .*masks/2.png is 24x32"
    ):
        prepare(tmp_path, progress=False)


def test_nan_is_found_before_training(tmp_path):
    make(tmp_path)
    (tmp_path / "images/0.png").unlink()
    array = np.zeros((24, 32), np.float32)
    array[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "images/0.tif", array)
    with pytest.raises(FolderError, match=r"images/0.tif: it holds NaN"):
        prepare(tmp_path, progress=False)


def warnings_of(folder: Path, **options) -> str:
    return "\n".join(prepare(folder, progress=False, **options).warnings)


def test_no_warning_without_a_reason(tmp_path):
    assert warnings_of(make(tmp_path, n=10)) == ""


def test_one_group_held_out_is_said(tmp_path):
    assert "one group is held out" in warnings_of(make(tmp_path, n=6))


def test_one_picture_in_two_groups_is_a_leak(tmp_path):
    make(tmp_path)
    # The same picture again, a little darker and saved as JPEG.
    save(tmp_path / "images/0.png", (gray(3) * 0.9).astype(np.uint8))
    said = warnings_of(tmp_path)
    assert "images/0.png" in said
    assert "images/3.png" in said
    assert "nearly the same picture" in said
    # In one group it is no leak.
    plan = prepare(tmp_path, progress=False)
    assert len(folders.twins(plan.files)) == 1
    for file in plan.files:
        file.group = "one specimen"
    assert folders.twins(plan.files) == []


def test_twins_without_structure_are_told_by_their_bytes(tmp_path):
    make(tmp_path, image=lambda i: np.full((24, 32), 100 + 10 * (i // 2), np.uint8))
    plan = prepare(tmp_path, progress=False)
    assert len(folders.twins(plan.files)) == 3


def test_only_twins_that_spoil_a_measurement_are_said_and_not_all(tmp_path):
    make(tmp_path, n=10, image=lambda i: gray(0))
    plan = prepare(tmp_path, progress=False)
    said = "\n".join(plan.warnings)
    assert "(train) and" in said
    assert not re.search(r"\(train\) and \S+ \(train\)", said)
    # 45 pairs, of which 15 are of the 6 that train.
    assert said.count("in different groups") == 5
    assert "and 25 more such pairs" in said


def test_other_warnings(tmp_path):
    make(tmp_path)
    for i in range(5):
        save(tmp_path / f"masks/{i}.png", np.zeros((24, 32), np.uint8))
    save(tmp_path / "images/1.png", gray(1, (90, 90)))
    save(tmp_path / "masks/1.png", np.zeros((90, 90), np.uint8))
    said = warnings_of(tmp_path)
    for part in ("no pixel of object in", "5 masks all of background", "sizes vary"):
        assert part in said


def test_folders_that_tear_a_group_are_said(tmp_path):
    for part in ("train", "val", "test"):
        for i in range(2):
            for who in "abc":
                save(
                    tmp_path / part / f"{who}_{part}{i}.png",
                    gray(hash((part, i, who)) % 999),
                )
                save(tmp_path / part / f"{who}_{part}{i}_mask.png", disc())
    assert "into different parts" not in warnings_of(tmp_path)
    assert "into different parts" in warnings_of(tmp_path, group="/(.)_")


# --- What a run remembers.


def test_a_plan_is_written_and_read(tmp_path):
    import json

    plan = prepare(make(tmp_path / "data"), progress=False)
    (tmp_path / "dataset.json").write_text(json.dumps(plan.to_json()))
    again = read_plan(tmp_path / "dataset.json")
    assert again.to_json() == plan.to_json()
    one, two = (Folder(p, p.part("val")) for p in (plan, again))
    assert all(torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    check_unchanged(again, again.files)


def test_files_that_changed_or_are_gone_are_named(tmp_path):
    plan = prepare(make(tmp_path), progress=False)
    (tmp_path / "images/0.png").unlink()
    save(tmp_path / "masks/1.png", disc((0, 255), radius=3))
    with pytest.raises(
        FolderError, match=r"images/0.png is gone, masks/1.png has changed"
    ):
        check_unchanged(plan, plan.files)


@pytest.mark.parametrize(
    ("content", "part"), [(None, "not trained on a folder"), ("{}", "is damaged")]
)
def test_a_plan_that_is_none(tmp_path, content, part):
    file = tmp_path / "dataset.json"
    if content:
        file.write_text(content)
    with pytest.raises(FolderError, match=part):
        read_plan(file)


def test_a_file_that_changed_its_size_is_named(tmp_path):
    plan = prepare(make(tmp_path), progress=False)
    for i in range(6):
        save(tmp_path / f"images/{i}.png", gray(i, (10, 10)))
    with pytest.raises(FolderError, match="has changed its size"):
        Folder(plan, plan.files)[0]


def test_importing_it_is_cheap():
    code = (
        "import sys, unet_edu; before = set(sys.modules)\n"
        "import unet_edu.data.folder\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new & {'PIL', 'tifffile', 'skimage', 'matplotlib', 'scipy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_module_offers_what_the_chapter_uses():
    for name in (
        "find_pairs",
        "groups_of",
        "split_groups",
        "find_table",
        "FolderError",
    ):
        assert hasattr(folders, name)
