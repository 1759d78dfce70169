# SPDX-License-Identifier: Apache-2.0
"""CheckedLoadImaged: every format and orientation gives one array; everything wrong names the file and the finding."""

import gzip
import os
import shutil
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from monai.data import ITKReader, MetaTensor
from monai.transforms import Compose, LoadImage, Orientationd, Spacingd

from custom.transforms import CheckedLoadImaged
from custom.volumes import VolumeError, check_volume, is_dicom_file, load_volume

SHAPE = (12, 10, 8)
SPACING = (1.0, 1.5, 2.0)
SHARED = Path(__file__).parents[3] / "shared" / "data"


def make_array(seed=0):
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def make_affine():
    """Voxels to RAS: x runs right to left, turned by 0.2 rad about the z axis, off the origin."""
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 1.0, 1.0]) @ np.diag(SPACING)
    affine[:3, 3] = (20.0, -30.0, 40.0)
    return affine


def to_itk(array, affine):
    affine = np.diag([-1, -1, 1, 1]) @ affine  # RAS to LPS
    image = itk.image_from_array(np.ascontiguousarray(array.T))
    image.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)))
    return image


def write_dicom(folder, array, affine, uid="1.2.826.0.1.3680043.2.1125.1.7", prefix=""):
    """One file per slice of the last axis, named so that the order of names is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for k in range(array.shape[2]):
        slice_affine = affine.copy()
        slice_affine[:3, 3] = (affine @ [0, 0, k, 1])[:3]
        image = to_itk(array[:, :, k : k + 1], slice_affine)
        axes = itk.array_from_matrix(image.GetDirection())
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{k + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1.1",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.6f}" for x in image.GetOrigin()),
            "0020|0037": "\\".join(f"{x:.8f}" for x in axes[:, :2].T.ravel()),
            "0018|0050": str(spacing[2]),
        }
        for tag, value in tags.items():
            image.GetMetaDataDictionary()[tag] = value
        image_io = itk.GDCMImageIO.New()
        image_io.SetKeepOriginalUID(True)
        itk.imwrite(image, str(folder / f"{prefix}{(k * 5) % 8}.dcm"), imageio=image_io)


def write_nifti(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, make_affine() if affine is None else affine), path)
    return path


def patch_nifti_header(path, **fields):
    """Overwrite header fields in the file itself: nibabel would repair them. Byte offsets as in nifti1.h."""
    offsets = {"pixdim": (76, "<f4"), "qform_code": (252, "<i2"), "sform_code": (254, "<i2")}
    offsets |= {"srow_x": (280, "<f4"), "srow_y": (296, "<f4")}
    content = bytearray(path.read_bytes())
    for name, value in fields.items():
        offset, dtype = offsets[name]
        raw = np.asarray(value, dtype=dtype).tobytes()
        content[offset : offset + len(raw)] = raw
    path.write_bytes(bytes(content))


# ---------------------------------------------------------------------------------------------------------- formats


@pytest.fixture(scope="module")
def one_volume_in_all_formats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    image = nibabel.Nifti1Image(make_array(), make_affine())
    for codes in ("RAS", "LPI", "SAR"):
        orientation = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(codes)
        )
        nibabel.save(image.as_reoriented(orientation), folder / f"{codes}.nii.gz")
    for name in ("volume.nrrd", "volume.mha", "volume.mhd"):
        itk.imwrite(to_itk(make_array(), make_affine()), str(folder / name))
    write_dicom(folder / "series", make_array(), make_affine())
    return folder


FORMATS = ("RAS.nii.gz", "LPI.nii.gz", "SAR.nii.gz", "volume.nrrd", "volume.mha", "volume.mhd", "series")


def test_every_format_and_orientation_gives_the_same_volume(one_volume_in_all_formats):
    orient = Compose([CheckedLoadImaged("image"), Orientationd("image", "RAS", labels=None)])
    resample = Spacingd("image", (1.25, 1.25, 1.25))
    judge = nibabel.as_closest_canonical(nibabel.Nifti1Image(make_array(), make_affine()))
    resampled = []
    for name in FORMATS:
        item = orient({"image": one_volume_in_all_formats / name})
        assert item["image"].shape == (1, *SHAPE) and item["image"].dtype == torch.float32, name
        np.testing.assert_array_equal(item["image"][0].numpy(), judge.get_fdata(), err_msg=name)
        np.testing.assert_allclose(item["image"].affine, judge.affine, atol=1e-4, err_msg=name)
        resampled.append(resample(item)["image"])
    for name, volume in zip(FORMATS[1:], resampled[1:], strict=True):
        assert volume.shape == resampled[0].shape != (1, *SHAPE), name
        assert (volume - resampled[0]).abs().max() < 0.1, name  # of a range of 2000; DICOM keeps 6 decimals


def test_nibabel_and_itk_agree_on_the_affine_of_one_file(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", make_array())
    by_itk = LoadImage(image_only=True)(str(path), reader=ITKReader())
    np.testing.assert_allclose(load_volume(path).affine, by_itk.affine, atol=1e-5)


def test_affine_is_the_sform_even_where_pixdim_differs(tmp_path):
    path = write_nifti(tmp_path / "a.nii", make_array())
    patch_nifti_header(path, pixdim=[1, 1.01, 1.5, 2.0])  # MONAI's reader alone would fall back to the unset qform
    np.testing.assert_allclose(load_volume(path).affine, make_affine(), atol=1e-5)


def test_meta_is_small_and_names_the_file(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", make_array())
    volume = load_volume(path)
    assert isinstance(volume, MetaTensor) and volume.meta["filename_or_obj"] == str(path)
    assert set(volume.meta) == {
        "affine",
        "original_affine",
        "filename_or_obj",
        "spatial_shape",
        "space",
        "original_channel_dim",
    }


@pytest.mark.parametrize("trailing", [(1,), (1, 1)])
def test_trailing_axes_of_size_one_are_dropped(tmp_path, trailing):
    path = write_nifti(tmp_path / "a.nii.gz", make_array().reshape(*SHAPE, *trailing))
    assert torch.equal(load_volume(path).as_tensor()[0], torch.from_numpy(make_array()).float())


# -------------------------------------------------------------------------------------------------- unreadable files


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "compressed.nrrd", "a.mha", "compressed.mha"])
def test_truncated_file(tmp_path, name, share):
    array = make_array().astype(np.float32)
    whole = tmp_path / name
    if ".nii" in name:
        write_nifti(whole, array)
    else:
        itk.imwrite(to_itk(array, make_affine()), str(whole), compression="compressed" in name)
    load_volume(whole)
    broken = cut(whole, tmp_path / f"broken_{name}", share)
    with pytest.raises(VolumeError, match=f"broken_{name}: cannot be read, expected a complete") as caught:
        load_volume(broken)
    assert caught.value.__cause__ is not None


def test_mhd_without_or_with_truncated_raw_file(tmp_path):
    itk.imwrite(to_itk(make_array(), make_affine()), str(tmp_path / "a.mhd"))
    cut(tmp_path / "a.raw", tmp_path / "half.raw", 0.5)
    header = (tmp_path / "a.mhd").read_text()
    for raw in ("half.raw", "missing.raw"):
        (tmp_path / "broken.mhd").write_text(header.replace("a.raw", raw))
        with pytest.raises(VolumeError, match="broken.mhd: cannot be read"):
            load_volume(tmp_path / "broken.mhd")


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "text.nrrd", "text.mha"])
def test_other_content(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"hello" * 500) if name.endswith(".gz") else b"hello" * 500)
    with pytest.raises(VolumeError, match=f"{name}: cannot be read"):
        load_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["none.nii.gz", "none.nrrd", "none"])
def test_missing_file(tmp_path, name):
    with pytest.raises(VolumeError, match=f"{name}: no such file or folder"):
        load_volume(tmp_path / name)


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"a.png: unknown format, expected .nii, .nii.gz, .nrrd, .mha, .mhd or"):
        load_volume(tmp_path / "a.png")


# ----------------------------------------------------------------------------------------------------- bad contents


@pytest.mark.parametrize(
    "shape, finding",
    [((12, 10), "a 2D image"), ((12, 10, 1), "a 2D image"), ((12, 10, 8, 3), "3 channels"), ((5, 4, 3, 2, 2), "4D")],
)
def test_wrong_dimensions_in_nifti(tmp_path, shape, finding):
    path = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).random(shape, dtype=np.float32))
    with pytest.raises(VolumeError, match=f"a.nii.gz: .*{finding}"):
        load_volume(path)


def test_2d_4d_and_vector_images_in_itk_formats(tmp_path):
    array = np.random.default_rng(0).random((3, 8, 10, 12), dtype=np.float32)
    for name, image, finding in (
        ("plane.nrrd", itk.image_from_array(array[0, 0]), r"a 2D image of shape \(12, 10\)"),
        ("time.nrrd", itk.image_from_array(array), r"3 channels or time points of shape \(12, 10, 8\)"),
        ("vector.mha", itk.image_from_array(np.moveaxis(array, 0, -1).copy(), is_vector=True), "3 channels"),
    ):
        itk.imwrite(image, str(tmp_path / name))
        with pytest.raises(VolumeError, match=f"{name}: .*{finding}"):
            load_volume(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_rgb_voxels(tmp_path, dtype):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, dtype=dtype))
    with pytest.raises(VolumeError, match="a.nii.gz: pixel type .* expected one real number"):
        load_volume(path)


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    array = make_array().astype(np.float64)
    array[0, 0, :3] = np.nan
    array[1, 0, :2] = np.inf
    array[2, 0, 0] = 1e300  # too large for float32
    with pytest.raises(VolumeError, match="a.nii.gz: 3 NaN and 3 infinite voxels of 960"):
        load_volume(write_nifti(tmp_path / "a.nii.gz", array))


def test_constant_image_but_empty_label_map_is_fine(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.full(SHAPE, 7, dtype=np.int16))
    with pytest.raises(VolumeError, match="a.nii.gz: a constant image, every voxel is 7"):
        load_volume(path)
    assert load_volume(path, is_label=True).max() == 7


def test_label_map_of_whole_numbers(tmp_path):
    array = np.zeros(SHAPE, dtype=np.float32)
    array[0, 0, 0] = 0.5
    with pytest.raises(VolumeError, match="a.nii.gz: 1 voxels are not whole numbers"):
        load_volume(write_nifti(tmp_path / "a.nii.gz", array), is_label=True)


@pytest.mark.parametrize("dtype", [">i2", ">u2", ">f4"])
def test_label_map_with_the_byte_order_of_another_machine(tmp_path, dtype):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(dtype)
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    nibabel.save(nibabel.Nifti1Image(labels.astype(dtype), make_affine(), header), tmp_path / "a.nii.gz")
    assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[:4] == (348).to_bytes(4, "big")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz", is_label=True)[0], labels)


@pytest.mark.parametrize(
    "fields, finding",
    [
        ({"pixdim": [1, 0, 1, 1], "sform_code": 0, "qform_code": 0}, "voxel spacing .0.0, 1.0, 1.0. mm"),
        ({"pixdim": [1, np.nan, 1, 1], "sform_code": 0, "qform_code": 1}, "voxel spacing .nan"),
        ({"srow_x": [0, 0, 0, 0]}, "voxel spacing .0.0, 1.5, 2.0. mm"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "voxel spacing .nan"),
        ({"srow_x": [1, 1.5, 0, 0], "srow_y": [1, 1.5, 0, 0]}, "singular affine"),
    ],
)
def test_spacing_and_affine_in_nifti(tmp_path, fields, finding):
    path = write_nifti(tmp_path / "a.nii", make_array(), np.diag([*SPACING, 1]))
    patch_nifti_header(path, **fields)
    with pytest.raises(VolumeError, match=f"a.nii: {finding}"):
        load_volume(path)


@pytest.mark.parametrize("old, new", [("ElementSpacing = 1 ", "ElementSpacing = 0 "), ("= 1 0 0 0 1", "= 1 0 0 1 0")])
def test_spacing_and_direction_in_metaimage(tmp_path, old, new):
    path = tmp_path / "a.mha"
    itk.imwrite(to_itk(make_array(), np.diag([-1.0, -1.5, 2.0, 1.0])), str(path))
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(VolumeError, match="a.mha: .*(expected spacing above zero|determinant is 0)"):
        load_volume(path)


def test_check_volume_takes_plain_tensors_and_names_what_it_is_told():
    check_volume(torch.rand(1, 4, 5, 6), "x")
    with pytest.raises(VolumeError, match="the warped image: a 2D image of shape"):
        check_volume(torch.rand(1, 4, 5), "the warped image")
    with pytest.raises(VolumeError, match="x: voxel spacing"):
        check_volume(MetaTensor(torch.rand(1, 4, 5, 6), affine=torch.diag(torch.tensor([0.0, 1, 1, 1]))), "x")


# ------------------------------------------------------------------------------------------------------------ DICOM


def test_two_series_in_one_folder_are_named(tmp_path):
    write_dicom(tmp_path / "two", make_array(), make_affine(), prefix="a")
    write_dicom(tmp_path / "two", make_array()[:, :, :3], make_affine(), uid="1.2.826.0.1.3680043.2.1125.1.8")
    with pytest.raises(
        VolumeError, match=r"two: 2 DICOM series: \S+1125.1.7 \(CT, 8 files\), \S+1125.1.8 \(CT, 3 files\)"
    ):
        load_volume(tmp_path / "two")


def test_missing_slice(tmp_path):
    write_dicom(tmp_path / "gap", make_array(), make_affine())
    os.remove(tmp_path / "gap" / "7.dcm")  # slice 3 of 8: ITK alone reads seven slices with a wrong spacing
    with pytest.raises(VolumeError, match="gap: steps between 7 slices range from 2 to 4 mm"):
        load_volume(tmp_path / "gap")


@pytest.mark.parametrize("size", [200, -60])
def test_truncated_slice(tmp_path, size):
    write_dicom(tmp_path / "cut", make_array(), make_affine())
    first = tmp_path / "cut" / "0.dcm"  # the end of the stack: no gap betrays it
    first.write_bytes(first.read_bytes()[:size])
    with pytest.raises(VolumeError, match="cut: 1 of 8 DICOM files cannot be read .*: 0.dcm"):
        load_volume(tmp_path / "cut")


def test_folder_without_dicom_and_single_slice(tmp_path):
    with pytest.raises(VolumeError, match="no DICOM files in this folder"):
        load_volume(tmp_path)
    write_dicom(tmp_path / "single", make_array()[:, :, :1], make_affine())
    with pytest.raises(VolumeError, match="single: a 2D image"):
        load_volume(tmp_path / "single")


def test_is_dicom_file(tmp_path):
    write_dicom(tmp_path, make_array()[:, :, :1], make_affine())
    for name in ("1.2.840.7", "IM0001", "DICOMDIR", ".hidden", "a.nii"):
        shutil.copy(tmp_path / "0.dcm", tmp_path / name)
    (tmp_path / "notes.txt").write_text("DICM")
    assert [name for name in sorted(os.listdir(tmp_path)) if is_dicom_file(tmp_path / name)] == [
        "0.dcm",
        "1.2.840.7",
        "IM0001",
    ]


# ----------------------------------------------------------------------------------------------- CheckedLoadImaged


def test_label_map_must_lie_on_its_image(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", make_array())
    load = CheckedLoadImaged(("image", "label"), label_keys="label")
    moved = make_affine()
    moved[0, 3] += 0.4
    item = load({"image": image, "label": write_nifti(tmp_path / "near.nii.gz", make_array(1), moved), "id": 3})
    assert item["label"].shape == (1, *SHAPE) and item["id"] == 3
    moved[0, 3] += 0.4
    with pytest.raises(VolumeError, match="far.nii.gz: label map lies up to 0.80 mm off the voxels of .*image.nii.gz"):
        load({"image": image, "label": write_nifti(tmp_path / "far.nii.gz", make_array(1), moved)})
    with pytest.raises(VolumeError, match=r"small.nii.gz: label map of shape \(12, 10, 7\), expected \(12, 10, 8\)"):
        load({"image": image, "label": write_nifti(tmp_path / "small.nii.gz", make_array(1)[:, :, :7])})


def test_label_maps_of_a_pair_belong_to_their_own_image(tmp_path):
    big = write_nifti(tmp_path / "big.nii.gz", make_array())
    small = write_nifti(tmp_path / "small.nii.gz", make_array()[:, :, :7])
    keys = ("moving", "fixed", "moving_label", "fixed_label")
    load = CheckedLoadImaged(keys, label_keys=keys[2:])
    load({"moving": big, "fixed": small, "moving_label": big, "fixed_label": small})
    with pytest.raises(VolumeError, match="label map of shape"):
        load({"moving": big, "fixed": small, "moving_label": small, "fixed_label": big})


def test_keys(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", make_array())
    with pytest.raises(KeyError):
        CheckedLoadImaged(("image", "label"))({"image": image})
    assert set(CheckedLoadImaged(("image", "label"), "label", allow_missing_keys=True)({"image": image})) == {"image"}
    with pytest.raises(ValueError, match="label_keys"):
        CheckedLoadImaged("image", label_keys="label")
    with pytest.raises(VolumeError, match="image.nii.gz: 2 files, expected 1, one a channel"):
        CheckedLoadImaged("image")({"image": [image, image]})


def test_real_cardiac_ct_with_labels():
    folder = SHARED / "cardiac_cta"
    if not folder.is_dir():
        pytest.skip("../shared/data/cardiac_cta is absent")
    item = CheckedLoadImaged(("image", "label"), "label")(
        {"image": folder / "ct.nii.gz", "label": folder / "label_heart1_aorta2_pa3.nii.gz"}
    )
    assert item["image"].shape == item["label"].shape and sorted(item["label"].unique().tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_of_planes_keep_every_voxel(tmp_path, order):
    array = np.asarray(np.random.default_rng(0).integers(-1000, 1000, (5, 6, 37)), dtype=np.int16, order=order)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "case.nii.gz")
    volume = load_volume(tmp_path / "case.nii.gz")
    assert volume.is_contiguous() and volume.dtype == torch.float32
    assert np.array_equal(volume[0].numpy(), array)
