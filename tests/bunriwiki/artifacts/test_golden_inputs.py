from __future__ import annotations

from pathlib import Path

from bunriwiki.artifacts.golden_inputs import COUNT, golden_photos, golden_texts
from bunriwiki.artifacts.reference import PHOTOS, ReferenceObject, ReferencePhoto, ReferenceText, write_reference


def test_every_label_is_included_however_rare(tmp_path: Path) -> None:
    often = [ReferenceText(text=f"often {number}", label="often") for number in range(200)]
    rare = [ReferenceText(text=f"rare {number}", label="rare") for number in range(3)]
    write_reference(tmp_path, [*often, *rare])
    chosen = golden_texts(tmp_path)
    assert len(chosen) == COUNT
    assert chosen[:7] == ["often 0", "rare 0", "often 1", "rare 1", "often 2", "rare 2", "often 3"]
    assert chosen[-1] == "often 60"


def test_a_small_set_is_chosen_completely(tmp_path: Path, bottle: bytes) -> None:
    (tmp_path / PHOTOS).mkdir()
    samples = []
    for number in range(5):
        name = f"{PHOTOS}/{number}.jpg"
        (tmp_path / name).write_bytes(bottle)
        found = ReferenceObject(label="bottle" if number % 2 else "can", box=(0, 0, 10, 10))
        samples.append(ReferencePhoto(image=name, objects=(found,)))
    write_reference(tmp_path, samples)
    assert sorted(golden_photos(tmp_path)) == sorted(tmp_path.glob(f"{PHOTOS}/*.jpg"))


def test_every_kind_of_photo_is_included(tmp_path: Path) -> None:
    can = ReferenceObject(label="can", box=(0, 0, 10, 10))
    kinds = {"close-up": 200, "context": 3}
    write_reference(
        tmp_path,
        [
            ReferencePhoto(image=f"{kind}{n}.jpg", kind=kind, objects=(can,))
            for kind, count in kinds.items()
            for n in range(count)
        ],
    )
    chosen = [photo.name for photo in golden_photos(tmp_path)]
    assert len(chosen) == COUNT
    assert chosen[:4] == ["close-up0.jpg", "context0.jpg", "close-up1.jpg", "context1.jpg"]
