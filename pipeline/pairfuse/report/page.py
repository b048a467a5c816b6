"""Page: one run's results as one HTML file that needs no network and runs no script."""

from __future__ import annotations

from pathlib import Path

from pairfuse.files import write_text
from pairfuse.report import classes, costs, curves, findings
from pairfuse.report.gallery import gallery
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section, frame
from pairfuse.report.markup import fold, join, tag, text

#: The sections in the page's order; each gives None where it has nothing to show.
SECTIONS = (
    findings.arms,
    findings.differences,
    findings.emap,
    findings.where,
    classes.confusions,
    classes.classes,
    classes.calibration,
    costs.cost,
    costs.cascade,
    curves.training,
    curves.tuning,
    curves.feature_map,
    gallery,
)


def write_report(found: ReportInput, path: Path) -> None:
    """Write the page whole."""
    write_text(path, report_page(found))


def report_page(found: ReportInput) -> str:
    """The page; the same input gives the same text."""
    made = [build(found) for build in (*SECTIONS, data_check, costs.speed, provenance)]
    shown = [section for section in made if section is not None]
    footer = text("Made by pairfuse. This page is one file: it fetches nothing and runs no script.")
    return frame(found.title, findings.verdict(found), shown, footer)


def data_check(found: ReportInput) -> Section | None:
    """What check-data said."""
    if not found.data_check.strip():
        return None
    return Section("data", "Data check", tag("pre", text(found.data_check.strip()), tabindex="0"))


def provenance(found: ReportInput) -> Section | None:
    """What made this, and how to make it again."""
    if not found.provenance:
        return None
    parts = [
        fold(name, tag("pre", text(said.strip()), tabindex="0"), is_open=name == "Command")
        for name, said in found.provenance.items()
    ]
    return Section("provenance", "Provenance", join(parts))
