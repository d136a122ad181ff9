"""The describer that asks a server: what it sends, what it makes of whatever comes back, and that nothing is asked for twice."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.chat_server import CALM, MODEL, Asked, ChatServer, Reply, completion, drips, hangs, raw, says, status
from kit.program import AFRESH
from msfser_cli.backends import chat_server as client
from msfser_cli.backends.asking import Question
from msfser_cli.backends.describers import openai, prosody
from msfser_cli.errors import ModelError, MsfserError, UsageError
from msfser_cli.schemas import RECORDINGS, columns_through, names
from msfser_cli.settings import DescribeSettings, as_dict
from msfser_cli.stages import describe as stage
from msfser_cli.stages.work import Recording, Work
from msfser_cli.store import tables
from msfser_cli.store.audio import Audio
from msfser_cli.store.ledger import ledger_path, read_ledger
from msfser_cli.store.lineage import Lineage

Trials = Callable[[str, int], Iterator[int]]

KEY = "sk-Very/Secret+123"
HTML = b"<html><body>Bad gateway</body></html>"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(client, "TRIES", 5)


def settings(server: ChatServer, **more: Any) -> DescribeSettings:
    return DescribeSettings(describer=f"openai:{server.url}", **more)


def ask(server: ChatServer, questions: list[Question], **more: Any) -> list[str | None]:
    given = settings(server, **more)
    describer = openai.load(given, openai.needs(given))
    answers = describer.model.answer(questions)
    assert server.most_at_once <= given.describer_concurrency
    return answers


def question(seed: int = 0, seconds: float = 0.5) -> Question:
    samples = np.random.default_rng(seed).uniform(-0.9, 0.9, round(seconds * 16_000)).astype(np.float32)
    return Question(samples, f"How is {seed} spoken?")


def questions(count: int) -> list[Question]:
    return [question(seed) for seed in range(count)]


# What is sent


def test_the_samples_arrive_as_they_are(chat_server: ChatServer) -> None:
    loud = Question(np.array([0.0, 0.5, -0.5, 1.5, -1.5, 0.99999], np.float32), "loud")
    assert ask(chat_server, [question(1, 130), loud], describer_concurrency=1) == [CALM, CALM]
    first, second = chat_server.asked
    assert np.abs(first.samples / 32768 - question(1, 130).samples[:]).max() <= 1 / 32768
    assert second.samples.tolist() == [0, 16384, -16384, 32767, -32768, 32767]
    assert (first.prompt, second.prompt) == ("How is 1 spoken?", "loud")
    assert "Authorization" not in first.headers


def test_what_is_too_long_or_empty_is_not_sent(chat_server: ChatServer) -> None:
    class Hours:
        def __len__(self) -> int:
            return 3600 * 16_000

        def __getitem__(self, stretch: slice) -> np.ndarray:
            raise AssertionError("an hour was read")

    assert ask(chat_server, [Question(Hours(), "long"), Question(np.zeros(0, np.float32), "none")]) == [None, None]
    assert chat_server.asked == []


def test_answers_are_in_the_order_of_the_questions_and_no_more_are_asked_at_once(chat_server: ChatServer) -> None:
    three = threading.Barrier(3)

    def reply(asked: Asked) -> Reply:
        place = three.wait(60)  # so many are under way at once, whichever they are
        time.sleep(0.02 * place)
        return says(f"It is {asked.prompt.split()[2]}.")

    chat_server.reply = reply
    assert ask(chat_server, questions(12), describer_concurrency=3) == [f"It is {i}." for i in range(12)]
    assert chat_server.most_at_once == 3


# What comes back

IN_OTHER_WORDS: dict[str, tuple[Reply, str | None]] = {
    "parts": (says([{"type": "text", "text": "Calm "}, {"type": "other"}, {"type": "text", "text": "voice."}]), "Calm voice."),
    "null": (says(None), ""),
    "cut short": (says("Calm, and", "length"), "Calm, and"),
    "filtered": (says("Calm.", "content_filter"), None),
    "refused": (says(None, refusal="I will not."), None),
    "endless": (says("word " * 50_000), ("word " * 50_000)[:10_000]),
    "half a character": (says("Calm \ud800."), "Calm ?."),
    "compressed": (status(200, gzip.compress(completion("Calm.")), Content_Encoding="gzip"), "Calm."),
    "chunked": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x\r\n%b\r\n" % (1, bytes([c])) for c in completion("Calm.")) + b"0\r\n\r\n"),
        "Calm.",
    ),
    "without a length": (raw(b"HTTP/1.0 200 OK\r\n\r\n" + completion("Calm.")), "Calm."),
}  # fmt: skip


@pytest.mark.parametrize("how", IN_OTHER_WORDS)
def test_an_answer_in_another_form(chat_server: ChatServer, how: str) -> None:
    reply, answer = IN_OTHER_WORDS[how]
    chat_server.reply = lambda asked: reply
    assert ask(chat_server, [question()]) == [answer]
    assert ask(chat_server, [question()]) == [answer]
    assert len(chat_server.asked) == 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "
FAULTS: dict[str, Callable[[], Reply]] = {
    "429": lambda: status(429, HTML),
    "429 until": lambda: status(429, Retry_After="0"),
    "429 until a date": lambda: status(429, Retry_After=email.utils.formatdate(time.time() - 5, usegmt=True)),
    "429 until nonsense": lambda: status(429, Retry_After="soon"),
    "408": lambda: status(408), "500": lambda: status(500, HTML), "502": lambda: status(502, HTML),
    "503": lambda: status(503, {"error": "overloaded"}), "504": lambda: status(504),
    "closes": lambda: raw(b""),
    "closes in the head": lambda: raw(HEAD),
    "closes in the body": lambda: raw(HEAD + b"1000\r\n\r\n" + completion(CALM)),
    "closes in a chunk": lambda: raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    "another length": lambda: raw(HEAD + b"20\r\n\r\n" + completion(CALM)),
    "hangs": lambda: hangs,
    "drips a body": lambda: drips(HEAD + b"100000\r\n\r\n", b" "),
    "drips a head": lambda: drips(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "no HTTP": lambda: raw(b"\x00\xff" * 50),
    "endless head": lambda: raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000),
    "not compressed": lambda: status(200, b"\x00" * 50, Content_Encoding="gzip"),
    "a bomb": lambda: status(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
    "huge": lambda: status(200, completion("x" * 2_000_000)),
    "empty": lambda: status(200), "204": lambda: raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "no JSON": lambda: status(200, b"{'choices': ["), "NaN": lambda: status(200, b"NaN"),
    "deep": lambda: status(200, b"[" * 500_000),
    "a list": lambda: status(200, []), "no choices": lambda: status(200, {"choices": []}),
    "an error": lambda: status(200, {"error": {"message": "out of memory"}}),
    "null choices": lambda: status(200, {"choices": None}), "no message": lambda: status(200, {"choices": [{"text": CALM}]}),
    "a number": lambda: says(float("nan")), "odd parts": lambda: says([{"type": "text"}]),
    "odd message": lambda: status(200, {"choices": [{"message": "Calm."}]}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_nothing(chat_server: ChatServer, fault: str) -> None:
    chat_server.reply = lambda asked: FAULTS[fault]() if asked.number == 0 else says(CALM)
    more = {"describer_timeout": 0.5} if fault.startswith(("hangs", "drips")) else {}
    assert ask(chat_server, [question()], **more) == [CALM]
    assert len(chat_server.asked) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_lasts_ends_the_run_with_a_sentence(chat_server: ChatServer, fault: str) -> None:
    chat_server.reply = lambda asked: FAULTS[fault]()
    more = {"describer_timeout": 0.2} if fault.startswith(("hangs", "drips")) else {}
    with pytest.raises(ModelError) as raised:
        ask(chat_server, [question()], **more)
    assert "earlier answers are kept" in str(raised.value)
    assert len(str(raised.value)) < 1000
    chat_server.reply = lambda asked: says(CALM)
    assert ask(chat_server, [question()]) == [CALM]


@pytest.mark.parametrize("fault", ["500", "no JSON", "no choices", "400", "413", "422"])
def test_what_the_server_will_not_take_of_one_utterance_is_its_own(chat_server: ChatServer, fault: str) -> None:
    refusal = status(int(fault)) if fault.isdigit() else FAULTS[fault]()
    chat_server.reply = lambda asked: refusal if " 0 " in asked.prompt else says(CALM)
    assert ask(chat_server, questions(3), describer_concurrency=1) == [None, CALM, CALM]
    before = len(chat_server.asked)
    assert ask(chat_server, questions(3)) == [None, CALM, CALM]
    assert all(" 0 " in asked.prompt or "sound" in asked.prompt for asked in chat_server.asked[before:])


def test_an_internal_error_of_a_moment_is_not_the_utterances_own(chat_server: ChatServer) -> None:
    chat_server.reply = lambda asked: status(500) if asked.number < openai.SURE_AFTER else says(CALM)
    assert ask(chat_server, [question()]) == [CALM]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_model_that_cannot_hear_ends_the_run_before_any_answer(chat_server: ChatServer, code: int) -> None:
    chat_server.reply = lambda asked: status(code, {"error": {"message": "At most 0 audios"}})
    with pytest.raises(ModelError, match=r"refuses even a plain tone .*At most 0 audios"):
        ask(chat_server, questions(20), describer_concurrency=1)
    assert len(chat_server.asked) == 2


@pytest.mark.parametrize("code", [401, 402, 403, 404, 405, 418])
def test_what_no_other_request_would_better_ends_the_run_at_once(chat_server: ChatServer, code: int) -> None:
    chat_server.reply = lambda asked: status(code, {"error": {"message": "so it is"}})
    with pytest.raises(ModelError, match="so it is"):
        ask(chat_server, questions(5), describer_concurrency=1)
    assert len(chat_server.asked) == 1


def test_patience_is_bounded(chat_server: ChatServer) -> None:
    chat_server.reply = lambda asked: status(429, Retry_After="86400")
    with pytest.raises(ModelError, match="asks msfser to wait 86400 s"):
        ask(chat_server, [question()])
    assert len(chat_server.asked) == 1


def test_a_server_that_asks_for_a_moment_gets_it(chat_server: ChatServer) -> None:
    times: list[float] = []

    def reply(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return says(CALM) if asked.number else status(503, Retry_After="1")

    chat_server.reply = reply
    assert ask(chat_server, [question()]) == [CALM]
    assert times[1] - times[0] >= 1


def test_redirections_are_not_followed(chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ChatServer()
    chat_server.key = KEY
    monkeypatch.setenv("MSFSER_OPENAI_API_KEY", KEY)
    for code in (301, 302, 303, 307, 308):
        chat_server.reply = lambda asked: status(code, Location=f"{elsewhere.url}/chat/completions")  # noqa: B023
        with pytest.raises(ModelError, match="redirects to http"):
            ask(chat_server, [question()])
    chat_server.models = status(302, Location=f"{elsewhere.url}/models")
    with pytest.raises(ModelError, match="redirects to http"):
        openai.needs(settings(chat_server))
    assert (elsewhere.asked, elsewhere.listed) == ([], 0)
    elsewhere.close()


def test_a_server_that_misbehaves_at_random(chat_server: ChatServer, trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TRIES", 30)
    monkeypatch.setattr(openai, "SURE_AFTER", 30)
    quick = [fault for fault in FAULTS if not fault.startswith(("hangs", "drips", "a bomb", "deep"))]
    for seed in trials("a server that misbehaves", 3):
        chance = random.Random(seed)
        right = Counter[str]()

        def reply(asked: Asked) -> Reply:
            with chat_server.lock:
                if chance.random() < 0.5:  # noqa: B023
                    return FAULTS[chance.choice(quick)]()  # noqa: B023
                right[asked.prompt] += 1  # noqa: B023
                return says(f"It is {asked.prompt.split()[2]}.")

        chat_server.reply = reply
        some = [question(seed * 100 + i) for i in range(20)]
        assert ask(chat_server, some, describer_concurrency=4) == [f"It is {seed * 100 + i}." for i in range(20)]
        assert set(right.values()) == {1}


# Many recordings


def clips(count: int) -> list[Work]:
    """Recordings of one utterance each."""
    works = []
    for i in range(count):
        audio = Audio(question(i).samples[:])
        row = {"start": 0.0, "end": 0.5, "text": f"word {i}", "words": [], "language": "en", "speaker": None, "channel": None}
        works.append(Work(Recording(str(i), Path(str(i))), audio, [{**row, "emphasis_spans": []}]))
    return works


def number(asked: Asked) -> int:
    return int(asked.prompt.partition("word ")[2].split('"')[0])


def test_so_many_requests_at_once_are_of_many_recordings(chat_server: ChatServer) -> None:
    together = threading.Barrier(6, timeout=30)

    def reply(asked: Asked) -> Reply:
        together.wait()  # no request is answered before six are here
        if number(asked) == 7:
            return status(413)
        time.sleep(0.05 * (number(asked) % 3))
        return says(f"The voice is that of utterance {number(asked)}.")

    chat_server.reply = reply
    given = settings(chat_server, describer_concurrency=6)
    works, describer = clips(12), openai.load(given, openai.needs(given))
    describer.model._takes_audio = True  # or it would ask about a tone after the refusal
    stage.describe(works, describer)
    [measured] = prosody.load(DescribeSettings()).describe([works[7].audio], [works[7].rows])
    said = [[(row["description"], row["description_fallback"]) for row in work.rows] for work in works]
    expected: list[Any] = [[(f"The voice is that of utterance {i}.", None)] for i in range(12)]
    expected[7] = [(measured[0]["description"], "rejected")]
    assert said == expected
    assert all(work.error is None for work in works)
    assert chat_server.most_at_once == 6


def test_a_server_that_gives_out_among_many_recordings_ends_the_run_and_keeps_the_answers(chat_server: ChatServer) -> None:
    chat_server.reply = lambda asked: says(CALM) if asked.number < 5 else status(404)
    given = settings(chat_server, describer_concurrency=1)  # with more, answers that are still under way are lost
    works = clips(9)
    with pytest.raises(ModelError, match="refuses the request: 404"):
        stage.describe(works, openai.load(given, openai.needs(given)))
    assert all("description" not in row for work in works for row in work.rows)
    answered = {number(asked) for asked in chat_server.asked[:5]}
    chat_server.reply = lambda asked: says(CALM)
    chat_server.asked.clear()
    stage.describe(works, openai.load(given, openai.needs(given)))
    assert {number(asked) for asked in chat_server.asked} == {*range(9)} - answered
    assert {row["description"] for work in works for row in work.rows} == {CALM}


# Which model, which key


def test_the_model_is_the_named_one_or_the_only_one(chat_server: ChatServer) -> None:
    assert MODEL in openai.needs(settings(chat_server)).identity
    chat_server.models = status(200, {"data": [{"id": "a"}, {"id": "b"}]})
    with pytest.raises(UsageError, match="--describer-model: a, b"):
        openai.needs(settings(chat_server))
    before = chat_server.listed
    assert openai.needs(settings(chat_server, describer_model="c")).identity.startswith("c on a server, prompt ")
    assert chat_server.listed == before
    with pytest.raises(ModelError, match="no model 'c'; it has a, b"):
        openai.load(settings(chat_server, describer_model="c"))
    chat_server.models = status(404)
    with pytest.raises(ModelError, match="--describer-model"):
        openai.needs(settings(chat_server))
    openai.load(settings(chat_server, describer_model="c"))  # there is no list to look into


@pytest.mark.parametrize("models", [
    hangs, raw(b""), status(500, HTML), status(503), status(200, HTML), status(200, []), status(200, {"data": []}), status(401),
    status(200, {"data": [{}]}), status(200, {"data": None}), drips(HEAD + b"9999\r\n\r\n", b" "), status(200, b" " * 2_000_000),
])  # fmt: skip
def test_a_list_of_models_that_is_none(chat_server: ChatServer, models: Reply) -> None:
    chat_server.models = models
    for call in (openai.needs, openai.load):
        with pytest.raises(ModelError):
            call(settings(chat_server, describer_timeout=0.5))


def test_a_server_that_is_not_there_is_said_before_anything_is_asked(chat_server: ChatServer) -> None:
    with pytest.raises(ModelError, match="check that the server is running"):
        openai.load(DescribeSettings(describer="openai:http://127.0.0.1:9/v1", describer_model="c"))


def test_the_key_goes_to_the_server_and_nowhere_else(
    chat_server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_server.key = KEY
    with pytest.raises(ModelError, match="needs a key"):
        ask(chat_server, [question()])
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    with pytest.raises(ModelError, match="refuses the key") as raised:
        ask(chat_server, [question()])
    assert "another" not in str(raised.value)
    monkeypatch.setenv("MSFSER_OPENAI_API_KEY", KEY)
    assert ask(chat_server, [question()]) == [CALM]
    monkeypatch.setenv("MSFSER_OPENAI_API_KEY", "another")
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o640)
    assert ask(chat_server, [question(1)], describer_key_file=str(file)) == [CALM]
    chat_server.reply = lambda asked: says(f"You sent {KEY}.")
    assert ask(chat_server, [question(2)], describer_key_file=str(file)) == ["You sent (the key)."]


# What is remembered


def test_another_voice_prompt_or_model_is_another_question(chat_server: ChatServer) -> None:
    chat_server.models = status(200, {"data": [{"id": "a"}, {"id": "b"}]})
    first = question()
    louder = Question(first.samples[:] * 2, first.prompt)
    other = Question(first.samples, "What else?")
    for name in ("a", "a", "b"):
        ask(chat_server, [first, louder, other], describer_model=name)
    assert len(chat_server.asked) == 6


def test_what_changes_no_row_is_no_other_work(chat_server: ChatServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    more = {"describer_concurrency": 9, "describer_timeout": 1.0, "describer_key_file": str(key), "describer_model": MODEL}
    one, other = settings(chat_server), DescribeSettings(describer="openai:https://host/v1", **more)  # type: ignore[arg-type]
    assert as_dict(one) == as_dict(other) == {"describer": "openai", "pitch": "swift-f0"}
    assert openai.needs(one) == openai.needs(other)
    assert as_dict(DescribeSettings(describer="transformers:a/b"))["describer"] == "transformers:a/b"


# The program

@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three recordings of three utterances, as `emphasize` writes them."""
    lineage = Lineage(stage="emphasize", tool_version="0", fingerprint="0", corpus_root=str(tmp_path))
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for number in range(3):
        name = f"{number}.wav"
        noise = np.random.default_rng(number).normal(0, 3000, 48_000)
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(noise.astype("<i2").tobytes())
        for i in range(3):
            row: dict[str, Any] = dict.fromkeys(c.name for c in columns_through("emphasize"))
            row |= {"recording_id": name, "utterance_id": f"{name}#{i:04d}", "start": i * 1.0, "end": i + 1.0, "language": "en"}
            row |= {"text": f"{number} {i}", "words": [], "emphasis": [], "emphasis_cues": [], "emphasis_spans": []}
            rows.append(row)
        content = (tmp_path / name).read_bytes()
        line = dict.fromkeys(names(RECORDINGS)) | {"recording_id": name, "status": "done", "size_bytes": len(content)}
        line |= {"sha256": hashlib.sha256(content).hexdigest(), "duration": 3.0, "utterances": 3, "seconds": 0.0}
        lines.append(line | {"input_key": name})
    path = tmp_path / "emphasized.parquet"
    tables.write_rows(path, rows, columns_through("emphasize"), lineage)
    tables.write_rows(ledger_path(path), lines, RECORDINGS, lineage)
    return path


