"""Interactive: charts as plotly.js takes them.

Lives here: traces and layouts as plain values; colours are names that the page's style sheet gives a colour each, light and dark. Not here:
the library itself, which is a file beside the template of the page.
"""

from __future__ import annotations

from html import escape
from typing import Any

from hf_pipelines.research.report.blocks import Chart, Heatmap, Series, written

# Of ticks and of what the pointer shows, by the unit of an axis.
TICKS = {"fraction": ".2~%", "ratio": "", "number": "", "amount": ",.0f", "count": ",.0f"}
HOVER = {"fraction": ".2%", "ratio": ".3f", "number": ".4g", "amount": ",.0f", "count": ",.0f"}


# Sessions that each have a tick.
FEW_SESSIONS = 8


def figure(chart: Chart | Heatmap) -> dict[str, Any]:
    """A chart as `{data, layout}`; values of `color` that begin with `role:` are filled in by the page."""
    return _heatmap(chart) if isinstance(chart, Heatmap) else _chart(chart)


def _chart(chart: Chart) -> dict[str, Any]:
    data = [trace for each in chart.series for trace in _traces(chart, each)]
    layout: dict[str, Any] = {
        "height": chart.height,
        "xaxis": _axis(chart.x.title, chart.x.unit, is_log=chart.x.is_log),
        "yaxis": _axis(chart.y.title, chart.y.unit, is_log=chart.y.is_log),
        "showlegend": len(chart.series) > 1,
        "barmode": "group",
        "bargap": 0.25,
    }
    if chart.x.unit == "date" and len({each for series in chart.series for each in series.x}) <= FEW_SESSIONS:
        # An axis of time would put hours between them.
        layout["xaxis"]["type"] = "category"
    if chart.level is not None:
        line = {"color": "role:text", "width": 1, "dash": "dot"}
        level = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chart.level, "y1": chart.level}
        layout["shapes"] = [{**level, "line": line}]
    return {"data": data, "layout": layout}


def _traces(chart: Chart, series: Series) -> list[dict[str, Any]]:
    colour = f"role:{series.role}"
    x = [_letters(str(each)) if chart.x.unit in ("date", "category") else each for each in series.x]
    shown = {
        "name": _letters(series.name),
        "x": x,
        "hovertemplate": f"%{{y:{HOVER.get(chart.y.unit, '')}}}<extra>%{{fullData.name}}</extra>",
    }
    if series.mark == "line" and series.low is not None and series.high is not None:
        edge: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
        band = [
            {**edge, "y": list(series.low), "showlegend": False},
            {
                **edge,
                "y": list(series.high),
                "name": _letters(series.name),
                "fill": "tonexty",
                "fillcolor": f"{colour}:fill",
            },
        ]
        lines = [] if all(each is None for each in series.y) else [_line(series, shown, colour)]
        return [*band, *lines]
    if series.mark in ("line", "area"):
        return [_line(series, shown, colour)]
    error = _error(series, colour)
    if series.mark == "bar":
        return [{**shown, "type": "bar", "y": list(series.y), "marker": {"color": colour}, **error}]
    return [
        {
            **shown,
            "type": "scatter",
            "mode": "markers",
            "y": list(series.y),
            "marker": {"color": colour, "size": 6},
            **error,
        }
    ]


def _line(series: Series, shown: dict[str, Any], colour: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1.6, "dash": "dash" if series.is_dashed else "solid"}
    filled = {"fill": "tozeroy", "fillcolor": f"{colour}:fill"} if series.mark == "area" else {}
    return {
        **shown,
        "type": "scatter",
        "mode": "lines",
        "y": list(series.y),
        "line": line,
        "connectgaps": False,
        **filled,
    }


def _error(series: Series, colour: str) -> dict[str, Any]:
    if series.low is None or series.high is None:
        return {}
    pairs = list(zip(series.y, series.low, series.high, strict=True))
    up = [None if y is None or high is None else high - y for y, _, high in pairs]
    down = [None if y is None or low is None else y - low for y, low, _ in pairs]
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.2, "width": 3}
    return {"error_y": {**bars, "color": "role:text" if series.mark == "bar" else colour}}


def _heatmap(chart: Heatmap) -> dict[str, Any]:
    known = [abs(each) for row in chart.values for each in row if each is not None]
    most = max(known, default=1.0) or 1.0
    text = [["" if each is None else written(each, chart.unit) for each in row] for row in chart.values]
    trace = {
        "type": "heatmap",
        "x": [_letters(each) for each in chart.columns],
        "y": [_letters(each) for each in chart.rows],
        "z": [list(row) for row in chart.values],
        "text": text,
        "texttemplate": "%{text}",
        "textfont": {"color": "role:text"},
        "zmin": -most if chart.is_diverging else 0.0,
        "zmax": most,
        "colorscale": "scale:diverging" if chart.is_diverging else "scale:rising",
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{y} %{x}: %{text}<extra></extra>",
    }
    layout = {
        "height": 70 + 26 * max(len(chart.rows), 2),
        "xaxis": {**_axis(chart.x_title, "category"), "side": "top", "showgrid": False},
        "yaxis": {**_axis(chart.y_title, "category"), "autorange": "reversed", "showgrid": False},
    }
    return {"data": [trace], "layout": layout}


def _axis(title: str, unit: str, *, is_log: bool = False) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": title}, "automargin": True}
    if unit in ("date", "category"):
        axis["type"] = unit
    else:
        axis["tickformat"] = TICKS[unit]
        axis |= {"type": "log"} if is_log else {}
    return axis


def _letters(text: str) -> str:
    """A text from outside: the library reads some tags, links among them."""
    return escape(text, quote=False)
