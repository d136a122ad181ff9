"""Language codes from codes, locales and names.

langcodes reads codes and locales (`en-US`, `pt_BR`, `eng`, `iw`). The table below reads names (`English`, `Deutsch`). The result
is the ISO 639-1 code if one exists. The only exception is Javanese: `jw`, as in Whisper.
"""

from __future__ import annotations

import re
import unicodedata

UNKNOWN = frozenset(("", "auto", "detect", "unknown", "und", "undetermined", "unk", "mul", "zxx"))
"""Texts that mean: detect the language."""

_OWN = {
    "jv": "jw", "nb": "no", "fil": "tl", "cmn": "zh", "arb": "ar", "pes": "fa", "swh": "sw", "zsm": "ms",
    "ekk": "et", "lvs": "lv",
}  # fmt: skip
"""langcodes' code -> Whisper's code for the same language, or for the group of languages that it belongs to."""

_NAMES = """
af Afrikaans | am Amharic | ar Arabic العربية | as Assamese | az Azerbaijani | ba Bashkir | be Belarusian | bg Bulgarian Български
bn Bengali Bangla | bo Tibetan | br Breton Brezhoneg | bs Bosnian Bosanski | ca Catalan Català Valencian | cs Czech Čeština
cy Welsh Cymraeg | da Danish Dansk | de German Deutsch | el Greek Ελληνικά | en English | es Spanish Español Castilian
et Estonian Eesti | eu Basque Euskara | fa Persian Farsi فارسی | fi Finnish Suomi | fo Faroese Føroyskt | fr French Français
gl Galician Galego | gu Gujarati | ha Hausa | haw Hawaiian | he Hebrew עברית | hi Hindi हिन्दी | hr Croatian Hrvatski
ht Haitian HaitianCreole Kreyòl | hu Hungarian Magyar | hy Armenian | id Indonesian BahasaIndonesia | is Icelandic Íslenska
it Italian Italiano | ja Japanese 日本語 | jw Javanese | ka Georgian | kk Kazakh | km Khmer | kn Kannada | ko Korean 한국어
la Latin | lb Luxembourgish Letzeburgesch Lëtzebuergesch | ln Lingala | lo Lao | lt Lithuanian Lietuvių | lv Latvian Latviešu
mg Malagasy | mi Maori Māori | mk Macedonian | ml Malayalam | mn Mongolian | mr Marathi | ms Malay BahasaMelayu | mt Maltese
my Burmese Myanmar | ne Nepali | nl Dutch Nederlands Flemish
nn Nynorsk NorwegianNynorsk | no Norwegian Norsk Bokmål NorwegianBokmål
oc Occitan | pa Punjabi Panjabi | pl Polish Polski | ps Pashto Pushto | pt Portuguese Português | ro Romanian Română Moldavian
ru Russian Русский | sa Sanskrit | sd Sindhi | si Sinhala Sinhalese | sk Slovak Slovenčina | sl Slovenian Slovene Slovenščina
sn Shona | so Somali | sq Albanian Shqip | sr Serbian Српски Srpski | su Sundanese | sv Swedish Svenska | sw Swahili Kiswahili
ta Tamil தமிழ் | te Telugu | tg Tajik | th Thai ไทย | tk Turkmen | tl Tagalog Filipino | tr Turkish Türkçe | tt Tatar
uk Ukrainian Українська | ur Urdu اردو | uz Uzbek | vi Vietnamese TiếngViệt | yi Yiddish | yo Yoruba
zh Chinese Mandarin 中文 汉语 普通话 | yue Cantonese 粤语 廣東話
"""


def code_of(text: str) -> str | None:
    """The code of the language in `text`, which is a code, a locale or a name; None if it is not a language."""
    text = unicodedata.normalize("NFC", text.strip())
    # Remove a locale's encoding or variant, and brackets after a name: en_US.UTF-8, de_DE@euro, English (US).
    plain = re.sub(r"(?<=\w)(\.[\w-]+|@\w+|\s*\([^)]*\))$", "", text)
    return _by_name(plain) or _by_code(plain)


def _by_name(text: str) -> str | None:
    return _CODES.get(_letters(text))


def _letters(name: str) -> str:
    """`name` in lower case, without blanks, hyphens and accents."""
    bare = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in bare if not c.isspace() and c not in "-_" and unicodedata.category(c) != "Mn")


def _by_code(text: str) -> str | None:
    import langcodes

    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*", text):
        return None
    try:
        language = langcodes.Language.get(text)  # in any case; withdrawn codes become their successors
    except ValueError:
        return None
    code = language.language
    return _OWN.get(code, code) if code and code not in UNKNOWN and langcodes.Language.make(code).is_valid() else None


_CODES = {
    _letters(name): code
    for line in re.split(r"[|\n]", _NAMES)
    if line.strip()
    for code, *names in [line.split()]
    for name in names
}
