"""What of a folder is used, and that everything else is left out with a line that says why."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.classes import imagenet_classes, removed_classes
from sc_imagenet.generation.photographs import NO_NAME, scan_photographs


def photograph(path: Path, seed: int, size=(48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        photograph(tmp_path / "a cat" / f"{number}.png", number)
    return tmp_path


def reasons(found):
    return {each.path: each.reason for each in found.skipped}


def test_class_names_with_spaces_quotes_and_unicode_work(folder):
    for index, name in enumerate(["rock 'n' \"roll\"", "Übergröße", "犬", "semi;colon:dash-"]):
        for number in range(3):
            photograph(folder / name / f"{number}.png", 100 * index + number + 10)
    found = scan_photographs(folder, fewest=3)
    assert set(found.classes) == {"a cat", "rock 'n' \"roll\"", "Übergröße", "犬", "semi;colon:dash-"}
    assert found.count == 16
    assert not found.skipped


def test_everything_unusable_is_left_out_with_a_reason(folder):
    cat = folder / "a cat"
    (cat / "text.jpg").write_text("no image")
    (cat / "empty.jpg").touch()
    whole = photograph(cat / "whole.jpg", 50)
    (cat / "cut.jpg").write_bytes(whole.read_bytes()[:200])
    shutil.copy(cat / "0.png", cat / "z same.png")
    photograph(cat / "panorama.png", 51, (20_000, 40))
    photograph(cat / "tiny.png", 52, (8, 8))
    Image.new("1", (20_000, 10_000)).save(cat / "huge.png")
    (cat / "inner").mkdir()
    os.mkfifo(cat / "pipe.jpg")
    (cat / "gone.jpg").symlink_to("nowhere")
    (folder / "stray.txt").touch()
    (folder / "nothing").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    photograph(folder / "lonely" / "0.png", 53)
    found = scan_photographs(folder, fewest=2)
    assert [Path(each.path).name for each in found.classes["a cat"]] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "whole.jpg",
    ]
    said = reasons(found)
    for path, words in {
        "a cat/text.jpg": "not an image",
        "a cat/empty.jpg": "not an image",
        "a cat/cut.jpg": "damaged",
        "a cat/z same.png": "the same as a cat/0.png",
        "a cat/panorama.png": "panorama, 20000 x 40",
        "a cat/tiny.png": "too small",
        "a cat/huge.png": "too many pixels",
        "a cat/inner": "folder inside a class",
        "a cat/pipe.jpg": "not a file",
        "a cat/gone.jpg": "not a file",
        "stray.txt": "no class folder",
        "nothing": "empty folder",
        "loop": "no class folder",
        "lonely": "has 1 usable image, 2 are needed",
    }.items():
        assert words in said.pop(path), path
    assert not said


def test_a_name_that_is_not_unicode_is_left_out(folder):
    path = os.fsencode(folder / "a cat") + b"/\xff.png"
    with open(path, "wb") as file:
        file.write((folder / "a cat" / "0.png").read_bytes())
    found = scan_photographs(folder, fewest=2)
    assert len(found.classes["a cat"]) == 4
    assert [each.reason for each in found.skipped] == [NO_NAME]
    found.skipped[0].path.encode()


def test_an_unreadable_folder_is_left_out(folder):
    """As another user where the tests run as root, whom nothing is unreadable to."""
    photograph(folder / "locked" / "0.png", 60)
    (folder / "locked").chmod(0)
    folder.chmod(0o755)
    script = (
        "import os\n"
        "from PIL import Image\n"
        "from sc_imagenet.generation.photographs import scan_photographs\n"
        "Image.init()  # imports what the other user may not\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print([(each.path, each.reason) for each in scan_photographs('.', fewest=2).skipped])\n"
    )
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, check=False)
    (folder / "locked").chmod(0o755)
    assert done.stdout.strip() == "[('locked', 'cannot be listed (Permission denied)')]", done.stderr


def test_a_folder_without_a_usable_class_is_one_error(tmp_path):
    with pytest.raises(InputError, match="holds no class"):
        scan_photographs(tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        scan_photographs(tmp_path / "absent")
    photograph(tmp_path / "dog" / "0.png", 1)
    with pytest.raises(InputError, match="dog has 1 usable image"):
        scan_photographs(tmp_path)


def test_known_photographs_are_not_decoded_again(folder):
    first = scan_photographs(folder, fewest=2)
    known = {each.path: each for each in first.classes["a cat"]}
    decoded = []
    again = scan_photographs(folder, fewest=2, known=known, keep=decoded.append)
    assert again.classes == first.classes
    assert decoded == []


def test_processes_find_the_same(folder):
    assert scan_photographs(folder, fewest=2, processes=2) == scan_photographs(folder, fewest=2, processes=1)


def test_the_class_list_keeps_679_and_says_why_not_the_others():
    classes = imagenet_classes()
    assert len(classes) == len({each.wnid for each in classes}) == 1000
    assert sum(each.kept for each in classes) == 679
    assert all(bool(each.reason) != each.kept for each in classes)
    names = {each.name.split(",")[0] for each in classes if not each.kept}
    assert {"conch", "lakeside"} <= names


def test_removed_classes_are_left_out_of_an_imagenet_folder(folder):
    for number in range(2):
        photograph(folder / "n09332890" / f"n09332890_{number}.JPEG", 70 + number)
        photograph(folder / "n02084071" / f"n02084071_{number}.JPEG", 80 + number)
    found = scan_photographs(folder, fewest=2, removed=removed_classes())
    assert set(found.classes) == {"a cat", "n02084071"}
    assert reasons(found) == {"n09332890": "is a removed class: a landscape (named by the paper)"}


def test_hidden_files_and_folders_are_neither_images_nor_classes_nor_mentioned(folder):
    for number in range(3):
        photograph(folder / ".ipynb_checkpoints" / f"{number}.png", 200 + number)
        photograph(folder / "a cat" / ".ipynb_checkpoints" / f"{number}.png", 210 + number)
        photograph(folder / "a cat" / f"._{number}.png", 220 + number)
    (folder / "__MACOSX" / "a cat").mkdir(parents=True)
    (folder / ".DS_Store").touch()
    found = scan_photographs(folder, fewest=2)
    assert {name: [each.path for each in group] for name, group in found.classes.items()} == {
        "a cat": [f"a cat/{number}.png" for number in range(4)]
    }
    assert reasons(found) == {"__MACOSX": "is what macOS adds to archives"}


def test_folders_that_are_no_classes_are_left_out_with_a_line_unless_they_are_asked_for(folder):
    for number in range(3):
        for index, name in enumerate(("BACKGROUND_Google", "tmp", "@eaDir")):
            photograph(folder / name / f"{number}.png", 300 + 10 * index + number)
    (folder / "a cat" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    found = scan_photographs(folder, fewest=2)
    assert set(found.classes) == {"a cat"}
    said = reasons(found)
    assert "clutter" in said.pop("BACKGROUND_Google")
    assert "temporary" in said.pop("tmp")
    assert "thumbnails" in said.pop("@eaDir")
    assert "not an image" in said.pop("a cat/Thumbs.db")
    assert not said
    assert set(scan_photographs(folder, fewest=2, only=("a cat", "tmp")).classes) == {"a cat", "tmp"}


def test_placeholders_are_no_photographs(folder):
    drawn = Image.new("P", (60, 50), 0)
    drawn.putpalette([200, 200, 200, 30, 30, 30])
    drawn.paste(1, (10, 20, 40, 30))
    drawn.save(folder / "a cat" / "unavailable.gif")
    Image.new("RGB", (60, 50), (90, 90, 90)).save(folder / "a cat" / "grey.jpg")
    gone = photograph(folder / "a cat" / "x0.png", 400)
    for number in (1, 2):
        shutil.copy(gone, folder / "a cat" / f"x{number}.png")
    for number in range(3):
        photograph(folder / "dog" / f"{number}.png", 410 + number)
    shutil.copy(folder / "a cat" / "0.png", folder / "dog" / "of both.png")
    found = scan_photographs(folder, fewest=2)
    said = reasons(found)
    assert said.pop("a cat/unavailable.gif") == "is no photograph: it has 2 colours"
    assert said.pop("a cat/grey.jpg") == "is no photograph: it has 1 colour"
    for number in range(3):
        assert said.pop(f"a cat/x{number}.png") == "is byte for byte the same as 2 others of its class: a placeholder"
    assert said.pop("a cat/0.png") == "is byte for byte the same as dog/of both.png, of another class"
    assert said.pop("dog/of both.png") == "is byte for byte the same as a cat/0.png, of another class"
    assert not said
    assert [each.path for each in found.classes["dog"]] == ["dog/0.png", "dog/1.png", "dog/2.png"]
