"""Files and rows in the shapes that people bring: each is made here, and read whole with the right golds."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inference.common.errors import UserError
from inference.prompt.format import PLACE
from tests.inference.prompt.test_image import encoded, gradient
from training.config.data_config import read_data_config
from training.data.dataset import load_rows
from training.data.formats import recognise
from training.data.pictures import pictures_of
from training.grading.grader import gold_answer

NUM = 6
GOLDS = [str(number) for number in (3, 1, 4, 1, 5, 9)]
LETTERS = [letter for letter in "ABCDAB"]
OPTIONS = ["a low one", "a tall one", "none of them", "all of them"]
FORMATS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {}
"""By name: what makes it in a folder, and returns further settings if it needs any; and the golds of its rows."""


def shape(golds: list[str] = GOLDS) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    def keep(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
        FORMATS[make.__name__] = make, golds
        return make

    return keep


def picture(number: int) -> bytes:
    return encoded(gradient(size=(40 + number, 30)))


def problem(number: int) -> str:
    return f"How high is bar {number}?"


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(NUM):
        (folder / f"{number}.png").write_bytes(picture(number))


def rows(name: str = "images/{}.png") -> list[dict[str, Any]]:
    return [{"image": name.format(n), "problem": problem(n), "solution": GOLDS[n]} for n in range(NUM)]


def cells() -> list[dict[str, Any]]:
    return [{"bytes": picture(number), "path": None} for number in range(NUM)]


def lines(path: Path, items: list[dict[str, Any]], before: bytes = b"", end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before + "".join(json.dumps(item) + end for item in items).encode())


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def columns(**changes: Any) -> dict[str, Any]:
    return {"image": cells(), "problem": [problem(n) for n in range(NUM)], "solution": GOLDS} | changes


@shape()
def json_array(folder: Path) -> None:
    pictures(folder / "images")
    (folder / "train.json").write_text(json.dumps(rows(), indent=1))


@shape()
def json_object_with_data(folder: Path) -> None:
    pictures(folder / "images")
    (folder / "set.json").write_text(json.dumps({"version": [1, 2], "data": rows()}))


@shape()
def json_lines_called_json(folder: Path) -> None:
    pictures(folder / "images")
    lines(folder / "train.json", rows())


@shape()
def json_lines_of_windows(folder: Path) -> None:
    pictures(folder / "images")
    lines(folder / "Train.JSONL", rows(), b"\xef\xbb\xbf", "\r\n")


@shape()
def json_lines_packed(folder: Path) -> None:
    pictures(folder / "images")
    (folder / "train.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows()).encode()))


@shape()
def pictures_beside_the_folder_of_data(folder: Path) -> None:
    pictures(folder / "images")
    lines(folder / "data" / "train.jsonl", [*rows()[:3], *rows("../images/{}.png")[3:]])


@shape()
def pictures_of_a_named_folder(folder: Path) -> dict[str, Any]:
    pictures(folder.parent / "elsewhere")
    folder.mkdir()
    (folder / "images").symlink_to("../elsewhere")
    lines(folder / "train.jsonl", [*rows()[:3], *rows("{}.png")[3:]])
    return {"image_root": str(folder.parent / "elsewhere")}


@shape()
def absolute_paths(folder: Path) -> None:
    pictures(folder / "images")
    lines(folder / "train.jsonl", rows(f"{folder}/images/{{}}.png"))


@shape()
def base64_and_data_uris(folder: Path) -> None:
    coded = [base64.b64encode(picture(number)).decode() for number in range(NUM)]
    uris = [f"data:image/png;base64,{text}" for text in coded]
    found = [*coded[:2], *uris[2:3], {"url": uris[3]}, {"bytes": coded[4]}, {"image_url": {"url": uris[5]}}]
    lines(folder / "train.jsonl", [row | {"image": cell} for row, cell in zip(rows(), found)])


@shape()
def comma_separated(folder: Path) -> None:
    pictures(folder / "images")
    with (folder / "train.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["image", "problem", "solution"])
        writer.writeheader()
        writer.writerows(row | {"problem": row["problem"] + '\n"Look, first."'} for row in rows())


@shape()
def tab_separated(folder: Path) -> None:
    pictures(folder / "images")
    text = "\n".join("\t".join(row.values()) for row in rows())
    (folder / "train.tsv").write_text(f"image\tproblem\tsolution\n{text}\n")


@shape()
def metadata_csv_by_split(folder: Path) -> None:
    pictures(folder / "train")
    text = "\n".join(f"{n}.png,{problem(n)},{GOLDS[n]}" for n in range(NUM))
    (folder / "train" / "metadata.csv").write_text(f"file_name,problem,solution\n{text}\n")


@shape()
def metadata_parquet(folder: Path) -> None:
    pictures(folder)
    parquet(folder / "metadata.parquet", columns(image=[f"{n}.png" for n in range(NUM)]))


@shape()
def shards_of_the_hub(folder: Path) -> None:
    for name in ("train-00000-of-00001-725687bf7a18d64b", "test-00000-of-00001-0a1b2c3d4e5f6789"):
        parquet(folder / "data" / f"{name}.parquet", columns())


@shape()
def converted_by_the_hub(folder: Path) -> None:
    for split in ("train", "test"):
        parquet(folder / "default" / split / "0000.parquet", columns(), row_group_size=2)


@shape()
def of_pandas(folder: Path) -> None:
    parquet(folder / "frame.parquet", columns(__index_level_0__=list(range(NUM))))


@shape()
def saved_to_disk(folder: Path) -> None:
    found = datasets.Dataset.from_dict(columns()).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": found, "test": found}).save_to_disk(str(folder))


@shape()
def webdataset(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "train-00000.tar", "w") as archive:
        for n in range(NUM):
            row = json.dumps({"question": problem(n), "answer": GOLDS[n]}).encode()
            for suffix, content in (("png", picture(n)), ("json", row)):
                member = tarfile.TarInfo(f"set/{n:04d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@shape()
def messages(folder: Path) -> None:
    """Of ms-swift and LLaMA-Factory."""
    pictures(folder / "images")
    system = {"role": "system", "content": "You are helpful."}
    turns = [[system, {"role": "user", "content": f"<image>{problem(n)}"}] for n in range(NUM)]
    answers = [{"role": "assistant", "content": gold} for gold in GOLDS]
    found = [{"messages": [*turns[n], answers[n]], "images": [f"images/{n}.png"]} for n in range(NUM)]
    lines(folder / "train.jsonl", found)


@shape()
def conversations(folder: Path) -> None:
    """Of LLaVA."""
    pictures(folder / "images")
    human = [{"from": "human", "value": f"<image>\n{problem(n)}"} for n in range(NUM)]
    found = [
        {"id": n, "image": f"images/{n}.png", "conversations": [human[n], {"from": "gpt", "value": GOLDS[n]}]}
        for n in range(NUM)
    ]
    (folder / "train.json").write_text(json.dumps(found))


@shape()
def prompt_turns_of_trl(folder: Path) -> None:
    parts = [[{"type": "image"}, {"type": "text", "text": problem(n)}] for n in range(NUM)]
    prompts = [json.dumps([{"role": "user", "content": part}]) for part in parts]
    parquet(folder / "train.parquet", {"prompt": prompts, "image": cells(), "solution": GOLDS})


@shape()
def verl(folder: Path) -> None:
    prompts = [[{"role": "user", "content": f"<image>{problem(n)}"}] for n in range(NUM)]
    found = {"prompt": prompts, "images": [[cell] for cell in cells()]}
    parquet(folder / "train.parquet", found | {"reward_model": [{"style": "rule", "ground_truth": g} for g in GOLDS]})


@shape()
def easy_r1(folder: Path) -> None:
    found = {"images": [[cell] for cell in cells()], "problem": [f"<image>{problem(n)}" for n in range(NUM)]}
    parquet(folder / "train.parquet", found | {"answer": GOLDS})


@shape()
def chart_qa(folder: Path) -> None:
    found = {"image": [picture(n) for n in range(NUM)], "query": [problem(n) for n in range(NUM)]}
    parquet(folder / "val-00000-of-00001.parquet", {"image": [], "query": [], "label": []})
    parquet(folder / "train-00000-of-00001.parquet", found | {"label": [[gold] for gold in GOLDS]})


@shape()
def math_vista(folder: Path) -> None:
    found = {"image": [f"images/{n}.jpg" for n in range(NUM)], "decoded_image": cells()}
    parquet(folder / "train.parquet", found | {"question": [problem(n) for n in range(NUM)], "answer": GOLDS})


@shape(LETTERS)
def mmmu(folder: Path) -> None:
    found = {"question": [f"<image 1> {problem(n)}" for n in range(NUM)], "options": [repr(OPTIONS)] * NUM}
    parquet(folder / "train.parquet", found | {"image_1": cells(), "image_2": [None] * NUM, "answer": LETTERS})


@shape(LETTERS)
def science_qa(folder: Path) -> None:
    found = {"image": cells(), "question": [problem(n) for n in range(NUM)], "choices": [OPTIONS] * NUM}
    lecture = ["Compare the bars with the lines of the grid."] * NUM
    parquet(folder / "train.parquet", found | {"answer": ["ABCD".index(x) for x in LETTERS], "solution": lecture})


@shape(LETTERS)
def options_in_one_text(folder: Path) -> None:
    """Of We-Math."""
    pictures(folder)
    text = "; ".join(f"{letter}. {option}" for letter, option in zip("ABCD", OPTIONS))
    found = [
        {"image_path": f"{n}.png", "question": problem(n), "option": text, "answer": LETTERS[n]} for n in range(NUM)
    ]
    (folder / "wemath.json").write_text(json.dumps(found))


@shape()
def worked_beside_the_answer(folder: Path) -> None:
    """Of MATH-V."""
    worked = [
        f"The bar ends at the line of the grid that is marked by {gold}, so that it is {gold} high." for gold in GOLDS
    ]
    parquet(folder / "train.parquet", columns(solution=worked, answer=GOLDS, options=[[]] * NUM))


@shape()
def several_pictures(folder: Path) -> None:
    """Every second row has two."""
    pictures(folder / "images")
    two = [[f"images/{n}.png", f"images/{(n + 1) % NUM}.png"][: 1 + n % 2] for n in range(NUM)]
    lines(
        folder / "train.jsonl",
        [{"images": two[n], "problem": "<image>" * len(two[n]) + problem(n), "answer": GOLDS[n]} for n in range(NUM)],
    )


@shape()
def pictures_in_the_turns(folder: Path) -> None:
    """Of OpenAI, of the two generations of Qwen-VL, and with an address of a file."""
    pictures(folder / "images")
    uri = "data:image/png;base64," + base64.b64encode(picture(0)).decode()
    cells = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "image", "image": "images/1.png"}]
    cells += [{"type": "image", "image": f"file://{folder}/images/{n}.png"} for n in (2, 3)]
    turns: list[Any] = [[cell, {"type": "text", "text": problem(n)}] for n, cell in enumerate(cells)]
    turns += [f"Picture 1: <img>images/{n}.png</img>\n{problem(n)}" for n in (4, 5)]
    answers = [{"role": "assistant", "content": gold} for gold in GOLDS]
    lines(
        folder / "train.jsonl", [{"messages": [{"role": "user", "content": turns[n]}, answers[n]]} for n in range(NUM)]
    )


@shape()
def the_cauldron(folder: Path) -> None:
    texts = [[{"user": problem(n), "assistant": GOLDS[n], "source": "ours"}] for n in range(NUM)]
    parquet(folder / "train.parquet", {"images": [[cell] for cell in cells()], "texts": texts})


@shape()
def prompt_and_completion(folder: Path) -> None:
    found = {"prompt": [[{"role": "user", "content": problem(n)}] for n in range(NUM)], "images": cells()}
    completions = [[{"role": "assistant", "content": gold}] for gold in GOLDS]
    parquet(folder / "train.parquet", found | {"completion": completions})


@shape(LETTERS)
def a_column_for_each_option(folder: Path) -> None:
    """Of VLMEvalKit: tab-separated, the pictures in base64, one or several."""
    coded = [base64.b64encode(picture(n)).decode() for n in range(NUM)]
    header = ["index", "image", "question", *"ABCD", "answer", "hint"]
    found = [[str(n), coded[n], problem(n), *OPTIONS, LETTERS[n], ""] for n in range(NUM)]
    found[5][1] = repr([coded[5], coded[0]])
    folder.mkdir()
    (folder / "set.tsv").write_text("\n".join("\t".join(row) for row in [header, *found]))


@shape(LETTERS)
def an_object_by_id(folder: Path) -> None:
    """Of TabMWP and IconQA."""
    pictures(folder / "images")
    found = {
        str(n): {"question": problem(n), "choices": OPTIONS, "answer": "ABCD".index(LETTERS[n]), "unit": None}
        | {"image": f"images\\{n}.png"}
        for n in range(NUM)
    }
    (folder / "problems.json").write_text(json.dumps(found))


@shape(LETTERS)
def pictures_by_the_ids_of_their_rows(folder: Path) -> None:
    """Of TabMWP: `tables/ID.png`."""
    pictures(folder / "tables")
    found = {
        str(n): {"question": problem(n), "choices": OPTIONS, "answer": OPTIONS["ABCD".index(LETTERS[n])]}
        for n in range(NUM)
    }
    (folder / "problems_train.json").write_text(json.dumps(found))


@shape()
def pictures_by_numbers_of_a_column(folder: Path) -> None:
    """Of COCO, A-OKVQA and GQA."""
    (folder / "train2017").mkdir(parents=True)
    for n in range(NUM):
        (folder / "train2017" / f"{n:012}.png").write_bytes(picture(n))
    found = [{"image_id": n, "question": problem(n), "answer": GOLDS[n]} for n in range(NUM)]
    (folder / "train.json").write_text(json.dumps(found))


@shape()
def pictures_in_a_folder_of_another_name(folder: Path) -> None:
    """Of InfographicVQA and FigureQA."""
    pictures(folder / "infographics")
    found = [{"question_string": problem(n), "image_local_name": f"{n}.png", "answer": GOLDS[n]} for n in range(NUM)]
    (folder / "train.json").write_text(json.dumps({"qa_pairs": found, "total": 6}))


@shape()
def answers_of_several_people(folder: Path) -> None:
    """Of VQAv2, in a picture's mapping within another."""
    answers = [[{"answer": a, "answer_id": i} for i, a in enumerate(["none", gold, gold])] for gold in GOLDS]
    found = {"image": [{"image": cell} for cell in cells()], "question": [problem(n) for n in range(NUM)]}
    parquet(folder / "train.parquet", found | {"answers": answers})


