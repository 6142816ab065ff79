"""The table of claims as Markdown: what was seen, at which size, and what may be concluded."""

from __future__ import annotations

import re

from curriculum_ray.words import capitalized
from tuning.claims import words
from tuning.claims.results import ClaimEntry, ClaimsTable
from tuning.evidence.metrics import metric_name, number, within

__all__ = ["claims_page"]

_HEAD = """# Published claims, put to the test

Each claim is a file, as those in `examples/claims/`, and a study: the arm of the claim, its reverse or a control, a
rival and uniform sampling are trained on the same fresh seeds, seed by seed, until every answer stands or the most
seeds are run.
`python -m tune claims` runs or resumes them, and writes this page and `claims.json`, from which it is made.
Positive differences are better; brackets are intervals that hold after every number of seeds, and the 95% are for all
answers about the arms of one claim together ([Evidence](../concepts/evidence.md)).
"""

_READ = """## What you may conclude

- **seen**: at this size the claim's arm is better than uniform sampling beyond noise. Whether it also beats its reverse
  or control, and then the rival, is asked in this order, and only as long as it wins.
- **not seen at this size**: it was not better beyond noise *here*. That does not refute a claim about large networks,
  long training or other data: these runs are short and small, and some effects are said to appear late. The interval
  says which effects are compatible with what was measured.
- **undecided**: neither a gain nor a loss nor equality was shown with these seeds. It is no evidence of equality.
- **loses**: a loss at this size, with the settings of the file and no tuning of them; the learning rate and all else
  are those of uniform sampling.
- **failed on some seeds**: runs failed there, e.g. because their loss diverged. An arm that failed on a seed that
  uniform sampling finished neither beats nor equals it, however good its other runs are.

## What you may not conclude

- That a method is better than another one because its gain is larger: methods are compared within a claim only. Claims
  of one setting share their seeds, so that the luck of the same runs of uniform sampling is in all of them.
- That nothing in the whole table is false: the 95% are for each claim. If no change made any difference, up to {wrong}
  of the {many} claims would say something false on average.
- Anything about speed: all arms see the same number of images, and only the end is scored.

All this holds where budgets, arms, margins and numbers of seeds were fixed before the runs and no setting was tuned on
them, as for the claims that come with this project. To add seeds to an undecided claim:
`python -m tune claims NAME --confirm-seeds 3-20`, which needs no correction.
"""


def claims_page(table: ClaimsTable) -> str:
    """The whole page."""
    sections = [_section(entry) for entry in table.claims]
    many = len(table.claims)
    wrong = f"{0.05 * many:.2g}"
    return "\n".join([_HEAD, _overview(table), _READ.format(many=many, wrong=wrong), *sections])


def _overview(table: ClaimsTable) -> str:
    rows = [
        [
            "claim",
            "setting",
            "against uniform sampling",
            "difference",
            "seeds",
            "conclusion",
            "date",
            "protocol",
        ]
    ]
    rows.append(["---"] * len(rows[0]))
    for entry in table.claims:
        result = entry.result
        title = f"[{entry.title}](#{_anchor(entry)})"
        if result is None:
            rows.append([title, "–", "–", "–", words.seeds(entry), words.conclusion(entry), "–", "–"])
            continue
        first = result.arms[0]
        rows.append(
            [
                title,
                words.setting(result.setting),
                words.verdict(first.against_uniform, entry.margin),
                words.difference(first),
                words.seeds(entry),
                words.conclusion(entry),
                result.date,
                f"`{words.protocol(result)}`",
            ]
        )
    return _table(rows)


def _section(entry: ClaimEntry) -> str:
    lines = [
        f"## {entry.title}\n",
        f"[{entry.source}]({entry.link}): {entry.where}\n",
        f"It says: {entry.says}\n",
        f"Asked here: {entry.asks}\n",
    ]
    result = entry.result
    if result is None:
        return "\n".join([*lines, f"Not run yet: `python -m tune claims {entry.name}`.\n"])
    metric = metric_name(entry.metric)
    rows = [["arm", "what it does", metric, "against uniform sampling", f"{result.arms[0].name} against it"]]
    rows.append(["---"] * len(rows[0]))
    for arm in result.arms:
        rows.append(
            [
                f"{arm.name} ({arm.role})",
                arm.about,
                number(arm.mean),
                words.against_uniform(arm, entry.margin),
                words.in_turn(entry, arm),
            ]
        )
    rows.append(["uniform", "uniform sampling", number(result.uniform), "", ""])
    runs = f"{words.size(result.setting)}; {words.seeds(entry)} seeds; a margin of {within(entry.margin)}"
    conclusion = capitalized(words.conclusion(entry))
    return "\n".join([*lines, f"**{conclusion}**: {runs}.\n", _table(rows)])


def _table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _anchor(entry: ClaimEntry) -> str:
    """The anchor of its heading, as MkDocs and GitHub make it."""
    return re.sub(r"[^\w -]", "", entry.title.lower()).replace(" ", "-")
