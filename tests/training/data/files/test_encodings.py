"""Encodings of text: what can be told is read and said, and nothing is read as another than it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.training.data.files.test_row_files import read, written
from training.data.local_source import LocalSource

ENCODINGS: dict[str, tuple[str, str, bool]] = {
    "German": ("Wie groß ist die Größe der Fläche – 5 €?", "cp1252", True),
    "a word of German": ("How high? (größe)", "cp1252", True),
    "French": ("Quelle est la hauteur de la première barre dans le schéma ? À côté", "cp1252", True),
    "Spanish": ("¿Cuál es el número de años en la gráfica del niño?", "cp1252", True),
    "Swedish": ("Hur hög är den första stapeln och den andra på bilden?", "cp1252", True),
    "short Spanish": ("¿Cuántos círculos hay?", "cp1252", True),
    "Spanish of a company": ("La compañía ¿qué año?", "cp1252", True),
    "Portuguese": ("Quantos círculos há na imagem? Qual é a posição à esquerda?", "cp1252", True),
    "short Swedish": ("Vad är det för färg på blåa bilar?", "cp1252", True),
    "Danish": ("Hvor mange røde cirkler er der på billedet?", "cp1252", True),
    "Italian": ("Qual è il colore? Perché è così", "cp1252", True),
    "Finnish": ("Kuinka monta ympyrää kuvassa on? Mikä väri on päällä?", "cp1252", True),
    "Catalan": ("Quants cercles hi ha a la dreta? això és què", "cp1252", True),
    "Icelandic": ("Hversu margir hringir eru á myndinni? Hvað er það?", "cp1252", True),
    "Dutch": ("Hoeveel cirkels zijn er in één beeld? Het reële object", "cp1252", True),
    "words of other languages": ("Is the naïve view of the café or the jalapeño right?", "cp1252", True),
    "names of Norway": ("What is here? Tromsø Røros or Ålesund", "cp1252", True),
    "signs": ("What is the area of the field in m²? It’s ½ of £5", "cp1252", True),
    "Polish": ("Jaka jest wysokość pierwszego słupka? Ile żółtych kół?", "cp1250", False),
    "Czech": ("Kolik je výška prvního sloupce? Největší číslo", "cp1250", False),
    "Hungarian": ("Milyen magas az első oszlop? Hány fűzfa van a képen?", "cp1250", False),
    "Polish names": ("What is the size of Łódź and Gdańsk? How many?", "cp1250", False),
    "short Polish": ("Ile jest kół? Ręka i sęk", "cp1250", False),
    "short Czech": ("Kolik je tam koleček?", "cp1250", False),
    "a name of Poland": ("What is the size of Poznań? How many?", "cp1250", False),
    "a name of Bohemia": ("What did Dvořák write? How many?", "cp1250", False),
    "Romanian": ("Câte cercuri sunt în imagine? Care este aşezată la stânga?", "cp1250", False),
    "Greek": ("Πόσοι κύκλοι;", "cp1253", False),
    "Lithuanian": ("Kiek raudonų apskritimų yra?", "cp1257", False),
    "Turkish": ("Birinci çubuğun yüksekliği nedir? Kaç tane kırmızı?", "cp1254", False),
    "Russian": ("Какова высота первого столбца?", "cp1251", False),
    "Chinese": ("第一个柱子有多高？", "gbk", False),
    "one sign of Chinese": ("What is the 高 of the bar?", "gbk", False),
    "Taiwan's": ("第一個柱子有多高？", "big5", False),
    "Japanese": ("最初の棒の高さは？", "shift_jis", False),
    "Korean": ("첫 번째 막대의 높이는?", "euc_kr", False),
    "German of DOS": ("Wie groß ist die Größe der Fläche?", "cp850", False),
    "German of old Macs": ("Wie groß ist die Größe der Fläche?", "mac_roman", False),
}


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("Kolik je tam koleček?", "cp1250", "WINDOWS-1250"),
        ("Какова высота первого столбца?", "cp1251", "WINDOWS-1251"),
        ("第一个柱子有多高？", "gbk", "GB18030"),
        ("The big wheel of the æther and naïve in Perú", "cp1252", "WINDOWS-1252"),
    ],
)
def test_the_encoding_that_is_named_is_the_likely_one(tmp_path: Path, text: str, encoding: str, expected: str) -> None:
    """And the command makes UTF-8 of the file, or leaves it as it is and nothing else."""
    path = written(tmp_path, "a.csv", f"image,problem\n1.png,{text}\n".encode(encoding))
    with pytest.raises(UserError, match=f"iconv -f {expected} ") as refused:
        read(path)
    command = str(refused.value).partition("as in: ")[2].partition(" (GB18030 for")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read(path) == [{"image": "1.png", "problem": text}]
    subprocess.run(command.replace(expected, "NONE"), shell=True, check=True, cwd=tmp_path, capture_output=True)
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"] and path.read_text().endswith(f"{text}\n")


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_no_text_is_read_in_a_wrong_encoding(tmp_path: Path, name: str, suffix: str) -> None:
    text, encoding, is_read = ENCODINGS[name]
    content = (
        f"image,problem\n1.png,{text}\n" if suffix == "csv" else f'{{"image": "1.png", "problem": "{text}"}}\n' * 2
    )
    path = written(tmp_path, f"a.{suffix}", content.encode(encoding))
    if is_read:
        assert read(path)[0] == {"image": "1.png", "problem": text}
        assert LocalSource(path, ["train"]).notes == [f"a.{suffix} is read as Windows-1252, not as UTF-8"]
    else:
        with pytest.raises(UserError, match="Convert it from the encoding that it has, as in: iconv -f"):
            read(path)
