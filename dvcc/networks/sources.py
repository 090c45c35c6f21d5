"""Weights that a network comes with: where they lie on this machine, and how they get there. Nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import os
import re
from abc import ABC as AbstractBase
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from dvcc._files import make_folder
from dvcc._packaged import install_extra, packaged_folder
from dvcc.errors import CheckpointError, ConfigError, DvccError

CHECKPOINTS = packaged_folder("checkpoints")
"""The small trained weights that are part of the package."""

_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # PyTorch and OpenMMLab write the start of a file's SHA-256 into its name


def assets_folder() -> Path:
    """Return the folder of clips and published networks: `DVCC_ASSETS`, else ../shared/assets beside the checkout."""
    return Path(os.environ.get("DVCC_ASSETS") or Path(__file__).parents[3] / "shared" / "assets")


class WeightsSource(AbstractBase):
    """Where a network's own weights are looked for."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Where the file has to be."""

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to do when it is not there, to be read after its path."""

    def local_path(self) -> Path | None:
        """Return the file, if it is on this machine."""
        return self.path if self.path.is_file() else None

    def fetch(self, model: str) -> Path:
        """Return the file. Raises `CheckpointError` that says what to put where."""
        path = self.local_path()
        if path is None:
            raise CheckpointError(f"the weights of {model} are not at {self.path}: {self.remedy}, or give the path of a file")
        return path


@dataclass(frozen=True)
class InRepository(WeightsSource):
    """A file of the folder checkpoints/."""

    name: str

    @property
    def path(self) -> Path:
        """Return where the file has to be."""
        return CHECKPOINTS / self.name

    @property
    def remedy(self) -> str:
        """Return what to do when it is not there, to be read after its path."""
        return f"restore {self.name} from the repository's folder checkpoints"


@dataclass(frozen=True)
class InAssets(WeightsSource):
    """A file of the folder of published networks. content: what it is. instead: a model of the task that needs no file."""

    name: str
    content: str
    instead: str = ""

    @property
    def path(self) -> Path:
        """Return where the file has to be."""
        return assets_folder() / self.name

    @property
    def remedy(self) -> str:
        remedy = f"put {self.content} there, or set DVCC_ASSETS to the folder that has it"
        return f"{remedy}, or take task.model={self.instead}" if self.instead else remedy


@dataclass(frozen=True)
class InPackage(WeightsSource):
    """A file inside an installed Python package."""

    package: str
    name: str
    extra: str

    @property
    def remedy(self) -> str:
        """Return what to do when it is not there, to be read after its path."""
        return install_extra(self.extra)

    @property
    def path(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        folder = Path(spec.origin).parent if spec and spec.origin else Path(self.package)
        return folder / self.name


@dataclass(frozen=True)
class FirstOf(WeightsSource):
    """Files that each serve, the best first: the first that is on this machine is taken, else the best is fetched."""

    sources: tuple[WeightsSource, ...]

    @property
    def remedy(self) -> str:
        """Return what to do when it is not there, to be read after its path."""
        return ", or ".join(source.remedy for source in self.sources)

    @property
    def path(self) -> Path:
        return self.local_path() or self.sources[0].path

    def local_path(self) -> Path | None:
        return next((path for source in self.sources if (path := source.local_path())), None)

    def fetch(self, model: str) -> Path:
        """Return the file. Raises `CheckpointError` that says what to put where."""
        return self.local_path() or self.sources[0].fetch(model)


@dataclass(frozen=True)
class Download(WeightsSource):
    """A file on the web, kept where torch keeps its own downloads.

    hub: repository and file if it is on Hugging Face's hub, whose cache is looked into as well.
    """

    url: str
    name: str
    hub: tuple[str, str] | None = None

    @property
    def path(self) -> Path:
        """Return where the file has to be."""
        return torch_cache() / self.name

    @property
    def remedy(self) -> str:
        """Return what to do when it is not there, to be read after its path."""
        return f"put {self.url} there"

    def local_path(self) -> Path | None:
        return super().local_path() or self._in_hub_cache()

    def fetch(self, model: str) -> Path:
        """Return the file, downloaded once. One attempt: on a machine without a network the sentence comes in seconds."""
        if path := self.local_path():
            return path
        from torch.hub import download_url_to_file

        digest = _HASH.search(self.name)
        try:
            make_folder(self.path.parent)
            download_url_to_file(self.url, str(self.path), digest[1] if digest else None, progress=False)
        except (OSError, RuntimeError, DvccError) as error:  # URLError is the first, a wrong hash the second
            raise CheckpointError(
                f"the weights of {model} could not be downloaded ({error}): put {self.url} at {self.path}, "
                f"or give the path of a file"
            ) from error
        return self.path

    def _in_hub_cache(self) -> Path | None:
        if self.hub is None or importlib.util.find_spec("huggingface_hub") is None:
            return None
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(*self.hub)
        return Path(path) if isinstance(path, str) else None


def from_url(url: str) -> Download:
    """Return a file that keeps the name it has on the web."""
    return Download(url, url.rpartition("/")[2])


def from_hub(repository: str, file: str = "model.safetensors") -> Download:
    """Return a file of Hugging Face's hub; the name that it has there says nothing, so the repository's is put before it."""
    url = f"https://huggingface.co/{repository}/resolve/main/{file}"
    return Download(url, f"{repository.replace('/', '_')}{Path(file).suffix}", (repository, file))


def torch_cache() -> Path:
    """Where torch.hub keeps downloads, found without importing torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def published_controls() -> list[str]:
    """Return the tasks that have a control in the package."""
    return sorted(path.stem.removeprefix("control_") for path in CHECKPOINTS.glob("control_*.onnx"))


def control_path(task: str | None, checkpoint: str | None) -> Path:
    """Return the file of weights. Raises `ConfigError` unless there is exactly one of a task and a path, or none for the task."""
    published = ", ".join(published_controls())
    if (task is None) == (checkpoint is None):
        raise ConfigError(f"say either --task TASK ({published}) or --checkpoint PATH")
    if checkpoint is not None:
        return Path(checkpoint)
    if task not in published_controls():
        raise ConfigError(
            f"no control is published for {task}: choose {published}, say by --model which network reads x264's encode, or give "
            "a control of your own by --checkpoint PATH"
        )
    return CHECKPOINTS / f"control_{task}.onnx"
