# SPDX-License-Identifier: Apache-2.0
"""propagate.json over register.json: atlases are registered to each volume, and their label maps vote."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from scipy.ndimage import gaussian_filter

from custom.data import find_volumes
from custom.files import read_json
from custom.volumes import write_volume
from custom.weights import save_pretext
from tools import join_data

CONFIGS = Path(__file__).parents[2] / "bundles" / "gvsl_pretrain" / "configs"
FILES = [str(CONFIGS / name) for name in ("register.json", "propagate.json")]
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
PLACES = ((14, 11, 12), (14, 11, 13))  # of the ellipsoids of the volumes
SMALL = {"channels": [4, 8, 8], "spacing": [3.0, 3.0, 3.0], "device": "$torch.device('cpu')"}


def image_of(mask: np.ndarray) -> np.ndarray:
    """HU of a body of 300 in one of -300, with a soft edge."""
    return (gaussian_filter(mask * 600.0, 1) - 300).astype(np.int16)


def ellipsoid(centre: tuple[int, int, int]) -> np.ndarray:
    x, y, z = np.ogrid[:24, :24, :24]
    return ((x - centre[0]) / 8) ** 2 + ((y - centre[1]) / 6) ** 2 + ((z - centre[2]) / 5) ** 2 < 1


@pytest.fixture
def overrides(tmp_path):
    """Three atlases with an ellipsoid of value 7, two volumes with one at another place, and random weights."""
    for number, centre in enumerate(((11, 12, 12), (12, 11, 12), (13, 12, 11))):
        mask = ellipsoid(centre)
        write_volume(tmp_path / "atlases" / "images" / f"a{number}.nii.gz", image_of(mask), AFFINE)
        write_volume(tmp_path / "atlases" / "labels" / f"a{number}.nii.gz", mask.astype(np.int16) * 7, AFFINE)
    for number in range(2):
        write_volume(tmp_path / "volumes" / f"v{number}.nii.gz", image_of(ellipsoid(PLACES[number])), AFFINE)
    parser = ConfigParser(ConfigParser.load_config_file(FILES[0]) | SMALL)
    torch.manual_seed(0)
    network = parser.get_parsed_content("pretext_network")
    description = {"preprocessing": {"spacing": [3.0, 3.0, 3.0], "orientation": "RAS"}}
    save_pretext(network, tmp_path / "models", {"pretext_task": "gvsl", "iterations": 0} | description)
    return SMALL | {
        "atlas_dir": str(tmp_path / "atlases"),
        "dataset_dir": str(tmp_path / "volumes"),
        "model_dir": str(tmp_path / "models"),
        "output_dir": str(tmp_path / "out"),
    }


def chain(error: BaseException | None) -> str:
    """The messages of an error and its causes."""
    return "" if error is None else f"{error}\n{chain(error.__cause__)}"


def propagate(**overrides):
    run = ConfigWorkflow(FILES, workflow_type="infer", logging_file=False, **overrides)
    run.initialize()
    run.run()
    return Path(overrides["output_dir"])


def dice(folder: Path, number: int) -> float:
    """Of the written label map and the ellipsoid of the volume."""
    label = np.asarray(nibabel.load(folder / f"v{number}_label.nii.gz").dataobj)
    truth = ellipsoid(PLACES[number])
    assert set(np.unique(label)) == {0, 7}
    return 2 * ((label == 7) & truth).sum() / ((label == 7).sum() + truth.sum())


def test_the_label_maps_of_registered_atlases_vote(overrides, tmp_path):
    """Random weights register roughly; the refinement aligns, and every atlas votes for each volume."""
    rough = propagate(**overrides)
    refined = propagate(**overrides | {"refine": 60, "output_dir": str(tmp_path / "refined")})
    for number in range(2):
        assert dice(refined, number) > max(0.9, dice(rough, number))
    cases = read_json(refined / "report.json")["cases"]
    assert [(case["subject"], case["atlases"]) for case in cases] == [("v0", 3), ("v1", 3)]
    assert all(0.8 < case["agreement"] <= 1 for case in cases)


def test_labels_beside_their_images_are_a_data_set_and_are_replaced_by_the_next_run(overrides, tmp_path):
    """As docs/howto/brain.md joins and trains on them."""
    folder = tmp_path / "volumes"
    beside = overrides | {"output_dir": str(folder)}
    assert propagate(**beside) == folder
    join_data.join([str(tmp_path / "atlases"), str(folder)], str(tmp_path / "joined"))
    entries = read_json(tmp_path / "joined" / "dataset.json")["training"]
    assert len(entries) == 5 and all("label" in entry for entry in entries)
    propagate(**beside)
    assert sorted(path.name for path in (folder / "earlier" / "1").iterdir()) == [
        "report.json",
        "v0_label.nii.gz",
        "v1_label.nii.gz",
    ]
    assert len(find_volumes(folder, min_subjects=1)) == 2


def test_label_maps_of_different_types_vote(overrides, tmp_path):
    """A value above 32,767 makes a map of int32."""
    path = tmp_path / "atlases" / "labels" / "a0.nii.gz"
    write_volume(path, np.asarray(nibabel.load(path).dataobj).astype(np.int32) * 10000, AFFINE)
    folder = propagate(**overrides)
    assert set(np.unique(np.asarray(nibabel.load(folder / "v0_label.nii.gz").dataobj))) <= {0, 7, 70000}


def test_a_volume_that_cannot_be_read_is_named_and_the_others_are_labelled(overrides, tmp_path):
    (tmp_path / "volumes" / "v0.nii.gz").write_bytes(b"no volume")
    with pytest.raises(RuntimeError) as error:
        propagate(**overrides)
    message = chain(error.value)
    assert "3 of 6 pairs have no result" in message and message.count("v0.nii.gz: cannot be read") == 1
    assert (tmp_path / "out" / "v1_label.nii.gz").is_file() and not (tmp_path / "out" / "v0_label.nii.gz").exists()


def test_atlases_without_labels_are_refused(overrides, tmp_path):
    (tmp_path / "atlases" / "labels" / "a1.nii.gz").unlink()
    with pytest.raises(RuntimeError) as error:
        propagate(**overrides)
    assert "1 of 3 volumes have no label" in chain(error.value)


def test_a_volume_that_is_an_atlas_is_refused(overrides, tmp_path):
    with pytest.raises(RuntimeError) as error:
        propagate(**overrides | {"dataset_dir": str(tmp_path / "atlases" / "images")})
    assert "a0.nii.gz is an atlas and a volume to label, expected other volumes" in chain(error.value)


def test_label_maps_of_atlases_are_never_moved(overrides, tmp_path):
    """The output NAME_label.nii.gz of a volume is the label map of an atlas."""
    folder = tmp_path / "atlases" / "labels"
    (tmp_path / "volumes" / "v0.nii.gz").rename(tmp_path / "volumes" / "a0.nii.gz")
    for path in (folder / "a0.nii.gz", tmp_path / "atlases" / "images" / "a0.nii.gz"):
        beside = tmp_path / "beside" / (f"a0_label{'.nii.gz'}" if path.parent == folder else "a0.nii.gz")
        beside.parent.mkdir(exist_ok=True)
        path.rename(beside)
    before = (tmp_path / "beside" / "a0_label.nii.gz").read_bytes()
    with pytest.raises(RuntimeError) as error:
        propagate(**overrides | {"atlas_dir": str(tmp_path / "beside"), "output_dir": str(tmp_path / "beside")})
    assert "a0_label.nii.gz is an input file and would be an output file too" in chain(error.value)
    assert (tmp_path / "beside" / "a0_label.nii.gz").read_bytes() == before


def test_sheared_volumes_are_labelled(overrides, tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    image = image_of(ellipsoid(PLACES[0]))
    write_volume(tmp_path / "volumes" / "v0.nii.gz", image, sheared, allow_shear=True)
    folder = propagate(**overrides)
    np.testing.assert_allclose(nibabel.load(folder / "v0_label.nii.gz").affine, sheared, atol=1e-4)
