"""What each statistic says, in words for people who did not write it."""

from __future__ import annotations

from collections.abc import Iterable

from feature_store.config import StatisticsConfig, duration_text


def statistic_meanings(config: StatisticsConfig, names: Iterable[str]) -> dict[str, str]:
    """A sentence for each statistic, without its full stop.

    Parameters
    ----------
    config : StatisticsConfig
        The settings that the statistics were made with.
    names : iterable of str
        As :func:`feature_store.features.statistics.statistic_names` has them.

    Returns
    -------
    dict of str to str
        By name, in the order of the names.

    Raises
    ------
    KeyError
        When there is no such statistic.

    Examples
    --------
    >>> statistic_meanings(StatisticsConfig(windows=("90m",)), ["item_clicks_90m", "hour"])
    {'item_clicks_90m': 'clicks on the item in the 90m before the request', 'hour': 'hour of the request, 0 to 23, UTC'}
    """
    windows = [duration_text(window) for window in config.windows]
    meanings = {
        "item_age": "seconds since the item's first click; null before it",
        **{f"item_clicks_{window}": f"clicks on the item in the {window} before the request" for window in windows},
        "item_ctr": f"click-through rate of the item, smoothed by {config.ctr_prior:g} impressions at the overall rate",
        "user_clicks": "clicks of the user so far",
        "user_gap": "seconds since the user's last click; null before the first",
        "user_item_clicks": "clicks of the user on this item so far",
        "transition_clicks": f"clicks on the item in {windows[-1]} right after the last item of the history; null without a history",
        "hour": "hour of the request, 0 to 23, UTC",
    }
    return {name: meanings[name] for name in names}
