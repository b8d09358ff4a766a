import subprocess
import sys

import pytest

from models.mixers import create_mixer, list_mixers
from models.mixers.base import MIXERS


def test_names_come_from_files() -> None:
    assert {"window", "attention", "factorised", "serialised", "spatial_spectral"} <= set(list_mixers())
    assert not {"base", "_heads"} & set(list_mixers())


def test_listing_imports_no_mixer() -> None:
    code = "import sys, models.mixers as m; m.list_mixers(); print('models.mixers.window' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"did you mean one of \['window'\]"):
        MIXERS["windwo"]


def test_unknown_option_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"'window' of models.mixers takes no option 'shfted'.*\['shifted'"):
        create_mixer("window", 32, shfted=True)
