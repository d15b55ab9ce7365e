"""Texts in pairs: what a run is trained on, and what a trained model is evaluated on."""

from text.config import EvaluateConfig, PairsConfig
from text.examples.pairs import Pairs, ParallelText, load_pairs, read_pairs
from text.tasks.task import check_same_data


def configured_pairs(config: PairsConfig) -> ParallelText:
    """The pairs that a configuration names. Raises ValueError for bad data."""
    return load_pairs(
        config.data,
        source=config.source,
        target=config.target,
        validation=config.validation,
        validation_data=config.validation_data,
        bad="skip" if config.skip_bad else "refuse",
    )


def training_pairs(config: PairsConfig) -> ParallelText:
    """The same for a run. Raises ValueError where one is resumed with other pairs, too."""
    pairs = configured_pairs(config)
    check_same_data(config, pairs.fingerprint)
    return pairs


def test_pairs(config: PairsConfig, options: EvaluateConfig) -> tuple[dict[str, Pairs], tuple[str, str]]:
    """What a model is tested on (other data, test parts, or what was held out), and what the sides are called."""
    if options.data and not config.data:
        return {"data": read_pairs(options.data)}, ("", "")
    pairs = configured_pairs(config)
    sides = pairs.source, pairs.target
    if options.data:
        return {"data": read_pairs(options.data, source=sides[0], target=sides[1])}, sides
    return dict(pairs.tests) or {"val": pairs.validation}, sides
