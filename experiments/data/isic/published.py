"""How many images of every class the ISIC challenges are said to have."""

TABLE_1 = {
    "isic2017": {"benign": 1372, "melanoma": 374, "seborrheic_keratosis": 254},
    "isic2018": {
        "MEL": 1119,
        "NV": 6741,
        "BCC": 517,
        "AKIEC": 331,
        "BKL": 1101,
        "DF": 116,
        "VASC": None,
    },
}
"""Training images by class in Santiago et al. (2021), Table 1; None where it prints no number."""

OFFICIAL = {
    "isic2017": TABLE_1["isic2017"],
    "isic2018": {
        "MEL": 1113,
        "NV": 6705,
        "BCC": 514,
        "AKIEC": 327,
        "BKL": 1099,
        "DF": 115,
        "VASC": 142,
    },
}
"""Training images by class in the published sets (2018: HAM10000, Tschandl et al., 2018)."""

TABLE_1_NOTES = {
    "isic2018": (
        "The six numbers that Table 1 prints sum to 9925, which leaves 90 of 10015 for VASC; "
        "HAM10000 has the official ones, which do sum to 10015."
    )
}
