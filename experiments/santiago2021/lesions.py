"""The two sets of skin lesions, ISIC 2017 and ISIC 2018."""

from typing import NamedTuple


class LesionSet(NamedTuple):
    """A data set of the paper."""

    title: str
    table: str  # of the paper, that compares the methods on it
    figure: str  # of the paper, that shows the weights of its classes
    classes: tuple[str, ...]  # in the order of the prepared set, as the paper calls them
    num_images: int  # official ones for training


LESION_SETS = {  # by the name of the prepared set
    "isic2017": LesionSet(
        "ISIC 2017", "Table 3", "Figure 12", ("Benign", "Melanoma", "Keratosis"), 2000
    ),
    "isic2018": LesionSet(
        "ISIC 2018",
        "Table 4",
        "Figure 13",
        ("Melanoma", "Nevus", "BCC", "Actinic", "Keratosis", "DF", "Vascular"),
        10_015,
    ),
}
