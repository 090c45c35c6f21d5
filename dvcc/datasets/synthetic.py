"""Seeded clips of moving textured objects with exact labels and exact optical flow, in any number."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from dvcc.clip import Clip
from dvcc.errors import ConfigError

# In float64, what a sum owes to the number of threads is far below a grey level: every worker makes the same bytes.
_EXACT = torch.float64
_BAND = 0.17  # cycles per texel where spectra have fallen to 1/e: low enough not to flicker under bilinear sampling
_BACKGROUNDS, _OBJECTS = ("smooth", "grain"), ("stripes", "smooth", "checkers", "grain")


@dataclass(frozen=True, eq=False, repr=False)
class SyntheticSample:
    """One clip and its exact ground truth; light changes and sensor noise touch rgb only.

    rgb: uint8 (T,3,H,W). labels: int64 (T,H,W), class of the surface shown, 0..num_classes-1. flow: float32 (T-1,2,H,W) in
    pixels, x then y: the surface at (x,y) in frame t is at (x+u,y+v) in frame t+1. visible: bool (T-1,H,W): that point lies
    between the outermost pixel centres of frame t+1 and nothing covers it there.
    """

    rgb: Tensor
    labels: Tensor
    flow: Tensor
    visible: Tensor
    fps: Fraction

    @property
    def clip(self) -> Clip:
        """The frames as the 4:2:0 `Clip` that an encoder is given."""
        return Clip.from_rgb(self.rgb, self.fps)

    def __repr__(self) -> str:
        return f"SyntheticSample(rgb={tuple(self.rgb.shape)}, flow={tuple(self.flow.shape)}, fps={self.fps})"


@dataclass(frozen=True, kw_only=True)
class SyntheticClips(torch.utils.data.Dataset[SyntheticSample]):
    """A finite set of clips: 3 to 8 rigid objects over 2 to 4 bands of background, all textured and in motion.

    The same index and settings give the same bytes in any order of access and any worker. What a class looks like depends
    on the class alone, so sets of different seeds can train and test one network. size: (H, W), even, at least 16. num_classes:
    at least 5; the first two fifths or so are backgrounds. Speeds grow with the frame: about 12 pixels a frame at 256x448.
    """

    num_clips: int
    frames: int = 8
    size: tuple[int, int]
    num_classes: int = 20
    fps: Fraction = Fraction(25)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("num_clips", 1), ("frames", 1), ("num_classes", 5)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if len(self.size) != 2 or min(self.size) < 16 or any(side % 2 for side in self.size):
            raise ConfigError(f"size must be (height, width), even and at least 16, got {tuple(self.size)}")

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> SyntheticSample:
        index = range(self.num_clips)[index]  # raises the IndexError that ends a for loop
        g = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{index}".encode()))  # torch uses but 32 bits of a seed
        layers = self._scene(g)
        rgb, fronts, flow, visible = _render(layers, self.frames, self.size)
        light = _swing(g, self.frames, 1, 0.08, 0.01).float().view(-1, 1, 1, 1)
        rgb.mul_(light).add_(torch.randn(rgb.shape, generator=g), alpha=_uniform(g, 0.3, 1.5))
        labels = torch.tensor([layer.label for layer in layers])[fronts.long()]
        return SyntheticSample(rgb.round_().clamp_(0, 255).to(torch.uint8), labels, flow, visible, self.fps)

    def _scene(self, g: Generator) -> list[_Layer]:
        """Layers from back to front: bands of background, then objects, all before one moving camera."""
        (height, width), frames, unit = self.size, self.frames, min(self.size) / 256
        x, y = _swing(g, frames, width / 2 - 0.5, 24 * unit, 2.5 * unit), _swing(g, frames, height / 2 - 0.5, 12 * unit, unit)
        camera = _pose(x, y, _swing(g, frames, 0, 0.03, 0.002), _swing(g, frames, 1.06, 0.05, 0.004))
        margin = math.ceil(24 * unit + 0.015 * max(height, width)) + 1  # for x, y and turn; the zoom stays above 1
        rows, columns, num_backgrounds = height + 2 * margin, width + 2 * margin, self.num_classes // 5 * 2
        labels = torch.randperm(num_backgrounds, generator=g)[: int(_uniform(g, 2, min(5, num_backgrounds + 1)))]
        layers, start = [], torch.tensor([-1.0])
        # Smooth classes, of even number, come first: at the top, as the sky does.
        for band, label in enumerate(sorted(labels.tolist(), key=lambda label: (label % 2, label)), 1):
            waves = 0.1 * _noise(g, 1, columns, slopes=(2.0,))[0, 0] + _uniform(g, -0.25, 0.25)
            stop = rows / len(labels) * (band + waves) if band < len(labels) else torch.tensor([rows])
            top, bottom = max(int(start.min()) - 1, 0), min(int(stop.max()) + 3, rows)
            colour = _paint(g, label, _BACKGROUNDS[label % 2], bottom - top, columns)
            alpha = (torch.arange(top, bottom)[:, None] - start + 0.5).clamp(0, 1).expand(-1, columns)
            layers.append(_Layer(colour, alpha, label, camera, offset=(top + bottom - rows) / 2))
            start = stop
        # Near objects are larger and faster, as before a real camera.
        for nearness in torch.rand(int(_uniform(g, 3, 9)), generator=g).sort().values.tolist():
            label, speed = int(_uniform(g, num_backgrounds, self.num_classes)), (4 + 7 * nearness) * unit
            side = 2 * math.ceil((24 + 46 * nearness) * _uniform(g, 0.8, 1.2) * unit + 3)
            alpha, shade = _outline(g, side)
            colour = _paint(g, label, _OBJECTS[label % 4], side, side) * shade
            x = _swing(g, frames, width * _uniform(g, -0.4, 0.4), 0.2 * width, speed)
            y = _swing(g, frames, height * _uniform(g, -0.35, 0.35), 0.15 * height, speed / 2)
            turn, zoom = _swing(g, frames, _uniform(g, 0, 7), 0.6, 0.03), _swing(g, frames, 1, 0.12, 0.012)
            layers.append(_Layer(colour, alpha, label, camera @ _pose(x, y, turn, zoom)))
        return layers


class _Layer:
    """A flat surface. Its motion (T,3,3) takes texels, counted from `offset` rows above the centre, to pixels."""

    def __init__(self, colour: Tensor, alpha: Tensor, label: int, motion: Tensor, offset: float = 0) -> None:
        self.texture, self.label = torch.cat([colour, alpha[None]])[None].float(), label
        x, y = (alpha.shape[1] - 1) / 2, (alpha.shape[0] - 1) / 2
        self.pose = motion @ torch.tensor([[x, 0, 0], [0, y, offset], [0, 0, 1]], dtype=_EXACT)

    def window(self, t: int, grow: float = 0) -> tuple[slice, slice]:
        """Rows and columns of frame t that hold the layer, and `grow` pixels around it."""
        centre, reach = self.pose[t, :2, 2], self.pose[t, :2, :2].abs().sum(-1) + grow
        corners = torch.stack([centre - reach, centre + reach + 1]).clamp(min=0).long()
        return slice(*corners[:, 1].tolist()), slice(*corners[:, 0].tolist())

    def look_up(self, t: int, x: Tensor, y: Tensor) -> Tensor:
        """Colour and alpha (4,...) at pixels (x,y) of frame t, zero outside the texture."""
        grid = _carry(self.pose[t].inverse(), x, y).movedim(0, -1)[None]
        return grid_sample(self.texture, grid, align_corners=True)[0]


def _render(layers: list[_Layer], frames: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb float32 (T,3,H,W), number of the front layer uint8 (T,H,W), flow float32 (T-1,2,H,W), visible bool (T-1,H,W)."""
    rgb, fronts = torch.zeros(frames, 3, *size), torch.zeros(frames, *size, dtype=torch.uint8)
    flow, visible = torch.zeros(frames - 1, 2, *size), torch.zeros(frames - 1, *size, dtype=torch.bool)
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    for t in range(frames):
        for number, layer in enumerate(layers):
            rows, columns = layer.window(t)
            layer_rgba = layer.look_up(t, x[columns], y[rows])
            shows = layer_rgba[3] >= 0.5
            rgb[t, :, rows, columns].lerp_(layer_rgba[:3], layer_rgba[3])
            fronts[t, rows, columns].masked_fill_(shows, number)
            if t + 1 < frames:
                step = layer.pose[t + 1] @ layer.pose[t].inverse() - torch.eye(3, dtype=_EXACT)
                flow[t, :, rows, columns] = torch.where(shows, _carry(step, x[columns], y[rows]), flow[t, :, rows, columns])
    for t, (u, v) in enumerate(flow):
        next_x, next_y, farthest = x + u, y + v, float(flow[t].abs().max())
        visible[t] = (next_x >= 0) & (next_x <= size[1] - 1) & (next_y >= 0) & (next_y <= size[0] - 1)
        for number, layer in enumerate(layers):
            window = layer.window(t + 1, grow=farthest)
            alpha = layer.look_up(t + 1, next_x[window], next_y[window])[3]
            visible[t][window] &= (alpha < 0.5) | (fronts[t][window] >= number)
    return rgb, fronts, flow, visible


