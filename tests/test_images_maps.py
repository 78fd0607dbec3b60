"""Files of saliency maps are read as the levels that they hold, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from menet_jax.images.maps import read_map
from menet_jax.images.opening import UnreadableImageError


def test_maps_of_every_depth(tmp_path: Path) -> None:
    levels = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    gray = Image.fromarray(levels)
    kinds = {
        "gray.png": gray,
        "rgb.png": gray.convert("RGB"),
        "rgba.png": gray.convert("RGBA"),
        "palette.gif": gray,
        "deep.png": Image.fromarray(levels.astype(np.uint16) * 257),
        "shallow.png": Image.fromarray(levels.astype(np.uint16)),  # 8-bit values in a 16-bit file
        "integers.tif": Image.fromarray(levels.astype(np.int32)),
        "float.tif": Image.fromarray(levels.astype(np.float32) / 255),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_map(tmp_path / name), levels, err_msg=name)
    gray.point(lambda level: 255 if level > 127 else 0).convert("1").save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_map(tmp_path / "bits.png"), (levels > 127) * 255)


@pytest.mark.parametrize("kind", ["transparent", "not finite", "text"])
def test_maps_without_meaning(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    if kind == "transparent":
        Image.merge("LA", [Image.new("L", (3, 3), 200), Image.linear_gradient("L").resize((3, 3))]).save(path)
    elif kind == "not finite":
        Image.fromarray(np.full((3, 3), np.nan, np.float32)).save(path)
    else:
        path.write_text("text")
    with pytest.raises(UnreadableImageError, match=r"map\.tif: "):
        read_map(path)
