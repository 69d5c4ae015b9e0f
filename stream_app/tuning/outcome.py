"""What a search found: the best settings as a file that `worker` and `trainer` take, and every trial as JSON.

In: a `Search`. Out: `best.toml`, `tune.json`, the figures in a few lines. The file has every setting that is not the
default, but for the broker's log-in (`broker.security`): a password is not copied into a folder of results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from models.durable import write_durably
from stream_app.commands.settings import as_toml, leaves
from stream_app.settings import Settings
from stream_app.tuning.search import Search, Trial

BEST_FILE, TRIALS_FILE = "best.toml", "tune.json"
SECRET = "broker.security"


def to_toml(settings: Settings, comments: list[str]) -> str:
    """What differs from the defaults, under lines of comment.

    >>> from stream_app.settings import load
    >>> print(to_toml(load({"models.blend.lr": 0.1}), ["by hand"]), end="")
    # by hand
    <BLANKLINE>
    [models.blend]
    lr = 0.1
    """
    defaults = {path: value for path, value, _ in leaves(Settings.model_construct())}
    sections: dict[str, list[str]] = {}
    for path, value, _ in leaves(settings):
        if value != defaults[path] and path != SECRET:
            section, _, name = path.rpartition(".")
            sections.setdefault(section, []).append(f"{name} = {as_toml(value)}")
    lines = [f"# {comment}" for comment in comments]
    for section in sorted(sections):
        lines += ["", f"[{section}]"] if section else [""]
        lines += sections[section]
    return "\n".join(lines) + "\n"


def write(search: Search, best: Settings, task: Mapping[str, str], out: Path) -> tuple[Path, Path]:
    """`best.toml` and `tune.json` into the folder `out`; a file is there whole or as it was before."""
    toml, trials = out / BEST_FILE, out / TRIALS_FILE
    write_durably(toml, to_toml(best, _comments(search, task, best.models.policy.k)).encode())
    start, found = search.start, search.best
    content = {
        "task": dict(task),
        "start": None if start is None else asdict(start),
        "best": None if found is None else asdict(found),
        "better": search.better,
        "trials": [asdict(trial) for trial in search.trials],
    }
    write_durably(trials, (json.dumps(content, indent=1) + "\n").encode())
    return toml, trials


def summarise(search: Search, k: int) -> list[str]:
    """The best beside the settings as they are, with lists of `k`, and what it changes; a warning where nothing is
    better.
    """
    start, best = search.start, search.best
    if start is None or best is None:
        return ["no trial came to its end"]
    pruned = sum(trial.pruned for trial in search.trials)
    lines = [
        f"{len(search.trials)} trials, {pruned} of them given up on the way",
        f"  as they are  {_figures(start, k)}",
        f"  best         {_figures(best, k)}  (trial {best.number})",
    ]
    if not search.better:
        return [*lines, "warning: nothing was better than the settings as they are; the file holds these"]
    lines.append(f"  gain         NDCG@{k} {best.ndcg - start.ndcg:+.4f}  HR@{k} {best.hr - start.hr:+.4f}")
    lines += [
        f"    {name} = {value:g}  (was {start.values[name]:g})"
        for name, value in best.values.items()
        if value != start.values[name]
    ]
    return [*lines, "measured on the very events that were searched on: expect less of it on others"]


def _comments(search: Search, task: Mapping[str, str], k: int) -> list[str]:
    lines = [f"headrace tune: {', '.join(f'{name} {text}' for name, text in task.items())}"]
    if search.start is not None and search.best is not None:
        lines += [f"as they were: {_figures(search.start, k)}", f"these: {_figures(search.best, k)}"]
    if not search.better:
        lines.append("Nothing was better than the settings as they were: these are the same.")
    return lines


def _figures(trial: Trial, k: int) -> str:
    rate = f", {trial.events / trial.seconds:,.0f} events/s" if trial.seconds else ""
    return f"NDCG@{k} {trial.ndcg:.4f}  HR@{k} {trial.hr:.4f}{rate}"
