"""What customers will bring: expected orders and amounts of the next days, summed over customers of the same history.

Everything expected of a customer is a function of the history (x, t_x, T) times v + (sum of repeat amounts), so
customers with the same history are one row, and sums over them are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from opslib.measure.estimate import quantile
from opslib.measure.purchase_model.bgnbd import (
    Histories,
    Maximum,
    chance_alive,
    chance_of_none,
    count_moments,
    expect_purchases,
)
from opslib.measure.purchase_model.gamma_gamma import weigh_amount, weigh_squares
from opslib.measure.purchase_model.orders import UNIT_DAYS, to_histories
from opslib.measure.purchase_model.purchase_model import PurchaseModel

_STEP = 1e-4
# Histories drawn at a time: bounds the memory of the draws.
_CHUNK = 20_000


@dataclass(frozen=True)
class Sums:
    """Expected sums over groups of customers (arrays, one entry a group) with their standard errors.

    Attributes:
        alive, returning, orders, value: repeat customers alive (the model takes everybody with one purchase for alive,
            since only a repeat makes one leave), customers who buy, orders and money of the next days; value missing
            (nan) without a model of amounts.
        alive_error, returning_error, orders_error, value_error: standard errors: uncertain parameters (delta method)
            and, for orders and money, chance in what customers do (exact variance, customers independent).
        value_share, value_share_error: of the value of all groups, parameters and chance.
    """

    alive: np.ndarray
    returning: np.ndarray
    orders: np.ndarray
    value: np.ndarray
    alive_error: np.ndarray
    returning_error: np.ndarray
    orders_error: np.ndarray
    value_error: np.ndarray
    value_share: np.ndarray
    value_share_error: np.ndarray


def sum_expectations(model: PurchaseModel, frame: pd.DataFrame, groups: np.ndarray, number: int, days: int) -> Sums:
    """Add up what is expected of groups of customers.

    Args:
        model: with a model of purchases.
        frame: as `count_histories` gives it.
        groups: the group of each row of the frame, 0 to `number` - 1.
        number: how many groups.
        days: the horizon.
    """
    assert model.purchases is not None
    h, time = to_histories(frame), days / UNIT_DAYS
    amount, squares = frame["amount"].to_numpy(dtype=float), frame["squares"].to_numpy(dtype=float)
    rates, spend = model.purchases, model.amounts

    def add(rows: np.ndarray) -> np.ndarray:
        return np.bincount(groups, weights=rows, minlength=number)

    def value_at(rate_at: np.ndarray, spend_at: np.ndarray) -> np.ndarray:
        money = h.customers * np.exp(spend_at[2]) + amount
        return add(expect_purchases(rate_at, h, time) * weigh_amount(spend_at, h.repeats) * money)

    repeaters = h.customers * (h.repeats > 0)

    def alive_at(at: np.ndarray) -> np.ndarray:
        return add(repeaters * chance_alive(at, h))

    def returning_at(at: np.ndarray) -> np.ndarray:
        return add(h.customers * (1 - chance_of_none(at, h, time)))

    orders_covariance = _spread(lambda at: add(h.customers * expect_purchases(at, h, time)), rates)
    mean, square = count_moments(rates.at, h, time)
    orders_noise = add(h.customers * np.maximum(square - mean * mean, 0))
    orders = add(h.customers * mean)
    value = share = value_error = share_error = np.full(number, np.nan)
    if spend is not None:
        v = float(np.exp(spend.at[2]))
        value = value_at(rates.at, spend.at)
        within, between = weigh_squares(spend.at, h.repeats)
        weight = weigh_amount(spend.at, h.repeats)
        money = h.customers * v * v + 2 * v * amount + squares
        # In a group nobody can be expected in, 0 times an infinite variance is nothing.
        with np.errstate(invalid="ignore"):
            chance = money * np.where(mean > 0, mean * within + square * between - (mean * weight) ** 2, 0)
        noise = add(np.maximum(chance, 0))
        covariance = _spread(lambda at: value_at(at, spend.at), rates)
        covariance = covariance + _spread(lambda at: value_at(rates.at, at), spend) + np.diag(noise)
        value_error = np.sqrt(np.clip(np.diag(covariance), 0, None))
        total = value.sum()
        if total > 0 and np.isfinite(covariance).all():
            share = value / total
            slopes = (np.eye(number) - share[:, None]) / total
            share_error = np.sqrt(np.clip(np.einsum("ij,jk,ik->i", slopes, covariance, slopes), 0, None))
        elif total > 0:
            share = value / total
    return Sums(
        alive_at(rates.at),
        returning_at(rates.at),
        orders,
        value,
        np.sqrt(np.clip(np.diag(_spread(alive_at, rates)), 0, None)),
        np.sqrt(np.clip(np.diag(_spread(returning_at, rates)), 0, None)),
        np.sqrt(np.clip(np.diag(orders_covariance) + orders_noise, 0, None)),
        value_error,
        share,
        share_error,
    )


def expect_values(model: PurchaseModel, frame: pd.DataFrame, days: int) -> np.ndarray:
    """Expected money of the next days from the customers of each row of the frame; nan without a model of amounts."""
    assert model.purchases is not None
    if model.amounts is None:
        return np.full(len(frame), np.nan)
    h = to_histories(frame)
    money = h.customers * np.exp(model.amounts.at[2]) + frame["amount"].to_numpy(dtype=float)
    expected = expect_purchases(model.purchases.at, h, days / UNIT_DAYS)
    return np.asarray(expected * weigh_amount(model.amounts.at, h.repeats) * money)


def bound_sum(value: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a sum that is never below zero: normal on the logarithmic scale."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(value > 0, np.exp(np.minimum(quantile() * error / value, 700)), 1.0)
    ratio = np.where(np.isfinite(error), ratio, np.nan)
    return value / ratio, value * ratio


def _spread(function: Callable[[np.ndarray], np.ndarray], fit: Maximum) -> np.ndarray:
    """The covariance of a function of the parameters (delta method, central differences)."""
    steps = np.eye(len(fit.at)) * _STEP
    slopes = np.array([(function(fit.at + d) - function(fit.at - d)) / (2 * _STEP) for d in steps])
    return np.asarray(slopes.T @ fit.covariance @ slopes)


def draw_values(model: PurchaseModel, frame: pd.DataFrame, *, days: int, draws: int, seed: int) -> pd.DataFrame:
    """Draw the next days of one customer of each history.

    Args:
        model: with a model of purchases.
        frame: as `count_histories` gives it.
        days: the horizon.
        draws: futures of each history; each has parameters of its own, drawn from the normal distribution of their
            logarithms, so that the intervals hold both what is uncertain and what is chance.
        seed: makes the draws repeatable.

    Returns:
        The history's columns, alive_rate (missing after one purchase), return_rate, expected_orders_count, orders_low,
        orders_high, and value_weight, weight_low, weight_high: what v + (the customer's sum of repeat amounts) is
        multiplied by to give the expected value and the ends of its interval (nan without a model of amounts).
    """
    assert model.purchases is not None
    rng = np.random.default_rng(seed)
    rates, spend = model.purchases, model.amounts
    thetas = _draw_parameters(rng, rates, draws)
    prices = None if spend is None else _draw_parameters(rng, spend, draws)
    parts = [
        _draw_chunk(rng, model, frame.iloc[i : i + _CHUNK], days, thetas, prices) for i in range(0, len(frame), _CHUNK)
    ]
    keys = frame[["repeats_count", "last_days", "age_days"]].reset_index(drop=True)
    return pd.concat([keys, pd.concat(parts, ignore_index=True)], axis=1)


def _draw_parameters(rng: np.random.Generator, fit: Maximum, draws: int) -> np.ndarray:
    drawn = rng.multivariate_normal(fit.at, fit.covariance, size=draws, method="eigh")
    return np.asarray(np.clip(drawn, -20, 20))


def _draw_chunk(
    rng: np.random.Generator,
    model: PurchaseModel,
    frame: pd.DataFrame,
    days: int,
    thetas: np.ndarray,
    prices: np.ndarray | None,
) -> pd.DataFrame:
    assert model.purchases is not None
    h, time = to_histories(frame), days / UNIT_DAYS
    counts = np.stack([_draw_counts(rng, at, h, time) for at in thetas])
    ends = [0.025, 0.975]
    low, high = np.quantile(counts, ends, axis=0, method="inverted_cdf")
    expected = expect_purchases(model.purchases.at, h, time)
    columns = {
        "alive_rate": np.where(h.repeats > 0, chance_alive(model.purchases.at, h), np.nan),
        "return_rate": 1 - chance_of_none(model.purchases.at, h, time),
        "expected_orders_count": expected,
        "orders_low": low,
        "orders_high": high,
    }
    weight = weight_low = weight_high = np.full(len(frame), np.nan)
    if prices is not None and model.amounts is not None:
        weight = expected * weigh_amount(model.amounts.at, h.repeats)
        v, mean = float(np.exp(model.amounts.at[2])), frame["amount"].to_numpy(dtype=float) / h.customers
        drawn = np.stack(
            [
                _draw_weights(rng, at, count, h) * (np.exp(at[2]) + mean)
                for at, count in zip(prices, counts, strict=True)
            ]
        )
        weight_low, weight_high = np.quantile(drawn / (v + mean), ends, axis=0)
    return pd.DataFrame({**columns, "value_weight": weight, "weight_low": weight_low, "weight_high": weight_high})


def _draw_counts(rng: np.random.Generator, at: np.ndarray, h: Histories, time: float) -> np.ndarray:
    """Future purchases: none when gone; else the smaller of how many the rate gives and the one they leave after."""
    r, alpha, a, b = np.exp(at)
    rate = rng.gamma(r + h.repeats) / (alpha + h.age)
    leave = np.clip(rng.beta(a, b + h.repeats), 1e-12, 1)
    bought = np.minimum(rng.poisson(np.minimum(rate * time, 1e9)), rng.geometric(leave))
    return np.where(rng.random(len(h.repeats)) < chance_alive(at, h), bought, 0).astype(float)


def _draw_weights(rng: np.random.Generator, at: np.ndarray, count: np.ndarray, h: Histories) -> np.ndarray:
    p, q, _ = np.exp(at)
    return np.asarray(rng.gamma(p * count) / np.maximum(rng.gamma(p * h.repeats + q), 1e-300))
