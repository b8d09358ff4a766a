"""Files for jobs.recipes.tiles: `python -m jobs.recipes.textures FOLDER`."""

import sys
from pathlib import Path

import numpy as np

TILE = 48  # pixels
TILES = 40  # of a photograph
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def write(folder: Path) -> int:
    """Squares of scikit-image's photographs, none over another, a folder for each photograph; how many."""
    import skimage.data
    from PIL import Image

    shipped, count = Path(skimage.data.__file__).parent, 0
    for name in PHOTOGRAPHS:
        with Image.open(shipped / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        corners = [
            (y, x)
            for y in range(0, pixels.shape[0] - TILE + 1, TILE)
            for x in range(0, pixels.shape[1] - TILE + 1, TILE)
        ]
        target = folder / Path(name).stem
        target.mkdir(parents=True, exist_ok=True)
        for i in np.random.default_rng(0).permutation(len(corners))[:TILES]:
            y, x = corners[i]
            Image.fromarray(pixels[y : y + TILE, x : x + TILE]).save(target / f"{y}_{x}.png")
            count += 1
    return count


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m jobs.recipes.tiles FOLDER")
    print(f"{write(Path(sys.argv[1]))} tiles in {sys.argv[1]}")
