"""Caffe's LMDB, written here by an encoder that shares nothing with the reader (`convert_imageset.cpp`, `io.cpp`)."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image
from present import present

from bnfold.data.datasets import open_samples
from bnfold.data.lmdb import open_database, parse
from bnfold.data.preparation import Preparation
from bnfold.data.samples import Feed, Part
from bnfold.errors import ParseError, UsageError
from bnfold.net import Array

FEEDS = {"data": Feed((1, 3, 4, 5), np.dtype(np.float32))}
ONE = {"data": Feed((1, 1, 4, 5), np.dtype(np.float32))}


def number(field: int, value: int) -> bytes:
    out, rest = [field << 3], value & (1 << 64) - 1
    while True:
        byte, rest = rest & 0x7F, rest >> 7
        out.append(byte | (0x80 if rest else 0))
        if not rest:
            return bytes(out)


def text(field: int, content: bytes) -> bytes:
    length = number(0, len(content))[1:]
    return bytes([field << 3 | 2]) + length + content


def datum(
    planes: Array | None = None, label: int | None = None, encoded: bytes | None = None, floats: Array | None = None
) -> bytes:
    record = b""
    values = planes if planes is not None else floats
    if values is not None:
        shape = values.shape
        record += b"".join(number(field, size) for field, size in zip((1, 2, 3), shape, strict=True))
    if planes is not None:
        record += text(4, planes.tobytes())
    if encoded is not None:
        record += text(4, encoded)
    if label is not None:
        record += number(5, label)
    if floats is not None:
        for value in floats.astype("<f4").ravel():
            record += bytes([6 << 3 | 5]) + value.tobytes()
    return record + (number(7, 1) if encoded is not None else b"")


def write(folder: Path, records: dict[str, bytes], subdir: bool = True) -> Path:
    with (
        lmdb.open(str(folder), map_size=1 << 24, subdir=subdir) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in records.items():
            transaction.put(key.encode(), value)
    return folder


def planes(count: int = 3, channels: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 4, 5), np.uint8)


def test_raw_records_are_planes_in_key_order_with_labels(tmp_path: Path) -> None:
    images = planes(12)
    records = {f"{i:08}_cat/{i}.jpg": datum(images[i], 100 - i) for i in reversed(range(12))}
    samples = open_samples(write(tmp_path / "train_lmdb", records), FEEDS)
    assert samples.count == 12
    assert present(samples.labels).tolist() == [100 - i for i in range(12)]
    assert samples.name(3) == "00000003_cat/3.jpg"
    np.testing.assert_array_equal(samples.sample(7)["data"], images[7].astype(np.float32))
    assert samples.description == f"12 images of {tmp_path / 'train_lmdb'}, pixels as they are, 0..255"
    np.testing.assert_array_equal(samples.picture(2), images[2][::-1].transpose(1, 2, 0))


def test_mean_crop_and_scale_are_taken_from_raw_records_as_from_files(tmp_path: Path) -> None:
    images = planes(1)
    small = {"data": Feed((1, 3, 2, 3), np.dtype(np.float32))}
    samples = open_samples(
        write(tmp_path / "d", {"0": datum(images[0], 1)}),
        small,
        Preparation(mean=np.array([1, 2, 3.0]), scale=0.5, crop=(2, 3)),
    )
    want = (images[0][:, 1:3, 1:4].astype(np.float32) - np.array([1, 2, 3], np.float32)[:, None, None]) * 0.5
    np.testing.assert_array_equal(samples.sample(0)["data"], want)


def test_encoded_records_are_decoded_as_image_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    folder = write(tmp_path / "d", {"00000000_a.png": datum(encoded=stream.getvalue(), label=4)})
    exact = {"data": Feed((1, 3, 8, 10), np.dtype(np.float32))}
    np.testing.assert_array_equal(
        open_samples(folder, exact).sample(0)["data"], pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
    )
    assert open_samples(folder, FEEDS).description.endswith("8x10 resized to 4x5")
    assert open_samples(folder, ONE).sample(0)["data"].shape == (1, 4, 5)


def test_the_data_line_reads_headers_alone_and_says_nothing_of_planes_that_stay_as_they_are(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(stream, "PNG")
    cut = open_samples(write(tmp_path / "cut", {"0": datum(encoded=stream.getvalue()[:2000])}), FEEDS)
    assert cut.description.endswith("64x64 resized to 4x5")
    with pytest.raises(ParseError, match="record '0' cannot be read as an image"):
        cut.sample(0)
    raw = open_samples(write(tmp_path / "raw", {"0": datum(planes(1)[0])}), FEEDS, Preparation(grey=True))
    assert raw.description.endswith("pixels as they are, 0..255")
    np.testing.assert_array_equal(raw.sample(0)["data"], planes(1)[0])


def test_float_data_and_records_without_labels_are_read(tmp_path: Path) -> None:
    floats = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    samples = open_samples(write(tmp_path / "d", {"0": datum(floats=floats)}), FEEDS)
    np.testing.assert_array_equal(samples.sample(0)["data"], floats)
    assert samples.labels is None
    assert samples.picture(0) is None


def test_labels_are_read_of_the_records_that_are_taken_alone(tmp_path: Path) -> None:
    records = {f"{i:04}": datum(planes(1)[0], 10 + i) for i in range(40)}
    taken = present(Part(3, 1).numbers(40))
    damaged = {key: b"\xff" for place, key in enumerate(records) if place not in {0, *taken}}
    folder = write(tmp_path / "some", records | damaged)
    with pytest.raises(ParseError, match="is no Datum"):
        open_samples(folder, FEEDS)
    samples = open_samples(folder, FEEDS, part=Part(1))
    assert present(samples.labels).tolist() == [10] + [-1] * 39
    labels = present(open_database(folder, Part(3, 1))[1])
    assert {place: label for place, label in enumerate(labels) if label >= 0} == {place: 10 + place for place in taken}


def test_annotated_datums_hold_a_datum(tmp_path: Path) -> None:
    images = planes(1)
    record = text(1, datum(images[0], 9)) + number(2, 0) + text(3, number(1, 5))
    samples = open_samples(write(tmp_path / "d", {"0": record}), FEEDS)
    assert present(samples.labels).tolist() == [9]
    np.testing.assert_array_equal(samples.sample(0)["data"], images[0].astype(np.float32))


def test_a_database_may_be_one_file_and_is_read_by_several_threads(tmp_path: Path) -> None:
    images = planes(50)
    path = write(tmp_path / "d.mdb", {f"{i:08}": datum(images[i], i) for i in range(50)}, subdir=False)
    samples = pickle.loads(pickle.dumps(open_samples(path, FEEDS)))
    with ThreadPoolExecutor(4) as pool:
        for found, want in zip(pool.map(samples.sample, range(50)), images, strict=True):
            np.testing.assert_array_equal(found["data"], want.astype(np.float32))


def test_a_database_may_be_opened_again_while_it_is_open(tmp_path: Path) -> None:
    images = planes(2)
    path = write(tmp_path / "db", {f"{i:08}": datum(images[i], i) for i in range(2)})
    samples = [open_samples(path, FEEDS) for _ in range(2)]
    samples.append(pickle.loads(pickle.dumps(samples[0])))
    for each in samples:
        np.testing.assert_array_equal(each.sample(1)["data"], images[1].astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 1, 9), (1, 9, 1), (3, 9, 1)])
def test_a_record_is_a_picture_of_its_own_size(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = write(tmp_path / "db", {"0": datum(pixels, 0)})
    picture = present(open_samples(path, {"data": Feed((1, *shape), np.dtype(np.float32))}).picture(0))
    rgb = np.broadcast_to(pixels[::-1], (3, *shape[1:]))
    np.testing.assert_array_equal(picture, rgb.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (b"\xff\xff\xff", "is no Datum"),
        (datum(planes(1)[0], 1)[:-9], "is no Datum"),
        (number(1, 3) + number(2, 4) + number(3, 6) + text(4, bytes(60)), "is 3x4x6 and has 60 bytes and 0 floats"),
        (number(1, 3), "is 3x0x0 and has 0 bytes"),
        (number(1, -3) + number(2, 4) + number(3, 5) + text(4, bytes(60)), "is -3x4x5 and has"),
        (datum(encoded=b"no image", label=1), "cannot be read as an image: its format is not known; take it out, or"),
        (b"", "is 0x0x0"),
        (text(1, text(1, text(1, datum(planes(1)[0], 1)))), "is no Datum: it holds a message"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, record: bytes, sentence: str) -> None:
    folder = write(tmp_path / "d", {"00000000_a.jpg": record})
    with pytest.raises(ParseError, match=sentence) as caught:
        open_samples(folder, FEEDS).sample(0)
    assert "record '00000000_a.jpg'" in str(caught.value)


def test_databases_that_cannot_be_read_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "level").mkdir()
    (tmp_path / "level" / "CURRENT").write_text("MANIFEST-000002\n")
    (tmp_path / "level" / "MANIFEST-000002").write_bytes(b"")
    with pytest.raises(UsageError, match="is a LevelDB; write it as LMDB"):
        open_samples(tmp_path / "level", FEEDS)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(ParseError, match=r"is no LMDB, or a damaged one; copy it again$"):
        open_samples(tmp_path / "bad", FEEDS)
    with pytest.raises(UsageError, match="there is no record"):
        open_samples(write(tmp_path / "empty", {}), FEEDS)
    folder = write(tmp_path / "colour", {"0": datum(planes(1)[0], 1)})
    with pytest.raises(UsageError, match=r"record '0': the input has 1 channels, and an image has 3$"):
        open_samples(folder, ONE).sample(0)
    folder = write(tmp_path / "grey", {"0": datum(planes(1, 1)[0], 1)})
    with pytest.raises(UsageError, match="record '0': the input has 3 channels, and an image has 1"):
        open_samples(folder, FEEDS).sample(0)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.95])
def test_a_database_that_was_cut_off_does_not_end_the_process(tmp_path: Path, share: float) -> None:
    """A page behind the end of a mapped file would."""
    whole = write(tmp_path / "d", {f"{i:08}": datum(planes(1)[0], i) for i in range(2_000)}, subdir=False)
    whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    file = whole.rename(tmp_path / "d.mdb")
    with pytest.raises(ParseError, match=r"d\.mdb: is a damaged LMDB: it has [0-9,]+ bytes of"):
        open_samples(file, FEEDS)


def test_a_key_that_is_out_of_order_is_a_sentence(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", {f"{i:04}": datum(planes(1)[0], i) for i in range(20)})
    whole = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(whole.replace(b"0004", b"9004"))
    with pytest.raises(ParseError, match=r"is a damaged LMDB: the key '0005' is out of order; copy it again$"):
        open_samples(folder, FEEDS)


@pytest.mark.parametrize("offset", [16, 4092, 0xFFFE])
def test_a_page_that_points_outside_itself_is_a_sentence(tmp_path: Path, offset: int) -> None:
    file = write(tmp_path / "d", {f"{i:05}": datum(planes(1)[0], i) for i in range(800)}) / "data.mdb"
    content = bytearray(file.read_bytes())
    leaf = max(at for at in range(8192, len(content), 4096) if content[at + 10] == 2)
    content[leaf + 16 : leaf + 18] = offset.to_bytes(2, "little")
    file.write_bytes(content)
    with pytest.raises(ParseError, match=f"is a damaged LMDB: page {leaf // 4096} points outside itself"):
        open_samples(file.parent, FEEDS)


def test_a_damaged_database_is_a_sentence_or_reads_whole_records(tmp_path: Path) -> None:
    """Zeros in a page, and each number of its headers, which liblmdb trusts and then ends the process."""
    large = np.random.default_rng(3).integers(0, 256, (1, 60, 100), np.uint8)
    records = {f"{i:05}_{'k' * 300}": datum(planes(1)[0], i) for i in range(60)} | {"99999": datum(large, 1)}
    file = write(tmp_path / "d", records) / "data.mdb"
    whole = file.read_bytes()
    used, draws, refused = len(whole.rstrip(b"\0")) // 4096 + 1, np.random.default_rng(4), list[str]()
    for page in range(used):
        for begin, end in [(0, 4096), (16, 40), *((place, place + 2) for place in range(0, 24, 2))]:
            for put in (bytes(end - begin), draws.bytes(end - begin)):
                file.write_bytes(whole[: page * 4096 + begin] + put + whole[page * 4096 + end :])
                try:
                    database, labels = open_database(file.parent, Part())
                    assert [database.load(number).size for number in range(61)] == [60] * 60 + [6000]
                    assert len(present(labels)) == 61
                except ParseError as error:
                    refused.append(str(error))
    assert len(refused) > used * 10
    assert all("LMDB" in said or "record '" in said for said in refused), refused


def test_pages_that_lead_back_to_each_other_end(tmp_path: Path) -> None:
    file = write(tmp_path / "d", {f"{i:05}": datum(planes(1)[0], i) for i in range(800)}) / "data.mdb"
    content = bytearray(file.read_bytes())
    root = next(at for at in range(8192, len(content), 4096) if content[at + 10] == 1)
    first = int.from_bytes(content[root + 16 : root + 18], "little")
    content[root + first : root + first + 6] = (root // 4096).to_bytes(6, "little")
    file.write_bytes(content)
    with pytest.raises(ParseError, match=f"page {root // 4096} is outside, or has two places"):
        open_samples(file.parent, FEEDS)


def test_large_records_are_found_after_others_were_replaced_and_removed(tmp_path: Path) -> None:
    """Pages that are free again are taken for others, and the tree grows to three levels."""
    draws = np.random.default_rng(5)
    folder, stored = tmp_path / "d", dict[str, bytes]()
    for turn in range(4):
        new = {
            f"{key:06}_{'k' * 200}": datum(draws.integers(0, 256, (1, int(draws.integers(1, 90)), 50), np.uint8), turn)
            for key in draws.integers(0, 3000, 500)
        }
        write(folder, new)
        stored |= new
        gone = list(stored)[turn::7]
        with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
            for key in gone:
                transaction.delete(key.encode())
                del stored[key]
    with lmdb.open(str(folder)) as environment:
        assert environment.stat()["depth"] >= 3
        assert environment.stat()["overflow_pages"] > 100
    database, _ = open_database(folder, Part())
    assert [found.decode() for found in database.keys] == sorted(stored)
    for number, key in enumerate(sorted(stored)):
        pixels = database.load(number)
        assert isinstance(pixels, np.ndarray)
        assert pixels.tobytes() == bytes(parse(stored[key]).data or b"")


def test_other_keys_than_texts_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "d", {"0": datum(planes(1)[0], 1)}) / "data.mdb"
    content = bytearray(file.read_bytes())
    for meta in (0, 4096):
        content[meta + 16 + 24 + 48 + 4] |= 8  # MDB_INTEGERKEY of the tree of records
    file.write_bytes(content)
    with pytest.raises(ParseError, match="has keys that are numbers"):
        open_samples(tmp_path / "d", FEEDS)


def test_a_worker_with_another_file_at_the_path_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", {f"{i:08}": datum(planes(1)[0], i) for i in range(3)})
    travelling = pickle.dumps(open_samples(folder, FEEDS))
    write(folder, {"00000001": datum(planes(2)[1], 7)})
    with pytest.raises(ParseError, match="is another LMDB than in the process that asks"):
        pickle.loads(travelling).sample(0)
