"""Disks that are full, fail, are read-only or gone: one sentence, nothing half-written, nothing lost, wherever it happens."""

from __future__ import annotations

import ast
import errno
import re
import tempfile
from pathlib import Path

import pytest

from dvcc import ABR, X264, _files
from dvcc.cli import main
from dvcc.codecs import passes
from dvcc.errors import DvccError, VideoError
from dvcc.media import ending
from dvcc.media.probe import open_video
from tests.conftest import make_scene
from tests.faults import FailingDisk
from tests.videos import lively_network, write_control, write_video

PACKAGE = Path(__file__).parents[1] / "dvcc"
FAULTS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.ESTALE, errno.EROFS, errno.EDQUOT)

# -- that there are no other places

WRITERS = {"_files.py": "files", "media/output.py": "coded video", "_storage.py": "what goes to an address"}
ELSEWHERE = {"networks/sources.py": {"download_url_to_file"}}
"""PyTorch's own download: beside its name first, checked, then renamed."""
IN_MEMORY = ("buffer", "os.devnull", "io.BytesIO()", "file")
"""Where containers, pictures and arrays go that become files later, or never; `file` is one of `open_temporary`."""
SAVERS = ("np.save", "np.savez", "np.savez_compressed", "torch.save", "json.dump", "pickle.dump", "figure.savefig", "plt.savefig")


