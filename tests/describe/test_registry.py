"""Tables of builders: the signature is the schema."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from residuum.errors import InputError
from residuum.registry import Choice, Table


def round_thing(*, radius: Annotated[float, Field(gt=0)] = 1.0, holes: tuple[int, ...] = ()) -> str:
    return f"round {radius} {holes}"


def square(*, side: float, mode: Literal["flat", "deep"] = "flat") -> str:
    return f"square {side} {mode}"


SHAPES = Table("shape", {"round": round_thing, "square": square})


def box(lid: str, *, shape: Annotated[Choice, SHAPES] = Choice(name="round", radius=2.0), thick: bool = False) -> str:
    return f"{lid} {SHAPES.build(shape)} {thick}"


BOXES = Table("box", {"box": box, "plain": lambda lid: lid})


def test_defaults_are_written_out_also_in_inner_choices():
    assert BOXES.resolve("box").model_dump() == {
        "name": "box", "shape": {"name": "round", "radius": 2.0, "holes": ()}, "thick": False,
    }  # fmt: skip
    assert BOXES.build("box", "lid") == "lid round 2.0 () False"


def test_an_inner_choice_without_a_name_changes_the_default_choice():
    resolved = BOXES.resolve({"name": "box", "shape": {"holes": [1, 2]}})
    assert resolved.settings["shape"].model_dump() == {"name": "round", "radius": 2.0, "holes": (1, 2)}


def test_resolving_twice_changes_nothing():
    once = BOXES.resolve({"name": "box", "shape": "round"})
    assert BOXES.resolve(once) == once
    assert BOXES.resolve(once.model_dump(mode="json")).model_dump(mode="json") == once.model_dump(mode="json")


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("bax", "part: unknown box 'bax'; did you mean 'box'?"),
        ({"name": "box", "thik": True}, "unknown setting 'part.thik'; did you mean 'part.thick'?"),
        ({"name": "box", "thick": 1}, "part.thick: input should be a valid boolean, not 1"),
        ({"name": "box", "shape": "squore"}, "part.shape: unknown shape 'squore'; did you mean 'square'?"),
        ({"name": "box", "shape": "square"}, "part.shape.side: shape 'square' needs this setting"),
        ({"name": "box", "shape": {"name": "round", "radius": 0}}, "part.shape.radius: input should be greater than 0"),
        (
            {"name": "box", "shape": {"name": "round", "radius": "1"}},
            "part.shape.radius: input should be a valid number",
        ),
        ({"name": "box", "shape": {"name": "round", "radius": float("inf")}}, "part.shape.radius"),
        (
            {"name": "box", "shape": {"name": "round", "holes": [1, "2"]}},
            "part.shape.holes[1]: input should be a valid integer",
        ),
        ({"name": "plain", "size": 1}, "box 'plain' has no settings"),
    ],
)
def test_what_is_wrong_is_named(choice, says):
    with pytest.raises(InputError) as error:
        BOXES.resolve(choice, "part")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
