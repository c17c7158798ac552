"""Choose, train, compare and ship small image classifiers with Keras.

A recipe (`recipe.py`) goes in; `run.py` turns it into a run folder (`run_folder.py`); tuning,
export and evaluation read and write run folders. Start reading at `run.py`.

Importing this package imports neither TensorFlow nor Keras: the commands answer at once and pay
for the heavy libraries only where they need them.
"""

from time import perf_counter

__version__ = "0.1.0"
BEGAN = perf_counter()  # as good as the start of the process, for what its user waited