def start(table: Path, server: ChatServer, *more: str) -> subprocess.Popen[str]:
    command = ["describe", table.name, "--describer", f"openai:{server.url}", "--out", "x.parquet", "--jobs", "0", *more]
    return subprocess.Popen([*AFRESH, *command], cwd=table.parent, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def run(table: Path, server: ChatServer, *more: str) -> tuple[int, str, str]:
    with start(table, server, *more) as process:
        out, said = process.communicate()
    return process.returncode, out, said


def described(table: Path) -> list[Any]:
    return list(tables.read(table.with_name("x.parquet"), columns_through("describe"))["description"].to_pylist())


def utterance(asked: Asked) -> str:
    return asked.prompt.split('"')[1]


@pytest.mark.process
def test_a_run_asks_once_for_each_utterance_and_the_table_says_by_whom(table: Path, chat_server: ChatServer) -> None:
    chat_server.reply = lambda asked: says(f"The calm voice says {utterance(asked)}." if utterance(asked) != "1 1" else None)
    code, out, said = run(table, chat_server, "--json")
    assert (code, json.loads(out)["fallbacks"]) == (0, {"empty": 1}), said
    assert [text for text in described(table) if text and "calm" in text] == [
        f"The calm voice says {i} {k}." for i in range(3) for k in range(3) if (i, k) != (1, 1)
    ]
    lineage = tables.read_lineage(table.with_name("x.parquet"))
    assert lineage.settings["describe"] == {"describer": "openai", "pitch": "swift-f0"}
    assert lineage.models["describer"].startswith(f"{MODEL} on a server, prompt ")
    assert sorted(map(utterance, chat_server.asked)) == [f"{i} {k}" for i in range(3) for k in range(3)]

    elsewhere = ChatServer()
    more = ["--describer-model", MODEL]
    assert run(table, elsewhere, *more, "--describer-timeout", "7")[0] == 0
    assert elsewhere.listed == 0  # nothing to do needs no server
    assert run(table, elsewhere, *more, "--redo")[0] == 0
    assert (elsewhere.listed, elsewhere.asked) == (1, [])
    elsewhere.close()


@pytest.mark.slow
@pytest.mark.process
def test_a_server_that_gives_out_costs_nothing_that_was_answered(table: Path, chat_server: ChatServer) -> None:
    chat_server.reply = lambda asked: says(CALM) if asked.number < 5 else status(404, {"error": {"message": "gone"}})
    code, _, said = run(table, chat_server, "--describer-concurrency", "1")
    assert code == 5, said
    assert "Traceback" not in said
    assert "gone" in said
    chat_server.reply = lambda asked: says(CALM)
    code, _, said = run(table, chat_server)
    assert (code, described(table)) == (0, [CALM] * 9), said
    assert len(chat_server.asked) == 10


@pytest.mark.slow
@pytest.mark.process
def test_nothing_is_paid_for_twice_whenever_the_run_is_killed(table: Path, chat_server: ChatServer, trials: Trials) -> None:
    for seed in trials("killed while it asks", 2):
        chance = random.Random(seed)
        shutil.rmtree(os.environ["MSFSER_CACHE"], ignore_errors=True)
        for path in [*table.parent.glob("*x.*"), *table.parent.glob(".x.*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        paid = Counter[str]()
        left, arrived = [0], threading.Event()

        def reply(asked: Asked) -> Reply:
            with chat_server.lock:
                left[0] -= 1  # noqa: B023
                if left[0] >= 0:  # noqa: B023
                    paid[utterance(asked)] += 1  # noqa: B023
                    return says(CALM)
            arrived.set()  # noqa: B023
            return hangs

        chat_server.reply = reply
        kills = 0
        while len(paid) < 9:
            left[0] = chance.randint(1, 5)
            if left[0] > 9 - len(paid):
                break
            arrived.clear()
            with start(table, chat_server, "--describer-concurrency", "1") as process:
                while process.poll() is None and not arrived.wait(0.05):
                    pass
                process.kill()
                process.communicate()
            kills += 1
        left[0] = 1000
        code, _, said = run(table, chat_server)
        assert (code, described(table)) == (0, [CALM] * 9), said
        assert kills
        assert paid == Counter({f"{i} {k}": 1 for i in range(3) for k in range(3)})


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("number", "when"), [
    (signal.SIGINT, "loading"), (signal.SIGTERM, "asking"), (signal.SIGHUP, "asking"),
])  # fmt: skip
def test_a_signal_ends_a_run_that_waits_for_the_server(
    table: Path, chat_server: ChatServer, number: signal.Signals, when: str
) -> None:
    arrived = threading.Event()

    def hold(to: Any) -> None:
        arrived.set()
        hangs(to)

    if when == "loading":
        chat_server.models = hold
    else:
        chat_server.reply = lambda asked: says(CALM) if asked.number < 4 else hold
    with start(table, chat_server, "--describer-concurrency", "2", "--describer-timeout", "100000") as process:
        assert arrived.wait(120)
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1].startswith(f"msfser: stopped by {number.name}; ")
    assert "Traceback" not in said
    if when == "asking":
        chat_server.reply = lambda asked: says(CALM)
        assert run(table, chat_server)[0] == 0
        assert len(read_ledger(table.with_name("x.parquet"))) == 3


@pytest.mark.process
def test_the_key_is_in_nothing_that_is_written_or_said(
    table: Path, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_server.key = KEY
    monkeypatch.setenv("MSFSER_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MSFSER_DEBUG", "1")
    echo: list[Reply] = [
        status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), status(503, f"Bearer {KEY}".encode()),
        status(302, Location=f"http://host/?key={KEY}"), status(500, {"detail": KEY}), raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode()),
    ]  # fmt: skip
    for reply in (*echo[:1], *echo[2:3], says(f"The calm speaker says {KEY} in an even tone.")):
        chat_server.reply = lambda asked: reply  # noqa: B023
        code, out, said = run(table, chat_server, "--json", "--log-format", "json")
        assert KEY not in out + said
        assert KEY.replace("/", r"\/") not in out + said
    assert code == 0, said
    assert all("(the key)" in text for text in described(table))
    for path in table.parent.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    for reply in echo:
        chat_server.reply = lambda asked: reply  # noqa: B023
        with pytest.raises(MsfserError) as raised:
            ask(chat_server, [question(99)])
        assert KEY not in repr(raised.value)
        assert raised.value.__cause__ is None
