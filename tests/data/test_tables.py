"""HDF5 data as Caffe's HDF5Data layer reads it."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from present import present

from bnfold.compare.batches import BatchLayout, run_at
from bnfold.data.datasets import data_files, open_samples
from bnfold.data.samples import Feed
from bnfold.data.standins import ImageInfo
from bnfold.errors import ParseError, UsageError
from bnfold.net import Array

FEEDS = {"data": Feed((1, 3, 4), np.dtype(np.float32)), "other": Feed((1, 2), np.dtype(np.float32))}


def write(path: Path, rows: int, seed: int = 0, **more: Any) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "data": rng.normal(size=(rows, 3, 4)).astype(np.float32),
        "other": rng.normal(size=(rows, 2)),
        "label": np.arange(rows) + 10 * seed,
    } | more
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return arrays


def test_a_list_of_files_is_one_data_set(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.h5", 3), write(tmp_path / "b.h5", 2, seed=1)
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    samples = open_samples(tmp_path / "list.txt", FEEDS)
    assert samples.count == 5
    assert present(samples.labels).tolist() == [0, 1, 2, 10, 11]
    for number, (arrays, row) in enumerate([(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)]):
        sample = samples.sample(number)
        assert sample.keys() == {"data", "other"}
        np.testing.assert_array_equal(sample["data"], arrays["data"][row])
        np.testing.assert_array_equal(sample["other"], arrays["other"][row])
    assert samples.name(3) == "b.h5 0"
    assert samples.description == f"5 samples of {tmp_path / 'list.txt'} in 2 files, values as they are"
    assert data_files(tmp_path / "list.txt") == [tmp_path / name for name in ("list.txt", "a.h5", "b.h5")]
    write(tmp_path / "b.h5", 2, label=None)
    with pytest.raises(UsageError, match=r"b\.h5: there are no labels, and other files of \S+list\.txt have them$"):
        open_samples(tmp_path / "list.txt", FEEDS)


def test_one_file_may_be_named_by_itself(tmp_path: Path) -> None:
    arrays = write(tmp_path / "a.h5", 3, label=None)
    capital = (tmp_path / "a.h5").rename(tmp_path / "a.H5")
    (tmp_path / "list.txt").write_text("a.H5\n")
    assert [open_samples(place, FEEDS).count for place in (capital, tmp_path / "list.txt")] == [3, 3]
    capital.rename(tmp_path / "a.h5")
    samples = open_samples(tmp_path / "a.h5", FEEDS)
    assert (samples.count, samples.labels, samples.name(1)) == (3, None, "1")
    np.testing.assert_array_equal(samples.sample(2)["data"], arrays["data"][2])
    assert present(open_samples(tmp_path / "a.h5", FEEDS, labels=np.ones(3)).labels).tolist() == [1, 1, 1]


def test_files_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 3, other=None)
    with pytest.raises(
        UsageError, match=r"a\.h5: there is nothing for input 'other' \(it has 'data', 'label'\); call an array as"
    ):
        open_samples(tmp_path / "a.h5", FEEDS)
    write(tmp_path / "b.h5", 3, other=np.zeros((4, 2)))
    with pytest.raises(UsageError, match=r"b\.h5: unequal numbers of samples: 3 for 'data', 4 for 'other'"):
        open_samples(tmp_path / "b.h5", FEEDS)
    write(tmp_path / "c.h5", 3, other=np.array([b"x"] * 3))
    with pytest.raises(ParseError, match=r"c\.h5: its data set 'other' holds no rows of real numbers"):
        open_samples(tmp_path / "c.h5", FEEDS)
    (tmp_path / "d.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(ParseError, match=r"d\.h5: is damaged or cut short, or is not an HDF5 file: .*; copy it again$"):
        open_samples(tmp_path / "d.h5", FEEDS)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[content.index(b"TREE") + 8 : content.index(b"TREE") + 40] = b"\x6f" * 32  # where the names are
    (tmp_path / "damaged.h5").write_bytes(content)
    with pytest.raises(
        ParseError, match=r"damaged\.h5: is damaged or cut short, or is not an HDF5 file: .*; copy it again$"
    ):
        open_samples(tmp_path / "damaged.h5", FEEDS)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(tmp_path / "a.h5"), "data")
    with pytest.raises(UsageError, match="there is nothing for input 'data'"):
        open_samples(tmp_path / "e.h5", {"data": FEEDS["data"]})
    for name, rows, labels in (("f.h5", 2, 3), ("g.h5", 3, 2)):  # together they would be enough
        write(tmp_path / name, rows, label=np.arange(labels))
    (tmp_path / "list.txt").write_text("f.h5\ng.h5\n")
    with pytest.raises(UsageError, match=r"f\.h5: there are 2 samples and 3 labels"):
        open_samples(tmp_path / "list.txt", FEEDS)
    (tmp_path / "list.txt").write_text("missing.h5\n")
    with pytest.raises(ParseError, match=r"list\.txt:1: the file 'missing\.h5' does not exist"):
        open_samples(tmp_path / "list.txt", FEEDS)


def test_an_input_that_data_need_not_bring_is_read_where_the_first_file_has_it(tmp_path: Path) -> None:
    """What a net would get for it is another value."""
    feeds = FEEDS | {"im_info": Feed((1, 3), np.dtype(np.float32), ImageInfo(8, 8))}
    sizes = np.array([[100, 200, 3], [50, 60, 2]], np.float32)
    write(tmp_path / "a.h5", 2, im_info=sizes)
    assert [open_samples(tmp_path / "a.h5", feeds).sample(row)["im_info"].tolist() for row in (0, 1)] == sizes.tolist()
    write(tmp_path / "b.h5", 2)
    assert list(open_samples(tmp_path / "b.h5", feeds).sample(1)) == list(FEEDS)


def test_of_files_whose_rows_differ_in_shape_a_row_of_each_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", 3)
    write(tmp_path / "b.h5", 3, data=np.zeros((3, 3, 5), np.float32))
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    samples = open_samples(tmp_path / "list.txt", FEEDS)
    batch = BatchLayout({name: Feed((4, *feed.shape[1:]), feed.dtype) for name, feed in FEEDS.items()}, 4, True)
    with pytest.raises(UsageError, match=r"those of 'data' are 3x4 \('a\.h5 2'\) and 3x5 \('b\.h5 0'\); a batch of 1"):
        run_at(samples, batch, 0)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        packed = file.create_dataset("data", data=values, chunks=(1, 300), compression="gzip")
        at = packed.id.get_chunk_info(2).byte_offset
    content = bytearray((tmp_path / "packed.h5").read_bytes())
    content[at : at + 200] = b"\x55" * 200
    (tmp_path / "packed.h5").write_bytes(content)
    samples = open_samples(tmp_path / "packed.h5", {"data": Feed((1, 300), np.dtype(np.float32))})
    assert np.array_equal(samples.sample(1)["data"], values[1])
    with pytest.raises(ParseError, match=r"packed\.h5: its row 2 cannot be read: "):
        samples.sample(2)
