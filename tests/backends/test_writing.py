"""Which words a text has, in any script, and where they stand."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from icu4py.breakers import CharacterBreaker

from msfser_cli.backends import writing

ALPHABETS = "abéß'’-.,;:!?%$&@ \n\u00a0«»\"()–…¿3٤жяאلمी्کक"
UNSPACED = (
    "今日はとても良い天気散歩に行きませんかデータ。、「」我们不知道为什么北京大学"
    "ฉันไม่รู้ว่าเขาไปไหนຂ້ອຍບໍ່ຮູ້ကျွန်တော်မသိပါဘူးខ្ញុំមិនដឹង 한국"
)
TEXTS = st.text(st.sampled_from(ALPHABETS + UNSPACED), max_size=40) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" My mother-in-law is a well-known artist.", ["My", "mother-in-law", "is", "a", "well-known", "artist."]),
        ("The rate is 3.5 percent, that is $120.99", ["The", "rate", "is", "3.5", "percent,", "that", "is", "$120.99"]),
        ("at 10 o'clock www.example.com", ["at", "10", "o'clock", "www.example.com"]),
        ("20% more, call 800-555-0199.", ["20%", "more,", "call", "800-555-0199."]),
        ("Un'altra volta c'era l'acqua", ["Un'altra", "volta", "c'era", "l'acqua"]),
        ("Est-ce que vous ramez-vous ?", ["Est-ce", "que", "vous", "ramez-vous ?"]),
        ("Die E-Mail kam, 3,5 % mehr", ["Die", "E-Mail", "kam,", "3,5 %", "mehr"]),
        ("he – « oui » – said", ["he –", "« oui » –", "said"]),
        ("( well ) - yes", ["( well ) -", "yes"]),
        ("¿ Qué ?", ["¿ Qué ?"]),
        ("... – ?", []),
        ("", []),
        ("我们不知道他没有来北京。价格是3.5%！", ["我们", "不知道", "他", "没有", "来", "北京。", "价格", "是", "3.5%！"]),
        ("他说“你好”。", ["他", "说", "“你好”。"]),
        ("今日は、天気ですね。「散歩」に行きませんか？", ["今日は、", "天気ですね。", "「散歩」", "に", "行きませんか？"]),
        ("ฉันไม่รู้ว่าเขาไปไหน", ["ฉัน", "ไม่รู้", "ว่า", "เขา", "ไป", "ไหน"]),
        ("ຂ້ອຍບໍ່ຮູ້", ["ຂ້ອຍ", "ບໍ່", "ຮູ້"]),
        ("ខ្ញុំមិនដឹង", ["ខ្ញុំ", "មិនដឹង"]),
        ("the word 你好 in a mother-in-law's text", ["the", "word", "你好", "in", "a", "mother-in-law's", "text"]),
        ("北韓은 나쁘다", ["北韓은", "나쁘다"]),
        ("🙂我们不知道", ["🙂我们", "不知道"]),
    ],
)  # fmt: skip
def test_the_words_of_a_text(text: str, words: list[str]) -> None:
    assert [word for _, word in writing.split(text)] == words


@given(TEXTS)
@example("\u0301 a")
@example("「今日」\u3099は")
def test_words_and_blanks_are_the_text(text: str) -> None:
    words = writing.split(text)
    whole = "".join(blank + word for blank, word in words)
    if not words:
        assert not any(c.isalnum() for c in text)
        return
    assert text.startswith(whole)
    assert not text[len(whole) :].strip()
    for blank, word in words:
        assert blank.strip() == ""
        assert word == word.strip()
        assert any(c.isalnum() for c in word)
    stand = writing.places(text, [word for _, word in words])
    assert stand is not None
    assert [text[a:b] for a, b in stand] == [word for _, word in words]


@given(st.text(st.sampled_from(UNSPACED.replace(" ", "")), max_size=40))
def test_no_word_ends_within_what_a_reader_takes_for_a_character(text: str) -> None:
    text = unicodedata.normalize("NFC", text).strip()
    edges, at = set(), 0
    for cluster in CharacterBreaker(text, "und"):
        edges.add(at)
        at += len(cluster)
    at = 0
    for blank, word in writing.split(text):
        at += len(blank)
        assert at in edges
        at += len(word)
        assert at in edges | {len(text)}


@given(TEXTS, st.data())
def test_bare_takes_off_what_is_not_heard(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = writing.bare(text, (start, end))
    assert start <= first <= last <= end
    taken = text[start:first] + text[last:end] if first < last else text[start:end]
    assert not any(c.isalnum() or unicodedata.combining(c) for c in taken)


def test_words_that_do_not_make_up_the_text_have_no_places() -> None:
    assert writing.places("one two", ["one"]) is None
    assert writing.places("one two", ["two", "one"]) is None
    assert writing.places("one two", ["one", "two", "three"]) is None
    assert writing.places("  one  two ", ["one", "two"]) == [(2, 5), (7, 10)]
    assert writing.places(" ", []) == []


@given(st.lists(st.text(min_size=1, max_size=5).map(str.strip).filter(bool), max_size=6))
def test_joined_words_are_a_text_of_these_words(words: list[str]) -> None:
    assert writing.places(writing.joined(words), words) is not None


def test_a_script_without_blanks_is_joined_without() -> None:
    assert writing.joined(["今日は", "とても", "良い。"]) == "今日はとても良い。"
    assert writing.joined(["a", "b"]) == "a b"
