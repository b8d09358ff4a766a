from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from modalities.lighting.render import MATERIALS, Material, random_scene, render, shapes
from modalities.lighting.render.scene import LIGHTS, MOTIONS, Scene, look_at_origin

WHITE = Material(name="diffuse", colour=(1.0, 1.0, 1.0))


def bare_ball(material: Material = WHITE, size: int = 33) -> Scene:
    """A ball straight ahead, key light only."""
    scene = random_scene(
        5, frames=1, size=size, shape="sphere", motion="still", light="static", surroundings=False
    )
    camera = np.array([[0.0, 0.0, 4.2]])
    return replace(scene, material=material, camera_position=camera, camera_rotation=look_at_origin(camera))


def test_a_seed_gives_the_same_frames_and_another_seed_others() -> None:
    one, same, other = (render(random_scene(seed, size=16, frames=2)) for seed in (7, 7, 8))
    assert all(one[key].tobytes() == same[key].tobytes() for key in one)
    assert not np.array_equal(one["frames"], other["frames"])


def test_a_named_choice_leaves_the_rest_as_drawn() -> None:
    free, named = random_scene(3), random_scene(3, material="glass")
    assert named.material.name == "glass"
    np.testing.assert_array_equal(free.light, named.light)
    assert free.shape == named.shape


@pytest.mark.parametrize("material", MATERIALS)
def test_frames_are_finite_and_normals_face_the_viewer(material: str) -> None:
    arrays = render(random_scene(11, material=material, motion="orbit", light="moving", size=32))
    assert np.isfinite(arrays["frames"]).all()
    assert (arrays["frames"] >= 0).all()
    mask, normals = arrays["mask"], arrays["normals"]
    assert mask.shape == arrays["frames"].shape[:3]
    np.testing.assert_allclose(np.linalg.norm(normals[mask], axis=1), 1, atol=1e-5)
    assert not normals[~mask].any()
    assert (normals[mask][:, 2] > -0.35).all()  # the widest ray is 16 degrees off the axis, a corner 22
    np.testing.assert_allclose(np.linalg.norm(arrays["lights"], axis=1), 1, atol=1e-12)


def test_lambert_is_albedo_times_the_cosine_in_the_annotated_frame() -> None:
    scene = random_scene(
        2, shape="sphere", material="diffuse", motion="orbit", light="moving", surroundings=False
    )
    arrays = render(scene)
    cosine = np.einsum("thwc,tc->thw", arrays["normals"], arrays["lights"])
    want = (
        np.maximum(cosine, 0)[..., None]
        * np.array(scene.material.colour)
        * arrays["intensity"][:, None, None]
    )
    lit = arrays["mask"] & ((cosine > 0.05) | (cosine < 0))
    np.testing.assert_allclose(arrays["frames"][lit], want[lit], atol=1e-5)


