"""What controls are called, and the values that they offer whatever the data are."""

from __future__ import annotations

from opslib.language import mark

LABELS = {
    "as_of": mark("Last day"),
    "breakdown": mark("Break down by"),
    "budget_amount": mark("Budget"),
    "cohort_age": mark("Weeks later"),
    "cohort_week": mark("Cohort from"),
    "compare_to": mark("Compare with"),
    "days": mark("Days"),
    "definition": mark("Left means"),
    "experiment": mark("Experiment"),
    "fixed_on": mark("Repaired on"),
    "funnel": mark("Funnel"),
    "grain": mark("Period"),
    "inactive_days": mark("Silent days"),
    "incident_on": mark("Incident on"),
    "lang": mark("Language"),
    "lever_cac_amount": mark("Cost of a new user"),
    "lever_d1_rate": mark("Next-day retention"),
    "lever_d7_rate": mark("Day-7 retention"),
    "lever_k_factor": mark("Users each one brings"),
    "lever_reactivation_rate": mark("Daily return rate"),
    "payment_node_days": mark("Days after a payment"),
    "quarter": mark("Quarter"),
    "return_rate": mark("Chance of return"),
    "segment": mark("Users"),
    "signup_node_days": mark("Days after sign-up"),
    "step": mark("Step to explain"),
    "threshold_rate": mark("Complaint threshold"),
    "times": mark("Days in a row"),
    "window_days": mark("Days to get through"),
}
# Values that parameters and lists have.
CHOICE_NAMES = frozenset(
    (
        mark("day"), mark("week"), mark("month"), mark("quarter"), mark("inactivity"), mark("orders"),
        mark("subscription"),
    )
)  # fmt: skip
