"""The page as a browser shows it: nothing from outside, the slider moves, pictures are there."""

import base64
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dvcc.evaluation.compare.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def page(comparison) -> str:
    return render(comparison)


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_nothing_is_fetched_and_every_picture_is_inside(page):
    elements = Elements(page)
    assert not elements.of("link") and all("src" not in script for script in elements.of("script"))
    images = elements.of("img")
    assert len(images) == 3 * (2 * 3 + 1 + 3) and all(image["src"].startswith("data:image/") and image["alt"] for image in images)
    for image in images:
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.size == ((6, 4) if image.get("class") == "qp" else (96, 64)) and np.asarray(picture).std() > 0
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>|<metadata>.*?</metadata>', "", page, flags=re.DOTALL)
    assert "http://" not in without_names and "https://" not in without_names


def test_names_and_facts_are_escaped(page):
    assert "<b>a&b" not in page and "&lt;b&gt;a&amp;b&lt;/b&gt;.mp4" in page
    assert "<script>alert" not in page and len(Elements(page).of("script")) == 1


def test_every_control_has_a_label_and_ids_are_single(page):
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    referred = set(re.findall(r'(?:url\(#|xlink:href="#)([\w-]+)', page)) | {a["aria-labelledby"] for a in elements.of("section")}
    assert referred <= set(ids)
    assert all(box.get("aria-label") for box in elements.of("input") if box["type"] == "range")


def test_figures_and_curves_are_there(page, comparison):
    for m in comparison.measured:
        assert f"<td>{m.bitrate_kbps:.1f}</td><td>{m.metric:.4f}</td>" in page
    assert page.count("<svg") == 2 and "var(--control)" in page and "#000002" not in page
    assert comparison.headline.split(" (")[0] in page and "104" in page  # the first frame shown of a stretch that starts at 100


def test_the_coded_videos_play_from_the_page(page, comparison):
    videos = {video["class"]: video for video in Elements(page).of("video")}
    assert list(videos) == ["abr2", "control"] and all(video["aria-label"] for video in videos.values())
    for name, video in videos.items():
        coded = base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,"))
        assert coded == comparison.videos[name].read_bytes()


def test_a_large_video_stays_beside_the_page(comparison, tmp_path):
    with (tmp_path / "abr2.mp4").open("wb") as file:
        file.truncate(33_000_000)  # a hole: it takes no room
    page = render(replace(comparison, videos={**comparison.videos, "abr2": tmp_path / "abr2.mp4"}))
    assert "<video" not in page and "abr2.mp4 and control.mp4 lie beside it" in page


def chrome(*words: str) -> subprocess.CompletedProcess:
    pictured = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=2000",
        "--window-size=1000,1600",
    ]
    return subprocess.run([CHROMIUM, *pictured, *words], capture_output=True, text=True, timeout=120)


@chromium
def test_the_slider_moves_between_the_coded_frames(page, tmp_path):
    """As a user does it: the control gets a value and an event; then what is seen."""
    seen = {}
    for split in (0, 50, 100):
        step = f"const s = document.getElementById('split'); s.value = {split};"
        step += "s.dispatchEvent(new Event('input', {bubbles: true}));"
        path = tmp_path / f"page{split}.html"
        path.write_text(page.replace("</body>", f"<script>{step}</script></body>"))
        chrome(f"--screenshot={tmp_path / f'{split}.png'}", f"file://{path}")
        seen[split] = np.asarray(Image.open(tmp_path / f"{split}.png").convert("RGB")).astype(int)
    changed = np.abs(seen[0] - seen[100]).sum(2) > 0
    assert changed.sum() > 10_000  # one frame or the other
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    middle = (columns[0] + columns[-1]) // 2
    top, bottom = rows[0] + 5, rows[0] + (rows[-1] - rows[0]) // 3
    left, right = slice(columns[0] + 40, middle - 40), slice(middle + 40, columns[-1] - 40)
    np.testing.assert_array_equal(seen[50][top:bottom, left], seen[100][top:bottom, left])  # left of the divider: two-pass ABR
    np.testing.assert_array_equal(seen[50][top:bottom, right], seen[0][top:bottom, right])  # right of it: the control


@chromium
def test_an_address_opens_a_view(page, tmp_path):
    ready = (
        "document.body.dataset.ready = [...document.querySelectorAll('video')].map((v) => `${v.readyState} ${v.error}`).join()"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>onload = () => {{{ready}}}</script></body>"))
    dump = chrome("--dump-dom", f"file://{tmp_path}/page.html#frame=2&view=qp&split=30").stdout
    assert 'data-view="qp"' in dump and "--split: 30;" in dump
    assert 'data-ready="4 null,4 null"' in dump  # both videos can be played to their end
    hidden = [
        attributes["data-frame"]
        for _, attributes in Elements(dump).elements
        if "data-frame" in attributes and "hidden" in attributes
    ]
    assert sorted(set(hidden)) == ["0", "1"]


@chromium
def test_it_is_dark_where_the_system_is(page, tmp_path):
    (tmp_path / "page.html").write_text(page)
    for name, words in (
        ("light", ["--blink-settings=preferredColorScheme=1"]),
        ("dark", ["--blink-settings=preferredColorScheme=0"]),
    ):
        chrome(f"--screenshot={tmp_path / name}.png", *words, f"file://{tmp_path}/page.html")
    light, dark = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))[5:20, 5:20].mean() for name in ("light", "dark"))
    assert light > 230 and dark < 50
