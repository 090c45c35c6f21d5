"""`import dvcc` and a typo on a command line are quick: nothing heavy is imported for them."""

import os
import subprocess
import sys

import pytest

from dvcc import units


def test_import_is_light():
    heavy = "{'torch', 'lightning', 'kornia', 'hydra', 'matplotlib', 'torchvision', 'wandb'}"
    code = f"import sys, dvcc; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_typo_is_answered_before_torch_is_imported():
    code = "import sys; from dvcc.cli import main; "
    code += "status = main(['train', 'control', 'data.sise=3']); "
    code += "print(status, 'torch' in sys.modules)"
    code += "; print(time.process_time())"
    result = subprocess.run([sys.executable, "-c", "import time; " + code], capture_output=True, text=True, check=True)
    status, torch, seconds = result.stdout.split()
    assert (status, torch) == ("2", "False") and "did you mean data.size" in result.stderr
    assert float(seconds) < 3  # of a processor, about 0.6 on an idle machine


def test_to_code_one_file_starts_no_processes():
    heavy = "{'multiprocessing', 'dvcc.engines', 'dvcc._storage', 'fsspec'}"
    code = f"import sys, dvcc.cli.encode; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("wanted", [None, "ACTIVE"])
def test_threads_of_the_program_do_not_spin_unless_told(wanted):
    code = "import os, sys; from dvcc.cli import main; main(['zoo']); "
    code += "import dvcc.inspect.regions; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules, file=sys.stderr)"
    given = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    given |= {"OMP_WAIT_POLICY": wanted} if wanted else {}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=given)
    assert result.stderr.split() == [wanted or "PASSIVE", "False"]


def test_rates_convert_there_and_back():
    bits = 8 / 25 * 123_000
    assert units.kbps(bits, num_frames=8, fps=25) == pytest.approx(123.0)
    size = {"fps": 25, "height": 64, "width": 96}
    assert units.bits_per_pixel_to_kbps(units.kbps_to_bits_per_pixel(123.0, **size), **size) == pytest.approx(123.0)
    assert units.bits_per_pixel(bits, num_frames=8, height=64, width=96) == pytest.approx(
        units.kbps_to_bits_per_pixel(123.0, **size)
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "control", "data.root=missing"], "missing does not exist: set data.root"),
        (["evaluate", "benchmark", "data.root=.", "task.weights=no.pth"], "no weights at no.pth"),
        (["train", "control", "data.root=.", "out=FOLDER"], "holds a run already (config.yaml): go on with it by resume=true"),
    ],
)
def test_files_that_are_in_the_way_or_not_there_are_named_before_torch_is_imported(words, said, tmp_path):
    (tmp_path / "config.yaml").touch()
    words = [word.replace("FOLDER", str(tmp_path)) for word in words]
    code = f"import sys; from dvcc.cli import main; print(main({words!r}), 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["2", "False"] and said in result.stderr
