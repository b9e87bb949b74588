from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
import torch

from bunriwiki.artifacts.manifest import digest
from training import efficientnet
from training.efficientnet import FEATURES, SIZE, EfficientNet, convolution, export

pytestmark = pytest.mark.slow


def test_is_efficientnet_lite2() -> None:
    network = EfficientNet(1000).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_092_072  # as TensorFlow's
    with torch.inference_mode():
        crops = torch.rand(2, 3, SIZE, SIZE)
        assert network.blocks(network.stem(crops)).shape == (2, 352, 9, 9)
        assert network(crops).shape == (2, 1000)
        network.classes = torch.nn.Identity()
        assert network(crops).shape == (2, FEATURES)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(260, 3, 2, (0, 1)), (130, 3, 2, (0, 1)), (65, 5, 2, (2, 2)), (33, 3, 2, (1, 1)), (17, 5, 1, (2, 2))],
)
def test_pads_as_tensorflow_does(side: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    pad, *layers = convolution(3, 4, kernel, side=side, stride=stride)
    assert isinstance(pad, torch.nn.ZeroPad2d)
    assert pad.padding == (*padding, *padding)
    made = torch.nn.Sequential(pad, *layers).eval()(torch.rand(1, 3, side, side))
    assert made.shape == (1, 4, -(-side // stride), -(-side // stride))


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_the_graph_takes_any_number_of_crops() -> None:
    torch.manual_seed(1)
    network = EfficientNet(7).eval()
    session = ort.InferenceSession(export(network).SerializeToString(), providers=["CPUExecutionProvider"])
    for number in (0, 1, 3):
        crops = torch.rand(number, 3, SIZE, SIZE)
        [answer] = session.run(["answer"], {"crops": crops.numpy()})
        assert answer.shape == (number, 7)
        if number:
            with torch.inference_mode():
                assert answer == pytest.approx(network(crops).numpy(), abs=1e-4)


def test_pretrained_weights_are_taken_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    trained, fresh = EfficientNet(1000), EfficientNet(7)
    names = [name for name in trained.state_dict() if not name.startswith("classes.")]
    given = {f"_{number}": trained.state_dict()[name] for number, name in enumerate(names)}
    torch.save(given | {"_fc.weight": torch.zeros(1000, FEATURES), "_fc.bias": torch.zeros(1000)}, tmp_path / "given.pth")
    with pytest.raises(ValueError, match=r"given\.pth is not the file with the sha256"):
        fresh.load_pretrained(tmp_path / "given.pth")
    last = fresh.classes.weight.clone()
    monkeypatch.setattr(efficientnet, "SHA256", digest(tmp_path / "given.pth"))
    fresh.load_pretrained(tmp_path / "given.pth")
    assert all(torch.equal(fresh.state_dict()[name], trained.state_dict()[name]) for name in names)
    assert torch.equal(fresh.classes.weight, last)
