"""The numbers of the paper's tables."""

from collections.abc import Mapping

from experiments.reporting.ledger import Printed

# Table 1: training images; that of ISIC 2018's vascular class is missing in the paper's text.
CLASS_COUNTS = {
    "isic2017": {"Benign": 1372, "Melanoma": 374, "Keratosis": 254},
    "isic2018": {
        "Melanoma": 1119,
        "Nevus": 6741,
        "BCC": 517,
        "Actinic": 331,
        "Keratosis": 1101,
        "DF": 116,
    },
}
# Table 2: test error in percent, by network and data.
TEST_ERRORS = {
    ("densenet_bc", "cifar10"): {
        "Normal": 4.8,
        "FL": 5.0,
        "SPL": 5.1,
        "IS": 15.7,
        "MentorNet": 13.1,
        "LOW": 4.8,
    },
    ("densenet_bc", "cifar100"): {
        "Normal": 23.1,
        "FL": 23.1,
        "SPL": 23.1,
        "IS": 43.2,
        "MentorNet": 38.9,
        "LOW": 22.8,
    },
    ("wrn28_2", "cifar10"): {
        "Normal": 7.2,
        "FL": 7.6,
        "SPL": 7.7,
        "IS": 7.9,
        "MentorNet": 8.5,
        "LOW": 6.8,
    },
    ("wrn28_2", "cifar100"): {
        "Normal": 28.0,
        "FL": 28.6,
        "SPL": 28.2,
        "IS": 32.0,
        "MentorNet": 29.1,
        "LOW": 27.7,
    },
}
# Tables 3 and 4: accuracy, balanced accuracy, mean AUC and mean F1 of the test set in percent. The
# blocks of rows are those that the text describes: LOW with CE is best on most metrics.
METRICS = {
    "accuracy": "Acc",
    "balanced_accuracy": "BAcc",
    "mean_auc": "mAUC",
    "mean_f1": "mF1",
}
SKIN = {
    "isic2017": {
        "CE": (75.7, 65.4, 86.0, 65.4),
        "bCE": (75.0, 70.4, 87.2, 67.8),
        "FL": (74.7, 65.3, 85.6, 64.5),
        "LOW + CE": (78.0, 68.2, 87.2, 68.9),
        "LOW + bCE": (75.5, 67.2, 86.2, 66.9),
        "LOW + FL": (75.5, 66.2, 85.1, 66.1),
    },
    "isic2018": {
        "CE": (86.6, 73.1, 96.8, 76.4),
        "bCE": (88.8, 78.9, 97.2, 79.7),
        "FL": (85.5, 74.5, 96.3, 74.9),
        "LOW + CE": (89.5, 77.7, 97.8, 80.4),
        "LOW + bCE": (89.4, 77.4, 97.8, 81.1),
        "LOW + FL": (87.7, 75.5, 96.8, 77.5),
    },
}


def without_intervals(values: Mapping[str, float]) -> dict[str, Printed]:
    """A table's column; none of them has an interval."""
    return {method: Printed(value) for method, value in values.items()}


def skin_column(data: str, metric: str) -> dict[str, Printed]:
    """A column of Table 3 or 4."""
    place = list(METRICS).index(metric)
    return without_intervals({method: values[place] for method, values in SKIN[data].items()})
