"""The handbook's defaults, how a playbook changes them, and where a malformed rule is said to stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from opslib.data.playbook import Playbook, load_playbook
from opslib.errors import InputError

COMPANY = '[company]\nname = "Edge"\n\n[tables]\norders = { source = "orders.csv" }\n\n'


def load(folder: Path, more: str = "") -> Playbook:
    path = folder / "playbook.toml"
    path.write_text(COMPANY + more, "utf-8")
    return load_playbook(path)


def test_every_playbook_has_the_handbooks_rules(tmp_path: Path) -> None:
    rules = {rule.name: rule for rule in load(tmp_path).rules}
    # HANDBOOK.md, H3, H10, H11, H13 to H16: the numbers as the handbook gives them.
    assert (rules["d7_below_25"].metric, rules["d7_below_25"].below) == ("d7_rate", 0.25)
    assert (rules["d1_below_20"].metric, rules["d1_below_20"].below) == ("d1_rate", 0.20)
    complaints = rules["complaints_over_5"]
    assert (complaints.metric, complaints.grain, complaints.above, complaints.times, complaints.of) == (
        "complaint_rate", "day", 0.05, 3, 0,
    )  # fmt: skip
    assert (rules["churn_up_three_months"].rising, rules["churn_up_three_months"].grain) == (3, "month")
    assert rules["satisfaction_below_85"].below == 0.85
    assert rules["stickiness_below_target"].below == "target"
    assert rules["paying_rate_short"].below == "target" and len(rules["paying_rate_short"].steps) == 3
    assert rules["one_channel_over_half"].metric == "spend_share_rate"


def test_a_rule_of_the_same_name_changes_only_what_it_gives(tmp_path: Path) -> None:
    rules = load(tmp_path, '[[rules]]\nname = "d7_below_25"\nbelow = 0.3\nowner = "Li"\n').rules
    changed = rules[0]
    assert (changed.below, changed.owner, changed.metric, changed.grain) == (0.3, "Li", "d7_rate", "week")
    assert [r.name for r in rules].count("d7_below_25") == 1


def test_another_condition_replaces_the_handbooks(tmp_path: Path) -> None:
    changed = load(tmp_path, '[[rules]]\nname = "d7_below_25"\nfalling = 3\n').rules[0]
    assert (changed.condition, changed.below, changed.falling) == ("falling", None, 3)


def test_a_rule_can_be_dropped(tmp_path: Path) -> None:
    assert not load(tmp_path, '[[rules]]\nname = "d7_below_25"\nenabled = false\n').rules[0].enabled


def test_remedies_are_replaced_metric_by_metric(tmp_path: Path) -> None:
    remedies = load(tmp_path, '[remedies]\nd1_rate = ["Call them"]\n').remedies
    assert remedies["d1_rate"] == ("Call them",) and len(remedies["paying_rate"]) == 3


RULE = '[[rules]]\nname = "mine"\nmetric = "d7_rate"\n'


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        (RULE + "below = 0.2\ngrain = 'year'\n", 11, "'rules.0.grain': 'year' is not one of day, week, month"),
        (RULE + "below = 0.2\n\n" + RULE.replace("d7_rate", "d7_rat"), 14, "'rules.1.metric': there is no metric"),
        (RULE + "belwo = 0.2\n", 10, "unknown key 'rules.0.belwo'. Did you mean 'below'"),
        (RULE, 7, "give exactly one of below, above, rising"),
        (RULE + "below = 0.2\nabove = 0.3\n", 7, "not below, above"),
        (RULE + 'below = "low"\n', 10, "'low' is neither a number nor \"target\""),
        (RULE + "below = nan\n", 10, "nan is neither a number"),
        (RULE + 'below = 0.2\nsteps = "call"\n', 11, "'call' should be a list"),
        (RULE + "below = 0.2\ntimes = 3\nof = 2\n", 7, "`of` counts all periods"),
        (RULE + "below = 0.2\ntimes = 0\n", 11, "greater than or equal to 1"),
        (RULE + 'below = 0.2\nseverity = "red"\n', 11, "not one of notice, act, urgent"),
        (RULE + "below = 0.2\n" + RULE + "below = 0.2\n", 7, "two rules named mine"),
        ('[[holidays]]\nname = "Spring"\nstart = 2026-02-20\nend = 2026-02-16\n', 7, "lies before"),
    ],
)  # fmt: skip
def test_a_malformed_rule_is_named_with_its_line(tmp_path: Path, more: str, line: int, words: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path, more)
    assert f"playbook.toml: line {line}: " in str(refused.value)
    assert words in str(refused.value)
