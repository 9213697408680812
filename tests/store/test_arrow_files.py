"""Arrow is left alone by what it would import unasked."""

import subprocess
import sys

import pytest

pytest.importorskip("pandas")

LEFT_OUT = """
import sys
from orca_recipes.store.arrow_files import keep_pandas_out
keep_pandas_out()
import numpy, pyarrow, pyarrow.compute
assert pyarrow.array(numpy.arange(3)).to_numpy().tolist() == [0, 1, 2]
assert pyarrow.compute.greater(pyarrow.array(["a"]), "A").to_pylist() == [True]
assert "pandas" not in sys.modules
"""


@pytest.mark.parametrize(
    "more", ["", "import pandas; assert pyarrow.table({'a': [1]}).to_pandas()['a'].tolist() == [1]"]
)
def test_arrow_does_without_pandas_and_who_asks_for_pandas_gets_it(more: str):
    subprocess.run([sys.executable, "-c", LEFT_OUT + more], check=True)


def test_pandas_that_is_there_already_stays():
    asked = "import pandas, sys; from orca_recipes.store.arrow_files import keep_pandas_out; keep_pandas_out()"
    subprocess.run(
        [sys.executable, "-c", f"{asked}; import pandas; assert sys.modules['pandas'] is pandas"], check=True
    )


MEANWHILE = """
import threading
import pyarrow
from orca_recipes.store.arrow_files import keep_pandas_out

found, array = [], pyarrow.array

def array_while_another_thread_imports_pandas(values):
    other = threading.Thread(target=lambda: found.append(__import__("pandas")))
    other.start()
    other.join()
    return array(values)

pyarrow.array = array_while_another_thread_imports_pandas
keep_pandas_out()
assert found[0].DataFrame
"""


def test_another_thread_gets_pandas_even_at_that_very_moment():
    subprocess.run([sys.executable, "-c", MEANWHILE], check=True)
