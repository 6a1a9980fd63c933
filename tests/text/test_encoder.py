"""Text encoders by name."""

import pytest

from mavl.text.encoder import load_text_encoder
from mavl.text.encoders.transformers import TransformerEncoder


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("bert:some/folder", "some/folder"),
        ("bert:a:b", "a:b"),
        ("some/folder", "some/folder"),
        ("bert", "bert"),
        ("a:b", "a:b"),
    ],
)
def test_a_name_without_the_prefix_of_a_kind_is_that_of_a_bert(name, inner):
    assert load_text_encoder(name) == TransformerEncoder(inner)


def test_settings_that_the_class_does_not_take_are_left_out():
    encoder = load_text_encoder("some/folder", sep=True, max_length=64, lower_case=False, times=2.0)
    assert encoder == TransformerEncoder("some/folder", sep=True, max_length=64, lower_case=False)
