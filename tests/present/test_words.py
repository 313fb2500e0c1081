"""Words for every kind of result are found by whoever has nothing but the result."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opslib.present.words import TOPICS

RESULTS = {
    "churn": "investigation.ChurnInvestigation",
    "crisis": "investigation.VoiceInvestigation",
    "funnel": "diagnosis.FunnelDiagnosis",
    "growth": "model.GrowthModel",
    "review": "review.QuarterlyReview",
    "verdicts": "verdict.Verdict",
    "watch": "watch.Watch",
}
# A process of its own, so that nothing else has loaded the words.
CODE = """
from opslib.decide.{topic}.{module} import {kind}
from opslib.present import words

for function in (words.describe, words.list_limits, words.suggest_actions):
    words._find_words(function, object.__new__({kind}), "words")
"""


def test_every_topic_is_known() -> None:
    assert set(RESULTS) == set(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_words_load_with_the_first_result(topic: str) -> None:
    module, kind = RESULTS[topic].split(".")
    subprocess.run([sys.executable, "-c", CODE.format(topic=topic, module=module, kind=kind)], check=True)
