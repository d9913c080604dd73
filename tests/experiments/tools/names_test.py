import pytest

from experiments.tools.names import lookup


def test_a_name_is_looked_up_or_guessed():
    known = {"low": 1, "lookahead": 2}
    assert lookup("low", known, "weighting") == 1
    with pytest.raises(
        ValueError,
        match=r"^unknown weighting 'lokahead'; known are low, lookahead;"
        r" did you mean 'lookahead'\?$",
    ):
        lookup("lokahead", known, "weighting")
    with pytest.raises(ValueError, match=r"^unknown weighting 'q'; known are low, lookahead$"):
        lookup("q", known, "weighting")
