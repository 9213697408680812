"""Print how many examples of each dataset one epoch of SkyRL draws, where it is given several: a mean of some epochs.

python read_skyrl_epoch.py EPOCHS EXAMPLES...
"""

import json
import sys
from itertools import accumulate

import numpy as np
from standing_in import bare

bare("skyrl", "skyrl.train", "skyrl.train.dataset")

from skyrl.train.dataset.samplers import DataMixingSampler  # noqa: E402

lengths = [int(word) for word in sys.argv[2:]]
# As `_normalize_mixing_weights` makes them where none are said.
sampler = DataMixingSampler(range(sum(lengths)), lengths, [1 / len(lengths)] * len(lengths), seed=1)
ends = list(accumulate(lengths))
drawn = np.zeros(len(lengths))
for _ in range(int(sys.argv[1])):
    seen = np.unique(list(sampler))
    drawn += np.bincount(np.searchsorted(ends, seen, side="right"), minlength=len(lengths))
print(json.dumps((drawn / int(sys.argv[1])).tolist()))