@pytest.mark.parametrize("name", ["diffuse", "metal", "plastic"])
def test_a_ball_under_the_mirrored_light_is_the_mirrored_picture(name: str) -> None:
    scene = bare_ball(Material(name=name, colour=(0.9, 0.6, 0.3)))
    mirrored = replace(scene, light=scene.light * np.array([-1, 1, 1]))
    a, b = render(scene), render(mirrored)
    np.testing.assert_allclose(a["frames"], b["frames"][:, :, ::-1], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(a["lights"] * [-1, 1, 1], b["lights"])
    assert np.abs(a["frames"] - a["frames"][:, :, ::-1]).max() > 0.1


@pytest.mark.parametrize("name", ["diffuse", "metal", "plastic"])
def test_turning_everything_changes_no_pixel(name: str) -> None:
    turn = Rotation.from_rotvec([0.3, -0.8, 0.4]).as_matrix()
    scene = replace(
        random_scene(4, frames=2, size=24, shape="torus", material=name, motion="orbit", surroundings=False),
        material=Material(name=name, colour=(0.9, 0.6, 0.3)),
    )
    turned = replace(
        scene,
        object_rotation=turn @ scene.object_rotation,
        object_position=scene.object_position @ turn.T,
        camera_rotation=turn @ scene.camera_rotation,
        camera_position=scene.camera_position @ turn.T,
        light=scene.light @ turn.T,
    )
    a, b = render(scene), render(turned)
    np.testing.assert_allclose(a["lights"], b["lights"], atol=1e-12)
    np.testing.assert_allclose(a["normals"], b["normals"], atol=1e-5)
    np.testing.assert_allclose(a["frames"], b["frames"], atol=1e-4)


def test_the_light_is_annotated_in_the_axes_of_the_picture() -> None:
    scene = bare_ball()
    for direction, brightest in (((0.8, 0, 0.6), "right"), ((0, 0.8, 0.6), "top"), ((-0.8, 0, 0.6), "left")):
        arrays = render(replace(scene, light=np.array([direction])))
        np.testing.assert_allclose(arrays["lights"][0], direction, atol=1e-12)
        picture = arrays["frames"][0].mean(axis=2)
        halves = {
            "right": picture[:, 17:],
            "left": picture[:, :16],
            "top": picture[:16],
            "bottom": picture[17:],
        }
        assert max(halves, key=lambda half: halves[half].sum()) == brightest


def test_the_solid_shades_the_floor_away_from_the_light() -> None:
    scene = random_scene(1, frames=1, size=64, shape="sphere", material="diffuse", motion="still")
    light = np.array([[0.8, 0.6, 0.0]]) @ scene.camera_rotation[0].T
    light[0, 1] = 0.6
    side = np.cross(light[0], [0, 1, 0])
    light = np.cross([0, 1, 0], side)[None] / np.linalg.norm(side) * 0.8 + np.array([[0, 0.6, 0]])
    lit = render(replace(scene, light=light))
    dark = render(replace(scene, light=light, intensity=np.zeros((1, 3))))
    key = (lit["frames"] - dark["frames"])[0].mean(axis=2)
    floor = ~lit["mask"]
    floor[:32] = False  # the lower half shows the floor near the ball
    shadow = floor & (key < 1e-6)
    assert 20 < shadow.sum() < floor.sum() / 2
    columns = np.nonzero(shadow)[1]
    assert np.sign(columns.mean() - 31.5) == -np.sign(lit["lights"][0, 0])


def test_glass_shows_what_lies_behind() -> None:
    scene = random_scene(1, frames=1, size=32, shape="sphere", material="glass", motion="still")
    clear = replace(scene, material=Material(name="glass", colour=(1.0, 1.0, 1.0)))
    green = replace(scene, material=Material(name="glass", colour=(0.1, 1.0, 0.1)))
    a, b = render(clear), render(green)
    inside = a["mask"]
    change = b["frames"][0][inside].mean(axis=0) / a["frames"][0][inside].mean(axis=0)
    assert change[1] == pytest.approx(1, abs=1e-6)
    assert change[0] < 0.7


def test_a_diffuse_ball_returns_no_more_than_its_surroundings() -> None:
    arrays = render(
        replace(random_scene(9, frames=1), material=WHITE, intensity=np.zeros((1, 3)), floor=None)
    )
    brightest = arrays["frames"][0][~arrays["mask"]].max()
    panels = random_scene(9, frames=1).environment.panels
    assert arrays["frames"][0][arrays["mask"]].max() < brightest + max(max(p.colour) for p in panels)


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("light", LIGHTS)
def test_motion_is_what_was_named(motion: str, light: str) -> None:
    arrays = render(random_scene(6, shape="box", size=16, motion=motion, light=light))
    assert (arrays["mask"].ndim == 2) == (motion == "still")
    still = np.ptp(arrays["lights"], axis=0).max() < 1e-9
    assert still == (light == "camera" or (light == "static" and motion != "orbit"))


def test_supersampling_smooths_edges_and_keeps_the_light() -> None:
    scene = random_scene(8, frames=1, size=24)
    plain, smooth = render(scene), render(scene, supersample=2)
    assert smooth["frames"].shape == plain["frames"].shape
    np.testing.assert_array_equal(plain["lights"], smooth["lights"])
    assert np.mean(plain["mask"] == smooth["mask"]) > 0.97


def test_a_material_that_makes_light_is_refused() -> None:
    with pytest.raises(ValueError, match="more would make light"):
        Material(name="diffuse", colour=(1.2, 1, 1))
    with pytest.raises(ValueError, match="material must be one of"):
        random_scene(0, material="velvet")
    assert set(shapes.SHAPES) >= {"sphere", "torus"}
