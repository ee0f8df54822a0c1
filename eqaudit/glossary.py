"""Every cause that a diagnosis names and every word that it uses, explained once for reports and README."""

CAUSES = {
    "batch-statistics": "the output depends on the rest of the batch: a normalisation in training mode",
    "border": "at angles between quarter turns the rim of a map holds what padding made of the edge",
    "broken-field": "an operation treats channels of one field differently, though they turn into each other",
    "dropout": "the output is random: dropout, or another random operation, is left on",
    "even-kernel": "an even kernel that keeps the size pads one side more, and shifts the map by half a cell",
    "flatten": "a map is flattened into a linear layer, which has its own weight for every place",
    "kernel": "the weights of a layer are not symmetric under the action that its input and output have",
    "one-sided-padding": "a map is padded or cropped more on one side than on the other",
    "orbit-pooling": "pooling, or a choice of channels, takes only a part of those that turn into each other",
    "position-embedding": "a constant that differs from place to place is added or multiplied",
    "resize": "a resize picks cells that do not lie symmetrically about the centre",
    "roll": "a map is rolled: moved by some cells, as windows are shifted, and not moved back",
    "rounding": "nothing but the rounding of the precision that the model runs in",
    "subsampling": "a stride does not fit the size, (N + 2p - k) mod s is not 0: one side is left out",
    "unexplained": "a layer breaks, and no rule of this version says why",
}
"""By id, in one line each."""

WORDS = {
    "accumulated error": "the equivariance error of a layer in the model as it is, with what broke before",
    "averaged output": "the output averaged over all moved inputs, moved back: exact, at one run for each",
    "breaking layer": "a layer whose local error is more than rounding",
    "error without": "the error of the output in an experiment that takes one cause away",
    "Lie derivative": "how fast the error grows as the image starts to turn (per radian), or to shift",
    "local error": "the equivariance error of a layer that is given exact inputs: what it adds itself",
    "removed": "the share of the error that goes with a cause: 1 - error without / error",
    "share": "the square of a local error, of the sum of those of all layers",
    "symmetrised": "replaced by its average over the group: rho(g)^-1 T_g^-1 layer(rho(g) T_g x)",
}
"""In alphabetical order."""