def _carry(matrix: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Points (2,...), x then y, moved by one affine matrix (3,3)."""
    (a, b, c), (d, e, f) = matrix[:2].tolist()
    return torch.stack([a * x + (b * y + c), d * x + (e * y + f)])


def _pose(x: Tensor, y: Tensor, turn: Tensor, zoom: Tensor) -> Tensor:
    """Affine matrices (T,3,3) from paths (T,): zoom, turn (radians), move to (x,y)."""
    cos, sin, zero = zoom * turn.cos(), zoom * turn.sin(), 0 * x
    return torch.stack([cos, -sin, x, sin, cos, y, zero, zero, zero + 1], -1).view(-1, 3, 3)


def _swing(g: Generator, frames: int, mean: float, amplitude: float, rate: float) -> Tensor:
    """Return a path (T,) about the mean, at most rate per frame: bounded, so that long clips never run empty."""
    phase = torch.arange(frames, dtype=_EXACT) * (rate * _uniform(g, 0.3, 1) / amplitude)
    return mean + amplitude * torch.sin(phase + _uniform(g, 0, 2 * math.pi))


def _uniform(g: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g, dtype=_EXACT))


def _paint(g: Generator, label: int, texture: str, height: int, width: int) -> Tensor:
    """Grey levels (3,h,w). Classes 2k and 2k+1 share a colour, so that coding which smooths texture away costs accuracy."""
    broad, fine = _noise(g, height, width, slopes=(2.0, 0.7))
    if texture in ("smooth", "grain"):
        pattern = 14 * broad + 2 * fine if texture == "smooth" else 9 * broad + 18 * fine
    else:
        y, x, step = torch.arange(height)[:, None], torch.arange(width), math.pi / _uniform(g, 4.5, 9)
        lines, across = torch.sin(x * step + 0.5 * broad), torch.sin(y * step - 0.5 * broad)  # bent a little, as in cloth
        pattern = 30 * torch.tanh(2 * lines * (across if texture == "checkers" else 1)) + 5 * broad + 4 * fine
    hue = 0.618 * (label // 2) + _uniform(g, -0.03, 0.03) + torch.arange(3, dtype=_EXACT) / 3
    colour = 118 + 34 * (label // 2 % 3 - 1) + _uniform(g, -10, 10) + 42 * torch.cos(2 * math.pi * hue)
    return colour.view(3, 1, 1) * (1 + 0.05 * broad) + pattern


def _noise(g: Generator, height: int, width: int, slopes: tuple[float, ...]) -> Tensor:
    """Band-limited noise (n,h,w), zero mean and unit deviation, amplitude falling as frequency**-slope."""
    rows, columns = -(-height // 32) * 32, -(-width // 32) * 32  # lengths that the FFT is fast at
    frequency = torch.hypot(torch.fft.fftfreq(rows, dtype=_EXACT)[:, None], torch.fft.rfftfreq(columns, dtype=_EXACT))
    gain = torch.stack([(frequency + 0.01) ** -slope for slope in slopes]) * torch.exp(-((frequency / _BAND) ** 2))
    gain[:, 0, 0] = 0
    white = torch.randn(gain.shape, generator=g, dtype=torch.complex64)
    noise = torch.fft.irfft2(white * gain, s=(rows, columns), norm="forward")
    return noise[:, :height, :width] / (2 * gain.square().sum((1, 2), keepdim=True)).sqrt()


def _outline(g: Generator, side: int) -> tuple[Tensor, Tensor]:
    """Alpha and shading, both (side,side), of an ellipse or rounded polygon that fills the inscribed disc."""
    oval = _uniform(g, 0, 1) < 0.4
    corners, power = (4, 2) if oval else (int(_uniform(g, 4, 8)), 8)
    jitter, cut = torch.rand(2, corners, generator=g, dtype=_EXACT) * (0 if oval else 0.4)
    cut = _uniform(g, 0, 0.55) * torch.tensor([1, 0, 1, 0]) if oval else cut
    angles = 2 * math.pi / corners * (torch.arange(corners) + jitter)
    normals = torch.stack([angles.cos(), angles.sin()]) / (1 - cut)
    axis = torch.arange(side, dtype=_EXACT) - (side - 1) / 2  # side is even: no texel at 0
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    radius = points.norm(dim=-1)
    # The distance at which a norm over the edges reaches 1, in each direction: power 2 rounds the corners away, 8 a little.
    edge = radius / (points @ normals).clamp(min=0).pow(power).sum(-1).pow(1 / power)
    edge *= (side / 2 - 2) / edge.max()
    return (edge - radius + 0.5).clamp(0, 1), (1.1 - 0.3 * (radius / edge) ** 2).clamp(min=0.6)
