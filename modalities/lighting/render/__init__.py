"""Objects under one known light, drawn with numpy: `render(random_scene(seed))`."""

from modalities.lighting.render.draw import render
from modalities.lighting.render.scene import MATERIALS, Material, Scene, random_scene
from modalities.lighting.render.shapes import SHAPES

__all__ = ["MATERIALS", "SHAPES", "Material", "Scene", "random_scene", "render"]
