"""What options are unless somebody says otherwise."""

from bnfold import CompareOptions, OnnxOptions, ReadOptions


def test_nothing_doubtful_is_assumed_unless_it_is_asked_for() -> None:
    assert not OnnxOptions().allow_custom_ops
    assert not CompareOptions().tf32
    read = ReadOptions()
    assert (read.ignore_unknown_fields, read.freeze_initializers, read.zero_scale_factor) == (False, False, None)