@shape(["yes", "no"] * 3)
def truth_values(folder: Path) -> None:
    parquet(folder / "train.parquet", columns(solution=[True, False] * 3))


@shape()
def other_names_of_columns(folder: Path) -> None:
    pictures(folder / "images")
    found = [{"img_path": f"images/{n}.png", "Question": problem(n), "answerKey": GOLDS[n]} for n in range(NUM)]
    lines(folder / "train.jsonl", found)


@shape()
def packed_in_other_ways(folder: Path) -> None:
    pictures(folder / "images")
    texts = ["".join(json.dumps(row) + "\n" for row in rows()[first : first + 2]).encode() for first in (0, 2, 4)]
    (folder / "train-00000-of-00003.jsonl.bz2").write_bytes(bz2.compress(texts[0]))
    (folder / "train-00001-of-00003.jsonl.xz").write_bytes(lzma.compress(texts[1]))
    with pa.CompressedOutputStream(str(folder / "train-00002-of-00003.jsonl.zst"), "zstd") as file:
        file.write(texts[2])


@shape()
def arrow_shards(folder: Path) -> None:
    datasets.Dataset.from_dict(columns()).save_to_disk(str(folder / "saved"), num_shards=2)


@shape()
def webdataset_of_texts_packed(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "train-00000.tar.gz", "w:gz") as archive:
        for n in range(NUM):
            texts = (("question.txt", problem(n).encode()), ("answer.txt", GOLDS[n].encode()))
            for suffix, content in (("jpg", picture(n)), *texts):
                member = tarfile.TarInfo(f"{n:04d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read_whole(name: str, tmp_path: Path, home: Path) -> None:
    make, golds = FORMATS[name]
    settings = make(tmp_path / name) or {}
    found = load_rows(read_data_config(dataset=str(tmp_path / name), test_share=0, **settings))
    kept = sorted(found.train, key=lambda row: row["row_id"])
    assert len(found.dropped) == 0 and [gold_answer(row["solution"]) for row in kept] == golds
    assert [row["image"].size for row in kept] == [(40 + n, 30) for n in range(NUM)]
    for number, row in enumerate(kept):
        first, _, options = row["problem"].partition("\n")
        assert first == problem(number) and "<" not in row["problem"]
        has_options = golds is LETTERS
        assert options == ("A. a low one\nB. a tall one\nC. none of them\nD. all of them" if has_options else options)
        assert has_options or "A." not in options


def test_all_pictures_of_a_row_are_kept_in_their_order(tmp_path: Path, home: Path) -> None:
    several_pictures(tmp_path)
    found = load_rows(read_data_config(dataset=str(tmp_path), test_share=0)).train
    kept = sorted(found, key=lambda row: row["row_id"])
    sizes = [[image.size for image in row["more_images"]] for row in kept]
    assert sizes == [[(40 + (n + 1) % NUM, 30)] * (n % 2) for n in range(NUM)]
    assert [len(of_row) for of_row in pictures_of(found[:])] == [1 + len(row["more_images"]) for row in found]


@pytest.mark.parametrize(
    ("problem", "num", "read"),
    [
        ("<image>\n<image>\nWhich is higher?", 2, "Which is higher?"),
        ("Is <image> higher than <image>?", 2, "Is # higher than #?"),
        ("Which is higher? <image><image>", 2, "Which is higher? ##"),
        ("In <image 1> and <image 2>, who wins?", 2, "In # and #, who wins?"),
        ("In <image1> as in <image2>: is <image1> red?", 2, "In image 1 as in image 2: is image 1 red?"),
        ("Is <|vision_start|><|image_pad|><|vision_end|> like [IMG]?", 2, "Is # like #?"),
        ("<image> How many? <image>", 3, "How many?"),
        ("How many are in <image>?", 1, "How many are in ?"),
        (f"How {PLACE}many?", 1, "How many?"),
        (
            [{"role": "user", "content": [{"text": "Is"}, {"type": "image"}, {"text": "like"}, {"type": "image"}]}],
            2,
            "Is#like#",
        ),
    ],
)
def test_marks_are_places_of_pictures(problem: Any, num: int, read: str) -> None:
    row = {"images": [picture(n) for n in range(num)], "problem": problem, "solution": "3"}
    found = recognise(read_data_config(dataset="owner/name"), list(row), [row]).cells(row)
    assert (found["problem"], found["image"]) == (read.replace("#", PLACE), row["images"])


def test_the_shape_is_said() -> None:
    config = read_data_config(dataset="owner/name")
    row = {
        "messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "3"}],
        "images": ["a"],
    }
    said = recognise(config, list(row), [row]).words
    assert said == "image = images, problem = the last user turn of messages, solution = the assistant turn after it"


def test_nested_columns_are_mapped() -> None:
    config = read_data_config(dataset="owner/name", columns={"problem": "extra.ask", "solution": "gold.0"})
    row = {"image": b"x", "extra": {"ask": "How many?"}, "gold": ["3", "4"]}
    cells = recognise(config, list(row), [row]).cells(row)
    assert cells == {"image": b"x", "problem": "How many?", "solution": "3", "earlier_turns": 0}
    with pytest.raises(UserError, match=r"no column 'gold.7' for `solution`; it has image, extra, gold"):
        recognise(read_data_config(dataset="owner/name", columns={"solution": "gold.7"}), list(row), [row])


@pytest.mark.parametrize("name", ["a/train.jsonl", "b/train.jsonl"])
def test_several_datasets_in_a_folder_are_named(name: str, tmp_path: Path) -> None:
    for other in ("a/train.jsonl", "b/train.jsonl"):
        lines(tmp_path / other, rows())
    with pytest.raises(UserError, match="holds several datasets; name one of them: .*/a, .*/b"):
        load_rows(read_data_config(dataset=str(tmp_path)))


def test_a_picture_stays_on_one_side(tmp_path: Path, home: Path) -> None:
    pictures(tmp_path / "images")
    both = [row | {"problem": f"{row['problem']} {again}"} for row in rows() for again in range(4)]
    lines(tmp_path / "train.jsonl", both)
    found = load_rows(read_data_config(dataset=str(tmp_path), test_rows=8, group_by="image"))
    seen = {role: {row["image"].size for row in rows} for role, rows in (("train", found.train), ("test", found.test))}
    assert (len(found.test), len(found.train)) == (8, 16) and not seen["train"] & seen["test"]
    with pytest.raises(UserError, match="group_by is figure, and the dataset .* has no such column; it has image, pro"):
        load_rows(read_data_config(dataset=str(tmp_path), group_by="figure"))
    for group in ("problem.figure", "figure.name"):
        lines(tmp_path / "train.jsonl", [row | {"figure": {"id": n}} for n, row in enumerate(both)])
        words = f"group_by is {group}, and no row of .* has a value there; the first '{group.split('.')[0]}' is "
        with pytest.raises(UserError, match=words + ".*Name a column or a field that the rows have, or image"):
            load_rows(read_data_config(dataset=str(tmp_path), group_by=group))


def test_problems_and_answers_in_two_files_are_refused(tmp_path: Path) -> None:
    """Of VQAv2."""
    pictures(tmp_path / "images")
    for name, cells in (("questions", {"question": "How high?"}), ("annotations", {"answer": "7"})):
        found = [{"question_id": n, "image": f"images/{n}.png"} | cells for n in range(NUM)]
        (tmp_path / f"train_{name}.json").write_text(json.dumps({name: found}))
    with pytest.raises(UserError, match="has both 'question' and 'answer': .* Join them .* on='question_id'"):
        load_rows(read_data_config(dataset=str(tmp_path)))


HOSTILE: dict[str, bytes] = {
    "words.jsonl": '{"image": "a.png"}'.encode("utf-16"),
    "train.jsonl.xz": b"\xfd7zXZ\0 no xz",
    "train.jsonl.bz2": b"BZh9 no bz2",
    "train.jsonl.zst": b"\x28\xb5\x2f\xfd no zst",
    "train.tar.gz": gzip.compress(b"no tar at all" * 100),
    "data.arrow": b"ARROW1 no arrow",
    "train.jsonl.gz": b"\x1f\x8b\x08\x00 no gzip",
    "train.json": b'{"data": 1',
    "train.tar": b"no tar at all" * 100,
    "train.parquet": b"PAR1",
    "train.csv": b'image,problem\n"never closed' + b"x" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_file_is_an_error_in_words(name: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    with pytest.raises(UserError) as caught:
        load_rows(read_data_config(dataset=str(tmp_path), test_share=0))
    assert name in str(caught.value) or "column" in str(caught.value)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