def writing_calls(path: Path) -> set[str]:
    """Calls of a module that write to a disk, or make or move what is there."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last, first = name.rpartition(".")[2], ast.unparse(node.args[0]) if node.args else ""
        given = [*node.args[:2], *(keyword.value for keyword in node.keywords)]
        words = [str(word.value) for word in given if isinstance(word, ast.Constant)]
        mode = any(re.fullmatch(r"[rwaxbt+]{1,3}", word) and set(word) & set("wax+") for word in words)
        writes = last in ("write_text", "write_bytes", "tofile", "mkdir", "makedirs", "touch", "save_file")
        writes |= last in ("put_file", "pipe_file", "cp_file", "mv")  # of fsspec
        writes |= name in SAVERS and not any(ast.unparse(word) in IN_MEMORY for word in node.args[:2])
        writes |= last in ("open", "fdopen") and mode and first not in IN_MEMORY and name != "archive.open"
        writes |= name in ("os.open", "os.replace", "os.rename") or last in ("copy2", "copytree", "copyfile", "move_file")
        writes |= name.startswith("tempfile.") and last != "gettempdir"
        if writes or last == "download_url_to_file":
            found.add(last)
    return found


def test_everything_is_written_in_three_places():
    found = {path.relative_to(PACKAGE).as_posix(): writing_calls(path) for path in PACKAGE.rglob("*.py")}
    others = {name: calls - ELSEWHERE.get(name, set()) for name, calls in found.items() if name not in WRITERS}
    others["_guard.py"] -= {"open"}  # /dev/null, when nobody reads any more
    others["encoding/target.py"] -= {"open"}  # a FIFO that is read, which has no end while somebody could write
    assert not {name: calls for name, calls in others.items() if calls}
    assert all(found[name] for name in WRITERS)


@pytest.mark.parametrize(
    "line",
    [
        "path.open('w')",
        "open(p, mode='ab')",
        "path.write_text(t)",
        "os.replace(a, b)",
        "np.savez(self.p, a=a)",
        "p.mkdir()",
        "fs.put_file(a, b)",
    ],
)
def test_another_place_would_be_found(tmp_path, line):
    (tmp_path / "m.py").write_text(line)
    assert writing_calls(tmp_path / "m.py")
    (tmp_path / "m.py").write_text("path.open('rb')\nnp.savez(buffer, a=a)\nav.open(buffer, 'w')\narchive.open('a.npy', 'w')\n")
    assert not writing_calls(tmp_path / "m.py")


# -- faults at every write


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "in.mp4"
    path.write_bytes(X264(preset="ultrafast").encode(make_scene(frames=10), ABR(200)).bitstream)
    return path


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> list[str]:
    return ["--checkpoint", str(write_control(tmp_path_factory.mktemp("control") / "control.onnx", lively_network()))]


def refuse_everywhere(words, out, within, capsys, *, every=1) -> int:
    """Run a command once to count its operations, then with a fault at each of them; returns their number."""
    old = b"what an earlier command left"
    with pytest.MonkeyPatch.context() as patch:
        disk = FailingDisk(within, number=0)
        disk.install(patch)
        assert main(words) == 0, capsys.readouterr().err
    before = {path for folder in within for path in folder.rglob("*")} - {out}
    for at in range(0, disk.count, every):
        out.write_bytes(old)
        number = FAULTS[at % len(FAULTS)]
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            FailingDisk(within, number=number, at=at).install(patch)
            status = main(words)
        error = capsys.readouterr().err
        sentences = [line for line in error.splitlines() if line.startswith("error: ")]
        assert status == 2 and len(sentences) == 1 and "Traceback" not in error, (at, status, error)
        assert re.search(r"[;:] \w+.*", sentences[0]), sentences
        assert out.read_bytes() == old, at
        left = {path for folder in within for path in folder.rglob("*")} - before - {out}
        assert not left, (at, left)
    return disk.count


@pytest.mark.parametrize("command", ["encode", "encode map", "export"])
def test_a_fault_at_any_write_is_one_sentence_and_changes_nothing(command, video, learned, tmp_path, monkeypatch, capsys):
    temporary, folder = tmp_path / "temporary", tmp_path / "out"
    for path in (temporary, folder):
        path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    out = folder / ("out.npz" if command == "export" else "out.mp4")
    words = [str(video), *(["--out"] if command == "export" else []), str(out), "--target-kbps", "150", *learned]
    words += {"encode": ["--preset", "ultrafast"], "encode map": ["--delivery", "map", "--preset", "ultrafast"]}.get(
        command, ["--format", "npz"]
    )
    assert refuse_everywhere([command.split()[0], *words], out, [temporary, folder], capsys) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "inspect"])
def test_a_fault_at_any_write_of_a_stage_is_one_sentence(command, video, tiny, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    cache = [word for word in tiny if word.startswith("data.cache=")]
    words = [word for word in tiny if word not in cache]
    if command == "train":
        words = ["train", "surrogate", *words, "trainer.max_steps=2", "surrogate.width=8", "trainer.accelerator=cpu"]
        words += [*cache, "overwrite=true", f"out={folder}"]
        out = folder / "surrogate.safetensors"
    elif command == "evaluate":
        words = ["evaluate", "control", "task=reconstruction", *words, *cache, "bootstrap=30", "workers=1", "num_targets=3"]
        words += ["controllers=[abr2,crf]", f"out={folder}"]
        out = folder / "report.json"
    else:
        out = folder / "map.png"
        words = ["inspect", str(video), "--heat-map", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        disk = FailingDisk([folder], number=0)
        disk.install(patch)
        assert main(words) == 0, capsys.readouterr().err
    assert disk.count >= 4
    chosen = range(disk.count) if command == "inspect" else range(0, disk.count, max(1, disk.count // 4))
    for at in chosen:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            FailingDisk([folder], number=FAULTS[at % len(FAULTS)], at=at).install(patch)
            status = main(words)
        error = capsys.readouterr().err
        assert status == 2 and error.count("error: ") == 1 and "Traceback" not in error, (at, error)
        assert not [path for path in folder.rglob(".*") if path.is_file()], at
    assert main(words) == 0 and out.is_file()


def test_statistics_that_were_cut_off_are_no_statistics(monkeypatch, tmp_path):
    """With a part of them x264 missed its rate by 61 % at preset ultrafast, and crashed at superfast."""
    run_dry = passes._run_dry

    def full_disk(first, **how):
        count = run_dry(first, **how)
        path = Path(first.number.stats)
        path.write_bytes(path.read_bytes()[:-40])
        return count

    monkeypatch.setattr(passes, "_run_dry", full_disk)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for preset in ("ultrafast", "superfast"):
        with pytest.raises(DvccError, match=f"{tmp_path} took only a part of the encoder's statistics"):
            X264(preset=preset).encode(make_scene(frames=8), ABR(100))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fails_is_no_damage_of_the_file(tmp_path, monkeypatch):
    """FFmpeg takes the end of what it gets for the end of the file."""
    path = write_video(tmp_path / "in.ts", frames=20)
    source, original = open_video(path), Path.open

    def lost(self, *arguments, **options):
        if self == path:
            raise OSError(errno.ESTALE, "Stale file handle")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", lost)
    with pytest.raises(VideoError, match="cannot be read \\(Stale file handle\\): check the disk or the network"):
        list(source.frames())
    with pytest.raises(VideoError, match="cannot be read"):
        ending.check_rest(path, 0)


def test_a_device_keeps_its_name(tmp_path):
    import os

    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    _files.write_atomic(fifo, b"data")
    assert os.read(reader, 10) == b"data" and fifo.is_fifo()
    os.close(reader)
    with pytest.raises(DvccError, match="No space left"):
        _files.write_atomic("/dev/full", b"data")
