"""Arrays in .npy, .npz and .h5 files: byte orders, orders in memory, compounds, odd ones beside the images."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards.image_files.fastmri import read_description, read_magnitude
from quell.shards.image_files.hdf5 import as_slice, read_arrays
from quell.shards.image_files.numpy_arrays import load_array
from quell.shards.image_files.read import read_file, read_one
from quell.shards.listing.left_out import collect

IMAGE = (np.arange(20 * 24).reshape(20, 24) * 7 % 101).astype(np.float32)
STACK = np.stack([IMAGE, IMAGE + 1, IMAGE + 2])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">u2", "<i8", ">c8", "f2", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_orders_and_orders_in_memory(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.array(IMAGE.astype(dtype), order="F" if order == "F" else "C")
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", image=array)
    np.savez_compressed(tmp_path / "c.npz", image=array)
    for name in ("a.npy", "b.npz", "c.npz"):
        image = read_one(tmp_path / name).single()
        assert np.array_equal(image, array) and image.dtype.isnative and image.dtype.kind == np.dtype(dtype).kind
    if dtype != "?":
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["group/image"] = array
        read = read_one(tmp_path / "d.h5")
        assert np.array_equal(read.single(), array) and read.name == "group/image" and read.pixels.dtype.isnative


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 24), (1, 20, 24)),
        ((20, 24, 3), (1, 20, 24, 3)),
        ((20, 24, 16), (1, 20, 24, 16)),
        ((20, 24, 17), (20, 24, 17)),
        ((1, 20, 24), (1, 20, 24)),
        ((5, 20, 24), (5, 20, 24)),
        ((5, 20, 24, 3), (5, 20, 24, 3)),
    ],
)
def test_the_shape_says_what_the_axes_are(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    image = read_one(tmp_path / "a.npy")
    assert image.pixels.shape == expected and np.array_equal(image.plain, array)
    assert np.array_equal(image.to_file_layout(image.pixels), array)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", a=np.array([{}, []], dtype=object))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "dates.npy", np.zeros((4, 4), "datetime64[s]"))
    np.save(tmp_path / "records.npy", np.zeros((4, 4), [("x", "f4"), ("y", "f4"), ("z", "f4")]))
    np.save(tmp_path / "line.npy", IMAGE[0])
    np.save(tmp_path / "five.npy", np.zeros((2, 2, 2, 2, 2)))
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4)))
    np.savez(tmp_path / "lines.npz", a=IMAGE[0], b=np.float32(3))
    np.savez(tmp_path / "nothing.npz")
    whole = tmp_path / "whole.npy"
    np.save(whole, IMAGE)
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-8])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "archive.npz", a=IMAGE)
    (tmp_path / "archive.npy").write_bytes((tmp_path / "archive.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "archive.npz").read_bytes()[:300])
    names = [path.name for path in tmp_path.iterdir() if path.name not in ("whole.npy", "archive.npz")]
    for name in (*names, "missing.npy", "missing.npz", "missing.h5"):
        with pytest.raises(DataError, match=name):
            read_file(tmp_path / name)


def test_a_nan_in_an_array_is_named_with_its_place(tmp_path: Path) -> None:
    hole = STACK.copy()
    hole[1, 2, 3] = np.inf
    np.savez(tmp_path / "a.npz", fine=STACK, bad=hole)
    with pytest.raises(DataError, match=r"a\.npz: bad: slice 1, row 2, column 3 is Inf"):
        read_file(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.where(IMAGE[4, 5] == IMAGE, np.nan, IMAGE))
    with pytest.raises(DataError, match=r"b\.npy: row \d+, column \d+ is NaN"):
        read_file(tmp_path / "b.npy")


def test_numbers_beside_the_images_are_left_out_and_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=IMAGE, sigma=np.float32(3), lines=IMAGE[0])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"], file["deep/image"] = IMAGE, STACK
        file["sigma"], file["note"], file["mask"] = 3.0, "text", np.zeros(24)
        file["nothing"] = h5py.Empty("f4")
        file["again"] = h5py.SoftLink("/deep")
    with collect() as entries:
        assert [image.name for image in read_file(tmp_path / "a.npz")] == ["image"]
    assert sorted(entry.what.rpartition(" ")[2] for entry in entries) == ["lines", "sigma"]
    with collect() as entries:
        images = read_file(tmp_path / "b.h5")
    assert sorted(image.name.rpartition("/")[2] for image in images) == ["image", "image"]
    assert sorted(entry.what.rpartition(" ")[2] for entry in entries) == ["mask", "note", "nothing", "sigma"]


def test_compounds_are_complex_and_other_records_refused(tmp_path: Path) -> None:
    for names in (("r", "i"), ("real", "imag"), ("Re", "Im")):
        records = np.zeros(IMAGE.shape, [(names[0], ">f4"), (names[1], ">f4")])
        records[names[0]], records[names[1]] = IMAGE, -IMAGE
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["image"] = records
        assert np.array_equal(read_one(tmp_path / "a.h5").single(), IMAGE - 1j * IMAGE)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.zeros(IMAGE.shape, [("x", "f4"), ("y", "f4")])
    with pytest.raises(DataError, match=r"b\.h5: image: holds records of x, y"):
        read_file(tmp_path / "b.h5")


def test_damaged_files_and_broken_links_are_refused_by_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_dataset("image", data=np.random.default_rng(0).random((200, 200)), chunks=(50, 50))
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.h5").write_text("no HDF5", encoding="utf-8")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["image"] = h5py.SoftLink("/nowhere")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["image"] = h5py.ExternalLink("nowhere.h5", "/image")
    with h5py.File(tmp_path / "loop.h5", "w") as file:
        file["group/back"] = h5py.SoftLink("/")
    for name in ("cut", "text", "link", "outside", "loop"):
        with pytest.raises(DataError, match=rf"{name}\.h5"):
            read_file(tmp_path / f"{name}.h5")


def test_as_slice_takes_what_slices_are_stored_as() -> None:
    assert np.array_equal(as_slice(IMAGE[None].astype(">f8"), "x"), IMAGE)
    pairs = np.stack([IMAGE, -IMAGE], axis=-1)
    assert np.array_equal(as_slice(pairs, "x"), IMAGE - 1j * IMAGE)
    for odd in (IMAGE[0], STACK, np.zeros((0, 4)), np.zeros((4, 4), bool), pairs.astype(int)):
        with pytest.raises(DataError, match="x: expected one slice"):
            as_slice(odd, "x")


def test_an_odd_data_set_leaves_no_file_open(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["0"], file["mask"] = IMAGE, np.zeros(24)
    arrays = read_arrays(tmp_path / "a.h5")
    assert sorted(arrays) == ["0", "mask"]
    with h5py.File(tmp_path / "a.h5", "w"):  # would fail if it were still open
        pass


def test_mapped_arrays_stay_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK.astype(">f4"))
    mapped = load_array(tmp_path / "a.npy", mapped=True)
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, STACK)


def write_fastmri(path: Path, **sets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["acquisition"], file.attrs["patient_id"] = "CORPD_FBK", "p"
        for name, array in sets.items():
            file[name] = array
        file["ismrmrd_header"] = "<xml/>"
    return path


def test_fastmri_prefers_the_target_of_its_kind(tmp_path: Path) -> None:
    esc, rss = STACK, STACK * 2
    single = np.zeros((3, 20, 24), np.complex64)
    several = np.zeros((3, 2, 20, 24), np.complex64)
    for name, more, expected in (
        ("a", {}, esc),
        ("b", {"kspace": single}, esc),
        ("c", {"kspace": several}, rss),
    ):
        path = write_fastmri(
            tmp_path / f"{name}.h5", reconstruction_rss=rss, reconstruction_esc=esc.astype(">f4"), **more
        )
        assert np.array_equal(read_magnitude(path), expected) and read_magnitude(path).dtype.isnative
        image = read_one(path)
        assert np.array_equal(image.pixels, expected) and image.stack_axes == (("N", 3),)
    assert np.array_equal(read_magnitude(write_fastmri(tmp_path / "d.h5", reconstruction_rss=rss)), rss)


def test_fastmri_files_with_other_contents_are_refused_by_name(tmp_path: Path) -> None:
    hole = STACK.copy()
    hole[2, 1, 0] = np.nan
    path = write_fastmri(tmp_path / "nan.h5", reconstruction_esc=hole)
    with pytest.raises(DataError, match=r"nan\.h5: reconstruction_esc: slice 2, row 1, column 0 is NaN"):
        read_magnitude(path)
    path = write_fastmri(tmp_path / "flat.h5", reconstruction_esc=IMAGE)
    with pytest.raises(DataError, match=r"flat\.h5: reconstruction_esc: expected magnitudes"):
        read_magnitude(path)
    path = write_fastmri(tmp_path / "real.h5", kspace=STACK)
    with pytest.raises(DataError, match=r"real\.h5: kspace: expected complex numbers"):
        read_magnitude(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = IMAGE
    with pytest.raises(DataError, match="not a fastMRI file"):
        read_description(tmp_path / "other.h5")
