"""How a person finds out the material of an object that a photo leaves open, in Korean."""

from __future__ import annotations

UNKNOWN = "재질을 알 수 없음"

MARK = (
    "분리배출 표시(화살표로 된 삼각형)를 찾아보세요. "
    "플라스틱, 비닐류, 캔류, 유리, 종이 등 재질이 적혀 있고, 적힌 재질에 따라 배출하면 됩니다."
)
OR_TRASH = (
    "분리배출 표시(화살표로 된 삼각형)가 있으면 적힌 재질에 따라 배출합니다. "
    "표시가 없고 여러 재질이 섞여 나눌 수 없으면 종량제봉투에 담습니다."
)
FIBRES = (
    "한쪽 끝을 조금 찢어 보세요. "
    "쉽게 찢어지고 찢은 자리에 섬유가 보이면 종이, 늘어나거나 잘 찢어지지 않고 물에도 젖지 않으면 플라스틱입니다."
)
BY_PAIR = {
    frozenset({"glass", "plastic"}): (
        "손톱으로 가볍게 두드려 보세요. 맑은 소리가 나고 묵직하면 유리, 둔한 소리가 나고 가벼우면 플라스틱입니다."
    ),
    frozenset({"metal", "plastic"}): (
        "자석을 대 보세요. 자석이 붙거나 두드렸을 때 쇳소리가 나면 금속, 눌렀다 놓을 때 제 모양으로 돌아오면 플라스틱입니다."
    ),
    frozenset({"glass", "metal"}): (
        "자석을 대고 빛에 비추어 보세요. 속이 비치면 유리, 자석이 붙거나 누를 때 찌그러지면 금속입니다."
    ),
    frozenset({"paper", "plastic"}): FIBRES,
    frozenset({"cardboard", "plastic"}): FIBRES,
    frozenset({"cardboard", "paper"}): (
        "잘린 옆면을 보세요. 두 겹의 종이 사이에 물결 모양의 골이 있으면 골판지, 없으면 종이입니다."
    ),
}
"""How to tell two classes apart."""


def how_to_tell(label: str, other: str) -> str:
    """How to find out the material of an object whose class is most likely `label`, or else `other`."""
    return BY_PAIR.get(frozenset({label, other}), OR_TRASH if "trash" in (label, other) else MARK)
