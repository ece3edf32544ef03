"""The long studies: where they write, and what they sum up; they train for hours, so not here."""

import numpy as np
import pytest

from digits import files
from digits.training import study


@pytest.mark.parametrize("name", ["ablation", "architectures", "search", "seeds", "students"])
def test_results_go_to_the_committed_files_unless_told_otherwise(name, tmp_path):
    arguments = [name, "tiny"] if name == "students" else [name]
    expected = files.SEEDS if name == "seeds" else files.STUDY
    assert study.parse(arguments).output == expected
    assert study.parse(["--output", str(tmp_path), *arguments]).output == tmp_path


def test_the_committed_seeds_are_summed_up_as_they_were():
    """And read by the notebook: the file was written by an earlier form of this module."""
    kept = files.read_json(files.SEEDS)
    found = study.summary(kept["runs"])
    assert found.keys() == kept["summary"].keys()
    for name, values in kept["summary"].items():
        for key, value in values.items():
            np.testing.assert_allclose(found[name][key], value, rtol=1e-9)
