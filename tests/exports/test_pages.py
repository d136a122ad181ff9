"""The pages of a report in a real browser: Chromium, from disk, without a network."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kit.program import wait_for
from kit.scored import LINEAGE, scored_row, write_scores
from msfser_cli.exports.page.page import data_of
from msfser_cli.exports.page.report import report
from msfser_cli.schemas import SAMPLE_RATE_HZ, LedgerLine
from msfser_cli.store.audio import decode
from msfser_cli.store.media import Media

pytestmark = pytest.mark.process

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        )
        yield chromium
        chromium.close()


class Opened:
    """A page, and what it said, failed at and asked for, apart from itself and its sound."""

    def __init__(self, browser: Any, path: Path, address: str = "", **context: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**context).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri() + address)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def wait(self, script: str) -> None:
        wait_for(lambda: self.run(script), 20)  # the page's policy does not let the browser evaluate text by itself


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """A function that opens a page. At the end, no page has said anything, or asked for more than itself and its sound."""
    pages: list[Opened] = []

    def open_page(path: Path, address: str = "", **context: Any) -> Opened:
        pages.append(Opened(browser, path, address, **context))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.said == []
        assert all(url.startswith(("file:", "data:")) for url in page.asked)
        page.page.context.close()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two minutes of a tone that begins anew each second, so that the sound tells where it is."""
    seconds = np.arange(120 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    samples = 0.3 * np.sin(2 * np.pi * 220 * seconds) * (seconds % 1 < 0.5)
    (tmp_path / "corpus").mkdir()
    soundfile.write(tmp_path / "corpus" / "a b#?.wav", samples.astype(np.float32), SAMPLE_RATE_HZ)
    return tmp_path / "corpus"


def episode(recording: str = "a b#?.wav") -> list[dict[str, Any]]:
    """Utterances of four words, every ten seconds, by two speakers in turn. The fourth and the ninth have high arousal."""
    rows = []
    for i in range(12):
        words = [(word, 10 * i + 2 * k + 0.5, 10 * i + 2 * k + 1.5) for k, word in enumerate(("one", "two", "three", "four"))]
        rows.append(scored_row(recording, i, words, emphasised=[1], speaker=f"S{i % 2}", arousal=0.9 if i in (3, 8) else 0.4))
    return rows


def made(folder: Path, rows: list[dict[str, Any]], root: Path, lines: list[LedgerLine] | None = None, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    write_scores(folder / "scores.parquet", rows, lines or [], lineage=replace(LINEAGE, corpus_root=str(root)))
    report(folder / "scores.parquet", folder / "report", **more)
    return folder / "report"


IN_VIEW = """(() => {
  const place = document.querySelector('.utterance.now').getBoundingClientRect();
  return place.top >= document.getElementById('stand').getBoundingClientRect().bottom && place.bottom <= innerHeight;
})()"""
NOW = "document.querySelector('.utterance.now .text .now')?.textContent"


@pytest.mark.parametrize("audio", ["link", "copy", "embed"])
def test_a_word_plays_from_where_it_is_said_and_the_page_follows(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened], audio: str
) -> None:
    page = opened(made(tmp_path, episode(), corpus, audio=audio) / "recordings" / "a b#?.html")
    page.wait("document.getElementById('audio').readyState > 0")
    assert abs(page.run("document.getElementById('audio').duration") - 120) < 0.05
    page.page.locator(".utterance").nth(7).locator(".text span").nth(2).click()
    page.wait("!document.getElementById('audio').paused && document.getElementById('audio').currentTime > 74.5")
    assert page.run("document.getElementById('audio').currentTime") < 76
    assert page.run(NOW) == "three"
    page.wait(f"{NOW} === 'four'")
    page.page.keyboard.press("Space")
    page.wait("document.getElementById('audio').paused")
    assert page.page.url.partition("#t=")[2].startswith("7")


def test_the_player_is_where_the_page_says(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    page = opened(made(tmp_path, episode(), corpus, audio="copy") / "recordings" / "a b#?.html")
    page.wait("document.getElementById('audio').readyState > 0")
    for moment in (0.5, 56.5, 116.5):
        page.run(f"location.hash = '#t={moment}'")
        page.wait(f"Math.abs(document.getElementById('audio').currentTime - {moment}) < 0.02")


def test_a_copy_has_each_sound_where_the_recording_has_it(tmp_path: Path, corpus: Path) -> None:
    copy = decode(made(tmp_path, episode(), corpus, audio="copy") / "recordings" / "a b#?.opus")
    assert abs(copy.duration - 120) < 0.05
    for second in (0, 56, 118):
        assert np.abs(copy.clip(second + 0.02, second + 0.48)).max() > 0.2
        assert np.abs(copy.clip(second + 0.52, second + 0.98)).max() < 0.05


@pytest.mark.parametrize("audio", ["link", "copy", "embed"])
def test_sound_that_an_earlier_report_has_is_not_decoded_again(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, audio: str
) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "report" / "recordings").iterdir()}

    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("decoded again")

    made(tmp_path, episode(), corpus, audio=audio)
    first = files()
    with monkeypatch.context() as patch:
        patch.setattr(Media, "audio", refuse)
        made(tmp_path, episode(), corpus, audio=audio)
        assert files() == first
        page = tmp_path / "report" / "recordings" / "a b#?.html"
        page.write_bytes(first[page.name].replace(b'"peaks":"', b'"peaks":"AAAA'))  # what somebody edited is not believed
        with pytest.raises(AssertionError, match="decoded again"):
            made(tmp_path, episode(), corpus, audio=audio, overwrite=True)
    made(tmp_path, episode(), corpus, audio=audio, overwrite=True)
    assert files() == first
    samples = np.full(60 * SAMPLE_RATE_HZ, 0.1, np.float32)
    samples[: SAMPLE_RATE_HZ // 2] = np.sin(np.arange(SAMPLE_RATE_HZ // 2) / 10)
    soundfile.write(corpus / "a b#?.wav", samples, SAMPLE_RATE_HZ)
    made(tmp_path, episode(), corpus, audio=audio)
    assert all(files()[name] != content for name, content in first.items())


def test_each_page_has_its_own_sound_however_many_are_decoded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = {f"{i}.wav": 1 + i * 5 % 7 for i in range(7)}
    (tmp_path / "corpus").mkdir()
    for name, seconds in lengths.items():
        samples = np.sin(np.arange(seconds * SAMPLE_RATE_HZ) / 10).astype(np.float32)
        soundfile.write(tmp_path / "corpus" / name, samples, SAMPLE_RATE_HZ)
    rows = [scored_row(name, 0, [(f"word{name}", 0.0, 0.5)]) for name in lengths]
    contents = []
    for processors in (1, 3):
        monkeypatch.setattr("msfser_cli.processors.available", lambda processors=processors: processors)
        pages = made(tmp_path / f"{processors}", rows, tmp_path / "corpus") / "recordings"
        contents.append({page.name: page.read_bytes() for page in pages.iterdir()})
    assert contents[0] == contents[1]
    for name, seconds in lengths.items():
        page = pages / name.replace(".wav", ".html")
        assert len(base64.b64decode(data_of(page, "sound")["peaks"])) == 50 * seconds
        assert data_of(page, "data")["words"]["text"] == [f"word{name}"]


def test_a_pipe_in_place_of_a_page_is_kept(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "report" / "recordings").mkdir(parents=True)
    os.mkfifo(tmp_path / "report" / "recordings" / "a b#?.html")
    made(tmp_path, episode(), corpus)
    assert (tmp_path / "report" / "recordings" / "a b#?.html").is_fifo()


def test_a_recording_that_changes_while_it_is_decoded_has_no_sound(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(media: Media, **more: Any) -> Any:
        audio = decode(corpus / "a b#?.wav")
        (corpus / "a b#?.wav").write_bytes(b"other")
        return audio

    monkeypatch.setattr(Media, "audio", changing)
    page = made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html"
    assert "changed while it was read" in page.read_text()
    assert '"peaks":""' in page.read_text()


def test_a_copy_that_is_gone_or_of_other_sound_is_made_again(tmp_path: Path, corpus: Path) -> None:
    copy = made(tmp_path, episode(), corpus, audio="copy") / "recordings" / "a b#?.opus"
    content = copy.read_bytes()
    copy.unlink()
    made(tmp_path, episode(), corpus, audio="copy")
    assert copy.read_bytes() == content
    soundfile.write(corpus / "a b#?.wav", np.full(60 * SAMPLE_RATE_HZ, 0.1, np.float32), SAMPLE_RATE_HZ)
    made(tmp_path, episode(), corpus, audio="link")  # its page knows the new sound, and the copy has the old one
    made(tmp_path, episode(), corpus, audio="copy")
    assert abs(decode(copy).duration - 60) < 0.1


@pytest.mark.parametrize("size", [(1200, 900), (420, 850)])
def test_a_link_leads_to_a_moment(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened], size: tuple[int, int]
) -> None:
    view = {"width": size[0], "height": size[1]}
    page = opened(made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html", "#t=56.9", viewport=view)
    page.wait("document.getElementById('audio').currentTime > 56")
    assert page.run("document.getElementById('clock').textContent") == "0:56 / 2:00"
    assert page.run(NOW) == "four"
    page.wait(IN_VIEW)


def test_a_link_leads_to_a_moment_at_the_end_of_the_window(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    path = made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html"
    for i in range(6):  # of the last ones in view, the place is only estimated before they are drawn
        opened(path, f"#t={10 * i + 7}", viewport={"width": 1200, "height": 1300}).wait(IN_VIEW)


def test_the_curves_can_be_zoomed_and_the_extremes_found(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    page = opened(made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html")
    assert page.run("document.querySelectorAll('#charts canvas').length") == 4
    labels = page.run("document.getElementById('charts').getAttribute('aria-label')")
    assert "valence, arousal, dominance" in labels
    page.page.select_option("#kind", label="high arousal")
    page.page.click("#next")
    page.wait("document.getElementById('clock').textContent.startsWith('0:30')")
    page.page.click("#next")
    page.wait("document.getElementById('clock').textContent.startsWith('1:20')")
    before = page.run("document.querySelector('#charts canvas').toDataURL()")
    page.page.click("#in")
    page.wait(f"document.querySelector('#charts canvas').toDataURL() !== {json.dumps(before)}")
    page.page.locator("#numbers summary").click()
    page.wait("document.querySelectorAll('#numbers tr').length === 13")


def test_speakers_who_talk_at_once_are_marked_while_they_talk(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened]
) -> None:
    long = [(f"a{i}", float(i), i + 0.9) for i in range(60)]
    rows = [scored_row("a b#?.wav", 0, long, speaker="Ann"), scored_row("a b#?.wav", 1, [("yes", 3.0, 3.6)], speaker="Bo")]
    path = made(tmp_path, rows, corpus) / "recordings" / "a b#?.html"
    for moment, word in (("3.3", "yes"), ("10", "a10"), ("100", "yes")):
        assert opened(path, f"#t={moment}").run(NOW) == word


def test_utterances_are_in_the_order_of_time_each_with_its_words(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened]
) -> None:
    rows = [
        scored_row("a b#?.wav", 0, [("今天", 40.0, 41.0), ("好", 42.5, 43.0)], emphasised=[1], between=""),
        scored_row("a b#?.wav", 1, [], times=(20.0, 21.0)) | {"text": "no words"},
        scored_row("a b#?.wav", 2, [("one", 10.5, 11.0), ("two", 11.0, 12.0)], times=(10.0, 12.0), emphasised=[0]),
    ]
    page = opened(made(tmp_path, rows, corpus) / "recordings" / "a b#?.html")
    assert page.run("[...document.querySelectorAll('.utterance .text')].map(e => e.textContent.trim())") == [
        "one two", "no words", "今天好"]  # fmt: skip
    assert page.run("[...document.querySelectorAll('.text b')].map(e => e.textContent)") == ["one", "好"]
    assert page.run("[...document.querySelectorAll('.text span')].map(e => e.title.split(',')[0])") == [
        "0:10", "0:11", "0:40", "0:42"]  # fmt: skip
    for moment, word in (("10.7", "one"), ("11.5", "two"), ("40.5", "今天"), ("42.8", "好")):
        page.run(f"location.hash = '#t={moment}'")
        page.wait(f"{NOW} === '{word}'")


def test_of_speakers_who_talk_at_once_the_curve_is_of_the_one_who_began_last(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened]
) -> None:
    rows = [scored_row("a b#?.wav", 0, [("long", 0.0, 120.0)], speaker="Ann", valence=0.1, valence_low=None, valence_high=None),
            scored_row("a b#?.wav", 1, [("yes", 30.0, 60.0)], speaker="Bo", valence=0.9, valence_low=None, valence_high=None)]
    page = opened(made(tmp_path, rows, corpus, audio="none") / "recordings" / "a b#?.html")
    drawn = """() => {
      const chart = document.querySelector('#charts .chart'), canvas = chart.querySelector('canvas');
      const plot = chart.querySelector('.u-over'), scale = canvas.width / canvas.getBoundingClientRect().width;
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      return [0.1, 0.4, 0.9].map(share => {
        const x = Math.round((plot.offsetLeft + share * plot.clientWidth) * scale);
        const isBlue = y => pixels[4 * (y * canvas.width + x) + 2] - pixels[4 * (y * canvas.width + x)] > 90;
        const line = [...Array(canvas.height).keys()].filter(isBlue);
        return 1 - (line.reduce((a, b) => a + b, 0) / line.length / scale - plot.offsetTop) / plot.clientHeight;
      });
    }"""
    assert page.page.evaluate(drawn) == pytest.approx([0.1, 0.9, 0.1], abs=0.05)


@pytest.mark.parametrize("address", ["#t=1.2.3", "#t=.", "#t=", "#else"])
def test_an_address_without_a_moment_leads_to_the_start(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened], address: str
) -> None:
    page = opened(made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html", address)
    assert page.run("document.getElementById('clock').textContent") == "0:00 / 2:00"


def test_the_page_draws_once_a_frame_however_often_one_seeks(
    tmp_path: Path, corpus: Path, opened: Callable[..., Opened]
) -> None:
    page = opened(made(tmp_path, episode(), corpus) / "recordings" / "a b#?.html")
    page.run("() => { window.asked = 0; window.ask = requestAnimationFrame; }")
    page.run("() => { window.requestAnimationFrame = f => { asked++; return ask(f); } }")
    for i in range(12):
        page.page.locator(".utterance").nth(i % 4).locator(".text span").nth(2).click()
        page.page.wait_for_timeout(50)
    page.run("() => { asked = 0; }")
    page.page.wait_for_timeout(500)
    assert 1 <= page.run("asked") <= 70


def test_hours_are_summed_up_until_they_are_zoomed_into(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    rows = [scored_row("a b#?.wav", i, [("Hello", 7.0 * i, 7.0 * i + 5)], valence=i % 2 / 2) for i in range(1200)]
    folder = made(tmp_path, rows, corpus, audio="none")
    page = opened(folder / "recordings" / "a b#?.html", viewport={"width": 1200, "height": 900})
    names = "[...document.querySelectorAll('#charts .name')].map(e => e.textContent)"
    assert page.run(names) == [f"{d}: mean and range of 1 min each" for d in ("valence", "arousal", "dominance")]
    for _ in range(4):
        page.page.click("#in")
    assert page.run(names) == ["valence", "arousal", "dominance"]
    page.page.click("#all")
    assert page.run(names)[0] == "valence: mean and range of 1 min each"


def test_a_table_without_rows_has_a_page(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    page = opened(made(tmp_path, [], tmp_path, [LedgerLine("bad.mp3", "failed", "empty", "no bytes")]) / "index.html")
    assert page.run("document.querySelectorAll('figure, #extremes h2').length") == 0
    assert "1 recording" in page.run("document.getElementById('facts').textContent")


def test_text_of_other_people_stays_text(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    evil = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
    rows = [scored_row("a b#?.wav", 0, [(evil, 0.0, 1.0), ("שלום", 1.0, 2.0)], speaker=evil, description=evil)]
    lines = [LedgerLine("a b#?.wav", utterances=1), LedgerLine(evil, "failed", "empty", evil)]
    folder = made(tmp_path, rows, corpus, lines)
    for path in (folder / "recordings" / "a b#?.html", folder / "index.html"):
        page = opened(path)
        assert evil in page.run("document.body.textContent")
        assert page.run("document.title") in ("a b#?.wav", "scores.parquet")


def test_the_corpus_is_searched_sorted_and_paged(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    rows = [scored_row(f"show {i % 3}/{i:04d}.mp3", 0, [("Hello", 0.0, 1.0)], valence=i / 250) for i in range(250)]
    lines = [LedgerLine(row["recording_id"], utterances=1, duration=60.0) for row in rows]
    lines += [LedgerLine("z/silent.mp3", "no_speech", duration=5.0), LedgerLine("z/bad.mp3", "failed", "empty", "no bytes")]
    page = opened(made(tmp_path, rows, tmp_path, lines, audio="none") / "index.html")
    assert "252 recordings" in page.run("document.getElementById('facts').textContent")
    assert page.run("document.querySelectorAll('#recordings tbody tr').length") == 100
    page.page.fill("#search", "Show 1/")
    assert page.run("document.getElementById('found').textContent") == "1 to 83 of 83"
    first = "document.querySelector('#recordings tbody tr').textContent"
    page.page.fill("#search", "")
    page.page.locator("#recordings th button", has_text="valence").click()
    assert "0249.mp3" in page.run(first)
    page.page.locator("#recordings th button", has_text="valence").click()
    assert "0000.mp3" in page.run(first)
    page.page.click("#on")
    assert page.run("document.getElementById('found').textContent") == "101 to 200 of 252"
    assert "empty: the file has no bytes" in page.run("document.getElementById('trouble').textContent")
    page.page.locator("#extremes summary", has_text="highest valence").click()
    page.page.locator("#extremes li a").first.click()
    page.wait("document.title === 'show 0/0249.mp3'")
    page.page.locator("header a").click()
    page.wait("document.title === 'scores.parquet'")


def test_a_page_without_its_sound_says_why(tmp_path: Path, corpus: Path, opened: Callable[..., Opened]) -> None:
    lines = [LedgerLine("a b#?.wav", utterances=12, sha256="0" * 64), LedgerLine("gone.wav", utterances=12)]
    folder = made(tmp_path, [*episode(), *episode("gone.wav")], corpus, lines) / "recordings"
    for name, why in (("a b#?.html", "has changed since"), ("gone.html", "does not exist")):
        page = opened(folder / name)
        assert why in page.run("document.getElementById('silent').textContent")
        assert page.run("document.getElementById('play').disabled")
        page.page.locator(".utterance").nth(2).locator(".text span").nth(1).click()
        assert page.run(NOW) == "two"
