"""Reports: one self-contained HTML file on a run, beside its control, with sentences computed from the runs."""

from spectral_edge.report.sentences import headline
from spectral_edge.report.write import require_extras, write_report

__all__ = ["headline", "require_extras", "write_report"]
